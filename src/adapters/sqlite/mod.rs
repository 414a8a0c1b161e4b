//! The ledger in one SQLite database: the truth that every restart begins from.
//!
//! WAL, `synchronous=FULL`, foreign keys, and a SQLite with the WAL-reset fix: all read back at open, because a ledger that
//! acknowledges what a power cut can take is worse than none. One connection writes; every method is one transaction.
//! This file runs the transactions, `open.rs` opens the database, `ledger.rs` routes; the rows live in the files named after them.
//! Nothing here decides.

mod alert_book;
mod alerts;
mod archive;
mod audit;
mod backups;
mod chores;
pub(crate) mod copy;
mod failure;
mod health;
mod jobs;
mod ledger;
mod memory;
mod open;
mod outbox;
pub(crate) mod reader;
mod screens;
mod sessions;
mod silences;

use crate::scratch::Scratch;
use chrono::{DateTime, Utc};
use moon_actors::contract::ArchiveRecord;
use moon_actors::domain::{BootId, Sha256};
use moon_actors::port::{AuditRow, Clock, Ids};
use moon_actors::{Error, Result};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use failure::failed;
pub use open::SQLITE_FLOOR;

/// Now, twice, and whose life it is: what every write is stamped with.
#[derive(Clone)]
pub(crate) struct Stamp {
    pub(crate) now: DateTime<Utc>,
    pub(crate) steady: DateTime<Utc>,
    pub(crate) boot: BootId,
}

/// The ledger. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct SqliteLedger {
    db: Arc<Mutex<Connection>>,
    boot: BootId,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    reserve: Option<PathBuf>,
    /// There was no room for the reserve when it was last looked at, and that was said.
    is_short: Arc<AtomicBool>,
    /// Runs statements on the caller's thread: only for tests on a paused clock, where a thread would let time run away.
    inline: bool,
    /// Where the database lies if it is a copy; behind the connection, which is closed first.
    _copy: Option<Arc<Scratch>>,
}

impl SqliteLedger {
    /// Archived segments as records of the plan, after a row id, oldest first.
    pub async fn archive_rows(&self, after: i64, limit: usize) -> Result<Vec<(i64, ArchiveRecord)>> {
        self.read("list the archives", move |db, _| archive::rows(db, after, limit)).await
    }

    /// The audit rows of one trace, oldest first.
    pub async fn audit_of_trace(&self, trace: &str) -> Result<Vec<AuditRow>> {
        let trace = trace.to_owned();
        self.read("read the audit", move |db, _| audit::of_trace(db, &trace)).await
    }

    fn stamp(&self) -> Stamp {
        Stamp { now: self.clock.now(), steady: self.clock.steady(), boot: self.boot.clone() }
    }

    /// Runs one read-write transaction. On a full disk the reserve is given up and the transaction tried once more.
    async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Fn(&Transaction, &Stamp) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (stamp, reserve) = (self.stamp(), self.reserve.clone());
        self.on_connection(move |db| {
            let mut run = || -> rusqlite::Result<T> {
                let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let value = work(&tx, &stamp)?;
                tx.commit()?;
                Ok(value)
            };
            let mut outcome = run();
            let full = |e: &rusqlite::Error| e.sqlite_error_code() == Some(ErrorCode::DiskFull);
            if outcome.as_ref().is_err_and(full)
                && let Some(reserve) = reserve
                && std::fs::remove_file(&reserve).is_ok()
            {
                outcome = run();
            }
            outcome.map_err(failed(what))
        })
        .await
    }

    /// Ends every life that has no end yet: they belong to another time of this ledger, before it was put back.
    pub async fn close_lives(&self, reason: &str) -> Result<()> {
        let reason = reason.to_owned();
        self.write("end earlier lives in the ledger", move |tx, stamp| {
            let sql = "UPDATE boots SET ended_at = ?1, end_reason = ?2 WHERE ended_at IS NULL";
            tx.execute(sql, (millis(stamp.now), &reason)).map(drop)
        })
        .await
    }

    /// Writes a stamp and reads it back: what shows that the ledger takes and gives. No audit row, it says nothing of the work.
    pub async fn echo(&self) -> Result<()> {
        self.write("write the heartbeat", |db, stamp| memory::beat(db, stamp)).await
    }

    /// All that one reading asks is answered as of one moment, whatever others write meanwhile.
    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Fn(&Connection, &Stamp) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let stamp = self.stamp();
        self.on_connection(move |db| db.transaction().and_then(|tx| work(&tx, &stamp)).map_err(failed(what))).await
    }

    async fn on_connection<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let db = Arc::clone(&self.db);
        // A panic inside a transaction rolled it back when the guard was dropped: the connection stays good.
        let run = move || work(&mut db.lock().unwrap_or_else(PoisonError::into_inner));
        if self.inline {
            return run();
        }
        match tokio::task::spawn_blocking(run).await {
            Ok(outcome) => outcome,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => Err(Error::transient("ledger.stopping", "the ledger is closing")),
        }
    }
}

pub(crate) fn millis(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis()
}

pub(crate) fn instant(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
}

/// A JSON column of our own making that does not parse is damage, not an operating error.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e)))
}

pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("the ledger's own records are plain data")
}

pub(crate) fn hash_column(text: &str) -> rusqlite::Result<Sha256> {
    Sha256::parse(text).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, "not a SHA-256 in hex".into())
    })
}
