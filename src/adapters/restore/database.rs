//! Opens what was unpacked as a database and asks SQLite whether it is whole. Reads only, runs nothing of the file's own.

use super::manifest::{LedgerHead, newer};
use super::names::{damaged, refused};
use crate::adapters::sqlite::copy::{self, Head};
use moon_actors::Result;
use std::path::Path;

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
