//! Prunes, distillations, rollovers: what became of the windows that were reduced.

use super::{Stamp, audit, from_json, hash_column, instant, millis};
use moon_actors::domain::{CycleId, Job, SessionKey, Sha256, UsageReading};
use moon_actors::port::{AuditEntry, ContinuityRow, DistillationRow};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

pub(super) fn add_prune(
    db: &Connection,
    stamp: &Stamp,
    job: &Job,
    before: Option<u64>,
    after: Option<u64>,
    permit: &Value,
) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO prunes (cycle, session, tokens_before, tokens_after, permit, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            job.cycle.as_str(),
            job.session.as_str(),
            before.map(|t| t as i64),
            after.map(|t| t as i64),
            permit.to_string(),
            millis(stamp.now)
        ],
    )
    .map(drop)
}

/// What the last prune of the session left, which the host knows only after the next model call.
pub(super) fn note_freed(db: &Connection, reading: &UsageReading) -> rusqlite::Result<()> {
    let sql = "UPDATE prunes SET tokens_after = ?2 WHERE tokens_after IS NULL AND at < ?3 AND rowid =
                 (SELECT MAX(rowid) FROM prunes WHERE session = ?1)";
    let used = reading.used_tokens.map(|tokens| tokens as i64);
    db.prepare_cached(sql)?.execute((reading.session.key.as_str(), used, millis(reading.captured_at))).map(drop)
}

pub(super) fn add_distillation(db: &Connection, row: &DistillationRow) -> rusqlite::Result<()> {
    db.execute(
        "INSERT OR IGNORE INTO distillations
           (key, series, session, session_id, cycle, from_seq, to_seq, provider, summary_path, at, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            row.key.as_str(),
            row.series_id,
            row.session.as_str(),
            row.session_id,
            row.cycle.as_str(),
            row.from_seq,
            row.to_seq,
            row.provider,
            row.summary_path,
            millis(row.at),
            row.body.to_string()
        ],
    )
    .map(drop)
}

pub(super) fn add_continuity(db: &Connection, row: &ContinuityRow) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO continuity (cycle, session, source_session_id, target_session_id, map_path, map_sha256, block_sha256,
                                 rollover, at, confirmed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            row.cycle.as_str(),
            row.session.as_str(),
            row.source_session_id,
            row.target_session_id,
            row.map_path,
            row.map_sha256.as_str(),
            row.block_sha256.as_str(),
            row.rollover,
            millis(row.at),
            row.confirmed_at.map(millis)
        ],
    )
    .map(drop)
}

pub(super) fn distilled_to(db: &Connection, series: i64) -> rusqlite::Result<i64> {
    let sql = "SELECT COALESCE(MAX(to_seq), -1) FROM distillations WHERE series = ?1";
    db.prepare_cached(sql)?.query_row([series], |r| r.get(0))
}

pub(super) fn distillations(db: &Connection, key: &SessionKey) -> rusqlite::Result<Vec<DistillationRow>> {
    // "Since the last rollover" by the order of the cycles, never by their times: a wall clock jumps.
    let sql = "SELECT d.key, d.series, d.session, d.session_id, d.cycle, d.from_seq, d.to_seq, d.provider, d.summary_path, d.at, d.body
               FROM distillations d JOIN cycles c ON c.id = d.cycle WHERE d.session = ?1 AND c.rowid >
                 COALESCE((SELECT MAX(r.rowid) FROM continuity k JOIN cycles r ON r.id = k.cycle
                           WHERE k.session = ?1 AND k.rollover <> 'none'), 0)
               ORDER BY d.rowid";
    db.prepare_cached(sql)?
        .query_map([key.as_str()], |r| {
            Ok(DistillationRow {
                key: hash_column(&r.get::<_, String>(0)?)?,
                series_id: r.get(1)?,
                session: SessionKey(r.get(2)?),
                session_id: r.get(3)?,
                cycle: CycleId(r.get(4)?),
                from_seq: r.get(5)?,
                to_seq: r.get(6)?,
                provider: r.get(7)?,
                summary_path: r.get(8)?,
                at: instant(r.get(9)?),
                body: from_json(&r.get::<_, String>(10)?)?,
            })
        })?
        .collect()
}

fn continuity_row(r: &Row) -> rusqlite::Result<ContinuityRow> {
    Ok(ContinuityRow {
        cycle: CycleId(r.get(0)?),
        session: SessionKey(r.get(1)?),
        source_session_id: r.get(2)?,
        target_session_id: r.get(3)?,
        map_path: r.get(4)?,
        map_sha256: hash_column(&r.get::<_, String>(5)?)?,
        block_sha256: hash_column(&r.get::<_, String>(6)?)?,
        rollover: r.get(7)?,
        at: instant(r.get(8)?),
        confirmed_at: r.get::<_, Option<i64>>(9)?.map(instant),
    })
}

pub(super) fn continuity(
    db: &Connection,
    key: Option<&SessionKey>,
    limit: usize,
) -> rusqlite::Result<Vec<ContinuityRow>> {
    let sql =
        "SELECT cycle, session, source_session_id, target_session_id, map_path, map_sha256, block_sha256, rollover, at,
                      confirmed_at FROM continuity WHERE ?1 IS NULL OR session = ?1 ORDER BY rowid DESC LIMIT ?2";
    db.prepare_cached(sql)?.query_map((key.map(SessionKey::as_str), limit as i64), continuity_row)?.collect()
}

pub(super) fn confirm(db: &Connection, stamp: &Stamp, key: &SessionKey, block: &Sha256) -> rusqlite::Result<bool> {
    let confirmed = db.execute(
        "UPDATE continuity SET confirmed_at = ?3 WHERE session = ?1 AND block_sha256 = ?2 AND confirmed_at IS NULL",
        (key.as_str(), block.as_str(), millis(stamp.now)),
    )?;
    if confirmed > 0 {
        let entry = AuditEntry::new("continuity", "confirmed", "ok", "the map was in the next model call")
            .session(key)
            .detail(serde_json::json!({ "block_sha256": block }));
        audit::append(db, stamp, &entry)?;
    }
    Ok(confirmed > 0)
}

pub(super) fn spool_position(db: &Connection) -> rusqlite::Result<u64> {
    let stored: Option<String> = db
        .prepare_cached("SELECT value FROM facts WHERE name = 'spool_position'")?
        .query_row([], |r| r.get(0))
        .optional()?;
    Ok(stored.and_then(|text| text.parse().ok()).unwrap_or(0))
}

pub(super) fn set_spool_position(db: &Connection, position: u64) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO facts (name, value) VALUES ('spool_position', ?1)")?
        .execute([position.to_string()])
        .map(drop)
}

pub(super) fn beat(db: &Connection, stamp: &Stamp) -> rusqlite::Result<()> {
    let now = super::millis(stamp.now).to_string();
    db.prepare_cached("INSERT OR REPLACE INTO facts (name, value) VALUES ('watchdog', ?1)")?.execute([&now])?;
    let read: String =
        db.prepare_cached("SELECT value FROM facts WHERE name = 'watchdog'")?.query_row([], |r| r.get(0))?;
    if read == now { Ok(()) } else { Err(rusqlite::Error::QueryReturnedNoRows) }
}
