//! Restoring a backup: everything is verified before anything is touched, then two names are exchanged.
//!
//! `source` finds the archive and takes its wrapping off, `verify` reads it from end to end against its own lists, `stage`
//! unpacks it into a fresh folder beside the home, `database` opens what is a database, `swap` puts the folder in the home's
//! place. Until the last step the home is not touched and a daemon goes on working. It must never extract in place, follow a link,
//! apply a right that an archive asks for, or remove the old state.
//!
//! Blocking throughout.

mod carry;
mod claim;
mod compare;
mod database;
mod interrupted;
pub(super) mod manifest;
pub(super) mod members;
pub mod names;
mod only;
mod singles;
pub mod source;
mod stage;
mod swap;
#[cfg(test)]
mod tests;
mod undo;
mod verify;

pub use claim::sweep;
pub use compare::{Changes, compare};
pub use interrupted::{Fate, Interrupted, interrupted};
pub use manifest::{Manifest, Seen};
pub use members::Layout;
pub use swap::Kept;
pub use undo::{WayBack, undo, way_back};
pub use verify::Verified;

use crate::adapters::beneath::{self, Beneath};
use crate::daemon::lock::HomeLock;
use crate::home::Home;
use claim::Claim;
use futures_util::FutureExt as _;
use moon_actors::port::Probe;
use moon_actors::{Error, Result};
use source::Source;
use stage::{Reading, write_error};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use swap::{Disk, Journal, KEPT, Marker, Move, PREPARING, RealDisk, Settled, beside};

/// The ledger as a member.
const LEDGER: &str = "home/state/moon.db";

/// What is to be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The home, and these included folders at their original places.
    Whole { include: Vec<PathBuf> },
    /// Single files and folders of the home, relative to it.
    Only(Vec<String>),
    /// Everything, into a folder that is new or empty.
    To(PathBuf),
}

impl Choice {
    /// With names that others can be made of by what is put behind them: absolute, each folder once, without a slash at the end.
    fn plain(self) -> Result<Self> {
        let plain = |path: PathBuf| match std::path::absolute(&path) {
            Ok(path) => Ok(path.components().collect::<PathBuf>()),
            Err(e) => Err(write_error(&e, &path.display().to_string())),
        };
        Ok(match self {
            Self::Whole { include } => {
                let include = include.into_iter().map(plain).collect::<Result<std::collections::BTreeSet<_>>>()?;
                Self::Whole { include: include.into_iter().collect() }
            }
            Self::To(folder) => Self::To(plain(folder)?),
            Self::Only(paths) => Self::Only(paths),
        })
    }
}

/// Where a test may stop the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Unpacked,
    Swapped,
}

fn step(probe: &dyn Probe, step: Step) {
    let reached = match step {
        Step::Unpacked => probe.reach("restore.unpacked"),
        Step::Swapped => probe.reach("restore.swapped"),
    };
    // Either it returns at once, or the process ends in it.
    let _ = reached.now_or_never();
}

/// What happened, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// What was replaced, and where the old is kept.
    pub kept: Vec<Kept>,
    /// Files and folders put in place.
    pub placed: usize,
}

/// A verified archive, unpacked beside its place and durable; removed again unless it is put in place.
#[derive(Debug)]
pub struct Prepared {
    pub verified: Verified,
    /// So many of its databases were opened and are whole …
    pub whole: usize,
    /// … and so many were not, because they are not restored.
    pub unopened: usize,
    home: PathBuf,
    stamp: String,
    choice: Choice,
    /// What was unpacked where: the home or the one folder first.
    moves: Vec<Move>,
    /// Tells others that somebody works here.
    lock: Option<HomeLock>,
    /// Tells them what to remove when he is dead.
    claim: Option<Claim>,
    is_placed: bool,
}

