//! `moon watch`: watches the sessions until it is told to stop.

use super::exit::Exit;
use super::output::Report;
use super::{Context, once, route, runtime};
use crate::daemon::Daemon;
use crate::daemon::lock::HomeLock;
use moon_actors::supervisor::EndReason;
use moon_actors::{Error, Result};

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
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    if args.dry_run {
        return once::preview(ctx, once::Preview::Watch, None);
    }
    if args.once { once::pass(ctx) } else { daemon(ctx) }
}

fn daemon(ctx: &Context) -> Result<Report> {
    let plan = route::host_plan(ctx)?;
    let home = ctx.open_home()?;
    let lock = HomeLock::take(&home, "daemon")?;
    let log = crate::logging::daemon(&home, &ctx.settings().log);
    let runtime = runtime::daemon()?;
    let ended = runtime.block_on(async {
        let host = plan.start(ctx.settings(), &home);
        Daemon::start(&home, ctx.settings().clone(), lock, host).await?.run().await
    });
    // A blocking read of a hung disk must not hold the process: the ledger is closed.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    drop(log);
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
