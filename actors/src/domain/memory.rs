//! What is kept of a session when its window is given up: distillate, references, continuity map.

use super::id::{SessionKey, Sha256};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Where in the archive a statement stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub segment: Sha256,
    pub seq: i64,
    pub at: Option<DateTime<Utc>>,
    pub speaker: String,
}

/// What a distiller looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    Decision,
    Rule,
    Milestone,
    OpenTask,
    Question,
    File,
}

impl ItemKind {
    pub const ALL: [Self; 6] =
        [Self::Decision, Self::Rule, Self::Milestone, Self::OpenTask, Self::Question, Self::File];
    pub fn heading(self) -> &'static str {
        match self {
            Self::Decision => "Decisions",
            Self::Rule => "Rules",
            Self::Milestone => "Milestones",
            Self::OpenTask => "Open tasks",
            Self::Question => "Open questions",
            Self::File => "Files touched",
        }
    }
}

/// One extracted statement with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub kind: ItemKind,
    pub text: String,
    pub reference: Reference,
    /// How plainly it was said, for choosing when not all fit: 20 is one clear phrase, 40 a label. 0 in older rows.
    #[serde(default)]
    pub salience: i32,
}

/// The result of a distillation. `provider` names who really wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distillate {
    pub provider: String,
    pub summary: Vec<String>,
    pub items: Vec<Item>,
}

impl Distillate {
    pub fn of(&self, kind: ItemKind) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |item| item.kind == kind)
    }
}

/// What the next window begins with (the plan's record, with its references made precise).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContinuityMap {
    pub source_session_id: String,
    pub target_session_id: String,
    pub session_key: SessionKey,
    /// Object paths relative to the home.
    pub archive_refs: Vec<String>,
    pub daily_memory_refs: Vec<String>,
    pub summary: Vec<String>,
    pub key_decisions: Vec<Item>,
    pub rules: Vec<Item>,
    pub open_tasks: Vec<Item>,
    #[serde(default)]
    pub open_questions: Vec<Item>,
    pub files: Vec<Item>,
    /// Queries that find the rest, for `moon recall`.
    pub recall_hints: Vec<String>,
    pub generated_at_epoch_secs: i64,
}
