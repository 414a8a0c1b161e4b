//! Proves a backup by restoring it: unpacked into an empty place, every member compared with the manifest, every database opened and
//! checked, every archived object that its ledger names read again. Only then it counts as verified.

use super::format::{self, CHECKSUMS, Kind, MANIFEST, Manifest, Sidecar};
use super::meter::Meter;
use super::prover::{Restoration, restore_into};
use super::unpack::{Flaw, Landed, complaints, hash};
use super::{BackupVault, Work, failed, read_sidecar};
use crate::adapters::archive_dir::ArchiveDir;
use crate::adapters::beneath::Beneath;
use crate::adapters::clock::{SystemClock, UuidIds};
use crate::adapters::restore;
use crate::adapters::sqlite::SqliteLedger;
use crate::durable;
use chrono::Utc;
use moon_actors::backup::engine::SOURCE_DAMAGED;
use moon_actors::domain::Sha256;
use moon_actors::port::{ArchiveStore, Held, Ledger, Proof, Proven, Step, StoredBackup};
use moon_actors::{Error, Kind as ErrorKind, Result};
use sha2::Digest;
use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Left free on the disk when a backup is restored to be compared, bytes.
pub(super) const KEPT: u64 = 64 << 20;
/// Differences named in full; more of them say nothing new.
const NAMED: usize = 10;

/// The error for a flaw that was found in `what`.
pub(super) fn told(what: &str, flaw: Flaw) -> Error {
    match flaw {
        Flaw::Damaged(why) => damaged(what, why),
        Flaw::Io(e) if durable::is_full(&e) => no_room(what).cause(e),
        Flaw::Io(e) => failed("restore to compare", Path::new(what), e),
    }
}

pub(super) fn damaged(what: &str, why: impl std::fmt::Display) -> Error {
    Error::data("backup.damaged", format!("{what} is not what was backed up"))
        .cause(why)
        .hint("do not rely on it: `moon backup list` shows the others, `moon backup` makes a new one")
}

fn no_room(what: &str) -> Error {
    Error::transient("backup.no_room", format!("there is no room to restore {what} and compare it"))
        .hint("make room on the disk of the home, then `moon backup verify`; it was not verified")
}

/// Compares what landed in `place` with what its own manifest says, and opens every database.
pub(super) fn compare(id: &str, place: &Path, landed: &Landed, sidecar: Option<&Sidecar>) -> Result<Manifest> {
    let wrong = |why: String| damaged(id, why);
    let text = std::fs::read(place.join(MANIFEST)).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
    if manifest.format != format::FORMAT || manifest.version != format::VERSION || manifest.id != id {
        return Err(wrong(format!("{MANIFEST} speaks of {} {} {}", manifest.format, manifest.version, manifest.id)));
    }
    // As a restore reads it: whatever that would refuse is found now.
    let strictly = restore::Manifest::parse(&text).and_then(|strict| strict.by_path().map(drop));
    strictly.map_err(|e| wrong(e.cause.unwrap_or(e.message)))?;
    let sums = std::fs::read_to_string(place.join(CHECKSUMS)).map_err(|e| wrong(format!("{CHECKSUMS}: {e}")))?;
    if sums != format::checksums(&manifest.members, &Sha256::of(&text)) {
        return Err(wrong(format!("{CHECKSUMS} and {MANIFEST} differ")));
    }
    let mut differing = Vec::new();
    for member in &manifest.members {
        match landed.get(&member.path) {
            None => differing.push(format!("{} is missing", member.path)),
            Some(landing) if landing.bytes != member.bytes || landing.sha256 != member.sha256 => {
                differing.push(format!("{} differs", member.path));
            }
            Some(_) => {}
        }
    }
    let mut named: HashSet<&str> = manifest.members.iter().map(|member| member.path.as_str()).collect();
    named.extend([MANIFEST, CHECKSUMS]);
    let unnamed = landed.keys().filter(|path| !named.contains(path.as_str()));
    differing.extend(unnamed.map(|path| format!("{path} is not in the manifest")));
    differing.extend(sidecar.filter(|sidecar| !lists(sidecar, &manifest)).map(|_| OTHER_CONTENTS.to_owned()));
    // A database that differs already would only complain of the same.
    if differing.is_empty() {
        differing = unsound(place, &manifest, landed).map_err(|e| failed("open", place, e))?;
    }
    if differing.is_empty() {
        return Ok(manifest);
    }
    let more = differing.len().saturating_sub(NAMED);
    differing.truncate(NAMED);
    if more > 0 {
        differing.push(format!("and {more} more"));
    }
    Err(wrong(differing.join("\n")))
}

/// What is said where a note does not list what the backup holds.
pub(super) const OTHER_CONTENTS: &str = "the note beside it speaks of other contents";

