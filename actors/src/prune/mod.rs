//! Making the live session smaller, only with a permit.

pub mod engine;
pub mod permit;
pub mod summary;
