//! Whose turn it is at a route of alerts: the daemon's, or that of a command which tells something beside a daemon that hangs.
//!
//! A kernel lock for each route, held from before a notice is handed over until that is written down: whoever waits for it looks into the
//! ledger then, and tells nothing that the other has told. It dies with its process, so that what a killed one was telling is told again.
//!
//! A holder that was stopped in its tracks keeps it. Whoever has waited for it for longer than a delivery can take goes on beside it, with
//! a second lock, so that those are one at a time too. Nothing but what was in flight at the stopped one can be told twice:
//!
//! - Whoever gets the turn itself waits for the end of what is told beside before he tells anything. He does not keep the second lock
//!   for that: if he were stopped he would keep both.
//! - Whoever gets the second lock looks whether the turn is still with whom he has waited for in vain, and lets go of it if it is not.
//!
//! Each writes down that he has come before he looks for the other, so that no two can miss each other.

use super::lock::HomeLock;
use crate::home::Home;
use async_trait::async_trait;
use moon_actors::alert::engine::DEADLINE;
use moon_actors::port::{Notice, Notifier, Severity, Turn};
use moon_actors::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A delivery is cut off after [`DEADLINE`]; the rest is for its record.
const PATIENCE: Duration = DEADLINE.saturating_add(Duration::from_secs(5));
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A route that several processes may serve.
pub(super) struct Shared {
    inner: Arc<dyn Notifier>,
    turn: Door,
    /// For those who have waited for the turn in vain.
    beside: Door,
    is_warned: AtomicBool,
}

impl Shared {
    pub(super) fn new(inner: Arc<dyn Notifier>, home: &Home) -> Self {
        let turn = Door::new(home.turn_file(inner.name()));
        let beside = Door::new(home.turn_beside_file(inner.name()));
        Self { inner, turn, beside, is_warned: AtomicBool::new(false) }
    }

    /// Told twice is better than not told.
    fn without(&self, error: &Error) -> Option<Turn> {
        if !self.is_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(route = self.name(), "alerts go on without a turn, and one may be told twice: {error}");
        }
        None
    }

    fn with(&self, lock: HomeLock) -> Option<Turn> {
        self.is_warned.store(false, Ordering::Relaxed);
        Some(Box::new(lock))
    }
}

/// A lock that is waited for.
struct Door {
    path: PathBuf,
    patience: Duration,
    /// Who was waited for in vain is not waited for again: when he came.
    in_vain: Mutex<Option<SystemTime>>,
}

impl Door {
    fn new(path: PathBuf) -> Self {
        Self { path, patience: PATIENCE, in_vain: Mutex::new(None) }
    }

