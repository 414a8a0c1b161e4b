//! The composition root: lock, log, ledger, ports, tree; then signals; then an orderly stop.
//!
//! Nothing here decides anything about sessions. A daemon that cannot go on writes down why, lets the alerts go out, and ends with a
//! code that the service manager understands.

pub mod lock;
pub mod ports;
pub mod socket;

use crate::adapters::sqlite::SqliteLedger;
use crate::home::Home;
use lock::HomeLock;
use moon_actors::control::engine::{DaemonHands, Hands};
use moon_actors::port::{AlertKey, AuditEntry, DaemonPhase, Ledger, Ports, SessionHost, Severity};
use moon_actors::settings::Settings;
use moon_actors::supervisor::{self, EndReason, Notice, Sink, Tree};
use moon_actors::tree::tree;
use moon_actors::wiring::{MakeHands, Wiring};
use moon_actors::{Error, Result};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

/// How long alerts and notices may take to go out when Moon ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A running daemon, in this process.
pub struct Daemon {
    pub wiring: Wiring,
    pub tree: Tree,
    ledger: SqliteLedger,
    stop: Arc<Notify>,
    scribe: Scribe,
    _lock: HomeLock,
}

impl Daemon {
    /// Starts everything over a home that `lock` holds. Must be called inside a runtime.
    pub async fn start(home: &Home, settings: Settings, lock: HomeLock, host: Arc<dyn SessionHost>) -> Result<Self> {
        let (ports, ledger) = ports::open(home, &settings, host)?;
        ports::begin(&ports, &ledger).await?;
        say(&ports, DaemonPhase::Starting).await;
        let (stop, slot) = (Arc::new(Notify::new()), Arc::new(OnceLock::new()));
        let wiring = wire(home, settings, ports, Arc::clone(&stop), Arc::clone(&slot));
        let scribe = Scribe::start(ledger.clone());
        wiring.connect_bells();
        let tree = supervisor::run(tree(&wiring), scribe.sink()).await;
        let _ = slot.set(tree.clone());
        say(&wiring.ports, DaemonPhase::Running).await;
        tracing::info!(home = %home.root().display(), host = %wiring.ports.host.describe(), "moon is watching");
        Ok(Self { wiring, tree, ledger, stop, scribe, _lock: lock })
    }

    /// Runs until it is told to stop or gives up; returns why.
    pub async fn run(self) -> Result<EndReason> {
        let asked = tokio::select! {
            reason = self.tree.finished() => Some(reason),
            () = self.stop.notified() => None,
            () = told_to_stop() => None,
        };
        match asked {
            Some(reason) => self.give_up(reason).await,
            None => {
                self.stop("stopped as asked").await?;
                Ok(EndReason::Stopped)
            }
        }
    }

    /// Drains the tree and closes the ledger.
    pub async fn stop(self, reason: &str) -> Result<()> {
        tracing::info!(reason, "stopping");
        say(&self.wiring.ports, DaemonPhase::Stopping).await;
        let killed = tokio::select! {
            killed = self.tree.stop(self.wiring.settings.supervision.drain) => killed,
            // A second signal means now.
            () = told_to_stop() => vec!["everything".to_owned()],
        };
        if !killed.is_empty() {
            tracing::warn!(
                killed = killed.join(", "),
                "not everybody had finished; the ledger takes their work up again"
            );
        }
        self.scribe.finish().await;
        conclude(&self.ledger, &self.wiring, (reason, DaemonPhase::Stopped)).await
    }

    async fn give_up(self, reason: EndReason) -> Result<EndReason> {
        if let EndReason::GaveUp { path, reason } = &reason {
            let message = format!("moon gives up: {path} keeps failing: {reason}");
            tracing::error!("{message}");
            let hint = "the service manager starts it again; see `moon logs` and report the crash";
            let key = AlertKey::new("supervision.gave_up", "moon");
            self.ledger.raise(&key, Severity::Critical, &message, Some(hint)).await?;
            let (ledger, notifiers) = (self.ledger.clone(), self.wiring.ports.notifiers.clone());
            let deliver = async move { moon_actors::alert::deliver(&ledger, &notifiers).await.map(drop) };
            let _ = tokio::time::timeout(LAST_WORDS, deliver).await;
            self.scribe.finish().await;
            conclude(&self.ledger, &self.wiring, (&message, DaemonPhase::Error)).await?;
        }
        Ok(reason)
    }
}

