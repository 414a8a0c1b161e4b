//! The transcripts of one folder: which there are, how full each is, and one page of one of them.
//!
//! Blocking. A pass over the folder costs one `stat` per file and reads only what grew; memory is bounded whatever the
//! number and size of the files. A file that cannot be read never hides the others. It must never follow a link, open
//! anything but a regular file, or trust a length for longer than one read.

use super::context::ActiveContext;
use super::lines::{BUFFER, LineIndex, Stamp};
use super::page::{self, Plan};
use super::{KEY_PREFIX, Limits};
use chrono::{DateTime, TimeDelta, Utc};
use moon_actors::domain::{Page, SessionKey, SessionRef, Sha256, SourceIdentity, UsageReading};
use moon_actors::port::Clock;
use moon_actors::{Error, Result};
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files whose line index and context stay in memory; the reading alone is kept of older ones.
const MAX_TRACKED: usize = 256;
/// Longest line that is looked into for its price, bytes; longer ones are priced by their length.
const MAX_PARSED: u64 = 16 << 20;
const SUFFIX: &str = ".jsonl";

pub(super) struct Folder {
    path: PathBuf,
    limits: Limits,
    clock: Arc<dyn Clock>,
    files: Mutex<HashMap<String, Arc<Mutex<Tracked>>>>,
    is_surveyed: AtomicBool,
}

/// One transcript file.
struct Tracked {
    path: PathBuf,
    lines: LineIndex,
    context: ActiveContext,
    /// Offset up to which `context` has seen the file, in this life of `lines`.
    priced: u64,
    priced_life: u64,
    known: Option<Known>,
    /// How the file looked when it was last seen changed, and when that was (steady time).
    quiet: Option<(Stamp, DateTime<Utc>)>,
}

/// The result of the last complete pricing.
#[derive(Clone)]
struct Known {
    stamp: Stamp,
    tokens: u64,
    resets: u64,
    model: Option<String>,
    /// The file ends within a line, which is not priced.
    torn: bool,
}

/// A regular transcript file as the listing shows it.
struct Found {
    id: String,
    path: PathBuf,
    stamp: Stamp,
}

/// One look at a file: open, measured, and what is to be read of it.
struct Look {
    path: PathBuf,
    file: File,
    stamp: Stamp,
    plan: Plan,
    torn: u64,
    life: u64,
}

impl Look {
    /// What was read is what the file held when it was measured. Only an append is harmless, and not even that to a last
    /// line without its end.
    fn confirm(&self, tracked: &Tracked) -> Result<()> {
        let now = stamp_of(&self.file, &self.path)?;
        if now == self.stamp {
            return Ok(());
        }
        let appended = now.length > self.stamp.length && tracked.lines.life == self.life && !self.plan.open_end;
        let fits = appended && tracked.lines.still_fits(&self.file).unwrap_or(false);
        if fits { Ok(()) } else { Err(page::changed(&self.path)) }
    }
}

impl Folder {
    pub(super) fn new(path: PathBuf, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { path, limits, clock, files: Mutex::default(), is_surveyed: AtomicBool::new(false) }
    }

    /// How many transcripts the last pass has seen; `None` before the first.
    pub(super) fn known(&self) -> Option<usize> {
        self.is_surveyed.load(Ordering::Relaxed).then(|| lock(&self.files).len())
    }

    /// A reading of every transcript, in the order of their keys.
    /// Errors: `unavailable` `transcripts.not_found`, `config` `transcripts.denied`, `transient` `transcripts.io`.
    pub(super) fn survey(&self) -> Result<Vec<UsageReading>> {
        let mut found = self.sync()?;
        self.is_surveyed.store(true, Ordering::Relaxed);
        found.sort_by_key(|f| std::cmp::Reverse(f.stamp.modified));
        let mut budget = self.limits.scan_budget;
        let mut readings = Vec::with_capacity(found.len());
        for (rank, file) in found.iter().enumerate() {
            let Some(tracked) = self.tracked(&file.id) else { continue };
            let mut tracked = lock(&tracked);
            tracked.note(file.stamp, self.clock.steady());
            let fresh = match tracked.price(file.stamp, &mut budget) {
                Ok(complete) => complete,
                Err(error) => {
                    tracing::warn!(%error, "a transcript cannot be priced");
                    false
                }
            };
            readings.push(self.reading(file, &tracked, fresh));
            if rank >= MAX_TRACKED {
                tracked.slim();
            }
        }
        readings.sort_by(|a, b| a.session.key.cmp(&b.session.key));
        Ok(readings)
    }

