//! The ledger in one SQLite database: the truth that every restart begins from.
//!
//! WAL, `synchronous=FULL`, foreign keys, and a SQLite with the WAL-reset fix: all read back at open, because a ledger that
//! acknowledges what a power cut can take is worse than none. One connection writes; every method is one transaction.
//! This file opens the database and routes; the rows live in the files named after them. Nothing here decides.

mod alert_book;
mod alerts;
mod archive;
mod audit;
mod backups;
mod chores;
pub(crate) mod copy;
mod health;
mod jobs;
mod memory;
mod outbox;
pub(crate) mod reader;
mod screens;
mod sessions;
mod silences;

use crate::scratch::Scratch;
use alerts::Pending;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::contract::ArchiveRecord;
use moon_actors::domain::{
    BootId, Claim, CycleId, Job, Segment, Series, SessionKey, SessionRef, Sha256, Stage, UsageReading,
};
use moon_actors::port::{
    Alert, AlertKey, AuditEntry, AuditRow, BackupNews, BackupRow, CheckRow, ChoreRow, Clock, ContinuityRow,
    DistillationRow, DrillRow, Effect, Ids, JobRow, Ledger, Life, NewCycle, PastAlert, Period, Recovery, Release,
    SessionRow, Severity, StageLoad, Stored, StoredBackup, Target, Totals, UsageTrack,
};
use moon_actors::schedule::Task;
use moon_actors::{Error, Result};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Oldest SQLite whose WAL mode is trusted: 3.51.3 fixed a reset race that could lose committed rows.
pub const SQLITE_FLOOR: i32 = 3_051_003;

/// Less than SQLite needs to open a database with a write-ahead log, bytes.
const SMALLEST_ROOM: u64 = 256 << 10;

/// The schema, step by step. A released step is never changed.
const MIGRATIONS: [&str; 6] = [
    include_str!("0001_init.sql"),
    include_str!("0002_chores.sql"),
    include_str!("0003_alerts.sql"),
    include_str!("0004_health.sql"),
    include_str!("0005_backup.sql"),
    include_str!("0006_screens.sql"),
];

