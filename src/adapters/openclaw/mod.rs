//! Stub, being written.

pub mod install;
