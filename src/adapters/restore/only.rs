//! Puts single files and folders back: each written beside, swapped in at once, the old one kept under a name.
//!
//! What belongs together stays together: the ledger is never put back alone, because it speaks of the archive as it was. Files of
//! the archive are put back one by one, so that nothing that came later goes.

use super::Done;
use super::manifest::Kind;
use super::names::checked;
use super::stage::write_error;
use super::swap::{KEPT, Kept, PREPARING, beside, read_own};
use super::verify::Verified;
use moon_actors::{Error, Result};
use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// True if `path` is `wanted` or lies below it.
pub(super) fn is_within(path: &str, wanted: &str) -> bool {
    path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Refuses what would not fit the rest, and what the archive does not hold.
pub(super) fn check(wanted: &[String], verified: &Verified) -> Result<()> {
    let unfit = |why: String, hint: &str| {
        Error::config("restore.choice", "that cannot be restored alone, and nothing was touched").cause(why).hint(hint)
    };
    for path in wanted {
        checked(path.as_bytes())?;
        if is_within(path, "state") {
            return Err(unfit(
                format!("{path} holds the ledger, which speaks of everything else as it was then"),
                "restore the whole backup, or take a look at it with `--to DIR`",
            ));
        }
        let full = format!("home/{path}");
        let is_held = verified.members.keys().any(|member| is_within(member, &full));
        if !is_held {
            return Err(unfit(
                format!("the archive holds no {path}"),
                "paths are relative to the home, such as memory/2026-11-20.md",
            ));
        }
        let listed = verified.manifest.iter().flat_map(|m| &m.members);
        if let Some(db) = listed.into_iter().find(|m| m.kind == Kind::Sqlite && m.path == full) {
            tracing::debug!(path = db.path, "a database is put back alone");
        }
    }
    Ok(())
}

/// Whether what is in a folder of the home is put back file by file.
pub(super) fn is_one_by_one(path: &str) -> bool {
    is_within(path, "archives")
}

/// Puts what was unpacked below `staged` into `home`, and notes first what is replaced: for the way back.
pub(super) fn put_in_place(staged: &Path, home: &Path, wanted: &[String], (stamp, from): (&str, &str)) -> Result<Done> {
    let mut coming = Vec::new();
    for path in outermost(wanted) {
        check_way(home, path)?;
        check_log(&staged.join(path), &home.join(path), path)?;
        let failed = |e: io::Error| write_error(&e, path);
        list(staged, home, path, is_one_by_one(path), &mut coming).map_err(failed)?;
    }
    let stamp = &free_for(home, stamp, coming.iter().map(String::as_str));
    Note::new(home, stamp, from, coming.iter().map(String::as_str)).write(home)?;
    let mut done = Done::default();
    for path in &coming {
        put(&staged.join(path), &home.join(path), stamp, &mut done).map_err(|e| write_error(&e, path))?;
    }
    Ok(done)
}

/// The stamp, with a number where it names what was kept of one of these paths before.
fn free_for<'a>(home: &Path, stamp: &str, paths: impl Iterator<Item = &'a str> + Clone) -> String {
    let numbered = std::iter::once(stamp.to_owned()).chain((2..).map(|n: u64| format!("{stamp}-{n}")));
    let is_free = |stamp: &String| {
        let mut kept = paths.clone().map(|path| beside(&home.join(path), &format!("{KEPT}{stamp}")));
        kept.all(|kept| kept.symlink_metadata().is_err())
    };
    numbered.into_iter().find(is_free).expect("there are more numbers than names")
}

/// What is put in place in one step each: a file, or a folder that is put back whole. Without files that are the same already.
fn list(staged: &Path, home: &Path, path: &str, one_by_one: bool, coming: &mut Vec<String>) -> io::Result<()> {
    let (new, place) = (staged.join(path), home.join(path));
    if new.is_dir() && one_by_one {
        for entry in std::fs::read_dir(new)? {
            let name = entry?.file_name().into_string().map_err(|_| io::ErrorKind::InvalidFilename)?;
            list(staged, home, &format!("{path}/{name}"), true, coming)?;
        }
        return Ok(());
    }
    if !(one_by_one && place.is_file() && std::fs::read(&place)? == std::fs::read(&new)?) {
        coming.push(path.to_owned());
    }
    Ok(())
}

/// What the last `--only` put in place, and where what was there before lies: the way back. In the home's `run/`, so that it goes with
/// the state that it speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub stamp: String,
    /// The id of the backup, or `undo`.
    pub from: String,
    pub at: String,
    pub replaced: Vec<Replaced>,
}

/// One file or folder, relative to the home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replaced {
    pub path: String,
    /// Something was there; else nothing was.
    pub was_there: bool,
}

const NOTE: &str = "run/replaced.json";

