//! Cycles, stages and jobs: the units of durable work.

use super::id::{CycleId, SessionKey, TraceId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The five stages, in the only order they ever run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Archive,
    Index,
    Prune,
    Distill,
    Continuity,
}

impl Stage {
    pub const ALL: [Self; 5] = [Self::Archive, Self::Index, Self::Prune, Self::Distill, Self::Continuity];
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Index => "index",
            Self::Prune => "prune",
            Self::Distill => "distill",
            Self::Continuity => "continuity",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// Why a cycle was opened; decides its stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CycleKind {
    /// A turn ended, or the host is about to reduce: archive and index what is new.
    Capture,
    /// 80 %: the same, as the plan's own trigger.
    Archive,
    /// 85 %.
    Prune,
    /// 90 %, or due by the rules on prunes: daily memory and rollover.
    Distill,
    /// A quiet session with undistilled records: daily memory without rollover.
    IdleDistill,
}

impl CycleKind {
    pub const ALL: [Self; 5] = [Self::Capture, Self::Archive, Self::Prune, Self::Distill, Self::IdleDistill];

    /// The stages of such a cycle. Every one begins with archive and index: nothing is reduced before it is findable.
    pub fn stages(self) -> &'static [Stage] {
        match self {
            Self::Capture | Self::Archive => &[Stage::Archive, Stage::Index],
            Self::Prune => &[Stage::Archive, Stage::Index, Stage::Prune],
            Self::Distill => &[Stage::Archive, Stage::Index, Stage::Distill, Stage::Continuity],
            Self::IdleDistill => &[Stage::Archive, Stage::Index, Stage::Distill],
        }
    }
    /// The stage after `stage`, if any.
    pub fn next(self, stage: Stage) -> Option<Stage> {
        let stages = self.stages();
        let at = stages.iter().position(|s| *s == stage)?;
        stages.get(at + 1).copied()
    }
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Archive => "archive",
            Self::Prune => "prune",
            Self::Distill => "distill",
            Self::IdleDistill => "idle_distill",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

/// What the threshold policy wants done, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    pub kind: CycleKind,
    /// One sentence for the audit, e.g. `usage 0.87 at or above 0.85`.
    pub reason: String,
    /// Usage when it fired, if known.
    pub ratio: Option<f64>,
}

/// One stage of one cycle, waiting, claimed or done in the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub cycle: CycleId,
    pub kind: CycleKind,
    pub stage: Stage,
    pub session: SessionKey,
    pub session_id: String,
    pub trace: TraceId,
    /// Times it was claimed, this one included; failures of the world are given back.
    pub attempt: u32,
    /// Failures of the world so far.
    pub failures: u32,
    /// How long ago it was queued.
    pub age: Duration,
    /// Usage when the cycle opened.
    pub ratio: Option<f64>,
    pub used_tokens: Option<u64>,
    /// The bridge is waiting for this archive before a compaction of the host's own; answered once archived.
    pub ack: Option<String>,
    /// What an earlier attempt wrote down before acting, so that this one can look before repeating.
    pub intent: Option<serde_json::Value>,
}

/// The right to finish a job. A late writer with an old token changes no row.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub job: Job,
    pub token: String,
}
