//! Alert instances: one per rule and subject at a time; pending, firing, then resolved. Each change writes the notice that tells it.

use super::outbox::{self, SILENCED};
use super::{Stamp, audit, instant, millis};
use moon_actors::port::{
    Acknowledgement, Alert, AlertKey, AlertRow, AuditEntry, DeliveryRow, Fate, PendingAlert, Phase, Severity,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;

const SELECT: &str =
    "SELECT a.id, a.rule, a.subject, a.severity, a.message, a.hint, a.fired_at, a.resolved_at FROM alerts a";

/// The first eight columns of an alert, as [`row`] reads them.
pub(super) const COLUMNS: &str = "a.id, a.rule, a.subject, a.severity, a.message, a.hint, a.fired_at, a.resolved_at";

/// Instances kept. Older ones that are over are forgotten; the audit keeps that they were.
const KEPT: i64 = 2000;
/// Forgotten at a time.
const SWEPT: i64 = 500;

pub(super) fn severity(text: &str) -> Severity {
    match text {
        "critical" => Severity::Critical,
        "warning" => Severity::Warning,
        _ => Severity::Info,
    }
}

pub(super) fn row(r: &Row) -> rusqlite::Result<Alert> {
    Ok(Alert {
        id: r.get(0)?,
        key: AlertKey { rule: r.get(1)?, subject: r.get(2)? },
        severity: severity(&r.get::<_, String>(3)?),
        message: r.get(4)?,
        hint: r.get(5)?,
        fired_at: instant(r.get(6)?),
        resolved_at: r.get::<_, Option<i64>>(7)?.map(instant),
    })
}

fn firing(db: &Connection, key: &AlertKey) -> rusqlite::Result<Option<Alert>> {
    db.prepare_cached(&format!("{SELECT} WHERE a.rule = ?1 AND a.subject = ?2 AND a.resolved_at IS NULL"))?
        .query_row((&key.rule, &key.subject), row)
        .optional()
}

fn notice(db: &Connection, stamp: &Stamp, alert: i64, phase: Phase) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO notices (alert, phase, made_at) VALUES (?1, ?2, ?3)")?
        .execute((alert, phase.as_str(), millis(stamp.now)))
        .map(drop)
}

pub(super) fn raise(
    db: &Connection,
    stamp: &Stamp,
    key: &AlertKey,
    severity: Severity,
    message: &str,
    hint: Option<&str>,
) -> rusqlite::Result<Option<Alert>> {
    let before = firing(db, key)?;
    if let Some(alert) = before.as_ref().filter(|alert| alert.severity >= severity) {
        refresh(db, alert, severity, message, hint)?;
        return Ok(None);
    }
    forget_pending(db, key)?;
    if let Some(milder) = &before {
        end(db, stamp, milder, "became worse")?;
    }
    db.execute(
        "INSERT INTO alerts (rule, subject, severity, message, hint, fired_at, fired_steady)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![key.rule, key.subject, severity.as_str(), message, hint, millis(stamp.now), millis(stamp.steady)],
    )?;
    let id = db.last_insert_rowid();
    if let Some(milder) = &before {
        db.execute("UPDATE alerts SET superseded_by = ?2 WHERE id = ?1", (milder.id, id))?;
    }
    notice(db, stamp, id, Phase::Firing)?;
    let mut entry = AuditEntry::new("alert", "fired", "failed", message)
        .detail(serde_json::json!({ "id": id, "rule": key.rule, "subject": key.subject, "severity": severity }));
    entry.error_code = Some(key.rule.clone());
    audit::append(db, stamp, &entry)?;
    firing(db, key)
}

/// What goes on says its newest reason, and nobody is told again. What is milder by now says nothing of what is worse.
fn refresh(
    db: &Connection,
    alert: &Alert,
    severity: Severity,
    message: &str,
    hint: Option<&str>,
) -> rusqlite::Result<()> {
    if alert.severity != severity || (alert.message == message && alert.hint.as_deref() == hint) {
        return Ok(());
    }
    db.prepare_cached("UPDATE alerts SET message = ?2, hint = ?3 WHERE id = ?1")?
        .execute((alert.id, message, hint))
        .map(drop)
}

