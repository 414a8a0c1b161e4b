//! Restores a backup into an empty place and says what landed there: the half of a proof that touches the disk.
//!
//! The stream is obeyed in nothing: only files and folders are made, at paths that stay inside, each once. What was written is read
//! again for its hash. It must never be given a place that is not empty.

use super::format;
use super::meter::Meter;
use moon_actors::domain::Sha256;
use sha2::Digest;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

/// Files on their way to be read again.
const WAITING: usize = 64;
const BUFFER: usize = 128 << 10;
/// Left free on the disk, bytes.
const KEPT: u64 = 8 << 20;
/// How often the room is looked at, bytes.
const LOOK_EVERY: u64 = 16 << 20;

/// What landed: path relative to the top folder, bytes, hash. Folders have no hash.
pub(super) type Landed = HashMap<String, (u64, Option<Sha256>)>;

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

/// Unpacks a stream of zstd into `place` to its very end.
pub(super) fn unpack(packed: impl Read, id: &str, place: &Path, meter: &Meter) -> Result<Landed, Flaw> {
    let plain = zstd::stream::read::Decoder::new(packed).map_err(damaged)?;
    let (send, receive) = mpsc::sync_channel::<(String, PathBuf)>(WAITING);
    std::thread::scope(|scope| {
        let hasher = scope.spawn(move || read_again(&receive));
        let written = write_all(plain, id, place, meter, &send);
        drop(send);
        let hashes = hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let mut landed = written?;
        for (path, bytes, sha256) in hashes.map_err(Flaw::Io)? {
            let expected = landed.insert(path.clone(), (bytes, Some(sha256)));
            if expected.is_none_or(|(written, _)| written != bytes) {
                return Err(damaged(format!("{path} did not land as it was written")));
            }
        }
        Ok(landed)
    })
}

fn read_again(paths: &mpsc::Receiver<(String, PathBuf)>) -> io::Result<Vec<(String, u64, Sha256)>> {
    let (mut found, mut buffer) = (Vec::new(), vec![0; BUFFER]);
    while let Ok((path, on_disk)) = paths.recv() {
        let (bytes, sha256) = hash(crate::durable::open_regular(&on_disk)?, &mut buffer)?;
        found.push((path, bytes, sha256));
    }
    Ok(found)
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
    let hex = data_encoding::HEXLOWER.encode(&hasher.finalize());
    Sha256::parse(&hex).expect("the hex of a SHA-256 is one")
}

fn write_all(
    plain: impl Read,
    id: &str,
    place: &Path,
    meter: &Meter,
    done: &mpsc::SyncSender<(String, PathBuf)>,
) -> Result<Landed, Flaw> {
    let mut archive = tar::Archive::new(plain);
    let (mut landed, mut buffer, mut since_look) = (Landed::new(), vec![0; BUFFER], u64::MAX);
    let top = format!("{id}/");
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = path_of(&entry, &top)?;
        if landed.contains_key(&path) {
            return Err(damaged(format!("{path} is in it twice")));
        }
        let on_disk = place.join(&path);
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&on_disk).map_err(Flaw::Io)?;
            landed.insert(path, (0, None));
        } else if kind.is_file() {
            let expected = entry.size();
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&on_disk);
            if file.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
                return Err(damaged(format!("the folder of {path} is missing")));
            }
            let file = file.as_mut().map_err(|e| Flaw::Io(std::mem::replace(e, io::ErrorKind::Other.into())))?;
            let bytes = pour(&mut entry, file, &mut buffer, place, &mut since_look, meter)?;
            if bytes != expected {
                return Err(damaged(format!("{path} ends early")));
            }
            landed.insert(path.clone(), (bytes, None));
            meter.member();
            // A hasher that ended has an error to tell, which is told in its place.
            let _ = done.send((path, on_disk));
        } else {
            return Err(damaged(format!("{path} is neither a file nor a folder")));
        }
    }
    to_the_end(archive.into_inner())?;
    Ok(landed)
}

fn path_of<R: Read>(entry: &tar::Entry<'_, R>, top: &str) -> Result<String, Flaw> {
    let bytes = entry.path_bytes();
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged("a name in it is not UTF-8"))?;
    let path = text.strip_prefix(top).map(|path| path.strip_suffix('/').unwrap_or(path));
    path.filter(|path| format::is_member_path(path) || [format::MANIFEST, format::CHECKSUMS].contains(path))
        .map(str::to_owned)
        .ok_or_else(|| damaged(format!("{text:?} has no place in it")))
}

fn pour(
    from: &mut impl Read,
    to: &mut File,
    buffer: &mut [u8],
    place: &Path,
    since_look: &mut u64,
    meter: &Meter,
) -> Result<u64, Flaw> {
    let mut bytes = 0;
    loop {
        meter.check().map_err(Flaw::Io)?;
        let read = from.read(buffer).map_err(damaged)?;
        if read == 0 {
            return Ok(bytes);
        }
        if *since_look >= LOOK_EVERY {
            if crate::adapters::room::free(place).is_some_and(|free| free < KEPT + LOOK_EVERY) {
                return Err(Flaw::Io(io::ErrorKind::StorageFull.into()));
            }
            *since_look = 0;
        }
        to.write_all(&buffer[..read]).map_err(Flaw::Io)?;
        *since_look += read as u64;
        bytes += read as u64;
        meter.bytes(read as u64);
    }
}

/// Behind the last member there are only zeros, and then nothing.
fn to_the_end(mut rest: impl Read) -> Result<(), Flaw> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match rest.read(&mut buffer).map_err(damaged)? {
            0 => return Ok(()),
            read if buffer[..read].iter().all(|byte| *byte == 0) => {}
            _ => return Err(damaged("there is something behind its end")),
        }
    }
}
