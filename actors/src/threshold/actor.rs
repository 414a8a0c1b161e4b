//! Judges sessions whenever something changed, and slowly by itself: quiet sessions and ended cooldowns ring nobody.

use super::engine::Judge;
use crate::domain::Stage;
use crate::stage::StageMsg;
use crate::supervisor::{StartFn, child};
use crate::wiring::Wiring;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::time::Duration;

const SLOW_TICK: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThresholdMsg {
    /// A reading changed, a cycle ended, or time passed.
    Look,
}

pub struct ThresholdActor;

/// How the tree starts it.
pub fn start(wiring: &Wiring) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.threshold.clone(), move || (ThresholdActor, wiring.clone()))
}

pub struct ThresholdState {
    judge: Judge,
    wiring: Wiring,
}

impl Actor for ThresholdActor {
    type Msg = ThresholdMsg;
    type State = ThresholdState;
    type Arguments = Wiring;

    async fn pre_start(&self, _: ActorRef<ThresholdMsg>, wiring: Wiring) -> Result<ThresholdState, ActorProcessingErr> {
        Ok(ThresholdState { judge: wiring.judge(), wiring })
    }

    async fn post_start(
        &self,
        myself: ActorRef<ThresholdMsg>,
        _: &mut ThresholdState,
    ) -> Result<(), ActorProcessingErr> {
        // Ends with the actor: ractor stops an interval when its target is gone.
        myself.send_interval(SLOW_TICK, || ThresholdMsg::Look);
        Ok(myself.cast(ThresholdMsg::Look)?)
    }

    async fn handle(
        &self,
        _: ActorRef<ThresholdMsg>,
        _: ThresholdMsg,
        state: &mut ThresholdState,
    ) -> Result<(), ActorProcessingErr> {
        match state.judge.look().await {
            Ok(opened) if opened.is_empty() => {}
            Ok(_) => {
                state.wiring.mail.stage(Stage::Archive).cast(StageMsg::Nudge);
            }
            Err(error) => tracing::error!(code = error.code, "{error}"),
        }
        Ok(())
    }
}
