//! Statements weighed against each other: repetitions go, revised decisions go, finished tasks go.
//!
//! Used over one session's turns and again over several distillates when a continuity map is built. Comparison is by
//! shared stems, so it knows topics, not meanings; therefore a statement goes only when a later one names it or is about
//! all of it. Two statements that both stand are a smaller harm than one that is lost: in doubt both stay. Must stay
//! bounded: only the most salient statements are compared.

use super::dialogue::Draft;
use super::label;
use super::lexicon::{self, Cue};
use super::verbs::{self, Verbs};
use super::words::{shared, stems};
use crate::domain::{Item, ItemKind, Role};

/// At most this many statements of one kind are compared with each other.
pub(crate) const MOST: usize = 600;

/// At most this many stems of one statement.
const STEMS: usize = 64;

/// Times a person may have spoken between a decision and the "on second thought" that revokes it without naming it.
const NEAR: usize = 4;

/// A candidate for an item.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub kind: ItemKind,
    pub text: String,
    /// Position among all statements; grows with time.
    pub order: usize,
    /// Index of the turn it was read from.
    pub turn: usize,
    pub salience: i32,
    /// What it is about.
    pub stems: Vec<u64>,
    /// Told by a summary or a system text: it repeats, so it never takes the place of what was said first.
    hearsay: bool,
    /// Said by the agent.
    agent: bool,
    labelled: bool,
    /// How many times a person had spoken; unknown for what was extracted before.
    round: Option<usize>,
    revision: Revision,
    /// What a task asks to do, or what a report says was done.
    verbs: Verbs,
}

/// Whether and how a statement says that something earlier no longer holds.
#[derive(Clone, Debug, Default)]
struct Revision {
    revises: bool,
    /// In words that point back: "on second thought".
    strong: bool,
    /// What it names as no longer holding, each by itself.
    old: Vec<Vec<u64>>,
    /// Says itself what is not to be: naming that again revokes nothing.
    negative: bool,
}

impl From<Draft> for Statement {
    fn from(draft: Draft) -> Self {
        let new = Self::new(draft.kind, draft.text, draft.order, draft.turn, draft.salience);
        let hearsay = matches!(draft.role, Role::Summary | Role::System);
        Self { hearsay, agent: draft.role == Role::Assistant, round: Some(draft.round), ..new }
    }
}

impl Statement {
    fn new(kind: ItemKind, text: String, order: usize, turn: usize, salience: i32) -> Self {
        let label = label::of(&text);
        let plain = label.map_or_else(|| label::spoken(&text), |label| &text[label.end..]);
        let revision = revision(plain);
        let verbs = match kind {
            ItemKind::OpenTask => verbs::asked(plain),
            ItemKind::Milestone => verbs::reported(plain),
            _ => Verbs::default(),
        };
        let mut stems = stems(plain);
        // The smallest hashes of a long statement: a sample that two long statements take alike.
        stems.truncate(STEMS);
        let (hearsay, agent, round, labelled) = (false, false, None, label.is_some());
        Self { kind, order, turn, salience, stems, hearsay, agent, labelled, round, revision, verbs, text }
    }

    /// An item that was extracted before, at position `order`.
    pub(crate) fn of(item: &Item, order: usize) -> Self {
        let agent = item.reference.speaker == Role::Assistant.as_str();
        Self { agent, ..Self::new(item.kind, item.text.clone(), order, order, item.salience) }
    }
}

/// Phrases behind which stands what no longer holds. Only such that name it plainly: "from" and "replace" are said of
/// too many other things.
const BEFORE: [&str; 34] = [
    "instead of ",
    "in place of ",
    "rather than ",
    "no longer use ",
    "no longer ",
    "won't use ",
    "will not use ",
    "not use ",
    "decided against ",
    "switch from ",
    "switched from ",
    "switching from ",
    "move from ",
    "moved from ",
    "moving from ",
    "migrate from ",
    "away from ",
    "forget ",
    "not with ",
    "anstatt ",
    "anstelle von ",
    "statt ",
    "nicht mehr ",
    "au lieu de ",
    "au lieu du ",
    "à la place de ",
    "en lugar de ",
    "en vez de ",
    "ya no ",
    "вместо ",
    "больше не ",
    "而不是",
    "不再用",
    "をやめて",
];

fn revision(text: &str) -> Revision {
    let scores = lexicon::scores(text);
    let strong = scores.of(Cue::Strong) > 0;
    let revises = strong || scores.of(Cue::Revision) > 0;
    let negative = scores.of(Cue::Not) > 0;
    Revision { revises, strong, negative, old: if revises { old(text) } else { Vec::new() } }
}

