//! How far a piece of work is, told now and then, and whether it is still wanted.

use moon_actors::port::{Progress, Step, Watch};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared by the threads of one piece of work. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Meter {
    watch: Option<Watch>,
    step: Step,
    of: Option<u64>,
    members: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl Meter {
    pub(super) fn new(watch: Option<Watch>, step: Step, of: Option<u64>, stopped: Arc<AtomicBool>) -> Self {
        Self { watch, step, of, stopped, ..Self::default() }
    }
    pub(super) fn member(&self) {
        self.members.fetch_add(1, Ordering::Relaxed);
        self.tell();
    }
    pub(super) fn bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tell();
    }
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
    /// An error once nobody wants the work any more.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_stopped() { Err(io::Error::new(io::ErrorKind::Interrupted, STOPPED)) } else { Ok(()) }
    }
    fn tell(&self) {
        if let Some(watch) = &self.watch {
            watch(Progress {
                step: self.step,
                members: self.members.load(Ordering::Relaxed),
                bytes: self.bytes.load(Ordering::Relaxed),
                of: self.of,
            });
        }
    }
}

const STOPPED: &str = "it is not wanted any more";

/// Stops the work when it is dropped: its future was.
pub(super) struct StopOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
