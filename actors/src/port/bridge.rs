//! The plugin inside the agent's gateway, seen from Moon: a folder with an inbox of events and slots for texts.
//!
//! The bridge is a folder, not a connection, so that neither side misses anything while the other is down, and so that
//! the plugin is inert when Moon is absent.

use crate::domain::{SessionKey, Sha256};
use crate::error::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Doorbell;

/// Where Moon's text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The continuity block: in every model call of the session while it lies there.
    Context,
    /// The text of the next compaction of the session.
    Summary,
    /// A recalled passage: in the next model call only; the bridge takes it away.
    Passage,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BridgeEventKind {
    /// A compaction is about to happen and waits (bounded) for [`Bridge::acknowledge`] with this id.
    BeforeCompaction {
        id: String,
    },
    AfterCompaction,
    /// The host is giving up, or has given up, a window.
    WindowEnding,
    /// A turn ended: there is something new to archive.
    TurnEnded,
    /// A model call of the session is being built; these texts of Moon's are in it.
    Injected {
        slot: Slot,
        sha256: Sha256,
    },
    /// A model call of the session was built and nothing of Moon's was in it.
    NotInjected,
    /// Anything Moon does not act on (gateway start and stop).
    Other(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct BridgeEvent {
    pub at: DateTime<Utc>,
    pub session: Option<SessionKey>,
    /// The host's id of the transcript, where the bridge was told it. Foreign text: never a path.
    pub session_id: Option<String>,
    pub kind: BridgeEventKind,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeStatus {
    /// The plugin has been loaded by a gateway that is still running.
    pub alive: bool,
    pub version: Option<String>,
    /// One line for people.
    pub detail: String,
}

#[async_trait]
pub trait Bridge: Send + Sync {
    async fn status(&self) -> BridgeStatus;

    /// Watches the inbox and rings on new events. Called once.
    fn subscribe(&self, bell: Doorbell);

    /// Events after `position` (0 at first) and the position to remember once they are dealt with. A damaged line is
    /// skipped and counted, a torn last line is left for next time.
    async fn events(&self, position: u64) -> Result<(Vec<BridgeEvent>, u64)>;

    /// Puts `text` into the slot, durably (fsync, rename, fsync folder). Returns its hash. Idempotent.
    async fn place(&self, session: &SessionKey, slot: Slot, text: &str) -> Result<Sha256>;

    /// What lies in the slot now.
    async fn placed(&self, session: &SessionKey, slot: Slot) -> Result<Option<String>>;

    /// Empties the slot. Idempotent.
    async fn clear(&self, session: &SessionKey, slot: Slot) -> Result<()>;

    /// Lets a waiting compaction go on: what it will reduce is archived.
    async fn acknowledge(&self, id: &str) -> Result<()>;

    /// Says "Moon is alive", so that a compaction waits for it; called on every pass.
    async fn heartbeat(&self) -> Result<()>;
}
