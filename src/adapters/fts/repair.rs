//! The spelling repair: a word that no text holds is replaced by the nearest one that some text holds.
//!
//! Why over words as written and not over FTS5's own vocabulary: that one holds stems, a stem cannot be looked up
//! again (the stem of a stem is another one) and is nothing to show a person.

use rusqlite::{Connection, Result};
use strsim::osa_distance;

/// Shorter words have too many neighbours.
const SHORTEST: usize = 4;

/// From this length on two mistakes are forgiven.
const TWO_MISTAKES_FROM: usize = 7;

/// The best replacement: fewest mistakes, then in most segments, then first in the alphabet. `None` when nothing is
/// near, or the word is short or has anything but letters in it.
pub(super) fn nearest(connection: &Connection, word: &str) -> Result<Option<String>> {
    let length = word.chars().count();
    if length < SHORTEST || !word.chars().all(char::is_alphabetic) {
        return Ok(None);
    }
    let allowed = if length >= TWO_MISTAKES_FROM { 2 } else { 1 };
    // The first letter is seldom wrong, and looking only there is many times less work.
    let first: String = word.chars().take(1).collect();
    let above: String = first.chars().map(|c| char::from_u32(c as u32 + 1).unwrap_or(char::MAX)).collect();
    let near = scan(connection, word, allowed, "WHERE text >= ?1 AND text < ?2", &[&first, &above])?;
    if near.is_some() { Ok(near) } else { scan(connection, word, allowed, "", &[]) }
}

fn scan(
    connection: &Connection,
    word: &str,
    allowed: usize,
    range: &str,
    bounds: &[&String],
) -> Result<Option<String>> {
    let length = word.chars().count();
    let letters = letter_set(word);
    let mut statement = connection.prepare_cached(&format!("SELECT text, segments FROM word {range}"))?;
    let mut rows = statement.query(rusqlite::params_from_iter(bounds))?;
    let mut best: Option<(usize, i64, String)> = None;
    while let Some(row) = rows.next()? {
        let candidate = row.get_ref(0)?.as_str()?;
        // Each mistake changes at most two letters of the set: a cheap test that leaves few candidates.
        let differing = (letter_set(candidate) ^ letters).count_ones() as usize;
        if differing > 2 * allowed || candidate.chars().count().abs_diff(length) > allowed {
            continue;
        }
        let distance = osa_distance(candidate, word);
        let segments: i64 = row.get(1)?;
        let better = best.as_ref().is_none_or(|(d, s, _)| (distance, -segments) < (*d, -*s));
        if distance <= allowed && better {
            best = Some((distance, segments, candidate.to_owned()));
        }
    }
    Ok(best.map(|(_, _, text)| text))
}

/// Which letters occur, folded to 64 bits.
fn letter_set(word: &str) -> u64 {
    word.chars().fold(0, |set, c| set | 1 << (c as u32 % 64))
}
