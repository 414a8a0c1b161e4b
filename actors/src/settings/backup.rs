//! `[backup]`: what is backed up, when, where to, and how long it is kept.

use super::Rules;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// When a backup is made, as a cron expression in local time; empty: only when asked for.
    pub at: String,
    /// When the newest backup is restored into an empty place and compared; empty: only when asked for.
    pub drill_at: String,
}

impl Default for Backup {
    fn default() -> Self {
        Self { at: "0 2 * * *".into(), drill_at: "30 3 * * 0".into() }
    }
}

impl Backup {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.times("backup.at", &self.at);
        rules.times("backup.drill_at", &self.drill_at);
    }
}
