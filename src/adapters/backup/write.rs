//! Writes a backup: one thread reads, hashes and takes databases, another packs, compresses, encrypts and writes.
//!
//! Nothing is held whole but the list of members: a file of any size passes through in pieces. A file is read up to the size it had
//! when it was opened. It must never write anywhere but into the file it is given and the folder of its own work.

use super::format::{self, CHECKSUMS, HOME, Included, Kind, MANIFEST, Manifest, Member};
use super::meter::Meter;
use super::sqlite;
use super::unpack::{Flaw, Landed, finish, unpack};
use super::walk::{Found, IsDatabase, Rules, Source, Visit, walk};
use age::Encryptor;
use age::stream::StreamWriter;
use moon_actors::Error;
use moon_actors::backup::engine::SKIPPED;
use moon_actors::contract::{Issue, count as count_of};
use moon_actors::domain::Sha256;
use rustix::fs::Stat;
use sha2::Digest;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const PIECE: usize = 128 << 10;
/// Pieces on their way from the reader to the writer.
const WAITING: usize = 48;
const BLOCK: u64 = 512;
/// Left free on the disk that the backup is written to, bytes: the ledger may lie there, too.
const KEPT: u64 = 8 << 20;
const LOOK_EVERY: u64 = 4 << 20;
/// Places named in full when something is left out; the rest is counted.
const NAMED: usize = 20;
const SKIPPED_NAMED: usize = 3;

/// What is to be taken.
pub(super) struct Order<'a> {
    pub(super) sources: &'a [Source],
    pub(super) rules: &'a Rules,
    /// Filled in but for the members and the ledger.
    pub(super) manifest: Manifest,
    pub(super) level: i32,
    /// A folder of its own, empty.
    pub(super) work: &'a Path,
    /// Files that shrank while they passed through: they are copied first.
    pub(super) copy_first: HashSet<String>,
    /// Files that cannot be read to their end.
    pub(super) unreadable: HashSet<String>,
    pub(super) meter: Meter,
}

/// What was written.
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) sha256: Sha256,
    pub(super) members: u64,
    pub(super) content_bytes: u64,
    pub(super) left_out: Vec<Issue>,
    /// Of a stream that was restored while it was written.
    pub(super) landed: Option<Landed>,
}

#[derive(Debug)]
pub(super) enum Failed {
    Io(io::Error),
    /// This file has become shorter while it passed through.
    Shrank(String),
    /// This file could not be read to its end.
    Unreadable(String),
    /// What was written is not what was read.
    Unproved(Flaw),
}

impl From<io::Error> for Failed {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

enum Piece {
    Head { path: String, is_folder: bool, bytes: u64, mode: u32, mtime: i64 },
    Data(Vec<u8>),
}

/// Writes the whole backup into `file`. With `prove`, what goes into the encryption is restored there at the same time.
pub(super) fn write(
    order: &Order,
    file: &mut File,
    seal: Option<Encryptor>,
    prove: Option<&Path>,
) -> Result<Written, Failed> {
    let (send, receive) = sync_channel(WAITING);
    let id = order.manifest.id.clone();
    std::thread::scope(|scope| {
        let (copy, prover) = match prove {
            None => (None, None),
            Some(place) => {
                let (copy, stream) = sync_channel(WAITING);
                let (id, meter) = (id.clone(), Meter::default());
                let work = move || unpack(Stream { stream, rest: Vec::new(), at: 0 }, &id, place, &meter);
                (Some(copy), Some(scope.spawn(work)))
            }
        };
        let writer = scope.spawn({
            let (level, id, folder) = (order.level, id.clone(), order.work.to_owned());
            move || -> io::Result<(u64, Sha256)> {
                let out = Out { file, hasher: sha2::Sha256::new(), bytes: 0, since_look: u64::MAX, folder };
                pack(&receive, &id, level, out, seal, copy)
            }
        });
        let read = Reader::new(order, send).read_all();
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let landed = prover.map(|prover| prover.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // The writer's failure is the cause when the reader only found that nobody listens any more.
        let read = match (read, &written) {
            (Err(Failed::Io(e)), Err(_)) if e.kind() == io::ErrorKind::BrokenPipe => None,
            (read, _) => Some(read?),
        };
        let (bytes, sha256) = written?;
        let read = read.ok_or_else(|| io::Error::other("the writer ended before the reader"))?;
        let landed = landed.transpose().map_err(Failed::Unproved)?;
        Ok(Written { bytes, sha256, landed, ..read })
    })
}

struct Reader<'a> {
    order: &'a Order<'a>,
    send: SyncSender<Piece>,
    members: Vec<Member>,
    left_out: Vec<Issue>,
    left_out_more: u64,
    skipped: BTreeMap<&'static str, (u64, Vec<String>)>,
    content_bytes: u64,
    ledger: Option<(PathBuf, format::LedgerMark)>,
    copies: u64,
}

impl<'a> Reader<'a> {
    fn new(order: &'a Order<'a>, send: SyncSender<Piece>) -> Self {
        let (members, left_out, skipped) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { order, send, members, left_out, left_out_more: 0, skipped, content_bytes: 0, ledger: None, copies: 0 }
    }

