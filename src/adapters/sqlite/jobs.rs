//! Cycles and jobs: opened, claimed with a token, completed with their effect, put back, set aside.
//!
//! ```text
//! waiting -> claimed -> done -> (next stage waiting | cycle closed)
//!    ^          |-> waiting       the world failed (retry), a turn runs (wait), the worker or the process died (release)
//!    |          |-> cancelled     nothing to do after all
//!    '----------'-> quarantined   it crashed its worker too often
//! ```
//! Every change but a release matches on the claim's token, so a ghost of a killed worker changes no row.

use super::{Stamp, alerts, archive, audit, from_json, instant, memory, millis, sessions, to_json};
use chrono::{DateTime, TimeDelta, Utc};
use moon_actors::Error;
use moon_actors::domain::{Claim, CycleId, CycleKind, Job, SessionKey, Stage, TraceId};
use moon_actors::port::{AlertKey, AuditEntry, Effect, JobRow, NewCycle, Release, Severity};
use moon_actors::stage::policy::BUSY;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;

pub(super) fn open_cycle(
    db: &Connection,
    stamp: &Stamp,
    new: &NewCycle,
    machine: Option<&str>,
) -> rusqlite::Result<Option<CycleId>> {
    let kind = new.trigger.kind;
    let pending: Option<String> = if kind == CycleKind::Capture {
        // A capture of the same transcript that has not begun to read yet will see everything this one would.
        db.query_row(
            "SELECT c.id FROM cycles c JOIN jobs j ON j.cycle = c.id AND j.stage = 'archive' AND j.state = 'waiting'
             WHERE c.session = ?1 AND c.session_id = ?2 AND c.kind = 'capture' AND c.closed_at IS NULL",
            (new.session.key.as_str(), &new.session.session_id),
            |r| r.get(0),
        )
    } else {
        let sql = "SELECT id FROM cycles WHERE session = ?1 AND kind <> 'capture' AND closed_at IS NULL";
        db.query_row(sql, [new.session.key.as_str()], |r| r.get(0))
    }
    .optional()?;
    if let Some(open) = pending {
        if kind == CycleKind::Capture && new.ack.is_some() {
            // Several compactions may wait for one archive; ids are the bridge's own and hold no comma.
            db.execute(
                "UPDATE cycles SET ack = CASE WHEN ack IS NULL THEN ?2 ELSE ack || ',' || ?2 END WHERE id = ?1",
                (&open, &new.ack),
            )?;
            // Whatever pause it is in: the compaction waits for seconds only.
            db.execute("UPDATE jobs SET not_before = 0 WHERE cycle = ?1 AND state = 'waiting'", [&open])?;
        }
        return Ok(None);
    }
    db.prepare_cached(
        "INSERT INTO cycles (id, session, session_id, kind, reason, ratio, used_tokens, trace, ack, opened_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        new.id.as_str(),
        new.session.key.as_str(),
        new.session.session_id,
        kind.as_str(),
        new.trigger.reason,
        new.trigger.ratio,
        new.used_tokens.map(|t| t as i64),
        new.trace.as_str(),
        new.ack,
        millis(stamp.now)
    ])?;
    queue(db, stamp, &new.id, kind.stages()[0])?;
    sessions::touch(db, &new.session.key)?;
    if let Some(machine) = machine {
        sessions::save_machine(db, &new.session.key, machine)?;
    }
    let mut entry = AuditEntry::new("threshold", "triggered", "ok", new.trigger.reason.clone())
        .session(&new.session.key)
        .detail(serde_json::json!({ "kind": kind, "ratio": new.trigger.ratio }));
    entry.cycle = Some(new.id.clone());
    entry.trace = Some(new.trace.clone());
    if kind == CycleKind::Capture {
        entry.actor = "usage".into();
    }
    audit::append(db, stamp, &entry)?;
    Ok(Some(new.id.clone()))
}

fn queue(db: &Connection, stamp: &Stamp, cycle: &CycleId, stage: Stage) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO jobs (cycle, stage, state, queued_at) VALUES (?1, ?2, 'waiting', ?3)")?
        .execute((cycle.as_str(), stage.as_str(), millis(stamp.now)))
        .map(drop)
}

pub(super) fn release(db: &Connection, stage: Stage, why: Release) -> rusqlite::Result<u64> {
    let sql = "UPDATE jobs SET state = 'waiting', token = NULL, claimed_at = NULL, attempts = MAX(0, attempts - ?2)
               WHERE stage = ?1 AND state = 'claimed'";
    Ok(db.execute(sql, (stage.as_str(), i64::from(why == Release::LedgerFailed)))? as u64)
}

const JOB: &str = "
    SELECT c.id, c.kind, c.session, c.session_id, c.trace, j.attempts, j.failures, c.ratio, c.used_tokens, c.ack, j.intent,
           j.queued_at, j.last_error IS NULL
    FROM jobs j CROSS JOIN cycles c ON c.id = j.cycle";
