//! What each route is owed, and what became of it.

use super::alerts::{self, fate, phase, severity};
use super::{Stamp, from_json, instant, millis, to_json};
use chrono::{DateTime, Utc};
use moon_actors::alert::policy::{DIGEST_LINES, HOUR, NOT_TOLD, UNDELIVERED, digest_in};
use moon_actors::port::{
    AlertKey, Book, Digest, Digests, Entry, Failure, Fate, Owed, Parcel, Phase, RouteRow, Settlement, Severity,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// The mark behind which a route may be owed something is moved only so often: it is there for speed.
const STRIDE: i64 = 100;

/// A silence holds back the notice `n` of the alert `a` at the route `r`, now (`?1`): what tells of its beginning, but for one that may
/// have arrived.
pub(super) const SILENCED: &str = "n.phase <> 'resolved' AND a.resolved_at IS NULL AND n.id IS NOT r.under_way
    AND EXISTS (SELECT 1 FROM silences s WHERE s.ended_at IS NULL AND s.until > ?1
      AND a.rule GLOB s.rule AND a.subject GLOB s.subject)";

/// Time since a steady stamp, never below nothing.
fn age(now: i64, at: i64) -> Duration {
    Duration::from_millis(u64::try_from(now - at).unwrap_or(0))
}

fn span(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn open_routes(db: &Connection, stamp: &Stamp, names: &[String]) -> rusqlite::Result<()> {
    let known: Vec<String> =
        db.prepare("SELECT name FROM routes")?.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
    for gone in known.iter().filter(|name| !names.contains(name)) {
        db.execute("DELETE FROM routes WHERE name = ?1", [gone])?;
    }
    let complaints: Vec<String> = db
        .prepare("SELECT subject FROM alerts WHERE rule = ?1 AND resolved_at IS NULL")?
        .query_map([UNDELIVERED], |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for gone in complaints.iter().filter(|route| !names.contains(route)) {
        alerts::resolve(db, stamp, &AlertKey::new(UNDELIVERED, gone.as_str()))?;
    }
    for name in names {
        open_route(db, stamp, name)?;
        db.execute("UPDATE routes SET pause = 0 WHERE name = ?1 AND pause > 0", [name])?;
    }
    Ok(())
}

/// A route that is new is owed what fires now. What is over is history to it.
fn open_route(db: &Connection, stamp: &Stamp, name: &str) -> rusqlite::Result<()> {
    let is_known = db.prepare_cached("SELECT 1 FROM routes WHERE name = ?1")?.exists([name])?;
    if is_known {
        return Ok(());
    }
    let begin: i64 = db.query_row(
        "SELECT coalesce((SELECT min(n.id) - 1 FROM notices n JOIN alerts a ON a.id = n.alert WHERE a.resolved_at IS NULL),
           (SELECT max(id) FROM notices), 0)",
        [],
        |r| r.get(0),
    )?;
    db.execute("INSERT INTO routes (name, settled_to) VALUES (?1, ?2)", (name, begin))?;
    db.execute(
        "INSERT OR IGNORE INTO deliveries (notice, route, state, steady, at, why)
         SELECT n.id, ?1, 'dropped', ?3, ?4, 'older than the route'
         FROM notices n JOIN alerts a ON a.id = n.alert WHERE n.id > ?2 AND a.resolved_at IS NOT NULL",
        params![name, begin, millis(stamp.steady), millis(stamp.now)],
    )
    .map(drop)
}

/// Steady times from the future, of a life whose clock was ahead, count as now: they hold up nothing longer than they should.
fn clamp(db: &Connection, now: i64, route: &str) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE deliveries SET steady = ?1 WHERE route = ?2 AND state = 'sent' AND steady > ?1")?
        .execute((now, route))?;
    db.prepare_cached(
        "UPDATE digests SET opened = min(opened, ?1), sent_steady = min(sent_steady, ?1)
         WHERE route = ?2 AND (opened > ?1 OR sent_steady > ?1)",
    )?
    .execute((now, route))?;
    db.prepare_cached("UPDATE routes SET failed_steady = ?1 WHERE name = ?2 AND failed_steady > ?1")?
        .execute((now, route))
        .map(drop)
}

/// When this route was last sent that something of a key had begun, by how bad it was.
type LastTold = HashMap<AlertKey, Vec<(Severity, i64)>>;

fn last_told(db: &Connection, route: &str, since: i64) -> rusqlite::Result<LastTold> {
    let mut told = LastTold::new();
    let sql = "SELECT a.rule, a.subject, a.severity, max(d.steady) FROM deliveries d
         JOIN notices n ON n.id = d.notice JOIN alerts a ON a.id = n.alert
         WHERE d.route = ?1 AND d.state = 'sent' AND d.steady > ?2 AND n.phase = 'firing'
         GROUP BY a.rule, a.subject, a.severity";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query((route, since))?;
    while let Some(r) = rows.next()? {
        let key = AlertKey { rule: r.get(0)?, subject: r.get(1)? };
        told.entry(key).or_default().push((severity(&r.get::<_, String>(2)?), r.get(3)?));
    }
    Ok(told)
}

/// A page of what the route is owed behind the notice `after`; of what it was told, as far back as `horizon`.
pub(super) fn book(
    db: &Connection,
    stamp: &Stamp,
    route: &str,
    (after, limit): (i64, usize),
    horizon: Duration,
) -> rusqlite::Result<Book> {
    let now = millis(stamp.steady);
    open_route(db, stamp, route)?;
    clamp(db, now, route)?;
    let (mut settled_to, failures, failed, pause, under_way): (i64, u32, i64, i64, Option<i64>) = db
        .prepare_cached("SELECT settled_to, failures, failed_steady, pause, under_way FROM routes WHERE name = ?1")?
        .query_row([route], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)))?;
    if after == 0 {
        settled_to = move_mark(db, route, settled_to)?;
    }
    let told = last_told(db, route, now.saturating_sub(span(horizon.max(HOUR))))?;
    let mut owed = owed(db, stamp, route, (after.max(settled_to), limit + 1))?;
    let has_more = owed.len() > limit;
    owed.truncate(limit);
    for one in owed.iter_mut().filter(|one| one.phase == Phase::Firing) {
        let as_bad =
            told.get(&one.alert.key).into_iter().flatten().filter(|(how_bad, _)| *how_bad >= one.alert.severity);
        one.last_told = as_bad.map(|(_, at)| age(now, *at)).min();
    }
    let sent = db
        .prepare_cached("SELECT steady FROM deliveries WHERE route = ?1 AND state = 'sent' AND steady > ?2")?
        .query_map((route, now - span(HOUR)), |r| Ok(age(now, r.get(0)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let paused = Duration::from_millis(pause.max(0) as u64).saturating_sub(age(now, failed));
    Ok(Book { route: route.to_owned(), owed, has_more, sent, failures, paused, under_way })
}

fn move_mark(db: &Connection, route: &str, settled_to: i64) -> rusqlite::Result<i64> {
    let next: i64 = db
        .prepare_cached(
            "SELECT coalesce((SELECT min(n.id) - 1 FROM notices n WHERE n.id > ?2
               AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.notice = n.id AND d.route = ?1)),
             (SELECT max(id) FROM notices), 0)",
        )?
        .query_row((route, settled_to), |r| r.get(0))?;
    if next - settled_to >= STRIDE {
        db.execute("UPDATE routes SET settled_to = ?2 WHERE name = ?1", (route, next))?;
    }
    Ok(next.max(settled_to))
}