fn wire(home: &Home, settings: Settings, ports: Ports, stop: Arc<Notify>, slot: Arc<OnceLock<Tree>>) -> Wiring {
    let hands: MakeHands = Arc::new(move |wiring| -> Arc<dyn Hands> {
        let stop = Arc::clone(&stop);
        // `notify_one` keeps the wish for a `run` that is not waiting yet.
        let stop = Arc::new(move || stop.notify_one());
        Arc::new(DaemonHands { wiring: wiring.clone(), tree: Arc::clone(&slot), stop })
    });
    let transport = socket::SocketTransport::new(home.clone(), settings.dashboard.clone());
    ports::wire(ports, settings, Arc::new(transport), hands)
}

/// Ends when the process is asked to: SIGTERM or SIGINT.
pub(crate) async fn told_to_stop() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Ends a life in the ledger, and lets the files that people read say so.
async fn conclude(ledger: &SqliteLedger, wiring: &Wiring, (reason, phase): (&str, DaemonPhase)) -> Result<()> {
    let ended = ledger.end(reason).await;
    say(&wiring.ports, phase).await;
    ended?;
    if let Err(error) = wiring.ports.projector.refresh().await {
        tracing::warn!(code = error.code, "{error}");
    }
    Ok(())
}

/// Says in the status file how far this life is. A file that cannot be written stops nothing.
async fn say(ports: &Ports, phase: DaemonPhase) {
    if let Err(error) = ports.projector.phase(phase).await {
        tracing::warn!(code = error.code, "{error}");
    }
}

/// Writes what happens in the tree into the ledger: the supervisor itself does no I/O.
struct Scribe {
    /// `None` is the end.
    notices: mpsc::UnboundedSender<Option<Notice>>,
    task: tokio::task::JoinHandle<()>,
}

impl Scribe {
    fn start(ledger: SqliteLedger) -> Self {
        // Unbounded, but each notice is a crash or a restart, and those are limited by the supervisor itself.
        let (notices, mut receive) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(Some(notice)) = receive.recv().await {
                if let Err(error) = record(&ledger, &notice).await {
                    tracing::error!(code = error.code, ?notice, "could not record what happened in the tree: {error}");
                }
            }
        });
        Self { notices, task }
    }

    fn sink(&self) -> Sink {
        let notices = self.notices.clone();
        Arc::new(move |notice| drop(notices.send(Some(notice))))
    }

    /// Writes down what is still waiting.
    async fn finish(self) {
        let _ = self.notices.send(None);
        let _ = tokio::time::timeout(LAST_WORDS, self.task).await;
    }
}

async fn record(ledger: &SqliteLedger, notice: &Notice) -> Result<(), Error> {
    let parked = |child: &str| AlertKey::new("supervision.parked", child);
    let entry = |event: &str, outcome: &str, message: String| AuditEntry::new("supervisor", event, outcome, message);
    match notice {
        Notice::Crashed { child, reason, restarts } => {
            tracing::error!(child, restarts, "crashed: {reason}");
            ledger.audit(&entry("crashed", "failed", format!("{child} crashed: {reason}"))).await
        }
        Notice::Restarted { child } => {
            ledger.resolve(&parked(child)).await?;
            ledger.audit(&entry("restarted", "ok", format!("{child} is up again"))).await
        }
        Notice::Parked { child, reason } => {
            ledger
                .audit(&entry("parked", "failed", format!("{child} crashed too often and is parked: {reason}")))
                .await?;
            let name = child.rsplit('/').next().unwrap_or(child);
            let message = format!("{name} crashed too often and is parked; everything else goes on: {reason}");
            let hint = format!("`moon ctl restart {name}` revives it; see `moon logs`");
            ledger.raise(&parked(child), Severity::Critical, &message, Some(&hint)).await.map(drop)
        }
        Notice::Escalated { child, reason } => {
            ledger.audit(&entry("escalated", "failed", format!("{child} crashed too often: {reason}"))).await
        }
        Notice::Stopped { killed } => {
            let how = if killed.is_empty() { "in order".to_owned() } else { format!("killed: {}", killed.join(", ")) };
            ledger.audit(&entry("stopped", "info", format!("the tree stopped, {how}"))).await
        }
    }
}
