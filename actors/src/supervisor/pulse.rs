//! Since when an actor has been busy with one message: what tells a hung actor from an idle one.
//!
//! Asking an actor whether it lives would wait behind the work that it may rightly be doing. This is read from outside at any
//! moment and costs the actor two stores per message. It decides nothing: who is too long at it is the watchdog's to say.

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// Shared between an actor and whoever watches it; outlives its restarts.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Beat>);

#[derive(Debug, Default)]
struct Beat {
    /// What `since` counts from: the first message of all.
    origin: OnceLock<Instant>,
    /// Milliseconds, and one; zero is idle.
    since: AtomicU64,
}

impl Pulse {
    /// How long the actor has been at the message in its hands. `None`: it waits for one, or is not there.
    pub fn busy_for(&self) -> Option<Duration> {
        match self.0.since.load(Ordering::Acquire) {
            0 => None,
            since => Some(Duration::from_millis(self.now().saturating_sub(since))),
        }
    }
    fn begin(&self) -> Busy {
        self.0.since.store(self.now(), Ordering::Release);
        Busy(self.clone())
    }
    fn now(&self) -> u64 {
        let elapsed = self.0.origin.get_or_init(Instant::now).elapsed();
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}

/// Ends with the message, also by a panic or a kill.
struct Busy(Pulse);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.since.store(0, Ordering::Release);
    }
}

/// An actor whose pulse is taken.
pub(super) struct Watched<A> {
    pub(super) actor: A,
    pub(super) pulse: Pulse,
}

impl<A: Actor> Actor for Watched<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(&self, me: ActorRef<A::Msg>, arguments: A::Arguments) -> Result<A::State, ActorProcessingErr> {
        let _busy = self.pulse.begin();
        self.actor.pre_start(me, arguments).await
    }
    async fn post_start(&self, me: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        let _busy = self.pulse.begin();
        self.actor.post_start(me, state).await
    }
    async fn post_stop(&self, me: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        let _busy = self.pulse.begin();
        self.actor.post_stop(me, state).await
    }
    async fn handle(&self, me: ActorRef<A::Msg>, msg: A::Msg, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        let _busy = self.pulse.begin();
        self.actor.handle(me, msg, state).await
    }
    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        let _busy = self.pulse.begin();
        self.actor.handle_supervisor_evt(me, event, state).await
    }
}