/// Verifies the archive and unpacks what `choice` wants of it. Touches nothing that is in use. `progress` is told the bytes read, of
/// [`Source::to_read`].
pub fn prepare(
    home: &Home,
    source: &Source,
    identity: Option<&Path>,
    choice: Choice,
    progress: &dyn Fn(u64),
    probe: &dyn Probe,
) -> Result<Prepared> {
    let choice = choice.plain()?;
    let verified = verify::verify(source, identity, progress)?;
    let home = absolute(home)?;
    check_choice(&home, &verified, &choice)?;
    let included = match &choice {
        Choice::Whole { include } => include.as_slice(),
        Choice::Only(_) | Choice::To(_) => &[],
    };
    let stamp = free_stamp(std::iter::once(&home).chain(included));
    let mut prepared = Prepared {
        verified,
        whole: 0,
        unopened: 0,
        home,
        stamp,
        choice,
        moves: Vec::new(),
        lock: None,
        claim: None,
        is_placed: false,
    };
    let mut roots = prepared.make_roots()?;
    let before = source.to_read() - source.bytes;
    let progress = &|bytes| progress(before + bytes);
    let reading = Reading { source, identity, verified: &prepared.verified, progress, probe };
    let made = stage::stage(&reading, &mut roots, &|path| prepared.place(path))?;
    // SQLite reads what is there while the disk is waited for.
    let whole = std::thread::scope(|scope| {
        let synced = scope.spawn(|| stage::sync(&roots, &made));
        let checked = prepared.check_databases(&roots);
        synced.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(checked)
    })?;
    prepared.unopened = stage::databases(&prepared.verified).len() - whole;
    prepared.whole = whole;
    Ok(prepared)
}

impl Prepared {
    /// Where things are unpacked to; each is removed with `self` unless it is put in place.
    fn make_roots(&mut self) -> Result<Vec<Beneath>> {
        let places: Vec<PathBuf> = match &self.choice {
            Choice::Whole { include } => std::iter::once(&self.home).chain(include).cloned().collect(),
            Choice::Only(_) => vec![self.home.clone()],
            Choice::To(folder) => vec![folder.clone()],
        };
        let has_lock = !matches!(self.choice, Choice::To(_));
        places.iter().try_for_each(|place| check_place(place))?;
        sweep(&places[0]);
        self.claim = Some(Claim::stake(&places, &self.stamp).map_err(|e| not_swappable(&places[0], &e))?);
        let mut roots = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let incoming = beside(place, &format!("{PREPARING}{}", self.stamp));
            let mut root = Beneath::make(&incoming).map_err(|e| not_swappable(place, &e))?;
            let kept = beside(place, &format!("{KEPT}{}", self.stamp));
            self.moves.push(Move { place: place.clone(), incoming, kept, is_home: number == 0 && has_lock });
            if number == 0 && has_lock {
                root.make_folder("run").map_err(|e| write_error(&e, "run"))?;
                self.lock = Some(HomeLock::take(&Home::at(root.path()), "restore")?);
            }
            roots.push(root);
        }
        Ok(roots)
    }

    fn place(&self, path: &str) -> Option<(usize, String)> {
        let below = |folder: &str| match path.strip_prefix(folder)? {
            "" => Some(String::new()),
            rest => rest.strip_prefix('/').map(str::to_owned),
        };
        match &self.choice {
            Choice::To(_) => Some((0, path.to_owned())),
            Choice::Only(wanted) => {
                let path = below("home")?;
                wanted.iter().any(|w| only::is_within(&path, w)).then_some((0, path))
            }
            Choice::Whole { include } => {
                if let Some(path) = below("home") {
                    // Empty folders of these names may be listed; what belongs into them is the machine's.
                    return (!["run", "backups", "index"].contains(&path.as_str())).then_some((0, path));
                }
                let manifest = self.verified.manifest.as_ref()?;
                include.iter().enumerate().find_map(|(number, wanted)| {
                    let entry = manifest.include.iter().find(|entry| entry.path == *wanted)?;
                    Some((number + 1, below(&format!("include/{}", entry.n))?))
                })
            }
        }
    }

    /// How many there are: an error when one is not whole.
    fn check_databases(&self, roots: &[Beneath]) -> Result<usize> {
        let mut whole = 0;
        for path in stage::databases(&self.verified) {
            let Some((root, below)) = self.place(path) else { continue };
            let name = roots[root].name_for_sqlite(&below).map_err(|e| write_error(&e, path))?;
            let file = name.as_ref();
            database::check(file, path)?;
            let ledger = self.verified.manifest.as_ref().and_then(|m| m.ledger.as_ref());
            if let Some(expected) = ledger.filter(|_| path == LEDGER) {
                database::check_ledger(file, expected)?;
            }
            whole += 1;
        }
        Ok(whole)
    }

    /// Puts everything in its place. `_held` is the lock of the home that is there now, if there is one: whoever calls has sent
    /// the daemon away.
    pub fn put_in_place(mut self, _held: Option<&HomeLock>, probe: &Arc<dyn Probe>) -> Result<Done> {
        let disk = RealDisk { probe: Arc::clone(probe) };
        let done = match &self.choice {
            Choice::To(_) => self.put_into_folder(),
            Choice::Only(wanted) => {
                let unpacked = (self.moves[0].incoming.as_path(), self.stamp.as_str());
                let done = only::put_in_place(&disk, unpacked, &self.home, wanted, &self.verified.id);
                // What is under way belongs to the journal; else what is left here is not needed any more.
                self.is_placed = swap::journal_path(&self.home).exists();
                done
            }
            Choice::Whole { .. } => {
                let done = swap_all(&disk, &self.stamp, &self.verified.id, &self.moves);
                // Even a failure may have begun: what is under way belongs to the journal.
                self.is_placed = done.is_ok() || swap::journal_path(&self.home).exists();
                done
            }
        };
        if matches!(self.choice, Choice::To(_)) {
            self.is_placed = done.is_ok();
        }
        done
    }

    fn put_into_folder(&self) -> Result<Done> {
        let Move { place, incoming, .. } = &self.moves[0];
        // Onto an empty folder a rename may go; onto anything else it fails.
        let renamed = std::fs::rename(incoming, place).and_then(|()| crate::durable::sync_parent(place));
        renamed.map_err(|e| write_error(&e, &place.display().to_string()))?;
        Ok(Done { kept: Vec::new(), placed: self.verified.files() })
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.is_placed {
            self.moves.iter().for_each(|m| swap::discard(&m.incoming));
        }
    }
}

