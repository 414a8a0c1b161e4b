//! Answers people about alerts: what there is, who knows of it, what is silenced; and whether routes work.

use super::actor::AlertMsg;
use super::engine::{Post, in_time};
use super::rules;
use crate::contract::{AlertsRequest, Report, count};
use crate::error::{Error, Result};
use crate::port::{Alert, AlertKey, AlertRow, Clock, NewSilence, Notice, Notifier, Severity};
use crate::supervisor::Address;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The rule that a test notice carries.
const TEST: &str = "alert.test";

pub struct Desk {
    pub post: Post,
    /// The actor that delivers; where there is none, this desk does it itself.
    pub bell: Address<AlertMsg>,
    pub clock: Arc<dyn Clock>,
}

impl Desk {
    pub async fn answer(&self, ask: AlertsRequest) -> Result<Report> {
        let name = ask.name();
        let ledger = &self.post.ledger;
        match ask {
            AlertsRequest::List => self.list().await,
            AlertsRequest::Show { id } => self.show(id).await,
            AlertsRequest::History { before, limit } => {
                let rows = ledger.alert_rows(false, before, limit).await?;
                Ok(Report::new(name).data(json!({ "alerts": documents(&rows) })))
            }
            AlertsRequest::Ack { id, by, note } => {
                let row = ledger.acknowledge(id, &by, note.as_deref()).await?.ok_or_else(|| {
                    Error::data("alert.not_firing", format!("alert {id} does not fire"))
                        .hint("`moon alerts list` shows what fires, `moon alerts history` what did")
                })?;
                self.ring().await?;
                let said = format!("alert {id} is acknowledged: it is not escalated any more");
                Ok(Report::new(name).detail(said).data(json!({ "alert": document(&row) })))
            }
            AlertsRequest::Silence(silence) => self.silence(name, silence).await,
            AlertsRequest::Unsilence { id, by } => {
                let silence = ledger.unsilence(id, &by).await?.ok_or_else(|| {
                    Error::data("alert.no_silence", format!("there is no silence {id} in force"))
                        .hint("`moon alerts silences` lists them")
                })?;
                self.ring().await?;
                let said = format!("silence {id} has ended: what still fires is told");
                Ok(Report::new(name).detail(said).data(json!({ "silence": silence })))
            }
            AlertsRequest::Silences { all } => {
                Ok(Report::new(name).data(json!({ "silences": ledger.silences(all).await? })))
            }
            AlertsRequest::Test { route, severity } => self.test(name, route.as_deref(), severity).await,
            AlertsRequest::Raise { rule, subject, severity, message, hint } => {
                let key = named(&rule, subject)?;
                self.raise(name, &key, rules::severity(&rule, severity), &message, hint).await
            }
            AlertsRequest::Resolve { rule, subject } => {
                let resolved = ledger.resolve(&named(&rule, subject)?).await?;
                self.ring().await?;
                let said = match &resolved {
                    Some(alert) => format!("alert {} is over", alert.id),
                    None => "nothing of this rule and subject fires".to_owned(),
                };
                Ok(Report::new(name).detail(said).data(json!({ "alert": resolved })))
            }
        }
    }

    /// Lets what was changed be told: by the actor, or here when none listens.
    async fn ring(&self) -> Result<()> {
        if !self.bell.cast(AlertMsg::Look) {
            self.post.deliver().await?;
        }
        Ok(())
    }

    async fn list(&self) -> Result<Report> {
        let ledger = &self.post.ledger;
        let firing = ledger.alert_rows(true, None, 200).await?;
        Ok(Report::new("alerts list").data(json!({
            "alerts": documents(&firing),
            "pending": ledger.pending_alerts().await?,
            "silences": ledger.silences(false).await?,
            "routes": ledger.routes().await?,
        })))
    }

    async fn show(&self, id: i64) -> Result<Report> {
        let ledger = &self.post.ledger;
        let row = ledger.alert_row(id).await?.ok_or_else(|| {
            Error::data("alert.unknown", format!("there is no alert {id}"))
                .hint("`moon alerts history` lists them; very old ones are in the audit only")
        })?;
        let deliveries = ledger.alert_deliveries(id).await?;
        Ok(Report::new("alerts show").data(json!({ "alert": document(&row), "deliveries": deliveries })))
    }

    async fn silence(&self, name: &str, silence: NewSilence) -> Result<Report> {
        let refused = |why: &str| Err(Error::config("alert.silence", "could not silence anything").cause(why));
        if silence.until <= self.clock.now() {
            return refused("its end lies in the past");
        }
        if silence.rule.is_empty() || silence.subject.is_empty() || silence.rule.len() + silence.subject.len() > 1024 {
            return refused("rule and subject must be globs such as `disk_*`, of 1024 characters at most");
        }
        let made = self.post.ledger.silence(&silence).await?;
        let until = made.what.until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let said = format!("silence {}: {} of {} is not told until {until}", made.id, silence.rule, silence.subject);
        Ok(Report::new(name).detail(said).data(json!({ "silence": made })))
    }

    async fn raise(
        &self,
        name: &str,
        key: &AlertKey,
        severity: Severity,
        message: &str,
        hint: Option<String>,
    ) -> Result<Report> {
        // Before the alert: a route that is known is owed it whatever happens next.
        self.post.open_once().await?;
        let hint = hint.or_else(|| rules::hint(&key.rule));
        let raised = self.post.ledger.raise(key, severity, message, hint.as_deref()).await?;
        self.ring().await?;
        let said = match &raised {
            Some(alert) => format!("alert {} fires: {message}", alert.id),
            None => format!("{} of {} fires already", key.rule, key.subject),
        };
        Ok(Report::new(name).detail(said).data(json!({ "alert": raised })))
    }

