//! Takes readings from the host, records them, and opens captures for what they say is new.
//!
//! The other eyes are the bridge's events ([`crate::bridge`]): they say what a reading cannot, and are never kept waiting by a
//! host that does not answer.

use super::policy;
use crate::archive::capture::Captures;
use crate::domain::{SessionKey, SessionRef, UsageReading};
use crate::error::{Error, Result};
use crate::port::{AlertKey, Clock, Ledger, SessionHost, Severity};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use std::sync::Arc;

/// Failed looks at the host in a row before somebody is told: a restart of the gateway takes some seconds.
const PATIENCE: u32 = 3;

pub struct Watcher {
    host: Arc<dyn SessionHost>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    captures: Captures,
    seen: HashMap<SessionKey, UsageReading>,
    captured: HashMap<SessionKey, Mark>,
    /// What was known from before this process was looked after.
    begun: bool,
    failures: u32,
    /// The wall clock before the steady one, when last looked at.
    ahead: Option<TimeDelta>,
}

/// What a session looked like when its last capture was opened.
#[derive(Clone, PartialEq)]
struct Mark {
    session_id: String,
    generation: Option<String>,
    used_tokens: Option<u64>,
    last_activity: Option<DateTime<Utc>>,
}

/// What a look changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Readings that differ from the last ones.
    pub changed: usize,
    /// Captures opened.
    pub captures: usize,
    /// Jobs that waited for the end of a turn and need not wait any longer.
    pub hurried: u64,
}

impl Watcher {
    pub fn new(host: Arc<dyn SessionHost>, ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>, captures: Captures) -> Self {
        let (seen, captured) = (HashMap::new(), HashMap::new());
        Self { host, ledger, clock, captures, seen, captured, begun: false, failures: 0, ahead: None }
    }

    /// Looks at the host: what it has pushed, or with `poll` its full list. A host that did not answer the last time is asked for
    /// the list at every ring: it may be back.
    pub async fn look(&mut self, poll: bool) -> Result<Looked> {
        let refresh = poll || self.failures > 0;
        let readings = if refresh { self.host.refresh().await } else { self.host.readings().await };
        let shown = readings.as_ref().map(Vec::as_slice).unwrap_or_default();
        let mut looked = Looked { captures: self.capture_unshown(shown).await?, ..Looked::default() };
        let readings = match readings {
            Ok(readings) => readings,
            Err(error) if poll => return self.unreachable(error).await,
            Err(error) => return Err(error),
        };
        if refresh {
            self.mind_the_clock();
            self.reachable().await?;
        }
        let (mut observed, mut changed) = (Vec::new(), Vec::new());
        for reading in readings {
            let is_news = policy::is_news(self.seen.get(&reading.session.key), &reading);
            if is_news {
                looked.captures += usize::from(self.capture_left_behind(&reading.session).await?);
                changed.push(reading.clone());
            }
            // What a full list says again still holds: that must not grow stale.
            if is_news || refresh {
                observed.push(reading);
            }
        }
        if observed.is_empty() {
            return Ok(looked);
        }
        // In one transaction: a full list of a thousand quiet sessions is one write to the disk.
        self.ledger.observe(&observed).await?;
        for reading in &changed {
            looked.captures += usize::from(self.capture_if_new(reading).await?);
            if !reading.running {
                looked.hurried += self.ledger.hurry_waiting(&reading.session.key).await?;
            }
        }
        looked.changed = changed.len();
        self.seen.extend(observed.into_iter().map(|reading| (reading.session.key.clone(), reading)));
        Ok(looked)
    }

    /// Once per process: sessions Moon knows and the host does not show, because it is away or keeps them out of its list. Their
    /// transcripts may have grown while nobody watched, and may still be there to be read.
    async fn capture_unshown(&mut self, shown: &[UsageReading]) -> Result<usize> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(0);
        }
        let mut captures = 0;
        for row in self.ledger.sessions().await? {
            let session = &row.reading.session;
            let of_this_host = row.reading.provider == self.host.name();
            if of_this_host && !shown.iter().any(|reading| reading.session.key == session.key) {
                let why = "known from before, and not shown by the host now";
                captures += usize::from(self.captures.open(session, why, None).await?);
            }
        }
        Ok(captures)
    }

    /// A session that has another transcript now may have left unarchived records in the one before. Before the new one is
    /// recorded, so that a crash in between forgets nothing.
    async fn capture_left_behind(&self, now: &SessionRef) -> Result<bool> {
        match self.ledger.session(&now.key).await? {
            Some(row) if row.reading.session != *now => {
                self.captures.open(&row.reading.session, "the session went on with another transcript", None).await
            }
            _ => Ok(false),
        }
    }

    async fn capture_if_new(&mut self, reading: &UsageReading) -> Result<bool> {
        let mark = Mark {
            session_id: reading.session.session_id.clone(),
            generation: reading.generation.clone(),
            used_tokens: reading.used_tokens,
            last_activity: reading.last_activity,
        };
        let key = &reading.session.key;
        // A running turn is captured when it ends; what it has written so far is in nobody's way.
        if reading.running || self.captured.get(key) == Some(&mark) {
            return Ok(false);
        }
        let opened = self.captures.open(&reading.session, "there may be new records", None).await?;
        self.captured.insert(key.clone(), mark);
        Ok(opened)
    }

    async fn unreachable(&mut self, error: Error) -> Result<Looked> {
        self.failures += 1;
        tracing::debug!(code = error.code, failures = self.failures, "the session host does not answer: {error}");
        if self.failures >= PATIENCE {
            let key = self.unreachable_key();
            let message = format!("the session host cannot be watched: {error}");
            self.ledger.raise(&key, Severity::Critical, &message, error.hint.as_deref()).await?;
        }
        Err(error)
    }

    async fn reachable(&mut self) -> Result<()> {
        if self.failures > 0 {
            self.failures = 0;
            // Whatever waited for the host may go on now.
            self.ledger.hurry().await?;
        }
        // Of any host: one that is not watched any more has nobody else to end its alert.
        let rule = self.unreachable_key().rule;
        for alert in self.ledger.alerts(true).await?.into_iter().filter(|alert| alert.key.rule == rule) {
            self.ledger.resolve(&alert.key).await?;
        }
        Ok(())
    }

    fn unreachable_key(&self) -> AlertKey {
        AlertKey::new("host.unreachable", self.host.name())
    }

    /// Says once when the wall clock was set back. Nothing depends on it: cooldowns run on the steady clock.
    fn mind_the_clock(&mut self) {
        let ahead = self.clock.now() - self.clock.steady();
        if let Some(back) = self.ahead.and_then(|before| policy::set_back(before, ahead)) {
            tracing::warn!(
                seconds = back.num_seconds(),
                "the clock was set back; cooldowns and pauses go on as they were"
            );
        }
        self.ahead = Some(ahead);
    }
}