/// The same, but from the few cycles that a compaction waits for.
const AWAITED_JOB: &str = "
    SELECT c.id, c.kind, c.session, c.session_id, c.trace, j.attempts, j.failures, c.ratio, c.used_tokens, c.ack, j.intent,
           j.queued_at, j.last_error IS NULL
    FROM cycles c CROSS JOIN jobs j ON j.cycle = c.id";

/// Gives back what a dead process had claimed. A dead process is not the job's fault, so the attempt is given back; only a
/// row of `max_deaths` sets the job aside: it may be what kills it. Returns how many claims there were.
pub(super) fn release_dead(db: &Connection, stamp: &Stamp, max_deaths: i64) -> rusqlite::Result<u64> {
    let released = db.execute(
        "UPDATE jobs SET state = 'waiting', attempts = MAX(0, attempts - 1), deaths = deaths + 1, token = NULL,
                claimed_at = NULL WHERE state = 'claimed'",
        [],
    )?;
    for stage in Stage::ALL {
        let deadly: Vec<Job> = db
            .prepare_cached(&format!("{JOB} WHERE j.stage = ?1 AND j.state = 'waiting' AND j.deaths >= ?2"))?
            .query_map((stage.as_str(), max_deaths), |r| job(r, stamp, stage))?
            .collect::<rusqlite::Result<_>>()?;
        for job in deadly {
            quarantine(db, stamp, &job, &format!("was under way at {max_deaths} deaths of the whole process"))?;
        }
    }
    Ok(released as u64)
}

pub(super) fn claim(
    db: &Connection,
    stamp: &Stamp,
    stage: Stage,
    max_attempts: u32,
    token: &str,
) -> rusqlite::Result<Option<Claim>> {
    loop {
        let Some((mut job, is_first)) = due(db, stamp, stage)? else { return Ok(None) };
        if job.attempt >= max_attempts {
            quarantine(db, stamp, &job, &format!("crashed its worker {} times", job.attempt))?;
            continue;
        }
        job.attempt += 1;
        db.prepare_cached(
            "UPDATE jobs SET state = 'claimed', attempts = ?3, token = ?4, claimed_at = ?5 WHERE cycle = ?1 AND stage = ?2",
        )?
        .execute(params![job.cycle.as_str(), stage.as_str(), job.attempt, token, millis(stamp.now)])?;
        if is_first {
            let started = describe(&job, AuditEntry::new(stage.as_str(), "started", "info", "claimed"));
            audit::append(db, stamp, &started)?;
        }
        return Ok(Some(Claim { job, token: token.to_owned() }));
    }
}

/// The next job of a stage, and whether it is tried for the first time. One that a compaction waits for goes before all others.
fn due(db: &Connection, stamp: &Stamp, stage: Stage) -> rusqlite::Result<Option<(Job, bool)>> {
    let next = |select: &str, more: &str| {
        let sql = format!(
            "{select} WHERE j.stage = ?1 AND j.state = 'waiting' AND j.not_before <= ?2 {more}
             ORDER BY j.not_before, j.queued_at, j.rowid LIMIT 1"
        );
        db.prepare_cached(&sql)?
            .query_row((stage.as_str(), millis(stamp.steady)), |r| Ok((job(r, stamp, stage)?, r.get(12)?)))
            .optional()
    };
    match next(AWAITED_JOB, "AND c.ack IS NOT NULL AND c.closed_at IS NULL")? {
        None => next(JOB, ""),
        awaited => Ok(awaited),
    }
}

fn job(r: &Row, stamp: &Stamp, stage: Stage) -> rusqlite::Result<Job> {
    let kind: String = r.get(1)?;
    let age = stamp.now - instant(r.get(11)?);
    Ok(Job {
        cycle: CycleId(r.get(0)?),
        kind: kind_of(&kind)?,
        stage,
        session: SessionKey(r.get(2)?),
        session_id: r.get(3)?,
        trace: TraceId(r.get(4)?),
        attempt: r.get(5)?,
        failures: r.get(6)?,
        age: age.to_std().unwrap_or_default(),
        ratio: r.get(7)?,
        used_tokens: r.get::<_, Option<i64>>(8)?.map(|t| t as u64),
        ack: r.get(9)?,
        intent: r.get::<_, Option<String>>(10)?.as_deref().map(from_json).transpose()?,
    })
}

fn kind_of(text: &str) -> rusqlite::Result<CycleKind> {
    CycleKind::parse(text).ok_or_else(|| {
        let cause = format!("unknown kind of cycle {text:?}");
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, cause.into())
    })
}

