//! `moon logs`: shows the end of a log, follows it, or gathers what belongs to one trace.
//!
//! The log may be large and is read from its end, in blocks, with a limit on everything.

use super::output::{self, Output, Report};
use super::{Context, runtime, tail};
use crate::daemon::ports;
use chrono::{DateTime, Local, NaiveDateTime, Utc};
use moon_actors::port::AuditRow;
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Most lines one call shows.
const LINES_MAX: u32 = 10_000;

/// Most bytes read back to find them; a trace may be far from the end.
const BYTES_MAX: u64 = 64 << 20;

/// How often a followed log is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

/// Which log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// What the daemon does
    #[default]
    Daemon,
    /// What was done to sessions and to the host: the audit
    Runtime,
    /// What the daemon said about delivering by e-mail
    Email,
    /// Alerts that fired and ended
    Alerts,
    /// All of them, by time
    All,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which log
    #[arg(value_enum, default_value_t)]
    pub which: Which,
    /// How many lines from the end
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(LINES_MAX)))]
    pub lines: u32,
    /// Go on showing new lines until interrupted
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// Show only what belongs to this trace
    #[arg(long, value_name = "ID")]
    pub trace: Option<String>,
}

/// One log file, and what of it is wanted.
struct Source {
    live: PathBuf,
    is_wanted: fn(&Value) -> bool,
}

impl Source {
    fn of(ctx: &Context, which: Which) -> Vec<Self> {
        let all = |_: &Value| true;
        let daemon = Self { live: ctx.home.log_file(), is_wanted: all };
        let runtime = Self { live: ctx.home.audit_log(), is_wanted: all };
        let alerts = Self { live: ctx.home.logs_dir().join("alerts.log"), is_wanted: all };
        match which {
            Which::Daemon => vec![daemon],
            Which::Runtime => vec![runtime],
            Which::Email => vec![Self { is_wanted: is_about_email, ..daemon }],
            Which::Alerts => vec![alerts],
            Which::All => vec![daemon, runtime, alerts],
        }
    }

    /// Files that can be read as they are, newest first.
    fn files(&self) -> Vec<PathBuf> {
        let older = crate::adapters::rotation::put_aside_before(&self.live);
        let is_plain = |path: &PathBuf| path.extension().is_none_or(|extension| extension != "gz");
        std::iter::once(self.live.clone()).chain(older.into_iter().filter(is_plain)).collect()
    }

    /// The last `count` lines that are wanted, oldest first.
    fn last(&self, count: usize, trace: Option<&str>, budget: &mut u64) -> Result<Vec<Value>> {
        let is_wanted = |line: &Value| (self.is_wanted)(line) && trace.is_none_or(|trace| belongs(line, trace));
        // Most lines do not even name the trace, and reading JSON is what takes the time.
        let may_be = |line: &str| trace.is_none_or(|trace| line.contains(trace));
        let mut lines = Vec::new();
        for file in self.files() {
            let is_found = |line: &str| may_be(line) && is_wanted(&parse(line));
            let found = tail::last_matching(&file, count - lines.len(), budget, is_found).map_err(|e| {
                Error::transient("logs.io", format!("could not read the log {}", file.display())).cause(e)
            })?;
            // Older files come later here and before in time.
            lines.splice(0..0, found);
            if lines.len() >= count || *budget == 0 {
                break;
            }
        }
        Ok(lines.iter().map(|line| parse(line)).collect())
    }
}

/// A route of the kind `email` is named so unless the settings say otherwise.
fn is_about_email(line: &Value) -> bool {
    let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default().to_lowercase();
    ["route", "kind", "target", "message"].iter().any(|key| text(key).contains("email") || text(key).contains("e-mail"))
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    ctx.home.refuse_unsafe()?;
    let (sources, trace) = (Source::of(ctx, args.which), args.trace.as_deref());
    // Taken before reading, so that nothing falls between the end of the past and the beginning of the new.
    let followers: Vec<_> =
        sources.iter().filter(|_| args.follow).map(|s| tail::Follower::at_end(s.live.clone())).collect();
    let mut budget = BYTES_MAX;
    let mut lines = Vec::new();
    for source in &sources {
        lines.extend(source.last(args.lines as usize, trace, &mut budget)?);
    }
    if sources.len() > 1 {
        // Stable: lines of one file keep their order also where they name no time.
        lines.sort_by_key(time);
        lines.drain(..lines.len().saturating_sub(args.lines as usize));
    }
    if args.follow {
        return follow(ctx, (&sources, followers), &lines, trace);
    }
    let mut report = Report::new("logs");
    if lines.is_empty() {
        report.detail("the log holds nothing of this kind yet");
    }
    report.details.extend(lines.iter().map(person));
    if budget == 0 {
        report.remark(format!("only the last {} MiB were searched", BYTES_MAX >> 20));
    }
    let audit = trace.map_or(Ok(Vec::new()), |trace| audit_rows(ctx, trace))?;
    report.details.extend(audit.iter().map(|row| format!("audit  {row}")));
    let file = sources.first().map(|source| source.live.display().to_string());
    report.data(&json!({ "file": file, "lines": lines, "audit": audit }));
    Ok(report)
}

