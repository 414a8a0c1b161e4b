//! `[[alerts.routes]]`: the ways to people, one table each.
//!
//! What is written is one flat table; what the adapters get is one variant with the keys of its kind, already judged. So a key
//! of another kind is refused instead of ignored. No key holds a secret: passwords, tokens and secret addresses are named by file.

use crate::port::Severity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Email,
    Desktop,
    Webhook,
    Alertmanager,
    Command,
}

/// Keys of every route.
const COMMON: [&str; 5] = ["name", "kind", "min_severity", "resolved", "timeout"];
const TIMEOUT: Duration = Duration::from_secs(10);
const NAME_MAX: usize = 32;
/// What a command needs to be found and to know where it is.
const PASSED: [&str; 4] = ["HOME", "LANG", "PATH", "TZ"];
/// Labels that Moon gives itself.
const OWN_LABELS: [&str; 5] = ["alertname", "host", "severity", "source", "subject"];

impl Kind {
    /// The keys that belong to it, beside [`COMMON`].
    fn keys(self) -> &'static [&'static str] {
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
    const fn as_str(self) -> &'static str {
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
struct Written {
    name: String,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_severity: Option<Severity>,
    #[serde(default = "yes")]
    resolved: bool,
    #[serde(with = "super::span", default = "timeout")]
    timeout: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_http: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_private: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generator_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    argv: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Vec<String>>,
}

fn yes() -> bool {
    true
}
fn timeout() -> Duration {
    TIMEOUT
}

/// What is wrong with one route, all at once: a line each, which begins with the key that is meant. So whoever reads the table can
/// say where that stands.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, holds: bool, key: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(format!("{key}: {}", message()));
        }
    }
}

impl TryFrom<Written> for Route {
    type Error = String;

    fn try_from(mut written: Written) -> Result<Self, String> {
        let mut wrong = Wrong::default();
        wrong.unless(is_name(&written.name), "name", || {
            format!("a name has 1 to {NAME_MAX} of a-z, 0-9, - and _, and begins with a letter")
        });
        let is_log = written.name == "log";
        wrong.unless(!is_log, "name", || "\"log\" is the route that is always there; take another name".into());
        let range = Duration::from_millis(100)..=Duration::from_secs(300);
        wrong.unless(range.contains(&written.timeout), "timeout", || "must be between 100ms and 5m".into());
        strangers(&written, &mut wrong);
        let target = match written.kind {
            Kind::Email => Target::Email(written.email(&mut wrong)),
            Kind::Desktop => Target::Desktop,
            Kind::Webhook => Target::Webhook(written.webhook(&mut wrong)),
            Kind::Alertmanager => Target::Alertmanager(written.alertmanager(&mut wrong)),
            Kind::Command => Target::Command(written.command(&mut wrong)),
        };
        if !wrong.0.is_empty() {
            return Err(wrong.0.join("\n"));
        }
        // E-mail is for what cannot wait until somebody looks.
        let least = if matches!(target, Target::Email(_)) { Severity::Critical } else { Severity::Info };
        let Written { name, min_severity, resolved, timeout, .. } = written;
        Ok(Self { name, min_severity: min_severity.unwrap_or(least), resolved, timeout, target })
    }
}

/// Keys that belong to routes of another kind.
fn strangers(written: &Written, wrong: &mut Wrong) {
    let set = serde_json::to_value(written).unwrap_or_default();
    let own = written.kind.keys();
    for key in set.as_object().into_iter().flat_map(|fields| fields.keys()).map(String::as_str) {
        wrong.unless(COMMON.contains(&key) || own.contains(&key), key, || {
            let kind = written.kind.as_str();
            match own.is_empty() {
                true => format!("does not belong to kind = \"{kind}\", which has no keys of its own"),
                false => format!("does not belong to kind = \"{kind}\", which has {}", own.join(", ")),
            }
        });
    }
}

impl Written {
    fn email(&mut self, wrong: &mut Wrong) -> Email {
        let tls = self.tls.unwrap_or_default();
        let host = self.host.take().unwrap_or_default();
        wrong.unless(is_word(&host), "host", || "must name the mail server".into());
        wrong.unless(tls != Tls::None || is_this_machine(&host), "tls", || {
            format!("\"none\" is for this machine itself (127.0.0.1, ::1, localhost), not for {host:?}")
        });
        let login = match (self.username.take(), self.password_file.take()) {
            (Some(name), Some(file)) => Some((name, file)),
            (None, None) => None,
            (name, _) => {
                let key = if name.is_some() { "username" } else { "password_file" };
                wrong.unless(false, key, || "username and password_file belong together".into());
                None
            }
        };
        let to = self.to.take().unwrap_or_default();
        wrong.unless(!to.is_empty(), "to", || "must name whom to write to, e.g. [\"me@example.org\"]".into());
        let addresses = to.iter().map(|address| ("to", address)).chain(self.from.iter().map(|from| ("from", from)));
        for (key, address) in addresses {
            wrong.unless(is_address(address), key, || format!("{address:?} is not an e-mail address"));
        }
        let subject_prefix = self.subject_prefix.take().unwrap_or_else(|| "[Moon]".into());
        let is_short = subject_prefix.chars().count() <= 60 && !subject_prefix.chars().any(char::is_control);
        wrong.unless(is_short, "subject_prefix", || "must be one line of at most 60 characters".into());
        let port = self.port.unwrap_or(match tls {
            Tls::Starttls => 587,
            Tls::Implicit => 465,
            Tls::None => 25,
        });
        let (ca_file, from) = (self.ca_file.take(), self.from.take());
        Email { host, port, tls, ca_file, login, from, to, subject_prefix }
    }

