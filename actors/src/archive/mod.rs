//! Stub, being written.

pub mod block;
pub mod plain;
pub mod projection;
pub mod transcript;
