//! One bounded read of a transcript file: whole lines, byte for byte.
//!
//! The file belongs to somebody else, who may append, cut or rewrite it at any moment. Everything goes through one open
//! file and one known length, and whatever does not fit what the index saw is `transcripts.changed`: the caller looks
//! again. It must never hand out half a line as a whole one.

use super::lines::{BUFFER, Waypoint};
use moon_actors::domain::Record;
use moon_actors::{Error, Result};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Longest line that is read at all, bytes.
pub(super) const MAX_LINE: u64 = 256 << 20;

/// What to read, taken from the index in one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) start: Waypoint,
    /// First line wanted.
    pub(super) from: u64,
    /// Number of lines that count as records, a settled unterminated one included.
    pub(super) lines: u64,
    /// Offset behind the last of them.
    pub(super) end: u64,
    /// The last line has no newline and counts all the same.
    pub(super) open_end: bool,
    pub(super) max_bytes: u64,
    pub(super) max_line: u64,
}

/// Reads the records of a plan: at most about `max_bytes`, at least one if there is one. True: more follow.
pub(super) fn read(mut file: &File, path: &Path, plan: &Plan) -> Result<(Vec<Record>, bool)> {
    let mut records = Vec::new();
    if plan.from >= plan.lines {
        return Ok((records, false));
    }
    let failed = |e| read_failed(path, e);
    let mut offset = plan.start.offset;
    if offset > 0 {
        let mut before = [0];
        file.read_exact_at(&mut before, offset - 1).map_err(failed)?;
        if before[0] != b'\n' {
            return Err(changed(path));
        }
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut reader = BufReader::with_capacity(BUFFER, file.take(plan.end - offset));
    for _ in plan.start.line..plan.from {
        offset += reader.skip_until(b'\n').map_err(failed)? as u64;
    }
    let mut budget = plan.max_bytes;
    for line in plan.from..plan.lines {
        let limit = if records.is_empty() { plan.max_line } else { budget.min(plan.max_line) };
        let mut bytes = Vec::new();
        (&mut reader).take(limit + 1).read_until(b'\n', &mut bytes).map_err(failed)?;
        let last = line + 1 == plan.lines;
        let whole = bytes.pop_if(|b| *b == b'\n').is_some() || (last && plan.open_end);
        let length = bytes.len() as u64;
        if length > limit {
            return if records.is_empty() { Err(too_long(path, offset, plan.max_line)) } else { Ok((records, true)) };
        }
        if !whole {
            return Err(changed(path));
        }
        offset += length + 1;
        budget = budget.saturating_sub(length);
        let seq = i64::try_from(line).map_err(|_| changed(path))?;
        records.push(Record { seq, bytes });
        if budget == 0 {
            return Ok((records, !last));
        }
    }
    Ok((records, false))
}

/// The file is not what it was a moment ago.
pub(super) fn changed(path: &Path) -> Error {
    Error::transient("transcripts.changed", format!("{} changed while it was being read", path.display()))
        .hint("nothing was taken from it; Moon reads it again by itself")
}

/// Turns an I/O error into what the caller should do about it.
pub(super) fn read_failed(path: &Path, error: io::Error) -> Error {
    let what = format!("cannot read the transcript {}", path.display());
    match error.kind() {
        io::ErrorKind::UnexpectedEof => changed(path),
        io::ErrorKind::NotFound => gone(path),
        io::ErrorKind::PermissionDenied => Error::config("transcripts.denied", what)
            .cause(error)
            .hint("let the user that runs Moon read this file and its folder"),
        _ => Error::transient("transcripts.io", what).cause(error),
    }
}

pub(super) fn gone(path: &Path) -> Error {
    Error::unavailable("transcripts.session_gone", format!("the transcript {} is not there", path.display()))
        .hint("what was archived of it stays archived; the session is forgotten with its file")
}

fn too_long(path: &Path, offset: u64, limit: u64) -> Error {
    Error::data(
        "transcripts.line_too_long",
        format!("{} holds a line of more than {limit} bytes at byte {offset}", path.display()),
    )
    .hint("Moon reads lines of up to 256 MiB; look at this place of the file, it is probably not a transcript")
}
