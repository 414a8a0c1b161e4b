//! `moon status`: one screen, trouble first.

use super::Context;
use super::output::{Report, size};
use super::route::{self, Needs};
use crate::daemon::lock::HomeLock;
use moon_actors::Result;
use moon_actors::contract::{self, Request, count};
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) fn run(ctx: &Context, _: &Args) -> Result<Report> {
    match route::ask(ctx, Request::Status, Needs::Nothing) {
        Ok(answer) => report(ctx, answer, false),
        // Nothing there yet is an answer, too.
        Err(error) if error.code == "home.empty" => {
            let mut report = Report::new("status");
            report.detail(format!("moon {}: {error}", env!("CARGO_PKG_VERSION")));
            report.data(&json!({ "home": ctx.home.root().display().to_string(), "daemon": null, "empty": true }));
            if let Some(hint) = error.hint {
                report.detail(hint);
            }
            Ok(report)
        }
        Err(error) => Err(error),
    }
}

/// The status document as one screen.
pub(super) fn report(ctx: &Context, answer: contract::Report, from_daemon: bool) -> Result<Report> {
    let mut report = route::shown(answer)?;
    let holder = HomeLock::holder(&ctx.home);
    let data = report.data.clone();
    let daemon = match &holder {
        Some(h) => {
            let up = (chrono::Utc::now().timestamp() - h.started_at_epoch_secs).max(0) as u64;
            let up = humantime::format_duration(std::time::Duration::from_secs(up));
            format!("{} pid {}, up {up}", h.what, h.pid)
        }
        None if from_daemon => "daemon".into(),
        None => "daemon: not running".into(),
    };
    report.detail(format!("moon {}  {daemon}  {}", env!("CARGO_PKG_VERSION"), ctx.home.root().display()));
    // Without a daemon nobody is connected, which is not worth a line.
    if from_daemon || holder.is_some() {
        report.detail(format!("host: {}", data["host"]["description"].as_str().unwrap_or("?")));
    }
    report.detail(format!(
        "mode: {}  bridge: {}",
        data["mode"].as_str().unwrap_or("?"),
        data["bridge"]["detail"].as_str().unwrap_or("?")
    ));
    for alert in data["alerts"].as_array().into_iter().flatten() {
        let text = |key: &str| alert[key].as_str().unwrap_or("").to_owned();
        let hint = alert["hint"].as_str().map_or(String::new(), |hint| format!(" ({hint})"));
        report.issue(format!("{}: {}{hint}", text("severity"), text("message")));
    }
    report.detail("");
    for line in super::sessions::lines(&data["sessions"].as_array().cloned().unwrap_or_default()) {
        report.detail(line);
    }
    report.detail("");
    let total = |key: &str| data["totals"][key].as_i64().unwrap_or(0);
    report.detail(format!(
        "archive: {} in {}, {}; {} not indexed",
        count(total("records"), "record"),
        count(total("segments"), "segment"),
        size(total("bytes")),
        total("unindexed")
    ));
    report.detail(format!(
        "memory: {}, {}; audit: {}; jobs waiting: {}, set aside: {}",
        count(total("distillations"), "distillation"),
        count(total("rollovers"), "rollover"),
        count(total("audit_rows"), "row"),
        total("waiting_jobs"),
        total("quarantined_jobs")
    ));
    if let Some(data) = report.data.as_object_mut() {
        data.insert("home".into(), json!(ctx.home.root().display().to_string()));
        data.insert("daemon".into(), json!(holder));
    }
    Ok(report)
}