/// What is known of a condition that has to last before it fires.
pub(super) struct Pending<'a> {
    pub key: &'a AlertKey,
    pub severity: Severity,
    pub message: &'a str,
    pub hint: Option<&'a str>,
    pub patience: Duration,
}

pub(super) fn raise_after(db: &Connection, stamp: &Stamp, new: &Pending) -> rusqlite::Result<Option<Alert>> {
    if let Some(alert) = firing(db, new.key)?.filter(|alert| alert.severity >= new.severity) {
        refresh(db, &alert, new.severity, new.message, new.hint)?;
        return Ok(None);
    }
    let (now, patience) = (millis(stamp.steady), i64::try_from(new.patience.as_millis()).unwrap_or(i64::MAX));
    // Seen again: since when stays, unless that lies in the future of this life.
    let since: i64 = db.query_row(
        "INSERT INTO pending_alerts (rule, subject, severity, message, hint, since, since_wall, patience, boot)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (rule, subject) DO UPDATE SET severity = excluded.severity, message = excluded.message,
           hint = excluded.hint, patience = excluded.patience, boot = excluded.boot, since = min(since, excluded.since)
         RETURNING since",
        params![
            new.key.rule,
            new.key.subject,
            new.severity.as_str(),
            new.message,
            new.hint,
            now,
            millis(stamp.now),
            patience,
            stamp.boot.as_str()
        ],
        |r| r.get(0),
    )?;
    if now - since < patience {
        return Ok(None);
    }
    raise(db, stamp, new.key, new.severity, new.message, new.hint)
}

fn forget_pending(db: &Connection, key: &AlertKey) -> rusqlite::Result<usize> {
    db.prepare_cached("DELETE FROM pending_alerts WHERE rule = ?1 AND subject = ?2")?.execute((&key.rule, &key.subject))
}

pub(super) fn resolve(db: &Connection, stamp: &Stamp, key: &AlertKey) -> rusqlite::Result<Option<Alert>> {
    forget_pending(db, key)?;
    let Some(mut alert) = firing(db, key)? else { return Ok(None) };
    end(db, stamp, &alert, "resolved")?;
    alert.resolved_at = Some(instant(millis(stamp.now)));
    Ok(Some(alert))
}

fn end(db: &Connection, stamp: &Stamp, alert: &Alert, how: &str) -> rusqlite::Result<()> {
    db.execute("UPDATE alerts SET resolved_at = ?2 WHERE id = ?1", (alert.id, millis(stamp.now)))?;
    notice(db, stamp, alert.id, Phase::Resolved)?;
    let entry = AuditEntry::new("alert", "resolved", "ok", alert.message.clone()).detail(serde_json::json!({
        "id": alert.id, "rule": alert.key.rule, "subject": alert.key.subject, "how": how,
    }));
    audit::append(db, stamp, &entry)
}

/// What time does to instances.
pub(super) fn tend(db: &Connection, stamp: &Stamp, escalate_after: Duration) -> rusqlite::Result<u64> {
    let made = ripen(db, stamp)? + escalate(db, stamp, escalate_after)?;
    sweep(db)?;
    Ok(made)
}

