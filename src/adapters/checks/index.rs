//! The search index: usable, and not behind the archive for long. It mends itself; this says when it does not get on.

use super::{Senses, shown};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::Result;
use moon_actors::contract::count;
use moon_actors::domain::{Figure, Finding};
use moon_actors::port::{AlertRules, Check, CheckGroup, Clock, Ledger, Look, SearchIndex};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A segment may wait this long to be searchable.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

pub(super) struct IndexWhole {
    index: Option<Arc<dyn SearchIndex>>,
    ledger: Option<Arc<dyn Ledger>>,
    clock: Arc<dyn Clock>,
}

#[derive(Default, Serialize, Deserialize)]
struct Memory {
    /// The oldest segment that waits, and since when.
    waits: Option<(i64, DateTime<Utc>)>,
}

impl IndexWhole {
    pub(super) fn new(senses: &Senses) -> Self {
        let ledger = senses.ledger.as_ref().ok().map(Arc::clone);
        Self { index: senses.index.clone(), ledger, clock: Arc::clone(&senses.clock) }
    }

    async fn compare(&self, index: &dyn SearchIndex, ledger: &dyn Ledger, look: &Look) -> Result<Finding> {
        let totals = ledger.totals().await?;
        if totals.segments == 0 {
            return Ok(Finding::ok("nothing is archived yet"));
        }
        let status = index.status().await?;
        let (memory, now): (Memory, _) =
            (serde_json::from_value(look.memory.clone()).unwrap_or_default(), self.clock.now());
        let oldest = ledger.unindexed(None, 0, 1).await?.first().map(|segment| segment.id);
        let waits =
            oldest.map(|id| (id, memory.waits.filter(|(known, _)| *known == id).map_or(now, |(_, at)| at.min(now))));
        let expected = (totals.segments - totals.unindexed).max(0).unsigned_abs();
        let age = waits.and_then(|(_, since)| (now - since).to_std().ok()).unwrap_or_default();
        let hint = "`moon index` brings it up to date, `moon index --rebuild` makes it anew; the archive is untouched";
        let finding = if status.segments < expected {
            Finding::warning(format!("it holds {} of {}", status.segments, count(expected, "segment"))).hint(hint)
        } else if age > PATIENCE {
            let waiting = count(totals.unindexed, "segment");
            Finding::warning(format!("{waiting} not searchable, the oldest for {}", shown(age))).hint(hint)
        } else {
            Finding::ok(format!("holds {}, {} to come", count(expected, "segment"), totals.unindexed))
        };
        Ok(finding
            .figure("segments", Figure::new(status.segments as f64, ""))
            .figure("waiting", Figure::new(totals.unindexed as f64, ""))
            .figure("size", Figure::new(status.bytes as f64, "B"))
            .memory(json!(Memory { waits })))
    }
}

#[async_trait]
impl Check for IndexWhole {
    fn name(&self) -> &str {
        "index"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Index
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("index.behind"))
    }
    async fn look(&self, look: &Look) -> Finding {
        let (Some(index), Some(ledger)) = (&self.index, &self.ledger) else {
            return Finding::unknown("without a ledger nobody knows what the index should hold")
                .hint("see the check `ledger`");
        };
        match self.compare(index.as_ref(), ledger.as_ref(), look).await {
            Ok(finding) => finding,
            Err(error) if error.code.starts_with("index.") => {
                Finding::warning(error.to_string()).hint(error.hint.unwrap_or_default())
            }
            Err(error) => Finding::unknown(error.to_string()).hint(error.hint.unwrap_or_default()),
        }
    }
}
