//! Proves a backup beside its making: follows the file that is written and restores it into an empty place.
//!
//! What it reads while the file grows comes from the system's memory. So it hashes every byte that it restored from, and whoever made
//! the file reads it from the disk once it is synced: only the same hash makes what was restored the content of that file. The place is
//! given up meanwhile, as soon as everything that is asked of it has been asked.

use super::follow::{Follower, Growing, Leash, follow};
use super::format::{self, Manifest};
use super::meter::Meter;
use super::seal::Seal;
use super::unpack::{Landed, finish, unpack};
use super::verify::{self, Counted, damaged, told};
use super::work;
use moon_actors::Result;
use moon_actors::domain::Sha256;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use tokio::runtime::Handle;

/// What was restored, and the length and hash of the file that it was restored from.
pub(super) struct Restoration {
    pub(super) landed: Landed,
    pub(super) read: (u64, Sha256),
}

/// Restores a whole backup into `place`. With `seal`, it is encrypted.
pub(super) fn restore_into(
    place: &Path,
    file: impl Read + Send,
    seal: Option<&Seal>,
    id: &str,
    meter: &Meter,
) -> Result<Restoration> {
    let mut file = Counted::new(file, None);
    let landed = match seal {
        Some(seal) => unpack(seal.open(&mut file)?, id, place, meter),
        None => unpack(&mut file, id, place, meter),
    };
    let landed = landed.map_err(|flaw| told(id, flaw))?;
    match file.read(&mut [0]) {
        Ok(0) => Ok(Restoration { landed, read: (file.bytes, finish(file.hasher)) }),
        Ok(_) => Err(damaged(id, "there is something behind its end")),
        Err(e) => Err(super::failed("read", Path::new(id), e)),
    }
}

/// What was restored, as its manifest says, and the length and hash of the file that it was restored from.
pub(super) struct Proved {
    pub(super) manifest: Manifest,
    pub(super) read: (u64, Sha256),
    /// What the restored ledger says of the restored archive.
    pub(super) archives: Result<()>,
}

/// What is to be proved, and where.
struct Task {
    id: String,
    place: PathBuf,
    seal: Option<Seal>,
    meter: Meter,
    runtime: Handle,
}

impl Task {
    /// The whole proof, up to the bytes of the file on the disk.
    fn prove(&self, file: Follower) -> Result<Proved> {
        let Restoration { landed, read } = restore_into(&self.place, file, self.seal.as_ref(), &self.id, &self.meter)?;
        let manifest = verify::compare(&self.id, &self.place, &landed, None)?;
        let (home, has_sound_ledger) = (self.place.join(format::HOME), manifest.ledger.is_some());
        let archives = verify::archives_whole(&self.id, &home, has_sound_ledger, &self.meter);
        let archives = self.runtime.block_on(archives);
        work::give_up(&self.place);
        Ok(Proved { manifest, read, archives })
    }
}

/// A proof that goes on beside the making. Dropped, it is given up, and waited for.
pub(super) struct Prover {
    leash: Option<Leash>,
    thread: Option<JoinHandle<Result<Proved>>>,
}

impl Prover {
    /// Follows `file`, a handle of its own on what will be written, into `place`, which is empty. Only where a runtime is known.
    pub(super) fn begin(
        file: File,
        seal: Option<Seal>,
        id: &str,
        place: PathBuf,
        meter: Meter,
    ) -> io::Result<(Growing, Self)> {
        let (growing, follower, leash) = follow(file);
        let task = Task { id: id.to_owned(), place, seal, meter, runtime: Handle::current() };
        let thread = std::thread::Builder::new().name("backup-proof".into()).spawn(move || task.prove(follower))?;
        Ok((growing, Self { leash: Some(leash), thread: Some(thread) }))
    }

    #[cfg(test)]
    pub(super) fn is_done(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits for what it found.
    pub(super) fn finish(mut self) -> Result<Proved> {
        let thread = self.thread.take().expect("it is waited for once");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Prover {
    fn drop(&mut self) {
        drop(self.leash.take());
        // Whoever gave it up has something else to tell.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
