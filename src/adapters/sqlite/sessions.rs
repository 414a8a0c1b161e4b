//! Lives of the daemon, sessions as last seen, and the overview of what the ledger holds.

use super::{Stamp, alerts, audit, from_json, instant, jobs, memory, millis, to_json};
use moon_actors::domain::{CycleId, SessionKey, UsageReading};
use moon_actors::port::{AlertKey, AuditEntry, Recovery, SessionRow, Totals};
use rusqlite::{Connection, OptionalExtension, Row};

/// A job claimed at this many deaths of the whole process is set aside: it may be what kills it.
const MAX_DEATHS: i64 = 8;

pub(super) fn begin(db: &Connection, stamp: &Stamp, writer: &str) -> rusqlite::Result<Recovery> {
    let clean_stop = db
        .query_row("SELECT ended_at IS NOT NULL FROM boots ORDER BY rowid DESC LIMIT 1", [], |r| r.get(0))
        .optional()?
        .unwrap_or(true);
    let released = jobs::release_dead(db, stamp, MAX_DEATHS)?;
    // A new life starts everybody: nobody is parked any more.
    let parked: Vec<AlertKey> = db
        .prepare("SELECT rule, subject FROM alerts WHERE resolved_at IS NULL AND rule LIKE 'supervision.%'")?
        .query_map([], |r| Ok(AlertKey { rule: r.get(0)?, subject: r.get(1)? }))?
        .collect::<rusqlite::Result<_>>()?;
    for key in parked {
        alerts::resolve(db, stamp, &key)?;
    }
    // Waiting times belong to the steady clock of the life that wrote them.
    db.execute("UPDATE jobs SET not_before = 0 WHERE state = 'waiting'", [])?;
    db.execute(
        "INSERT INTO boots (id, writer, started_at) VALUES (?1, ?2, ?3)",
        (stamp.boot.as_str(), writer, millis(stamp.now)),
    )?;
    let clock_behind_secs = (audit::newest(db)?.unwrap_or(stamp.now) - stamp.now).num_seconds().max(0);
    let recovery = Recovery { released_claims: released, clean_stop, clock_behind_secs };
    let message = if clean_stop { "started" } else { "started after an unclean stop" };
    let entry = AuditEntry::new("moon", "started", "info", message)
        .detail(serde_json::json!({ "writer": writer, "released_claims": released }));
    audit::append(db, stamp, &entry)?;
    Ok(recovery)
}

pub(super) fn end(db: &Connection, stamp: &Stamp, reason: &str) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE boots SET ended_at = ?2, end_reason = ?3 WHERE id = ?1",
        (stamp.boot.as_str(), millis(stamp.now), reason),
    )?;
    audit::append(db, stamp, &AuditEntry::new("moon", "stopped", "info", reason))
}

pub(super) fn observe(db: &Connection, reading: &UsageReading) -> rusqlite::Result<()> {
    let text = to_json(reading);
    let fresh = reading.trusted_ratio().is_some().then_some(&text);
    db.prepare_cached(
        "INSERT INTO sessions (key, reading, last_fresh) VALUES (?1, ?2, ?3)
         ON CONFLICT (key) DO UPDATE SET reading = excluded.reading,
           last_fresh = COALESCE(excluded.last_fresh, sessions.last_fresh)",
    )?
    .execute((reading.session.key.as_str(), &text, fresh))?;
    if fresh.is_some() {
        memory::note_freed(db, reading)?;
    }
    touch(db, &reading.session.key)
}

/// Notes that something about the session has changed.
pub(super) fn touch(db: &Connection, key: &SessionKey) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE sessions SET touched = (SELECT MAX(touched) + 1 FROM sessions) WHERE key = ?1")?
        .execute([key.as_str()])
        .map(drop)
}

