//! The clock: it has not been set back behind what is written down already.

use super::{Senses, shown};
use async_trait::async_trait;
use moon_actors::domain::{Figure, Finding};
use moon_actors::port::{AlertRules, Check, CheckGroup, Clock, Ledger, Look};
use std::path::Path;
use std::sync::Arc;

/// Corrections smaller than this are what time services do all day.
const TOLERATED_SECS: i64 = 5;
/// systemd's time service makes this file once it has reached a server.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

pub(super) struct ClockSane {
    ledger: Option<Arc<dyn Ledger>>,
    clock: Arc<dyn Clock>,
}

impl ClockSane {
    pub(super) fn new(senses: &Senses) -> Self {
        Self { ledger: senses.ledger.as_ref().ok().map(Arc::clone), clock: Arc::clone(&senses.clock) }
    }
}

#[async_trait]
impl Check for ClockSane {
    fn name(&self) -> &str {
        "clock"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Clock
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("clock.set_back"))
    }
    async fn look(&self, _: &Look) -> Finding {
        let written = match &self.ledger {
            Some(ledger) => ledger.last_audited().await,
            None => {
                return Finding::unknown("without a ledger there is nothing to compare it with")
                    .hint("see the check `ledger`");
            }
        };
        let now = self.clock.now();
        let behind = match written {
            Ok(written) => written.map_or(0, |at| (at - now).num_seconds()).max(0),
            Err(error) => return Finding::unknown(error.to_string()),
        };
        let figure = Figure::new(behind as f64, "s").above(Some(TOLERATED_SECS as f64), None);
        let synchronized = if Path::new(SYNCHRONIZED).exists() { ", synchronized by the time service" } else { "" };
        let finding = if behind > TOLERATED_SECS {
            let by = shown(std::time::Duration::from_secs(behind.unsigned_abs()));
            Finding::warning(format!("it is {by} behind the last entry of the audit: it was set back"))
                .hint("set it right (`timedatectl`); Moon's pauses do not depend on it, but times in its records do")
        } else {
            Finding::ok(format!("not behind the audit{synchronized}"))
        };
        finding.figure("behind", figure)
    }
}