    /// One page of one transcript. `from` counts lines from 0; anything below is the start.
    pub(super) fn records(&self, id: &str, from: i64, max_bytes: usize) -> Result<Page> {
        let tracked = match self.tracked(id) {
            Some(tracked) => tracked,
            None => {
                self.sync()?;
                self.tracked(id).ok_or_else(|| unknown(id))?
            }
        };
        let look = self.look(&mut lock(&tracked), from, max_bytes)?;
        let read = page::read(&look.file, &look.path, &look.plan);
        let mut tracked = lock(&tracked);
        let read = look.confirm(&tracked).and(read);
        if read.as_ref().is_err_and(|e| e.code == "transcripts.changed") {
            tracked.lines.forget();
        }
        let (records, more) = read?;
        Ok(Page { records, more, source: source(&look.path, &look.stamp), torn_bytes: look.torn, revision: look.life })
    }

    /// Opens the file and decides what to read of it.
    fn look(&self, tracked: &mut Tracked, from: i64, max_bytes: usize) -> Result<Look> {
        let path = tracked.path.clone();
        let file = open(&path)?;
        let stamp = stamp_of(&file, &path)?;
        let (plan, torn) = self.plan(tracked, &file, stamp, from, max_bytes)?;
        Ok(Look { path, file, stamp, plan, torn, life: tracked.lines.life })
    }

    fn plan(
        &self,
        tracked: &mut Tracked,
        file: &File,
        stamp: Stamp,
        from: i64,
        max_bytes: usize,
    ) -> Result<(Plan, u64)> {
        tracked.note(stamp, self.clock.steady());
        tracked.lines.follow(file, stamp).map_err(|e| page::read_failed(&tracked.path, e))?;
        let torn = tracked.lines.scanned - tracked.lines.complete;
        let open_end = torn > 0 && self.is_settled(tracked, &stamp);
        let from = u64::try_from(from).unwrap_or(0);
        let plan = Plan {
            start: tracked.lines.before(from),
            from,
            lines: tracked.lines.count + u64::from(open_end),
            end: if open_end { tracked.lines.scanned } else { tracked.lines.complete },
            open_end,
            max_bytes: max_bytes as u64,
            max_line: self.limits.max_line,
        };
        Ok((plan, if open_end { 0 } else { torn }))
    }

    /// Nobody has touched the file for long enough: its last line will not be finished any more. Either its own time
    /// says so (a new process knows nothing else) or this process watched it that long (its time may lie ahead).
    fn is_settled(&self, tracked: &Tracked, stamp: &Stamp) -> bool {
        let Ok(after) = TimeDelta::from_std(self.limits.torn_tail_after) else { return false };
        let by_time = self.clock.now() - stamp.modified >= after;
        let watched = tracked.quiet.is_some_and(|(_, since)| self.clock.steady() - since >= after);
        by_time || watched
    }

    /// Lists the folder and makes the table of files agree with it.
    fn sync(&self) -> Result<Vec<Found>> {
        let found = list(&self.path)?;
        let mut files = lock(&self.files);
        let mut kept = HashMap::with_capacity(found.len());
        for file in &found {
            let entry = files.remove(&file.id).unwrap_or_else(|| Arc::new(Mutex::new(Tracked::new(file.path.clone()))));
            kept.insert(file.id.clone(), entry);
        }
        *files = kept;
        Ok(found)
    }

    fn tracked(&self, id: &str) -> Option<Arc<Mutex<Tracked>>> {
        lock(&self.files).get(id).cloned()
    }

