//! The vault on disk: makes backups of the home and of the user's folders, proves them, and keeps them in a folder.
//!
//! A backup is one file that appears whole or not at all, a note beside it (`<id>.json`), and the name of the newest in `latest`.
//! Whoever makes, proves or removes holds a kernel lock, which a killed process gives up at once. Nothing here decides what is kept,
//! and nothing but files with the name of a backup is ever removed.

mod follow;
pub mod format;
mod make;
mod meter;
mod pack;
mod prover;
mod ready;
mod seal;
pub(super) mod sqlite;
mod target;
#[cfg(test)]
mod tests;
mod unpack;
mod verify;
mod walk;
mod work;
mod write;

pub use ready::{exclusion_fault, recipient_fault, unready};

use crate::config::{Environment, expand};
use crate::durable;
use crate::home::Home;
use async_trait::async_trait;
use format::Sidecar;
use meter::{Meter, StopOnDrop};
use moon_actors::contract::Issue;
use moon_actors::port::{Held, Made, Progress, Proven, Step, StoredBackup, Target, Vault, Watch};
use moon_actors::settings;
use moon_actors::{Error, Result};
use seal::Seal;
use std::fs::{OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use walk::Source;
use work::Work;

/// What of the home is in no backup: what is running, what can be made again, and the backups themselves.
const NEVER: [&str; 4] = ["run", "index", "backups", "state/reserve.bin"];
/// Largest note beside a backup that is read.
const SIDECAR_MAX: u64 = 64 << 10;

/// Backups of one home.
#[derive(Clone)]
pub struct BackupVault {
    home: Home,
    settings: settings::Backup,
    environment: Arc<Environment>,
    watch: Arc<Mutex<Option<Watch>>>,
}

impl BackupVault {
    /// Looks at nothing: a setting that cannot be used is told by what needs it.
    pub fn new(home: &Home, settings: &settings::Backup) -> Self {
        let environment = Arc::new(crate::config::process_environment());
        Self { home: home.clone(), settings: settings.clone(), environment, watch: Arc::default() }
    }

    /// Where backups lie.
    pub fn folder(&self) -> Result<PathBuf> {
        Ok(self.path("backup.folder", &self.settings.folder)?.unwrap_or_else(|| self.home.own_backups_dir()))
    }

    fn path(&self, key: &str, text: &str) -> Result<Option<PathBuf>> {
        if text.is_empty() {
            return Ok(None);
        }
        expand(Path::new(text), &self.environment).map(Some).map_err(|message| {
            Error::config("config.invalid", "could not use the configuration").cause(format!("{key}: {message}"))
        })
    }

    fn seal(&self) -> Result<Seal> {
        Ok(Seal {
            recipients: self.settings.recipients.clone(),
            recipients_file: self.path("backup.recipients_file", &self.settings.recipients_file)?,
            identity_file: self.path("backup.identity_file", &self.settings.identity_file)?,
        })
    }

    fn meter(&self, step: Step, of: Option<u64>, stopped: &Arc<AtomicBool>) -> Meter {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Meter::new(watch, step, of, Arc::clone(stopped))
    }

    /// Runs `work` beside the runtime. It is told to stop when this future is dropped, and holds the vault until it has.
    async fn blocking<T: Send + 'static>(
        &self,
        held: Option<&Held>,
        work: impl FnOnce(&Self, &Arc<AtomicBool>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (vault, held, stopped) = (self.clone(), held.cloned(), Arc::new(AtomicBool::new(false)));
        let guard = StopOnDrop(Arc::clone(&stopped));
        let run = move || {
            let outcome = work(&vault, &stopped);
            drop(held);
            outcome
        };
        let outcome = match tokio::task::spawn_blocking(run).await {
            Ok(outcome) => outcome,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => Err(Error::transient("backup.stopped", "the backup was stopped")),
        };
        drop(guard);
        outcome
    }

    fn take_lock(&self) -> Result<Held> {
        let path = self.home.backup_lock();
        let failed = |e: io::Error| failed("hold the backups", &path, e);
        durable::create_folder(&self.home.backups_dir()).map_err(failed)?;
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Held(Arc::new(file))),
            Err(TryLockError::WouldBlock) => {
                Err(Error::conflict("backup.held", "another moon is at work on the backups of this home")
                    .hint("wait until it is done; `moon backup list` shows what there is"))
            }
            Err(TryLockError::Error(e)) => Err(failed(e)),
        }
    }

    /// The newest verified backup in the folder that holds the database at `path` whole: its id, and the database as a member.
    pub fn holding(&self, path: &Path) -> Option<(String, String)> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (folder, all) = (self.folder().ok()?, self.list_folder().ok()?);
        all.into_iter().rev().filter(|backup| backup.verified_at.is_some()).find_map(|backup| {
            let held = read_sidecar(&folder.join(format::sidecar_name(&backup.id)))?.databases;
            Some((backup.id, held.into_iter().find(|database| Path::new(&database.path) == path)?.member))
        })
    }

    /// Whether a backup takes the file at `path`: it lies in the home or in an included folder, and nothing leaves it out.
    pub fn takes(&self, path: &Path) -> bool {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let rules = walk::Rules::new(&self.settings.exclude, format::PATH_MAX);
        let (Ok(sources), Ok(rules)) = (self.sources(&mut Vec::new()), rules) else { return false };
        sources.iter().any(|source| {
            let Ok(below) = path.strip_prefix(&source.root) else { return false };
            let is_left_out = |part: &Path| rules.excludes(part, part.file_name().unwrap_or_default());
            let mut parts = below.ancestors().filter(|part| !part.as_os_str().is_empty());
            !source.never.iter().any(|never| below.starts_with(never)) && !parts.any(is_left_out)
        })
    }

    /// What lies in the folder, oldest first.
    pub fn list_folder(&self) -> Result<Vec<StoredBackup>> {
        let folder = self.folder()?;
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(failed("list", &folder, e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed("list", &folder, e))?;
            let name = entry.file_name();
            let Some((id, encrypted)) = name.to_str().and_then(format::parse_name) else { continue };
            let Ok(meta) = std::fs::symlink_metadata(entry.path()) else { continue };
            if meta.is_file() {
                found.push(describe(&folder, id, encrypted, meta.len()));
            }
        }
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found)
    }

    fn find(&self, id: &str) -> Result<StoredBackup> {
        let found = self.list_folder()?.into_iter().find(|backup| backup.id == id);
        found.ok_or_else(|| {
            Error::data("backup.unknown", format!("there is no backup {id}")).hint("`moon backup list` lists them")
        })
    }

    fn sweep_now(&self) -> Result<u64> {
        let (work, folder) = (self.home.backup_work_dir(), self.folder()?);
        let mut swept = 0;
        match std::fs::remove_dir_all(&work) {
            Ok(()) => swept += 1,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("empty", &work, e)),
        }
        if folder.is_dir() {
            swept += durable::sweep_here(&folder).map_err(|e| failed("sweep", &folder, e))?;
        }
        Ok(swept)
    }

    /// Home and included folders. What is no folder is told, and the others are taken.
    fn sources(&self, issues: &mut Vec<Issue>) -> Result<Vec<Source>> {
        let root = self.home.root().canonicalize().map_err(|e| failed("find", self.home.root(), e))?;
        let mut sources = vec![Source { place: format::HOME.into(), root, never: &NEVER }];
        for (n, text) in self.settings.include.iter().enumerate() {
            let path = self.path("backup.include", text)?.unwrap_or_default();
            // Named by the user, so a link at its end is meant; those inside are not followed.
            match path.canonicalize() {
                Ok(root) if root.is_dir() => {
                    sources.push(Source { place: format!("{}/{n}", format::INCLUDE), root, never: &[] });
                }
                outcome => {
                    let why = outcome.err().map_or("it is not a folder".to_owned(), |e| e.to_string());
                    let error = Error::config("backup.include", format!("{} is not in the backup", path.display()));
                    issues.push(error.cause(why).hint("name folders that are there in backup.include").into());
                }
            }
        }
        Ok(sources)
    }

    /// Notes beside the backup in `file` that it was found damaged, so that nobody takes it for a good one again. Nothing is noted of a
    /// file that is none of this folder's.
    pub async fn note_damage(&self, file: &Path, error: &Error) -> Result<()> {
        let folder = self.folder()?;
        let name = file.file_name().and_then(|name| name.to_str()).and_then(format::parse_name);
        let Some((id, _)) = name.filter(|_| file.parent() == Some(&folder)) else { return Ok(()) };
        let Some(sidecar) = read_sidecar(&folder.join(format::sidecar_name(id))) else { return Ok(()) };
        let (held, sidecar) = (self.hold().await?, sidecar.damaged(error));
        self.blocking(Some(&held), move |vault, _| vault.put_sidecar(&folder, &sidecar)).await
    }

    fn put_sidecar(&self, folder: &Path, sidecar: &Sidecar) -> Result<()> {
        let path = folder.join(format::sidecar_name(&sidecar.id));
        let text = serde_json::to_vec_pretty(sidecar).expect("a sidecar is plain data");
        durable::replace(&path, &text).map_err(|e| failed("write", &path, e))
    }

    fn delete_now(&self, id: &str) -> Result<()> {
        let (folder, backup) = (self.folder()?, self.find(id)?);
        // The file first: a note alone is no backup, and is swept by nobody who looks for one.
        for path in [PathBuf::from(&backup.path), folder.join(format::sidecar_name(id))] {
            durable::remove(&path).map_err(|e| failed("remove", &path, e))?;
        }
        Ok(())
    }
}

