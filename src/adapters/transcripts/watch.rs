//! Rings the doorbell when the operating system says that a transcript changed.
//!
//! A hint only: events get lost, are merged, or never come (network file systems), and polling finds what they missed.
//! Never watches Moon's own folders, where every archived segment would ring the bell that archives segments.

use moon_actors::port::Doorbell;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) struct FolderWatch {
    folder: PathBuf,
    home: PathBuf,
    active: Mutex<Option<Active>>,
}

struct Active {
    /// Dropping it ends the watch.
    _watcher: RecommendedWatcher,
    /// Which folder it was: the same path may name another one later.
    identity: (u64, u64),
}

impl FolderWatch {
    pub(super) fn new(folder: PathBuf, home: &str) -> Self {
        Self { folder, home: expand(home), active: Mutex::new(None) }
    }

    pub(super) fn is_on(&self) -> bool {
        self.lock().is_some()
    }

    /// Watches the folder unless it is being watched already. Failure is silent but for a log line: there is polling.
    pub(super) fn ensure(&self, bell: &Doorbell) {
        let Ok(metadata) = std::fs::metadata(&self.folder) else {
            *self.lock() = None;
            return;
        };
        let identity = (metadata.dev(), metadata.ino());
        if self.lock().as_ref().is_some_and(|active| active.identity == identity) || self.is_own() {
            return;
        }
        let started = start(&self.folder, bell.clone());
        if let Err(error) = &started {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot watch the transcripts folder; polling it");
        }
        *self.lock() = started.ok().map(|watcher| Active { _watcher: watcher, identity });
    }

    fn is_own(&self) -> bool {
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        !self.home.as_os_str().is_empty() && real(&self.folder).starts_with(real(&self.home))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(folder: &Path, bell: Doorbell) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error may mean lost events: have a look.
        if event.map_or(true, |event| matters(&event)) {
            bell();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Moon's own reading opens and closes these files; only changes may ring, or it would wake itself for ever.
fn matters(event: &Event) -> bool {
    let change = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    };
    let transcript = |path: &PathBuf| path.extension().is_some_and(|e| e == "jsonl");
    change && (event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(transcript))
}

/// A leading `~` is the user's home.
fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, ModifyKind};

    #[test]
    fn reading_does_not_ring_and_writing_does() {
        let event = |kind, name: &str| Event::new(kind).add_path(PathBuf::from(name));
        assert!(!matters(&event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/t/a.jsonl")));
        assert!(!matters(&event(EventKind::Access(AccessKind::Close(AccessMode::Read)), "/t/a.jsonl")));
        assert!(matters(&event(EventKind::Modify(ModifyKind::Any), "/t/a.jsonl")));
        assert!(matters(&event(EventKind::Create(CreateKind::File), "/t/a.jsonl")));
        assert!(!matters(&event(EventKind::Modify(ModifyKind::Any), "/t/notes.txt")));
    }
}
