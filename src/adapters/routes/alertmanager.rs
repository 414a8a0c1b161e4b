//! Prometheus Alertmanager, by its API version 2.
//!
//! Alertmanager drops an alert that nobody repeats; Moon tells each change once and keeps it in its ledger until it was taken. So a
//! firing alert is posted with an end far away, which the resolved notice moves to now. Alertmanager forgets alerts when it is restarted:
//! what this process knows to fire goes along with every further notice.

use super::http::{Post, Receiver};
use super::told::{Told, time};
use super::{Adapter, Around, Fault};
use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use moon_actors::Result;
use moon_actors::port::{Alert, Digest, Notice, Notifier};
use moon_actors::settings::route::Alertmanager;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Far beyond any alert that somebody looks after.
const FIRING_FOR: TimeDelta = TimeDelta::days(365);
/// A digest is about what has happened; it goes by itself.
const DIGEST_FOR: TimeDelta = TimeDelta::hours(1);
/// Firing alerts that go along.
const REMEMBERED: usize = 200;

pub(super) struct AlertmanagerRoute {
    name: String,
    target: Alertmanager,
    receiver: Receiver,
    around: Arc<Around>,
    firing: Mutex<BTreeMap<i64, Value>>,
}

impl AlertmanagerRoute {
    pub(super) fn new(name: String, target: Alertmanager, timeout: Duration, around: Arc<Around>) -> Self {
        let receiver = Receiver::new(target.http.clone(), timeout, Arc::clone(&around));
        Self { name, target, receiver, around, firing: Mutex::default() }
    }

    /// One alert of the API. What makes two of them the same is their labels alone, so nothing in them may change until it ends.
    fn entry(&self, notice: &Notice) -> Value {
        let told = Told::new(notice, &self.around.host);
        let (starts, ends) = match notice {
            Notice::Alert(alert) | Notice::Escalation(alert) => span(alert),
            Notice::Digest(digest) => digest_span(digest),
        };
        let mut labels: Map<String, Value> =
            self.target.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        labels.insert("alertname".into(), json!(told.rule.as_deref().unwrap_or("moon_digest")));
        labels.insert("subject".into(), json!(told.subject.as_deref().unwrap_or("moon")));
        labels.insert("severity".into(), json!(told.severity));
        labels.insert("host".into(), json!(told.host));
        labels.insert("source".into(), json!("moon"));
        let mut annotations = Map::from_iter([("summary".to_owned(), json!(told.title))]);
        let lines: String = told.lines.iter().map(|line| format!("\n- {line}")).collect();
        annotations.insert("description".into(), json!(format!("{}{lines}", told.message)));
        annotations.extend(told.hint.map(|hint| ("hint".to_owned(), json!(hint))));
        let mut entry = json!({ "startsAt": starts, "endsAt": ends, "labels": labels, "annotations": annotations });
        if let Some(url) = &self.target.generator_url {
            entry["generatorURL"] = json!(url);
        }
        entry
    }

    /// What is posted: the notice, and before it what else is known to fire.
    fn entries(&self, notice: &Notice) -> Vec<Value> {
        let own = match notice {
            Notice::Alert(alert) | Notice::Escalation(alert) => Some(alert.id),
            Notice::Digest(_) => None,
        };
        let firing = self.firing.lock().unwrap_or_else(PoisonError::into_inner);
        let others = firing.iter().filter(|(id, _)| Some(**id) != own).map(|(_, entry)| entry.clone());
        others.chain([self.entry(notice)]).collect()
    }

    fn remember(&self, notice: &Notice) {
        let (Notice::Alert(alert) | Notice::Escalation(alert)) = notice else { return };
        let mut firing = self.firing.lock().unwrap_or_else(PoisonError::into_inner);
        match alert.resolved_at {
            Some(_) => drop(firing.remove(&alert.id)),
            None => drop(firing.insert(alert.id, self.entry(notice))),
        }
        while firing.len() > REMEMBERED {
            firing.pop_first();
        }
    }
}

/// A clock that was set back must not make an alert end before it began: Alertmanager refuses the whole request.
fn span(alert: &Alert) -> (String, String) {
    let ends = alert.resolved_at.unwrap_or(alert.fired_at + FIRING_FOR).max(alert.fired_at);
    (time(alert.fired_at), time(ends))
}

fn digest_span(digest: &Digest) -> (String, String) {
    let ends = digest.until.max(Utc::now()) + DIGEST_FOR;
    (time(digest.since.min(ends)), time(ends))
}

#[async_trait]
impl Notifier for AlertmanagerRoute {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, notice: &Notice) -> Result<()> {
        let body = Value::from(self.entries(notice)).to_string().into_bytes();
        let post = Post { content_type: "application/json", headers: Vec::new(), body };
        self.receiver.post("/api/v2/alerts", post).await?;
        self.remember(notice);
        Ok(())
    }
}

impl Adapter for AlertmanagerRoute {
    fn ready(&self) -> Result<()> {
        self.receiver.ready()
    }

    fn faults(&self) -> Vec<Fault> {
        self.receiver.fault().into_iter().collect()
    }
}
