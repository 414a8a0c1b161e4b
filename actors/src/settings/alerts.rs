//! `[alerts]`: who is told of trouble, and how often at most.

use super::route::{Route, is_address};
use super::{NOTHING, Rules, Spot, span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Shortest time between two notices of the same alert.
    #[serde(with = "span")]
    pub cooldown: Duration,
    /// Most notices a route sends within an hour, the last two of them for what is critical; the rest goes into one digest.
    pub per_hour: u32,
    /// A critical alert that nobody has acknowledged after this long is told once more; nothing: never.
    #[serde(with = "span")]
    pub escalate_after: Duration,
    /// Who gets what is critical by the mail server of this machine; more is said in `routes`.
    pub email_to: Vec<String>,
    /// The ways to people beside the log.
    pub routes: Vec<Route>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            cooldown: Duration::from_secs(30 * 60),
            per_hour: 5,
            escalate_after: Duration::from_secs(3600),
            email_to: Vec::new(),
            routes: Vec::new(),
        }
    }
}

/// More would only slow each other down.
const ROUTES_MAX: usize = 16;

/// What is wrong with a second route of a name.
pub fn two_of_one_name(name: &str, more: &str) -> String {
    format!("two routes have the name {name:?}{more}; the ledger remembers by it what was delivered")
}

impl Alerts {
    /// Every route: those of the table, and the mail of `email_to`.
    pub fn all_routes(&self) -> Vec<Route> {
        let mail = Some(Route::local_mail(&self.email_to)).filter(|_| !self.email_to.is_empty());
        self.routes.iter().cloned().chain(mail).collect()
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        rules.span("alerts.cooldown", self.cooldown, NOTHING);
        rules.within("alerts.per_hour", self.per_hour, 1..=1000);
        rules.span("alerts.escalate_after", self.escalate_after, NOTHING);
        for (at, address) in self.email_to.iter().enumerate() {
            let spot = Spot::entry("alerts.email_to", at, "");
            rules.hold(is_address(address), spot, || format!("{address:?} is not an e-mail address"));
        }
        let routes = self.all_routes();
        rules.hold(routes.len() <= ROUTES_MAX, "alerts.routes", || format!("there may be at most {ROUTES_MAX}"));
        for (at, route) in routes.iter().enumerate() {
            let is_first = !routes[..at].iter().any(|other| other.name == route.name);
            // Behind the tables comes the mail of `email_to`: the table that has its name is the one to be renamed.
            let first = routes.iter().position(|other| other.name == route.name).unwrap_or_default();
            let at = if at < self.routes.len() { at } else { first };
            rules.hold(is_first, Spot::entry("alerts.routes", at, "name"), || {
                let more = if self.email_to.is_empty() { "" } else { " (alerts.email_to is the route \"email\")" };
                two_of_one_name(&route.name, more)
            });
        }
    }
}
