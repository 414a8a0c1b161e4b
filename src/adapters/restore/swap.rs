//! Puts prepared folders in the place of others, so that a crash at any moment leaves the old state or the new one.
//!
//! For a home that is one system call (two names exchanged); where the file system cannot do that, and for included folders, it is
//! two renames. What is under way stands in a journal beside the home, written before the first step and removed behind the last;
//! [`settle`] reads it at every opening of the home and goes on, or takes everything back if nothing was swapped yet. How far it
//! came is read from the folders themselves, never remembered. Nothing is removed here but folders nobody ever used.

use super::Step;
use super::interrupted::Interrupted;
use moon_actors::port::Probe;
use moon_actors::{Error, Result};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a folder in preparation is called: its place's name, this, and a stamp.
pub(super) const PREPARING: &str = ".restoring-";
/// What the old state is called.
pub(super) const KEPT: &str = ".pre-restore-";
/// In a home that was restored: which restore it came from, and where what was before is kept.
const MARKER: &str = "run/restored.json";
/// Largest journal, marker or note, bytes: as long as a list of a backup, because single files are named one by one.
const LARGEST: u64 = 256 << 20;

/// One folder and what takes its place. All three names lie beside each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Move {
    pub place: PathBuf,
    pub incoming: PathBuf,
    pub kept: PathBuf,
    /// It carries a marker, by which both states can be told apart whatever they are called.
    pub is_home: bool,
}

impl Move {
    /// As it is written down: a home and what lies beside it by name alone, because the folder above them may be found by another
    /// way the next time.
    fn by_name(&self) -> Self {
        let name = |path: &PathBuf| path.file_name().map_or_else(|| path.clone(), PathBuf::from);
        if !self.is_home {
            return self.clone();
        }
        Self { place: name(&self.place), incoming: name(&self.incoming), kept: name(&self.kept), is_home: true }
    }
    /// As it was written down by [`Move::by_name`], beside this home.
    fn beside_home(&self, home: &Path) -> Self {
        let whole = |name: &PathBuf| home.parent().map_or_else(|| name.clone(), |folder| folder.join(name));
        if !self.is_home {
            return self.clone();
        }
        Self { place: whole(&self.place), incoming: whole(&self.incoming), kept: whole(&self.kept), is_home: true }
    }
}

impl Marker {
    /// Where what was before is kept, seen from the home that holds the marker.
    pub(super) fn kept_beside(&self, home: &Path) -> Vec<Kept> {
        let mut kept = self.kept.clone();
        if let (Some(first), Some(folder)) = (kept.first_mut(), home.parent()) {
            first.place = home.to_owned();
            first.kept = first.kept.file_name().map_or_else(|| first.kept.clone(), |name| folder.join(name));
        }
        kept
    }
}

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    pub version: u64,
    pub stamp: String,
    pub moves: Vec<Move>,
}

/// Lies in the home that came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub stamp: String,
    /// The id of the backup, or `undo`.
    pub from: String,
    pub at: String,
    /// Where what was before is kept: the home first, then included folders.
    pub kept: Vec<Kept>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub place: PathBuf,
    pub kept: PathBuf,
}

/// What became of an interrupted restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nothing had been swapped, and nothing is.
    TakenBack,
    /// It was brought to its end.
    Completed,
}

/// The few steps a swap is made of: an own type, so that a test can stop after each.
pub(super) trait Disk {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_parent(&self, path: &Path) -> io::Result<()>;
}

/// The real one.
pub(super) struct RealDisk {
    pub probe: Arc<dyn Probe>,
}

impl RealDisk {
    fn then<T>(&self, done: io::Result<T>) -> io::Result<T> {
        super::step(self.probe.as_ref(), Step::Swapped);
        done
    }
}

impl Disk for RealDisk {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.then(crate::durable::replace(path, bytes))
    }
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.then(rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).map_err(Into::into))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.symlink_metadata().is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there", to.display())));
        }
        self.then(std::fs::rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.then(crate::durable::remove(path).map(drop))
    }
    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        self.then(crate::durable::sync_parent(path))
    }
}

/// `<home>.restore.json`: beside the home, because the home itself is what moves.
pub(super) fn journal_path(home: &Path) -> PathBuf {
    beside(home, ".restore.json")
}

