//! Stub, being written.

pub mod agent;
pub mod conversation;

pub use agent::{DemoAgent, Request};
pub use conversation::{Exchange, PLANTED, Part, Planted, conversation};
