//! What each check found last, and what of the past they ask for.

use super::{Stamp, alerts, audit, from_json, instant, millis, to_json};
use chrono::{DateTime, Utc};
use moon_actors::domain::Condition;
use moon_actors::port::{AuditEntry, CheckRow, Kept, Life};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Audit rows looked through for crashes, at most: an hour holds far fewer.
const MOST_ROWS: i64 = 20_000;

fn row(r: &Row) -> rusqlite::Result<CheckRow> {
    Ok(CheckRow {
        name: r.get(0)?,
        condition: Condition::parse(&r.get::<_, String>(1)?).unwrap_or(Condition::Unknown),
        reason: r.get(2)?,
        hint: r.get(3)?,
        since: instant(r.get(4)?),
        checked_at: instant(r.get(5)?),
        took_ms: r.get::<_, i64>(6)?.unsigned_abs(),
        figures: from_json(&r.get::<_, String>(7)?)?,
        kept: from_json::<Kept>(&r.get::<_, String>(8)?)?,
    })
}

pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<CheckRow>> {
    let select =
        "SELECT name, state, reason, hint, since, checked_at, took_ms, figures, kept FROM health ORDER BY rowid";
    db.prepare_cached(select)?.query_map([], row)?.collect()
}

pub(super) fn save(db: &Connection, stamp: &Stamp, row: &CheckRow) -> rusqlite::Result<()> {
    let before: Option<String> = {
        let mut select = db.prepare_cached("SELECT state FROM health WHERE name = ?1")?;
        let mut rows = select.query([&row.name])?;
        rows.next()?.map(|r| r.get(0)).transpose()?
    };
    db.prepare_cached(
        "INSERT INTO health (name, state, reason, hint, since, checked_at, took_ms, figures, kept)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (name) DO UPDATE SET state = excluded.state, reason = excluded.reason, hint = excluded.hint,
           since = excluded.since, checked_at = excluded.checked_at, took_ms = excluded.took_ms,
           figures = excluded.figures, kept = excluded.kept",
    )?
    .execute(params![
        row.name,
        row.condition.as_str(),
        row.reason,
        row.hint,
        millis(row.since),
        millis(row.checked_at),
        row.took_ms.cast_signed(),
        to_json(&row.figures),
        to_json(&row.kept),
    ])?;
    // What is as it was is no event; the first look that finds everything fine is none either.
    if before.as_deref().unwrap_or(Condition::Ok.as_str()) == row.condition.as_str() {
        return Ok(());
    }
    let outcome = if row.condition == Condition::Ok { "ok" } else { "failed" };
    let message = format!("{} is {}: {}", row.name, row.condition.as_str(), row.reason);
    audit::append(db, stamp, &AuditEntry::new("health", "changed", outcome, message))
}

pub(super) fn forget(db: &Connection, stamp: &Stamp, known: &[String]) -> rusqlite::Result<()> {
    for gone in all(db)?.into_iter().filter(|row| !known.contains(&row.name)) {
        for raised in &gone.kept.raised {
            alerts::resolve(db, stamp, &raised.key)?;
        }
        db.execute("DELETE FROM health WHERE name = ?1", [&gone.name])?;
    }
    Ok(())
}

/// Actors by the audit. A daemon's life that never ended crashed at the latest when the next one of any process began.
pub(super) fn crashes(db: &Connection, since: DateTime<Utc>) -> rusqlite::Result<Vec<(String, DateTime<Utc>)>> {
    let mut found: Vec<(String, DateTime<Utc>)> = Vec::new();
    let mut lives = db.prepare_cached(
        "SELECT b.started_at FROM boots b WHERE b.started_at >= ?1 AND EXISTS (
           SELECT 1 FROM boots p WHERE p.rowid = (SELECT max(q.rowid) FROM boots q WHERE q.rowid < b.rowid)
             AND p.seen_at IS NOT NULL AND (p.ended_at IS NULL OR p.end_reason LIKE 'moon gives up%'))",
    )?;
    for at in lives.query_map([millis(since)], |r| r.get::<_, i64>(0))? {
        found.push(("moon".into(), instant(at?)));
    }
    let mut rows = db.prepare_cached(
        "SELECT record FROM audit WHERE seq > (SELECT ifnull(max(seq), 0) FROM audit) - ?1
           AND record LIKE '%\"actor\":\"supervisor\",\"event\":\"crashed\"%' ORDER BY seq",
    )?;
    for text in rows.query_map([MOST_ROWS], |r| r.get::<_, String>(0))? {
        let record: serde_json::Value = from_json(&text?)?;
        let at = record["at"].as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok());
        let who = record["message"].as_str().and_then(|message| message.split_once(" crashed: ")).map(|(who, _)| who);
        if let (Some(at), Some(who)) = (at.filter(|at| *at >= since), who) {
            found.push((who.to_owned(), at));
        }
    }
    found.sort_by_key(|(_, at)| *at);
    Ok(found)
}

pub(super) fn last_life(db: &Connection, stamp: &Stamp) -> rusqlite::Result<Option<Life>> {
    // Commands live, too; only a daemon is seen.
    let select = "SELECT started_at, ended_at, end_reason FROM boots WHERE id <> ?1 AND seen_at IS NOT NULL
                  ORDER BY rowid DESC LIMIT 1";
    db.query_row(select, [stamp.boot.as_str()], |r| {
        let ended_at = r.get::<_, Option<i64>>(1)?.map(instant);
        Ok(Life { started_at: instant(r.get(0)?), ended_at, reason: r.get(2)? })
    })
    .optional()
}
