//! Opens what was unpacked as a database and asks SQLite whether it is whole; compares it with the one in its place. Reads only, runs
//! nothing of the file's own.

use super::manifest::{LedgerHead, newer};
use super::names::{damaged, refused};
use crate::adapters::sqlite::copy::{self, Head};
use crate::durable::{TEMPORARY_PREFIX, open_regular};
use moon_actors::Result;
use rusqlite::Connection;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Fields of a database's header that count how often it was changed, and by which SQLite: a copy made by SQLite has its own.
const COUNTERS: [Range<usize>; 3] = [24..28, 40..44, 92..100];
const HEADER: usize = 100;
/// What may stand beside a database and belongs to it.
const LOGS: [&str; 2] = ["-wal", "-journal"];

/// `integrity_check` and `foreign_key_check`, with their output read.
pub(super) fn check(path: &Path, shown: &str) -> Result<()> {
    let complaints = copy::complaints(path).map_err(|e| damaged(format!("the database {shown} does not open: {e}")))?;
    match complaints.first() {
        None => Ok(()),
        Some(first) => Err(damaged(format!("the database {shown} is damaged inside: {first}"))),
    }
}

/// The ledger besides: of a schema that this Moon knows, with a whole audit that ends where the manifest says.
pub(super) fn check_ledger(path: &Path, expected: &LedgerHead) -> Result<()> {
    let Head { schema, audit, strange } =
        copy::head(path).map_err(|e| damaged(format!("the ledger does not open: {e}")))?;
    if schema > copy::newest_schema() {
        let known = copy::newest_schema();
        return Err(newer(format!("its ledger has schema {schema}, and this moon knows up to {known}")));
    }
    if let Some(strange) = strange {
        return Err(refused(format!("its ledger is not built like one: {strange}")));
    }
    if schema != expected.schema {
        return Err(refused(format!("its ledger has schema {schema}, and the manifest says {}", expected.schema)));
    }
    match audit {
        Err(row) => Err(damaged(format!("the audit of its ledger does not fit at row {row}"))),
        Ok((0, _)) if expected.audit_seq == 0 => Ok(()),
        Ok((seq, sha256)) if (seq, sha256.as_ref()) != (expected.audit_seq, expected.audit_sha256.as_ref()) => {
            Err(refused(format!("the audit of its ledger ends at row {seq}, not where the manifest says")))
        }
        Ok(_) => Ok(()),
    }
}

/// Whether two databases hold the same. What of the one in use still stands in a log beside it is counted in, in a copy in the folder
/// `scratch`: the file itself is only read. False, too, when SQLite cannot make sense of that copy.
pub(super) fn is_same(copy: &Path, in_use: &Path, scratch: &Path) -> io::Result<bool> {
    let holds_something = |end: &&str| super::beside(in_use, end).metadata().is_ok_and(|found| found.len() > 0);
    if !LOGS.iter().any(holds_something) {
        return holds_the_same(copy, in_use);
    }
    let merged = Merged::of(in_use, scratch)?;
    match merged.settle() {
        Ok(()) => holds_the_same(copy, &merged.0),
        Err(_) => Ok(false),
    }
}

/// A copy of a database and its logs, removed when it is dropped.
struct Merged(PathBuf);

impl Merged {
    fn of(in_use: &Path, scratch: &Path) -> io::Result<Self> {
        let merged = Self(scratch.join(format!("{TEMPORARY_PREFIX}compared")));
        for end in LOGS.iter().chain(&[""]) {
            match open_regular(&super::beside(in_use, end)) {
                Ok(mut from) => drop(io::copy(&mut from, &mut File::create(super::beside(&merged.0, end))?)?),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(merged)
    }

    /// Brings into the file what stands in the logs.
    fn settle(&self) -> rusqlite::Result<()> {
        let db = Connection::open(&self.0)?;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        db.close().map_err(|(_, e)| e)
    }
}

impl Drop for Merged {
    fn drop(&mut self) {
        for end in LOGS.iter().chain(&["", "-shm"]) {
            let _ = std::fs::remove_file(super::beside(&self.0, end));
        }
    }
}

/// Byte for byte, but for the counters.
fn holds_the_same(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (open_regular(a)?, open_regular(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let header = |file: &mut File| -> io::Result<Vec<u8>> {
        let mut header = Vec::with_capacity(HEADER);
        file.take(HEADER as u64).read_to_end(&mut header)?;
        header.resize(HEADER, 0);
        COUNTERS.into_iter().for_each(|counter| header[counter].fill(0));
        Ok(header)
    };
    if header(&mut a)? != header(&mut b)? {
        return Ok(false);
    }
    let (mut of_a, mut of_b) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let read = a.read(&mut of_a)?;
        if read == 0 {
            return Ok(true);
        }
        match b.read_exact(&mut of_b[..read]) {
            Ok(()) if of_a[..read] == of_b[..read] => {}
            Ok(()) => return Ok(false),
            // Somebody cut it meanwhile.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}