// CROSS JOIN keeps the few rows of the session outside: SQLite would walk all cycles instead. What came first is told by the order of the cycles, never by their times: a wall clock jumps.
const SELECT: &str = "
    SELECT s.reading, s.last_fresh, s.machine,
      (SELECT MAX(0, se.last_seq - COALESCE((SELECT MAX(d.to_seq) FROM distillations d WHERE d.series = se.id), -1))
         FROM series se WHERE se.session = s.key AND se.session_id = s.reading ->> '$.session.session_id'
         ORDER BY se.epoch DESC LIMIT 1) AS undistilled,
      (SELECT c.id FROM cycles c WHERE c.session = s.key AND c.closed_at IS NULL AND c.kind <> 'capture') AS open_cycle,
      (SELECT c.closed_at FROM cycles c WHERE c.session = s.key AND c.closed_at IS NOT NULL AND c.kind IN ('prune', 'distill')
         ORDER BY c.rowid DESC LIMIT 1) AS settled_at,
      (SELECT COUNT(*) FROM prunes p CROSS JOIN cycles c ON c.id = p.cycle WHERE p.session = s.key AND c.rowid >
         COALESCE((SELECT MAX(r.rowid) FROM continuity k CROSS JOIN cycles r ON r.id = k.cycle
                   WHERE k.session = s.key AND k.rollover <> 'none'), 0)) AS prunes,
      (SELECT CASE WHEN p.tokens_before > 0 AND p.tokens_after IS NOT NULL
                   THEN 1.0 - CAST(p.tokens_after AS REAL) / p.tokens_before END
         FROM prunes p CROSS JOIN cycles c ON c.id = p.cycle WHERE p.session = s.key AND c.rowid >
         COALESCE((SELECT MAX(r.rowid) FROM continuity k CROSS JOIN cycles r ON r.id = k.cycle
                   WHERE k.session = s.key AND k.rollover <> 'none'), 0)
         ORDER BY c.rowid DESC LIMIT 1) AS last_freed
    FROM sessions s";

pub(super) fn one(db: &Connection, key: &SessionKey) -> rusqlite::Result<Option<SessionRow>> {
    db.prepare_cached(&format!("{SELECT} WHERE s.key = ?1"))?.query_row([key.as_str()], row).optional()
}

pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<SessionRow>> {
    db.prepare_cached(&format!("{SELECT} ORDER BY s.key"))?.query_map([], row)?.collect()
}

pub(super) fn since(db: &Connection, mark: i64) -> rusqlite::Result<(Vec<SessionRow>, i64)> {
    let rows = db
        .prepare_cached(&format!("{SELECT} WHERE s.touched > ?1 OR ?1 = 0 ORDER BY s.key"))?
        .query_map([mark], row)?
        .collect::<rusqlite::Result<_>>()?;
    let newest = db.query_row("SELECT COALESCE(MAX(touched), 0) FROM sessions", [], |r| r.get(0))?;
    Ok((rows, newest))
}

fn row(r: &Row) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        reading: from_json(&r.get::<_, String>(0)?)?,
        last_fresh: r.get::<_, Option<String>>(1)?.as_deref().map(from_json).transpose()?,
        machine: r.get::<_, Option<String>>(2)?.as_deref().map(from_json).transpose()?,
        undistilled: r.get::<_, Option<i64>>(3)?.unwrap_or(0),
        open_cycle: r.get::<_, Option<String>>(4)?.map(CycleId),
        settled_at: r.get::<_, Option<i64>>(5)?.map(instant),
        prunes: r.get(6)?,
        last_freed: r.get(7)?,
    })
}

pub(super) fn save_machine(db: &Connection, key: &SessionKey, machine: &str) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE sessions SET machine = ?2 WHERE key = ?1")?.execute((key.as_str(), machine)).map(drop)
}

pub(super) fn totals(db: &Connection) -> rusqlite::Result<Totals> {
    let count = |sql: &str| db.query_row(sql, [], |r| r.get::<_, i64>(0));
    Ok(Totals {
        segments: count("SELECT COUNT(*) FROM segments")?,
        records: count("SELECT COALESCE(SUM(records), 0) FROM series")?,
        bytes: count("SELECT COALESCE(SUM(bytes), 0) FROM series")?,
        unindexed: count("SELECT COUNT(*) FROM segments WHERE indexed_at IS NULL")?,
        distillations: count("SELECT COUNT(*) FROM distillations")?,
        rollovers: count("SELECT COUNT(*) FROM continuity WHERE rollover <> 'none'")?,
        audit_rows: count("SELECT COALESCE(MAX(seq), 0) FROM audit")?,
        open_cycles: count("SELECT COUNT(*) FROM cycles WHERE closed_at IS NULL")?,
        waiting_jobs: count("SELECT COUNT(*) FROM jobs WHERE state IN ('waiting', 'claimed')")?,
        quarantined_jobs: count("SELECT COUNT(*) FROM jobs WHERE state = 'quarantined'")?,
    })
}

pub(super) fn integrity(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut complaints: Vec<String> = db
        .prepare("PRAGMA integrity_check")?
        .query_map([], |r| r.get::<_, String>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    complaints.retain(|line| line != "ok");
    let mut check = db.prepare("PRAGMA foreign_key_check")?;
    let broken = check.query_map([], |r| {
        Ok(format!("row {} of {} points at nothing", r.get::<_, Option<i64>>(1)?.unwrap_or(-1), r.get::<_, String>(0)?))
    })?;
    for line in broken {
        complaints.push(line?);
    }
    Ok(complaints)
}
