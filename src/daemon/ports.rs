//! Puts the real adapters behind the ports.

use crate::adapters::archive_dir::ArchiveDir;
use crate::adapters::bridge_dir::BridgeDir;
use crate::adapters::clock::{SystemClock, UuidIds};
use crate::adapters::fts::FtsIndex;
use crate::adapters::log_notifier::LogNotifier;
use crate::adapters::memory_dir::MemoryDir;
use crate::adapters::openclaw::{self, OpenClaw};
use crate::adapters::probe;
use crate::adapters::projections::Projections;
use crate::adapters::sqlite::SqliteLedger;
use crate::adapters::transcripts::TranscriptsHost;
use crate::home::Home;
use moon_actors::control::engine::{Hands, OwnHands};
use moon_actors::control::{Router, Serving, Transport};
use moon_actors::distill::local::LocalDistiller;
use moon_actors::port::{Bridge, Clock, Ids, Ports, SessionHost};
use moon_actors::settings::{HostChoice, Settings};
use moon_actors::wiring::{MakeHands, Wiring};
use moon_actors::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// What stands in the manifest and the ledger as the writer.
pub fn writer() -> String {
    format!("moon {}", env!("CARGO_PKG_VERSION"))
}

/// Which host the settings and this machine name. Looks at files only; connects to nothing.
#[derive(Debug)]
pub enum HostPlan {
    OpenClaw(Box<openclaw::Discovered>),
    Transcripts(PathBuf),
}

impl HostPlan {
    /// `unavailable` with `openclaw.not_found` when there is none, in one line with the next step.
    pub fn find(settings: &Settings, transcripts: Option<PathBuf>) -> Result<Self> {
        match settings.watch.host {
            HostChoice::Transcripts => transcripts.map(Self::Transcripts).ok_or_else(|| {
                Error::config("config.invalid", "watch.transcripts_dir must be set for host = \"transcripts\"")
            }),
            HostChoice::Openclaw => openclaw::discover(&settings.openclaw).map(|d| Self::OpenClaw(Box::new(d))),
            HostChoice::Auto => match (openclaw::discover(&settings.openclaw), transcripts) {
                (Ok(found), _) => Ok(Self::OpenClaw(Box::new(found))),
                (Err(error), Some(folder)) if error.code == openclaw::NOT_FOUND => Ok(Self::Transcripts(folder)),
                (Err(error), _) => Err(error),
            },
        }
    }

    /// Starts it. Must be called inside a runtime.
    pub fn start(self, settings: &Settings, home: &Home) -> Arc<dyn SessionHost> {
        match self {
            Self::OpenClaw(found) => Arc::new(OpenClaw::connect(&settings.openclaw, &found, home.root())),
            Self::Transcripts(folder) => Arc::new(TranscriptsHost::new(folder, settings)),
        }
    }
}

/// The real ports over a home that is held by this process.
pub fn open(home: &Home, settings: &Settings, host: Arc<dyn SessionHost>) -> Result<(Ports, SqliteLedger)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let ids: Arc<dyn Ids> = Arc::new(UuidIds);
    let ledger = SqliteLedger::open(&home.ledger_db(), Arc::clone(&clock), Arc::clone(&ids))?;
    Ok((assemble(home, settings, host, ledger.clone(), clock, ids)?, ledger))
}

/// Only the ledger, for a look beside a running writer. `None` when there is none yet.
pub fn open_ledger_read_only(home: &Home) -> Result<Option<SqliteLedger>> {
    if !home.ledger_db().exists() {
        return Ok(None);
    }
    SqliteLedger::read_only(&home.ledger_db(), Arc::new(SystemClock::start()), Arc::new(UuidIds)).map(Some)
}

/// The same for a command that only reads beside a running writer. `None` when there is no ledger yet.
pub fn open_read_only(
    home: &Home,
    settings: &Settings,
    host: Arc<dyn SessionHost>,
) -> Result<Option<(Ports, SqliteLedger)>> {
    if !home.ledger_db().exists() {
        return Ok(None);
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let ids: Arc<dyn Ids> = Arc::new(UuidIds);
    let ledger = SqliteLedger::read_only(&home.ledger_db(), Arc::clone(&clock), Arc::clone(&ids))?;
    Ok(Some((assemble(home, settings, host, ledger.clone(), clock, ids)?, ledger)))
}

fn assemble(
    home: &Home,
    settings: &Settings,
    host: Arc<dyn SessionHost>,
    ledger: SqliteLedger,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
) -> Result<Ports> {
    let opened = |what: &'static str| {
        move |e: std::io::Error| {
            Error::config("home.io", format!("could not open {what} in Moon's home"))
                .cause(e)
                .hint("check the owner and mode of the home")
        }
    };
    let bridge: Arc<dyn Bridge> = Arc::new(BridgeDir::open(home.root()).map_err(opened("the bridge"))?);
    Ok(Ports {
        host,
        bridge,
        archive: Arc::new(
            ArchiveDir::open(home.root(), settings.archive.zstd_level, writer()).map_err(opened("the archive"))?,
        ),
        index: Arc::new(FtsIndex::open(&home.index_db(), settings.index.chunk_chars)?),
        distiller: Arc::new(LocalDistiller),
        memory: Arc::new(MemoryDir::open(home.root()).map_err(opened("the memory"))?),
        projector: Arc::new(Projections::new(home, ledger.clone(), Arc::clone(&clock))),
        ledger: Arc::new(ledger),
        notifiers: vec![Arc::new(LogNotifier::new(home.logs_dir().join("alerts.log")))],
        clock,
        ids,
        probe: probe::from_environment(),
    })
}

/// Wiring for a command that runs the engines itself.
pub fn alone(ports: Ports, settings: Settings) -> Wiring {
    let hands: MakeHands = Arc::new(|wiring| -> Arc<dyn Hands> { Arc::new(OwnHands { wiring: wiring.clone() }) });
    wire(ports, settings, Arc::new(NoTransport), hands)
}

pub fn wire(ports: Ports, settings: Settings, transport: Arc<dyn Transport>, hands: MakeHands) -> Wiring {
    Wiring {
        ports,
        settings: Arc::new(settings),
        mail: Default::default(),
        bell: Default::default(),
        archiving: Default::default(),
        transport,
        hands,
    }
}

/// A one-shot command is not asked anything.
struct NoTransport;

impl Transport for NoTransport {
    fn serve(&self, _: Router) -> Result<Box<dyn Serving>> {
        Err(Error::unavailable("control.no_transport", "this process serves no socket"))
    }
}
