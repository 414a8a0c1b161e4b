//! Alerts reach people: nothing waits in the outbox for longer than the limits of a route explain.

use super::{Senses, shown};
use async_trait::async_trait;
use moon_actors::domain::{Condition, Figure, Finding, Trouble};
use moon_actors::port::{AlertRules, Check, CheckGroup, Clock, Ledger, Look};
use std::sync::Arc;
use std::time::Duration;

/// A route that was told enough within the hour waits for the next one; some more is for the attempts at it.
const PATIENCE: Duration = Duration::from_secs(90 * 60);
/// Waiting notices read of each route.
const MOST: usize = 100;

pub(super) struct Delivery {
    ledger: Option<Arc<dyn Ledger>>,
    routes: Vec<String>,
    clock: Arc<dyn Clock>,
}

impl Delivery {
    pub(super) fn new(senses: &Senses) -> Self {
        let ledger = senses.ledger.as_ref().ok().map(Arc::clone);
        Self { ledger, routes: senses.routes.clone(), clock: Arc::clone(&senses.clock) }
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
        Some(AlertRules::both("alerts.undelivered"))
    }
    async fn look(&self, _: &Look) -> Finding {
        let Some(ledger) = &self.ledger else {
            return Finding::unknown("without a ledger there is no outbox").hint("see the check `ledger`");
        };
        let (now, mut troubles, mut waiting) = (self.clock.now(), Vec::new(), 0);
        for route in &self.routes {
            let undelivered = match ledger.undelivered(route, MOST).await {
                Ok(undelivered) => undelivered,
                Err(error) => return Finding::unknown(error.to_string()),
            };
            waiting += undelivered.len();
            let oldest = undelivered.iter().map(|alert| alert.resolved_at.unwrap_or(alert.fired_at)).min();
            let age = oldest.and_then(|at| (now - at).to_std().ok()).unwrap_or_default();
            if age > PATIENCE {
                let reason = format!("{} undelivered by {route}, the oldest for {}", undelivered.len(), shown(age));
                troubles.push(Trouble { subject: route.clone(), condition: Condition::Warning, reason, rule: None });
            }
        }
        let routes = moon_actors::contract::count(self.routes.len(), "route");
        Finding::of(troubles, format!("{routes}, {waiting} waiting"))
            .hint("`moon logs` says why a route fails; see [alerts] in moon.toml")
            .figure("waiting", Figure::new(waiting as f64, ""))
    }
}
