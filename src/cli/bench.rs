//! `moon bench`: measures on this machine; the figures of `docs/performance.md` come from here.

use super::output::Report;
use super::{Context, runtime};
use crate::adapters::fts;
use crate::bench;
use moon_actors::Result;
use serde::Serialize;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// From the sight of a transcript to its archived, verified and searchable copy
    Archive {
        /// Size of the transcript, MB
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2000))]
        megabytes: u64,
    },
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
    /// Memory and CPU of a running process, such as the daemon
    Idle {
        pid: u32,
        /// How long to watch
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

pub(super) fn run(_: &Context, args: &Args) -> Result<Report> {
    match &args.what {
        What::Archive { megabytes } => {
            let runtime = runtime::daemon()?;
            Ok(shown(runtime.block_on(bench::archive(megabytes * 1_000_000))?))
        }
        What::Recall { turns } => Ok(shown(runtime::block_on(fts::bench::latency(*turns))??)),
        What::Locomo { file } => Ok(shown(runtime::block_on(fts::bench::locomo(file))??)),
        What::Idle { pid, seconds } => Ok(shown(runtime::block_on(bench::idle(*pid, Duration::from_secs(*seconds)))??)),
    }
}

fn shown(measured: impl Serialize + Display) -> Report {
    let mut report = Report::new("bench");
    report.block(&measured.to_string()).data(&measured);
    report
}
