//! How a person is told.

use crate::domain::{SessionKey, Stage};
use crate::error::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What makes two alerts the same: the rule and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    /// e.g. `index.failing`, `supervision.parked`, `continuity.unconfirmed`.
    pub rule: String,
    /// A session key, an actor's name or `moon`.
    pub subject: String,
}

impl AlertKey {
    pub fn new(rule: &str, subject: impl Into<String>) -> Self {
        Self { rule: rule.into(), subject: subject.into() }
    }
    /// Fires while a stage of a session cannot be done; the ledger ends it when the stage works again.
    pub fn failing(stage: Stage, session: &SessionKey) -> Self {
        Self::new(&format!("{}.failing", stage.as_str()), session.as_str())
    }
}

/// One alert instance, firing or resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub id: i64,
    pub key: AlertKey,
    pub severity: Severity,
    /// Operation, object and cause in one sentence.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    pub fired_at: DateTime<Utc>,
    pub resolved_at: Option<DateTime<Utc>>,
}

#[async_trait]
pub trait Notifier: Send + Sync {
    /// Route name, e.g. `log`.
    fn name(&self) -> &'static str;
    /// Delivers a firing (or, with `resolved_at`, resolved) alert. At least once; the id tells repeats apart.
    async fn deliver(&self, alert: &Alert) -> Result<()>;
}
