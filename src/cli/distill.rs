//! `moon distill`: distils sessions into the daily memory now.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Distil only this session instead of all that have something new
    #[arg(long, value_name = "KEY")]
    pub session: Option<String>,
    /// Say what would be distilled and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) fn run(_ctx: &Context, _args: &Args) -> Result<Report> {
    not_built("distill")
}
