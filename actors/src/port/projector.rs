//! Files that show the ledger to people and scripts: never read back, rewritten when lost.

use crate::error::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How far a daemon's life is, in the words of the status file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonPhase {
    Starting,
    Running,
    Stopping,
    Stopped,
    Error,
}

#[async_trait]
pub trait Projector: Send + Sync {
    /// Brings `moon_state.json`, `archives/ledger.jsonl` and the audit log up to the ledger. A damaged or missing file is
    /// written anew. Returns one sentence for each file that had to be repaired.
    async fn refresh(&self) -> Result<Vec<String>>;
    /// Says in the status file how far this daemon is. A command that is no daemon never calls it and leaves that file alone.
    async fn phase(&self, _: DaemonPhase) -> Result<()> {
        Ok(())
    }
    /// How many health checks passed, for the status file.
    fn note_checks(&self, _passed: u32, _total: u32) {}
    /// True when there are files that [`Projector::show`] writes.
    fn has_screens(&self) -> bool {
        false
    }
    /// Writes the files that show the status document: the page and the metrics, where the settings name them.
    async fn show(&self, _document: &Value) -> Result<()> {
        Ok(())
    }
    /// Keeps a health report as a file of the day. Returns its path.
    async fn keep_report(&self, _report: &str, _figures: &Value) -> Result<String> {
        Ok(String::new())
    }
}
