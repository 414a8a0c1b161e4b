//! One writer per home: a kernel lock on `run/moon.lock`, freed at once when its holder dies.
//!
//! The file's content names the holder for people; nobody believes it, the lock itself decides.

use crate::home::Home;
use moon_actors::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// How often a lock is taken anew because the home was exchanged meanwhile.
const TRIES: usize = 5;

/// Who holds the home, as written into the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub started_at_epoch_secs: i64,
    pub version: String,
    /// `daemon`, or the one-shot command.
    pub what: String,
}

/// Held until dropped.
#[derive(Debug)]
pub struct HomeLock {
    file: File,
}

impl HomeLock {
    /// Takes the lock, or says who has it: `conflict` `daemon.held` with the holder's pid.
    pub fn take(home: &Home, what: &str) -> Result<Self> {
        let path = home.lock_file();
        // A restore may exchange the whole home between the opening and the locking: then the lock is that of the old state.
        for _ in 0..TRIES {
            let lock = Self::take_at(&path, what)?;
            if lock.is_of(home) {
                return Ok(lock);
            }
        }
        Err(held(None))
    }

    /// The same for one route of alerts, which the daemon serves, and whoever tells something beside it while it hangs: one at a time.
    pub fn take_turn(path: &Path) -> Result<Self> {
        Self::take_at(path, "alerts")
    }

    /// `conflict` `daemon.held` while somebody has such a turn. Takes it for no longer than the look, and leaves no trace.
    pub fn look_at_turn(path: &Path) -> Result<()> {
        let Ok(mut file) = OpenOptions::new().read(true).write(true).open(path) else { return Ok(()) };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(held(holder(&mut file))),
            _ => Ok(()),
        }
    }

    /// False once another home has taken the place of the one that was locked.
    pub fn is_of(&self, home: &Home) -> bool {
        let path = home.lock_file();
        let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let found = self.file.metadata().and_then(|mine| Ok((mine, std::fs::symlink_metadata(path)?)));
        found.is_ok_and(|(mine, there)| same(&mine, &there))
    }

    fn take_at(path: &Path, what: &str) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::config("home.lock", format!("could not open {}", path.display()))
                .cause(e)
                .hint("check that Moon's home belongs to you and is writable")
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(holder(&mut file))),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let me = Holder {
            pid: std::process::id(),
            started_at_epoch_secs: chrono::Utc::now().timestamp(),
            version: env!("CARGO_PKG_VERSION").into(),
            what: what.into(),
        };
        let text = serde_json::to_vec(&me).expect("a holder is plain data");
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text)).map_err(failed)?;
        Ok(Self { file })
    }

    /// Who holds the home now, if anybody.
    pub fn holder(home: &Home) -> Option<Holder> {
        let mut file = OpenOptions::new().read(true).write(true).open(home.lock_file()).ok()?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Some(holder(&mut file).unwrap_or(Holder {
                pid: 0,
                started_at_epoch_secs: 0,
                version: "unknown".into(),
                what: "unknown".into(),
            })),
            _ => None,
        }
    }
}

fn holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    Read::take(file, 4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn held(holder: Option<Holder>) -> Error {
    let who = holder.map_or("another moon".to_owned(), |h| format!("moon {} (pid {}, {})", h.what, h.pid, h.version));
    Error::conflict("daemon.held", format!("this home is held by {who}"))
        .hint("talk to it with `moon status` or `moon ctl`, or stop it with `moon ctl stop`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_no_lock_of_the_home_that_took_the_place_of_the_locked_one() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("opens");
        let lock = HomeLock::take(&home, "daemon").expect("free");
        assert!(lock.is_of(&home));
        std::fs::rename(home.root(), scratch.path().join("old")).expect("moved");
        let (home, _) = Home::open(scratch.path().join("home")).expect("opens");
        assert!(!lock.is_of(&home));
        HomeLock::take(&home, "daemon").expect("that one is free");
    }

    #[test]
    fn a_second_taker_is_told_who_holds_the_home_and_a_dead_holder_holds_nothing() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("opens");
        let first = HomeLock::take(&home, "daemon").expect("free");
        let refused = HomeLock::take(&home, "snapshot").expect_err("held");
        assert_eq!(refused.code, "daemon.held");
        assert!(refused.message.contains(&std::process::id().to_string()), "{refused}");
        assert_eq!(HomeLock::holder(&home).map(|h| h.what), Some("daemon".into()));
        drop(first);
        assert_eq!(HomeLock::holder(&home), None);
        HomeLock::take(&home, "snapshot").expect("free again, whatever the file says");
    }
}
