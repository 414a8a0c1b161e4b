//! What a restore unpacks into, noted beside its place before any of it is made: so that one that was killed leaves nothing for long.
//!
//! The note carries a kernel lock, which ends with the life of its holder. Whoever looks next removes at once what a dead restore left,
//! and nothing that a living one works in. It must never remove what no such note names, nor what a journal has taken over.

use super::names::is_id;
use super::swap::{self, PREPARING, beside};
use crate::adapters::beneath::above;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Behind the name of the folder in preparation.
const NOTE: &str = ".json";

/// Held while a restore prepares and swaps; dropped, it leaves no note.
#[derive(Debug)]
pub(super) struct Claim {
    note: PathBuf,
    /// Its lock is the sign of life.
    _held: Option<File>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    stamp: String,
    /// Beside each of these a folder is in preparation; beside the place of the note there is one anyway.
    include: Vec<PathBuf>,
}

impl Claim {
    /// Says that folders for these places are in preparation from now on: the home, or the one folder, first.
    pub(super) fn stake(places: &[PathBuf], stamp: &str) -> io::Result<Self> {
        let note = name(&places[0], stamp);
        let text = Note { stamp: stamp.to_owned(), include: places[1..].to_vec() };
        let text = serde_json::to_vec_pretty(&text).expect("a note is plain data");
        let mut held = None;
        // Locked before it has its name. Where a file system has no locks nobody else gets one either, and nothing is removed.
        crate::durable::replace_with(&note, |file| {
            if file.try_lock().is_ok() {
                held = Some(file.try_clone()?);
            }
            file.write_all(&text)
        })?;
        Ok(Self { note, _held: held })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // What is left is removed by the next one that looks.
        let _ = crate::durable::remove(&self.note);
    }
}

/// The note of a restore to `place`.
pub(super) fn name(place: &Path, stamp: &str) -> PathBuf {
    beside(place, &format!("{PREPARING}{stamp}{NOTE}"))
}

/// Removes what dead restores to `place` had in preparation, wherever it lies. Best effort.
pub fn sweep(place: &Path) {
    let Ok(place) = &std::path::absolute(place) else { return };
    let (Some(folder), prefix) = (place.parent(), beside(place, PREPARING)) else { return };
    // Notes and journals that were not finished.
    let _ = crate::durable::sweep_here(folder);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let stamp = path.to_str().zip(prefix.to_str()).and_then(|(path, prefix)| path.strip_prefix(prefix));
        if let Some(stamp) = stamp.and_then(|rest| rest.strip_suffix(NOTE)).filter(|stamp| is_id(stamp)) {
            sweep_one(place, stamp, &path);
        }
    }
}

fn sweep_one(place: &Path, stamp: &str, path: &Path) {
    // Held to the end: its removal is this one's alone.
    let Some(_lock) = crate::durable::open_regular(path).ok().filter(|note| note.try_lock().is_ok()) else { return };
    // What is under way is the journal's: the old state can have the name of what was in preparation.
    if swap::journal_path(place).symlink_metadata().is_ok() {
        return;
    }
    let text = swap::read_own(path).ok().flatten().unwrap_or_default();
    let Some(note) = serde_json::from_slice::<Note>(&text).ok().filter(|note| note.stamp == stamp) else { return };
    let places = std::iter::once(place).chain(note.include.iter().map(PathBuf::as_path));
    let folders = places.flat_map(|place| {
        let folder = beside(place, &format!("{PREPARING}{stamp}"));
        [above(&folder), folder]
    });
    let left = folders.filter(|folder| {
        swap::discard(folder);
        folder.symlink_metadata().is_ok()
    });
    // The note stays as long as anything that it names.
    if left.count() == 0 {
        let _ = crate::durable::remove(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "20261122_010203";

    /// Two places in a scratch folder, with what a restore prepares beside them.
    fn prepared() -> (tempfile::TempDir, Vec<PathBuf>, Vec<PathBuf>) {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let places: Vec<PathBuf> = ["home", "notes"].iter().map(|name| scratch.path().join(name)).collect();
        let folders: Vec<PathBuf> = places.iter().map(|place| beside(place, &format!("{PREPARING}{STAMP}"))).collect();
        folders.iter().for_each(|folder| std::fs::create_dir_all(folder.join("deep")).expect("folders"));
        (scratch, places, folders)
    }

    /// As a kill leaves it: the lock is gone and the note is there.
    fn killed(places: &[PathBuf]) {
        let claim = Claim::stake(places, STAMP).expect("staked");
        let text = std::fs::read(&claim.note).expect("a note");
        let note = claim.note.clone();
        drop(claim);
        std::fs::write(&note, text).expect("written");
        std::fs::set_permissions(&note, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("rights");
    }

    #[test]
    fn what_a_living_restore_prepares_stays_and_what_a_dead_one_left_goes_at_once() {
        let (_scratch, places, folders) = prepared();
        let claim = Claim::stake(&places, STAMP).expect("staked");
        sweep(&places[0]);
        assert!(folders.iter().all(|folder| folder.exists()), "it lives");
        drop(claim);
        sweep(&places[0]);
        assert!(folders.iter().all(|folder| folder.exists()), "no note names them");
        killed(&places);
        sweep(&places[1]);
        assert!(folders.iter().all(|folder| folder.exists()), "the note is that of another place");
        sweep(&places[0]);
        assert!(!folders.iter().any(|folder| folder.exists()) && !name(&places[0], STAMP).exists());
    }

    #[test]
    fn what_a_journal_took_over_is_left_to_it() {
        let (_scratch, places, folders) = prepared();
        killed(&places);
        std::fs::write(swap::journal_path(&places[0]), b"{}").expect("a journal");
        sweep(&places[0]);
        assert!(folders.iter().all(|folder| folder.exists()) && name(&places[0], STAMP).exists());
    }
}
