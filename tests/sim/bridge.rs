//! The bridge of the simulated world: an inbox that keeps everything, slots, acknowledgements, a heartbeat.

use crate::world::World;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::Result;
use moon_actors::domain::{SessionKey, Sha256};
use moon_actors::port::{Bridge, BridgeEvent, BridgeEventKind, BridgeStatus, Doorbell, Slot};
use std::collections::{HashMap, HashSet};

#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) events: Vec<BridgeEvent>,
    pub(crate) slots: HashMap<(SessionKey, Slot), String>,
    pub(crate) acks: HashSet<String>,
    /// Real milliseconds of the last heartbeat.
    pub(crate) beat: Option<i64>,
    /// The gateway that loaded the plugin is gone, or the plugin is.
    pub(crate) dead: bool,
}

impl Inbox {
    /// Writes an event, as the plugin does; a dead bridge writes nothing. True if it was written.
    pub(crate) fn say(&mut self, at: DateTime<Utc>, key: &SessionKey, kind: BridgeEventKind) -> bool {
        self.say_of(at, key, None, kind)
    }
    /// The same about a certain transcript of the session.
    pub(crate) fn say_of(
        &mut self,
        at: DateTime<Utc>,
        key: &SessionKey,
        session_id: Option<String>,
        kind: BridgeEventKind,
    ) -> bool {
        if !self.dead {
            self.events.push(BridgeEvent { at, session: Some(key.clone()), session_id, kind });
        }
        !self.dead
    }
    /// Whether a compaction waits for Moon: the plugin does so while the heartbeat is fresh.
    pub(crate) fn waits(&self, now_ms: i64) -> bool {
        !self.dead && self.beat.is_some_and(|beat| now_ms - beat < 15_000)
    }
}

#[async_trait]
impl Bridge for World {
    async fn status(&self) -> BridgeStatus {
        let alive = !self.state().inbox.dead;
        BridgeStatus { alive, version: Some("sim".into()), detail: if alive { "alive" } else { "not loaded" }.into() }
    }
    fn subscribe(&self, bell: Doorbell) {
        self.state().bridge_bell = Some(bell);
    }
    async fn events(&self, position: u64) -> Result<(Vec<BridgeEvent>, u64)> {
        self.act("bridge.events", |state| {
            let new: Vec<BridgeEvent> = state.inbox.events.iter().skip(position as usize).take(20).cloned().collect();
            let next = position + new.len() as u64;
            Ok((new, next))
        })
        .await
    }
    async fn place(&self, session: &SessionKey, slot: Slot, text: &str) -> Result<Sha256> {
        self.act("bridge.place", |state| {
            state.inbox.slots.insert((session.clone(), slot), text.to_owned());
            Ok(Sha256::of(text.as_bytes()))
        })
        .await
    }
    async fn placed(&self, session: &SessionKey, slot: Slot) -> Result<Option<String>> {
        self.act("bridge.placed", |state| Ok(state.inbox.slots.get(&(session.clone(), slot)).cloned())).await
    }
    async fn clear(&self, session: &SessionKey, slot: Slot) -> Result<()> {
        self.act("bridge.clear", |state| {
            state.inbox.slots.remove(&(session.clone(), slot));
            Ok(())
        })
        .await
    }
    async fn acknowledge(&self, id: &str) -> Result<()> {
        self.act("bridge.acknowledge", |state| {
            state.inbox.acks.insert(id.to_owned());
            Ok(())
        })
        .await
    }
    async fn heartbeat(&self) -> Result<()> {
        let now = self.time.real_ms();
        self.act("bridge.heartbeat", |state| {
            state.inbox.beat = Some(now);
            Ok(())
        })
        .await
    }
}
