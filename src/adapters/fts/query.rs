//! From what a person typed to what is looked for. Pure.
//!
//! Why: FTS5 has a query language, and a person's text must never be read as one. Everything leaves here inside
//! double quotes, without a double quote or control character in it; the only operators are the ones written in this
//! file.

use super::stopword::is_stop;
use super::text::is_cjk;

/// Longer questions are cut; a pasted log is still found by its beginning.
const LONGEST_QUERY: usize = 4_096;

/// How a unit matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// One word, by its stem. May be misspelt.
    Word,
    /// Words in a row: an identifier, a path, a quotation, two CJK characters.
    Phrase,
    /// Like a phrase, and the last token may go on: `2026-03-02` finds `2026-03-02T10:11`, `9fceb02` the whole hash.
    Beginning,
}

/// One thing to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) text: String,
    pub(super) kind: Match,
}

impl Unit {
    fn new(kind: Match, text: impl Into<String>) -> Self {
        Self { text: text.into(), kind }
    }

    pub(super) fn word(text: impl Into<String>) -> Self {
        Self::new(Match::Word, text)
    }

    /// The unit as an FTS5 expression: one quoted string.
    pub(super) fn expression(&self) -> String {
        let quoted: String = self.text.chars().map(|c| if is_inert(c) { c } else { ' ' }).collect();
        match self.kind {
            Match::Word | Match::Phrase => format!("\"{quoted}\""),
            Match::Beginning => format!("\"{quoted}\" *"),
        }
    }

    /// An identifier, path or address as typed, in lower case. `None` for plain words, quotations and CJK pairs.
    pub(super) fn literal(&self) -> Option<String> {
        let identifier = self.kind == Match::Phrase && !self.text.contains(char::is_whitespace);
        (identifier && self.text.chars().any(|c| !c.is_alphanumeric())).then(|| self.text.clone())
    }

    /// A word that may be the beginning of a longer one: the short form of a hash, as programs print it.
    pub(super) fn beginning(&self) -> Option<Self> {
        let is_short_hash = (7..40).contains(&self.text.len())
            && self.text.bytes().all(|b| b.is_ascii_hexdigit())
            && self.text.bytes().any(|b| b.is_ascii_digit());
        (self.kind == Match::Word && is_short_hash).then(|| Self::new(Match::Beginning, self.text.clone()))
    }

    /// The words of a phrase no text holds, to be looked for one by one.
    pub(super) fn parts(&self) -> Vec<Self> {
        let words = self.text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty() && !is_stop(w));
        words.map(Self::word).collect()
    }
}

/// Inside a quoted string these are plain text; a NUL would end the expression.
fn is_inert(c: char) -> bool {
    c != '"' && !c.is_control()
}

/// Everything a query asks for, without repetitions; stop words only if there is nothing else. Empty when the text
/// has no letter or digit.
pub(super) fn units(query: &str) -> Vec<Unit> {
    let query: String = query.chars().take(LONGEST_QUERY).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut all = Vec::new();
    for (position, stretch) in query.split('"').enumerate() {
        // Between two quotes the words belong together, and each of them still counts on its own.
        if position % 2 == 1 && stretch.split_whitespace().count() > 1 && !stretch.chars().any(is_cjk) {
            all.push(Unit::new(Match::Phrase, stretch.trim().to_lowercase()));
        }
        for word in stretch.split_whitespace() {
            for run in runs(word) {
                push_run(&mut all, run);
            }
        }
    }
    let telling = |unit: &Unit| unit.kind != Match::Word || !is_stop(&unit.text);
    if all.iter().any(telling) {
        all.retain(telling);
    }
    let mut distinct: Vec<Unit> = Vec::with_capacity(all.len());
    for unit in all {
        if !distinct.contains(&unit) {
            distinct.push(unit);
        }
    }
    distinct
}

/// A word cut where CJK text begins or ends.
fn runs(word: &str) -> Vec<&str> {
    let mut runs = Vec::new();
    let mut start = 0;
    let mut before = None;
    for (at, c) in word.char_indices() {
        if before.is_some_and(|was| was != is_cjk(c)) {
            runs.push(&word[start..at]);
            start = at;
        }
        before = Some(is_cjk(c));
    }
    runs.push(&word[start..]);
    runs
}

fn push_run(all: &mut Vec<Unit>, run: &str) {
    let run = run.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let Some(first) = run.chars().next() else { return };
    if is_cjk(first) {
        let characters: Vec<char> = run.chars().collect();
        match characters.as_slice() {
            [one] => all.push(Unit::new(Match::Phrase, one.to_string())),
            many => all.extend(many.windows(2).map(|two| Unit::new(Match::Phrase, format!("{} {}", two[0], two[1])))),
        }
    } else if is_date(&run) {
        all.push(Unit::new(Match::Beginning, run));
    } else if run.chars().all(char::is_alphanumeric) {
        all.push(Unit::word(run));
    } else if run.chars().all(|c| c.is_alphabetic() || matches!(c, '\'' | '’')) {
        // "Ana's", "don't", "l'index": a single letter is grammar.
        all.extend(run.split(['\'', '’']).filter(|part| part.chars().nth(1).is_some()).map(Unit::word));
    } else {
        all.push(Unit::new(Match::Phrase, run));
    }
}

/// `2026-03` or `2026-03-02`.
fn is_date(text: &str) -> bool {
    let mut fields = text.split('-');
    let digits =
        |field: Option<&str>, n: usize| field.is_some_and(|f| f.len() == n && f.bytes().all(|b| b.is_ascii_digit()));
    digits(fields.next(), 4)
        && digits(fields.next(), 2)
        && fields.next().is_none_or(|day| digits(Some(day), 2))
        && fields.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(query: &str) -> Vec<String> {
        units(query).into_iter().map(|u| u.text).collect()
    }

    #[test]
    fn a_question_keeps_only_its_telling_words() {
        assert_eq!(texts("What did we decide about the locked database?"), ["decide", "locked", "database"]);
        assert_eq!(texts("Where's Ana's dog?"), ["ana", "dog"]);
        assert_eq!(texts("n’est-ce pas l’index C?"), ["n’est-ce", "index", "c"]);
    }

    #[test]
    fn stop_words_stay_when_there_is_nothing_else() {
        assert_eq!(texts("who was it"), ["who", "was", "it"]);
    }

    #[test]
    fn identifiers_paths_and_dates_are_phrases() {
        let found = units("error[E0499] in (src/main.rs), foo::bar since 2026-03-02");
        let kinds: Vec<_> = found.iter().map(|u| (u.text.as_str(), u.kind)).collect();
        let expected = [
            ("error[e0499", Match::Phrase),
            ("src/main.rs", Match::Phrase),
            ("foo::bar", Match::Phrase),
            ("since", Match::Word),
            ("2026-03-02", Match::Beginning),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn a_run_of_cjk_becomes_overlapping_pairs() {
        assert_eq!(texts("搜索中文test"), ["搜 索", "索 中", "中 文", "test"]);
    }

    #[test]
    fn a_quotation_is_looked_for_as_a_whole_and_by_word() {
        assert_eq!(texts("\"database is locked\""), ["database is locked", "database", "locked"]);
    }

    proptest! {
        #[test]
        fn an_expression_is_one_quoted_string(query in any::<String>()) {
            for unit in units(&query) {
                let expression = unit.expression();
                let inner = expression.strip_suffix(" *").unwrap_or(&expression);
                let inner = inner.strip_prefix('"').and_then(|e| e.strip_suffix('"')).expect("quoted");
                prop_assert!(inner.chars().all(is_inert));
            }
        }
    }
}
