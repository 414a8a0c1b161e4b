//! Sentences of a person's text: Markdown, chat and code mixed, in any script.
//!
//! Code blocks, quotes, tables and key blocks are left out: they are material, not statements. Must stay linear in the
//! text and never split inside inline code.

use super::lexicon;
use std::borrow::Cow;

/// What a line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Plain,
    /// A list item.
    Item,
    /// `- [ ]`
    Open,
    /// `- [x]`
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sentence<'a> {
    pub text: Cow<'a, str>,
    pub mark: Mark,
    /// The heading or the line ending in a colon that this list item stands under, else empty.
    pub under: &'a str,
}

/// A longer "line" is data that somebody pasted.
const LONGEST_LINE: usize = 1 << 20;

pub(super) fn sentences(text: &str) -> Vec<Sentence<'_>> {
    let mut reader = Reader::default();
    for line in text.lines() {
        reader.line(line);
    }
    reader.flush();
    reader.found
}

#[derive(Default)]
struct Reader<'a> {
    found: Vec<Sentence<'a>>,
    /// The paragraph so far: lines that a hard line break cut.
    pending: Option<(Cow<'a, str>, Mark)>,
    heading: &'a str,
    label: &'a str,
    fence: Option<&'a str>,
    pem: bool,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) {
        let trimmed = line.trim();
        if self.skips(trimmed) {
            return self.flush();
        }
        if trimmed.starts_with('#') && trimmed.trim_start_matches('#').starts_with(' ') {
            self.flush();
            self.heading = trimmed.trim_matches(['#', ' ', '*', ':']);
            self.label = "";
            return;
        }
        let (mark, body) = marked(trimmed);
        if mark == Mark::Plain && self.continues(body) {
            if let Some((text, _)) = &mut self.pending {
                let text = text.to_mut();
                text.push(' ');
                text.push_str(body);
            }
            return;
        }
        self.flush();
        if mark == Mark::Plain {
            self.label = "";
            let bare = body.trim_matches(['*', '_', ' ']);
            if bare.ends_with([':', '：']) && bare.len() <= 80 {
                self.label = bare;
                return;
            }
        }
        self.pending = Some((Cow::Borrowed(body), mark));
    }

    /// Whether the line is no prose. Keeps track of fences and key blocks.
    fn skips(&mut self, trimmed: &'a str) -> bool {
        let fence = ["```", "~~~"].into_iter().find(|f| trimmed.starts_with(f));
        match (self.fence, fence) {
            (Some(open), Some(found)) if open == found => self.fence = None,
            (None, Some(found)) => self.fence = Some(found),
            _ => {}
        }
        if trimmed.starts_with("-----BEGIN ") {
            self.pem = true;
        }
        let skip = fence.is_some() || self.fence.is_some() || self.pem;
        if trimmed.contains("-----END ") {
            self.pem = false;
        }
        skip || trimmed.is_empty() || trimmed.starts_with(['>', '|']) || trimmed.len() > LONGEST_LINE
    }

    /// A line that begins small after a long line without an end is the same sentence.
    fn continues(&self, body: &str) -> bool {
        self.pending.as_ref().is_some_and(|(text, _)| {
            text.len() >= 50
                && text.len() < LONGEST_LINE
                && !text.ends_with(['.', '!', '?', ':', ';', '。', '！', '？', '：'])
                && body.chars().next().is_some_and(char::is_lowercase)
        })
    }

    fn flush(&mut self) {
        let Some((text, mark)) = self.pending.take() else { return };
        let under = match mark {
            Mark::Plain => "",
            _ if self.label.is_empty() => self.heading,
            _ => self.label,
        };
        let mut push = |text: Cow<'a, str>| {
            if text.chars().any(char::is_alphanumeric) {
                self.found.push(Sentence { text, mark, under });
            }
        };
        match text {
            Cow::Borrowed(text) => split(text).into_iter().for_each(|s| push(Cow::Borrowed(s))),
            Cow::Owned(text) => split(&text).into_iter().for_each(|s| push(Cow::Owned(s.to_owned()))),
        }
    }
}

/// The list marker's meaning and the text behind it.
fn marked(line: &str) -> (Mark, &str) {
    let bullet = line.strip_prefix(['-', '*', '+', '•', '–']).filter(|rest| rest.starts_with([' ', '\t']));
    let digits = line.len() - line.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number = (1..=3).contains(&digits).then(|| line[digits..].strip_prefix(['.', ')'])).flatten();
    let number = number.filter(|rest| rest.starts_with(' '));
    let body = match (bullet, number) {
        (Some(rest), _) => rest.trim_start(),
        (None, Some(rest)) => rest.trim_start(),
        (None, None) => line,
    };
    let boxed = body.strip_prefix('[').and_then(|rest| {
        let mark = match rest.chars().next()? {
            ' ' => Mark::Open,
            'x' | 'X' | '✓' | '✔' => Mark::Done,
            _ => return None,
        };
        let rest = &rest[rest.chars().next()?.len_utf8()..];
        Some((mark, rest.strip_prefix("] ")?.trim_start()))
    });
    match boxed {
        Some(found) => found,
        None if body.len() < line.len() => (Mark::Item, body),
        None => (Mark::Plain, line),
    }
}