/// Whether the note speaks of as much as the manifest lists.
pub(super) fn lists(sidecar: &Sidecar, manifest: &Manifest) -> bool {
    let content_bytes: u64 = manifest.members.iter().map(|member| member.bytes).sum();
    sidecar.members == manifest.members.len() as u64 && sidecar.content_bytes == content_bytes
}

/// What SQLite complained about in the databases that landed.
fn unsound(place: &Path, manifest: &Manifest, landed: &Landed) -> io::Result<Vec<String>> {
    let (root, mut found) = (Beneath::hold(place)?, Vec::new());
    for member in manifest.members.iter().filter(|member| member.kind == Kind::Sqlite) {
        let known = landed.get(&member.path).and_then(|landing| landing.complaints.clone());
        let complaints = match known {
            Some(complaints) => complaints,
            // It does not begin like one: let SQLite say so.
            None => complaints(&root, &member.path)?,
        };
        found.extend(complaints.into_iter().map(|complaint| format!("{}: {complaint}", member.path)));
    }
    Ok(found)
}

/// Whether the file is still the one that its note describes, byte for byte.
pub(super) fn read_again(path: &Path, sidecar: &Sidecar, meter: &Meter) -> Result<()> {
    let file = durable::open_from_disk(path).map_err(|e| failed("read", path, e))?;
    let read = Counted::new(file, Some(meter));
    let found = hash(read, &mut vec![0; 256 << 10]).map_err(|e| failed("read", path, e))?;
    agree(&sidecar.id, &found, sidecar)
}

/// Whether what was read is the file that the note describes.
pub(super) fn agree(id: &str, (bytes, sha256): &(u64, Sha256), sidecar: &Sidecar) -> Result<()> {
    if *bytes == sidecar.bytes && *sha256 == sidecar.sha256 {
        return Ok(());
    }
    Err(damaged(
        id,
        format!("the file has {bytes} bytes and SHA-256 {}, not what the note beside it says", sha256.short()),
    ))
}

/// Counts and hashes what passes through.
pub(super) struct Counted<'a, R> {
    inner: R,
    pub(super) hasher: sha2::Sha256,
    pub(super) bytes: u64,
    meter: Option<&'a Meter>,
}

impl<'a, R> Counted<'a, R> {
    pub(super) fn new(inner: R, meter: Option<&'a Meter>) -> Self {
        Self { inner, hasher: sha2::Sha256::new(), bytes: 0, meter }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.hasher.update(&into[..read]);
        self.bytes += read as u64;
        if let Some(meter) = self.meter {
            if meter.is_stopped() {
                return Err(io::Error::other("stopped"));
            }
            meter.bytes(read as u64);
        }
        Ok(read)
    }
}

