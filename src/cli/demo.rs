//! `moon demo`: plays the whole story with a made-up agent.

use super::output::Report;
use super::{Context, runtime};
use crate::daemon::lock::HomeLock;
use crate::home::Home;
use crate::scratch::Scratch;
use crate::{daemon, demo};
use moon_actors::{Error, Result};
use std::path::Path;

/// Without `--home` everything happens in a folder that is removed afterwards; no installation is read or touched
#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) fn run(ctx: &Context, _: &Args) -> Result<Report> {
    let scratch = match &ctx.globals.home {
        Some(_) => None,
        None => Some(Scratch::make("demo")?),
    };
    let root: &Path = scratch.as_ref().map_or(ctx.globals.home.as_deref().unwrap_or(Path::new("")), Scratch::path);
    let root =
        std::path::absolute(root).map_err(|e| Error::config("cli.usage", "--home is no usable path").cause(e))?;
    let (home, _) = Home::open(&root)?;
    let lock = HomeLock::take(&home, "demo")?;
    let quiet = ctx.out.is_json();
    let runtime = runtime::daemon()?;
    let mut story = Vec::new();
    let mut tell = |line: &str| {
        if quiet { story.push(line.to_owned()) } else { ctx.out.line(line) }
    };
    let told = runtime.block_on(async {
        tokio::select! {
            told = demo::run(&home, lock, &mut tell) => told,
            // So that the scratch folder goes away as well.
            () = daemon::told_to_stop() => Err(Error::conflict("demo.interrupted", "the demo was interrupted")),
        }
    })?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    let mut report = Report::new("demo");
    report.details = story;
    report.data(&told);
    let expectations = [
        (told.archives > 0 && told.prunes > 0 && told.rollovers > 0, "not every threshold was crossed"),
        (told.map_arrived, "the map did not arrive in the next model calls"),
        (told.fact_left_the_context, "the fact never left the context"),
        (told.recalled_at_rank == Some(1), "recall did not find the fact first"),
        (told.injected_once, "the injected passage did not arrive exactly once"),
    ];
    for (_, wrong) in expectations.iter().filter(|(holds, _)| !holds) {
        report.issue(*wrong);
    }
    report.detail("");
    report.detail(match &scratch {
        Some(_) => format!(
            "{:.1} s, no network. Keep the home with `moon demo --home DIR` and try every other command on it.",
            told.seconds
        ),
        None => format!(
            "{:.1} s, no network. Try: moon --home {} status | recall \"…\" | verify",
            told.seconds,
            root.display()
        ),
    });
    Ok(report)
}
