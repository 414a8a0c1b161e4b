//! `moon alerts`: what fires, who knows of it, what is silenced, and whether the routes work.
//!
//! With a daemon, over its socket. Without one, what only reads opens the ledger beside whoever writes, and the rest works under the
//! home's lock and delivers by itself; beside a daemon that hangs it does so without the lock, and writes down what it has told, so that
//! nothing is told again when that one wakes. No alert is lost because the ledger cannot be used: it then goes straight to the routes.

use super::output::{Report, table};
use super::service::passwd;
use super::{Context, route, runtime};
use crate::daemon::lock::{Holder, HomeLock};
use crate::daemon::{ports, socket};
use crate::home::Home;
use chrono::{DateTime, Local, Utc};
use moon_actors::alert::desk::{self, Desk};
use moon_actors::alert::rules;
use moon_actors::contract::{self, AlertsRequest, Request};
use moon_actors::port::{AlertKey, AlertRow, DeliveryRow, Fate, NewSilence, PendingAlert, RouteRow, Severity, Silence};
use moon_actors::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::ffi::OsStr;
use std::time::{Duration, Instant};

/// How long a daemon that starts, or a one-shot command, is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// A daemon that begins to hang is not waited for longer than its slowest route may take.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Show who is told of what, say that you know, silence it, try the routes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Without one: `list`
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Args {
    fn command(&self) -> &Command {
        self.command.as_ref().unwrap_or(&Command::List)
    }

    /// The verb as reports name it.
    pub(super) fn name(&self) -> &'static str {
        self.command().name()
    }

    pub(super) fn only_reads(&self) -> bool {
        use Command::{History, List, Show, Silences};
        matches!(self.command(), List | Show { .. } | History { .. } | Silences { .. })
    }
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// What fires, what is pending, what is silenced, and how the routes do
    List,
    /// One alert, and what became of it at every route
    Show { id: i64 },
    /// Say that you know: a critical alert is then not told again
    Ack {
        id: i64,
        /// Who knows; the user's name without it
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Hold back what begins from now on and matches, for a while
    Silence {
        /// The rule, or a glob such as `disk_*`
        rule: String,
        /// What it is about, as `moon alerts list` shows it, or a glob
        #[arg(long, value_name = "GLOB", default_value = "*")]
        subject: String,
        /// For how long, such as 2h
        #[arg(long = "for", value_name = "SPAN", value_parser = humantime::parse_duration)]
        span: Duration,
        #[arg(long, value_name = "TEXT", default_value = "no reason given")]
        reason: String,
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// The silences in force
    Silences {
        /// Those that have ended, too
        #[arg(long)]
        all: bool,
    },
    /// End a silence before its time
    Unsilence {
        id: i64,
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Send a test notice and its end by every route, or by one
    ///
    /// A route gets what its `min_severity` wants and nothing less: `--severity warning` shows which routes a warning would reach.
    Test {
        /// Only by this route; that it does not want the severity is then a fault (exit 2)
        #[arg(long, value_name = "NAME")]
        route: Option<String>,
        /// info, warning or critical
        #[arg(long, value_parser = severity, default_value = "critical")]
        severity: Severity,
    },
    /// What has fired, newest first
    History {
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        lines: u16,
        /// Only alerts with a lower number
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
    },
    /// Put an alert on Moon's path, from a script or a service manager
    Raise {
        /// One of Moon's rules, or a name of your own such as `nightly.sync_failed`
        #[arg(value_parser = rule)]
        rule: String,
        #[arg(long, value_name = "TEXT")]
        message: String,
        /// info, warning or critical; without it that of the rule
        #[arg(long, value_parser = severity)]
        severity: Option<Severity>,
        /// What it is about: the same rule and subject are one alert
        #[arg(long, value_name = "TEXT", default_value = "moon")]
        subject: String,
        /// What to do
        #[arg(long, value_name = "TEXT")]
        hint: Option<String>,
    },
    /// Say that what a raised alert was about is over
    Resolve {
        #[arg(value_parser = rule)]
        rule: String,
        #[arg(long, value_name = "TEXT", default_value = "moon")]
        subject: String,
    },
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::List => "alerts list",
            Self::Show { .. } => "alerts show",
            Self::Ack { .. } => "alerts ack",
            Self::Silence { .. } => "alerts silence",
            Self::Silences { .. } => "alerts silences",
            Self::Unsilence { .. } => "alerts unsilence",
            Self::Test { .. } => "alerts test",
            Self::History { .. } => "alerts history",
            Self::Raise { .. } => "alerts raise",
            Self::Resolve { .. } => "alerts resolve",
        }
    }

    fn request(&self, ctx: &Context) -> Result<AlertsRequest> {
        let name = |by: &Option<String>| by.clone().unwrap_or_else(|| me(ctx));
        Ok(match self.clone() {
            Self::List => AlertsRequest::List,
            Self::Show { id } => AlertsRequest::Show { id },
            Self::Ack { id, by, note } => AlertsRequest::Ack { id, by: name(&by), note },
            Self::Silence { rule, subject, span, reason, by } => {
                let until = Utc::now().checked_add_signed(chrono::TimeDelta::from_std(span).unwrap_or_default());
                let until = until.filter(|_| span <= LONGEST_SILENCE).ok_or_else(|| {
                    Error::config("alert.silence", "could not silence anything").cause("--for must be at most a year")
                })?;
                AlertsRequest::Silence(NewSilence { rule, subject, until, reason, by: name(&by) })
            }
            Self::Silences { all } => AlertsRequest::Silences { all },
            Self::Unsilence { id, by } => AlertsRequest::Unsilence { id, by: name(&by) },
            Self::Test { route, severity } => AlertsRequest::Test { route, severity },
            Self::History { lines, before } => AlertsRequest::History { before, limit: lines.into() },
            Self::Raise { rule, message, severity, subject, hint } => {
                AlertsRequest::Raise { rule, subject, severity, message, hint }
            }
            Self::Resolve { rule, subject } => AlertsRequest::Resolve { rule, subject },
        })
    }
}

