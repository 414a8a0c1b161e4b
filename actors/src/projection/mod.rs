//! Keeps the plan's files (`moon_state.json`, `ledger.jsonl`, the audit log) equal to the ledger.
//!
//! They are for people and scripts. Nothing reads them back, and a damaged one is written anew with one warning.

use crate::supervisor::{StartFn, child};
use crate::wiring::Wiring;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Rings within this time become one refresh.
const SETTLE: Duration = Duration::from_millis(250);
/// The heartbeat in `moon_state.json` is no older than this.
const SLOW_TICK: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectionMsg {
    /// The ledger has changed.
    Ring,
    /// Write now.
    Write,
}

pub struct ProjectionActor;

pub struct ProjectionState {
    wiring: Wiring,
    pending: Option<AbortHandle>,
}

/// How the tree starts it.
pub fn start(wiring: &Wiring) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.projection.clone(), move || (ProjectionActor, wiring.clone()))
}

impl Actor for ProjectionActor {
    type Msg = ProjectionMsg;
    type State = ProjectionState;
    type Arguments = Wiring;

    async fn pre_start(
        &self,
        _: ActorRef<ProjectionMsg>,
        wiring: Wiring,
    ) -> Result<ProjectionState, ActorProcessingErr> {
        Ok(ProjectionState { wiring, pending: None })
    }
    async fn post_start(
        &self,
        myself: ActorRef<ProjectionMsg>,
        _: &mut ProjectionState,
    ) -> Result<(), ActorProcessingErr> {
        myself.send_interval(SLOW_TICK, || ProjectionMsg::Write);
        Ok(myself.cast(ProjectionMsg::Write)?)
    }
    async fn handle(
        &self,
        myself: ActorRef<ProjectionMsg>,
        message: ProjectionMsg,
        state: &mut ProjectionState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ProjectionMsg::Ring if state.pending.is_none() => {
                state.pending = Some(myself.send_after(SETTLE, || ProjectionMsg::Write).abort_handle());
            }
            ProjectionMsg::Ring => {}
            ProjectionMsg::Write => state.write().await,
        }
        Ok(())
    }
    async fn post_stop(
        &self,
        _: ActorRef<ProjectionMsg>,
        state: &mut ProjectionState,
    ) -> Result<(), ActorProcessingErr> {
        state.write().await;
        Ok(())
    }
}

impl ProjectionState {
    async fn write(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.abort();
        }
        match self.wiring.ports.projector.refresh().await {
            Ok(repaired) => repaired.iter().for_each(|what| tracing::warn!("{what}")),
            Err(error) => tracing::warn!(code = error.code, "{error}"),
        }
    }
}
