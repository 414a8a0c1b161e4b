//! Puts archived segments into the search index and confirms by lookup that they are there.
//!
//! The index is a projection: when it is damaged it is moved aside and filled again from the archive, by this stage, without
//! asking anybody. A segment counts as indexed only after the index has answered that it holds it.

use crate::archive::engine::Archiver;
use crate::archive::transcript;
use crate::contract::count;
use crate::distill::redact;
use crate::domain::{Claim, Segment, SessionKey, Stage};
use crate::error::{Error, Result};
use crate::port::{ArchiveStore, AuditEntry, Effect, IndexDoc, Ledger, Probe, SearchIndex, SegmentName};
use crate::stage::{Done, Engine};
use async_trait::async_trait;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// The index says that its own file cannot be used.
pub const CORRUPT: &str = "index.corrupt";

/// Segments taken from the ledger at a time.
const BATCH: usize = 64;

#[derive(Clone)]
pub struct Indexer {
    pub store: Arc<dyn ArchiveStore>,
    pub index: Arc<dyn SearchIndex>,
    pub ledger: Arc<dyn Ledger>,
    pub probe: Arc<dyn Probe>,
}

impl Indexer {
    /// Indexes everything of a session (or of all) that is not indexed. Returns how many segments that were.
    pub async fn catch_up(&self, session: Option<&SessionKey>) -> Result<u64> {
        let mut done = 0;
        loop {
            let batch = self.ledger.unindexed(session, BATCH).await?;
            if batch.is_empty() {
                return Ok(done);
            }
            for segment in &batch {
                self.put(segment).await?;
                self.probe.reach("index.put").await;
                self.ledger.mark_indexed(&[segment.id]).await?;
                done += 1;
            }
        }
    }

    async fn put(&self, segment: &Segment) -> Result<()> {
        let name = SegmentName::from(&segment.manifest);
        // The decoded bytes are gone before the index takes the turns: a large segment is in memory once.
        let mut turns = transcript::turns(&self.store.read(segment).await?);
        // The archive keeps every byte; what is found and goes back to a model holds no credentials.
        for turn in &mut turns {
            if let Cow::Owned(redacted) = redact(&turn.text) {
                turn.text = redacted;
            }
        }
        self.index.put(IndexDoc { name: name.clone(), turns }).await?;
        if self.index.contains(&name).await? {
            return Ok(());
        }
        Err(Error::data(CORRUPT, format!("the {} index took a segment but does not hold it", self.index.name())))
    }

    /// Starts the index from nothing and fills it again.
    pub async fn rebuild(&self, why: &str) -> Result<u64> {
        self.index.clear().await?;
        self.ledger.forget_indexed().await?;
        let entry = AuditEntry::new("index", "rebuilding", "info", why);
        self.ledger.audit(&entry).await?;
        self.catch_up(None).await
    }

    /// Compares the index with the ledger, and puts back what it lacks: one that was deleted, replaced or cut by a power failure
    /// while Moon was down holds everything again. Returns how many segments that were.
    pub async fn reconcile(&self) -> Result<u64> {
        let mut indexed = self.ledger.all_segments().await?;
        indexed.retain(|segment| segment.indexed_at.is_some());
        let names: Vec<SegmentName> = indexed.iter().map(|s| SegmentName::from(&s.manifest)).collect();
        let missing: HashSet<SegmentName> = match self.index.missing(&names).await {
            Err(error) if error.code == CORRUPT => return self.rebuild("the index was damaged").await,
            missing => missing?.into_iter().collect(),
        };
        for segment in indexed.iter().filter(|s| missing.contains(&SegmentName::from(&s.manifest))) {
            self.put(segment).await?;
        }
        if !missing.is_empty() {
            let lacked = count(missing.len(), "segment");
            let message = format!("the index lacked {lacked} that the ledger says it holds");
            self.ledger.audit(&AuditEntry::new("index", "reconciled", "ok", message)).await?;
        }
        Ok(missing.len() as u64)
    }

    /// Whether these segments are in the index now, asked of the index itself.
    pub async fn holds(&self, segments: &[Segment]) -> Result<bool> {
        let names: Vec<SegmentName> = segments.iter().map(|s| SegmentName::from(&s.manifest)).collect();
        Ok(self.index.missing(&names).await?.is_empty())
    }
}

/// The second stage of every cycle.
pub struct IndexStage {
    pub indexer: Indexer,
    /// For the readable copies: the other projection of the archive.
    pub archiver: Archiver,
}

#[async_trait]
impl Engine for IndexStage {
    fn stage(&self) -> Stage {
        Stage::Index
    }

    async fn prepare(&self) -> Result<()> {
        self.indexer.reconcile().await?;
        self.archiver.restore_projections().await.map(drop)
    }

    async fn run(&self, claim: &Claim) -> Result<Done> {
        let session = &claim.job.session;
        let indexed = match self.catch_up(session).await {
            Err(error) if error.code == CORRUPT => {
                tracing::warn!(code = error.code, "rebuilding the index: {error}");
                self.indexer.rebuild("the index was damaged").await?
            }
            indexed => indexed?,
        };
        let detail = serde_json::json!({ "segments": indexed, "backend": self.indexer.index.name() });
        let message = format!("{} made searchable and looked up", count(indexed, "segment"));
        Ok(Done::ok(Effect::Indexed { segments: vec![] }, message, detail))
    }

    async fn rest(&self) -> Result<()> {
        self.restore_if_lacking().await.map(drop)
    }
}

impl IndexStage {
    /// Catches up with a session; and with everything if the index was deleted or replaced under us, which its count shows.
    async fn catch_up(&self, session: &SessionKey) -> Result<u64> {
        Ok(self.indexer.catch_up(Some(session)).await? + self.restore_if_lacking().await?)
    }

    /// Compares only when the number of segments shows that some are missing.
    async fn restore_if_lacking(&self) -> Result<u64> {
        let indexer = &self.indexer;
        let totals = indexer.ledger.totals().await?;
        let expected = u64::try_from(totals.segments - totals.unindexed).unwrap_or(0);
        match indexer.index.status().await {
            Ok(status) if status.segments >= expected => Ok(0),
            Err(error) if error.code != CORRUPT => Err(error),
            _ => indexer.reconcile().await,
        }
    }
}
