//! Words of a text: content words for people and queries, stems for comparing statements.
//!
//! Stems are the first six letters, hashed: crude, but the same for every language with inflected endings, and cheap.
//! Chinese and Japanese give pairs of characters. Must stay deterministic: keys and orders depend on it.

use super::lexicon;

/// Han, kana: scripts that write no blanks between words. (Hangul does.)
pub(super) fn is_cjk(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{2fa1f}')
}

/// Runs of letters and digits (with `-_./@#+` inside), and runs of characters of one blankless script.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let joins = |c: char| matches!(c, '-' | '_' | '.' | '/' | '@' | '#' | '+' | '\'' | '’');
    text.split(move |c: char| !(c.is_alphanumeric() || joins(c)))
        .flat_map(scripts)
        .map(move |t| t.trim_matches(joins))
        .filter(|t| !t.is_empty())
}

/// Splits a run where it changes between a blankless script and others; hiragana (mostly grammar) ends a run too.
fn scripts(run: &str) -> impl Iterator<Item = &str> {
    let class = |c: char| match c {
        '\u{3040}'..='\u{309f}' => 1,
        c if is_cjk(c) => 2,
        _ => 0,
    };
    let mut rest = run;
    std::iter::from_fn(move || {
        let first = class(rest.chars().next()?);
        let end = rest.find(|c| class(c) != first).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(end);
        rest = tail;
        Some(head)
    })
}

/// The content words, in order, each once, in lower case: no stop words, no single letters.
pub(crate) fn terms(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for token in tokens(text) {
        let word = token.to_lowercase();
        if is_content(&word) && word.chars().count() <= 40 && !found.contains(&word) {
            found.push(word);
        }
        if found.len() >= 64 {
            break;
        }
    }
    found
}

/// The content words as they are written, each once whatever its case.
pub(super) fn written(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for token in tokens(text) {
        let word = token.to_lowercase();
        if is_content(&word) && word.chars().count() <= 40 && seen.insert(word) {
            found.push(token);
        }
        if found.len() >= 64 {
            break;
        }
    }
    found
}

fn is_content(word: &str) -> bool {
    let mut chars = word.chars();
    let (Some(first), Some(_)) = (chars.next(), chars.next()) else { return false };
    if ('\u{3040}'..='\u{309f}').contains(&first) {
        return false;
    }
    if is_cjk(first) {
        return !lexicon::is_stop(word);
    }
    (chars.next().is_some() || word.bytes().any(|b| b.is_ascii_digit())) && !lexicon::is_stop(word)
}

/// A digit or a letter that tells things of one kind apart: flat 3 and flat 5, plan B and plan C.
fn is_mark(token: &str) -> bool {
    let mut chars = token.chars();
    let (Some(only), None) = (chars.next(), chars.next()) else { return false };
    only.is_numeric() || only.is_ascii_uppercase() && !matches!(only, 'A' | 'I' | 'O' | 'Y' | 'E')
}

/// The stems of the content words, and of the marks that tell things apart, as hashes, sorted, each once.
pub(super) fn stems(text: &str) -> Vec<u64> {
    let mut found = Vec::new();
    for token in tokens(text).take(400) {
        let word = token.to_lowercase();
        if !is_content(&word) && !is_mark(token) {
            continue;
        }
        if word.chars().next().is_some_and(is_cjk) {
            let chars: Vec<char> = word.chars().collect();
            found.extend(chars.windows(2).map(|pair| hash(pair.iter().copied())));
            continue;
        }
        // A path counts as its last part too: `src/main.rs` and `main.rs` are one topic.
        let last = word.rsplit('/').next().unwrap_or(&word);
        let plain = last.chars().all(char::is_alphabetic);
        found.push(hash(last.chars().take(if plain { 6 } else { 40 })));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// FNV-1a over characters: stable over versions and machines, unlike the standard library's hasher.
pub(super) fn hash(chars: impl Iterator<Item = char>) -> u64 {
    chars.fold(0xcbf2_9ce4_8422_2325, |hash, c| (hash ^ u64::from(u32::from(c))).wrapping_mul(0x0100_0000_01b3))
}

/// How many stems two sorted lists share.
pub(super) fn shared(a: &[u64], b: &[u64]) -> usize {
    let (mut i, mut j, mut count) = (0, 0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                count += 1;
                i += 1;
                j += 1;
            }
        }
    }
    count
}

/// Number of words, a blankless character counting as half a word.
pub(super) fn length(text: &str) -> usize {
    tokens(text).map(|t| if t.chars().next().is_some_and(is_cjk) { t.chars().count().div_ceil(2) } else { 1 }).sum()
}
