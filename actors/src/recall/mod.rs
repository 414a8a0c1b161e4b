//! Stub, being written.

pub mod frame;