/// Fills in what every audit row of a job says.
fn describe(job: &Job, mut entry: AuditEntry) -> AuditEntry {
    entry.trace = Some(job.trace.clone());
    entry.cycle = Some(job.cycle.clone());
    entry.session = Some(job.session.clone());
    entry.stage = Some(job.stage);
    entry.attempt = Some(job.attempt + job.failures);
    entry
}

fn quarantine(db: &Connection, stamp: &Stamp, job: &Job, why: &str) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE jobs SET state = 'quarantined', token = NULL, claimed_at = NULL WHERE cycle = ?1 AND stage = ?2",
        (job.cycle.as_str(), job.stage.as_str()),
    )?;
    close(db, stamp, &job.cycle, "quarantined")?;
    // Nobody tries this job again: its failing is over, its being set aside is what people must hear of.
    alerts::resolve(db, stamp, &AlertKey::failing(job.stage, &job.session))?;
    let stage = job.stage.as_str();
    let message = format!("{stage} of {} {why} and was set aside", job.session);
    let mut entry = describe(job, AuditEntry::new(stage, "quarantined", "failed", message.clone()));
    entry.error_code = Some("stage.quarantined".into());
    audit::append(db, stamp, &entry)?;
    let key = set_aside(job);
    let hint = "see `moon logs --trace`, report the crash; the archive is complete up to the last finished stage";
    alerts::raise(db, stamp, &key, Severity::Critical, &message, Some(hint)).map(drop)
}

fn close(db: &Connection, stamp: &Stamp, cycle: &CycleId, outcome: &str) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE cycles SET closed_at = ?2, outcome = ?3 WHERE id = ?1 AND closed_at IS NULL")?
        .execute((cycle.as_str(), millis(stamp.now), outcome))?;
    let session: String =
        db.prepare_cached("SELECT session FROM cycles WHERE id = ?1")?.query_row([cycle.as_str()], |r| r.get(0))?;
    sessions::touch(db, &SessionKey(session))
}

/// Runs `change` on the job only while the claim is ours. True if it was.
fn fenced(db: &Connection, claim: &Claim, set: &str, extra: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<bool> {
    let sql = format!("UPDATE jobs SET {set} WHERE cycle = ?1 AND stage = ?2 AND token = ?3 AND state = 'claimed'");
    let (cycle, stage) = (claim.job.cycle.as_str(), claim.job.stage.as_str());
    let mut values: Vec<&dyn rusqlite::ToSql> = vec![&cycle, &stage, &claim.token];
    values.extend_from_slice(extra);
    Ok(db.prepare_cached(&sql)?.execute(values.as_slice())? == 1)
}

pub(super) fn intend(db: &Connection, claim: &Claim, intent: &str) -> rusqlite::Result<bool> {
    fenced(db, claim, "intent = ?4", &[&intent])
}

pub(super) fn complete(
    db: &Connection,
    stamp: &Stamp,
    claim: &Claim,
    effect: &Effect,
    entry: &AuditEntry,
) -> rusqlite::Result<bool> {
    if !fenced(db, claim, "state = 'done', token = NULL, last_error = NULL", &[])? {
        return Ok(false);
    }
    let job = &claim.job;
    match effect {
        Effect::None => {}
        Effect::Indexed { segments } => archive::mark_indexed(db, stamp, segments)?,
        Effect::Pruned { tokens_before, tokens_after, permit } => {
            memory::add_prune(db, stamp, job, *tokens_before, *tokens_after, permit)?;
        }
        Effect::Distilled(rows) => rows.iter().try_for_each(|row| memory::add_distillation(db, row))?,
        Effect::Continued(row) => memory::add_continuity(db, row)?,
    }
    match job.kind.next(job.stage) {
        // One waiting index job of a session covers everything archived meanwhile: captures do not pile up behind it.
        Some(Stage::Index) if job.kind == CycleKind::Capture && index_waits(db, &job.session)? => {
            close(db, stamp, &job.cycle, "done")?;
        }
        Some(next) => queue(db, stamp, &job.cycle, next)?,
        None => close(db, stamp, &job.cycle, "done")?,
    }
    works_again(db, stamp, job)?;
    // The stage works for this session again: what was set aside is history, and the audit keeps it.
    alerts::resolve(db, stamp, &set_aside(job))?;
    audit::append(db, stamp, &describe(job, entry.clone()))?;
    Ok(true)
}

/// Ends the alert about a failing stage, unless another job of the session still fails there: an older transcript of it that
/// cannot be read, say.
fn works_again(db: &Connection, stamp: &Stamp, job: &Job) -> rusqlite::Result<()> {
    let fails: bool = db.query_row(
        "SELECT EXISTS (SELECT 1 FROM jobs j CROSS JOIN cycles c ON c.id = j.cycle
                        WHERE j.stage = ?1 AND j.state = 'waiting' AND j.failures > 0 AND c.session = ?2)",
        (job.stage.as_str(), job.session.as_str()),
        |r| r.get(0),
    )?;
    if fails { Ok(()) } else { alerts::resolve(db, stamp, &AlertKey::failing(job.stage, &job.session)).map(drop) }
}

