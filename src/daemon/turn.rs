//! Whose turn it is at a route of alerts: the daemon's, or that of a command which tells something beside a daemon that hangs.
//!
//! A kernel lock for each route, held from before a notice is handed over until that is written down: whoever waits for it looks into the
//! ledger then, and tells nothing that the other has told. It dies with its process, so that what a killed one was telling is told again.
//! A holder that was stopped in its tracks keeps it: nobody waits for longer than a delivery can take.

use super::lock::HomeLock;
use crate::home::Home;
use async_trait::async_trait;
use moon_actors::alert::engine::DEADLINE;
use moon_actors::port::{Notice, Notifier, Severity, Turn};
use moon_actors::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A delivery is cut off after [`DEADLINE`]; the rest is for its record.
const PATIENCE: Duration = DEADLINE.saturating_add(Duration::from_secs(5));
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A route that several processes may serve.
pub(super) struct Shared {
    inner: Arc<dyn Notifier>,
    home: Home,
    patience: Duration,
    /// Whoever has the turn was waited for in vain: he is not waited for again before he has let go of it.
    in_vain: AtomicBool,
}

impl Shared {
    pub(super) fn new(inner: Arc<dyn Notifier>, home: &Home) -> Self {
        Self { inner, home: home.clone(), patience: PATIENCE, in_vain: AtomicBool::new(false) }
    }

    async fn take(&self) -> Result<HomeLock> {
        let (home, route) = (self.home.clone(), self.name().to_owned());
        let taken = tokio::task::spawn_blocking(move || HomeLock::take_turn(&home, &route, "alerts")).await;
        taken.unwrap_or_else(|e| {
            Err(Error::config("home.lock", "could not ask for the turn at a route of alerts").cause(e))
        })
    }
}

#[async_trait]
impl Notifier for Shared {
    fn name(&self) -> &str {
        self.inner.name()
    }
    async fn deliver(&self, notice: &Notice) -> Result<()> {
        self.inner.deliver(notice).await
    }
    fn wants(&self, notice: &Notice) -> bool {
        self.inner.wants(notice)
    }
    fn least(&self) -> Severity {
        self.inner.least()
    }
    fn is_record(&self) -> bool {
        self.inner.is_record()
    }
    async fn turn(&self) -> Option<Turn> {
        let begun = Instant::now();
        loop {
            let error = match self.take().await {
                Ok(lock) => {
                    self.in_vain.store(false, Ordering::Relaxed);
                    return Some(Box::new(lock));
                }
                Err(error) => error,
            };
            let is_waited_for = error.code == "daemon.held" && !self.in_vain.load(Ordering::Relaxed);
            if is_waited_for && begun.elapsed() < self.patience {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            if !self.in_vain.swap(true, Ordering::Relaxed) {
                tracing::warn!(route = self.name(), "alerts go on without a turn, and one may be told twice: {error}");
            }
            return None;
        }
    }
    async fn note(&self, notice: &Notice, why: &str) -> Result<()> {
        self.inner.note(notice, why).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::log_notifier::LogNotifier;

    fn home() -> (tempfile::TempDir, Home) {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("opens");
        (scratch, home)
    }

    fn route(home: &Home, patience: Duration) -> Shared {
        Shared { patience, ..Shared::new(Arc::new(LogNotifier::new(home.alerts_log())), home) }
    }

    #[tokio::test]
    async fn a_turn_is_waited_for_until_the_other_lets_go_of_it() {
        let (_scratch, home) = home();
        let (one, other) = (route(&home, PATIENCE), route(&home, PATIENCE));
        let held = one.turn().await.expect("free");
        let waiting = tokio::spawn(async move { other.turn().await.is_some() });
        tokio::time::sleep(3 * LOOK_AGAIN).await;
        assert!(!waiting.is_finished(), "one at a time");
        drop(held);
        assert!(waiting.await.expect("no panic"), "it is the other's turn");
        let elsewhere = HomeLock::take_turn(&home, "another", "alerts").expect("another route is free");
        drop((one.turn().await.expect("free again"), elsewhere));
    }

    #[tokio::test]
    async fn who_keeps_a_turn_for_ever_is_waited_for_once_and_holds_nothing_up() {
        let (_scratch, home) = home();
        let (hung, route) = (route(&home, PATIENCE), route(&home, 2 * LOOK_AGAIN));
        let held = hung.turn().await.expect("free");
        assert!(route.turn().await.is_none(), "it is told all the same");
        let begun = Instant::now();
        assert!(Shared { patience: PATIENCE, ..route }.turn().await.is_none());
        assert!(begun.elapsed() < PATIENCE / 2, "at once this time: {:?}", begun.elapsed());
        drop(held);
        assert!(hung.turn().await.is_some());
    }
}
