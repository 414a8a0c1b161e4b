//! Copies what is new of a transcript into the archive, byte for byte, and proves it.
//!
//! A read begins *at* the last archived record, not after it: seeing the same bytes there is the proof that the host has only
//! appended. If not, a new series begins and the old one is kept. Nothing is parsed on the way into the archive; parsing is for
//! the readable projection and may fail without touching the copy.

use super::{projection, transcript};
use crate::domain::{
    Claim, CycleKind, Job, Page, Record, Segment, Series, SessionKey, SessionRef, Sha256, Stage, Turn,
};
use crate::error::{Error, Result};
use crate::port::{ArchiveStore, Bridge, Clock, Effect, Ledger, Probe, SegmentDraft, SessionHost};
use crate::settings;
use crate::stage::{Done, Engine};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The host does not know the transcript any more; codes of every host end so.
const SESSION_GONE: &str = ".session_gone";

/// Whether this error says that the host has no such transcript any more.
pub(crate) fn is_gone(error: &Error) -> bool {
    error.code.ends_with(SESSION_GONE)
}

/// Everything that archives: the archive stage, and every stage that must be sure before it reduces.
#[derive(Clone)]
pub struct Archiver {
    pub host: Arc<dyn SessionHost>,
    pub store: Arc<dyn ArchiveStore>,
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub probe: Arc<dyn Probe>,
    pub settings: settings::Archive,
    pub turns: Turns,
}

/// One capture of a session at a time: several stages archive, and each reads where the archive ends before it adds to it.
/// Clones share the turns.
#[derive(Clone, Default)]
pub struct Turns {
    sessions: Arc<std::sync::Mutex<HashMap<SessionKey, Arc<Mutex<()>>>>>,
}

impl Turns {
    /// Waits until nobody else captures this session.
    async fn take(&self, session: &SessionKey) -> OwnedMutexGuard<()> {
        let turn = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody holds or awaits what only this map knows.
            sessions.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(sessions.entry(session.clone()).or_default())
        };
        turn.lock_owned().await
    }
}

/// What a capture added.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    pub series: Series,
    pub segments: u64,
    pub records: u64,
    pub bytes: u64,
    /// Bytes after the last complete record, not archived yet.
    pub torn_bytes: u64,
}

impl Archiver {
    /// Archives every record that is not archived yet. Idempotent: an unchanged session adds nothing.
    pub async fn capture(&self, job: &Job) -> Result<Captured> {
        let _turn = self.turns.take(&job.session).await;
        let session = SessionRef { key: job.session.clone(), session_id: job.session_id.clone() };
        let mut series = self.ledger.series(&session).await?;
        let mut captured = Captured { series: series.clone(), segments: 0, records: 0, bytes: 0, torn_bytes: 0 };
        loop {
            let limit = self.settings.segment_bytes as usize;
            let page = self.host.records(&session, series.last_seq.max(0), limit).await?;
            let fresh = match self.continues(&series, page).await? {
                // The archived record filled the page by itself: what follows it needs a page of its own.
                Some(page) if page.records.is_empty() && page.more => {
                    self.host.records(&session, series.last_seq + 1, limit).await?
                }
                Some(page) => page,
                None => {
                    series =
                        self.ledger.supersede(&series, "records that were archived differ at the host now").await?;
                    tracing::warn!(session = %session.key, epoch = series.epoch, "the host changed archived records; keeping both versions");
                    continue;
                }
            };
            let more = fresh.more;
            captured.torn_bytes = fresh.torn_bytes;
            if !fresh.records.is_empty() {
                captured.records += fresh.records.len() as u64;
                captured.segments += 1;
                series = self.store_segment(job, &series, fresh).await?;
            }
            if !more {
                break;
            }
        }
        captured.bytes = (series.bytes - captured.series.bytes).max(0) as u64;
        captured.series = series;
        Ok(captured)
    }

    /// The page without what is archived already, or `None` when the source is not the one that was archived.
    async fn continues(&self, series: &Series, mut page: Page) -> Result<Option<Page>> {
        let Some(last) = &series.last_record else { return Ok(Some(page)) };
        match page.records.first() {
            Some(first) if first.seq == series.last_seq && Sha256::of(&first.bytes) == *last => {
                page.records.remove(0);
            }
            Some(_) => return Ok(None),
            // Shorter than what is archived, or trimmed and counted anew: what is there now becomes a series of its own.
            None => {
                let session = SessionRef { key: series.session.clone(), session_id: series.session_id.clone() };
                let from_start = self.host.records(&session, 0, 1).await?;
                return Ok(from_start.records.is_empty().then_some(page));
            }
        }
        let before = self.ledger.tail(series.id).await?.map(|tail| tail.manifest.source.generation);
        // The host says that it rewrote something: the last record alone proves nothing then.
        if before.is_some_and(|generation| generation != page.source.generation) && !self.same_prefix(series).await? {
            return Ok(None);
        }
        Ok(Some(page))
    }

    async fn store_segment(&self, job: &Job, series: &Series, page: Page) -> Result<Series> {
        let tail = self.ledger.tail(series.id).await?;
        // Before the records are given away: a segment is in memory once.
        let readable = readable(series, &page.records);
        let draft = SegmentDraft {
            session_key: series.session.clone(),
            session_id: series.session_id.clone(),
            epoch: series.epoch,
            ordinal: tail.as_ref().map_or(0, |t| t.manifest.ordinal + 1),
            previous: tail.map(|t| t.manifest_sha256),
            records: page.records,
            source: page.source,
            archived_at: self.clock.now(),
        };
        let stored = self.store.put(draft).await?;
        self.probe.reach("archive.stored").await;
        let projected = self.project(series, &readable).await;
        self.probe.reach("archive.projected").await;
        self.ledger.add_segment(series, &stored, projected, job).await
    }

