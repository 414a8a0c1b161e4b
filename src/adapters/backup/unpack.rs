//! Restores a backup into an empty place and says what landed there: the half of a proof that touches the disk.
//!
//! Read by the same strict reader as a restore: what that would refuse is a flaw here. The stream is obeyed in nothing: only files and
//! folders are made, below a held folder, each once. What was written is read again for its hash. One thread decompresses, one writes,
//! one reads again, one has SQLite look into what is a database. It must never be given a place that is not empty.

use super::format;
use super::meter::Meter;
use super::sqlite;
use crate::adapters::ahead::ahead;
use crate::adapters::beneath::Beneath;
use crate::adapters::restore::members::{Layout, Members};
use moon_actors::Error;
use moon_actors::domain::Sha256;
use sha2::Digest;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc;

/// Files on their way to be read again.
const WAITING: usize = 64;
const BUFFER: usize = 128 << 10;
/// Left free on the disk, bytes.
const KEPT: u64 = 8 << 20;
/// How often the room is looked at, bytes.
const LOOK_EVERY: u64 = 16 << 20;

/// What landed, by its path relative to the top folder.
pub(super) type Landed = HashMap<String, Landing>;

/// A file or folder that landed.
#[derive(Default)]
pub(super) struct Landing {
    pub(super) bytes: u64,
    /// Folders have none.
    pub(super) sha256: Option<Sha256>,
    /// What SQLite said of it. `None`: it does not begin like a database.
    pub(super) complaints: Option<Vec<String>>,
}

#[derive(Debug)]
pub(super) enum Flaw {
    /// The backup is not what it should be.
    Damaged(String),
    /// The place could not take it.
    Io(io::Error),
}

fn damaged(why: impl std::fmt::Display) -> Flaw {
    Flaw::Damaged(why.to_string())
}

/// A file that was written, through the handle that it was written with.
type Written = (String, File);

/// Unpacks a stream of zstd into `place` to its very end.
pub(super) fn unpack(packed: impl Read + Send, id: &str, place: &Path, meter: &Meter) -> Result<Landed, Flaw> {
    let plain = zstd::stream::read::Decoder::new(packed).map_err(damaged)?.single_frame();
    let (landed, plain) = ahead(plain, |plain| write_and_read_again(plain, id, place, meter));
    let landed = landed?;
    match plain.finish().read(&mut [0]) {
        Ok(0) => Ok(landed),
        Ok(_) => Err(damaged("there is something behind its end")),
        Err(e) => Err(damaged(e)),
    }
}

fn write_and_read_again(plain: &mut dyn BufRead, id: &str, place: &Path, meter: &Meter) -> Result<Landed, Flaw> {
    let (send, receive) = mpsc::sync_channel::<Written>(WAITING);
    let (look, databases) = mpsc::channel();
    std::thread::scope(|scope| {
        let hasher = scope.spawn(move || read_again(&receive, &look));
        let looker = scope.spawn(move || look_into(place, &databases));
        let written = write_all(plain, id, place, meter, &send);
        drop(send);
        let hashes = hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let said = looker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let mut landed = written?;
        for (path, bytes, sha256) in hashes.map_err(Flaw::Io)? {
            match landed.get_mut(&path).filter(|landing| landing.bytes == bytes) {
                Some(landing) => landing.sha256 = Some(sha256),
                None => return Err(damaged(format!("{path} did not land as it was written"))),
            }
        }
        for (path, complaints) in said.map_err(Flaw::Io)? {
            landed.entry(path).or_default().complaints = Some(complaints);
        }
        Ok(landed)
    })
}

/// Hashes each file, and hands on which of them are databases.
fn read_again(
    written: &mpsc::Receiver<Written>,
    databases: &mpsc::Sender<String>,
) -> io::Result<Vec<(String, u64, Sha256)>> {
    let (mut found, mut buffer) = (Vec::new(), vec![0; BUFFER]);
    while let Ok((path, mut file)) = written.recv() {
        file.rewind()?;
        let (bytes, sha256) = hash(&file, &mut buffer)?;
        if sqlite::is_database(&file)? {
            // Closed first: nothing of ours holds it while SQLite does.
            drop(file);
            // One who looks no more has an error to tell, which is told when it is joined.
            let _ = databases.send(path.clone());
        }
        found.push((path, bytes, sha256));
    }
    Ok(found)
}

