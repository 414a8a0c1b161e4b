//! Unpacks a verified archive into fresh folders, reads every byte that was written again, and makes all of it durable.
//!
//! Only what the first pass has verified is written; a member that differs from it ends the restore. One thread decompresses, one
//! writes, one reads again. Nothing that is in use is
//! touched: a kill leaves a folder that nobody uses, and [`super::claim`] removes it.

use super::manifest::Listed;
use super::members::{Members, read_error};
use super::names::refused;
use super::source::Source;
use super::verify::{Verified, changed, copy};
use crate::adapters::beneath::{Beneath, set_mtime};
use moon_actors::domain::Sha256;
use moon_actors::port::Probe;
use moon_actors::{Error, Result};
use sha2::{Digest, Sha256 as Hasher};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Left free on the disk that is restored to, bytes.
const KEPT_FREE: u64 = 16 << 20;
/// What a small file takes at least, bytes.
const SMALLEST: u64 = 4096;
/// Written files on their way to be read again.
const WAITING: usize = 64;

/// Where a member goes: the number of its root, and the path below it. `None`: it is left out.
pub(super) type Place<'a> = &'a dyn Fn(&str) -> Option<(usize, String)>;

/// What is needed for both passes over an archive.
pub(super) struct Reading<'a> {
    pub source: &'a Source,
    pub identity: Option<&'a Path>,
    pub verified: &'a Verified,
    pub progress: &'a dyn Fn(u64),
    pub probe: &'a dyn Probe,
}

/// What was made in the roots.
pub(super) struct Made {
    files: Vec<(usize, String)>,
    folders: Vec<BTreeSet<String>>,
}

/// Unpacks what `place` wants into `roots`. It is not durable before [`sync`].
pub(super) fn stage(reading: &Reading, roots: &mut [Beneath], place: Place) -> Result<Made> {
    check_room(reading.verified, roots, place)?;
    check_folding(reading.verified, roots, place)?;
    let mut made: Vec<BTreeSet<String>> = vec![BTreeSet::new(); roots.len()];
    for (path, seen) in &reading.verified.members {
        if let Some((root, below)) = place(path).filter(|_| seen.sha256.is_none()) {
            roots[root].make_folder(&below).map_err(|e| write_error(&e, path))?;
            made[root].insert(below);
        }
    }
    for listed in reading.verified.manifest.iter().flat_map(|m| &m.members) {
        if let Some((root, below)) = place(&listed.path).filter(|_| listed.sha256.is_none()) {
            roots[root].make_folder(&below).map_err(|e| write_error(&e, &listed.path))?;
            made[root].insert(below);
        }
    }
    let files =
        reading.source.unpack(reading.identity, reading.progress, |input| unpack(reading, input, roots, place))?;
    for (root, below) in &files {
        made[*root].extend(below.match_indices('/').map(|(at, _)| below[..at].to_owned()));
    }
    date_folders(reading.verified, roots, place);
    Ok(Made { files, folders: made })
}

/// A file that was written: whose bytes it should hold, and when these were changed.
struct Written<'a> {
    file: File,
    path: &'a str,
    sha256: &'a Sha256,
    mtime: i64,
}

fn unpack(
    reading: &Reading,
    input: &mut dyn Read,
    roots: &mut [Beneath],
    place: Place,
) -> Result<Vec<(usize, String)>> {
    let (send, receive) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_again(&receive));
        let files = write_all(reading, input, roots, place, &send);
        drop(send);
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // The reader's failure is the cause when the writer only found that nobody listens any more.
        read.and(files)
    })
}

/// What lies there is what was to be written: read back through the handle that it was written with.
fn read_again(written: &Receiver<Written>) -> Result<()> {
    while let Ok(Written { mut file, path, sha256, mtime }) = written.recv() {
        let mut hasher = Hasher::new();
        let read = file.rewind().and_then(|()| {
            copy(&mut file, &mut |bytes| {
                hasher.update(bytes);
                Ok(())
            })
        });
        read.map_err(|e| write_error(&e, path))?;
        if Sha256::from_digest(&hasher.finalize()) != *sha256 {
            return Err(changed(path));
        }
        set_mtime(&file, mtime);
    }
    Ok(())
}

fn write_all<'a>(
    reading: &Reading<'a>,
    input: &mut dyn Read,
    roots: &mut [Beneath],
    place: Place,
    done: &SyncSender<Written<'a>>,
) -> Result<Vec<(usize, String)>> {
    let listed = listed(reading.verified);
    let mut members = Members::new(input, reading.source.layout);
    let mut files = Vec::new();
    while let Some(member) = members.next()? {
        let expected = reading.verified.members.get_key_value(&member.path).ok_or_else(|| changed(&member.path))?;
        let (path, Some(sha256)) = (expected.0, &expected.1.sha256) else {
            if member.is_folder { continue } else { return Err(changed(&member.path)) }
        };
        let Some((root, below)) = place(&member.path) else {
            copy(&mut members, &mut |_| Ok(())).map_err(|e| read_error(&e))?;
            continue;
        };
        let listed = listed.get(path.as_str());
        let may_run = listed.is_some_and(|listed| listed.is_executable());
        let mut file = roots[root].make_file(&below, may_run).map_err(|e| write_error(&e, path))?;
        let mut failed = None;
        let copied = copy(&mut members, &mut |bytes| {
            file.write_all(bytes).map_err(|e| {
                let told = io::Error::from(e.kind());
                failed = Some(e);
                told
            })
        });
        if let Some(error) = failed {
            return Err(write_error(&error, path));
        }
        copied.map_err(|e| read_error(&e))?;
        let in_header = i64::try_from(member.mtime).unwrap_or_default();
        let mtime = listed.and_then(|listed| listed.mtime).unwrap_or(in_header);
        // A reader that ended has an error to tell, which is told in its place.
        let _ = done.send(Written { file, path, sha256, mtime });
        files.push((root, below));
        super::step(reading.probe, Step::Unpacked);
    }
    let wanted = reading.verified.members.iter().filter(|(path, seen)| seen.sha256.is_some() && place(path).is_some());
    if wanted.count() != files.len() {
        return Err(changed("the archive"));
    }
    Ok(files)
}

