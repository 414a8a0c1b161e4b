//! Every setting with its default, its unit and the rule it must obey.
//!
//! The shell reads `moon.toml` into this; an actor receives its own section by value and never changes it. Partial
//! tables merge with the defaults, unknown keys are refused. [`Settings::check`] reports every broken rule at once.

mod alerts;
mod backup;
mod dashboard;
mod health;
mod paths;
mod rotation;
pub mod route;
mod service;
pub mod span;

pub use alerts::{Alerts, two_of_one_name};
pub use backup::Backup;
pub use dashboard::Dashboard;
pub use health::{Command, CommandFormat, Endpoint, Health, LogErrors, Process, Remedy};
pub use paths::{Named, Use};
pub use rotation::{LogPattern, Rotation};
pub use service::Service;

use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub home: Home,
    pub thresholds: Thresholds,
    pub watch: Watch,
    pub openclaw: OpenClaw,
    pub archive: Archive,
    pub index: Index,
    pub distill: Distill,
    pub continuity: Continuity,
    pub recall: Recall,
    pub supervision: Supervision,
    pub health: Health,
    pub alerts: Alerts,
    pub backup: Backup,
    pub rotation: Rotation,
    pub dashboard: Dashboard,
    pub service: Service,
    pub log: Log,
}

/// `[home]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Home {
    /// Where everything of Moon's lives. A leading `~` is the user's home.
    pub path: String,
}

/// `[thresholds]`: shares of the context window, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    pub archive: f64,
    pub prune: f64,
    pub distill: f64,
    /// An action is armed again only below its threshold minus this.
    pub hysteresis: f64,
    /// Shortest time between two actions of the same kind on one session.
    #[serde(with = "span")]
    pub archive_cooldown: Duration,
    #[serde(with = "span")]
    pub prune_cooldown: Duration,
    #[serde(with = "span")]
    pub distill_cooldown: Duration,
}

/// Which kind of session host to watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostChoice {
    /// OpenClaw if its configuration is found, else a transcripts folder if one is set.
    #[default]
    Auto,
    Openclaw,
    Transcripts,
}

/// `[watch]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    pub host: HostChoice,
    /// Full list of sessions this often, beside what is pushed.
    #[serde(with = "span")]
    pub poll: Duration,
    /// A reading older than this is shown as stale and triggers nothing.
    #[serde(with = "span")]
    pub stale_after: Duration,
    /// Folder of `*.jsonl` transcripts for `host = "transcripts"`.
    pub transcripts_dir: String,
    /// Context window assumed for transcripts, tokens.
    pub window_tokens: u64,
}

/// Who decides when OpenClaw reduces a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// OpenClaw decides; Moon archives, indexes and distils, and asks for read access only.
    #[default]
    Observe,
    /// Moon prunes and rolls over; OpenClaw's own threshold compaction is off, its overflow recovery stays.
    Lead,
}

impl Mode {
    /// As it stands in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Lead => "lead",
        }
    }
}

/// `[openclaw]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenClaw {
    pub mode: Mode,
    /// `ws://127.0.0.1:18789`; empty: from OpenClaw's own configuration.
    pub url: String,
    /// OpenClaw's state folder; empty: `$OPENCLAW_STATE_DIR`, else `~/.openclaw`.
    pub state_dir: String,
    /// File that holds the gateway token; empty: `$OPENCLAW_GATEWAY_TOKEN`, else OpenClaw's configuration.
    pub token_file: String,
    /// OpenClaw's command, for `moon install` only: a name on the PATH or an absolute path.
    pub command: String,
    /// Pair as a device of its own, so that a rotated gateway token does not lock Moon out.
    pub pair_device: bool,
    #[serde(with = "span")]
    pub connect_timeout: Duration,
    #[serde(with = "span")]
    pub request_timeout: Duration,
    /// A compaction may call a model.
    #[serde(with = "span")]
    pub compact_timeout: Duration,
    /// How long the bridge holds a compaction back for the archive.
    #[serde(with = "span")]
    pub bridge_wait: Duration,
}

/// `[archive]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Archive {
    /// Largest segment, bytes of transcript (one larger record makes a larger segment).
    pub segment_bytes: u64,
    /// zstd level, 1 to 19.
    pub zstd_level: i32,
    /// An unterminated last line of a transcript file is archived as it is after this long without a change.
    #[serde(with = "span")]
    pub torn_tail_after: Duration,
}

/// `[index]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Index {
    /// Largest chunk, characters.
    pub chunk_chars: usize,
}

