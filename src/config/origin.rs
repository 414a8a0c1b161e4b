//! Where one value came from.

use super::items::Told;
use moon_actors::settings::Spot;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The source of one value, weakest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Default,
    /// Line and column of the key, counted from one.
    File { path: PathBuf, line: usize, column: usize },
    /// Name of the variable.
    Environment(String),
    /// Name of the flag, with its dashes.
    Flag(String),
}

impl Origin {
    /// How a person and an editor find the place: `/srv/moon/moon.toml:12:1`, `MOON_WATCH_POLL`, `--home`; empty for a default.
    pub fn place(&self) -> String {
        match self {
            Self::Default => String::new(),
            Self::File { path, line, column } => format!("{}:{line}:{column}", path.display()),
            Self::Environment(name) | Self::Flag(name) => name.clone(),
        }
    }
}

/// Where an entry of a list stands in a file, and each of its keys.
#[derive(Clone, Debug, Default)]
pub(super) struct EntryPlace {
    pub(super) place: String,
    pub(super) fields: BTreeMap<String, String>,
    /// What was complained of in it when it was read.
    pub(super) told: Told,
}

/// Lists by their key.
pub(super) type Entries = BTreeMap<String, Vec<EntryPlace>>;

/// Whether a broken rule says nothing new of an entry that could not be read as it stands.
pub(super) fn is_told(entries: &Entries, spot: Spot, message: &str) -> bool {
    let entry = spot.entry.and_then(|(index, field)| Some((entries.get(spot.key)?.get(index)?, field)));
    entry.is_some_and(|(entry, field)| entry.told.covers(field, message))
}

/// Where an entry stands, or the key of it that is meant. `None`: in no file.
pub(super) fn place_of(entries: &Entries, spot: Spot) -> Option<String> {
    let (index, field) = spot.entry?;
    let entry = entries.get(spot.key)?.get(index)?;
    Some(entry.fields.get(field).unwrap_or(&entry.place).clone())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { .. } => f.write_str(&self.place()),
            Self::Environment(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
