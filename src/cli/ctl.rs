//! `moon ctl`: talks to the running daemon.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

/// Talk to the running daemon
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show how the daemon is
    Status,
    /// Show the supervision tree with states and restarts
    Tree,
    /// Start one actor again, also one that was parked
    Restart {
        /// Its name as `moon ctl tree` shows it
        actor: String,
    },
    /// Let running work finish and end the daemon
    Stop,
}

impl Command {
    /// The verb as reports name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Status => "ctl status",
            Self::Tree => "ctl tree",
            Self::Restart { .. } => "ctl restart",
            Self::Stop => "ctl stop",
        }
    }
}

pub(super) fn run(_ctx: &Context, _args: &Command) -> Result<Report> {
    not_built("ctl")
}