/// Stems of the few words behind "instead of" and its like, up to what replaces them.
fn old(text: &str) -> Vec<Vec<u64>> {
    let lower = text.to_lowercase();
    let mut found = Vec::new();
    for mark in BEFORE {
        let Some((head, rest)) = lower.split_once(mark) else { continue };
        let whole = mark.ends_with(' ') && head.chars().next_back().is_none_or(|c| !c.is_alphanumeric());
        if mark.ends_with(' ') && !whole {
            continue;
        }
        let rest = if mark == "をやめて" { head } else { rest };
        let end = rest.find([',', ';', '.', '!', '，', '。', '、']).unwrap_or(rest.len());
        let words: Vec<&str> = rest[..end].split_whitespace().collect();
        let stops = |w: &&str| {
            matches!(*w, "to" | "with" | "by" | "and" | "for" | "in" | "on" | "durch" | "par" | "für" | "por")
        };
        let begin = words.iter().position(|w| !stops(w)).unwrap_or_default();
        let stop = words[begin..].iter().position(stops).unwrap_or(words.len() - begin).min(6);
        found.push(stems(&words[begin..begin + stop].join(" ")));
    }
    found.retain(|old| !old.is_empty());
    found
}

/// What remains, in the order of `order`. Input in that order.
pub(crate) fn settle(statements: Vec<Statement>) -> Vec<Statement> {
    let mut kinds: Vec<Vec<Statement>> = vec![Vec::new(); ItemKind::ALL.len()];
    for statement in statements {
        kinds[statement.kind as usize].push(statement);
    }
    let mut take = |kind: ItemKind| most_salient(std::mem::take(&mut kinds[kind as usize]), MOST);
    let decisions = latest(take(ItemKind::Decision));
    let rules = latest(take(ItemKind::Rule));
    let milestones = earliest(take(ItemKind::Milestone));
    let mut tasks = earliest(take(ItemKind::OpenTask));
    tasks.retain(|task| !milestones.iter().any(|done| done.order > task.order && finishes(done, task)));
    let mut questions = earliest(take(ItemKind::Question));
    questions.retain(|q| !decisions.iter().any(|d| d.order > q.order && answers(d, q)));
    let files = files(take(ItemKind::File));
    let mut all: Vec<Statement> =
        [decisions, rules, routine(milestones), tasks, questions, files].into_iter().flatten().collect();
    all.sort_by_key(|statement| statement.order);
    all
}

/// The `most` most salient ones, later ones first among equals, back in their order.
pub(crate) fn most_salient(mut statements: Vec<Statement>, most: usize) -> Vec<Statement> {
    if statements.len() > most {
        statements.sort_by_key(|s| (std::cmp::Reverse(s.salience), std::cmp::Reverse(s.order)));
        statements.truncate(most);
        statements.sort_by_key(|s| s.order);
    }
    statements
}

/// Whether two statements say the same: nothing that matters in one is missing in the other, or next to nothing. A word
/// that takes the place of another makes a different statement.
fn same(a: &Statement, b: &Statement) -> bool {
    let (least, most) = least_and_most(a, b);
    if most == 0 {
        return a.text.eq_ignore_ascii_case(&b.text);
    }
    shared(&a.stems, &b.stems) == least && least * 4 >= most * 3
}

fn least_and_most(a: &Statement, b: &Statement) -> (usize, usize) {
    let (a, b) = (a.stems.len(), b.stems.len());
    (a.min(b), a.max(b))
}

/// Whether the later statement names the earlier one as no longer holding: at least half of it, and mostly that.
fn names(later: &Statement, earlier: &Statement) -> bool {
    !earlier.revision.negative
        && later.revision.old.iter().any(|old| {
            let common = shared(old, &earlier.stems);
            common > 0 && common * 2 >= earlier.stems.len() && common * 2 >= old.len()
        })
}

/// Whether the later decision takes the place of the earlier one. `adjacent`: no decision stands between them.
fn replaces(later: &Statement, earlier: &Statement, adjacent: bool) -> bool {
    if !later.revision.revises {
        return false;
    }
    let (_, most) = least_and_most(later, earlier);
    let common = shared(&later.stems, &earlier.stems);
    // Words that point back need not repeat more than what they point at.
    let whole = if later.revision.strong { earlier.stems.len() } else { most };
    let topic = common >= 2 && common * 3 >= whole * 2;
    // "Instead of files" beside the same subject: what is named is short, and the rest is shared.
    let named = !earlier.revision.negative
        && later.revision.old.iter().any(|old| {
            let old_part = shared(old, &earlier.stems);
            old_part > 0 && old_part == old.len() && common * 2 > earlier.stems.len()
        });
    names(later, earlier) || topic || named || adjacent && points_back(later, earlier)
}