fn owed(db: &Connection, stamp: &Stamp, route: &str, (after, limit): (i64, usize)) -> rusqlite::Result<Vec<Owed>> {
    let sql = format!(
        "SELECT {}, n.id, n.phase, n.made_at, a.acked_at IS NOT NULL,
           EXISTS (SELECT 1 FROM silences s WHERE s.ended_at IS NULL AND s.until > ?2
             AND a.rule GLOB s.rule AND a.subject GLOB s.subject),
           CASE WHEN n.phase <> 'firing' THEN
             (SELECT d.state FROM notices f JOIN deliveries d ON d.notice = f.id AND d.route = ?1
              WHERE f.alert = a.id AND f.phase = 'firing') END
         FROM notices n JOIN alerts a ON a.id = n.alert
         WHERE n.id > ?3 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.notice = n.id AND d.route = ?1)
         ORDER BY n.id LIMIT ?4",
        alerts::COLUMNS
    );
    let read = |r: &Row| {
        Ok(Owed {
            notice: r.get(8)?,
            phase: phase(&r.get::<_, String>(9)?),
            made_at: instant(r.get(10)?),
            alert: alerts::row(r)?,
            firing: r.get::<_, Option<String>>(13)?.and_then(|text| fate(&text)),
            last_told: None,
            is_silenced: r.get(12)?,
            is_acknowledged: r.get(11)?,
            is_wanted: true,
        })
    };
    db.prepare_cached(&sql)?.query_map((route, millis(stamp.now), after, limit as i64), read)?.collect()
}

