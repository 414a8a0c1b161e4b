//! A thread of its own for what blocks: a disk that hangs then holds one thread of one check, and none of those the daemon lives on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

/// Enough for SQLite and a parser; only what is used of it costs memory.
const STACK: usize = 1 << 20;

/// At most one thread at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    busy: Arc<AtomicBool>,
}

impl Lane {
    /// Runs `work`; an error in a sentence when the look before still hangs, or the work itself failed.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err("the look before this one still hangs".into());
        }
        let busy = Busy(Arc::clone(&self.busy));
        let (send, receive) = oneshot::channel();
        let spawned: io::Result<_> =
            std::thread::Builder::new().name("moon-check".into()).stack_size(STACK).spawn(move || {
                let value = work();
                drop(busy);
                let _ = send.send(value);
            });
        spawned.map_err(|e| format!("no thread for it: {e}"))?;
        receive.await.map_err(|_| "the look itself crashed: a bug, see `moon logs`".to_owned())
    }
}

/// Free again however the work ends.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