/// `[distill]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distill {
    /// A session quiet for this long with undistilled records is distilled without rollover.
    #[serde(with = "span")]
    pub idle: Duration,
    /// After this many prunes since the last rollover the next crossing of the archive threshold distils.
    pub after_prunes: u32,
    /// So does a prune that freed less than this share of the used tokens.
    pub min_freed: f64,
    /// At most this many items of one kind.
    pub max_items: usize,
}

/// How a session gets its new window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rollover {
    /// A new empty window under the same key; the map arrives by the bridge.
    #[default]
    Reset,
    /// One compaction whose summary is the map; recent turns stay.
    Compact,
}

/// `[continuity]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Continuity {
    pub rollover: Rollover,
    /// Longest continuity block, characters.
    pub max_chars: usize,
    /// An alert is raised when the map was not seen in a model call this long after one could have carried it.
    #[serde(with = "span")]
    pub confirm_within: Duration,
    /// A session gets a new window only after nobody has spoken in it for this long.
    #[serde(with = "span")]
    pub quiet: Duration,
}

/// `[recall]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recall {
    pub limit: usize,
    /// Longest passage put into a model call, characters.
    pub max_inject_chars: usize,
}

/// `[supervision]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Supervision {
    /// More crashes than this within `window` park a child, or escalate if it is vital.
    pub max_crashes: usize,
    #[serde(with = "span")]
    pub window: Duration,
    /// How long a child may take to finish its work when Moon stops.
    #[serde(with = "span")]
    pub drain: Duration,
    /// A job that crashed its worker this often is set aside.
    pub job_attempts: u32,
    /// Longest time one job may take.
    #[serde(with = "span")]
    pub job_timeout: Duration,
    /// First pause before a failed job is tried again; doubles up to `retry_max`.
    #[serde(with = "span")]
    pub retry_min: Duration,
    #[serde(with = "span")]
    pub retry_max: Duration,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, or a filter such as `moon=debug`.
    pub level: String,
    /// The log is put aside at this size, MiB, and at the beginning of each day.
    pub max_mib: u64,
    /// Most files put aside; `[rotation]` says how long.
    pub keep: u64,
}

const MIN: Duration = Duration::from_secs(60);

impl Default for Home {
    fn default() -> Self {
        Self { path: "~/.lilac_metaflora".into() }
    }
}
impl Default for Thresholds {
    fn default() -> Self {
        Self {
            archive: 0.80,
            prune: 0.85,
            distill: 0.90,
            hysteresis: 0.05,
            archive_cooldown: MIN,
            prune_cooldown: 5 * MIN,
            distill_cooldown: 10 * MIN,
        }
    }
}
impl Default for Watch {
    fn default() -> Self {
        Self {
            host: HostChoice::Auto,
            poll: MIN,
            stale_after: 5 * MIN,
            transcripts_dir: String::new(),
            window_tokens: 200_000,
        }
    }
}
impl Default for OpenClaw {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            url: String::new(),
            state_dir: String::new(),
            token_file: String::new(),
            command: "openclaw".into(),
            pair_device: true,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            compact_timeout: 5 * MIN,
            bridge_wait: Duration::from_secs(20),
        }
    }
}
impl Default for Archive {
    fn default() -> Self {
        Self { segment_bytes: 4 << 20, zstd_level: 3, torn_tail_after: MIN }
    }
}
impl Default for Index {
    fn default() -> Self {
        Self { chunk_chars: 1200 }
    }
}
impl Default for Distill {
    fn default() -> Self {
        Self { idle: 30 * MIN, after_prunes: 3, min_freed: 0.15, max_items: 40 }
    }
}
impl Default for Continuity {
    fn default() -> Self {
        Self { rollover: Rollover::Reset, max_chars: 8_000, confirm_within: 15 * MIN, quiet: Duration::from_secs(5) }
    }
}
impl Default for Recall {
    fn default() -> Self {
        Self { limit: 5, max_inject_chars: 4_000 }
    }
}
impl Default for Supervision {
    fn default() -> Self {
        Self {
            max_crashes: 3,
            window: 60 * MIN,
            drain: Duration::from_secs(5),
            job_attempts: 3,
            job_timeout: 15 * MIN,
            retry_min: Duration::from_secs(2),
            retry_max: 5 * MIN,
        }
    }
}
impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), max_mib: 10, keep: 30 }
    }
}

/// What a rule is about: a dotted key, or an entry of its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub key: &'static str,
    /// Counted from 0, with the key of that table that is meant; empty: the whole entry.
    pub entry: Option<(usize, &'static str)>,
}

impl Spot {
    pub const fn entry(key: &'static str, index: usize, field: &'static str) -> Self {
        Self { key, entry: Some((index, field)) }
    }
}

impl From<&'static str> for Spot {
    fn from(key: &'static str) -> Self {
        Self { key, entry: None }
    }
}

/// A broken rule: what it is about, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub spot: Spot,
    pub message: String,
}

