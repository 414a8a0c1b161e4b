//! The state of the one connection, shared between its task and the callers.
//!
//! Here so that a caller needs no lock on the connection: it hands a call over and waits, with a deadline, for the answer.
//! It must never wait without an end, and never keep a call for a later connection: an act that was asked for in one
//! situation must not happen in another.

use super::frame::{Hello, Refusal};
use super::listing::Breadth;
use super::usage::Table;
use moon_actors::port::Doorbell;
use moon_actors::{Error, Result};
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// A request on its way to the connection's task.
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) params: Value,
    pub(super) answer: oneshot::Sender<Result<Value, Refusal>>,
}

/// Where the connection stands.
#[derive(Clone)]
pub(super) enum Link {
    /// The first attempt has not ended yet.
    Connecting,
    /// Greeted, subscribed and listed.
    Up { hello: Arc<Hello>, calls: mpsc::Sender<Call> },
    /// Not there; the task tries again by itself.
    Down(Error),
}

/// Why a call brought no payload.
pub(super) enum Failure {
    /// The gateway said no.
    Refused(Refusal),
    /// There was no answer.
    Failed(Error),
}

impl Failure {
    pub(super) fn into_error(self, method: &str) -> Error {
        match self {
            Self::Refused(refusal) => super::frame::refused(method, &refusal),
            Self::Failed(error) => error,
        }
    }
}

/// What the connection's task and the adapter share.
pub(super) struct Shared {
    /// Where the gateway is, as far as is known now.
    url: Mutex<String>,
    link: watch::Sender<Link>,
    table: Mutex<Table>,
    /// What this gateway lets itself be asked for.
    breadth: Mutex<Breadth>,
    bell: OnceLock<Doorbell>,
    connect_timeout: Duration,
}

impl Shared {
    pub(super) fn new(url: String, connect_timeout: Duration) -> Self {
        let (link, _) = watch::channel(Link::Connecting);
        Self {
            url: Mutex::new(url),
            link,
            table: Mutex::default(),
            breadth: Mutex::default(),
            bell: OnceLock::new(),
            connect_timeout,
        }
    }

    /// The table; a panic while it was held leaves rows that are each whole, so poisoning is no reason to stop.
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn url(&self) -> String {
        self.url.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True when that is another one than before.
    pub(super) fn set_url(&self, url: String) -> bool {
        let mut known = self.url.lock().unwrap_or_else(PoisonError::into_inner);
        *known != url && {
            *known = url;
            true
        }
    }

    pub(super) fn breadth(&self) -> Breadth {
        *self.breadth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_breadth(&self, breadth: Breadth) {
        *self.breadth.lock().unwrap_or_else(PoisonError::into_inner) = breadth;
    }

    pub(super) fn install_bell(&self, bell: Doorbell) {
        // Called once by contract; a second bell would silence nobody, so it is simply not taken.
        let _ = self.bell.set(bell);
        if self.table().is_loaded() {
            self.ring();
        }
    }

    pub(super) fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    pub(super) fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    pub(super) fn set_up(&self, hello: Arc<Hello>, calls: mpsc::Sender<Call>) {
        self.link.send_replace(Link::Up { hello, calls });
        self.ring();
    }

    pub(super) fn set_down(&self, error: Error) {
        self.table().mark_stale();
        self.link.send_replace(Link::Down(error));
        self.ring();
    }

    /// The link once the first attempt has ended, or as it is after the time for that.
    pub(super) async fn settled(&self) -> Link {
        let mut link = self.link.subscribe();
        let settled = link.wait_for(|link| !matches!(link, Link::Connecting));
        match tokio::time::timeout(2 * self.connect_timeout, settled).await {
            Ok(Ok(link)) => link.clone(),
            _ => self.link(),
        }
    }

    /// Sends one request and waits for its answer for at most `deadline`.
    pub(super) async fn call(&self, method: &'static str, params: Value, deadline: Duration) -> Result<Value, Failure> {
        let calls = match self.settled().await {
            Link::Up { calls, .. } => calls,
            Link::Down(error) => return Err(Failure::Failed(error)),
            Link::Connecting => return Err(Failure::Failed(still_connecting(&self.url()))),
        };
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            calls.send(Call { method, params, answer }).await.map_err(|_| Failure::Failed(lost(method)))?;
            answered.await.map_err(|_| Failure::Failed(lost(method)))?.map_err(Failure::Refused)
        };
        tokio::time::timeout(deadline, exchange).await.unwrap_or_else(|_| Err(Failure::Failed(late(method, deadline))))
    }
}

/// Runs blocking work off the async threads. A panic in it is a bug and travels on; only a runtime that is shutting down
/// makes an error of it (`transient` `openclaw.stopping`).
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|ended| match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::transient("openclaw.stopping", "cannot read OpenClaw's files").cause("Moon is shutting down"),
    })
}

pub(super) fn still_connecting(url: &str) -> Error {
    Error::unavailable("openclaw.unreachable", format!("cannot reach OpenClaw's gateway at {url}"))
        .cause("the first attempt has not ended yet")
        .hint("try again in a few seconds")
}

fn lost(method: &str) -> Error {
    Error::transient("openclaw.connection_lost", format!("cannot finish {method} at OpenClaw"))
        .cause("the connection ended before the answer; the request may have been carried out")
        .hint("Moon looks at the session again before it repeats anything")
}

fn late(method: &str, deadline: Duration) -> Error {
    Error::transient("openclaw.timeout", format!("cannot finish {method} at OpenClaw"))
        .cause(format!("no answer within {} s; the request may still be carried out", deadline.as_secs_f32()))
        .hint("Moon looks at the session again before it repeats anything")
}