/// Lets pending alerts fire that lasted, and that somebody of this life still stands for.
fn ripen(db: &Connection, stamp: &Stamp) -> rusqlite::Result<u64> {
    let now = millis(stamp.steady);
    let ripe: Vec<(AlertKey, String, String, Option<String>)> = db
        .prepare_cached(
            "SELECT rule, subject, severity, message, hint FROM pending_alerts
             WHERE boot = ?1 AND ?2 - since >= patience ORDER BY since",
        )?
        .query_map((stamp.boot.as_str(), now), |r| {
            Ok((AlertKey { rule: r.get(0)?, subject: r.get(1)? }, r.get(2)?, r.get(3)?, r.get(4)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut fired = 0;
    for (key, how_bad, message, hint) in ripe {
        fired += u64::from(raise(db, stamp, &key, severity(&how_bad), &message, hint.as_deref())?.is_some());
    }
    Ok(fired)
}

fn escalate(db: &Connection, stamp: &Stamp, after: Duration) -> rusqlite::Result<u64> {
    let (now, after) = (millis(stamp.steady), i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
    if after == 0 {
        return Ok(0);
    }
    // A time from the future of this life counts as now. While a silence holds it back, nobody is late.
    let open = "resolved_at IS NULL AND severity = 'critical' AND acked_at IS NULL AND escalated_at IS NULL";
    db.prepare_cached(&format!(
        "UPDATE alerts SET fired_steady = ?1 WHERE {open} AND (fired_steady > ?1 OR
           EXISTS (SELECT 1 FROM silences s WHERE s.ended_at IS NULL AND s.until > ?2
             AND alerts.rule GLOB s.rule AND alerts.subject GLOB s.subject))"
    ))?
    .execute((now, millis(stamp.now)))?;
    let late: Vec<(i64, String)> = db
        .prepare_cached(&format!("SELECT id, message FROM alerts WHERE {open} AND ?1 - fired_steady >= ?2"))?
        .query_map((now, after), |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, message) in &late {
        db.execute("UPDATE alerts SET escalated_at = ?2 WHERE id = ?1", (id, millis(stamp.now)))?;
        notice(db, stamp, *id, Phase::Escalated)?;
        let entry = AuditEntry::new("alert", "escalated", "failed", format!("nobody has acknowledged: {message}"))
            .detail(serde_json::json!({ "id": id }));
        audit::append(db, stamp, &entry)?;
    }
    Ok(late.len() as u64)
}

/// Forgets the oldest of too many, but none that somebody has still to be told of.
fn sweep(db: &Connection) -> rusqlite::Result<()> {
    let newest: Option<i64> = db.query_row("SELECT max(id) FROM alerts", [], |r| r.get(0))?;
    let old = newest.unwrap_or(0) - KEPT;
    let sql = "SELECT a.id FROM alerts a WHERE a.id <= ?1 AND a.resolved_at IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM notices n JOIN routes r WHERE n.alert = a.id
             AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.notice = n.id AND d.route = r.name))
         ORDER BY a.id LIMIT ?2";
    let ids: Vec<i64> =
        db.prepare_cached(sql)?.query_map((old, SWEPT), |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
    for id in ids {
        db.execute("DELETE FROM deliveries WHERE notice IN (SELECT id FROM notices WHERE alert = ?1)", [id])?;
        db.execute("DELETE FROM notices WHERE alert = ?1", [id])?;
        db.execute("DELETE FROM alerts WHERE id = ?1", [id])?;
    }
    Ok(())
}

pub(super) fn list(db: &Connection, firing_only: bool) -> rusqlite::Result<Vec<Alert>> {
    db.prepare_cached(&format!("{SELECT} WHERE ?1 = 0 OR a.resolved_at IS NULL ORDER BY a.id DESC LIMIT 200"))?
        .query_map([firing_only], row)?
        .collect()
}

fn full_select() -> String {
    format!(
        "SELECT {COLUMNS}, a.acked_at, a.acked_by, a.ack_note, a.escalated_at, a.superseded_by,
           (SELECT max(s.id) FROM silences s WHERE s.ended_at IS NULL AND s.until > ?1
              AND a.rule GLOB s.rule AND a.subject GLOB s.subject)
         FROM alerts a"
    )
}

fn full_row(r: &Row) -> rusqlite::Result<AlertRow> {
    let alert = row(r)?;
    let acknowledged = match r.get::<_, Option<i64>>(8)? {
        Some(at) => Some(Acknowledgement { at: instant(at), by: r.get(9)?, note: r.get(10)? }),
        None => None,
    };
    let is_firing = alert.resolved_at.is_none();
    Ok(AlertRow {
        alert,
        acknowledged,
        escalated_at: r.get::<_, Option<i64>>(11)?.map(instant),
        superseded_by: r.get(12)?,
        silenced_by: if is_firing { r.get(13)? } else { None },
    })
}

pub(super) fn rows(
    db: &Connection,
    stamp: &Stamp,
    firing_only: bool,
    before: Option<i64>,
    limit: usize,
) -> rusqlite::Result<Vec<AlertRow>> {
    let sql =
        format!("{} WHERE (?2 = 0 OR a.resolved_at IS NULL) AND a.id < ?3 ORDER BY a.id DESC LIMIT ?4", full_select());
    db.prepare_cached(&sql)?
        .query_map((millis(stamp.now), firing_only, before.unwrap_or(i64::MAX), limit as i64), full_row)?
        .collect()
}

pub(super) fn one(db: &Connection, stamp: &Stamp, id: i64) -> rusqlite::Result<Option<AlertRow>> {
    let sql = format!("{} WHERE a.id = ?2", full_select());
    db.prepare_cached(&sql)?.query_row((millis(stamp.now), id), full_row).optional()
}

pub(super) fn pending(db: &Connection) -> rusqlite::Result<Vec<PendingAlert>> {
    let sql = "SELECT rule, subject, severity, message, hint, since_wall, patience FROM pending_alerts ORDER BY since";
    let read = |r: &Row| {
        Ok(PendingAlert {
            key: AlertKey { rule: r.get(0)?, subject: r.get(1)? },
            severity: severity(&r.get::<_, String>(2)?),
            message: r.get(3)?,
            hint: r.get(4)?,
            since: instant(r.get(5)?),
            patience_secs: r.get::<_, i64>(6)?.max(0) as u64 / 1000,
        })
    };
    db.prepare_cached(sql)?.query_map([], read)?.collect()
}

pub(super) fn acknowledge(
    db: &Connection,
    stamp: &Stamp,
    id: i64,
    by: &str,
    note: Option<&str>,
) -> rusqlite::Result<Option<AlertRow>> {
    let Some(found) = one(db, stamp, id)?.filter(|row| row.alert.resolved_at.is_none()) else { return Ok(None) };
    db.execute(
        "UPDATE alerts SET acked_at = ?2, acked_by = ?3, ack_note = ?4 WHERE id = ?1",
        params![id, millis(stamp.now), by, note],
    )?;
    let key = &found.alert.key;
    let entry = AuditEntry::new("alert", "acknowledged", "ok", format!("{by} knows of alert {id}"))
        .detail(serde_json::json!({ "id": id, "rule": key.rule, "subject": key.subject, "by": by, "note": note }));
    audit::append(db, stamp, &entry)?;
    one(db, stamp, id)
}

pub(super) fn fate(text: &str) -> Option<Fate> {
    Fate::ALL.into_iter().find(|fate| fate.as_str() == text)
}

pub(super) fn phase(text: &str) -> Phase {
    Phase::ALL.into_iter().find(|phase| phase.as_str() == text).unwrap_or(Phase::Firing)
}

pub(super) fn deliveries(db: &Connection, stamp: &Stamp, id: i64) -> rusqlite::Result<Vec<DeliveryRow>> {
    let sql = format!(
        "SELECT n.phase, n.made_at, r.route, d.state, d.at, d.why, d.digest, g.state, g.sent_steady,
           d.state IS NULL AND {SILENCED}
         FROM notices n
         JOIN alerts a ON a.id = n.alert
         JOIN (SELECT name AS route, under_way FROM routes UNION
               SELECT d.route, NULL FROM deliveries d JOIN notices n ON n.id = d.notice WHERE n.alert = ?2
                 AND d.route NOT IN (SELECT name FROM routes)) r
         LEFT JOIN deliveries d ON d.notice = n.id AND d.route = r.route
         LEFT JOIN digests g ON g.id = d.digest
         WHERE n.alert = ?2 ORDER BY n.id, r.route"
    );
    let read = |r: &Row| {
        let route: String = r.get(2)?;
        let digest: Option<String> = r.get(7)?;
        let is_closed = digest.as_deref() == Some("closed");
        let is_held = is_closed || digest.as_deref() == Some("open");
        let gone_out: Option<i64> = r.get(8)?;
        let at = gone_out.map(|at| millis(stamp.now) - (millis(stamp.steady) - at).max(0));
        Ok(DeliveryRow {
            phase: phase(&r.get::<_, String>(0)?),
            made_at: instant(r.get(1)?),
            fate: r.get::<_, Option<String>>(3)?.and_then(|text| fate(&text)),
            at: at.or(r.get(4)?).map(instant),
            why: r.get(5)?,
            is_silenced: r.get(9)?,
            digest: r.get(6)?,
            is_held,
            held_until: if is_held { outbox::digest_due(db, stamp, &route, is_closed)? } else { None },
            route,
        })
    };
    db.prepare_cached(&sql)?.query_map([millis(stamp.now), id], read)?.collect()
}
