//! The one error of the core: what is audited, alerted and printed.
//!
//! Engines meet the outside world only through ports, and every port answers with this type, so that
//! a worker can decide what to do from [`Kind`] alone and a person reads operation, object, cause and
//! next step. It must never carry a secret or transcript text: errors travel into logs, the audit and alerts.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a worker does about an error. A bug has no kind: it panics and the supervisor reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Timeout, busy, disk full, connection lost: retried with growing pauses.
    Transient,
    /// A party is not there or cannot do it: retried slowly, shown as degraded.
    Unavailable,
    /// A setting or permission is wrong: retried slowly, needs a person.
    Config,
    /// The input itself cannot be handled (unreadable transcript, hash mismatch): told at once, retried slowly.
    Data,
    /// Already done, held by somebody else, or changed meanwhile: look again.
    Conflict,
}

/// An operating error: operation and object in `message`, then cause and next step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Stable name, `stage.reason`, listed in `docs/failure_policy.md`.
    pub code: String,
    pub kind: Kind,
    pub message: String,
    pub cause: Option<String>,
    pub hint: Option<String>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), kind, message: message.into(), cause: None, hint: None }
    }
    pub fn transient(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Transient, code, message)
    }
    pub fn unavailable(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, code, message)
    }
    pub fn config(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Config, code, message)
    }
    pub fn data(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Data, code, message)
    }
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, code, message)
    }
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// One line with the hint in it, for where there is only one.
    pub fn in_full(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{self} ({hint})"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Error {
    /// One line: message and cause. The hint is printed by whoever talks to a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
