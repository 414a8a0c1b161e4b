//! One actor per group of checks: wakes every `health.every` and lets each check of the group look, in a task of its own.
//!
//! A check that still looks is left alone, so that one which hangs delays neither its neighbours nor itself twice.

use super::policy;
use crate::alert::AlertMsg;
use crate::port::CheckGroup;
use crate::supervisor::{Address, StartFn, child};
use crate::wiring::Wiring;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::HashMap;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthMsg {
    Look,
}

pub struct HealthActor;

pub struct HealthState {
    wiring: Wiring,
    names: Vec<String>,
    looks: HashMap<String, JoinHandle<()>>,
}

/// How the tree starts the actor of a group.
pub fn start(wiring: &Wiring, group: CheckGroup) -> StartFn {
    let wiring = wiring.clone();
    child(Address::new(), move || (HealthActor, (wiring.clone(), group)))
}

impl Actor for HealthActor {
    type Msg = HealthMsg;
    type State = HealthState;
    type Arguments = (Wiring, CheckGroup);

    async fn pre_start(
        &self,
        _: ActorRef<HealthMsg>,
        (wiring, group): Self::Arguments,
    ) -> Result<HealthState, ActorProcessingErr> {
        let names = wiring.doctor.names(group);
        Ok(HealthState { wiring, names, looks: HashMap::new() })
    }
    async fn post_start(&self, myself: ActorRef<HealthMsg>, state: &mut HealthState) -> Result<(), ActorProcessingErr> {
        // Nothing to look at: nothing to wake up for.
        if let Some(name) = state.names.first() {
            let health = &state.wiring.settings.health;
            myself.send_after(policy::first_pause(name, health.start_after, health.every), || HealthMsg::Look);
        }
        Ok(())
    }
    async fn handle(
        &self,
        myself: ActorRef<HealthMsg>,
        HealthMsg::Look: HealthMsg,
        state: &mut HealthState,
    ) -> Result<(), ActorProcessingErr> {
        state.looks.retain(|_, look| !look.is_finished());
        for name in &state.names {
            if !state.looks.contains_key(name) {
                state.looks.insert(name.clone(), state.look(name.clone()));
            }
        }
        myself.send_after(state.wiring.settings.health.every, || HealthMsg::Look);
        Ok(())
    }
    /// Not left to the drop of the state: ractor keeps that until the supervisor ends.
    async fn post_stop(&self, _: ActorRef<HealthMsg>, state: &mut HealthState) -> Result<(), ActorProcessingErr> {
        state.end();
        Ok(())
    }
}

impl HealthState {
    fn look(&self, name: String) -> JoinHandle<()> {
        let wiring = self.wiring.clone();
        tokio::spawn(async move {
            let hands = (wiring.hands)(&wiring);
            if wiring.doctor.visit(&name, hands.as_ref()).await {
                wiring.mail.alert.cast(AlertMsg::Ring);
            }
        })
    }
    fn end(&mut self) {
        self.looks.drain().for_each(|(_, look)| look.abort());
    }
}

impl Drop for HealthState {
    fn drop(&mut self) {
        self.end();
    }
}
