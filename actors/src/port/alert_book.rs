//! What the ledger knows of alerts beyond their firing: what each route is owed, what became of it, who said what about it.
//!
//! The notice is written in the transaction of its cause; everything after that is settled here, one transaction a method, so that
//! a restart between any two of them loses nothing. Ages are measured by the steady clock, and never below zero.

use super::{Alert, AlertKey, Digest, Severity};
use crate::error::{Error, Result};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The route that keeps a record of everything and is not a person.
pub const LOG_ROUTE: &str = "log";

/// What an instance gives to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Firing,
    /// Nobody acknowledged it in time.
    Escalated,
    Resolved,
}

impl Phase {
    pub const ALL: [Self; 3] = [Self::Firing, Self::Escalated, Self::Resolved];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Escalated => "escalated",
            Self::Resolved => "resolved",
        }
    }
}

/// What became of a notice at a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Delivered by itself.
    Sent,
    /// Written into the record as held back.
    Noted,
    /// One of those a digest stands for.
    Digested,
    /// Not for this route, or of no use any more.
    Dropped,
    /// Given up: the route refuses it.
    Failed,
}

impl Fate {
    pub const ALL: [Self; 5] = [Self::Sent, Self::Noted, Self::Digested, Self::Dropped, Self::Failed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Noted => "noted",
            Self::Digested => "digested",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// A notice that a route has no delivery of, with what decides about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    pub notice: i64,
    pub phase: Phase,
    pub made_at: DateTime<Utc>,
    /// The instance as it is now.
    pub alert: Alert,
    /// What became of the firing notice at this route; `None` while that is owed itself, and for a firing one.
    pub firing: Option<Fate>,
    /// How long ago this route was sent a firing notice of the same rule and subject that was at least as severe.
    pub last_told: Option<Duration>,
    pub is_silenced: bool,
    pub is_acknowledged: bool,
    /// False when the route has no use for such notices.
    pub is_wanted: bool,
}

/// What a route is owed, a page of it, and what it was sent lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    pub route: String,
    /// Oldest first.
    pub owed: Vec<Owed>,
    pub has_more: bool,
    /// Ages of what was sent by itself within the last hour.
    pub sent: Vec<Duration>,
    /// Failures in a row, and how long the pause after the last one goes on.
    pub failures: u32,
    pub paused: Duration,
    /// The notice whose delivery failed last. It may have arrived all the same, so nothing else becomes of it.
    pub under_way: Option<i64>,
}

/// The notices held back so far, and when the last such digest went out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Digests {
    /// Age of the one that still takes notices, and how long it waits for more.
    pub open: Option<(Duration, Duration)>,
    /// The one on its way: it takes no more.
    pub closed: Option<Digest>,
    pub last_sent: Option<Duration>,
}

/// A notice that goes into the open digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub notice: i64,
    pub severity: Severity,
    pub made_at: DateTime<Utc>,
    pub line: String,
    pub why: &'static str,
    /// The digest goes out at most this long after it was opened, as soon as one may.
    pub patience: Duration,
}

/// What is decided about notices without telling anybody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settlement {
    pub digest: Vec<Entry>,
    pub drop: Vec<(i64, &'static str)>,
}

/// What went to a route, or did not.
#[derive(Clone, Debug, PartialEq)]
pub enum Parcel {
    Notice { id: i64, fate: Fate, why: Option<&'static str> },
    Digest { id: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    pub at: DateTime<Utc>,
    pub by: String,
    pub note: Option<String>,
}

/// An instance with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertRow {
    #[serde(flatten)]
    pub alert: Alert,
    pub acknowledged: Option<Acknowledgement>,
    pub escalated_at: Option<DateTime<Utc>>,
    /// The silence that holds it back now.
    pub silenced_by: Option<i64>,
    /// The instance that took over when it became worse.
    pub superseded_by: Option<i64>,
}

/// A condition that has not lasted long enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingAlert {
    pub key: AlertKey,
    pub severity: Severity,
    pub message: String,
    pub hint: Option<String>,
    pub since: DateTime<Utc>,
    pub patience_secs: u64,
}