    fn webhook(&mut self, wrong: &mut Wrong) -> Webhook {
        let template = match self.template.take().as_deref() {
            None | Some("generic") => Template::Generic,
            Some("slack") => Template::Slack,
            Some("discord") => Template::Discord,
            Some(path) => {
                wrong.unless(path.starts_with(['/', '~', '$']), "template", || {
                    format!("{path:?} must be \"generic\", \"slack\", \"discord\" or the absolute path of a template")
                });
                Template::File(path.to_owned())
            }
        };
        let is_secret = matches!(template, Template::Slack | Template::Discord);
        wrong.unless(!is_secret || self.url.is_none(), "url", || {
            "whoever knows the address of such a webhook may post: put it into a file and name that as url_file".into()
        });
        Webhook { http: self.http(wrong), template, secret_file: self.secret_file.take() }
    }

    fn alertmanager(&mut self, wrong: &mut Wrong) -> Alertmanager {
        wrong.unless(self.resolved, "resolved", || "must stay true: Alertmanager would show the alert for ever".into());
        let labels = self.labels.take().unwrap_or_default();
        for name in labels.keys() {
            let is_label = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            wrong.unless(is_label, "labels", || format!("{name:?} cannot be the name of a label"));
            let is_own = OWN_LABELS.contains(&name.as_str());
            wrong.unless(!is_own, "labels", || format!("the label {name} is Moon's own"));
        }
        let generator_url = self.generator_url.take();
        if let Some(url) = &generator_url {
            let is_page = url.starts_with("https://") || url.starts_with("http://");
            wrong.unless(is_page, "generator_url", || format!("{url:?} must be the http or https address of a page"));
        }
        Alertmanager { http: self.http(wrong), labels, generator_url }
    }

    fn http(&mut self, wrong: &mut Wrong) -> Http {
        let (allow_http, allow_private) = (self.allow_http.unwrap_or_default(), self.allow_private.unwrap_or_default());
        let address = match (self.url.take(), self.url_file.take()) {
            (Some(url), None) => {
                // In words a person would use; the adapter reads it by the rules of the web.
                let rest = url.strip_prefix("https://").or(url.strip_prefix("http://"));
                wrong.unless(rest.is_some_and(|rest| !rest.is_empty()), "url", || {
                    "must begin with https:// and name a host".into()
                });
                wrong.unless(allow_http || !url.starts_with("http://"), "url", || {
                    "not https: what is sent could be read and changed; allow_http = true accepts that".into()
                });
                let is_plain = !url.contains(['@', '?', '#', '\\']) && !url.contains(char::is_whitespace);
                wrong.unless(is_plain, "url", || {
                    "must be a plain address: a name, password or query in it belongs into url_file or headers_file"
                        .into()
                });
                Address::Url(url)
            }
            (None, Some(file)) => Address::File(file),
            _ => {
                wrong.unless(false, "url", || "one of url and url_file must be set".into());
                Address::Url(String::new())
            }
        };
        let (headers_file, ca_file) = (self.headers_file.take(), self.ca_file.take());
        Http { address, headers_file, ca_file, allow_http, allow_private }
    }

    fn command(&mut self, wrong: &mut Wrong) -> Command {
        let argv = self.argv.take().unwrap_or_default();
        let program = argv.first().map(String::as_str).unwrap_or_default();
        wrong.unless(!program.is_empty(), "argv", || {
            "must name a program and its arguments, e.g. [\"/usr/bin/logger\"]".into()
        });
        wrong.unless(!program.contains('/') || program.starts_with(['/', '~']), "argv", || {
            format!("{program:?} must be a name on the PATH or an absolute path")
        });
        let has_nul = argv.iter().any(|word| word.contains('\0'));
        wrong.unless(!has_nul, "argv", || "must not hold a NUL character".into());
        let environment = self.environment.take().unwrap_or_else(|| PASSED.map(str::to_owned).to_vec());
        for name in &environment {
            let is_variable = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            wrong.unless(is_variable, "environment", || format!("{name:?} cannot be the name of a variable"));
        }
        Command { argv, environment }
    }
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

/// Whether it can only be this machine.
fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == '@')
}

