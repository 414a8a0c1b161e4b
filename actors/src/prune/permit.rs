//! The right to reduce a session. Nothing destructive runs without one.
//!
//! A permit exists only for a transcript of the host's own bytes that was compared with its archive to the last of them, whose
//! every segment the index says it holds, and in which no turn runs. It has no public constructor but [`may_reduce`], so the compiler keeps the promise.

use crate::archive::coverage::Coverage;
use crate::domain::Sha256;
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::Value;

/// What a reduction may rely on; written into the ledger with the act.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Permit {
    segments: u64,
    /// Over the hashes of the segments in their order, as lines: which ones they were, in any number of them.
    digest: Sha256,
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
    if !coverage.source().is_exact() {
        let message = format!("the transcript of {} cannot be read byte for byte", series.session);
        return Err(Error::unavailable("prune.not_exact", message)
            .cause(format!("it comes from {}, not from the host's store", coverage.source().location))
            .hint("let Moon read OpenClaw's state folder: see openclaw.state_dir in moon.toml, then `moon verify`"));
    }
    if !index_holds_all {
        return Err(Error::transient("prune.not_findable", format!("not all of {} is searchable yet", series.session))
            .hint("see `moon status`; `moon index --rebuild` fills the index again"));
    }
    Ok(Permit {
        segments: coverage.segments().len() as u64,
        digest: coverage.digest(),
        records: series.records,
        last_seq: series.last_seq,
        last_record: series.last_record.clone(),
        epoch: series.epoch,
    })
}
