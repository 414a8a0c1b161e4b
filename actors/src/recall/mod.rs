//! Finding what left the context, and putting it back as quoted data.

pub mod engine;
pub mod frame;