/// A name beside a folder.
pub(super) fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Carries the moves out. On failure nothing was swapped, or the error is `restore.unfinished` and [`settle`] goes on.
pub(super) fn swap(disk: &dyn Disk, journal: &Journal) -> Result<()> {
    let path = journal_path(&journal.moves[0].place);
    let written = Journal { moves: journal.moves.iter().map(Move::by_name).collect(), ..journal.clone() };
    let text = serde_json::to_vec_pretty(&written).expect("a journal is plain data");
    let done =
        disk.write(&path, &text).and_then(|()| journal.moves.iter().try_for_each(|m| advance(disk, m, &journal.stamp)));
    let done = done.and_then(|()| disk.remove(&path));
    let Err(error) = done else { return Ok(()) };
    match finish(disk, &path, journal) {
        Ok(Settled::Completed) => Ok(()),
        Ok(Settled::TakenBack) => Err(super::stage::write_error(&error, "the names of the folders")),
        Err(again) => Err(unfinished(format!("{error}\n{again}"))),
    }
}

pub(super) fn unfinished(why: impl std::fmt::Display) -> Error {
    Error::transient("restore.unfinished", "the restore was begun and is not finished")
        .cause(why)
        .hint("the next moon command that opens the home finishes it; the old state is kept")
}

/// How far a move came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// Both names are exchanged; the old state has not yet its name.
    Exchanged,
    /// The old state has its name, and nothing is in its place.
    Halfway,
    Done,
}

fn state(m: &Move, stamp: &str) -> io::Result<State> {
    let is_there = |path: &Path| match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    };
    let (place, incoming, kept) = (is_there(&m.place)?, is_there(&m.incoming)?, is_there(&m.kept)?);
    let arrived = m.is_home && is_marked(&m.place, stamp);
    match (place, incoming, kept) {
        (true, true, false) if arrived => Ok(State::Exchanged),
        (true, true, false) => Ok(State::Waiting),
        (true, false, _) if !m.is_home || arrived => Ok(State::Done),
        (false, true, true) => Ok(State::Halfway),
        (false, true, false) => Ok(State::Waiting),
        _ => Err(not_as_left([&m.place, &m.incoming, &m.kept])),
    }
}

pub(super) fn not_as_left(names: [&PathBuf; 3]) -> io::Error {
    let [place, incoming, kept] = names.map(|name| name.display());
    io::Error::other(format!("{place}, {incoming} and {kept} are not as a restore leaves them"))
}

/// Takes the next steps until the move is done. May be called again at any time.
fn advance(disk: &dyn Disk, m: &Move, stamp: &str) -> io::Result<()> {
    loop {
        match state(m, stamp)? {
            State::Done => return disk.sync_parent(&m.place),
            State::Exchanged => disk.rename(&m.incoming, &m.kept)?,
            State::Halfway => disk.rename(&m.incoming, &m.place)?,
            // Nothing was there before.
            State::Waiting if m.place.symlink_metadata().is_err() => disk.rename(&m.incoming, &m.place)?,
            State::Waiting if m.is_home => match disk.exchange(&m.place, &m.incoming) {
                Err(e) if is_unknown(&e) => disk.rename(&m.place, &m.kept)?,
                done => done?,
            },
            State::Waiting => disk.rename(&m.place, &m.kept)?,
        }
        disk.sync_parent(&m.place)?;
    }
}

