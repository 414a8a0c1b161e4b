//! What can be asked of Moon, by socket or in-process, and how it answers.
//!
//! One enum serves the socket, the command line and tests. Unknown fields are ignored, unknown requests are refused by name.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Reverse;

/// Version of the protocol on the socket; a change that old clients cannot read raises it.
pub const PROTOCOL: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Everything one screen shows.
    Status,
    /// The supervision tree. Needs a daemon.
    Tree,
    Sessions,
    /// Archive and index what is new now.
    Snapshot {
        session: Option<String>,
    },
    /// Index what is not indexed; with `rebuild`, all of it anew.
    Index {
        rebuild: bool,
    },
    Recall {
        query: String,
        session: Option<String>,
        /// RFC 3339.
        since: Option<chrono::DateTime<chrono::Utc>>,
        limit: usize,
        /// Session whose next model call gets the match number `pick`.
        inject: Option<String>,
        pick: usize,
    },
    /// Distil what is archived and not yet distilled, without rollover.
    Distill {
        session: Option<String>,
    },
    Continuity {
        session: Option<String>,
        limit: usize,
    },
    /// What the checks found; with `now`, what they find now. No names: all of them.
    Health {
        #[serde(default)]
        checks: Vec<String>,
        #[serde(default)]
        now: bool,
    },
    /// Forget what a check remembers, and look again. Needs a daemon.
    AcceptHealth {
        check: String,
    },
    /// Make a backup now, prove it, and remove what is over.
    Backup,
    /// What backups there are.
    Backups,
    /// Restore one into an empty place and compare: the one with this id, `all`, or the newest.
    VerifyBackup {
        id: Option<String>,
    },
    /// Restore the newest backup of every target again.
    Drill,
    /// Remove the backups whose time is over, or say which.
    PruneBackups {
        dry_run: bool,
    },
    /// Let waiting jobs run now.
    Hurry,
    /// Answered when the root of the tree and the ledger have answered: whoever asks with a deadline knows that Moon is alive.
    Ping,
    /// Restart an actor; revives a parked one. Needs a daemon.
    Restart {
        actor: String,
    },
    /// Put aside, compress and remove log files now; with `dry_run`, only say which.
    RotateLogs {
        dry_run: bool,
    },
    /// Anything about alerts.
    Alerts {
        alerts: super::AlertsRequest,
    },
    /// Read the settings anew and run on with them; refused as long as they are wrong. Needs a daemon.
    Reload,
    /// The health report of the last days; with `keep`, the one of the last week, written where the calendar's is.
    Report {
        days: u32,
        #[serde(default)]
        keep: bool,
    },
    /// Stop the daemon.
    Stop,
}

/// The one shape of every command's answer (the plan's `command, ok, details, issues`, and typed data).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub command: String,
    /// False: it ran and found something wrong. Exit code 2.
    pub ok: bool,
    /// Sentences for people.
    pub details: Vec<String>,
    /// What is wrong, with what to do.
    pub issues: Vec<Issue>,
    #[serde(default)]
    pub data: Value,
    /// Set when the command could not be done at all. Exit code 1, or 3 and 4 by its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// `1 session`, `2 sessions`.
pub fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(0);
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The name somebody probably meant, or none: as compilers do it, one with at most a third of its letters mistyped, and of names that
/// are made of words of each word. A swap of two letters is one mistake.
pub fn nearest<'c>(wrong: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let wrong = wrong.to_lowercase();
    let scored = candidates.into_iter().filter_map(|candidate| Some((mistakes(&wrong, candidate)?, candidate)));
    // Of several alike the longest: it has the most in common.
    scored.min_by_key(|(mistakes, candidate)| (*mistakes, Reverse(candidate.len()))).map(|(_, candidate)| candidate)
}

/// How many there are in `wrong` if `candidate` was meant. `None`: it was not.
fn mistakes(wrong: &str, candidate: &str) -> Option<usize> {
    // `archive_ratio` and `poll_interval_secs` of earlier plans: the word itself is the nearest name.
    if wrong.strip_prefix(candidate).is_some_and(|rest| rest.starts_with(['_', '-'])) {
        return Some(0);
    }
    let candidate = candidate.to_lowercase();
    let near = |wrong: &str, meant: &str| {
        let distance = strsim::osa_distance(wrong, meant);
        (distance <= wrong.chars().count().max(3) / 3).then_some(distance)
    };
    let words = |name: &str| name.split(['.', '_', '-']).map(str::to_owned).collect::<Vec<_>>();
    let (words, meant) = (words(wrong), words(&candidate));
    if words.len() == meant.len() && !words.iter().zip(&meant).all(|(word, meant)| near(word, meant).is_some()) {
        return None;
    }
    near(wrong, &candidate)
}

/// One thing that is not in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// Stable name, as in errors; absent for a plain remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<Error> for Issue {
    fn from(error: Error) -> Self {
        Self { code: Some(error.code), message: error.message, cause: error.cause, hint: error.hint }
    }
}
impl From<String> for Issue {
    fn from(message: String) -> Self {
        Self { code: None, message, cause: None, hint: None }
    }
}
impl From<&str> for Issue {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl Report {
    pub fn new(command: &str) -> Self {
        Self { command: command.into(), ok: true, details: vec![], issues: vec![], data: Value::Null, error: None }
    }
    #[must_use]
    pub fn detail(mut self, sentence: impl Into<String>) -> Self {
        self.details.push(sentence.into());
        self
    }
    #[must_use]
    pub fn data(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
    pub fn issue(&mut self, issue: impl Into<Issue>) {
        self.ok = false;
        self.issues.push(issue.into());
    }
    pub fn failed(command: &str, error: Error) -> Self {
        Self { ok: false, issues: vec![error.clone().into()], error: Some(error), ..Self::new(command) }
    }
}
