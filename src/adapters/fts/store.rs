//! The connections to the index file: one that writes, a few that read, and the state "this file is unusable".
//!
//! Why: SQLite wants one writer, and a reader must not wait for it. It must never delete a damaged file: `clear`
//! moves it aside.

use super::error::{corrupt, from_io, is_damage, translate};
use super::schema::{self, Refusal};
use crate::durable;
use moon_actors::{Error, Result};
use rusqlite::{Connection, TransactionBehavior};
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Idle readers that are kept; more are opened when needed and closed afterwards.
const IDLE_READERS: usize = 4;

pub(super) struct Store {
    path: PathBuf,
    chunk_chars: usize,
    /// Nothing may be made, moved or written.
    is_read_only: bool,
    /// `None` while the file is unusable. Locked before `state` when both are.
    writer: Mutex<Option<Connection>>,
    state: Mutex<State>,
}

/// What is known of the file, kept apart from the writer so that a search never waits for a long write.
struct State {
    /// Why the file cannot be used.
    damage: Option<Error>,
    /// Device and inode: somebody may delete or replace the file under us.
    file: Option<(u64, u64)>,
    /// Grows when the file is replaced, so that a reader of the old one is not used again.
    generation: u64,
    idle: Vec<Connection>,
}

impl Store {
    pub(super) fn open(path: &Path, chunk_chars: usize) -> Self {
        Self::over(path, chunk_chars, false)
    }

    pub(super) fn read_only(path: &Path) -> Self {
        Self::over(path, 0, true)
    }

    fn over(path: &Path, chunk_chars: usize, is_read_only: bool) -> Self {
        let opened = if is_read_only { look_at(path).map(|damage| (None, damage)) } else { open_file(path) };
        // Losing the index must stop nothing else: every later call says why, and those that write try again.
        let (file, writer, damage) = match opened {
            Ok((writer, damage)) => (identity(path), writer, damage),
            Err(error) => (None, None, Some(error)),
        };
        let state = State { damage, file, generation: 0, idle: Vec::new() };
        let (path, writer, state) = (path.to_owned(), Mutex::new(writer), Mutex::new(state));
        Self { path, chunk_chars, is_read_only, writer, state }
    }

    pub(super) fn chunk_chars(&self) -> usize {
        self.chunk_chars
    }

    /// Size of the database and its log, bytes.
    pub(super) fn bytes(&self) -> u64 {
        [self.path.clone(), beside(&self.path, "-wal")].iter().filter_map(|p| p.metadata().ok()).map(|m| m.len()).sum()
    }

    /// Runs `work` in one immediate transaction: all of it is there afterwards, or nothing.
    pub(super) fn write<T>(&self, operation: &str, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let mut writer = lock(&self.writer);
        self.follow_file(&mut writer)?;
        let generation = self.usable()?;
        let Some(connection) = writer.as_mut() else { return Err(read_only(operation)) };
        // Immediate: a transaction that reads first and writes later could not wait for another writer.
        let done = connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
            let answer = work(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        });
        done.map_err(|e| self.note(operation, generation, &e))
    }

    /// Runs `work` on one snapshot of the index. What it writes into scratch tables is undone.
    pub(super) fn read<T>(&self, operation: &str, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        if identity(&self.path) != lock(&self.state).file {
            self.follow_file(&mut lock(&self.writer))?;
        }
        let generation = self.usable()?;
        let idle = lock(&self.state).idle.pop();
        let opened = idle.map_or_else(|| schema::open_reader(&self.path), Ok);
        let answer = opened.and_then(|mut connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let answer = work(&transaction)?;
            transaction.rollback()?;
            let mut state = lock(&self.state);
            if state.generation == generation && state.idle.len() < IDLE_READERS {
                state.idle.push(connection);
            }
            Ok(answer)
        });
        answer.map_err(|e| self.note(operation, generation, &e))
    }

    /// Empties the index. A file that cannot be used is kept as `<name>.corrupt-<n>`.
    pub(super) fn clear(&self) -> Result<()> {
        if self.is_read_only {
            return Err(read_only("empty the search index"));
        }
        let mut writer = lock(&self.writer);
        self.follow_file(&mut writer)?;
        if let Some(connection) = writer.as_mut()
            && self.usable().is_ok()
        {
            match schema::empty(connection) {
                Ok(()) => return Ok(()),
                Err(e) if !is_damage(&e) => return Err(translate("empty the search index", &e)),
                // The damage showed only now. Noted first: if moving fails, the file stays refused.
                Err(e) => drop(self.note("empty the search index", self.usable()?, &e)),
            }
        }
        // Close first: a connection must not write into a file that was moved.
        *writer = None;
        lock(&self.state).idle.clear();
        move_aside(&self.path).map_err(|e| from_io("move the damaged search index aside", &e))?;
        self.reopen(&mut writer)
    }

    /// Opens the file anew when it is not the one that was opened, e.g. because its folder was deleted.
    fn follow_file(&self, writer: &mut Option<Connection>) -> Result<()> {
        let known = lock(&self.state).file;
        if known.is_some() && identity(&self.path) == known { Ok(()) } else { self.reopen(writer) }
    }

    fn reopen(&self, writer: &mut Option<Connection>) -> Result<()> {
        *writer = None;
        lock(&self.state).idle.clear();
        let opened =
            if self.is_read_only { look_at(&self.path).map(|damage| (None, damage)) } else { open_file(&self.path) };
        let mut state = lock(&self.state);
        state.generation += 1;
        state.idle.clear();
        // After a failure the next call tries again.
        state.file = if opened.is_ok() { identity(&self.path) } else { None };
        let (connection, damage) = opened?;
        state.damage = damage;
        drop(state);
        *writer = connection;
        Ok(())
    }

    /// The generation of a file that can be used, or why it cannot.
    fn usable(&self) -> Result<u64> {
        let state = lock(&self.state);
        state.damage.clone().map_or(Ok(state.generation), Err)
    }

    /// Translates a failure. From the first sign of damage on every call says so, until the file is replaced: better
    /// than one answer being whole and the next one not.
    fn note(&self, operation: &str, generation: u64, error: &rusqlite::Error) -> Error {
        let translated = translate(operation, error);
        let mut state = lock(&self.state);
        if is_damage(error) && state.generation == generation {
            state.damage = Some(translated.clone());
        }
        translated
    }
}