impl Note {
    fn new<'a>(home: &Path, stamp: &str, from: &str, paths: impl Iterator<Item = &'a str>) -> Self {
        let replaced = paths.map(|path| {
            let was_there = home.join(path).symlink_metadata().is_ok();
            Replaced { path: path.to_owned(), was_there }
        });
        let at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        Self { stamp: stamp.to_owned(), from: from.to_owned(), at, replaced: replaced.collect() }
    }

    fn write(&self, home: &Path) -> Result<()> {
        let path = home.join(NOTE);
        let text = serde_json::to_vec_pretty(self).expect("a note is plain data");
        let made =
            crate::durable::create_folder(&home.join("run")).and_then(|()| crate::durable::replace(&path, &text));
        made.map_err(|e| write_error(&e, NOTE))
    }

    /// That of the last restore, if it was one of single files. What it says is checked: its paths lead nowhere else.
    pub(super) fn read(home: &Path) -> Option<Self> {
        let text = read_own(&home.join(NOTE)).ok().flatten()?;
        let note: Self = serde_json::from_slice(&text).ok()?;
        let is_stamp = note.stamp.bytes().all(|b| b.is_ascii_digit() || b"_-".contains(&b));
        let is_right = |replaced: &Replaced| checked(replaced.path.as_bytes()).is_ok();
        (is_stamp && note.replaced.iter().all(is_right)).then_some(note)
    }

    /// Where what was at a path lies now.
    pub(super) fn kept(&self, home: &Path, path: &str) -> PathBuf {
        beside(&home.join(path), &format!("{KEPT}{}", self.stamp))
    }

    /// What can be put back: all but what an interrupted one never came to, or what somebody removed since.
    pub(super) fn way_back(&self, home: &Path) -> Vec<&Replaced> {
        let is_there = |one: &&Replaced| match one.was_there {
            true => self.kept(home, &one.path).symlink_metadata().is_ok(),
            false => home.join(&one.path).symlink_metadata().is_ok(),
        };
        self.replaced.iter().filter(is_there).collect()
    }
}

/// A whole home takes the place of another: what was replaced in it before is not what comes next on the way back.
pub(super) fn forget(home: &Path) -> io::Result<()> {
    crate::durable::remove(&home.join(NOTE)).map(drop)
}

/// Puts back what the last `--only` replaced; what it had put there is kept in turn, so that this can be undone, too.
pub(super) fn undo(home: &Path, note: &Note, stamp: &str) -> Result<Done> {
    let back = note.way_back(home);
    for one in &back {
        check_way(home, &one.path)?;
        check_log(&note.kept(home, &one.path), &home.join(&one.path), &one.path)?;
    }
    let stamp = &free_for(home, stamp, back.iter().map(|one| one.path.as_str()));
    Note::new(home, stamp, "undo", back.iter().map(|one| one.path.as_str())).write(home)?;
    let mut done = Done::default();
    for Replaced { path, was_there } in back {
        let (place, old) = (home.join(path), note.kept(home, path));
        let failed = |e: io::Error| write_error(&e, path);
        if *was_there {
            put(&old, &place, stamp, &mut done).map_err(failed)?;
        } else {
            let kept = beside(&place, &format!("{KEPT}{stamp}"));
            std::fs::rename(&place, &kept).and_then(|()| crate::durable::sync_parent(&place)).map_err(failed)?;
            done.kept.push(Kept { place, kept });
        }
    }
    Ok(done)
}

/// Without paths that lie below others.
pub(super) fn outermost(wanted: &[String]) -> Vec<&str> {
    let mut all: Vec<&str> = wanted.iter().map(|w| w.trim_end_matches('/')).collect();
    all.sort_unstable();
    all.dedup();
    let inner = |path: &str| all.iter().any(|other| *other != path && is_within(path, other));
    all.iter().copied().filter(|path| !inner(path)).collect()
}

/// No folder on the way may be a link: it would lead out of the home.
fn check_way(home: &Path, path: &str) -> Result<()> {
    for (at, _) in path.match_indices('/') {
        let folder = home.join(&path[..at]);
        if folder.is_symlink() || folder.exists() && !folder.is_dir() {
            return Err(Error::config("restore.choice", format!("{path} cannot be restored"))
                .cause(format!("{} is not a folder", folder.display())));
        }
    }
    Ok(())
}

/// A database's log would be replayed into the one that comes in.
fn check_log(new: &Path, place: &Path, path: &str) -> Result<()> {
    if new.is_file()
        && ["-wal", "-journal"].iter().any(|end| beside(place, end).metadata().is_ok_and(|log| log.len() > 0))
    {
        return Err(Error::config("restore.choice", format!("{path} cannot be restored, and nothing was touched"))
            .cause("it is a database with a log beside it: a program has it open, or was cut off")
            .hint("end that program in order, then restore again"));
    }
    Ok(())
}

fn put(new: &Path, place: &Path, stamp: &str, done: &mut Done) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        crate::durable::create_folder(folder)?;
    }
    let kept = beside(place, &format!("{KEPT}{stamp}"));
    let old = place.symlink_metadata();
    match old {
        Err(e) if e.kind() == io::ErrorKind::NotFound => std::fs::rename(new, place)?,
        Err(e) => return Err(e),
        Ok(old) if new.is_dir() || old.is_dir() => {
            // Beside its place first: the exchange is then one step within one folder.
            let beside_it = beside(place, &format!("{PREPARING}{stamp}"));
            std::fs::rename(new, &beside_it)?;
            exchange(&beside_it, place, &kept)?;
            done.kept.push(Kept { place: place.to_owned(), kept });
        }
        Ok(_) => {
            // A second name for the old one, then the new one over the first: there is no moment without a file.
            std::fs::hard_link(place, &kept)?;
            std::fs::rename(new, place)?;
            done.kept.push(Kept { place: place.to_owned(), kept });
        }
    }
    done.placed += 1;
    crate::durable::sync_parent(place)
}

fn exchange(new: &Path, place: &Path, kept: &Path) -> io::Result<()> {
    let at_once = rustix::fs::renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE);
    match at_once {
        Ok(()) => std::fs::rename(new, kept),
        Err(_) => {
            std::fs::rename(place, kept)?;
            std::fs::rename(new, place)
        }
    }
}
