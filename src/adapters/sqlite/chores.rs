//! Tasks of the calendar and when they last ran.

use super::{Stamp, audit, instant, millis};
use chrono::{DateTime, Utc};
use moon_actors::Error;
use moon_actors::port::{AuditEntry, ChoreRow};
use moon_actors::schedule::Task;
use rusqlite::{Connection, OptionalExtension, Row, params};

const SELECT: &str = "SELECT task, due_at, attempts, started_at, ended_at, is_done, said, done_at FROM chores";

fn row(r: &Row) -> rusqlite::Result<Option<ChoreRow>> {
    let name: String = r.get(0)?;
    // A task of a newer Moon is none of ours.
    let Some(task) = Task::ALL.into_iter().find(|task| task.as_str() == name) else { return Ok(None) };
    Ok(Some(ChoreRow {
        task,
        due: instant(r.get(1)?),
        attempts: r.get(2)?,
        started_at: instant(r.get(3)?),
        ended_at: r.get::<_, Option<i64>>(4)?.map(instant),
        is_done: r.get(5)?,
        said: r.get(6)?,
        done_at: r.get::<_, Option<i64>>(7)?.map(instant),
    }))
}

pub(super) fn one(db: &Connection, task: Task) -> rusqlite::Result<Option<ChoreRow>> {
    let found = db.prepare_cached(&format!("{SELECT} WHERE task = ?1"))?.query_row([task.as_str()], row).optional();
    found.map(Option::flatten)
}

pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<ChoreRow>> {
    let rows =
        db.prepare_cached(&format!("{SELECT} ORDER BY task"))?.query_map([], row)?.collect::<Result<Vec<_>, _>>();
    rows.map(|rows| rows.into_iter().flatten().collect())
}

pub(super) fn leave_out(db: &Connection, stamp: &Stamp, task: Task, due: DateTime<Utc>) -> rusqlite::Result<()> {
    let now = millis(stamp.now);
    db.execute(
        "INSERT INTO chores (task, due_at, attempts, started_at, ended_at, is_done) VALUES (?1, ?2, 0, ?3, ?3, 1)
         ON CONFLICT (task) DO NOTHING",
        params![task.as_str(), millis(due), now],
    )
    .map(drop)
}

pub(super) fn begin(db: &Connection, stamp: &Stamp, task: Task, due: DateTime<Utc>) -> rusqlite::Result<u32> {
    let attempts = db.query_row(
        "INSERT INTO chores (task, due_at, attempts, started_at) VALUES (?1, ?2, 1, ?3)
         ON CONFLICT (task) DO UPDATE SET
           attempts = CASE WHEN due_at = excluded.due_at THEN attempts + 1 ELSE 1 END,
           due_at = excluded.due_at, started_at = excluded.started_at, ended_at = NULL, is_done = 0, said = NULL
         RETURNING attempts",
        params![task.as_str(), millis(due), millis(stamp.now)],
        |r| r.get(0),
    )?;
    let entry = AuditEntry::new(task.as_str(), "begun", "info", format!("the {} begins", task.as_str()))
        .detail(serde_json::json!({ "due": due, "attempt": attempts }));
    audit::append(db, stamp, &entry)?;
    Ok(attempts)
}

pub(super) fn end(
    db: &Connection,
    stamp: &Stamp,
    task: Task,
    outcome: Result<&String, &Error>,
) -> rusqlite::Result<()> {
    let said = outcome.map_or_else(ToString::to_string, Clone::clone);
    let now = millis(stamp.now);
    db.execute(
        "UPDATE chores SET ended_at = ?2, is_done = ?3, said = ?4, done_at = CASE WHEN ?3 THEN ?2 ELSE done_at END
         WHERE task = ?1",
        params![task.as_str(), now, outcome.is_ok(), said],
    )?;
    let mut entry = AuditEntry::new(task.as_str(), "ended", if outcome.is_ok() { "ok" } else { "failed" }, said);
    entry.error_code = outcome.err().map(|error| error.code.clone());
    audit::append(db, stamp, &entry)
}
