//! Turning what was said into daily memory.

mod dialogue;
pub mod engine;
pub(crate) mod evidence;
mod files;
mod label;
pub(crate) mod lexicon;
pub mod local;
pub mod memory;
pub mod outline;
mod overview;
mod phrases;
pub mod redact;
mod sentence;
mod support;
mod verbs;
pub(crate) mod words;

pub use redact::redact;
