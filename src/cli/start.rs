//! `moon start`: starts the daemon and waits until it is up.

use super::output::{Remarks, Report};
use super::{Context, lifecycle, runtime};
use moon_actors::Result;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) fn run(ctx: &Context, _: &Args) -> Result<Report> {
    ctx.home.refuse_unsafe()?;
    let mut report = Report::new("start");
    let before = lifecycle::running(ctx);
    match &before {
        Some(holder) => _ = report.detail(format!("moon runs already, pid {}", holder.pid)),
        None => runtime::block_on(lifecycle::start(ctx, &mut report))??,
    }
    // Behind the start: a folder on a disk that hangs holds up no daemon.
    report.remarks = Remarks::Warnings;
    for problem in ctx.loaded.missing(&ctx.environment) {
        report.remark(problem.to_string());
    }
    report.data(&json!({ "ran_already": before.is_some(), "daemon": lifecycle::running(ctx) }));
    Ok(report)
}
