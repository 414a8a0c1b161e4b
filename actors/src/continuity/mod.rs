//! The hand-over from one window to the next.

pub mod engine;
pub mod map;
