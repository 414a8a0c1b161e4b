//! Where an actor is reached: a slot that the supervisor refills at each start.
//!
//! An `ActorRef` is dead after its actor's first crash, so nobody keeps one of somebody else's; everybody keeps an
//! [`Address`]. A message is only a doorbell ("look again at the ledger"): it may be lost between a crash and the next
//! start, and whoever must not lose something writes it to the ledger first. Never put the only copy of anything in here.

use super::pulse::Pulse;
use ractor::{ActorRef, ActorStatus, Message, RpcReplyPort, rpc::CallResult};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// A clonable place for messages of type `M`, whoever lives there at the moment.
pub struct Address<M> {
    slot: Arc<RwLock<Option<ActorRef<M>>>>,
    pulse: Pulse,
}

impl<M: Message> Address<M> {
    /// A place where nobody lives yet.
    pub fn new() -> Self {
        Self { slot: Arc::default(), pulse: Pulse::default() }
    }
    /// Sends and forgets. False when nobody is there: the doorbell is lost.
    pub fn cast(&self, msg: M) -> bool {
        self.resident().is_some_and(|actor| actor.cast(msg).is_ok())
    }
    /// Sends a question and waits at most `limit` for its answer. `None` when nobody is there, the actor crashes on it
    /// or the time is over. Ask only downwards in the tree: two actors that ask each other wait out the limit.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(RpcReplyPort<T>) -> M + Send,
        limit: Duration,
    ) -> Option<T> {
        match self.resident()?.call(question, Some(limit)).await {
            Ok(CallResult::Success(answer)) => Some(answer),
            _ => None,
        }
    }
    /// Whether a message sent now would be accepted.
    pub fn is_up(&self) -> bool {
        self.resident().is_some_and(|actor| actor.get_status() < ActorStatus::Draining)
    }
    /// Since when whoever lives here has been busy with one message.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }
    /// Called at each start by [`child`](super::child).
    pub(super) fn fill(&self, actor: ActorRef<M>) {
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
    }
    fn resident(&self) -> Option<ActorRef<M>> {
        self.slot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<M: Message> Default for Address<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { slot: Arc::clone(&self.slot), pulse: self.pulse.clone() }
    }
}
