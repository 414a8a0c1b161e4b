//! Keeps one courier for each route at work, so that one that hangs delays no other.
//!
//! It holds nothing: what is to be told stands in the ledger. It is started first and stopped last, so that the last word goes out.

use super::engine::{Courier, Post};
use crate::supervisor::{StartFn, child};
use crate::wiring::Wiring;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Time alone makes notices due: pending alerts, cooldowns, escalations, digests.
const SLOW_TICK: Duration = Duration::from_secs(15);
/// A courier with nothing to wait for looks again after this long, whether it was rung or not.
const IDLE: Duration = Duration::from_secs(60);
/// What is on its way when Moon stops may arrive within this time, and so may the last words after it.
const LAST_WORDS: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertMsg {
    /// There may be something to tell.
    Ring,
    /// What may be told has changed: a silence, an acknowledgement, an order.
    Look,
    /// Time has passed.
    Tick,
}

pub struct AlertActor;

/// How the tree starts it.
pub fn start(wiring: &Wiring) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.alert.clone(), move || (AlertActor, wiring.post()))
}

pub struct AlertState {
    post: Post,
    routes: Vec<Route>,
    stop: watch::Sender<bool>,
    /// The newest notice that the couriers were rung for.
    newest: i64,
}

impl AlertState {
    /// Whether the couriers have a reason to look.
    async fn is_news(&mut self, message: AlertMsg) -> crate::Result<bool> {
        if message == AlertMsg::Tick {
            self.post.tend().await?;
        }
        let newest = self.post.ledger.newest_notice().await?;
        Ok(std::mem::replace(&mut self.newest, newest) != newest || message == AlertMsg::Look)
    }
}

struct Route {
    courier: Courier,
    bell: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Route {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Route {
    fn start(courier: Courier, stop: watch::Receiver<bool>) -> Self {
        let bell = Arc::new(Notify::new());
        let task = tokio::spawn(serve(courier.clone(), Arc::clone(&bell), stop));
        Self { courier, bell, task }
    }
}

/// Delivers whenever it rings and whenever time makes something due, until it is told to stop.
async fn serve(courier: Courier, bell: Arc<Notify>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let again = match courier.pass().await {
            Ok(passed) => passed.again.map_or(IDLE, |again| again.min(IDLE)),
            Err(error) => {
                tracing::error!(route = courier.route(), code = error.code, "{error}");
                SLOW_TICK
            }
        };
        tokio::select! {
            () = bell.notified() => {}
            () = tokio::time::sleep(again) => {}
            _ = stop.changed() => {}
        }
    }
}

impl Actor for AlertActor {
    type Msg = AlertMsg;
    type State = AlertState;
    type Arguments = Post;

    async fn pre_start(&self, _: ActorRef<AlertMsg>, post: Post) -> Result<AlertState, ActorProcessingErr> {
        if let Err(error) = post.open().await {
            // The ledger may be out of room for a moment: each look tries again.
            tracing::error!(code = error.code, "{error}");
        }
        let (stop, stopping) = watch::channel(false);
        let routes = post.couriers().into_iter().map(|courier| Route::start(courier, stopping.clone())).collect();
        Ok(AlertState { post, routes, stop, newest: 0 })
    }
    async fn post_start(&self, myself: ActorRef<AlertMsg>, _: &mut AlertState) -> Result<(), ActorProcessingErr> {
        myself.send_interval(SLOW_TICK, || AlertMsg::Tick);
        Ok(myself.cast(AlertMsg::Tick)?)
    }
    async fn handle(
        &self,
        _: ActorRef<AlertMsg>,
        message: AlertMsg,
        state: &mut AlertState,
    ) -> Result<(), ActorProcessingErr> {
        let is_news = match state.is_news(message).await {
            Ok(is_news) => is_news,
            Err(error) => {
                tracing::error!(code = error.code, "{error}");
                false
            }
        };
        for route in &mut state.routes {
            if route.task.is_finished() {
                tracing::error!(route = route.courier.route(), "the courier of a route crashed; it starts again");
                *route = Route::start(route.courier.clone(), state.stop.subscribe());
            }
            if is_news {
                route.bell.notify_one();
            }
        }
        Ok(())
    }
    async fn post_stop(&self, _: ActorRef<AlertMsg>, state: &mut AlertState) -> Result<(), ActorProcessingErr> {
        let _ = state.stop.send(true);
        let under_way = async {
            for route in &mut state.routes {
                let _ = (&mut route.task).await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, under_way).await;
        // A courier that still hangs is cut off: nobody serves a route twice at once.
        state.routes.clear();
        let _ = tokio::time::timeout(LAST_WORDS, state.post.deliver_to_open()).await;
        Ok(())
    }
}
