//! OpenClaw's own transcript store, read byte for byte.
//!
//! Here because only the SQLite file still holds what a reset or a compaction took out of the context. It must never write,
//! never hold a read transaction longer than one page (a reader blocks OpenClaw's checkpoints), never leave the state folder
//! and never hand out a record it could not decode whole.

use moon_actors::domain::{Page, Record, SessionKey, SourceIdentity};
use moon_actors::{Error, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};
use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Code of the error that says "the store is there, but in a form Moon does not know".
pub(super) const SCHEMA_UNKNOWN: &str = "openclaw.schema_unknown";
/// A record that decodes to more than this is damage, not conversation (OpenClaw's own limit is 4 MiB).
const LARGEST_RECORD: u64 = 256 << 20;
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// What a transcript must have for Moon to read it whole.
const COLUMNS: [&str; 5] = ["session_id", "seq", "event_json", "event_zstd", "event_utf8_bytes"];

/// The stores of all agents under one state folder.
#[derive(Clone, Debug)]
pub(super) struct Store {
    state_dir: PathBuf,
}

impl Store {
    pub(super) fn new(state_dir: PathBuf) -> Self {
        Self { state_dir }
    }

    /// Rows of `transcript_events` with `seq >= from`. Blocking.
    /// Errors: `unavailable` `openclaw.store_missing`, `openclaw.session_gone`; `transient` `openclaw.store_busy`;
    /// `data` [`SCHEMA_UNKNOWN`], `openclaw.record_damaged`, `openclaw.store_unreadable`.
    pub(super) fn page(&self, agent: &str, session_id: &str, from: i64, max_bytes: usize) -> Result<Page> {
        let (path, mut db) = self.open(agent)?;
        let failed = |e| unreadable(&path, &e);
        let read = db.transaction().map_err(failed)?;
        check_columns(&read, &path)?;
        let source = identity(&read, &path, session_id)?;
        let (records, more) = rows(&read, &path, session_id, from, max_bytes)?;
        if records.is_empty() && is_gone(&read, session_id) {
            return Err(Error::unavailable("openclaw.session_gone", "OpenClaw's store does not hold this transcript")
                .cause(format!("no such session in {}", path.display()))
                .hint("it was deleted or moved to OpenClaw's own archive; what Moon archived stays"));
        }
        Ok(Page { records, more, source, torn_bytes: 0, revision: 0 })
    }

    /// `lifecycleRevision` of each session (Moon's key and the store's) that has one: it changes with every reset and only then. Blocking; a store that
    /// cannot be read has none.
    pub(super) fn generations(&self, agent: &str, keys: &[(SessionKey, String)]) -> HashMap<SessionKey, String> {
        self.try_generations(agent, keys).unwrap_or_default()
    }

    fn try_generations(&self, agent: &str, keys: &[(SessionKey, String)]) -> Result<HashMap<SessionKey, String>> {
        let (path, db) = self.open(agent)?;
        let failed = |e| unreadable(&path, &e);
        let sql = "SELECT json_extract(entry_json, '$.lifecycleRevision') FROM session_nodes WHERE session_key = ?1";
        let mut query = db.prepare(sql).map_err(failed)?;
        let mut found = HashMap::new();
        for (key, stored) in keys {
            let generation = query.query_row([stored], |row| row.get::<_, Option<String>>(0)).optional();
            if let Ok(Some(Some(generation))) = generation {
                found.insert(key.clone(), generation);
            }
        }
        Ok(found)
    }

