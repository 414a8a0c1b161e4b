//! A folder of `*.jsonl` transcripts as a session host: for agents Moon has no gateway to.
//!
//! Reading is all it can do. Every line is a record, byte for byte, whatever it holds; nothing is parsed on that way.
//! Usage is estimated from the text of the active context. The folder belongs to the agent: nothing is ever written,
//! renamed or locked in it, no link in it is followed, and no name from it is used as a path except the one the folder's
//! own listing gave.

mod context;
mod folder;
mod lines;
mod page;
mod watch;

#[cfg(test)]
mod tests;

use crate::adapters::clock::SystemClock;
use async_trait::async_trait;
use folder::Folder;
use moon_actors::contract::count;
use moon_actors::domain::{Capabilities, Page, SessionRef, UsageReading};
use moon_actors::port::{Clock, Compacted, Doorbell, SessionHost};
use moon_actors::settings::Settings;
use moon_actors::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use watch::FolderWatch;

/// Session keys of this host begin with this.
pub const KEY_PREFIX: &str = "transcripts:";

/// What the settings and the tests decide.
#[derive(Clone, Copy, Debug)]
struct Limits {
    window_tokens: u64,
    torn_tail_after: Duration,
    /// Longest line, bytes.
    max_line: u64,
    /// Bytes priced in one pass over the folder; the rest waits for the next pass and is not `fresh` till then.
    scan_budget: u64,
}

/// A folder of transcripts, read only.
pub struct TranscriptsHost {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    folder: Folder,
    watch: FolderWatch,
    bell: OnceLock<Doorbell>,
}

impl TranscriptsHost {
    /// Watches `folder`, which need not exist yet. Takes window, torn-tail delay and Moon's home from the settings.
    pub fn new(folder: PathBuf, settings: &Settings) -> Self {
        let limits = Limits {
            window_tokens: settings.watch.window_tokens,
            torn_tail_after: settings.archive.torn_tail_after,
            max_line: page::MAX_LINE,
            scan_budget: 512 << 20,
        };
        Self::with(folder, settings, limits, Arc::new(SystemClock::start()))
    }

    fn with(path: PathBuf, settings: &Settings, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let folder = Folder::new(path.clone(), limits, clock);
        let watch = FolderWatch::new(path.clone(), &settings.home.path);
        Self { inner: Arc::new(Inner { path, folder, watch, bell: OnceLock::new() }) }
    }

    /// The folder it reads.
    pub fn folder(&self) -> &Path {
        &self.inner.path
    }

    /// Runs blocking file work off the executor's threads.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|e| {
            Err(Error::transient("transcripts.interrupted", "reading the transcripts folder was cut off").cause(e))
        })
    }

    fn read_only(what: &str) -> Error {
        Error::unavailable("transcripts.read_only", format!("cannot {what}: a transcripts folder can only be read"))
            .hint("Moon archives, indexes and distils these sessions; only their own agent can reduce them")
    }
}

impl Inner {
    fn survey(&self) -> Result<Vec<UsageReading>> {
        // The watch dies with the folder and cannot begin before it: every pass is a chance to set it up again.
        if let Some(bell) = self.bell.get() {
            self.watch.ensure(bell);
        }
        self.folder.survey()
    }
}

#[async_trait]
impl SessionHost for TranscriptsHost {
    fn name(&self) -> &'static str {
        "transcripts"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { push: true, compact: false, reset: false, inject: false }
    }

    fn reduces(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        let inner = &self.inner;
        let watched = if inner.watch.is_on() { "watched" } else { "polled" };
        let known = inner.folder.known().map_or_else(String::new, |known| format!("{}, ", count(known, "session")));
        format!("transcripts folder {} ({known}{watched})", inner.path.display())
    }

    fn subscribe(&self, bell: Doorbell) {
        let bell = self.inner.bell.get_or_init(|| bell);
        self.inner.watch.ensure(bell);
    }

    /// There is nobody to ask here: the same as [`Self::refresh`], which only reads what grew.
    async fn readings(&self) -> Result<Vec<UsageReading>> {
        self.blocking(Inner::survey).await
    }

    async fn refresh(&self) -> Result<Vec<UsageReading>> {
        self.blocking(Inner::survey).await
    }

    async fn records(&self, session: &SessionRef, from: i64, max_bytes: usize) -> Result<Page> {
        let id = session.session_id.clone();
        self.blocking(move |inner| inner.folder.records(&id, from, max_bytes)).await
    }

    async fn compact(&self, _: &SessionRef) -> Result<Compacted> {
        Err(Self::read_only("compact"))
    }

    async fn reset(&self, _: &SessionRef) -> Result<String> {
        Err(Self::read_only("begin a new window"))
    }
}
