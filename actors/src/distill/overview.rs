//! The few lines that say what a session was about and where it stands.
//!
//! Everything in them is counted or quoted from turns and items; nothing is concluded. Must stay cheap: topics are
//! taken from the beginnings of a bounded number of turns.

use super::sentence::sentences;
use super::{redact, words};
use crate::archive::block::{Part, parts};
use crate::archive::plain::{clip, one_line};
use crate::domain::{Item, ItemKind, Role, Turn};
use crate::port::DistillInput;
use std::collections::HashMap;

/// Turns whose words are counted for topics: so many from the beginning and so many from the end.
const SAMPLE: usize = 500;
const SAMPLE_CHARS: usize = 600;
const QUOTE: usize = 240;

/// 5 to 12 lines; fewer when there is not enough to say, none without turns.
pub(super) fn lines(input: &DistillInput, items: &[Item]) -> Vec<String> {
    let turns: Vec<&Turn> = input.turns.iter().map(|(_, turn)| turn).collect();
    let mut lines = Vec::new();
    let (Some(first), Some(last)) = (turns.first(), turns.last()) else { return lines };
    lines.push(extent(&turns, first, last));
    let asked = |turn: &&&Turn| turn.role == Role::User;
    let opening = turns.iter().find(asked).and_then(|turn| opening(&turn.text));
    lines.extend(opening.as_ref().map(|text| format!("Began with: {text}")));
    let topics = topics(&turns);
    if !topics.is_empty() {
        lines.push(format!("Mostly about: {}.", topics.join(", ")));
    }
    let plan = [
        (ItemKind::Decision, "Decided", 3),
        (ItemKind::Milestone, "Reached", 2),
        (ItemKind::OpenTask, "Open", 2),
        (ItemKind::Question, "Unanswered", 1),
    ];
    for (kind, label, most) in plan {
        let of_kind: Vec<&Item> = items.iter().filter(|item| item.kind == kind).collect();
        let newest = of_kind.iter().skip(of_kind.len().saturating_sub(most));
        lines.extend(newest.map(|item| format!("{label}: {}", clip(&item.text, QUOTE))));
    }
    let request = turns.iter().rev().find(|turn| turn.role == Role::User).and_then(|turn| self::opening(&turn.text));
    let told = request.as_ref().is_some_and(|text| lines.iter().any(|line| line.ends_with(text.as_str())));
    if request != opening && !told {
        lines.extend(request.map(|text| format!("Last request: {text}")));
    }
    let answer =
        turns.iter().rev().filter(|turn| turn.role == Role::Assistant).find_map(|turn| self::opening(&turn.text));
    lines.extend(answer.map(|text| format!("Last answer: {text}")));
    lines
}

fn extent(turns: &[&Turn], first: &Turn, last: &Turn) -> String {
    let count = |role: Role| turns.iter().filter(|turn| turn.role == role).count();
    let span = match (first.at, last.at) {
        (Some(from), Some(to)) => format!(", {} to {}", from.format("%Y-%m-%d %H:%M"), to.format("%Y-%m-%d %H:%M UTC")),
        _ => String::new(),
    };
    format!(
        "{} turns (user {}, assistant {}, tools {}){span}.",
        turns.len(),
        count(Role::User),
        count(Role::Assistant),
        count(Role::Tool)
    )
}

/// The first sentence of what somebody said, without tool calls and thinking.
fn opening(text: &str) -> Option<String> {
    let words = parts(text).into_iter().find_map(|part| match part {
        Part::Text(text) => Some(text),
        _ => None,
    })?;
    let head = words.char_indices().nth(4_000).map_or(words, |(end, _)| &words[..end]);
    // Redacted before it is split and cut.
    let head = redact(head);
    let sentence = sentences(&head).into_iter().next()?;
    Some(clip(&one_line(&sentence.text), QUOTE).into_owned())
}

/// The words that most turns share.
fn topics(turns: &[&Turn]) -> Vec<String> {
    let spoken: Vec<&&Turn> = turns.iter().filter(|t| matches!(t.role, Role::User | Role::Assistant)).collect();
    let tail = spoken.len().saturating_sub(SAMPLE).max(SAMPLE.min(spoken.len()));
    let sample = spoken.iter().take(SAMPLE).chain(spoken.iter().skip(tail));
    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    for (at, turn) in sample.enumerate() {
        let Some(Part::Text(text)) = parts(&turn.text).into_iter().next() else { continue };
        let head = text.char_indices().nth(SAMPLE_CHARS).map_or(text, |(end, _)| &text[..end]);
        for word in words::terms(&redact(head)) {
            // Numbers and keys are no topics.
            if word.chars().all(|c| c.is_alphabetic() || c == '-') && word != "redacted" {
                counts.entry(word).or_insert((0, at)).0 += 1;
            }
        }
    }
    let mut ranked: Vec<(String, (usize, usize))> = counts.into_iter().filter(|(_, (count, _))| *count >= 2).collect();
    ranked.sort_by(|a, b| b.1.0.cmp(&a.1.0).then(a.1.1.cmp(&b.1.1)).then(a.0.cmp(&b.0)));
    let mut topics: Vec<String> = Vec::new();
    for (word, _) in ranked {
        // One form of a word is enough.
        let known = |topic: &String| words::shared(&words::stems(topic), &words::stems(&word)) > 0;
        if !topics.iter().any(known) {
            topics.push(word);
        }
        if topics.len() == 6 {
            break;
        }
    }
    topics
}
