//! Files that show how the daemon is: the status file, the page, the metrics, the health reports.
//!
//! The status file is written by a daemon only, each time its heart beats; whoever finds an old one knows that nobody writes it any
//! more. None of them is ever read back as truth, and one that cannot be written stops no work.

use crate::durable;
use crate::home::Home;
use crate::screens::{metrics, page::Pages};
use chrono::{DateTime, Local, Utc};
use moon_actors::port::DaemonPhase;
use moon_actors::settings::Dashboard;
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often a daemon's heart beats in the status file.
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// Days of which a health report is kept, the newest: a year and more of weekly ones. Counted, so that no clock that jumps removes any.
const REPORTS_KEPT: usize = 60;

pub(super) struct Shown {
    home: Home,
    html: Option<PathBuf>,
    metrics: Option<(PathBuf, u32)>,
    life: Mutex<Life>,
}

/// What the status file says; nothing before a daemon has said a phase.
#[derive(Default)]
struct Life {
    phase: Option<DaemonPhase>,
    checks: (u32, u32),
}

impl Shown {
    pub(super) fn new(home: &Home) -> Self {
        Self { home: home.clone(), html: None, metrics: None, life: Mutex::default() }
    }

    pub(super) fn settle(&mut self, settings: &Dashboard) {
        let named = |text: &String| (!text.is_empty()).then(|| self.home.root().join(text));
        self.html = named(&settings.html_file);
        self.metrics = named(&settings.textfile).zip(settings.textfile_rights());
    }

    pub(super) fn note_checks(&self, passed: u32, total: u32) {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).checks = (passed, total);
    }

    /// Writes the status file, in this phase from now on. Without one ever said, it is somebody else's file.
    pub(super) fn write_status(&self, phase: Option<DaemonPhase>, now: DateTime<Utc>) -> Result<()> {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        life.phase = phase.or(life.phase);
        let Some(phase) = life.phase else { return Ok(()) };
        // The document's shape has local time without a zone; the same moment in seconds is beside it.
        let local = now.with_timezone(&Local).format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
        let is_over = matches!(phase, DaemonPhase::Stopped | DaemonPhase::Error);
        let (passed, total) = life.checks;
        let text = json!({
            "status": phase,
            "timestamp": local,
            "pid": (!is_over).then(|| std::process::id().to_string()),
            "heartbeat_interval": HEARTBEAT.as_secs(),
            "details": {
                "last_heartbeat": local, "checks_passed": passed, "total_checks": total,
                "last_heartbeat_epoch_secs": now.timestamp(), "version": env!("CARGO_PKG_VERSION"),
            },
            "timestamp_epoch_secs": now.timestamp(),
        });
        replace(&self.home.status_file(), format!("{text:#}\n").as_bytes(), 0o600)
    }

    pub(super) fn has_files(&self) -> bool {
        self.html.is_some() || self.metrics.is_some()
    }

    /// Both are tried, whatever becomes of the first.
    pub(super) fn write(&self, document: &Value) -> Result<()> {
        let html = match &self.html {
            Some(path) => Pages::new()?.file(document).and_then(|html| replace(path, html.as_bytes(), 0o600)),
            None => Ok(()),
        };
        if let Some((path, mode)) = &self.metrics {
            replace(path, metrics::text(document).as_bytes(), *mode)?;
        }
        html
    }

    pub(super) fn keep_report(&self, day: &str, report: &str, figures: &Value) -> Result<String> {
        let path = self.home.report_file(day, "log");
        replace(&self.home.report_file(day, "json"), format!("{figures:#}\n").as_bytes(), 0o600)?;
        replace(&path, report.as_bytes(), 0o600)?;
        self.forget_reports();
        Ok(path.display().to_string())
    }

    /// Removes the oldest of too many reports. What has another name, or is no plain file, is not Moon's and stays.
    fn forget_reports(&self) {
        let logs = self.home.logs_dir();
        let names = std::fs::read_dir(&logs).into_iter().flatten().flatten();
        let names = names.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        for name in superfluous(&names) {
            if let Err(e) = durable::remove(&logs.join(name)) {
                tracing::warn!("could not remove the old health report {name}: {e}");
            }
        }
    }
}

