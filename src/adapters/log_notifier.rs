//! The record of alerts: `logs/alerts.log`, one line each, and of a daemon its own log. Always there, needs nothing.
//!
//! The file is kept to its last lines. Moon's processes write it under a lock; a line that somebody else appends while it is made
//! shorter is carried over. It must never lose the file to a full disk: what is kept is written beside it first.

use async_trait::async_trait;
use chrono::{DateTime, Local, Utc};
use moon_actors::alert::rules;
use moon_actors::port::{Alert, Digest, LOG_ROUTE, Notice, Notifier, Severity};
use moon_actors::{Error, Result};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// Lines that are kept.
const KEPT: usize = 1000;
/// Longest text of a line, characters.
const LONGEST: usize = 2000;

/// Writes each notice as one line.
#[derive(Clone)]
pub struct LogNotifier {
    path: PathBuf,
    is_aloud: bool,
}

impl LogNotifier {
    pub fn new(path: PathBuf) -> Self {
        Self { path, is_aloud: false }
    }

    /// Says each alert in this process's own log, too.
    #[must_use]
    pub fn aloud(self) -> Self {
        Self { is_aloud: true, ..self }
    }

    async fn write(&self, line: String) -> Result<()> {
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.append(&line)).await;
        let written = written.unwrap_or_else(|e| Err(io::Error::other(e)));
        written.map_err(|e| {
            Error::transient("alert.log", "could not append to logs/alerts.log")
                .cause(e)
                .hint("make room on the disk; check the owner and mode of `logs/`")
        })
    }

    fn append(&self, line: &str) -> io::Result<()> {
        let mut file = self.locked()?;
        // A line that a killed writer left half done stays a line of its own.
        let glue = if ends_torn(&mut file)? { "\n" } else { "" };
        file.write_all(format!("{glue}{line}\n").as_bytes())?;
        self.shorten(file)
    }

    /// The file, locked: the one that has the name once the lock is there.
    fn locked(&self) -> io::Result<File> {
        loop {
            let mut options = OpenOptions::new();
            options.read(true).append(true).create(true).mode(0o600);
            let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&self.path)?;
            file.lock()?;
            let (held, named) = (file.metadata()?, std::fs::symlink_metadata(&self.path));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())) {
                return Ok(file);
            }
        }
    }

    /// Leaves the last lines. The new file takes the name only when it is whole.
    fn shorten(&self, mut file: File) -> io::Result<()> {
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut text)?;
        let ends: Vec<usize> = text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
        if ends.len() <= KEPT {
            return Ok(());
        }
        crate::durable::replace(&self.path, &text[ends[ends.len() - KEPT - 1]..])?;
        // Somebody without the lock may have appended to the old file meanwhile.
        let mut late = Vec::new();
        file.read_to_end(&mut late)?;
        if !late.is_empty() {
            OpenOptions::new().append(true).open(&self.path)?.write_all(&late)?;
        }
        Ok(())
    }
}

fn ends_torn(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

/// `[YYYY-MM-DD HH:MM:SS] [SEVERITY] Title - Message`, in local time.
fn line(at: DateTime<Utc>, state: &str, title: &str, message: &str, ending: &str) -> String {
    let at = at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S");
    let message: String = message.chars().take(LONGEST).collect();
    format!("[{at}] [{state}] {} - {}{ending}", crate::cli::output::escape(title), crate::cli::output::escape(&message))
}

fn of_alert(alert: &Alert, ending: &str) -> String {
    let title = rules::title(&alert.key.rule);
    match alert.resolved_at {
        Some(at) => line(at, "RESOLVED", &title, &alert.message, ending),
        None => line(alert.fired_at, upper(alert.severity), &title, &alert.message, ending),
    }
}

/// A notice as its line; `why` is set for one that people are not sent.
pub(crate) fn text(notice: &Notice, why: Option<&str>) -> String {
    let held = why.map_or_else(String::new, |why| format!(" (suppressed - {why})"));
    match notice {
        Notice::Alert(alert) => of_alert(alert, &held),
        Notice::Escalation(alert) => {
            let title = format!("{} (not acknowledged)", rules::title(&alert.key.rule));
            line(Utc::now(), upper(alert.severity), &title, &alert.message, &held)
        }
        Notice::Digest(Digest { count, worst, until, .. }) => {
            line(*until, upper(*worst), "Alert Digest", &format!("{count} notices held back"), &held)
        }
    }
}

fn upper(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "INFO",
        Severity::Warning => "WARNING",
        Severity::Critical => "CRITICAL",
    }
}

