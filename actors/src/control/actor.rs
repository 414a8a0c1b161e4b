//! The two actors of control: `router` answers requests, `socket` keeps the transport alive.
//!
//! Each request is answered by a task of its own that ends with its deadline: a snapshot that takes minutes delays no status, and
//! restarting the router itself can be answered. The tasks hold no state; dropping them loses an answer, never work.

use super::engine::Commands;
use super::{ControlMsg, Router, Serving};
use crate::supervisor::{StartFn, child};
use crate::wiring::Wiring;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Requests worked on at the same time; more are refused with a clear answer.
const MAX_REQUESTS: usize = 64;
const CHECK: Duration = Duration::from_secs(1);

pub struct RouterActor;

pub struct RouterState {
    commands: Arc<Commands>,
    running: JoinSet<()>,
}

/// How the tree starts the router.
pub fn router(wiring: &Wiring) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.control.clone(), move || (RouterActor, wiring.clone()))
}

impl Actor for RouterActor {
    type Msg = ControlMsg;
    type State = RouterState;
    type Arguments = Wiring;

    async fn pre_start(&self, _: ActorRef<ControlMsg>, wiring: Wiring) -> Result<RouterState, ActorProcessingErr> {
        let hands = (wiring.hands)(&wiring);
        Ok(RouterState { commands: Arc::new(Commands { wiring, hands }), running: JoinSet::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<ControlMsg>,
        message: ControlMsg,
        state: &mut RouterState,
    ) -> Result<(), ActorProcessingErr> {
        while state.running.try_join_next().is_some() {}
        if state.running.len() >= MAX_REQUESTS {
            let error = crate::Error::transient("control.busy", "too many requests at the same time").hint("try again");
            let _ = message.reply.send(crate::contract::Report::failed("ctl", error));
            return Ok(());
        }
        let commands = Arc::clone(&state.commands);
        state.running.spawn(async move {
            // The caller may have gone: its answer is dropped, the work is done.
            let _ = message.reply.send(commands.answer(message.request).await);
        });
        Ok(())
    }

    /// Who asked for this restart still wants to hear how it went.
    async fn post_stop(&self, _: ActorRef<ControlMsg>, state: &mut RouterState) -> Result<(), ActorProcessingErr> {
        state.running.detach_all();
        Ok(())
    }
}

pub struct SocketActor;

pub enum SocketMsg {
    Open,
    Check,
}

pub struct SocketState {
    wiring: Wiring,
    serving: Option<Box<dyn Serving>>,
}

/// How the tree starts the socket.
pub fn socket(wiring: &Wiring) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.socket.clone(), move || (SocketActor, wiring.clone()))
}

impl Actor for SocketActor {
    type Msg = SocketMsg;
    type State = SocketState;
    type Arguments = Wiring;

    async fn pre_start(&self, _: ActorRef<SocketMsg>, wiring: Wiring) -> Result<SocketState, ActorProcessingErr> {
        Ok(SocketState { wiring, serving: None })
    }
    async fn post_start(&self, myself: ActorRef<SocketMsg>, _: &mut SocketState) -> Result<(), ActorProcessingErr> {
        myself.send_interval(CHECK, || SocketMsg::Check);
        Ok(myself.cast(SocketMsg::Open)?)
    }
    async fn handle(
        &self,
        _: ActorRef<SocketMsg>,
        message: SocketMsg,
        state: &mut SocketState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SocketMsg::Open => {
                let router = Router { address: state.wiring.mail.control.clone() };
                state.serving = Some(state.wiring.transport.serve(router)?);
            }
            SocketMsg::Check => {
                if let Some(why) = state.serving.as_ref().and_then(|s| s.ended()) {
                    return Err(format!("the control socket ended: {why}").into());
                }
            }
        }
        Ok(())
    }
    /// Not left to the drop of the state: ractor keeps that until the supervisor ends.
    async fn post_stop(&self, _: ActorRef<SocketMsg>, state: &mut SocketState) -> Result<(), ActorProcessingErr> {
        state.serving = None;
        Ok(())
    }
}
