//! `moon watch`: watches the sessions until it is told to stop.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

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

pub(super) fn run(_ctx: &Context, _args: &Args) -> Result<Report> {
    not_built("watch")
}
