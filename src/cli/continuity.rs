//! `moon continuity show`: looks at the maps that new windows begin with.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

/// Look at the maps that new windows begin with
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the newest map, or the one of a session
    Show {
        /// The session the map is for
        #[arg(long, value_name = "KEY")]
        session: Option<String>,
    },
}

pub(super) fn run(_ctx: &Context, _args: &Command) -> Result<Report> {
    not_built("continuity show")
}
