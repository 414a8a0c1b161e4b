//! `moon watch`: watches the sessions until it is told to stop.

use super::exit::Exit;
use super::output::Report;
use super::{Context, once, route, runtime};
use crate::config::{Environment, Loaded, Sources};
use crate::daemon::lock::HomeLock;
use crate::daemon::ports::HostPlan;
use crate::daemon::{Daemon, Ended, Renew, Renewal};
use moon_actors::supervisor::EndReason;
use moon_actors::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look once, do what is due, and end
    #[arg(long, conflicts_with = "daemon")]
    pub once: bool,
    /// Keep watching until stopped (what happens without flags too)
    #[arg(long)]
    pub daemon: bool,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Leave the terminal's session; `moon start` says so
    #[arg(long, hide = true, requires = "daemon")]
    pub own_session: bool,
}

impl Args {
    /// Whether it is the daemon that is asked for.
    pub(super) fn stays(&self) -> bool {
        !self.once && !self.dry_run
    }
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    if args.dry_run {
        return once::preview(ctx, once::Preview::Watch, None);
    }
    if args.once { once::pass(ctx) } else { daemon(ctx, args) }
}

fn daemon(ctx: &Context, args: &Args) -> Result<Report> {
    if args.own_session {
        // Fails only for the leader of a session, which has one of its own already.
        let _ = rustix::process::setsid();
    }
    let plan = route::host_plan(ctx)?;
    let home = ctx.open_home()?;
    let lock = HomeLock::take(&home, "daemon")?;
    let runtime = runtime::daemon()?;
    let renew = renew(ctx);
    let told = Told::listen(&runtime);
    let mut next = (Renewal { loaded: ctx.loaded.clone(), plan }, lock);
    let ended = loop {
        let (Renewal { loaded, plan }, lock) = next;
        let settings = loaded.settings.clone();
        let log = crate::logging::daemon(&home, &settings.log);
        tell_of_missing(loaded, ctx.environment.clone());
        let ended = runtime.block_on(async {
            let host = plan.start(&settings, &home);
            let daemon = Daemon::start_renewable(&home, settings, lock, host, Some(Arc::clone(&renew))).await?;
            told.hand_over(daemon.stopper());
            daemon.run().await
        });
        drop(log);
        match ended {
            Ok(Ended::Renewed(renewal, lock)) => next = (*renewal, lock),
            Ok(Ended::For(reason)) => break Ok(reason),
            Err(error) => break Err(error),
        }
    };
    // A blocking read of a hung disk must not hold the process: the ledger is closed.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    let mut report = Report::new("watch");
    match ended? {
        EndReason::Stopped => {
            report.detail("moon has stopped in order");
        }
        EndReason::GaveUp { path, reason } => {
            report.issue(
                Error::transient("daemon.gave_up", format!("{path} keeps failing"))
                    .cause(reason)
                    .hint("see `moon logs`"),
            );
            report.exit = Some(Exit::GaveUp);
        }
    }
    Ok(report)
}

/// Logs what the machine lacks. On a thread of its own: a folder on a disk that hangs must hold up neither the start nor the ledger.
fn tell_of_missing(loaded: Loaded, environment: Environment) {
    let look = move || {
        for problem in loaded.missing(&environment) {
            tracing::warn!("{problem}");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("settings".into()).spawn(look) {
        tracing::warn!(%error, "could not look for what the settings name");
    }
}

/// Whether the process was told to stop, for the whole of its life: between two trees nobody else listens, and a stop must not be
/// lost there.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<(bool, Option<Arc<Notify>>)>>);

impl Told {
    fn listen(runtime: &tokio::runtime::Runtime) -> Self {
        let told = Self::default();
        let listening = told.clone();
        runtime.spawn(async move {
            crate::daemon::told_to_stop().await;
            let mut state = listening.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = true;
            if let Some(stopper) = &state.1 {
                stopper.notify_one();
            }
        });
        told
    }
    /// From now on this one hears of it; at once if it was told already.
    fn hand_over(&self, stopper: Arc<Notify>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 {
            stopper.notify_one();
        }
        state.1 = Some(stopper);
    }
}

/// How a running daemon reads its settings again: from where it had them the first time.
fn renew(ctx: &Context) -> Renew {
    let globals = &ctx.globals;
    let sources = Sources {
        home: globals.home.clone(),
        file: globals.config.clone(),
        set: globals.set.clone(),
        environment: ctx.environment.clone(),
        installation: true,
    };
    let home = ctx.home.clone();
    Arc::new(move || {
        let loaded = crate::config::load(&sources).map_err(|problems| crate::config::as_error(&problems))?;
        if crate::home::Home::at(&loaded.home) != home {
            return Err(Error::config("config.invalid", "could not use the configuration")
                .cause("home.path: a running daemon cannot move to another home")
                .hint("stop it, move the home, and start it again"));
        }
        let folder =
            super::setting_path(&sources.environment, "watch.transcripts_dir", &loaded.settings.watch.transcripts_dir)?;
        let plan = HostPlan::find(&loaded.settings, folder)?;
        Ok(Renewal { loaded, plan })
    })
}