fn describe(folder: &Path, id: &str, encrypted: bool, bytes: u64) -> StoredBackup {
    let path = folder.join(format::file_name(id, encrypted));
    // One that speaks of another file is none.
    let sidecar =
        read_sidecar(&folder.join(format::sidecar_name(id))).filter(|s| s.id == id && s.encrypted == encrypted);
    stored(path.display().to_string(), id, encrypted, bytes, sidecar)
}

fn stored(path: String, id: &str, encrypted: bool, bytes: u64, sidecar: Option<Sidecar>) -> StoredBackup {
    let named = format::time_of(id).unwrap_or_default();
    // What is not as long as it was written is not what was verified.
    let torn = sidecar.as_ref().filter(|s| s.bytes != bytes);
    let torn = torn.map(|s| format!("the file has {bytes} bytes, {} were written", s.bytes));
    StoredBackup {
        id: id.into(),
        path,
        created_at: sidecar.as_ref().map_or(named, |s| s.created_at),
        bytes,
        encrypted,
        verified_at: sidecar.as_ref().filter(|_| torn.is_none()).and_then(|s| s.verified_at),
        damaged: torn.or_else(|| sidecar.as_ref().and_then(|s| s.damaged.clone())),
        members: sidecar.as_ref().map(|s| s.members),
        content_bytes: sidecar.as_ref().map(|s| s.content_bytes),
        sha256: sidecar.map(|s| s.sha256.as_str().to_owned()),
    }
}

