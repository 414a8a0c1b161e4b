//! Single files and folders of a backup: which may be put back alone, what is put where, and the way back.
//!
//! What belongs together stays together: the ledger is never put back alone, because it speaks of the archive as it was. Files of
//! the archive are put back one by one, so that nothing that came later goes.

use super::Done;
use super::manifest::Kind;
use super::names::checked;
use super::singles::{self, Coming, Plan};
use super::stage::write_error;
use super::swap::{Disk, KEPT, beside, read_own};
use super::verify::Verified;
use moon_actors::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Most names that are shown of what is there.
const SHOWN: usize = 12;

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
            return Err(not_in(verified, path));
        }
        let listed = verified.manifest.iter().flat_map(|m| &m.members);
        if let Some(db) = listed.into_iter().find(|m| m.kind == Kind::Sqlite && m.path == full) {
            tracing::debug!(path = db.path, "a database is put back alone");
        }
    }
    Ok(())
}

/// With what is there, where the path leads to nothing.
fn not_in(verified: &Verified, path: &str) -> Error {
    let home: Vec<&str> = verified.members.keys().filter_map(|member| member.strip_prefix("home/")).collect();
    let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]);
    let holds = |folder: &&str| home.iter().any(|member| is_within(member, folder) && member.len() > folder.len());
    let folder = folders.rfind(holds);
    let below = |member: &&str| match folder {
        Some(folder) => member.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned),
        None => Some((*member).to_owned()),
    };
    let names = home.iter().filter_map(below).map(|rest| rest.split('/').next().unwrap_or_default().to_owned());
    let names: BTreeSet<String> = names.collect();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    let shown = names.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
    let place = folder.unwrap_or("the home");
    Error::config("restore.choice", format!("the backup holds no file or folder {path:?}, and nothing was touched"))
        .cause(format!("in it {place} holds {shown}{more}"))
        .hint("name a path as it is in the home, such as memory/2026-11-20.md, or another backup: `moon backup list`")
}

/// Whether what is in a folder of the home is put back file by file.
pub(super) fn is_one_by_one(path: &str) -> bool {
    is_within(path, "archives")
}

/// Puts what was unpacked below `staged`, with its stamp, into the home.
pub(super) fn put_in_place(
    disk: &dyn Disk,
    (staged, unpacked): (&Path, &str),
    home: &Path,
    wanted: &[String],
    from: &str,
) -> Result<Done> {
    let mut coming = Vec::new();
    for path in outermost(wanted) {
        check_way(home, path)?;
        check_log(&staged.join(path), &home.join(path), path)?;
        let failed = |e: io::Error| write_error(&e, path);
        list(staged, home, path, is_one_by_one(path), &mut coming).map_err(failed)?;
    }
    let stamp = &free_for(home, unpacked, coming.iter().map(String::as_str));
    let plan = Plan::new(home, (stamp, from), Coming::Unpacked(unpacked.to_owned()), &coming);
    singles::carry_out(disk, home, &plan.map_err(|e| write_error(&e, "what is put in place"))?)
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
    pub(super) fn write(&self, disk: &dyn Disk, home: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("a note is plain data");
        crate::durable::create_folder(&home.join("run"))?;
        disk.write(&home.join(NOTE), &text)
    }

    /// That of the last restore, if it was one of single files. What it says is checked: its paths lead nowhere else.
    pub(super) fn read(home: &Path) -> Option<Self> {
        let text = read_own(&home.join(NOTE)).ok().flatten()?;
        let note: Self = serde_json::from_slice(&text).ok()?;
        let is_right = |replaced: &Replaced| checked(replaced.path.as_bytes()).is_ok();
        (is_stamp(&note.stamp) && note.replaced.iter().all(is_right)).then_some(note)
    }

    /// Where what was at a path lies now.
    pub(super) fn kept(&self, home: &Path, path: &str) -> PathBuf {
        beside(&home.join(path), &format!("{KEPT}{}", self.stamp))
    }

    /// What can be put back: all but what somebody removed since.
    pub(super) fn way_back(&self, home: &Path) -> Vec<&Replaced> {
        let is_there = |one: &&Replaced| match one.was_there {
            true => self.kept(home, &one.path).symlink_metadata().is_ok(),
            false => home.join(&one.path).symlink_metadata().is_ok(),
        };
        self.replaced.iter().filter(is_there).collect()
    }
}

/// Of a restore, with the numbers that make it one that is free.
pub(super) fn is_stamp(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b"_-".contains(&b))
}

/// A whole home takes the place of another: what was replaced in it before is not what comes next on the way back.
pub(super) fn forget(home: &Path) -> io::Result<()> {
    crate::durable::remove(&home.join(NOTE)).map(drop)
}

/// Puts back what the last `--only` replaced; what it had put there is kept in turn, so that this can be undone, too.
pub(super) fn undo(disk: &dyn Disk, home: &Path, note: &Note, stamp: &str) -> Result<Done> {
    let back: Vec<String> = note.way_back(home).into_iter().map(|one| one.path.clone()).collect();
    for path in &back {
        check_way(home, path)?;
        check_log(&note.kept(home, path), &home.join(path), path)?;
    }
    let stamp = &free_for(home, stamp, back.iter().map(String::as_str));
    let plan = Plan::new(home, (stamp, "undo"), Coming::Kept(note.stamp.clone()), &back);
    singles::carry_out(disk, home, &plan.map_err(|e| write_error(&e, "what is put back"))?)
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
