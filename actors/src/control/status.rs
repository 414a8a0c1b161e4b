//! The one status document: everything a screen, a script or a page shows, read from the ledger.

use crate::contract::SessionUsageSnapshot;
use crate::error::Result;
use crate::port::{Ports, SessionRow};
use crate::settings::Settings;
use crate::threshold::engine::machine_of;
use serde_json::{Value, json};

/// Builds it. Never fails because one part does: what cannot be read is named as such.
pub async fn document(ports: &Ports, settings: &Settings) -> Result<Value> {
    let ledger = &ports.ledger;
    let sessions: Vec<Value> = ledger.sessions().await?.iter().map(|row| session(row, settings, ports)).collect();
    let bridge = ports.bridge.status().await;
    let index = match ports.index.status().await {
        Ok(status) => json!(status),
        Err(error) => json!({ "error": error.to_string() }),
    };
    Ok(json!({
        "host": { "name": ports.host.name(), "description": ports.host.describe(), "capabilities": ports.host.capabilities() },
        "mode": settings.openclaw.mode,
        "bridge": { "alive": bridge.alive, "version": bridge.version, "detail": bridge.detail },
        "sessions": sessions,
        "totals": ledger.totals().await?,
        "alerts": ledger.alerts(true).await?,
        "backups": crate::backup::engine::document(ledger.as_ref()).await?,
        "jobs": ledger.jobs(true).await?,
        "index": index,
        "continuity": ledger.continuity(None, 3).await?,
    }))
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
