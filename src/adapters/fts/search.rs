//! Searching: chunks by bm25, sessions by their best chunks, then the turns that matched.
//!
//! Why two steps: a chunk has enough context to rank a session well, and a person or agent needs the exact turn. It runs on one
//! snapshot, so that a chunk that is being continued is seen before or after, never in between.

use super::query::{Match, Unit, units};
use super::repair::nearest;
use super::text::spaced;
use super::{NAME, stopword};
use chrono::{DateTime, Utc};
use moon_actors::domain::{SessionKey, Sha256};
use moon_actors::port::{Hit, Hits, IndexStatus, Query, TurnHit};
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::collections::HashMap;

/// Sessions in one answer, at most.
const MOST_SESSIONS: usize = 100;
/// Units in one expression, at most; the rarest stay.
const MOST_UNITS: usize = 48;
/// Chunks that are enough to name the sessions of a usual answer; more are read only when they were not.
const FIRST_CHUNKS: usize = 1_000;
/// Chunks of a session whose turns are looked at.
const CHUNKS_SHOWN: usize = 5;
/// Turns shown of a session.
const TURNS_SHOWN: usize = 3;
/// A turn of up to this many characters is shown whole, of a longer one the piece that matched.
const WHOLE_TURN: usize = 8_000;
/// A turn of more pieces is longer than that for certain; it is not even read.
const MOST_PARTS: i64 = 80;
/// Weight of the line in front of a chunk (days, session, speakers) against its text.
const HEAD_WEIGHT: f64 = 1.5;
/// bm25 among turns: how fast repetition stops counting, and how much a long turn is held back. Less than among chunks (0.75):
/// turns differ in length by nature, a long answer is not padding.
const TURN_K1: f64 = 1.2;
const TURN_B: f64 = 0.3;
/// What a turn gets of the score of the turn before it: an answer seldom repeats the words of its question.
const ANSWER_SHARE: f64 = 0.2;
/// What a turn gets of the score of its chunk: between equals, the one in better company.
const CHUNK_SHARE: f64 = 0.2;
/// Below this many chunks "most chunks have the word" says nothing.
const FEW_CHUNKS: i64 = 200;

/// A unit that occurs, with what one occurrence is worth.
struct Term {
    expression: String,
    rows: i64,
}

struct Ranked {
    transcript: i64,
    score: f64,
    /// Best first.
    chunks: Vec<(f64, i64)>,
}

pub(super) fn search(connection: &Connection, query: &Query) -> Result<Hits> {
    let mut hits = Hits { backend: NAME.into(), ..Hits::default() };
    let chunks: i64 = connection.query_row("SELECT coalesce(max(id), 0) FROM chunk", [], |row| row.get(0))?;
    let terms = terms(connection, units(&query.text), chunks, &mut hits.repaired)?;
    if terms.is_empty() {
        return Ok(hits);
    }
    let limit = query.limit.clamp(1, MOST_SESSIONS);
    let sessions = rank(connection, &terms, query, limit)?;
    let since = query.since.map(|since| since.timestamp_micros());
    let mut turns = turns(connection, &sessions, &terms, chunks, since)?;
    for session in sessions {
        let (key, session_id) = connection
            .prepare_cached("SELECT session, session_id FROM transcript WHERE id = ?1")?
            .query_row([session.transcript], |row| Ok((SessionKey(row.get(0)?), row.get(1)?)))?;
        let turns = turns.remove(&session.transcript).unwrap_or_default();
        hits.hits.push(Hit { session: key, session_id, score: session.score, turns });
    }
    Ok(hits)
}

pub(super) fn status(connection: &Connection, bytes: u64) -> Result<IndexStatus> {
    let count = |table: &str| -> Result<u64> {
        let rows: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        Ok(rows.unsigned_abs())
    };
    Ok(IndexStatus { backend: NAME.into(), segments: count("segment")?, chunks: count("chunk")?, bytes })
}

/// The units that some chunk holds. A phrase nobody wrote falls apart into its words, a word nobody wrote is repaired.
fn terms(
    connection: &Connection,
    units: Vec<Unit>,
    chunks: i64,
    repaired: &mut Vec<(String, String)>,
) -> Result<Vec<Term>> {
    let mut terms: Vec<Term> = Vec::new();
    for unit in units {
        let rows = rows(connection, &unit)?;
        let candidates = match unit.kind {
            _ if rows > 0 => vec![(unit, rows)],
            Match::Word => repair(connection, unit, repaired)?.into_iter().collect(),
            Match::Phrase | Match::Date => {
                let mut parts = Vec::new();
                for part in unit.parts() {
                    match self::rows(connection, &part)? {
                        0 => parts.extend(repair(connection, part, repaired)?),
                        rows => parts.push((part, rows)),
                    }
                }
                parts
            }
        };
        for (unit, rows) in candidates {
            let expression = unit.expression();
            if !terms.iter().any(|term| term.expression == expression) {
                terms.push(Term { expression, rows });
            }
        }
    }
    // A word that most chunks have tells nothing and costs the most.
    if chunks >= FEW_CHUNKS && terms.iter().any(|term| term.rows * 2 <= chunks) {
        terms.retain(|term| term.rows * 2 <= chunks);
    }
    terms.sort_by_key(|term| term.rows);
    terms.truncate(MOST_UNITS);
    Ok(terms)
}

