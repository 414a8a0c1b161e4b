//! Where the lines of a growing file lie.
//!
//! A transcript grows to hundreds of megabytes and is read a page at a time, so a line must be found by its number
//! without counting from the start each time. This keeps a bounded set of waypoints per file, extends them when the file
//! grew and starts over when it is not the same file any more. It must never interpret a byte other than the newline.

use chrono::{DateTime, Utc};
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};

/// Waypoints kept per file: 64 KiB in all.
const MAX_WAYPOINTS: usize = 4096;
/// First distance between two waypoints, bytes; doubles when there would be too many.
const FIRST_STRIDE: u64 = 64 << 10;
/// How much of the start and of the scanned end is remembered to notice a rewrite, bytes.
const PRINT: usize = 512;
pub(super) const BUFFER: usize = 128 << 10;

/// What `fstat` says about a file; equal stamps mean "nothing happened in between".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) length: u64,
    pub(super) modified: DateTime<Utc>,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        // Up to the end of the year 9999: any 64-bit number may stand there, and not every one is a date.
        let seconds = metadata.mtime().clamp(0, 253_402_300_799);
        let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: DateTime::from_timestamp(seconds, nanoseconds).unwrap_or_default(),
        }
    }
    fn same_file(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode
    }
}

/// A line start that is known: its number and its byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waypoint {
    pub(super) line: u64,
    pub(super) offset: u64,
}

/// The line structure of one file, as far as it was scanned.
#[derive(Debug)]
pub(super) struct LineIndex {
    stamp: Option<Stamp>,
    /// Terminated lines.
    pub(super) count: u64,
    /// Offset behind the last newline.
    pub(super) complete: u64,
    /// Offset behind the last byte looked at; between `complete` and here there is no newline.
    pub(super) scanned: u64,
    /// Grows when the file turned out not to be the one that was scanned before.
    pub(super) life: u64,
    waypoints: Vec<Waypoint>,
    stride: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl LineIndex {
    pub(super) fn new() -> Self {
        Self {
            stamp: None,
            count: 0,
            complete: 0,
            scanned: 0,
            life: 0,
            waypoints: Vec::new(),
            stride: FIRST_STRIDE,
            head: Vec::new(),
            tail: Vec::new(),
        }
    }

    /// Forgets everything: the next [`Self::follow`] scans from the start.
    pub(super) fn forget(&mut self) {
        *self = Self { life: self.life + 1, ..Self::new() };
    }

    /// Brings the index up to `stamp.length`, reading only what is new.
    /// Errors: `UnexpectedEof` when the file shrank meanwhile; the index is empty then.
    pub(super) fn follow(&mut self, file: &File, stamp: Stamp) -> io::Result<()> {
        if self.stamp == Some(stamp) {
            return Ok(());
        }
        if !self.continues(file, &stamp)? {
            self.forget();
        }
        if let Err(error) = self.scan(file, stamp.length).and_then(|()| self.remember(file)) {
            self.forget();
            return Err(error);
        }
        self.stamp = Some(stamp);
        Ok(())
    }

    /// The last known line start at or before line `line`.
    pub(super) fn before(&self, line: u64) -> Waypoint {
        let at = self.waypoints.partition_point(|w| w.line <= line);
        at.checked_sub(1).map_or(Waypoint { line: 0, offset: 0 }, |i| self.waypoints[i])
    }

    /// Whether what was scanned is still the beginning of this file, as far as a look at both ends can tell.
    fn continues(&self, file: &File, stamp: &Stamp) -> io::Result<bool> {
        let Some(known) = &self.stamp else { return Ok(false) };
        // An append makes a file longer; the same length with another time is a rewrite.
        if !known.same_file(stamp) || stamp.length <= known.length {
            return Ok(false);
        }
        self.still_fits(file)
    }

    /// Whether both ends of what was scanned still hold the same bytes.
    pub(super) fn still_fits(&self, file: &File) -> io::Result<bool> {
        let same = |bytes: &[u8], offset: u64| -> io::Result<bool> {
            let mut now = vec![0; bytes.len()];
            file.read_exact_at(&mut now, offset)?;
            Ok(now == bytes)
        };
        Ok(same(&self.head, 0)? && same(&self.tail, self.scanned - self.tail.len() as u64)?)
    }

    fn scan(&mut self, mut file: &File, end: u64) -> io::Result<()> {
        if self.scanned == end {
            return Ok(());
        }
        file.seek(SeekFrom::Start(self.scanned))?;
        let mut reader = BufReader::with_capacity(BUFFER, file.take(end - self.scanned));
        let mut last = [0];
        file.read_exact_at(&mut last, end - 1)?;
        while self.scanned < end {
            let read = reader.skip_until(b'\n')? as u64;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.scanned += read;
            // Only the last stretch may lack its newline.
            if self.scanned < end || last[0] == b'\n' {
                self.complete = self.scanned;
                self.count += 1;
                self.mark();
            }
        }
        Ok(())
    }

    fn mark(&mut self) {
        let last = self.waypoints.last().map_or(0, |w| w.offset);
        if self.complete < last + self.stride {
            return;
        }
        self.waypoints.push(Waypoint { line: self.count, offset: self.complete });
        if self.waypoints.len() > MAX_WAYPOINTS {
            self.stride *= 2;
            let mut kept = 0;
            let stride = self.stride;
            self.waypoints.retain(|w| {
                let far = w.offset >= kept + stride;
                if far {
                    kept = w.offset;
                }
                far
            });
        }
    }

    fn remember(&mut self, file: &File) -> io::Result<()> {
        let length = usize::try_from(self.scanned).unwrap_or(usize::MAX).min(PRINT);
        self.head.resize(length, 0);
        self.tail.resize(length, 0);
        file.read_exact_at(&mut self.head, 0)?;
        file.read_exact_at(&mut self.tail, self.scanned - length as u64)
    }
}
