//! Statements weighed against each other: duplicates go, revised decisions go, finished tasks go.
//!
//! Used over one session's turns and again over several distillates when a continuity map is built. Comparison is by
//! shared stems, so it knows topics, not meanings. Must stay bounded: only the most salient statements are compared.

use super::lexicon::{self, Cue};
use super::words::{shared, stems};
use crate::domain::{Item, ItemKind};

/// At most this many statements of one kind are compared with each other.
pub(crate) const MOST: usize = 600;

/// At most this many stems of one statement.
const STEMS: usize = 64;

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
    /// Says that something earlier no longer holds.
    revises: bool,
    /// What it names as no longer holding.
    old: Vec<u64>,
}

impl Statement {
    pub(crate) fn new(kind: ItemKind, text: String, order: usize, turn: usize, salience: i32) -> Self {
        let revises = lexicon::scores(&text).of(Cue::Revision) > 0;
        let old = if revises { old_value(&text) } else { Vec::new() };
        let mut stems = stems(&text);
        // The smallest hashes of a long statement: a sample that two long statements take alike.
        stems.truncate(STEMS);
        Self { kind, order, turn, salience, stems, hearsay: false, revises, old, text }
    }

    pub(crate) fn hearsay(mut self) -> Self {
        self.hearsay = true;
        self
    }

    /// An item that was extracted before, at position `order`.
    pub(crate) fn of(item: &Item, order: usize) -> Self {
        Self::new(item.kind, item.text.clone(), order, order, 0)
    }
}

/// Stems of the few words behind "instead of" and its like, up to what replaces them.
fn old_value(text: &str) -> Vec<u64> {
    const BEFORE: [&str; 22] = [
        "instead of ",
        "rather than ",
        "no longer use ",
        "no longer ",
        "won't use ",
        "will not use ",
        "not use ",
        "drop ",
        "scrap ",
        "replace ",
        "replaces ",
        "forget ",
        "decided against ",
        "from ",
        "anstatt ",
        "statt ",
        "au lieu de ",
        "en lugar de ",
        "en vez de ",
        "вместо ",
        "而不是",
        "不再用",
    ];
    let lower = text.to_lowercase();
    let mut found = Vec::new();
    for mark in BEFORE {
        let Some((_, rest)) = lower.split_once(mark) else { continue };
        let end = rest.find([',', ';', '.', '，', '。']).unwrap_or(rest.len());
        let words: Vec<&str> = rest[..end].split_whitespace().collect();
        let stop =
            words.iter().position(|w| matches!(*w, "to" | "with" | "by" | "and" | "for" | "in" | "durch" | "par"));
        found.extend(stems(&words[..stop.unwrap_or(words.len()).min(4)].join(" ")));
    }
    found.sort_unstable();
    found.dedup();
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
        [decisions, rules, milestones, tasks, questions, files].into_iter().flatten().collect();
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

/// Whether two statements say nearly the same.
fn same(a: &Statement, b: &Statement) -> bool {
    let (common, most) = (shared(&a.stems, &b.stems), a.stems.len().max(b.stems.len()));
    if most == 0 { a.text.eq_ignore_ascii_case(&b.text) } else { common * 10 >= most * 8 }
}

/// Whether the later decision takes the place of the earlier one. `adjacent`: no decision stands between them.
/// Two decisions that both stand are a smaller harm than one that is lost, so in doubt both stay.
fn replaces(later: &Statement, earlier: &Statement, adjacent: bool) -> bool {
    let common = shared(&later.stems, &earlier.stems);
    let (least, most) = {
        let (a, b) = (later.stems.len(), earlier.stems.len());
        (a.min(b), a.max(b))
    };
    if later.revises {
        let named = shared(&later.old, &earlier.stems) > 0;
        let topic = common >= 2 && common * 2 >= least;
        return named || topic || (adjacent && common == 1 && least <= 3);
    }
    // Without a word of revision only a statement about the very same things counts.
    common >= 2 && common * 4 >= most * 3
}

/// Later ones win.
fn latest(statements: Vec<Statement>) -> Vec<Statement> {
    let mut kept: Vec<Statement> = Vec::new();
    for statement in statements {
        let repeats = |earlier: &Statement| same(&statement, earlier) || replaces(&statement, earlier, false);
        if statement.hearsay && kept.iter().any(repeats) {
            continue;
        }
        let last = kept.last().map(|s| s.order);
        kept.retain(|earlier| {
            let revised = match statement.kind {
                ItemKind::Decision => replaces(&statement, earlier, last == Some(earlier.order)),
                _ => statement.revises && shared(&statement.stems, &earlier.stems) >= 2,
            };
            !(same(&statement, earlier) || (revised && !statement.hearsay))
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

/// Whether a report is about the task: half of the task's words, and two of them unless it has only two.
pub(crate) fn finishes(done: &Statement, task: &Statement) -> bool {
    let common = shared(&done.stems, &task.stems);
    common > 0 && common * 2 >= task.stems.len() && (common >= 2 || task.stems.len() <= 2)
}

/// Whether a decision is about what the question asks.
fn answers(decision: &Statement, question: &Statement) -> bool {
    let common = shared(&decision.stems, &question.stems);
    common > 0 && common * 2 >= question.stems.len()
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
