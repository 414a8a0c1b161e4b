//! The plan's records in their JSON shapes. What the plan names keeps its name; anything more is added behind.
//!
//! The fifth of the plan's records, `ContinuityMap`, is [`crate::domain::ContinuityMap`] itself.

use crate::domain::{Segment, UsageReading};
use crate::port::DistillationRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Usage of one session at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionUsageSnapshot {
    pub session_id: String,
    pub used_tokens: Option<u64>,
    pub max_tokens: Option<u64>,
    pub usage_ratio: Option<f64>,
    pub captured_at_epoch_secs: i64,
    pub provider: String,
    pub session_key: String,
    /// Whether the host vouches for the count now.
    pub fresh: bool,
}

impl From<&UsageReading> for SessionUsageSnapshot {
    fn from(reading: &UsageReading) -> Self {
        Self {
            session_id: reading.session.session_id.clone(),
            used_tokens: reading.used_tokens,
            max_tokens: reading.window_tokens,
            usage_ratio: reading.ratio(),
            captured_at_epoch_secs: reading.captured_at.timestamp(),
            provider: reading.provider.clone(),
            session_key: reading.session.key.to_string(),
            fresh: reading.fresh,
        }
    }
}

/// One archived segment; a line of `archives/ledger.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveRecord {
    pub session_id: String,
    pub source_path: String,
    pub archive_path: String,
    /// SHA-256 of the decoded bytes.
    pub content_hash: String,
    pub created_at_epoch_secs: i64,
    pub indexed_collection: String,
    pub indexed: bool,
    pub session_key: String,
    pub epoch: i64,
    pub first_seq: i64,
    pub last_seq: i64,
    pub manifest_path: String,
}

impl From<&Segment> for ArchiveRecord {
    fn from(segment: &Segment) -> Self {
        let m = &segment.manifest;
        Self {
            session_id: m.session_id.clone(),
            source_path: m.source.location.clone(),
            archive_path: segment.path.clone(),
            content_hash: m.sha256.to_string(),
            created_at_epoch_secs: m.archived_at.timestamp(),
            indexed_collection: "history".into(),
            indexed: segment.indexed_at.is_some(),
            session_key: m.session_key.to_string(),
            epoch: m.epoch,
            first_seq: m.first_seq,
            last_seq: m.last_seq,
            manifest_path: segment.manifest_path.clone(),
        }
    }
}

/// One distillation. `provider` names who really wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistillationRecord {
    pub session_id: String,
    pub archive_path: String,
    pub provider: String,
    pub summary_path: String,
    pub audit_log_path: String,
    pub created_at_epoch_secs: i64,
    pub session_key: String,
    pub from_seq: i64,
    pub to_seq: i64,
}

/// Where the audit is readable, relative to the home.
pub const AUDIT_LOG: &str = "skills/moon-system/logs/audit.log";

impl DistillationRecord {
    /// `archive_path`: the newest segment of what was distilled, relative to the home.
    pub fn new(row: &DistillationRow, archive_path: String) -> Self {
        Self {
            session_id: row.session_id.clone(),
            archive_path,
            provider: row.provider.clone(),
            summary_path: row.summary_path.clone(),
            audit_log_path: AUDIT_LOG.into(),
            created_at_epoch_secs: row.at.timestamp(),
            session_key: row.session.to_string(),
            from_seq: row.from_seq,
            to_seq: row.to_seq,
        }
    }
}

/// One passage found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecallMatch {
    /// Relative to the home.
    pub archive_path: String,
    pub snippet: String,
    /// Higher is better; comparable within one answer only.
    pub score: f64,
    /// `rank`, `session`, `session_id`, `seq`, `at`, `speaker`, `segment`.
    pub metadata: Value,
}

/// The answer to a query. No matches means: searched, found nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecallResult {
    pub query: String,
    pub matches: Vec<RecallMatch>,
    pub generated_at_epoch_secs: i64,
    pub backend: String,
    pub degraded: Option<String>,
    /// `[word nobody wrote, word searched instead]`
    pub repaired: Vec<(String, String)>,
}

/// `state/moon_state.json`: version 1 of the plan's keys, then more. A projection: nothing reads it back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MoonState {
    pub schema_version: u32,
    pub last_heartbeat_epoch_secs: i64,
    pub last_archive_trigger_epoch_secs: Option<i64>,
    pub last_prune_trigger_epoch_secs: Option<i64>,
    pub last_distill_trigger_epoch_secs: Option<i64>,
    pub last_session_id: Option<String>,
    pub last_usage_ratio: Option<f64>,
    pub last_provider: Option<String>,
    /// Per session key: usage, phase and the machine's gates.
    pub sessions: BTreeMap<String, Value>,
    /// Figures since the home was made.
    pub counters: Value,
}
