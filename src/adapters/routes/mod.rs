//! The ways to people that the settings name: e-mail, desktop, webhook, Alertmanager, a command.
//!
//! Each adapter turns a notice into what its receiver understands and hands it over once; when, how often and again is decided by
//! the alert path. What is wrong with a *route* (a missing secret, a refused login, a private address) is `unavailable`: the notice
//! is kept until somebody has mended it. What the receiver has against this *notice* is `data`: it would say the same again.
//! Secrets are read from their files at every delivery, so that a changed one needs no restart, and must never reach an error.

mod alertmanager;
mod command;
mod desktop;
mod email;
mod http;
mod secret;
mod shape;
mod told;
mod webhook;

use crate::config::Environment;
use async_trait::async_trait;
use moon_actors::port::{Notice, Notifier, Severity};
use moon_actors::settings::Alerts;
use moon_actors::settings::route::{Route, Target};
use moon_actors::{Error, Result};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Most characters of a receiver's own words in an error.
const EXCERPT: usize = 300;
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Turns names into addresses.
#[async_trait]
pub trait Names: Send + Sync {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The names of the system.
struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect())
    }
}

/// What the routes know of the process they run in.
#[derive(Clone)]
pub struct Around {
    pub environment: Environment,
    /// The name of this machine, as people know it.
    pub host: String,
    pub names: Arc<dyn Names>,
}

impl Around {
    pub fn of_process() -> Self {
        Self::of(crate::config::process_environment())
    }

    /// This machine, with an environment of its own.
    pub fn of(environment: Environment) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { environment, host, names: Arc::new(SystemNames) }
    }

    fn variable(&self, name: &str) -> Option<&std::ffi::OsStr> {
        self.environment.get(std::ffi::OsStr::new(name)).map(std::ffi::OsString::as_os_str)
    }

    /// The folder in which systemd puts a service's credentials.
    fn credentials(&self) -> Option<PathBuf> {
        self.variable(CREDENTIALS).map(PathBuf::from).filter(|folder| folder.is_absolute())
    }

    /// A path of the settings: absolute, below `~`, or below `$CREDENTIALS_DIRECTORY`.
    fn path(&self, key: &str, text: &str) -> Result<PathBuf> {
        let wrong = |cause: String| Error::unavailable("route.file", format!("cannot find {key}")).cause(cause);
        if let Some(name) = credential(text) {
            let folder = self.credentials().ok_or_else(|| {
                wrong(format!("{CREDENTIALS} is not set"))
                    .hint("give the service a credential (LoadCredential=), or name the file itself")
            })?;
            return Ok(folder.join(name));
        }
        crate::config::expand(text.as_ref(), &self.environment).map_err(wrong)
    }
}

/// The name behind `$CREDENTIALS_DIRECTORY/`.
fn credential(text: &str) -> Option<&str> {
    text.strip_prefix('$')?
        .strip_prefix(CREDENTIALS)?
        .strip_prefix('/')
        .filter(|name| !name.contains('/') && *name != "..")
}

