//! What screens and reports show: the history of usage, the load of the stages, the figures of a span of time.
//!
//! The history stays small whatever happens: a point a minute at most and only when something changed, minutes for a day, hours for
//! 90 days, and an upper bound over all sessions.

use super::{Stamp, from_json, instant, millis};
use chrono::{DateTime, Utc};
use moon_actors::domain::{SessionKey, Stage, UsageReading};
use moon_actors::port::{PastAlert, Period, StageLoad, UsageTrack};
use rusqlite::{Connection, OptionalExtension, params};

const MINUTE_MS: i64 = 60_000;
const HOUR: i64 = 60;
const DAY: i64 = 24 * HOUR;
/// Minutes that single minutes and hours are kept.
const KEEP_MINUTES: i64 = DAY + HOUR;
const KEEP_HOURS: i64 = 91 * DAY;
/// Most rows of each of the two tables, over all sessions; a row takes about 16 bytes.
pub(super) const MOST_ROWS: i64 = 200_000;
/// Tallies are kept this many days.
const KEEP_TALLIES: i64 = 400;
/// A daemon that has not been seen for longer than this was not up in between.
const LONGEST_BEAT_MS: i64 = 150_000;
/// Most audit rows read back for a report.
const MOST_AUDIT_ROWS: i64 = 200_000;

/// Notes how full a session is, if that is known and differs from what was noted last.
pub(super) fn note(db: &Connection, stamp: &Stamp, reading: &UsageReading) -> rusqlite::Result<()> {
    let Some(ratio) = reading.trusted_ratio() else { return Ok(()) };
    let share = (ratio * 1000.0).round().clamp(0.0, 9_999.0) as i64;
    let minute = millis(stamp.now).div_euclid(MINUTE_MS);
    let key = reading.session.key.as_str();
    let known: Option<i64> = db
        .prepare_cached("SELECT id FROM usage_names WHERE session = ?1")?
        .query_row([key], |r| r.get(0))
        .optional()?;
    let id = match known {
        Some(id) => id,
        None => db.query_row("INSERT INTO usage_names (session) VALUES (?1) RETURNING id", [key], |r| r.get(0))?,
    };
    let last: Option<i64> = db
        .prepare_cached("SELECT last FROM usage_hours WHERE session = ?1 ORDER BY at DESC LIMIT 1")?
        .query_row([id], |r| r.get(0))
        .optional()?;
    if last == Some(share) {
        return Ok(());
    }
    for (table, at) in [("usage_minutes", minute), ("usage_hours", minute.div_euclid(HOUR) * HOUR)] {
        db.prepare_cached(&format!(
            "INSERT INTO {table} (session, at, most, last) VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (session, at) DO UPDATE SET most = MAX(most, excluded.most), last = excluded.last"
        ))?
        .execute(params![id, at, share])?;
    }
    tidy(db, minute)
}

/// Takes out what is too old, once an hour.
fn tidy(db: &Connection, minute: i64) -> rusqlite::Result<()> {
    const NAME: &str = "usage_tidied";
    let hour = minute.div_euclid(HOUR).to_string();
    let done: Option<String> =
        db.prepare_cached("SELECT value FROM facts WHERE name = ?1")?.query_row([NAME], |r| r.get(0)).optional()?;
    if done.as_ref() == Some(&hour) {
        return Ok(());
    }
    db.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)", [NAME, &hour])?;
    for (table, keep) in [("usage_minutes", KEEP_MINUTES), ("usage_hours", KEEP_HOURS)] {
        db.execute(&format!("DELETE FROM {table} WHERE at < ?1"), [minute - keep])?;
        shorten(db, table, MOST_ROWS)?;
    }
    db.execute("DELETE FROM tallies WHERE day < ?1", [minute.div_euclid(DAY) - KEEP_TALLIES])?;
    db.execute("DELETE FROM usage_names WHERE id NOT IN (SELECT session FROM usage_hours)", []).map(drop)
}