/// Writes a fate once. False when there was one.
fn settle_one(
    db: &Connection,
    stamp: &Stamp,
    route: &str,
    (notice, fate, why, digest): (i64, Fate, Option<&str>, Option<&str>),
) -> rusqlite::Result<bool> {
    let sql = "INSERT OR IGNORE INTO deliveries (notice, route, state, steady, at, why, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (steady, at) = (millis(stamp.steady), millis(stamp.now));
    let written = db.prepare_cached(sql)?.execute(params![notice, route, fate.as_str(), steady, at, why, digest])?;
    Ok(written > 0)
}

/// One of the lines that a digest shows: how bad, what, and the notice (older ledgers did not keep it).
#[derive(Serialize, Deserialize)]
struct Line(Severity, String, #[serde(default)] Option<i64>);

pub(super) fn settle(
    db: &Connection,
    stamp: &Stamp,
    route: &str,
    settlement: &Settlement,
    fresh_id: &str,
) -> rusqlite::Result<()> {
    for (notice, why) in &settlement.drop {
        settle_one(db, stamp, route, (*notice, Fate::Dropped, Some(why), None))?;
    }
    let Some(first) = settlement.digest.first() else { return Ok(()) };
    let open =
        "SELECT id, lines, count, worst, since, until, patience FROM digests WHERE route = ?1 AND state = 'open'";
    db.execute(
        "INSERT OR IGNORE INTO digests (id, route, state, opened, patience, since, until, count, worst, lines)
         SELECT ?1, ?2, 'open', ?3, ?4, ?5, ?5, 0, 'info', '[]'
         WHERE NOT EXISTS (SELECT 1 FROM digests WHERE route = ?2 AND state = 'open')",
        params![fresh_id, route, millis(stamp.steady), span(first.patience), millis(first.made_at)],
    )?;
    let (id, lines, mut count, worst, mut since, mut until, mut patience): (
        String,
        String,
        i64,
        String,
        i64,
        i64,
        i64,
    ) = db.query_row(open, [route], |r| {
        Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?, r.get(6)?))
    })?;
    let (mut lines, mut worst): (Vec<Line>, _) = (from_json(&lines)?, severity(&worst));
    for Entry { notice, severity, made_at, line, why, patience: wait } in &settlement.digest {
        // Its beginning may have been lost since the book was read.
        if ends_what_was_not_told(db, route, *notice)? {
            settle_one(db, stamp, route, (*notice, Fate::Dropped, Some(NOT_TOLD), None))?;
            continue;
        }
        if !settle_one(db, stamp, route, (*notice, Fate::Digested, Some(why), Some(&id)))? {
            continue;
        }
        count += 1;
        worst = worst.max(*severity);
        (since, until) = (since.min(millis(*made_at)), until.max(millis(*made_at)));
        patience = patience.min(span(*wait));
        lines.push(Line(*severity, line.clone(), Some(*notice)));
    }
    lines.sort_by_key(|Line(how_bad, ..)| std::cmp::Reverse(*how_bad));
    lines.truncate(DIGEST_LINES);
    db.execute(
        "UPDATE digests SET lines = ?2, count = ?3, worst = ?4, since = ?5, until = ?6, patience = ?7 WHERE id = ?1",
        params![id, to_json(&lines), count, worst.as_str(), since, until, patience],
    )
    .map(drop)
}

fn ends_what_was_not_told(db: &Connection, route: &str, notice: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM notices n JOIN notices b ON b.alert = n.alert AND b.phase = 'firing'
         JOIN deliveries f ON f.notice = b.id AND f.route = ?2
         WHERE n.id = ?1 AND n.phase = 'resolved' AND f.state IN ('failed', 'dropped')";
    db.prepare_cached(sql)?.exists((notice, route))
}

fn digest_row(r: &Row) -> rusqlite::Result<Digest> {
    let lines: Vec<Line> = from_json(&r.get::<_, String>(5)?)?;
    Ok(Digest {
        id: r.get(0)?,
        since: instant(r.get(1)?),
        until: instant(r.get(2)?),
        count: r.get::<_, i64>(3)?.max(0) as u64,
        worst: severity(&r.get::<_, String>(4)?),
        lines: lines.into_iter().map(|Line(_, line, _)| line).collect(),
    })
}

fn closed(db: &Connection, route: &str) -> rusqlite::Result<Option<Digest>> {
    let sql = "SELECT id, since, until, count, worst, lines FROM digests WHERE route = ?1 AND state = 'closed'";
    db.prepare_cached(sql)?.query_row([route], digest_row).optional()
}

