//! The distiller that is always there: no model, no network, the same answer for the same turns.
//!
//! It recognises statements by phrases ([`super::lexicon`]), follows who answered whom, and lets later statements win.
//! It takes people's and the agent's words only; tool output names no decision and no rule, because anybody may have
//! written it; of tool calls it takes the files. It must never invent a word: every item is a sentence of the archive
//! (secrets taken out) with its place.

use super::evidence::{self, Statement};
use super::files::{self, Touch};
use super::lexicon::{self, Cue, Scores};
use super::sentence::{Mark, Sentence, sentences};
use super::{overview, redact, words};
use crate::archive::block::{Part, parts};
use crate::archive::plain::{clip, one_line};
use crate::domain::{Distillate, Item, ItemKind, Reference, Role, Turn};
use crate::error::Result;
use crate::port::{DistillInput, Distiller};
use async_trait::async_trait;
use std::collections::HashMap;

/// Longest item, characters.
pub const ITEM_CHARS: usize = 300;
/// A longer sentence is data that somebody pasted, bytes.
const LONGEST_SENTENCE: usize = 4_000;
/// One clear phrase.
const CLEAR: i32 = 20;

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
    let mut reader = Reader::default();
    for (at, (_, turn)) in input.turns.iter().enumerate() {
        reader.turn(at, turn);
    }
    let settled = evidence::settle(reader.finish());
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

fn is_question(text: &str) -> bool {
    let end = text.trim_end_matches([')', '"', '”', '’', '*', '_', '」', '』', '）', ' ', '!']);
    end.ends_with(['?', '？', '؟'])
        || (text.ends_with(['か', '吗', '呢']) || end.ends_with("か。") || end.ends_with("吗。"))
}

