//! Builds the map, puts it in place, and only then gives the old window up.
//!
//! Order: map file, context block in the bridge (read back), permit, intent, rollover, archive of the host's own rollover record,
//! link in the ledger. Whether the block really arrives in a model call is watched afterwards, by the bridge engine.

use super::map::{self, MapInput};
use crate::archive::transcript;
use crate::domain::{Claim, ContinuityMap, Distillate, Job, Segment, Series, SessionRef, Sha256, Stage};
use crate::error::{Error, Result};
use crate::port::{ContinuityRow, Effect, MapFile, MemoryStore, Slot};
use crate::prune::engine::{Intent, Reducer, busy, has_moved_on, is_definite, moved_on};
use crate::prune::permit::Permit;
use crate::settings::{Continuity, Mode, Rollover};
use crate::stage::{Done, Engine};
use async_trait::async_trait;
use std::sync::Arc;

/// Objects named in a map.
const REFERENCES: usize = 24;

pub struct ContinuityStage {
    pub reducer: Reducer,
    pub memory: Arc<dyn MemoryStore>,
    pub settings: Continuity,
    pub mode: Mode,
    /// Usage below which nobody needs a new window any more.
    pub needless_below: f64,
}

/// A host's own sign of a rollover in a transcript, and its name.
type Rolled = (&'static str, fn(&[u8]) -> bool);

#[async_trait]
impl Engine for ContinuityStage {
    fn stage(&self) -> Stage {
        Stage::Continuity
    }

    async fn run(&self, claim: &Claim) -> Result<Done> {
        let continued = match self.go_on(claim).await {
            Err(error) if has_moved_on(&error) => Ok(moved_on(&error)),
            continued => continued,
        };
        self.reducer.withdraw_summary(&claim.job, continued).await
    }
}

impl ContinuityStage {
    async fn go_on(&self, claim: &Claim) -> Result<Done> {
        let job = &claim.job;
        let session = SessionRef { key: job.session.clone(), session_id: job.session_id.clone() };
        let (file, mut text) = self.map(claim).await?;
        self.reducer.archiver.probe.reach("continuity.mapped").await;
        let rolled = match self.rolled_earlier(job, &session).await? {
            Some(rolled) => {
                text = self.carried(job, text).await?;
                rolled
            }
            None => {
                if let Some(why) = self.stays(job).await? {
                    return Ok(self.kept(claim, &file, &text, &why));
                }
                self.place(claim, &text).await?;
                self.reducer.archiver.probe.reach("continuity.placed").await;
                match self.roll_over(claim, &session, &text).await {
                    // Somebody else's compaction was a moment earlier: there is nothing left to give up.
                    Err(error) if error.code == "host.nothing_to_compact" => {
                        return Ok(self.kept(claim, &file, &text, &error.message));
                    }
                    rolled => rolled?,
                }
            }
        };
        self.reducer.archiver.probe.reach("continuity.rolled").await;
        // The host's own record of the rollover belongs into the archive as well.
        self.reducer.archiver.capture(job).await?;
        self.reducer.indexer.catch_up(Some(&job.session)).await?.whole()?;
        let (target, rollover) = rolled;
        let row = self.row(claim, &file, Sha256::of(text.as_bytes()), &target, rollover);
        let message = format!("rolled over by {rollover}; the next window begins with the map");
        Ok(Done::ok(Effect::Continued(Box::new(row)), message, self.detail(&file, rollover)))
    }

    /// Ends the stage without a new window: the map is kept, for people and for the next one.
    fn kept(&self, claim: &Claim, file: &MapFile, text: &str, why: &str) -> Done {
        let row = self.row(claim, file, Sha256::of(text.as_bytes()), &claim.job.session_id, "none");
        let message = format!("the map is written; the window stays: {why}");
        Done::ok(Effect::Continued(Box::new(row)), message, self.detail(file, "none"))
    }

    /// Why the window is not given up, if it is not.
    async fn stays(&self, job: &Job) -> Result<Option<String>> {
        if self.mode == Mode::Observe || !self.reducer.archiver.host.reduces() {
            return Ok(Some("it is not Moon's to give up".into()));
        }
        let eased = self.reducer.eased(job, self.needless_below).await?;
        Ok(eased.map(|ratio| format!("usage has fallen to {ratio:.3}")))
    }

    fn rolled(&self) -> Rolled {
        match self.settings.rollover {
            Rollover::Reset => ("reset", transcript::is_reset),
            Rollover::Compact => ("compact", transcript::is_compaction),
        }
    }

    /// Whether an attempt that was cut off had the window given up: the session's transcript now, and how.
    async fn rolled_earlier(&self, job: &Job, session: &SessionRef) -> Result<Option<(String, &'static str)>> {
        let (name, is_it) = self.rolled();
        let Some(after) = Intent::of(job).and_then(|intent| intent.after_seq) else { return Ok(None) };
        if self.reducer.look(session, after, is_it).await?.is_none() {
            return Ok(None);
        }
        let present = self.reducer.reading(job).await?.map(|reading| reading.session.session_id);
        Ok(Some((present.unwrap_or_else(|| session.session_id.clone()), name)))
    }

    /// The map of everything since the last rollover: the file, and the block for the next window.
    async fn map(&self, claim: &Claim) -> Result<(MapFile, String)> {
        let (job, archiver) = (&claim.job, &self.reducer.archiver);
        let rows = archiver.ledger.distillations(&job.session).await?;
        let distillates: Vec<Distillate> =
            rows.iter().filter_map(|row| serde_json::from_value(row.body.clone()).ok()).collect();
        let session = SessionRef { key: job.session.clone(), session_id: job.session_id.clone() };
        let series = archiver.ledger.series(&session).await?;
        let segments = archiver.ledger.segments(series.id).await?;
        // The time of the distillation, not of this attempt: a repeat after a crash writes the same map.
        let now = rows.last().map_or_else(|| archiver.clock.now(), |row| row.at);
        let mut memory_refs: Vec<String> = rows.into_iter().map(|row| row.summary_path).collect();
        memory_refs.retain(|path| !path.is_empty());
        memory_refs.dedup();
        let archive_refs = self.archive_refs(&series, &segments);
        let map: ContinuityMap = map::build(MapInput {
            session_key: &job.session,
            source_session_id: &job.session_id,
            target_session_id: &job.session_id,
            distillates: &distillates,
            archive_refs: &archive_refs,
            daily_memory_refs: &memory_refs,
            now,
        });
        let file = self.memory.write_map(job.cycle.as_str(), &map).await?;
        Ok((file, map::block(&map, self.settings.max_chars)))
    }

    /// The readable copy, then the newest objects: with the manifests they lead to all the others.
    fn archive_refs(&self, series: &Series, segments: &[Segment]) -> Vec<String> {
        let newest = segments.iter().rev().take(REFERENCES).rev();
        std::iter::once(self.reducer.archiver.store.projection_path(series))
            .chain(newest.map(|s| s.path.clone()))
            .collect()
    }

    /// The block that the new window began with. It was in place before the intent was, and one that is made now may name newer
    /// segments. Only where somebody has taken it away meanwhile, this one takes its place.
    async fn carried(&self, job: &Job, text: String) -> Result<String> {
        if let Some(there) = self.reducer.bridge.placed(&job.session, Slot::Context).await? {
            return Ok(there);
        }
        self.reducer.bridge.place(&job.session, Slot::Context, &text).await?;
        Ok(text)
    }

    /// Puts the block where the next model call takes it from, and reads it back.
    async fn place(&self, claim: &Claim, text: &str) -> Result<()> {
        let session = &claim.job.session;
        self.reducer.needs_bridge(&claim.job).await?;
        let block = self.reducer.bridge.place(session, Slot::Context, text).await?;
        let there = self.reducer.bridge.placed(session, Slot::Context).await?;
        if there.is_some_and(|t| Sha256::of(t.as_bytes()) == block) {
            return Ok(());
        }
        Err(Error::transient("continuity.not_placed", format!("the map of {session} did not stay in place")))
    }

    /// Gives the old window up.
    async fn roll_over(&self, claim: &Claim, session: &SessionRef, text: &str) -> Result<(String, &'static str)> {
        self.is_quiet(&claim.job).await?;
        let archiver = &self.reducer.archiver;
        let permit = self.reducer.permit(&claim.job).await?;
        archiver.probe.reach("continuity.permitted").await;
        let intent = Intent::next(&claim.job, &permit);
        self.reducer.intend(claim, &intent).await?;
        archiver.probe.reach("continuity.intended").await;
        match self.act(session, &permit, text).await {
            Ok(target) => Ok((target, self.rolled().0)),
            Err(error) => {
                if is_definite(&error) {
                    self.reducer.intend(claim, &Intent { after_seq: None, ..intent }).await?;
                }
                Err(error)
            }
        }
    }

    /// The act itself, if nothing has been added since the permit. Returns the session's transcript after it.
    async fn act(&self, session: &SessionRef, permit: &Permit, text: &str) -> Result<String> {
        let Reducer { archiver, bridge, .. } = &self.reducer;
        self.reducer.still_holds(session, permit).await?;
        match self.settings.rollover {
            Rollover::Reset => archiver.host.reset(session).await,
            Rollover::Compact => {
                bridge.place(&session.key, Slot::Summary, text).await?;
                archiver.host.compact(session).await.map(|_| session.session_id.clone())
            }
        }
    }

    /// A reset drops a message that arrives in the same moment: it waits until nobody has spoken for a while.
    async fn is_quiet(&self, job: &Job) -> Result<()> {
        let last = self.reducer.reading(job).await?.and_then(|reading| reading.last_activity);
        let age = last.and_then(|at| (self.reducer.archiver.clock.now() - at).to_std().ok());
        match age.filter(|age| *age < self.settings.quiet) {
            Some(age) => Err(busy(format!("{} was active {} s ago", job.session, age.as_secs()))),
            None => Ok(()),
        }
    }

    fn row(&self, claim: &Claim, file: &MapFile, block: Sha256, target: &str, rollover: &str) -> ContinuityRow {
        ContinuityRow {
            cycle: claim.job.cycle.clone(),
            session: claim.job.session.clone(),
            source_session_id: claim.job.session_id.clone(),
            target_session_id: target.to_owned(),
            map_path: file.path.clone(),
            map_sha256: file.sha256.clone(),
            block_sha256: block,
            rollover: rollover.to_owned(),
            at: self.reducer.archiver.clock.now(),
            confirmed_at: None,
        }
    }

    fn detail(&self, file: &MapFile, rollover: &str) -> serde_json::Value {
        serde_json::json!({ "map": file.path, "map_sha256": file.sha256, "rollover": rollover })
    }
}
