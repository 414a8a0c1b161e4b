//! What stands before a statement: who speaks, a word of agreement, a label.
//!
//! A label says what a sentence is ("Decision D7:", "Rule for the weekend:", "TODO"), and only at its beginning: "facts for
//! the decision:" labels nothing. The words are in `label.txt`. Must read a bounded stretch of the sentence only.

use super::lexicon::Cue;
use super::words::is_cjk;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// Longest stretch in which a label is looked for, bytes.
const REACH: usize = 160;

/// Words by their first letter: a sentence is compared with a few of them only.
struct Words<T>(HashMap<char, Vec<(&'static str, T)>>);

impl<T: Copy> Words<T> {
    fn of(words: impl Iterator<Item = (&'static str, T)>) -> Self {
        let mut by_first: HashMap<char, Vec<(&'static str, T)>> = HashMap::new();
        for (word, what) in words {
            by_first.entry(word.chars().next().unwrap_or_default()).or_default().push((word, what));
        }
        Self(by_first)
    }

    /// The words that the text begins with, and what stands behind each.
    fn beginning<'a>(&self, text: &'a str) -> impl Iterator<Item = (T, &'a str)> {
        let first = text.chars().next().and_then(|c| c.to_lowercase().next()).unwrap_or_default();
        let words = self.0.get(&first).map(Vec::as_slice).unwrap_or_default();
        words.iter().filter_map(move |(word, what)| strip(text, word).map(|rest| (*what, rest)))
    }
}

/// The words of one list of `label.txt`.
fn list(name: &str) -> impl Iterator<Item = &'static str> {
    let lines = include_str!("label.txt").lines().filter(|line| !line.starts_with('#'));
    let of_list = move |line: &'static str| line.split_once(" | ").filter(|(list, _)| *list == name);
    lines.filter_map(of_list).flat_map(|(_, words)| words.split(" | ")).collect::<Vec<_>>().into_iter()
}

const NOUNS: [(Cue, &str); 5] = [
    (Cue::Decision, "decision"),
    (Cue::Rule, "rule"),
    (Cue::Milestone, "milestone"),
    (Cue::Task, "task"),
    (Cue::Question, "question"),
];

static LABELS: LazyLock<Words<Cue>> =
    LazyLock::new(|| Words::of(NOUNS.iter().flat_map(|(cue, name)| list(name).map(|noun| (noun, *cue)))));
static PREFIXES: LazyLock<Words<()>> = LazyLock::new(|| Words::of(list("before").map(|word| (word, ()))));
static BETWEEN: LazyLock<HashSet<&str>> = LazyLock::new(|| list("between").collect());
static PENDING: LazyLock<HashSet<&str>> = LazyLock::new(|| list("pending").collect());
/// With whether the word needs no mark behind it.
static OPENERS: LazyLock<Words<bool>> = LazyLock::new(|| {
    let agreement = list("agreement").map(|word| (word, false));
    Words::of(agreement.chain(list("connection").map(|word| (word, true))))
});

/// A label with where the words behind it begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub cue: Cue,
    pub end: usize,
}

/// The text without the name that a host puts before a person's words (`[Marta] …`).
pub(super) fn spoken(text: &str) -> &str {
    let named = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).filter(|(name, rest)| {
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | '-' | '_' | '\'' | '@');
        (2..=40).contains(&name.len()) && name.chars().all(is_name) && rest.starts_with(' ')
    });
    named.map_or(text, |(_, rest)| rest.trim_start())
}

/// Where the sentence may be said to begin: at its beginning, and behind each word of agreement or connection there.
pub(super) fn openings(text: &str) -> Vec<usize> {
    let mut found = vec![text.len() - spoken(text).trim_start_matches(['*', '_', '"', '“', '„', '«', ' ']).len()];
    while found.len() < 5 {
        let at = found[found.len() - 1];
        let head = &text[at..floor(text, at + REACH)];
        let Some(size) = skipped(head) else { break };
        found.push(at + size);
    }
    found
}

