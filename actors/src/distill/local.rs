//! The distiller that is always there: no model, no network, the same answer for the same turns.
//!
//! It recognises statements by labels (`label`) and phrases (`lexicon`), follows who answered whom (`dialogue`), and lets
//! later statements win (`evidence`).
//! It takes people's and the agent's words only; tool output names no decision and no rule, because anybody may have
//! written it; of tool calls it takes the files. It must never invent a word: every item is a sentence of the archive
//! (secrets taken out) with its place.

use super::evidence::{self, Statement};
use super::lexicon::{self, Cue, Scores};
use super::redact::Known;
use super::sentence::{Mark, Sentence, sentences};
use super::{dialogue, label, overview, words};
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
/// A phrase that needs support.
pub(super) const WEAK: i32 = 10;

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
    // A secret is named once and repeated without its name: what one turn gives away is looked for in all.
    let known = Known::of(input.turns.iter().map(|(_, turn)| turn.text.as_str()));
    let settled = evidence::settle(dialogue::statements(input.turns.iter().map(|(_, turn)| turn)));
    let (mut kept, mut left) = (Vec::new(), Vec::new());
    for kind in ItemKind::ALL {
        let of_kind: Vec<Statement> = settled.iter().filter(|s| s.kind == kind).cloned().collect();
        left.push((kind, of_kind.len().saturating_sub(input.max_items)));
        kept.extend(evidence::most_salient(of_kind, input.max_items));
    }
    kept.sort_by_key(|statement| (statement.kind, statement.order));
    let items: Vec<Item> = kept.iter().filter_map(|statement| item(statement, input, &known)).collect();
    Distillate { provider: "local".to_owned(), summary: overview::lines(input, &items, &left, &known), items }
}

fn item(statement: &Statement, input: &DistillInput, known: &Known) -> Option<Item> {
    let (segment, turn) = input.turns.get(statement.turn)?;
    let reference = Reference { segment: segment.clone(), seq: turn.seq, at: turn.at, speaker: turn.speaker.clone() };
    // Redacted before it is cut, so that no half of a key survives.
    let text = clip(&one_line(&known.redact(&statement.text)), ITEM_CHARS).into_owned();
    Some(Item { kind: statement.kind, text, reference, salience: statement.salience })
}

/// Whether the distiller would take this line of a person's for a decision, whatever stands around it.
pub fn is_decision(line: &str) -> bool {
    let decides = |said: &Said<'_>| matches!(read(said, Role::User), Some(Reading::Clear(ItemKind::Decision, _)));
    line.len() <= LONGEST_SENTENCE && said(line).iter().any(decides)
}

/// Share of a phrase's weight that counts for a speaker, in tenths: a person decides and rules, an agent reports.
fn weight(kind: ItemKind, role: Role) -> i32 {
    match (kind, role) {
        (_, Role::Tool) => 0,
        (_, Role::User) => 10,
        (ItemKind::Rule, Role::Assistant) => 5,
        // What an agent is going to use or has to do is its plan; what it calls a decision or an open task is one.
        (ItemKind::Decision | ItemKind::OpenTask, Role::Assistant) => 6,
        (_, Role::Assistant) => 10,
        (ItemKind::Rule, Role::Summary | Role::System) => 5,
        (_, Role::Summary | Role::System) => 8,
    }
}

/// A sentence with what its phrases say.
#[derive(Clone, Debug)]
pub(super) struct Said<'a> {
    pub sentence: Sentence<'a>,
    pub scores: Scores,
    pub asks: bool,
}

impl Said<'_> {
    /// The words without the name of who says them.
    pub(super) fn words(&self) -> &str {
        label::spoken(&self.sentence.text)
    }
}

/// The sentences of a text with what their phrases say.
pub(super) fn said(text: &str) -> Vec<Said<'_>> {
    let mut found = Vec::new();
    for sentence in sentences(text) {
        let words = label::spoken(&sentence.text);
        let (scores, asks) = (lexicon::scores(words), is_question(words));
        found.push(Said { scores, asks, sentence });
    }
    found
}

pub(super) fn is_question(text: &str) -> bool {
    let end = text.trim_end_matches([')', '"', '”', '’', '*', '_', '」', '』', '）', ' ', '!']);
    end.ends_with(['?', '？', '؟'])
        || (text.ends_with(['か', '吗', '呢']) || end.ends_with("か。") || end.ends_with("吗。"))
}

/// What a sentence is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// An item, with its score.
    Clear(ItemKind, i32),
    /// Somebody is asked to do something now.
    Request,
    /// One if the talk around it supports it; perhaps it asks for something as well.
    Weak(ItemKind, i32, bool),
}

/// The score of an explicit label or heading.
const LABELLED: i32 = 40;

