//! How text is written into the index: spaces between CJK characters, the words of a text, the line in front of a
//! chunk.
//!
//! Why: the tokenizer takes a whole run of Chinese or Japanese for one word. What a person is shown never passes
//! through here.

use chrono::{DateTime, Datelike, Utc};
use std::borrow::Cow;

/// Longer "words" are encoded data, not something a person misspells.
const LONGEST_WORD: usize = 32;

/// Whether a character is a word of its own to the index: Han, kana, Hangul.
pub(super) fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}'
        | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{1100}'..='\u{11ff}' | '\u{20000}'..='\u{323af}')
        && c != '\u{30fb}'
}

/// The text with a space around each CJK character.
pub(super) fn spaced(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_cjk) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() * 4 / 3);
    for c in text.chars() {
        if is_cjk(c) {
            out.push(' ');
            out.push(c);
            out.push(' ');
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The words a misspelt word may have meant, in lower case: letters only, three characters and more.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|w| w.len() <= 4 * LONGEST_WORD && w.chars().all(|c| c.is_alphabetic() && !is_cjk(c)))
        .filter(|w| (3..=LONGEST_WORD).contains(&w.chars().count()))
        .map(str::to_lowercase)
}

/// What stands in front of a chunk for ranking: its days, the session and who speaks. "What did Ana say in May 2026"
/// is answered from here.
#[derive(Default)]
pub(super) struct Head {
    days: Vec<String>,
    speakers: Vec<String>,
}

impl Head {
    /// More would drown the text.
    const MOST: usize = 6;

    pub(super) fn add(&mut self, at: Option<DateTime<Utc>>, speaker: &str) {
        if let Some(at) = at {
            let day = format!("{} {} {}", at.format("%Y-%m-%d"), at.day(), at.format("%B %Y"));
            push_new(&mut self.days, day);
        }
        push_new(&mut self.speakers, spaced(speaker).into_owned());
    }

    pub(super) fn line(&self, session: &str, session_id: &str) -> String {
        format!("{} {session} {session_id} {}", self.days.join(" "), self.speakers.join(" "))
    }
}

fn push_new(list: &mut Vec<String>, entry: String) {
    if list.len() < Head::MOST && !list.contains(&entry) {
        list.push(entry);
    }
}
