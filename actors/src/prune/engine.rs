//! Shrinks the live session through its host, with Moon's own summary: archive what is newest, prove it, ask, look.
//!
//! The intent is in the ledger before the host is asked. After a crash the transcript is looked at before anything is repeated: a
//! compaction record behind the intent's position means that it happened.

use super::permit::{Permit, may_reduce};
use super::summary;
use crate::archive::engine::{Archiver, is_gone};
use crate::archive::{coverage, transcript};
use crate::domain::{Claim, Job, SessionRef, Sha256, Stage};
use crate::error::{Error, Result};
use crate::index::engine::Indexer;
use crate::port::{Bridge, Compacted, DistillInput, Distiller, Effect, Slot};
use crate::stage::{Done, Engine};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Longest stretch of transcript that a summary is made from, bytes; the newest part counts.
const SUMMARY_BYTES: u64 = 32 << 20;
/// Longest summary, characters: small beside any window.
const SUMMARY_CHARS: usize = 6_000;
/// The host says that the session's transcript is another one now.
const MOVED_ON: &str = "host.changed";
/// Refusals of the host after which the prune is given up and distillation becomes due.
const REFUSALS: u32 = 2;

/// What was about to be done, and from where to look whether it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Position of the last record before the act.
    pub after_seq: i64,
    pub used_tokens: Option<u64>,
    pub permit: serde_json::Value,
}

/// What a reduction of either kind needs.
#[derive(Clone)]
pub struct Reducer {
    pub archiver: Archiver,
    pub indexer: Indexer,
    pub bridge: Arc<dyn Bridge>,
}

impl Reducer {
    /// Archives and indexes what is newest, compares all of it with the host, and grants a permit.
    pub async fn permit(&self, job: &Job) -> Result<Permit> {
        let captured = self.archiver.capture(job).await?;
        self.indexer.catch_up(Some(&job.session)).await?;
        let coverage = match coverage::compare(&self.archiver, &captured.series).await {
            // Somebody wrote while we compared: the next try archives that first.
            Err(error) if error.code == "archive.behind" => {
                return Err(Error::transient(crate::stage::policy::BUSY, error.message));
            }
            Err(error) if error.code == "archive.source_differs" => {
                self.archiver.ledger.supersede(&captured.series, "compared before a reduction, it differs").await?;
                return Err(error);
            }
            coverage => coverage?,
        };
        let findable = self.indexer.holds(coverage.segments()).await?;
        may_reduce(&coverage, findable, self.running(job).await?)
    }

    async fn running(&self, job: &Job) -> Result<bool> {
        let readings = self.archiver.host.readings().await?;
        Ok(readings.iter().any(|r| r.session.key == job.session && r.running))
    }

    /// Right before the act: the transcript still ends where the permit says. Cheap, unlike the permit itself.
    pub async fn still_holds(&self, session: &SessionRef, permit: &Permit) -> Result<()> {
        let page = self.archiver.host.records(session, permit.last_seq(), 1 << 20).await?;
        let same = page.records.len() == 1
            && !page.more
            && page.torn_bytes == 0
            && Some(&Sha256::of(&page.records[0].bytes)) == permit.last_record();
        if same {
            return Ok(());
        }
        Err(Error::transient(crate::stage::policy::BUSY, format!("{} has moved on since its permit", session.key)))
    }

    /// Ends a cycle whose transcript is not the session's any more. A summary made for it must not reach another compaction.
    pub async fn moved_on(&self, job: &Job, error: &Error) -> Result<Done> {
        self.bridge.clear(&job.session, Slot::Summary).await?;
        Ok(Done::skipped(format!("nothing to reduce: {error}")).ending_the_cycle())
    }

    /// Looks for a record behind `after_seq` that says the act has happened. Returns its position.
    pub async fn look(&self, session: &SessionRef, after_seq: i64, is_it: fn(&[u8]) -> bool) -> Result<Option<i64>> {
        let mut from = after_seq + 1;
        loop {
            let page = self.archiver.host.records(session, from, self.archiver.settings.segment_bytes as usize).await?;
            if let Some(found) = page.records.iter().find(|r| is_it(&r.bytes)) {
                return Ok(Some(found.seq));
            }
            match page.records.last() {
                Some(last) if page.more => from = last.seq + 1,
                _ => return Ok(None),
            }
        }
    }
}

/// The third stage of a prune cycle.
pub struct PruneStage {
    pub reducer: Reducer,
    pub distiller: Arc<dyn Distiller>,
    pub max_items: usize,
}

#[async_trait]
impl Engine for PruneStage {
    fn stage(&self) -> Stage {
        Stage::Prune
    }

    async fn run(&self, claim: &Claim) -> Result<Done> {
        match self.prune(claim).await {
            Err(error) if has_moved_on(&error) => self.reducer.moved_on(&claim.job, &error).await,
            pruned => pruned,
        }
    }
}

