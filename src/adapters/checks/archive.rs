//! Reads some archived segments again and compares their hashes: in time, all of them.
//!
//! They come in the order of their hashes, which is as good as random, and the walk goes on where it stood also after a restart. What
//! was found damaged is looked at each time until it is whole again.

use super::Senses;
use async_trait::async_trait;
use moon_actors::domain::{Condition, Figure, Finding, Segment, Sha256, Trouble};
use moon_actors::port::{AlertRules, ArchiveStore, Check, CheckGroup, Ledger, Look};
use moon_actors::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

/// Segments read in one look, and when a person asks.
const A_LOOK: usize = 2;
const ASKED: usize = 20;
/// Damaged ones remembered.
const MOST_BAD: usize = 50;

pub(super) struct SpotCheck {
    ledger: Option<Arc<dyn Ledger>>,
    store: Option<Arc<dyn ArchiveStore>>,
}

#[derive(Default, Serialize, Deserialize)]
struct Memory {
    /// The walk stands behind this hash.
    after: String,
    /// Segments read in this round, and in the last whole one.
    read: u64,
    whole_round: Option<u64>,
    bad: Vec<String>,
}

impl SpotCheck {
    pub(super) fn new(senses: &Senses) -> Self {
        Self { ledger: senses.ledger.as_ref().ok().map(Arc::clone), store: senses.archive.clone() }
    }

    async fn walk(&self, ledger: &dyn Ledger, store: &dyn ArchiveStore, look: &Look) -> Result<Finding> {
        let mut memory: Memory = serde_json::from_value(look.memory.clone()).unwrap_or_default();
        let mut troubles = Vec::new();
        for hash in std::mem::take(&mut memory.bad) {
            let Some(hash) = Sha256::parse(&hash) else { continue };
            if let Some((segment, _)) = ledger.find_segment(&hash).await? {
                verify(store, &segment, &mut memory.bad, &mut troubles).await?;
            }
        }
        let limit = if look.is_asked { ASKED } else { A_LOOK };
        let mut segments = ledger.segments_by_hash(&memory.after, limit).await?;
        if segments.is_empty() && !memory.after.is_empty() {
            (memory.whole_round, memory.read, memory.after) = (Some(memory.read), 0, String::new());
            segments = ledger.segments_by_hash("", limit).await?;
        }
        for segment in &segments {
            let hash = segment.manifest.sha256.as_str().to_owned();
            if !memory.bad.contains(&hash) {
                verify(store, segment, &mut memory.bad, &mut troubles).await?;
            }
            (memory.after, memory.read) = (hash, memory.read + 1);
        }
        let count = |n| moon_actors::contract::count(n, "segment");
        let fine = match (segments.len(), memory.whole_round) {
            (0, _) => "nothing is archived yet".to_owned(),
            (n, None) => format!("{} read again, as recorded; {} in this round", count(n), memory.read),
            (n, Some(all)) => format!("{} read again, as recorded; every one of {all} was before", count(n)),
        };
        Ok(Finding::of(troubles, fine)
            .hint("restore the file from a backup; `moon verify` reads all of them")
            .figure("read_in_round", Figure::new(memory.read as f64, ""))
            .memory(json!(memory)))
    }
}

async fn verify(
    store: &dyn ArchiveStore,
    segment: &Segment,
    bad: &mut Vec<String>,
    told: &mut Vec<Trouble>,
) -> Result<()> {
    let Err(error) = store.verify(segment).await else { return Ok(()) };
    // A disk that does not answer now says nothing about the bytes.
    if error.kind != Kind::Data && !segment_is_gone(&error) {
        return Err(error);
    }
    if bad.len() < MOST_BAD {
        bad.push(segment.manifest.sha256.as_str().to_owned());
    }
    let reason = format!("{}: {error}", segment.path);
    told.push(Trouble { subject: segment.path.clone(), condition: Condition::Critical, reason, rule: None });
    Ok(())
}

fn segment_is_gone(error: &Error) -> bool {
    error.code == "archive.io" && error.to_string().contains("No such file")
}

#[async_trait]
impl Check for SpotCheck {
    fn name(&self) -> &str {
        "archive"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Archive
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("memory_corrupt"))
    }
    async fn look(&self, look: &Look) -> Finding {
        let (Some(ledger), Some(store)) = (&self.ledger, &self.store) else {
            return Finding::unknown("without a ledger nobody knows what is archived").hint("see the check `ledger`");
        };
        match self.walk(ledger.as_ref(), store.as_ref(), look).await {
            Ok(finding) => finding,
            Err(error) => Finding::unknown(error.to_string()).hint(error.hint.unwrap_or_default()),
        }
    }
}
