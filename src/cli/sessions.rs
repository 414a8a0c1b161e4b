//! `moon sessions`: lists the sessions.

use super::Context;
use super::output::{Report, table};
use super::route::{self, Needs};
use moon_actors::Result;
use moon_actors::contract::Request;
use serde_json::Value;

/// Characters of a session's key in a table.
const LONGEST_KEY: usize = 60;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show only sessions whose key contains this text
    #[arg(value_name = "TEXT")]
    pub filter: Option<String>,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Report> {
    let mut report = route::shown(route::ask(ctx, Request::Sessions, Needs::Nothing)?)?;
    if let (Some(filter), Some(sessions)) = (&args.filter, report.data["sessions"].as_array_mut()) {
        sessions.retain(|s| s["key"].as_str().is_some_and(|key| key.contains(filter)));
    }
    let sessions = report.data["sessions"].as_array().cloned().unwrap_or_default();
    if let Some(filter) = args.filter.as_ref().filter(|_| sessions.is_empty()) {
        report.detail(format!("no session has {filter:?} in its key"));
        return Ok(report);
    }
    for line in lines(&sessions) {
        report.detail(line);
    }
    Ok(report)
}

/// The sessions as a table, fullest first.
pub(super) fn lines(sessions: &[Value]) -> Vec<String> {
    if sessions.is_empty() {
        return vec!["no sessions seen yet".into()];
    }
    let mut sessions: Vec<&Value> = sessions.iter().collect();
    let ratio = |s: &Value| s["usage"]["usage_ratio"].as_f64().unwrap_or(-1.0);
    sessions.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)));
    let rows: Vec<Vec<String>> = sessions.iter().map(|s| row(s)).collect();
    table(&["SESSION", "USED", "TOKENS", "STATE", "PRUNES", "UNDISTILLED", "SEEN"], &rows)
}

fn row(s: &Value) -> Vec<String> {
    let usage = &s["usage"];
    let used = usage["usage_ratio"].as_f64().map_or("?".into(), |r| format!("{:.1} %", r * 100.0));
    let stale = if s["stale"].as_bool() == Some(true) { " stale" } else { "" };
    let number = |v: &Value| v.as_u64().map_or("?".into(), |n| n.to_string());
    let state = if s["running"].as_bool() == Some(true) { "Running" } else { s["phase"].as_str().unwrap_or("?") };
    let seen = std::time::Duration::from_secs(s["age_seconds"].as_u64().unwrap_or(0));
    vec![
        shortened(s["key"].as_str().unwrap_or("?")),
        format!("{used}{stale}"),
        format!("{}/{}", number(&usage["used_tokens"]), number(&usage["max_tokens"])),
        state.into(),
        number(&s["prunes_since_rollover"]),
        number(&s["undistilled"]),
        format!("{} ago", ago(seen)),
    ]
}

/// A key that leaves room for the other columns; JSON has it whole.
fn shortened(key: &str) -> String {
    let length = key.chars().count();
    if length <= LONGEST_KEY {
        return key.to_owned();
    }
    let (head, tail) = (LONGEST_KEY * 2 / 3, LONGEST_KEY / 3 - 1);
    key.chars().take(head).chain(['…']).chain(key.chars().skip(length - tail)).collect()
}

/// Two units at most: `1h 12m`.
fn ago(span: std::time::Duration) -> String {
    let text = humantime::format_duration(span).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
