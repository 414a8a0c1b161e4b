//! Takes readings from the host and events from the bridge, records them, and opens captures.
//!
//! A capture (archive and index what is new) is opened when a turn has ended, when the host is about to reduce, and for every
//! session at start. It is also here that the arrival of a continuity map is noticed, or its absence.

use super::policy;
use crate::domain::{CycleId, CycleKind, SessionKey, SessionRef, TraceId, Trigger, UsageReading};
use crate::error::{Error, Result};
use crate::port::{
    AlertKey, Bridge, BridgeEvent, BridgeEventKind, Clock, Ids, Ledger, NewCycle, SessionHost, Severity, Slot,
};
use crate::settings::Settings;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use std::sync::Arc;

/// Failed looks at the host in a row before somebody is told: a restart of the gateway takes some seconds.
const PATIENCE: u32 = 3;
const UNREACHABLE: &str = "host.unreachable";

pub struct Watcher {
    pub host: Arc<dyn SessionHost>,
    pub bridge: Arc<dyn Bridge>,
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub settings: Arc<Settings>,
    seen: HashMap<SessionKey, UsageReading>,
    captured: HashMap<SessionKey, Mark>,
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
}

impl Watcher {
    pub fn new(
        host: Arc<dyn SessionHost>,
        bridge: Arc<dyn Bridge>,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        settings: Arc<Settings>,
    ) -> Self {
        let (seen, captured) = (HashMap::new(), HashMap::new());
        Self { host, bridge, ledger, clock, ids, settings, seen, captured, failures: 0, ahead: None }
    }

    /// Looks at the host: what it has pushed, or with `refresh` its full list.
    pub async fn look(&mut self, refresh: bool) -> Result<Looked> {
        let readings = if refresh { self.host.refresh().await } else { self.host.readings().await };
        let readings = match readings {
            Ok(readings) => readings,
            Err(error) => return self.unreachable(error).await,
        };
        if refresh {
            self.mind_the_clock();
            self.reachable().await?;
        }
        let mut looked = Looked::default();
        for reading in readings {
            if self.seen.get(&reading.session.key) == Some(&reading) {
                continue;
            }
            looked.captures += usize::from(self.capture_left_behind(&reading.session).await?);
            self.ledger.observe(&reading).await?;
            looked.changed += 1;
            looked.captures += usize::from(self.capture_if_new(&reading).await?);
            self.seen.insert(reading.session.key.clone(), reading);
        }
        Ok(looked)
    }

    /// A session that has another transcript now may have left unarchived records in the one before. Before the new one is
    /// recorded, so that a crash in between forgets nothing.
    async fn capture_left_behind(&self, now: &SessionRef) -> Result<bool> {
        match self.ledger.session(&now.key).await? {
            Some(row) if row.reading.session != *now => {
                self.open_capture(&row.reading.session, "the session went on with another transcript", None).await
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
        let opened = self.open_capture(&reading.session, "there may be new records", None).await?;
        self.captured.insert(key.clone(), mark);
        Ok(opened)
    }

    /// Opens a capture. False when one is waiting that will see everything this one would.
    pub async fn open_capture(&self, session: &SessionRef, reason: &str, ack: Option<String>) -> Result<bool> {
        let cycle = NewCycle {
            id: CycleId(self.ids.next()),
            session: session.clone(),
            trigger: Trigger { kind: CycleKind::Capture, reason: reason.to_owned(), ratio: None },
            trace: TraceId(self.ids.next()),
            used_tokens: None,
            ack,
        };
        Ok(self.ledger.open_cycle(&cycle, None).await?.is_some())
    }

    async fn unreachable(&mut self, error: Error) -> Result<Looked> {
        self.failures += 1;
        tracing::debug!(code = error.code, failures = self.failures, "the session host does not answer: {error}");
        if self.failures == PATIENCE {
            let key = AlertKey::new(UNREACHABLE, self.host.name());
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
        for alert in self.ledger.alerts(true).await? {
            if alert.key.rule == UNREACHABLE {
                self.ledger.resolve(&alert.key).await?;
            }
        }
        Ok(())
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

    /// Deals with the bridge's events. Returns how many there were.
    pub async fn bridge_events(&mut self) -> Result<usize> {
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

    async fn deal(&mut self, event: &BridgeEvent) -> Result<()> {
        let Some(key) = &event.session else { return Ok(()) };
        match &event.kind {
            BridgeEventKind::BeforeCompaction { id } => {
                let opened = self.capture(key, "the host is about to compact", Some(id.clone())).await?;
                if !opened {
                    // Not a session of ours: nothing to wait for.
                    self.bridge.acknowledge(id).await?;
                }
            }
            BridgeEventKind::AfterCompaction => _ = self.capture(key, "the host has compacted", None).await?,
            BridgeEventKind::WindowEnding => _ = self.capture(key, "the host is giving up a window", None).await?,
            BridgeEventKind::TurnEnded => _ = self.capture(key, "a turn ended", None).await?,
            BridgeEventKind::Injected { slot: Slot::Context, sha256 } => {
                self.ledger.confirm_continuity(key, sha256).await?;
                // Not only when it was news: a crash may have come between the two.
                let newest = self.ledger.continuity(Some(key), 1).await?;
                if newest.first().is_some_and(|row| row.confirmed_at.is_some()) {
                    self.ledger.resolve(&unconfirmed(key)).await?;
                }
            }
            BridgeEventKind::NotInjected => self.missed(key, event.at).await?,
            BridgeEventKind::Injected { .. } | BridgeEventKind::Other(_) => {}
        }
        Ok(())
    }

    /// Opens a capture for a session named by the bridge. False when the host never showed us such a session.
    async fn capture(&self, key: &SessionKey, reason: &str, ack: Option<String>) -> Result<bool> {
        let Some(row) = self.ledger.session(key).await? else { return Ok(false) };
        self.open_capture(&row.reading.session, reason, ack).await?;
        Ok(true)
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
        let limit = self.settings.continuity.confirm_within;
        for row in self.ledger.continuity(None, 50).await? {
            if row.confirmed_at.is_some() || row.rollover == "none" {
                continue;
            }
            let active_since = self.ledger.session(&row.session).await?.and_then(|s| s.reading.last_activity);
            let late = (self.clock.now() - row.at).to_std().is_ok_and(|age| age > limit);
            let newest = self.ledger.continuity(Some(&row.session), 1).await?.first().map(|r| r.cycle.clone());
            let called = active_since.is_some_and(|at| at > row.at + chrono::TimeDelta::seconds(2));
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
