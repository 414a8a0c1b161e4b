//! Where one value came from.

use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;

/// The source of one value, weakest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Default,
    /// Line counted from one.
    File { path: PathBuf, line: usize },
    /// Name of the variable.
    Environment(String),
    /// Name of the flag, with its dashes.
    Flag(String),
}

impl Origin {
    /// How a person finds the place: `/srv/moon/moon.toml:12`, `MOON_WATCH_POLL`, `--home`; empty for a default.
    pub fn place(&self) -> String {
        match self {
            Self::Default => String::new(),
            Self::File { path, line } => format!("{}:{line}", path.display()),
            Self::Environment(name) | Self::Flag(name) => name.clone(),
        }
    }
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
