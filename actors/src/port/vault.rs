//! Where backups are made and lie: the home's own folder, and a store somewhere else.
//!
//! The vault makes, reads and removes; which backups are kept is decided by [`backup::policy`](crate::backup::policy). Every method
//! that changes something wants the vault to be held, so that no two processes ever make, prove or remove at the same time.

use crate::contract::Issue;
use crate::error::{Error, Result};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;

/// Where a backup lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A folder of this machine. Always there; every backup is made here first.
    Folder,
    /// A store that speaks S3.
    S3,
}

impl Target {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::S3 => "s3",
        }
    }
}

/// A backup as it lies at a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBackup {
    /// `YYYYMMDD_HHMMSS`, local time of its making; `-2`, `-3` … when that was taken.
    pub id: String,
    /// The whole path, or the address in the store.
    pub path: String,
    pub created_at: DateTime<Utc>,
    pub bytes: u64,
    /// Of the file as it lies there. Unknown when its maker was killed before it could say.
    pub sha256: Option<String>,
    pub encrypted: bool,
    /// When it was last restored into an empty place, opened and compared, and all was well.
    pub verified_at: Option<DateTime<Utc>>,
    /// What was wrong with it when somebody last looked. `None`: nothing that is known.
    #[serde(default)]
    pub damaged: Option<String>,
    pub members: Option<u64>,
    /// What it holds, unpacked.
    pub content_bytes: Option<u64>,
}

/// How it was found out that a backup can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The file was read again, restored into an empty place and compared.
    Restored,
    /// Encrypted, and the key is not here: the stream was restored and compared before it was encrypted, and the file read again.
    Stream,
}

impl Proof {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::Stream => "stream",
        }
    }
}

/// A backup that was just made.
#[derive(Clone, Debug)]
pub struct Made {
    pub backup: StoredBackup,
    pub took_ms: u64,
    /// What could not be taken, each by name.
    pub issues: Vec<Issue>,
    /// Set when it was proved while it was written, with the time from the beginning of both to the end of the proof.
    pub proof: Option<Proof>,
    pub proved_ms: Option<u64>,
}

/// A backup that was just proved.
#[derive(Clone, Debug)]
pub struct Proven {
    pub backup: StoredBackup,
    pub proof: Proof,
    pub took_ms: u64,
}

/// How far a backup or its proof is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub step: Step,
    pub members: u64,
    pub bytes: u64,
    /// Of the bytes, when it is known.
    pub of: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    #[default]
    Write,
    Verify,
    Send,
}

/// Called often and from other threads: it must be quick.
pub type Watch = Arc<dyn Fn(Progress) + Send + Sync>;

/// The vault, held. Freed when the last copy is dropped, or the process dies.
#[derive(Clone)]
pub struct Held(pub Arc<dyn Any + Send + Sync>);

#[async_trait]
pub trait Vault: Send + Sync {
    /// Where backups are kept, the folder first.
    fn targets(&self) -> Vec<Target>;
    /// From now on tells `watch` how far it is.
    fn watch(&self, watch: Watch);
    /// Holds the vault, or says that somebody does: `conflict` `backup.held`.
    async fn hold(&self) -> Result<Held>;
    /// Every backup that lies there, oldest first.
    async fn list(&self, target: Target) -> Result<Vec<StoredBackup>>;
    /// Removes what dead makers left. Returns how many things.
    async fn sweep(&self, held: &Held) -> Result<u64>;
    /// Makes one in the folder. Nothing of it is left when it fails.
    async fn make(&self, held: &Held) -> Result<Made>;
    /// Restores one into an empty place, compares and opens everything, and writes down that it did. `data` `backup.damaged` when it
    /// is not what it should be; `transient` `backup.no_room` when there is no room to find out.
    async fn verify(&self, held: &Held, target: Target, id: &str) -> Result<Proven>;
    /// Copies one from the folder to another target.
    async fn send(&self, held: &Held, id: &str, target: Target) -> Result<StoredBackup>;
    async fn delete(&self, held: &Held, target: Target, id: &str) -> Result<()>;
}

/// Keeps nothing: for worlds without a disk.
pub struct NoVault;

#[async_trait]
impl Vault for NoVault {
    fn targets(&self) -> Vec<Target> {
        vec![Target::Folder]
    }
    fn watch(&self, _: Watch) {}
    async fn hold(&self) -> Result<Held> {
        Ok(Held(Arc::new(())))
    }
    async fn list(&self, _: Target) -> Result<Vec<StoredBackup>> {
        Ok(vec![])
    }
    async fn sweep(&self, _: &Held) -> Result<u64> {
        Ok(0)
    }
    async fn make(&self, _: &Held) -> Result<Made> {
        Err(none())
    }
    async fn verify(&self, _: &Held, _: Target, _: &str) -> Result<Proven> {
        Err(none())
    }
    async fn send(&self, _: &Held, _: &str, _: Target) -> Result<StoredBackup> {
        Err(none())
    }
    async fn delete(&self, _: &Held, _: Target, _: &str) -> Result<()> {
        Err(none())
    }
}

fn none() -> Error {
    Error::unavailable("backup.none", "backups cannot be made here")
}
