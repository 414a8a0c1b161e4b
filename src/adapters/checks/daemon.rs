//! The daemon itself: somebody holds the home's lock, and a request comes back through socket, root of the tree and ledger.

use super::{Place, Senses, shown};
use crate::daemon::lock::HomeLock;
use crate::daemon::socket;
use crate::home::Home;
use crate::service::wish::{self, Stop};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::domain::{Figure, Finding};
use moon_actors::port::{AlertRules, Check, CheckGroup, Ledger, Look};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A daemon that is alive answers in milliseconds; this is for a machine on its knees.
const DEADLINE: Duration = Duration::from_secs(9);
/// From outside a person waits, and has asked once already.
const OUTSIDE: Duration = Duration::from_secs(5);
/// After a start the socket may not be there yet.
const GRACE: Duration = Duration::from_secs(15);

pub(super) struct DaemonAlive {
    home: Home,
    place: Place,
    ledger: Option<Arc<dyn Ledger>>,
    begun: Instant,
}

impl DaemonAlive {
    pub(super) fn new(senses: &Senses) -> Self {
        let ledger = senses.ledger.as_ref().ok().map(Arc::clone);
        Self { home: senses.home.clone(), place: senses.place, ledger, begun: Instant::now() }
    }

    async fn absent(&self) -> Finding {
        if !self.home.ledger_db().exists() {
            return Finding::critical("moon was never started in this home").hint("start it with `moon start`");
        }
        if let Some(stop) = wish::stop(&self.home) {
            return on_purpose(&stop);
        }
        let life = match &self.ledger {
            Some(ledger) => ledger.last_life().await.ok().flatten(),
            None => None,
        };
        let why = match life {
            Some(life) => match (life.ended_at, life.reason) {
                (Some(ended), reason) => {
                    format!("; it ended in order on {}: {}", at(ended), reason.unwrap_or_default())
                }
                (None, _) => format!("; what began on {} was cut off", at(life.started_at)),
            },
            None => String::new(),
        };
        Finding::critical(format!("no daemon runs{why}"))
            .hint("start it with `moon start`; `moon logs` says how it ended")
    }
}

fn at(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Nobody watches, and somebody wants it so.
fn on_purpose(stop: &Stop) -> Finding {
    Finding::critical(format!("no daemon runs: it was {}", stop.in_words()))
        .hint("nothing brings it back by itself; `moon start` does when it is wanted again")
}

#[async_trait]
impl Check for DaemonAlive {
    fn name(&self) -> &str {
        "daemon"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Daemon
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::moons("daemon_degraded", "daemon_critical"))
    }
    fn limit(&self) -> Option<Duration> {
        Some(DEADLINE + Duration::from_secs(2))
    }
    async fn look(&self, _: &Look) -> Finding {
        let holder = HomeLock::holder(&self.home);
        let who = match holder {
            None if self.place == Place::Outside => return self.absent().await,
            Some(holder) if holder.what != "daemon" => {
                return Finding::warning(format!(
                    "moon {} (pid {}) holds the home, no daemon",
                    holder.what, holder.pid
                ))
                .hint("wait for its end, then start the daemon");
            }
            Some(holder) => format!("pid {}", holder.pid),
            None => format!("pid {}", std::process::id()),
        };
        let deadline = if self.place == Place::Outside { OUTSIDE } else { DEADLINE };
        let begun = Instant::now();
        let answer = socket::ping(&self.home, deadline).await;
        let took = begun.elapsed();
        let why = match answer {
            Ok(true) => {
                let figure = Figure::new(took.as_secs_f64(), "s").above(None, Some(deadline.as_secs_f64()));
                return Finding::ok(format!("{who} answers in {}", shown(took))).figure("answer", figure);
            }
            Ok(false) => "its socket is not there".into(),
            Err(error) => error.to_string(),
        };
        if self.place == Place::Daemon && self.begun.elapsed() < GRACE {
            return Finding::ok(format!("{who} is starting"));
        }
        Finding::critical(format!("{who} holds the home and does not answer: {why}"))
            .hint("see `moon logs`; if it stays so, `moon restart --force`")
    }
}
