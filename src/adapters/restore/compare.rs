//! What a restore would change: the home as it is against the archive, for a preview. Reads only.

use super::verify::Verified;
use moon_actors::domain::Sha256;
use sha2::{Digest, Sha256 as Hasher};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Paths relative to the home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub same: usize,
}

/// Compares every file of the home, by size first, then by hash.
pub fn compare(verified: &Verified, home: &Path) -> io::Result<Changes> {
    let mut changes = Changes::default();
    let mut listed = BTreeSet::new();
    for (path, seen) in &verified.members {
        let (Some(path), Some(sha256)) = (path.strip_prefix("home/"), &seen.sha256) else { continue };
        listed.insert(path);
        let here = home.join(path);
        match std::fs::symlink_metadata(&here) {
            Err(_) => changes.added.push(path.to_owned()),
            Ok(found) if found.is_file() && found.len() == seen.bytes && hash(&here)? == *sha256 => changes.same += 1,
            Ok(_) => changes.changed.push(path.to_owned()),
        }
    }
    walk(home, "", &mut |path| {
        if !listed.contains(path) {
            changes.removed.push(path.to_owned());
        }
    })?;
    changes.removed.sort();
    Ok(changes)
}

fn hash(path: &Path) -> io::Result<Sha256> {
    let (mut file, mut hasher) = (crate::durable::open_regular(path)?, Hasher::new());
    super::verify::copy(&mut file, &mut |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    Ok(Sha256::from_digest(&hasher.finalize()))
}

/// Every file below a home that a backup would hold.
fn walk(home: &Path, below: &str, see: &mut dyn FnMut(&str)) -> io::Result<()> {
    let entries = match std::fs::read_dir(home.join(below)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let is_side_file = ["-wal", "-shm"].iter().any(|end| path.ends_with(end));
        if super::names::check_home_path(&path).is_err() || is_side_file {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(home, &path, see)?;
        } else if kind.is_file() {
            see(&path);
        }
    }
    Ok(())
}
