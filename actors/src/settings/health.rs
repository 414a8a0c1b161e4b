//! `[health]`: what is looked at, how often, and when it counts as trouble.

use super::{MOMENT, NOTHING, Rules, SECOND, Spot, span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// Each check runs this often.
    #[serde(with = "span")]
    pub every: Duration,
    /// After a start nobody looks for this long: what is still starting is no trouble. The first looks are spread over some seconds behind it.
    #[serde(with = "span")]
    pub start_after: Duration,
    /// A check that has not answered by then is cut off.
    #[serde(with = "span")]
    pub timeout: Duration,
    /// The same for one that reads a whole database.
    #[serde(with = "span")]
    pub database_timeout: Duration,
    /// Free space below this is a warning, GiB. 0: not looked at.
    pub disk_low_gib: u64,
    pub disk_critical_gib: u64,
    /// Free space and free inodes below this share of the disk, percent. 0: not looked at.
    pub disk_low_percent: u32,
    pub disk_critical_percent: u32,
    /// A log file above this is a warning, MiB.
    pub log_mib: u64,
    /// A verified backup older than this.
    #[serde(with = "span")]
    pub backup_warning: Duration,
    #[serde(with = "span")]
    pub backup_critical: Duration,
    /// Pause between two attempts at putting the same thing right.
    #[serde(with = "span")]
    pub recover_cooldown: Duration,
    /// SQLite files and JSONL files of the user: paths or patterns (`~/agent/memory/*.db`).
    pub databases: Vec<String>,
    pub endpoints: Vec<Endpoint>,
    pub processes: Vec<Process>,
    pub logs: Vec<LogErrors>,
    pub commands: Vec<Command>,
    pub recover: Vec<Remedy>,
}

/// `[[health.endpoints]]`: something that must answer on the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub name: String,
    /// `tcp://host:port`, `http://…` or `https://…`.
    pub url: String,
    /// Text that must be in the answer's beginning; empty: any answer, for TCP the connection itself.
    #[serde(default)]
    pub expect: String,
    /// HTTP status that must be answered; 0: any from 200 to 299.
    #[serde(default)]
    pub status: u16,
    #[serde(default = "ten_seconds", with = "span")]
    pub timeout: Duration,
}

/// `[[health.processes]]`: something that must run, or beat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    pub name: String,
    /// File that holds its process id.
    #[serde(default)]
    pub pid_file: String,
    /// Its program (a name or an absolute path), and its first arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// File that it writes at least every `interval`; stale from twice that on.
    #[serde(default)]
    pub heartbeat_file: String,
    #[serde(default = "an_hour", with = "span")]
    pub interval: Duration,
    /// While this file is there it is stopped on purpose.
    #[serde(default)]
    pub stopped_file: String,
    /// Its systemd unit: one that was stopped in order is stopped on purpose.
    #[serde(default)]
    pub service: String,
}

/// `[[health.logs]]`: a log file that must not fill with errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogErrors {
    /// The one named `email` raises the alert `email_errors`.
    pub name: String,
    /// A path or a pattern: of several files the newest.
    pub path: String,
    /// Text that marks a line as an error, in capitals or not.
    #[serde(default = "error_text")]
    pub text: String,
    /// Lines looked at from the end, and how many of them may be errors.
    #[serde(default = "hundred")]
    pub lines: usize,
    #[serde(default = "five")]
    pub most: usize,
}

/// How a command of one's own says how things are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandFormat {
    /// A Nagios plugin: exit 0, 1, 2, 3 and performance data.
    #[default]
    Nagios,
    /// 0 is fine, everything else is critical.
    Exit,
}

/// `[[health.commands]]`: a check of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub name: String,
    /// Program (an absolute path) and arguments; no shell reads them.
    pub argv: Vec<String>,
    #[serde(default)]
    pub format: CommandFormat,
    #[serde(default = "ten_seconds", with = "span")]
    pub timeout: Duration,
}

/// `[[health.recover]]`: what may be done about an alert. Exactly one of `actor`, `service` and `argv`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remedy {
    /// The alert's rule, e.g. `daemon_critical`.
    pub rule: String,
    /// What the alert is about, e.g. the name of a process; empty: anything.
    #[serde(default)]
    pub subject: String,
    /// Restart this actor of Moon's.
    #[serde(default)]
    pub actor: String,
    /// Restart this service: a systemd unit, or a launchd label on macOS.
    #[serde(default)]
    pub service: String,
    /// The service belongs to the system, not to the user.
    #[serde(default)]
    pub system: bool,
    /// Run this program (an absolute path) with these arguments.
    #[serde(default)]
    pub argv: Vec<String>,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}
fn an_hour() -> Duration {
    Duration::from_secs(3600)
}
fn error_text() -> String {
    "error".into()
}
fn hundred() -> usize {
    100
}
fn five() -> usize {
    5
}