/// The audit rows of one trace, oldest first, each as one line.
fn audit_rows(ctx: &Context, trace: &str) -> Result<Vec<String>> {
    let rows = runtime::block_on(async {
        match ports::open_ledger_read_only(&ctx.home)? {
            Some(ledger) => ledger.audit_of_trace(trace).await,
            None => Ok(Vec::new()),
        }
    })??;
    let line = |row: &AuditRow| {
        let (at, entry) = (row.at.format("%Y-%m-%dT%H:%M:%SZ"), &row.entry);
        format!("{at} #{} {} {}: {}", row.seq, entry.actor, entry.event, entry.message)
    };
    Ok(rows.iter().map(line).collect())
}

fn follow(
    ctx: &Context,
    (sources, mut followers): (&[Source], Vec<tail::Follower>),
    past: &[Value],
    trace: Option<&str>,
) -> Result<Report> {
    let print = |out: &Output, line: &Value| if out.is_json() { out.json_line(line) } else { out.line(&person(line)) };
    past.iter().for_each(|line| print(&ctx.out, line));
    while !ctx.out.is_closed() && !output::reader_is_gone() {
        for (source, follower) in sources.iter().zip(&mut followers) {
            for line in follower.new_lines().iter().map(|line| parse(line)) {
                if (source.is_wanted)(&line) && trace.is_none_or(|trace| belongs(&line, trace)) {
                    print(&ctx.out, &line);
                }
            }
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
    Ok(Report::new("logs"))
}

/// A damaged line is shown as it is, under `message`.
fn parse(line: &str) -> Value {
    serde_json::from_str(line).ok().filter(Value::is_object).unwrap_or_else(|| json!({ "message": line }))
}

fn belongs(line: &Value, trace: &str) -> bool {
    let is = |value: &Value| value.get("trace").and_then(Value::as_str) == Some(trace);
    is(line) || line.get("span").is_some_and(is)
}

/// When a line was written, for putting several logs in order; unknown is the beginning of time.
fn time(line: &Value) -> DateTime<Utc> {
    let text = |key: &str| line.get(key).and_then(Value::as_str);
    let stamped = text("timestamp").or_else(|| text("at")).and_then(|at| at.parse().ok());
    stamped.or_else(|| local_stamp(text("message")?)).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// `[2026-11-20 04:46:43] …`, in local time.
fn local_stamp(line: &str) -> Option<DateTime<Utc>> {
    let stamp = line.strip_prefix('[')?.split_once(']')?.0;
    let naive = NaiveDateTime::parse_from_str(stamp, "%Y-%m-%d %H:%M:%S").ok()?;
    naive.and_local_timezone(Local).earliest().map(|at| at.to_utc())
}

/// `2026-11-20T04:46:43Z  INFO archived session=… bytes=…`
fn person(line: &Value) -> String {
    const SHOWN: [&str; 6] = ["timestamp", "level", "message", "target", "span", "name"];
    /// Of an audit row only what a person follows; `moon logs runtime --json` has all of it.
    const OF_AUDIT: [&str; 3] = ["session", "trace", "error_code"];
    let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
    let is_audit = line.get("prev_sha256").is_some();
    let (time, level) = if is_audit { (text("at"), text("phase")) } else { (text("timestamp"), text("level")) };
    let time = time.get(..19).map_or_else(|| time.to_owned(), |seconds| format!("{seconds}Z"));
    let mut shown = format!("{time} {level:>5} {}", text("message")).trim().to_owned();
    let own = line.as_object().into_iter().flatten();
    let span = line.get("span").and_then(Value::as_object).into_iter().flatten();
    for (key, value) in own.chain(span).filter(|(_, value)| !value.is_null()) {
        let is_shown = if is_audit { OF_AUDIT.contains(&key.as_str()) } else { !SHOWN.contains(&key.as_str()) };
        if is_shown {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            shown.push_str(&format!(" {key}={value}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_with_its_fields_and_its_spans() {
        let line = json!({"timestamp": "2026-11-20T04:46:43.123456Z", "level": "INFO", "message": "archived", "bytes": 5,
                          "target": "moon", "span": {"trace": "t1", "name": "job"}});
        assert_eq!(person(&line), "2026-11-20T04:46:43Z  INFO archived bytes=5 trace=t1");
        assert!(belongs(&line, "t1") && !belongs(&line, "t"));
        assert_eq!(person(&parse("torn {")), "torn {");
    }

    #[test]
    fn an_audit_row_is_one_line_and_lines_of_all_logs_have_a_time() {
        let row = json!({"at_epoch_secs": 1, "phase": "prune", "status": "ok", "message": "pruned", "at": "2026-11-20T04:46:43.5Z",
                         "session": "s", "trace": "t1", "error_code": null, "prev_sha256": "0", "sha256": "1"});
        assert_eq!(person(&row), "2026-11-20T04:46:43Z prune pruned session=s trace=t1");
        let alert = parse("[2026-11-20 04:46:43] [CRITICAL] Daemon Critical Failure - Process not running");
        assert_eq!(time(&alert).with_timezone(&Local).format("%H:%M:%S").to_string(), "04:46:43");
        assert!(time(&row) > time(&parse("no time at all")));
        assert!(is_about_email(&json!({"route": "email", "message": "x"})) && !is_about_email(&row));
    }
}
