//! `moon bench`: measures speed and memory on made-up sessions.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) fn run(_ctx: &Context, _args: &Args) -> Result<Report> {
    not_built("bench")
}
