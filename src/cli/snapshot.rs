//! `moon snapshot`: archives sessions now.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Archive only this session instead of all
    #[arg(long, value_name = "KEY")]
    pub session: Option<String>,
    /// Say what would be archived and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) fn run(_ctx: &Context, _args: &Args) -> Result<Report> {
    not_built("snapshot")
}