/// Room kept free so that "the disk is full" can still be written down.
const RESERVE_BYTES: u64 = 8 << 20;

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
    /// Opens or makes the ledger at `path`. The folder must exist.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<Self> {
        let reserve = path.with_file_name("reserve.bin");
        let open = || {
            let connection = Connection::open(path).map_err(failed("open the ledger"))?;
            Self::prepare(connection, Arc::clone(&clock), Arc::clone(&ids), Some(reserve.clone()), false)
        };
        let mut opened = open();
        // SQLite gives a full disk many names here. What is set aside for such a moment is enough to go on.
        if opened.is_err() && is_full(path) && std::fs::remove_file(&reserve).is_ok() {
            opened = open();
        }
        match opened {
            Ok(ledger) => {
                ledger.keep_reserve();
                Ok(ledger)
            }
            Err(error) if is_full(path) => Err(at(path, disk_full("could not open the ledger").cause(error.message))),
            Err(error) => Err(at(path, error)),
        }
    }

    /// A ledger in memory, on the caller's thread.
    pub fn in_memory(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(failed("open the ledger"))?;
        Self::prepare(connection, clock, ids, None, true)
    }

    /// The same database under a new life, for simulations: their processes die, the database stays.
    #[must_use]
    pub fn next_life(&self) -> Self {
        Self { boot: BootId(self.ids.next()), ..self.clone() }
    }

    /// A second look at an existing ledger, for commands while a daemon writes. Refuses to make one.
    pub fn read_only(path: &Path, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<Self> {
        let db = reader::open(path, Duration::from_secs(5)).map_err(|e| open_error(path, e))?;
        Ok(Self::reader(db, clock, ids))
    }

    /// A look that leaves no trace, for previews: SQLite makes files of its own beside the ledger even for a reader. A log that
    /// a killed writer left is read from a copy. Only while nobody writes.
    pub fn untouched(path: &Path, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<Self> {
        if !reader::has_log(path) {
            return Ok(Self::reader(reader::immutable(path).map_err(|e| open_error(path, e))?, clock, ids));
        }
        let scratch = Scratch::make("look")?;
        let copy = scratch.path().join("moon.db");
        let copied =
            std::fs::copy(path, &copy).and_then(|_| std::fs::copy(reader::log_of(path), reader::log_of(&copy)));
        copied.map_err(|e| {
            Error::transient("scratch.io", "could not copy the ledger for a look that leaves no trace")
                .cause(e)
                .hint("make room in the temporary folder, or name another one with TMPDIR")
        })?;
        let db = Connection::open(&copy).map_err(|e| open_error(path, e))?;
        Ok(Self { _copy: Some(Arc::new(scratch)), ..Self::reader(db, clock, ids) })
    }

    fn reader(db: Connection, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        let (db, boot) = (Arc::new(Mutex::new(db)), BootId(ids.next()));
        Self { db, boot, clock, ids, reserve: None, is_short: Arc::default(), inline: false, _copy: None }
    }

    fn prepare(
        mut db: Connection,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        reserve: Option<PathBuf>,
        inline: bool,
    ) -> Result<Self> {
        assert!(rusqlite::version_number() >= SQLITE_FLOOR, "SQLite {} is too old", rusqlite::version());
        db.busy_timeout(Duration::from_secs(5)).map_err(failed("open the ledger"))?;
        // On macOS a plain fsync stops at the drive's cache; elsewhere the pragma changes nothing.
        db.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA fullfsync=ON;",
        )
        .map_err(failed("open the ledger"))?;
        let number = |db: &Connection, pragma: &str| {
            db.query_row(&format!("PRAGMA {pragma}"), [], |r| r.get::<_, i64>(0)).map_err(failed("open the ledger"))
        };
        if number(&db, "synchronous")? != 2 || number(&db, "foreign_keys")? != 1 {
            return Err(Error::config("ledger.pragma", "the ledger did not accept synchronous=FULL and foreign keys"));
        }
        let mode: String = db.query_row("PRAGMA journal_mode", [], |r| r.get(0)).map_err(failed("open the ledger"))?;
        if !inline && mode != "wal" {
            return Err(Error::config("ledger.pragma", format!("the ledger runs in journal mode {mode}, not WAL"))
                .hint("put Moon's home on a local file system"));
        }
        migrate(&mut db).map_err(|e| {
            Error::config("ledger.schema", "could not bring the ledger to this version's schema")
                .cause(e)
                .hint("a newer moon wrote it: install that version, or restore a backup made by this one")
        })?;
        let boot = BootId(ids.next());
        let db = Arc::new(Mutex::new(db));
        Ok(Self { db, boot, clock, ids, reserve, is_short: Arc::default(), inline, _copy: None })
    }

    /// Makes the reserve again after it was used up, if there is room.
    pub fn keep_reserve(&self) {
        let Some(path) = &self.reserve else { return };
        if std::fs::metadata(path).is_ok_and(|m| m.len() == RESERVE_BYTES) {
            return;
        }
        // Not from the last of the disk: that would be in the way of the ledger itself.
        if super::room::free(path.parent().unwrap_or(path)).is_some_and(|free| free < 2 * RESERVE_BYTES) {
            if !self.is_short.swap(true, Ordering::Relaxed) {
                tracing::warn!("the disk of Moon's home is almost full: the ledger has no reserve until there is room");
            }
            return;
        }
        self.is_short.store(false, Ordering::Relaxed);
        let zeros = vec![0u8; 1 << 20];
        let made = crate::durable::replace_with(path, |file| {
            (0..RESERVE_BYTES >> 20).try_for_each(|_| std::io::Write::write_all(file, &zeros))
        });
        if let Err(error) = made {
            tracing::warn!(%error, "could not set aside the ledger's reserve");
        }
    }

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

    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Fn(&Connection, &Stamp) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let stamp = self.stamp();
        self.on_connection(move |db| work(db, &stamp).map_err(failed(what))).await
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

fn migrate(db: &mut Connection) -> rusqlite_migration::Result<()> {
    let steps = MIGRATIONS.into_iter().map(rusqlite_migration::M::up).collect();
    rusqlite_migration::Migrations::new(steps).to_latest(db)
}

/// Maps an SQLite failure to what a worker does about it.
pub(crate) fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |e| {
        let message = format!("could not {what}");
        match e.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => disk_full(message),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Error::transient("ledger.busy", message).cause(e)
            }
            // Unknown: a table or column that should be there is not.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
                Error::data("ledger.corrupt", message).cause(e).hint(
                    "stop moon, keep a copy of state/, and restore a backup; the archives and manifests are untouched",
                )
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Error::config("ledger.permission", message).cause(e).hint("check the owner and mode of state/moon.db")
            }
            _ => Error::transient("ledger.io", message).cause(e),
        }
    }
}

