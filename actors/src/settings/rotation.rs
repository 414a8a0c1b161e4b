//! `[rotation]`: when log files are put aside, compressed and removed.

use super::Rules;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// When logs are rotated, as a cron expression in local time; empty: only when asked for.
    pub at: String,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { at: "0 0 * * *".into() }
    }
}

impl Rotation {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.times("rotation.at", &self.at);
    }
}