    fn reading(&self, file: &Found, tracked: &Tracked, fresh: bool) -> UsageReading {
        let known = tracked.known.as_ref();
        let mut activity = file.stamp.modified;
        if known.is_some_and(|k| k.torn) && self.is_settled(tracked, &file.stamp) {
            // The unfinished line became a record just now, without any change of the file: there is something to archive.
            let after = TimeDelta::from_std(self.limits.torn_tail_after).unwrap_or_default();
            activity = activity.checked_add_signed(after).unwrap_or(activity);
        }
        UsageReading {
            session: SessionRef { key: SessionKey(format!("{KEY_PREFIX}{}", file.id)), session_id: file.id.clone() },
            used_tokens: known.map(|k| k.tokens),
            window_tokens: Some(self.limits.window_tokens),
            fresh,
            running: false,
            last_activity: Some(activity),
            generation: known.map(|k| k.resets.to_string()),
            model: known.and_then(|k| k.model.clone()),
            provider: "transcripts".into(),
            captured_at: self.clock.now(),
        }
    }
}

impl Tracked {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            lines: LineIndex::new(),
            context: ActiveContext::default(),
            priced: 0,
            priced_life: 0,
            known: None,
            quiet: None,
        }
    }

    fn note(&mut self, stamp: Stamp, steady: DateTime<Utc>) {
        if self.quiet.is_none_or(|(seen, _)| seen != stamp) {
            self.quiet = Some((stamp, steady));
        }
    }

    /// Prices what is new. False: the budget ran out first, `known` is from before.
    fn price(&mut self, seen: Stamp, budget: &mut u64) -> Result<bool> {
        if self.known.as_ref().is_some_and(|k| k.stamp == seen) {
            return Ok(true);
        }
        let file = open(&self.path)?;
        let stamp = stamp_of(&file, &self.path)?;
        let priced = self.lines.follow(&file, stamp).and_then(|()| self.feed(&file, budget));
        if let Err(error) = priced {
            self.lines.forget();
            return Err(page::read_failed(&self.path, error));
        }
        let complete = self.priced == self.lines.complete;
        if complete {
            let ActiveContext { resets, ref model, .. } = self.context;
            let torn = self.lines.scanned > self.lines.complete;
            self.known = Some(Known { stamp, tokens: self.context.tokens(), resets, model: model.clone(), torn });
        }
        Ok(complete)
    }

    fn feed(&mut self, mut file: &File, budget: &mut u64) -> io::Result<()> {
        if self.priced_life != self.lines.life {
            self.context = ActiveContext::default();
            self.priced = 0;
            self.priced_life = self.lines.life;
        }
        file.seek(SeekFrom::Start(self.priced))?;
        let mut reader = BufReader::with_capacity(BUFFER, file.take(self.lines.complete.saturating_sub(self.priced)));
        let mut line = Vec::new();
        while self.priced < self.lines.complete && *budget > 0 {
            line.clear();
            let mut length = (&mut reader).take(MAX_PARSED).read_until(b'\n', &mut line)? as u64;
            if line.pop_if(|b| *b == b'\n').is_some() {
                self.context.feed(&line);
            } else if length < MAX_PARSED {
                return Err(io::ErrorKind::UnexpectedEof.into());
            } else {
                length += reader.skip_until(b'\n')? as u64;
                self.context.feed_unread(length);
            }
            self.priced += length;
            *budget = budget.saturating_sub(length);
        }
        Ok(())
    }

    /// Gives back the memory of a file that nobody has touched for long.
    fn slim(&mut self) {
        self.lines.forget();
        self.context = ActiveContext::default();
    }
}

fn list(folder: &Path) -> Result<Vec<Found>> {
    let entries = std::fs::read_dir(folder).map_err(|e| folder_failed(folder, e))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| folder_failed(folder, e))?;
        let Some(id) = session_id(&entry.file_name()) else { continue };
        // Does not follow links. A file that vanishes between listing and looking is simply not there.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            found.push(Found { id, path: entry.path(), stamp: Stamp::of(&metadata) });
        }
    }
    Ok(found)
}