    fn read_all(mut self) -> Result<Written, Failed> {
        // First of all the ledger: every object that it names lies there already when the archive is walked.
        let home = self.order.sources.iter().find(|source| source.place == HOME);
        if let Some(ledger) = home.map(|home| home.root.join("state/moon.db")).filter(|path| path.is_file()) {
            let copy = self.order.work.join("copy-of-the-ledger");
            match sqlite::copy(&ledger, None, &copy, &|| self.order.meter.is_stopped()) {
                Ok(()) => self.ledger = sqlite::mark(&copy).ok().map(|mark| (copy, mark)),
                // It is met again on the way, and named there.
                Err(_) => self.order.meter.check()?,
            }
        }
        for source in self.order.sources {
            let mut outcome = Ok(());
            let walked = walk(source, self.order.rules, &mut Visitor { reader: &mut self, outcome: &mut outcome });
            outcome?;
            if let Err(e) = walked {
                if source.place == HOME {
                    return Err(e.into());
                }
                self.leave_out(&source.root.display().to_string(), &e.to_string());
            }
        }
        self.close()
    }

    /// Manifest and checksums, and what there is to tell.
    fn close(mut self) -> Result<Written, Failed> {
        let mark = self.ledger.take().map(|(_, mark)| mark);
        let members = std::mem::take(&mut self.members);
        let (now, count) = (self.order.manifest.created_at.timestamp(), members.len() as u64);
        let manifest = Manifest { ledger: mark, members, ..self.order.manifest.clone() };
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        let sha256 = Sha256::of(&text);
        self.send_whole(MANIFEST, text, now)?;
        let checksums = format::checksums(&manifest.members, &sha256);
        drop(manifest);
        self.send_whole(CHECKSUMS, checksums.into_bytes(), now)?;
        if self.left_out_more > 0 {
            let more = format!("{} more places are not in the backup", self.left_out_more);
            self.left_out.push(Error::data("backup.left_out", more).into());
        }
        for (what, (number, named)) in self.skipped {
            let more = if number > named.len() as u64 { " …" } else { "" };
            let text = format!("not in the backup: {}: {}{more}", count_of(number, what), named.join(", "));
            self.left_out.push(Issue { code: Some(SKIPPED.into()), ..Issue::from(text) });
        }
        let nothing = Sha256::of(b"");
        Ok(Written {
            bytes: 0,
            sha256: nothing,
            members: count,
            content_bytes: self.content_bytes,
            left_out: self.left_out,
            landed: None,
        })
    }

    fn send(&self, piece: Piece) -> io::Result<()> {
        self.order.meter.check()?;
        self.send.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn send_whole(&self, path: &str, bytes: Vec<u8>, mtime: i64) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.send(Piece::Head { path: path.into(), is_folder: false, bytes: length, mode: 0o600, mtime })?;
        for piece in bytes.chunks(PIECE) {
            self.send(Piece::Data(piece.to_vec()))?;
        }
        Ok(())
    }

