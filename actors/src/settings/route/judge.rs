//! What may be written into the table of a route: every mistake at once, each with its key.

use super::written::{Kind, Written};
use super::{Address, Alertmanager, Command, Email, Http, Route, Target, Template, Tls, Webhook};
use crate::port::Severity;
use std::time::Duration;

/// Keys of every route.
const COMMON: [&str; 5] = ["name", "kind", "min_severity", "resolved", "timeout"];
const NAME_MAX: usize = 32;
/// What a command needs to be found and to know where it is.
const PASSED: [&str; 4] = ["HOME", "LANG", "PATH", "TZ"];
/// Labels that Moon gives itself.
const OWN_LABELS: [&str; 5] = ["alertname", "host", "severity", "source", "subject"];

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
pub(in crate::settings) fn is_address(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && is_word(host.trim_end_matches('>')))
        && !text.contains(char::is_control)
}
