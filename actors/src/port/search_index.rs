//! The search index: a disposable projection of the archive. Losing it loses nothing.

use crate::domain::{Manifest, SessionKey, Sha256, Turn};
use crate::error::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Which segment is meant: equal bytes in two transcripts are two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SegmentName {
    pub segment: Sha256,
    pub session: SessionKey,
    pub session_id: String,
    pub epoch: i64,
    pub ordinal: i64,
}

impl From<&Manifest> for SegmentName {
    fn from(manifest: &Manifest) -> Self {
        Self {
            segment: manifest.sha256.clone(),
            session: manifest.session_key.clone(),
            session_id: manifest.session_id.clone(),
            epoch: manifest.epoch,
            ordinal: manifest.ordinal,
        }
    }
}

/// One archived segment, as turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexDoc {
    pub name: SegmentName,
    pub turns: Vec<Turn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    New,
    /// The same segment of the same session is there already.
    Unchanged,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    pub text: String,
    /// Sessions, not passages.
    pub limit: usize,
    pub session: Option<SessionKey>,
    pub since: Option<DateTime<Utc>>,
}

/// A turn that matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnHit {
    pub segment: Sha256,
    pub seq: i64,
    pub at: Option<DateTime<Utc>>,
    pub speaker: String,
    pub text: String,
    pub score: f64,
}

/// A session that matches, with its best turns, best first. A "session" is one transcript id of one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    pub session: SessionKey,
    pub session_id: String,
    /// Higher is better; comparable within one answer only.
    pub score: f64,
    pub turns: Vec<TurnHit>,
}

/// An answer. Empty `hits` means "searched, found nothing".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hits {
    pub hits: Vec<Hit>,
    pub backend: String,
    /// Why the answer may be incomplete, e.g. `rebuilding`.
    pub degraded: Option<String>,
    /// Words that no text holds and what was searched instead.
    pub repaired: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexStatus {
    pub backend: String,
    pub segments: u64,
    pub chunks: u64,
    pub bytes: u64,
}

#[async_trait]
pub trait SearchIndex: Send + Sync {
    /// `fts5`.
    fn name(&self) -> &'static str;

    /// Adds one segment in one transaction; searchable when it returns. Idempotent by its name.
    /// Errors: `transient` `index.busy`, `index.disk_full`, `index.io`; `data` `index.corrupt`; `unavailable` `index.missing` when it
    /// was opened for reading and is not there.
    async fn put(&self, doc: IndexDoc) -> Result<Put>;

    /// Confirms by lookup that the segment is in the index.
    async fn contains(&self, name: &SegmentName) -> Result<bool>;

    async fn search(&self, query: &Query) -> Result<Hits>;

    async fn status(&self) -> Result<IndexStatus>;

    /// Which of the expected segments are missing.
    async fn missing(&self, expected: &[SegmentName]) -> Result<Vec<SegmentName>>;

    /// Starts from nothing: moves a file that cannot be used aside (kept), or empties a healthy one.
    async fn clear(&self) -> Result<()>;
}
