//! A notice as it is told: the same words on every route.
//!
//! Text of alerts may come from anywhere (a file name, a transcript, a check's output): it is escaped and shortened here, once. What
//! a receiver's own language needs beside that is done by its adapter.

use crate::cli::output::escape;
use chrono::{DateTime, SecondsFormat, Utc};
use moon_actors::contract;
use moon_actors::port::{Alert, Digest, Notice, Severity};
use serde::Serialize;

const MESSAGE_MAX: usize = 4000;
const WORD_MAX: usize = 200;
const LINES_MAX: usize = 50;

/// One notice in words. Its JSON is the generic webhook's and the command's, documented in `docs/contracts.md`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    pub(super) version: u32,
    /// The same for every attempt; only this Moon's.
    pub(super) id: String,
    /// The same for every attempt, and no other notice of any life of this Moon has it.
    pub(super) key: String,
    pub(super) state: &'static str,
    pub(super) severity: &'static str,
    pub(super) title: String,
    pub(super) rule: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) fired_at: Option<String>,
    pub(super) resolved_at: Option<String>,
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
    pub(super) count: u64,
    pub(super) lines: Vec<String>,
    pub(super) host: String,
    pub(super) moon: &'static str,
}

impl Told {
    pub(super) fn new(notice: &Notice, host: &str) -> Self {
        let host = short(host, WORD_MAX);
        match notice {
            Notice::Alert(alert) if alert.resolved_at.is_some() => Self::alert(notice, alert, "resolved", host),
            Notice::Alert(alert) => Self::alert(notice, alert, "firing", host),
            Notice::Escalation(alert) => Self::alert(notice, alert, "escalated", host),
            Notice::Digest(digest) => Self::digest(notice, digest, host),
        }
    }

    fn alert(notice: &Notice, alert: &Alert, state: &'static str, host: String) -> Self {
        let (rule, subject) = (short(&alert.key.rule, WORD_MAX), short(&alert.key.subject, WORD_MAX));
        let severity = alert.severity.as_str();
        let word = match state {
            "resolved" => "RESOLVED".to_owned(),
            "escalated" => format!("STILL {}", severity.to_uppercase()),
            _ => severity.to_uppercase(),
        };
        Self {
            version: 1,
            id: notice.id(),
            key: key(notice, alert.fired_at),
            state,
            severity,
            title: format!("{word}: {rule} ({subject}) on {host}"),
            rule: Some(rule),
            subject: Some(subject),
            message: short(&alert.message, MESSAGE_MAX),
            hint: alert.hint.as_deref().map(|hint| short(hint, MESSAGE_MAX)),
            fired_at: Some(time(alert.fired_at)),
            resolved_at: alert.resolved_at.map(time),
            since: None,
            until: None,
            count: 1,
            lines: Vec::new(),
            host,
            moon: env!("CARGO_PKG_VERSION"),
        }
    }

    fn digest(notice: &Notice, digest: &Digest, host: String) -> Self {
        let (since, until, count) = (time(digest.since), time(digest.until), digest.count);
        let notices = contract::count(count, "notice");
        let when = if since == until { format!("of {since}") } else { format!("between {since} and {until}") };
        Self {
            version: 1,
            id: notice.id(),
            key: key(notice, digest.since),
            state: "digest",
            severity: digest.worst.as_str(),
            title: format!("{}: {notices} on {host}", digest.worst.as_str().to_uppercase()),
            rule: None,
            subject: None,
            message: format!("held back: {notices} {when}; the worst is {}", digest.worst.as_str()),
            hint: None,
            fired_at: None,
            resolved_at: None,
            since: Some(since),
            until: Some(until),
            count,
            lines: digest.lines.iter().take(LINES_MAX).map(|line| short(line, WORD_MAX)).collect(),
            host,
            moon: env!("CARGO_PKG_VERSION"),
        }
    }

    pub(super) fn is_end(&self) -> bool {
        self.state == "resolved"
    }

    /// For people, in whole lines.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.message);
        text.extend(self.lines.iter().map(|line| format!("- {line}\n")));
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\nWhat to do: {hint}\n"));
        }
        text.push('\n');
        for (name, value) in self.fields() {
            text.push_str(&format!("{:<10} {value}\n", format!("{name}:")));
        }
        text.push_str(&format!("\n-- \nMoon {}, notice {}\n", self.moon, self.id));
        text
    }

    /// What there is beside the message, with names.
    pub(super) fn fields(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("Rule", self.rule.as_deref()),
            ("Subject", self.subject.as_deref()),
            ("Severity", Some(self.severity)),
            ("State", Some(self.state)),
            ("Fired", self.fired_at.as_deref()),
            ("Resolved", self.resolved_at.as_deref()),
            ("Host", Some(&*self.host)),
        ];
        fields.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect()
    }
}

/// Ids count anew when a ledger begins anew; with the second they name one notice for good.
fn key(notice: &Notice, at: DateTime<Utc>) -> String {
    let id: String =
        notice.id().chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).take(100).collect();
    format!("{id}.{}", at.timestamp())
}

/// The key of the notice that `told` ends or repeats.
pub(super) fn key_of_firing(alert: &Alert) -> String {
    key(&Notice::Alert(Alert { resolved_at: None, ..alert.clone() }), alert.fired_at)
}

pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Harmless, and at most `most` characters long.
pub(super) fn short(text: &str, most: usize) -> String {
    // Cut before, too: escaping a huge text only to throw it away would cost its size.
    let cut: String = text.chars().take(most).collect();
    let safe = escape(&cut);
    let whole = cut.len() == text.len() && safe.chars().count() <= most;
    match whole {
        true => safe,
        false => safe.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// How urgent, for receivers that know three steps.
pub(super) fn rank(notice: &Notice) -> Severity {
    match notice {
        Notice::Alert(alert) if alert.resolved_at.is_some() => Severity::Info,
        other => other.severity(),
    }
}
