//! `moon uninstall`: takes the service and the bridge out again.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what would be changed and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) fn run(_ctx: &Context, _args: &Args) -> Result<Report> {
    not_built("uninstall")
}
