//! What the plugin inside the agent's gateway tells, and what follows from it.

pub mod actor;
pub mod engine;