fn disk_full(message: impl Into<String>) -> Error {
    Error::transient("ledger.disk_full", message)
        .cause("no space left on the disk of Moon's home")
        .hint("free some space; Moon goes on by itself")
}

/// Whether there is no room for even a page of the database.
fn is_full(path: &Path) -> bool {
    super::room::free(path.parent().unwrap_or(path)).is_some_and(|free| free < SMALLEST_ROOM)
}

fn open_error(path: &Path, e: rusqlite::Error) -> Error {
    at(path, failed("open the ledger")(e))
}

fn at(path: &Path, error: Error) -> Error {
    let message = format!("{} {}", error.message, path.display());
    Error { message, ..error }
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

#[async_trait]
impl Ledger for SqliteLedger {
    async fn begin(&self, writer: &str) -> Result<Recovery> {
        let writer = writer.to_owned();
        self.write("begin a life in the ledger", move |tx, stamp| sessions::begin(tx, stamp, &writer)).await
    }
    async fn end(&self, reason: &str) -> Result<()> {
        let reason = reason.to_owned();
        self.write("end a life in the ledger", move |tx, stamp| sessions::end(tx, stamp, &reason)).await
    }
    fn boot(&self) -> BootId {
        self.boot.clone()
    }

    async fn observe(&self, readings: &[UsageReading]) -> Result<()> {
        let readings = readings.to_vec();
        self.write("record usage readings", move |tx, stamp| {
            readings.iter().try_for_each(|reading| {
                sessions::observe(tx, reading)?;
                screens::note(tx, stamp, reading)
            })
        })
        .await
    }
    async fn sessions_since(&self, mark: i64) -> Result<(Vec<SessionRow>, i64)> {
        self.read("list what changed of the sessions", move |db, _| sessions::since(db, mark)).await
    }
    async fn session(&self, key: &SessionKey) -> Result<Option<SessionRow>> {
        let key = key.clone();
        self.read("read a session", move |db, _| sessions::one(db, &key)).await
    }
    async fn sessions(&self) -> Result<Vec<SessionRow>> {
        self.read("list the sessions", |db, _| sessions::all(db)).await
    }
    async fn save_machine(&self, key: &SessionKey, machine: &Value) -> Result<()> {
        let (key, machine) = (key.clone(), machine.to_string());
        self.write("save a threshold state", move |tx, _| sessions::save_machine(tx, &key, &machine)).await
    }

    async fn open_cycle(&self, cycle: &NewCycle, machine: Option<&Value>) -> Result<Option<CycleId>> {
        let (cycle, machine) = (cycle.clone(), machine.map(Value::to_string));
        self.write("open a cycle", move |tx, stamp| jobs::open_cycle(tx, stamp, &cycle, machine.as_deref())).await
    }
    async fn release(&self, stage: Stage, why: Release) -> Result<u64> {
        self.write("release claims", move |tx, _| jobs::release(tx, stage, why)).await
    }
    async fn claim(&self, stage: Stage, max_attempts: u32) -> Result<Option<Claim>> {
        let token = self.ids.next();
        self.write("claim a job", move |tx, stamp| jobs::claim(tx, stamp, stage, max_attempts, &token)).await
    }
    async fn intend(&self, claim: &Claim, intent: &Value) -> Result<bool> {
        let (claim, intent) = (claim.clone(), intent.to_string());
        self.write("write down an intent", move |tx, _| jobs::intend(tx, &claim, &intent)).await
    }
    async fn complete(&self, claim: &Claim, effect: &Effect, audit: &AuditEntry) -> Result<bool> {
        let (claim, effect, audit) = (claim.clone(), effect.clone(), audit.clone());
        self.write("complete a job", move |tx, stamp| jobs::complete(tx, stamp, &claim, &effect, &audit)).await
    }
    async fn retry(&self, claim: &Claim, after: Duration, error: &Error, audit: &AuditEntry) -> Result<bool> {
        let (claim, error, audit) = (claim.clone(), error.clone(), audit.clone());
        self.write("put a job back", move |tx, stamp| jobs::retry(tx, stamp, &claim, after, &error, &audit)).await
    }
    async fn wait(&self, claim: &Claim, after: Duration, why: &Error) -> Result<bool> {
        let (claim, why) = (claim.clone(), why.clone());
        self.write("let a job wait", move |tx, stamp| jobs::wait(tx, stamp, &claim, after, &why)).await
    }
    async fn cancel(&self, claim: &Claim, audit: &AuditEntry) -> Result<bool> {
        let (claim, audit) = (claim.clone(), audit.clone());
        self.write("cancel a cycle", move |tx, stamp| jobs::cancel(tx, stamp, &claim, &audit)).await
    }
    async fn next_due(&self, stage: Stage) -> Result<Option<DateTime<Utc>>> {
        self.read("look for the next job", move |db, _| jobs::next_due(db, stage)).await
    }
    async fn jobs(&self, unfinished_only: bool) -> Result<Vec<JobRow>> {
        self.read("list the jobs", move |db, _| jobs::list(db, unfinished_only)).await
    }
    async fn cycle_done(&self, cycle: &CycleId) -> Result<Option<bool>> {
        let cycle = cycle.clone();
        self.read("read a cycle", move |db, _| {
            let sql = "SELECT outcome = 'done' FROM cycles WHERE id = ?1 AND closed_at IS NOT NULL";
            db.query_row(sql, [cycle.as_str()], |r| r.get(0)).optional()
        })
        .await
    }
    async fn hurry(&self) -> Result<u64> {
        self.write("hurry the waiting jobs", |tx, _| jobs::hurry(tx)).await
    }
    async fn hurry_waiting(&self, key: &SessionKey) -> Result<u64> {
        let key = key.clone();
        self.write("hurry the jobs that wait for a turn", move |tx, _| jobs::hurry_waiting(tx, &key)).await
    }

    async fn series(&self, session: &SessionRef) -> Result<Series> {
        let session = session.clone();
        self.write("open a series", move |tx, _| archive::series(tx, &session)).await
    }
    async fn supersede(&self, series: &Series, why: &str) -> Result<Series> {
        let (series, why) = (series.clone(), why.to_owned());
        self.write("begin a new series", move |tx, stamp| archive::supersede(tx, stamp, &series, &why)).await
    }
    async fn all_series(&self, key: Option<&SessionKey>) -> Result<Vec<Series>> {
        let key = key.cloned();
        self.read("list the series", move |db, _| archive::all_series(db, key.as_ref())).await
    }
    async fn add_segment(&self, series: &Series, stored: &Stored, projection_bytes: i64, job: &Job) -> Result<Series> {
        let (series, stored, job) = (series.clone(), stored.clone(), job.clone());
        self.write("record an archived segment", move |tx, stamp| {
            archive::add_segment(tx, stamp, &series, &stored, projection_bytes, &job)
        })
        .await
    }
    async fn set_projected(&self, series_id: i64, bytes: i64) -> Result<()> {
        self.write("record a projection", move |tx, _| {
            tx.execute("UPDATE series SET projection_bytes = ?2 WHERE id = ?1", (series_id, bytes)).map(drop)
        })
        .await
    }
    async fn segments(&self, series_id: i64) -> Result<Vec<Segment>> {
        self.read("list the segments", move |db, _| archive::segments(db, series_id)).await
    }
    async fn tail(&self, series_id: i64) -> Result<Option<Segment>> {
        self.read("read the last segment", move |db, _| archive::tail(db, series_id)).await
    }
    async fn unindexed(&self, key: Option<&SessionKey>, after: i64, limit: usize) -> Result<Vec<Segment>> {
        let key = key.cloned();
        self.read("list what is not indexed", move |db, _| archive::unindexed(db, key.as_ref(), after, limit)).await
    }
    async fn find_segment(&self, sha256: &Sha256) -> Result<Option<(Segment, Series)>> {
        let sha256 = sha256.clone();
        self.read("find a segment", move |db, _| archive::find(db, &sha256)).await
    }
    async fn mark_indexed(&self, segments: &[i64]) -> Result<()> {
        let segments = segments.to_vec();
        self.write("mark segments as indexed", move |tx, stamp| archive::mark_indexed(tx, stamp, &segments)).await
    }
    async fn forget_indexed(&self) -> Result<()> {
        self.write("forget what is indexed", |tx, _| tx.execute("UPDATE segments SET indexed_at = NULL", []).map(drop))
            .await
    }
    async fn all_segments(&self) -> Result<Vec<Segment>> {
        self.read("list the segments", |db, _| archive::all_segments(db)).await
    }

    async fn distilled_to(&self, series_id: i64) -> Result<i64> {
        self.read("read how far a series is distilled", move |db, _| memory::distilled_to(db, series_id)).await
    }
    async fn distillations(&self, key: &SessionKey) -> Result<Vec<DistillationRow>> {
        let key = key.clone();
        self.read("list the distillations", move |db, _| memory::distillations(db, &key)).await
    }
    async fn continuity(&self, key: Option<&SessionKey>, limit: usize) -> Result<Vec<ContinuityRow>> {
        let key = key.cloned();
        self.read("list the rollovers", move |db, _| memory::continuity(db, key.as_ref(), limit)).await
    }
    async fn confirm_continuity(&self, key: &SessionKey, block: &Sha256) -> Result<bool> {
        let (key, block) = (key.clone(), block.clone());
        self.write("confirm a continuity block", move |tx, stamp| memory::confirm(tx, stamp, &key, &block)).await
    }
    async fn spool_position(&self) -> Result<u64> {
        self.read("read the spool position", |db, _| memory::spool_position(db)).await
    }
    async fn set_spool_position(&self, position: u64) -> Result<()> {
        self.write("record the spool position", move |tx, _| memory::set_spool_position(tx, position)).await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<()> {
        let entry = entry.clone();
        self.write("append to the audit", move |tx, stamp| audit::append(tx, stamp, &entry)).await
    }
    async fn audit_rows(&self, after_seq: i64, limit: usize) -> Result<Vec<AuditRow>> {
        self.read("read the audit", move |db, _| audit::rows(db, after_seq, limit)).await
    }
    async fn verify_audit(&self) -> Result<std::result::Result<i64, i64>> {
        self.read("verify the audit", |db, _| audit::verify(db)).await
    }
    async fn raise(
        &self,
        key: &AlertKey,
        severity: Severity,
        message: &str,
        hint: Option<&str>,
    ) -> Result<Option<Alert>> {
        let (key, message, hint) = (key.clone(), message.to_owned(), hint.map(str::to_owned));
        self.write("raise an alert", move |tx, stamp| {
            alerts::raise(tx, stamp, &key, severity, &message, hint.as_deref())
        })
        .await
    }
    async fn raise_after(
        &self,
        key: &AlertKey,
        severity: Severity,
        message: &str,
        hint: Option<&str>,
        pending_for: Duration,
    ) -> Result<Option<Alert>> {
        let (key, message, hint) = (key.clone(), message.to_owned(), hint.map(str::to_owned));
        self.write("note what may become an alert", move |tx, stamp| {
            let (message, hint) = (message.as_str(), hint.as_deref());
            alerts::raise_after(tx, stamp, &Pending { key: &key, severity, message, hint, patience: pending_for })
        })
        .await
    }
    async fn resolve(&self, key: &AlertKey) -> Result<Option<Alert>> {
        let key = key.clone();
        self.write("resolve an alert", move |tx, stamp| alerts::resolve(tx, stamp, &key)).await
    }
    async fn alerts(&self, firing_only: bool) -> Result<Vec<Alert>> {
        self.read("list the alerts", move |db, _| alerts::list(db, firing_only)).await
    }

    async fn chore(&self, task: Task) -> Result<Option<ChoreRow>> {
        self.read("read a task of the calendar", move |db, _| chores::one(db, task)).await
    }
    async fn chores(&self) -> Result<Vec<ChoreRow>> {
        self.read("list the tasks of the calendar", |db, _| chores::all(db)).await
    }
    async fn leave_out_chore(&self, task: Task, due: DateTime<Utc>) -> Result<()> {
        self.write("note a task of the calendar", move |tx, stamp| chores::leave_out(tx, stamp, task, due)).await
    }
    async fn begin_chore(&self, task: Task, due: DateTime<Utc>) -> Result<u32> {
        self.write("begin a task of the calendar", move |tx, stamp| chores::begin(tx, stamp, task, due)).await
    }
    async fn end_chore(&self, task: Task, outcome: std::result::Result<&String, &Error>) -> Result<()> {
        let outcome = outcome.cloned().map_err(Clone::clone);
        self.write("end a task of the calendar", move |tx, stamp| chores::end(tx, stamp, task, outcome.as_ref())).await
    }

    async fn checks(&self) -> Result<Vec<CheckRow>> {
        self.read("read what the checks found", |db, _| health::all(db)).await
    }
    async fn save_check(&self, row: &CheckRow) -> Result<()> {
        let row = row.clone();
        self.write("write down what a check found", move |tx, stamp| health::save(tx, stamp, &row)).await
    }
    async fn forget_checks(&self, known: &[String]) -> Result<()> {
        let known = known.to_vec();
        self.write("forget checks that are gone", move |tx, stamp| health::forget(tx, stamp, &known)).await
    }
    async fn crashes(&self, since: DateTime<Utc>) -> Result<Vec<(String, DateTime<Utc>)>> {
        self.read("read what crashed", move |db, _| health::crashes(db, since)).await
    }
    async fn last_life(&self) -> Result<Option<Life>> {
        self.read("read the last life", health::last_life).await
    }
    async fn last_audited(&self) -> Result<Option<DateTime<Utc>>> {
        self.read("read the end of the audit", |db, _| audit::newest(db)).await
    }
    async fn segments_by_hash(&self, after: &str, limit: usize) -> Result<Vec<Segment>> {
        let after = after.to_owned();
        self.read("list segments by their hash", move |db, _| archive::by_hash(db, &after, limit)).await
    }

    async fn record_backups(
        &self,
        target: Target,
        present: &[StoredBackup],
        news: Option<&BackupNews>,
        audit: &[AuditEntry],
    ) -> Result<()> {
        let (present, news, audit) = (present.to_vec(), news.cloned(), audit.to_vec());
        self.write("record what backups there are", move |tx, stamp| {
            backups::record(tx, stamp, target, &present, news.as_ref(), &audit)
        })
        .await
    }
    async fn backups(&self) -> Result<Vec<BackupRow>> {
        self.read("list the backups", |db, _| backups::all(db)).await
    }
    async fn newest_verified_backup(&self) -> Result<Option<BackupRow>> {
        self.read("find the newest verified backup", |db, _| backups::newest_verified(db)).await
    }
    async fn backups_looked_at(&self, target: Target) -> Result<Option<DateTime<Utc>>> {
        self.read("read when the backups were looked at", move |db, _| backups::looked_at(db, target)).await
    }
    async fn set_backups_looked_at(&self, target: Target, at: DateTime<Utc>) -> Result<()> {
        self.write("note that the backups were looked at", move |tx, _| backups::set_looked_at(tx, target, at)).await
    }
    async fn record_drill(&self, drill: &DrillRow) -> Result<()> {
        let drill = drill.clone();
        self.write("record a drill", move |tx, stamp| backups::record_drill(tx, stamp, &drill)).await
    }
    async fn last_drill(&self) -> Result<Option<DrillRow>> {
        self.read("read the last drill", |db, _| backups::last_drill(db)).await
    }

    async fn totals(&self) -> Result<Totals> {
        self.read("count what the ledger holds", |db, _| sessions::totals(db)).await
    }
    async fn usage_tracks(&self, limit: usize) -> Result<Vec<UsageTrack>> {
        self.read("read the history of usage", move |db, stamp| screens::tracks(db, stamp, limit)).await
    }
    async fn pipeline(&self) -> Result<Vec<StageLoad>> {
        self.read("count what lies before the stages", |db, _| screens::pipeline(db)).await
    }
    async fn alerts_since(&self, since: DateTime<Utc>, limit: usize) -> Result<Vec<PastAlert>> {
        self.read("list the last alerts", move |db, _| screens::alerts_since(db, since, limit)).await
    }
    async fn beat(&self, checks: u32, not_ok: u32) -> Result<()> {
        self.write("note that the daemon is alive", move |tx, stamp| screens::beat(tx, stamp, checks, not_ok)).await
    }
    async fn period(&self, since: DateTime<Utc>, until: DateTime<Utc>) -> Result<Period> {
        self.read("add up a span of time", move |db, _| screens::period(db, since, until)).await
    }
    async fn integrity(&self) -> Result<Vec<String>> {
        self.read("check the ledger", |db, _| sessions::integrity(db)).await
    }
}