    async fn test(&self, name: &str, route: Option<&str>, severity: Severity) -> Result<Report> {
        let wanted = |notifier: &&Arc<dyn Notifier>| route.is_none_or(|route| route == notifier.name());
        let notifiers: Vec<Arc<dyn Notifier>> = self.post.notifiers.iter().filter(wanted).cloned().collect();
        if notifiers.is_empty() {
            let known: Vec<&str> = self.post.notifiers.iter().map(|notifier| notifier.name()).collect();
            let route = route.unwrap_or_default();
            return Err(Error::data("alert.no_route", format!("there is no route {route}"))
                .hint(format!("the routes are: {}", known.join(", "))));
        }
        let mut report = Report::new(name);
        let message = "this is a test of the route, nothing is wrong";
        let key = AlertKey::new(TEST, "moon");
        let notice = unrecorded(key, severity, message, rules::hint(TEST), self.clock.now());
        let tried = directly(&notifiers, &notice).await;
        for one in &tried {
            match &one.error {
                None if !one.is_wanted => {
                    let unwanted = format!("{}: not sent: {}", one.route, one.wants());
                    report.details.push(unwanted);
                    // Somebody asked for this one.
                    if route.is_some() {
                        let unsent = format!("nothing was sent by {}: {}", one.route, one.wants());
                        let hint = format!("`--severity {}` is one that it takes", one.least.as_str());
                        report.issue(Error::data("alert.unwanted", unsent).hint(hint));
                    }
                }
                None => report.details.push(format!("{}: delivered in {} ms", one.route, one.took.as_millis())),
                Some(error) => {
                    report.details.push(format!("{}: not delivered", one.route));
                    report.issue(Error { message: format!("{}: {}", one.route, error.message), ..error.clone() });
                }
            }
        }
        let routes: Vec<Value> = tried.iter().map(Tried::document).collect();
        Ok(report.data(json!({ "routes": routes })))
    }
}

/// What became of a notice that was handed to a route past the ledger.
pub struct Tried {
    pub route: String,
    /// False when the route has no use for such a notice: it was not given it.
    pub is_wanted: bool,
    /// The least severity that the route takes.
    pub least: Severity,
    pub took: Duration,
    pub error: Option<Error>,
}

impl Tried {
    pub fn is_delivered(&self) -> bool {
        self.is_wanted && self.error.is_none()
    }

    fn wants(&self) -> String {
        let and_above = if self.least == Severity::Critical { "only" } else { "and above" };
        format!("the route wants {} {and_above}", self.least.as_str())
    }

    fn document(&self) -> Value {
        let took_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        json!({
            "route": self.route, "delivered": self.is_delivered(), "wanted": self.is_wanted, "min_severity": self.least,
            "took_ms": took_ms, "error": self.error,
        })
    }
}

/// An alert that no ledger knows: a test, or the last word when the ledger cannot be used.
pub fn unrecorded(key: AlertKey, severity: Severity, message: &str, hint: Option<String>, now: DateTime<Utc>) -> Alert {
    Alert {
        // Different at each time, so that no receiver takes it for one that it has seen.
        id: now.timestamp_millis(),
        key,
        severity,
        message: message.to_owned(),
        hint,
        fired_at: now,
        resolved_at: None,
    }
}

/// Hands an alert to routes without the ledger, all at once. A test is also told to be over: a receiver that keeps states would show it
/// for ever.
pub async fn directly(notifiers: &[Arc<dyn Notifier>], alert: &Alert) -> Vec<Tried> {
    let mut tries = JoinSet::new();
    for notifier in notifiers {
        let (notifier, alert) = (Arc::clone(notifier), alert.clone());
        tries.spawn(async move {
            let (begun, notice) = (tokio::time::Instant::now(), Notice::Alert(alert.clone()));
            let (is_wanted, least) = (notifier.wants(&notice), notifier.least());
            let mut outcome = if is_wanted { in_time(notifier.deliver(&notice)).await } else { Ok(()) };
            let took = begun.elapsed();
            if is_wanted && outcome.is_ok() && alert.key.rule == TEST {
                let over = Alert { resolved_at: Some(alert.fired_at), ..alert };
                outcome = in_time(notifier.deliver(&Notice::Alert(over))).await;
            }
            Tried { route: notifier.name().to_owned(), is_wanted, least, took, error: outcome.err() }
        });
    }
    let mut tried = tries.join_all().await;
    tried.sort_by(|a, b| a.route.cmp(&b.route));
    tried
}

fn named(rule: &str, subject: String) -> Result<AlertKey> {
    if !rules::is_name(rule) {
        return Err(Error::config("alert.rule", format!("{rule:?} cannot be the name of a rule"))
            .hint("up to 64 letters, digits, `.`, `_` and `-`, such as `nightly.sync_failed`"));
    }
    Ok(AlertKey { rule: rule.to_owned(), subject })
}

/// An instance as documents show it: with the title of its rule and its state in words.
pub fn document(row: &AlertRow) -> Value {
    let mut shown = json!(row);
    shown["title"] = json!(rules::title(&row.alert.key.rule));
    shown["state"] = json!(if row.alert.resolved_at.is_some() { "resolved" } else { "firing" });
    shown
}

pub fn documents(rows: &[AlertRow]) -> Vec<Value> {
    rows.iter().map(document).collect()
}

/// How many of what, for a screen's first line.
pub fn summary(firing: usize, pending: usize) -> String {
    match (firing, pending) {
        (0, 0) => "nothing fires".to_owned(),
        (0, pending) => format!("nothing fires, {pending} pending"),
        (firing, 0) => format!("{} firing", count(firing, "alert")),
        (firing, pending) => format!("{} firing, {pending} pending", count(firing, "alert")),
    }
}
