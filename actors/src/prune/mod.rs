//! Stub, being written.

pub mod summary;
