//! Listens to the bridge: rung by its inbox, and by its own clock in case a ring got lost.

use super::engine::Inbox;
use crate::domain::Stage;
use crate::error::Result;
use crate::stage::StageMsg;
use crate::supervisor::{StartFn, child};
use crate::wiring::Wiring;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::time::Duration;

/// How often the bridge is told that Moon is alive, and asked for events whose doorbell got lost.
const HEARTBEAT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeMsg {
    /// The bridge wrote an event.
    Look,
    /// Tell the bridge that Moon is alive.
    Beat,
    /// Time to look after maps that have not arrived.
    CheckArrivals,
}

pub struct BridgeActor;

pub struct BridgeState {
    inbox: Inbox,
    wiring: Wiring,
}

/// How the tree starts it.
pub fn start(wiring: &Wiring) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.bridge.clone(), move || (BridgeActor, wiring.clone()))
}

impl Actor for BridgeActor {
    type Msg = BridgeMsg;
    type State = BridgeState;
    type Arguments = Wiring;

    async fn pre_start(
        &self,
        _: ActorRef<BridgeMsg>,
        wiring: Wiring,
    ) -> std::result::Result<BridgeState, ActorProcessingErr> {
        wiring.bells.bridge.answer();
        Ok(BridgeState { inbox: wiring.inbox(), wiring })
    }

    async fn post_start(
        &self,
        myself: ActorRef<BridgeMsg>,
        state: &mut BridgeState,
    ) -> std::result::Result<(), ActorProcessingErr> {
        myself.send_interval(HEARTBEAT, || BridgeMsg::Beat);
        myself.send_interval(state.wiring.settings.watch.poll, || BridgeMsg::CheckArrivals);
        Ok(myself.cast(BridgeMsg::Beat)?)
    }

    async fn handle(
        &self,
        _: ActorRef<BridgeMsg>,
        message: BridgeMsg,
        state: &mut BridgeState,
    ) -> std::result::Result<(), ActorProcessingErr> {
        // Before looking: what rings while we look is looked at again.
        state.wiring.bells.bridge.answer();
        if let Err(error) = state.handle(message).await {
            tracing::debug!(code = error.code, "{error}");
        }
        Ok(())
    }
}

impl BridgeState {
    async fn handle(&mut self, message: BridgeMsg) -> Result<()> {
        match message {
            BridgeMsg::Look => {}
            BridgeMsg::Beat => self.wiring.ports.bridge.heartbeat().await?,
            BridgeMsg::CheckArrivals => return self.inbox.check_arrivals().await,
        }
        if self.inbox.deal_with_new().await? > 0 {
            let mail = &self.wiring.mail;
            mail.stage(Stage::Archive).cast(StageMsg::Nudge);
            mail.alert.cast(crate::alert::AlertMsg::Ring);
        }
        Ok(())
    }
}
