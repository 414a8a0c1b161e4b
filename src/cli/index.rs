//! `moon index`: brings the search index up to date.

use super::Context;
use super::output::Report;
use super::route::{self, Needs};
use moon_actors::Result;
use moon_actors::contract::Request;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Throw the index away and make it again from the archives
    #[arg(long)]
    pub rebuild: bool,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    route::shown(route::ask(ctx, Request::Index { rebuild: args.rebuild }, Needs::Lock)?)
}
