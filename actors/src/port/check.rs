//! What looks after the world: checks that look, and the hands that may put something right.

use super::{AlertKey, Severity};
use crate::domain::{Condition, Figure, Finding};
use crate::error::{Error, Result};
use crate::settings::Remedy as Act;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The actor that runs a check. One each for what is built in, one for all entries of a list in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckGroup {
    Daemon,
    Heartbeat,
    Ledger,
    Archive,
    Index,
    Host,
    Disk,
    Inodes,
    LogSize,
    Clock,
    Backup,
    Delivery,
    Restarts,
    Databases,
    Endpoints,
    Processes,
    Logs,
    Commands,
}

/// The rules of a check's alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertRules {
    pub warning: &'static str,
    pub critical: &'static str,
    /// What they are about, when the finding names nothing itself.
    pub subject: &'static str,
}

impl AlertRules {
    pub const fn both(rule: &'static str) -> Self {
        Self { warning: rule, critical: rule, subject: "" }
    }
    pub const fn moons(warning: &'static str, critical: &'static str) -> Self {
        Self { warning, critical, subject: "moon" }
    }
}

/// What a check is told when it looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// What it wanted to remember; null at first.
    pub memory: Value,
    /// A person waits for the answer: nothing is spared.
    pub is_asked: bool,
}

#[async_trait]
pub trait Check: Send + Sync {
    /// Unique among all checks; entries of the settings are `kind:name`.
    fn name(&self) -> &str;
    fn group(&self) -> CheckGroup;
    /// `None`: somebody else raises the alert for this.
    fn rules(&self) -> Option<AlertRules>;
    /// Longest time of a look, if it is not `health.timeout`.
    fn limit(&self) -> Option<Duration> {
        None
    }
    /// Looks and changes nothing. May be cut off at any await; what blocks must not hold one of the process's few threads.
    async fn look(&self, look: &Look) -> Finding;
}

/// An alert that a check has raised and not ended yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    pub key: AlertKey,
    pub severity: Severity,
}

/// What was done about one alert of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    pub key: AlertKey,
    pub attempts: u32,
    pub last_at: DateTime<Utc>,
    /// The alert has ended since then.
    pub quiet_since: Option<DateTime<Utc>>,
}

/// A check as it stands in the ledger: one row each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckRow {
    pub name: String,
    #[serde(rename = "state")]
    pub condition: Condition,
    pub reason: String,
    pub hint: Option<String>,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
    pub checked_at: DateTime<Utc>,
    pub took_ms: u64,
    pub figures: BTreeMap<String, Figure>,
    #[serde(skip)]
    pub kept: Kept,
}

/// The part of a row that only the checks themselves read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub raised: Vec<Raised>,
    pub episodes: Vec<Episode>,
    pub memory: Value,
}

/// Carries out what the settings allow, and nothing else.
#[async_trait]
pub trait Healer: Send + Sync {
    /// Restarts a service or runs a command. Returns what was done in one sentence.
    async fn heal(&self, act: &Act) -> Result<String>;
}

/// Heals nothing.
pub struct NoHealer;

#[async_trait]
impl Healer for NoHealer {
    async fn heal(&self, _: &Act) -> Result<String> {
        Err(Error::unavailable("health.no_healer", "this process may not put anything right"))
    }
}