/// What a sentence is by its own words. `None`: nothing to keep.
pub(super) fn read(said: &Said<'_>, role: Role) -> Option<Reading> {
    let (sentence, text, own, asks) = (&said.sentence, said.words(), said.scores, said.asks);
    if text.len() > LONGEST_SENTENCE || role == Role::Tool {
        return None;
    }
    if let Some(found) = label::of(text).and_then(|label| labelled(label.cue, sentence.mark, asks, role)) {
        return Some(found);
    }
    let under = lexicon::under(sentence.under);
    if asks {
        let asked = own.of(Cue::Question) + if under == Some(Cue::Question) { LABELLED } else { 0 };
        let request = role == Role::User && own.of(Cue::Request) > 0;
        return Some(if request { Reading::Request } else { Reading::Clear(ItemKind::Question, CLEAR + asked) });
    }
    let scored = scored(said, role, under);
    let best = scored
        .into_iter()
        .map(|(kind, score)| (kind, score * weight(kind, role) / 10))
        // Many phrases do not make a label.
        .map(|(kind, score)| {
            (kind, if under.is_none() && sentence.mark == Mark::Plain { score.min(LABELLED - 1) } else { score })
        })
        .filter(|(kind, score)| *score >= CLEAR && !(sentence.mark == Mark::Done && *kind == ItemKind::OpenTask))
        // The first of equals: an open question is no decision yet, a decision outranks a rule.
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    if role != Role::User {
        return best.map(|(kind, score)| Reading::Clear(kind, score));
    }
    let request = own.of(Cue::Request) > 0;
    let orders = request && orders(text);
    let weak = scored.into_iter().filter(|(kind, score)| {
        let rule = *kind == ItemKind::Rule && *score >= WEAK;
        let decision = *kind == ItemKind::Decision && *score > 0 && !orders && own.of(Cue::Doubt) == 0;
        (rule || decision) && own.of(Cue::Elsewhere) <= 20
    });
    match best {
        Some((kind, score)) if !request || kind == ItemKind::Rule || kind == ItemKind::Decision || score >= 30 => {
            Some(Reading::Clear(kind, score))
        }
        _ => match weak.reduce(|best, next| if next.1 > best.1 { next } else { best }) {
            Some((kind, score)) if best.is_none() => Some(Reading::Weak(kind, score, request)),
            _ if request => Some(Reading::Request),
            _ => best.map(|(kind, score)| Reading::Clear(kind, score)),
        },
    }
}

/// "We're going with Ada to the lake": who goes with somebody somewhere has decided on nothing.
fn travels(text: &str) -> bool {
    const WHERE: [&str; 14] = [
        " to the ",
        " to lunch",
        " to dinner",
        " to school",
        " to town",
        " to work",
        " to bed",
        " to church",
        " for lunch",
        " for dinner",
        " for a walk",
        " on holiday",
        " on vacation",
        " for coffee",
    ];
    let lower = text.get(..text.len().min(400)).unwrap_or_default().to_lowercase();
    lower.split_once("going with ").is_some_and(|(_, rest)| WHERE.iter().any(|place| rest.contains(place)))
}

/// Whether the sentence begins by asking: "Please add …", "Can you …".
fn orders(text: &str) -> bool {
    const ASKING: [&str; 16] = [
        "please",
        "can",
        "could",
        "would",
        "will",
        "bitte",
        "kannst",
        "könntest",
        "können",
        "peux-tu",
        "pouvez-vous",
        "puedes",
        "podrías",
        "por",
        "можешь",
        "пожалуйста",
    ];
    let first = |at: usize| words::tokens(&text[at..]).next().map(str::to_lowercase).unwrap_or_default();
    let asks = |word: String| ASKING.contains(&word.as_str()) || word.starts_with(['请', '請', '帮']);
    label::openings(text).into_iter().map(first).any(asks)
}

/// What a label makes of a sentence.
fn labelled(cue: Cue, mark: Mark, asks: bool, role: Role) -> Option<Reading> {
    let kind = match cue {
        // An open question that somebody calls one waits for a decision, not for an answer.
        Cue::Question => return Some(Reading::Clear(ItemKind::Question, LABELLED + CLEAR)),
        Cue::Decision if asks => return Some(Reading::Clear(ItemKind::Question, LABELLED + CLEAR)),
        Cue::Decision => ItemKind::Decision,
        Cue::Rule => ItemKind::Rule,
        Cue::Milestone => ItemKind::Milestone,
        Cue::Task if mark != Mark::Done && !asks => ItemKind::OpenTask,
        _ => return None,
    };
    // An agent's label counts, and a little less than a person's.
    let score = if role == Role::User { LABELLED } else { LABELLED - 5 };
    Some(Reading::Clear(kind, score))
}

/// The score of a sentence for each kind.
fn scored(said: &Said<'_>, role: Role, under: Option<Cue>) -> [(ItemKind, i32); 5] {
    let (text, own, mark) = (said.words(), said.scores, said.sentence.mark);
    let of = |cue: Cue| own.of(cue) + if under == Some(cue) { LABELLED } else { 0 };
    let (doubt, elsewhere) = (own.of(Cue::Doubt), own.of(Cue::Elsewhere));
    // What only sounds like a decision is none where something is told.
    let told = if own.of(Cue::Decision) < 30 { own.of(Cue::Past).min(10) } else { 0 };
    let strong = if role == Role::User && own.of(Cue::Strong) > 0 { CLEAR } else { 0 };
    let away = if travels(text) { LABELLED } else { 0 };
    let decision = of(Cue::Decision) + strong - doubt - elsewhere - told - away;
    let milestone = of(Cue::Milestone) - own.of(Cue::Not) - doubt - own.of(Cue::Later) - elsewhere;
    let task = of(Cue::Task) - elsewhere - own.of(Cue::Condition);
    [
        (ItemKind::Question, of(Cue::Question) - elsewhere),
        (ItemKind::Decision, decision),
        (ItemKind::Rule, of(Cue::Rule) + own.text_opens_rule(text) - elsewhere),
        (ItemKind::Milestone, if mark == Mark::Done { LABELLED } else { milestone }),
        (ItemKind::OpenTask, if mark == Mark::Open { task + LABELLED } else { task }),
    ]
}

impl Scores {
    /// An imperative of prohibition at the beginning is a rule; in the middle it is often not.
    fn text_opens_rule(self, text: &str) -> i32 {
        let last = label::openings(text).pop().unwrap_or_default();
        let first = words::tokens(&text[last..]).next().map(str::to_lowercase).unwrap_or_default();
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
mod talk_tests;
#[cfg(test)]
mod tests;