#[async_trait]
impl Notifier for LogNotifier {
    fn name(&self) -> &str {
        LOG_ROUTE
    }
    fn is_record(&self) -> bool {
        true
    }

    async fn deliver(&self, notice: &Notice) -> Result<()> {
        if let Notice::Alert(alert) | Notice::Escalation(alert) = notice
            && self.is_aloud
        {
            let (rule, subject, hint) = (&alert.key.rule, &alert.key.subject, alert.hint.as_deref().unwrap_or(""));
            match (alert.resolved_at, alert.severity) {
                (Some(_), _) => tracing::info!(alert = alert.id, rule, subject, "resolved: {}", alert.message),
                (None, Severity::Critical) => {
                    tracing::error!(alert = alert.id, rule, subject, hint, "{}", alert.message);
                }
                (None, _) => tracing::warn!(alert = alert.id, rule, subject, hint, "{}", alert.message),
            }
        }
        self.write(text(notice, None)).await
    }

    async fn note(&self, notice: &Notice, why: &str) -> Result<()> {
        self.write(text(notice, Some(why))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_actors::port::AlertKey;

    fn alert(message: &str) -> Alert {
        Alert {
            id: 1,
            key: AlertKey::new("daemon_critical", "moon"),
            severity: Severity::Critical,
            message: message.into(),
            hint: None,
            fired_at: DateTime::UNIX_EPOCH,
            resolved_at: None,
        }
    }

    fn log() -> (tempfile::TempDir, LogNotifier) {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let log = LogNotifier::new(scratch.path().join("alerts.log"));
        (scratch, log)
    }

    fn lines(log: &LogNotifier) -> Vec<String> {
        std::fs::read_to_string(&log.path).expect("a log").lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_those_of_the_document() {
        let at = DateTime::UNIX_EPOCH.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S");
        let firing = alert("Process not running");
        let said = |notice: &Notice, why| text(notice, why);
        assert_eq!(
            said(&Notice::Alert(firing.clone()), None),
            format!("[{at}] [CRITICAL] Daemon Critical Failure - Process not running")
        );
        assert_eq!(
            said(&Notice::Alert(firing.clone()), Some("cooldown active")),
            format!("[{at}] [CRITICAL] Daemon Critical Failure - Process not running (suppressed - cooldown active)")
        );
        let over = Alert { resolved_at: Some(DateTime::UNIX_EPOCH), ..firing };
        assert_eq!(
            said(&Notice::Alert(over), None),
            format!("[{at}] [RESOLVED] Daemon Critical Failure - Process not running")
        );
        let hostile = said(&Notice::Alert(alert("a\nb\u{1b}[2J")), None);
        assert!(hostile.ends_with("a\\nb\\u{1b}[2J") && !hostile.contains('\n'), "{hostile}");
    }

    #[test]
    fn the_last_thousand_lines_stay_and_a_torn_one_is_not_glued_to_the_next() {
        let (_scratch, log) = log();
        let old: String = (0..1200).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&log.path, format!("{old}torn")).expect("an old log");
        log.append("new").expect("appended");
        let kept = lines(&log);
        assert_eq!(kept.len(), 1000);
        assert_eq!([&kept[0], &kept[998], &kept[999]], ["line 202", "torn", "new"]);
    }

    #[test]
    fn writers_at_once_lose_no_line_while_the_file_is_made_shorter() {
        let (_scratch, log) = log();
        std::fs::write(&log.path, "old\n".repeat(990)).expect("an old log");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let log = &log;
                scope.spawn(move || (0..50).for_each(|n| log.append(&format!("w{writer} {n}")).expect("appended")));
            }
        });
        let kept = lines(&log);
        assert_eq!((kept.len(), kept.iter().filter(|line| line.starts_with('w')).count()), (1000, 200));
    }

    #[test]
    fn a_link_in_place_of_the_log_is_not_followed() {
        let (scratch, log) = log();
        let target = scratch.path().join("target");
        std::fs::write(&target, "").expect("a file");
        std::os::unix::fs::symlink(&target, &log.path).expect("a link");
        assert!(log.append("x").is_err());
        assert_eq!(std::fs::read_to_string(target).expect("readable"), "");
    }
}
