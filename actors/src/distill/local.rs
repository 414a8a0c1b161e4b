//! The distiller that is always there: no model, no network, the same answer for the same turns.
//!
//! It recognises statements by phrases (`lexicon`), follows who answered whom, and lets later statements win.
//! It takes people's and the agent's words only; tool output names no decision and no rule, because anybody may have
//! written it; of tool calls it takes the files. It must never invent a word: every item is a sentence of the archive
//! (secrets taken out) with its place.

use super::evidence::{self, Statement};
use super::lexicon::{self, Cue, Scores};
use super::sentence::{Mark, Sentence, sentences};
use super::{dialogue, overview, redact, words};
use crate::archive::plain::{clip, one_line};
use crate::domain::{Distillate, Item, ItemKind, Reference, Role};
use crate::error::Result;
use crate::port::{DistillInput, Distiller};
use async_trait::async_trait;

/// Longest item, characters.
pub const ITEM_CHARS: usize = 300;
/// A longer sentence is data that somebody pasted, bytes.
const LONGEST_SENTENCE: usize = 4_000;
/// One clear phrase.
pub(super) const CLEAR: i32 = 20;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDistiller;

#[async_trait]
impl Distiller for LocalDistiller {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn distill(&self, input: &DistillInput) -> Result<Distillate> {
        Ok(extract(input))
    }
}

/// The distillate of the turns. Pure and linear in their text.
pub fn extract(input: &DistillInput) -> Distillate {
    let settled = evidence::settle(dialogue::statements(input.turns.iter().map(|(_, turn)| turn)));
    let mut kept = Vec::new();
    for kind in ItemKind::ALL {
        let of_kind = settled.iter().filter(|s| s.kind == kind).cloned().collect();
        kept.extend(evidence::most_salient(of_kind, input.max_items));
    }
    kept.sort_by_key(|statement| (statement.kind, statement.order));
    let items: Vec<Item> = kept.iter().filter_map(|statement| item(statement, input)).collect();
    Distillate { provider: "local".to_owned(), summary: overview::lines(input, &items), items }
}

fn item(statement: &Statement, input: &DistillInput) -> Option<Item> {
    let (segment, turn) = input.turns.get(statement.turn)?;
    let reference = Reference { segment: segment.clone(), seq: turn.seq, at: turn.at, speaker: turn.speaker.clone() };
    // Redacted before it is cut, so that no half of a key survives.
    let text = clip(&one_line(&redact(&statement.text)), ITEM_CHARS).into_owned();
    Some(Item { kind: statement.kind, text, reference })
}

/// Whether the distiller would take this line of a person's for a decision.
pub fn is_decision(line: &str) -> bool {
    if line.len() > LONGEST_SENTENCE {
        return false;
    }
    sentences(line)
        .iter()
        .any(|sentence| kind_of(sentence, Role::User).is_some_and(|(k, _)| k == Some(ItemKind::Decision)))
}

/// Share of a phrase's weight that counts for a speaker, in tenths: a person decides and rules, an agent reports.
fn weight(kind: ItemKind, role: Role) -> i32 {
    match (kind, role) {
        (_, Role::Tool) => 0,
        (_, Role::User) => 10,
        (ItemKind::Rule, Role::Assistant) => 5,
        (ItemKind::Decision, Role::Assistant) => 8,
        (_, Role::Assistant) => 10,
        (ItemKind::Rule, Role::Summary | Role::System) => 5,
        (_, Role::Summary | Role::System) => 8,
    }
}

pub(super) fn is_question(text: &str) -> bool {
    let end = text.trim_end_matches([')', '"', '”', '’', '*', '_', '」', '』', '）', ' ', '!']);
    end.ends_with(['?', '？', '؟'])
        || (text.ends_with(['か', '吗', '呢']) || end.ends_with("か。") || end.ends_with("吗。"))
}

/// The kind of a sentence with its score; `None` inside means a request. `None`: nothing to keep.
pub(super) fn kind_of(sentence: &Sentence<'_>, role: Role) -> Option<(Option<ItemKind>, i32)> {
    if sentence.text.len() > LONGEST_SENTENCE {
        return None;
    }
    let own = lexicon::scores(&sentence.text);
    let under = lexicon::under(sentence.under);
    let of = |cue: Cue| own.of(cue) + if under == Some(cue) { 30 } else { 0 };
    if is_question(&sentence.text) {
        if role == Role::User && own.of(Cue::Request) > 0 {
            return Some((None, CLEAR));
        }
        return Some((Some(ItemKind::Question), CLEAR + of(Cue::Question)));
    }
    let labelled = own.of(Cue::Decision) >= 40;
    let doubt = if labelled { 0 } else { own.of(Cue::Doubt) };
    let negated = own.of(Cue::Not);
    let opens = own.text_opens_rule(&sentence.text);
    let milestone = of(Cue::Milestone) - negated - doubt;
    let task = of(Cue::Task);
    let scored = [
        (ItemKind::Question, of(Cue::Question)),
        (ItemKind::Decision, of(Cue::Decision) - doubt),
        (ItemKind::Rule, of(Cue::Rule) + opens),
        (ItemKind::Milestone, if sentence.mark == Mark::Done { 40 } else { milestone }),
        (ItemKind::OpenTask, if sentence.mark == Mark::Open { task + 40 } else { task }),
    ];
    let best = scored
        .into_iter()
        .map(|(kind, score)| (kind, score * weight(kind, role) / 10))
        .filter(|(kind, score)| *score >= CLEAR && !(sentence.mark == Mark::Done && *kind == ItemKind::OpenTask))
        // The first of equals: an open question is no decision yet, a decision outranks a rule.
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    if role == Role::User
        && own.of(Cue::Request) > 0
        && !best.is_some_and(|(kind, score)| kind == ItemKind::Rule || score >= 30)
    {
        return Some((None, CLEAR));
    }
    best.map(|(kind, score)| (Some(kind), score))
}

impl Scores {
    /// An imperative of prohibition at the beginning is a rule; in the middle it is often not.
    fn text_opens_rule(self, text: &str) -> i32 {
        let first = words::tokens(text).next().map(str::to_lowercase).unwrap_or_default();
        let opens = [
            "never",
            "always",
            "don't",
            "don’t",
            "do",
            "niemals",
            "immer",
            "nie",
            "toujours",
            "nunca",
            "siempre",
            "никогда",
            "всегда",
        ];
        if self.of(Cue::Rule) > 0 && opens.contains(&first.as_str()) { 10 } else { 0 }
    }
}

#[cfg(test)]
mod tests;
