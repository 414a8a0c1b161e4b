//! Judges sessions whenever something about them changed, and all of them slowly by itself.

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
    /// A reading changed or a cycle ended.
    Look,
    /// Time passed: quiet sessions and ended cooldowns ring nobody.
    LookAtAll,
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
    /// Up to where the changes of sessions have been judged.
    mark: i64,
}

impl Actor for ThresholdActor {
    type Msg = ThresholdMsg;
    type State = ThresholdState;
    type Arguments = Wiring;

    async fn pre_start(&self, _: ActorRef<ThresholdMsg>, wiring: Wiring) -> Result<ThresholdState, ActorProcessingErr> {
        Ok(ThresholdState { judge: wiring.judge(), wiring, mark: 0 })
    }

    async fn post_start(
        &self,
        myself: ActorRef<ThresholdMsg>,
        _: &mut ThresholdState,
    ) -> Result<(), ActorProcessingErr> {
        // Ends with the actor: ractor stops an interval when its target is gone.
        myself.send_interval(SLOW_TICK, || ThresholdMsg::LookAtAll);
        Ok(myself.cast(ThresholdMsg::Look)?)
    }

    async fn handle(
        &self,
        _: ActorRef<ThresholdMsg>,
        message: ThresholdMsg,
        state: &mut ThresholdState,
    ) -> Result<(), ActorProcessingErr> {
        let from = if message == ThresholdMsg::Look { state.mark } else { 0 };
        match state.judge.look_since(from).await {
            Ok((opened, mark)) => {
                state.mark = mark;
                if !opened.is_empty() {
                    state.wiring.mail.stage(Stage::Archive).cast(StageMsg::Nudge);
                }
            }
            Err(error) => tracing::error!(code = error.code, "{error}"),
        }
        Ok(())
    }
}
