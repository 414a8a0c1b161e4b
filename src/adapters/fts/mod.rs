//! The embedded search index: SQLite FTS5 behind the core's [`SearchIndex`] port.
//!
//! Why: a projection of the archive that finds any archived word, in one file and one process, with a transaction per
//! segment, so that a killed daemon loses nothing that was reported as indexed. It is disposable: everything in it
//! can be put again from the archive. It must never be a source for anything that reduces a transcript, never show
//! transcript text in an error, and never let a user's character become FTS syntax.

pub mod bench;
mod chunk;
mod error;
mod query;
mod repair;
mod schema;
mod search;
mod stopword;
mod store;
#[cfg(test)]
mod tests;
mod text;
mod turn;
mod write;

use async_trait::async_trait;
use moon_actors::port::{Hits, IndexDoc, IndexStatus, Put, Query, SearchIndex, SegmentName};
use moon_actors::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use store::Store;

/// What this backend calls itself in answers.
const NAME: &str = "fts5";

/// The search index over one database file. Cheap to clone; all clones share one writer.
#[derive(Clone)]
pub struct FtsIndex {
    store: Arc<Store>,
}

impl FtsIndex {
    /// Opens or creates the index at `path` (file 0600, missing folders 0700), with chunks of up to `chunk_chars`
    /// characters (kept within 200..=20,000).
    ///
    /// It does not fail: archiving must go on without the index. A file that is damaged, foreign or of a newer schema makes
    /// every later call answer `data` `index.corrupt` until [`SearchIndex::clear`] has moved it aside; one that cannot be
    /// reached (`transient` `index.io`, `index.disk_full`, `index.busy`) is tried again by every later call. Blocking for
    /// some milliseconds, or for 5 s while another process holds the file.
    pub fn open(path: &Path, chunk_chars: usize) -> Self {
        Self { store: Arc::new(Store::open(path, chunk_chars.clamp(200, 20_000))) }
    }

    /// Opens the index for a command that only reads: nothing is made, moved or written, and a missing file is
    /// `unavailable` `index.missing` at every call. Fails as little as [`FtsIndex::open`].
    pub fn read_only(path: &Path) -> Self {
        Self { store: Arc::new(Store::read_only(path)) }
    }

    /// What is wrong inside the file, in sentences; reads all of it.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        self.blocking(|store| store.read("check the search index", schema::complaints)).await
    }

    /// Runs `work` on a thread that may block. A panic in it goes on here; a runtime that is ending is `index.io`.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T> + Send + 'static) -> Result<T> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(answer) => answer,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::transient("index.io", "the search index was interrupted by the shutdown")),
            },
        }
    }
}

#[async_trait]
impl SearchIndex for FtsIndex {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn put(&self, doc: IndexDoc) -> Result<Put> {
        self.blocking(move |store| {
            let chars = store.chunk_chars();
            store.write("add a segment to the search index", |connection| write::put(connection, &doc, chars))
        })
        .await
    }

    async fn contains(&self, name: &SegmentName) -> Result<bool> {
        let name = name.clone();
        self.blocking(move |store| {
            store.read("look a segment up in the search index", |connection| write::contains(connection, &name))
        })
        .await
    }

    async fn search(&self, query: &Query) -> Result<Hits> {
        if query.text.trim().is_empty() {
            return Err(Error::data("recall.empty_query", "cannot search for nothing").hint("give at least one word"));
        }
        let query = query.clone();
        self.blocking(move |store| store.read("search the index", |connection| search::search(connection, &query)))
            .await
    }

    async fn status(&self) -> Result<IndexStatus> {
        self.blocking(|store| {
            let bytes = store.bytes();
            store.read("count the search index", move |connection| search::status(connection, bytes))
        })
        .await
    }

    async fn missing(&self, expected: &[SegmentName]) -> Result<Vec<SegmentName>> {
        let expected = expected.to_vec();
        self.blocking(move |store| {
            store.read("compare the search index with the archive", |c| write::missing(c, &expected))
        })
        .await
    }

    async fn clear(&self) -> Result<()> {
        self.blocking(Store::clear).await
    }
}