    /// Asks until it is answered, as long as the holder may be at work: patience is with each holder anew. `daemon.held`: it was in vain.
    async fn wait<T: Send + 'static>(&self, ask: fn(&Path) -> Result<T>) -> Result<T> {
        let mut seen: Option<(SystemTime, Instant)> = None;
        loop {
            let path = self.path.clone();
            let answer = tokio::task::spawn_blocking(move || ask(&path)).await.unwrap_or_else(|e| {
                Err(Error::config("home.lock", "could not ask for the turn at a route of alerts").cause(e))
            });
            let error = match answer {
                Err(error) if error.code == "daemon.held" => error,
                other => return other,
            };
            let came = self.came();
            if self.is_in_vain() {
                return Err(error);
            }
            match seen {
                Some((same, since)) if same == came => {
                    if since.elapsed() >= self.patience {
                        *self.vain() = Some(came);
                        tracing::warn!(lock = %self.path.display(), "alerts wait for it no longer, and one may be told twice: {error}");
                        return Err(error);
                    }
                }
                _ => seen = Some((came, Instant::now())),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// When the holder came, or the last one: each writes into the file.
    fn came(&self) -> SystemTime {
        std::fs::metadata(&self.path).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Nobody has come since somebody was waited for in vain.
    fn is_in_vain(&self) -> bool {
        let came = self.came();
        *self.vain() == Some(came)
    }

    fn vain(&self) -> std::sync::MutexGuard<'_, Option<SystemTime>> {
        self.in_vain.lock().unwrap_or_else(PoisonError::into_inner)
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
        loop {
            match self.turn.wait(HomeLock::take_turn).await {
                Ok(lock) => {
                    // Whoever is at work beside has begun while the turn was another's. Who was stopped there is left alone.
                    let _ = self.beside.wait(HomeLock::look_at_turn).await;
                    return self.with(lock);
                }
                Err(error) if error.code != "daemon.held" => return self.without(&error),
                Err(_) => {}
            }
            let beside = self.beside.wait(HomeLock::take_turn).await;
            match beside {
                Err(error) if error.code != "daemon.held" => return self.without(&error),
                // Somebody has got the turn since: he is waited for like anybody else.
                _ if !self.turn.is_in_vain() => {}
                Ok(lock) => return self.with(lock),
                Err(error) => return self.without(&error),
            }
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

    const SHORT: Duration = Duration::from_millis(100);

    fn home() -> (tempfile::TempDir, Home) {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("opens");
        (scratch, home)
    }

    fn route(home: &Home, patience: Duration) -> Arc<Shared> {
        let mut route = Shared::new(Arc::new(LogNotifier::new(home.alerts_log())), home);
        (route.turn.patience, route.beside.patience) = (patience, patience);
        Arc::new(route)
    }

    /// A turn that is being waited for, and is not had at once.
    async fn waiting(route: &Arc<Shared>) -> tokio::task::JoinHandle<Option<Turn>> {
        let route = Arc::clone(route);
        let waiting = tokio::spawn(async move { route.turn().await });
        tokio::time::sleep(4 * SHORT).await;
        assert!(!waiting.is_finished(), "one at a time");
        waiting
    }

    #[tokio::test]
    async fn a_turn_is_waited_for_until_the_other_lets_go_of_it() {
        let (_scratch, home) = home();
        let (one, other) = (route(&home, PATIENCE), route(&home, PATIENCE));
        let held = one.turn().await.expect("free");
        let waiting = waiting(&other).await;
        drop(held);
        drop(waiting.await.expect("no panic").expect("it is the other's turn"));
        let elsewhere = HomeLock::take_turn(&home.turn_file("another")).expect("another route is free");
        drop((one.turn().await.expect("free again"), elsewhere));
    }

    #[tokio::test]
    async fn who_wait_in_vain_are_one_at_a_time_and_wait_in_vain_once() {
        let (_scratch, home) = home();
        let (hung, one, other) = (route(&home, PATIENCE), route(&home, SHORT), route(&home, SHORT));
        let stopped = hung.turn().await.expect("free");
        let first = one.turn().await.expect("beside the one that was stopped");
        // He is patient with whoever tells something beside as with anybody.
        let mut other = Arc::into_inner(other).expect("nobody else has it");
        other.beside.patience = PATIENCE;
        let second = waiting(&Arc::new(other)).await;
        drop(first);
        drop(second.await.expect("no panic").expect("it is the other's turn"));
        let begun = Instant::now();
        drop(one.turn().await.expect("beside again"));
        assert!(begun.elapsed() < SHORT, "at once this time: {:?}", begun.elapsed());
        drop(stopped);
        assert!(hung.turn().await.is_some());
    }

    #[tokio::test]
    async fn a_daemon_that_wakes_waits_for_the_end_of_what_is_told_beside_it_and_is_waited_for_again() {
        let (_scratch, home) = home();
        let (daemon, teller) = (route(&home, PATIENCE), route(&home, SHORT));
        let stopped = daemon.turn().await.expect("free");
        let beside = teller.turn().await.expect("beside the daemon");
        drop(stopped);
        let next = waiting(&daemon).await;
        drop(beside);
        let next = next.await.expect("no panic").expect("it is the daemon's turn");
        // Whoever waited for it in vain before knows that it has come anew.
        let mut teller = Arc::into_inner(teller).expect("nobody else has it");
        teller.turn.patience = PATIENCE;
        let turn = waiting(&Arc::new(teller)).await;
        drop(next);
        assert!(turn.await.expect("no panic").is_some());
    }

    #[tokio::test]
    async fn when_everybody_was_stopped_alerts_go_on_without_a_turn() {
        let (_scratch, home) = home();
        let (hung, killed, route) = (route(&home, PATIENCE), route(&home, SHORT), route(&home, SHORT));
        let held = (hung.turn().await.expect("free"), killed.turn().await.expect("beside it"));
        assert!(route.turn().await.is_none(), "it is told all the same");
        let begun = Instant::now();
        assert!(route.turn().await.is_none());
        assert!(begun.elapsed() < SHORT, "at once this time: {:?}", begun.elapsed());
        drop(held.0);
        assert!(route.turn().await.is_some(), "who was stopped beside holds nobody up");
    }
}
