//! `[dashboard]`: the pages and files that show how everything is.

use super::Rules;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dashboard {
    /// When the health report is written, as a cron expression in local time; empty: only when asked for.
    pub report_at: String,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self { report_at: "0 9 * * 0".into() }
    }
}

impl Dashboard {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.times("dashboard.report_at", &self.report_at);
    }
}