    fn open(&self, agent: &str) -> Result<(PathBuf, Connection)> {
        let path = self.path(agent)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).map_err(|e| unreadable(&path, &e))?;
        db.busy_timeout(BUSY_TIMEOUT).map_err(|e| unreadable(&path, &e))?;
        Ok((path, db))
    }

    /// The agent's database, proven to lie in the state folder.
    fn path(&self, agent: &str) -> Result<PathBuf> {
        if !is_agent_id(agent) {
            return Err(Error::data("openclaw.agent_invalid", "cannot find the transcript of this session")
                .cause("its key names an agent that cannot be one of OpenClaw's")
                .hint("agent names are letters, digits, - and _"));
        }
        let path = self.state_dir.join("agents").join(agent).join("agent").join("openclaw-agent.sqlite");
        let missing = |e: std::io::Error| {
            Error::unavailable("openclaw.store_missing", format!("cannot open OpenClaw's store {}", path.display()))
                .cause(e)
                .hint("set openclaw.state_dir; OpenClaw before 2026.8 keeps no such store: update it, then `openclaw doctor --fix`")
        };
        let real = path.canonicalize().map_err(missing)?;
        let root = self.state_dir.canonicalize().map_err(missing)?;
        if !real.starts_with(&root) {
            return Err(Error::config("openclaw.store_outside", format!("refusing to read {}", path.display()))
                .cause("it is a link that leads out of OpenClaw's state folder")
                .hint("set openclaw.state_dir to the folder that really holds agents/"));
        }
        Ok(real)
    }
}