/// "On second thought …" soon after a decision revokes it, whatever its words; "… instead of it" if it is named at all.
fn points_back(later: &Statement, earlier: &Statement) -> bool {
    let near =
        later.round.zip(earlier.round).is_some_and(|(later, earlier)| later > earlier && later - earlier <= NEAR);
    let old = &later.revision.old;
    let named = old.iter().any(|old| shared(old, &earlier.stems) > 0);
    // One that names something else points elsewhere, and what has a label is not revoked in passing.
    near && !later.agent && (named || later.revision.strong && old.is_empty() && !earlier.labelled)
}

/// Later ones win.
fn latest(statements: Vec<Statement>) -> Vec<Statement> {
    let mut kept: Vec<Statement> = Vec::new();
    for statement in statements {
        let is_decision = statement.kind == ItemKind::Decision;
        let echoes = |earlier: &Statement| {
            let told = statement.hearsay && is_decision && replaces(&statement, earlier, false);
            (same(&statement, earlier) && (statement.hearsay || statement.agent && !earlier.agent)) || told
        };
        if kept.iter().any(echoes) {
            continue;
        }
        let last = kept.last().map(|s| s.order);
        kept.retain(|earlier| {
            let revised = match is_decision {
                true => replaces(&statement, earlier, last == Some(earlier.order)),
                false => statement.revision.revises && names(&statement, earlier),
            };
            !(same(&statement, earlier) || revised && !statement.hearsay)
        });
        kept.push(statement);
    }
    kept
}

/// The first of several that say the same.
fn earliest(statements: Vec<Statement>) -> Vec<Statement> {
    let mut kept: Vec<Statement> = Vec::new();
    for statement in statements {
        if !kept.iter().any(|earlier| same(&statement, earlier)) {
            kept.push(statement);
        }
    }
    kept
}

/// Reports that come again and again with other figures ("All 12 mail tests passed"): of each such row the last three.
fn routine(reports: Vec<Statement>) -> Vec<Statement> {
    const ROW: usize = 3;
    let mut rows: std::collections::HashMap<u64, Vec<usize>> = std::collections::HashMap::new();
    for (at, report) in reports.iter().enumerate().rev() {
        rows.entry(verbs::shape(&report.text)).or_default().push(at);
    }
    let dropped: std::collections::HashSet<usize> =
        rows.into_values().filter(|row| row.len() > ROW).flat_map(|row| row.into_iter().skip(ROW)).collect();
    reports.into_iter().enumerate().filter(|(at, _)| !dropped.contains(at)).map(|(_, report)| report).collect()
}

/// Whether a report says that the task is done: it does what the task asks for, to most of what it asks it for.
pub(crate) fn finishes(done: &Statement, task: &Statement) -> bool {
    let common = shared(&done.stems, &task.stems);
    common > 0
        && common * 3 >= task.stems.len() * 2
        && (common >= 2 || task.stems.len() == 1)
        && verbs::same(&task.verbs, &done.verbs)
}

/// Whether a decision is about nearly all that the question asks. One that shares half of it decided something else about
/// the same thing: who pays for the printer is not where it stands.
fn answers(decision: &Statement, question: &Statement) -> bool {
    let common = shared(&decision.stems, &question.stems);
    let asked = question.stems.len();
    common > 0 && common * 4 >= asked * 3 && (common >= 2 || asked == 1 && decision.stems.len() <= 3)
}

/// The last touch of each path.
fn files(statements: Vec<Statement>) -> Vec<Statement> {
    fn path(text: &str) -> &str {
        text.rsplit_once(" (").map_or(text, |(path, _)| path)
    }
    let mut last = std::collections::HashMap::new();
    for (at, statement) in statements.iter().enumerate() {
        last.insert(path(&statement.text).to_owned(), at);
    }
    let keep: std::collections::HashSet<usize> = last.into_values().collect();
    statements.into_iter().enumerate().filter(|(at, _)| keep.contains(at)).map(|(_, s)| s).collect()
}

#[cfg(test)]
mod tests;
