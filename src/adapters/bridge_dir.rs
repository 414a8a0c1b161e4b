//! Moon's side of the folder `<home>/bridge`, through which it talks with the plugin inside OpenClaw's gateway.
//!
//! The plugin (`deploy/openclaw/moon-bridge`) appends events to `events.jsonl`; Moon puts texts into slots, acknowledges
//! compactions and keeps a heartbeat. A folder instead of a connection, so that nothing is missed while one side is down.
//!
//! A position is `generation << 40 | offset`: the first line of a spool names its generation, and the plugin moves a full
//! spool aside as `events.1.jsonl` and begins the next generation. It does so at 8 MiB only once the file `consumed` says
//! that Moon reads in the present generation, so that nothing unread is dropped, and at 64 MiB in any case. Events may be
//! seen twice (a rotation under the writer's hand), so whatever they trigger must be safe to repeat.
//!
//! It must never build a path from foreign text (keys are hashed, ids checked), follow a symbolic link inside the folder,
//! or hold more than a few MiB at a time.

mod spool;

use crate::{durable, process};
use async_trait::async_trait;
use moon_actors::domain::{SessionKey, Sha256};
use moon_actors::port::{Bridge, BridgeEvent, BridgeStatus, Doorbell, Slot};
use moon_actors::{Error, Result};
use notify::{EventKind, RecursiveMode, Watcher};
use serde::Deserialize;
use serde_json::json;
use spool::Position;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest text a slot takes, bytes. The plugin refuses to read more.
pub const SLOT_LIMIT: usize = 256 * 1024;

/// A heartbeat counts for this long, or for three of the intervals last seen between two, whichever is longer.
const FRESH: Duration = Duration::from_mins(3);
/// Acknowledgements nobody picked up are swept after this long.
const ACK_STALE: Duration = Duration::from_mins(10);
/// Status and heartbeat files are a few dozen bytes; more than this is not ours.
const SMALL_FILE: u64 = 64 * 1024;
/// `consumed` is written anew when this many bytes have been dealt with since, or the generation changed.
const CONSUMED_STEP: u64 = 1 << 20;

/// The bridge as a folder. Cheap to clone.
#[derive(Clone)]
pub struct BridgeDir {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    watcher: Mutex<Option<notify::RecommendedWatcher>>,
    last_beat: Mutex<Option<Instant>>,
    told: Mutex<Option<Position>>,
}

/// The plugin's `status.json`. The times are milliseconds since 1970.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    version: String,
    pid: u32,
    stopped_at: Option<i64>,
    prompt_built_at: Option<i64>,
    unasked_at: Option<i64>,
}

impl Told {
    fn is_loaded(&self) -> bool {
        self.stopped_at.is_none() && process::lives(self.pid)
    }
}

/// Whether the gateway asks the plugin for Moon's texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Yes,
    /// Models were called, and it was not asked.
    Never,
    /// No model call has been seen.
    Unknown,
}

impl BridgeDir {
    /// Whether the plugin has been asked for texts since it was loaded; none if no running gateway has it.
    pub fn asked(&self) -> Option<Asked> {
        let told = self.inner.told_status().ok().flatten().filter(Told::is_loaded)?;
        Some(match (told.prompt_built_at, told.unasked_at) {
            (Some(_), _) => Asked::Yes,
            (None, Some(_)) => Asked::Never,
            (None, None) => Asked::Unknown,
        })
    }

    /// Opens `<home>/bridge`, making it and its folders (0700) if need be.
    /// Errors: what the file system says; nothing else is checked.
    pub fn open(home: &Path) -> io::Result<Self> {
        let root = home.join("bridge");
        prepare(&root)?;
        Ok(Self {
            inner: Arc::new(Inner {
                root,
                watcher: Mutex::new(None),
                last_beat: Mutex::new(None),
                told: Mutex::new(None),
            }),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failure(operation, &error)),
            Err(joined) if joined.is_panic() => std::panic::resume_unwind(joined.into_panic()),
            Err(_) => Err(Error::transient("bridge.stopped", format!("{operation}: the runtime is shutting down"))),
        }
    }
}

#[async_trait]
impl Bridge for BridgeDir {
    async fn status(&self) -> BridgeStatus {
        match self.blocking("read the bridge's status", |inner| Ok(inner.status())).await {
            Ok(status) => status,
            Err(error) => BridgeStatus { alive: false, version: None, detail: error.to_string() },
        }
    }

