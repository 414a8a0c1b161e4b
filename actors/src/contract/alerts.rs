//! What can be asked about alerts.

use crate::port::{NewSilence, Severity};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum AlertsRequest {
    /// What fires, what is pending, and how the routes do.
    List,
    /// One instance, with what became of each of its notices.
    Show {
        id: i64,
    },
    /// All instances, newest first.
    History {
        before: Option<i64>,
        limit: usize,
    },
    /// Somebody knows of it.
    Ack {
        id: i64,
        by: String,
        note: Option<String>,
    },
    Silence(NewSilence),
    Unsilence {
        id: i64,
        by: String,
    },
    Silences {
        all: bool,
    },
    /// Sends a notice by one route or by all, past the ledger.
    Test {
        route: Option<String>,
        severity: Severity,
    },
    /// Puts an alert on the one path, as a part of Moon would.
    Raise {
        rule: String,
        subject: String,
        severity: Option<Severity>,
        message: String,
        hint: Option<String>,
    },
    Resolve {
        rule: String,
        subject: String,
    },
}

impl AlertsRequest {
    /// The verb as reports name it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::List => "alerts list",
            Self::Show { .. } => "alerts show",
            Self::History { .. } => "alerts history",
            Self::Ack { .. } => "alerts ack",
            Self::Silence(_) => "alerts silence",
            Self::Unsilence { .. } => "alerts unsilence",
            Self::Silences { .. } => "alerts silences",
            Self::Test { .. } => "alerts test",
            Self::Raise { .. } => "alerts raise",
            Self::Resolve { .. } => "alerts resolve",
        }
    }
    /// Whether it only reads what is kept.
    pub const fn only_reads(&self) -> bool {
        matches!(self, Self::List | Self::Show { .. } | Self::History { .. } | Self::Silences { .. })
    }
}
