//! Looks into an SQLite file for damage, and names it.
//!
//! A database with a write-ahead log is read beside its writers. Any other is copied first, by SQLite's own means and within one short
//! lock, and the copy is read: a check that takes long must not keep a writer waiting. The file is opened by nothing but SQLite while
//! it is sound: closing another handle would drop the locks that this process holds on it.

use crate::adapters::sqlite::reader;
use crate::scratch::Scratch;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, InterruptHandle};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Waits for a writer this long.
const BUSY: Duration = Duration::from_secs(3);
/// Complaints of SQLite's read, each kind.
const MOST: usize = 20;
/// Up to this size a copy is made in memory.
const IN_MEMORY: u64 = 8 << 20;
/// Tables remembered of one database.
const MOST_TABLES: usize = 500;
/// Pages that SQLite may keep in memory, KiB.
const CACHE_KIB: i64 = 512;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NotADatabase,
    Truncated,
    PageGarbage,
    IndexMismatch,
    Constraint,
    ForeignKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) kind: Kind,
    pub(super) detail: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::NotADatabase => "not a database",
            Kind::Truncated => "truncated file",
            Kind::PageGarbage => "damaged page",
            Kind::IndexMismatch => "index mismatch",
            Kind::Constraint => "broken constraint",
            Kind::ForeignKey => "foreign key violation",
        };
        write!(f, "{name}: {}", self.detail)
    }
}

/// Tables with their columns.
pub(super) type Tables = BTreeMap<String, Vec<String>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Inspected {
    pub(super) damages: Vec<Damage>,
    /// Only of a sound file.
    pub(super) tables: Tables,
    pub(super) bytes: u64,
}

/// Lets a look be cut off from outside.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<Mutex<Option<InterruptHandle>>>);

/// Cuts it off when dropped.
pub(super) struct StopGuard(Stop);

impl Stop {
    pub(super) fn guard(&self) -> StopGuard {
        StopGuard(self.clone())
    }
    fn watch(&self, db: &Connection) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(db.get_interrupt_handle());
    }
}

impl Drop for StopGuard {
    fn drop(&mut self) {
        if let Some(handle) = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            handle.interrupt();
        }
    }
}

/// Who else may have the file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// This process itself.
    Shared,
    /// Programs of the user's, but nothing in this process: its bytes may be read besides.
    Foreign,
    /// Nobody writes it: it is read without the files that SQLite makes beside it even for a reader.
    Alone,
}

impl Inspected {
    /// What is wrong: the first complaint of each kind, and how many there are.
    pub(super) fn told(&self) -> String {
        let mut first: Vec<&Damage> = Vec::new();
        for damage in &self.damages {
            if !first.iter().any(|known| known.kind == damage.kind) {
                first.push(damage);
            }
        }
        let told: Vec<String> = first.iter().map(ToString::to_string).collect();
        let more = match self.damages.len() - first.len() {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        format!("{}{more}", told.join("; "))
    }
}

/// Looks. An error in a sentence: it could not be looked at.
pub(super) fn inspect(path: &Path, access: Access, stop: &Stop) -> Result<Inspected, String> {
    let bytes = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    let looked = look(path, bytes, access, stop);
    let mut inspected = match looked {
        Ok(inspected) => inspected,
        Err(error) => match damage_of(&error) {
            Some(damage) => Inspected { damages: vec![damage], ..Inspected::default() },
            None => return Err(error.to_string()),
        },
    };
    inspected.bytes = bytes;
    if access != Access::Shared
        && !inspected.damages.is_empty()
        && !reader::has_log(path)
        && let Some(detail) = truncation(path)
    {
        inspected.damages.retain(|damage| damage.kind != Kind::PageGarbage);
        inspected.damages.insert(0, Damage { kind: Kind::Truncated, detail });
    }
    Ok(inspected)
}

fn look(path: &Path, bytes: u64, access: Access, stop: &Stop) -> rusqlite::Result<Inspected> {
    if access == Access::Alone && !reader::has_log(path) {
        let db = reader::immutable(path)?;
        stop.watch(&db);
        return complaints(&db);
    }
    let db = reader::open(path, BUSY)?;
    stop.watch(&db);
    let mode: String = db.query_row("PRAGMA journal_mode", [], |r| r.get(0))?;
    if mode == "wal" {
        return complaints(&db);
    }
    let scratch =
        if bytes <= IN_MEMORY { None } else { Some(Scratch::make("check").map_err(|e| no_copy(&e.to_string()))?) };
    let mut copy = match &scratch {
        None => Connection::open_in_memory()?,
        Some(scratch) => {
            if crate::adapters::room::free(scratch.path()).is_some_and(|free| free < 2 * bytes) {
                return Err(no_copy("there is no room for a copy in the temporary folder"));
            }
            let copy = Connection::open(scratch.path().join("copy.db"))?;
            copy.execute_batch("PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF;")?;
            copy
        }
    };
    copy_all(&db, &mut copy)?;
    drop(db);
    stop.watch(&copy);
    complaints(&copy)
}

fn copy_all(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    let backup = Backup::new(from, to)?;
    for _ in 0..30 {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    Err(no_copy("a writer has held its lock for seconds"))
}

fn no_copy(why: &str) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(format!("it could not be copied for the look: {why}").into())
}

fn complaints(db: &Connection) -> rusqlite::Result<Inspected> {
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    let mut damages = Vec::new();
    // What it prints says how things are; that it ends well does not.
    let mut check = db.prepare(&format!("PRAGMA integrity_check({MOST})"))?;
    for line in check.query_map([], |r| r.get::<_, String>(0))? {
        damages.extend(line?.lines().filter_map(damage_in));
    }
    if damages.iter().all(|damage| damage.kind == Kind::IndexMismatch) {
        let mut check = db.prepare("PRAGMA foreign_key_check")?;
        let row = |r: &rusqlite::Row| -> rusqlite::Result<(String, Option<i64>, String)> {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?))
        };
        match check.query_map([], row) {
            Ok(rows) => {
                for broken in rows.take(MOST) {
                    let (table, id, parent) = broken?;
                    let id = id.map_or("a row".to_owned(), |id| format!("row {id}"));
                    let detail = format!("{id} of {table} points at nothing in {parent}");
                    damages.push(Damage { kind: Kind::ForeignKey, detail });
                }
            }
            // `foreign key mismatch`: the schema's own business, not damage.
            Err(e) if damage_of(&e).is_none() => {}
            Err(e) => return Err(e),
        }
    }
    let tables = if damages.is_empty() { tables(db)? } else { Tables::new() };
    Ok(Inspected { damages, tables, bytes: 0 })
}

