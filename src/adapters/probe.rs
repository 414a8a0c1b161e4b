//! Stops the process dead at a named point, or the worker that reaches it, so that tests can show that a restart loses and
//! doubles nothing, and that a hung worker is found.
//!
//! Exists in debug builds only; a release build has [`NoProbe`] and reads no variable.

use async_trait::async_trait;
use moon_actors::port::{NoProbe, Probe};
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// `MOON_TEST_KILL_AT=prune.acted` or `archive.stored:3` (the third time it is reached).
const VARIABLE: &str = "MOON_TEST_KILL_AT";
/// `MOON_TEST_HANG_AT=archive.claimed`: who reaches it waits for ever.
const HANG: &str = "MOON_TEST_HANG_AT";

/// `MOON_TEST_INTERRUPT_AT=restore.swapped:2`: who reaches it is interrupted, as by a person's Ctrl-C.
const INTERRUPT: &str = "MOON_TEST_INTERRUPT_AT";

struct KillAt {
    point: String,
    left: AtomicU32,
    signal: Signal,
}

#[async_trait]
impl Probe for KillAt {
    async fn reach(&self, point: &'static str) {
        if point == self.point && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Nothing is flushed, no destructor runs: as if the power of this process had been cut.
            let _ = rustix::process::kill_process(rustix::process::getpid(), self.signal);
            if self.signal == Signal::KILL {
                std::future::pending::<()>().await;
            }
            // Whoever listens for it shall have heard it before the next step.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

struct HangAt(String);

#[async_trait]
impl Probe for HangAt {
    async fn reach(&self, point: &'static str) {
        if point == self.0 {
            std::future::pending::<()>().await;
        }
    }
}

/// The probe this process runs with.
pub fn from_environment() -> Arc<dyn Probe> {
    let named = |variable| if cfg!(debug_assertions) { std::env::var(variable).ok() } else { None };
    if let Some(point) = named(HANG) {
        return Arc::new(HangAt(point));
    }
    let (wanted, signal) = match (named(VARIABLE), named(INTERRUPT)) {
        (Some(wanted), _) => (wanted, Signal::KILL),
        (None, Some(wanted)) => (wanted, Signal::INT),
        (None, None) => return Arc::new(NoProbe),
    };
    let (point, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    Arc::new(KillAt { point: point.to_owned(), left: AtomicU32::new(times.parse().unwrap_or(1)), signal })
}