    fn subscribe(&self, bell: Doorbell) {
        let rings = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| concerns_the_spool(&event)) {
                bell();
            }
        };
        let watcher = notify::recommended_watcher(rings).and_then(|mut watcher| {
            watcher.watch(&self.inner.root, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => *locked(&self.inner.watcher) = Some(watcher),
            // Polling finds every event too, only later.
            Err(error) => {
                tracing::warn!(%error, "the bridge's folder cannot be watched; its events are found by polling");
            }
        }
    }

    async fn events(&self, position: u64) -> Result<(Vec<BridgeEvent>, u64)> {
        let position = Position::from_u64(position);
        let (events, next) = self
            .blocking("read the bridge's events", move |inner| {
                inner.tell_consumed(position);
                spool::read_after(&inner.root, position)
            })
            .await?;
        Ok((events, next.to_u64()))
    }

    async fn place(&self, session: &SessionKey, slot: Slot, text: &str) -> Result<Sha256> {
        if text.is_empty() || text.len() > SLOT_LIMIT {
            let message = format!("place a text of {} bytes into the {} slot", text.len(), slot_name(slot));
            return Err(Error::data("bridge.slot_size", message)
                .cause(format!("a slot takes 1 to {SLOT_LIMIT} bytes"))
                .hint("lower continuity.max_chars or recall.max_inject_chars"));
        }
        let (file, text) = (self.inner.slot_file(session, slot), text.to_owned());
        let hash = Sha256::of(text.as_bytes());
        self.blocking("place a text into a slot of the bridge", move |inner| {
            prepare(&inner.root)?;
            if slot == Slot::Summary && locked(&inner.last_beat).is_none() {
                // The plugin takes a summary from a living Moon only, and a single pass has no heart that beats.
                inner.write_beat(FRESH, false)?;
            }
            durable::replace(&file, text.as_bytes())
        })
        .await?;
        Ok(hash)
    }

    async fn placed(&self, session: &SessionKey, slot: Slot) -> Result<Option<String>> {
        let file = self.inner.slot_file(session, slot);
        self.blocking("read a slot of the bridge", move |_| read_text(&file, SLOT_LIMIT as u64)).await
    }

    async fn clear(&self, session: &SessionKey, slot: Slot) -> Result<()> {
        let file = self.inner.slot_file(session, slot);
        self.blocking("empty a slot of the bridge", move |_| durable::remove(&file).map(drop)).await
    }

    async fn acknowledge(&self, id: &str) -> Result<()> {
        if !spool::is_event_id(id) {
            return Err(Error::data("bridge.bad_id", "acknowledge a compaction: the event's id has an unknown form"));
        }
        let id = id.to_owned();
        self.blocking("acknowledge a compaction", move |inner| {
            let acks = inner.root.join("acks");
            durable::create_folder(&acks)?;
            sweep_acks(&acks);
            durable::replace(&acks.join(id), b"ok\n")
        })
        .await
    }

    async fn heartbeat(&self) -> Result<()> {
        self.blocking("write the heartbeat for the bridge", Inner::beat).await
    }
}

impl Inner {
    fn slot_file(&self, session: &SessionKey, slot: Slot) -> PathBuf {
        let hash = Sha256::of(session.as_str().as_bytes());
        self.root.join("slots").join(slot_name(slot)).join(format!("{hash}.md"))
    }

    fn status(&self) -> BridgeStatus {
        let down = |detail: String| BridgeStatus { alive: false, version: None, detail };
        let told = match self.told_status() {
            Ok(Some(told)) => told,
            Ok(None) => return down("no gateway has loaded the plugin yet".into()),
            Err(why) => return down(why),
        };
        let (version, pid) = (&told.version, told.pid);
        let detail = match (told.stopped_at, process::lives(pid)) {
            (Some(_), _) => {
                format!("plugin {version} was unloaded by the gateway with process id {pid}, in good order")
            }
            (None, false) => format!("plugin {version} was loaded by process {pid}, which is gone"),
            (None, true) => format!("plugin {version} in the gateway with process id {pid}"),
        };
        BridgeStatus { alive: told.is_loaded(), version: Some(told.version), detail }
    }

