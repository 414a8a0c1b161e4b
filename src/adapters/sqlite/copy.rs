//! Judges a database that lies somewhere as a copy: a member of a backup. Opens it as it is and makes no file beside it.
//!
//! A copy may have been made by anybody. Its schema is compared with the one the migrations make, so that no trigger or view of
//! somebody's comes in with it.

use super::open::MIGRATIONS;
use super::{audit, reader};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::collections::BTreeSet;
use std::path::Path;

/// Most complaints that are read.
const COMPLAINTS: usize = 20;

/// Where a ledger stands.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) schema: i64,
    /// The last row of the audit and its hash, or the first row that does not fit.
    pub(crate) audit: Result<(i64, Option<String>), i64>,
    /// A table, index or trigger that is not the one of its schema.
    pub(crate) strange: Option<String>,
}

/// The newest schema that this Moon knows.
pub(crate) fn newest_schema() -> i64 {
    MIGRATIONS.len() as i64
}

/// What `integrity_check` and `foreign_key_check` say; empty when all is well.
pub(crate) fn complaints(path: &Path) -> rusqlite::Result<Vec<String>> {
    let db = open(path)?;
    let mut said = db.prepare("PRAGMA integrity_check")?;
    let rows: rusqlite::Result<Vec<String>> = said.query_map([], |r| r.get(0))?.take(COMPLAINTS).collect();
    let mut complaints: Vec<String> = rows?.into_iter().filter(|row| row != "ok").collect();
    let mut orphans = db.prepare("PRAGMA foreign_key_check")?;
    let rows = orphans.query_map([], |r| Ok(format!("a row of {} points nowhere", r.get::<_, String>(0)?)))?;
    for row in rows.take(COMPLAINTS) {
        complaints.push(row?);
    }
    Ok(complaints)
}

pub(crate) fn head(path: &Path) -> rusqlite::Result<Head> {
    let db = open(path)?;
    let schema: i64 = db.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    if !(1..=newest_schema()).contains(&schema) {
        let strange = Some("it has no schema".to_owned()).filter(|_| schema < 1);
        return Ok(Head { schema, audit: Ok((0, None)), strange });
    }
    if let Some(strange) = strange(&db, schema)? {
        return Ok(Head { schema, audit: Ok((0, None)), strange: Some(strange) });
    }
    let audit = match audit::verify(&db)? {
        Err(row) => Err(row),
        Ok(0) => Ok((0, None)),
        Ok(rows) => {
            let sql = "SELECT sha256 FROM audit WHERE seq = ?1";
            Ok((rows, Some(db.query_row(sql, [rows], |r| r.get(0))?)))
        }
    };
    Ok(Head { schema, audit, strange: None })
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let db = reader::immutable(path)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.execute_batch("PRAGMA cell_size_check=ON; PRAGMA mmap_size=0;")?;
    Ok(db)
}

/// The first object that a ledger of this schema does not have, or has otherwise.
fn strange(db: &Connection, schema: i64) -> rusqlite::Result<Option<String>> {
    let mut fresh = Connection::open_in_memory()?;
    let steps = MIGRATIONS.into_iter().map(rusqlite_migration::M::up).collect();
    let version = usize::try_from(schema).unwrap_or_default();
    rusqlite_migration::Migrations::new(steps)
        .to_version(&mut fresh, version)
        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
    let (expected, found) = (objects(&fresh)?, objects(db)?);
    Ok(expected.symmetric_difference(&found).next().map(|(kind, name, _)| format!("{kind} {name}")))
}

fn objects(db: &Connection) -> rusqlite::Result<BTreeSet<(String, String, Option<String>)>> {
    // Statistics are the database's own.
    let sql = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'";
    db.prepare(sql)?.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect()
}
