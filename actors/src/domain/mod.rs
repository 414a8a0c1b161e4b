//! The values everything else speaks of. No behaviour beyond their invariants, no I/O, no clock.

pub mod archive;
pub mod cycle;
pub mod health;
pub mod id;
pub mod memory;
pub mod session;

pub use archive::{Manifest, OPENCLAW_RPC, Page, Record, Role, Segment, Series, SourceIdentity, Turn};
pub use cycle::{Claim, CycleKind, Job, Stage, Trigger};
pub use health::{Condition, Figure, Finding, Trouble};
pub use id::{BootId, CycleId, SessionKey, Sha256, TraceId};
pub use memory::{ContinuityMap, Distillate, Item, ItemKind, Reference};
pub use session::{Capabilities, SessionRef, UsageReading};
