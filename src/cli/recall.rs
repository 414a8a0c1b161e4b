//! `moon recall`: finds archived passages.

use super::output::Report;
use super::{Context, not_built};
use moon_actors::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to look for
    #[arg(value_name = "QUERY", required_unless_present = "query_flag", conflicts_with = "query_flag")]
    query: Option<String>,
    /// The query, as the first plan wrote it
    #[arg(long = "query", value_name = "QUERY", hide = true)]
    query_flag: Option<String>,
    /// Look only into this session
    #[arg(long, value_name = "KEY")]
    pub session: Option<String>,
    /// Only what was said since then: a date (2026-11-20), a time (RFC 3339) or a span (3d)
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// At most this many passages instead of `recall.limit`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub limit: Option<u16>,
    /// Put a passage into the next model call of this session
    #[arg(long, value_name = "SESSION")]
    pub inject: Option<String>,
    /// Which passage to put there, counted from 1
    #[arg(long, value_name = "N", requires = "inject", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub pick: u16,
}

impl Args {
    /// What to look for, however it was given.
    pub fn query(&self) -> &str {
        self.query.as_deref().or(self.query_flag.as_deref()).unwrap_or_default()
    }
}

pub(super) fn run(_ctx: &Context, _args: &Args) -> Result<Report> {
    not_built("recall")
}