impl Settings {
    /// Every broken rule, in the order of the file. Empty: the settings may be used.
    pub fn check(&self) -> Vec<Problem> {
        let mut rules = Rules::default();
        rules.hold(!self.home.path.trim().is_empty(), "home.path", || "must not be empty".into());
        self.check_thresholds(&mut rules);
        self.check_hosts(&mut rules);
        self.check_archive(&mut rules);
        self.check_memory(&mut rules);
        self.check_supervision(&mut rules);
        self.health.check(&mut rules);
        self.alerts.check(&mut rules);
        self.backup.check(&mut rules);
        self.rotation.check(&mut rules);
        self.dashboard.check(&mut rules);
        self.service.check(&mut rules);
        rules.within("log.max_mib", self.log.max_mib, 1..=1024);
        rules.within("log.keep", self.log.keep, 1..=1000);
        rules.broken
    }

    fn check_thresholds(&self, rules: &mut Rules) {
        let t = &self.thresholds;
        for (key, share) in
            [("thresholds.archive", t.archive), ("thresholds.prune", t.prune), ("thresholds.distill", t.distill)]
        {
            rules.hold(share > 0.0 && share <= 1.0, key, || format!("{share} is not a share above 0 and up to 1"));
        }
        rules.hold(t.archive < t.prune, "thresholds.prune", || {
            let (prune, archive) = (t.prune, t.archive);
            format!("{prune} must be above thresholds.archive ({archive}): nothing is pruned before it is archived")
        });
        rules.hold(t.prune < t.distill, "thresholds.distill", || {
            format!("{} must be above thresholds.prune ({})", t.distill, t.prune)
        });
        rules.hold(t.hysteresis >= 0.0 && t.hysteresis < t.archive, "thresholds.hysteresis", || {
            format!("{} must be 0 or more and below thresholds.archive ({})", t.hysteresis, t.archive)
        });
        rules.span("thresholds.archive_cooldown", t.archive_cooldown, NOTHING);
        rules.span("thresholds.prune_cooldown", t.prune_cooldown, NOTHING);
        rules.span("thresholds.distill_cooldown", t.distill_cooldown, NOTHING);
    }

    fn check_hosts(&self, rules: &mut Rules) {
        let (w, o) = (&self.watch, &self.openclaw);
        rules.span("watch.poll", w.poll, MOMENT);
        rules.span("watch.stale_after", w.stale_after, MOMENT);
        rules.hold(w.stale_after >= w.poll, "watch.stale_after", || {
            "must be at least watch.poll: every reading would be stale before the next one".into()
        });
        let is_named = w.host != HostChoice::Transcripts || !w.transcripts_dir.is_empty();
        rules.hold(is_named, "watch.transcripts_dir", || "must be set for host = \"transcripts\"".into());
        rules.hold(w.window_tokens > 0, "watch.window_tokens", || "must be above 0".into());
        let is_address = o.url.is_empty() || o.url.strip_prefix("ws://").is_some_and(|host| !host.is_empty());
        rules.hold(is_address, "openclaw.url", || {
            format!("{:?} must be ws:// and a host (a gateway behind TLS is not supported yet)", o.url)
        });
        rules.hold(!o.command.is_empty(), "openclaw.command", || "must not be empty".into());
        rules.span("openclaw.connect_timeout", o.connect_timeout, MOMENT);
        rules.span("openclaw.request_timeout", o.request_timeout, MOMENT);
        rules.span("openclaw.compact_timeout", o.compact_timeout, SECOND);
        rules.span("openclaw.bridge_wait", o.bridge_wait, NOTHING);
    }

    fn check_archive(&self, rules: &mut Rules) {
        rules.within("archive.segment_bytes", self.archive.segment_bytes, 64 << 10..=256 << 20);
        rules.within("archive.zstd_level", self.archive.zstd_level, 1..=19);
        rules.span("archive.torn_tail_after", self.archive.torn_tail_after, NOTHING);
        rules.within("index.chunk_chars", self.index.chunk_chars, 200..=20_000);
    }

    fn check_memory(&self, rules: &mut Rules) {
        let d = &self.distill;
        rules.span("distill.idle", d.idle, NOTHING);
        rules.hold(d.after_prunes > 0, "distill.after_prunes", || "must be 1 or more".into());
        rules.hold((0.0..1.0).contains(&d.min_freed), "distill.min_freed", || {
            format!("{} must be 0 or more and below 1", d.min_freed)
        });
        rules.hold(d.max_items > 0, "distill.max_items", || "must be 1 or more".into());
        rules.within("continuity.max_chars", self.continuity.max_chars, 500..=100_000);
        rules.span("continuity.confirm_within", self.continuity.confirm_within, NOTHING);
        rules.span("continuity.quiet", self.continuity.quiet, NOTHING);
        rules.within("recall.limit", self.recall.limit, 1..=100);
        rules.within("recall.max_inject_chars", self.recall.max_inject_chars, 200..=100_000);
    }

