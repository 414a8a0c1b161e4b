//! `moon restart`: stops the daemon in order and starts it again, after a backup if one is wanted.

use super::lifecycle::Ending;
use super::output::Report;
use super::{Context, lifecycle, runtime};
use crate::child::{Program, Variables};
use moon_actors::{Error, Result};
use serde_json::json;
use std::ffi::OsString;
use std::time::Duration;

/// Longest backup that is waited for.
const BACKUP: Duration = Duration::from_secs(3600);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub ending: Ending,
    /// Make a backup first; without one nothing is restarted
    #[arg(long)]
    pub backup: bool,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    runtime::block_on(again(ctx, args))?
}

async fn again(ctx: &Context, args: &Args) -> Result<Report> {
    ctx.home.refuse_unsafe()?;
    let mut report = Report::new("restart");
    if args.backup {
        backup(ctx).await?;
        report.detail("a backup is made and verified");
    }
    let before = lifecycle::running(ctx);
    let ran = lifecycle::stop(ctx, &args.ending, false).await?;
    report.detail(if ran { "the old one has stopped" } else { "no moon was running" });
    lifecycle::start(ctx, &mut report).await.map_err(|error| match ran {
        true => nothing_runs(error),
        false => error,
    })?;
    report.data(&json!({ "before": before, "daemon": lifecycle::running(ctx) }));
    Ok(report)
}

fn nothing_runs(error: Error) -> Error {
    const NOW: &str = "the old one has stopped and nothing runs now: `moon start`";
    let hint = error.hint.as_ref().map_or_else(|| NOW.to_owned(), |hint| format!("{NOW}; {hint}"));
    error.hint(hint)
}

/// By the verb itself, so that it is the same backup that everybody else makes.
async fn backup(ctx: &Context) -> Result<()> {
    let failed = |cause: String| {
        Error::transient("restart.no_backup", "nothing was restarted, because no backup could be made")
            .cause(cause)
            .hint("`moon backup` says more; leave --backup out to restart without one")
    };
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let mut words = vec![OsString::from("--home"), ctx.home.root().into()];
    if let Some(config) = &ctx.globals.config {
        words.extend([OsString::from("--config"), config.into()]);
    }
    for set in &ctx.globals.set {
        words.extend([OsString::from("--set"), set.into()]);
    }
    words.push("backup".into());
    let ran = Program::new(program, words, Variables::Inherited).within(BACKUP).run().await;
    match ran {
        Ok(ran) if ran.is_ok() => Ok(()),
        Ok(ran) => Err(failed(ran.complaint())),
        Err(failure) => Err(failed(failure.to_string())),
    }
}