fn tables(db: &Connection) -> rusqlite::Result<Tables> {
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let names: Vec<String> =
        db.prepare(sql)?.query_map([], |r| r.get(0))?.take(MOST_TABLES).collect::<Result<_, _>>()?;
    let mut columns = db.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY name")?;
    let mut tables = Tables::new();
    for name in names {
        // A virtual table of a module that is not here has columns that nobody can ask for.
        let asked = columns.query_map([&name], |r| r.get(0)).and_then(Iterator::collect::<Result<Vec<String>, _>>);
        tables.insert(name, asked.unwrap_or_default());
    }
    Ok(tables)
}

/// Sorts one complaint of `integrity_check`.
fn damage_in(line: &str) -> Option<Damage> {
    let line = line.trim();
    // What it cannot check for want of a module is not damaged.
    if line == "ok" || line.is_empty() || line.starts_with("***") || line.starts_with("unable to validate") {
        return None;
    }
    let has = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
    let kind = if has(&[
        "missing from index",
        "wrong # of entries in index",
        "non-unique entry in index",
        "differs from index",
        "index value",
    ]) {
        Kind::IndexMismatch
    } else if has(&["NULL value in", "CHECK constraint failed", "non-", "TEXT value in", "NUMERIC value in"])
        && !has(&["page"])
    {
        Kind::Constraint
    } else {
        Kind::PageGarbage
    };
    Some(Damage { kind, detail: line.chars().take(200).collect() })
}

/// What an error of SQLite's says about the file, if it says anything.
fn damage_of(error: &rusqlite::Error) -> Option<Damage> {
    let kind = match error.sqlite_error_code()? {
        ErrorCode::NotADatabase => Kind::NotADatabase,
        ErrorCode::DatabaseCorrupt => Kind::PageGarbage,
        // A schema that SQLite cannot read is told as a plain error.
        ErrorCode::Unknown if error.to_string().contains("malformed") => Kind::PageGarbage,
        _ => return None,
    };
    Some(Damage { kind, detail: error.to_string() })
}

/// Fewer pages than the header counts.
fn truncation(path: &Path) -> Option<String> {
    let mut header = [0_u8; 100];
    let mut file = crate::durable::open_regular(path).ok()?;
    let length = file.metadata().ok()?.len();
    if length < 100 {
        return Some(format!("{length} bytes are left, not even a header"));
    }
    file.read_exact(&mut header).ok()?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let is_database = header.starts_with(b"SQLite format 3\0") && page >= 512;
    // The count is valid only for the change it was written with.
    let (pages, is_valid) = (u64::from(number(28)), number(24) == number(92));
    (is_database && is_valid && pages * page > length).then(|| format!("{length} bytes are left of {}", pages * page))
}
