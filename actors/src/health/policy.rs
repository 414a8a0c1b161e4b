//! What a finding means: state, alerts, and whether something may be put right. Pure.

use crate::domain::{Condition, Finding, Trouble};
use crate::port::{AlertKey, AlertRules, CheckRow, Episode, Kept, Raised, Severity};
use crate::settings::Remedy;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use std::time::Duration;

/// Most alerts of one check at a time: a folder of broken files is one trouble, not a thousand.
const MOST_ALERTS: usize = 20;
/// Attempts at putting one alert right, before a person is asked.
pub const MOST_ATTEMPTS: u32 = 3;
/// More crashes than this within [`LOOP_WINDOW`] are a loop.
pub const MOST_CRASHES: usize = 3;
pub const LOOP_WINDOW: TimeDelta = TimeDelta::hours(1);
/// A check that costs a processor much is not repeated before this many times what it took (0.02 %), unless somebody asks.
const REST: u32 = 5_000;
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);
/// The first looks after a start are spread over this span.
const SPREAD_MS: u64 = 18_000;

/// What follows from one look.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub row: CheckRow,
    pub raise: Vec<Wanted>,
    pub resolve: Vec<AlertKey>,
}

/// An alert that should fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub key: AlertKey,
    pub severity: Severity,
    pub message: String,
    pub hint: Option<String>,
}

/// Judges a finding against what was known before.
///
/// Critical is told at once. A warning, or that something cannot be looked at, is told when the look before was not fine either: what
/// comes and goes within one interval wakes nobody. What cannot be looked at ends no alert.
pub fn judge(
    name: &str,
    previous: Option<&CheckRow>,
    finding: Finding,
    rules: Option<AlertRules>,
    (now, took): (DateTime<Utc>, Duration),
) -> Judged {
    let was_fine = previous.is_none_or(|row| row.condition == Condition::Ok);
    let wanted: Vec<Wanted> = rules
        .map(|rules| wanted(name, &finding, rules))
        .unwrap_or_default()
        .into_iter()
        .filter(|alert| alert.severity == Severity::Critical || !was_fine)
        .take(MOST_ALERTS)
        .collect();
    let mut raised: Vec<Raised> = wanted.iter().map(|w| Raised { key: w.key.clone(), severity: w.severity }).collect();
    let before = previous.map_or(&[][..], |row| &row.kept.raised);
    let gone: Vec<Raised> = before.iter().filter(|old| !raised.contains(old)).cloned().collect();
    let resolve = if finding.condition == Condition::Unknown {
        raised.extend(gone);
        vec![]
    } else {
        gone.into_iter().map(|old| old.key).collect()
    };
    let since = previous.filter(|row| row.condition == finding.condition).map_or(now, |row| row.since.min(now));
    let kept = Kept {
        raised,
        episodes: previous.map_or(vec![], |row| row.kept.episodes.clone()),
        memory: finding.memory.unwrap_or_else(|| previous.map_or(Value::Null, |row| row.kept.memory.clone())),
    };
    let row = CheckRow {
        name: name.into(),
        condition: finding.condition,
        reason: finding.reason,
        hint: finding.hint,
        since,
        checked_at: now,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        figures: finding.figures,
        kept,
    };
    Judged { row, raise: wanted, resolve }
}

/// Every alert the finding would raise. One disk is either low or critical, never both.
fn wanted(name: &str, finding: &Finding, rules: AlertRules) -> Vec<Wanted> {
    let whole = Trouble {
        subject: if rules.subject.is_empty() { name.split_once(':').map_or(name, |(_, n)| n) } else { rules.subject }
            .into(),
        condition: finding.condition,
        reason: finding.reason.clone(),
        rule: None,
    };
    let troubles = if finding.troubles.is_empty() { vec![whole] } else { finding.troubles.clone() };
    let alert = |trouble: Trouble| {
        let (rule, subject, severity) = match trouble.condition {
            Condition::Ok => return None,
            Condition::Unknown => ("health.unknown", name.to_owned(), Severity::Warning),
            Condition::Warning => (trouble.rule.unwrap_or(rules.warning), trouble.subject, Severity::Warning),
            Condition::Critical => (trouble.rule.unwrap_or(rules.critical), trouble.subject, Severity::Critical),
        };
        let message = format!("{name}: {}", trouble.reason);
        Some(Wanted { key: AlertKey::new(rule, subject), severity, message, hint: finding.hint.clone() })
    };
    let mut alerts: Vec<Wanted> = troubles.into_iter().filter_map(alert).collect();
    // The worst first, each key once: what two troubles say of the same thing is one alert.
    alerts.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
    let mut seen = Vec::new();
    alerts.retain(|alert| {
        !seen.contains(&alert.key) && {
            seen.push(alert.key.clone());
            true
        }
    });
    alerts
}

