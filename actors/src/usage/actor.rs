//! Watches the host: rung by what it pushes, and by its own slow clock.

use super::engine::Watcher;
use crate::domain::Stage;
use crate::stage::StageMsg;
use crate::supervisor::{StartFn, child};
use crate::wiring::Wiring;
use ractor::{Actor, ActorProcessingErr, ActorRef};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageMsg {
    /// The host pushed something.
    Look,
    /// Time for the full list.
    Refresh,
}

pub struct UsageActor;

pub struct UsageState {
    watcher: Watcher,
    wiring: Wiring,
}

/// How the tree starts it.
pub fn start(wiring: &Wiring) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.usage.clone(), move || (UsageActor, wiring.clone()))
}

impl Actor for UsageActor {
    type Msg = UsageMsg;
    type State = UsageState;
    type Arguments = Wiring;

    async fn pre_start(&self, _: ActorRef<UsageMsg>, wiring: Wiring) -> Result<UsageState, ActorProcessingErr> {
        wiring.bells.host.answer();
        Ok(UsageState { watcher: wiring.watcher(), wiring })
    }

    async fn post_start(&self, myself: ActorRef<UsageMsg>, state: &mut UsageState) -> Result<(), ActorProcessingErr> {
        myself.send_interval(state.wiring.settings.watch.poll, || UsageMsg::Refresh);
        Ok(myself.cast(UsageMsg::Refresh)?)
    }

    async fn handle(
        &self,
        _: ActorRef<UsageMsg>,
        message: UsageMsg,
        state: &mut UsageState,
    ) -> Result<(), ActorProcessingErr> {
        // Before looking: what rings while we look is looked at again.
        state.wiring.bells.host.answer();
        if let Err(error) = state.handle(message).await {
            tracing::debug!(code = error.code, "{error}");
        }
        Ok(())
    }
}

impl UsageState {
    async fn handle(&mut self, message: UsageMsg) -> crate::error::Result<()> {
        let looked = self.watcher.look(message == UsageMsg::Refresh).await;
        let mail = &self.wiring.mail;
        // An alert may have been raised on the way.
        mail.alert.cast(crate::alert::AlertMsg::Ring);
        // A host that is away may have left captures to do: its store can often be read without it.
        if looked.as_ref().map_or(true, |looked| looked.captures > 0) {
            mail.stage(Stage::Archive).cast(StageMsg::Nudge);
        }
        let looked = looked?;
        if looked.hurried > 0 {
            mail.nudge_stages();
        }
        if looked.changed > 0 {
            mail.threshold.cast(crate::threshold::actor::ThresholdMsg::Look);
            mail.projection.cast(crate::projection::ProjectionMsg::Ring);
        }
        Ok(())
    }
}
