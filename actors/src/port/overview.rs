//! What the ledger says to screens and reports: histories, loads and the figures of a span of time.

use crate::domain::{SessionKey, Stage};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How full a session was over time. Cells are oldest first; each is the highest share of the window in it, the last known one goes
/// on until there is another, and `None` means that nothing was known yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageTrack {
    pub session: SessionKey,
    /// The last 24 hours, a quarter of an hour each.
    pub day: Vec<Option<f64>>,
    /// The last 90 days.
    pub quarter: Vec<Option<f64>>,
}

impl UsageTrack {
    pub const DAY_CELLS: usize = 96;
    pub const DAY_CELL_MINUTES: i64 = 15;
    pub const QUARTER_CELLS: usize = 90;
    pub const QUARTER_CELL_MINUTES: i64 = 24 * 60;
}

/// What lies before one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageLoad {
    pub stage: Stage,
    pub waiting: i64,
    pub claimed: i64,
    /// Of those that wait: tried before, in vain.
    pub failing: i64,
    /// Set aside.
    pub failed: i64,
    pub last_done: Option<DateTime<Utc>>,
}

/// An alert of the last days, firing or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAlert {
    pub rule: String,
    pub subject: String,
    pub severity: String,
    pub message: String,
    pub fired_at: DateTime<Utc>,
    pub resolved_at: Option<DateTime<Utc>>,
}

/// What happened between two moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Period {
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
    /// Of it, how long Moon has existed.
    pub known_secs: i64,
    /// Of it, how long a daemon was up or should have been: neither the time before the first one nor that after an orderly stop.
    #[serde(default)]
    pub observed_secs: i64,
    /// A daemon was up.
    pub up_secs: i64,
    /// Lives of a daemon that began in it, and those of all lives that did not end in order.
    pub starts: i64,
    pub unclean_ends: i64,
    /// Actors that crashed.
    pub crashes: i64,
    /// Looks at the health, each counted for every check, and those that were not ok.
    pub checks: i64,
    pub checks_not_ok: i64,
    pub alerts_critical: i64,
    pub alerts_warning: i64,
    pub alerts_info: i64,
    pub backups_done: i64,
    pub backups_failed: i64,
    pub sessions: i64,
    pub archived_segments: i64,
    pub archived_bytes: i64,
    pub prunes: i64,
    pub distillations: i64,
    pub rollovers: i64,
}
