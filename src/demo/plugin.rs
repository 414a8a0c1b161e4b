//! Plays the plugin's part in the demo: says that it is loaded, and spools what went into a model call.

use crate::durable;
use moon_actors::domain::{SessionKey, Sha256};
use moon_actors::port::Slot;
use moon_actors::{Error, Result};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(super) struct DemoPlugin {
    spool: PathBuf,
}

impl DemoPlugin {
    /// Announces itself in the home's bridge folder, as the real plugin does when a gateway loads it.
    pub(super) fn load(home: &Path) -> Result<Self> {
        let folder = home.join("bridge");
        let status =
            json!({ "version": "demo", "pid": std::process::id(), "startedAt": chrono::Utc::now().timestamp_millis() });
        durable::create_folder(&folder).map_err(failed)?;
        durable::replace(&folder.join("status.json"), status.to_string().as_bytes()).map_err(failed)?;
        let plugin = Self { spool: folder.join("events.jsonl") };
        plugin.append(&json!({ "v": 1, "generation": 1 }).to_string())?;
        Ok(plugin)
    }

    /// A model call was built: with a text of Moon's in it, or without any.
    pub(super) fn built(&self, session: &SessionKey, injected: Option<&(Slot, Sha256)>) -> Result<()> {
        let mut event = json!({
            "v": 1, "id": uuid::Uuid::new_v4().to_string(), "ts": chrono::Utc::now().timestamp_millis(),
            "pid": std::process::id(), "hook": "not_injected", "sessionKey": session,
        });
        if let Some((slot, sha256)) = injected {
            event["hook"] = "injected".into();
            event["slot"] = (if *slot == Slot::Context { "context" } else { "passage" }).into();
            event["sha256"] = json!(sha256);
        }
        self.append(&event.to_string())
    }

    fn append(&self, line: &str) -> Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.spool).map_err(failed)?;
        file.write_all(format!("{line}\n").as_bytes()).map_err(failed)
    }
}

fn failed(e: std::io::Error) -> Error {
    Error::transient("demo.io", "could not play the plugin's part in the demo").cause(e)
}
