//! Finds phrases in a text: on whole words, whatever the case, the first to begin and of those that begin there the longest.
//!
//! The text is brought into a normal form first, in which marks say where sentences and clauses begin and end. A phrase may hold
//! anywhere or only where a clause or a sentence begins; each kind has an automaton of its own, which is asked at every word. One
//! automaton for all would need each phrase three times over: three times the memory, which a daemon keeps for good. The cost is linear
//! in the text. Must know nothing of what a phrase means.

use super::label;
use super::words::{self, is_cjk};
use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, MatchKind, StartKind};
use std::borrow::Cow;

/// Where a sentence begins, where a clause does, where one ends: characters that no text of people's holds.
const SENTENCE: char = '\u{2}';
const CLAUSE: char = '\u{3}';
const END: char = '\u{4}';

/// Where a phrase has to stand. Where a sentence begins a clause does, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Anywhere,
    Clause,
    Sentence,
}

/// How many places there are.
pub(super) const PLACES: usize = 3;

/// Phrases of one place, and something for each.
pub(super) struct Phrases<T> {
    automaton: AhoCorasick,
    each: Vec<T>,
}

impl<T> Phrases<T> {
    /// From patterns as [`pattern`] makes them.
    pub(super) fn new(phrases: Vec<(String, T)>) -> Self {
        let (patterns, each): (Vec<_>, _) = phrases.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns)
            .expect("the phrases are constants and fit an automaton");
        Self { automaton, each }
    }

    /// The longest phrase that begins right here, and where it ends.
    fn at(&self, form: &str, at: usize) -> Option<(usize, &T)> {
        let found = self.automaton.find(Input::new(form).range(at..).anchored(Anchored::Yes))?;
        Some((found.end(), &self.each[found.pattern().as_usize()]))
    }
}

/// Calls for each phrase that a text in normal form holds, from its beginning to its end, with what belongs to it in each place for which
/// it is listed. Phrases do not overlap.
pub(super) fn find<T>(phrases: &[Phrases<T>; PLACES], form: &str, mut found: impl FnMut(&mut dyn Iterator<Item = &T>)) {
    let mut at = 0;
    while let Some(next) = form[at..].chars().next() {
        let place = match next {
            SENTENCE => Place::Sentence,
            CLAUSE => Place::Clause,
            ' ' => Place::Anywhere,
            c if is_cjk(c) => Place::Anywhere,
            c => {
                at += c.len_utf8();
                continue;
            }
        };
        // Behind the marks is a blank, to which the patterns of most scripts belong.
        let begin = at + form[at..].bytes().take_while(|b| matches!(char::from(*b), SENTENCE | CLAUSE)).count();
        let longest = |at| {
            let here = phrases[..=place as usize].iter().filter_map(move |p| p.at(form, at));
            let end = here.clone().map(|(end, _)| end).max()?;
            Some((end, here.filter(move |(e, _)| *e == end)))
        };
        let behind = begin + form[begin..].chars().next().map_or(0, char::len_utf8);
        let hit = longest(begin).or_else(|| if begin > at { longest(behind) } else { None });
        at = behind;
        if let Some((end, here)) = hit {
            found(&mut here.map(|(_, each)| each));
            at = end;
        }
    }
}

/// Where a phrase of the lexicon has to stand, and its normal form, with the blanks that make it match whole words only. `^` before it: a
/// sentence begins; `,`: a clause does; `$` behind it: one ends; `*`: any ending of the word.
pub(super) fn pattern(phrase: &str) -> (Place, String) {
    let (phrase, place) = match (phrase.strip_prefix('^'), phrase.strip_prefix(',')) {
        (Some(rest), _) => (rest, Place::Sentence),
        (None, Some(rest)) => (rest, Place::Clause),
        (None, None) => (phrase, Place::Anywhere),
    };
    let (phrase, ends) = phrase.strip_suffix('$').map_or((phrase, false), |p| (p, true));
    let (phrase, open) = phrase.strip_suffix('*').map_or((phrase, false), |p| (p, true));
    let mut text = String::new();
    normal(phrase, &mut text);
    let text = text.trim();
    // Scripts without blanks match anywhere.
    let front = if text.chars().next().is_some_and(is_cjk) { "" } else { " " };
    let back = if open || !ends && text.chars().next_back().is_some_and(is_cjk) { "" } else { " " };
    let end = if ends { END.to_string() } else { String::new() };
    (place, format!("{front}{text}{back}{end}"))
}

