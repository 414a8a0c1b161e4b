//! `moon demo`: plays the whole story against a made-up host.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

/// Without `--home` everything happens in a folder that is removed afterwards.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) fn run(_ctx: &Context, _args: &Args) -> Result<Report> {
    not_built("demo")
}