/// Finishes or takes back a restore that was interrupted: called by every opening of a home for writing. Returns the one that was
/// finished.
pub fn settle(home: &Home) -> Result<Option<Interrupted>> {
    let disk = RealDisk { probe: crate::adapters::probe::from_environment() };
    // Its journal goes with the settling.
    let was = interrupted(home);
    let settled = match singles::settle(home.root(), &disk)? {
        None => swap::settle(home.root(), &disk)?,
        singles => singles,
    };
    if settled.is_some() {
        sweep(home.root());
    }
    let what = was.as_ref().map_or_else(|| "what it was is not known".to_owned(), Interrupted::what);
    match settled {
        Some(Settled::Completed) => {
            tracing::warn!(
                "a restore that was interrupted has been finished: {what}. `moon restore --undo` takes it back"
            );
            return Ok(was);
        }
        Some(Settled::TakenBack) => {
            tracing::warn!("a restore that was interrupted has been taken back: the home is as it was, without {what}");
        }
        None => {}
    }
    Ok(None)
}

/// Takes the backups along, marks the home that comes in, and swaps.
fn swap_all(disk: &dyn Disk, stamp: &str, from: &str, moves: &[Move]) -> Result<Done> {
    let home = &moves[0];
    let had_home = home.place.symlink_metadata().is_ok();
    let failed = |e: io::Error| write_error(&e, "the folder that comes in");
    carry::link_all(&home.place.join("backups"), &home.incoming.join("backups")).map_err(failed)?;
    carry::wish(&Home::at(&home.place), &Home::at(&home.incoming)).map_err(failed)?;
    let is_there = |m: &&Move| m.place.symlink_metadata().is_ok();
    let kept: Vec<Kept> =
        moves.iter().filter(is_there).map(|m| Kept { place: m.place.clone(), kept: m.kept.clone() }).collect();
    let at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let marker = Marker { stamp: stamp.to_owned(), from: from.to_owned(), at, kept: kept.clone() };
    swap::mark(&home.incoming, &marker).map_err(failed)?;
    only::forget(&home.incoming).map_err(failed)?;
    swap::swap(disk, &Journal { version: 1, stamp: stamp.to_owned(), moves: moves.to_vec() })?;
    if had_home {
        carry::unlink_doubles(&home.kept.join("backups"), &home.place.join("backups"));
    }
    Ok(Done { kept, placed: moves.len() })
}

