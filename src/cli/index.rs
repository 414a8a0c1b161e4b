//! `moon index`: brings the search index up to date.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Throw the index away and make it again from the archives
    #[arg(long)]
    pub rebuild: bool,
}

pub(super) fn run(_ctx: &Context, _args: &Args) -> Result<Report> {
    not_built("index")
}
