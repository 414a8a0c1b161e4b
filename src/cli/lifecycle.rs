//! Starting and stopping the daemon, for the verbs `start`, `stop` and `restart`: by the service manager if Moon is a service,
//! else as a process of its own.
//!
//! The kernel's lock says who runs, never a pid in a file. A stop by a person is remembered, so that nothing brings Moon back
//! against it; a start forgets that.

use super::output::Report;
use super::{Context, service};
use crate::daemon::lock::{Holder, HomeLock};
use crate::daemon::socket;
use crate::service::manager::Manager;
use crate::service::{Scope, wish};
use moon_actors::contract::Request;
use moon_actors::supervisor::{ChildKind, ChildStatus, Phase};
use moon_actors::{Error, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a new daemon may take to hold the home.
const UNTIL_HELD: Duration = Duration::from_secs(10);
/// And to be up.
const UNTIL_UP: Duration = Duration::from_secs(30);
/// How long an old one may take to end, unless somebody says so.
const UNTIL_GONE: Duration = Duration::from_secs(30);
/// After SIGKILL only the kernel is in the way.
const UNTIL_DEAD: Duration = Duration::from_secs(5);
/// How long a question over the socket may take.
const ANSWER: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(25);
/// Most of what a daemon said is repeated when it ended at once.
const LAST_WORDS: usize = 600;

/// How an old daemon is made to end.
#[derive(Clone, Debug, clap::Args)]
pub struct Ending {
    /// Kill it if it has not ended in time
    #[arg(long)]
    pub force: bool,
    /// How long it may take to end
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = humantime::parse_duration)]
    pub within: Duration,
}

/// The daemon that holds the home.
pub(super) fn running(ctx: &Context) -> Option<Holder> {
    HomeLock::holder(&ctx.home).filter(|holder| holder.what == "daemon")
}

/// Whether a daemon holds the home within so long.
pub(super) async fn appears(ctx: &Context, limit: Duration) -> bool {
    wait(limit, async || running(ctx)).await.is_some()
}

/// Starts it and waits until it is up. An issue in the report: started, but not seen to be up.
pub(super) async fn start(ctx: &Context, report: &mut Report) -> Result<()> {
    let home = ctx.open_home()?;
    wish::clear(&home);
    let mut child = match service::installed(ctx).await {
        Some(manager) => {
            manager.start().await?;
            report.detail("started as a service");
            None
        }
        None => Some(spawn(ctx)?),
    };
    let held = wait(UNTIL_HELD, async || match (running(ctx), child.as_mut().map(Child::try_wait)) {
        (Some(holder), _) => Some(Ok(holder)),
        (None, Some(Ok(Some(status)))) => Some(Err(ended_at_once(ctx, &status.to_string()))),
        _ => None,
    });
    let holder = match held.await {
        Some(held) => held?,
        None => {
            report.issue(unverified("no daemon holds the home yet", UNTIL_HELD));
            return Ok(());
        }
    };
    match wait(UNTIL_UP, async || is_up(ctx).await.then_some(())).await {
        Some(()) => {
            report.detail(format!("moon runs, pid {}", holder.pid));
        }
        None => {
            report.issue(unverified(&format!("the daemon (pid {}) is not up yet", holder.pid), UNTIL_UP));
        }
    }
    Ok(())
}

fn unverified(what: &str, limit: Duration) -> Error {
    Error::transient("daemon.unverified", format!("moon was started, and after {} s {what}", limit.as_secs()))
        .hint("`moon status` and `moon logs` show how it goes on")
}

fn ended_at_once(ctx: &Context, how: &str) -> Error {
    let said = std::fs::read_to_string(ctx.home.daemon_output()).unwrap_or_default();
    let said = said.trim();
    let from = said.len().saturating_sub(LAST_WORDS);
    let from = (from..=said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or(0);
    Error::config("daemon.ended_at_once", format!("the daemon ended at once ({how})"))
        .cause(said[from..].to_owned())
        .hint("`moon watch --daemon` runs it in the foreground")
}

/// A daemon in a session of its own, which outlives the terminal.
fn spawn(ctx: &Context) -> Result<Child> {
    let failed = |what: &'static str| {
        move |e: std::io::Error| Error::transient("daemon.not_started", format!("could not {what}")).cause(e)
    };
    let program = std::env::current_exe().map_err(failed("find out where this program is"))?;
    let output = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(ctx.home.daemon_output())
        .map_err(failed("open a file for what the daemon says"))?;
    let error = output.try_clone().map_err(failed("open that file twice"))?;
    let mut command = Command::new(program);
    command.arg("--home").arg(ctx.home.root());
    if let Some(config) = &ctx.globals.config {
        let config = std::path::absolute(config).map_err(failed("make --config absolute"))?;
        command.arg("--config").arg(config);
    }
    for set in &ctx.globals.set {
        command.arg("--set").arg(set);
    }
    command.args(["watch", "--daemon", "--own-session"]).current_dir("/");
    command.stdin(Stdio::null()).stdout(output).stderr(error).spawn().map_err(failed("start the daemon"))
}

/// Which control socket it is: each life of the tree has one of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SocketId(u64, i64, i64);

