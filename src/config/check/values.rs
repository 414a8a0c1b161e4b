//! Values as those will read them who use them: paths, patterns, addresses, recipients, templates.

use super::super::{Environment, locate};
use super::names;
use crate::adapters::{backup, routes};
use crate::pattern::{self, Pattern};
use moon_actors::settings::{Health, Problem, Settings, Spot};
use reqwest::Url;
use std::path::Path;

struct Judge<'a> {
    environment: &'a Environment,
    broken: Vec<Problem>,
}

pub(super) fn judge(settings: &Settings, home: Option<&Path>, environment: &Environment) -> Vec<Problem> {
    let mut judge = Judge { environment, broken: Vec::new() };
    judge.paths(settings);
    judge.health(&settings.health);
    judge.alerts(settings);
    judge.backup(settings);
    judge.rotation(settings, home);
    judge.wrong("log.level", names::level(&settings.log.level));
    judge.broken
}

impl Judge<'_> {
    fn wrong(&mut self, spot: impl Into<Spot>, message: Option<String>) {
        let spot = spot.into();
        self.broken.extend(message.map(|message| Problem { spot, message }));
    }

    /// Paths must mean the same wherever Moon is started, and a program must never come from the working directory.
    fn paths(&mut self, settings: &Settings) {
        let paths = [
            ("watch.transcripts_dir", &settings.watch.transcripts_dir),
            ("openclaw.state_dir", &settings.openclaw.state_dir),
            ("openclaw.token_file", &settings.openclaw.token_file),
            ("openclaw.command", &settings.openclaw.command),
        ];
        let is_name = |key: &str, text: &str| key == "openclaw.command" && !text.contains('/');
        for (key, text) in paths {
            if !text.is_empty() && !is_name(key, text) {
                self.wrong(key, locate::expand(Path::new(text), self.environment).err());
            }
        }
    }

    fn health(&mut self, health: &Health) {
        for (at, entry) in health.databases.iter().enumerate() {
            self.pattern(Spot::entry("health.databases", at, ""), entry);
        }
        for (at, log) in health.logs.iter().enumerate() {
            self.pattern(Spot::entry("health.logs", at, "path"), &log.path);
        }
        for (at, endpoint) in health.endpoints.iter().enumerate() {
            let wrong = address(&endpoint.url).err().map(|why| format!("{}: {why}", endpoint.name));
            self.wrong(Spot::entry("health.endpoints", at, "url"), wrong);
        }
    }

    fn pattern(&mut self, spot: Spot, text: &str) {
        if pattern::is_pattern(text) {
            self.wrong(spot, unusable(text));
        }
    }

    fn alerts(&mut self, settings: &Settings) {
        for (at, address) in settings.alerts.email_to.iter().enumerate() {
            self.wrong(Spot::entry("alerts.email_to", at, ""), routes::address_fault(address));
        }
        for (at, (key, message)) in routes::faults(&settings.alerts, routes::Around::of(self.environment.clone())) {
            self.wrong(Spot::entry("alerts.routes", at, key), Some(message));
        }
    }

    fn backup(&mut self, settings: &Settings) {
        let backup = &settings.backup;
        for (at, text) in backup.recipients.iter().enumerate() {
            self.wrong(Spot::entry("backup.recipients", at, ""), backup::recipient_fault(text));
        }
        for (at, text) in backup.exclude.iter().enumerate() {
            let wrong = backup::exclusion_fault(text).map(|why| format!("the pattern {text:?} cannot be used: {why}"));
            self.wrong(Spot::entry("backup.exclude", at, ""), wrong);
        }
        let bucket = backup.s3_url.strip_prefix("s3://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let is_bucket = bucket.chars().all(|c| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&c));
        self.wrong("backup.s3_url", (!is_bucket).then(|| format!("{bucket:?} cannot be the name of a bucket")));
        if !backup.s3_endpoint.is_empty() {
            self.wrong("backup.s3_endpoint", address(&backup.s3_endpoint).err());
        }
    }

    fn rotation(&mut self, settings: &Settings, home: Option<&Path>) {
        for (at, file) in settings.rotation.files.iter().enumerate() {
            let spot = Spot::entry("rotation.files", at, "path");
            self.wrong(spot, unusable(&file.path));
            let Some((home, path)) = home.zip(locate::expand(Path::new(&file.path), self.environment).ok()) else {
                continue;
            };
            let is_no_log = crate::home::Home::at(home).holds_no_log(&path);
            self.wrong(
                spot,
                is_no_log.then(|| {
                    format!("{:?} names files of Moon's home, which are no logs: they are never rotated", file.path)
                }),
            );
        }
    }
}

fn unusable(text: &str) -> Option<String> {
    Pattern::new(text).err().map(|why| format!("the pattern {text:?} cannot be used: {why}"))
}

/// Whether an address names a host, and a port where there is no usual one. The text is not repeated: a password may stand in it.
fn address(text: &str) -> Result<(), String> {
    let host_and_port = match text.strip_prefix("tcp://") {
        Some(rest) => rest.trim_end_matches('/').rsplit_once(':').ok_or("needs a port, as in tcp://127.0.0.1:1143"),
        None => Ok((text, "0")),
    };
    let (host, port) = host_and_port?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err("needs a host and a port, as in tcp://127.0.0.1:1143".into());
    }
    match text.starts_with("http") {
        true => Url::parse(text).map(drop).map_err(|e| format!("cannot be read as an address: {e}")),
        false => Ok(()),
    }
}
