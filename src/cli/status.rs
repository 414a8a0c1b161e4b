//! `moon status`: one screen, trouble first.

use super::output::Report;
use super::{Context, runtime};
use crate::adapters::restore::Fate;
use crate::screens::view::{Level, View};
use crate::screens::{plain, source};
use moon_actors::Result;
use moon_actors::contract::Issue;
use serde_json::Value;
use std::time::Duration;

/// How often a watched screen is made anew.
const EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show it again every two seconds until interrupted
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Show the health report of the last seven days instead
    #[arg(long, conflicts_with = "watch")]
    pub week: bool,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    if args.week {
        return super::dashboard::report(ctx, "status", 7, false);
    }
    if args.watch { watch(ctx) } else { once(ctx, "status") }
}

fn watch(ctx: &Context) -> Result<Report> {
    while !ctx.out.is_closed() && !super::output::reader_is_gone() {
        let report = once(ctx, "status")?;
        if ctx.out.is_json() {
            ctx.out.json_line(&report.data);
        } else {
            ctx.out.screen(&report);
        }
        std::thread::sleep(EVERY);
    }
    Ok(Report::new("status"))
}

fn once(ctx: &Context, name: &str) -> Result<Report> {
    super::route::check_ledger(&ctx.home)?;
    let document = runtime::block_on(source::document(&ctx.home, ctx.settings()))??;
    let mut report = report(name, document);
    half_restored(ctx).into_iter().for_each(|issue| {
        report.issue(issue);
    });
    Ok(report)
}

/// A restore that was cut off and waits for somebody who opens the home for writing: what is looked at here may be half of it.
pub(super) fn half_restored(ctx: &Context) -> Option<Issue> {
    let one = crate::adapters::restore::interrupted(&ctx.home)?;
    let (fate, then) = match one.will_be {
        Fate::Finished => ("finished", ", then `moon restore --undo` takes it back"),
        Fate::TakenBack => ("taken back", ""),
    };
    Some(Issue {
        code: None,
        message: format!("a restore that was interrupted is still to be {fate}: {}", one.what()),
        cause: None,
        hint: Some(format!("any command that writes does it, such as `moon start` or `moon watch --once`{then}")),
    })
}

/// The status document as one screen.
pub(super) fn report(name: &str, document: Value) -> Report {
    let view = View::of(&document);
    let mut report = Report::new(name);
    report.trouble_first = true;
    for (message, hint) in plain::troubles(&view) {
        let issue = Issue { code: None, message, cause: None, hint };
        match view.worst() {
            Level::Warning | Level::Critical => report.issue(issue),
            _ => report.remark(issue),
        };
    }
    report.details = plain::lines(&view);
    report.details.extend(plain::caution(&view));
    report.data = document;
    report
}
