//! Stub, being written.

pub mod map;
