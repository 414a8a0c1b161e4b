//! Puts the real adapters behind the ports.

use crate::adapters::archive_dir::ArchiveDir;
use crate::adapters::backup::BackupVault;
use crate::adapters::bridge_dir::BridgeDir;
use crate::adapters::checks::healer::SystemHealer;
use crate::adapters::checks::{self, Place, Senses};
use crate::adapters::clock::{SystemClock, UuidIds};
use crate::adapters::fts::FtsIndex;
use crate::adapters::log_notifier::LogNotifier;
use crate::adapters::memory_dir::MemoryDir;
use crate::adapters::meter::SystemMeter;
use crate::adapters::openclaw::{self, OpenClaw};
use crate::adapters::probe;
use crate::adapters::projections::Projections;
use crate::adapters::room::LeavesRoom;
use crate::adapters::rotation::LogFolders;
use crate::adapters::routes;
use crate::adapters::sqlite::SqliteLedger;
use crate::adapters::transcripts::TranscriptsHost;
use crate::daemon::lock::HomeLock;
use crate::daemon::turn::Shared;
use crate::durable;
use crate::home::Home;
use moon_actors::alert::Post;
use moon_actors::alert::desk::Desk;
use moon_actors::control::engine::{Hands, OwnHands};
use moon_actors::control::{Router, Serving, Transport};
use moon_actors::distill::local::LocalDistiller;
use moon_actors::health::engine::Doctor;
use moon_actors::port::{ArchiveStore, Bridge, Clock, Ids, Ledger, Notifier, Ports, SearchIndex, SessionHost};
use moon_actors::settings::{HostChoice, Settings};
use moon_actors::wiring::{MakeHands, Wiring};
use moon_actors::{Error, Result};
use std::path::{Path, PathBuf};
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
        if let Some(folder) = transcripts.as_ref().filter(|folder| folder.exists() && !folder.is_dir()) {
            return Err(Error::config("config.invalid", "could not use the configuration")
                .cause(format!("watch.transcripts_dir: {} is not a folder", folder.display()))
                .hint("set it to the folder that holds the *.jsonl files"));
        }
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

/// Corrections of the clock smaller than this are what time services do all day.
const CLOCK_TOLERATED_SECS: i64 = 5;

/// Where writers put temporary files beside their targets. The archive is larger and sweeps itself.
const SWEPT: [&str; 6] = ["state", "memory", "continuity", "bridge", "logs", "run"];

/// The real ports over a home that is held by this process: what dead writers left behind is swept first.
pub fn open(home: &Home, settings: &Settings, host: Arc<dyn SessionHost>) -> Result<(Ports, SqliteLedger)> {
    sweep(home, settings);
    if !home.ledger_db().exists() {
        let manifests = ArchiveDir::count_manifests(home.root());
        if manifests > 0 {
            tracing::warn!(
                manifests,
                "the ledger is lost: a new one begins, which does not know of the archive that is here; see the runbook"
            );
        }
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let ids: Arc<dyn Ids> = Arc::new(UuidIds);
    let ledger = SqliteLedger::open(&home.ledger_db(), Arc::clone(&clock), Arc::clone(&ids))?;
    let index = FtsIndex::open(&home.index_db(), settings.index.chunk_chars);
    Ok((assemble(home, settings, host, index, ledger.clone(), (clock, ids))?, ledger))
}

/// Rubbish is no reason not to watch: what cannot be swept is told.
fn sweep(home: &Home, settings: &Settings) {
    let told = |folder: &Path, swept: std::io::Result<u64>| {
        if let Err(error) = swept {
            tracing::warn!(folder = %folder.display(), %error, "could not sweep what a dead writer left behind");
        }
    };
    crate::adapters::restore::sweep(home.root());
    for folder in SWEPT.map(|folder| home.root().join(folder)) {
        told(&folder, durable::sweep(&folder));
    }
    // These may stand in folders of other programs.
    let shown =
        [&settings.dashboard.html_file, &settings.dashboard.textfile].into_iter().filter(|file| !file.is_empty());
    for file in shown.map(|file| home.root().join(file)) {
        if let Some(folder) = file.parent() {
            told(folder, durable::sweep_here(folder));
        }
    }
}

/// Begins a life of this process in the home, and says what of the life before was not as it should be.
pub async fn begin(ports: &Ports, ledger: &SqliteLedger) -> Result<()> {
    let recovery = ledger.begin(&writer()).await?;
    let swept = ports.archive.sweep().await?;
    if !recovery.clean_stop || swept > 0 {
        let claims = recovery.released_claims;
        tracing::warn!(claims, swept, "the last run did not end in order; its work goes on where it stood");
    }
    if recovery.clock_behind_secs > CLOCK_TOLERATED_SECS {
        let seconds = recovery.clock_behind_secs;
        tracing::warn!(seconds, "the clock is behind the last entry of the audit: it was set back; work goes on");
    }
    Ok(())
}

/// Only the ledger, for a look beside a running writer. `None` when there is none yet.
pub fn open_ledger_read_only(home: &Home) -> Result<Option<SqliteLedger>> {
    if !home.ledger_db().exists() {
        return Ok(None);
    }
    SqliteLedger::read_only(&home.ledger_db(), Arc::new(SystemClock::start()), Arc::new(UuidIds)).map(Some)
}

/// Only the ledger, for a preview that must not even make SQLite's own files. `None` when there is none yet.
pub fn open_ledger_untouched(home: &Home) -> Result<Option<SqliteLedger>> {
    if !home.ledger_db().exists() || HomeLock::holder(home).is_some() {
        // What a running writer has open is there anyway, and changes all the time.
        return open_ledger_read_only(home);
    }
    SqliteLedger::untouched(&home.ledger_db(), Arc::new(SystemClock::start()), Arc::new(UuidIds)).map(Some)
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
    let index = FtsIndex::read_only(&home.index_db());
    Ok(Some((assemble(home, settings, host, index, ledger.clone(), (clock, ids))?, ledger)))
}

/// What it takes to raise, settle and deliver alerts in a home that this process holds, and nothing else: no life begins, so that what
/// a dead daemon left is still there for the next one to find.
pub fn open_desk(home: &Home, settings: &Settings) -> Result<Desk> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let ledger = SqliteLedger::open(&home.ledger_db(), Arc::clone(&clock), Arc::new(UuidIds))?;
    Ok(desk(ledger, notifiers(home, settings), settings, clock))
}