/// Has SQLite look into each database that landed, while the rest is still on its way.
fn look_into(place: &Path, databases: &mpsc::Receiver<String>) -> io::Result<Vec<(String, Vec<String>)>> {
    let (root, mut found) = (Beneath::hold(place)?, Vec::new());
    while let Ok(path) = databases.recv() {
        let complaints = complaints(&root, &path)?;
        found.push((path, complaints));
    }
    Ok(found)
}

/// What SQLite complains about in a file that landed; empty: it is sound.
pub(super) fn complaints(root: &Beneath, path: &str) -> io::Result<Vec<String>> {
    let name = root.name_for_sqlite(path)?;
    Ok(sqlite::complaints(name.as_ref()).unwrap_or_else(|e| vec![e.to_string()]))
}

/// Length and hash of what can be read.
pub(super) fn hash(mut file: impl Read, buffer: &mut [u8]) -> io::Result<(u64, Sha256)> {
    let (mut hasher, mut bytes) = (sha2::Sha256::new(), 0);
    loop {
        let read = file.read(buffer)?;
        if read == 0 {
            return Ok((bytes, finish(hasher)));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

pub(super) fn finish(hasher: sha2::Sha256) -> Sha256 {
    Sha256::from_digest(&hasher.finalize())
}

fn write_all(
    plain: &mut dyn BufRead,
    id: &str,
    place: &Path,
    meter: &Meter,
    done: &mpsc::SyncSender<Written>,
) -> Result<Landed, Flaw> {
    let mut root = Beneath::hold(place).map_err(Flaw::Io)?;
    let mut members = Members::new(plain, Layout::Moon);
    let (mut landed, mut since_look) = (Landed::new(), u64::MAX);
    while let Some(member) = members.next().map_err(flaw)? {
        let path = member.path;
        if !format::is_member_path(&path) && ![format::MANIFEST, format::CHECKSUMS].contains(&path.as_str()) {
            return Err(damaged(format!("{path:?} has no place in it")));
        }
        if landed.contains_key(&path) {
            return Err(damaged(format!("{path} is in it twice")));
        }
        if member.is_folder {
            root.make_folder(&path).map_err(|e| not_made(&path, e))?;
            landed.insert(path, Landing::default());
            continue;
        }
        let mut file = root.make_file(&path, false).map_err(|e| not_made(&path, e))?;
        let bytes = pour(&mut members, &mut file, place, &mut since_look, meter)?;
        landed.insert(path.clone(), Landing { bytes, ..Landing::default() });
        meter.member();
        // A hasher that ended has an error to tell, which is told in its place.
        let _ = done.send((path, file));
    }
    match members.top() {
        Some(top) if top == id => Ok(landed),
        top => Err(damaged(format!("it is the backup {}", top.unwrap_or("of nothing")))),
    }
}

/// What the strict reader refuses is damage, and so is what cannot be read.
fn flaw(error: Error) -> Flaw {
    Flaw::Damaged(error.cause.unwrap_or(error.message))
}

/// In an empty place only the backup itself can be in its own way.
fn not_made(path: &str, error: io::Error) -> Flaw {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            damaged(format!("another member is where {path} belongs"))
        }
        _ => Flaw::Io(error),
    }
}

fn pour(
    from: &mut impl BufRead,
    to: &mut File,
    place: &Path,
    since_look: &mut u64,
    meter: &Meter,
) -> Result<u64, Flaw> {
    let mut bytes = 0;
    loop {
        meter.check().map_err(Flaw::Io)?;
        let there = from.fill_buf().map_err(damaged)?;
        let read = there.len();
        if read == 0 {
            return Ok(bytes);
        }
        if *since_look >= LOOK_EVERY {
            if crate::adapters::room::free(place).is_some_and(|free| free < KEPT + LOOK_EVERY) {
                return Err(Flaw::Io(io::ErrorKind::StorageFull.into()));
            }
            *since_look = 0;
        }
        to.write_all(there).map_err(Flaw::Io)?;
        from.consume(read);
        *since_look += read as u64;
        bytes += read as u64;
        meter.bytes(read as u64);
    }
}