    /// Appends to the readable projection. It may fail: it is rebuilt from the archive, and -1 says that it must be.
    async fn project(&self, series: &Series, text: &str) -> i64 {
        if series.projection_bytes < 0 {
            return -1;
        }
        match self.store.project(series, series.projection_bytes, text).await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(session = %series.session, code = error.code, "the readable projection will be rebuilt: {error}");
                -1
            }
        }
    }

    /// Writes the whole projection of a series anew from its archived segments.
    pub async fn rebuild_projection(&self, series: &Series) -> Result<i64> {
        let _turn = self.turns.take(&series.session).await;
        let mut length = self.store.project(series, 0, &projection::header(series)).await?;
        for segment in self.ledger.segments(series.id).await? {
            let text = markdown(&self.store.read(&segment).await?);
            length = self.store.project(series, length, &text).await?;
        }
        self.ledger.set_projected(series.id, length).await?;
        Ok(length)
    }

    /// Writes the projections anew that somebody removed or cut. Returns how many.
    pub async fn restore_projections(&self) -> Result<u64> {
        let mut restored = 0;
        for series in self.ledger.all_series(None).await? {
            if series.records > 0 && !self.store.is_projected(&series).await? {
                self.rebuild_projection(&series).await?;
                restored += 1;
            }
        }
        Ok(restored)
    }

    async fn same_prefix(&self, series: &Series) -> Result<bool> {
        match super::coverage::compare_prefix(self, series).await {
            Ok(()) => Ok(true),
            Err(error) if error.code == super::coverage::DIFFERS => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The turns of a series after `after_seq`, with the segment each stands in, in slices of at most about `max_bytes`.
    /// Returns the turns and the last sequence number they cover.
    pub async fn turns_after(
        &self,
        segments: &[Segment],
        after_seq: i64,
        max_bytes: u64,
    ) -> Result<(Vec<(Sha256, Turn)>, i64)> {
        let (mut turns, mut bytes, mut covered) = (Vec::new(), 0, after_seq);
        for segment in segments.iter().filter(|s| s.manifest.last_seq > after_seq) {
            if bytes > 0 && bytes + segment.manifest.bytes > max_bytes {
                break;
            }
            bytes += segment.manifest.bytes;
            let records: Vec<Record> =
                self.store.read(segment).await?.into_iter().filter(|r| r.seq > after_seq).collect();
            turns.extend(transcript::turns(&records).into_iter().map(|t| (segment.manifest.sha256.clone(), t)));
            covered = segment.manifest.last_seq;
        }
        Ok((turns, covered))
    }
}

/// Records read into turns at a time.
const BATCH: usize = 64;

/// What the projection of a series gains by these records.
fn readable(series: &Series, records: &[Record]) -> String {
    if series.projection_bytes < 0 {
        return String::new();
    }
    let header = if series.last_seq < 0 { projection::header(series) } else { String::new() };
    header + &markdown(records)
}

fn markdown(records: &[Record]) -> String {
    records.chunks(BATCH).map(|batch| projection::markdown(&transcript::turns(batch))).collect()
}

/// The first stage of every cycle.
pub struct ArchiveStage {
    pub archiver: Archiver,
    pub bridge: Arc<dyn Bridge>,
}

#[async_trait]
impl Engine for ArchiveStage {
    fn stage(&self) -> Stage {
        Stage::Archive
    }

    async fn run(&self, claim: &Claim) -> Result<Done> {
        let captured = match self.archiver.capture(&claim.job).await {
            Err(error) if is_gone(&error) => return Ok(self.gone(claim, &error).await),
            captured => captured?,
        };
        let series = &captured.series;
        if series.projection_bytes < 0
            && let Err(error) = self.archiver.rebuild_projection(series).await
        {
            tracing::warn!(session = %series.session, code = error.code, "could not rebuild the projection: {error}");
        }
        if captured.torn_bytes > 0 {
            tracing::warn!(session = %series.session, bytes = captured.torn_bytes, "the transcript ends in an unfinished record; it is archived once it is complete");
        }
        self.acknowledge(claim).await?;
        let detail = serde_json::json!({
            "segments": captured.segments, "records": captured.records, "bytes": captured.bytes,
            "last_seq": series.last_seq, "epoch": series.epoch, "torn_bytes": captured.torn_bytes,
        });
        if captured.records > 0 {
            let message = format!("{} new records archived and verified, {} in all", captured.records, series.records);
            return Ok(Done::ok(Effect::None, message, detail));
        }
        let message = format!("nothing new; {} records are archived", series.records);
        let is_findable = self.archiver.ledger.unindexed(Some(&claim.job.session), 1).await?.is_empty();
        if claim.job.kind == CycleKind::Capture && is_findable {
            return Ok(Done::skipped(message).ending_the_cycle());
        }
        Ok(Done::ok(Effect::None, message, detail))
    }
}

impl ArchiveStage {
    /// Lets every compaction that waited for this archive go on.
    async fn acknowledge(&self, claim: &Claim) -> Result<()> {
        for id in claim.job.ack.iter().flat_map(|ids| ids.split(',')) {
            self.bridge.acknowledge(id).await?;
        }
        Ok(())
    }

    async fn gone(&self, claim: &Claim, error: &Error) -> Done {
        if let Err(error) = self.acknowledge(claim).await {
            tracing::warn!(code = error.code, "could not acknowledge to the bridge: {error}");
        }
        Done::skipped(format!("the host has no such session any more; its archive stays ({error})")).ending_the_cycle()
    }
}
