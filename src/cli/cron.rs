//! `moon service cron` and `moon cron-install`: Moon's checks as lines of the user's crontab.
//!
//! Moon needs no cron: it has a scheduler of its own. This is for those who want somebody outside to notice a dead daemon, and the
//! times of the calendar to hold without one. What a living daemon does by itself is never done twice.
//! Foreign lines stay byte for byte; a copy of the whole crontab is kept before it is changed.

use super::output::Report;
use super::service::{self, About};
use super::{Context, lifecycle, runtime};
use crate::child::Ended;
use crate::service::{call, cron as lines};
use moon_actors::{Error, Result};
use serde_json::json;
use std::io::BufRead as _;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Take Moon's lines out again
    #[arg(long)]
    pub remove: bool,
    /// Print the crontab as it would be and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What each command of the crontab asks first.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Unless {
    /// Do nothing while a daemon runs that does this by itself; for cron
    #[arg(long)]
    pub unless_scheduled: bool,
}

impl Unless {
    /// The report of a command that has nothing to do. `kept`: the setting by which a daemon does it by itself, and its value.
    pub(super) fn skipped(self, ctx: &Context, command: &str, (key, value): (&str, &str)) -> Option<Report> {
        let holder = lifecycle::running(ctx).filter(|_| self.unless_scheduled && !value.is_empty())?;
        let why = format!("the daemon (pid {}) does it by itself: {key} = {value:?}", holder.pid);
        let mut report = Report::new(command);
        report.detail(format!("nothing to do: {why}")).data(&json!({ "skipped": why }));
        Some(report)
    }
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    let mut report = Report::new("service cron");
    let d = service::describe(ctx, &About::default())?;
    let before = read()?;
    let after = if args.remove { lines::without(&before)? } else { lines::merged(&before, &lines::block(&d))? };
    let changed = before != after;
    report.data(&json!({ "changed": changed && !args.dry_run, "removed": args.remove, "dry_run": args.dry_run, "times": lines::times() }));
    if args.dry_run {
        report.block(&String::from_utf8_lossy(&after));
        return Ok(report);
    }
    if !changed {
        report.detail(if args.remove {
            "the crontab has no lines of Moon's"
        } else {
            "the crontab has Moon's lines already"
        });
        return Ok(report);
    }
    if !args.yes {
        ask(ctx, args.remove)?;
    }
    let home = ctx.open_home()?;
    let kept = crate::durable::free_name(&home.backups_dir().join("crontab"), "");
    crate::durable::replace(&kept, &before)
        .map_err(|e| Error::transient("cron.no_copy", "could not keep a copy of the crontab").cause(e))?;
    write(&after)?;
    // What cron says it has is the proof.
    if read()? != after {
        return Err(Error::transient("cron.not_taken", "the crontab is not what it was told to be")
            .hint(format!("the one before is kept as {}", kept.display())));
    }
    report.detail(match args.remove {
        true => "Moon's lines are out of the crontab",
        false => "Moon's lines are in the crontab; `crontab -l` shows them",
    });
    report.detail(format!("the crontab as it was: {}", kept.display()));
    Ok(report)
}

fn ask(ctx: &Context, remove: bool) -> Result<()> {
    let refused = || {
        Error::conflict("cron.not_confirmed", "the crontab was not changed")
            .hint("answer yes, or say --yes; --dry-run shows what would be written")
    };
    if !service::can_ask() {
        return Err(refused());
    }
    let what = if remove { "Take Moon's lines out of" } else { "Write Moon's lines into" };
    ctx.out.note(&format!("{what} the crontab? Everything else in it stays as it is. [yes/no]"));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" { Ok(()) } else { Err(refused()) }
}

/// The user's crontab; none is an empty one.
fn read() -> Result<Vec<u8>> {
    let ran = crontab("-l", b"")?;
    let complaint = String::from_utf8_lossy(&ran.stderr).to_lowercase();
    let is_none = ran.status.code() == Some(1) && complaint.contains("no crontab");
    match ran.is_ok() || is_none {
        true => Ok(ran.stdout),
        false => Err(refused("read", &ran)),
    }
}

fn write(text: &[u8]) -> Result<()> {
    let ran = crontab("-", text)?;
    if ran.is_ok() { Ok(()) } else { Err(refused("write", &ran)) }
}

fn refused(what: &str, ran: &Ended) -> Error {
    Error::config("cron.refused", format!("could not {what} the crontab")).cause(ran.complaint())
}

fn crontab(word: &str, input: &[u8]) -> Result<Ended> {
    runtime::block_on(call("crontab", &[word], input, DEADLINE))?.map_err(|error| match error.code.as_str() {
        "service.program_missing" => Error::unavailable("cron.missing", "this machine has no crontab command")
            .cause(error)
            .hint("Moon needs none: its daemon keeps the times itself"),
        _ => error,
    })
}