/// What is done about the alerts of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// The attempt is counted in the episode already: whoever acts writes that down first.
    Act { key: AlertKey, remedy: Remedy, attempt: u32 },
    /// Nothing helped.
    GiveUp { key: AlertKey, attempts: u32 },
    /// It is fine again.
    Recovered { key: AlertKey },
}

/// Decides what to do about what fires. An alert that ends and comes back within the cooldown goes on counting.
pub fn treat(
    raised: &[Raised],
    episodes: &[Episode],
    remedies: &[Remedy],
    cooldown: Duration,
    now: DateTime<Utc>,
) -> (Vec<Episode>, Vec<Treatment>) {
    let cooldown = TimeDelta::from_std(cooldown).unwrap_or(TimeDelta::MAX);
    // A stamp of the future, from before a clock was set back, holds up one cooldown at most.
    let is_over = |since: DateTime<Utc>| now - since.min(now) >= cooldown;
    let (mut next, mut treatments) = (Vec::new(), Vec::new());
    for old in episodes.iter().filter(|old| !raised.iter().any(|r| r.key == old.key)) {
        let quiet_since = old.quiet_since.unwrap_or_else(|| {
            treatments.push(Treatment::Recovered { key: old.key.clone() });
            now
        });
        if !is_over(quiet_since) {
            next.push(Episode { quiet_since: Some(quiet_since.min(now)), ..old.clone() });
        }
    }
    for Raised { key, .. } in raised {
        let Some(remedy) = remedies.iter().find(|remedy| applies(remedy, key)) else { continue };
        let old = episodes.iter().find(|old| old.key == *key);
        let mut episode =
            old.cloned().unwrap_or(Episode { key: key.clone(), attempts: 0, last_at: now, quiet_since: None });
        episode.quiet_since = None;
        if episode.attempts == 0 || is_over(episode.last_at) {
            if episode.attempts < MOST_ATTEMPTS {
                (episode.attempts, episode.last_at) = (episode.attempts + 1, now);
                let (key, remedy) = (key.clone(), remedy.clone());
                treatments.push(Treatment::Act { key, remedy, attempt: episode.attempts });
            } else {
                treatments.push(Treatment::GiveUp { key: key.clone(), attempts: episode.attempts });
            }
        }
        next.push(episode);
    }
    (next, treatments)
}

fn applies(remedy: &Remedy, key: &AlertKey) -> bool {
    remedy.rule == key.rule && (remedy.subject.is_empty() || remedy.subject == key.subject)
}

/// When a group looks for the first time: soon, and not all in the same moment.
pub fn first_pause(name: &str, start_after: Duration, every: Duration) -> Duration {
    // FNV-1a; any spread will do, as long as it is the same after every start.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    start_after + Duration::from_millis(hash % SPREAD_MS).min(every)
}

/// How long a costly check is left alone after one that took this long.
pub fn rest_after(took: Duration) -> Duration {
    took.saturating_mul(REST).min(LONGEST_REST)
}

/// Room on a disk against its floors, bytes and percent; 0 is no floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floors {
    pub low: f64,
    pub critical: f64,
    pub low_percent: f64,
    pub critical_percent: f64,
}

pub fn room(free: f64, total: f64, floors: Floors) -> Condition {
    let percent = if total > 0.0 { 100.0 * free / total } else { 100.0 };
    if free < floors.critical || percent < floors.critical_percent {
        Condition::Critical
    } else if free < floors.low || percent < floors.low_percent {
        Condition::Warning
    } else {
        Condition::Ok
    }
}

/// A heartbeat is stale past twice its interval.
pub fn is_stale(age: Duration, interval: Duration) -> bool {
    age > interval.saturating_mul(2)
}

/// An age against two limits.
pub fn aged(age: Duration, warning: Duration, critical: Duration) -> Condition {
    match age {
        age if age > critical => Condition::Critical,
        age if age > warning => Condition::Warning,
        _ => Condition::Ok,
    }
}

/// Who crashed more than [`MOST_CRASHES`] times within the hour before `now`, and how often. Crashes of the future count: a clock that
/// was set back must not hide a loop.
pub fn loops(crashes: &[(String, DateTime<Utc>)], now: DateTime<Utc>) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for (who, _) in crashes.iter().filter(|(_, at)| now - *at < LOOP_WINDOW) {
        match counts.iter_mut().find(|(known, _)| known == who) {
            Some((_, count)) => *count += 1,
            None => counts.push((who.clone(), 1)),
        }
    }
    counts.retain(|(_, count)| *count > MOST_CRASHES);
    counts
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
