//! `moon rotate-logs`: looks after the log files now instead of at the next full hour.

use super::Context;
use super::cron::Unless;
use super::output::Report;
use super::route::{self, Needs};
use moon_actors::Result;
use moon_actors::contract::Request;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub unless: Unless,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    if let Some(report) = args.unless.skipped(ctx, "rotate-logs", ("rotation.at", &ctx.settings().rotation.at)) {
        return Ok(report);
    }
    let needs = if args.dry_run { Needs::Nothing } else { Needs::Lock };
    route::shown(route::ask(ctx, Request::RotateLogs { dry_run: args.dry_run }, needs)?)
}
