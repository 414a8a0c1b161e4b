//! Alerts reach people: no route fails for longer than a passing trouble explains.
//!
//! It raises no alert of its own: the alert path itself tells the other routes of one that fails (`alert.undelivered`).

use super::{Senses, shown};
use async_trait::async_trait;
use moon_actors::domain::{Condition, Figure, Finding, Trouble};
use moon_actors::port::{AlertRules, Check, CheckGroup, Clock, Ledger, Look};
use std::sync::Arc;
use std::time::Duration;

/// A receiver that is started anew is no trouble yet.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

pub(super) struct Delivery {
    ledger: Option<Arc<dyn Ledger>>,
    clock: Arc<dyn Clock>,
}

impl Delivery {
    pub(super) fn new(senses: &Senses) -> Self {
        let ledger = senses.ledger.as_ref().ok().map(Arc::clone);
        Self { ledger, clock: Arc::clone(&senses.clock) }
    }
}

#[async_trait]
impl Check for Delivery {
    fn name(&self) -> &str {
        "alerts"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Delivery
    }
    fn rules(&self) -> Option<AlertRules> {
        None
    }
    async fn look(&self, _: &Look) -> Finding {
        let Some(ledger) = &self.ledger else {
            return Finding::unknown("without a ledger there is no outbox").hint("see the check `ledger`");
        };
        let routes = match ledger.routes().await {
            Ok(routes) => routes,
            Err(error) => return Finding::unknown(error.to_string()),
        };
        let (now, mut troubles) = (self.clock.now(), Vec::new());
        for route in &routes {
            let age = route.failing_since.and_then(|since| (now - since).to_std().ok()).unwrap_or_default();
            if age > PATIENCE {
                let why = route.last_error.as_ref().map_or(String::new(), |error| format!(": {error}"));
                let reason = format!("{} waiting for {}, which fails for {}{why}", route.owed, route.name, shown(age));
                let subject = route.name.clone();
                troubles.push(Trouble { subject, condition: Condition::Warning, reason, rule: None });
            }
        }
        let waiting: u64 = routes.iter().map(|route| route.owed).sum();
        let silenced = match routes.iter().map(|route| route.silenced).sum::<u64>() {
            0 => String::new(),
            silenced => format!(", {silenced} silenced"),
        };
        let known = moon_actors::contract::count(routes.len(), "route");
        Finding::of(troubles, format!("{known}, {waiting} waiting{silenced}"))
            .hint("`moon alerts test` says why a route fails; see [alerts] in moon.toml")
            .figure("waiting", Figure::new(waiting as f64, ""))
    }
}