/// What is wrong with a file that is only read, as a state: gone, damaged, of another version.
fn look_at(path: &Path) -> Result<Option<Error>> {
    if path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        let missing = Error::unavailable("index.missing", format!("the search index {} is missing", path.display()));
        return Ok(Some(missing.hint("run `moon index`: it is filled again from the archive, where nothing is lost")));
    }
    if !path.is_file() {
        return Ok(Some(corrupt("cannot open the search index", "not a regular file stands there")));
    }
    match schema::is_ours(path) {
        Ok(()) => Ok(None),
        Err(refusal) => damage_of(refusal).map(Some),
    }
}

/// A refusal that is damage; any other is the error.
fn damage_of(refusal: Refusal) -> Result<Error> {
    match refusal {
        Refusal::Foreign(what) => Ok(corrupt("cannot open the search index", &what)),
        Refusal::Sqlite(e) => match translate("open the search index", &e) {
            damaged if damaged.code == "index.corrupt" => Ok(damaged),
            other => Err(other),
        },
    }
}

fn read_only(operation: &str) -> Error {
    Error::unavailable("index.read_only", format!("could not {operation}"))
        .cause("it was opened for reading")
        .hint("report it: a bug")
}

/// Opens the file, making it private if it is not there. Damage is a state, not a failure.
fn open_file(path: &Path) -> Result<(Option<Connection>, Option<Error>)> {
    const OPERATION: &str = "open the search index";
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    durable::create_folder(folder).map_err(|e| from_io("make the folder of the search index", &e))?;
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return Ok((None, Some(corrupt("cannot open the search index", "not a regular file stands there"))));
    }
    // Made here and not by SQLite, which would use the umask; its log and shared memory copy this mode.
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map_err(|e| from_io(OPERATION, &e))?;
    match schema::open_writer(path) {
        Ok(connection) => Ok((Some(connection), None)),
        Err(refusal) => Ok((None, Some(damage_of(refusal)?))),
    }
}

/// Renames the file and its log, so that nothing of it is lost and nothing of it is read again.
fn move_aside(path: &Path) -> std::io::Result<()> {
    let free = (1..u32::MAX).map(|n| beside(path, &format!(".corrupt-{n}"))).find(|p| !p.exists());
    let Some(target) = free else { return Err(std::io::ErrorKind::AlreadyExists.into()) };
    for suffix in ["-wal", "-shm"] {
        match std::fs::rename(beside(path, suffix), beside(&target, suffix)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    match std::fs::rename(path, &target) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => durable::sync_parent(path),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|m| (m.dev(), m.ino()))
}

/// The data behind the lock stays whole when a holder panics: its transaction was rolled back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