    /// What the plugin says of itself; none before it was loaded for the first time.
    fn told_status(&self) -> std::result::Result<Option<Told>, String> {
        match read_text(&self.root.join("status.json"), SMALL_FILE) {
            Ok(None) => Ok(None),
            Ok(Some(text)) => {
                serde_json::from_str(&text).map(Some).map_err(|_| "the plugin's status file is damaged".to_owned())
            }
            Err(error) => Err(format!("the plugin's status cannot be read: {error}")),
        }
    }

    fn beat(&self) -> io::Result<()> {
        let now = Instant::now();
        let since = locked(&self.last_beat).replace(now).map_or(Duration::ZERO, |last| now - last);
        prepare(&self.root)?;
        self.write_beat(FRESH.max(since.saturating_mul(3)), true)
    }

    /// `answers`: compactions are acknowledged, so that the plugin may wait for it.
    fn write_beat(&self, fresh: Duration, answers: bool) -> io::Result<()> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let beat = json!({"pid": std::process::id(), "at": millis(at), "freshMs": millis(fresh), "answers": answers});
        durable::replace(&self.root.join("daemon.json"), format!("{beat}\n").as_bytes())
    }

    /// Lets the plugin reuse the space of what Moon has dealt with. Only a hint: its failure costs disk, not events.
    fn tell_consumed(&self, position: Position) {
        let mut told = locked(&self.told);
        let is_news = match *told {
            None => position.generation > 0,
            Some(last) => {
                last.generation != position.generation || position.offset.abs_diff(last.offset) >= CONSUMED_STEP
            }
        };
        if !is_news {
            return;
        }
        let text = format!("{}\n", json!({"generation": position.generation, "offset": position.offset}));
        match durable::replace(&self.root.join("consumed"), text.as_bytes()) {
            Ok(()) => *told = Some(position),
            Err(error) => tracing::warn!(%error, "the position in the bridge's spool could not be written"),
        }
    }
}

/// Empties every slot of every session in `home`. Returns how many texts there were; `dry_run` only counts them.
pub fn empty_slots(home: &Path, dry_run: bool) -> io::Result<usize> {
    let mut texts = 0;
    for slot in [Slot::Context, Slot::Summary, Slot::Passage] {
        let folder = home.join("bridge").join("slots").join(slot_name(slot));
        if !std::fs::symlink_metadata(&folder).is_ok_and(|meta| meta.is_dir()) {
            continue;
        }
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                continue;
            }
            texts += 1;
            if !dry_run {
                durable::remove(&entry.path())?;
            }
        }
    }
    Ok(texts)
}

fn prepare(root: &Path) -> io::Result<()> {
    durable::create_folder(root)?;
    durable::create_folder(&root.join("acks"))?;
    for slot in [Slot::Context, Slot::Summary, Slot::Passage] {
        durable::create_folder(&root.join("slots").join(slot_name(slot)))?;
    }
    Ok(())
}

const fn slot_name(slot: Slot) -> &'static str {
    match slot {
        Slot::Context => "context",
        Slot::Summary => "summary",
        Slot::Passage => "passage",
    }
}

/// Reading the spool makes events too; ringing for those would never end.
fn concerns_the_spool(event: &notify::Event) -> bool {
    let changes = matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any);
    changes
        && event
            .paths
            .iter()
            .any(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events.")))
}

fn sweep_acks(acks: &Path) {
    let Ok(entries) = std::fs::read_dir(acks) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > ACK_STALE) {
            // Best effort: it is tried again with the next acknowledgement.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Opens a regular file for reading without following a link; none if it is missing.
fn open_plain(path: &Path) -> io::Result<Option<File>> {
    let flags = i32::try_from((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits())
        .expect("open flags fit an int, that is their C type");
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(Some(file))
}

fn read_text(path: &Path, limit: u64) -> io::Result<Option<String>> {
    let Some(file) = open_plain(path)? else { return Ok(None) };
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(Some(text))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A panic elsewhere does not make these values wrong: each is replaced whole.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(operation: &str, error: &io::Error) -> Error {
    let failed = match error.kind() {
        _ if durable::is_full(error) => Error::transient("bridge.full", operation).hint("free space on Moon's disk"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::config("bridge.denied", operation)
                .hint("let Moon and the gateway run as the same user, who owns Moon's home")
        }
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory => {
            Error::data("bridge.damaged", operation).hint("look into the folder `bridge` in Moon's home")
        }
        _ => Error::transient("bridge.io", operation),
    };
    failed.cause(error)
}

#[cfg(test)]
mod tests;