use super::Step;

/// What the manifest says of each member.
fn listed(verified: &Verified) -> HashMap<&str, &Listed> {
    let listed = verified.manifest.iter().flat_map(|m| &m.members);
    listed.map(|member| (member.path.as_str(), member)).collect()
}

/// Folders get their times back when nothing is put into them any more.
fn date_folders(verified: &Verified, roots: &[Beneath], place: Place) {
    for listed in verified.manifest.iter().flat_map(|m| &m.members).filter(|listed| listed.sha256.is_none()) {
        if let (Some((root, below)), Some(mtime)) = (place(&listed.path), listed.mtime)
            && let Ok(folder) = roots[root].open(&below)
        {
            set_mtime(&folder, mtime);
        }
    }
}

/// Makes everything durable: with one call for a whole file system where that tells of errors, else file by file.
pub(super) fn sync(roots: &[Beneath], made: &Made) -> Result<()> {
    for (number, root) in roots.iter().enumerate() {
        let synced = crate::durable::sync_file_system(root.path()).and_then(|is_synced| match is_synced {
            true => Ok(()),
            false => sync_one_by_one(number, root, made),
        });
        let synced = synced.and_then(|()| crate::durable::sync_parent(root.path()));
        synced.map_err(|e| write_error(&e, "what was restored"))?;
    }
    Ok(())
}

fn sync_one_by_one(number: usize, root: &Beneath, made: &Made) -> io::Result<()> {
    for (_, below) in made.files.iter().filter(|(root, _)| *root == number) {
        root.open(below)?.sync_all()?;
    }
    // Deepest first; the set holds every folder with those above it.
    made.folders[number].iter().rev().try_for_each(|below| root.open(below)?.sync_all())?;
    root.sync_root()
}

fn check_room(verified: &Verified, roots: &[Beneath], place: Place) -> Result<()> {
    let mut needed: BTreeMap<usize, u64> = BTreeMap::new();
    for (path, seen) in &verified.members {
        if let Some((root, _)) = place(path) {
            *needed.entry(root).or_default() += seen.bytes.next_multiple_of(SMALLEST).max(SMALLEST);
        }
    }
    // Together: the folders usually lie on one disk, and being too careful costs a sentence.
    let all: u64 = needed.values().sum();
    for root in roots {
        let free = crate::adapters::room::free(root.path());
        if let Some(free) = free.filter(|free| *free < all.saturating_add(KEPT_FREE)) {
            let shown = super::size(free);
            return Err(no_room(format!(
                "{} are needed on the disk of {}, and {shown} are free",
                super::size(all + KEPT_FREE),
                root.path().display()
            )));
        }
    }
    Ok(())
}

/// On a file system that takes `A` and `a` for one name, members that differ only so would overwrite each other.
fn check_folding(verified: &Verified, roots: &mut [Beneath], place: Place) -> Result<()> {
    for (number, root) in roots.iter_mut().enumerate() {
        let probe = root.path().join(".moon-Case");
        std::fs::create_dir(&probe).map_err(|e| write_error(&e, "a folder"))?;
        let folds = root.path().join(".moon-case").exists();
        std::fs::remove_dir(&probe).map_err(|e| write_error(&e, "a folder"))?;
        let here = verified.members.keys().filter_map(|path| place(path)).filter(|(root, _)| *root == number);
        if let Some(name) = folds.then(|| folded(here.map(|(_, below)| below))).flatten() {
            return Err(refused(format!("two members are one name on this disk: {name}")));
        }
    }
    Ok(())
}

/// The first name that another one equals but for upper and lower case.
fn folded(names: impl Iterator<Item = String>) -> Option<String> {
    let mut known = BTreeSet::new();
    names.into_iter().find(|name| !known.insert(name.to_lowercase()))
}

pub(super) fn no_room(why: impl std::fmt::Display) -> Error {
    Error::transient("restore.no_room", "there is no room to restore, and nothing was touched")
        .cause(why)
        .hint("free space on that disk, then restore again")
}

pub(super) fn write_error(error: &io::Error, path: &str) -> Error {
    if crate::durable::is_full(error) {
        return no_room(format!("the disk became full at {path}"));
    }
    if error.kind() == io::ErrorKind::AlreadyExists {
        return refused(format!("{path} is on this disk the name of another member, too"));
    }
    Error::transient("restore.io", format!("could not write {path}"))
        .cause(error)
        .hint("check that Moon's home and the folder above it belong to you and are writable")
}

/// The members that are databases: as listed, in the document's layout by their name.
pub(super) fn databases(verified: &Verified) -> BTreeSet<&str> {
    match &verified.manifest {
        Some(manifest) => {
            let listed = manifest.members.iter().filter(|member| member.kind == super::manifest::Kind::Sqlite);
            listed.map(|member| member.path.as_str()).collect()
        }
        None => verified.members.keys().map(String::as_str).filter(|path| path.ends_with(".db")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_only_are_found() {
        let names = |list: &[&str]| folded(list.iter().map(|n| (*n).to_owned()));
        assert_eq!(names(&["a/b", "a/c", "A2"]), None);
        assert_eq!(names(&["a/readme", "a/README"]), Some("a/README".into()));
        assert_eq!(names(&["Ä", "ä"]), Some("ä".into()));
    }
}
