//! The composition root: lock, log, ledger, ports, tree; then signals; then an orderly stop.
//!
//! Nothing here decides anything about sessions. A daemon that cannot go on writes down why, lets the alerts go out, and ends with a
//! code that the service manager understands.

pub mod away;
pub mod lock;
mod notify;
pub mod ports;
pub mod socket;
mod turn;
mod watchdog;

use crate::adapters::sqlite::SqliteLedger;
use crate::config::Loaded;
use crate::home::Home;
use lock::HomeLock;
use moon_actors::control::engine::{DaemonHands, Hands};
use moon_actors::port::{AlertKey, AuditEntry, DaemonPhase, Ledger, Ports, SessionHost, Severity};
use moon_actors::settings::Settings;
use moon_actors::supervisor::{self, EndReason, Notice, Sink, Tree};
use moon_actors::tree::tree;
use moon_actors::wiring::{MakeHands, Wiring};
use moon_actors::{Error, Result};
use ports::HostPlan;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

/// How long alerts and notices may take to go out when Moon ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a daemon begins anew with.
pub struct Renewal {
    pub loaded: Loaded,
    pub plan: HostPlan,
}

/// Reads the settings as they stand now; an error says all that is wrong with them, and changes nothing.
pub type Renew = Arc<dyn Fn() -> Result<Renewal> + Send + Sync>;

/// How a daemon ended.
pub enum Ended {
    /// As it was asked to, or because it gave up.
    For(EndReason),
    /// Everything has stopped in order; the home is still held. Begin anew with these.
    Renewed(Box<Renewal>, HomeLock),
}

/// A running daemon, in this process.
pub struct Daemon {
    pub wiring: Wiring,
    pub tree: Tree,
    home: Home,
    ledger: SqliteLedger,
    wishes: Wishes,
    scribe: Scribe,
    watchdog: Option<tokio::task::JoinHandle<()>>,
    lock: HomeLock,
}

/// What somebody wants of the daemon as a whole.
#[derive(Clone)]
struct Wishes {
    stop: Arc<Notify>,
    renew: Option<Renew>,
    renewal: Arc<Mutex<Option<Renewal>>>,
    renewed: Arc<Notify>,
}

impl Wishes {
    fn new(renew: Option<Renew>) -> Self {
        Self { stop: Arc::default(), renew, renewal: Arc::default(), renewed: Arc::default() }
    }

    /// Settings that are wrong are told to whoever asked, and the daemon runs on as it is.
    fn reload(&self) -> Result<()> {
        let Some(renew) = &self.renew else {
            return Err(Error::unavailable("daemon.no_reload", "this daemon cannot read its settings anew")
                .hint("stop it and start it again"));
        };
        let renewal = renew()?;
        *self.renewal.lock().unwrap_or_else(PoisonError::into_inner) = Some(renewal);
        self.renewed.notify_one();
        Ok(())
    }