const LONGEST_SILENCE: Duration = Duration::from_secs(366 * 86_400);

/// Who types: what stands in the ledger beside an acknowledgement or a silence.
pub(super) fn me(ctx: &Context) -> String {
    let named = ["USER", "LOGNAME"].iter().find_map(|name| ctx.environment.get(OsStr::new(name)));
    let named = named.map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.is_empty());
    let uid = rustix::process::geteuid().to_string();
    let known = || passwd(|user| user[2] == uid).map(|(name, _)| name);
    named.or_else(known).unwrap_or_else(|| format!("the user with the id {uid}"))
}

fn rule(text: &str) -> std::result::Result<String, String> {
    let wrong = "up to 64 letters, digits, `.`, `_` and `-`";
    if rules::is_name(text) { Ok(text.to_owned()) } else { Err(wrong.to_owned()) }
}

fn severity(text: &str) -> std::result::Result<Severity, String> {
    [Severity::Info, Severity::Warning, Severity::Critical]
        .into_iter()
        .find(|severity| severity.as_str() == text)
        .ok_or_else(|| "one of info, warning, critical".to_owned())
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    let command = args.command();
    let ask = command.request(ctx)?;
    let answer = match &ask {
        AlertsRequest::Raise { rule, subject, severity, message, hint } => {
            tell(ctx, (rule, subject), *severity, message, hint.as_deref())?
        }
        ask if ask.only_reads() => look(ctx, ask.clone())?,
        _ => carry_out(ctx, ask)?,
    };
    let mut report = route::shown(answer)?;
    match command {
        Command::List => list(&mut report, ctx.out.is_json()),
        Command::Show { .. } => show(&mut report),
        Command::History { .. } => history(&mut report),
        Command::Silences { .. } => silences(&mut report),
        _ => {}
    }
    Ok(report)
}

/// Puts an alert on the one path, daemon or not, and returns when its row is committed; without a daemon, when every route was tried.
/// Severity and hint are those of the rule unless given. If the ledger cannot be used, the alert goes straight to every route that wants
/// it, and the error says why it is in no ledger.
pub(crate) fn tell(
    ctx: &Context,
    (rule, subject): (&str, &str),
    severity: Option<Severity>,
    message: &str,
    hint: Option<&str>,
) -> Result<contract::Report> {
    if !rules::is_name(rule) {
        return Err(Error::config("alert.rule", format!("{rule:?} cannot be the name of a rule")));
    }
    let ask = AlertsRequest::Raise {
        rule: rule.to_owned(),
        subject: subject.to_owned(),
        severity,
        message: message.to_owned(),
        hint: hint.map(str::to_owned),
    };
    carry_out(ctx, ask).map_err(|error| {
        let (key, severity) = (AlertKey::new(rule, subject), rules::severity(rule, severity));
        let hint = hint.map(str::to_owned).or_else(|| rules::hint(rule));
        let alert = desk::unrecorded(key, severity, message, hint, Utc::now());
        let notifiers = ports::notifiers(&ctx.home, ctx.settings());
        let tried = runtime::block_on(desk::directly(&notifiers, &alert)).unwrap_or_default();
        let told: Vec<&str> = tried.iter().filter(|one| one.is_delivered()).map(|one| one.route.as_str()).collect();
        let told = if told.is_empty() { "by no route".to_owned() } else { format!("by {}", told.join(", ")) };
        Error { message: format!("{}; the alert was told without the ledger, {told}", error.message), ..error }
    })
}

