//! `moon backup`: makes a backup, lists, proves and prunes them.
//!
//! With a daemon it is the daemon that works, in the same actor as every night; without one this process does, under the home's lock.

use super::Context;
use super::cron::Unless;
use super::output::{Report, size, table};
use super::route::{self, Needs};
use moon_actors::Result;
use moon_actors::contract::{Issue, Request};
use serde_json::Value;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    unless: Unless,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show what backups there are, newest first
    List,
    /// Restore backups into an empty place and compare everything: the newest, one by its id, or `all`
    Verify {
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
    /// Restore the newest backup of every target again, from there, as is done every week
    Drill,
    /// Remove the backups whose time is over, and say why of each
    Prune {
        /// Only say what would be removed, and why
        #[arg(long)]
        dry_run: bool,
    },
}

impl Args {
    /// The verb as reports name it.
    pub(super) fn name(&self) -> &'static str {
        match &self.what {
            None => "backup",
            Some(What::List) => "backup list",
            Some(What::Verify { .. }) => "backup verify",
            Some(What::Drill) => "backup drill",
            Some(What::Prune { .. }) => "backup prune",
        }
    }
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    if let Some(report) = args.unless.skipped(ctx, "backup", ("backup.at", &ctx.settings().backup.at)) {
        return Ok(report);
    }
    let (request, needs) = match &args.what {
        None => (Request::Backup, Needs::Lock),
        Some(What::List) => (Request::Backups, Needs::Nothing),
        Some(What::Verify { id }) => {
            let id = id.clone().filter(|id| !["newest", "latest"].contains(&id.as_str()));
            (Request::VerifyBackup { id }, Needs::Lock)
        }
        Some(What::Drill) => (Request::Drill, Needs::Lock),
        Some(What::Prune { dry_run: true }) => (Request::PruneBackups { dry_run: true }, Needs::Nothing),
        Some(What::Prune { dry_run: false }) => (Request::PruneBackups { dry_run: false }, Needs::Lock),
    };
    let mut report = route::shown(route::ask(ctx, request, needs)?)?;
    if let Some(What::List) = args.what {
        list(&mut report);
    }
    Ok(report)
}

fn list(report: &mut Report) {
    let backups = report.data["backups"].as_array().cloned().unwrap_or_default();
    if backups.is_empty() {
        report.detail("there is no backup yet: `moon backup` makes one");
        return;
    }
    let text = |b: &Value, key: &str| b[key].as_str().unwrap_or("-").to_owned();
    let time = |b: &Value, key: &str| match b[key].as_str() {
        Some(at) => at.chars().take(19).collect::<String>().replace('T', " "),
        None => "no".into(),
    };
    let number = |b: &Value, key: &str| b[key].as_u64().map_or("-".into(), |n| n.to_string());
    let row = |b: &Value| {
        let sealed = if b["encrypted"].as_bool().unwrap_or(false) { "age" } else { "" };
        let bytes = size(b["bytes"].as_u64().unwrap_or(0));
        vec![text(b, "id"), text(b, "target"), bytes, number(b, "members"), time(b, "verified_at"), sealed.into()]
    };
    let rows: Vec<Vec<String>> = backups.iter().map(row).collect();
    for line in table(&["BACKUP", "TARGET", "SIZE", "MEMBERS", "VERIFIED (UTC)", ""], &rows) {
        report.detail(line);
    }
    // What the newest one lacks is worth a word; that of older ones was told when they were made.
    for issue in backups[0]["issues"].as_array().into_iter().flatten() {
        if let Ok(issue) = serde_json::from_value::<Issue>(issue.clone()) {
            report.remark(issue);
        }
    }
}
