//! The shell of Moon: everything that touches the world.
//!
//! The core ([`moon_actors`]) decides; this crate reads the configuration, opens files, sockets and processes, wires the
//! ports together and talks to people. It must never decide when something is reduced.

pub mod adapters;
pub mod bench;
pub mod child;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod durable;
pub mod home;
pub mod logging;
mod pattern;
mod process;
mod scratch;
pub mod screens;
pub mod service;
