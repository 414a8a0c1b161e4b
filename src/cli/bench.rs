//! `moon bench`: measures on this machine; every figure of `docs/performance.md` comes from here.

use super::output::Report;
use super::{Context, runtime};
use crate::adapters::fts::bench;
use moon_actors::Result;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Latency of recall and of indexing over a made-up history
    Recall {
        /// Turns in the history
        #[arg(long, default_value_t = 10_000)]
        turns: usize,
    },
    /// Quality of recall on the questions of a LoCoMo file
    Locomo {
        /// A JSON file in LoCoMo's format; it is read and not kept
        file: PathBuf,
    },
}

pub(super) fn run(_: &Context, args: &Args) -> Result<Report> {
    let measured = match &args.what {
        What::Recall { turns } => runtime::block_on(bench::latency(*turns))??,
        What::Locomo { file } => runtime::block_on(bench::locomo(file))??,
    };
    let mut report = Report::new("bench");
    report.block(&measured.to_string());
    report.data(&measured);
    Ok(report)
}
