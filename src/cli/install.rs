//! `moon install`: installs the service and the bridge.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

/// Who leads, as a word on the command line
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ModeArg {
    /// Moon prunes and rolls over
    Lead,
    /// The session host decides; Moon archives, indexes and distils
    Observe,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who decides when a session is reduced, instead of `openclaw.mode`
    #[arg(long, value_enum)]
    pub mode: Option<ModeArg>,
    /// Say what would be changed and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) fn run(_ctx: &Context, _args: &Args) -> Result<Report> {
    not_built("install")
}