    fn check_supervision(&self, rules: &mut Rules) {
        let s = &self.supervision;
        rules.hold(s.max_crashes > 0, "supervision.max_crashes", || "must be 1 or more".into());
        rules.span("supervision.window", s.window, SECOND);
        rules.span("supervision.drain", s.drain, NOTHING);
        rules.hold(s.job_attempts > 0 && s.job_attempts as usize <= s.max_crashes, "supervision.job_attempts", || {
            format!(
                "{} must be at least 1 and at most supervision.max_crashes ({}): a poisoned job must be set aside \
                     before its worker is given up on",
                s.job_attempts, s.max_crashes
            )
        });
        rules.span("supervision.job_timeout", s.job_timeout, SECOND);
        rules.span("supervision.retry_min", s.retry_min, MOMENT);
        rules.span("supervision.retry_max", s.retry_max, MOMENT);
        rules.hold(s.retry_min <= s.retry_max, "supervision.retry_min", || {
            "must be at most supervision.retry_max".into()
        });
    }
}

/// The rules that do not hold.
#[derive(Default)]
struct Rules {
    broken: Vec<Problem>,
}

impl Rules {
    fn hold(&mut self, holds: bool, spot: impl Into<Spot>, message: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(Problem { spot: spot.into(), message: message() });
        }
    }
    fn within<T>(&mut self, spot: impl Into<Spot>, value: T, range: RangeInclusive<T>)
    where
        T: PartialOrd + std::fmt::Display,
    {
        self.hold(range.contains(&value), spot, || {
            format!("{value} must be between {} and {}", range.start(), range.end())
        });
    }
    /// Times of the calendar: a cron expression, or nothing for never.
    fn times(&mut self, key: &'static str, times: &str) {
        let wrong =
            crate::schedule::policy::parse(times).and_then(|cron| crate::schedule::policy::comes(cron.as_ref())).err();
        self.hold(wrong.is_none(), key, || {
            format!("{times:?} is not a cron expression such as \"0 2 * * *\": {}", wrong.unwrap_or_default())
        });
    }
    fn span(&mut self, spot: impl Into<Spot>, span: Duration, least: Duration) {
        self.hold((least..=LONGEST).contains(&span), spot, || {
            let shown = span::words;
            format!("{} must be between {} and {}", shown(span), shown(least), shown(LONGEST))
        });
    }
}

const NOTHING: Duration = Duration::ZERO;
/// Anything shorter keeps a processor busy.
const MOMENT: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);
/// No span of Moon's is meant to be longer than a year; far longer ones overflow what a clock can say.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_obey_their_own_rules() {
        assert_eq!(Settings::default().check(), vec![]);
    }

    #[test]
    fn spans_that_no_clock_can_hold_and_those_that_would_never_end_are_refused() {
        let mut settings = Settings::default();
        settings.openclaw.connect_timeout = Duration::from_secs(u64::MAX);
        settings.openclaw.request_timeout = Duration::ZERO;
        settings.watch.stale_after = Duration::from_secs(30);
        let keys: Vec<_> = settings.check().into_iter().map(|p| p.spot.key).collect();
        assert_eq!(keys, ["watch.stale_after", "openclaw.connect_timeout", "openclaw.request_timeout"]);
    }

    #[test]
    fn times_that_no_calendar_has_are_refused_and_nothing_means_never() {
        let mut settings = Settings::default();
        settings.backup.at = "0 25 * * *".into();
        settings.backup.drill_at = String::new();
        let problems = settings.check();
        assert_eq!(problems.iter().map(|p| p.spot.key).collect::<Vec<_>>(), ["backup.at"]);
        assert!(problems[0].message.starts_with("\"0 25 * * *\" is not a cron expression"), "{}", problems[0].message);
        settings.backup.at = "0 2 30 2 *".into();
        assert!(settings.check()[0].message.ends_with("no calendar has such a day"), "{:?}", settings.check());
        settings.backup.at = "0 2 29 2 *".into();
        assert_eq!(settings.check(), vec![]);
    }

    #[test]
    fn an_impossible_order_of_thresholds_is_refused_with_every_broken_rule() {
        let mut settings = Settings::default();
        settings.thresholds.archive = 0.9;
        settings.thresholds.distill = 0.5;
        let keys: Vec<_> = settings.check().into_iter().map(|p| p.spot.key).collect();
        assert_eq!(keys, ["thresholds.prune", "thresholds.distill"]);
    }
}
