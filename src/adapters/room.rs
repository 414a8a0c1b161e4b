//! Refuses to fill the disk to its last byte: what is left belongs to the ledger.
//!
//! The archive and the index are the ones that grow. Were they to take the last block, the ledger could not write down that
//! anything is wrong, and nobody would be told. So both stop a little earlier, with the same error that a full disk gives.

use async_trait::async_trait;
use moon_actors::domain::{Manifest, Record, Segment, Series};
use moon_actors::port::{
    ArchiveStore, Hits, IndexDoc, IndexStatus, Put, Query, SearchIndex, SegmentDraft, SegmentName, Stored,
};
use moon_actors::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Left free for the ledger and the small files beside it, bytes.
const KEPT: u64 = 4 << 20;

/// Bytes that Moon may still write on the disk of `path`; `None` when the system cannot say.
pub fn free(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// An archive or an index that leaves room for the ledger.
pub struct LeavesRoom<T: ?Sized> {
    inner: Arc<T>,
    home: PathBuf,
}

impl<T: ?Sized> LeavesRoom<T> {
    pub fn new(inner: Arc<T>, home: &Path) -> Self {
        Self { inner, home: home.to_owned() }
    }

    fn check(&self, code: &str, bytes: u64) -> Result<()> {
        if free(&self.home).is_none_or(|free| free >= bytes.saturating_add(KEPT)) {
            return Ok(());
        }
        Err(Error::transient(code, format!("no room for {bytes} bytes more in Moon's home"))
            .cause("no space left on the disk; the last of it is kept for the ledger")
            .hint("free space on the disk of the home; Moon goes on by itself"))
    }
}

#[async_trait]
impl<T: ArchiveStore + ?Sized> ArchiveStore for LeavesRoom<T> {
    async fn put(&self, draft: SegmentDraft) -> Result<Stored> {
        // Uncompressed: an upper bound.
        self.check("archive.disk_full", draft.records.iter().map(|r| r.bytes.len() as u64 + 1).sum())?;
        self.inner.put(draft).await
    }
    async fn read(&self, segment: &Segment) -> Result<Vec<Record>> {
        self.inner.read(segment).await
    }
    async fn verify(&self, segment: &Segment) -> Result<()> {
        self.inner.verify(segment).await
    }
    async fn project(&self, series: &Series, keep_bytes: i64, text: &str) -> Result<i64> {
        self.check("archive.disk_full", text.len() as u64)?;
        self.inner.project(series, keep_bytes, text).await
    }
    async fn is_projected(&self, series: &Series) -> Result<bool> {
        self.inner.is_projected(series).await
    }
    fn projection_path(&self, series: &Series) -> String {
        self.inner.projection_path(series)
    }
    async fn manifests(&self) -> Result<Vec<(String, Manifest)>> {
        self.inner.manifests().await
    }
    async fn sweep(&self) -> Result<u64> {
        self.inner.sweep().await
    }
}

#[async_trait]
impl<T: SearchIndex + ?Sized> SearchIndex for LeavesRoom<T> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    async fn put(&self, doc: IndexDoc) -> Result<Put> {
        // Text, its words and the log of both.
        self.check("index.disk_full", 3 * doc.turns.iter().map(|turn| turn.text.len() as u64).sum::<u64>())?;
        self.inner.put(doc).await
    }
    async fn contains(&self, name: &SegmentName) -> Result<bool> {
        self.inner.contains(name).await
    }
    async fn search(&self, query: &Query) -> Result<Hits> {
        self.inner.search(query).await
    }
    async fn status(&self) -> Result<IndexStatus> {
        self.inner.status().await
    }
    async fn missing(&self, expected: &[SegmentName]) -> Result<Vec<SegmentName>> {
        self.inner.missing(expected).await
    }
    async fn clear(&self) -> Result<()> {
        self.inner.clear().await
    }
}
