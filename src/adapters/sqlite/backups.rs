//! Backups as they were when it was last looked, and what cannot be seen on them: how long they took, what was left out, the drills.

use super::{Stamp, audit, from_json, instant, millis, to_json};
use chrono::{DateTime, Utc};
use moon_actors::port::{AuditEntry, BackupNews, BackupRow, DrillRow, Proof, StoredBackup, Target};
use rusqlite::{Connection, OptionalExtension, Row, params};

const SELECT: &str = "SELECT target, record, made_ms, verified_ms, proof, issues FROM backups WHERE gone_at IS NULL";

fn target_of(text: &str) -> Target {
    if text == Target::S3.as_str() { Target::S3 } else { Target::Folder }
}

fn row(r: &Row) -> rusqlite::Result<BackupRow> {
    let proof: Option<String> = r.get(4)?;
    let issues: Option<String> = r.get(5)?;
    Ok(BackupRow {
        target: target_of(&r.get::<_, String>(0)?),
        backup: from_json(&r.get::<_, String>(1)?)?,
        made_ms: r.get::<_, Option<i64>>(2)?.map(i64::unsigned_abs),
        verified_ms: r.get::<_, Option<i64>>(3)?.map(i64::unsigned_abs),
        proof: proof.map(|text| if text == Proof::Stream.as_str() { Proof::Stream } else { Proof::Restored }),
        issues: issues.map(|text| from_json(&text)).transpose()?.unwrap_or_default(),
    })
}

pub(super) fn record(
    db: &Connection,
    stamp: &Stamp,
    target: Target,
    present: &[StoredBackup],
    news: Option<&BackupNews>,
    entries: &[AuditEntry],
) -> rusqlite::Result<()> {
    let now = millis(stamp.now);
    let mut put = db.prepare_cached(
        "INSERT INTO backups (id, target, record, bytes, members, created_at, verified_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id, target) DO UPDATE SET record = excluded.record, bytes = excluded.bytes, members = excluded.members,
           created_at = excluded.created_at, verified_at = excluded.verified_at, gone_at = NULL",
    )?;
    for b in present {
        let (created, verified) = (millis(b.created_at), b.verified_at.map(millis));
        let (bytes, members) = (b.bytes.cast_signed(), b.members.map(u64::cast_signed));
        put.execute(params![b.id, target.as_str(), to_json(b), bytes, members, created, verified])?;
    }
    let ids: Vec<&str> = present.iter().map(|b| b.id.as_str()).collect();
    db.execute(
        "UPDATE backups SET gone_at = ?1 WHERE target = ?2 AND gone_at IS NULL AND id NOT IN (SELECT value FROM json_each(?3))",
        params![now, target.as_str(), to_json(&ids)],
    )?;
    if let Some(news) = news {
        let issues = (!news.issues.is_empty()).then(|| to_json(&news.issues));
        db.execute(
            "UPDATE backups SET made_ms = coalesce(?3, made_ms), verified_ms = coalesce(?4, verified_ms),
               proof = coalesce(?5, proof), issues = coalesce(?6, issues) WHERE id = ?1 AND target = ?2",
            params![
                news.id,
                target.as_str(),
                news.made_ms.map(u64::cast_signed),
                news.verified_ms.map(u64::cast_signed),
                news.proof.map(Proof::as_str),
                issues
            ],
        )?;
    }
    entries.iter().try_for_each(|entry| audit::append(db, stamp, entry))
}

pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<BackupRow>> {
    db.prepare_cached(&format!("{SELECT} ORDER BY created_at DESC, id DESC, target"))?.query_map([], row)?.collect()
}

pub(super) fn newest_verified(db: &Connection) -> rusqlite::Result<Option<BackupRow>> {
    let sql = format!("{SELECT} AND verified_at IS NOT NULL ORDER BY created_at DESC, id DESC, target LIMIT 1");
    db.prepare_cached(&sql)?.query_row([], row).optional()
}

fn looked_name(target: Target) -> String {
    format!("backups_looked_at:{}", target.as_str())
}

pub(super) fn looked_at(db: &Connection, target: Target) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let sql = "SELECT CAST(value AS INTEGER) FROM facts WHERE name = ?1";
    Ok(db.prepare_cached(sql)?.query_row([looked_name(target)], |r| r.get(0)).optional()?.map(instant))
}

pub(super) fn set_looked_at(db: &Connection, target: Target, at: DateTime<Utc>) -> rusqlite::Result<()> {
    let sql = "INSERT INTO facts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    db.execute(sql, (looked_name(target), millis(at).to_string())).map(drop)
}

pub(super) fn record_drill(db: &Connection, stamp: &Stamp, drill: &DrillRow) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO drills (at, ok, said) VALUES (?1, ?2, ?3)",
        params![millis(drill.at), drill.ok, drill.said],
    )?;
    let outcome = if drill.ok { "ok" } else { "failed" };
    audit::append(db, stamp, &AuditEntry::new("drill", "drilled", outcome, drill.said.clone()))
}

pub(super) fn last_drill(db: &Connection) -> rusqlite::Result<Option<DrillRow>> {
    let sql = "SELECT at, ok, said FROM drills ORDER BY id DESC LIMIT 1";
    let drill = |r: &Row| Ok(DrillRow { at: instant(r.get(0)?), ok: r.get(1)?, said: r.get(2)? });
    db.prepare_cached(sql)?.query_row([], drill).optional()
}
