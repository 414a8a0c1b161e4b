//! What an archive is made of: records, segments, series.
//!
//! A *record* is one row or line of the host's transcript, byte for byte. A *segment* is a run of records stored as one
//! content-addressed file with its manifest. A *series* is the chain of segments of one transcript; when the host
//! rewrites what was already archived, a new series begins and the old one stays. Nothing here is ever modified.

use super::id::{SessionKey, Sha256};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One record of a transcript, exactly as the host stores it (without the newline that separates records).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the transcript, strictly growing, gaps allowed.
    pub seq: i64,
    pub bytes: Vec<u8>,
}

/// Where the bytes came from, precise enough to notice that it is not the same source any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// `openclaw-sqlite`, `openclaw-rpc` or `jsonl`.
    pub kind: String,
    /// Path or address, for people.
    pub location: String,
    pub device: Option<u64>,
    pub inode: Option<u64>,
    /// The host's store version, e.g. `23` for OpenClaw 2026.9.6.
    pub schema: Option<String>,
    /// Changes when the host rewrites a transcript in place (OpenClaw: the rewrite watermark).
    pub generation: Option<String>,
}

/// The kind of a source that shows messages written anew, not the host's own bytes.
pub const OPENCLAW_RPC: &str = "openclaw-rpc";

impl SourceIdentity {
    /// Whether the records are the host's own, byte for byte. What is not can be archived, but proves nothing.
    pub fn is_exact(&self) -> bool {
        self.kind != OPENCLAW_RPC
    }
}

/// One bounded read of a transcript.
#[derive(Clone, Debug)]
pub struct Page {
    pub records: Vec<Record>,
    /// More records follow the last one of this page.
    pub more: bool,
    pub source: SourceIdentity,
    /// Bytes after the last complete record: somebody is writing, or died while writing. Not archived yet.
    pub torn_bytes: u64,
    /// Changes when the host noticed, in this process, that a transcript is not the one it read before. Not kept anywhere; 0
    /// from a host whose `source.generation` says it.
    pub revision: u64,
}

/// A series of segments: one transcript of one session, as long as the host only appends to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    pub id: i64,
    pub session: SessionKey,
    pub session_id: String,
    /// 0 for the first; grows each time the host rewrote what had been archived.
    pub epoch: i64,
    /// Last archived position; -1 before the first record.
    pub last_seq: i64,
    /// Hash of the record at `last_seq`: the next read starts there and must see the same bytes.
    pub last_record: Option<Sha256>,
    pub records: i64,
    pub bytes: i64,
    /// Length of the Markdown projection that is accounted for; anything behind it is a torn write.
    pub projection_bytes: i64,
}

/// One stored segment, as its manifest (version 1) says. The manifest alone can rebuild the ledger's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub session_key: SessionKey,
    pub session_id: String,
    pub epoch: i64,
    /// 0-based position in the series.
    pub ordinal: i64,
    /// SHA-256 of the decoded bytes: every record followed by one newline.
    pub sha256: Sha256,
    /// SHA-256 of the previous segment's manifest file, so that a series cannot lose a link unnoticed.
    pub previous: Option<Sha256>,
    /// Decoded size, bytes.
    pub bytes: u64,
    pub records: u64,
    pub first_seq: i64,
    pub last_seq: i64,
    /// SHA-256 of the last record's bytes.
    pub last_record: Sha256,
    /// Inclusive runs of sequence numbers, in order: `[[0, 41], [43, 50]]`.
    pub seq_ranges: Vec<[i64; 2]>,
    /// Records that contain newlines themselves: `[record index, newlines inside]`. Empty for every JSON-lines source.
    pub multiline: Vec<[u64; 2]>,
    pub source: SourceIdentity,
    pub archived_at: DateTime<Utc>,
    /// What wrote it, e.g. `moon 0.1.0`.
    pub writer: String,
}

/// A segment as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub id: i64,
    pub series_id: i64,
    pub manifest: Manifest,
    /// SHA-256 of the manifest file.
    pub manifest_sha256: Sha256,
    /// Of the object, relative to the home.
    pub path: String,
    pub manifest_path: String,
    pub indexed_at: Option<DateTime<Utc>>,
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    Assistant,
    /// A tool's result.
    Tool,
    /// A summary that replaced earlier turns.
    Summary,
    /// Anything else that was in the context.
    System,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Summary => "summary",
            Self::System => "system",
        }
    }
}

/// A record as a reader sees it: the unit of projection, index and distillation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    pub seq: i64,
    pub at: Option<DateTime<Utc>>,
    pub role: Role,
    /// `user`, `assistant`, or the tool's name.
    pub speaker: String,
    /// Text, tool calls (`name {arguments}`) and tool results, in full.
    pub text: String,
}
