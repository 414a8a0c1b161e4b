//! Backups: made, proved by a restore, copied elsewhere, and kept for as long as the settings say.
//!
//! The policy says which are kept and why; the engine makes, proves and removes over the vault and writes down what it did; two
//! chores of the calendar run it. It must never remove anything that the policy did not name.

pub mod chore;
pub mod engine;
pub mod policy;
