//! Makes one backup: first with its proof beside it, and alone where that does not come to a good end.
//!
//! With the proof beside it a backup is written, followed and restored at the same time, and SQLite looks into what landed instead of
//! into what is taken. Whatever is wrong then (no room for both, a database that is not sound, a proof that found something) ends all
//! of it, and the backup is made anew by itself and proved behind that. The file is the same either way.

use super::format::{self, Manifest, Sidecar};
use super::prover::{Proved, Prover};
use super::seal::Seal;
use super::verify;
use super::walk::{self, Source};
use super::write::{self, Beside};
use super::{BackupVault, Work, failed, host_name, read_sidecar};
use crate::adapters::beneath::Beneath;
use crate::durable;
use chrono::{DateTime, Utc};
use moon_actors::contract::Issue;
use moon_actors::port::{Held, Made, Proof, Step, StoredBackup};
use moon_actors::{Error, Result};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A file that shrinks under our hands, or cannot be read: so many of them, then it is given up.
const ATTEMPTS: usize = 5;

/// One backup that is to be made.
struct Job<'a> {
    vault: &'a BackupVault,
    stopped: &'a Arc<AtomicBool>,
    begun: Instant,
    folder: PathBuf,
    seal: Seal,
    encrypted: bool,
    sources: Vec<Source>,
    rules: walk::Rules,
    manifest: Manifest,
}

impl BackupVault {
    /// Makes one, and proves it where that could be done beside the making.
    pub(super) async fn make_and_prove(&self, held: &Held) -> Result<Made> {
        self.blocking(Some(held), |vault, stopped| vault.make_now(stopped)).await
    }

    fn make_now(&self, stopped: &Arc<AtomicBool>) -> Result<Made> {
        let (known, mut issues) = (self.list_folder()?, Vec::new());
        let job = self.job(stopped, &known, &mut issues)?;
        let can_follow = (!job.encrypted || job.seal.can_open()) && self.is_likely_to_follow(&job.folder, &known);
        let beside = if can_follow { job.beside()? } else { None };
        let mut made = match beside {
            Some(made) => made,
            None => job.alone()?,
        };
        let latest = job.folder.join(format::LATEST);
        durable::replace(&latest, format!("{}\n", job.id()).as_bytes()).map_err(|e| failed("write", &latest, e))?;
        issues.append(&mut made.issues);
        made.issues = issues;
        Ok(made)
    }

    /// What is to be made beside the backups that are known. `issues` gets what of it is not there.
    fn job<'a>(
        &'a self,
        stopped: &'a Arc<AtomicBool>,
        known: &[StoredBackup],
        issues: &mut Vec<Issue>,
    ) -> Result<Job<'a>> {
        let begun = Instant::now();
        let folder = self.folder()?;
        durable::create_folder(&folder).map_err(|e| failed("make", &folder, e))?;
        let seal = self.seal()?;
        let encrypted = seal.encryptor()?.is_some();
        let sources = self.sources(issues)?;
        let created_at = Utc::now();
        let taken: HashSet<&str> = known.iter().map(|backup| backup.id.as_str()).collect();
        let id = format::new_id(created_at, |id| taken.contains(id));
        let mut rules = walk::Rules::new(&self.settings.exclude, format::PATH_MAX - id.len() - 1)?;
        rules.apart.extend([folder.as_path(), &self.home.backups_dir()].into_iter().filter_map(walk::identity_of));
        rules.apart.extend(walk::identity_of(self.home.root()));
        let manifest = blank(&id, created_at, &sources);
        Ok(Job { vault: self, stopped, begun, folder, seal, encrypted, sources, rules, manifest })
    }

    /// Whether a proof beside the making would come to its end if all is as it was the last time: else it would be made twice.
    fn is_likely_to_follow(&self, folder: &Path, known: &[StoredBackup]) -> bool {
        let last = known.last().and_then(|last| read_sidecar(&folder.join(format::sidecar_name(&last.id))));
        let Some(last) = last else { return self.has_room_for(0) };
        last.unsound == 0 && self.has_room_for(last.content_bytes)
    }

    fn has_room_for(&self, content_bytes: u64) -> bool {
        let needed = content_bytes.saturating_add(verify::KEPT);
        crate::adapters::room::free(self.home.root()).is_none_or(|free| free >= needed)
    }
}

