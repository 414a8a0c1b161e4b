//! The worker of one stage: rung, it looks for due jobs and works them off, one at a time, awaited inline.
//!
//! It holds nothing precious. A crash drops the mailbox and the engine's future; the claim is given back when the next
//! incarnation starts, with its attempt counted.

use super::{Engine, Passed, pass};
use crate::domain::Stage;
use crate::error::Error;
use crate::port::Release;
use crate::supervisor::{StartFn, child};
use crate::wiring::{Mailboxes, Wiring};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Longest time between two looks at the ledger: a lost doorbell costs no more than this.
const SLOW_TICK: Duration = Duration::from_secs(30);
const QUICKEST: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageMsg {
    /// Something may be due: look.
    Nudge,
}

pub struct StageArgs {
    pub engine: Arc<dyn Engine>,
    pub wiring: Wiring,
}

pub struct StageState {
    engine: Arc<dyn Engine>,
    wiring: Wiring,
    prepared: bool,
    /// Why claims of this stage may be open when it is looked at next.
    claims: Release,
    /// How the last rest ended, if not well.
    failed_at_rest: Option<Error>,
    timer: Option<AbortHandle>,
}

impl Drop for StageState {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

pub struct StageActor;

/// How the tree starts the worker of a stage.
pub fn start(wiring: &Wiring, stage: Stage) -> StartFn {
    let (wiring, engine) = (wiring.clone(), wiring.engine(stage));
    child(wiring.mail.stage(stage).clone(), move || {
        (StageActor, StageArgs { engine: Arc::clone(&engine), wiring: wiring.clone() })
    })
}

impl Actor for StageActor {
    type Msg = StageMsg;
    type State = StageState;
    type Arguments = StageArgs;

    async fn pre_start(&self, _: ActorRef<StageMsg>, args: StageArgs) -> Result<StageState, ActorProcessingErr> {
        Ok(StageState {
            engine: args.engine,
            wiring: args.wiring,
            prepared: false,
            claims: Release::Crashed,
            failed_at_rest: None,
            timer: None,
        })
    }

    async fn post_start(&self, myself: ActorRef<StageMsg>, _: &mut StageState) -> Result<(), ActorProcessingErr> {
        Ok(myself.cast(StageMsg::Nudge)?)
    }

    async fn handle(
        &self,
        myself: ActorRef<StageMsg>,
        _: StageMsg,
        state: &mut StageState,
    ) -> Result<(), ActorProcessingErr> {
        let stage = state.engine.stage();
        let pause = match state.work().await {
            Ok(Passed::Did(..)) => {
                ring(&state.wiring.mail, stage);
                // Through the mailbox, so that a stop comes in between two jobs.
                myself.cast(StageMsg::Nudge)?;
                return Ok(());
            }
            Ok(Passed::Failed(..) | Passed::Waits(..) | Passed::Lost) => {
                let _ = state.wiring.mail.alert.cast(crate::alert::AlertMsg::Ring);
                QUICKEST
            }
            Ok(Passed::Idle) => {
                state.rest().await;
                state.until_next().await
            }
            Err(error) => {
                tracing::error!(stage = stage.as_str(), code = error.code, "{error}");
                // The ledger could not be written: claims of ours may be open, and nobody but us works this stage.
                (state.prepared, state.claims) = (false, Release::LedgerFailed);
                state.wiring.settings.supervision.retry_min
            }
        };
        if let Some(timer) = state.timer.take() {
            timer.abort();
        }
        state.timer = Some(myself.send_after(pause, || StageMsg::Nudge).abort_handle());
        Ok(())
    }
}

/// After a finished job: the next stage, the thresholds (a cycle may have ended), and the projections.
fn ring(mail: &Mailboxes, stage: Stage) {
    for next in Stage::ALL.into_iter().filter(|s| *s > stage) {
        mail.stage(next).cast(StageMsg::Nudge);
    }
    mail.threshold.cast(crate::threshold::actor::ThresholdMsg::Look);
    mail.alert.cast(crate::alert::AlertMsg::Ring);
    mail.projection.cast(crate::projection::ProjectionMsg::Ring);
}

impl StageState {
    async fn work(&mut self) -> crate::error::Result<Passed> {
        let ports = &self.wiring.ports;
        if !self.prepared {
            ports.ledger.release(self.engine.stage(), self.claims).await?;
            if let Err(error) = self.engine.prepare().await {
                // The jobs themselves will say what is wrong, with a session and an alert.
                tracing::warn!(stage = self.engine.stage().as_str(), code = error.code, "{error}");
            }
            (self.prepared, self.claims) = (true, Release::Crashed);
        }
        pass(self.engine.as_ref(), ports.ledger.as_ref(), ports.probe.as_ref(), &self.wiring.settings.supervision).await
    }

    /// A failure is said once, and again when it is another one: the next look is half a minute away.
    async fn rest(&mut self) {
        let failed = self.engine.rest().await.err();
        if let Some(error) = failed.as_ref().filter(|error| self.failed_at_rest.as_ref() != Some(*error)) {
            tracing::warn!(stage = self.engine.stage().as_str(), code = error.code, "{error}");
        }
        self.failed_at_rest = failed;
    }

    async fn until_next(&self) -> Duration {
        let ports = &self.wiring.ports;
        match ports.ledger.next_due(self.engine.stage()).await {
            Ok(Some(due)) => (due - ports.clock.steady()).to_std().unwrap_or(QUICKEST).clamp(QUICKEST, SLOW_TICK),
            _ => SLOW_TICK,
        }
    }
}
