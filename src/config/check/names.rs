//! Names in the settings that must be those of something: rules, actors and subjects of `[[health.recover]]`, levels of the log.

use super::super::{Environment, keys, locate};
use crate::pattern::Pattern;
use moon_actors::alert::rules;
use moon_actors::settings::{Health, Problem, Remedy, Spot};
use moon_actors::tree;
use std::path::Path;

/// Words a log level may be; anything else must look like a filter.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn judge(health: &Health, environment: &Environment) -> Vec<Problem> {
    let mut broken = Vec::new();
    for (at, remedy) in health.recover.iter().enumerate() {
        let wrong =
            [("rule", rule(remedy)), ("actor", actor(remedy)), ("subject", subject(remedy, health, environment))];
        for (field, message) in wrong {
            broken.extend(message.map(|message| Problem { spot: Spot::entry("health.recover", at, field), message }));
        }
    }
    broken
}

fn rule(remedy: &Remedy) -> Option<String> {
    let name = remedy.rule.as_str();
    if name.is_empty() || rules::OF_CHECKS.contains(&name) {
        return None;
    }
    Some(match rules::find(name) {
        Some(_) => {
            format!("no check raises {name:?}, so nothing would be done; there are {}", rules::OF_CHECKS.join(", "))
        }
        None => unknown("rule of a check", name, rules::OF_CHECKS.iter().copied()),
    })
}

fn actor(remedy: &Remedy) -> Option<String> {
    let name = remedy.actor.as_str();
    let is_known = name.is_empty() || tree::NAMES.contains(&name);
    (!is_known).then(|| unknown("actor", name, tree::NAMES.iter().copied()))
}

/// Only of rules whose alerts are about something that the settings name.
fn subject(remedy: &Remedy, health: &Health, environment: &Environment) -> Option<String> {
    let subject = remedy.subject.as_str();
    let (what, known): (&str, Vec<&str>) = match remedy.rule.as_str() {
        "daemon_critical" => ("\"moon\" or a name of health.processes", processes(health, &["moon"])),
        "daemon_degraded" => {
            ("\"moon\", \"heartbeat\" or a name of health.processes", processes(health, &["moon", "heartbeat"]))
        }
        "endpoint.down" => ("a name of health.endpoints", health.endpoints.iter().map(|e| e.name.as_str()).collect()),
        "command.failed" => ("a name of health.commands", health.commands.iter().map(|c| c.name.as_str()).collect()),
        "logs.errors" | "email_errors" => {
            ("a name of health.logs", health.logs.iter().map(|log| log.name.as_str()).collect())
        }
        "disk_low" | "disk_critical" | "inodes.low" => ("\"moon\"", vec!["moon"]),
        "backup.old" | "backup.corrupt" => ("\"backup\"", vec!["backup"]),
        "index.behind" => ("\"index\"", vec!["index"]),
        "clock.set_back" => ("\"clock\"", vec!["clock"]),
        "memory_corrupt" if is_watched(subject, health, environment) => return None,
        "memory_corrupt" => (
            "\"ledger\", the path of an archived object, or the whole path of a file of health.databases",
            vec!["ledger"],
        ),
        _ => return None,
    };
    if subject.is_empty() || known.contains(&subject) {
        return None;
    }
    let near = keys::nearest(subject, known.iter().copied()).map(|near| format!("; did you mean \"{near}\"?"));
    Some(format!("alerts {:?} are about {what}, and never about {subject:?}{}", remedy.rule, near.unwrap_or_default()))
}

/// Whether a database or an object of the archive may be called so.
fn is_watched(subject: &str, health: &Health, environment: &Environment) -> bool {
    let is_of = |entry: &String| {
        let path = locate::expand(Path::new(entry), environment).unwrap_or_default();
        let pattern = Pattern::new(&path.to_string_lossy()).ok();
        path == Path::new(subject) || pattern.is_some_and(|pattern| pattern.matches(Path::new(subject)))
    };
    subject.starts_with("archives/objects/") || health.databases.iter().any(is_of)
}

fn processes<'h>(health: &'h Health, own: &[&'h str]) -> Vec<&'h str> {
    own.iter().copied().chain(health.processes.iter().map(|process| process.name.as_str())).collect()
}

fn unknown<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    match keys::nearest(name, known.clone()) {
        Some(near) => format!("unknown {what} {name:?}; did you mean \"{near}\"?"),
        None => format!("unknown {what} {name:?}; there are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// A plain word must be a level: as a filter, `inof` would silently mean "everything of a part called inof".
pub(super) fn level(level: &str) -> Option<String> {
    let is_filter = level.contains(['=', ',']);
    if is_filter {
        return tracing_subscriber::EnvFilter::builder().parse(level).err().map(|e| format!("not a filter: {e}"));
    }
    if LEVELS.contains(&level.to_lowercase().as_str()) {
        return None;
    }
    Some(match keys::nearest(level, LEVELS) {
        Some(near) => format!("unknown level {level:?}; did you mean \"{near}\"?"),
        None => format!("unknown level {level:?}; there are {}, or a filter such as moon=debug", LEVELS.join(", ")),
    })
}
