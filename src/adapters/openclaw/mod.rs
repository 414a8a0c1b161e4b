//! The session host for a real OpenClaw 2026.8 and later: usage by WebSocket push, transcripts from its SQLite store.
//!
//! Here because everything Moon knows of an agent comes through this one adapter. It translates OpenClaw's answers into the
//! words of [`SessionHost`](moon_actors::port::SessionHost) and must never decide when something is reduced, never write into
//! OpenClaw's files, never trim a transcript (`maxLines`), and never let a token or a line of conversation into an error or a
//! log.

mod connection;
mod device;
mod discovery;
mod frame;
mod gateway;
mod host;
pub mod install;
mod link;
mod listing;
mod store;
mod usage;

pub use discovery::{Discovered, NOT_FOUND, Token, discover};
pub use host::OpenClaw;
