//! `[health]`: what is looked at, how often, and when it counts as trouble.

use super::{MOMENT, Rules, SECOND, span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// Each check runs this often.
    #[serde(with = "span")]
    pub every: Duration,
    /// A check that has not answered by then is cut off.
    #[serde(with = "span")]
    pub timeout: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { every: Duration::from_secs(300), timeout: Duration::from_secs(10) }
    }
}

impl Health {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.span("health.every", self.every, SECOND);
        rules.span("health.timeout", self.timeout, MOMENT);
    }
}
