//! Proves a backup beside its making: follows the file that is written and restores it into an empty place.
//!
//! What it reads while the file grows comes from the system's memory. So it hashes every byte that it restored from, and whoever made
//! the file reads it from the disk once it is synced: only the same hash makes what was restored the content of that file.

use super::follow::{Growing, Leash, follow};
use super::meter::Meter;
use super::seal::Seal;
use super::unpack::{Landed, finish, unpack};
use super::verify::{Counted, damaged, told};
use moon_actors::Result;
use moon_actors::domain::Sha256;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

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

/// A proof that goes on beside the making. Dropped, it is given up, and waited for.
pub(super) struct Prover {
    leash: Option<Leash>,
    thread: Option<JoinHandle<Result<Restoration>>>,
}

impl Prover {
    /// Follows `file`, a handle of its own on what will be written, into `place`, which is empty.
    pub(super) fn begin(
        file: File,
        seal: Option<Seal>,
        id: &str,
        place: PathBuf,
        meter: Meter,
    ) -> io::Result<(Growing, Self)> {
        let (growing, follower, leash) = follow(file);
        let id = id.to_owned();
        let work = move || restore_into(&place, follower, seal.as_ref(), &id, &meter);
        let thread = std::thread::Builder::new().name("backup-proof".into()).spawn(work)?;
        Ok((growing, Self { leash: Some(leash), thread: Some(thread) }))
    }

    #[cfg(test)]
    pub(super) fn is_done(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits for what it found.
    pub(super) fn finish(mut self) -> Result<Restoration> {
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
