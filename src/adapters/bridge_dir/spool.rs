//! Reading the plugin's event spool: bounded, from a remembered position, over a rotation, past damage.
//!
//! The writer is another program that may die in the middle of a line, so nothing here trusts a line. It must never write.

use super::open_plain;
use chrono::{DateTime, Utc};
use moon_actors::domain::{SessionKey, Sha256};
use moon_actors::port::{BridgeEvent, BridgeEventKind, Slot};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Most bytes of spool taken in by one call.
const READ_LIMIT: u64 = 4 << 20;
/// The first line of a spool is a few dozen bytes.
const HEADER_LIMIT: u64 = 256;
const OFFSET_BITS: u32 = 40;

/// Where in the spool: which generation, and how many of its bytes are dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) generation: u64,
    pub(super) offset: u64,
}

impl Position {
    pub(super) const fn from_u64(position: u64) -> Self {
        Self { generation: position >> OFFSET_BITS, offset: position & ((1 << OFFSET_BITS) - 1) }
    }
    pub(super) const fn to_u64(self) -> u64 {
        self.generation << OFFSET_BITS | self.offset
    }
}

/// One open spool file.
struct Segment {
    file: File,
    generation: u64,
    /// Where the events begin.
    body: u64,
    length: u64,
}

/// The events after `position`, at most about [`READ_LIMIT`] bytes of them, and the position behind them.
pub(super) fn read_after(root: &Path, position: Position) -> io::Result<(Vec<BridgeEvent>, Position)> {
    let segments = open_segments(root)?;
    let mut events = Vec::new();
    let Some(first) = segments.iter().position(|s| s.generation >= position.generation).or(
        // The spool was removed and begun anew with lower numbers: everything in it is news.
        (!segments.is_empty()).then_some(0),
    ) else {
        return Ok((events, position));
    };
    if position.generation > 0 && segments[first].generation > position.generation + 1 {
        let (from, to) = (position.generation, segments[first].generation);
        tracing::warn!(from, to, "a part of the bridge's spool is gone; what it announced is found by polling");
    }
    let mut reached = position;
    let mut budget = READ_LIMIT;
    let last = segments.len() - 1;
    for (index, segment) in segments.into_iter().enumerate().skip(first) {
        let start = start_in(&segment, position);
        let end = read_segment(segment.file, start, segment.length, index < last, &mut budget, &mut events)?;
        reached = Position { generation: segment.generation, offset: end };
        if budget == 0 || (index < last && end < segment.length) {
            break;
        }
    }
    Ok((events, reached))
}

fn start_in(segment: &Segment, position: Position) -> u64 {
    if segment.generation != position.generation {
        return segment.body;
    }
    if position.offset > segment.length {
        tracing::warn!(at = position.offset, length = segment.length, "the bridge's spool was cut; reading it anew");
        return segment.body;
    }
    position.offset.max(segment.body)
}

/// The older file first. Opened again if a rotation came between, so that no generation is passed over.
fn open_segments(root: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for _ in 0..3 {
        segments.clear();
        for name in ["events.1.jsonl", "events.jsonl"] {
            if let Some(file) = open_plain(&root.join(name))? {
                segments.push(open_segment(file)?);
            }
        }
        match &mut segments[..] {
            // A header lost in a crash: the file still follows the one before it.
            [older, newer] if newer.generation <= older.generation => newer.generation = older.generation + 1,
            [older, newer] if newer.generation > older.generation + 1 => continue,
            _ => {}
        }
        break;
    }
    Ok(segments)
}

fn open_segment(file: File) -> io::Result<Segment> {
    #[derive(Deserialize)]
    struct Header {
        generation: u64,
    }
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    BufReader::new((&file).take(HEADER_LIMIT)).read_until(b'\n', &mut head)?;
    let header = serde_json::from_slice::<Header>(&head).ok().filter(|h| h.generation < 1 << (63 - OFFSET_BITS));
    Ok(match header {
        Some(header) => Segment { file, generation: header.generation, body: head.len() as u64, length },
        None => Segment { file, generation: 0, body: 0, length },
    })
}

/// Reads whole lines from `start` on, at most `budget` bytes, and returns where it stopped. The last line counts only with
/// its end, unless the spool is `closed` (moved aside): then nobody will complete it.
fn read_segment(
    mut file: File,
    start: u64,
    length: u64,
    closed: bool,
    budget: &mut u64,
    events: &mut Vec<BridgeEvent>,
) -> io::Result<u64> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(*budget).read_to_end(&mut bytes)?;
    let whole = match bytes.iter().rposition(|b| *b == b'\n') {
        Some(end) => end + 1,
        // A line longer than a whole read is no event of ours: it is passed over in pieces.
        None if bytes.len() as u64 == *budget => bytes.len(),
        None => 0,
    };
    let taken = if closed && start + bytes.len() as u64 >= length { bytes.len() } else { whole };
    for line in bytes[..taken].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        match parse(line) {
            Some(event) => events.push(event),
            None => tracing::warn!(bytes = line.len(), "a damaged line in the bridge's spool was skipped"),
        }
    }
    *budget = if bytes.len() as u64 == *budget { 0 } else { *budget - taken as u64 };
    Ok(start + taken as u64)
}

/// True for the form of the ids the plugin makes (a UUID): the only ones that may become a file name.
pub(super) fn is_event_id(id: &str) -> bool {
    id.len() == 36 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-')
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    v: u32,
    id: String,
    ts: i64,
    hook: String,
    session_key: Option<String>,
    session_id: Option<String>,
    slot: Option<String>,
    sha256: Option<String>,
    /// Why a window ends, in the host's words; new ones must not cost the event.
    reason: Option<serde_json::Value>,
    #[serde(default)]
    lost: u64,
}

fn parse(line: &[u8]) -> Option<BridgeEvent> {
    let line: Line = serde_json::from_slice(line).ok().filter(|line: &Line| line.v == 1)?;
    if line.lost > 0 {
        tracing::warn!(
            lost = line.lost,
            "the bridge could not write some events; what they announced is found by polling"
        );
    }
    let at: DateTime<Utc> = DateTime::from_timestamp_millis(line.ts)?;
    let kind = match line.hook.as_str() {
        "before_compaction" if is_event_id(&line.id) => BridgeEventKind::BeforeCompaction { id: line.id },
        "before_compaction" => return None,
        "after_compaction" => BridgeEventKind::AfterCompaction,
        "before_reset" => BridgeEventKind::WindowEnding,
        // A gateway that stops keeps its windows.
        "session_end" if !matches!(reason(&line), Some("shutdown" | "restart")) => BridgeEventKind::WindowEnding,
        "agent_end" => BridgeEventKind::TurnEnded,
        "injected" => BridgeEventKind::Injected { slot: slot(&line.slot?)?, sha256: Sha256::parse(&line.sha256?)? },
        "not_injected" => BridgeEventKind::NotInjected,
        _ => BridgeEventKind::Other(line.hook),
    };
    Some(BridgeEvent { at, session: line.session_key.map(SessionKey), session_id: line.session_id, kind })
}

fn reason(line: &Line) -> Option<&str> {
    line.reason.as_ref().and_then(serde_json::Value::as_str)
}

fn slot(name: &str) -> Option<Slot> {
    match name {
        "context" => Some(Slot::Context),
        "summary" => Some(Slot::Summary),
        "passage" => Some(Slot::Passage),
        _ => None,
    }
}
