//! What a check found, and what is remembered of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// How something is. Ordered from good to bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    #[default]
    Ok,
    /// It could not be looked at.
    Unknown,
    Warning,
    Critical,
}

impl Condition {
    pub const ALL: [Self; 4] = [Self::Ok, Self::Unknown, Self::Warning, Self::Critical];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|condition| condition.as_str() == text)
    }
}

/// A measured value with what it is measured against.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub value: f64,
    /// `B`, `%`, `s`, `c` (a counter) or empty.
    pub unit: String,
    pub warning: Option<f64>,
    pub critical: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// The limits are floors: less is worse.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub below: bool,
}

impl Figure {
    pub fn new(value: f64, unit: &str) -> Self {
        Self { value, unit: unit.into(), min: Some(0.0), ..Self::default() }
    }
    /// Worse from these values on.
    #[must_use]
    pub fn above(self, warning: Option<f64>, critical: Option<f64>) -> Self {
        Self { warning, critical, ..self }
    }
    /// Worse below these values.
    #[must_use]
    pub fn floor(self, warning: Option<f64>, critical: Option<f64>) -> Self {
        Self { warning, critical, below: true, ..self }
    }
    #[must_use]
    pub fn max(self, max: f64) -> Self {
        Self { max: Some(max), ..self }
    }
}

/// One thing wrong, when a check looks at several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What is meant: a path, an actor.
    pub subject: String,
    pub condition: Condition,
    pub reason: String,
    /// The alert's rule, if it is not the check's own.
    pub rule: Option<&'static str>,
}

/// What one look gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    pub condition: Condition,
    /// One sentence for people.
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
    pub figures: BTreeMap<String, Figure>,
    /// One alert each; empty: the check itself is the one.
    pub troubles: Vec<Trouble>,
    /// What the check wants to know at its next look, also in another life of the process. `None`: as before.
    pub memory: Option<Value>,
}

impl Finding {
    pub fn new(condition: Condition, reason: impl Into<String>) -> Self {
        Self { condition, reason: reason.into(), ..Self::default() }
    }
    pub fn ok(reason: impl Into<String>) -> Self {
        Self::new(Condition::Ok, reason)
    }
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::new(Condition::Unknown, reason)
    }
    pub fn warning(reason: impl Into<String>) -> Self {
        Self::new(Condition::Warning, reason)
    }
    pub fn critical(reason: impl Into<String>) -> Self {
        Self::new(Condition::Critical, reason)
    }
    /// The worst of several troubles, or fine.
    pub fn of(troubles: Vec<Trouble>, fine: impl Into<String>) -> Self {
        let Some(worst) = troubles.iter().map(|t| t.condition).max() else { return Self::ok(fine) };
        let told: Vec<&str> = troubles.iter().filter(|t| t.condition == worst).map(|t| t.reason.as_str()).collect();
        let more = troubles.len() - told.len().min(3);
        let mut reason = told[..told.len().min(3)].join("; ");
        if more > 0 {
            reason.push_str(&format!("; and {more} more"));
        }
        Self { troubles, ..Self::new(worst, reason) }
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = (self.condition != Condition::Ok).then(|| hint.into());
        self
    }
    #[must_use]
    pub fn figure(mut self, name: &str, figure: Figure) -> Self {
        self.figures.insert(name.into(), figure);
        self
    }
    #[must_use]
    pub fn memory(mut self, memory: Value) -> Self {
        self.memory = Some(memory);
        self
    }
}
