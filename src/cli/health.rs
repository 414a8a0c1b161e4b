//! `moon health`: every check, whatever the others found; with the daemon or without it.
//!
//! Two dialects of exit codes: the operations document's (0 healthy, 1 critical, 2 degraded) and that of Nagios plugins (0 ok,
//! 1 warning, 2 critical, 3 unknown). Without a daemon the checks run here and write nothing down.

use super::exit::Exit;
use super::output::{Issue, Report};
use super::{Context, revive, route, runtime};
use crate::adapters::archive_dir::ArchiveDir;
use crate::adapters::checks::{self, Place, Senses, nagios};
use crate::adapters::clock::SystemClock;
use crate::adapters::fts::FtsIndex;
use crate::adapters::no_host::NoHost;
use crate::daemon::ports;
use crate::daemon::socket;
use moon_actors::contract::{self, Request};
use moon_actors::domain::Condition;
use moon_actors::health::{document, engine::Doctor, verdict};
use moon_actors::port::{ArchiveStore, CheckRow, Ledger, SearchIndex, SessionHost};
use moon_actors::{Error, Result};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A daemon that has not answered a ping by then does not answer: the checks run here.
const PING: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this check, by its name; may be given again
    #[arg(long, value_name = "NAME")]
    pub check: Vec<String>,
    /// How to say it: for people, or as a Nagios plugin with its exit codes
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Look now, also at what was looked at a moment ago
    #[arg(long)]
    pub now: bool,
    /// Before that, start a daemon that is dead though nobody stopped it, and tell people; for cron
    #[arg(long, conflicts_with = "format")]
    pub revive: bool,
    /// Take what the check NAME remembers for outdated: a table or file that was removed on purpose
    #[arg(long, value_name = "NAME", conflicts_with_all = ["check", "now"])]
    pub accept: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Nagios,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    if args.revive {
        ctx.home.refuse_unsafe()?;
        if let Some(did) = revive::run(ctx)? {
            ctx.out.note(&did);
        }
    }
    let rows = runtime::block_on(rows(ctx, args)).and_then(|rows| rows);
    match (rows, args.format) {
        (Ok(rows), Format::Text) => {
            let mut report = text(ctx, &rows);
            // Beside the checks and their verdict: it is no state of what they look at.
            super::status::half_restored(ctx).into_iter().for_each(|issue| {
                report.remark(issue);
            });
            Ok(report)
        }
        (Ok(rows), Format::Nagios) => Ok(plugin(&rows)),
        (Err(error), Format::Text) => Err(error),
        (Err(error), Format::Nagios) => Ok(unknown(&error)),
    }
}

/// What a plugin says when it cannot even look.
pub(super) fn unknown(error: &Error) -> Report {
    let mut report = Report::new("health");
    report.detail(format!("MOON UNKNOWN - {}", plain(&error.to_string())));
    report.data(&json!({ "error": error }));
    (report.ok, report.exit) = (false, Some(Exit::Held));
    report
}

/// From the daemon if it answers, else by looking from here.
async fn rows(ctx: &Context, args: &Args) -> Result<Vec<CheckRow>> {
    ctx.home.refuse_unsafe()?;
    if ctx.home.exists()
        && let Ok(true) = socket::ping(&ctx.home, PING).await
    {
        let request = match &args.accept {
            Some(check) => Request::AcceptHealth { check: check.clone() },
            None => Request::Health { checks: args.check.clone(), now: args.now },
        };
        if let Some(report) = socket::ask(&ctx.home, &request).await? {
            return from_daemon(report);
        }
    }
    if args.accept.is_some() {
        return Err(Error::unavailable("daemon.not_running", "only a running daemon remembers what is accepted")
            .hint("start it with `moon start`"));
    }
    look_from_here(ctx, args).await
}

fn from_daemon(report: contract::Report) -> Result<Vec<CheckRow>> {
    if let Some(error) = report.error {
        return Err(error);
    }
    serde_json::from_value(report.data["checks"].clone()).map_err(|e| {
        Error::transient("control.io", "the daemon's answer holds no checks")
            .cause(e)
            .hint("is the daemon of another version? restart it with the moon that you call now")
    })
}