/// What became of one notice at one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRow {
    pub phase: Phase,
    pub made_at: DateTime<Utc>,
    pub route: String,
    /// `None`: it is owed.
    pub fate: Option<Fate>,
    /// When that was; of a digest that has gone out, when it did.
    pub at: Option<DateTime<Utc>>,
    pub why: Option<String>,
    /// It is owed, and a silence holds it back.
    #[serde(default)]
    pub is_silenced: bool,
    /// The digest that stands for it.
    pub digest: Option<String>,
    /// That digest has not gone out yet.
    #[serde(default)]
    pub is_held: bool,
    /// It goes out then; later if the route fails. `None`: its route is no more.
    #[serde(default)]
    pub held_until: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSilence {
    /// Globs: `*` any text, `?` any character.
    pub rule: String,
    pub subject: String,
    pub until: DateTime<Utc>,
    pub reason: String,
    pub by: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub id: i64,
    #[serde(flatten)]
    pub what: NewSilence,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub ended_by: Option<String>,
}

/// How a route has done lately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteRow {
    pub name: String,
    pub failures: u32,
    pub failing_since: Option<DateTime<Utc>>,
    pub last_error: Option<Error>,
    pub told_at: Option<DateTime<Utc>>,
    /// Notices waiting, and those that a digest stands for which has not gone out.
    pub owed: u64,
    pub held: u64,
    /// Notices that a silence holds back; they are not among those that wait.
    #[serde(default)]
    pub silenced: u64,
    /// When that digest goes out, as far as is known now.
    #[serde(default)]
    pub digest_at: Option<DateTime<Utc>>,
}

#[async_trait]
pub trait AlertBook: Send + Sync {
    // ---- instances --------------------------------------------------------------------------------------------------
    /// What time does to alerts: pending ones that lasted fire, critical ones nobody acknowledged escalate (not with a span of
    /// nothing), silences end. Returns how many notices that made.
    async fn tend_alerts(&self, escalate_after: Duration) -> Result<u64>;
    /// Newest first; `before`: only instances with a lower id.
    async fn alert_rows(&self, firing_only: bool, before: Option<i64>, limit: usize) -> Result<Vec<AlertRow>>;
    async fn alert_row(&self, id: i64) -> Result<Option<AlertRow>>;
    async fn pending_alerts(&self) -> Result<Vec<PendingAlert>>;
    /// What became of an instance's notices, by every route that is known.
    async fn alert_deliveries(&self, id: i64) -> Result<Vec<DeliveryRow>>;
    /// Somebody knows: it is not escalated. Audited. `None` when it does not fire.
    async fn acknowledge(&self, id: i64, by: &str, note: Option<&str>) -> Result<Option<AlertRow>>;
    /// Audited.
    async fn silence(&self, silence: &NewSilence) -> Result<Silence>;
    /// Ends a silence before its time. Audited. `None` when there is none with that id that is in force.
    async fn unsilence(&self, id: i64, by: &str) -> Result<Option<Silence>>;
    async fn silences(&self, all: bool) -> Result<Vec<Silence>>;

    // ---- what routes are owed ---------------------------------------------------------------------------------------
    /// Makes these the routes there are. A new one is owed what fires now, nothing older; a pause that a dead process left ends.
    async fn open_routes(&self, names: &[String]) -> Result<()>;
    async fn routes(&self) -> Result<Vec<RouteRow>>;
    /// The number of the newest notice: when it is the same as before, nothing new is owed to anybody.
    async fn newest_notice(&self) -> Result<i64>;
    /// What the route is owed behind the notice `after`, and what it was told as far back as `horizon`.
    async fn book(&self, route: &str, after: i64, limit: usize, horizon: Duration) -> Result<Book>;
    async fn settle(&self, route: &str, settlement: &Settlement) -> Result<()>;
    async fn digests(&self, route: &str) -> Result<Digests>;
    /// Lets the open digest take no more: from now on it says the same at every attempt.
    async fn close_digest(&self, route: &str) -> Result<Option<Digest>>;
    /// False once somebody has settled it.
    async fn is_owed(&self, route: &str, parcel: &Parcel) -> Result<bool>;
    /// It has arrived. Ends the alert about the route, if there is one.
    async fn told(&self, route: &str, parcel: &Parcel) -> Result<()>;
    /// It has not. Counts the failure. Given up, it is never tried again.
    async fn not_told(&self, route: &str, parcel: &Parcel, failure: &Failure) -> Result<()>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub error: Error,
    pub is_given_up: bool,
    /// The route is left alone for this long.
    pub pause: Duration,
    /// What the alert about the route says, if it is time for one. It goes to the other routes.
    pub alarm: Option<String>,
}
