//! The zero-loss copy of every transcript.

pub mod coverage;
pub mod engine;
pub mod projection;
pub mod transcript;
