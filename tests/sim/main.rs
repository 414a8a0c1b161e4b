//! The whole pipeline in a hostile world without processes: the real ledger, engines and tree on simulated time.
//!
//! A seed decides everything. `MOON_SIM_SEEDS` runs that many; `MOON_SIM_SEED=n` replays one; `MOON_SIM_LOG=debug` shows Moon's log and audit of it.
//! What it cannot see: real files, sockets, fsync, other threads, and the time a request travels to the host.

mod bridge;
mod check;
mod dice;
mod driver;
mod host;
mod scenarios;
mod stores;
mod storm;
mod world;
