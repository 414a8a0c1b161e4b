//! Stub, being written.

mod dialogue;
pub(crate) mod evidence;
mod files;
pub mod lexicon;
pub mod local;
pub mod memory;
pub mod outline;
mod overview;
pub mod redact;
mod sentence;
pub mod words;

pub use redact::redact;