/// OpenClaw's own rule for agent ids.
fn is_agent_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The columns are asked for, not the version: the number moves with almost every release.
fn check_columns(db: &Connection, path: &Path) -> Result<()> {
    let failed = |e| unreadable(path, &e);
    let mut query = db.prepare("SELECT name FROM pragma_table_info('transcript_events')").map_err(failed)?;
    let names = query.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
    let names = names.collect::<rusqlite::Result<Vec<_>>>().map_err(failed)?;
    let missing: Vec<_> = COLUMNS.into_iter().filter(|column| !names.iter().any(|name| name == column)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let version = schema_version(db).unwrap_or_else(|| "unknown".into());
    Err(Error::data(SCHEMA_UNKNOWN, format!("cannot read transcripts from {}", path.display()))
        .cause(format!("schema version {version} has no transcript_events.{}", missing.join(", ")))
        .hint("update Moon; until then it can only archive what OpenClaw's gateway still shows"))
}

fn schema_version(db: &Connection) -> Option<String> {
    let named = "SELECT schema_version FROM schema_meta ORDER BY meta_key = 'primary' DESC LIMIT 1";
    let version = db.query_row(named, [], |row| row.get::<_, i64>(0));
    let version = version.or_else(|_| db.query_row("PRAGMA user_version", [], |row| row.get(0)));
    version.ok().map(|v: i64| v.to_string())
}

fn identity(db: &Connection, path: &Path, session_id: &str) -> Result<SourceIdentity> {
    let metadata = std::fs::metadata(path).map_err(|e| {
        Error::unavailable("openclaw.store_missing", format!("cannot open OpenClaw's store {}", path.display()))
            .cause(e)
    })?;
    let watermark = "SELECT generation FROM transcript_rewrite_watermarks WHERE session_id = ?1";
    // A store without watermarks is one that does not rewrite; an error here hides no record.
    let generation = db.query_row(watermark, [session_id], |row| row.get::<_, String>(0)).ok();
    Ok(SourceIdentity {
        kind: "openclaw-sqlite".into(),
        location: path.display().to_string(),
        device: Some(metadata.dev()),
        inode: Some(metadata.ino()),
        schema: schema_version(db),
        generation,
    })
}

/// One page: at least one record if there is one, then as many as fit into `max_bytes`.
fn rows(db: &Connection, path: &Path, session_id: &str, from: i64, max_bytes: usize) -> Result<(Vec<Record>, bool)> {
    let failed = |e| unreadable(path, &e);
    let sql = "SELECT seq, event_json, event_zstd, event_utf8_bytes FROM transcript_events
               WHERE session_id = ?1 AND seq >= ?2 ORDER BY seq";
    let mut query = db.prepare(sql).map_err(failed)?;
    let mut rows = query.query(params![session_id, from]).map_err(failed)?;
    let (mut records, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next().map_err(failed)? {
        let length = announced_length(row).map_err(failed)?;
        if !records.is_empty() && bytes.saturating_add(length) > max_bytes {
            return Ok((records, true));
        }
        let record = decode(row, path)?;
        bytes = bytes.saturating_add(record.bytes.len());
        records.push(record);
    }
    Ok((records, false))
}

/// Decoded length of a row as far as it is known without decoding.
fn announced_length(row: &Row<'_>) -> rusqlite::Result<usize> {
    if let ValueRef::Text(text) | ValueRef::Blob(text) = row.get_ref(1)? {
        return Ok(text.len());
    }
    Ok(row.get::<_, Option<i64>>(3)?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0))
}

fn decode(row: &Row<'_>, path: &Path) -> Result<Record> {
    let failed = |e| unreadable(path, &e);
    let seq: i64 = row.get(0).map_err(failed)?;
    let damaged = |cause: String| {
        Error::data(
            "openclaw.record_damaged",
            format!("cannot read record {seq} of a transcript in {}", path.display()),
        )
        .cause(cause)
        .hint("nothing is reduced until it can be read; `openclaw doctor` may repair the store")
    };
    let announced = row.get::<_, Option<i64>>(3).map_err(failed)?;
    let bytes = match (row.get_ref(1).map_err(failed)?, row.get_ref(2).map_err(failed)?) {
        (ValueRef::Text(text) | ValueRef::Blob(text), _) => text.to_vec(),
        (_, ValueRef::Blob(packed)) => unpack(packed, announced).map_err(damaged)?,
        _ => return Err(damaged("it holds neither text nor a zstd frame".into())),
    };
    match announced {
        Some(length) if usize::try_from(length).ok() != Some(bytes.len()) => {
            Err(damaged(format!("{} bytes where the store announces {length}", bytes.len())))
        }
        _ => Ok(Record { seq, bytes }),
    }
}

/// Decodes a frame, but not more of it than the store announces.
fn unpack(packed: &[u8], announced: Option<i64>) -> Result<Vec<u8>, String> {
    let announced =
        announced.and_then(|length| u64::try_from(length).ok()).ok_or("its decoded size is not announced")?;
    if announced > LARGEST_RECORD {
        return Err(format!("{announced} bytes announced, more than {LARGEST_RECORD}"));
    }
    let decoder = zstd::stream::read::Decoder::new(packed).map_err(|e| format!("not a zstd frame: {e}"))?;
    let mut bytes = Vec::new();
    decoder.take(announced + 1).read_to_end(&mut bytes).map_err(|e| format!("damaged zstd frame: {e}"))?;
    Ok(bytes)
}

/// True when the store knows the session neither by a row nor by a window. A store without windows says nothing.
fn is_gone(db: &Connection, session_id: &str) -> bool {
    let known = "SELECT EXISTS (SELECT 1 FROM session_windows WHERE session_id = ?1)
                     OR EXISTS (SELECT 1 FROM transcript_events WHERE session_id = ?1)";
    db.query_row(known, [session_id], |row| row.get::<_, bool>(0)).is_ok_and(|known| !known)
}

fn unreadable(path: &Path, error: &rusqlite::Error) -> Error {
    let message = format!("cannot read OpenClaw's store {}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SchemaChanged) => {
            Error::transient("openclaw.store_busy", message).cause(error).hint("OpenClaw is writing; tried again soon")
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory | ErrorCode::DiskFull) => {
            Error::transient("openclaw.store_io", message).cause(error).hint("check the disk")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            Error::unavailable("openclaw.store_missing", message)
                .cause(error)
                .hint("Moon must run as the user that runs OpenClaw, with access to its state folder")
        }
        _ => Error::data("openclaw.store_unreadable", message)
            .cause(error)
            .hint("the file is damaged or no SQLite database; `openclaw doctor` may repair it"),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
