//! Shrinks the live session through its host, with Moon's own summary: archive what is newest, prove it, ask, look.
//!
//! The intent is in the ledger before the host is asked. After a crash the transcript is looked at before anything is repeated: a
//! compaction record behind the intent's position means that it happened. A refusal that leaves no doubt voids the intent, so that
//! somebody else's compaction is never taken for Moon's.

use super::permit::{Permit, may_reduce};
use super::summary;
use crate::archive::engine::{Archiver, is_gone};
use crate::archive::{coverage, transcript};
use crate::domain::{Claim, Job, SessionRef, Sha256, Stage, UsageReading};
use crate::error::{Error, Kind, Result};
use crate::index::engine::Indexer;
use crate::port::{Bridge, Compacted, DistillInput, Distiller, Effect, Slot};
use crate::stage::policy::BUSY;
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
/// Times the host is asked before the prune is given up and distillation becomes due.
const REQUESTS: u32 = 3;

/// What was about to be done, and from where to look whether it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Position of the last record before the act. `None`: the host has certainly not done it.
    pub after_seq: Option<i64>,
    /// How often this job has asked the host, this time included.
    pub requests: u32,
    pub used_tokens: Option<u64>,
    pub permit: serde_json::Value,
}

impl Intent {
    /// What an earlier attempt of this job wrote down.
    pub fn of(job: &Job) -> Option<Self> {
        job.intent.clone().and_then(|value| serde_json::from_value(value).ok())
    }
    /// The next request of this job, under this permit.
    pub fn next(job: &Job, permit: &Permit) -> Self {
        Self {
            after_seq: Some(permit.last_seq()),
            requests: Self::of(job).map_or(0, |earlier| earlier.requests) + 1,
            used_tokens: job.used_tokens,
            permit: permit.to_value(),
        }
    }
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
        if self.reading(job).await?.is_some_and(|reading| reading.running) {
            // Before the transcript is read: the turn would be in the way at the end anyway.
            return Err(busy(format!("a turn is running in {}", job.session)));
        }
        let captured = self.archiver.capture(job).await?;
        self.indexer.catch_up(Some(&job.session)).await?.whole()?;
        let coverage = match coverage::compare(&self.archiver, &captured.series).await {
            // Somebody wrote while we compared: the next try archives that first.
            Err(error) if error.code == "archive.behind" => return Err(busy(error.message)),
            Err(error) if error.code == "archive.source_differs" => {
                self.archiver.ledger.supersede(&captured.series, "compared before a reduction, it differs").await?;
                return Err(error);
            }
            coverage => coverage?,
        };
        let findable = self.indexer.holds(coverage.segments()).await?;
        let running = self.reading(job).await?.is_some_and(|reading| reading.running);
        may_reduce(&coverage, findable, running)
    }

    /// Nothing is reduced that Moon's text cannot replace: the host would write one of its own, or none.
    pub async fn needs_bridge(&self, job: &Job) -> Result<()> {
        let bridge = self.bridge.status().await;
        if bridge.alive {
            return Ok(());
        }
        let code = of_stage(job, "prune.no_bridge", "continuity.no_bridge");
        Err(Error::unavailable(code, format!("no bridge is alive that could carry Moon's text into {}", job.session))
            .cause(format!("{}; the window is kept as it is", bridge.detail))
            .hint("run `moon install`, then `moon verify`"))
    }

    /// How the job's session stands now, as its host shows it.
    pub async fn reading(&self, job: &Job) -> Result<Option<UsageReading>> {
        Ok(self.archiver.host.readings().await?.into_iter().find(|reading| reading.session.key == job.session))
    }

    /// The session's usage, if it has fallen below `limit` since the job was queued: somebody else has made room.
    pub async fn eased(&self, job: &Job, limit: f64) -> Result<Option<f64>> {
        let reading = self.reading(job).await?;
        Ok(reading.and_then(|reading| reading.trusted_ratio()).filter(|ratio| *ratio < limit))
    }

    /// Writes the intent down, which must come before the act.
    pub async fn intend(&self, claim: &Claim, intent: &Intent) -> Result<()> {
        let value = serde_json::to_value(intent).expect("an intent is plain data");
        if self.archiver.ledger.intend(claim, &value).await? {
            return Ok(());
        }
        let code = of_stage(&claim.job, "prune.claim_lost", "continuity.claim_lost");
        Err(Error::conflict(code, "another worker took this job over"))
    }

    /// Takes the text for a compaction away once it is over, however it ended: it was made for that moment, and a later one of
    /// the host's own must not find it.
    pub async fn withdraw_summary(&self, job: &Job, ended: Result<Done>) -> Result<Done> {
        let cleared = self.bridge.clear(&job.session, Slot::Summary).await;
        ended.and_then(|done| cleared.map(|()| done))
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
        Err(busy(format!("{} has moved on since its permit", session.key)))
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
    /// Usage below which nobody needs the prune any more.
    pub needless_below: f64,
}

#[async_trait]
impl Engine for PruneStage {
    fn stage(&self) -> Stage {
        Stage::Prune
    }

    async fn run(&self, claim: &Claim) -> Result<Done> {
        let pruned = match self.prune(claim).await {
            Err(error) if has_moved_on(&error) => Ok(moved_on(&error)),
            pruned => pruned,
        };
        self.reducer.withdraw_summary(&claim.job, pruned).await
    }
}

