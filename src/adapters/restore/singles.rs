//! Puts prepared files and folders in their places in a home, so that a crash at any moment ends with all of them old or all new.
//!
//! What is under way stands in the journal beside the home, as for a whole home, written before the first step and removed behind
//! the last. [`settle`] reads it at every opening of the home and goes on; where it cannot, it takes everything back. Each one is
//! exchanged with what is in its place in one system call, and what comes out of it gets the name under which it is kept; where a
//! file system has no exchange it is two renames. How far each came is read from the names, never remembered: only whether an
//! exchange is over is seen by the inode of what comes in. Nothing is removed here.

use super::Done;
use super::interrupted::Interrupted;
use super::names::checked;
use super::only::{Note, Replaced, is_stamp};
use super::swap::{self, Disk, KEPT, Kept, PREPARING, Settled, beside, journal_path, read_own};
use moon_actors::{Error, Result};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Of the journal; that of a whole home is another.
const VERSION: u64 = 2;

/// What is under way in a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    version: u64,
    /// Behind the names of what is kept.
    stamp: String,
    /// The id of the backup, or `undo`.
    from: String,
    at: String,
    coming: Coming,
    moves: Vec<Move>,
}

/// Where what comes in lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Coming {
    /// At the same path in the folder with this stamp that was unpacked beside the home.
    Unpacked(String),
    /// Beside its place, under the name by which an earlier restore with this stamp kept it.
    Kept(String),
}

/// One file or folder, relative to the home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Move {
    path: String,
    /// The inode of what comes in. None: nothing does, and what is there is only put aside.
    inode: Option<u64>,
}

/// The three names of a move.
struct Names {
    incoming: PathBuf,
    place: PathBuf,
    kept: PathBuf,
}

/// How far a move came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// The new one is in its place; the old one has not yet the name under which it is kept.
    Exchanged,
    /// The old one has that name, and nothing is in the place.
    Halfway,
    Done,
}

impl Plan {
    /// For these paths of the home; what is at a path for which nothing waits to come in is put aside.
    pub(super) fn new(home: &Path, (stamp, from): (&str, &str), coming: Coming, paths: &[String]) -> io::Result<Self> {
        let at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let (stamp, from) = (stamp.to_owned(), from.to_owned());
        let mut plan = Self { version: VERSION, stamp, from, at, coming, moves: Vec::new() };
        for path in paths {
            let names = plan.names(home, path);
            let next = Move { path: path.clone(), inode: inode(&names.incoming)? };
            // What a disk cannot name is found out now, and not half-way.
            if state(&next, &names)? != State::Waiting {
                return Err(swap::not_as_left([&names.place, &names.incoming, &names.kept]));
            }
            plan.moves.push(next);
        }
        Ok(plan)
    }

    fn names(&self, home: &Path, path: &str) -> Names {
        let place = home.join(path);
        let incoming = match &self.coming {
            Coming::Unpacked(stamp) => beside(home, &format!("{PREPARING}{stamp}")).join(path),
            Coming::Kept(stamp) => beside(&place, &format!("{KEPT}{stamp}")),
        };
        let kept = beside(&place, &format!("{KEPT}{}", self.stamp));
        Names { incoming, place, kept }
    }

    fn all(&self, home: &Path) -> impl Iterator<Item = (&Move, Names)> {
        self.moves.iter().map(move |m| (m, self.names(home, &m.path)))
    }

