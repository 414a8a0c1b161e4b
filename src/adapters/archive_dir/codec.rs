//! Records to the bytes of an object and back, streaming.
//!
//! ```text
//! object = one zstd frame (every record followed by one newline) + one skippable zstd frame (SHA-256 of the first frame)
//! ```
//!
//! `zstd -d` reads it like any other file and passes over the second frame, which is there because a flipped bit of a frame
//! header can leave the decoded bytes as they were: with it every bit of an object is accounted for. A decoder reads no
//! further than the size its caller expects, so that a bomb unfolds at most to that.

use moon_actors::domain::{Manifest, Record, Sha256};
use sha2::Digest as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use zstd::stream::{read::Decoder, write::Encoder};

/// Largest decoded object, bytes. Records are held in memory by whoever brings them; this bounds whoever reads them back.
pub(super) const MAX_DECODED: u64 = 2 << 30;
/// 32 MiB: levels up to 19 use 8 MiB. A damaged header cannot ask for more.
const WINDOW_LOG_MAX: u32 = 25;
/// Magic number of a skippable frame and the length of its content, both little-endian.
const TRAILER_HEAD: [u8; 8] = [0x50, 0x2A, 0x4D, 0x18, 32, 0, 0, 0];
const TRAILER_BYTES: u64 = 40;

/// Why an object could not be read back.
#[derive(Debug)]
pub(super) enum Flaw {
    /// The machine refused; the object may be fine.
    Io(io::Error),
    /// The bytes are not those that were written.
    Damaged(String),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        // zstd reports a broken frame as an error that no system call made.
        if error.raw_os_error().is_some() { Self::Io(error) } else { Self::Damaged(error.to_string()) }
    }
}

fn damaged<T>(what: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw::Damaged(what.into()))
}

/// What a manifest says of a run of records.
pub(super) struct Content {
    pub(super) sha256: Sha256,
    pub(super) bytes: u64,
    pub(super) multiline: Vec<[u64; 2]>,
    pub(super) seq_ranges: Vec<[i64; 2]>,
}

impl Content {
    pub(super) fn of(records: &[Record]) -> Self {
        let (mut hasher, mut bytes) = (sha2::Sha256::new(), 0);
        let (mut multiline, mut seq_ranges) = (Vec::new(), Vec::<[i64; 2]>::new());
        for (index, record) in (0u64..).zip(records) {
            hasher.update(&record.bytes);
            hasher.update(b"\n");
            bytes += record.bytes.len() as u64 + 1;
            let newlines = record.bytes.iter().filter(|b| **b == b'\n').count() as u64;
            if newlines > 0 {
                multiline.push([index, newlines]);
            }
            match seq_ranges.last_mut() {
                Some([_, last]) if *last + 1 == record.seq => *last = record.seq,
                _ => seq_ranges.push([record.seq, record.seq]),
            }
        }
        Self { sha256: Sha256::from_digest(&hasher.finalize()), bytes, multiline, seq_ranges }
    }
}

/// Writes the object of `records`, whose decoded size is `bytes`.
pub(super) fn encode(records: &[Record], bytes: u64, level: i32, file: &mut File) -> io::Result<()> {
    let mut encoder = Encoder::new(Tally::new(&mut *file), level)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(bytes))?;
    for record in records {
        encoder.write_all(&record.bytes)?;
        encoder.write_all(b"\n")?;
    }
    let digest = encoder.finish()?.hasher.finalize();
    file.write_all(&TRAILER_HEAD)?;
    file.write_all(&digest)
}

/// Reads an object to its end and compares size and hashes. Holds no more than a window of it.
pub(super) fn check(file: File, sha256: &Sha256, bytes: u64) -> Result<(), Flaw> {
    let mut object = Object::open(file, bytes)?;
    io::copy(&mut object.decoded, &mut io::sink())?;
    object.finish(sha256, bytes)
}

