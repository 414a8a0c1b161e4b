//! The append-only, hash-chained audit.
//!
//! `sha256 = SHA-256(prev_sha256 ‖ "\n" ‖ record)`, over the record exactly as stored; the first row chains to 64 zeros. A row is
//! written in the transaction it describes. Triggers refuse updates and deletes, so only somebody who goes around SQLite can
//! change it, and [`verify`] names the first row that does not fit or is not there any more.

use super::{Stamp, from_json, to_json};
use chrono::{DateTime, Utc};
use moon_actors::domain::{BootId, Sha256};
use moon_actors::port::{AuditEntry, AuditRow};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The canonical record: field order is part of the format.
#[derive(Serialize, Deserialize)]
struct Record {
    seq: i64,
    at: DateTime<Utc>,
    boot: BootId,
    #[serde(flatten)]
    entry: AuditEntry,
}

pub(super) fn append(db: &Connection, stamp: &Stamp, entry: &AuditEntry) -> rusqlite::Result<()> {
    let last: Option<(i64, String)> = db
        .query_row("SELECT seq, sha256 FROM audit ORDER BY seq DESC LIMIT 1", [], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let (seq, prev) = last.map_or((1, GENESIS.to_owned()), |(seq, sha)| (seq + 1, sha));
    let record = to_json(&Record { seq, at: stamp.now, boot: stamp.boot.clone(), entry: entry.clone() });
    let sha = link(&prev, &record);
    db.prepare_cached("INSERT INTO audit (seq, record, prev_sha256, sha256) VALUES (?1, ?2, ?3, ?4)")?.execute((
        seq,
        record,
        prev,
        sha.as_str(),
    ))?;
    db.prepare_cached("INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)")?
        .execute((HEAD, head(seq, sha.as_str())))
        .map(drop)
}

/// Where the chain ends is written down beside it: rows cut off at the end break no link.
const HEAD: &str = "audit_head";

fn head(seq: i64, sha256: &str) -> String {
    format!("{seq}:{sha256}")
}

/// When the last row was written.
pub(super) fn newest(db: &Connection) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let sql = "SELECT record, prev_sha256, sha256 FROM audit ORDER BY seq DESC LIMIT 1";
    Ok(db.query_row(sql, [], row).optional()?.map(|row| row.at))
}

pub(super) fn rows(db: &Connection, after_seq: i64, limit: usize) -> rusqlite::Result<Vec<AuditRow>> {
    let sql = "SELECT record, prev_sha256, sha256 FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    db.prepare_cached(sql)?.query_map((after_seq, limit as i64), row)?.collect()
}

/// Most rows of one trace that are shown.
const TRACE_ROWS: i64 = 10_000;

pub(super) fn of_trace(db: &Connection, trace: &str) -> rusqlite::Result<Vec<AuditRow>> {
    // A plain substring test finds the few candidates; what the record says decides.
    let sql = "SELECT record, prev_sha256, sha256 FROM audit WHERE instr(record, ?1) > 0 ORDER BY seq LIMIT ?2";
    let rows: rusqlite::Result<Vec<AuditRow>> = db.prepare_cached(sql)?.query_map((trace, TRACE_ROWS), row)?.collect();
    Ok(rows?.into_iter().filter(|row| row.entry.trace.as_ref().is_some_and(|t| t.as_str() == trace)).collect())
}

fn row(r: &Row) -> rusqlite::Result<AuditRow> {
    let record: Record = from_json(&r.get::<_, String>(0)?)?;
    Ok(AuditRow {
        seq: record.seq,
        at: record.at,
        boot: record.boot,
        entry: record.entry,
        prev_sha256: r.get(1)?,
        sha256: r.get(2)?,
    })
}

/// Walks the chain without loading it: `Ok(rows)` when every link fits, `Err(seq)` of the first that does not.
pub(super) fn verify(db: &Connection) -> rusqlite::Result<Result<i64, i64>> {
    let mut statement = db.prepare("SELECT seq, record, prev_sha256, sha256 FROM audit ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let (mut expected, mut prev) = (1, GENESIS.to_owned());
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let (record, stored_prev, sha): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let says = serde_json::from_str::<serde_json::Value>(&record).ok().and_then(|v| v["seq"].as_i64());
        let fits = seq == expected && says == Some(seq) && stored_prev == prev && link(&prev, &record).as_str() == sha;
        if !fits {
            return Ok(Err(expected));
        }
        (expected, prev) = (seq + 1, sha);
    }
    drop(rows);
    let end = (expected > 1).then(|| head(expected - 1, &prev));
    let known: Option<String> =
        db.query_row("SELECT value FROM facts WHERE name = ?1", [HEAD], |r| r.get(0)).optional()?;
    Ok(if known == end { Ok(expected - 1) } else { Err(expected) })
}

fn link(prev: &str, record: &str) -> Sha256 {
    Sha256::of(format!("{prev}\n{record}").as_bytes())
}