/// The oldest points of all sessions go first.
pub(super) fn shorten(db: &Connection, table: &str, most: i64) -> rusqlite::Result<()> {
    let rows: i64 = db.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |r| r.get(0))?;
    if rows <= most {
        return Ok(());
    }
    let sql = format!("SELECT at FROM {table} ORDER BY at LIMIT 1 OFFSET ?1");
    let bound: i64 = db.query_row(&sql, [rows - most - 1], |r| r.get(0))?;
    db.execute(&format!("DELETE FROM {table} WHERE at <= ?1"), [bound]).map(drop)
}

pub(super) fn tracks(db: &Connection, stamp: &Stamp, limit: usize) -> rusqlite::Result<Vec<UsageTrack>> {
    let minute = millis(stamp.now).div_euclid(MINUTE_MS);
    let newest = "SELECT n.id, n.session FROM usage_names n
                  ORDER BY (SELECT MAX(h.at) FROM usage_hours h WHERE h.session = n.id) DESC, n.session LIMIT ?1";
    let names: Vec<(i64, String)> = db
        .prepare_cached(newest)?
        .query_map([limit as i64], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let track = |(id, session): (i64, String)| {
        let (day, quarter) = (UsageTrack::DAY_CELL_MINUTES, UsageTrack::QUARTER_CELL_MINUTES);
        Ok(UsageTrack {
            session: SessionKey(session),
            day: cells(db, "usage_minutes", id, (minute, day, UsageTrack::DAY_CELLS))?,
            quarter: cells(db, "usage_hours", id, (minute, quarter, UsageTrack::QUARTER_CELLS))?,
        })
    };
    names.into_iter().map(track).collect()
}

/// A session's history in equal cells; the last one holds the minute `now`.
fn cells(
    db: &Connection,
    table: &str,
    session: i64,
    (now, width, count): (i64, i64, usize),
) -> rusqlite::Result<Vec<Option<f64>>> {
    let first = now.div_euclid(width) - count as i64 + 1;
    let before = "SELECT last FROM usage_hours WHERE session = ?1 AND at < ?2 ORDER BY at DESC LIMIT 1";
    let mut held: Option<i64> =
        db.prepare_cached(before)?.query_row([session, first * width], |r| r.get(0)).optional()?;
    // The value of the newest row of a cell: its minute is in front of it, so the largest sum is the newest.
    let sql = format!(
        "SELECT at / ?3, MAX(most), MAX(at * 10000 + last) % 10000 FROM {table}
         WHERE session = ?1 AND at >= ?2 GROUP BY at / ?3 ORDER BY 1"
    );
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map([session, first * width, width], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
    let mut found = rows.collect::<rusqlite::Result<Vec<(i64, i64, i64)>>>()?.into_iter().peekable();
    let mut cells = Vec::with_capacity(count);
    for cell in first..first + count as i64 {
        let here = found.next_if(|(at, _, _)| *at == cell);
        let shown = here.map_or(held, |(_, most, _)| Some(most.max(held.unwrap_or(0).min(most))));
        cells.push(shown.map(|share| share as f64 / 1000.0));
        held = here.map_or(held, |(_, _, last)| Some(last));
    }
    Ok(cells)
}

pub(super) fn pipeline(db: &Connection) -> rusqlite::Result<Vec<StageLoad>> {
    let load = |stage: Stage| {
        let mut load = StageLoad { stage, waiting: 0, claimed: 0, failing: 0, failed: 0, last_done: None };
        let count = |state: &str| {
            db.prepare_cached(
                "SELECT COUNT(*), COALESCE(SUM(failures > 0), 0) FROM jobs WHERE stage = ?1 AND state = ?2",
            )?
            .query_row([stage.as_str(), state], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)))
        };
        (load.waiting, load.failing) = count("waiting")?;
        load.claimed = count("claimed")?.0;
        load.failed = count("quarantined")?.0;
        let done: Option<i64> = db
            .prepare_cached("SELECT MAX(claimed_at) FROM jobs WHERE stage = ?1 AND state = 'done'")?
            .query_row([stage.as_str()], |r| r.get(0))?;
        load.last_done = done.map(instant);
        Ok(load)
    };
    Stage::ALL.into_iter().map(load).collect()
}

