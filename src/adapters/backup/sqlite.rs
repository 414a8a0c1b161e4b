//! Takes a database while others write it: one consistent file, every row that was committed before we began.
//!
//! With a write-ahead log that is empty nothing is copied: as long as our read transaction lasts, what others commit goes into the log,
//! and nobody moves it from there into the file (SQLite's read mark 0). With one that holds something the copy is made inside one read
//! transaction. Either way no writer is hindered, and nothing is ever begun again. Without such a log the copy
//! is made in steps, with a pause between them in which writers may commit; a commit makes SQLite begin again, so after a few of
//! them the rest is done under one lock, too. Not by `VACUUM INTO`: that may number rows anew which others refer to.

use crate::adapters::sqlite::copy::{self as ledger, Head};
use crate::adapters::sqlite::reader;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How the file of a database begins.
pub(in crate::adapters) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Pages of one step: with the usual 4 KiB a lock is held for a few milliseconds.
const STEP: i32 = 1024;
const PAUSE: Duration = Duration::from_millis(2);
/// After this many new beginnings, or this long, nobody may write until the copy is done.
const RESTARTS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for somebody else's lock.
const BUSY: Duration = Duration::from_secs(30);

/// Whether a file says that it is a database. Leaves the file where it stands.
pub(super) fn is_database(file: &File) -> io::Result<bool> {
    let mut beginning = [0; MAGIC.len()];
    Ok(file.read_at(&mut beginning, 0)? == MAGIC.len() && beginning == *MAGIC)
}

/// How a copy could not be made.
pub(super) enum Failed {
    Sqlite(rusqlite::Error),
    Stopped,
    /// Somebody kept it locked.
    Busy,
    /// SQLite opens by name, and the name led to another file than the one that was looked at.
    Swapped,
}

impl From<rusqlite::Error> for Failed {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}

/// A database that does not change any more.
pub(super) enum Taken {
    /// A copy of it.
    Copy(PathBuf),
    /// The file itself, for as long as this transaction is held.
    Still(Connection),
}

/// Takes `from`, by a copy in the new file `to` if that is needed. `is_stopped` is asked between two steps.
/// With `identity`, only if the name still leads to that file: device and inode.
pub(super) fn take(
    from: &Path,
    identity: Option<(u64, u64)>,
    to: &Path,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Taken, Failed> {
    let before = identity.map(descriptors_of);
    let source = open(from)?;
    if let (Some(identity), Some(before)) = (identity, before)
        && descriptors_of(identity) <= before
        && !may_be_lent(from, identity, before)
    {
        return Err(Failed::Swapped);
    }
    let has_log = source.query_row("PRAGMA journal_mode", [], |r| r.get::<_, String>(0))? == "wal";
    if has_log {
        hold(&source)?;
        // Asked behind the beginning of the transaction: what was in the log then would still be there.
        if identity.is_some() && !reader::has_log(from) {
            return Ok(Taken::Still(source));
        }
    }
    copy(&source, to, has_log, is_stopped).map(|()| Taken::Copy(to.to_owned()))
}

fn copy(source: &Connection, to: &Path, has_log: bool, is_stopped: &dyn Fn() -> bool) -> Result<(), Failed> {
    let mut copy = Connection::open(to)?;
    // Thrown away unless it is finished: nothing of it needs to survive a power cut.
    copy.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE;")?;
    let backup = Backup::new(source, &mut copy)?;
    let (begun, mut restarts, mut held, mut left) = (Instant::now(), 0, has_log, i32::MAX);
    let mut waiting: Option<Instant> = None;
    loop {
        if is_stopped() {
            return Err(Failed::Stopped);
        }
        match backup.step(STEP)? {
            StepResult::Done => return Ok(()),
            StepResult::More => waiting = None,
            _ => {
                if waiting.get_or_insert_with(Instant::now).elapsed() > BUSY {
                    return Err(Failed::Busy);
                }
                std::thread::sleep(PAUSE * 10);
                continue;
            }
        }
        let remaining = backup.progress().remaining;
        restarts += u32::from(remaining > left);
        left = remaining;
        if !held && (restarts >= RESTARTS || begun.elapsed() > PATIENCE) {
            held = hold(source).is_ok();
            if !held && begun.elapsed() > 2 * BUSY {
                return Err(Failed::Busy);
            }
        }
        if !held {
            std::thread::sleep(PAUSE);
        }
    }
}

/// How many descriptors of this process lead to a file: one more once SQLite has opened it.
fn descriptors_of(identity: (u64, u64)) -> usize {
    let descriptors = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    descriptors.filter(|entry| super::walk::identity_of(&entry.path()) == Some(identity)).count()
}

/// True if SQLite had a handle of this file already: a health check reads it, too. SQLite lends a handle that a closed connection
/// left to the next one, and another may have been closed in the moment of the count; then the name has to do.
fn may_be_lent(path: &Path, identity: (u64, u64), before: usize) -> bool {
    // One is the walk's own.
    before > 1 && super::walk::identity_of(path) == Some(identity)
}

/// Begins a read transaction: what others commit from now on is not seen.
fn hold(source: &Connection) -> rusqlite::Result<()> {
    // A first try may have begun it and then met somebody's lock.
    if source.is_autocommit() {
        source.execute_batch("BEGIN")?;
    }
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let common = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let opened = |flags| -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(Duration::from_secs(5))?;
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(db)
    };
    match opened(common | OpenFlags::SQLITE_OPEN_READ_ONLY) {
        Err(e) if may_need_recovery(&e) => {
            // A writer was cut off, and only who may write can undo its half transaction; or nobody may write here at all.
            let recovered = opened(common | OpenFlags::SQLITE_OPEN_READ_WRITE);
            if recovered.is_err() && !reader::has_log(path) { reader::immutable(path) } else { recovered }
        }
        opened => opened,
    }
}