pub(super) fn digests(db: &Connection, stamp: &Stamp, route: &str) -> rusqlite::Result<Digests> {
    let now = millis(stamp.steady);
    let open = db
        .prepare_cached("SELECT opened, patience FROM digests WHERE route = ?1 AND state = 'open' AND count > 0")?
        .query_row([route], |r| Ok((age(now, r.get(0)?), Duration::from_millis(r.get::<_, i64>(1)?.max(0) as u64))))
        .optional()?;
    let last: Option<i64> =
        db.prepare_cached("SELECT max(sent_steady) FROM digests WHERE route = ?1")?.query_row([route], |r| r.get(0))?;
    Ok(Digests { open, closed: closed(db, route)?, last_sent: last.map(|at| age(now, at)) })
}

/// When a route's digest goes out that has not yet: the closed one as soon as the route takes it, the open one in its time and at
/// least an hour behind the closed one. `None`: there is none, or no such route.
pub(super) fn digest_due(
    db: &Connection,
    stamp: &Stamp,
    route: &str,
    is_closed: bool,
) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let paused = db
        .prepare_cached("SELECT failed_steady, pause FROM routes WHERE name = ?1")?
        .query_row([route], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)))
        .optional()?;
    let Some((failed, pause)) = paused else { return Ok(None) };
    let paused = Duration::from_millis(pause.max(0) as u64).saturating_sub(age(millis(stamp.steady), failed));
    let digests = digests(db, stamp, route)?;
    let wait = match (is_closed, &digests.closed) {
        (true, _) => Some(Duration::ZERO),
        (false, Some(_)) => digests.open.map(|_| HOUR),
        (false, None) => digest_in(&digests),
    };
    Ok(wait.map(|wait| instant(millis(stamp.now) + span(wait.max(paused)))))
}

pub(super) fn close_digest(db: &Connection, route: &str) -> rusqlite::Result<Option<Digest>> {
    if closed(db, route)?.is_none() {
        db.execute("UPDATE digests SET state = 'closed' WHERE route = ?1 AND state = 'open' AND count > 0", [route])?;
    }
    closed(db, route)
}

pub(super) fn is_owed(db: &Connection, route: &str, parcel: &Parcel) -> rusqlite::Result<bool> {
    match parcel {
        Parcel::Notice { id, .. } => {
            let settled = "SELECT 1 FROM deliveries WHERE notice = ?1 AND route = ?2";
            Ok(!db.prepare_cached(settled)?.exists((id, route))?)
        }
        Parcel::Digest { id } => {
            let on_its_way = "SELECT 1 FROM digests WHERE id = ?1 AND route = ?2 AND state = 'closed'";
            db.prepare_cached(on_its_way)?.exists((id, route))
        }
    }
}

pub(super) fn told(db: &Connection, stamp: &Stamp, route: &str, parcel: &Parcel) -> rusqlite::Result<()> {
    match parcel {
        Parcel::Notice { id, fate, why } => drop(settle_one(db, stamp, route, (*id, *fate, *why, None))?),
        Parcel::Digest { id } => {
            db.execute(
                "UPDATE digests SET state = 'sent', sent_steady = ?2 WHERE id = ?1 AND state = 'closed'",
                (id, millis(stamp.steady)),
            )?;
            forget_digests(db, route)?;
        }
    }
    let failures: u32 =
        db.query_row("SELECT failures FROM routes WHERE name = ?1", [route], |r| r.get(0)).optional()?.unwrap_or(0);
    db.execute(
        "UPDATE routes SET failures = 0, pause = 0, under_way = NULL, failing_since = NULL, last_error = NULL, told_at = ?2 WHERE name = ?1",
        (route, millis(stamp.now)),
    )?;
    if failures > 0 {
        alerts::resolve(db, stamp, &AlertKey::new(UNDELIVERED, route))?;
    }
    Ok(())
}

/// Old digests whose notices are forgotten, too.
fn forget_digests(db: &Connection, route: &str) -> rusqlite::Result<()> {
    db.execute(
        "DELETE FROM digests WHERE route = ?1 AND state IN ('sent', 'failed')
           AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.digest = digests.id)
           AND sent_steady < (SELECT max(sent_steady) FROM digests WHERE route = ?1)",
        [route],
    )
    .map(drop)
}