    fn leave_out(&mut self, path: &str, why: &str) {
        if self.left_out.len() >= NAMED {
            self.left_out_more += 1;
            return;
        }
        let error = Error::data("backup.left_out", format!("{path} is not in the backup")).cause(why);
        self.left_out.push(error.hint("leave it out on purpose by backup.exclude, or make it readable").into());
    }

    fn folder(&mut self, found: &Found) -> Result<(), Failed> {
        let (mode, mtime) = rights_and_time(found.stat);
        self.send(Piece::Head { path: found.path.into(), is_folder: true, bytes: 0, mode, mtime })?;
        let (path, kind) = (found.path.to_owned(), Kind::Folder);
        self.members.push(Member { path, kind, bytes: 0, sha256: None, mode, mtime });
        Ok(())
    }

    fn file(&mut self, found: &Found, mut file: File) -> Result<IsDatabase, Failed> {
        if self.order.unreadable.contains(found.path) {
            self.leave_out(found.path, "it could not be read to its end");
            return Ok(IsDatabase::No);
        }
        let header = match sqlite::header(&mut file).and_then(|header| file.rewind().map(|()| header)) {
            Ok(header) => header,
            Err(e) => {
                self.leave_out(found.path, &e.to_string());
                return Ok(IsDatabase::No);
            }
        };
        if sqlite::is_database(&header)
            && let Some((copy, kind)) = self.database(found)?
        {
            let taken = File::open(&copy)?;
            let bytes = taken.metadata()?.len();
            self.pass(found, taken, bytes, kind)?;
            std::fs::remove_file(&copy)?;
            return Ok(IsDatabase::Yes);
        }
        let bytes = u64::try_from(found.stat.st_size).unwrap_or(0);
        if self.order.copy_first.contains(found.path) {
            let copy = self.next_copy();
            let bytes = io::copy(&mut file.take(bytes), &mut File::create(&copy)?)?;
            self.pass(found, File::open(&copy)?, bytes, Kind::File)?;
            std::fs::remove_file(&copy)?;
        } else {
            self.pass(found, file, bytes, Kind::File)?;
        }
        Ok(IsDatabase::No)
    }

    fn next_copy(&mut self) -> PathBuf {
        self.copies += 1;
        self.order.work.join(format!("copy-{}", self.copies))
    }

    /// A consistent copy, and whether it is sound. `None`: SQLite cannot read it, and it is taken as the file that it is.
    fn database(&mut self, found: &Found) -> Result<Option<(PathBuf, Kind)>, Failed> {
        let is_ledger = found.path == "home/state/moon.db";
        let copy = match &self.ledger {
            Some((copy, _)) if is_ledger => copy.clone(),
            _ => {
                let copy = self.next_copy();
                let identity = Some(super::walk::identity(found.stat));
                match sqlite::copy(found.on_disk, identity, &copy, &|| self.order.meter.is_stopped()) {
                    Ok(()) => copy,
                    Err(failed) => {
                        let _ = std::fs::remove_file(&copy);
                        return self.not_copied(found.path, &failed).map(|()| None);
                    }
                }
            }
        };
        let complaints = sqlite::complaints(&copy).unwrap_or_else(|e| vec![e.to_string()]);
        if complaints.is_empty() {
            return Ok(Some((copy, Kind::Sqlite)));
        }
        let error = Error::data("backup.unsound", format!("the database {} is not sound", found.path));
        let hint = "it is in the backup as it is; repair it, or restore it from an older backup";
        self.left_out.push(error.cause(complaints.join("\n")).hint(hint).into());
        Ok(Some((copy, Kind::File)))
    }

    fn not_copied(&mut self, path: &str, failed: &sqlite::Failed) -> Result<(), Failed> {
        let why = match failed {
            sqlite::Failed::Stopped => return Ok(self.order.meter.check()?),
            sqlite::Failed::Sqlite(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
                return Err(io::Error::from(io::ErrorKind::StorageFull).into());
            }
            // What was opened first is ours, and is taken as the file that it is.
            sqlite::Failed::Swapped => "its name led elsewhere when SQLite opened it".to_owned(),
            sqlite::Failed::Busy => "it was locked all the time".to_owned(),
            sqlite::Failed::Sqlite(e) => e.to_string(),
        };
        let error =
            Error::data("backup.unsound", format!("the database {path} could not be copied by SQLite")).cause(why);
        let hint = "its file is in the backup as it lay there, which may be in the middle of a change";
        self.left_out.push(error.hint(hint).into());
        Ok(())
    }

