//! Copies what is new of a transcript into the archive, byte for byte, and proves it.
//!
//! A read begins *at* the last archived record, not after it: seeing the same bytes there is the proof that the host has only
//! appended. If not, a new series begins and the old one is kept. Nothing is parsed on the way into the archive; parsing is for
//! the readable projection and may fail without touching the copy.

use super::capture::Captures;
use super::{projection, transcript};
use crate::contract::count;
use crate::domain::{
    Claim, CycleKind, Job, Page, Record, Segment, Series, SessionKey, SessionRef, Sha256, Stage, Turn,
};
use crate::error::{Error, Kind, Result};
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
    pub proven: Proven,
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

/// Series whose archived part was compared with the host in this life, with the host's revision then. Clones share it.
#[derive(Clone, Default)]
pub struct Proven {
    revisions: Arc<std::sync::Mutex<HashMap<i64, u64>>>,
}

impl Proven {
    fn add(&self, series: &Series, revision: u64) {
        self.lock().insert(series.id, revision);
    }
    /// Notes the revision that was read now, if all before it is proven.
    fn extend(&self, series: &Series, revision: u64) {
        let mut proven = self.lock();
        if series.records == 0 || proven.contains_key(&series.id) {
            proven.insert(series.id, revision);
        }
    }
    /// Whether the archived part has to be compared before anything is added: not done in this life yet, or the host has
    /// noticed a change since.
    fn is_due(&self, series: &Series, page: &Page) -> bool {
        match self.lock().get(&series.id) {
            Some(revision) => *revision != page.revision,
            None => !page.records.is_empty(),
        }
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i64, u64>> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Records that are not what they should be: kept as they are, shown as plain text. How many, and the first of them.
    pub damaged: u64,
    pub first_damaged: Option<i64>,
    /// Why it ended before everything was archived.
    pub stopped: Option<Error>,
}

impl Archiver {
    /// Archives every record that is not archived yet. Idempotent: an unchanged session adds nothing.
    pub async fn capture(&self, job: &Job) -> Result<Captured> {
        let mut captured = self.gather(job).await?;
        captured.stopped.take().map_or(Ok(captured), Err)
    }

    /// The same, as far as it goes: what stopped it after something was archived is said in the answer.
    async fn gather(&self, job: &Job) -> Result<Captured> {
        let _turn = self.turns.take(&job.session).await;
        let session = SessionRef { key: job.session.clone(), session_id: job.session_id.clone() };
        let series = self.ledger.series(&session).await?;
        let begun_with = series.bytes;
        let mut captured = Captured {
            series,
            segments: 0,
            records: 0,
            bytes: 0,
            torn_bytes: 0,
            damaged: 0,
            first_damaged: None,
            stopped: None,
        };
        loop {
            match self.advance(job, &session, &mut captured).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if captured.segments == 0 => return Err(error),
                Err(error) => {
                    captured.stopped = Some(error);
                    break;
                }
            }
        }
        captured.bytes = (captured.series.bytes - begun_with).max(0) as u64;
        Ok(captured)
    }

    /// Archives one page. False when there is nothing behind it.
    async fn advance(&self, job: &Job, session: &SessionRef, captured: &mut Captured) -> Result<bool> {
        let (series, limit) = (&captured.series, self.settings.segment_bytes as usize);
        let page = self.host.records(session, series.last_seq.max(0), limit).await?;
        let fresh = match self.continues(job, series, page).await? {
            // The archived record filled the page by itself: what follows it needs a page of its own.
            Some(page) if page.records.is_empty() && page.more => {
                self.host.records(session, series.last_seq + 1, limit).await?
            }
            Some(page) => page,
            None => {
                let why = "records that were archived differ at the host now";
                captured.series = self.ledger.supersede(series, why).await?;
                let epoch = captured.series.epoch;
                tracing::warn!(session = %session.key, epoch, "the host changed archived records; keeping both versions");
                return Ok(true);
            }
        };
        let more = fresh.more;
        captured.torn_bytes = fresh.torn_bytes;
        if !fresh.records.is_empty() {
            self.proven.extend(series, fresh.revision);
            let records = fresh.records.len() as u64;
            self.store_segment(job, captured, fresh).await?;
            captured.records += records;
            captured.segments += 1;
        }
        Ok(more)
    }