/// The same for a look beside a running writer: it can deliver nothing. `None` when there is no ledger yet.
pub fn open_desk_read_only(home: &Home, settings: &Settings) -> Result<Option<Desk>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let ledger = open_ledger_read_only(home)?;
    Ok(ledger.map(|ledger| desk(ledger, Vec::new(), settings, clock)))
}

fn desk(ledger: SqliteLedger, notifiers: Vec<Arc<dyn Notifier>>, settings: &Settings, clock: Arc<dyn Clock>) -> Desk {
    let (ledger, probe) = (Arc::new(ledger), probe::from_environment());
    let post = Post { ledger, notifiers, probe, settings: Arc::new(settings.clone()) };
    Desk { post, bell: Default::default(), clock }
}

fn assemble(
    home: &Home,
    settings: &Settings,
    host: Arc<dyn SessionHost>,
    index: FtsIndex,
    ledger: SqliteLedger,
    (clock, ids): (Arc<dyn Clock>, Arc<dyn Ids>),
) -> Result<Ports> {
    let opened = |what: &'static str| {
        move |e: std::io::Error| {
            Error::config("home.io", format!("could not open {what} in Moon's home"))
                .cause(e)
                .hint("check the owner and mode of the home")
        }
    };
    let bridge: Arc<dyn Bridge> = Arc::new(BridgeDir::open(home.root()).map_err(opened("the bridge"))?);
    let archive = ArchiveDir::open(home.root(), settings.archive.zstd_level, writer());
    let archive = archive.map_err(opened("the archive"))?;
    let archive: Arc<dyn ArchiveStore> = Arc::new(LeavesRoom::new(Arc::new(archive), home.root()));
    let index: Arc<dyn SearchIndex> = Arc::new(LeavesRoom::new(Arc::new(index), home.root()));
    let projector = Arc::new(Projections::new(home, ledger.clone(), Arc::clone(&clock)).screens(&settings.dashboard));
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    let senses = Senses {
        home: home.clone(),
        settings: Arc::new(settings.clone()),
        clock: Arc::clone(&clock),
        ledger: Ok(Arc::clone(&ledger)),
        host: Arc::clone(&host),
        archive: Some(Arc::clone(&archive)),
        index: Some(Arc::clone(&index)),
        place: Place::Daemon,
    };
    Ok(Ports {
        host,
        bridge,
        archive,
        index,
        distiller: Arc::new(LocalDistiller),
        memory: Arc::new(MemoryDir::open(home.root()).map_err(opened("the memory"))?),
        projector,
        ledger,
        notifiers: routes_with(LogNotifier::new(home.alerts_log()).aloud(), home, settings),
        checks: checks::all(&senses),
        healer: Arc::new(SystemHealer),
        vault: Arc::new(BackupVault::new(home, &settings.backup)),
        clock,
        ids,
        probe: probe::from_environment(),
        logs: Arc::new(LogFolders::new(home, settings, crate::config::process_environment())),
        meter: Arc::new(SystemMeter::new(home)),
    })
}

/// For whoever tells something himself, and is answered.
pub fn notifiers(home: &Home, settings: &Settings) -> Vec<Arc<dyn Notifier>> {
    routes_with(LogNotifier::new(home.alerts_log()), home, settings)
}

/// The log first, because it is always there; then the routes of the settings.
fn routes_with(log: LogNotifier, home: &Home, settings: &Settings) -> Vec<Arc<dyn Notifier>> {
    let log: Arc<dyn Notifier> = Arc::new(log);
    let all = std::iter::once(log).chain(routes::build(&settings.alerts, routes::Around::of_process()));
    all.map(|route| Arc::new(Shared::new(route, home)) as Arc<dyn Notifier>).collect()
}

/// Wiring for a command that runs the engines itself.
pub fn alone(ports: Ports, settings: Settings) -> Wiring {
    let hands: MakeHands = Arc::new(|wiring| -> Arc<dyn Hands> { Arc::new(OwnHands { wiring: wiring.clone() }) });
    wire(ports, settings, Arc::new(NoTransport), hands)
}

pub fn wire(ports: Ports, settings: Settings, transport: Arc<dyn Transport>, hands: MakeHands) -> Wiring {
    let (mail, bells, turns, proven) = Default::default();
    let doctor = Doctor::new(&ports, &settings.health);
    Wiring { ports, settings: Arc::new(settings), mail, bells, turns, proven, doctor, transport, hands }
}

/// A one-shot command is not asked anything.
struct NoTransport;

impl Transport for NoTransport {
    fn serve(&self, _: Router) -> Result<Box<dyn Serving>> {
        Err(Error::unavailable("control.no_transport", "this process serves no socket"))
    }
}
