//! `moon sessions`: lists the sessions.

use super::Context;
use super::output::{Report, table};
use super::route::{self, Needs};
use moon_actors::Result;
use moon_actors::contract::Request;
use serde_json::Value;

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
    vec![
        s["key"].as_str().unwrap_or("?").into(),
        format!("{used}{stale}"),
        format!("{}/{}", number(&usage["used_tokens"]), number(&usage["max_tokens"])),
        state.into(),
        number(&s["prunes_since_rollover"]),
        number(&s["undistilled"]),
        format!("{} s ago", number(&s["age_seconds"])),
    ]
}