impl PruneStage {
    async fn prune(&self, claim: &Claim) -> Result<Done> {
        let job = &claim.job;
        let session = SessionRef { key: job.session.clone(), session_id: job.session_id.clone() };
        let archiver = &self.reducer.archiver;
        if let Some(intent) = Intent::of(job)
            && self.is_done(&session, &intent).await?
        {
            return self.settle(claim, &intent, Compacted::default(), "found done after a restart").await;
        }
        if let Some(ratio) = self.reducer.eased(job, self.needless_below).await? {
            let message = format!("nothing to prune any more: usage has fallen to {ratio:.3}");
            return Ok(Done::skipped(message).ending_the_cycle());
        }
        if !archiver.host.capabilities().compact {
            return Err(Error::unavailable(
                "prune.not_allowed",
                format!("the host does not let Moon prune {}", job.session),
            )
            .hint("set openclaw.mode = \"lead\" with `moon install --mode lead`, or raise the prune threshold"));
        }
        self.reducer.needs_bridge(job).await?;
        let permit = self.reducer.permit(job).await?;
        archiver.probe.reach("prune.permitted").await;
        let text = self.summary(job).await?;
        let intent = Intent::next(job, &permit);
        self.reducer.intend(claim, &intent).await?;
        archiver.probe.reach("prune.intended").await;
        let compacted = self.compact(&session, &permit, &text).await;
        archiver.probe.reach("prune.acted").await;
        // Whatever the answer: an earlier request may have been under way still, and the host carries them out one by one.
        let is_done = compacted.as_ref().err().is_none_or(is_definite) && self.is_done(&session, &intent).await?;
        match compacted {
            Ok(compacted) if is_done => self.settle(claim, &intent, compacted, "pruned").await,
            Err(_) if is_done => self.settle(claim, &intent, Compacted::default(), "done by an earlier request").await,
            Ok(_) => {
                let message = format!("the host says it compacted {}, but its transcript does not", job.session);
                self.refused(claim, intent, Error::transient("prune.unconfirmed", message)).await
            }
            Err(error) if is_definite(&error) => self.refused(claim, intent, error).await,
            Err(error) => Err(error),
        }
    }

    /// The act itself, if nothing has been added since the permit.
    async fn compact(&self, session: &SessionRef, permit: &Permit, text: &str) -> Result<Compacted> {
        self.reducer.still_holds(session, permit).await?;
        self.reducer.bridge.place(&session.key, Slot::Summary, text).await?;
        self.reducer.archiver.host.compact(session).await
    }

    async fn is_done(&self, session: &SessionRef, intent: &Intent) -> Result<bool> {
        let Some(after) = intent.after_seq else { return Ok(false) };
        Ok(self.reducer.look(session, after, transcript::is_compaction).await?.is_some())
    }

    /// The host has certainly not done it: the intent is void, and after some requests the prune is given up.
    async fn refused(&self, claim: &Claim, intent: Intent, error: Error) -> Result<Done> {
        let insists = matches!(error.code.as_str(), "host.compact_refused" | "prune.unconfirmed");
        if error.code == "host.nothing_to_compact" || (insists && intent.requests >= REQUESTS) {
            return Ok(nothing_freed(&intent, &error));
        }
        if is_definite(&error) {
            // Waiting for a turn is no refusal.
            let requests = intent.requests - u32::from(error.code == BUSY);
            self.reducer.intend(claim, &Intent { after_seq: None, requests, ..intent }).await?;
        }
        Err(error)
    }
}

/// The code of the stage that reduces here.
fn of_stage(job: &Job, prune: &'static str, continuity: &'static str) -> &'static str {
    if job.stage == Stage::Continuity { continuity } else { prune }
}

/// A turn is in the way: not a failure, the job waits for its end.
pub(crate) fn busy(message: impl Into<String>) -> Error {
    Error::transient(BUSY, message)
}

/// An answer after which the host has certainly not done what it was asked.
pub(crate) fn is_definite(error: &Error) -> bool {
    matches!(error.kind, Kind::Conflict | Kind::Data) || error.code == BUSY
}

/// Ends a cycle whose transcript is not the session's any more.
pub(crate) fn moved_on(error: &Error) -> Done {
    Done::skipped(format!("nothing to reduce: {error}")).ending_the_cycle()
}

/// The host would not make it smaller: recorded as a prune that freed nothing, which makes distillation due.
fn nothing_freed(intent: &Intent, error: &Error) -> Done {
    let effect = Effect::Pruned {
        tokens_before: intent.used_tokens,
        tokens_after: intent.used_tokens,
        permit: intent.permit.clone(),
    };
    let detail = serde_json::json!({ "refused": error.code, "permit": intent.permit });
    Done { outcome: "skipped", ..Done::ok(effect, format!("the host did not compact: {error}"), detail) }
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

    async fn settle(&self, claim: &Claim, intent: &Intent, compacted: Compacted, how: &str) -> Result<Done> {
        let job = &claim.job;
        // The host's own record of the compaction belongs into the archive as well.
        self.reducer.archiver.capture(job).await?;
        self.reducer.indexer.catch_up(Some(&job.session)).await?.whole()?;
        let before = compacted.tokens_before.or(intent.used_tokens);
        // A host that cannot say yet says it with the next model call, and the ledger takes it from there.
        let after = compacted.tokens_after;
        let effect = Effect::Pruned { tokens_before: before, tokens_after: after, permit: intent.permit.clone() };
        let detail = serde_json::json!({ "tokens_before": before, "tokens_after": after, "permit": intent.permit });
        let figures = match (before, after) {
            (Some(before), Some(after)) => format!(" from {before} to {after} tokens"),
            _ => String::new(),
        };
        Ok(Done::ok(effect, format!("{how}{figures}"), detail))
    }
}