    /// Everything in its place, and the way back noted. On failure with what could not be put there.
    fn forward(&self, disk: &dyn Disk, home: &Path) -> std::result::Result<(), Failure<'_>> {
        for (m, names) in self.all(home) {
            forward(disk, m, &names).map_err(|e| (m.path.as_str(), e))?;
        }
        self.note(home).and_then(|note| note.write(disk, home)).map_err(|e| ("the note of the way back", e))
    }

    /// Everything as it was, the last one first.
    fn back(&self, disk: &dyn Disk, home: &Path) -> io::Result<()> {
        let all: Vec<_> = self.all(home).collect();
        all.iter().rev().try_for_each(|(m, names)| back(disk, m, names))
    }

    fn note(&self, home: &Path) -> io::Result<Note> {
        let mut replaced = Vec::new();
        for (m, names) in self.all(home) {
            replaced.push(Replaced { path: m.path.clone(), was_there: inode(&names.kept)?.is_some() });
        }
        Ok(Note { stamp: self.stamp.clone(), from: self.from.clone(), at: self.at.clone(), replaced })
    }

    fn done(&self, home: &Path) -> Done {
        let kept = self.all(home).filter(|(_, names)| names.kept.symlink_metadata().is_ok());
        let kept = kept.map(|(_, names)| Kept { place: names.place, kept: names.kept }).collect();
        Done { kept, placed: self.moves.iter().filter(|m| m.inode.is_some()).count() }
    }
}

/// What failed, and why.
type Failure<'p> = (&'p str, io::Error);

/// Carries the plan out. On failure everything is as it was, or the error is `restore.unfinished` and [`settle`] goes on.
pub(super) fn carry_out(disk: &dyn Disk, home: &Path, plan: &Plan) -> Result<Done> {
    let journal = journal_path(home);
    let text = serde_json::to_vec_pretty(plan).expect("a journal is plain data");
    let written = disk.write(&journal, &text).map_err(|e| ("the journal beside the home", e));
    let Err((what, error)) = written.and_then(|()| plan.forward(disk, home)) else {
        // Nothing goes back from here: the journal may be gone, whatever its removal says.
        let removed = disk.remove(&journal).or_else(|_| disk.remove(&journal));
        return removed.map(|()| plan.done(home)).map_err(swap::unfinished);
    };
    match finish(disk, &journal, home, plan) {
        Ok(Settled::Completed) => Ok(plan.done(home)),
        Ok(Settled::TakenBack) if crate::durable::is_full(&error) => Err(super::write_error(&error, what)),
        Ok(Settled::TakenBack) => {
            let said = format!("could not put {what} in its place, and everything is as it was");
            Err(Error::transient("restore.io", said)
                .cause(error)
                .hint("check that Moon's home and the folders in it belong to you and are writable"))
        }
        Err(again) => Err(swap::unfinished(format!("{what}: {error}\n{again}"))),
    }
}

/// Brings what a journal says to its end, or takes it back: if nothing was begun, and if it cannot be brought there.
fn finish(disk: &dyn Disk, journal: &Path, home: &Path, plan: &Plan) -> io::Result<Settled> {
    let mut is_begun = false;
    for (m, names) in plan.all(home) {
        is_begun |= state(m, &names)? != State::Waiting;
    }
    let settled = match is_begun.then(|| plan.forward(disk, home)) {
        Some(Ok(())) => Settled::Completed,
        Some(Err((what, error))) => {
            tracing::warn!(what, %error, "a restore cannot be finished and is taken back");
            plan.back(disk, home)?;
            Settled::TakenBack
        }
        None => Settled::TakenBack,
    };
    disk.remove(journal)?;
    Ok(settled)
}

/// Finishes or takes back a restore of single files that was interrupted; `None` when there was none. An error when it is still
/// at work.
pub(super) fn settle(home: &Path, disk: &dyn Disk) -> Result<Option<Settled>> {
    let Ok(home) = &std::path::absolute(home) else { return Ok(None) };
    let journal = journal_path(home);
    let Some(plan) = read(&journal) else { return Ok(None) };
    let unpacked = match &plan.coming {
        Coming::Unpacked(stamp) => Some(beside(home, &format!("{PREPARING}{stamp}"))),
        Coming::Kept(_) => None,
    };
    let _locks = swap::lock_all(unpacked.iter().chain([home]))?;
    // Another one may have settled it while this one came for the locks.
    if read(&journal).as_ref() != Some(&plan) {
        return Ok(None);
    }
    let settled = finish(disk, &journal, home, &plan).map_err(|e| swap::unusable(&journal, &e))?;
    unpacked.iter().for_each(|folder| swap::discard(folder));
    Ok(Some(settled))
}

