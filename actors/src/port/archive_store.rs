//! The archive on disk: content-addressed objects with manifests, and readable projections of them.

use crate::domain::{Manifest, Record, Segment, Series, SessionKey, Sha256, SourceIdentity};
use crate::error::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// A segment to be stored.
#[derive(Clone, Debug)]
pub struct SegmentDraft {
    pub session_key: SessionKey,
    pub session_id: String,
    pub epoch: i64,
    pub ordinal: i64,
    /// Hash of the previous segment's manifest file.
    pub previous: Option<Sha256>,
    /// Not empty, strictly growing `seq`.
    pub records: Vec<Record>,
    pub source: SourceIdentity,
    pub archived_at: DateTime<Utc>,
}

/// What the store did, after reading it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub manifest: Manifest,
    pub manifest_sha256: Sha256,
    /// Relative to the home.
    pub path: String,
    pub manifest_path: String,
}

#[async_trait]
pub trait ArchiveStore: Send + Sync {
    /// Writes object and manifest: temporary file, fsync, rename, fsync folder, then reads both back and compares the
    /// hash. When this returns, a power cut cannot lose them. Idempotent: the same draft gives the same files.
    /// Errors: `transient` `archive.disk_full`, `archive.io`; `data` `archive.verify` when what was read back differs.
    async fn put(&self, draft: SegmentDraft) -> Result<Stored>;

    /// Reads and decodes one segment, verifying its hash on the way. `data` `archive.corrupt` if it differs.
    async fn read(&self, segment: &Segment) -> Result<Vec<Record>>;

    /// Re-reads object and manifest from disk and compares both hashes.
    async fn verify(&self, segment: &Segment) -> Result<()>;

    /// Makes the Markdown projection of a series `keep_bytes` long (dropping a torn tail) and appends `text`, durably.
    /// Returns its new length. A missing or shorter file is `conflict` `archive.projection_lost`: rebuild it.
    async fn project(&self, series: &Series, keep_bytes: i64, text: &str) -> Result<i64>;

    /// Whether the projection of a series is there, and at least as long as accounted for.
    async fn is_projected(&self, series: &Series) -> Result<bool>;

    /// Where the projection of a series lies, relative to the home.
    fn projection_path(&self, series: &Series) -> String;

    /// Every manifest found on disk with its relative path, for `moon verify` and for rebuilding a ledger.
    async fn manifests(&self) -> Result<Vec<(String, Manifest)>>;

    /// Removes temporary files that a dead writer left. Returns how many. Only under the home's lock.
    async fn sweep(&self) -> Result<u64>;
}