/// The kind of a sentence with its score; `None` inside means a request. `None`: nothing to keep.
fn kind_of(sentence: &Sentence<'_>, role: Role) -> Option<(Option<ItemKind>, i32)> {
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

/// Something that waits for the other side: a question or a request.
struct Asked {
    statement: Statement,
    by: Role,
}

/// Reads turns one after the other and remembers what waits for an answer.
#[derive(Default)]
struct Reader {
    statements: Vec<Statement>,
    asked: Vec<Asked>,
    files: HashMap<String, (Touch, usize, usize)>,
    order: usize,
}

/// What a turn says as an answer to the one before.
#[derive(Default)]
struct Reply {
    states: bool,
    defers: bool,
    words: usize,
    done: bool,
    stems: Vec<u64>,
}

impl Reader {
    fn turn(&mut self, at: usize, turn: &Turn) {
        match turn.role {
            Role::User => self.said(at, turn.role, &turn.text),
            Role::Assistant => {
                for part in parts(&turn.text) {
                    match part {
                        Part::Text(text) => self.said(at, turn.role, text),
                        Part::Call { name, arguments, .. } => self.touched(at, files::of_call(name, arguments)),
                        Part::Thinking(_) => {}
                    }
                }
            }
            // What Moon itself wrote was distilled when it was first said.
            Role::Summary | Role::System if !lexicon::is_own(&turn.text) && turn.speaker != "openclaw" => {
                self.noted(at, turn.role, &turn.text);
            }
            Role::Summary | Role::System | Role::Tool => {}
        }
    }

    fn touched(&mut self, at: usize, found: Vec<(String, Touch)>) {
        for (path, touch) in found {
            self.order += 1;
            let entry = self.files.entry(path).or_insert((touch, at, self.order));
            // A later mention does not move an edit.
            if touch >= entry.0 {
                *entry = (touch, at, self.order);
            }
        }
    }

    fn keep(&mut self, kind: ItemKind, text: &str, at: usize, score: i32, role: Role) -> Option<Statement> {
        let length = words::length(text);
        if length < 3 && score < 40 {
            return None;
        }
        self.order += 1;
        let exact = text.contains('`') || text.bytes().any(|b| b.is_ascii_digit()) || text.contains('/');
        let person = role == Role::User;
        let salience =
            score + if exact { 5 } else { 0 } + if person { 5 } else { 0 } - if length > 60 { 10 } else { 0 };
        Some(Statement::new(kind, text.to_owned(), self.order, at, salience))
    }

    /// Words of somebody who takes no part in the talk.
    fn noted(&mut self, at: usize, role: Role, text: &str) {
        for sentence in sentences(text) {
            let Some((Some(kind), score)) = kind_of(&sentence, role) else { continue };
            if kind != ItemKind::Question || score >= 30 {
                let kept = self.keep(kind, &sentence.text, at, score, role);
                self.statements.extend(kept.map(Statement::hearsay));
            }
        }
    }

    /// Words of the user or the assistant.
    fn said(&mut self, at: usize, role: Role, text: &str) {
        let sentences = sentences(text);
        self.answer(at, role, &reply(&sentences, role));
        // What the same side asked before and nobody answered stays open.
        let (mine, others): (Vec<Asked>, Vec<Asked>) = self.asked.drain(..).partition(|asked| asked.by == role);
        let same_turn = |asked: &Asked| asked.statement.turn == at;
        let (now, before): (Vec<Asked>, Vec<Asked>) = mine.into_iter().partition(same_turn);
        self.statements.extend(before.into_iter().map(|asked| asked.statement));
        self.asked = others.into_iter().chain(now).collect();
        for sentence in &sentences {
            self.touched(at, files::of_words(&sentence.text));
            let Some((kind, score)) = kind_of(sentence, role) else { continue };
            match kind {
                None => {
                    let asked = self.keep(ItemKind::OpenTask, &sentence.text, at, score, role);
                    self.asked.extend(asked.map(|statement| Asked { statement, by: role }));
                }
                Some(ItemKind::Question) if is_question(&sentence.text) => {
                    let asked = self.keep(ItemKind::Question, &sentence.text, at, score, role);
                    self.asked.extend(asked.map(|statement| Asked { statement, by: role }));
                }
                Some(kind) => {
                    let kept = self.keep(kind, &sentence.text, at, score, role);
                    self.statements.extend(kept);
                }
            }
        }
    }

    /// Lets a reply of `role` settle what the other side asked.
    fn answer(&mut self, at: usize, role: Role, reply: &Reply) {
        if !reply.states {
            return;
        }
        let (waiting, mine): (Vec<Asked>, Vec<Asked>) = self.asked.drain(..).partition(|asked| asked.by != role);
        self.asked = mine;
        let last = waiting.len().saturating_sub(1);
        let single = waiting.len() == 1;
        for (index, asked) in waiting.into_iter().enumerate() {
            let related = words::shared(&reply.stems, &asked.statement.stems) > 0;
            let task = asked.statement.kind == ItemKind::OpenTask;
            if reply.defers && reply.words <= 30 {
                self.statements.push(asked.statement);
            } else if task && reply.done {
                let text = format!("Done: {}", asked.statement.text);
                let done = self.keep(ItemKind::Milestone, &text, at, CLEAR, role);
                self.statements.extend(done);
            } else if task || related || (reply.words <= 12 && index == last) || (single && role == Role::Assistant) {
                // Answered; a request that was acted upon needs no memory of its own.
            } else {
                self.asked.push(asked);
            }
        }
    }

    fn finish(mut self) -> Vec<Statement> {
        self.statements.extend(self.asked.into_iter().map(|asked| asked.statement));
        for (path, (touch, turn, order)) in self.files {
            let text = format!("{path} ({})", touch.as_str());
            self.statements.push(Statement::new(ItemKind::File, text, order, turn, touch as i32 * 10));
        }
        self.statements.sort_by_key(|statement| statement.order);
        self.statements
    }
}

fn reply(sentences: &[Sentence<'_>], role: Role) -> Reply {
    let mut reply = Reply::default();
    let mut all = String::new();
    for sentence in sentences.iter().take(200) {
        let length = words::length(&sentence.text);
        reply.words += length;
        if is_question(&sentence.text) {
            continue;
        }
        let scores = lexicon::scores(&sentence.text);
        reply.states = true;
        reply.defers |= scores.of(Cue::Deferral) > 0;
        // "Done." alone reports whatever was asked for.
        reply.done |=
            length <= 3 && scores.of(Cue::Milestone) > 0 && scores.of(Cue::Not) == 0 && role == Role::Assistant;
        if all.len() < 20_000 {
            all.push_str(&sentence.text);
            all.push('\n');
        }
    }
    reply.stems = words::stems(&all);
    reply
}

#[cfg(test)]
mod tests;
