//! Crashes within the last hour, of actors and of the whole process: more than three are a loop.

use super::Senses;
use async_trait::async_trait;
use moon_actors::domain::{Condition, Figure, Finding, Trouble};
use moon_actors::health::policy::{self, LOOP_WINDOW, MOST_CRASHES};
use moon_actors::port::{AlertRules, Check, CheckGroup, Clock, Ledger, Look};
use std::sync::Arc;

pub(super) struct Restarts {
    ledger: Option<Arc<dyn Ledger>>,
    clock: Arc<dyn Clock>,
}

impl Restarts {
    pub(super) fn new(senses: &Senses) -> Self {
        Self { ledger: senses.ledger.as_ref().ok().map(Arc::clone), clock: Arc::clone(&senses.clock) }
    }
}

#[async_trait]
impl Check for Restarts {
    fn name(&self) -> &str {
        "restarts"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Restarts
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("restart_loop"))
    }
    async fn look(&self, _: &Look) -> Finding {
        let Some(ledger) = &self.ledger else {
            return Finding::unknown("without a ledger nobody knows what crashed").hint("see the check `ledger`");
        };
        let now = self.clock.now();
        let crashes = match ledger.crashes(now - LOOP_WINDOW).await {
            Ok(crashes) => crashes,
            Err(error) => return Finding::unknown(error.to_string()),
        };
        let trouble = |(subject, count): (String, usize)| Trouble {
            reason: format!("{subject} crashed {count} times within the hour"),
            subject,
            condition: Condition::Warning,
            rule: None,
        };
        let most = Some(MOST_CRASHES as f64);
        Finding::of(
            policy::loops(&crashes, now).into_iter().map(trouble).collect(),
            match crashes.len() {
                0 => "no crash within the hour".to_owned(),
                n => format!("{} within the hour", moon_actors::contract::count(n, "restart")),
            },
        )
        .hint("`moon logs` holds the panics; report them. `moon ctl tree` shows who is down")
        .figure("crashes", Figure::new(crashes.len() as f64, "").above(most, None))
    }
}
