//! The right to reduce a session. Nothing destructive runs without one.
//!
//! A permit exists only for a transcript that was compared with its archive to the byte, whose every segment the index says it
//! holds, and in which no turn runs. It has no public constructor but [`may_reduce`], so the compiler keeps the promise.

use crate::archive::coverage::Coverage;
use crate::domain::Sha256;
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::Value;

/// What a reduction may rely on; written into the ledger with the act.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Permit {
    segments: Vec<Sha256>,
    records: i64,
    last_seq: i64,
    last_record: Option<Sha256>,
    epoch: i64,
}

impl Permit {
    /// Position of the last record that is covered.
    pub fn last_seq(&self) -> i64 {
        self.last_seq
    }
    pub fn last_record(&self) -> Option<&Sha256> {
        self.last_record.as_ref()
    }
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("a permit is plain data")
    }
}

/// Grants a permit, or says what is missing.
pub fn may_reduce(coverage: &Coverage, index_holds_all: bool, turn_running: bool) -> Result<Permit> {
    let series = coverage.series();
    if turn_running {
        return Err(Error::transient(crate::stage::policy::BUSY, format!("a turn is running in {}", series.session)));
    }
    if coverage.segments().is_empty() || series.last_seq < 0 {
        return Err(Error::conflict("prune.nothing_archived", format!("{} has nothing archived", series.session)));
    }
    if !index_holds_all {
        return Err(Error::transient("prune.not_findable", format!("not all of {} is searchable yet", series.session))
            .hint("see `moon status`; `moon index --rebuild` fills the index again"));
    }
    Ok(Permit {
        segments: coverage.hashes(),
        records: series.records,
        last_seq: series.last_seq,
        last_record: series.last_record.clone(),
        epoch: series.epoch,
    })
}
