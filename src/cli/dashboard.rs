//! `moon dashboard`: how everything is, live in the terminal, as a page, as JSON, as metrics.

use super::cron::Unless;
use super::output::{self, Report};
use super::route::{self, Needs};
use super::{Context, runtime};
use crate::screens::view::View;
use crate::screens::{metrics, page::Pages, source, tui, web};
use moon_actors::contract::Request;
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Characters of a line where nobody says how wide the terminal is.
const WIDTH: u16 = 110;
/// How often `watch` prints where no terminal is.
const EVERY: Duration = Duration::from_secs(1);

/// What to make of the status document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Live in the terminal; printed once where there is none
    #[default]
    #[value(alias = "t")]
    Terminal,
    /// The same; where there is no terminal printed every second
    #[value(alias = "w")]
    Watch,
    /// Where the daemon serves the page, with its token
    Web,
    /// The page as one file
    Html,
    /// The operations document's JSON on one line
    Json,
    /// Prometheus text
    Prometheus,
    /// The health report
    Report,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_enum, default_value_t)]
    pub kind: Kind,
    /// Where `html` writes, instead of logs/dashboard.html in the home
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Write the page into this file
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub html: Option<PathBuf>,
    /// Print it once, also on a terminal
    #[arg(long)]
    pub once: bool,
    /// Days of the report
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub days: u32,
    /// Write the report of the last week to logs/weekly_health_DAY.log, as the daemon does every week
    #[arg(long, conflicts_with = "days")]
    pub keep: bool,
    #[command(flatten)]
    pub unless: Unless,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    ctx.home.refuse_unsafe()?;
    if args.file.is_some() && args.kind != Kind::Html {
        return Err(Error::config("cli.usage", "only `html` takes a file").hint("moon dashboard html FILE"));
    }
    if args.keep && args.kind != Kind::Report {
        return Err(Error::config("cli.usage", "only `report` is kept").hint("moon dashboard report --keep"));
    }
    if let Some(skipped) = args.unless.skipped(ctx, "dashboard", kept_by_daemon(ctx, args)) {
        return Ok(skipped);
    }
    if let Some(file) = &args.html {
        return html(ctx, file);
    }
    match args.kind {
        Kind::Report => report(ctx, "dashboard", args.days, args.keep),
        Kind::Web => address(ctx),
        Kind::Html => match &args.file {
            Some(file) => html(ctx, file),
            None if ctx.home.exists() => html(ctx, &ctx.home.dashboard_html()),
            None => Err(route::no_ledger(&ctx.home)),
        },
        Kind::Json => {
            ctx.out.json_line(&source::dashboard(document(ctx)?));
            Ok(Report::new("dashboard"))
        }
        Kind::Prometheus => {
            let text = metrics::text(&document(ctx)?);
            let mut report = Report::new("dashboard");
            report.block(&text).data(&json!({ "text": text }));
            Ok(report)
        }
        Kind::Terminal | Kind::Watch => screen(ctx, args),
    }
}

/// By which setting a daemon writes the same file by itself; empty: it does not.
fn kept_by_daemon<'a>(ctx: &'a Context, args: &Args) -> (&'static str, &'a str) {
    let settings = &ctx.settings().dashboard;
    if args.kind == Kind::Report {
        return ("dashboard.report_at", &settings.report_at);
    }
    let file = args.html.as_ref().or(args.file.as_ref()).cloned().unwrap_or_else(|| ctx.home.dashboard_html());
    let is_same = std::path::absolute(file).is_ok_and(|file| file == ctx.home.root().join(&settings.html_file));
    ("dashboard.html_file", if is_same { &settings.html_file } else { "" })
}

fn document(ctx: &Context) -> Result<Value> {
    route::check_ledger(&ctx.home)?;
    runtime::block_on(source::document(&ctx.home, ctx.settings()))?
}

fn screen(ctx: &Context, args: &Args) -> Result<Report> {
    let is_live = !ctx.out.is_json() && !args.once;
    if is_live && output::is_terminal() && output::hears_keys() {
        route::check_ledger(&ctx.home)?;
        tui::run(&ctx.home, ctx.settings(), has_colour(ctx))?;
        return Ok(Report::new("dashboard"));
    }
    while is_live && args.kind == Kind::Watch && !ctx.out.is_closed() && !output::reader_is_gone() {
        tui::printed(&View::of(&document(ctx)?), WIDTH).iter().for_each(|line| ctx.out.line(line));
        ctx.out.line("");
        std::thread::sleep(EVERY);
    }
    let mut report = Report::new("dashboard");
    let document = document(ctx)?;
    report.details = tui::printed(&View::of(&document), width());
    report.data(&source::dashboard(document));
    Ok(report)
}

fn width() -> u16 {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let found = || ratatui::crossterm::terminal::size().ok().map(|(width, _)| width).filter(|_| output::is_terminal());
    told.or_else(found).unwrap_or(WIDTH).clamp(60, 240)
}

fn has_colour(ctx: &Context) -> bool {
    let says = |name: &str| ctx.environment.get(std::ffi::OsStr::new(name)).cloned().unwrap_or_default();
    says("NO_COLOR").is_empty() && says("TERM") != "dumb"
}

fn html(ctx: &Context, file: &Path) -> Result<Report> {
    let page = Pages::new()?.file(&document(ctx)?)?;
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    crate::durable::replace(&path, page.as_bytes()).map_err(|e| {
        Error::config("dashboard.io", format!("could not write {}", path.display())).cause(e).hint("name another file")
    })?;
    let mut report = Report::new("dashboard");
    report.detail(format!("the page is in {}", path.display()));
    report.data(&json!({ "file": path.display().to_string(), "bytes": page.len() }));
    Ok(report)
}

/// Where the page is and how to be let in.
fn address(ctx: &Context) -> Result<Report> {
    let served = std::fs::read_to_string(ctx.home.dashboard_url()).unwrap_or_default();
    let is_held = crate::daemon::lock::HomeLock::holder(&ctx.home).is_some();
    if served.is_empty() || !is_held {
        let off = ctx.settings().dashboard.listen.is_empty();
        let hint = match (off, is_held) {
            (true, _) => {
                "set `listen = \"127.0.0.1:8787\"` under [dashboard] and start the daemon anew; `moon dashboard html FILE` writes the page without a daemon"
            }
            (false, true) => {
                "the daemon may still be starting, or the address may be taken: see `moon status` and `moon logs`"
            }
            (false, false) => {
                "start it with `moon watch --daemon`; `moon dashboard html FILE` writes the page without a daemon"
            }
        };
        let why = if is_held { "no page is served" } else { "no daemon runs that could serve the page" };
        return Err(Error::unavailable("dashboard.not_served", why).hint(hint));
    }
    let url = format!("{}?token={}", served.trim(), web::token(&ctx.home)?);
    let mut report = Report::new("dashboard");
    report.detail(&url).detail("Whoever has this address may look; the browser keeps a cookie instead of it.");
    report.data(&json!({ "url": url }));
    Ok(report)
}

/// The health report, by the daemon or from what is kept.
pub(super) fn report(ctx: &Context, name: &str, days: u32, keep: bool) -> Result<Report> {
    let needs = if keep { Needs::Lock } else { Needs::Nothing };
    let mut report = route::shown(route::ask(ctx, Request::Report { days, keep }, needs)?)?;
    report.command = name.into();
    Ok(report)
}