/// Roughly: the adapter reads it exactly.
pub(super) fn is_address(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && is_word(host.trim_end_matches('>')))
        && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(mut fields: Value) -> Result<Route, String> {
        fields["name"] = json!("ops");
        serde_json::from_value(fields).map_err(|e| e.to_string())
    }

    fn refused(fields: Value, because: &str) {
        let said = read(fields.clone()).expect_err(&fields.to_string());
        assert!(said.contains(because), "{because:?} is not in {said:?}");
    }

    #[test]
    fn a_route_of_each_kind_needs_little_and_comes_back_as_it_was_written() {
        for fields in [
            json!({"kind": "email", "host": "mail.example.org", "to": ["me@example.org"]}),
            json!({"kind": "desktop"}),
            json!({"kind": "webhook", "url": "https://example.org/hook"}),
            json!({"kind": "webhook", "url_file": "/etc/moon/slack", "template": "slack"}),
            json!({"kind": "alertmanager", "url": "http://127.0.0.1:9093", "allow_http": true, "allow_private": true}),
            json!({"kind": "command", "argv": ["logger", "-t", "moon"]}),
        ] {
            let route = read(fields).expect("read");
            let again: Route =
                serde_json::from_value(serde_json::to_value(&route).expect("written")).expect("read again");
            assert_eq!(again, route);
        }
    }

    #[test]
    fn mail_is_for_what_is_critical_and_everything_else_for_all() {
        let mail = read(json!({"kind": "email", "host": "h", "to": ["me@example.org"]})).expect("read");
        let screen = read(json!({"kind": "desktop"})).expect("read");
        assert_eq!((mail.min_severity, screen.min_severity), (Severity::Critical, Severity::Info));
        assert!(mail.resolved && screen.resolved);
        let Target::Email(email) = mail.target else { panic!("a mail route") };
        assert_eq!((email.port, email.tls, email.subject_prefix.as_str()), (587, Tls::Starttls, "[Moon]"));
    }

    #[test]
    fn a_key_of_another_kind_is_refused_with_those_there_are() {
        refused(json!({"kind": "desktop", "host": "x"}), "host: does not belong to kind = \"desktop\"");
        let webhook = json!({"kind": "webhook", "url": "https://example.org", "to": ["a@b.c"], "argv": []});
        refused(webhook.clone(), "to: does not belong to kind = \"webhook\", which has url, url_file");
        refused(webhook, "argv: does not belong");
        refused(json!({"kind": "desktop", "colour": "red"}), "unknown field `colour`");
        refused(json!({"kind": "pigeon"}), "unknown variant `pigeon`");
    }

    #[test]
    fn what_would_show_a_secret_or_trust_the_wrong_one_is_refused() {
        let mail = |more: Value| {
            let mut fields = json!({"kind": "email", "host": "mail.example.org", "to": ["me@example.org"]});
            fields.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
            fields
        };
        refused(mail(json!({"tls": "none"})), "is for this machine itself");
        refused(mail(json!({"tls": "none", "host": "127.0.0.1.example.org"})), "is for this machine itself");
        assert!(read(mail(json!({"tls": "none", "host": "127.0.0.1"}))).is_ok());
        refused(mail(json!({"username": "me"})), "belong together");
        refused(mail(json!({"to": []})), "to: must name");
        refused(mail(json!({"to": ["me"]})), "is not an e-mail address");
        refused(mail(json!({"to": ["me@example.org\r\nBcc: all@example.org"]})), "is not an e-mail address");
        refused(mail(json!({"subject_prefix": "a\nb"})), "one line");
        let hook = |url: &str| json!({"kind": "webhook", "url": url});
        refused(hook("http://example.org"), "not https");
        refused(hook("ftp://example.org"), "must begin with https://");
        refused(hook("https://"), "must begin with https://");
        refused(hook("https://me:hush@example.org"), "plain address");
        refused(hook("https://example.org/?token=hush"), "plain address");
        refused(json!({"kind": "webhook"}), "one of url and url_file");
        refused(json!({"kind": "webhook", "url": "https://hooks.slack.com/x", "template": "slack"}), "url_file");
        refused(json!({"kind": "webhook", "url": "https://example.org", "template": "teams"}), "absolute path");
        refused(json!({"kind": "command", "argv": ["./run"]}), "absolute path");
        refused(json!({"kind": "command", "argv": []}), "must name a program");
        refused(
            json!({"kind": "alertmanager", "url": "https://am", "labels": {"severity": "x"}}),
            "the label severity is Moon's own",
        );
    }

    #[test]
    fn names_are_words_and_none_is_the_log() {
        for name in ["", "Log", "a b", "9a", "log", "x\n", &"a".repeat(33)] {
            let fields = json!({"name": name, "kind": "desktop"});
            assert!(serde_json::from_value::<Route>(fields).is_err(), "{name:?}");
        }
    }
}
