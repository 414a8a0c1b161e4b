//! Watches the host: rung by pushes and by the bridge's inbox, and by its own slow clock.

use super::engine::Watcher;
use crate::domain::Stage;
use crate::stage::StageMsg;
use crate::supervisor::{StartFn, child};
use crate::wiring::Wiring;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the bridge is told that Moon is alive, and asked for events whose doorbell got lost.
const HEARTBEAT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageMsg {
    /// The host pushed something, or the bridge wrote an event.
    Look,
    /// Time for the full list.
    Refresh,
    /// Tell the bridge that Moon is alive.
    Beat,
}

/// A doorbell that coalesces: any number of rings between two looks are one.
#[derive(Clone, Default)]
pub struct Bell(Arc<AtomicBool>);

impl Bell {
    /// True for the first ring since the last answer.
    pub fn ring(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
    fn answer(&self) {
        self.0.store(false, Ordering::Release);
    }
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
        wiring.bell.answer();
        Ok(UsageState { watcher: wiring.watcher(), wiring })
    }

    async fn post_start(&self, myself: ActorRef<UsageMsg>, state: &mut UsageState) -> Result<(), ActorProcessingErr> {
        myself.send_interval(HEARTBEAT, || UsageMsg::Beat);
        myself.send_interval(state.wiring.settings.watch.poll, || UsageMsg::Refresh);
        myself.cast(UsageMsg::Beat)?;
        Ok(myself.cast(UsageMsg::Refresh)?)
    }

    async fn handle(
        &self,
        _: ActorRef<UsageMsg>,
        message: UsageMsg,
        state: &mut UsageState,
    ) -> Result<(), ActorProcessingErr> {
        // Before looking: what rings while we look is looked at again.
        state.wiring.bell.answer();
        if let Err(error) = state.handle(message).await {
            tracing::debug!(code = error.code, "{error}");
        }
        Ok(())
    }
}

impl UsageState {
    async fn handle(&mut self, message: UsageMsg) -> crate::error::Result<()> {
        if message == UsageMsg::Beat {
            self.wiring.ports.bridge.heartbeat().await?;
        }
        // The bridge first: a compaction may be waiting for us.
        let events = self.watcher.bridge_events().await;
        let looked = match message {
            UsageMsg::Beat => Ok(Default::default()),
            UsageMsg::Look => self.watcher.look(false).await,
            UsageMsg::Refresh => self.watcher.look(true).await,
        };
        if message == UsageMsg::Refresh {
            self.watcher.check_arrivals().await?;
        }
        let mail = &self.wiring.mail;
        if events.as_ref().is_ok_and(|n| *n > 0) || looked.as_ref().is_ok_and(|l| l.captures > 0) {
            mail.stage(Stage::Archive).cast(StageMsg::Nudge);
        }
        if looked.as_ref().is_ok_and(|l| l.changed > 0) {
            mail.threshold.cast(crate::threshold::actor::ThresholdMsg::Look);
            mail.projection.cast(crate::projection::ProjectionMsg::Ring);
        }
        if message != UsageMsg::Beat {
            mail.alert.cast(crate::alert::AlertMsg::Ring);
        }
        events.and(looked).map(drop)
    }
}