/// Reads an object into records. Nothing is given out before both hashes are found right.
pub(super) fn decode(file: File, manifest: &Manifest) -> Result<Vec<Record>, Flaw> {
    let mut object = Object::open(file, manifest.bytes)?;
    let mut lines = BufReader::new(&mut object.decoded);
    let mut multiline = manifest.multiline.iter().peekable();
    let mut seqs = manifest.seq_ranges.iter().flat_map(|[first, last]| *first..=*last);
    let mut records = Vec::new();
    for index in 0..manifest.records {
        let inner = multiline.next_if(|entry| entry[0] == index).map_or(0, |entry| entry[1]);
        let bytes = read_record(&mut lines, inner)?;
        let Some(seq) = seqs.next() else { return damaged("fewer positions than records") };
        records.push(Record { seq, bytes });
    }
    if !lines.fill_buf()?.is_empty() || seqs.next().is_some() || multiline.next().is_some() {
        return damaged("more content than records");
    }
    object.finish(&manifest.sha256, manifest.bytes)?;
    Ok(records)
}

fn read_record(lines: &mut impl BufRead, inner_newlines: u64) -> Result<Vec<u8>, Flaw> {
    let mut bytes = Vec::new();
    for _ in 0..=inner_newlines {
        if lines.read_until(b'\n', &mut bytes)? == 0 || bytes.last() != Some(&b'\n') {
            return damaged("it ends in the middle of a record");
        }
    }
    bytes.pop();
    Ok(bytes)
}

type Stored = Tally<io::Take<File>>;

/// An object being read: decoded bytes are counted and hashed on one side, stored ones on the other.
struct Object {
    decoded: Tally<io::Take<Decoder<'static, BufReader<Stored>>>>,
    trailer: [u8; TRAILER_BYTES as usize],
}

impl Object {
    /// Decodes one byte more than `bytes` at most: enough to see that there is too much.
    fn open(mut file: File, bytes: u64) -> Result<Self, Flaw> {
        let Some(frame) = file.metadata()?.len().checked_sub(TRAILER_BYTES) else {
            return damaged("it is shorter than its trailer");
        };
        if bytes > MAX_DECODED {
            return damaged(format!("{bytes} bytes are more than an object may hold"));
        }
        let mut trailer = [0; TRAILER_BYTES as usize];
        file.seek(SeekFrom::Start(frame))?;
        file.read_exact(&mut trailer)?;
        file.seek(SeekFrom::Start(0))?;
        let mut decoder = Decoder::new(Tally::new(file.take(frame)))?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Self { decoded: Tally::new(decoder.take(bytes + 1)), trailer })
    }

    fn finish(self, sha256: &Sha256, bytes: u64) -> Result<(), Flaw> {
        if self.decoded.count != bytes {
            return damaged(format!("{} bytes or more decoded, {bytes} expected", self.decoded.count));
        }
        let found = Sha256::from_digest(&self.decoded.hasher.finalize());
        if found != *sha256 {
            return damaged(format!("the decoded bytes have SHA-256 {}", found.short()));
        }
        let mut stored = self.decoded.inner.into_inner().finish().into_inner();
        io::copy(&mut stored, &mut io::sink())?;
        let (head, digest) = self.trailer.split_at(TRAILER_HEAD.len());
        if head != TRAILER_HEAD || digest != &stored.hasher.finalize()[..] {
            return damaged("the stored bytes differ from their own hash");
        }
        Ok(())
    }
}

/// Counts and hashes what passes.
struct Tally<T> {
    inner: T,
    hasher: sha2::Sha256,
    count: u64,
}

impl<T> Tally<T> {
    fn new(inner: T) -> Self {
        Self { inner, hasher: sha2::Sha256::new(), count: 0 }
    }
    fn note(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.count += bytes.len() as u64;
    }
}

impl<T: Read> Read for Tally<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.note(&buffer[..n]);
        Ok(n)
    }
}

impl<T: Write> Write for Tally<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.note(&bytes[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
