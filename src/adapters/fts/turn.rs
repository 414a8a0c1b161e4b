//! The turns of a session that answer: scored one by one, and shown as they were archived.
//!
//! Why not a full-text table of turns as well: it would double the index. The few pieces at hand go through a scratch
//! table in memory that has the index's own tokenizer.

use super::search::{Ranked, Term};
use super::text::spaced;
use chrono::{DateTime, Utc};
use moon_actors::domain::Sha256;
use moon_actors::port::TurnHit;
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::collections::{HashMap, HashSet};

/// Turns shown of a session.
const TURNS_SHOWN: usize = 3;
/// A turn of up to this many characters is shown whole, of a longer one the piece that matched.
const WHOLE_TURN: usize = 8_000;
/// A turn of more pieces is longer than that for certain; it is not even read.
const MOST_PARTS: i64 = 80;
/// bm25 among turns: how fast repetition stops counting, and how much a long turn is held back. Less than among
/// chunks (0.75): turns differ in length by nature, a long answer is not padding.
const TURN_K1: f64 = 1.2;
const TURN_B: f64 = 0.3;
/// What a turn gets of the score of the turn before it: an answer seldom repeats the words of its question.
const ANSWER_SHARE: f64 = 0.2;
/// What a turn gets of the score of its chunk: between equals, the one in better company.
const CHUNK_SHARE: f64 = 0.2;

/// A piece that may be shown.
pub(super) struct Candidate {
    id: i64,
    pub(super) transcript: i64,
    chunk: i64,
    segment: i64,
    seq: i64,
    part: i64,
    parts: i64,
    at: Option<i64>,
    speaker: String,
    text: String,
    chars: f64,
    chunk_score: f64,
    pub(super) score: f64,
}

/// The pieces of the sessions' best chunks, scored.
pub(super) fn candidates(
    connection: &Connection,
    sessions: &[Ranked],
    terms: &[Term],
    chunks: i64,
    since: Option<i64>,
) -> Result<Vec<Candidate>> {
    let mut candidates = read(connection, sessions, since)?;
    score(connection, &mut candidates, terms, chunks)?;
    Ok(candidates)
}

fn read(connection: &Connection, sessions: &[Ranked], since: Option<i64>) -> Result<Vec<Candidate>> {
    let sql = "SELECT id, segment, seq, part, parts, at, speaker, text FROM piece
               WHERE chunk = ?1 AND (?2 IS NULL OR at >= ?2) ORDER BY id";
    let mut pieces = connection.prepare_cached(sql)?;
    let mut candidates = Vec::new();
    for session in sessions {
        for (score, chunk) in &session.chunks {
            let mut rows = pieces.query(params![chunk, since])?;
            while let Some(row) = rows.next()? {
                let text: String = row.get(7)?;
                candidates.push(Candidate {
                    id: row.get(0)?,
                    transcript: session.transcript,
                    chunk: *chunk,
                    segment: row.get(1)?,
                    seq: row.get(2)?,
                    part: row.get(3)?,
                    parts: row.get(4)?,
                    at: row.get(5)?,
                    speaker: row.get(6)?,
                    chars: text.chars().count() as f64,
                    text,
                    chunk_score: *score,
                    score: 0.0,
                });
            }
        }
    }
    Ok(candidates)
}

