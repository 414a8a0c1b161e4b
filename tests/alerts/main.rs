//! The one path of alerts, from a raised condition to people: the ledger's part of it, what routes receive, the commands, kills.
//!
//! What these tests must never do: believe the path's own books alone; what counts is what stands at the receiver.

mod kill;
mod ledger;
mod path;
mod program;
mod receiver;
#[path = "../support/mod.rs"]
mod support;
