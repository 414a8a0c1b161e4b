//! Opening a database only to read it: beside its writer, on a disk that cannot be written, or without leaving a trace.
//!
//! SQLite makes files of its own beside a WAL database even for a reader. Where it may not, a database that nobody writes can be
//! read as it is. Nothing here ever changes a database.

use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Opens `path` for reading; on a read-only disk as [`immutable`], if there is no log to be read.
pub(crate) fn open(path: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    let looked = Connection::open_with_flags(path, flags()).and_then(|db| {
        db.busy_timeout(busy)?;
        // Only now SQLite looks at the file and makes what it needs beside it.
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(db)
    });
    match looked {
        Err(e) if may_not_write(&e) && path.is_file() && !has_log(path) => immutable(path),
        looked => looked,
    }
}

/// Opens a database that nobody writes, and makes no file. A writer that begins meanwhile is not noticed.
pub(crate) fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags() | OpenFlags::SQLITE_OPEN_URI)
}

/// Whether a log holds what the database itself does not: a writer is at work, or was cut off.
pub(crate) fn has_log(path: &Path) -> bool {
    std::fs::metadata(log_of(path)).is_ok_and(|log| log.len() > 0)
}

/// `moon.db-wal`
pub(crate) fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn may_not_write(error: &rusqlite::Error) -> bool {
    let refused = [ErrorCode::CannotOpen, ErrorCode::ReadOnly, ErrorCode::PermissionDenied];
    error.sqlite_error_code().is_some_and(|code| refused.contains(&code))
}
