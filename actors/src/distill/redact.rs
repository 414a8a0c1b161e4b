//! Obvious secrets taken out of text that leaves the archive.
//!
//! A statement, a passage or an index entry is read by people, agents and models long after the key in it was typed, so
//! secrets are replaced with `[redacted]`: keys of a known shape, values beside a word that says what they are
//! (`named`), card and account numbers whose checksum holds (`numbers`). Every rule is precise: a false hit destroys
//! a true statement. All of it is linear in the text, whatever the text. It must never be applied to the archive itself.
//! Not found: keys cut by line breaks or invisible characters, encoded ones, and plain words that nobody calls a
//! password.

mod named;
mod numbers;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::{Regex, RegexSet};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Pattern and the number of the group that is the secret (0: all of it). Word boundaries are those of ASCII: faster,
/// and a key may stand right behind a Chinese character.
const PATTERNS: &[(&str, usize)] = &[
    // PEM blocks, also cut off before their end.
    (r"(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,12}-----.*?(-----END [A-Z0-9 ]{0,40}-----|$)", 0),
    // OpenAI, Anthropic, OpenRouter, Stripe.
    (r"(?-u:\b)(?:sk|rk|pk)[-_](?:[A-Za-z0-9]{2,12}[-_]){0,3}[A-Za-z0-9_-]{16,}", 0),
    (r"(?-u:\b)whsec_[A-Za-z0-9+/=]{16,}", 0),
    // GitHub, GitLab, npm, PyPI, Hugging Face.
    (r"(?-u:\b)(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,})", 0),
    (r"(?-u:\b)(?:npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{40,}|hf_[A-Za-z0-9]{24,})", 0),
    // AWS, Google, Slack, Telegram, SendGrid.
    (r"(?-u:\b)(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}(?-u:\b)", 0),
    (r"(?-u:\b)AIza[A-Za-z0-9_-]{30,}|(?-u:\b)ya29\.[A-Za-z0-9_-]{20,}", 0),
    (r"(?-u:\b)xox[abeoprs]-[A-Za-z0-9-]{10,}|(?-u:\b)xapp-[A-Za-z0-9-]{20,}", 0),
    (r"(?-u:\b)[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}|(?-u:\b)SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}", 0),
    (r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}|discord(?:app)?\.com/api/webhooks/[0-9]+/[A-Za-z0-9_-]{20,}", 0),
    // JSON web tokens.
    (r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", 0),
    // Authorization headers, user:password in an address, and the same behind curl's -u.
    (r"(?i-u:\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{12,}))", 1),
    (r"(?i-u:\b[a-z][a-z0-9+.-]{1,20}://)[^\s/:@]*:([^\s/@]{3,})@", 1),
    (r#"(?-u: (?:-u|--user)[ =]["']?[A-Za-z0-9._@+-]+:)([^\s"'$<]{3,})"#, 1),
];

/// Positions in [`PATTERNS`]: what must look like a key and not like words; what is a password behind `curl` only.
const BEARER: usize = 11;
const CURL: usize = 13;

static SET: LazyLock<RegexSet> =
    LazyLock::new(|| RegexSet::new(PATTERNS.iter().map(|p| p.0)).expect("the patterns are constants under test"));
static EACH: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    PATTERNS.iter().map(|p| Regex::new(p.0).expect("the patterns are constants under test")).collect()
});

/// The text with every secret that is recognised as `[redacted]`. Redacting twice changes nothing.
pub fn redact(text: &str) -> Cow<'_, str> {
    replace(text, find(text))
}

/// Where the secrets of a text stand: in order, without overlaps.
fn find(text: &str) -> Vec<Range<usize>> {
    let mut found = shapes(text);
    found.extend(named::find(text));
    found.extend(numbers::find(text));
    merged(found)
}

/// Keys that are recognised by their own shape.
fn shapes(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for at in SET.matches(text) {
        let group = PATTERNS[at].1;
        for captures in EACH[at].captures_iter(text) {
            let Some(secret) = captures.get(group) else { continue };
            let is_secret = match at {
                BEARER => named::is_value(secret.as_str(), true),
                CURL => is_curl(&text[..secret.start()]),
                _ => group == 0 || !secret.as_str().starts_with(['$', '<', '{', '%', '[']),
            };
            if is_secret {
                found.push(secret.range());
            }
        }
    }
    found
}

/// Whether `curl` was called on the line that ends here.
fn is_curl(before: &str) -> bool {
    let near = before.len().saturating_sub(400);
    let line = before.as_bytes()[near..].rsplit(|b| matches!(b, b'\n' | b'|' | b';')).next().unwrap_or_default();
    line.windows(5).any(|window| window == b"curl ")
}

fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn replace(text: &str, ranges: Vec<Range<usize>>) -> Cow<'_, str> {
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut last = 0;
    for range in ranges {
        out.push_str(&text[last..range.start]);
        out.push_str(REDACTED);
        last = range.end;
    }
    out.push_str(&text[last..]);
    Cow::Owned(out)
}

/// Secrets that some text named, so that they are found where they are only repeated.
#[derive(Debug, Default)]
pub struct Known(Option<AhoCorasick>);

impl Known {
    /// Shorter ones are too likely to be something else elsewhere.
    const SHORTEST: usize = 6;
    const MOST: usize = 5_000;

    /// What is secret in these texts.
    pub fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut secrets: BTreeSet<&str> = BTreeSet::new();
        for text in texts {
            // Blocks are too long to be repeated by accident and too many to be looked for.
            let short = find(text).into_iter().map(|range| &text[range]).filter(|secret| secret.len() <= 200);
            secrets.extend(short.map(core).filter(|secret| secret.chars().count() >= Self::SHORTEST));
            if secrets.len() >= Self::MOST {
                break;
            }
        }
        let build = || AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&secrets).ok();
        Self(if secrets.is_empty() { None } else { build() })
    }

    /// Like [`redact`], and the known ones as well.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut found = find(text);
        if let Some(known) = &self.0 {
            let alone = |at: &Range<usize>| {
                let (before, after) = (text[..at.start].chars().next_back(), text[at.end..].chars().next());
                ![before, after].into_iter().flatten().any(|c| c.is_ascii_alphanumeric())
            };
            found.extend(known.find_iter(text).map(|m| m.range()).filter(alone));
        }
        replace(text, merged(found))
    }
}

/// The secret without the marks that a sentence puts around it.
fn core(secret: &str) -> &str {
    secret.trim_matches(|c: char| c.is_whitespace() || matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '"' | '\''))
}

#[cfg(test)]
mod tests;
