//! Puts single files and folders back: each written beside, swapped in at once, the old one kept under a name.
//!
//! What belongs together stays together: the ledger is never put back alone, because it speaks of the archive as it was. Files of
//! the archive are put back one by one, so that nothing that came later goes.

use super::Done;
use super::manifest::Kind;
use super::names::checked;
use super::stage::write_error;
use super::swap::{KEPT, Kept, PREPARING, beside};
use super::verify::Verified;
use moon_actors::{Error, Result};
use rustix::fs::{CWD, RenameFlags};
use std::io;
use std::path::Path;

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

/// Puts what was unpacked below `staged` into `home`.
pub(super) fn put_in_place(staged: &Path, home: &Path, wanted: &[String], stamp: &str) -> Result<Done> {
    let mut done = Done::default();
    for path in outermost(wanted) {
        check_way(home, path)?;
        check_log(&staged.join(path), &home.join(path), path)?;
    }
    for path in outermost(wanted) {
        let (new, place) = (staged.join(path), home.join(path));
        put(&new, &place, is_within(path, "archives"), stamp, &mut done).map_err(|e| write_error(&e, path))?;
    }
    Ok(done)
}

/// Without paths that lie below others.
fn outermost(wanted: &[String]) -> Vec<&str> {
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

fn put(new: &Path, place: &Path, one_by_one: bool, stamp: &str, done: &mut Done) -> io::Result<()> {
    if new.is_dir() && one_by_one {
        for entry in std::fs::read_dir(new)? {
            let entry = entry?;
            put(&entry.path(), &place.join(entry.file_name()), true, stamp, done)?;
        }
        return Ok(());
    }
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
        Ok(old) => {
            if one_by_one && old.is_file() && std::fs::read(place)? == std::fs::read(new)? {
                return Ok(());
            }
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