fn read_sidecar(path: &Path) -> Option<Sidecar> {
    let mut text = Vec::new();
    durable::open_regular(path).ok()?.take(SIDECAR_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn host_name() -> String {
    sysinfo::System::host_name().unwrap_or_default()
}

fn failed(operation: &str, path: &Path, error: io::Error) -> Error {
    let what = format!("could not {operation} {}", path.display());
    match error.kind() {
        io::ErrorKind::Interrupted => Error::transient("backup.stopped", "the backup was stopped"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::config("backup.denied", what)
            .cause(error)
            .hint("name a folder that you may write to in backup.folder"),
        _ if durable::is_full(&error) => Error::transient("backup.disk_full", what)
            .cause(error)
            .hint("make room there, or name another folder in backup.folder; older backups are untouched"),
        _ => Error::transient("backup.io", what).cause(error),
    }
}

#[async_trait]
impl Vault for BackupVault {
    fn targets(&self) -> Vec<Target> {
        let store = (!self.settings.s3_url.is_empty()).then_some(Target::S3);
        std::iter::once(Target::Folder).chain(store).collect()
    }
    fn watch(&self, watch: Watch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    }
    async fn hold(&self) -> Result<Held> {
        self.blocking(None, |vault, _| vault.take_lock()).await
    }
    async fn list(&self, target: Target) -> Result<Vec<StoredBackup>> {
        match target {
            Target::Folder => self.blocking(None, |vault, _| vault.list_folder()).await,
            Target::S3 => self.store()?.list().await,
        }
    }
    async fn sweep(&self, held: &Held) -> Result<u64> {
        self.blocking(Some(held), |vault, _| vault.sweep_now()).await
    }
    async fn make(&self, held: &Held) -> Result<Made> {
        self.make_and_prove(held).await
    }
    async fn verify(&self, held: &Held, target: Target, id: &str) -> Result<Proven> {
        match target {
            Target::Folder => self.verify_folder(held, id).await,
            Target::S3 => self.verify_store(held, id).await,
        }
    }
    async fn send(&self, _: &Held, id: &str, target: Target) -> Result<StoredBackup> {
        let backup = self.find(id)?;
        match target {
            Target::Folder => Ok(backup),
            Target::S3 => {
                let sidecar = read_sidecar(&self.folder()?.join(format::sidecar_name(id))).ok_or_else(|| {
                    Error::data("backup.damaged", format!("the note beside the backup {id} is missing"))
                        .hint(format!("`moon backup verify {id}` writes it again"))
                })?;
                let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let tell = move |bytes: u64, of: u64| {
                    if let Some(watch) = &watch {
                        watch(Progress { step: Step::Send, members: 0, bytes, of: Some(of) });
                    }
                };
                self.store()?.send(Path::new(&backup.path), &sidecar, &tell).await
            }
        }
    }
    async fn delete(&self, held: &Held, target: Target, id: &str) -> Result<()> {
        match target {
            Target::Folder => {
                let id = id.to_owned();
                self.blocking(Some(held), move |vault, _| vault.delete_now(&id)).await
            }
            Target::S3 => self.store()?.delete(id).await,
        }
    }
}
