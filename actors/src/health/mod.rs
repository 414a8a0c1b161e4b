//! Looks after what Moon and the agent need: every check always runs, each on its own, whatever the others find.
//!
//! A check says what it sees ([`crate::port::Check`]), the policy what that means and who is told, the engine writes it down and raises
//! alerts in the ledger. What may be put right is what the settings name, a few times, and never against somebody's will.

pub mod actor;
pub mod engine;
pub mod policy;

use crate::domain::Condition;
use crate::port::CheckRow;
use serde_json::{Value, json};

/// The worst of all: critical before warning before what nobody knows.
pub fn verdict<'r>(rows: impl IntoIterator<Item = &'r CheckRow>) -> Condition {
    rows.into_iter().map(|row| row.condition).max().unwrap_or(Condition::Unknown)
}

/// The part `health` of the status document. Each check names the alerts that it has raised, so that nobody shows both.
pub fn document(rows: &[CheckRow]) -> Value {
    let check = |row: &CheckRow| {
        let mut shown = json!(row);
        shown["alerts"] = row.kept.raised.iter().map(|raised| json!(raised.key)).collect();
        shown
    };
    json!({ "verdict": verdict(rows), "checks": rows.iter().map(check).collect::<Vec<_>>() })
}
