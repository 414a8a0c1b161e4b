//! Delivers alerts from the ledger's outbox to people, at least once each.
//!
//! Whoever notices something raises the alert in the ledger, with its cause; this actor only carries. A route that fails keeps
//! its notices and is tried again at the next ring: it never raises an alert about itself through itself.

use crate::error::Result;
use crate::port::{Ledger, Notice, Notifier};
use crate::supervisor::{StartFn, child};
use crate::wiring::Wiring;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;

const SLOW_TICK: Duration = Duration::from_secs(15);
/// Notices taken from the outbox at a time.
const BATCH: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertMsg {
    /// Something may be in the outbox.
    Ring,
}

/// Delivers everything that waits. Returns how many notices went out.
pub async fn deliver(ledger: &dyn Ledger, notifiers: &[Arc<dyn Notifier>]) -> Result<usize> {
    let mut delivered = 0;
    for notifier in notifiers {
        for alert in ledger.undelivered(notifier.name(), BATCH).await? {
            if let Err(error) = notifier.deliver(&Notice::Alert(alert.clone())).await {
                tracing::warn!(route = notifier.name(), code = error.code, "could not deliver an alert: {error}");
                break;
            }
            ledger.delivered(notifier.name(), &alert).await?;
            delivered += 1;
        }
    }
    Ok(delivered)
}

pub struct AlertActor;

/// How the tree starts it.
pub fn start(wiring: &Wiring) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.alert.clone(), move || (AlertActor, wiring.clone()))
}

impl Actor for AlertActor {
    type Msg = AlertMsg;
    type State = Wiring;
    type Arguments = Wiring;

    async fn pre_start(&self, _: ActorRef<AlertMsg>, wiring: Wiring) -> Result<Wiring, ActorProcessingErr> {
        Ok(wiring)
    }
    async fn post_start(&self, myself: ActorRef<AlertMsg>, _: &mut Wiring) -> Result<(), ActorProcessingErr> {
        myself.send_interval(SLOW_TICK, || AlertMsg::Ring);
        Ok(myself.cast(AlertMsg::Ring)?)
    }
    async fn handle(&self, _: ActorRef<AlertMsg>, _: AlertMsg, w: &mut Wiring) -> Result<(), ActorProcessingErr> {
        if let Err(error) = deliver(w.ports.ledger.as_ref(), &w.ports.notifiers).await {
            tracing::error!(code = error.code, "{error}");
        }
        Ok(())
    }
    /// The last word goes out before the tree is gone: this actor is started first and stopped last.
    async fn post_stop(&self, _: ActorRef<AlertMsg>, w: &mut Wiring) -> Result<(), ActorProcessingErr> {
        let _ = deliver(w.ports.ledger.as_ref(), &w.ports.notifiers).await;
        Ok(())
    }
}
