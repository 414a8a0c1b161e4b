//! `moon logs`: shows the end of the daemon's log, follows it, or gathers what belongs to one trace.
//!
//! The log may be large and is read from its end, in blocks, with a limit on everything.

use super::output::{self, Output, Report};
use super::{Context, runtime, tail};
use crate::daemon::ports;
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

#[derive(Debug, clap::Args)]
pub struct Args {
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

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    ctx.home.refuse_unsafe()?;
    let wanted = |line: &Value| args.trace.as_deref().is_none_or(|trace| belongs(line, trace));
    // Most lines do not even name the trace, and reading JSON is what takes the time.
    let may_be = |line: &str| args.trace.as_deref().is_none_or(|trace| line.contains(trace));
    // Taken before reading, so that nothing falls between the end of the past and the beginning of the new.
    let mut follower = args.follow.then(|| tail::Follower::at_end(ctx.home.log_file()));
    let mut lines = Vec::new();
    let mut budget = BYTES_MAX;
    for file in files(ctx) {
        let wanted_here = args.lines as usize - lines.len();
        let found = tail::last_matching(&file, wanted_here, &mut budget, |line| may_be(line) && wanted(&parse(line)))
            .map_err(|e| {
            Error::transient("logs.io", format!("could not read the log {}", file.display())).cause(e)
        })?;
        // Older files come later here and before in time.
        lines.splice(0..0, found);
        if lines.len() >= args.lines as usize || budget == 0 {
            break;
        }
    }
    let lines: Vec<Value> = lines.iter().map(|line| parse(line)).collect();
    if let Some(follower) = &mut follower {
        return follow(ctx, follower, &lines, wanted);
    }
    let mut report = Report::new("logs");
    if lines.is_empty() {
        report.detail("the log holds nothing of this kind yet");
    }
    report.details.extend(lines.iter().map(person));
    if budget == 0 {
        report.remark(format!("only the last {} MiB were searched", BYTES_MAX >> 20));
    }
    let audit = args.trace.as_deref().map_or(Ok(Vec::new()), |trace| audit_rows(ctx, trace))?;
    report.details.extend(audit.iter().map(|row| format!("audit  {row}")));
    report.data(&json!({ "file": ctx.home.log_file().display().to_string(), "lines": lines, "audit": audit }));
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

/// The log files that can be read as they are, newest first.
fn files(ctx: &Context) -> Vec<PathBuf> {
    let newest = ctx.home.log_file();
    let older = crate::adapters::rotation::put_aside_before(&newest);
    let is_plain = |path: &PathBuf| path.extension().is_none_or(|extension| extension != "gz");
    std::iter::once(newest).chain(older.into_iter().filter(is_plain)).collect()
}

fn follow(
    ctx: &Context,
    follower: &mut tail::Follower,
    past: &[Value],
    wanted: impl Fn(&Value) -> bool,
) -> Result<Report> {
    let print = |out: &Output, line: &Value| if out.is_json() { out.json_line(line) } else { out.line(&person(line)) };
    past.iter().for_each(|line| print(&ctx.out, line));
    while !ctx.out.is_closed() && !output::reader_is_gone() {
        for line in follower.new_lines().iter().map(|line| parse(line)).filter(&wanted) {
            print(&ctx.out, &line);
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

/// `2026-11-20T04:46:43Z  INFO archived session=… bytes=…`
fn person(line: &Value) -> String {
    let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
    let time = text("timestamp");
    let time = time.get(..19).map_or_else(|| time.to_owned(), |seconds| format!("{seconds}Z"));
    let mut shown = format!("{time} {:>5} {}", text("level"), text("message")).trim().to_owned();
    let own = line.as_object().into_iter().flatten();
    let span = line.get("span").and_then(Value::as_object).into_iter().flatten().filter(|(key, _)| *key != "name");
    for (key, value) in own.chain(span) {
        if !["timestamp", "level", "message", "target", "span"].contains(&key.as_str()) {
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
}