    /// Lets a file of `bytes` pass through.
    fn pass(&mut self, found: &Found, mut file: File, bytes: u64, kind: Kind) -> Result<(), Failed> {
        let (mode, mtime) = rights_and_time(found.stat);
        let path = found.path.to_owned();
        let mut hasher = sha2::Sha256::new();
        let mut bytes = bytes;
        if bytes <= PIECE as u64 {
            // Small: it is read before its length is said, so it may have become shorter.
            let mut piece = Vec::with_capacity(bytes as usize);
            if let Err(e) = (&mut file).take(bytes).read_to_end(&mut piece) {
                self.leave_out(&path, &e.to_string());
                return Ok(());
            }
            bytes = piece.len() as u64;
            hasher.update(&piece);
            self.send(Piece::Head { path: path.clone(), is_folder: false, bytes, mode, mtime })?;
            self.send(Piece::Data(piece))?;
        } else {
            self.send(Piece::Head { path: path.clone(), is_folder: false, bytes, mode, mtime })?;
            let mut left = bytes;
            while left > 0 {
                let mut piece = Vec::with_capacity(PIECE);
                let wanted = left.min(PIECE as u64);
                match (&mut file).take(wanted).read_to_end(&mut piece) {
                    Ok(read) if read as u64 == wanted => {}
                    Ok(_) => return Err(Failed::Shrank(path)),
                    Err(_) => return Err(Failed::Unreadable(path)),
                }
                left -= wanted;
                hasher.update(&piece);
                self.order.meter.bytes(wanted);
                self.send(Piece::Data(piece))?;
            }
        }
        self.content_bytes += bytes;
        self.order.meter.member();
        self.members.push(Member { path, kind, bytes, sha256: Some(finish(hasher)), mode, mtime });
        Ok(())
    }
}

/// Hands what the walk finds to the reader, and keeps why it ended.
struct Visitor<'a, 'b> {
    reader: &'a mut Reader<'b>,
    outcome: &'a mut Result<(), Failed>,
}

impl Visitor<'_, '_> {
    fn keep<T>(&mut self, outcome: Result<T, Failed>) -> io::Result<T> {
        outcome.map_err(|failed| {
            *self.outcome = Err(failed);
            io::ErrorKind::Other.into()
        })
    }
}

impl Visit for Visitor<'_, '_> {
    fn folder(&mut self, found: &Found) -> io::Result<()> {
        let outcome = self.reader.folder(found);
        self.keep(outcome)
    }
    fn file(&mut self, found: &Found, file: File) -> io::Result<IsDatabase> {
        let outcome = self.reader.file(found, file);
        self.keep(outcome)
    }
    fn left_out(&mut self, path: &str, why: &str) {
        self.reader.leave_out(path, why);
    }
    fn skipped(&mut self, path: &str, what: &'static str) {
        let (number, named) = self.reader.skipped.entry(what).or_default();
        *number += 1;
        if named.len() < SKIPPED_NAMED {
            named.push(path.to_owned());
        }
    }
}

#[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "the widths differ between systems")]
fn rights_and_time(stat: &Stat) -> (u32, i64) {
    (stat.st_mode as u32 & 0o7777, stat.st_mtime as i64)
}

/// Turns pieces into a compressed tar.
fn pack(
    pieces: &Receiver<Piece>,
    id: &str,
    level: i32,
    out: Out<'_>,
    seal: Option<Encryptor>,
    copy: Option<SyncSender<Vec<u8>>>,
) -> io::Result<(u64, Sha256)> {
    let sealed = match seal {
        None => Sealed::Plain(out),
        Some(encryptor) => Sealed::Age(Box::new(encryptor.wrap_output(out)?)),
    };
    let mut packer = zstd::stream::write::Encoder::new(Tee { inner: sealed, copy }, level)?;
    packer.include_checksum(true)?;
    let mut padding = 0;
    let zeros = [0; BLOCK as usize];
    while let Ok(piece) = pieces.recv() {
        match piece {
            Piece::Head { path, is_folder, bytes, mode, mtime } => {
                packer.write_all(&zeros[..padding])?;
                let slash = if is_folder { "/" } else { "" };
                head(&mut packer, &format!("{id}/{path}{slash}"), is_folder, bytes, mode, mtime)?;
                padding = (BLOCK - bytes % BLOCK) as usize % BLOCK as usize;
            }
            Piece::Data(bytes) => packer.write_all(&bytes)?,
        }
    }
    packer.write_all(&zeros[..padding])?;
    packer.write_all(&zeros)?;
    packer.write_all(&zeros)?;
    let out = match packer.finish()?.inner {
        Sealed::Plain(out) => out,
        Sealed::Age(age) => age.finish()?,
    };
    Ok((out.bytes, finish(out.hasher)))
}

/// A header in the plain form that every tar reads; a name that does not fit gets a PAX record before it.
fn head(to: &mut impl Write, path: &str, is_folder: bool, bytes: u64, mode: u32, mtime: i64) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_mtime(u64::try_from(mtime).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(if is_folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_size(bytes);
    if header.set_path(path).is_err() {
        let record = pax("path", path);
        let mut extension = tar::Header::new_ustar();
        extension.set_path("pax/path")?;
        extension.set_mode(0o600);
        extension.set_mtime(0);
        extension.set_uid(0);
        extension.set_gid(0);
        extension.set_entry_type(tar::EntryType::XHeader);
        extension.set_size(record.len() as u64);
        extension.set_cksum();
        to.write_all(extension.as_bytes())?;
        to.write_all(record.as_bytes())?;
        let padding = (BLOCK - record.len() as u64 % BLOCK) % BLOCK;
        to.write_all(&vec![0; padding as usize])?;
        header.set_path("pax/name")?;
    }
    header.set_cksum();
    to.write_all(header.as_bytes())
}

/// `<length of all this> <key>=<value>\n`
fn pax(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// The file at the end of it all.
struct Out<'a> {
    file: &'a mut File,
    hasher: sha2::Sha256,
    bytes: u64,
    since_look: u64,
    folder: PathBuf,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.since_look >= LOOK_EVERY {
            if rustix::fs::fstatvfs(&*self.file).is_ok_and(|d| d.f_bavail.saturating_mul(d.f_frsize) < KEPT)
                || crate::adapters::room::free(&self.folder).is_some_and(|free| free < KEPT)
            {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.since_look = 0;
        }
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        self.since_look += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Sealed<'a> {
    Plain(Out<'a>),
    Age(Box<StreamWriter<Out<'a>>>),
}

impl Write for Sealed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Age(age) => age.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives whoever proves the stream a copy of it.
struct Tee<'a> {
    inner: Sealed<'a>,
    copy: Option<SyncSender<Vec<u8>>>,
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        if let Some(copy) = &self.copy {
            // A prover that ended early says itself what was wrong.
            let _ = copy.send(bytes[..written].to_vec());
        }
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other end of the copy.
struct Stream {
    stream: Receiver<Vec<u8>>,
    rest: Vec<u8>,
    at: usize,
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.rest.len() {
            match self.stream.recv() {
                Ok(bytes) => (self.rest, self.at) = (bytes, 0),
                Err(_) => return Ok(0),
            }
        }
        let read = into.len().min(self.rest.len() - self.at);
        into[..read].copy_from_slice(&self.rest[self.at..self.at + read]);
        self.at += read;
        Ok(read)
    }
}

/// The entries of `[backup] include` as they stand in the manifest.
pub(super) fn included(sources: &[Source]) -> Vec<Included> {
    let of = |source: &Source| {
        let n = source.place.strip_prefix("include/")?.parse().ok()?;
        Some(Included { n, path: source.root.display().to_string() })
    };
    sources.iter().filter_map(of).collect()
}