/// The normal form of a sentence or heading, without what it quotes.
pub(super) fn form(text: &str) -> String {
    let mut form = String::with_capacity(text.len() + text.len() / 4);
    let openings = label::openings(text);
    for (at, start) in openings.iter().enumerate() {
        let end = openings.get(at + 1).copied().unwrap_or(text.len());
        form.push(SENTENCE);
        form.push(CLAUSE);
        normal(&unquoted(&text[*start..end]), &mut form);
        close(&mut form);
    }
    form
}

/// Lower case; words and `:` divided by two blanks, so that neighbouring phrases do not share one; clauses divided by
/// their marks.
fn normal(text: &str, out: &mut String) {
    out.push(' ');
    let mut blank = true;
    let mut cjk = false;
    for c in text.chars() {
        let c = if c == '’' { '\'' } else { c };
        let word = c.is_alphanumeric() || matches!(c, '\'' | '-' | '_');
        if word {
            // A word of another script begins where a blankless one ends.
            let now = is_cjk(c);
            if now != cjk && !blank {
                out.push_str("  ");
            }
            cjk = now;
            out.extend(c.to_lowercase());
            blank = false;
        } else if matches!(c, ':' | '：') {
            out.push_str(if blank { ":  " } else { "  :  " });
            out.push(CLAUSE);
            out.push(' ');
            blank = true;
        } else if matches!(c, ',' | ';' | '，' | '；' | '、' | '–' | '—') {
            close(out);
            out.push(CLAUSE);
            out.push(' ');
            blank = true;
        } else if !blank {
            out.push_str("  ");
            blank = true;
        }
    }
    if !blank {
        out.push(' ');
    }
}

/// Ends a clause: one blank, then the mark.
fn close(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    out.push(' ');
    out.push(END);
}

/// The text with what is quoted left out, unless nearly all of it is.
fn unquoted(text: &str) -> Cow<'_, str> {
    if !text.contains(['"', '“', '„', '«', '「', '『']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut closing = None;
    let mut inside = String::new();
    for c in text.chars() {
        match (closing, c) {
            (None, '"' | '“' | '„' | '«' | '「' | '『') => closing = Some(closed_by(c)),
            (Some(close), c) if close.contains(c) => {
                closing = None;
                inside.clear();
                out.push(' ');
            }
            (Some(_), c) => inside.push(c),
            (None, c) => out.push(c),
        }
    }
    // An odd mark quotes nothing.
    out.push_str(&inside);
    if words::length(&out) < 2 { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// What closes a quotation. German and English marks are mixed up often.
fn closed_by(open: char) -> &'static str {
    match open {
        '"' => "\"",
        '“' => "”",
        '„' => "“”\"",
        '«' => "»",
        '「' => "」",
        _ => "』",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The phrases of a list that are found in a text, in order.
    fn found(list: &[&'static str], text: &str) -> Vec<&'static str> {
        let mut places: [Vec<(String, &'static str)>; PLACES] = Default::default();
        for phrase in list {
            let (place, pattern) = pattern(phrase);
            places[place as usize].push((pattern, *phrase));
        }
        let mut all = Vec::new();
        find(&places.map(Phrases::new), &form(text), |here| all.extend(here.copied()));
        all
    }

    #[test]
    fn a_phrase_is_found_only_where_it_may_stand() {
        let list = ["keep", ",then we", "^let us"];
        assert_eq!(found(&list, "Let us keep it"), ["^let us", "keep"]);
        assert_eq!(found(&list, "Now let us keepsake it"), Vec::<&str>::new());
        assert_eq!(found(&list, "First the roof, then we rest"), [",then we"]);
        assert_eq!(found(&list, "The roof then we rest"), Vec::<&str>::new());
        assert_eq!(found(&list, "Then we rest"), [",then we"], "where a sentence begins a clause does");
    }

    #[test]
    fn of_phrases_that_begin_together_the_longest_counts_wherever_it_may_stand() {
        let list = ["we keep it", "^we", ",we keep"];
        assert_eq!(found(&list, "We keep it"), ["we keep it"]);
        assert_eq!(found(&list, "We keep them"), [",we keep"]);
        assert_eq!(found(&list, "We go"), ["^we"]);
        assert_eq!(found(&["only", "^only"], "Only on Mondays"), ["only", "^only"], "one that is listed twice, twice");
    }

    #[test]
    fn scripts_without_blanks_match_inside_of_a_run_and_where_a_sentence_begins() {
        let list = ["决定", "^那就", "用$"];
        assert_eq!(found(&list, "那就这样，我们决定了"), ["^那就", "决定"]);
        assert_eq!(found(&list, "这样那就不用"), ["用$"]);
    }

    #[test]
    fn endings_are_open_only_where_a_star_says_so() {
        assert_eq!(found(&["decid*", "plan"], "decided on plans"), ["decid*"]);
    }
}