const HOUR: Duration = Duration::from_secs(3600);

impl Default for Health {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(300),
            start_after: Duration::from_secs(2),
            timeout: Duration::from_secs(10),
            database_timeout: Duration::from_secs(300),
            disk_low_gib: 5,
            disk_critical_gib: 2,
            disk_low_percent: 5,
            disk_critical_percent: 2,
            log_mib: 100,
            backup_warning: 26 * HOUR,
            backup_critical: 50 * HOUR,
            recover_cooldown: Duration::from_secs(300),
            databases: vec![],
            endpoints: vec![],
            processes: vec![],
            logs: vec![],
            commands: vec![],
            recover: vec![],
        }
    }
}

impl Health {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.span("health.every", self.every, SECOND);
        rules.span("health.start_after", self.start_after, NOTHING);
        rules.span("health.timeout", self.timeout, MOMENT);
        rules.span("health.database_timeout", self.database_timeout, MOMENT);
        rules.hold(self.disk_critical_gib <= self.disk_low_gib, "health.disk_critical_gib", || {
            format!("must be at most health.disk_low_gib ({})", self.disk_low_gib)
        });
        rules.within("health.disk_low_percent", self.disk_low_percent, 0..=100);
        rules.hold(self.disk_critical_percent <= self.disk_low_percent, "health.disk_critical_percent", || {
            format!("must be at most health.disk_low_percent ({})", self.disk_low_percent)
        });
        rules.within("health.log_mib", self.log_mib, 1..=1_048_576);
        rules.span("health.backup_warning", self.backup_warning, SECOND);
        rules.span("health.backup_critical", self.backup_critical, SECOND);
        rules.hold(self.backup_warning <= self.backup_critical, "health.backup_warning", || {
            "must be at most health.backup_critical".into()
        });
        rules.span("health.recover_cooldown", self.recover_cooldown, NOTHING);
        self.check_lists(rules);
        for (at, remedy) in self.recover.iter().enumerate() {
            let wrong = remedy.problem();
            let (field, message) = wrong.unwrap_or_default();
            rules.hold(message.is_empty(), Spot::entry("health.recover", at, field), || message);
        }
    }

    fn check_lists(&self, rules: &mut Rules) {
        let mut path = |spot: Spot, what: &str, path: &str, may_be_empty: bool| {
            rules.hold(is_path(path) || may_be_empty && path.is_empty(), spot, || {
                format!("{what}: {path:?} must be an absolute path or begin with ~/")
            });
        };
        for (at, entry) in self.databases.iter().enumerate() {
            path(Spot::entry("health.databases", at, ""), &format!("entry {}", at + 1), entry, false);
        }
        for (at, p) in self.processes.iter().enumerate() {
            path(Spot::entry("health.processes", at, "pid_file"), &p.name, &p.pid_file, true);
            path(Spot::entry("health.processes", at, "heartbeat_file"), &p.name, &p.heartbeat_file, true);
            path(Spot::entry("health.processes", at, "stopped_file"), &p.name, &p.stopped_file, true);
        }
        for (at, log) in self.logs.iter().enumerate() {
            path(Spot::entry("health.logs", at, "path"), &log.name, &log.path, false);
        }
        for (at, command) in self.commands.iter().enumerate() {
            let program = command.argv.first().map_or("", String::as_str);
            path(Spot::entry("health.commands", at, "argv"), &command.name, program, false);
        }
        for (at, endpoint) in self.endpoints.iter().enumerate() {
            let is_known = ["tcp://", "http://", "https://"].iter().any(|scheme| {
                endpoint.url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
            });
            rules.hold(is_known, Spot::entry("health.endpoints", at, "url"), || {
                format!("{}: {:?} must be tcp://host:port, http:// or https://", endpoint.name, endpoint.url)
            });
            rules.span(Spot::entry("health.endpoints", at, "timeout"), endpoint.timeout, MOMENT);
        }
        for (at, process) in self.processes.iter().enumerate() {
            let is_something = !process.pid_file.is_empty()
                || !process.command.is_empty()
                || !process.heartbeat_file.is_empty()
                || !process.service.is_empty();
            rules.hold(is_something, Spot::entry("health.processes", at, ""), || {
                format!("{}: needs pid_file, command, heartbeat_file or service", process.name)
            });
            rules.span(Spot::entry("health.processes", at, "interval"), process.interval, SECOND);
        }
        for (at, log) in self.logs.iter().enumerate() {
            rules.within(Spot::entry("health.logs", at, "lines"), log.lines, 1..=10_000);
        }
        for (at, command) in self.commands.iter().enumerate() {
            rules.span(Spot::entry("health.commands", at, "timeout"), command.timeout, MOMENT);
        }
        unique(rules, "health.endpoints", "name", self.endpoints.iter().map(|e| &e.name));
        unique(rules, "health.processes", "name", self.processes.iter().map(|e| &e.name));
        unique(rules, "health.logs", "name", self.logs.iter().map(|e| &e.name));
        unique(rules, "health.commands", "name", self.commands.iter().map(|e| &e.name));
        unique(rules, "health.databases", "", self.databases.iter());
    }
}

