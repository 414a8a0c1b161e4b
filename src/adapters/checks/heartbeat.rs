//! Moon's own heartbeat: the daemon rewrites `state/moon_state.json` at least every 30 s.

use super::{Senses, shown};
use async_trait::async_trait;
use moon_actors::domain::{Figure, Finding};
use moon_actors::health::policy;
use moon_actors::port::{AlertRules, Check, CheckGroup, Clock, Look};
use serde::Deserialize;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often the daemon writes it, at least.
const INTERVAL: Duration = Duration::from_secs(30);
/// No state file of Moon's is as large.
const MOST_BYTES: u64 = 64 << 20;

pub(super) struct Heartbeat {
    file: PathBuf,
    clock: Arc<dyn Clock>,
    lane: super::lane::Lane,
}

#[derive(Deserialize)]
struct Beat {
    last_heartbeat_epoch_secs: i64,
}

impl Heartbeat {
    pub(super) fn new(senses: &Senses) -> Self {
        Self { file: senses.home.state_json(), clock: Arc::clone(&senses.clock), lane: Default::default() }
    }
}

fn read(file: &std::path::Path) -> Result<i64, String> {
    let mut text = Vec::new();
    let file = crate::durable::open_regular(file).map_err(|e| e.to_string())?;
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(|e| e.to_string())?;
    serde_json::from_slice::<Beat>(&text).map(|beat| beat.last_heartbeat_epoch_secs).map_err(|e| e.to_string())
}

#[async_trait]
impl Check for Heartbeat {
    fn name(&self) -> &str {
        "heartbeat"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Heartbeat
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules { warning: "daemon_degraded", critical: "daemon_degraded", subject: "heartbeat" })
    }
    async fn look(&self, _: &Look) -> Finding {
        let file = self.file.clone();
        let hint = "the daemon is down, or its projection does not get on: see `moon status` and `moon logs`";
        let beat = match self.lane.run(move || read(&file)).await {
            Ok(Ok(beat)) => beat,
            Ok(Err(why)) => {
                return Finding::warning(format!("no heartbeat can be read from state/moon_state.json: {why}"))
                    .hint(hint);
            }
            Err(why) => return Finding::unknown(why),
        };
        let seconds = (self.clock.now().timestamp() - beat).max(0).unsigned_abs();
        let age = Duration::from_secs(seconds);
        let figure = Figure::new(age.as_secs_f64(), "s").above(Some(2.0 * INTERVAL.as_secs_f64()), None);
        let finding = match policy::is_stale(age, INTERVAL) {
            true => {
                Finding::warning(format!("the last heartbeat is {} old; one comes every 30 s", shown(age))).hint(hint)
            }
            false => Finding::ok(format!("the last one is {} old", shown(age))),
        };
        finding.figure("age", figure)
    }
}
