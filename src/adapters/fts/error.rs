//! What an SQLite failure means to the core.
//!
//! Why: a worker decides from kind and code alone. SQLite's own messages can quote the query or a row, so only its
//! result code is passed on.

use moon_actors::Error;
use rusqlite::{ErrorCode, ffi};

/// Says what happened while doing `operation` (e.g. "search the index").
pub(super) fn translate(operation: &str, error: &rusqlite::Error) -> Error {
    let message = format!("cannot {operation}");
    let Some(code) = error.sqlite_error_code() else {
        // A column of another type or a missing row: the file is not what this code wrote.
        return corrupt(&message, "unexpected contents");
    };
    let extended = error.sqlite_error().map_or(0, |e| e.extended_code);
    let cause = format!("SQLite {extended}: {}", ffi::code_to_str(extended));
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Error::transient("index.busy", message).cause(cause),
        ErrorCode::DiskFull => Error::transient("index.disk_full", message)
            .cause(cause)
            .hint("free some space; the archive goes on without the index"),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => corrupt(&message, &cause),
        // A table or column that should be there is not.
        ErrorCode::Unknown => corrupt(&message, &cause),
        _ => Error::transient("index.io", message).cause(cause),
    }
}

/// Whether the file itself is bad, not only one statement.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// The file cannot be used and has to be built anew.
pub(super) fn corrupt(message: &str, cause: &str) -> Error {
    Error::data("index.corrupt", message)
        .cause(cause)
        .hint("run `moon index --rebuild`: the index is built anew from the archive, the damaged file is kept aside")
}

/// A failure of the file system around the database.
pub(super) fn from_io(operation: &str, error: &std::io::Error) -> Error {
    let code = if crate::durable::is_full(error) { "index.disk_full" } else { "index.io" };
    Error::transient(code, format!("cannot {operation}")).cause(error.kind())
}
