//! The few lines that say what a session was about and where it stands.
//!
//! Everything in them is counted or quoted from turns and items; nothing is concluded. Must stay cheap: topics are
//! taken from the beginnings of a bounded number of turns.

use super::redact::Known;
use super::sentence::sentences;
use super::{label, words};
use crate::archive::block::{Part, parts};
use crate::archive::plain::{clip, one_line};
use crate::domain::{Item, ItemKind, Role, Turn};
use crate::port::DistillInput;
use std::collections::HashMap;

/// Turns whose words are counted for topics: so many from the beginning and so many from the end.
const SAMPLE: usize = 500;
const SAMPLE_CHARS: usize = 600;
const QUOTE: usize = 240;

/// 5 to 12 lines; fewer when there is not enough to say, none without turns. `left`: how many of each kind are not in
/// `items`.
pub(super) fn lines(input: &DistillInput, items: &[Item], left: &[(ItemKind, usize)], known: &Known) -> Vec<String> {
    let turns: Vec<&Turn> = input.turns.iter().map(|(_, turn)| turn).collect();
    let mut lines = Vec::new();
    let (Some(first), Some(last)) = (turns.first(), turns.last()) else { return lines };
    lines.push(format!("{}{}.", extent(&turns, first, last), left_out(left)));
    let asked = |turn: &&&Turn| turn.role == Role::User;
    let opening = turns.iter().find(asked).and_then(|turn| opening(&turn.text, known));
    lines.extend(opening.as_ref().map(|text| format!("Began with: {text}")));
    let topics = topics(&turns, known);
    if !topics.is_empty() {
        lines.push(format!("Mostly about: {}.", topics.join(", ")));
    }
    let plan = [
        (ItemKind::Decision, "Decided", 3),
        (ItemKind::Milestone, "Reached", 1),
        (ItemKind::OpenTask, "Open", 2),
        (ItemKind::Question, "Unanswered", 1),
    ];
    for (kind, name, most) in plan {
        let chosen = chosen(items, kind, most);
        lines.extend(chosen.into_iter().map(|item| format!("{name}: {}", clip(unlabelled(&item.text), QUOTE))));
    }
    let request =
        turns.iter().rev().find(|turn| turn.role == Role::User).and_then(|turn| self::opening(&turn.text, known));
    let told = request.as_ref().is_some_and(|text| lines.iter().any(|line| line.ends_with(text.as_str())));
    if request != opening && !told {
        lines.extend(request.map(|text| format!("Last request: {text}")));
    }
    let answers = turns.iter().rev().filter(|turn| turn.role == Role::Assistant);
    let answer = answers.filter_map(|turn| self::opening(&turn.text, known)).next();
    lines.extend(answer.map(|text| format!("Last answer: {text}")));
    lines
}

/// The plainest of a kind, newer ones first among equals, in the order of time.
fn chosen(items: &[Item], kind: ItemKind, most: usize) -> Vec<&Item> {
    let mut of_kind: Vec<(usize, &Item)> = items.iter().enumerate().filter(|(_, item)| item.kind == kind).collect();
    of_kind.sort_by_key(|(at, item)| (std::cmp::Reverse(item.salience), std::cmp::Reverse(*at)));
    of_kind.truncate(most);
    of_kind.sort_by_key(|(at, _)| *at);
    of_kind.into_iter().map(|(_, item)| item).collect()
}

/// The text without the label it begins with, which the line has already.
fn unlabelled(text: &str) -> &str {
    label::of(text).map_or(text, |label| &text[label.end..])
}

/// `; not listed: 8 decisions, 1 question`
fn left_out(left: &[(ItemKind, usize)]) -> String {
    let named = left.iter().filter(|(kind, count)| *count > 0 && *kind != ItemKind::File);
    let named: Vec<String> = named.map(|(kind, count)| format!("{count} more under \"{}\"", kind.heading())).collect();
    if named.is_empty() { String::new() } else { format!("; in the archive only: {}", named.join(", ")) }
}