/// A key of a route, and what is wrong with it.
pub type Fault = (&'static str, String);

/// What can never work, whatever becomes of this machine: for each mistake the route's place in the settings, the key, and what is
/// wrong. No file is read.
pub fn faults(alerts: &Alerts, around: Around) -> Vec<(usize, Fault)> {
    let around = Arc::new(around);
    let of_route = |(at, route): (usize, &Route)| {
        let mut faults = Vec::new();
        for (key, file) in route.files() {
            if credential(file).is_none()
                && let Err(message) = crate::config::expand(file.as_ref(), &around.environment)
            {
                faults.push((at, (key, message)));
            }
        }
        faults.extend(adapter(route, &around).faults().into_iter().map(|fault| (at, fault)));
        faults
    };
    alerts.routes.iter().enumerate().flat_map(of_route).collect()
}

/// The same for the text of a template, if it can be read.
pub fn template_faults(alerts: &Alerts, around: Around) -> Vec<(usize, Fault)> {
    let around = Arc::new(around);
    let of_route = |(at, route)| Some((at, ("template", adapter(route, &around).template_fault()?)));
    alerts.routes.iter().enumerate().filter_map(of_route).collect()
}

/// What the library that sends mail has against an address.
pub fn address_fault(address: &str) -> Option<String> {
    let wrong = address.parse::<lettre::message::Mailbox>().err()?;
    Some(format!("{address:?} is not an e-mail address: {wrong}"))
}

/// An adapter that can be asked beforehand.
trait Adapter: Notifier {
    /// Reads and judges everything that a delivery needs, without talking to anybody.
    fn ready(&self) -> Result<()>;

    /// What is wrong in the settings themselves.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }

    /// What is wrong in a template of the user's.
    fn template_fault(&self) -> Option<String> {
        None
    }
}

fn adapter(route: &Route, around: &Arc<Around>) -> Arc<dyn Adapter> {
    let (name, around) = (route.name.clone(), Arc::clone(around));
    match &route.target {
        Target::Email(email) => Arc::new(email::EmailRoute::new(name, email.clone(), route.timeout, around)),
        Target::Desktop => Arc::new(desktop::DesktopRoute::new(name, around)),
        Target::Webhook(webhook) => Arc::new(webhook::WebhookRoute::new(name, webhook.clone(), route.timeout, around)),
        Target::Alertmanager(target) => {
            Arc::new(alertmanager::AlertmanagerRoute::new(name, target.clone(), route.timeout, around))
        }
        Target::Command(command) => Arc::new(command::CommandRoute::new(name, command.clone(), around)),
    }
}

/// All routes of the settings, in their order. Touches nothing: what is missing is told by the delivery that misses it.
pub fn build(alerts: &Alerts, around: Around) -> Vec<Arc<dyn Notifier>> {
    let around = Arc::new(around);
    let filtered = |route: Route| -> Arc<dyn Notifier> {
        let inner = adapter(&route, &around);
        Arc::new(Filtered { inner, least: route.min_severity, resolved: route.resolved, deadline: route.timeout })
    };
    alerts.all_routes().into_iter().map(filtered).collect()
}

/// One sentence for each route that could deliver nothing now, because of a file or an address of its own, with the route's place
/// among all.
pub fn unready(alerts: &Alerts, around: Around) -> Vec<(usize, String)> {
    let around = Arc::new(around);
    let told = |(at, route): (usize, Route)| {
        let error = adapter(&route, &around).ready().err()?;
        Some((at, format!("the alert route {:?} cannot deliver: {}", route.name, error.in_full())))
    };
    alerts.all_routes().into_iter().enumerate().filter_map(told).collect()
}

/// Holds back what a route is not meant for, and ends what takes too long.
struct Filtered {
    inner: Arc<dyn Adapter>,
    least: Severity,
    resolved: bool,
    deadline: Duration,
}

#[async_trait]
impl Notifier for Filtered {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn wants(&self, notice: &Notice) -> bool {
        let is_end = matches!(notice, Notice::Alert(alert) if alert.resolved_at.is_some());
        notice.severity() >= self.least && (self.resolved || !is_end)
    }

    fn least(&self) -> Severity {
        self.least
    }

    async fn deliver(&self, notice: &Notice) -> Result<()> {
        if !self.wants(notice) {
            return Ok(());
        }
        tokio::time::timeout(self.deadline, self.inner.deliver(notice)).await.unwrap_or_else(|_| {
            let shown = humantime::format_duration(self.deadline);
            Err(Error::transient("route.timeout", format!("the route {:?} did not finish within {shown}", self.name()))
                .hint("the same notice is sent again with the same id; a slow receiver needs a longer `timeout`"))
        })
    }
}

/// A receiver's own words, short, on one line and harmless.
fn excerpt(words: &str) -> String {
    let words: String = words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(EXCERPT).collect();
    crate::cli::output::escape(&words)
}

#[cfg(test)]
mod tests;
