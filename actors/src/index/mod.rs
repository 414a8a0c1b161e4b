//! Making what is archived findable.

pub mod engine;
