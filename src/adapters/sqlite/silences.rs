//! Silences: what people do not want to hear of for a while.

use super::{Stamp, audit, instant, millis};
use moon_actors::port::{AuditEntry, NewSilence, Silence};
use rusqlite::{Connection, OptionalExtension, Row, params};

const SELECT: &str =
    "SELECT id, rule, subject, until, reason, created_by, created_at, ended_at, ended_by FROM silences";

/// Silences that have ended and are still listed.
const KEPT: i64 = 1000;

fn row(r: &Row) -> rusqlite::Result<Silence> {
    let until = instant(r.get(3)?);
    let what = NewSilence { rule: r.get(1)?, subject: r.get(2)?, until, reason: r.get(4)?, by: r.get(5)? };
    Ok(Silence {
        id: r.get(0)?,
        what,
        created_at: instant(r.get(6)?),
        ended_at: r.get::<_, Option<i64>>(7)?.map(instant),
        ended_by: r.get(8)?,
    })
}

pub(super) fn create(db: &Connection, stamp: &Stamp, new: &NewSilence) -> rusqlite::Result<Silence> {
    db.execute(
        "INSERT INTO silences (rule, subject, until, reason, created_by, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![new.rule, new.subject, millis(new.until), new.reason, new.by, millis(stamp.now)],
    )?;
    let id = db.last_insert_rowid();
    let message = format!("{} silences {} of {}: {}", new.by, new.rule, new.subject, new.reason);
    let entry = AuditEntry::new("alert", "silenced", "ok", message)
        .detail(serde_json::json!({ "id": id, "rule": new.rule, "subject": new.subject, "until": new.until }));
    audit::append(db, stamp, &entry)?;
    db.query_row(&format!("{SELECT} WHERE id = ?1"), [id], row)
}

pub(super) fn end(db: &Connection, stamp: &Stamp, id: i64, by: &str) -> rusqlite::Result<Option<Silence>> {
    let ended = db.execute(
        "UPDATE silences SET ended_at = ?2, ended_by = ?3 WHERE id = ?1 AND ended_at IS NULL",
        params![id, millis(stamp.now), by],
    )?;
    if ended == 0 {
        return Ok(None);
    }
    let entry = AuditEntry::new("alert", "unsilenced", "ok", format!("silence {id} ended: {by}"))
        .detail(serde_json::json!({ "id": id }));
    audit::append(db, stamp, &entry)?;
    db.query_row(&format!("{SELECT} WHERE id = ?1"), [id], row).optional()
}

/// Ends what is over. A clock that was set back makes none longer than it was meant to be.
pub(super) fn tend(db: &Connection, stamp: &Stamp) -> rusqlite::Result<()> {
    let now = millis(stamp.now);
    db.prepare_cached(
        "UPDATE silences SET until = ?1 + (until - created_at), created_at = ?1 WHERE ended_at IS NULL AND created_at > ?1",
    )?
    .execute([now])?;
    let over: Vec<i64> = db
        .prepare_cached("SELECT id FROM silences WHERE ended_at IS NULL AND until <= ?1")?
        .query_map([now], |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in over {
        end(db, stamp, id, "its time")?;
    }
    db.prepare_cached("DELETE FROM silences WHERE ended_at IS NOT NULL AND id <= (SELECT max(id) FROM silences) - ?1")?
        .execute([KEPT])
        .map(drop)
}

pub(super) fn list(db: &Connection, stamp: &Stamp, all: bool) -> rusqlite::Result<Vec<Silence>> {
    db.prepare_cached(&format!("{SELECT} WHERE ?1 OR (ended_at IS NULL AND until > ?2) ORDER BY id DESC LIMIT 1000"))?
        .query_map((all, millis(stamp.now)), row)?
        .collect()
}
