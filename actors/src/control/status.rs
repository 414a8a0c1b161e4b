//! The one status document: everything a screen, a script or a page shows, read from the ledger.

use crate::alert::desk;
use crate::contract::SessionUsageSnapshot;
use crate::error::Result;
use crate::port::{Ports, SessionRow};
use crate::settings::Settings;
use crate::threshold::engine::machine_of;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

/// Sessions whose history is in the document; the usage of all of them is.
const TRACKS: usize = 20;
/// Alerts of the last day in the document.
const PAST_ALERTS: usize = 50;

/// Builds it. Never fails because one part does: what cannot be read is named as such, and what is not known is null.
pub async fn document(ports: &Ports, settings: &Settings) -> Result<Value> {
    let ledger = &ports.ledger;
    let sessions: Vec<Value> = ledger.sessions().await?.iter().map(|row| session(row, settings, ports)).collect();
    let bridge = ports.bridge.status().await;
    let index = match ports.index.status().await {
        Ok(status) => json!(status),
        Err(error) => json!({ "error": error.to_string() }),
    };
    let now = ports.clock.now();
    let limits = &settings.thresholds;
    Ok(json!({
        "generated_at": now,
        "moon": env!("CARGO_PKG_VERSION"),
        "liveness": null,
        "thresholds": { "archive": limits.archive, "prune": limits.prune, "distill": limits.distill },
        "host": { "name": ports.host.name(), "description": ports.host.describe(), "capabilities": ports.host.capabilities() },
        "mode": settings.openclaw.mode,
        "bridge": { "alive": bridge.alive, "version": bridge.version, "detail": bridge.detail },
        "sessions": sessions,
        "totals": ledger.totals().await?,
        "alerts": desk::documents(&ledger.alert_rows(true, None, 200).await?),
        "jobs": ledger.jobs(true).await?,
        "index": index,
        "continuity": ledger.continuity(None, 3).await?,
        "recent_alerts": known(ledger.alerts_since(now - TimeDelta::days(1), PAST_ALERTS).await),
        "usage_history": known(ledger.usage_tracks(TRACKS).await),
        "pipeline": known(ledger.pipeline().await),
        "chores": known(ledger.chores().await),
        "resources": ports.meter.resources().await,
        "health": health(ports).await,
        "backups": backups(ports).await,
        "tree": null,
    }))
}

/// The newest verdicts of the checks, `null` while none is known.
pub async fn health(ports: &Ports) -> Value {
    match ports.ledger.checks().await {
        Ok(rows) => crate::health::document(&rows),
        Err(error) => json!({ "verdict": crate::domain::Condition::Unknown, "checks": [], "error": error.to_string() }),
    }
}

/// What backups there are, `null` while that is not known.
async fn backups(ports: &Ports) -> Value {
    known(crate::backup::engine::document(ports.ledger.as_ref()).await)
}

/// Says in the document that a daemon wrote it.
pub fn say_alive(document: &mut Value) {
    let (pid, up) = (&document["resources"]["pid"], document["resources"]["uptime_secs"].as_i64());
    let now: Option<DateTime<Utc>> = serde_json::from_value(document["generated_at"].clone()).ok();
    let since = now.zip(up).map(|(now, up)| now - TimeDelta::seconds(up));
    document["liveness"] = json!({
        "state": "live", "said": "the daemon is running", "pid": pid, "since": since, "heartbeat_at": now,
    });
}

/// How many checks of the document's health there are, and how many of them are not ok.
pub fn checks(health: &Value) -> (u32, u32) {
    let checks = health["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let not_ok = checks.iter().filter(|check| check["state"] != "ok").count();
    (checks.len() as u32, not_ok as u32)
}

/// A part that cannot be read is null, and the log says why.
fn known<T: serde::Serialize>(part: Result<T>) -> Value {
    match part {
        Ok(part) => json!(part),
        Err(error) => {
            tracing::debug!(code = error.code, "{error}");
            Value::Null
        }
    }
}

/// One session: usage, where it stands against the thresholds, what is archived.
pub fn session(row: &SessionRow, settings: &Settings, ports: &Ports) -> Value {
    let reading = &row.reading;
    let age = (ports.clock.now() - reading.captured_at).num_seconds().max(0);
    let stale = !reading.fresh || age as u64 > settings.watch.stale_after.as_secs();
    let shown = if reading.ratio().is_some() { reading } else { row.last_fresh.as_ref().unwrap_or(reading) };
    json!({
        "key": reading.session.key,
        "usage": SessionUsageSnapshot::from(shown),
        "stale": stale,
        "age_seconds": age,
        "running": reading.running,
        "model": reading.model,
        "phase": machine_of(row).phase,
        "open_cycle": row.open_cycle,
        "undistilled": row.undistilled,
        "prunes_since_rollover": row.prunes,
    })
}