pub(super) fn alerts_since(db: &Connection, since: DateTime<Utc>, limit: usize) -> rusqlite::Result<Vec<PastAlert>> {
    let sql = "SELECT rule, subject, severity, message, fired_at, resolved_at FROM alerts
               WHERE fired_at >= ?1 ORDER BY id DESC LIMIT ?2";
    db.prepare_cached(sql)?
        .query_map([millis(since), limit as i64], |r| {
            Ok(PastAlert {
                rule: r.get(0)?,
                subject: r.get(1)?,
                severity: r.get(2)?,
                message: r.get(3)?,
                fired_at: instant(r.get(4)?),
                resolved_at: r.get::<_, Option<i64>>(5)?.map(instant),
            })
        })?
        .collect()
}

pub(super) fn beat(db: &Connection, stamp: &Stamp, checks: u32, not_ok: u32) -> rusqlite::Result<()> {
    let now = millis(stamp.now);
    let seen: Option<i64> = db
        .prepare_cached("SELECT seen_at FROM boots WHERE id = ?1")?
        .query_row([stamp.boot.as_str()], |r| r.get(0))
        .optional()?
        .flatten();
    // A machine that slept was not up; the first beat of a life counts from its start.
    let up = seen.map_or(0, |seen| now - seen);
    let up = if (0..=LONGEST_BEAT_MS).contains(&up) { up } else { 0 };
    db.prepare_cached("UPDATE boots SET seen_at = ?2 WHERE id = ?1")?.execute(params![stamp.boot.as_str(), now])?;
    for (name, by) in [("up_ms", up), ("checks", i64::from(checks)), ("checks_not_ok", i64::from(not_ok))] {
        if by > 0 {
            db.prepare_cached(
                "INSERT INTO tallies (day, name, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (day, name) DO UPDATE SET value = value + excluded.value",
            )?
            .execute(params![now.div_euclid(DAY * MINUTE_MS), name, by])?;
        }
    }
    Ok(())
}