/// The one that was interrupted, if nobody is at work on it. Touches nothing.
pub(super) fn under_way(home: &Path) -> Option<Interrupted> {
    let plan = read(&journal_path(home))?;
    let _locks = swap::lock_all(std::iter::once(&home.to_owned())).ok()?;
    let is_begun = plan.all(home).any(|(m, names)| state(m, &names).is_ok_and(|state| state != State::Waiting));
    let places = plan.all(home).map(|(_, names)| names.place).collect();
    Some(Interrupted::new(plan.from, places, is_begun))
}

/// The journal, if it is one of single files. Whatever else lies there is judged by [`swap::settle`]. Its paths lead nowhere else.
fn read(journal: &Path) -> Option<Plan> {
    let plan: Plan = serde_json::from_slice(&read_own(journal).ok().flatten()?).ok()?;
    let (Coming::Unpacked(stamp) | Coming::Kept(stamp)) = &plan.coming;
    let is_right = plan.version == VERSION && [stamp, &plan.stamp].into_iter().all(|stamp| is_stamp(stamp));
    (is_right && plan.moves.iter().all(|m| checked(m.path.as_bytes()).is_ok())).then_some(plan)
}

fn state(m: &Move, names: &Names) -> io::Result<State> {
    let (incoming, place, kept) = (inode(&names.incoming)?, inode(&names.place)?, inode(&names.kept)?);
    if m.inode.is_none() {
        return Ok(if place.is_some() && kept.is_none() { State::Waiting } else { State::Done });
    }
    match (incoming, place, kept) {
        (Some(_), None, None) => Ok(State::Waiting),
        (Some(_), Some(_), None) if incoming == m.inode => Ok(State::Waiting),
        (Some(_), Some(_), None) if place == m.inode => Ok(State::Exchanged),
        (Some(_), None, Some(_)) => Ok(State::Halfway),
        (None, Some(_), _) => Ok(State::Done),
        _ => Err(swap::not_as_left([&names.place, &names.incoming, &names.kept])),
    }
}

fn inode(path: &Path) -> io::Result<Option<u64>> {
    match path.symlink_metadata() {
        Ok(found) => Ok(Some(found.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Takes the next steps until the move is done. May be called again at any time, and so may [`back`].
fn forward(disk: &dyn Disk, m: &Move, names: &Names) -> io::Result<()> {
    let Names { incoming, place, kept } = names;
    loop {
        match state(m, names)? {
            State::Done => return Ok(()),
            State::Exchanged => disk.rename(incoming, kept)?,
            State::Halfway => disk.rename(incoming, place)?,
            State::Waiting if m.inode.is_none() => disk.rename(place, kept)?,
            State::Waiting if inode(place)?.is_none() => {
                place.parent().map_or(Ok(()), crate::durable::create_folder)?;
                disk.rename(incoming, place)?;
            }
            State::Waiting => match disk.exchange(incoming, place) {
                Err(e) if swap::is_unknown(&e) || is_refused(&e) => disk.rename(place, kept)?,
                done => done?,
            },
        }
        disk.sync_parent(place)?;
    }
}

fn back(disk: &dyn Disk, m: &Move, names: &Names) -> io::Result<()> {
    let Names { incoming, place, kept } = names;
    loop {
        match state(m, names)? {
            State::Waiting => return Ok(()),
            State::Done if m.inode.is_some() => disk.rename(place, incoming)?,
            // Put aside, or never there.
            State::Done if inode(kept)?.is_none() => return Ok(()),
            State::Done | State::Halfway => disk.rename(kept, place)?,
            State::Exchanged => disk.exchange(incoming, place)?,
        }
        disk.sync_parent(place)?;
    }
}

/// A folder that its owner may not write to cannot change its parent; beside its place it can have another name.
fn is_refused(error: &io::Error) -> bool {
    [Errno::ACCESS, Errno::PERM].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
