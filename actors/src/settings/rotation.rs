//! `[rotation]`: when log files are put aside, compressed and removed.

use super::{NOTHING, Rules, Spot, span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// When logs are looked after, as a cron expression in local time; empty: only when asked for. A log of yesterday is put aside
    /// at the first look of a day, a large one at the next look.
    pub at: String,
    /// A file put aside is compressed when it was not written for this long.
    #[serde(with = "span")]
    pub compress_after: Duration,
    /// One that was put aside is removed after this long.
    #[serde(with = "span")]
    pub keep: Duration,
    /// A log of the user's is put aside at this size, MiB.
    pub max_mib: u64,
    /// The user's own logs.
    pub files: Vec<LogPattern>,
}

/// `[[rotation.files]]`: logs of other programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPattern {
    /// A file, or a pattern such as `~/agent/logs/*.log`.
    pub path: String,
    /// The writer begins a new file by itself and names it by the date: files are compressed and removed, never renamed.
    #[serde(default)]
    pub dated: bool,
    /// The signal that makes the writer open its file anew: `HUP`, `USR1`, `USR2`. Needs `pid_file`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signal: String,
    /// File that holds the number of the process to signal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pid_file: String,
    /// Program and arguments that make the writer open its file anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

impl Default for Rotation {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self { at: "0 * * * *".into(), compress_after: day, keep: 30 * day, max_mib: 100, files: vec![] }
    }
}

impl Rotation {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.times("rotation.at", &self.at);
        rules.span("rotation.compress_after", self.compress_after, NOTHING);
        rules.span("rotation.keep", self.keep, self.compress_after);
        rules.within("rotation.max_mib", self.max_mib, 1..=1 << 20);
        for (at, file) in self.files.iter().enumerate() {
            let shown = &file.path;
            let mut hold = |holds: bool, field: &'static str, message: &str| {
                rules.hold(holds, Spot::entry("rotation.files", at, field), || format!("{shown:?}: {message}"));
            };
            let is_path = |path: &str| path.starts_with('/') || path.starts_with("~/");
            hold(!file.path.is_empty(), "path", "path must not be empty");
            hold(file.path.is_empty() || is_path(&file.path), "path", "path must be absolute or begin with ~/");
            hold(
                file.pid_file.is_empty() || is_path(&file.pid_file),
                "pid_file",
                "pid_file must be absolute or begin with ~/",
            );
            hold(file.signal.is_empty() == file.pid_file.is_empty(), "signal", "signal and pid_file go together");
            let is_signal = ["", "HUP", "USR1", "USR2"].contains(&file.signal.as_str());
            hold(is_signal, "signal", "signal must be HUP, USR1 or USR2");
            let program = file.command.first().map_or("x", String::as_str);
            let is_program = !program.is_empty() && (!program.contains('/') || program.starts_with('/'));
            hold(is_program, "command", "command must begin with a name on the PATH or an absolute path");
            let tells = !file.signal.is_empty() || !file.command.is_empty();
            let is_told_in_vain = file.dated && tells;
            hold(
                !is_told_in_vain,
                "dated",
                "a log that is dated by its writer is never renamed: nobody has to be told",
            );
        }
    }
}