pub(super) fn not_told(
    db: &Connection,
    stamp: &Stamp,
    route: &str,
    parcel: &Parcel,
    failure: &Failure,
) -> rusqlite::Result<()> {
    let error = to_json(&failure.error);
    let under_way = match parcel {
        Parcel::Notice { id, .. } if !failure.is_given_up => Some(*id),
        _ => None,
    };
    db.execute(
        "UPDATE routes SET failures = failures + 1, failed_steady = ?2, pause = ?3, last_error = ?4, under_way = ?6,
           failing_since = coalesce(failing_since, ?5) WHERE name = ?1",
        params![route, millis(stamp.steady), span(failure.pause), error, millis(stamp.now), under_way],
    )?;
    if failure.is_given_up {
        let why = failure.error.to_string();
        match parcel {
            Parcel::Notice { id, .. } => drop(settle_one(db, stamp, route, (*id, Fate::Failed, Some(&why), None))?),
            Parcel::Digest { id } => {
                db.execute(
                    "UPDATE digests SET state = 'failed', sent_steady = ?2 WHERE id = ?1",
                    (id, millis(stamp.steady)),
                )?;
                db.execute("UPDATE deliveries SET state = 'failed', why = ?2 WHERE digest = ?1", (id, why))?;
            }
        }
        take_back_ends(db, route)?;
    }
    if let Some(message) = &failure.alarm {
        let hint = failure.error.hint.as_deref();
        alerts::raise(db, stamp, &AlertKey::new(UNDELIVERED, route), Severity::Warning, message, hint)?;
    }
    Ok(())
}

/// Takes out of the open digest what it would tell of ends whose beginnings were given up.
fn take_back_ends(db: &Connection, route: &str) -> rusqlite::Result<()> {
    let open: Option<(String, String)> = db
        .query_row("SELECT id, lines FROM digests WHERE route = ?1 AND state = 'open'", [route], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .optional()?;
    let Some((open, lines)) = open else { return Ok(()) };
    let ends: Vec<i64> = db
        .prepare(
            "SELECT n.id FROM deliveries d JOIN notices n ON n.id = d.notice AND n.phase = 'resolved'
             WHERE d.digest = ?1 AND EXISTS (SELECT 1 FROM notices b JOIN deliveries f ON f.notice = b.id AND f.route = ?2
               WHERE b.alert = n.alert AND b.phase = 'firing' AND f.state = 'failed')",
        )?
        .query_map((&open, route), |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for end in &ends {
        db.prepare_cached(
            "UPDATE deliveries SET state = 'dropped', why = ?3, digest = NULL WHERE notice = ?1 AND route = ?2",
        )?
        .execute((end, route, NOT_TOLD))?;
    }
    let mut lines: Vec<Line> = from_json(&lines)?;
    lines.retain(|Line(_, _, notice)| notice.is_none_or(|notice| !ends.contains(&notice)));
    db.execute(
        "UPDATE digests SET lines = ?2, count = count - ?3 WHERE id = ?1",
        params![open, to_json(&lines), ends.len() as i64],
    )
    .map(drop)
}

pub(super) fn routes(db: &Connection, stamp: &Stamp) -> rusqlite::Result<Vec<RouteRow>> {
    let sql = format!(
        "SELECT r.name, r.failures, r.failing_since, r.last_error, r.told_at,
           (SELECT count(*) FROM notices n WHERE n.id > r.settled_to
              AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.notice = n.id AND d.route = r.name)),
           coalesce((SELECT sum(count) FROM digests g WHERE g.route = r.name AND g.state IN ('open', 'closed')), 0),
           (SELECT count(*) FROM notices n JOIN alerts a ON a.id = n.alert WHERE n.id > r.settled_to
              AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.notice = n.id AND d.route = r.name) AND {SILENCED})
         FROM routes r ORDER BY r.name"
    );
    let read = |r: &Row| {
        let error: Option<String> = r.get(3)?;
        let (owed, silenced): (i64, i64) = (r.get(5)?, r.get(7)?);
        Ok(RouteRow {
            name: r.get(0)?,
            failures: r.get(1)?,
            failing_since: r.get::<_, Option<i64>>(2)?.map(instant),
            last_error: error.map(|text| from_json(&text)).transpose()?,
            told_at: r.get::<_, Option<i64>>(4)?.map(instant),
            owed: (owed - silenced).max(0) as u64,
            silenced: silenced.max(0) as u64,
            held: r.get::<_, i64>(6)?.max(0) as u64,
            digest_at: None,
        })
    };
    let mut routes: Vec<RouteRow> =
        db.prepare_cached(&sql)?.query_map([millis(stamp.now)], read)?.collect::<rusqlite::Result<_>>()?;
    for route in routes.iter_mut().filter(|route| route.held > 0) {
        let is_closed = closed(db, &route.name)?.is_some();
        route.digest_at = digest_due(db, stamp, &route.name, is_closed)?;
    }
    Ok(routes)
}
