//! Opens the ledger's database: makes it, brings it to this version's schema, proves its pragmas, keeps room for a full disk.

use super::failure::{disk_full, failed};
use super::{SqliteLedger, reader};
use crate::adapters::room;
use crate::scratch::Scratch;
use moon_actors::domain::BootId;
use moon_actors::port::{Clock, Ids};
use moon_actors::{Error, Result};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Oldest SQLite whose WAL mode is trusted: 3.51.3 fixed a reset race that could lose committed rows.
pub const SQLITE_FLOOR: i32 = 3_051_003;

/// Less than SQLite needs to open a database with a write-ahead log, bytes.
const SMALLEST_ROOM: u64 = 256 << 10;

/// The schema, step by step. A released step is never changed.
pub(super) const MIGRATIONS: [&str; 6] = [
    include_str!("0001_init.sql"),
    include_str!("0002_chores.sql"),
    include_str!("0003_alerts.sql"),
    include_str!("0004_health.sql"),
    include_str!("0005_backup.sql"),
    include_str!("0006_screens.sql"),
];

/// Room kept free so that "the disk is full" can still be written down.
const RESERVE_BYTES: u64 = 8 << 20;

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
        if room::free(path.parent().unwrap_or(path)).is_some_and(|free| free < 2 * RESERVE_BYTES) {
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
}

pub(super) fn migrate(db: &mut Connection) -> rusqlite_migration::Result<()> {
    let steps = MIGRATIONS.into_iter().map(rusqlite_migration::M::up).collect();
    rusqlite_migration::Migrations::new(steps).to_latest(db)
}

/// Whether there is no room for even a page of the database.
fn is_full(path: &Path) -> bool {
    room::free(path.parent().unwrap_or(path)).is_some_and(|free| free < SMALLEST_ROOM)
}

fn open_error(path: &Path, e: rusqlite::Error) -> Error {
    at(path, failed("open the ledger")(e))
}

fn at(path: &Path, error: Error) -> Error {
    let message = format!("{} {}", error.message, path.display());
    Error { message, ..error }
}