/// The file system or the kernel does not know how to exchange two names.
pub(super) fn is_unknown(error: &io::Error) -> bool {
    let known = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
    known.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Finishes what a journal says, or takes it back if nothing was swapped.
fn finish(disk: &dyn Disk, path: &Path, journal: &Journal) -> io::Result<Settled> {
    let mut states = Vec::new();
    for m in &journal.moves {
        states.push(state(m, &journal.stamp)?);
    }
    if states.iter().all(|state| *state == State::Waiting) {
        disk.remove(path)?;
        return Ok(Settled::TakenBack);
    }
    for m in &journal.moves {
        advance(disk, m, &journal.stamp)?;
    }
    disk.remove(path)?;
    Ok(Settled::Completed)
}

/// Finishes or takes back a restore that was interrupted. `None` when there was none. Called by every opening of a home, it costs
/// one look for a file. An error when the restore is still at work.
pub(super) fn settle(home: &Path, disk: &dyn Disk) -> Result<Option<Settled>> {
    let home = std::path::absolute(home).map_err(|e| unusable(home, &e))?;
    if home.file_name().is_none() {
        return Ok(None);
    }
    let path = journal_path(&home);
    let Some(journal) = read_journal(&path, &home)? else { return Ok(None) };
    let homes = journal.moves.iter().filter(|m| m.is_home);
    let _locks = lock_all(homes.flat_map(|m| [&m.place, &m.incoming, &m.kept]))?;
    // Another one may have settled it while this one came for the locks.
    let Some(journal) = read_journal(&path, &home)? else { return Ok(None) };
    let settled = finish(disk, &path, &journal).map_err(|e| unusable(&path, &e))?;
    if settled == Settled::TakenBack {
        for m in &journal.moves {
            discard(&m.incoming);
        }
    }
    Ok(Some(settled))
}

/// The one that was interrupted, if nobody is at work on it. Touches nothing.
pub(super) fn under_way(home: &Path) -> Option<Interrupted> {
    let journal = read_journal(&journal_path(home), home).ok().flatten()?;
    let homes = journal.moves.iter().filter(|m| m.is_home);
    let _locks = lock_all(homes.flat_map(|m| [&m.place, &m.incoming, &m.kept])).ok()?;
    // It lies in what comes in, wherever that is by now.
    let first = &journal.moves[0];
    let markers = [&first.place, &first.incoming].into_iter().filter_map(|home| marker(home));
    let from = markers.into_iter().find(|marker| marker.stamp == journal.stamp)?.from;
    let is_begun = journal.moves.iter().any(|m| state(m, &journal.stamp).is_ok_and(|state| state != State::Waiting));
    Some(Interrupted::new(from, journal.moves.into_iter().map(|m| m.place).collect(), is_begun))
}

/// Removes a folder in preparation, and nothing else. Best effort: what is left is swept by the next restore.
pub(super) fn discard(incoming: &Path) {
    if incoming.file_name().is_some_and(|name| name.to_string_lossy().contains(PREPARING)) {
        let _ = std::fs::remove_dir_all(incoming);
    }
}

/// Whoever restores holds the locks of all states of a home that there are.
pub(super) fn lock_all<'f>(folders: impl Iterator<Item = &'f PathBuf>) -> Result<Vec<File>> {
    let mut locks = Vec::new();
    for folder in folders {
        let Ok(file) = crate::durable::open_regular(&folder.join("run/moon.lock")) else { continue };
        match file.try_lock() {
            Ok(()) => locks.push(file),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::conflict("restore.under_way", "this home is being restored")
                    .cause("another moon holds it and has not finished")
                    .hint("wait for `moon restore` to end, then try again"));
            }
            Err(TryLockError::Error(e)) => return Err(unusable(folder, &e)),
        }
    }
    Ok(locks)
}

fn read_journal(path: &Path, home: &Path) -> Result<Option<Journal>> {
    let Some(text) = read_own(path).map_err(|e| unusable(path, &e))? else { return Ok(None) };
    let mut journal: Journal = serde_json::from_slice(&text).map_err(|e| unusable(path, &e))?;
    journal.moves = journal.moves.iter().map(|m| m.beside_home(home)).collect();
    let is_beside = |m: &Move| {
        let named = |path: &Path, what: &str| {
            path.parent() == m.place.parent()
                && path.as_os_str().to_string_lossy().starts_with(&*beside(&m.place, what).to_string_lossy())
        };
        let comes = named(&m.incoming, PREPARING) || named(&m.incoming, KEPT);
        m.place.is_absolute()
            && comes
            && named(&m.kept, KEPT)
            && m.incoming != m.kept
            && (!m.is_home || m.place == home)
    };
    if journal.version == 1
        && !journal.moves.is_empty()
        && journal.moves[0].is_home
        && journal.moves.iter().all(is_beside)
    {
        return Ok(Some(journal));
    }
    Err(unusable(path, &"it does not say what a restore's journal says"))
}

/// A file that only its owner can have written.
pub(super) fn read_own(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match crate::durable::open_regular(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(e),
    };
    let found = file.metadata()?;
    if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 || found.len() > LARGEST {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may have written it"));
    }
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Writes the marker into a home that is not in use.
pub(super) fn mark(home: &Path, marker: &Marker) -> io::Result<()> {
    let path = home.join(MARKER);
    if let Some(folder) = path.parent() {
        crate::durable::create_folder(folder)?;
    }
    crate::durable::replace(&path, &serde_json::to_vec_pretty(marker).expect("a marker is plain data"))
}

pub(super) fn marker(home: &Path) -> Option<Marker> {
    let text = read_own(&home.join(MARKER)).ok().flatten()?;
    serde_json::from_slice(&text).ok()
}

fn is_marked(home: &Path, stamp: &str) -> bool {
    marker(home).is_some_and(|marker| marker.stamp == stamp)
}

pub(super) fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::data("restore.journal", format!("an interrupted restore cannot be finished from {}", path.display()))
        .cause(why)
        .hint("see `restore.journal` in the runbook: both states are there, under names beside the home")
}
