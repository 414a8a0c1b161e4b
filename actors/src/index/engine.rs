//! Puts archived segments into the search index and confirms by lookup that they are there.
//!
//! The index is a projection: when it is damaged it is moved aside and filled again from the archive, by this stage, without
//! asking anybody. A segment counts as indexed only after the index has answered that it holds it.

use crate::archive::transcript;
use crate::domain::{Claim, Segment, SessionKey, Sha256, Stage};
use crate::error::{Error, Result};
use crate::port::{ArchiveStore, AuditEntry, Effect, IndexDoc, Ledger, Probe, SearchIndex};
use crate::stage::{Done, Engine};
use async_trait::async_trait;
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
        let m = &segment.manifest;
        let name = IndexDoc {
            segment: m.sha256.clone(),
            session: m.session_key.clone(),
            session_id: m.session_id.clone(),
            epoch: m.epoch,
            ordinal: m.ordinal,
            turns: vec![],
        };
        // The decoded bytes are gone before the index takes the turns: a large segment is in memory once.
        let turns = transcript::turns(&self.store.read(segment).await?);
        self.index.put(IndexDoc { turns, ..name.clone() }).await?;
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

    /// Whether these segments are in the index now, asked of the index itself.
    pub async fn holds(&self, segments: &[Sha256]) -> Result<bool> {
        Ok(self.index.missing(segments).await?.is_empty())
    }
}

/// The second stage of every cycle.
pub struct IndexStage {
    pub indexer: Indexer,
}

#[async_trait]
impl Engine for IndexStage {
    fn stage(&self) -> Stage {
        Stage::Index
    }

    /// Compares the index with the ledger: an index that was deleted or replaced while Moon was down is filled again.
    async fn prepare(&self) -> Result<()> {
        self.indexer.repair().await.map(drop)
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
        let message = format!("{indexed} segments made searchable and looked up");
        Ok(Done::ok(Effect::Indexed { segments: vec![] }, message, detail))
    }
}

impl IndexStage {
    /// Catches up with a session; and with everything if the index was deleted or replaced under us, which its count shows.
    async fn catch_up(&self, session: &SessionKey) -> Result<u64> {
        let indexer = &self.indexer;
        let indexed = indexer.catch_up(Some(session)).await?;
        let totals = indexer.ledger.totals().await?;
        let expected = u64::try_from(totals.segments - totals.unindexed).unwrap_or(0);
        if indexer.index.status().await?.segments >= expected {
            return Ok(indexed);
        }
        Ok(indexed + indexer.repair().await?)
    }
}

impl Indexer {
    /// Fills the index again if it lacks anything the ledger says it holds. Returns how many segments that were.
    async fn repair(&self) -> Result<u64> {
        let indexer = self;
        let indexed: Vec<Sha256> = indexer
            .ledger
            .all_segments()
            .await?
            .into_iter()
            .filter(|s| s.indexed_at.is_some())
            .map(|s| s.manifest.sha256)
            .collect();
        let complete = match indexer.holds(&indexed).await {
            Err(error) if error.code == CORRUPT => false,
            holds => holds?,
        };
        if complete {
            return Ok(0);
        }
        tracing::warn!(
            backend = indexer.index.name(),
            "the index lacks what the ledger says it holds; it is filled again"
        );
        indexer.rebuild("the index does not hold what the ledger says").await
    }
}