impl BackupVault {
    pub(super) async fn verify_folder(&self, held: &Held, id: &str) -> Result<Proven> {
        let begun = Instant::now();
        let wanted = id.to_owned();
        let found = self.blocking(Some(held), move |vault, _| {
            let backup = vault.find(&wanted)?;
            let sidecar = read_sidecar(&vault.folder()?.join(format::sidecar_name(&wanted)));
            Ok((backup, sidecar))
        });
        let (backup, sidecar) = found.await?;
        let path = PathBuf::from(&backup.path);
        let outcome = self.prove(held, &path, &backup, sidecar.clone()).await;
        let (folder, wanted) = (self.folder()?, id.to_owned());
        let note = match &outcome {
            Ok((_, sidecar)) => Some(sidecar.clone()),
            Err(e) if e.kind == ErrorKind::Data => sidecar.map(|s| s.damaged(e)),
            Err(_) => None,
        };
        if let Some(note) = note {
            self.blocking(Some(held), move |vault, _| vault.put_sidecar(&folder, &note)).await?;
        }
        let (proof, _) = outcome?;
        let backup = self.blocking(Some(held), move |vault, _| vault.find(&wanted)).await?;
        Ok(Proven { backup, proof, took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) })
    }

    /// Proves the file at `path`, wherever it came from, and returns the note that now stands beside it.
    pub(super) async fn prove(
        &self,
        held: &Held,
        path: &Path,
        backup: &StoredBackup,
        sidecar: Option<Sidecar>,
    ) -> Result<(Proof, Sidecar)> {
        let (path, backup) = (path.to_owned(), backup.clone());
        let restored = self.blocking(Some(held), move |vault, stopped| {
            let seal = vault.seal()?;
            if backup.encrypted && !seal.can_open() {
                return Ok(Restored::Sealed(vault.reread(&path, sidecar, stopped)?));
            }
            vault.restore(&path, &backup, sidecar, stopped)
        });
        self.conclude(held, restored.await?).await
    }

    /// The last of a proof: what the restored ledger says of the restored archive. Then the place is given up.
    pub(super) async fn conclude(&self, held: &Held, restored: Restored) -> Result<(Proof, Sidecar)> {
        match restored {
            Restored::Sealed(sidecar) => Ok((Proof::Stream, sidecar)),
            Restored::Open { work, place, sidecar, has_sound_ledger } => {
                // It ends with this future.
                let meter = Meter::default();
                archives_whole(&sidecar.id, &place.join(format::HOME), has_sound_ledger, &meter).await?;
                self.blocking(Some(held), move |_, _| {
                    drop(work);
                    Ok(())
                })
                .await?;
                Ok((Proof::Restored, Sidecar { verified_at: Some(Utc::now()), damaged: None, ..sidecar }))
            }
        }
    }

    /// Without the key only the file can be compared; what was proved when it was written stays proved.
    fn reread(
        &self,
        path: &Path,
        sidecar: Option<Sidecar>,
        stopped: &Arc<std::sync::atomic::AtomicBool>,
    ) -> Result<Sidecar> {
        let sidecar = sidecar.filter(|s| s.verified_at.is_some()).ok_or_else(|| {
            Error::config("backup.identity", "the backup is encrypted, was never proved, and no identity is known")
                .hint("name the file of the age identity in backup.identity_file")
        })?;
        read_again(path, &sidecar, &self.meter(Step::Verify, Some(sidecar.bytes), stopped))?;
        Ok(sidecar)
    }

    fn restore(
        &self,
        path: &Path,
        backup: &StoredBackup,
        sidecar: Option<Sidecar>,
        stopped: &Arc<std::sync::atomic::AtomicBool>,
    ) -> Result<Restored> {
        let id = &backup.id;
        let work = Work::make(&self.home)?;
        let needed = sidecar.as_ref().map_or(backup.bytes, |s| s.content_bytes).saturating_add(KEPT);
        if let Some(free) = crate::adapters::room::free(work.path()).filter(|free| *free < needed) {
            return Err(no_room(id).cause(format!("{needed} bytes are needed and {free} are free")));
        }
        let meter = self.meter(Step::Verify, sidecar.as_ref().map(|s| s.content_bytes), stopped);
        let file = durable::open_from_disk(path).map_err(|e| failed("read", path, e))?;
        let seal = backup.encrypted.then(|| self.seal()).transpose()?;
        let Restoration { landed, read } = restore_into(work.path(), file, seal.as_ref(), id, &meter)?;
        if let Some(sidecar) = &sidecar {
            agree(id, &read, sidecar)?;
        }
        let manifest = compare(id, work.path(), &landed, sidecar.as_ref())?;
        let made = || Sidecar {
            id: id.clone(),
            file: format::file_name(id, backup.encrypted),
            bytes: read.0,
            sha256: read.1.clone(),
            encrypted: backup.encrypted,
            created_at: manifest.created_at,
            verified_at: None,
            damaged: None,
            members: manifest.members.len() as u64,
            content_bytes: manifest.members.iter().map(|m| m.bytes).sum(),
            databases: format::databases(&manifest),
            unsound: 0,
        };
        let sidecar = sidecar.unwrap_or_else(made);
        let place = work.path().to_owned();
        Ok(Restored::Open { work, place, sidecar, has_sound_ledger: manifest.ledger.is_some() })
    }
}

/// How far a proof has come.
pub(super) enum Restored {
    /// All of it lies in `place`, below `work`, and is as the manifest says.
    Open { work: Work, place: PathBuf, sidecar: Sidecar, has_sound_ledger: bool },
    /// Nobody here can open it.
    Sealed(Sidecar),
}

/// Every object that the restored ledger names is there and holds what was archived.
pub(super) async fn archives_whole(id: &str, home: &Path, has_sound_ledger: bool, meter: &Meter) -> Result<()> {
    let db = home.join("state/moon.db");
    if !db.is_file() {
        return Ok(());
    }
    if !has_sound_ledger {
        return Err(Error::data(SOURCE_DAMAGED, format!("{id} holds what was there, and the ledger was not sound"))
            .hint("`moon health` says what is wrong with it; an older backup may hold a sound one"));
    }
    let unreadable = |e: Error| damaged(id, format!("its ledger: {e}"));
    let ledger = SqliteLedger::untouched(&db, Arc::new(SystemClock::start()), Arc::new(UuidIds)).map_err(unreadable)?;
    let store = ArchiveDir::open(home, 1, String::new()).map_err(|e| damaged(id, e))?;
    for segment in ledger.all_segments().await.map_err(unreadable)? {
        meter.check().map_err(|e| failed("read", home, e))?;
        store.verify(&segment).await.map_err(|e| {
            Error::data(SOURCE_DAMAGED, format!("{id} holds what was there, and the archive was not whole"))
                .cause(e)
                .hint("`moon verify` names what is damaged; an older backup may hold it")
        })?;
    }
    Ok(())
}
