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

/// Several notices that a route was not sent one by one, because it had been told enough within the hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The same for every attempt at delivering it.
    pub id: String,
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
    /// How many notices it stands for.
    pub count: u64,
    pub worst: Severity,
    /// One line each, the worst first; at most as many as a person reads.
    pub lines: Vec<String>,
}

/// What a route is given to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Fires, or with `resolved_at` has ended.
    Alert(Alert),
    /// It has fired for a while and nobody has said that they know.
    Escalation(Alert),
    Digest(Digest),
}

impl Notice {
    /// The same for every attempt at delivering it, different for any two notices: receivers tell repeats apart by it.
    pub fn id(&self) -> String {
        match self {
            Self::Alert(alert) if alert.resolved_at.is_some() => format!("alert-{}-resolved", alert.id),
            Self::Alert(alert) => format!("alert-{}-firing", alert.id),
            Self::Escalation(alert) => format!("alert-{}-escalated", alert.id),
            Self::Digest(digest) => format!("digest-{}", digest.id),
        }
    }
    pub fn severity(&self) -> Severity {
        match self {
            Self::Alert(alert) | Self::Escalation(alert) => alert.severity,
            Self::Digest(digest) => digest.worst,
        }
    }
}

/// Held while one notice is handed over and recorded.
pub type Turn = Box<dyn std::any::Any + Send>;

#[async_trait]
pub trait Notifier: Send + Sync {
    /// The route's own name, unique among all routes, e.g. `log`, `email`, `ops-chat`.
    fn name(&self) -> &str;
    /// Takes a notice to people. At least once; its id tells repeats apart. `transient` and `unavailable` errors are tried again,
    /// others are given up on for this notice.
    async fn deliver(&self, notice: &Notice) -> Result<()>;
    /// Whether the route has a use for such a notice. One that it has none for costs nothing of what it may send within an hour.
    fn wants(&self, _notice: &Notice) -> bool {
        true
    }
    /// The least severity that it has a use for.
    fn least(&self) -> Severity {
        Severity::Info
    }
    /// True for a record that is no person: it is given each notice one by one, and those that are held back by [`Notifier::note`].
    fn is_record(&self) -> bool {
        false
    }
    /// Waits until no other process hands anything to this route. `None`: none could, or one has kept the turn for too long: what is told
    /// twice is better than what is never told.
    async fn turn(&self) -> Option<Turn> {
        None
    }
    /// Writes down a notice that people are not sent now, and why.
    async fn note(&self, _notice: &Notice, _why: &str) -> Result<()> {
        Ok(())
    }
}
