//! The settings as they are in force, and where each one came from.
//!
//! ```text
//! flag > environment > file > default
//! ```
//!
//! The file is `--config`, else `MOON_CONFIG_PATH` (or `MOON_CONFIG`), else `moon.toml` in the home. Every problem of every
//! source is reported at once. What it must never do: read a file from the working directory that nobody named, take a
//! value it could not understand for a default without saying so, or show a secret.

mod check;
mod file;
mod items;
mod keys;
mod layers;
mod locate;
mod origin;

pub use keys::{all as keys, mask};
pub use locate::expand;
pub use origin::Origin;

use crate::cli::output::escape;
use moon_actors::settings::{Settings, Spot};
use moon_actors::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The process's environment, or a test's.
pub type Environment = BTreeMap<OsString, OsString>;

/// What to read. Made by the command line, or by a test.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--home`
    pub home: Option<PathBuf>,
    /// `--config`
    pub file: Option<PathBuf>,
    /// `--set KEY=VALUE`, in order.
    pub set: Vec<String>,
    pub environment: Environment,
    /// False for commands that stay apart from the installation (`demo`, `bench`): no settings file is looked for and of the
    /// environment only the user's home folder is used.
    pub installation: bool,
}

/// Settings that obey every rule, with the origin of each key.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// The home's folder, absolute. Not looked at yet.
    pub home: PathBuf,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Dotted key to origin, for every key.
    pub origins: BTreeMap<String, Origin>,
    /// Where the entries of lists stand in the file.
    entries: origin::Entries,
    /// What is odd but usable, to be logged once.
    pub warnings: Vec<String>,
}

/// One thing that is wrong: where (`moon.toml:12:1`, `MOON_WATCH_POLL`, `--set`), which key, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: String,
    /// Dotted key; empty when the whole file is meant.
    pub key: String,
    pub message: String,
}

impl fmt::Display for Problem {
    /// One line, whatever the file holds: a key with a line break in it must not look like another problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.key] {
            if !part.is_empty() {
                write!(f, "{}: ", escape(part))?;
            }
        }
        f.write_str(&escape(&self.message))
    }
}

impl Problem {
    /// Those of the file by their line, then all others as they were found.
    fn position(&self) -> (bool, usize, usize) {
        let mut numbers = self.place.rsplitn(3, ':').map(|part| part.parse::<usize>().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(column), Some(line)) => (false, line, column),
            _ => (true, 0, 0),
        }
    }
}

/// Reads and checks everything. `Err` lists all problems: those of the file by their line, then those of environment and flags.
pub fn load(sources: &Sources) -> std::result::Result<Loaded, Vec<Problem>> {
    layers::load(sources)
}

/// Of sources that [`load`] refuses, what some commands can do with.
pub enum Usable {
    /// The settings as they are: only templates of routes are wrong.
    AllButTemplates(Loaded),
    /// The home, and everything else as it is by default.
    HomeAlone(Loaded),
}

/// `None` when not even the home is known.
pub fn usable(sources: &Sources) -> Option<Usable> {
    layers::usable(sources)
}

/// Of sources that [`load`] refuses, what is to be said beside the problems: what is odd but usable, and what this machine lacks.
pub fn beside(sources: &Sources) -> (Vec<String>, Vec<Problem>) {
    layers::beside(sources)
}

/// All problems as the one error that is printed and mapped to an exit code.
pub fn as_error(problems: &[Problem]) -> Error {
    let causes: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let message = match problems.len() {
        1 => "could not use the configuration".to_owned(),
        count => format!("could not use the configuration: {count} problems"),
    };
    Error::config("config.invalid", message)
        .cause(causes.join("\n"))
        .hint("`moon config check` shows the problems again, `moon.toml.example` every key with its default")
}

/// The environment of this process.
pub fn process_environment() -> Environment {
    std::env::vars_os().collect()
}

impl Loaded {
    /// What the settings name and this machine does not have now, or not as it is needed: each would fail later. Nobody is talked to.
    pub fn missing(&self, environment: &Environment) -> Vec<Problem> {
        let found = check::of_machine(&self.settings, &self.home, environment).into_iter();
        let found = found.filter(|(spot, message)| !origin::is_told(&self.entries, *spot, message));
        let problem = |(spot, message): (Spot, String)| {
            let own = origin::place_of(&self.entries, spot);
            let message = check::of_entry(spot, own.is_some(), message);
            let place = own.or_else(|| self.origins.get(spot.key).map(Origin::place)).unwrap_or_default();
            Problem { place, key: check::shown(spot), message }
        };
        let mut missing: Vec<Problem> = found.map(problem).collect();
        missing.sort_by_key(Problem::position);
        missing
    }

    /// Every key with its value as TOML text (secrets masked) and its origin, sections in the order of the documentation.
    pub fn entries(&self) -> Result<Vec<(String, String, Origin)>> {
        let table = toml::Table::try_from(&self.settings)
            .map_err(|e| Error::data("config.unprintable", "could not write out the settings").cause(e))?;
        let entry = |key: String| {
            let value = keys::lookup(&table, &key).map(|value| mask(&key, value)).unwrap_or_default();
            let origin = self.origins.get(&key).cloned().unwrap_or(Origin::Default);
            (key, value, origin)
        };
        Ok(keys::all().into_iter().map(entry).collect())
    }
}
