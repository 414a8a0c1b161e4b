//! The status document as Prometheus text: for the node exporter's textfile collector and for a scrape of the page.
//!
//! Names carry their unit, counters end in `_total`, labels are bounded: a thousand sessions do not become a thousand series.

use serde_json::Value;
use std::fmt::Write as _;

/// Sessions with a series of their own, the fullest first.
const MOST_SESSIONS: usize = 20;
/// The same for health checks.
const MOST_CHECKS: usize = 50;

/// Labels, and the value if it is known.
type Sample = (Vec<(&'static str, String)>, Option<f64>);

struct Text(String);

impl Text {
    /// One metric with its samples; one without a sample is left out whole.
    fn metric(&mut self, (name, kind, help): (&str, &str, &str), samples: &[Sample]) {
        let mut known = samples.iter().filter_map(|(labels, value)| value.map(|value| (labels, value))).peekable();
        if known.peek().is_none() {
            return;
        }
        let mut say = |line: std::fmt::Arguments| self.0.write_fmt(line).expect("writing to a String cannot fail");
        say(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in known {
            let pairs: Vec<String> = labels.iter().map(|(key, text)| format!("{key}=\"{}\"", label(text))).collect();
            let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
            say(format_args!("{name}{labels} {value}\n"));
        }
    }
    fn one(&mut self, name: &str, kind: &str, help: &str, value: Option<f64>) {
        self.metric((name, kind, help), &[(vec![], value)]);
    }
}

/// A label's value as the format wants it, without what a terminal obeys.
fn label(text: &str) -> String {
    crate::cli::output::escape(text).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn epoch(value: &Value) -> Option<f64> {
    let at: chrono::DateTime<chrono::Utc> = value.as_str()?.parse().ok()?;
    Some(at.timestamp_millis() as f64 / 1000.0)
}

pub fn text(document: &Value) -> String {
    let mut text = Text(String::new());
    process(&mut text, document);
    work(&mut text, document);
    care(&mut text, document);
    text.0
}

fn process(text: &mut Text, d: &Value) {
    let (r, live) = (&d["resources"], d["liveness"]["state"] == "live");
    let figure = |key: &str| r[key].as_f64();
    let own = |key: &str| r[key].as_f64().filter(|_| live);
    let version = d["moon"].as_str().unwrap_or("unknown").to_owned();
    text.metric(
        ("moon_build_info", "gauge", "The version of Moon that wrote this; always 1."),
        &[(vec![("version", version)], Some(1.0))],
    );
    text.one("moon_up", "gauge", "1 while the daemon is running.", Some(f64::from(u8::from(live))));
    text.one("moon_written_timestamp_seconds", "gauge", "When this was written.", epoch(&d["generated_at"]));
    text.one(
        "moon_start_time_seconds",
        "gauge",
        "When the daemon started.",
        epoch(&d["liveness"]["since"]).filter(|_| live),
    );
    text.one("moon_resident_memory_bytes", "gauge", "Resident memory of the daemon.", own("rss_bytes"));
    text.one(
        "moon_cpu_seconds_total",
        "counter",
        "Processor time of the daemon since its start.",
        own("cpu_ms").map(|ms| ms / 1000.0),
    );
    text.one("moon_open_files", "gauge", "Files that the daemon has open.", own("open_files"));
    text.one("moon_home_bytes", "gauge", "Size of everything in Moon's home.", figure("home_bytes"));
    text.one("moon_log_bytes", "gauge", "Size of Moon's log files.", figure("log_bytes"));
    text.one("moon_disk_free_bytes", "gauge", "Free space on the disk of the home.", figure("disk_free_bytes"));
    text.one("moon_disk_size_bytes", "gauge", "Size of the disk of the home.", figure("disk_total_bytes"));
}

fn work(text: &mut Text, d: &Value) {
    let mut sessions: Vec<&Value> = d["sessions"].as_array().into_iter().flatten().collect();
    let ratio = |s: &Value| s["usage"]["usage_ratio"].as_f64();
    text.one("moon_sessions", "gauge", "Sessions that were ever seen.", Some(sessions.len() as f64));
    sessions.sort_by(|a, b| ratio(b).unwrap_or(-1.0).total_cmp(&ratio(a).unwrap_or(-1.0)));
    let used: Vec<_> =
        sessions.iter().take(MOST_SESSIONS).map(|s| (vec![("session", name(&s["key"]))], ratio(s))).collect();
    text.metric(
        ("moon_session_usage_ratio", "gauge", "Used share of the context window, of the fullest sessions."),
        &used,
    );
    let t = |key: &str| d["totals"][key].as_f64();
    text.one("moon_archived_records_total", "counter", "Records in the archive.", t("records"));
    text.one("moon_archived_bytes_total", "counter", "Bytes of transcripts in the archive.", t("bytes"));
    text.one(
        "moon_unindexed_segments",
        "gauge",
        "Archived segments that cannot be found by search yet.",
        t("unindexed"),
    );
    text.one("moon_distillations_total", "counter", "Distillations written.", t("distillations"));
    text.one("moon_rollovers_total", "counter", "New windows that began with a map.", t("rollovers"));
    text.one("moon_audit_rows_total", "counter", "Rows of the audit.", t("audit_rows"));
    let (mut jobs, mut done) = (Vec::new(), Vec::new());
    for stage in d["pipeline"].as_array().into_iter().flatten() {
        for (key, state) in [("waiting", "waiting"), ("claimed", "claimed"), ("failed", "set_aside")] {
            jobs.push((vec![("stage", name(&stage["stage"])), ("state", state.to_owned())], stage[key].as_f64()));
        }
        done.push((vec![("stage", name(&stage["stage"]))], epoch(&stage["last_done"])));
    }
    text.metric(("moon_jobs", "gauge", "Jobs of the pipeline that are not done."), &jobs);
    text.metric(
        ("moon_job_last_done_timestamp_seconds", "gauge", "When the last job of the stage was begun that is done."),
        &done,
    );
}

fn care(text: &mut Text, d: &Value) {
    let alerts = d["alerts"].as_array();
    let firing = |severity: &str| alerts.map(|all| all.iter().filter(|a| a["severity"] == severity).count() as f64);
    let by: Vec<_> =
        ["critical", "warning", "info"].iter().map(|s| (vec![("severity", (*s).to_owned())], firing(s))).collect();
    text.metric(("moon_alerts_firing", "gauge", "Alerts that fire now."), &by);
    let state = |check: &Value| match check["state"].as_str() {
        Some("ok") => 0.0,
        Some("warning") => 1.0,
        Some("critical") => 2.0,
        _ => 3.0,
    };
    let checks = d["health"]["checks"].as_array().into_iter().flatten().take(MOST_CHECKS);
    let checks: Vec<_> = checks.map(|check| (vec![("check", name(&check["name"]))], Some(state(check)))).collect();
    text.metric(("moon_health_check_state", "gauge", "0 ok, 1 warning, 2 critical, 3 unknown."), &checks);
    let b = &d["backups"];
    text.one("moon_backups", "gauge", "Backups that are kept.", b["count"].as_f64());
    text.one("moon_backup_bytes", "gauge", "Size of all backups.", b["bytes"].as_f64());
    let verified = epoch(&b["newest_verified"]["verified_at"]);
    text.one(
        "moon_backup_verified_timestamp_seconds",
        "gauge",
        "When the newest verified backup was verified.",
        verified,
    );
    let drill = &b["last_drill"];
    text.one(
        "moon_restore_drill_success",
        "gauge",
        "1 when the last restore drill succeeded.",
        drill["ok"].as_bool().map(|ok| f64::from(u8::from(ok))),
    );
    let chores = d["chores"].as_array().into_iter().flatten();
    let chores: Vec<_> = chores.map(|row| (vec![("task", name(&row["task"]))], epoch(&row["done_at"]))).collect();
    text.metric(
        ("moon_task_last_success_timestamp_seconds", "gauge", "When the task of the calendar was last done."),
        &chores,
    );
    let mut actors = Vec::new();
    restarts(&d["tree"], &mut actors);
    text.metric(("moon_actor_restarts_total", "counter", "Restarts of the actor since the daemon started."), &actors);
}

fn restarts(tree: &Value, found: &mut Vec<Sample>) {
    for child in tree.as_array().into_iter().flatten() {
        found.push((vec![("actor", name(&child["name"]))], child["restarts"].as_f64()));
        restarts(&child["children"], found);
    }
}

fn name(value: &Value) -> String {
    value.as_str().unwrap_or("unknown").to_owned()
}
