//! The session host: it answers. Its alert is `host.unreachable`, which the watching raises itself.

use super::{Place, Senses, shown};
use crate::adapters::no_host;
use async_trait::async_trait;
use moon_actors::domain::{Figure, Finding};
use moon_actors::port::{AlertRules, Check, CheckGroup, Look, SessionHost};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A gateway that is started together with Moon needs some time.
const GRACE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct HostReachable {
    host: Arc<dyn SessionHost>,
    begun: Instant,
    place: Place,
    /// A command connects for this look alone: it waits until it is connected.
    patience: Duration,
}

impl HostReachable {
    pub(super) fn new(senses: &Senses) -> Self {
        let patience = senses.settings.openclaw.connect_timeout.min(senses.settings.health.timeout / 2);
        Self { host: Arc::clone(&senses.host), begun: Instant::now(), place: senses.place, patience }
    }
}

#[async_trait]
impl Check for HostReachable {
    fn name(&self) -> &str {
        "host"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Host
    }
    fn rules(&self) -> Option<AlertRules> {
        None
    }
    async fn look(&self, _: &Look) -> Finding {
        let begun = Instant::now();
        let error = loop {
            match self.host.refresh().await {
                Ok(readings) => {
                    let sessions = moon_actors::contract::count(readings.len(), "session");
                    return Finding::ok(format!("{} answers: {sessions}", self.host.name()))
                        .figure("answer", Figure::new(begun.elapsed().as_secs_f64(), "s"))
                        .figure("sessions", Figure::new(readings.len() as f64, ""));
                }
                Err(_) if self.place == Place::Outside && begun.elapsed() < self.patience => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => break error,
            }
        };
        if self.place == Place::Daemon && self.begun.elapsed() < GRACE {
            return Finding::ok(format!("not connected yet, {} after the start", shown(self.begun.elapsed())));
        }
        let (reason, hint) = match self.host.name() {
            no_host::NAME => (format!("there is no session host: {error}"), "`[watch]` of the settings names one"),
            name => (format!("{name} does not answer: {error}"), "is the agent's gateway running?"),
        };
        Finding::critical(reason).hint(error.hint.unwrap_or_else(|| hint.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_actors::Error;
    use moon_actors::domain::Condition;

    #[tokio::test]
    async fn where_no_host_is_named_that_is_said_and_no_gateway_is_asked_for() {
        let host =
            Arc::new(no_host::NoHost::new(Error::unavailable("openclaw.not_found", "no OpenClaw on this machine")));
        let check = HostReachable { host, begun: Instant::now(), place: Place::Outside, patience: Duration::ZERO };
        let finding = check.look(&Look::default()).await;
        assert_eq!(finding.condition, Condition::Critical);
        assert_eq!(finding.reason, "there is no session host: no OpenClaw on this machine");
        assert!(finding.hint.is_some_and(|hint| !hint.contains("gateway")));
    }
}
