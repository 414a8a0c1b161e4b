//! Whether Moon is away because somebody wanted it: a file that a deliberate stop leaves and a start takes away.
//!
//! Whoever brings Moon back by itself asks here first: a deliberate stop is never undone by anybody but a person. A crash leaves
//! no such file. What the file says is for people; that it is there is the fact.

use crate::home::Home;
use std::os::unix::fs::MetadataExt;

/// Notes that Moon shall stay away. Best effort while stopping: the stop itself matters more.
pub fn stopped(home: &Home, why: &str) {
    if !is_own(home) {
        // An administrator acts for the owner: a file of root's in the home would be in the owner's way.
        return;
    }
    let note = serde_json::json!({ "at": chrono::Utc::now().to_rfc3339(), "why": why });
    if let Err(error) = crate::durable::replace(&home.stopped_file(), format!("{note}\n").as_bytes()) {
        tracing::warn!(%error, "could not note that moon was stopped on purpose");
    }
}

fn is_own(home: &Home) -> bool {
    home.state_dir().metadata().is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
}

/// True while Moon shall stay away.
pub fn is_stopped(home: &Home) -> bool {
    home.stopped_file().exists()
}

/// Somebody wants Moon to run again.
pub fn clear(home: &Home) {
    if let Err(error) = crate::durable::remove(&home.stopped_file()) {
        tracing::warn!(%error, "could not take back the note that moon was stopped on purpose");
    }
}
