//! Who answers a command: the daemon if one holds the home, else this process with the same engines under the same lock.
//!
//! The held lock decides, never a pid in a file.

use super::bar::Bar;
use super::output::Report;
use super::{Context, runtime};
use crate::adapters::archive_dir::ArchiveDir;
use crate::adapters::no_host::NoHost;
use crate::daemon::lock::HomeLock;
use crate::daemon::ports::{self, HostPlan};
use crate::daemon::socket;
use crate::home::Home;
use moon_actors::contract::{self, Request};
use moon_actors::control::engine::{Commands, OwnHands};
use moon_actors::port::{Ledger, SessionHost};
use moon_actors::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// What a request needs when no daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Reads what is kept.
    Nothing,
    /// Writes: the home's lock.
    Lock,
    /// Writes and asks the session host.
    Host,
    /// Only a daemon can do it.
    Daemon,
}

/// Carries a request out, wherever that has to happen.
pub(super) fn ask(ctx: &Context, request: Request, needs: Needs) -> Result<contract::Report> {
    ctx.home.refuse_unsafe()?;
    runtime::block_on(async {
        if ctx.home.exists()
            && let Some(report) = asked(ctx, &request).await?
        {
            if !ctx.globals.set.is_empty() {
                tracing::warn!("the daemon answered, which has settings of its own: --set changed nothing");
            }
            return Ok(report);
        }
        match needs {
            Needs::Daemon => Err(no_daemon(ctx)),
            Needs::Nothing => read(ctx, request).await,
            // It works on what is kept: where nothing is, no home is made for it.
            Needs::Lock if !ctx.home.ledger_db().exists() => Err(no_ledger(&ctx.home)),
            Needs::Lock => work(ctx, request, Arc::new(NoHost::not_needed())).await,
            Needs::Host => {
                let plan = host_plan(ctx)?;
                let home = ctx.open_home()?;
                let lock = HomeLock::take(&home, name_of(&request))?;
                let host = plan.start(ctx.settings(), &home);
                // If it does not answer, the command says so itself, and does what can be done without.
                let _ = wait_for(host.as_ref(), ctx.settings().openclaw.connect_timeout).await;
                locked(ctx, &home, lock, request, host).await
            }
        }
    })?
}

/// What the daemon answers, if one listens.
async fn asked(ctx: &Context, request: &Request) -> Result<Option<contract::Report>> {
    // Nobody is said to be at work where nobody is.
    let _bar = HomeLock::holder(&ctx.home).map(|_| Bar::waiting(request));
    socket::ask(&ctx.home, request).await
}

fn name_of(request: &Request) -> &'static str {
    match request {
        Request::Snapshot { .. } => "snapshot",
        Request::Index { .. } => "index",
        Request::Distill { .. } => "distill",
        Request::RotateLogs { .. } => "rotate-logs",
        Request::Backup => "backup",
        Request::VerifyBackup { .. } => "backup verify",
        Request::Drill => "backup drill",
        Request::PruneBackups { .. } => "backup prune",
        Request::Report { .. } => "dashboard report",
        _ => "command",
    }
}

pub(super) fn host_plan(ctx: &Context) -> Result<HostPlan> {
    let transcripts = ctx.setting_path("watch.transcripts_dir", &ctx.settings().watch.transcripts_dir)?;
    HostPlan::find(ctx.settings(), transcripts)
}

/// Waits until the host has answered once: it connects in the background.
pub(super) async fn wait_for(host: &dyn SessionHost, limit: Duration) -> Result<()> {
    let begun = tokio::time::Instant::now();
    loop {
        match host.refresh().await {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() >= limit => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Refuses a home whose ledger is lost though there is an archive; one without anything is fine for a screen.
pub(super) fn check_ledger(home: &Home) -> Result<()> {
    let lost = !home.ledger_db().exists() && ArchiveDir::count_manifests(home.root()) > 0;
    if lost { Err(no_ledger(home)) } else { Ok(()) }
}

/// Why a home cannot be read: nothing was archived there yet, or what knows of the archive is lost.
pub(super) fn no_ledger(home: &Home) -> Error {
    let shown = home.root().display();
    let manifests = ArchiveDir::count_manifests(home.root());
    if manifests == 0 {
        return Error::data("home.empty", format!("{shown} holds no archive yet"))
            .hint("begin with `moon watch --once`, or try `moon demo`");
    }
    Error::data("ledger.missing", format!("the ledger {} is missing", home.ledger_db().display()))
        .cause(format!("nothing else knows of the {} in {shown}", contract::count(manifests, "archived segment")))
        .hint("restore state/ from a backup before Moon runs here again; the archive itself is untouched (see the runbook)")
}

fn no_daemon(ctx: &Context) -> Error {
    if let Some(holder) = HomeLock::holder(&ctx.home) {
        return Error::unavailable(
            "daemon.not_reachable",
            format!("moon {} (pid {}) does not answer", holder.what, holder.pid),
        )
        .hint("it may be starting or busy with a one-shot command: try again, then see `moon logs`");
    }
    Error::unavailable("daemon.not_running", format!("no moon daemon runs in {}", ctx.home.root().display()))
        .hint("start one with `moon start`")
}

async fn read(ctx: &Context, request: Request) -> Result<contract::Report> {
    let host = Arc::new(NoHost::not_needed());
    let Some((ports, _)) = ports::open_read_only(&ctx.home, ctx.settings(), host)? else {
        return Err(no_ledger(&ctx.home));
    };
    let wiring = ports::alone(ports, ctx.settings().clone());
    let hands = Arc::new(OwnHands { wiring: wiring.clone() });
    Ok(Commands { wiring, hands }.answer(request).await)
}

async fn work(ctx: &Context, request: Request, host: Arc<dyn SessionHost>) -> Result<contract::Report> {
    let home = ctx.open_home()?;
    let lock = HomeLock::take(&home, name_of(&request))?;
    locked(ctx, &home, lock, request, host).await
}

async fn locked(
    ctx: &Context,
    home: &Home,
    _lock: HomeLock,
    request: Request,
    host: Arc<dyn SessionHost>,
) -> Result<contract::Report> {
    let (ports, ledger) = ports::open(home, ctx.settings(), host)?;
    ports::begin(&ports, &ledger).await?;
    let wiring = ports::alone(ports, ctx.settings().clone());
    let hands = Arc::new(OwnHands { wiring: wiring.clone() });
    let name = name_of(&request);
    let bar = Bar::of(&request);
    wiring.ports.vault.watch(bar.watch());
    let report = Commands { wiring: wiring.clone(), hands }.answer(request).await;
    drop(bar);
    ledger.end(&format!("{name} done")).await?;
    wiring.ports.projector.refresh().await?;
    Ok(report)
}

/// An answer as the command line prints it.
pub(super) fn shown(report: contract::Report) -> Result<Report> {
    if let Some(error) = report.error {
        return Err(error);
    }
    let mut shown = Report::new(report.command);
    shown.details = report.details;
    for issue in report.issues {
        shown.issue(issue);
    }
    shown.data = report.data;
    Ok(shown)
}