impl PruneStage {
    async fn prune(&self, claim: &Claim) -> Result<Done> {
        let job = &claim.job;
        let session = SessionRef { key: job.session.clone(), session_id: job.session_id.clone() };
        let (archiver, bridge) = (&self.reducer.archiver, &self.reducer.bridge);
        if let Some(intent) = job.intent.clone().and_then(|v| serde_json::from_value::<Intent>(v).ok())
            && self.reducer.look(&session, intent.after_seq, transcript::is_compaction).await?.is_some()
        {
            return self.settle(claim, &intent, Compacted::default(), "found done after a restart").await;
        }
        if !archiver.host.capabilities().compact {
            return Err(Error::unavailable(
                "prune.not_allowed",
                format!("the host does not let Moon prune {}", job.session),
            )
            .hint("set openclaw.mode = \"lead\" with `moon install --mode lead`, or raise the prune threshold"));
        }
        let permit = self.reducer.permit(job).await?;
        archiver.probe.reach("prune.permitted").await;
        let text = self.summary(job).await?;
        bridge.place(&job.session, Slot::Summary, &text).await?;
        let intent = Intent { after_seq: permit.last_seq(), used_tokens: job.used_tokens, permit: permit.to_value() };
        let value = serde_json::to_value(&intent).expect("an intent is plain data");
        if !archiver.ledger.intend(claim, &value).await? {
            return Err(Error::conflict("prune.claim_lost", "another worker took this job over"));
        }
        archiver.probe.reach("prune.intended").await;
        self.reducer.still_holds(&session, &permit).await?;
        let compacted = match archiver.host.compact(&session).await {
            Err(error) if self.gives_up(&error, job) => {
                // An earlier request of ours may have been under way still: the host carries requests out one after the other.
                if self.reducer.look(&session, intent.after_seq, transcript::is_compaction).await?.is_some() {
                    return self.settle(claim, &intent, Compacted::default(), "done by an earlier request").await;
                }
                return self.nothing_freed(claim, &intent, &error).await;
            }
            // The text was made for this moment: a later compaction of the host's own must not find it.
            Err(error) => {
                bridge.clear(&job.session, Slot::Summary).await?;
                return Err(error);
            }
            Ok(compacted) => compacted,
        };
        archiver.probe.reach("prune.acted").await;
        if self.reducer.look(&session, intent.after_seq, transcript::is_compaction).await?.is_none() {
            let message = format!("the host says it compacted {}, but its transcript does not", job.session);
            return Err(Error::transient("prune.unconfirmed", message));
        }
        self.settle(claim, &intent, compacted, "pruned").await
    }
}

/// The session has another transcript than the one this cycle is about, or that one is gone: nothing of it needs reducing.
pub(crate) fn has_moved_on(error: &Error) -> bool {
    error.code == MOVED_ON || is_gone(error)
}

impl PruneStage {
    /// Moon's own text for the compaction, from what the live window holds.
    async fn summary(&self, job: &Job) -> Result<String> {
        let archiver = &self.reducer.archiver;
        let session = SessionRef { key: job.session.clone(), session_id: job.session_id.clone() };
        let series = archiver.ledger.series(&session).await?;
        let segments = archiver.ledger.segments(series.id).await?;
        let newest_first = segments.iter().rev().scan(0, |bytes, s| {
            *bytes += s.manifest.bytes;
            (*bytes <= SUMMARY_BYTES).then_some(s.manifest.first_seq - 1)
        });
        let after = newest_first.last().unwrap_or(-1);
        let (turns, _) = archiver.turns_after(&segments, after, SUMMARY_BYTES).await?;
        let input = DistillInput { session: job.session.clone(), turns, max_items: self.max_items };
        let distillate = self.distiller.distill(&input).await?;
        let paths: Vec<String> = segments.iter().map(|s| s.path.clone()).collect();
        Ok(summary::text(&distillate, &paths, SUMMARY_CHARS))
    }

    fn gives_up(&self, error: &Error, job: &Job) -> bool {
        error.code == "host.nothing_to_compact" || (error.code == "host.compact_refused" && job.failures >= REFUSALS)
    }

    /// The host would not make it smaller: recorded as a prune that freed nothing, which makes distillation due.
    async fn nothing_freed(&self, claim: &Claim, intent: &Intent, error: &Error) -> Result<Done> {
        self.reducer.bridge.clear(&claim.job.session, Slot::Summary).await?;
        let effect = Effect::Pruned {
            tokens_before: intent.used_tokens,
            tokens_after: intent.used_tokens,
            permit: intent.permit.clone(),
        };
        let detail = serde_json::json!({ "refused": error.code, "permit": intent.permit });
        let mut done = Done::ok(effect, format!("the host did not compact: {error}"), detail);
        done.outcome = "skipped";
        Ok(done)
    }

    async fn settle(&self, claim: &Claim, intent: &Intent, compacted: Compacted, how: &str) -> Result<Done> {
        let job = &claim.job;
        // The host's own record of the compaction belongs into the archive as well.
        self.reducer.archiver.capture(job).await?;
        self.reducer.indexer.catch_up(Some(&job.session)).await?;
        self.reducer.bridge.clear(&job.session, Slot::Summary).await?;
        let before = compacted.tokens_before.or(intent.used_tokens);
        let after = match compacted.tokens_after {
            Some(after) => Some(after),
            None => self.used_now(job).await,
        };
        let effect = Effect::Pruned { tokens_before: before, tokens_after: after, permit: intent.permit.clone() };
        let detail = serde_json::json!({ "tokens_before": before, "tokens_after": after, "permit": intent.permit });
        let figures = match (before, after) {
            (Some(before), Some(after)) => format!(" from {before} to {after} tokens"),
            _ => String::new(),
        };
        Ok(Done::ok(effect, format!("{how}{figures}"), detail))
    }

    async fn used_now(&self, job: &Job) -> Option<u64> {
        let readings = self.reducer.archiver.host.readings().await.ok()?;
        readings.iter().find(|r| r.session.key == job.session && r.fresh).and_then(|r| r.used_tokens)
    }
}
