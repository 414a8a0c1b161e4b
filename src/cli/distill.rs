//! `moon distill`: distils sessions into the daily memory now.

use super::output::Report;
use super::route::{self, Needs};
use super::{Context, once};
use moon_actors::Result;
use moon_actors::contract::Request;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Distil only this session instead of all that have something new
    #[arg(long, value_name = "KEY")]
    pub session: Option<String>,
    /// Say what would be distilled and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    if args.dry_run {
        return once::preview(ctx, once::Preview::Distill, args.session.as_deref());
    }
    route::shown(route::ask(ctx, Request::Distill { session: args.session.clone() }, Needs::Host)?)
}
