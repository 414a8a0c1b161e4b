//! When something is done to a session: thresholds, hysteresis, cooldowns.

pub mod actor;
pub mod engine;
pub mod policy;