/// Bytes of the word of agreement at the beginning with what divides it from the rest.
fn skipped(head: &str) -> Option<usize> {
    let behind = |(bare, rest): (bool, &str)| {
        let marks = |c: char| {
            c.is_whitespace() || matches!(c, ',' | '!' | '.' | ';' | ':' | '…' | '–' | '-' | '，' | '！' | '。' | '、')
        };
        let trimmed = rest.trim_start_matches(marks);
        let divider = &rest[..rest.len() - trimmed.len()];
        let marked = divider.contains(|c: char| !c.is_whitespace());
        (!trimmed.is_empty() && (marked || bare && !divider.is_empty())).then_some(head.len() - trimmed.len())
    };
    OPENERS.beginning(head).filter_map(behind).max()
}

/// The text behind `word` at its beginning, whatever the case, if the word ends there.
fn strip<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let mut rest = text.chars();
    for expected in word.chars() {
        let c = rest.next()?;
        let c = if c == '’' { '\'' } else { c };
        if c != expected && !c.to_lowercase().eq(std::iter::once(expected)) {
            return None;
        }
    }
    let rest = rest.as_str();
    let joined = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '_');
    let foreign = word.chars().next_back().is_some_and(is_cjk);
    (foreign || !rest.starts_with(joined)).then_some(rest)
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The label that the sentence begins with.
pub(super) fn of(text: &str) -> Option<Label> {
    openings(text).into_iter().find_map(|at| label(text, at))
}

/// What a heading or the line before a list announces.
pub(super) fn noun(heading: &str) -> Option<Cue> {
    let plain = heading.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    NOUNS.iter().find(|(_, name)| list(name).any(|noun| noun == plain)).map(|(cue, _)| *cue)
}

fn label(text: &str, at: usize) -> Option<Label> {
    let head = &text[at..floor(text, at + REACH)];
    let decorated = |rest: &'_ str| -> usize { rest.len() - rest.trim_start_matches(['*', '_', ' ']).len() };
    let skip = PREFIXES.beginning(head).map(|((), rest)| head.len() - rest.trim_start().len()).max();
    let nouns = [Some(0), skip].into_iter().flatten().flat_map(|skip| LABELS.beginning(&head[skip..]));
    let (cue, rest) = nouns.min_by_key(|(_, rest)| rest.len())?;
    let noun = &head[..head.len() - rest.len()];
    let rest = rest.strip_prefix('(').and_then(|r| r.split_once(')')).map_or(rest, |(_, rest)| rest);
    // "TODO order paper" needs no sign.
    if (noun == "TODO" || noun == "FIXME") && rest.starts_with([' ', ':']) {
        return Some(Label { cue, end: at + head.len() - rest.trim_start_matches([':', ' ']).len() });
    }
    let rest = &rest[decorated(rest)..];
    let (rest, numbered) = number(rest);
    let (rest, pending) = between(rest, numbered)?;
    let end = at + head.len() - rest.trim_start_matches(['*', '_', ' ', '\u{3000}']).len();
    let cue = if pending && cue == Cue::Decision { Cue::Question } else { cue };
    (end < text.len()).then_some(Label { cue, end })
}

