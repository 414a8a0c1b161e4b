//! Looks into a file of JSON lines for lines that are none.

use serde::de::IgnoredAny;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Longest line read, bytes.
const MOST_BYTES: u64 = 64 << 20;
/// Broken lines named.
const MOST_NAMED: usize = 5;
/// A last line without an end is a writer at work for this long, and torn afterwards.
const WRITING: Duration = Duration::from_secs(60);

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Line numbers, counted from 1, with what is wrong.
    pub(super) broken: Vec<(u64, String)>,
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

/// Reads all of it. An error in a sentence: it could not be read.
pub(super) fn inspect(path: &Path) -> Result<Looked, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let found = file.metadata().map_err(|e| e.to_string())?;
    if !found.is_file() {
        return Err("it is not a regular file".into());
    }
    let age = found.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    let is_settled = age.is_none_or(|age| age >= WRITING);
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    let mut looked = Looked { bytes: found.len(), ..Looked::default() };
    loop {
        line.clear();
        let read = reader.by_ref().take(MOST_BYTES).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
        if read == 0 {
            return Ok(looked);
        }
        looked.lines += 1;
        let is_whole = line.last() == Some(&b'\n');
        if !is_whole && read as u64 == MOST_BYTES {
            looked.note(format!("longer than {} MiB", MOST_BYTES >> 20));
            reader.skip_until(b'\n').map_err(|e| e.to_string())?;
            continue;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<IgnoredAny>(&line) {
            Ok(IgnoredAny) => {}
            Err(_) if !is_whole && !is_settled => {}
            Err(e) if !is_whole => looked.note(format!("torn: the file ends in the midst of it ({})", why(&e))),
            Err(e) => looked.note(format!("not JSON: {}", why(&e))),
        }
    }
}

/// serde counts lines, too: of this one line it is always the first.
fn why(e: &serde_json::Error) -> String {
    let said = e.to_string();
    let said = said.split_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    format!("{said} at column {}", e.column())
}

impl Looked {
    fn note(&mut self, what: String) {
        if self.broken.len() < MOST_NAMED {
            self.broken.push((self.lines, what));
        }
    }
}
