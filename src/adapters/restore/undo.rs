//! The way back from the last restore: the whole home, or the single files of `--only`.
//!
//! The last one is what `--only` noted, if the home holds such a note: a restore of the whole begins without one. What is in the way
//! is kept in turn, so that the way back can be gone back.

use super::only::{self, Note};
use super::swap::{self, KEPT, Kept, Marker, Move, RealDisk, beside};
use super::{Done, absolute, free_stamp, swap_all, write_error};
use crate::daemon::lock::HomeLock;
use crate::home::Home;
use moon_actors::port::Probe;
use moon_actors::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an undo would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WayBack {
    /// The id of the backup that was restored, or `undo`.
    pub from: String,
    pub at: String,
    /// The whole home; else single files of it.
    pub whole: bool,
    /// What would be put back: its place, and where it is kept now.
    pub back: Vec<Kept>,
    /// What was put where nothing was, and would be kept aside.
    pub aside: Vec<PathBuf>,
    /// Where the home from before an earlier restore of the whole is kept: that one is not undone.
    pub earlier: Option<PathBuf>,
}

enum Last {
    Whole(Marker, Vec<Kept>),
    Only(Note),
}

/// What [`undo`] would do. Touches nothing.
pub fn way_back(home: &Home) -> Result<WayBack> {
    let place = absolute(home)?;
    Ok(match last(&place)? {
        Last::Whole(marker, back) => {
            WayBack { from: marker.from, at: marker.at, whole: true, back, aside: Vec::new(), earlier: None }
        }
        Last::Only(note) => {
            let (back, aside): (Vec<_>, Vec<_>) = note.way_back(&place).into_iter().partition(|one| one.was_there);
            let kept = |path: &String| Kept { place: place.join(path), kept: note.kept(&place, path) };
            let earlier = swap::marker(&place).and_then(|marker| marker.kept_beside(&place).into_iter().next());
            WayBack {
                back: back.into_iter().map(|one| kept(&one.path)).collect(),
                aside: aside.into_iter().map(|one| place.join(&one.path)).collect(),
                from: note.from,
                at: note.at,
                whole: false,
                earlier: earlier.map(|kept| kept.kept),
            }
        }
    })
}

/// Puts back what the last restore replaced. `_held` is the lock of the home that is there now.
pub fn undo(home: &Home, _held: &HomeLock, probe: &Arc<dyn Probe>) -> Result<Done> {
    let place = absolute(home)?;
    let stamp = free_stamp([&place]);
    let disk = RealDisk { probe: Arc::clone(probe) };
    let back = match last(&place)? {
        Last::Only(note) => return only::undo(&disk, &place, &note, &stamp),
        Last::Whole(_, back) => back,
    };
    let mut moves = Vec::new();
    for (number, kept) in back.into_iter().enumerate() {
        let aside = beside(&kept.place, &format!("{KEPT}{stamp}"));
        moves.push(Move { place: kept.place, incoming: kept.kept, kept: aside, is_home: number == 0 });
    }
    let coming = Home::at(&moves[0].incoming);
    crate::durable::create_folder(&coming.run_dir()).map_err(|e| write_error(&e, "run"))?;
    let _lock = HomeLock::take(&coming, "restore")?;
    swap_all(&disk, &stamp, "undo", &moves)
}

/// What the last restore was, if the way back from it is open.
fn last(place: &Path) -> Result<Last> {
    if let Some(note) = Note::read(place) {
        if note.way_back(place).is_empty() {
            return Err(nothing(format!("what was replaced on {} is not there any more", note.at)));
        }
        return Ok(Last::Only(note));
    }
    let marker =
        swap::marker(place).ok_or_else(|| nothing(format!("{} was not put there by a restore", place.display())))?;
    let is_beside = |kept: &Kept| {
        let prefix = beside(&kept.place, KEPT).to_string_lossy().into_owned();
        kept.kept.parent() == kept.place.parent() && kept.kept.to_string_lossy().starts_with(&prefix)
    };
    let back = marker.kept_beside(place);
    if let Some(gone) = back.iter().find(|kept| !is_beside(kept) || !kept.kept.is_dir()) {
        return Err(nothing(format!("{} is not there any more", gone.kept.display())));
    }
    if back.is_empty() {
        return Err(nothing(format!("nothing was in the place of {} before", place.display())));
    }
    Ok(Last::Whole(marker, back))
}

fn nothing(why: String) -> Error {
    Error::config("restore.nothing_to_undo", "there is no restore to undo, and nothing was touched")
        .cause(why)
        .hint("name a backup to restore, or look for names with .pre-restore- in them beside the home and in it")
}
