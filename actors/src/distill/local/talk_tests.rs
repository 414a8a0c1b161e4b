//! What the distiller finds in talks where every statement worth keeping is marked, and what it finds besides.
//!
//! The talks are invented for this project and stand in `talks`: people talk as they do, few of them use a label. Those in
//! `talks/held` were written before the rules and run only when these were finished. Minimum figures have some margin
//! below what is reached; they are there to notice a change for the worse, not to prove perfection.

#![expect(clippy::print_stdout, reason = "the figures are for whoever changes a rule")]

use super::*;
use crate::domain::{SessionKey, Sha256, Turn};
use std::collections::BTreeMap;

/// A statement that a reader would note.
#[derive(Clone, Debug)]
struct Planted {
    kind: ItemKind,
    /// Revoked later in the talk, so that it must not be there.
    stale: bool,
    text: String,
}

/// What was planted and what was found, for one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    planted: usize,
    found: usize,
    given: usize,
    right: usize,
    stale: usize,
}

impl Figures {
    fn recall(self) -> f64 {
        if self.planted == 0 { 1.0 } else { self.found as f64 / self.planted as f64 }
    }

    fn precision(self) -> f64 {
        if self.given == 0 { 1.0 } else { self.right as f64 / self.given as f64 }
    }
}

/// The text without its marks, `{{D|…}}`, and what they mark.
fn unmarked(line: &str, planted: &mut Vec<Planted>) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, marked)) = rest.split_once("{{") {
        let (inside, after) = marked.split_once("}}").expect("a mark is closed");
        let (name, words) = inside.split_once('|').expect("a mark has a name");
        let kind = match &name[..1] {
            "D" => ItemKind::Decision,
            "R" => ItemKind::Rule,
            "T" => ItemKind::OpenTask,
            "Q" => ItemKind::Question,
            "M" => ItemKind::Milestone,
            other => panic!("no kind is called {other}"),
        };
        planted.push(Planted { kind, stale: name.ends_with('x'), text: words.to_owned() });
        text.push_str(before);
        text.push_str(words);
        rest = after;
    }
    text + rest
}

/// A talk as turns, and what is planted in it.
fn talk(source: &str) -> (DistillInput, Vec<Planted>) {
    let mut planted = Vec::new();
    let mut turns = Vec::new();
    for (seq, line) in source.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).enumerate() {
        let (who, words) = line.split_once(':').expect("a line begins with who speaks");
        let role = match who {
            "U" => Role::User,
            "A" | "C" => Role::Assistant,
            "T" => Role::Tool,
            other => panic!("nobody is called {other}"),
        };
        let text = unmarked(words.trim(), &mut planted);
        let turn = Turn { seq: seq as i64, at: None, role, speaker: role.as_str().into(), text };
        turns.push((Sha256::of(b"segment"), turn));
    }
    (DistillInput { session: SessionKey::from("agent:main:main"), turns, max_items: 40 }, planted)
}

/// Whether an item is the planted statement or a part of it that stands for it.
fn is_it(item: &str, planted: &str) -> bool {
    let item = item.strip_prefix("Done: ").unwrap_or(item).trim();
    planted.contains(item) && item.chars().count() * 3 >= planted.chars().count() || item.contains(planted)
}

const KINDS: [ItemKind; 5] =
    [ItemKind::Decision, ItemKind::Rule, ItemKind::Milestone, ItemKind::OpenTask, ItemKind::Question];

/// Runs talks and counts; says on the way what was missed, what is stale and what nobody planted.
fn evaluate(talks: &[(&str, &str)]) -> BTreeMap<ItemKind, Figures> {
    let mut all: BTreeMap<ItemKind, Figures> = BTreeMap::new();
    for (name, source) in talks {
        let (input, planted) = talk(source);
        let distillate = extract(&input);
        for kind in KINDS {
            let given: Vec<&Item> = distillate.of(kind).collect();
            let (stale, wanted): (Vec<_>, Vec<_>) = planted.iter().filter(|p| p.kind == kind).partition(|p| p.stale);
            let figures = all.entry(kind).or_default();
            figures.planted += wanted.len();
            figures.given += given.len();
            for planted in &wanted {
                let found = given.iter().any(|item| is_it(&item.text, &planted.text));
                figures.found += usize::from(found);
                if !found {
                    println!("{name}: missed {kind:?}: {}", planted.text);
                }
            }
            for item in &given {
                let right = wanted.iter().any(|planted| is_it(&item.text, &planted.text));
                let old = !right && stale.iter().any(|planted| is_it(&item.text, &planted.text));
                figures.right += usize::from(right);
                figures.stale += usize::from(old);
                if !right {
                    let what = if old { "stale" } else { "not planted" };
                    println!("{name}: {what} {kind:?}: {} ({})", item.text, item.reference.speaker);
                }
            }
        }
    }
    for (kind, f) in &all {
        println!(
            "{kind:?}: recall {}/{} ({:.2}), precision {}/{} ({:.2}), stale {}",
            f.found,
            f.planted,
            f.recall(),
            f.right,
            f.given,
            f.precision(),
            f.stale
        );
    }
    all
}

/// Least recall and precision of a kind, and most statements that were revoked.
type Least = (ItemKind, f64, f64, usize);

fn check(talks: &[(&str, &str)], least: &[Least]) {
    let figures = evaluate(talks);
    for (kind, recall, precision, stale) in least {
        let f = figures[kind];
        assert!(f.recall() >= *recall && f.precision() >= *precision && f.stale <= *stale, "{kind:?}: {f:?}");
    }
}

macro_rules! talks {
    ($($name:literal),*) => { [$(($name, include_str!(concat!("talks/", $name, ".txt")))),*] };
}

#[test]
fn of_talks_in_seven_languages_most_is_found_and_little_else() {
    let talks = talks!["game", "mail", "wedding", "garten", "cafe", "choir", "librairie", "taller", "chatter"];
    check(
        &talks,
        &[
            (ItemKind::Decision, 0.90, 0.85, 0),
            (ItemKind::Rule, 0.90, 0.90, 0),
            (ItemKind::Milestone, 0.70, 0.60, 0),
            (ItemKind::OpenTask, 0.90, 0.70, 0),
            (ItemKind::Question, 0.85, 0.80, 0),
        ],
    );
}

#[test]
fn talks_that_no_rule_was_written_for_are_read_nearly_as_well() {
    let talks = talks!["held/bakery", "held/idle", "held/podcast", "held/sensors", "held/theatre", "held/zhuangxiu"];
    check(
        &talks,
        &[
            (ItemKind::Decision, 0.70, 0.70, 1),
            (ItemKind::Rule, 0.75, 0.75, 0),
            (ItemKind::Milestone, 0.60, 0.40, 0),
            (ItemKind::OpenTask, 0.70, 0.65, 0),
            (ItemKind::Question, 0.80, 0.80, 0),
        ],
    );
}
