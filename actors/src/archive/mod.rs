//! The zero-loss copy of every transcript.

pub mod block;
pub mod capture;
pub mod coverage;
pub mod engine;
pub mod json;
pub mod plain;
pub mod projection;
pub mod transcript;
