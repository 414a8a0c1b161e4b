//! Who said what to whom: turns read one after the other into candidates.
//!
//! Questions and requests wait for the other side, and are kept only if it did not answer; what is settled without a word
//! that says so waits for the other side's consent (`support`). Must stay bounded in memory whatever the turns say: of
//! each kind only the most salient candidates are carried along.

use super::evidence::{MOST, Statement};
use super::files::{self, Touch};
use super::lexicon::{self, Cue};
use super::local::{CLEAR, Reading, Said, read, said};
use super::support::{Support, Talk};
use super::words;
use crate::archive::block::{Part, parts};
use crate::domain::{ItemKind, Role, Turn};
use std::collections::{HashMap, HashSet};

/// At most this many questions and requests wait at a time; whoever asks more asks nobody.
const WAITING: usize = 32;
/// At most this many paths are followed.
const FILES: usize = 5_000;

/// The candidates in these turns, in the order of time.
pub(super) fn statements<'a>(turns: impl Iterator<Item = &'a Turn>) -> Vec<Statement> {
    let mut reader = Reader::default();
    for (at, turn) in turns.enumerate() {
        reader.turn(at, turn);
    }
    reader.finish()
}

/// A candidate that is not compared with anything yet.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub kind: ItemKind,
    pub text: String,
    pub order: usize,
    pub turn: usize,
    /// How many times a person has spoken before.
    pub round: usize,
    pub salience: i32,
    pub role: Role,
}

/// Something that waits for the other side: a question or a request.
struct Asked {
    draft: Draft,
    by: Role,
}

/// Reads turns one after the other and remembers what waits for an answer.
#[derive(Default)]
struct Reader {
    drafts: [Vec<Draft>; ItemKind::ALL.len()],
    asked: Vec<Asked>,
    talk: Talk,
    files: HashMap<String, (Touch, usize, usize)>,
    order: usize,
    round: usize,
}

/// What a turn says as an answer to the one before.
#[derive(Default)]
struct Reply {
    states: bool,
    defers: bool,
    decides: bool,
    words: usize,
    done: bool,
    stems: Vec<u64>,
}

impl Reader {
    fn turn(&mut self, at: usize, turn: &Turn) {
        match turn.role {
            Role::User => {
                self.round += 1;
                let settled = self.talk.person_speaks();
                settled.into_iter().for_each(|draft| self.keep(draft));
                self.said(at, turn.role, &turn.text);
            }
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
            if touch == Touch::Edited {
                self.talk.agent_edits();
            }
            if self.files.len() >= FILES && !self.files.contains_key(&path) {
                continue;
            }
            let entry = self.files.entry(path).or_insert((touch, at, self.order));
            // A later mention does not move an edit.
            if touch >= entry.0 {
                *entry = (touch, at, self.order);
            }
        }
    }

    /// Carries a candidate along, dropping the least salient of its kind when there are too many.
    fn keep(&mut self, draft: Draft) {
        let drafts = &mut self.drafts[draft.kind as usize];
        drafts.push(draft);
        if drafts.len() >= 4 * MOST {
            drafts.sort_by_key(|draft| std::cmp::Reverse((draft.salience, draft.order)));
            drafts.truncate(2 * MOST);
        }
    }

    fn draft(&mut self, kind: ItemKind, text: &str, at: usize, score: i32, role: Role) -> Option<Draft> {
        let length = words::length(text);
        // "Rolled out to edge." is news of the moment.
        let least = match (kind, role) {
            (ItemKind::Milestone, Role::Assistant) if score < 30 && !text.starts_with("I ") => 5,
            (ItemKind::Decision, Role::User) => 2,
            _ if score >= 40 => 1,
            _ => 3,
        };
        if length < least {
            return None;
        }
        self.order += 1;
        let exact = text.contains('`') || text.bytes().any(|b| b.is_ascii_digit()) || text.contains('/');
        let person = role == Role::User;
        let salience =
            score + if exact { 5 } else { 0 } + if person { 5 } else { 0 } - if length > 60 { 10 } else { 0 };
        Some(Draft { kind, text: text.to_owned(), order: self.order, turn: at, round: self.round, salience, role })
    }

    /// Words of somebody who takes no part in the talk.
    fn noted(&mut self, at: usize, role: Role, text: &str) {
        for said in said(text) {
            let Some(Reading::Clear(kind, score)) = read(&said, role) else { continue };
            if kind != ItemKind::Question || score >= 30 {
                let draft = self.draft(kind, &said.sentence.text, at, score, role);
                draft.into_iter().for_each(|draft| self.keep(draft));
            }
        }
    }

    /// Words of the user or the assistant.
    fn said(&mut self, at: usize, role: Role, text: &str) {
        let all = said(text);
        self.answer(at, role, &reply(&all, role));
        if role == Role::Assistant {
            self.talk.agent_speaks(&all);
        }
        // What the same side asked before and nobody answered stays open.
        let (mine, others): (Vec<Asked>, Vec<Asked>) = self.asked.drain(..).partition(|asked| asked.by == role);
        let same_turn = |asked: &Asked| asked.draft.turn == at;
        let (now, before): (Vec<Asked>, Vec<Asked>) = mine.into_iter().partition(same_turn);
        before.into_iter().for_each(|asked| self.keep(asked.draft));
        self.asked = others.into_iter().chain(now).collect();
        let few = all.len() <= 8;
        for said in &all {
            self.touched(at, files::of_words(&said.sentence.text));
            self.sentence(at, role, said, few);
        }
    }

