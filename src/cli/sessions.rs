//! `moon sessions`: lists the sessions.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show only sessions whose key contains this text
    #[arg(value_name = "TEXT")]
    pub filter: Option<String>,
}

pub(super) fn run(_ctx: &Context, _args: &Args) -> Result<Report> {
    not_built("sessions")
}
