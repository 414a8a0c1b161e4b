//! The session host: it answers. Its alert is `host.unreachable`, which the watching raises itself.

use super::{Place, Senses, shown};
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
        let hint = error.hint.clone().unwrap_or_else(|| "is the agent's gateway running?".into());
        Finding::critical(format!("{} does not answer: {error}", self.host.name())).hint(hint)
    }
}
