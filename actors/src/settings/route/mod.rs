//! `[[alerts.routes]]`: the ways to people, one table each.
//!
//! What is written is one flat table; what the adapters get is one variant with the keys of its kind, already judged. So a key
//! of another kind is refused instead of ignored. No key holds a secret: passwords, tokens and secret addresses are named by file.

mod judge;
#[cfg(test)]
mod tests;
mod written;

use crate::port::Severity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use written::Written;

pub(super) use judge::is_address;

const TIMEOUT: Duration = Duration::from_secs(10);

/// One way to people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Route {
    /// Unique among all routes; the ledger remembers by it what was delivered.
    pub name: String,
    pub min_severity: Severity,
    /// Whether the end of what was sent is sent, too.
    pub resolved: bool,
    /// Longest time one delivery may take.
    pub timeout: Duration,
    pub target: Target,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    Email(Email),
    Desktop,
    Webhook(Webhook),
    Alertmanager(Alertmanager),
    Command(Command),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Email {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// PEM file with the only authority to be trusted; none: those of the system.
    pub ca_file: Option<String>,
    /// Name and the file with its password.
    pub login: Option<(String, String)>,
    /// None: `moon@` and the name of this machine.
    pub from: Option<String>,
    pub to: Vec<String>,
    pub subject_prefix: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Plain connection that must turn to TLS before anything is said.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// Only to this machine itself.
    None,
}

/// An HTTP receiver and what may be talked to.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    pub address: Address,
    /// Lines of `Name: value`, e.g. an authorization.
    pub headers_file: Option<String>,
    /// PEM file with the only authority to be trusted; none: those of the system.
    pub ca_file: Option<String>,
    pub allow_http: bool,
    /// Lets it be this machine or one of a private network.
    pub allow_private: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    Url(String),
    /// A file that holds the address, because whoever knows it may post.
    File(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    pub http: Http,
    pub template: Template,
    /// Signs what is sent.
    pub secret_file: Option<String>,
}

/// The shape of what is posted.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    Generic,
    Slack,
    Discord,
    /// A template of the user's.
    File(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Alertmanager {
    pub http: Http,
    pub labels: BTreeMap<String, String>,
    /// A page about this Moon, shown as the source of its alerts.
    pub generator_url: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub argv: Vec<String>,
    /// The only variables of Moon's own environment it gets.
    pub environment: Vec<String>,
}

impl Route {
    /// Mail to these people through the mail server of this machine, for what is critical.
    pub fn local_mail(to: &[String]) -> Self {
        let (host, subject_prefix) = ("localhost".into(), "[Moon]".into());
        let (ca_file, login, from) = (None, None, None);
        let email = Email { host, port: 25, tls: Tls::None, ca_file, login, from, to: to.to_vec(), subject_prefix };
        let target = Target::Email(email);
        Self { name: "email".into(), min_severity: Severity::Critical, resolved: true, timeout: TIMEOUT, target }
    }

    /// The files it names, with their keys.
    pub fn files(&self) -> Vec<(&'static str, &str)> {
        fn named<'f>(key: &'static str, file: &'f Option<String>) -> (&'static str, Option<&'f str>) {
            (key, file.as_deref())
        }
        fn http(http: &Http) -> Vec<(&'static str, Option<&str>)> {
            let address = match &http.address {
                Address::File(file) => Some(file.as_str()),
                Address::Url(_) => None,
            };
            vec![("url_file", address), named("headers_file", &http.headers_file), named("ca_file", &http.ca_file)]
        }
        let files = match &self.target {
            Target::Email(email) => {
                let password = email.login.as_ref().map(|(_, file)| file.as_str());
                vec![("password_file", password), named("ca_file", &email.ca_file)]
            }
            Target::Webhook(webhook) => {
                let template = match &webhook.template {
                    Template::File(file) => Some(file.as_str()),
                    _ => None,
                };
                let mut files = http(&webhook.http);
                files.extend([("template", template), named("secret_file", &webhook.secret_file)]);
                files
            }
            Target::Alertmanager(alertmanager) => http(&alertmanager.http),
            Target::Command(command) => {
                vec![("argv", command.argv.first().map(String::as_str).filter(|program| program.contains('/')))]
            }
            Target::Desktop => Vec::new(),
        };
        files.into_iter().filter_map(|(key, file)| file.map(|file| (key, file))).collect()
    }
}