impl Remedy {
    /// The key that is wrong, and what is wrong with it.
    fn problem(&self) -> Option<(&'static str, String)> {
        let acts = [!self.actor.is_empty(), !self.service.is_empty(), !self.argv.is_empty()];
        if self.rule.is_empty() {
            return Some(("rule", "needs the rule of an alert, such as \"daemon_critical\"".into()));
        }
        if acts.iter().filter(|is_named| **is_named).count() != 1 {
            return Some(("", format!("{}: needs exactly one of actor, service and argv", self.rule)));
        }
        let program = self.argv.first().map_or("/", String::as_str);
        let wrong = || ("argv", format!("{}: {program:?} must be an absolute path or begin with ~/", self.rule));
        (!is_path(program)).then(wrong)
    }
    /// What it does, for people.
    pub fn describe(&self) -> String {
        match self {
            _ if !self.actor.is_empty() => format!("restart of the actor {}", self.actor),
            _ if !self.service.is_empty() => format!("restart of the service {}", self.service),
            _ => format!("{:?}", self.argv.join(" ")),
        }
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') || text.starts_with("~/")
}

fn unique<'n>(rules: &mut Rules, key: &'static str, field: &'static str, names: impl Iterator<Item = &'n String>) {
    let mut seen = BTreeSet::new();
    for (at, name) in names.enumerate() {
        rules.hold(!name.trim().is_empty() && seen.insert(name), Spot::entry(key, at, field), || {
            format!("{name:?} is there twice, or empty: each needs a name of its own")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    /// The broken rules of a `[health]` section, as JSON.
    fn problems(health: serde_json::Value) -> Vec<String> {
        let settings: Settings = serde_json::from_value(serde_json::json!({ "health": health })).expect("readable");
        settings.check().into_iter().map(|problem| format!("{}: {}", problem.spot.key, problem.message)).collect()
    }

    #[test]
    fn entries_that_could_never_work_are_refused_by_name() {
        use serde_json::json;
        let broken = problems(json!({
            "databases": ["memory.db", "~/a.db", "~/a.db"],
            "endpoints": [{"name": "mail", "url": "imap://localhost"}, {"name": "odd", "url": "http:///path"}],
            "processes": [{"name": "idle"}, {"name": "agent", "pid_file": "agent.pid"}],
            "logs": [{"name": "email", "path": "/var/log/mail", "lines": 0}],
            "commands": [{"name": "own", "argv": ["check_raid"]}, {"name": "none", "argv": []}],
            "recover": [{"rule": "daemon_critical"}, {"rule": "x", "actor": "index", "service": "y"}, {"rule": "", "actor": "index"}],
            "disk_low_gib": 1,
        }));
        let has = |part: &str| assert!(broken.iter().any(|line| line.contains(part)), "{part}: {broken:#?}");
        has("health.databases: entry 1: \"memory.db\" must be an absolute path");
        has("health.databases: \"~/a.db\" is there twice");
        has("health.endpoints: mail: \"imap://localhost\" must be");
        has("health.endpoints: odd:");
        has("health.processes: idle: needs");
        has("health.processes: agent: \"agent.pid\" must be an absolute path");
        has("health.logs: 0 must be between 1 and 10000");
        has("health.commands: own: \"check_raid\" must be an absolute path");
        has("health.commands: none:");
        has("health.recover: daemon_critical: needs exactly one");
        has("health.recover: x: needs exactly one");
        has("health.recover: needs the rule");
        has("health.disk_critical_gib: must be at most health.disk_low_gib (1)");
        assert_eq!(broken.len(), 13, "{broken:#?}");
    }

    #[test]
    fn what_the_example_shows_is_accepted() {
        use serde_json::json;
        let fine = problems(json!({
            "databases": ["~/agent/memory/**/*.db"],
            "endpoints": [{"name": "mail-bridge", "url": "tcp://127.0.0.1:1143", "expect": "* OK"}],
            "processes": [{"name": "agent", "heartbeat_file": "~/agent/status.json", "interval": "1h"}],
            "logs": [{"name": "email", "path": "~/agent/logs/email_*.log"}],
            "commands": [{"name": "raid", "argv": ["/usr/lib/nagios/plugins/check_raid"], "format": "exit"}],
            "recover": [{"rule": "daemon_critical", "subject": "agent", "service": "agent.service"}],
        }));
        assert_eq!(fine, Vec::<String>::new());
    }
}
