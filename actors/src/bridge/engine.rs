//! Deals with the bridge's events: a compaction that waits for the archive, a turn that ended, a map that arrived or did not.
//!
//! Apart from the look at the host, so that a compaction never waits for a host that does not answer. Every event may be seen
//! twice, so whatever follows from one is safe to repeat.

use crate::archive::capture::Captures;
use crate::domain::{SessionKey, SessionRef, UsageReading};
use crate::error::Result;
use crate::port::{AlertKey, Bridge, BridgeEvent, BridgeEventKind, Clock, Ledger, SessionHost, Severity, Slot};
use crate::settings;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;

/// A call this soon after a rollover may have been under way before it.
const UNDER_WAY: TimeDelta = TimeDelta::seconds(2);
/// Rollovers whose arrival is looked after at a time.
const RECENT: usize = 50;

pub struct Inbox {
    pub host: Arc<dyn SessionHost>,
    pub bridge: Arc<dyn Bridge>,
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub captures: Captures,
    pub settings: settings::Continuity,
}

impl Inbox {
    /// Deals with the new events. Returns how many there were.
    pub async fn deal_with_new(&self) -> Result<usize> {
        let mut dealt = 0;
        loop {
            let position = self.ledger.spool_position().await?;
            let (events, next) = self.bridge.events(position).await?;
            for event in &events {
                self.deal(event).await?;
            }
            dealt += events.len();
            if next == position {
                return Ok(dealt);
            }
            // Only now: a crash in between deals with these events again, which changes nothing.
            self.ledger.set_spool_position(next).await?;
        }
    }

    async fn deal(&self, event: &BridgeEvent) -> Result<()> {
        let Some(key) = &event.session else { return Ok(()) };
        match &event.kind {
            BridgeEventKind::BeforeCompaction { id } => {
                self.capture(event, key, "the host is about to compact", Some(id)).await
            }
            BridgeEventKind::AfterCompaction => self.capture(event, key, "the host has compacted", None).await,
            BridgeEventKind::WindowEnding => self.capture(event, key, "the host is giving up a window", None).await,
            BridgeEventKind::TurnEnded => self.capture(event, key, "a turn ended", None).await,
            BridgeEventKind::Injected { slot: Slot::Context, sha256 } => {
                self.ledger.confirm_continuity(key, sha256).await?;
                // Not only when it was news: a crash may have come between the two.
                let newest = self.ledger.continuity(Some(key), 1).await?;
                if newest.first().is_some_and(|row| row.confirmed_at.is_some()) {
                    self.ledger.resolve(&unconfirmed(key)).await?;
                }
                Ok(())
            }
            BridgeEventKind::NotInjected => self.missed(key, event.at).await,
            BridgeEventKind::Injected { .. } | BridgeEventKind::Other(_) => Ok(()),
        }
    }

    /// Opens a capture for the transcript that an event names, or else for the session's present one. Whoever waits for it is
    /// answered by the capture alone: what nobody can name is not archived, and its compaction waits out its time.
    async fn capture(&self, event: &BridgeEvent, key: &SessionKey, reason: &str, ack: Option<&String>) -> Result<()> {
        let known = self.ledger.session(key).await?.map(|row| row.reading.session);
        let named = event.session_id.clone().map(|session_id| SessionRef { key: key.clone(), session_id });
        let Some(session) = named.or_else(|| known.clone()) else {
            tracing::warn!(session = %key, reason, "the bridge speaks of a session that nobody has named yet: it cannot be archived");
            return Ok(());
        };
        if known.is_none() {
            // The gateway does not list every session it runs; the ledger must know what it archives.
            self.ledger.observe(&[self.unlisted(&session)]).await?;
        }
        self.captures.open(&session, reason, ack.cloned()).await.map(drop)
    }

    /// All that is known of a session which only the bridge has spoken of.
    fn unlisted(&self, session: &SessionRef) -> UsageReading {
        UsageReading {
            session: session.clone(),
            used_tokens: None,
            window_tokens: None,
            fresh: false,
            running: false,
            last_activity: None,
            generation: None,
            model: None,
            provider: self.host.name().to_owned(),
            captured_at: self.clock.now(),
        }
    }

    /// A model call was built without anything of Moon's. That is news only after a rollover whose map has not been seen.
    async fn missed(&self, key: &SessionKey, at: DateTime<Utc>) -> Result<()> {
        let newest = self.ledger.continuity(Some(key), 1).await?;
        let Some(row) = newest.first().filter(|r| r.confirmed_at.is_none() && r.rollover != "none" && r.at < at) else {
            return Ok(());
        };
        self.alarm(key, &row.map_path, "a model call went out without it").await
    }

    /// Raises the alert for every map that was not seen in time although the session has been active since.
    pub async fn check_arrivals(&self) -> Result<()> {
        for row in self.ledger.continuity(None, RECENT).await? {
            if row.confirmed_at.is_some() || row.rollover == "none" {
                continue;
            }
            let active_since = self.ledger.session(&row.session).await?.and_then(|s| s.reading.last_activity);
            let age = (self.clock.now() - row.at).to_std();
            let late = age.is_ok_and(|age| age > self.settings.confirm_within);
            let newest = self.ledger.continuity(Some(&row.session), 1).await?.first().map(|r| r.cycle.clone());
            let called = active_since.is_some_and(|at| at > row.at + UNDER_WAY);
            if late && called && newest.as_ref() == Some(&row.cycle) {
                self.alarm(&row.session, &row.map_path, "no model call is known to have carried it").await?;
            }
        }
        Ok(())
    }

    async fn alarm(&self, key: &SessionKey, map: &str, why: &str) -> Result<()> {
        let series = self.ledger.all_series(Some(key)).await?;
        let tail = match series.last() {
            Some(series) => self.ledger.tail(series.id).await?,
            None => None,
        };
        let archive = tail.map_or("the archive".to_owned(), |t| t.path);
        let message = format!("the continuity map of {key} has not arrived: {why}; everything is kept in {archive}");
        let hint = format!("see {map}; run `moon verify`, then `moon continuity show`");
        self.ledger.raise(&unconfirmed(key), Severity::Critical, &message, Some(&hint)).await.map(drop)
    }
}

fn unconfirmed(key: &SessionKey) -> AlertKey {
    AlertKey::new("continuity.unconfirmed", key.as_str())
}
