//! Stub, being written.

pub mod estimate;
