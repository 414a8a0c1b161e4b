//! The tables of the index, and opening a file only if it is one.
//!
//! Why a version of its own: the index is rebuilt rather than migrated, so any file that is not exactly this schema is
//! refused, never changed.

use crate::adapters::sqlite::reader;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// `PRAGMA user_version` of this layout.
const VERSION: i64 = 1;

/// One tokenizer everywhere, or a word of a question and a word of a text would differ.
const TOKENIZER: &str = "porter unicode61 remove_diacritics 2";

/// How long a statement waits for a lock of another process.
const BUSY: Duration = Duration::from_secs(5);

/// Prepared statements kept; this module has fewer.
const STATEMENTS: usize = 32;

const TABLES: &str = "
CREATE TABLE transcript(
  id INTEGER PRIMARY KEY, session TEXT NOT NULL, session_id TEXT NOT NULL, UNIQUE(session, session_id));
CREATE TABLE segment(
  id INTEGER PRIMARY KEY, transcript INTEGER NOT NULL, epoch INTEGER NOT NULL, ordinal INTEGER NOT NULL,
  sha256 TEXT NOT NULL, UNIQUE(transcript, epoch, ordinal, sha256));
CREATE INDEX segment_sha256 ON segment(sha256);
-- `ordinal` is that of the last segment with text in the chunk; `last_at` in microseconds since 1970, UTC.
CREATE TABLE chunk(
  id INTEGER PRIMARY KEY, transcript INTEGER NOT NULL, epoch INTEGER NOT NULL, ordinal INTEGER NOT NULL,
  chars INTEGER NOT NULL, last_at INTEGER);
CREATE INDEX chunk_tail ON chunk(transcript, epoch, ordinal);
-- A turn, or part `part` of the `parts` of a long one; the parts have consecutive ids and join to the exact text.
CREATE TABLE piece(
  id INTEGER PRIMARY KEY, chunk INTEGER NOT NULL, segment INTEGER NOT NULL, seq INTEGER NOT NULL,
  part INTEGER NOT NULL, parts INTEGER NOT NULL, at INTEGER, speaker TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX piece_chunk ON piece(chunk);
-- Words as written (lower case), for the spelling repair: the full-text table only knows stems.
CREATE TABLE word(text TEXT PRIMARY KEY, segments INTEGER NOT NULL) WITHOUT ROWID;
";

/// Why a file was not opened.
pub(super) enum Refusal {
    /// It is a database, but not this one.
    Foreign(String),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Opens the only connection that writes, and makes the tables in an empty file. The file must exist.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Refusal> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Before anything is changed: a newer or foreign file stays as it is, not even its journal mode is touched.
    let empty = is_empty_or_ours(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // After a large segment the log shrinks again instead of keeping its size for ever.
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    if empty {
        create(&mut connection)?;
    }
    connection.query_row("SELECT count(*) FROM (SELECT 1 FROM chunk_text LIMIT 1)", [], |_| Ok(()))?;
    connection.query_row("SELECT count(*) FROM (SELECT 1 FROM piece LIMIT 1)", [], |_| Ok(()))?;
    Ok(connection)
}

/// Opens a connection for reading, with a scratch table in memory that has the index's own tokenizer.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = reader::open(path, BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.execute_batch(&format!(
        "CREATE VIRTUAL TABLE temp.shown USING fts5(text, content='', tokenize='{TOKENIZER}');"
    ))?;
    Ok(connection)
}

/// Looks whether a file is an index of this version, without changing anything.
pub(super) fn is_ours(path: &Path) -> Result<(), Refusal> {
    match is_empty_or_ours(&reader::open(path, BUSY)?)? {
        false => Ok(()),
        true => Err(Refusal::Foreign("an empty file".into())),
    }
}

/// Complaints about the file itself and about chunks without their text. Slow on a large index.
pub(super) fn complaints(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = connection.prepare("PRAGMA integrity_check")?;
    let mut found: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    found.retain(|line| line != "ok");
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (chunks, texts) = (count("SELECT count(*) FROM chunk")?, count("SELECT count(*) FROM chunk_text_docsize")?);
    if chunks != texts {
        found.push(format!("{chunks} chunks and {texts} full texts"));
    }
    let lost = count("SELECT count(*) FROM piece WHERE chunk NOT IN (SELECT id FROM chunk)")?;
    if lost > 0 {
        found.push(format!("{lost} pieces without their chunk"));
    }
    Ok(found)
}

/// True for an empty file, false for one of ours.
fn is_empty_or_ours(connection: &Connection) -> Result<bool, Refusal> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (version, objects) {
        (VERSION, 1..) => Ok(false),
        (0, 0) => Ok(true),
        (newer, _) if newer > VERSION => Err(Refusal::Foreign(format!("schema {newer}, this program knows {VERSION}"))),
        _ => Err(Refusal::Foreign("a database of something else".into())),
    }
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let made: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    // Another process may have been faster.
    if made == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(&format!(
            "CREATE VIRTUAL TABLE chunk_text USING fts5(
               head, body, content='', tokenize='{TOKENIZER}');
             PRAGMA user_version = {VERSION};"
        ))?;
    }
    transaction.commit()
}

/// Empties a healthy index, and gives its space back if nobody is in the way.
pub(super) fn empty(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "INSERT INTO chunk_text(chunk_text) VALUES('delete-all');
         DELETE FROM piece; DELETE FROM chunk; DELETE FROM segment; DELETE FROM transcript; DELETE FROM word;",
    )?;
    transaction.commit()?;
    // Only saves space; a reader in the way is no failure.
    let _ = connection.execute_batch("VACUUM");
    Ok(())
}
