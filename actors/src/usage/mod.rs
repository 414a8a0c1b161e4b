//! How full each session is, and what is new to archive.

pub mod actor;
pub mod engine;
pub mod estimate;
pub mod policy;
