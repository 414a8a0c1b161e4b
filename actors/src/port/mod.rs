//! The borders of the core: one trait per outside party, and nothing else.
//!
//! `src/adapters` implements them for the real world, `tests/` for a hostile one. Every method may be cut off at any
//! await (a killed actor drops its future), so every effect behind a port must be safe to repeat.

mod alert_book;
mod archive_store;
mod bridge;
mod check;
mod clock;
mod distiller;
mod ledger;
mod log_files;
mod memory_store;
mod meter;
mod notifier;
mod overview;
mod probe;
mod projector;
mod search_index;
mod session_host;
mod vault;

pub use alert_book::*;
pub use archive_store::{ArchiveStore, SegmentDraft, Stored};
pub use bridge::{Bridge, BridgeEvent, BridgeEventKind, BridgeStatus, Slot};
pub use check::{AlertRules, Check, CheckGroup, CheckRow, Episode, Healer, Kept, Look, NoHealer, Raised};
pub use clock::{Clock, Ids};
pub use distiller::{DistillInput, Distiller};
pub use ledger::*;
pub use log_files::{Carried, LogFiles, LogSet};
pub use memory_store::{MapFile, MemoryBlock, MemoryStore};
pub use meter::{Meter, NoMeter, Resources};
pub use notifier::{Alert, AlertKey, Digest, Notice, Notifier, Severity, Turn};
pub use overview::{PastAlert, Period, StageLoad, UsageTrack};
pub use probe::{NoProbe, Probe};
pub use projector::{DaemonPhase, Projector};
pub use search_index::{Hit, Hits, IndexDoc, IndexStatus, Put, Query, SearchIndex, SegmentName, TurnHit};
pub use session_host::{Compacted, Doorbell, SessionHost};
pub use vault::{Held, Made, NoVault, Progress, Proof, Proven, Step, StoredBackup, Target, Vault, Watch};

use std::sync::Arc;

/// Every port, wired once by the composition root. Actors take the few they use.
#[derive(Clone)]
pub struct Ports {
    pub host: Arc<dyn SessionHost>,
    pub bridge: Arc<dyn Bridge>,
    pub archive: Arc<dyn ArchiveStore>,
    pub index: Arc<dyn SearchIndex>,
    pub distiller: Arc<dyn Distiller>,
    pub memory: Arc<dyn MemoryStore>,
    pub ledger: Arc<dyn Ledger>,
    pub notifiers: Vec<Arc<dyn Notifier>>,
    /// What is looked at, all of it.
    pub checks: Vec<Arc<dyn Check>>,
    pub healer: Arc<dyn Healer>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub projector: Arc<dyn Projector>,
    pub vault: Arc<dyn Vault>,
    pub probe: Arc<dyn Probe>,
    pub logs: Arc<dyn LogFiles>,
    pub meter: Arc<dyn Meter>,
}