async fn look_from_here(ctx: &Context, args: &Args) -> Result<Vec<CheckRow>> {
    let clock = Arc::new(SystemClock::start());
    let ledger: Result<Arc<dyn Ledger>> = match ports::open_ledger_untouched(&ctx.home) {
        Ok(Some(ledger)) => Ok(Arc::new(ledger)),
        Ok(None) => Err(route::no_ledger(&ctx.home)),
        Err(error) => Err(error),
    };
    // Opening an archive makes its folders: only where one is.
    let is_there = ctx.home.objects_dir().is_dir() && ctx.home.sessions_dir().is_dir();
    let open = || ArchiveDir::open(ctx.home.root(), ctx.settings().archive.zstd_level, ports::writer()).ok();
    let senses = Senses {
        home: ctx.home.clone(),
        settings: Arc::new(ctx.settings().clone()),
        clock: Arc::clone(&clock) as _,
        ledger: ledger.clone(),
        host: host(ctx),
        archive: is_there.then(open).flatten().map(|store| Arc::new(store) as Arc<dyn ArchiveStore>),
        index: Some(Arc::new(FtsIndex::read_only(&ctx.home.index_db())) as Arc<dyn SearchIndex>),
        place: Place::Outside,
    };
    Doctor::onlooker(checks::all(&senses), ledger.ok(), clock, &ctx.settings().health).answer(&args.check, true).await
}

/// The host for one look: it is connected to, and nothing is paired or written for that.
fn host(ctx: &Context) -> Arc<dyn SessionHost> {
    let mut settings = ctx.settings().clone();
    settings.openclaw.pair_device = false;
    match route::host_plan(ctx) {
        Ok(plan) => plan.start(&settings, &ctx.home),
        Err(error) => Arc::new(NoHost::new(error)),
    }
}

/// One line each, and the verdict in the operations document's words and codes.
fn text(ctx: &Context, rows: &[CheckRow]) -> Report {
    let mut report = answer(rows);
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    for row in rows {
        let mark = match row.condition {
            Condition::Ok => '✓',
            Condition::Warning => '⚠',
            Condition::Unknown => '?',
            Condition::Critical => '✗',
        };
        let since = match row.condition {
            Condition::Ok => String::new(),
            _ => format!(" (since {})", row.since.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S")),
        };
        let unknown = if row.condition == Condition::Unknown { "unknown: " } else { "" };
        report.detail(format!("{mark} {:width$}  {unknown}{}{since}", row.name, row.reason));
        if let Some(hint) = row.hint.as_ref().filter(|hint| row.condition != Condition::Ok && !hint.is_empty()) {
            report.detail(format!("  {:width$}  → {hint}", ""));
        }
    }
    let (word, exit) = match verdict(rows) {
        Condition::Ok => ("HEALTHY", 0),
        Condition::Warning | Condition::Unknown => ("DEGRADED", 2),
        Condition::Critical => ("CRITICAL", 1),
    };
    report.detail("").detail(format!("Status: {word}"));
    report.exit = Some(code(exit));
    if ctx.out.is_json() {
        for row in rows.iter().filter(|row| row.condition != Condition::Ok) {
            let message = format!("{} is {}: {}", row.name, row.condition.as_str(), row.reason);
            report.issue(Issue { code: None, message, cause: None, hint: row.hint.clone() });
        }
    }
    report
}

/// One line with performance data, then a line for each check that is not fine.
fn plugin(rows: &[CheckRow]) -> Report {
    let mut report = answer(rows);
    let worst = verdict(rows);
    let (word, exit) = match worst {
        Condition::Ok => ("OK", 0),
        Condition::Warning => ("WARNING", 1),
        Condition::Critical => ("CRITICAL", 2),
        Condition::Unknown => ("UNKNOWN", 3),
    };
    let bad: Vec<&CheckRow> = rows.iter().filter(|row| row.condition != Condition::Ok).collect();
    let told = match bad.iter().find(|row| row.condition == worst) {
        None => format!("{} fine", contract::count(rows.len(), "check")),
        Some(first) => format!("{}: {} ({} of {} not fine)", first.name, plain(&first.reason), bad.len(), rows.len()),
    };
    let data = rows.iter().flat_map(|row| {
        row.figures.iter().map(|(name, figure)| nagios::datum(&format!("{}_{name}", row.name), figure))
    });
    let data: Vec<String> = data.collect();
    let data = if data.is_empty() { String::new() } else { format!(" | {}", data.join(" ")) };
    report.detail(format!("MOON {word} - {told}{data}"));
    for row in bad {
        let hint = row.hint.as_deref().map_or(String::new(), |hint| format!(" -> {}", plain(hint)));
        report.detail(format!(
            "[{}] {}: {}{hint}",
            row.condition.as_str().to_uppercase(),
            row.name,
            plain(&row.reason)
        ));
    }
    report.exit = Some(code(exit));
    report
}

fn answer(rows: &[CheckRow]) -> Report {
    let mut report = Report::new("health");
    report.data(&document(rows));
    report.ok = verdict(rows) == Condition::Ok;
    report
}

/// The text of a plugin ends where its data begin.
fn plain(text: &str) -> String {
    text.replace('|', "/")
}

/// Here the numbers are the contract; what other commands mean by them is not meant.
fn code(number: u8) -> Exit {
    match number {
        0 => Exit::Ok,
        1 => Exit::Error,
        2 => Exit::NotOk,
        _ => Exit::Held,
    }
}
