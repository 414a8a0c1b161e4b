//! What the settings mean beyond their types: the one place where that is judged.
//!
//! Rules over values alone stand with the settings themselves (`moon_actors::settings`). What only the libraries that will use a value,
//! or the names that Moon knows, can judge is an error like those: it could never work. What depends on the machine as it is now is a
//! warning: a file may be there tomorrow, and a daemon must start without it. Nobody is talked to, nothing is changed, and of all
//! files an error may come of a template alone.

mod machine;
mod names;
mod values;

use super::{Environment, keys};
use crate::adapters::routes;
use moon_actors::settings::{Problem, Settings, Spot};
use std::path::Path;

/// What can never work.
pub(super) fn of_values(settings: &Settings, home: Option<&Path>, environment: &Environment) -> Vec<Problem> {
    let mut broken = values::judge(settings, home, environment);
    broken.extend(names::judge(&settings.health, environment));
    broken
}

/// Templates of routes that can never be filled in: nothing but the telling of alerts needs them.
pub(super) fn of_templates(settings: &Settings, environment: &Environment) -> Vec<Problem> {
    let faults = routes::template_faults(&settings.alerts, routes::Around::of(environment.clone())).into_iter();
    let problem = |(at, (key, message))| Problem { spot: Spot::entry("alerts.routes", at, key), message };
    faults.map(problem).collect()
}

/// What cannot work on this machine as it is now.
pub(super) fn of_machine(settings: &Settings, home: &Path, environment: &Environment) -> Vec<(Spot, String)> {
    machine::look(settings, home, environment)
}

/// How what is meant is called: `alerts.routes.host`.
pub(super) fn shown(spot: Spot) -> String {
    keys::below(spot.key, spot.entry.map(|(_, field)| field).unwrap_or_default())
}

/// What is wrong with an entry of a list, with its number where its own place is not known: in a variable or a flag. Tables have names.
pub(super) fn of_entry(spot: Spot, has_place: bool, message: String) -> String {
    match spot.entry {
        Some((at, "")) if !has_place => format!("entry {}: {message}", at + 1),
        _ => message,
    }
}
