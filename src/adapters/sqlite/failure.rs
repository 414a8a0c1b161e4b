//! What SQLite's failures mean to whoever works with the ledger.

use moon_actors::Error;
use rusqlite::ErrorCode;

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

pub(super) fn disk_full(message: impl Into<String>) -> Error {
    Error::transient("ledger.disk_full", message)
        .cause("no space left on the disk of Moon's home")
        .hint("free some space; Moon goes on by itself")
}
