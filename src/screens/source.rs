//! Where the status document comes from, and what is known of the daemon when it does not answer.
//!
//! The held lock says whether one lives; the status file says how it ended and when its heart last beat. A screen that waits for a
//! daemon that hangs would hang itself, so an answer has a few seconds.

use crate::adapters::no_host::NoHost;
use crate::daemon::lock::{Holder, HomeLock};
use crate::daemon::{ports, socket};
use crate::home::Home;
use crate::service::wish;
use chrono::{DateTime, Utc};
use moon_actors::contract::Request;
use moon_actors::control::engine::{Commands, OwnHands};
use moon_actors::settings::Settings;
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a daemon.
const PATIENCE: Duration = Duration::from_secs(3);
/// Largest status file that is read.
const FILE_MAX: u64 = 64 << 10;

/// The document, from the daemon if it answers, else from what the ledger holds. A home without a ledger gives an empty one; it is
/// an error only when a ledger cannot be read.
pub async fn document(home: &Home, settings: &Settings) -> Result<Value> {
    home.refuse_unsafe()?;
    let answer = match home.exists() {
        true => socket::ask_within(home, &Request::Status, PATIENCE).await,
        false => Ok(None),
    };
    let mut document = match answer {
        Ok(Some(report)) if report.error.is_none() => report.data,
        // Whatever it was: what the ledger says is shown, and that the daemon did not answer.
        _ => stored(home, settings).await?,
    };
    if document["liveness"]["state"] != "live" {
        document["liveness"] = liveness(home);
    }
    document["home"] = json!(home.root().display().to_string());
    document["daemon"] = json!(HomeLock::holder(home));
    Ok(document)
}

/// What is kept, read beside whoever writes.
async fn stored(home: &Home, settings: &Settings) -> Result<Value> {
    let host = Arc::new(NoHost::not_needed());
    let Some((ports, _)) = ports::open_read_only(home, settings, host)? else { return Ok(empty(home, settings)) };
    let wiring = ports::alone(ports, settings.clone());
    let hands = Arc::new(OwnHands { wiring: wiring.clone() });
    let report = Commands { wiring, hands }.answer(Request::Status).await;
    report.error.map_or(Ok(report.data), Err)
}

/// The document of a home in which nothing ever happened.
fn empty(home: &Home, settings: &Settings) -> Value {
    let free = crate::adapters::room::free(home.root());
    json!({
        "generated_at": Utc::now(), "moon": env!("CARGO_PKG_VERSION"), "liveness": null, "sessions": [], "alerts": [],
        "mode": settings.openclaw.mode,
        "bridge": { "alive": false, "version": null, "detail": "no gateway has loaded the plugin yet" },
        "jobs": [], "totals": null, "resources": { "disk_free_bytes": free }, "health": null, "backups": null,
        "pipeline": null, "chores": null, "usage_history": null, "recent_alerts": null, "tree": null, "empty": true,
    })
}

/// What is known of a daemon that does not answer.
pub fn liveness(home: &Home) -> Value {
    let file = status_file(home);
    let stamp = |value: &Value| value.as_i64().and_then(|secs| DateTime::<Utc>::from_timestamp(secs, 0));
    let (at, beat) = (stamp(&file["timestamp_epoch_secs"]), stamp(&file["details"]["last_heartbeat_epoch_secs"]));
    let status = file["status"].as_str().unwrap_or_default();
    // The file may be older than the wish: a restore puts the file back, and keeps the wish.
    let stop = wish::stop(home);
    let said = |state: &str, said: &str, holder: Option<&Holder>| {
        let started = holder.and_then(|h| DateTime::<Utc>::from_timestamp(h.started_at_epoch_secs, 0));
        let since = if state == "stopped" { stop.as_ref().and_then(|stop| stop.at).or(at) } else { started };
        json!({
            "state": state, "said": said, "pid": holder.map(|h| h.pid), "since": since, "heartbeat_at": beat.or(at),
            "heartbeat_interval": file["heartbeat_interval"],
        })
    };
    match HomeLock::holder(home) {
        Some(holder) if holder.what == "daemon" && status == "starting" => {
            said("stale", "the daemon is starting and does not answer yet", Some(&holder))
        }
        Some(holder) if holder.what == "daemon" => said("stale", "the daemon does not answer", Some(&holder)),
        Some(holder) => said("busy", &format!("`moon {}` holds the home", holder.what), Some(&holder)),
        None => match (status, &stop) {
            (_, Some(stop)) => said("stopped", &stop.in_words(), None),
            ("stopped", _) => said("stopped", "stopped in order", None),
            ("error", _) => said("dead", "the daemon gave up", None),
            ("starting" | "running" | "stopping", _) => {
                said("dead", "the daemon is dead: it ended without a word", None)
            }
            _ => said("never_started", "never started in this home", None),
        },
    }
}

fn status_file(home: &Home) -> Value {
    let mut text = String::new();
    let read = crate::durable::open_regular(&home.status_file())
        .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text).map(drop));
    read.ok().and_then(|()| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// The dashboard's JSON, in the words of the operations document, with the whole document behind them.
pub fn dashboard(document: Value) -> Value {
    let (r, live) = (&document["resources"], &document["liveness"]);
    let now: Option<DateTime<Utc>> = serde_json::from_value(document["generated_at"].clone()).ok();
    let since: Option<DateTime<Utc>> = serde_json::from_value(live["since"].clone()).ok();
    let state = live["state"].as_str().unwrap_or("never_started");
    let up = now.zip(since).filter(|_| state == "live").map(|(now, since)| (now - since).num_seconds().max(0));
    let status = match state {
        "live" => "running",
        "stale" => "not_answering",
        "dead" => "error",
        "never_started" => "never_started",
        _ => "stopped",
    };
    let checks = document["health"]["checks"].as_array();
    let mail = checks.into_iter().flatten().find(|check| check["name"].as_str().is_some_and(|n| n.contains("mail")));
    let used = || Some(r["disk_total_bytes"].as_u64()?.saturating_sub(r["disk_free_bytes"].as_u64()?));
    let newest = &document["backups"]["newest"];
    json!({
        "daemon": {
            "status": status, "pid": live["pid"], "uptime": up, "heartbeat": live["heartbeat_at"],
            "heartbeat_interval": crate::adapters::projections::HEARTBEAT.as_secs(),
        },
        "memory": { "databases": r["databases"], "size": r["database_bytes"] },
        "email": {
            "status": mail.map_or(Value::Null, |check| check["state"].clone()),
            "last_check": mail.map_or(Value::Null, |check| check["checked_at"].clone()),
        },
        "system": {
            "disk_available": r["disk_free_bytes"], "disk_used": used(), "log_files": r["log_files"],
            "log_size": r["log_bytes"], "recent_alerts": document["recent_alerts"].as_array().map(Vec::len),
        },
        "backup": { "latest": newest["id"], "size": newest["bytes"] },
        "timestamp": document["generated_at"],
        "status": document,
    })
}

/// Why a screen cannot be made of this document.
pub fn unreadable(e: impl std::fmt::Display) -> Error {
    Error::data("dashboard.unreadable", "could not make the page").cause(e).hint("report it with `moon status --json`")
}
