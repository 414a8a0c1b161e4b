//! Adding a segment: chunks along turn borders, all in the caller's transaction.
//!
//! Why the last chunk is opened again: the daemon archives after every turn, so a segment is often one question and
//! one answer, and passages that small rank worse than whole ones. A put continues the last chunk of the segment
//! before it.

use super::chunk::pieces;
use super::text::{Head, spaced, words};
use chrono::{DateTime, Utc};
use moon_actors::domain::Turn;
use moon_actors::port::{IndexDoc, Put, SegmentName};
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::collections::HashSet;

/// Distinct words held in memory before they are written out; bounds a put of many megabytes.
const WORDS_HELD: usize = 20_000;

/// Whether the index holds the segment.
pub(super) fn contains(connection: &Connection, name: &SegmentName) -> Result<bool> {
    let sql = "SELECT 1 FROM segment s JOIN transcript t ON t.id = s.transcript
               WHERE s.sha256 = ?1 AND s.epoch = ?2 AND s.ordinal = ?3 AND t.session = ?4 AND t.session_id = ?5";
    let key = params![name.segment.as_str(), name.epoch, name.ordinal, name.session.as_str(), name.session_id];
    connection.prepare_cached(sql)?.exists(key)
}

/// Which of the segments it does not hold, in the order asked.
pub(super) fn missing(connection: &Connection, expected: &[SegmentName]) -> Result<Vec<SegmentName>> {
    let mut missing = Vec::new();
    for name in expected {
        if !contains(connection, name)? {
            missing.push(name.clone());
        }
    }
    Ok(missing)
}

/// Adds the segment if it is not there.
pub(super) fn put(connection: &Connection, doc: &IndexDoc, chunk_chars: usize) -> Result<Put> {
    let name = &doc.name;
    if contains(connection, name)? {
        return Ok(Put::Unchanged);
    }
    let transcript = transcript(connection, name)?;
    let segment: i64 = connection
        .prepare_cached("INSERT INTO segment(transcript, epoch, ordinal, sha256) VALUES(?1,?2,?3,?4) RETURNING id")?
        .query_row(params![transcript, name.epoch, name.ordinal, name.segment.as_str()], |row| row.get(0))?;
    let open = tail(connection, transcript, name)?;
    let mut writing = Writing { connection, name, transcript, segment, chunk_chars, open, words: HashSet::new() };
    for turn in &doc.turns {
        writing.turn(turn)?;
    }
    writing.close_chunk()?;
    writing.flush_words()?;
    Ok(Put::New)
}

fn transcript(connection: &Connection, name: &SegmentName) -> Result<i64> {
    let known = connection
        .prepare_cached("SELECT id FROM transcript WHERE session = ?1 AND session_id = ?2")?
        .query_row(params![name.session.as_str(), name.session_id], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => connection
            .prepare_cached("INSERT INTO transcript(session, session_id) VALUES(?1, ?2) RETURNING id")?
            .query_row(params![name.session.as_str(), name.session_id], |row| row.get(0)),
    }
}

/// A chunk that still takes pieces.
#[derive(Default)]
struct Open {
    /// `None` for a chunk that is not stored yet.
    id: Option<i64>,
    /// Head and body as they are indexed, for a stored chunk: FTS5 takes an entry out only when shown what went in.
    indexed: Option<(String, String)>,
    chars: usize,
    last_at: Option<i64>,
    head: Head,
    body: String,
    fresh: Vec<Piece>,
}

struct Piece {
    seq: i64,
    part: i64,
    parts: i64,
    at: Option<DateTime<Utc>>,
    speaker: String,
    text: String,
}

impl Open {
    fn take(&mut self, at: Option<DateTime<Utc>>, speaker: &str, text: &str) {
        self.head.add(at, speaker);
        self.chars += text.chars().count();
        self.last_at = self.last_at.max(at.map(|at| at.timestamp_micros()));
        self.body.push_str(&spaced(text));
        self.body.push('\n');
    }
}

