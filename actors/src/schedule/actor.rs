//! One actor per task: wakes at its time, or when it is asked, and runs it.

use super::engine::{Cause, run};
use super::policy::{self, Decision, LastRun};
use super::{Chore, Ran, Task};
use crate::error::Result;
use crate::port::ChoreRow;
use crate::supervisor::{StartFn, child};
use crate::wiring::Wiring;
use chrono::{DateTime, TimeDelta, Utc};
use croner::Cron;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest sleep: a wall clock that is set, and a machine that slept, are noticed this soon.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

pub enum ChoreMsg {
    /// Look whether it is time.
    Look,
    /// Run now, whatever the calendar says, and answer with how it went.
    Now(oneshot::Sender<Ran>),
}

pub struct ChoreActor;

pub struct ChoreState {
    chore: Arc<dyn Chore>,
    times: Option<Cron>,
    wiring: Wiring,
}

/// How the tree starts it.
pub fn start(wiring: &Wiring, task: Task) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.chore(task).clone(), move || (ChoreActor, (wiring.chore(task), wiring.clone())))
}

impl Actor for ChoreActor {
    type Msg = ChoreMsg;
    type State = ChoreState;
    type Arguments = (Arc<dyn Chore>, Wiring);

    async fn pre_start(
        &self,
        _: ActorRef<ChoreMsg>,
        (chore, wiring): Self::Arguments,
    ) -> Result<ChoreState, ActorProcessingErr> {
        // The settings were checked: what cannot be read here is nothing.
        let times = policy::parse(chore.times()).unwrap_or_default();
        Ok(ChoreState { chore, times, wiring })
    }
    async fn post_start(&self, myself: ActorRef<ChoreMsg>, _: &mut ChoreState) -> Result<(), ActorProcessingErr> {
        Ok(myself.cast(ChoreMsg::Look)?)
    }
    async fn handle(
        &self,
        myself: ActorRef<ChoreMsg>,
        message: ChoreMsg,
        state: &mut ChoreState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ChoreMsg::Now(reply) => {
                let _ = reply.send(run(&state.wiring, state.chore.as_ref(), Cause::Asked).await);
            }
            ChoreMsg::Look => {
                let sleep = match state.look().await {
                    Ok(until) => state.sleep(until),
                    Err(error) => {
                        tracing::warn!(code = error.code, "{error}");
                        LONGEST_SLEEP
                    }
                };
                myself.send_after(sleep, || ChoreMsg::Look);
            }
        }
        Ok(())
    }
}

impl ChoreState {
    /// Runs what is due. Returns when there may be something again.
    async fn look(&self) -> Result<Option<DateTime<Utc>>> {
        let Some(times) = &self.times else { return Ok(None) };
        let (ledger, clock, task) = (&self.wiring.ports.ledger, &self.wiring.ports.clock, self.chore.task());
        let last_run = ledger.chore(task).await?.map(|row| last_run(&row));
        match policy::decide(last_run, clock.calendar(times), clock.now()) {
            Decision::Wait { until } => return Ok(until),
            Decision::Begin { past } => ledger.leave_out_chore(task, past).await?,
            // What it said is in the ledger, the audit and, if it failed, an alert.
            Decision::Run { due } => drop(run(&self.wiring, self.chore.as_ref(), Cause::Due(due)).await),
        }
        Ok(clock.calendar(times).1)
    }

    fn sleep(&self, until: Option<DateTime<Utc>>) -> Duration {
        let left = until.map(|until| until - self.wiring.ports.clock.now());
        left.and_then(|left| left.max(TimeDelta::zero()).to_std().ok()).map_or(LONGEST_SLEEP, |left| {
            // A moment behind the time, never before it: clocks are read in steps.
            (left + Duration::from_millis(20)).min(LONGEST_SLEEP)
        })
    }
}

fn last_run(row: &ChoreRow) -> LastRun {
    LastRun { due: row.due, attempts: row.attempts, at: row.ended_at.unwrap_or(row.started_at), is_done: row.is_done }
}
