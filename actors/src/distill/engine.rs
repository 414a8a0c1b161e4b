//! Distils what is archived and not yet distilled, and appends it to the daily memory: once per stretch of records.
//!
//! The block carries a key made from session, stretch and distiller, so a repeat after a crash finds its own block and adds
//! nothing. Long stretches are distilled in slices; none is skipped.

use super::memory;
use crate::archive::engine::Archiver;
use crate::domain::{Claim, Distillate, Job, Segment, Series, SessionRef, Sha256, Stage, Turn};
use crate::error::{Error, Result};
use crate::port::{DistillInput, DistillationRow, Distiller, Effect, MemoryBlock, MemoryStore};
use crate::stage::{Done, Engine};
use async_trait::async_trait;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Transcript distilled at a time, bytes.
const SLICE_BYTES: u64 = 16 << 20;

pub struct DistillStage {
    pub archiver: Archiver,
    pub memory: Arc<dyn MemoryStore>,
    pub distiller: Arc<dyn Distiller>,
    pub max_items: usize,
}

#[async_trait]
impl Engine for DistillStage {
    fn stage(&self) -> Stage {
        Stage::Distill
    }

    async fn run(&self, claim: &Claim) -> Result<Done> {
        let job = &claim.job;
        let ledger = &self.archiver.ledger;
        let session = SessionRef { key: job.session.clone(), session_id: job.session_id.clone() };
        let series = ledger.series(&session).await?;
        let mut after = ledger.distilled_to(series.id).await?;
        if after >= series.last_seq {
            return Ok(Done::skipped("everything archived is distilled already"));
        }
        let stretch = self.stretch(claim, &series).await?;
        let mut segments = ledger.segments(series.id).await?;
        segments.retain(|s| s.manifest.last_seq <= stretch.to_seq);
        let mut rows: Vec<DistillationRow> = Vec::new();
        while after < stretch.to_seq {
            let (turns, covered) = self.archiver.turns_after(&segments, after, SLICE_BYTES).await?;
            rows.push(self.distil(job, &series, &segments, turns, (after + 1, covered), stretch.day).await?);
            after = covered;
        }
        let detail = serde_json::json!({
            "keys": rows.iter().map(|r| &r.key).collect::<Vec<_>>(),
            "provider": self.distiller.name(),
            "from_seq": rows[0].from_seq,
            "to_seq": after,
            "summary_path": rows[0].summary_path,
        });
        let message = format!("distilled records {} to {after} into {}", rows[0].from_seq, rows[0].summary_path);
        Ok(Done::ok(Effect::Distilled(rows), message, detail))
    }
}

/// How far this job distils and where its blocks go, decided once: an attempt after a crash finds more records in the archive,
/// maybe on another day, and must all the same find the block that is there already.
#[derive(Serialize, Deserialize)]
struct Stretch {
    series: i64,
    to_seq: i64,
    day: NaiveDate,
}

impl DistillStage {
    async fn stretch(&self, claim: &Claim, series: &Series) -> Result<Stretch> {
        let decided = claim.job.intent.clone().and_then(|v| serde_json::from_value::<Stretch>(v).ok());
        if let Some(stretch) = decided.filter(|stretch| stretch.series == series.id) {
            return Ok(stretch);
        }
        let stretch = Stretch { series: series.id, to_seq: series.last_seq, day: self.archiver.clock.today() };
        let value = serde_json::to_value(&stretch).expect("a stretch is plain data");
        if !self.archiver.ledger.intend(claim, &value).await? {
            return Err(Error::conflict("distill.claim_lost", "another worker took this job over"));
        }
        Ok(stretch)
    }

    async fn distil(
        &self,
        job: &Job,
        series: &Series,
        segments: &[Segment],
        turns: Vec<(Sha256, Turn)>,
        (from_seq, to_seq): (i64, i64),
        day: NaiveDate,
    ) -> Result<DistillationRow> {
        let at = self.archiver.clock.now();
        let key = memory::key(&job.session, &job.session_id, series.epoch, from_seq, to_seq, self.distiller.name());
        let spoken = turns.iter().any(|(_, turn)| !turn.text.trim().is_empty());
        let distillate = if spoken {
            let input = DistillInput { session: job.session.clone(), turns, max_items: self.max_items };
            self.distiller.distill(&input).await?
        } else {
            Distillate { provider: self.distiller.name().to_owned(), summary: vec![], items: vec![] }
        };
        self.archiver.probe.reach("distill.distilled").await;
        let summary_path = if distillate.summary.is_empty() && distillate.items.is_empty() {
            // Nothing worth remembering (a reset marker, a compaction record): the stretch is covered, the memory unchanged.
            String::new()
        } else {
            let covers = |s: &&Segment| s.manifest.last_seq >= from_seq && s.manifest.first_seq <= to_seq;
            let paths: Vec<String> = segments.iter().filter(covers).map(|s| s.path.clone()).collect();
            let markdown = memory::markdown(&job.session, &distillate, &paths, at);
            let block = MemoryBlock { day, key: key.clone(), markdown };
            self.memory.append(&block).await?
        };
        self.archiver.probe.reach("distill.remembered").await;
        Ok(DistillationRow {
            key,
            series_id: series.id,
            session: job.session.clone(),
            session_id: job.session_id.clone(),
            cycle: job.cycle.clone(),
            from_seq,
            to_seq,
            provider: distillate.provider.clone(),
            summary_path,
            at,
            body: serde_json::to_value(&distillate).expect("a distillate is plain data"),
        })
    }
}