fn absolute(home: &Home) -> Result<PathBuf> {
    std::path::absolute(home.root()).map_err(|e| write_error(&e, "the home's name"))
}

fn check_choice(home: &Path, verified: &Verified, choice: &Choice) -> Result<()> {
    let unfit = |why: String, hint: &str| {
        Err(Error::config("restore.choice", "that cannot be restored, and nothing was touched").cause(why).hint(hint))
    };
    if verified.layout == Layout::Document && !matches!(choice, Choice::To(_)) {
        return unfit(
            "the archive has the layout of the operations document, which is not that of a home".into(),
            "name a new folder for it: `--to DIR`",
        );
    }
    match choice {
        Choice::Only(wanted) => only::check(wanted, verified),
        Choice::To(folder) => {
            let is_free =
                !folder.exists() || std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
            if is_free {
                Ok(())
            } else {
                unfit(format!("{} is not an empty folder", folder.display()), "name a new folder")
            }
        }
        Choice::Whole { include } => {
            let known = verified.manifest.iter().flat_map(|m| &m.include).map(|entry| &entry.path);
            let known: Vec<_> = known.collect();
            for folder in include {
                if !known.contains(&folder) {
                    return unfit(
                        format!("the archive holds no included folder {}", folder.display()),
                        "`--dry-run` lists them",
                    );
                }
                if !folder.is_absolute() || home.starts_with(folder) || folder.starts_with(home) {
                    return unfit(format!("{} lies around the home or in it", folder.display()), "use `--to DIR`");
                }
            }
            // A database that was damaged when it was taken is listed as a plain file.
            if stage::databases(verified).contains(LEDGER)
                && verified.manifest.as_ref().is_some_and(|m| m.ledger.is_some())
            {
                return Ok(());
            }
            unfit(
                "the archive holds no sound ledger".into(),
                "restore single files with `--only`, or all with `--to DIR`",
            )
        }
    }
}

/// Whether the folder at `place` can be swapped at all: asked before anything is unpacked.
fn check_place(place: &Path) -> Result<()> {
    let Some(parent) = place.parent() else { return Err(not_swappable(place, &"it has no folder above it")) };
    if place.symlink_metadata().is_err() {
        return crate::durable::create_folder(parent).map_err(|e| not_swappable(place, &e));
    }
    if place.is_symlink() || !place.is_dir() {
        return Err(not_swappable(place, &"it is not a folder"));
    }
    let backups = place.join("backups");
    let is_one = |other: &Path| beneath::same_device(place, other).unwrap_or(true);
    if !is_one(parent) || !backups.is_symlink() && !is_one(&backups) {
        return Err(not_swappable(place, &"it, or its folder backups, is a disk of its own"));
    }
    Ok(())
}

fn not_swappable(place: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::config("restore.not_swappable", format!("{} cannot be swapped, and nothing was touched", place.display()))
        .cause(why)
        .hint("restore into a new folder with `--to DIR` and move it yourself while no moon runs")
}

/// Now, as the folders are named by it, with a number where the name is taken beside any of the places.
fn free_stamp<'a>(places: impl IntoIterator<Item = &'a PathBuf>) -> String {
    let places: Vec<&PathBuf> = places.into_iter().collect();
    let now = chrono::Local::now().format("%Y%m%d_%H%M%S").to_string();
    let numbered = std::iter::once(now.clone()).chain((2..).map(|n: u64| format!("{now}-{n}")));
    let is_free_at = |place: &Path, stamp: &str| {
        // By the stamp in its marker the home that comes in is told from the one that goes.
        if swap::marker(place).is_some_and(|marker| marker.stamp == stamp) {
            return false;
        }
        let named = [PREPARING, KEPT].map(|what| beside(place, &format!("{what}{stamp}")));
        named.iter().chain([&claim::name(place, stamp)]).all(|name| name.symlink_metadata().is_err())
    };
    let is_free = |stamp: &String| places.iter().all(|place| is_free_at(place, stamp));
    numbered.into_iter().find(is_free).expect("there are more numbers than folders")
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