/// Skips "D7", "12", "#3".
fn number(rest: &str) -> (&str, bool) {
    let word = rest.split([' ', ':', '：', ',', '*']).next().unwrap_or_default();
    let bare = word.trim_start_matches('#');
    let letters = bare.bytes().take_while(u8::is_ascii_uppercase).count();
    let digits = &bare[letters..];
    let is_number = letters <= 4 && (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { (rest[word.len()..].trim_start_matches([' ', '*']), true) } else { (rest, false) }
}

/// The text behind the sign that ends the label, and whether the label speaks of something pending.
fn between(rest: &str, numbered: bool) -> Option<(&str, bool)> {
    let colon =
        rest.find([':', '：']).filter(|at| rest[*at..].chars().nth(1).is_none_or(|c| !c.is_ascii_digit() && c != '/'));
    if let Some(at) = colon {
        let words: Vec<String> = rest[..at]
            .split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '\'' | '-')))
            .map(str::to_lowercase)
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        let leads = words.first().is_none_or(|word| numbered || BETWEEN.contains(word) || PENDING.contains(word));
        let ends_before = rest[..at].contains(['?', '!', ';', '。', '，']) || rest[..at].contains(". ");
        if words.len() <= 8 && leads && !ends_before {
            let sign = rest[at..].chars().next().map_or(0, char::len_utf8);
            return Some((&rest[at + sign..], words.iter().any(|word| PENDING.contains(word))));
        }
    }
    let dash = ["- ", "– ", "— "].into_iter().find_map(|dash| rest.strip_prefix(dash));
    dash.map(|rest| (rest, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(text: &str) -> Option<(Cue, &str)> {
        of(text).map(|label| (label.cue, &text[label.end..]))
    }

    #[test]
    fn a_label_stands_at_the_beginning_and_may_have_a_number_and_a_few_words() {
        let found = [
            ("Decision: one archive per day.", Cue::Decision, "one archive per day."),
            ("Decision D7: one archive per day.", Cue::Decision, "one archive per day."),
            ("**Decision 12:** one archive.", Cue::Decision, "one archive."),
            ("[Ada] Decision - one archive.", Cue::Decision, "one archive."),
            ("Recorded as decision D4, board of 10 March: no fees.", Cue::Decision, "no fees."),
            ("OK, decision B2 noted: no fees.", Cue::Decision, "no fees."),
            ("That's final: no fees.", Cue::Decision, "no fees."),
            ("Rule for the weekend: say it aloud.", Cue::Rule, "say it aloud."),
            ("Open task for Ada: weigh the parcels.", Cue::Task, "weigh the parcels."),
            ("TODO(ada): weigh the parcels.", Cue::Task, "weigh the parcels."),
            ("TODO weigh the parcels", Cue::Task, "weigh the parcels"),
            ("Milestone reached: it floats.", Cue::Milestone, "it floats."),
            ("Decision needed: who pays?", Cue::Question, "who pays?"),
            ("Offene Frage: wer zahlt?", Cue::Question, "wer zahlt?"),
            ("Beschluss: ohne Gebühren.", Cue::Decision, "ohne Gebühren."),
            ("决定：不收费。", Cue::Decision, "不收费。"),
            ("ルール：土足禁止。", Cue::Rule, "土足禁止。"),
        ];
        for (text, cue, rest) in found {
            assert_eq!(labelled(text), Some((cue, rest)), "{text}");
        }
    }

    #[test]
    fn the_same_words_elsewhere_label_nothing() {
        let plain = [
            "Facts for the decision: everything compares equal.",
            "So the decision is due by January: ask him.",
            "The rules are printed on page 3: read them.",
            "There is a TODO in the code about quotes.",
            "The question which of them is right: nobody knows.",
            "Decision recorded with name and time.",
            "Finally: it floats.",
            "Final score 3:1 for us",
            "The decision about the pump that nobody wanted to make in spring came late: in autumn.",
        ];
        for text in plain {
            assert_eq!(labelled(text), None, "{text}");
        }
    }

    #[test]
    fn a_sentence_begins_again_behind_agreement_and_a_name() {
        let begun = |text: &str| openings(text).into_iter().map(|at| text[at..].to_owned()).collect::<Vec<_>>();
        assert_eq!(begun("[Ada] OK, then we wait."), ["OK, then we wait.", "then we wait."]);
        assert_eq!(begun("Good. And never twice."), ["Good. And never twice.", "And never twice.", "never twice."]);
        assert_eq!(begun("好，只接微信。"), ["好，只接微信。", "只接微信。"]);
        assert_eq!(begun("Nobody waits."), ["Nobody waits."]);
        assert_eq!(spoken("[a link](x) is here"), "[a link](x) is here");
    }
}