fn extent(turns: &[&Turn], first: &Turn, last: &Turn) -> String {
    let count = |role: Role| turns.iter().filter(|turn| turn.role == role).count();
    let span = match (first.at, last.at) {
        (Some(from), Some(to)) => format!(", {} to {}", from.format("%Y-%m-%d %H:%M"), to.format("%Y-%m-%d %H:%M UTC")),
        _ => String::new(),
    };
    let (user, assistant, tools) = (count(Role::User), count(Role::Assistant), count(Role::Tool));
    let other = match turns.len() - user - assistant - tools {
        0 => String::new(),
        other => format!(", other {other}"),
    };
    format!("{} turns (user {user}, assistant {assistant}, tools {tools}{other}){span}", turns.len())
}

/// The first sentence of what somebody said that says something, without tool calls and thinking: no greeting alone.
fn opening(text: &str, known: &Known) -> Option<String> {
    let words = parts(text).into_iter().find_map(|part| match part {
        Part::Text(text) => Some(text),
        _ => None,
    })?;
    let head = label::spoken(head(words, 4_000));
    // Redacted before it is split and cut.
    let head = known.redact(head);
    let sentences = sentences(&head);
    let says = |text: &str| words::length(text) >= 4;
    let sentence = sentences.iter().take(3).find(|s| says(&s.text)).or_else(|| sentences.first())?;
    Some(clip(&one_line(&sentence.text), QUOTE).into_owned())
}

/// At most `most` characters, cut between words.
fn head(text: &str, most: usize) -> &str {
    let Some((end, _)) = text.char_indices().nth(most) else { return text };
    let blank = text[..end].rfind(char::is_whitespace).filter(|at| *at > end / 2);
    &text[..blank.unwrap_or(end)]
}

/// A word that was counted.
struct Counted {
    count: usize,
    first: usize,
    /// As it was written, small if it ever was.
    written: String,
}

/// The words that most turns share, as they are written there.
fn topics(turns: &[&Turn], known: &Known) -> Vec<String> {
    let spoken: Vec<&&Turn> = turns.iter().filter(|t| matches!(t.role, Role::User | Role::Assistant)).collect();
    let tail = spoken.len().saturating_sub(SAMPLE).max(SAMPLE.min(spoken.len()));
    let sample = spoken.iter().take(SAMPLE).chain(spoken.iter().skip(tail));
    let mut counts: HashMap<String, Counted> = HashMap::new();
    for (at, turn) in sample.enumerate() {
        let Some(Part::Text(text)) = parts(&turn.text).into_iter().next() else { continue };
        let text = known.redact(head(label::spoken(text), SAMPLE_CHARS));
        for written in words::written(&text) {
            let word = written.to_lowercase();
            // Numbers and keys are no topics.
            if word.chars().all(|c| c.is_alphabetic() || c == '-') && word != "redacted" {
                let counted =
                    counts.entry(word).or_insert_with(|| Counted { count: 0, first: at, written: written.to_owned() });
                counted.count += 1;
                // The first word of a sentence is written large for no reason of its own.
                if written.chars().all(char::is_lowercase) {
                    written.clone_into(&mut counted.written);
                }
            }
        }
    }
    let mut ranked: Vec<Counted> = counts.into_values().filter(|counted| counted.count >= 2).collect();
    ranked.sort_by(|a, b| b.count.cmp(&a.count).then(a.first.cmp(&b.first)).then(a.written.cmp(&b.written)));
    let mut topics: Vec<String> = Vec::new();
    for counted in ranked {
        // One form of a word is enough.
        let known = |topic: &String| words::shared(&words::stems(topic), &words::stems(&counted.written)) > 0;
        if !topics.iter().any(known) {
            topics.push(counted.written);
        }
        if topics.len() == 6 {
            break;
        }
    }
    topics
}
