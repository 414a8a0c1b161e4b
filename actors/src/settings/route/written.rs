//! A route as it stands in the file: one flat table, and back.

use super::{Address, Http, Route, TIMEOUT, Target, Template, Tls};
use crate::port::Severity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Email,
    Desktop,
    Webhook,
    Alertmanager,
    Command,
}

impl Kind {
    /// The keys that belong to it, beside [`COMMON`].
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Email => {
                &["host", "port", "tls", "ca_file", "username", "password_file", "from", "to", "subject_prefix"]
            }
            Self::Desktop => &[],
            Self::Webhook => &[
                "url",
                "url_file",
                "template",
                "secret_file",
                "headers_file",
                "ca_file",
                "allow_http",
                "allow_private",
            ],
            Self::Alertmanager => &[
                "url",
                "url_file",
                "labels",
                "generator_url",
                "headers_file",
                "ca_file",
                "allow_http",
                "allow_private",
            ],
            Self::Command => &["argv", "environment"],
        }
    }
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Desktop => "desktop",
            Self::Webhook => "webhook",
            Self::Alertmanager => "alertmanager",
            Self::Command => "command",
        }
    }
}

/// A route as it stands in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_severity: Option<Severity>,
    #[serde(default = "yes")]
    pub(super) resolved: bool,
    #[serde(with = "crate::settings::span", default = "timeout")]
    pub(super) timeout: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) headers_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_http: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_private: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generator_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) argv: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) environment: Option<Vec<String>>,
}

fn yes() -> bool {
    true
}
fn timeout() -> Duration {
    TIMEOUT
}

impl From<Route> for Written {
    fn from(route: Route) -> Self {
        let kind = match &route.target {
            Target::Email(_) => Kind::Email,
            Target::Desktop => Kind::Desktop,
            Target::Webhook(_) => Kind::Webhook,
            Target::Alertmanager(_) => Kind::Alertmanager,
            Target::Command(_) => Kind::Command,
        };
        let Route { name, min_severity, resolved, timeout, target } = route;
        let mut written = Self::empty(name, kind, min_severity, resolved, timeout);
        match target {
            Target::Email(email) => {
                written.host = Some(email.host);
                written.port = Some(email.port);
                written.tls = Some(email.tls);
                written.ca_file = email.ca_file;
                (written.username, written.password_file) = email.login.unzip();
                written.from = email.from;
                written.to = Some(email.to);
                written.subject_prefix = Some(email.subject_prefix);
            }
            Target::Desktop => {}
            Target::Webhook(webhook) => {
                written.template = Some(match webhook.template {
                    Template::Generic => "generic".into(),
                    Template::Slack => "slack".into(),
                    Template::Discord => "discord".into(),
                    Template::File(path) => path,
                });
                written.secret_file = webhook.secret_file;
                written.put_http(webhook.http);
            }
            Target::Alertmanager(alertmanager) => {
                written.labels = Some(alertmanager.labels);
                written.generator_url = alertmanager.generator_url;
                written.put_http(alertmanager.http);
            }
            Target::Command(command) => {
                (written.argv, written.environment) = (Some(command.argv), Some(command.environment));
            }
        }
        written
    }
}

impl Written {
    fn empty(name: String, kind: Kind, least: Severity, resolved: bool, timeout: Duration) -> Self {
        Self {
            name,
            kind,
            min_severity: Some(least),
            resolved,
            timeout,
            host: None,
            port: None,
            tls: None,
            ca_file: None,
            username: None,
            password_file: None,
            from: None,
            to: None,
            subject_prefix: None,
            url: None,
            url_file: None,
            template: None,
            secret_file: None,
            headers_file: None,
            allow_http: None,
            allow_private: None,
            labels: None,
            generator_url: None,
            argv: None,
            environment: None,
        }
    }
    fn put_http(&mut self, http: Http) {
        match http.address {
            Address::Url(url) => self.url = Some(url),
            Address::File(file) => self.url_file = Some(file),
        }
        (self.headers_file, self.ca_file) = (http.headers_file, http.ca_file);
        (self.allow_http, self.allow_private) = (Some(http.allow_http), Some(http.allow_private));
    }
}