/// `name.jsonl` gives `name`. A name that is not UTF-8 is made readable and kept apart from others by its hash.
fn session_id(name: &OsStr) -> Option<String> {
    let stem = name.as_bytes().strip_suffix(SUFFIX.as_bytes())?;
    if stem.is_empty() || stem.starts_with(b".") {
        return None;
    }
    Some(match std::str::from_utf8(stem) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("{}#{}", String::from_utf8_lossy(stem), Sha256::of(stem).short()),
    })
}

/// Opens a regular file without following a link and without ever waiting (a pipe would block).
fn open(path: &Path) -> Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| page::read_failed(path, e))?;
    let metadata = file.metadata().map_err(|e| page::read_failed(path, e))?;
    if metadata.is_file() { Ok(file) } else { Err(page::gone(path)) }
}

fn stamp_of(file: &File, path: &Path) -> Result<Stamp> {
    file.metadata().map(|m| Stamp::of(&m)).map_err(|e| page::read_failed(path, e))
}

fn source(path: &Path, stamp: &Stamp) -> SourceIdentity {
    SourceIdentity {
        kind: "jsonl".into(),
        location: path.display().to_string(),
        device: Some(stamp.device),
        inode: Some(stamp.inode),
        schema: None,
        generation: None,
    }
}

fn unknown(id: &str) -> Error {
    Error::unavailable("transcripts.session_gone", format!("there is no transcript of session {id:?}"))
        .hint("what was archived of it stays archived; the session is forgotten with its file")
}

fn folder_failed(folder: &Path, error: io::Error) -> Error {
    let what = format!("cannot list the transcripts folder {}", folder.display());
    match error.kind() {
        io::ErrorKind::NotFound => Error::unavailable("transcripts.not_found", what)
            .cause("it does not exist")
            .hint("set watch.transcripts_dir to the folder that holds the agent's *.jsonl files, or create it"),
        io::ErrorKind::NotADirectory => {
            Error::config("transcripts.not_a_folder", what).cause(error).hint("set watch.transcripts_dir to a folder")
        }
        io::ErrorKind::PermissionDenied => {
            Error::config("transcripts.denied", what).cause(error).hint("let the user that runs Moon list this folder")
        }
        _ => Error::transient("transcripts.io", what).cause(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every state behind these locks is rebuilt from the files when it does not fit them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::clock::SystemClock;
    use std::io::Write;
    use std::time::Duration;

    /// Looks at `before`, lets `meanwhile` happen, and asks whether what was read may be used.
    fn confirmed(before: &[u8], torn_tail_after: Duration, meanwhile: impl FnOnce(&Path)) -> Result<()> {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let path = scratch.path().join("a.jsonl");
        std::fs::write(&path, before).expect("written");
        let limits = Limits { window_tokens: 1, torn_tail_after, max_line: 1 << 20, scan_budget: 1 << 20 };
        let folder = Folder::new(scratch.path().to_owned(), limits, Arc::new(SystemClock::start()));
        let mut tracked = Tracked::new(path.clone());
        let look = folder.look(&mut tracked, 0, 1 << 20).expect("readable");
        page::read(&look.file, &look.path, &look.plan).expect("readable");
        meanwhile(&path);
        look.confirm(&tracked)
    }

    #[test]
    fn what_was_read_counts_only_if_the_file_was_left_alone_or_appended_to_meanwhile() {
        let (never, at_once) = (Duration::from_secs(3600), Duration::ZERO);
        let append = |path: &Path| {
            let mut file = OpenOptions::new().append(true).open(path).expect("there");
            file.write_all(b"three\n").expect("appended");
        };
        assert_eq!(confirmed(b"one\ntwo\n", never, |_| {}), Ok(()));
        assert_eq!(confirmed(b"one\ntwo\n", never, append), Ok(()));
        assert_eq!(confirmed(b"one\ntw", never, append), Ok(()), "the torn line was not handed out");
        let refused = |result: Result<()>| assert_eq!(result.expect_err("changed").code, "transcripts.changed");
        refused(confirmed(b"one\ntw", at_once, append));
        refused(confirmed(b"one\ntwo\n", never, |path| std::fs::write(path, b"one\n").expect("cut")));
        refused(confirmed(b"one\ntwo\n", never, |path| std::fs::write(path, b"uno\ndos y tres\n").expect("rewritten")));
    }
}
