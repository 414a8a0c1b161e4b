//! Turning what was said into daily memory.

pub mod engine;
pub mod local;
pub mod memory;
pub mod redact;
