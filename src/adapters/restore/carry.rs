//! Takes along what belongs to the machine and not to the state that is swapped: the backups, and the wish that Moon shall stay away.
//!
//! Each archive gets a second name (hard link) in the folder that comes in, before anything is swapped. So there is no moment at
//! which they lie in neither place, and no step that a crash could leave half done. The names in the old state go when the new one
//! is in place. Archives are never copied but where a file system has no hard links, and never removed.

use crate::home::Home;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Gives everything below `from` a second name below `to`, durably. What `to` has already stays.
pub(super) fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(from) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if found.is_symlink() {
        // What lies on another disk stays there: the way to it is taken along.
        if to.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(std::fs::read_link(from)?, to)?;
        }
        return crate::durable::sync_parent(to);
    }
    crate::durable::create_folder(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, new) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() || kind.is_symlink() {
            link_all(&entry.path(), &new)?;
        } else if kind.is_file() && !is_same(&entry.metadata()?, &new) {
            let _ = std::fs::remove_file(&new);
            if std::fs::hard_link(entry.path(), &new).is_err() {
                crate::durable::replace_with(&new, |file| {
                    io::copy(&mut std::fs::File::open(entry.path())?, file).map(drop)
                })?;
            }
        }
    }
    std::fs::File::open(to)?.sync_all()
}

/// A deliberate stop goes on, and one from the time of the backup is over: before the swap, so that no crash forgets it.
pub(super) fn wish(from: &Home, to: &Home) -> io::Result<()> {
    let (now, then) = (from.stopped_file(), to.stopped_file());
    match std::fs::read(&now) {
        Ok(note) => {
            crate::durable::create_folder(&to.state_dir())?;
            crate::durable::replace(&then, &note)
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            crate::durable::remove(&then).map(drop)
        }
        Err(e) => Err(e),
    }
}

/// Takes names away below `old` that `new` has, too. Best effort: a name too many costs nothing.
pub(super) fn unlink_doubles(old: &Path, new: &Path) {
    for entry in std::fs::read_dir(old).into_iter().flatten().flatten() {
        let (Ok(found), other) = (entry.metadata(), new.join(entry.file_name())) else { continue };
        if found.is_dir() {
            unlink_doubles(&entry.path(), &other);
            let _ = std::fs::remove_dir(entry.path());
        } else if found.is_file() && is_same(&found, &other) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn is_same(found: &Metadata, other: &Path) -> bool {
    std::fs::symlink_metadata(other).is_ok_and(|other| (other.dev(), other.ino()) == (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_have_two_names_while_states_are_swapped_and_one_afterwards() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (old, new) = (scratch.path().join("old"), scratch.path().join("new"));
        std::fs::create_dir_all(old.join("far")).expect("folders");
        std::fs::write(old.join("a.tar.zst"), b"archive").expect("a file");
        std::fs::write(old.join("far/b"), b"other").expect("a file");
        link_all(&old, &new).expect("links");
        link_all(&old, &new).expect("may be done again");
        assert_eq!(std::fs::read(new.join("far/b")).expect("there"), b"other");
        std::fs::write(new.join("later"), b"x").expect("a file");
        unlink_doubles(&old, &new);
        assert_eq!(std::fs::read_dir(&old).expect("listable").count(), 0);
        assert_eq!(std::fs::read(new.join("a.tar.zst")).expect("there"), b"archive");
        unlink_doubles(&old, &new);
        assert!(new.join("later").exists());
    }
}