/// Words after which a full stop ends no sentence.
const ABBREVIATIONS: &[&str] = &[
    "e.g", "i.e", "etc", "vs", "mr", "mrs", "ms", "dr", "prof", "no", "approx", "fig", "cf", "st", "inc", "ltd", "al",
    "z.b", "d.h", "u.a", "bzw", "ca", "usw", "nr", "evtl", "ggf", "inkl", "vgl", "str", "z", "d", "b", "h", "p.ex",
    "env", "sr", "sra", "ej", "pág", "núm", "т.д", "т.п", "т.е", "т.к", "г", "ул", "им", "см", "v", "u.s", "a.m",
    "p.m", "mm", "bsp", "max", "min", "ver",
];

/// What a German ordinal ("31.", "2.") counts, besides words that begin small: months and the usual nouns.
const COUNTED: &[&str] = &[
    "januar",
    "jänner",
    "februar",
    "feber",
    "märz",
    "april",
    "mai",
    "juni",
    "juli",
    "august",
    "september",
    "oktober",
    "november",
    "dezember",
    "jan",
    "feb",
    "mär",
    "apr",
    "jun",
    "jul",
    "aug",
    "sep",
    "sept",
    "okt",
    "nov",
    "dez",
    "stock",
    "stockwerk",
    "etage",
    "geschoss",
    "obergeschoss",
    "untergeschoss",
    "quartal",
    "halbjahr",
    "semester",
    "woche",
    "kalenderwoche",
    "tag",
    "werktag",
    "monat",
    "jahr",
    "jahrhundert",
    "geburtstag",
    "klasse",
    "platz",
    "auflage",
    "kapitel",
    "abschnitt",
    "absatz",
    "schritt",
    "teil",
    "runde",
    "versuch",
    "anlauf",
    "entwurf",
    "mal",
    "mahnung",
    "rate",
    "reihe",
    "spalte",
    "zeile",
    "seite",
    "punkt",
    "preis",
    "liga",
    "halbzeit",
    "advent",
    "person",
];

/// Words between which and a noun an ordinal stands; the noun may be any.
const BEFORE_ORDINAL: &[&str] = &["der", "die", "das", "dem", "den", "des", "im", "am", "zum", "zur", "vom", "beim"];

/// Splits a paragraph at sentence ends.
fn split(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    // An odd backtick opens nothing.
    let spans = text.bytes().filter(|b| *b == b'`').count().is_multiple_of(2);
    let (mut start, mut code) = (0, false);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '`' && spans {
            code = !code;
        }
        let full = matches!(c, '。' | '！' | '？' | '｡');
        if code || !(full || matches!(c, '.' | '!' | '?' | '…')) {
            continue;
        }
        let mut end = at + c.len_utf8();
        // Further marks and what closes around the sentence belong to it.
        while let Some((next, c)) = chars.peek().copied() {
            if !matches!(
                c,
                '.' | '!' | '?' | '…' | '。' | '！' | '？' | ')' | '"' | '”' | '’' | '」' | '』' | '）' | '*' | '_'
            ) {
                break;
            }
            end = next + c.len_utf8();
            chars.next();
        }
        let rest = &text[end..];
        let ends = full || rest.is_empty() || rest.starts_with(char::is_whitespace);
        if ends && (full || c != '.' || !abbreviates(&text[start..at], rest)) {
            found.push(text[start..end].trim());
            start = end;
        }
    }
    found.push(text[start..].trim());
    found.retain(|s| !s.is_empty());
    found
}

/// Whether the full stop between `before` and `after` belongs to a word.
fn abbreviates(before: &str, after: &str) -> bool {
    let word = before.rsplit(|c: char| c.is_whitespace() || matches!(c, '(' | '"')).next().unwrap_or_default();
    let word = if word.len() <= 12 { word.to_lowercase() } else { String::new() };
    if word.is_empty() {
        return false;
    }
    let goes_on = after.trim_start().chars().next().is_some_and(char::is_lowercase);
    // "no." is an abbreviation only before a number; "No." is also an answer.
    if word == "no" {
        return after.trim_start().starts_with(|c: char| c.is_ascii_digit());
    }
    if counts(&word, before, after) {
        return true;
    }
    // "J. Meier", but not "card type K. If …".
    let next = after.split_whitespace().next().unwrap_or_default();
    let named = !lexicon::is_stop(&next.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase());
    let initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic) && word != "i" && named;
    goes_on || initial || (ABBREVIATIONS.contains(&word.as_str()) && !after.trim().is_empty())
}

/// Whether `word` is a German ordinal before what it counts: "bis 31. Juli", "im 2. Stock", "am 3. 4.".
fn counts(word: &str, before: &str, after: &str) -> bool {
    let is_number = word.len() <= 2 && word.bytes().all(|b| b.is_ascii_digit());
    let next = after.split_whitespace().next().unwrap_or_default();
    if !is_number || next.is_empty() {
        return false;
    }
    let bare = next.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let is_day = next.len() <= 3 && next.ends_with('.') && next.starts_with(|c: char| c.is_ascii_digit());
    let article = before[..before.len() - word.len()].split_whitespace().next_back().unwrap_or_default();
    let named = BEFORE_ORDINAL.contains(&article.to_lowercase().as_str());
    // "der 3. Versuch", but not "am 3. Wir kommen".
    is_day || COUNTED.contains(&bare.as_str()) || named && !is_pronoun(&bare)
}

/// Whether a sentence may well begin with the word: no noun does so behind an ordinal.
fn is_pronoun(word: &str) -> bool {
    lexicon::is_stop(word) || matches!(word, "danach" | "vorher" | "davor" | "deshalb" | "also" | "sonst" | "heute")
}

#[cfg(test)]
mod tests;
