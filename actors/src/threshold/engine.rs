//! Feeds what the ledger knows of a session to the state machine, and opens the cycle it asks for.

use super::policy::{self, Machine, Observation};
use crate::domain::{CycleId, SessionKey, SessionRef, TraceId, Trigger};
use crate::error::Result;
use crate::port::{Clock, Ids, Ledger, NewCycle, SessionHost, SessionRow};
use crate::settings::{Mode, Settings};
use std::sync::Arc;

#[derive(Clone)]
pub struct Judge {
    pub host: Arc<dyn SessionHost>,
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub settings: Arc<Settings>,
}

impl Judge {
    /// Judges every session once. Returns the cycles opened.
    pub async fn look(&self) -> Result<Vec<(SessionKey, Trigger)>> {
        self.look_since(0).await.map(|(opened, _)| opened)
    }

    /// Judges the sessions about which something has changed since the mark. Returns which sessions a cycle was opened for, and the mark of now.
    pub async fn look_since(&self, mark: i64) -> Result<(Vec<(SessionKey, Trigger)>, i64)> {
        let (rows, mark) = self.ledger.sessions_since(mark).await?;
        let mut opened = Vec::new();
        for row in rows {
            opened.extend(self.judge(&row).await?);
        }
        Ok((opened, mark))
    }

    /// Judges one session: stores its machine, opens a cycle if one is due.
    pub async fn judge(&self, row: &SessionRow) -> Result<Option<(SessionKey, Trigger)>> {
        let before = machine_of(row);
        let (after, trigger) = self.step(row, &before);
        let value = serde_json::to_value(&after).expect("a machine is plain data");
        let Some(trigger) = trigger else {
            if after != before {
                self.ledger.save_machine(&row.reading.session.key, &value).await?;
            }
            return Ok(None);
        };
        let reading = &row.reading;
        let cycle = NewCycle {
            id: CycleId(self.ids.next()),
            session: SessionRef { key: reading.session.key.clone(), session_id: reading.session.session_id.clone() },
            trigger: trigger.clone(),
            trace: TraceId(self.ids.next()),
            used_tokens: reading.used_tokens,
            ack: None,
        };
        let opened = self.ledger.open_cycle(&cycle, Some(&value)).await?;
        if opened.is_some() {
            tracing::info!(session = %cycle.session.key, kind = trigger.kind.as_str(), reason = trigger.reason, "triggered");
        }
        Ok(opened.map(|_| (cycle.session.key, trigger)))
    }

    /// What [`judge`](Self::judge) would do, without doing it.
    pub fn step(&self, row: &SessionRow, machine: &Machine) -> (Machine, Option<Trigger>) {
        let settings = &self.settings;
        policy::step(machine, &self.observe(row), &settings.thresholds, &settings.distill, self.clock.steady())
    }

    fn observe(&self, row: &SessionRow) -> Observation {
        let (reading, now) = (&row.reading, self.clock.now());
        let stale = (now - reading.captured_at).to_std().is_ok_and(|age| age > self.settings.watch.stale_after);
        let capabilities = self.host.capabilities();
        let idle = reading.last_activity.filter(|_| !reading.running).and_then(|at| (now - at).to_std().ok());
        Observation {
            ratio: reading.trusted_ratio().filter(|_| !stale),
            generation: reading.generation.clone(),
            cycle_open: row.open_cycle.is_some(),
            // An end in the future is a clock that jumped back: it says nothing.
            outdated: row.settled_at.is_some_and(|end| end <= now && reading.captured_at <= end),
            may_reduce: self.settings.openclaw.mode == Mode::Lead && capabilities.compact,
            prunes: row.prunes,
            last_freed: row.last_freed,
            undistilled: row.undistilled,
            idle,
        }
    }
}

/// The machine stored with a session; a new one if there is none.
pub fn machine_of(row: &SessionRow) -> Machine {
    row.machine.clone().and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default()
}