impl Job<'_> {
    fn id(&self) -> &str {
        &self.manifest.id
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format::file_name(self.id(), self.encrypted))
    }

    /// With the proof beside it. `None`: nothing of it is left, and it is to be made alone.
    fn beside(&self) -> Result<Option<Made>> {
        let work = Work::make(&self.vault.home)?;
        let (written, prover) = match self.write(&work, &Way::Beside) {
            Ok(Attempt { written, prover: Some(prover) }) => (written, prover),
            Err(error) if self.is_stopped() => return Err(error),
            // Whatever it was, alone it does not happen, or is told.
            _ => return Ok(None),
        };
        let (made, sidecar) = self.note(written)?;
        match self.compare(prover, &sidecar) {
            Ok(Proved { archives: Ok(()), .. }) => self.proved(made, sidecar, Proof::Restored).map(Some),
            // The file is what was there. What is wrong with that is what every other proof would say, too: the one that follows says it.
            Ok(Proved { archives: Err(_), .. }) => Ok(Some(made)),
            Err(error) if self.is_stopped() => Err(error),
            // It is told by the proof of the one that is made now, if that says it, too.
            Err(_) => {
                for path in [self.path(), self.folder.join(format::sidecar_name(self.id()))] {
                    durable::remove(&path).map_err(|e| failed("remove", &path, e))?;
                }
                Ok(None)
            }
        }
    }

    /// The file as the disk gives it back is what was restored, and that is what the manifest and the note say.
    fn compare(&self, prover: Prover, sidecar: &Sidecar) -> Result<Proved> {
        let meter = self.vault.meter(Step::Verify, Some(sidecar.bytes), self.stopped);
        verify::read_again(&self.path(), sidecar, &meter)?;
        let proved = prover.finish()?;
        verify::agree(self.id(), &proved.read, sidecar)?;
        if !verify::lists(sidecar, &proved.manifest) {
            return Err(verify::damaged(self.id(), verify::OTHER_CONTENTS));
        }
        Ok(proved)
    }

    /// Without a proof beside it, or, encrypted without the key, with one of the stream.
    fn alone(&self) -> Result<Made> {
        let in_stream = self.encrypted && !self.seal.can_open();
        let work = Work::make(&self.vault.home)?;
        let Attempt { mut written, .. } = self.write(&work, if in_stream { &Way::Stream } else { &Way::Alone })?;
        let landed = written.landed.take();
        let (made, sidecar) = self.note(written)?;
        let Some(landed) = landed else { return Ok(made) };
        verify::compare(self.id(), &place_of(&work), &landed, Some(&sidecar))?;
        let meter = self.vault.meter(Step::Verify, None, self.stopped);
        verify::read_again(&self.path(), &sidecar, &meter)?;
        self.proved(made, sidecar, Proof::Stream)
    }

    /// Notes that it was proved, and how.
    fn proved(&self, made: Made, sidecar: Sidecar, proof: Proof) -> Result<Made> {
        self.vault.put_sidecar(&self.folder, &Sidecar { verified_at: Some(Utc::now()), ..sidecar })?;
        let (backup, proved_ms) = (self.vault.find(self.id())?, Some(millis(self.begun)));
        Ok(Made { backup, proof: Some(proof), proved_ms, ..made })
    }

    /// Puts the note beside the file. It is not verified yet.
    fn note(&self, written: write::Written) -> Result<(Made, Sidecar)> {
        let is_unsound = |issue: &&Issue| issue.code.as_deref() == Some(write::UNSOUND);
        let sidecar = Sidecar {
            id: self.id().into(),
            file: format::file_name(self.id(), self.encrypted),
            bytes: written.bytes,
            sha256: written.sha256,
            encrypted: self.encrypted,
            created_at: self.manifest.created_at,
            verified_at: None,
            damaged: None,
            members: written.members,
            content_bytes: written.content_bytes,
            databases: written.databases,
            unsound: written.left_out.iter().filter(is_unsound).count(),
        };
        self.vault.put_sidecar(&self.folder, &sidecar)?;
        let (backup, took_ms) = (self.vault.find(self.id())?, millis(self.begun));
        Ok((Made { backup, took_ms, issues: written.left_out, proof: None, proved_ms: None }, sidecar))
    }

    /// Writes the file, again if something in it could not be taken the first way.
    fn write(&self, work: &Work, way: &Way) -> Result<Attempt> {
        let (path, place) = (self.path(), place_of(work));
        let (mut copy_first, mut unreadable) = (HashSet::new(), HashSet::new());
        for _ in 0..ATTEMPTS {
            if !matches!(way, Way::Alone) {
                let _ = std::fs::remove_dir_all(&place);
                Beneath::make(&place).map_err(|e| failed("make", &place, e))?;
            }
            let encryptor = self.seal.encryptor()?;
            let order = self.order(work.path(), copy_first.clone(), unreadable.clone(), way);
            let (mut outcome, mut prover) = (None, None);
            let replaced = durable::replace_with(&path, |file| {
                let beside = match way {
                    Way::Alone => Beside::Nobody,
                    Way::Stream => Beside::Stream(&place),
                    Way::Beside => {
                        let (growing, begun) = self.follow(file.try_clone()?, &place)?;
                        prover = Some(begun);
                        Beside::File(growing)
                    }
                };
                match write::write(&order, file, encryptor, beside) {
                    Ok(written) => outcome = Some(Ok(written)),
                    Err(write::Failed::Io(e)) => return Err(e),
                    Err(failed) => {
                        outcome = Some(Err(failed));
                        return Err(io::ErrorKind::Other.into());
                    }
                }
                Ok(())
            });
            match (outcome, replaced) {
                (Some(Ok(written)), Ok(())) => return Ok(Attempt { written, prover }),
                (Some(Err(write::Failed::Shrank(member))), _) => drop(copy_first.insert(member)),
                (Some(Err(write::Failed::Unreadable(member))), _) => drop(unreadable.insert(member)),
                (Some(Err(write::Failed::Unproved(flaw))), _) => return Err(verify::told("the new backup", flaw)),
                (Some(Err(write::Failed::TooMuch(what))), _) => return Err(too_much(&what)),
                (_, Err(e)) => return Err(failed("write", &path, e)),
                (_, Ok(())) => break,
            }
        }
        Err(Error::transient("backup.unsteady", "could not write the backup")
            .cause("too many files became shorter or unreadable while they were read")
            .hint("leave out by backup.exclude what is rewritten all the time"))
    }

    fn follow(&self, file: std::fs::File, place: &Path) -> io::Result<(super::follow::Growing, Prover)> {
        let seal = self.encrypted.then(|| self.seal.clone());
        // It tells nothing: what is told meanwhile is how much is written.
        let meter = super::Meter::new(None, Step::Verify, None, Arc::clone(self.stopped));
        Prover::begin(file, seal, self.id(), place.to_owned(), meter)
    }

    fn order<'b>(
        &'b self,
        work: &'b Path,
        copy_first: HashSet<String>,
        unreadable: HashSet<String>,
        way: &Way,
    ) -> write::Order<'b> {
        write::Order {
            sources: &self.sources,
            rules: &self.rules,
            manifest: self.manifest.clone(),
            level: self.vault.settings.zstd_level,
            work,
            copy_first,
            unreadable,
            looks_into_databases: !matches!(way, Way::Beside),
            meter: self.vault.meter(Step::Write, None, self.stopped),
            limits: write::Limits::default(),
        }
    }
}

