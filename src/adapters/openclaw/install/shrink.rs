//! Takes Moon's changes back in as many writes as OpenClaw accepts: it refuses a single one that halves a small file.
//!
//! Its rule (2026.9.6): a file of 512 bytes or more must not become smaller than half of its size by one write, and no option
//! of `openclaw config` lifts that. Every stage in between is a configuration OpenClaw accepts and can run with: first its own
//! compaction is back, then the plugin is no longer loaded, then what is left of its entry goes.
//!
//! It must never put anything into a stage that is in neither the configuration nor what was before.

use super::edit::{self, Change, Outcome};
use serde_json::{Value, json};

/// Smaller files are not watched. Below OpenClaw's 512, as the size is computed, not measured.
const WATCHED_FROM: usize = 480;
/// What one write must leave of a watched file, in percent. Above OpenClaw's 50, for the same reason.
const KEPT_PERCENT: usize = 55;

/// The configurations to be written one after the other, the last one without anything of Moon's; none if nothing changes.
/// A change too large to be made smaller is a stage of its own all the same: OpenClaw decides.
pub(super) fn stages(config: &Value, changes: &[Change]) -> (Vec<Value>, Vec<Outcome>) {
    let mut ordered: Vec<&Change> = changes.iter().collect();
    ordered.sort_by_key(|change| rank(&change.path));
    let mut outcomes = Vec::new();
    let mut steps = vec![config.clone()];
    for change in ordered {
        let mut next = steps[steps.len() - 1].clone();
        outcomes.extend(edit::revert(&mut next, std::slice::from_ref(change)));
        steps.push(next);
    }
    steps.dedup();
    let mut stages = Vec::new();
    let mut written = 0;
    while written + 1 < steps.len() {
        // As far as one write may go; the next step if not even that one may.
        let furthest = (written + 1..steps.len()).rev().find(|to| is_accepted(&steps[written], &steps[*to]));
        written = furthest.unwrap_or(written + 1);
        stages.push(steps[written].clone());
    }
    (stages, outcomes)
}

/// The order in which the changes can be taken back one by one. Other plugins must never be switched on on the way
/// (`plugins.enabled` before `plugins.allow`), and the entry must not lose its settings while the plugin is loaded.
fn rank(path: &[String]) -> u8 {
    match (path.first().map(String::as_str), path.get(1).map(String::as_str)) {
        (Some("agents"), _) => 0,
        (_, Some("enabled")) => 1,
        (_, Some("load")) => 2,
        (_, Some("allow")) => 3,
        _ => 4,
    }
}

fn is_accepted(from: &Value, to: &Value) -> bool {
    let (before, after) = (bytes(from), bytes(to));
    before < WATCHED_FROM || after * 100 >= before * KEPT_PERCENT
}

/// The size of the file OpenClaw would write: indented by two, with its stamp.
fn bytes(config: &Value) -> usize {
    let mut config = config.clone();
    if let Some(parts) = config.as_object_mut() {
        parts.entry("meta").or_insert_with(|| json!({"lastTouchedVersion": "2026.9.6"}));
    }
    serde_json::to_string_pretty(&config).map_or(0, |text| text.len())
}