fn rows(connection: &Connection, unit: &Unit) -> Result<i64> {
    let sql = "SELECT count(*) FROM chunk_text WHERE chunk_text MATCH ?1";
    connection.prepare_cached(sql)?.query_row([unit.expression()], |row| row.get(0))
}

fn repair(connection: &Connection, unit: Unit, repaired: &mut Vec<(String, String)>) -> Result<Option<(Unit, i64)>> {
    if stopword::is_stop(&unit.text) {
        return Ok(None);
    }
    let Some(meant) = nearest(connection, &unit.text)? else { return Ok(None) };
    let meant_unit = Unit::word(meant.as_str());
    let rows = rows(connection, &meant_unit)?;
    if rows == 0 {
        return Ok(None);
    }
    repaired.push((unit.text, meant));
    Ok(Some((meant_unit, rows)))
}

/// The best sessions, best first.
fn rank(connection: &Connection, terms: &[Term], query: &Query, limit: usize) -> Result<Vec<Ranked>> {
    let expression = terms.iter().map(|t| t.expression.as_str()).collect::<Vec<_>>().join(" OR ");
    let unfiltered = query.session.is_none() && query.since.is_none();
    if unfiltered {
        let (sessions, read) = rank_among(connection, &expression, query, limit, FIRST_CHUNKS as i64)?;
        if sessions.len() >= limit || read < FIRST_CHUNKS {
            return Ok(sessions);
        }
    }
    Ok(rank_among(connection, &expression, query, limit, -1)?.0)
}

/// Ranks by the best `most` chunks (all with -1). Also says how many chunks were read.
fn rank_among(
    connection: &Connection,
    expression: &str,
    query: &Query,
    limit: usize,
    most: i64,
) -> Result<(Vec<Ranked>, usize)> {
    let order = if most < 0 { "" } else { "ORDER BY score LIMIT ?2" };
    let sql = format!(
        "SELECT c.transcript, f.score, c.id
         FROM (SELECT rowid AS id, bm25(chunk_text, {HEAD_WEIGHT:?}, 1.0) AS score FROM chunk_text WHERE chunk_text MATCH ?1 {order}) f
         JOIN chunk c ON c.id = f.id
         WHERE (?3 IS NULL OR c.transcript IN (SELECT id FROM transcript WHERE session = ?3))
           AND (?4 IS NULL OR c.last_at >= ?4) AND ?2 IS NOT NULL"
    );
    let session = query.session.as_ref().map(SessionKey::as_str);
    let since = query.since.map(|since| since.timestamp_micros());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![expression, most, session, since])?;
    let mut best: HashMap<i64, Vec<(f64, i64)>> = HashMap::new();
    let mut read = 0;
    while let Some(row) = rows.next()? {
        read += 1;
        let (transcript, score, chunk): (i64, f64, i64) = (row.get(0)?, -row.get::<_, f64>(1)?, row.get(2)?);
        let chunks = best.entry(transcript).or_default();
        let place = chunks.partition_point(|(better, _)| *better >= score);
        if place < CHUNKS_SHOWN {
            chunks.insert(place, (score, chunk));
            chunks.truncate(CHUNKS_SHOWN);
        }
    }
    // The best chunk speaks for its session: adding up more of them only favours long sessions.
    let mut ranked: Vec<Ranked> = best
        .into_iter()
        .map(|(transcript, chunks)| Ranked { transcript, score: chunks.first().map_or(0.0, |c| c.0), chunks })
        .collect();
    // Equal scores: the newer transcript first.
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.transcript.cmp(&a.transcript)));
    ranked.truncate(limit);
    Ok((ranked, read))
}

/// A piece that may be shown.
struct Candidate {
    id: i64,
    transcript: i64,
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
    score: f64,
}

/// The best turns of each session, best first.
fn turns(
    connection: &Connection,
    sessions: &[Ranked],
    terms: &[Term],
    chunks: i64,
    since: Option<i64>,
) -> Result<HashMap<i64, Vec<TurnHit>>> {
    let mut candidates = candidates(connection, sessions, since)?;
    score(connection, &mut candidates, terms, chunks)?;
    let mut shown: HashMap<i64, Vec<TurnHit>> = HashMap::new();
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.id.cmp(&a.id)));
    for candidate in &candidates {
        let turns = shown.entry(candidate.transcript).or_default();
        if turns.len() >= TURNS_SHOWN {
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

/// The pieces of the best chunks.
fn candidates(connection: &Connection, sessions: &[Ranked], since: Option<i64>) -> Result<Vec<Candidate>> {
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

/// bm25 of each piece, but with the rarity of a word in the whole index: among the few pieces at hand every word they share
/// would look common.
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