    fn take_renewal(&self) -> Option<Renewal> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Daemon {
    /// Starts everything over a home that `lock` holds. Must be called inside a runtime.
    pub async fn start(home: &Home, settings: Settings, lock: HomeLock, host: Arc<dyn SessionHost>) -> Result<Self> {
        Self::start_renewable(home, settings, lock, host, None).await
    }

    /// The same for a daemon that can read its settings anew.
    pub async fn start_renewable(
        home: &Home,
        settings: Settings,
        lock: HomeLock,
        host: Arc<dyn SessionHost>,
        renew: Option<Renew>,
    ) -> Result<Self> {
        let (ports, ledger) = ports::open(home, &settings, host)?;
        ports::begin(&ports, &ledger).await?;
        // From now on this is the life of a daemon, however early it ends.
        ledger.beat(0, 0).await?;
        // What a service manager told when it had given up is over.
        ledger.resolve(&AlertKey::new("daemon_critical", "moon")).await?;
        say(&ports, DaemonPhase::Starting).await;
        let (wishes, slot) = (Wishes::new(renew), Arc::new(OnceLock::new()));
        let wiring = wire(home, settings, ports, wishes.clone(), Arc::clone(&slot));
        let scribe = Scribe::start(ledger.clone());
        wiring.connect_bells();
        let tree = supervisor::run(tree(&wiring), scribe.sink()).await;
        let _ = slot.set(tree.clone());
        // It runs because somebody wants it to: an earlier wish for a stop is over.
        crate::service::wish::clear(home);
        let watchdog = watchdog::start(&tree, &wiring, &ledger);
        say(&wiring.ports, DaemonPhase::Running).await;
        tracing::info!(home = %home.root().display(), host = %wiring.ports.host.describe(), "moon is watching");
        Ok(Self { wiring, tree, home: home.clone(), ledger, wishes, scribe, watchdog, lock })
    }

    /// Ringing this is the same as a signal that comes while it runs; a ring before that is kept.
    pub fn stopper(&self) -> Arc<Notify> {
        Arc::clone(&self.wishes.stop)
    }

    /// Runs until it is told to stop or to begin anew, or gives up; returns why.
    pub async fn run(self) -> Result<Ended> {
        let telling = tokio::spawn(notify::tell(self.tree.clone(), self.wiring.clone()));
        let ended = self.wait().await;
        telling.abort();
        match ended {
            Some(Some(reason)) => self.give_up(reason).await.map(Ended::For),
            Some(None) => {
                crate::service::wish::asked_to_stop(&self.home);
                notify::stopping();
                self.stop("stopped as asked").await?;
                Ok(Ended::For(EndReason::Stopped))
            }
            None => {
                notify::reloading();
                let wishes = self.wishes.clone();
                let lock = self.end("begins anew with new settings").await?;
                let renewal = wishes.take_renewal().expect("it is put there before anybody is told");
                Ok(Ended::Renewed(Box::new(renewal), lock))
            }
        }
    }

    /// `None`: begin anew. `Some(None)`: stop. Else why the tree has ended by itself.
    async fn wait(&self) -> Option<Option<EndReason>> {
        // Made once: a signal between two looks would be lost.
        let (stop, mut hangup) = (told_to_stop(), Hangup::listen());
        tokio::pin!(stop);
        loop {
            tokio::select! {
                reason = self.tree.finished() => return Some(Some(reason)),
                () = self.wishes.stop.notified() => return Some(None),
                () = &mut stop => return Some(None),
                () = self.wishes.renewed.notified() => return None,
                () = hangup.heard() => {
                    if hangup.ends_the_terminal {
                        return Some(None);
                    }
                    if let Err(error) = self.wishes.reload() {
                        tracing::error!(code = error.code, "not reloaded, everything goes on as it was: {error}");
                    }
                }
            }
        }
    }

    /// Drains the tree, closes the ledger and lets go of the home.
    pub async fn stop(self, reason: &str) -> Result<()> {
        self.end(reason).await.map(drop)
    }

    async fn end(self, reason: &str) -> Result<HomeLock> {
        tracing::info!(reason, "stopping");
        say(&self.wiring.ports, DaemonPhase::Stopping).await;
        let killed = tokio::select! {
            killed = self.tree.stop(self.wiring.settings.supervision.drain) => killed,
            // A second signal means now.
            () = told_to_stop() => vec!["everything".to_owned()],
        };
        if let Some(watchdog) = self.watchdog {
            watchdog.abort();
        }
        if !killed.is_empty() {
            tracing::warn!(
                killed = killed.join(", "),
                "not everybody had finished; the ledger takes their work up again"
            );
        }
        self.scribe.finish().await;
        conclude(&self.ledger, &self.wiring, (reason, DaemonPhase::Stopped)).await?;
        Ok(self.lock)
    }

    async fn give_up(self, reason: EndReason) -> Result<EndReason> {
        if let EndReason::GaveUp { path, reason } = &reason {
            let message = format!("moon gives up: {path} keeps failing: {reason}");
            tracing::error!("{message}");
            let hint = "the service manager starts it again; see `moon logs` and report the crash";
            let key = AlertKey::new("supervision.gave_up", "moon");
            self.ledger.raise(&key, Severity::Critical, &message, Some(hint)).await?;
            let _ = tokio::time::timeout(LAST_WORDS, self.wiring.post().deliver()).await;
            self.scribe.finish().await;
            conclude(&self.ledger, &self.wiring, (&message, DaemonPhase::Error)).await?;
        }
        Ok(reason)
    }
}

fn wire(home: &Home, settings: Settings, ports: Ports, wishes: Wishes, slot: Arc<OnceLock<Tree>>) -> Wiring {
    let hands: MakeHands = Arc::new(move |wiring| -> Arc<dyn Hands> {
        let (stop, renew) = (Arc::clone(&wishes.stop), wishes.clone());
        // `notify_one` keeps the wish for a `run` that is not waiting yet.
        let stop = Arc::new(move || stop.notify_one());
        let reload = Arc::new(move || renew.reload());
        Arc::new(DaemonHands { wiring: wiring.clone(), tree: Arc::clone(&slot), stop, reload })
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

/// SIGHUP: a service manager's wish for a reload, or the end of the terminal that Moon was started in.
struct Hangup {
    signals: Option<tokio::signal::unix::Signal>,
    ends_the_terminal: bool,
}

impl Hangup {
    fn listen() -> Self {
        let ends_the_terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
        Self { signals: signal(SignalKind::hangup()).ok(), ends_the_terminal }
    }
    async fn heard(&mut self) {
        match &mut self.signals {
            Some(signals) => _ = signals.recv().await,
            None => std::future::pending().await,
        }
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