fn may_need_recovery(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}

/// What SQLite complains about in a file that nobody writes; empty: it is sound.
pub(super) fn complaints(path: &Path) -> rusqlite::Result<Vec<String>> {
    complaints_of(&reader::immutable(path)?)
}

/// The same of a database that is open.
pub(super) fn complaints_of(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found: Vec<String> = {
        let mut check = db.prepare("PRAGMA integrity_check(20)")?;
        let lines: rusqlite::Result<Vec<String>> = check.query_map([], |r| r.get(0))?.collect();
        lines?.into_iter().filter(|line| line != "ok").collect()
    };
    let mut check = db.prepare("PRAGMA foreign_key_check")?;
    let dangling: rusqlite::Result<Vec<String>> = check
        .query_map([], |r| {
            let (table, parent): (String, String) = (r.get(0)?, r.get(2)?);
            Ok(format!("a row of {table} refers to a missing one of {parent}"))
        })?
        .take(20)
        .collect();
    found.extend(dangling?);
    Ok(found)
}

/// What a restore would refuse of a copied ledger whose pages are sound: a broken audit, a schema that is none of ours.
pub(super) fn ledger_complaint(path: &Path) -> Option<String> {
    match ledger::head(path) {
        Err(e) => Some(e.to_string()),
        Ok(Head { audit: Err(row), .. }) => Some(format!("the audit does not fit at row {row}")),
        Ok(Head { strange, .. }) => strange.map(|what| format!("it is not built like a ledger: {what}")),
    }
}

/// Schema and last audit row of a copied ledger.
pub(super) fn mark(path: &Path) -> rusqlite::Result<super::format::LedgerMark> {
    let db = reader::immutable(path)?;
    let schema = db.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    let last = "SELECT seq, sha256 FROM audit ORDER BY seq DESC LIMIT 1";
    let last: rusqlite::Result<(i64, String)> = db.query_row(last, [], |r| Ok((r.get(0)?, r.get(1)?)));
    let (audit_seq, audit_sha256) = match last {
        Err(rusqlite::Error::QueryReturnedNoRows) => (0, String::new()),
        last => last?,
    };
    Ok(super::format::LedgerMark { schema, audit_seq, audit_sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    fn bytes(mut file: &File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("readable");
        bytes
    }

    #[test]
    fn a_database_with_an_empty_log_stays_as_it_is_while_others_write_and_checkpoint() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (path, to) = (scratch.path().join("a.db"), scratch.path().join("copy"));
        let rows = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
             SELECT randomblob(900) FROM n"
            .to_owned();
        let open = || Connection::open(&path).expect("opens");
        open().execute_batch(&format!("PRAGMA journal_mode=wal; CREATE TABLE t (a); {rows};")).expect("rows");
        assert!(!reader::has_log(&path), "whoever closes last takes the log away");
        // One handle for all: closing another would drop the locks of this process.
        let file = File::open(&path).expect("opens");
        let identity = super::super::walk::identity_of(&path);
        let taken = take(&path, identity, &to, &|| false);
        let Ok(Taken::Still(held)) = taken else { panic!("it is copied without need") };
        let before = bytes(&file);
        let writer = open();
        for _ in 0..3 {
            writer.execute_batch(&rows).expect("nobody is hindered");
            writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("asked for");
        }
        assert_eq!(bytes(&file), before, "nothing goes into the file while it is read");
        assert_eq!(complaints_of(&held).expect("sound"), Vec::<String>::new());
        drop(held);
        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("asked for");
        assert_ne!(bytes(&file), before, "and then it does");
        // With something in the log it is copied, and the copy holds what was committed.
        writer.execute_batch(&rows).expect("rows");
        assert!(reader::has_log(&path));
        // A handle that a closed connection left while another has a lock: SQLite lends it to the next one.
        drop(open().query_row("SELECT count(*) FROM t", [], |_| Ok(())));
        let taken = take(&path, identity, &to, &|| false);
        assert!(matches!(taken, Ok(Taken::Copy(_))), "a lent handle is no swap");
        let count = |db: &Connection| db.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).expect("rows");
        assert_eq!(count(&reader::immutable(&to).expect("opens")), 2500);
    }
}
