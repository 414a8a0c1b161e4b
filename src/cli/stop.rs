//! `moon stop`: stops the daemon, and keeps it stopped until somebody starts it.

use super::lifecycle::Ending;
use super::output::Report;
use super::{Context, lifecycle, runtime};
use moon_actors::Result;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub ending: Ending,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    ctx.home.refuse_unsafe()?;
    let mut report = Report::new("stop");
    let ran = runtime::block_on(lifecycle::stop(ctx, &args.ending, true))??;
    report.detail(if ran { "moon has stopped" } else { "no moon was running" });
    report.data(&json!({ "ran": ran }));
    Ok(report)
}