impl SocketId {
    pub(super) fn of(ctx: &Context) -> Option<Self> {
        let found = ctx.home.socket_candidates().into_iter().find_map(|path| path.metadata().ok())?;
        Some(Self(found.ino(), found.ctime(), found.ctime_nsec()))
    }
}

/// Waits until a daemon that begins anew is up with another socket.
pub(super) async fn renewed(ctx: &Context, before: Option<&SocketId>) -> bool {
    let is_new = || SocketId::of(ctx).is_some_and(|now| Some(&now) != before);
    wait(UNTIL_GONE + UNTIL_UP, async || (is_new() && is_up(ctx).await).then_some(())).await.is_some()
}

/// Whether the daemon answers and everybody vital is up.
async fn is_up(ctx: &Context) -> bool {
    let Some(tree) = ask(ctx, &Request::Tree).await else { return false };
    serde_json::from_value::<Vec<ChildStatus>>(tree["tree"].clone()).is_ok_and(|tree| vital_up(&tree))
}

fn vital_up(children: &[ChildStatus]) -> bool {
    let is_fine = |child: &ChildStatus| child.kind == ChildKind::Optional || child.phase == Phase::Up;
    children.iter().all(|child| is_fine(child) && vital_up(&child.children))
}

/// The data of an answer that came in time.
async fn ask(ctx: &Context, request: &Request) -> Option<serde_json::Value> {
    match tokio::time::timeout(ANSWER, socket::ask(&ctx.home, request)).await {
        Ok(Ok(Some(report))) if report.error.is_none() => Some(report.data),
        _ => None,
    }
}

/// Stops whoever runs and waits for the end of it. False when nobody ran. `is_for_good`: nothing may bring it back.
pub(super) async fn stop(ctx: &Context, ending: &Ending, is_for_good: bool) -> Result<bool> {
    // A system service can be stopped by its user, too: by a word to the daemon, which ends in order and stays away.
    let may = |m: &Manager| m.scope == Scope::User || rustix::process::geteuid().is_root();
    let service = service::installed(ctx).await.filter(may);
    if is_for_good && ctx.home.state_dir().is_dir() {
        wish::stopped(&ctx.home, "moon stop", Some(super::alerts::me(ctx)));
    }
    let Some(holder) = running(ctx) else {
        // A service in its pause between two starts would come back.
        if let Some(manager) = service
            && manager.state().await.is_ok_and(|state| state.is_active)
        {
            manager.stop().await?;
        }
        return Ok(false);
    };
    if !is_for_good {
        wish::returns(&ctx.home);
    }
    match &service {
        Some(manager) if manager.state().await.is_ok_and(|state| state.pid == Some(holder.pid)) => {
            stop_service(ctx, manager, ending).await?;
        }
        _ => stop_process(ctx, &holder, ending).await?,
    }
    if is_for_good {
        // An orderly end leaves this note itself; a killed one cannot.
        wish::stopped(&ctx.home, "moon stop", Some(super::alerts::me(ctx)));
    }
    Ok(true)
}

async fn stop_service(ctx: &Context, manager: &Manager, ending: &Ending) -> Result<()> {
    if !ending.force {
        manager.stop().await?;
        return gone(ctx, ending.within).await;
    }
    // In time by itself, else by force; then the manager is told that this was wanted.
    if ask(ctx, &Request::Stop).await.is_none() || gone(ctx, ending.within).await.is_err() {
        manager.kill().await?;
    }
    manager.stop().await?;
    gone(ctx, UNTIL_DEAD).await
}

async fn stop_process(ctx: &Context, holder: &Holder, ending: &Ending) -> Result<()> {
    if ask(ctx, &Request::Stop).await.is_none() {
        signal(holder, Signal::TERM)?;
    }
    match gone(ctx, ending.within).await {
        Err(_) if ending.force => {}
        ended => return ended,
    }
    // The lock is still held by the one that was asked: this is no stranger with its number.
    match running(ctx) {
        Some(now) if now.pid == holder.pid => signal(&now, Signal::KILL)?,
        _ => {}
    }
    gone(ctx, UNTIL_DEAD).await
}

fn signal(holder: &Holder, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(holder.pid.cast_signed()).ok_or_else(|| {
        Error::data("daemon.unknown_pid", "the home is held by a process that does not say its number")
            .hint("see what holds run/moon.lock, with `fuser` or `lsof`")
    })?;
    match kill_process(pid, signal) {
        // It has ended meanwhile.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(Error::config("daemon.not_ours", format!("could not signal the daemon (pid {})", holder.pid))
            .cause(std::io::Error::from(e))
            .hint("stop it as the user who runs it")),
    }
}

/// Waits until nobody holds the home.
async fn gone(ctx: &Context, limit: Duration) -> Result<()> {
    let is_free = wait(limit, async || HomeLock::holder(&ctx.home).is_none().then_some(()));
    is_free.await.ok_or_else(|| still_there(ctx))
}

fn still_there(ctx: &Context) -> Error {
    let pid = running(ctx).map_or(0, |holder| holder.pid);
    Error::transient("daemon.does_not_end", format!("the daemon (pid {pid}) was told to stop and has not ended"))
        .hint("`moon stop --force` or `moon restart --force` kills it; nothing that was reported as done is lost")
}

async fn wait<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if begun.elapsed() >= limit {
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}