fn index_waits(db: &Connection, session: &SessionKey) -> rusqlite::Result<bool> {
    db.query_row(
        "SELECT EXISTS (SELECT 1 FROM jobs j JOIN cycles c ON c.id = j.cycle
                        WHERE j.stage = 'index' AND j.state = 'waiting' AND c.session = ?1)",
        [session.as_str()],
        |r| r.get(0),
    )
}

/// The alert that fires after a job was set aside, until the stage has worked for that session again.
fn set_aside(job: &Job) -> AlertKey {
    AlertKey::new(&format!("{}.quarantined", job.stage.as_str()), job.session.as_str())
}

pub(super) fn retry(
    db: &Connection,
    stamp: &Stamp,
    claim: &Claim,
    after: Duration,
    error: &Error,
    entry: &AuditEntry,
) -> rusqlite::Result<bool> {
    let not_before = millis(stamp.steady + TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX));
    let set = "state = 'waiting', token = NULL, attempts = attempts - 1, failures = failures + 1, not_before = ?4,
               last_error = ?5";
    if !fenced(db, claim, set, &[&not_before, &to_json(error)])? {
        return Ok(false);
    }
    let mut entry = describe(&claim.job, entry.clone());
    entry.error_code = Some(error.code.clone());
    audit::append(db, stamp, &entry)?;
    Ok(true)
}

pub(super) fn wait(
    db: &Connection,
    stamp: &Stamp,
    claim: &Claim,
    after: Duration,
    why: &Error,
) -> rusqlite::Result<bool> {
    let not_before = millis(stamp.steady + TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX));
    let set = "state = 'waiting', token = NULL, attempts = attempts - 1, not_before = ?4, last_error = ?5";
    fenced(db, claim, set, &[&not_before, &to_json(why)])
}

pub(super) fn hurry(db: &Connection) -> rusqlite::Result<u64> {
    Ok(db.execute("UPDATE jobs SET not_before = 0 WHERE state = 'waiting'", [])? as u64)
}

pub(super) fn hurry_waiting(db: &Connection, key: &SessionKey) -> rusqlite::Result<u64> {
    let sql = "UPDATE jobs SET not_before = 0
               WHERE state = 'waiting' AND not_before > 0 AND last_error ->> 'code' = ?2
                 AND cycle IN (SELECT id FROM cycles WHERE session = ?1 AND closed_at IS NULL)";
    Ok(db.prepare_cached(sql)?.execute((key.as_str(), BUSY))? as u64)
}

pub(super) fn cancel(db: &Connection, stamp: &Stamp, claim: &Claim, entry: &AuditEntry) -> rusqlite::Result<bool> {
    if !fenced(db, claim, "state = 'cancelled', token = NULL", &[])? {
        return Ok(false);
    }
    close(db, stamp, &claim.job.cycle, "cancelled")?;
    works_again(db, stamp, &claim.job)?;
    audit::append(db, stamp, &describe(&claim.job, entry.clone()))?;
    Ok(true)
}

pub(super) fn next_due(db: &Connection, stage: Stage) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let sql = "SELECT MIN(not_before) FROM jobs WHERE stage = ?1 AND state = 'waiting'";
    let due: Option<i64> = db.prepare_cached(sql)?.query_row([stage.as_str()], |r| r.get(0))?;
    Ok(due.map(instant))
}

pub(super) fn list(db: &Connection, unfinished_only: bool) -> rusqlite::Result<Vec<JobRow>> {
    let filter = if unfinished_only { "WHERE j.state NOT IN ('done', 'cancelled')" } else { "" };
    let sql = format!(
        "SELECT j.cycle, c.kind, j.stage, c.session, j.state, j.attempts, j.failures, j.not_before, j.last_error
         FROM jobs j JOIN cycles c ON c.id = j.cycle {filter} ORDER BY j.queued_at DESC, j.rowid DESC LIMIT 500"
    );
    db.prepare(&sql)?
        .query_map([], |r| {
            let (kind, stage): (String, String) = (r.get(1)?, r.get(2)?);
            let not_before: i64 = r.get(7)?;
            Ok(JobRow {
                cycle: CycleId(r.get(0)?),
                kind: kind_of(&kind)?,
                stage: Stage::parse(&stage).unwrap_or(Stage::Archive),
                session: SessionKey(r.get(3)?),
                state: r.get(4)?,
                attempts: r.get(5)?,
                failures: r.get(6)?,
                not_before: (not_before > 0).then(|| instant(not_before)),
                last_error: r.get::<_, Option<String>>(8)?.as_deref().map(from_json).transpose()?,
            })
        })?
        .collect()
}
