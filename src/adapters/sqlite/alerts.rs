//! Alert instances and what was delivered of them: one instance per rule and subject at a time, firing, then resolved.

use super::{Stamp, audit, instant, millis};
use moon_actors::port::{Alert, AlertKey, AuditEntry, Severity};
use rusqlite::{Connection, OptionalExtension, Row, params};

const SELECT: &str =
    "SELECT a.id, a.rule, a.subject, a.severity, a.message, a.hint, a.fired_at, a.resolved_at FROM alerts a";

fn row(r: &Row) -> rusqlite::Result<Alert> {
    let severity: String = r.get(3)?;
    Ok(Alert {
        id: r.get(0)?,
        key: AlertKey { rule: r.get(1)?, subject: r.get(2)? },
        severity: match severity.as_str() {
            "critical" => Severity::Critical,
            "warning" => Severity::Warning,
            _ => Severity::Info,
        },
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

pub(super) fn raise(
    db: &Connection,
    stamp: &Stamp,
    key: &AlertKey,
    severity: Severity,
    message: &str,
    hint: Option<&str>,
) -> rusqlite::Result<Option<Alert>> {
    if firing(db, key)?.is_some() {
        return Ok(None);
    }
    db.execute(
        "INSERT INTO alerts (rule, subject, severity, message, hint, fired_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![key.rule, key.subject, severity.as_str(), message, hint, millis(stamp.now)],
    )?;
    let mut entry = AuditEntry::new("alert", "fired", "failed", message)
        .detail(serde_json::json!({ "rule": key.rule, "subject": key.subject, "severity": severity }));
    entry.error_code = Some(key.rule.clone());
    audit::append(db, stamp, &entry)?;
    firing(db, key)
}

pub(super) fn resolve(db: &Connection, stamp: &Stamp, key: &AlertKey) -> rusqlite::Result<Option<Alert>> {
    let Some(mut alert) = firing(db, key)? else { return Ok(None) };
    db.execute("UPDATE alerts SET resolved_at = ?2 WHERE id = ?1", (alert.id, millis(stamp.now)))?;
    let entry = AuditEntry::new("alert", "resolved", "ok", alert.message.clone())
        .detail(serde_json::json!({ "rule": key.rule, "subject": key.subject }));
    audit::append(db, stamp, &entry)?;
    alert.resolved_at = Some(instant(millis(stamp.now)));
    Ok(Some(alert))
}

pub(super) fn list(db: &Connection, firing_only: bool) -> rusqlite::Result<Vec<Alert>> {
    db.prepare_cached(&format!("{SELECT} WHERE ?1 = 0 OR a.resolved_at IS NULL ORDER BY a.id DESC LIMIT 200"))?
        .query_map([firing_only], row)?
        .collect()
}

/// Firing notices this route has not seen, and resolved ones of which it has seen the firing. An alert that came and went
/// before anybody could be told is told once, as resolved.
pub(super) fn undelivered(db: &Connection, route: &str, limit: usize) -> rusqlite::Result<Vec<Alert>> {
    db.prepare_cached(&format!(
        "{SELECT} WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.alert = a.id AND d.route = ?1
             AND d.phase = CASE WHEN a.resolved_at IS NULL THEN 'firing' ELSE 'resolved' END)
         ORDER BY a.id LIMIT ?2"
    ))?
    .query_map((route, limit as i64), row)?
    .collect()
}

pub(super) fn delivered(db: &Connection, stamp: &Stamp, route: &str, alert: &Alert) -> rusqlite::Result<()> {
    let phase = if alert.resolved_at.is_some() { "resolved" } else { "firing" };
    db.execute(
        "INSERT OR IGNORE INTO deliveries (alert, route, phase, delivered_at) VALUES (?1, ?2, ?3, ?4)",
        (alert.id, route, phase, millis(stamp.now)),
    )
    .map(drop)
}
