//! Work that is done at times of the calendar: backups, drills, rotation, reports.
//!
//! Each task is an actor of its own, so that a hung backup delays no report. When a task ran is in the ledger: a run missed while the
//! machine slept or Moon was down is made up once, a run cut off by a crash is begun again, and none is ever doubled.

pub mod actor;
pub mod engine;
pub mod policy;

use crate::contract::Report;
use crate::error::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// What is done by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A backup of the home and of the user's folders.
    Backup,
    /// The newest backup, restored into an empty place and compared.
    Drill,
    /// Log files put aside, compressed, removed.
    Rotation,
    /// The weekly health report.
    Report,
}

impl Task {
    pub const ALL: [Self; 4] = [Self::Backup, Self::Drill, Self::Rotation, Self::Report];

    /// The actor's name, and the row's in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Drill => "drill",
            Self::Rotation => "rotation",
            Self::Report => "report",
        }
    }
}

/// How a run of a task ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What was done, in one sentence, or why it was not.
    pub said: Result<String>,
    /// More for whoever asked for it, where the ledger does not hold it.
    pub told: Option<Report>,
}

impl From<Result<String>> for Ran {
    fn from(said: Result<String>) -> Self {
        Self { said, told: None }
    }
}

/// One task: when, and what is done then. Its future may be dropped at any await, and it may be run again for the same time.
#[async_trait]
pub trait Chore: Send + Sync {
    fn task(&self) -> Task;
    /// A cron expression in local time; empty: only when asked for.
    fn times(&self) -> &str;
    /// Does it.
    async fn run(&self) -> Ran;
}
