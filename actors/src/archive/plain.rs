//! Foreign text made safe to show: in Markdown, in a terminal, in a prompt.
//!
//! It is here because projection, memory, continuity map, summary and recall all quote text that somebody else wrote,
//! and each must treat it alike. It must never touch what is archived: only copies for readers pass through here.

use std::borrow::Cow;

/// Element names that an agent or its host gives a meaning to; a quoted `<` before one of them is defused.
const ELEMENTS: &[&str] = &[
    "summary",
    "system",
    "user",
    "assistant",
    "human",
    "tool",
    "function",
    "instruction",
    "thinking",
    "moon",
    "context",
    "archive",
    "memory",
    "important",
    "developer",
    "admin",
    "im_start",
    "im_end",
    "|",
    "relevant",
    "script",
    "style",
    "iframe",
    "!--",
    "![cdata",
    "?",
];

/// Words that make a bracket a marker of Moon's or of a chat template, e.g. `[MOON_ARCHIVE_INDEX]`, `[/INST]`.
const BRACKETS: &[&str] = &["moon", "archive", "inst", "system", "end of"];

/// Put between the first and the rest of a defused marker. Visible, in no marker, and not an ASCII character.
pub const DEFUSED: char = '·';

/// Whether a character can change how the text around it is shown, or hide in it.
pub fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => true,
        '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e007f}' => true,
        _ => c.is_control(),
    }
}

/// Control characters (but line feed and tab), bidirectional overrides and invisible characters as `\u{1b}`.
/// A carriage return before a line feed is dropped.
pub fn escape(text: &str) -> Cow<'_, str> {
    // ASCII without controls is nearly all text, and needs no copy.
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\r' && chars.peek() == Some(&'\n') {
            continue;
        }
        if is_hidden(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// One line: escaped, every run of white space one blank, trimmed.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(1 << 16));
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&escape(word));
    }
    out
}

/// At most `max` characters (Unicode scalar values), ending in `…` when something was left out, at a blank if one is
/// near.
pub fn clip(text: &str, max: usize) -> Cow<'_, str> {
    let Some((end, _)) = text.char_indices().nth(max) else { return Cow::Borrowed(text) };
    if max == 0 {
        return Cow::Borrowed("");
    }
    // One character less than allowed: the ellipsis needs a place.
    let last = text[..end].char_indices().next_back().map_or(0, |(at, _)| at);
    let head = &text[..last];
    let blank = head.rfind(char::is_whitespace).filter(|at| head.len() - at <= 24 && *at > head.len() / 2);
    Cow::Owned(format!("{}…", blank.map_or(head, |at| &head[..at]).trim_end()))
}

/// Number of characters (Unicode scalar values): the unit of every `max_chars`.
pub fn chars(text: &str) -> usize {
    text.chars().count()
}

/// A fence of backticks longer than any run of them inside, three at least.
pub fn fence(text: &str) -> String {
    let (mut longest, mut run) = (0, 0);
    for byte in text.bytes() {
        run = if byte == b'`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    "`".repeat((longest + 1).max(3))
}

/// Breaks what imitates a marker, a tag or a chat template: `[MOON_X]` becomes `[·MOON_X]`, `</summary>` becomes
/// `<·/summary>`. Everything else stays as it is.
pub fn defuse(text: &str) -> Cow<'_, str> {
    if !text.contains(['<', '[', '-', '=', '`']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        out.push(c);
        let rest = &text[at + c.len_utf8()..];
        let marker = match c {
            '<' => begins(rest.trim_start_matches(['/', ' ', '<']), ELEMENTS),
            '[' => begins(rest.trim_start_matches([' ', '[', '/']), BRACKETS),
            // Three or more of them begin front matter, a separator, a fence or a PEM block.
            '-' | '=' | '`' => {
                let mut next = rest.chars();
                next.next() == Some(c) && next.next() == Some(c)
            }
            _ => false,
        };
        if marker {
            out.push(DEFUSED);
        }
    }
    Cow::Owned(out)
}

/// Whether `text` begins with one of the words, whatever the case of its letters.
fn begins(text: &str, words: &[&str]) -> bool {
    let bytes = text.as_bytes();
    words.iter().any(|word| bytes.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes())))
}

/// A quoted statement as one line of a list: escaped, defused, without the heading, list or quote marks it began with.
pub fn quote(text: &str, max: usize) -> String {
    let line = one_line(text);
    let mut rest = line.as_str();
    while let Some(bare) = unmarked(rest) {
        rest = bare;
    }
    clip(&defuse(rest), max).into_owned()
}

/// The text behind one block mark at its beginning; a word such as `--flag` or `#42` is none.
fn unmarked(text: &str) -> Option<&str> {
    let run = text.trim_start_matches(['#', '-', '*', '+', '=']);
    let marks = text.len() - run.len();
    match run.strip_prefix(' ') {
        Some(rest) if marks > 0 => Some(rest),
        _ if marks > 0 && run.is_empty() => Some(run),
        _ => text.strip_prefix(['>', '|', ' ']),
    }
}

#[cfg(test)]
mod tests;