    /// The page without what is archived already, or `None` when the source is not the one that was archived.
    async fn continues(&self, job: &Job, series: &Series, mut page: Page) -> Result<Option<Page>> {
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
        // The last record alone proves nothing when something before it was rewritten, by a host that says so or by somebody
        // while Moon was not looking.
        let is_rewritten = before.is_some_and(|generation| generation != page.source.generation);
        // A compaction that waits cannot wait for a comparison of everything; the next capture makes it.
        let may_wait = job.ack.is_some();
        if is_rewritten || (self.proven.is_due(series, &page) && !may_wait) {
            match self.same_prefix(series).await {
                Ok(true) => self.proven.add(series, page.revision),
                Ok(false) => return Ok(None),
                // A file of the archive's own is damaged, and the host says nothing of a change: what is new must be archived
                // all the same. Nothing is reduced meanwhile, because a permit reads every file.
                Err(error) if !is_rewritten && error.kind == Kind::Data => {
                    tracing::warn!(session = %series.session, code = error.code, "could not compare what is archived with the host: {error}");
                    self.proven.add(series, page.revision);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(page))
    }

    async fn store_segment(&self, job: &Job, captured: &mut Captured, page: Page) -> Result<()> {
        let series = captured.series.clone();
        let tail = self.ledger.tail(series.id).await?;
        // Before the records are given away: a segment is in memory once.
        let readable = readable(&series, &page.records);
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
        let projected = self.project(&series, &readable.text).await;
        self.probe.reach("archive.projected").await;
        captured.series = self.ledger.add_segment(&series, &stored, projected, job).await?;
        captured.damaged += readable.damaged;
        captured.first_damaged = captured.first_damaged.or(readable.first_damaged);
        Ok(())
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
            let readable = markdown(&self.store.read(&segment).await?);
            length = self.store.project(series, length, &readable.text).await?;
        }
        self.ledger.set_projected(series.id, length).await?;
        Ok(length)
    }

    /// Writes the projections anew that somebody removed or cut. Returns how many. One that cannot be written holds up no other.
    pub async fn restore_projections(&self) -> Result<u64> {
        let (mut restored, mut failed) = (0, None);
        for series in self.ledger.all_series(None).await? {
            if series.records == 0 || self.store.is_projected(&series).await? {
                continue;
            }
            match self.rebuild_projection(&series).await {
                Ok(_) => restored += 1,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(restored), Err)
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

/// Records as people read them, and what of them could only be shown as it is.
#[derive(Default)]
struct Readable {
    text: String,
    damaged: u64,
    first_damaged: Option<i64>,
}

/// What the projection of a series gains by these records.
fn readable(series: &Series, records: &[Record]) -> Readable {
    if series.projection_bytes < 0 {
        return Readable::default();
    }
    let mut readable = markdown(records);
    if series.last_seq < 0 {
        readable.text.insert_str(0, &projection::header(series));
    }
    readable
}

fn markdown(records: &[Record]) -> Readable {
    let mut readable = Readable::default();
    for batch in records.chunks(BATCH) {
        let turns = transcript::turns(batch);
        readable.text.push_str(&projection::markdown(&turns));
        for turn in turns.iter().filter(|turn| turn.speaker == transcript::DAMAGED) {
            readable.damaged += 1;
            readable.first_damaged.get_or_insert(turn.seq);
        }
    }
    readable
}

/// The first stage of every cycle.
pub struct ArchiveStage {
    pub archiver: Archiver,
    pub bridge: Arc<dyn Bridge>,
    pub captures: Captures,
}

#[async_trait]
impl Engine for ArchiveStage {
    fn stage(&self) -> Stage {
        Stage::Archive
    }

    async fn run(&self, claim: &Claim) -> Result<Done> {
        let captured = match self.archiver.gather(&claim.job).await {
            Err(error) if is_gone(&error) => return Ok(self.gone(claim, &error).await),
            captured => captured?,
        };
        if let Some(error) = &captured.stopped {
            return self.interrupted(claim, &captured, error).await;
        }
        // Before the readable copy: a compaction waits for the archive alone.
        self.acknowledge(claim).await?;
        let series = &captured.series;
        if series.projection_bytes < 0
            && let Err(error) = self.archiver.rebuild_projection(series).await
        {
            tracing::warn!(session = %series.session, code = error.code, "could not rebuild the projection: {error}");
        }
        if captured.torn_bytes > 0 {
            tracing::warn!(session = %series.session, bytes = captured.torn_bytes, "the transcript ends in an unfinished record; it is archived once it is complete");
        }
        if captured.damaged > 0 {
            let (damaged, first) = (captured.damaged, captured.first_damaged);
            tracing::warn!(session = %series.session, damaged, first, "records are damaged: they are archived as they are and shown as plain text");
        }
        let detail = detail(&captured);
        if captured.records > 0 {
            let message =
                format!("{} archived and verified, {} in all", count(captured.records, "new record"), series.records);
            return Ok(Done::ok(Effect::None, message, detail));
        }
        let message = format!("nothing new; all {} archived and verified before", count(series.records, "record"));
        let is_findable = self.archiver.ledger.unindexed(Some(&claim.job.session), 0, 1).await?.is_empty();
        if claim.job.kind == CycleKind::Capture && is_findable {
            return Ok(Done::skipped(message).ending_the_cycle());
        }
        Ok(Done::ok(Effect::None, message, detail))
    }
}

/// Figures of a capture for the audit.
fn detail(captured: &Captured) -> serde_json::Value {
    serde_json::json!({
        "segments": captured.segments, "records": captured.records, "bytes": captured.bytes,
        "last_seq": captured.series.last_seq, "epoch": captured.series.epoch, "torn_bytes": captured.torn_bytes,
        "damaged": captured.damaged, "first_damaged": captured.first_damaged,
    })
}

impl ArchiveStage {
    /// A part is archived, the rest cannot be read or written now. The part is made findable by this cycle; the rest is a
    /// capture of its own, which is tried again until it works, and says what is wrong.
    async fn interrupted(&self, claim: &Claim, captured: &Captured, error: &Error) -> Result<Done> {
        let job = &claim.job;
        let session = SessionRef { key: job.session.clone(), session_id: job.session_id.clone() };
        // Whoever waits for this archive waits for all of it.
        self.captures.open(&session, "the rest of an interrupted capture", job.ack.clone()).await?;
        let new = count(captured.records, "new record");
        let message = format!("{new} archived and verified before it stopped: {error}");
        Ok(Done::ok(Effect::None, message, detail(captured)))
    }

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
