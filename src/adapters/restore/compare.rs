//! What a restore would change: what is there now against what would be put in its place, for a preview. Reads only.

use super::names::check_home_path;
use super::{Choice, Prepared, database, only};
use crate::home::Home;
use moon_actors::domain::Sha256;
use sha2::{Digest, Sha256 as Hasher};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

/// Paths of the home relative to it; those of included folders, and of the folder of `--to`, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub same: usize,
}

/// Compares every file that would be restored with the one in its place, by size first, then by hash, databases by what they hold; and
/// finds those that would go.
pub fn compare(prepared: &Prepared) -> io::Result<Changes> {
    let mut changes = Changes::default();
    let mut coming: HashSet<PathBuf> = HashSet::new();
    for (path, seen) in &prepared.verified.members {
        let (Some((root, below)), Some(sha256)) = (prepared.place(path), &seen.sha256) else { continue };
        let here = prepared.moves[root].place.join(&below);
        let shown = shown(prepared, root, &below);
        let incoming = &prepared.moves[root].incoming;
        // Also one that was not sound and is listed as a plain file.
        let is_same_db = || {
            let is_same = || database::is_same(&incoming.join(&below), &here, incoming);
            if seen.looks_like_database { is_same() } else { Ok(false) }
        };
        match std::fs::symlink_metadata(&here) {
            Err(_) => changes.added.push(shown),
            Ok(found) if found.is_file() && (found.len() == seen.bytes && hash(&here)? == *sha256 || is_same_db()?) => {
                changes.same += 1;
            }
            Ok(_) => changes.changed.push(shown),
        }
        coming.insert(here);
    }
    for (root, below) in replaced_whole(prepared) {
        let is_home = prepared.moves[root].is_home;
        walk(&prepared.moves[root].place, &below, is_home, &mut |path| {
            let side_of = ["-wal", "-shm"].iter().find_map(|end| path.strip_suffix(end));
            let is_coming = |path: &str| coming.contains(&prepared.moves[root].place.join(path));
            // What stands beside a database is a part of it.
            if !is_coming(path) && !side_of.is_some_and(is_coming) {
                changes.removed.push(shown(prepared, root, path));
            }
        })?;
    }
    changes.removed.sort();
    Ok(changes)
}

fn shown(prepared: &Prepared, root: usize, below: &str) -> String {
    let place = &prepared.moves[root];
    if place.is_home { below.to_owned() } else { place.place.join(below).display().to_string() }
}

/// The folders that are put in place whole, so that what is in them now and not in the backup goes: root, and path below it.
fn replaced_whole(prepared: &Prepared) -> Vec<(usize, String)> {
    match &prepared.choice {
        Choice::To(_) => Vec::new(),
        Choice::Whole { .. } => (0..prepared.moves.len()).map(|root| (root, String::new())).collect(),
        Choice::Only(wanted) => {
            let whole = only::outermost(wanted).into_iter().filter(|path| !only::is_one_by_one(path));
            whole.map(|path| (0, path.to_owned())).collect()
        }
    }
}

fn hash(path: &Path) -> io::Result<Sha256> {
    let (mut file, mut hasher) = (crate::durable::open_regular(path)?, Hasher::new());
    super::verify::copy(&mut file, &mut |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    Ok(Sha256::from_digest(&hasher.finalize()))
}

/// Every file below a folder, without what the home keeps to itself.
fn walk(root: &Path, below: &str, is_home: bool, see: &mut dyn FnMut(&str)) -> io::Result<()> {
    let entries = match std::fs::read_dir(root.join(below)) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if is_home && (check_home_path(&path).is_err() || path == Home::STOPPED) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &path, is_home, see)?;
        } else if kind.is_file() {
            see(&path);
        }
    }
    Ok(())
}