pub(super) fn period(db: &Connection, since: DateTime<Utc>, until: DateTime<Utc>) -> rusqlite::Result<Period> {
    let (from, to) = (millis(since), millis(until));
    let one = |sql: &str| db.query_row(sql, [from, to], |r| r.get::<_, Option<i64>>(0)).map(Option::unwrap_or_default);
    let first: Option<i64> = db.query_row("SELECT MIN(started_at) FROM boots", [], |r| r.get(0))?;
    let day = |ms: i64| ms.div_euclid(DAY * MINUTE_MS);
    let tally = |name: &str| {
        let sql = "SELECT COALESCE(SUM(value), 0) FROM tallies WHERE name = ?1 AND day BETWEEN ?2 AND ?3";
        db.query_row(sql, params![name, day(from), day(to)], |r| r.get::<_, i64>(0))
    };
    let severity = |severity: &str| {
        one(&format!("SELECT COUNT(*) FROM alerts WHERE fired_at BETWEEN ?1 AND ?2 AND severity = '{severity}'"))
    };
    // Lives, not the tally: that one is by whole days.
    let (up_ms, observed_ms) = uptime(&lives(db, to)?, from, to);
    let mut period = Period {
        since,
        until,
        known_secs: first.map_or(0, |first| (to - from.max(first)) / 1000).max(0),
        observed_secs: observed_ms / 1000,
        up_secs: up_ms / 1000,
        starts: one("SELECT COUNT(*) FROM boots WHERE seen_at IS NOT NULL AND started_at BETWEEN ?1 AND ?2")?,
        unclean_ends: one("SELECT COUNT(*) FROM boots WHERE seen_at BETWEEN ?1 AND ?2 AND ended_at IS NULL
             AND rowid < (SELECT MAX(rowid) FROM boots)")?,
        checks: tally("checks")?,
        checks_not_ok: tally("checks_not_ok")?,
        alerts_critical: severity("critical")?,
        alerts_warning: severity("warning")?,
        alerts_info: severity("info")?,
        sessions: one(&format!(
            "SELECT COUNT(DISTINCT session) FROM usage_hours
             WHERE at BETWEEN ?1 / {MINUTE_MS} - {HOUR} AND ?2 / {MINUTE_MS}"
        ))?,
        archived_segments: one("SELECT COUNT(*) FROM segments WHERE archived_at BETWEEN ?1 AND ?2")?,
        archived_bytes: one("SELECT SUM(manifest ->> '$.bytes') FROM segments WHERE archived_at BETWEEN ?1 AND ?2")?,
        prunes: one("SELECT COUNT(*) FROM prunes WHERE at BETWEEN ?1 AND ?2")?,
        distillations: one("SELECT COUNT(*) FROM distillations WHERE at BETWEEN ?1 AND ?2")?,
        rollovers: one("SELECT COUNT(*) FROM continuity WHERE at BETWEEN ?1 AND ?2 AND rollover <> 'none'")?,
        ..Period::default()
    };
    from_audit(db, &mut period)?;
    Ok(period)
}

/// A life of a daemon.
#[derive(Clone, Copy, Debug)]
struct Life {
    started_at: i64,
    seen_at: i64,
    ended_at: Option<i64>,
    /// It gave up, which is no orderly stop.
    gave_up: bool,
}

fn lives(db: &Connection, to: i64) -> rusqlite::Result<Vec<Life>> {
    let sql = "SELECT started_at, seen_at, ended_at, ifnull(end_reason LIKE 'moon gives up%', 0) FROM boots
               WHERE seen_at IS NOT NULL AND started_at <= ?1 ORDER BY rowid";
    let life = |r: &rusqlite::Row| {
        Ok(Life { started_at: r.get(0)?, seen_at: r.get(1)?, ended_at: r.get(2)?, gave_up: r.get(3)? })
    };
    db.prepare_cached(sql)?.query_map([to], life)?.collect()
}

/// Milliseconds between `from` and `to` that a daemon was up, and that it should have been: behind one that died until the next one,
/// not behind one that was stopped.
fn uptime(lives: &[Life], from: i64, to: i64) -> (i64, i64) {
    let within = |begin: i64, end: i64| (end.min(to) - begin.max(from)).max(0);
    let (mut up, mut down) = (0, 0);
    for (n, life) in lives.iter().enumerate() {
        let next = lives.get(n + 1).map(|next| next.started_at);
        let is_alive = next.is_none() && life.ended_at.is_none() && to - life.seen_at <= LONGEST_BEAT_MS;
        let end = if is_alive { to } else { life.ended_at.unwrap_or(life.seen_at) };
        up += within(life.started_at, end);
        if life.ended_at.is_none() || life.gave_up {
            down += within(end, next.unwrap_or(to));
        }
    }
    (up, up + down)
}

/// Crashes and backups, from the newest row back to the beginning of the period.
fn from_audit(db: &Connection, period: &mut Period) -> rusqlite::Result<()> {
    #[derive(serde::Deserialize)]
    struct Said {
        at: DateTime<Utc>,
        actor: String,
        event: String,
        outcome: String,
    }
    let mut query = db.prepare("SELECT record FROM audit ORDER BY seq DESC LIMIT ?1")?;
    let rows = query.query_map([MOST_AUDIT_ROWS], |r| r.get::<_, String>(0))?;
    for row in rows {
        let said: Said = from_json(&row?)?;
        if said.at < period.since {
            // A clock that was set back puts an old row behind a new one; what is much older ends the search.
            if period.since - said.at > chrono::TimeDelta::days(1) {
                break;
            }
            continue;
        }
        match (said.actor.as_str(), said.event.as_str(), said.outcome.as_str()) {
            _ if said.at > period.until => {}
            ("supervisor", "crashed" | "parked" | "escalated", _) => period.crashes += 1,
            ("backup", "ended", "ok") => period.backups_done += 1,
            ("backup", "ended", _) => period.backups_failed += 1,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::clock::{SystemClock, UuidIds};
    use crate::adapters::sqlite::SqliteLedger;
    use chrono::TimeDelta;
    use moon_actors::domain::{BootId, SessionRef};
    use std::sync::Arc;

    fn db() -> Connection {
        let mut db = Connection::open_in_memory().expect("a database");
        super::super::open::migrate(&mut db).expect("the schema");
        db
    }
    fn at(minutes: i64) -> Stamp {
        let now = DateTime::from_timestamp_millis(1_790_000_000_000 + minutes * MINUTE_MS).expect("a time");
        Stamp { now, steady: now, boot: BootId("one".into()) }
    }
    fn reading(key: &str, used: u64) -> UsageReading {
        UsageReading {
            session: SessionRef { key: SessionKey(key.into()), session_id: "s".into() },
            used_tokens: Some(used),
            window_tokens: Some(1000),
            fresh: true,
            running: false,
            last_activity: None,
            generation: None,
            model: None,
            provider: "test".into(),
            captured_at: at(0).now,
        }
    }
    fn rows(db: &Connection, table: &str) -> i64 {
        db.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |r| r.get(0)).expect("a count")
    }

    #[test]
    fn a_point_is_noted_only_when_something_changed_and_once_a_minute() {
        let db = db();
        for second in 0..10 {
            note(&db, &at(0), &reading("a", 100 + second)).expect("noted");
        }
        for minute in 1..600 {
            note(&db, &at(minute), &reading("a", 109)).expect("nothing new");
        }
        assert_eq!((rows(&db, "usage_minutes"), rows(&db, "usage_hours")), (1, 1));
        let mut unsure = reading("a", 900);
        unsure.fresh = false;
        note(&db, &at(601), &unsure).expect("not trusted");
        assert_eq!(rows(&db, "usage_minutes"), 1);
        let track = &tracks(&db, &at(602), 5).expect("tracks")[0];
        assert_eq!((track.day[95], track.day[0], track.quarter[89]), (Some(0.109), None, Some(0.109)));
    }

    #[test]
    fn a_cell_shows_its_highest_share_and_the_last_one_goes_on() {
        let db = db();
        // 1_790_000_000 s is 13 minutes and 20 seconds into a quarter of an hour: everything is in the one after it.
        for (minute, used) in [(5, 300), (6, 800), (7, 200)] {
            note(&db, &at(minute), &reading("a", used)).expect("noted");
        }
        let track = tracks(&db, &at(60), 5).expect("tracks").remove(0);
        let known: Vec<f64> = track.day.iter().flatten().copied().collect();
        assert_eq!(known[0], 0.8);
        assert!(known[1..].iter().all(|share| *share == 0.2) && known.len() >= 4, "{known:?}");
        let tomorrow = tracks(&db, &at(DAY + 60), 5).expect("tracks").remove(0);
        assert_eq!(tomorrow.day, vec![Some(0.2); 96], "what was last known goes on when its minute is gone");
        assert_eq!(tomorrow.quarter[88..], [Some(0.8), Some(0.2)]);
    }

    #[test]
    fn minutes_are_kept_for_a_day_and_hours_for_ninety() {
        let db = db();
        db.execute_batch("BEGIN").expect("a transaction");
        for minute in 0..2 * DAY {
            note(&db, &at(minute), &reading("busy", (minute % 900) as u64)).expect("noted");
        }
        for hour in 0..100 * 24 {
            note(&db, &at((hour + 50) * HOUR), &reading("slow", (hour % 900) as u64)).expect("noted");
        }
        db.execute_batch("COMMIT").expect("kept");
        assert!(rows(&db, "usage_minutes") <= KEEP_MINUTES / HOUR + 2, "{}", rows(&db, "usage_minutes"));
        assert!((2160..=KEEP_HOURS / HOUR + 2).contains(&rows(&db, "usage_hours")), "{}", rows(&db, "usage_hours"));
        assert_eq!(rows(&db, "usage_names"), 1, "of whom nothing is kept the name goes, too");
    }

    #[test]
    fn both_tables_at_their_bound_take_less_than_ten_megabytes() {
        let db = db();
        let size = || -> i64 { db.query_row("PRAGMA page_count", [], |r| r.get(0)).expect("pages") };
        let before = size();
        for table in ["usage_minutes", "usage_hours"] {
            db.execute_batch(&format!(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {MOST_ROWS} + 999)
                 INSERT INTO {table} SELECT i % 500, 29833333 + i / 500 * 60, 800 + i % 100, 799 FROM n ORDER BY 1, 2"
            ))
            .expect("filled");
            shorten(&db, table, MOST_ROWS).expect("shortened");
            assert!(rows(&db, table) <= MOST_ROWS);
        }
        let bytes = (size() - before) * 4096;
        assert!(bytes < 10_000_000, "{bytes} bytes");
    }

    #[test]
    fn beyond_the_bound_the_oldest_points_of_all_sessions_go() {
        let db = db();
        for minute in 0..50 {
            note(&db, &at(minute), &reading("a", minute as u64)).expect("noted");
            note(&db, &at(minute), &reading("b", minute as u64)).expect("noted");
        }
        shorten(&db, "usage_minutes", 30).expect("shortened");
        let (count, oldest): (i64, i64) = db
            .query_row("SELECT COUNT(*), MIN(at) FROM usage_minutes", [], |r| Ok((r.get(0)?, r.get(1)?)))
            .expect("a row");
        assert_eq!((count, oldest), (30, millis(at(35).now) / MINUTE_MS));
    }

    #[test]
    fn uptime_is_counted_over_the_time_in_which_a_daemon_should_have_been_up() {
        const HOUR: i64 = 3_600_000;
        let life = |from: i64, seen: i64, ended_at: Option<i64>| Life {
            started_at: from * HOUR,
            seen_at: seen * HOUR,
            ended_at: ended_at.map(|at| at * HOUR),
            gave_up: false,
        };
        let hours = |lives: &[Life], from, to| {
            let (up, observed) = uptime(lives, from * HOUR, to * HOUR);
            (up / HOUR, observed / HOUR)
        };
        assert_eq!(hours(&[], 0, 168), (0, 0));
        assert_eq!(hours(&[life(165, 168, None)], 0, 168), (3, 3), "nothing is missed before the first one");
        let stopped = [life(-500, -400, Some(-400)), life(165, 168, None)];
        assert_eq!(hours(&stopped, 0, 168), (3, 3), "nor while it was stopped on purpose");
        let died = [life(-500, 60, None), life(100, 110, Some(110))];
        assert_eq!(hours(&died, 0, 168), (70, 110), "behind a death it is missed");
        assert_eq!(hours(&died[..1], 0, 168), (60, 168), "and still, if nobody starts it");
        let gave_up = [Life { gave_up: true, ..life(0, 10, Some(10)) }, life(20, 30, Some(30))];
        assert_eq!(hours(&gave_up, 0, 168), (20, 30));
        let set_back = [life(50, 60, None), life(40, 45, Some(45))];
        assert_eq!(hours(&set_back, 0, 168), (15, 15), "a clock that was set back takes nothing away");
        let just_begun = Life { seen_at: 167 * HOUR + 1, ..life(167, 167, None) };
        assert_eq!(uptime(&[just_begun], 0, 167 * HOUR + 5_000), (5_000, 5_000), "its last beat is young: it is up");
    }

    #[tokio::test]
    async fn a_period_counts_lives_alerts_and_what_was_archived() {
        use moon_actors::port::{AlertKey, AuditEntry, Ledger, Severity};
        let ledger = SqliteLedger::in_memory(Arc::new(SystemClock::start()), Arc::new(UuidIds)).expect("a ledger");
        ledger.begin("moon test").await.expect("a life");
        ledger.beat(4, 1).await.expect("a beat");
        ledger.raise(&AlertKey::new("disk_low", "moon"), Severity::Warning, "x", None).await.expect("raised");
        ledger.audit(&AuditEntry::new("supervisor", "crashed", "failed", "x")).await.expect("audited");
        ledger.audit(&AuditEntry::new("backup", "ended", "ok", "x")).await.expect("audited");
        ledger.observe(&[reading("a", 500)]).await.expect("observed");
        let now = Utc::now();
        let week = ledger.period(now - TimeDelta::days(7), now + TimeDelta::seconds(5)).await.expect("a period");
        assert_eq!((week.starts, week.crashes, week.backups_done, week.alerts_warning), (1, 1, 1, 1));
        assert_eq!((week.checks, week.checks_not_ok, week.sessions, week.unclean_ends), (4, 1, 1, 0));
        let next = ledger.next_life();
        next.begin("moon test").await.expect("a second life");
        next.beat(0, 0).await.expect("a beat");
        let week = ledger.period(now - TimeDelta::days(7), Utc::now()).await.expect("a period");
        assert_eq!((week.starts, week.unclean_ends), (2, 1), "the first one never ended");
        let before = ledger.period(now - TimeDelta::days(14), now - TimeDelta::days(7)).await.expect("a period");
        assert_eq!((before.starts, before.crashes, before.alerts_warning, before.known_secs), (0, 0, 0, 0));
    }
}
