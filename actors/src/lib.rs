//! The core of Moon: a supervision tree of actors around pure policies.
//!
//! ```text
//! policy.rs (pure) <- engine.rs (async, over ports) <- actor.rs (mailbox, timers)
//! ```
//!
//! What it must never do: touch a file, a socket, a process or a clock. Those come in through [`port`], and the crates
//! that could reach them are not in this crate's manifest. The ledger is the truth; a message is only a doorbell.

pub mod alert;
pub mod archive;
pub mod backup;
pub mod bridge;
pub mod continuity;
pub mod contract;
pub mod control;
pub mod distill;
pub mod domain;
pub mod error;
pub mod health;
pub mod index;
pub mod port;
pub mod projection;
pub mod prune;
pub mod recall;
pub mod report;
pub mod rotation;
pub mod schedule;
pub mod screens;
pub mod settings;
pub mod stage;
pub mod supervisor;
pub mod threshold;
pub mod tree;
pub mod usage;
pub mod wiring;

pub use error::{Error, Kind, Result};