/// bm25 of each piece, but with the rarity of a word in the whole index: among the few pieces at hand every word they
/// share would look common.
fn score(connection: &Connection, candidates: &mut [Candidate], terms: &[Term], chunks: i64) -> Result<()> {
    let mut insert = connection.prepare_cached("INSERT INTO temp.shown(rowid, text) VALUES(?1, ?2)")?;
    for (row, candidate) in candidates.iter().enumerate() {
        insert.execute(params![row as i64, format!("{} {}", candidate.speaker, spaced(&candidate.text))])?;
    }
    let mean = candidates.iter().map(|c| c.chars).sum::<f64>() / candidates.len().max(1) as f64;
    let mut matching = connection.prepare_cached("SELECT rowid FROM temp.shown WHERE shown MATCH ?1")?;
    for term in terms {
        let (all, with) = (chunks as f64, term.rows as f64);
        let rarity = ((all - with + 0.5) / (with + 0.5)).ln().max(0.01);
        for candidate in candidates.iter_mut() {
            // Written exactly so: worth as much again.
            if term.literal.as_ref().is_some_and(|literal| candidate.text.to_lowercase().contains(literal)) {
                candidate.score += rarity;
            }
        }
        let mut rows = matching.query([&term.expression])?;
        while let Some(row) = rows.next()? {
            let candidate = &mut candidates[row.get::<_, i64>(0)? as usize];
            let length = 1.0 - TURN_B + TURN_B * candidate.chars / mean;
            candidate.score += rarity * (TURN_K1 + 1.0) / (1.0 + TURN_K1 * length);
        }
    }
    let own: Vec<f64> = candidates.iter().map(|c| c.score).collect();
    let chunk: Vec<i64> = candidates.iter().map(|c| c.chunk).collect();
    for (row, candidate) in candidates.iter_mut().enumerate() {
        if row > 0 && chunk[row - 1] == candidate.chunk {
            candidate.score += ANSWER_SHARE * own[row - 1];
        }
        candidate.score += CHUNK_SHARE * candidate.chunk_score;
    }
    Ok(())
}

/// The best turns of each session, best first, by transcript: [`TURNS_SHOWN`], or `each` if that is more.
pub(super) fn shown(
    connection: &Connection,
    sessions: &[Ranked],
    mut candidates: Vec<Candidate>,
    each: usize,
) -> Result<HashMap<i64, Vec<TurnHit>>> {
    let wanted: HashSet<i64> = sessions.iter().map(|session| session.transcript).collect();
    candidates.retain(|candidate| wanted.contains(&candidate.transcript));
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.id.cmp(&a.id)));
    let mut shown: HashMap<i64, Vec<TurnHit>> = HashMap::new();
    for candidate in &candidates {
        let turns = shown.entry(candidate.transcript).or_default();
        if turns.len() >= each.max(TURNS_SHOWN) {
            continue;
        }
        let turn = show(connection, candidate)?;
        // The same turn in another segment of a rewritten transcript, or another piece of a long turn.
        let known = |t: &TurnHit| t.seq == turn.seq && (t.segment == turn.segment || t.text == turn.text);
        if !turns.iter().any(known) {
            turns.push(turn);
        }
    }
    Ok(shown)
}

fn show(connection: &Connection, candidate: &Candidate) -> Result<TurnHit> {
    let hash: String = connection
        .prepare_cached("SELECT sha256 FROM segment WHERE id = ?1")?
        .query_row([candidate.segment], |row| row.get(0))?;
    let segment = Sha256::parse(&hash).ok_or(rusqlite::Error::InvalidQuery)?;
    Ok(TurnHit {
        segment,
        seq: candidate.seq,
        at: candidate.at.and_then(DateTime::<Utc>::from_timestamp_micros),
        speaker: candidate.speaker.clone(),
        text: whole(connection, candidate)?.unwrap_or_else(|| candidate.text.clone()),
        score: candidate.score,
    })
}

/// The text of the whole turn, if it is in more than one piece and not too long.
fn whole(connection: &Connection, piece: &Candidate) -> Result<Option<String>> {
    if piece.parts == 1 || piece.parts > MOST_PARTS {
        return Ok(None);
    }
    let first = piece.id - piece.part;
    connection
        .prepare_cached(
            "SELECT group_concat(text, '') FROM (SELECT text FROM piece WHERE id BETWEEN ?1 AND ?2 ORDER BY id)
             HAVING sum(length(text)) <= ?3",
        )?
        .query_row(params![first, first + piece.parts - 1, WHOLE_TURN as i64], |row| row.get(0))
        .optional()
}
