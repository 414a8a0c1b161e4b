//! A restore that was interrupted, as its journal tells of it: what it was, and what the next opening of the home makes of it.

use super::{absolute, singles, swap};
use crate::home::Home;
use serde::Serialize;
use std::path::PathBuf;

/// Most places that are named.
const SHOWN: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interrupted {
    /// The id of the backup, or `undo`.
    pub from: String,
    /// What it puts in place.
    pub places: Vec<PathBuf>,
    pub will_be: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Finished,
    /// Nothing is in its place yet, and nothing will be.
    TakenBack,
}

/// The one of this home, if there is one and nobody is at work on it. Touches nothing.
pub fn interrupted(home: &Home) -> Option<Interrupted> {
    let place = absolute(home).ok()?;
    singles::under_way(&place).or_else(|| swap::under_way(&place))
}

impl Interrupted {
    pub(super) fn new(from: String, places: Vec<PathBuf>, is_begun: bool) -> Self {
        Self { from, places, will_be: if is_begun { Fate::Finished } else { Fate::TakenBack } }
    }

    pub fn is_undo(&self) -> bool {
        self.from == "undo"
    }

    /// What it was, for people.
    pub fn what(&self) -> String {
        let what = if self.is_undo() { "an undo".to_owned() } else { format!("the backup {}", self.from) };
        let places: Vec<String> = self.places.iter().take(SHOWN).map(|place| place.display().to_string()).collect();
        let more = self.places.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{what}, in the place of {}{more}", places.join(", "))
    }
}
