//! Every setting with its default, its unit and the rule it must obey.
//!
//! The shell reads `moon.toml` into this; an actor receives its own section by value and never changes it. Partial
//! tables merge with the defaults, unknown keys are refused. [`Settings::check`] reports every broken rule at once.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A span of time in people's words (`30s`, `5m`, `1h 30m`).
pub mod span {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|e| D::Error::custom(format!("invalid duration {text:?}: {e}; write it like \"30s\" or \"5m\"")))
    }
}

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
    /// A job that crashed or failed for good this often is quarantined.
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
    /// A log file is rotated at this size, MiB.
    pub max_mib: u64,
    /// Rotated files kept.
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
        Self { rollover: Rollover::Reset, max_chars: 8_000, confirm_within: 15 * MIN }
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
        Self { level: "info".into(), max_mib: 10, keep: 5 }
    }
}

/// A broken rule: the dotted key and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: &'static str,
    pub message: String,
}

impl Settings {
    /// Every broken rule, in the order of the file. Empty: the settings may be used.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut rule = |holds: bool, key: &'static str, message: String| {
            if !holds {
                problems.push(Problem { key, message });
            }
        };
        let t = &self.thresholds;
        let share = |v: f64| v > 0.0 && v <= 1.0;
        rule(!self.home.path.trim().is_empty(), "home.path", "must not be empty".into());
        rule(share(t.archive), "thresholds.archive", format!("{} is not a share above 0 and up to 1", t.archive));
        rule(share(t.prune), "thresholds.prune", format!("{} is not a share above 0 and up to 1", t.prune));
        rule(share(t.distill), "thresholds.distill", format!("{} is not a share above 0 and up to 1", t.distill));
        rule(
            t.archive < t.prune,
            "thresholds.prune",
            format!(
                "{} must be above thresholds.archive ({}): nothing is pruned before it is archived",
                t.prune, t.archive
            ),
        );
        rule(
            t.prune < t.distill,
            "thresholds.distill",
            format!("{} must be above thresholds.prune ({})", t.distill, t.prune),
        );
        rule(
            t.hysteresis >= 0.0 && t.hysteresis < t.archive,
            "thresholds.hysteresis",
            format!("{} must be 0 or more and below thresholds.archive ({})", t.hysteresis, t.archive),
        );
        rule(!self.watch.poll.is_zero(), "watch.poll", "must be longer than nothing".into());
        rule(
            self.watch.host != HostChoice::Transcripts || !self.watch.transcripts_dir.is_empty(),
            "watch.transcripts_dir",
            "must be set for host = \"transcripts\"".into(),
        );
        rule(self.watch.window_tokens > 0, "watch.window_tokens", "must be above 0".into());
        rule(
            self.openclaw.url.is_empty() || self.openclaw.url.starts_with("ws://"),
            "openclaw.url",
            format!("{:?} must begin with ws:// (a gateway behind TLS is not supported yet)", self.openclaw.url),
        );
        rule(!self.openclaw.command.is_empty(), "openclaw.command", "must not be empty".into());
        rule(
            (64 << 10..=256 << 20).contains(&self.archive.segment_bytes),
            "archive.segment_bytes",
            format!("{} must be between 65536 and 268435456", self.archive.segment_bytes),
        );
        rule(
            (1..=19).contains(&self.archive.zstd_level),
            "archive.zstd_level",
            format!("{} must be between 1 and 19", self.archive.zstd_level),
        );
        rule(
            (200..=20_000).contains(&self.index.chunk_chars),
            "index.chunk_chars",
            format!("{} must be between 200 and 20000", self.index.chunk_chars),
        );
        rule(self.distill.after_prunes > 0, "distill.after_prunes", "must be 1 or more".into());
        rule(
            (0.0..1.0).contains(&self.distill.min_freed),
            "distill.min_freed",
            format!("{} must be 0 or more and below 1", self.distill.min_freed),
        );
        rule(self.distill.max_items > 0, "distill.max_items", "must be 1 or more".into());
        rule(
            (500..=100_000).contains(&self.continuity.max_chars),
            "continuity.max_chars",
            format!("{} must be between 500 and 100000", self.continuity.max_chars),
        );
        rule((1..=100).contains(&self.recall.limit), "recall.limit", "must be between 1 and 100".into());
        rule(
            (200..=100_000).contains(&self.recall.max_inject_chars),
            "recall.max_inject_chars",
            "must be between 200 and 100000".into(),
        );
        let s = &self.supervision;
        rule(s.max_crashes > 0, "supervision.max_crashes", "must be 1 or more".into());
        rule(!s.window.is_zero(), "supervision.window", "must be longer than nothing".into());
        rule(
            s.job_attempts > 0 && s.job_attempts as usize <= s.max_crashes,
            "supervision.job_attempts",
            format!(
                "{} must be at least 1 and at most supervision.max_crashes ({}): a poisoned job must be set aside \
                 before its worker is given up on",
                s.job_attempts, s.max_crashes
            ),
        );
        rule(!s.job_timeout.is_zero(), "supervision.job_timeout", "must be longer than nothing".into());
        rule(
            !s.retry_min.is_zero() && s.retry_min <= s.retry_max,
            "supervision.retry_min",
            "must be longer than nothing and at most supervision.retry_max".into(),
        );
        rule(self.log.max_mib > 0, "log.max_mib", "must be 1 or more".into());
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_obey_their_own_rules() {
        assert_eq!(Settings::default().check(), vec![]);
    }

    #[test]
    fn an_impossible_order_of_thresholds_is_refused_with_every_broken_rule() {
        let mut settings = Settings::default();
        settings.thresholds.archive = 0.9;
        settings.thresholds.distill = 0.5;
        let keys: Vec<_> = settings.check().into_iter().map(|p| p.key).collect();
        assert_eq!(keys, ["thresholds.prune", "thresholds.distill"]);
    }
}