/// Says that what [`tell`] was about is over, if it still fires.
pub(crate) fn over(ctx: &Context, (rule, subject): (&str, &str)) -> Result<()> {
    carry_out(ctx, AlertsRequest::Resolve { rule: rule.to_owned(), subject: subject.to_owned() }).map(drop)
}

/// Reads what is kept, beside whoever writes.
fn look(ctx: &Context, ask: AlertsRequest) -> Result<contract::Report> {
    ctx.home.refuse_unsafe()?;
    runtime::block_on(async {
        let silent = match by_socket(&ctx.home, &ask).await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let desk = ports::open_desk_read_only(&ctx.home, ctx.settings())?;
        let answer = desk.ok_or_else(|| route::no_ledger(&ctx.home))?.answer(ask).await?;
        Ok(match silent {
            Some(error) => answer.detail(format!("{}: this is what the ledger holds", error.message)),
            None => answer,
        })
    })?
}

/// Does it: by the daemon, or under the lock. Whoever else holds the home is waited for.
fn carry_out(ctx: &Context, ask: AlertsRequest) -> Result<contract::Report> {
    ctx.home.refuse_unsafe()?;
    runtime::block_on(async {
        let begun = Instant::now();
        loop {
            match by_socket(&ctx.home, &ask).await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(error) if error.code == socket::SILENT => return beside(ctx, ask, error).await,
                Err(error) => return Err(error),
            }
            let home = ctx.open_home()?;
            match HomeLock::take(&home, "alerts") {
                Ok(_lock) => return own(ctx, &home).await?.answer(ask).await,
                Err(error) if error.code != "daemon.held" || begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    })?
}

/// Does it beside a daemon that hangs, which was asked nothing: everything here is a transaction of the ledger, and SQLite keeps two writers
/// apart. Severity, cooldown, silences and limits hold, and whoever else delivers (the daemon when it wakes, others who come meanwhile)
/// takes turns at each route and finds written down what was told. Only the same version may: another one would change the ledger's schema
/// under it.
async fn beside(ctx: &Context, ask: AlertsRequest, silent: Error) -> Result<contract::Report> {
    let is_same = |holder: Holder| holder.what == "daemon" && holder.version == env!("CARGO_PKG_VERSION");
    if !HomeLock::holder(&ctx.home).is_some_and(is_same) {
        return Err(silent);
    }
    let answer = ports::open_desk(&ctx.home, ctx.settings())?.answer(ask).await?;
    Ok(answer.detail(format!("{}: this was done beside it", silent.message)))
}

async fn own(ctx: &Context, home: &Home) -> Result<Desk> {
    let desk = ports::open_desk(home, ctx.settings())?;
    desk.post.open().await?;
    Ok(desk)
}

async fn by_socket(home: &Home, ask: &AlertsRequest) -> Result<Option<contract::Report>> {
    if !home.exists() {
        return Ok(None);
    }
    let request = Request::Alerts { alerts: ask.clone() };
    tokio::time::timeout(ANSWER_WAIT, socket::ask(home, &request)).await.unwrap_or_else(|_| {
        Err(Error::transient("control.io", "the moon daemon has not answered")
            .cause(format!("no answer within {} s", ANSWER_WAIT.as_secs()))
            .hint("see `moon logs`"))
    })
}

fn read<T: DeserializeOwned>(value: &Value) -> Vec<T> {
    // Fields are only added: what another version says is read as far as it is known.
    value.as_array().into_iter().flatten().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
}

fn when(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

fn state(row: &AlertRow) -> &'static str {
    match row {
        row if row.alert.resolved_at.is_some() => "resolved",
        row if row.silenced_by.is_some() => "suppressed (silenced)",
        row if row.acknowledged.is_some() => "acknowledged",
        row if row.escalated_at.is_some() => "escalated",
        _ => "firing",
    }
}

fn lines(rows: &[AlertRow]) -> Vec<Vec<String>> {
    let line = |row: &AlertRow| {
        let alert = &row.alert;
        vec![
            alert.id.to_string(),
            alert.severity.as_str().to_owned(),
            alert.key.rule.clone(),
            alert.key.subject.clone(),
            state(row).to_owned(),
            when(alert.fired_at),
            alert.message.chars().take(100).collect(),
        ]
    };
    rows.iter().map(line).collect()
}

const COLUMNS: [&str; 7] = ["ID", "SEVERITY", "RULE", "SUBJECT", "STATE", "FIRED", "MESSAGE"];

fn list(report: &mut Report, for_programs: bool) {
    let data = report.data.clone();
    let firing: Vec<AlertRow> = read(&data["alerts"]);
    let pending: Vec<PendingAlert> = read(&data["pending"]);
    report.detail(desk::summary(firing.len(), pending.len()));
    if !firing.is_empty() {
        report.details.extend(table(&COLUMNS, &lines(&firing)));
    }
    for one in &pending {
        let since = when(one.since);
        let (rule, subject) = (&one.key.rule, &one.key.subject);
        report.detail(format!("pending since {since}: {rule} of {subject}: {}", one.message));
    }
    for silence in read::<Silence>(&data["silences"]) {
        report.detail(in_words(&silence));
    }
    for route in read::<RouteRow>(&data["routes"]) {
        report.detail(of_route(&route));
    }
    report.ok &= firing.is_empty();
    // People have read it in the table.
    for row in firing.iter().filter(|_| for_programs) {
        let (rule, id) = (&row.alert.key.rule, row.alert.id);
        report.issue(format!("alert {id} fires: {rule} of {}", row.alert.key.subject));
    }
}

fn of_route(route: &RouteRow) -> String {
    let last = route.told_at.map_or_else(|| "nothing sent yet".to_owned(), |at| format!("last sent {}", when(at)));
    let held = held_for(route.digest_at);
    let kept = [(route.owed, "waiting"), (route.silenced, "silenced"), (route.held, held.as_str())];
    let waiting: String = kept.iter().filter(|(n, _)| *n > 0).map(|(n, how)| format!(", {n} {how}")).collect();
    match &route.last_error {
        Some(error) => format!("route {}: failing ({} in a row), {last}{waiting}: {error}", route.name, route.failures),
        None => format!("route {}: {last}{waiting}", route.name),
    }
}

fn show(report: &mut Report) {
    let data = report.data.clone();
    let Ok(row) = serde_json::from_value::<AlertRow>(data["alert"].clone()) else { return };
    let alert = &row.alert;
    let (id, how_bad) = (alert.id, alert.severity.as_str());
    report.detail(format!("alert {id}: {how_bad}, {}", state(&row)));
    report.detail(format!("{} - {}", rules::title(&alert.key.rule), alert.message));
    report.detail(format!("rule {} of {}", alert.key.rule, alert.key.subject));
    if let Some(hint) = &alert.hint {
        report.detail(format!("what to do: {hint}"));
    }
    report.detail(format!("fired {}", when(alert.fired_at)));
    if let Some(known) = &row.acknowledged {
        let note = known.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
        report.detail(format!("acknowledged {} by {}{note}", when(known.at), known.by));
    }
    let later = [
        row.escalated_at.map(|at| format!("escalated {}", when(at))),
        row.silenced_by.map(|id| format!("held back by silence {id}")),
        alert.resolved_at.map(|at| format!("resolved {}", when(at))),
        row.superseded_by.map(|id| format!("became worse: alert {id}")),
    ];
    report.details.extend(later.into_iter().flatten());
    for one in read::<DeliveryRow>(&data["deliveries"]) {
        report.detail(of_delivery(&one));
    }
}

fn held_for(digest_at: Option<DateTime<Utc>>) -> String {
    let at = digest_at.map(|at| at.with_timezone(&Local).format("%H:%M").to_string());
    at.map_or_else(|| "held for a digest".to_owned(), |at| format!("held for the digest at {at}"))
}

fn of_delivery(one: &DeliveryRow) -> String {
    let at = one.at.map_or_else(String::new, |at| format!(" {}", when(at)));
    let became = match one.fate {
        None if one.is_silenced => "silenced".to_owned(),
        None => "waiting".to_owned(),
        Some(Fate::Digested) if one.is_held => held_for(one.held_until),
        Some(Fate::Digested) => format!("told in a digest{at}"),
        Some(fate) => format!("{}{at}", fate.as_str()),
    };
    let why = one.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
    format!("{} by {}: {became}{why}", one.phase.as_str(), one.route)
}

fn history(report: &mut Report) {
    let rows: Vec<AlertRow> = read(&report.data["alerts"]);
    if rows.is_empty() {
        report.detail("nothing has fired");
    } else {
        report.details.extend(table(&COLUMNS, &lines(&rows)));
    }
}

fn silences(report: &mut Report) {
    let silences: Vec<Silence> = read(&report.data["silences"]);
    if silences.is_empty() {
        report.detail("nothing is silenced");
    }
    for silence in &silences {
        report.detail(in_words(silence));
    }
}

fn in_words(silence: &Silence) -> String {
    let what = &silence.what;
    let until = when(what.until);
    let ended = silence.ended_at.map_or_else(String::new, |at| {
        format!(", ended {} by {}", when(at), silence.ended_by.as_deref().unwrap_or("?"))
    });
    format!(
        "silence {}: {} of {} until {until}, by {}: {}{ended}",
        silence.id, what.rule, what.subject, what.by, what.reason
    )
}
