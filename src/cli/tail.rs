//! Reads text files of any size from their end, and follows one that is still written and rotated.
//!
//! Memory is bounded by the block and the lines asked for; a line longer than [`LINE_MAX`] is passed over.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const BLOCK: u64 = 64 << 10;

/// Longest line that is shown, bytes.
const LINE_MAX: usize = 1 << 20;

/// The last `count` lines that match, oldest first. Reads at most `budget` bytes and takes them off it. A file that is not
/// there has no lines; an unterminated last line is still being written and is passed over.
pub(super) fn last_matching(
    path: &Path,
    count: usize,
    budget: &mut u64,
    matches: impl Fn(&str) -> bool,
) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut at = file.metadata()?.len();
    let mut found = Vec::new();
    // The beginning of the line that the blocks read so far end with; none before the first line break was seen.
    let mut rest: Option<Vec<u8>> = None;
    let keep = |line: &[u8], found: &mut Vec<String>| {
        let text = String::from_utf8_lossy(line);
        if !line.is_empty() && line.len() <= LINE_MAX && matches(&text) {
            found.push(text.into_owned());
        }
    };
    while at > 0 && found.len() < count && *budget > 0 {
        let size = BLOCK.min(at).min(*budget);
        at -= size;
        *budget -= size;
        let mut block = vec![0; usize::try_from(size).expect("a block is small")];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut block)?;
        while let Some(newline) = block.iter().rposition(|b| *b == b'\n') {
            let mut line = block.split_off(newline + 1);
            block.pop();
            if let Some(rest) = rest.take() {
                line.extend(rest);
                keep(&line, &mut found);
                if found.len() == count {
                    break;
                }
            }
            rest = Some(Vec::new());
        }
        if let Some(rest) = rest.as_mut().filter(|rest| rest.len() <= LINE_MAX) {
            block.append(rest);
            *rest = block;
        }
    }
    if let Some(rest) = rest.filter(|_| at == 0 && found.len() < count) {
        keep(&rest, &mut found);
    }
    found.reverse();
    Ok(found)
}

/// Shows what is added to a file, also after it was replaced by a new one of the same name.
pub(super) struct Follower {
    path: PathBuf,
    open: Option<(File, u64)>,
    partial: Vec<u8>,
}

impl Follower {
    /// Begins at the present end.
    pub(super) fn at_end(path: PathBuf) -> Self {
        let open = File::open(&path).ok().and_then(|mut file| {
            file.seek(SeekFrom::End(0)).ok()?;
            let inode = file.metadata().ok()?.ino();
            Some((file, inode))
        });
        Self { path, open, partial: Vec::new() }
    }

    /// The whole lines that were added since the last call, at most one block of them. A file that cannot be read has none.
    pub(super) fn new_lines(&mut self) -> Vec<String> {
        let mut lines = self.read_block();
        let now = std::fs::metadata(&self.path).ok();
        let replaced = match (&self.open, &now) {
            (Some((file, inode)), Some(now)) => now.ino() != *inode || Self::shrank(file, now.len()),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if replaced && lines.is_empty() {
            self.open = File::open(&self.path).ok().zip(now.map(|now| now.ino()));
            self.partial.clear();
            lines = self.read_block();
        }
        lines
    }

    fn shrank(mut file: &File, length: u64) -> bool {
        file.stream_position().is_ok_and(|at| at > length)
    }

    fn read_block(&mut self) -> Vec<String> {
        let Some((file, _)) = &mut self.open else { return Vec::new() };
        let mut block = Vec::new();
        if file.take(BLOCK).read_to_end(&mut block).is_err() {
            return Vec::new();
        }
        self.partial.append(&mut block);
        let Some(end) = self.partial.iter().rposition(|b| *b == b'\n') else {
            if self.partial.len() > LINE_MAX {
                self.partial.clear();
            }
            return Vec::new();
        };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        String::from_utf8_lossy(&whole).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(path: &Path, count: usize, budget: u64) -> Vec<String> {
        last_matching(path, count, &mut budget.clone(), |_| true).expect("readable")
    }

    #[test]
    fn the_last_lines_are_found_whatever_their_length_and_the_blocks_borders() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let path = scratch.path().join("log");
        let lines: Vec<String> = (0..3000).map(|n| format!("{n}:{}", "x".repeat(n % 200))).collect();
        std::fs::write(&path, lines.join("\n") + "\n").expect("written");
        assert_eq!(last(&path, 2500, u64::MAX), lines[500..]);
        assert_eq!(last(&path, 9999, u64::MAX), lines);
        let matching = last_matching(&path, 2, &mut u64::MAX.clone(), |line| line.starts_with("7:")).expect("readable");
        assert_eq!(matching, [lines[7].clone()]);
    }

    #[test]
    fn a_torn_last_line_is_passed_over_and_a_missing_file_is_empty() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let path = scratch.path().join("log");
        assert_eq!(last(&path, 5, 100), Vec::<String>::new());
        std::fs::write(&path, "one\ntwo\nthr").expect("written");
        assert_eq!(last(&path, 5, 100), ["one", "two"]);
    }

    #[test]
    fn no_more_is_read_than_allowed() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let path = scratch.path().join("log");
        std::fs::write(&path, "line\n".repeat(100_000)).expect("written");
        let mut budget = 1000;
        let found = last_matching(&path, 100_000, &mut budget, |_| true).expect("readable");
        assert_eq!((found.len(), budget), (199, 0));
    }

    #[test]
    fn a_follower_sees_whole_new_lines_and_goes_on_after_a_rotation() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let path = scratch.path().join("log");
        std::fs::write(&path, "old\n").expect("written");
        let mut follower = Follower::at_end(path.clone());
        let append = |text: &str| {
            let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("opens");
            io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        };
        append("one\ntw");
        assert_eq!(follower.new_lines(), ["one"]);
        append("o\n");
        assert_eq!(follower.new_lines(), ["two"]);
        std::fs::rename(&path, scratch.path().join("log.1")).expect("rotated");
        std::fs::write(&path, "three\n").expect("written");
        assert_eq!(follower.new_lines(), ["three"]);
    }
}
