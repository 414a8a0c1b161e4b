//! Puts archived segments into the search index and confirms by lookup that they are there.
//!
//! The index is a projection: when it is damaged it is moved aside and filled again from the archive, by this stage, without
//! asking anybody. A segment counts as indexed only after the index has answered that it holds it.

use crate::archive::engine::Archiver;
use crate::archive::transcript;
use crate::contract::count;
use crate::distill::redact;
use crate::domain::{Claim, Segment, SessionKey, Stage};
use crate::error::{Error, Kind, Result};
use crate::port::{
    AlertKey, ArchiveStore, AuditEntry, Effect, IndexDoc, Ledger, Probe, SearchIndex, SegmentName, Severity,
};
use crate::stage::{Done, Engine};
use async_trait::async_trait;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// The index says that its own file cannot be used.
pub const CORRUPT: &str = "index.corrupt";

/// The alert about an archived object that cannot be read.
const UNREADABLE: &str = "archive.unreadable";

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
    /// Indexes everything of a session (or of all) that is not indexed. A segment that cannot be read holds up no other.
    pub async fn catch_up(&self, session: Option<&SessionKey>) -> Result<Filled> {
        let (mut filled, mut after) = (Filled::default(), 0);
        loop {
            let batch = self.ledger.unindexed(session, after, BATCH).await?;
            let Some(last) = batch.last() else { return Ok(filled) };
            after = last.id;
            for segment in &batch {
                match self.put(segment).await {
                    Err(error) if is_of_one_object(&error) => filled.damaged.push((segment.path.clone(), error)),
                    put => {
                        put?;
                        self.probe.reach("index.put").await;
                        self.ledger.mark_indexed(&[segment.id]).await?;
                        filled.segments += 1;
                    }
                }
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
    pub async fn rebuild(&self, why: &str) -> Result<Filled> {
        self.index.clear().await?;
        self.ledger.forget_indexed().await?;
        let entry = AuditEntry::new("index", "rebuilding", "info", why);
        self.ledger.audit(&entry).await?;
        self.catch_up(None).await
    }

    /// Compares the index with the ledger, and puts back what it lacks: one that was deleted, replaced or cut by a power failure
    /// while Moon was down holds everything again. An alert fires for each archived object that cannot be read meanwhile.
    pub async fn reconcile(&self) -> Result<Filled> {
        let mut indexed = self.ledger.all_segments().await?;
        indexed.retain(|segment| segment.indexed_at.is_some());
        let names: Vec<SegmentName> = indexed.iter().map(|s| SegmentName::from(&s.manifest)).collect();
        let missing: HashSet<SegmentName> = match self.index.missing(&names).await {
            Err(error) if error.code == CORRUPT => return self.rebuild("the index was damaged").await,
            missing => missing?.into_iter().collect(),
        };
        let mut done = Filled::default();
        for segment in indexed.iter().filter(|s| missing.contains(&SegmentName::from(&s.manifest))) {
            match self.put(segment).await {
                Err(error) if is_of_one_object(&error) => done.damaged.push((segment.path.clone(), error)),
                put => {
                    put?;
                    done.segments += 1;
                }
            }
        }
        if done.segments > 0 {
            let lacked = count(done.segments, "segment");
            let message = format!("the index lacked {lacked} that the ledger says it holds");
            self.ledger.audit(&AuditEntry::new("index", "reconciled", "ok", message)).await?;
        }
        self.tell(&done.damaged).await?;
        Ok(done)
    }

    /// Keeps one alert firing for each object that cannot be read.
    async fn tell(&self, damaged: &[(String, Error)]) -> Result<()> {
        for (path, error) in damaged {
            let message = format!("what {path} holds cannot be searched any more: {error}");
            let hint = "put the file back from a backup; `moon verify` says what else is damaged";
            self.ledger.raise(&AlertKey::new(UNREADABLE, path), Severity::Critical, &message, Some(hint)).await?;
        }
        for alert in self.ledger.alerts(true).await?.into_iter().filter(|alert| alert.key.rule == UNREADABLE) {
            if damaged.iter().all(|(path, _)| *path != alert.key.subject) {
                self.ledger.resolve(&alert.key).await?;
            }
        }
        Ok(())
    }

    /// Whether these segments are in the index now, asked of the index itself.
    pub async fn holds(&self, segments: &[Segment]) -> Result<bool> {
        let names: Vec<SegmentName> = segments.iter().map(|s| SegmentName::from(&s.manifest)).collect();
        Ok(self.index.missing(&names).await?.is_empty())
    }
}

/// What an attempt to fill the index came to.
#[derive(Debug, Default)]
pub struct Filled {
    /// Segments that the index lacked and holds now.
    pub segments: u64,
    /// Objects that cannot be read, relative to the home, and why.
    pub damaged: Vec<(String, Error)>,
}

impl Filled {
    /// How many segments, if none of them is damaged; else the first damage, and how many there are besides.
    pub fn whole(self) -> Result<u64> {
        let more = self.damaged.len().saturating_sub(1);
        match self.damaged.into_iter().next() {
            None => Ok(self.segments),
            Some((_, error)) if more == 0 => Err(error),
            Some((_, error)) => {
                let message = format!("{} (and {} besides)", error.message, count(more, "object"));
                Err(Error { message, ..error })
            }
        }
    }
}

/// Damage of one archived object, not of the index, the disk or the process.
fn is_of_one_object(error: &Error) -> bool {
    error.kind == Kind::Data && error.code != CORRUPT
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
        let reconciled = self.indexer.reconcile().await;
        self.archiver.restore_projections().await?;
        reconciled.map(drop)
    }

    async fn run(&self, claim: &Claim) -> Result<Done> {
        let session = &claim.job.session;
        let indexed = match self.catch_up(session).await {
            Err(error) if error.code == CORRUPT => {
                tracing::warn!(code = error.code, "rebuilding the index: {error}");
                let rebuilt = self.indexer.rebuild("the index was damaged").await?;
                // What is damaged may be another session's: this one's is looked at again.
                rebuilt.segments + self.indexer.catch_up(Some(session)).await?.whole()?
            }
            indexed => indexed?,
        };
        let detail = serde_json::json!({ "segments": indexed, "backend": self.indexer.index.name() });
        let message = match indexed {
            0 => "nothing new; all of it is searchable".to_owned(),
            _ => format!("{} made searchable and looked up", count(indexed, "segment")),
        };
        Ok(Done::ok(Effect::Indexed { segments: vec![] }, message, detail))
    }

    async fn rest(&self) -> Result<()> {
        self.restore_if_lacking().await.map(drop)
    }
}

impl IndexStage {
    /// Catches up with a session; and with everything if the index was deleted or replaced under us, which its count shows.
    async fn catch_up(&self, session: &SessionKey) -> Result<u64> {
        let caught_up = self.indexer.catch_up(Some(session)).await?;
        let restored = self.restore_if_lacking().await?;
        Ok(caught_up.whole()? + restored)
    }

    /// Compares only when the number of segments shows that some are missing.
    async fn restore_if_lacking(&self) -> Result<u64> {
        let indexer = &self.indexer;
        let totals = indexer.ledger.totals().await?;
        let expected = u64::try_from(totals.segments - totals.unindexed).unwrap_or(0);
        match indexer.index.status().await {
            Ok(status) if status.segments >= expected => Ok(0),
            Err(error) if error.code != CORRUPT => Err(error),
            _ => indexer.reconcile().await.map(|done| done.segments),
        }
    }
}