/// Of these names, those of health reports beyond the newest that are kept.
fn superfluous(names: &[String]) -> Vec<&String> {
    let mut days: Vec<&str> = names.iter().filter_map(|name| Home::report_day(name)).collect();
    days.sort_unstable();
    days.dedup();
    let kept = &days[days.len().saturating_sub(REPORTS_KEPT)..];
    let is_over = |name: &&String| Home::report_day(name).is_some_and(|day| !kept.contains(&day));
    names.iter().filter(is_over).collect()
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    durable::replace_with(path, |file| {
        file.write_all(bytes)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    })
    .map_err(|e| {
        Error::transient("dashboard.io", format!("could not write {}", path.display()))
            .cause(e)
            .hint("check that its folder is there and that Moon may write to it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_reports_go_and_nothing_else_does() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
        let (shown, logs) = (Shown::new(&home), home.logs_dir());
        let foreign = [
            "weekly_health_2020.log",
            "weekly_health_20200101.txt",
            "my_weekly_health_20200101.log",
            "weekly_health_20209999.log",
        ];
        for name in foreign {
            std::fs::write(logs.join(name), "mine").expect("written");
        }
        let outside = scratch.path().join("outside");
        std::fs::write(&outside, "mine").expect("written");
        std::os::unix::fs::symlink(&outside, logs.join("weekly_health_20190101.log")).expect("a link");
        let first = chrono::NaiveDate::from_ymd_opt(2024, 1, 7).expect("a day");
        for week in 0..REPORTS_KEPT as u64 + 9 {
            let day = (first + chrono::Days::new(7 * week)).format("%Y%m%d").to_string();
            shown.keep_report(&day, "text", &json!({})).expect("kept");
        }
        let days = |kind: &str| -> Vec<String> {
            let names =
                std::fs::read_dir(&logs).expect("logs").flatten().map(|f| f.file_name().into_string().expect("text"));
            let mut days: Vec<String> = names
                .filter(|name| name.ends_with(kind))
                .filter_map(|name| Some(Home::report_day(&name)?.to_owned()))
                .collect();
            days.sort();
            days
        };
        assert_eq!((days("json").len(), days("json")[0].as_str()), (REPORTS_KEPT, "20240310"), "nine weeks have gone");
        assert_eq!(days("log")[1..], days("json")[..], "the link is not Moon's");
        assert!(foreign.iter().all(|name| logs.join(name).exists()) && outside.exists());
    }

    #[test]
    fn only_a_daemon_writes_the_status_file_and_in_the_shape_of_the_document() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
        let (shown, now) = (Shown::new(&home), Utc::now());
        shown.write_status(None, now).expect("nothing to say");
        assert!(!home.status_file().exists());
        shown.note_checks(4, 5);
        let read = |phase| -> Value {
            shown.write_status(Some(phase), now).expect("written");
            serde_json::from_slice(&std::fs::read(home.status_file()).expect("there")).expect("JSON")
        };
        let running = read(DaemonPhase::Running);
        let keys: Vec<&String> = running.as_object().expect("an object").keys().collect();
        assert_eq!(keys[..5], ["status", "timestamp", "pid", "heartbeat_interval", "details"]);
        assert_eq!((&running["status"], &running["pid"]), (&json!("running"), &json!(std::process::id().to_string())));
        assert_eq!((&running["details"]["checks_passed"], &running["details"]["total_checks"]), (&json!(4), &json!(5)));
        let stamp = running["timestamp"].as_str().expect("text");
        assert!(chrono::NaiveDateTime::parse_from_str(stamp, "%Y-%m-%dT%H:%M:%S%.f").is_ok(), "{stamp}");
        assert_eq!(read(DaemonPhase::Error)["pid"], Value::Null);
    }
}
