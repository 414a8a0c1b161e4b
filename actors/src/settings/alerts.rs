//! `[alerts]`: who is told of trouble, and how often at most.

use super::{NOTHING, Rules, span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Shortest time between two notices of the same alert.
    #[serde(with = "span")]
    pub cooldown: Duration,
    /// Most notices a route sends within an hour; the rest goes into one digest.
    pub per_hour: u32,
    /// A critical alert that nobody has acknowledged after this long is told once more; nothing: never.
    #[serde(with = "span")]
    pub escalate_after: Duration,
}

impl Default for Alerts {
    fn default() -> Self {
        Self { cooldown: Duration::from_secs(30 * 60), per_hour: 5, escalate_after: Duration::from_secs(3600) }
    }
}

impl Alerts {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.span("alerts.cooldown", self.cooldown, NOTHING);
        rules.within("alerts.per_hour", self.per_hour, 1..=1000);
        rules.span("alerts.escalate_after", self.escalate_after, NOTHING);
    }
}