    /// One sentence of the user or the assistant. `few`: it is one of a few, as in talk.
    fn sentence(&mut self, at: usize, role: Role, said: &Said<'_>, few: bool) {
        let text: &str = &said.sentence.text;
        if role == Role::User && said.asks {
            self.talk.person_asks();
        }
        if role == Role::User && said.scores.of(Cue::Seal) > 0 && self.talk.seal(at) {
            return;
        }
        match read(said, role) {
            Some(Reading::Request) => self.ask(ItemKind::OpenTask, text, at, CLEAR, role),
            // What is called an open question waits for a decision, not for an answer.
            Some(Reading::Clear(ItemKind::Question, score)) if said.asks && score < CLEAR + 30 => {
                self.ask(ItemKind::Question, text, at, score, role);
            }
            Some(Reading::Clear(kind, score)) => {
                let draft = self.draft(kind, text, at, score, role);
                draft.into_iter().for_each(|draft| self.keep(draft));
            }
            Some(Reading::Weak(kind, score, request)) => {
                if request {
                    self.ask(ItemKind::OpenTask, text, at, CLEAR, role);
                }
                self.wait_for_support(kind, said, at, score);
            }
            None if role == Role::User && few && self.talk.may_settle(said) => {
                self.wait_for_support(ItemKind::Decision, said, at, 0);
            }
            None => {}
        }
    }

    fn wait_for_support(&mut self, kind: ItemKind, said: &Said<'_>, at: usize, score: i32) {
        if words::length(said.words()) < if kind == ItemKind::Decision { 2 } else { 3 } {
            return;
        }
        self.order += 1;
        let (text, order, round) = (said.sentence.text.to_string(), self.order, self.round);
        let exact = text.bytes().any(|b| b.is_ascii_digit());
        let salience = CLEAR + if exact { 5 } else { 0 };
        let draft = Draft { kind, text, order, turn: at, round, salience, role: Role::User };
        self.talk.wait(Support::new(draft, score, words::stems(said.words())));
    }

    fn ask(&mut self, kind: ItemKind, text: &str, at: usize, score: i32, role: Role) {
        let draft = self.draft(kind, text, at, score, role);
        self.asked.extend(draft.map(|draft| Asked { draft, by: role }));
        if self.asked.len() > WAITING {
            self.asked.remove(0);
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
        for (index, asked) in waiting.into_iter().enumerate() {
            let related = words::shared(&reply.stems, &words::stems(&asked.draft.text)) > 0;
            let task = asked.draft.kind == ItemKind::OpenTask;
            if reply.defers && reply.words <= 30 {
                // An agent that first looks may still answer in its next turn; a person has put it off.
                if role == Role::Assistant { self.asked.push(asked) } else { self.keep(asked.draft) }
            } else if task && reply.done {
                self.done(at, &asked.draft);
            } else if task || related || settles(&asked.draft.text, reply, index == last, role) {
                // Answered; a request that was acted upon needs no memory of its own.
            } else {
                self.asked.push(asked);
            }
        }
    }

    /// A request that was answered with nothing but "Done." is what was done; its words stand where it was asked.
    fn done(&mut self, at: usize, asked: &Draft) {
        if words::stems(&asked.text).len() < 2 {
            return;
        }
        let text = format!("Done: {}", asked.text);
        if let Some(done) = self.draft(ItemKind::Milestone, &text, at, CLEAR, Role::Assistant) {
            self.keep(Draft { turn: asked.turn, ..done });
        }
    }

    fn finish(mut self) -> Vec<Statement> {
        let settled = self.talk.person_speaks();
        settled.into_iter().for_each(|draft| self.keep(draft));
        let asked = std::mem::take(&mut self.asked);
        asked.into_iter().for_each(|asked| self.keep(asked.draft));
        let files = std::mem::take(&mut self.files);
        let base = |path: &str| path.rsplit_once('/').map(|(_, name)| name.to_owned());
        let named: HashSet<String> = files.keys().filter_map(|path| base(path)).collect();
        // `main.rs` is `src/main.rs` where that is known.
        for (path, (touch, turn, order)) in files.into_iter().filter(|(path, _)| !named.contains(path)) {
            let (text, salience) = (format!("{path} ({})", touch.as_str()), touch as i32 * 10);
            let (kind, role) = (ItemKind::File, Role::Assistant);
            self.keep(Draft { kind, text, order, turn, round: 0, salience, role });
        }
        let mut drafts: Vec<Draft> = self.drafts.into_iter().flatten().collect();
        drafts.sort_by_key(|draft| draft.order);
        drafts.into_iter().map(Statement::from).collect()
    }
}

/// Whether a reply that shares no word with a question answers it: a decision does, an agent's answer all but a choice
/// among several questions, a person's short one the last question, a longer one all but those that ask for a choice.
fn settles(question: &str, reply: &Reply, last: bool, role: Role) -> bool {
    if reply.decides {
        return true;
    }
    let choice = lexicon::scores(question).of(Cue::Choice) > 0;
    match role {
        Role::Assistant => last || !choice,
        _ if reply.words < 5 => last,
        _ => !choice || last && reply.words <= 12,
    }
}

fn reply(all: &[Said<'_>], role: Role) -> Reply {
    let mut reply = Reply::default();
    let mut text = String::new();
    for said in all.iter().take(200) {
        let length = words::length(&said.sentence.text);
        reply.words += length;
        if said.asks {
            continue;
        }
        let scores = said.scores;
        reply.states = true;
        reply.defers |= scores.of(Cue::Deferral) > 0;
        reply.decides |= scores.of(Cue::Decision) - scores.of(Cue::Doubt) >= CLEAR;
        // "Done." alone reports whatever was asked for.
        reply.done |=
            length <= 3 && scores.of(Cue::Milestone) > 0 && scores.of(Cue::Not) == 0 && role == Role::Assistant;
        if text.len() < 20_000 {
            text.push_str(said.words());
            text.push('\n');
        }
    }
    reply.stems = words::stems(&text);
    reply
}