/// Who proves the backup while it is written.
enum Way {
    /// Nobody.
    Alone,
    /// The stream is restored before it is encrypted: nobody here can open the file.
    Stream,
    /// The file is followed.
    Beside,
}

/// A file that was written, synced and put in its place.
struct Attempt {
    written: write::Written,
    prover: Option<Prover>,
}

/// The empty place that a backup is restored into.
fn place_of(work: &Work) -> PathBuf {
    work.path().join("proof")
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A manifest that lists nothing yet.
pub(super) fn blank(id: &str, created_at: DateTime<Utc>, sources: &[Source]) -> Manifest {
    Manifest {
        format: format::FORMAT.into(),
        version: format::VERSION,
        id: id.into(),
        created_at,
        moon: env!("CARGO_PKG_VERSION").into(),
        host: host_name(),
        home: sources[0].root.display().to_string(),
        include: write::included(sources),
        ledger: None,
        members: vec![],
    }
}

pub(super) fn too_much(what: &str) -> Error {
    Error::config("backup.too_much", "there is more than one backup can hold, and nothing was written")
        .cause(format!("{what}, and a restore takes no more"))
        .hint("leave something out by backup.exclude, or give a folder a backup of its own")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use moon_actors::settings;
    use std::os::unix::fs::FileExt;

    /// A home, a folder of the user's with something in it, and the vault of both.
    fn ready() -> (tempfile::TempDir, BackupVault) {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
        let agent = scratch.path().join("agent");
        std::fs::create_dir(&agent).expect("a folder");
        for n in 0..300u32 {
            std::fs::write(agent.join(n.to_string()), n.to_string().repeat(500)).expect("a file");
        }
        let settings = settings::Backup { include: vec![agent.display().to_string()], ..settings::Backup::default() };
        (scratch, BackupVault::new(&home, &settings))
    }

    fn job<'a>(vault: &'a BackupVault, stopped: &'a Arc<AtomicBool>) -> Job<'a> {
        vault.job(stopped, &[], &mut Vec::new()).expect("a job")
    }

    /// Written and followed, with a prover that has read all of it.
    fn followed(job: &Job, work: &Work) -> (write::Written, Prover) {
        let Attempt { written, prover } = job.write(work, &Way::Beside).expect("written");
        let prover = prover.expect("followed");
        while !prover.is_done() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        (written, prover)
    }

    #[tokio::test]
    async fn a_byte_that_changes_on_the_disk_behind_the_prover_is_found_wherever_it_lies() {
        let (_scratch, vault) = ready();
        let stopped = Arc::default();
        for part in 0..8u64 {
            let job = job(&vault, &stopped);
            let work = Work::make(&vault.home).expect("a folder");
            let (written, prover) = followed(&job, &work);
            let (_, sidecar) = job.note(written).expect("noted");
            let file = std::fs::File::options().read(true).write(true).open(job.path()).expect("opens");
            let (at, mut byte) = (part * (sidecar.bytes - 1) / 7, [0]);
            file.read_exact_at(&mut byte, at).expect("readable");
            file.write_all_at(&[byte[0] ^ 1], at).expect("changed");
            let error = job.compare(prover, &sidecar).map(drop).expect_err("it is not what was restored");
            assert_eq!(error.code, "backup.damaged", "byte {at}");
        }
    }

    #[tokio::test]
    async fn a_file_that_was_cut_or_became_longer_behind_the_prover_is_found() {
        let (_scratch, vault) = ready();
        let stopped = Arc::default();
        for more in [-1i64, 1] {
            let job = job(&vault, &stopped);
            let work = Work::make(&vault.home).expect("a folder");
            let (written, prover) = followed(&job, &work);
            let (_, sidecar) = job.note(written).expect("noted");
            let file = std::fs::File::options().write(true).open(job.path()).expect("opens");
            file.set_len(sidecar.bytes.strict_add_signed(more)).expect("another length");
            let error = job.compare(prover, &sidecar).map(drop).expect_err("it is not what was restored");
            assert_eq!(error.code, "backup.damaged", "{more}");
        }
    }

    #[tokio::test]
    async fn a_whole_file_with_a_right_note_is_refused_when_it_is_not_the_one_that_was_restored() {
        let (_scratch, vault) = ready();
        let stopped = Arc::default();
        let job = job(&vault, &stopped);
        let work = Work::make(&vault.home).expect("a folder");
        let (written, prover) = followed(&job, &work);
        let (_, sidecar) = job.note(written).expect("noted");
        // The same content in other bytes: another one who read it would find nothing wrong with it.
        let plain = zstd::stream::decode_all(std::fs::File::open(job.path()).expect("opens")).expect("unpacks");
        let packed = zstd::stream::encode_all(&plain[..], 19).expect("packs");
        std::fs::write(job.path(), &packed).expect("written");
        let (bytes, sha256) = (packed.len() as u64, moon_actors::domain::Sha256::of(&packed));
        let sidecar = Sidecar { bytes, sha256, ..sidecar };
        let error = job.compare(prover, &sidecar).map(drop).expect_err("it is not what was restored");
        assert_eq!(error.code, "backup.damaged");
    }

    #[tokio::test]
    async fn a_backup_is_followed_and_proved_and_its_place_given_up() {
        let (_scratch, vault) = ready();
        let stopped = Arc::default();
        let made = job(&vault, &stopped).beside().expect("no error").expect("proved");
        assert!(made.proof == Some(Proof::Restored) && made.backup.verified_at.is_some());
        assert!(made.backup.members >= Some(300), "{:?}", made.backup);
        assert_eq!(std::fs::read_dir(vault.home.backup_work_dir()).expect("listable").count(), 0);
    }

    #[tokio::test]
    async fn an_encrypted_one_is_followed_through_its_encryption_by_who_has_the_key_and_by_nobody_else() {
        use age::secrecy::ExposeSecret;
        let (scratch, vault) = ready();
        let (ours, other) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
        let known = |identity: &age::x25519::Identity| {
            let path = scratch.path().join(identity.to_public().to_string());
            std::fs::write(&path, identity.to_string().expose_secret()).expect("written");
            let (recipients, identity_file) = (vec![ours.to_public().to_string()], path.display().to_string());
            let settings = settings::Backup { recipients, identity_file, ..vault.settings.clone() };
            BackupVault::new(&vault.home, &settings)
        };
        let stopped = Arc::default();
        assert!(job(&known(&other), &stopped).beside().expect("no error").is_none(), "nobody could read it");
        let made = job(&known(&ours), &stopped).beside().expect("no error").expect("proved");
        assert!(made.backup.encrypted && made.backup.path.ends_with(".age"));
        assert!(made.proof == Some(Proof::Restored) && made.backup.verified_at.is_some());
    }

    #[tokio::test]
    async fn what_cannot_be_proved_beside_is_made_alone_and_nothing_of_the_first_is_left() {
        let (scratch, vault) = ready();
        // SQLite finds it unsound only when it looks: its header is right, its pages are not.
        let path = scratch.path().join("agent/torn.db");
        let db = rusqlite::Connection::open(&path).expect("opens");
        db.execute_batch("CREATE TABLE t (a); INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT randomblob(900) FROM n;").expect("rows");
        drop(db);
        let file = std::fs::File::options().write(true).open(&path).expect("opens");
        file.write_all_at(&[7; 4096], 5 * 4096).expect("torn");
        let stopped = Arc::default();
        let first = job(&vault, &stopped);
        assert!(first.beside().expect("no error").is_none());
        assert!(vault.list_folder().expect("listable").is_empty());
        assert!(std::fs::read_dir(&first.folder).expect("listable").next().is_none());
        let made = vault.make_now(&stopped).expect("made alone");
        assert!(made.proof.is_none(), "it is proved behind that");
        let told = made.issues.iter().any(|issue| issue.code.as_deref() == Some(write::UNSOUND));
        assert!(told, "{:?}", made.issues);
        // It is not tried in vain every night.
        let (known, followable) = (vault.list_folder().expect("listable"), |known: &[StoredBackup]| {
            vault.is_likely_to_follow(&vault.folder().expect("a folder"), known)
        });
        assert!(followable(&[]) && !followable(&known));
    }
}