/// The last chunk of the segment right before this one, ready to go on; else an empty one.
fn tail(connection: &Connection, transcript: i64, name: &SegmentName) -> Result<Open> {
    let sql = "SELECT id FROM chunk WHERE transcript = ?1 AND epoch = ?2 AND ordinal = ?3 ORDER BY id DESC LIMIT 1";
    let before = name.ordinal.saturating_sub(1);
    let last: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row(params![transcript, name.epoch, before], |row| row.get(0))
        .optional()?;
    let mut open = Open { id: last, ..Open::default() };
    if last.is_some() {
        let mut stored =
            connection.prepare_cached("SELECT at, speaker, text FROM piece WHERE chunk = ?1 ORDER BY id")?;
        let mut rows = stored.query([last])?;
        while let Some(row) = rows.next()? {
            let at = row.get::<_, Option<i64>>(0)?.and_then(DateTime::from_timestamp_micros);
            open.take(at, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        }
        let head = open.head.line(name.session.as_str(), &name.session_id);
        open.indexed = Some((head, open.body.clone()));
    }
    Ok(open)
}

/// One put under way.
struct Writing<'a> {
    connection: &'a Connection,
    name: &'a SegmentName,
    transcript: i64,
    segment: i64,
    chunk_chars: usize,
    open: Open,
    words: HashSet<String>,
}

impl Writing<'_> {
    fn turn(&mut self, turn: &Turn) -> Result<()> {
        let parts = pieces(&turn.text, self.chunk_chars).count() as i64;
        for (part, text) in (0..).zip(pieces(&turn.text, self.chunk_chars)) {
            if self.open.chars > 0 && self.open.chars + text.chars().count() > self.chunk_chars {
                self.close_chunk()?;
            }
            self.open.take(turn.at, &turn.speaker, text);
            let (speaker, text) = (turn.speaker.clone(), text.to_owned());
            for word in words(&text) {
                self.words.insert(word);
            }
            self.open.fresh.push(Piece { seq: turn.seq, part, parts, at: turn.at, speaker, text });
            if self.words.len() >= WORDS_HELD {
                self.flush_words()?;
            }
        }
        Ok(())
    }

    /// Stores the open chunk and begins an empty one.
    fn close_chunk(&mut self) -> Result<()> {
        let open = std::mem::take(&mut self.open);
        if open.fresh.is_empty() {
            return Ok(());
        }
        let id: i64 = self
            .connection
            .prepare_cached(
                "INSERT INTO chunk(id, transcript, epoch, ordinal, chars, last_at) VALUES(?1,?2,?3,?4,?5,?6)
                 ON CONFLICT(id) DO UPDATE
                 SET ordinal = excluded.ordinal, chars = excluded.chars, last_at = excluded.last_at
                 RETURNING id",
            )?
            .query_row(
                params![open.id, self.transcript, self.name.epoch, self.name.ordinal, open.chars as i64, open.last_at],
                |row| row.get(0),
            )?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO piece(chunk, segment, seq, part, parts, at, speaker, text) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
        )?;
        for p in &open.fresh {
            let at = p.at.map(|at| at.timestamp_micros());
            insert.execute(params![id, self.segment, p.seq, p.part, p.parts, at, p.speaker, p.text])?;
        }
        let head = open.head.line(self.name.session.as_str(), &self.name.session_id);
        if let Some((head, body)) = open.indexed {
            // Not `contentless_delete`: that leaves the row in the totals bm25 counts with, and every put would skew
            // it more.
            self.connection
                .prepare_cached("INSERT INTO chunk_text(chunk_text, rowid, head, body) VALUES('delete', ?1, ?2, ?3)")?
                .execute(params![id, head, body])?;
        }
        self.connection
            .prepare_cached("INSERT INTO chunk_text(rowid, head, body) VALUES(?1, ?2, ?3)")?
            .execute(params![id, head, open.body])?;
        Ok(())
    }

    fn flush_words(&mut self) -> Result<()> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO word(text, segments) VALUES(?1, 1) ON CONFLICT(text) DO UPDATE SET segments = segments + 1",
        )?;
        for word in self.words.drain() {
            insert.execute([word])?;
        }
        Ok(())
    }
}
