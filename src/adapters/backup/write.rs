//! Writes a backup: one thread reads, hashes and takes databases, another packs, compresses, encrypts and writes.
//!
//! Nothing is held whole but the list of members: a file of any size passes through in pieces. A file is read up to the size it had
//! when it was opened. It must never write anywhere but into the file it is given and the folder of its own work.

use super::follow::Growing;
use super::format::{self, CHECKSUMS, HOME, Included, Kind, MANIFEST, Manifest, Member};
use super::meter::Meter;
use super::pack::{Out, Piece, Pieces, pack};
use super::sqlite::{self, Taken};
use super::unpack::{Flaw, Landed, finish, unpack};
use super::walk::{Found, IsDatabase, Rules, Source, Visit, walk};
use crate::adapters::ahead::{Received, fill_up};
use age::Encryptor;
use moon_actors::Error;
use moon_actors::backup::engine::SKIPPED;
use moon_actors::contract::{Issue, count as count_of};
use moon_actors::domain::Sha256;
use rustix::fs::Stat;
use sha2::Digest;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// The code of a database that is in the backup as the file that it is.
pub(super) const UNSOUND: &str = "backup.unsound";

const PIECE: usize = 128 << 10;
/// Pieces on their way from the reader to the writer.
const WAITING: usize = 24;
/// The ledger as a member.
const LEDGER: &str = "home/state/moon.db";
/// What the manifest has without its members, and each member without its path, at most, bytes.
const LISTED: u64 = 1 << 20;
const LISTED_MEMBER: usize = 256;
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
    /// Whether SQLite looks into databases as they are taken. If not, whoever proves the backup has it look into what landed.
    pub(super) looks_into_databases: bool,
    pub(super) meter: Meter,
    pub(super) limits: Limits,
}

/// Who proves the backup while it is written.
pub(super) enum Beside<'a> {
    Nobody,
    /// What goes into the encryption is restored here at the same time.
    Stream(&'a Path),
    /// The file is followed.
    File(Growing),
}

/// How much one backup may hold: what a restore takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) members: usize,
    /// Bytes of the manifest.
    pub(super) list: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // The two lists are members, too.
        Self { members: format::MEMBERS_MAX - 2, list: format::LIST_MAX }
    }
}

/// What was written.
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) sha256: Sha256,
    pub(super) members: u64,
    pub(super) content_bytes: u64,
    pub(super) databases: Vec<format::Database>,
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
    /// More than one archive may hold: so much of what.
    TooMuch(String),
}

impl From<io::Error> for Failed {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Writes the whole backup into `file`.
pub(super) fn write(
    order: &Order,
    file: &mut File,
    seal: Option<Encryptor>,
    beside: Beside,
) -> Result<Written, Failed> {
    let (send, receive) = sync_channel(WAITING);
    let (give_back, used) = sync_channel(WAITING);
    let id = order.manifest.id.clone();
    std::thread::scope(|scope| {
        let (copy, prover, growing) = match beside {
            Beside::Nobody => (None, None, None),
            Beside::File(growing) => (None, None, Some(growing)),
            Beside::Stream(place) => {
                let (copy, stream) = sync_channel(WAITING);
                let (id, meter) = (id.clone(), Meter::default());
                let work = move || unpack(Received::new(stream), &id, place, &meter);
                (Some(copy), Some(scope.spawn(work)), None)
            }
        };
        let writer = scope.spawn({
            let (level, id, folder) = (order.level, id.clone(), order.work.to_owned());
            move || -> io::Result<(u64, Sha256)> {
                let pieces = Pieces { receive, give_back };
                pack(&pieces, &id, level, Out::new(file, folder, growing), seal, copy)
            }
        });
        let (look, copies) = channel();
        let looks = order.looks_into_databases;
        let checker = scope.spawn(move || look_into(&copies, looks));
        let read = Reader::new(order, send, used, look)
            .read_all(|| checker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
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

/// A database that was taken, and which member it is.
struct Database {
    member: usize,
    taken: Taken,
    is_ledger: bool,
    /// Its file, where that was opened: closed after the connection, because closing it drops the connection's locks.
    file: Option<File>,
}

/// Asks SQLite about databases while the rest is read (of the ledger more than a restore of it would be asked), and removes copies.
/// Gives back what is wrong with which member.
fn look_into(databases: &Receiver<Database>, looks_into_all: bool) -> Vec<(usize, Vec<String>)> {
    let mut unsound = Vec::new();
    while let Ok(Database { member, taken, is_ledger, file }) = databases.recv() {
        let looked = match &taken {
            _ if !looks_into_all && !is_ledger => Ok(vec![]),
            Taken::Still(db) => sqlite::complaints_of(db),
            Taken::Copy(copy) => sqlite::complaints(copy),
        };
        let mut complaints = looked.unwrap_or_else(|e| vec![e.to_string()]);
        if let Taken::Copy(copy) = &taken {
            if is_ledger && complaints.is_empty() {
                complaints.extend(sqlite::ledger_complaint(copy));
            }
            // What is left is swept with the folder of this work.
            let _ = std::fs::remove_file(copy);
        }
        if !complaints.is_empty() {
            unsound.push((member, complaints));
        }
        drop((taken, file));
    }
    unsound
}

struct Reader<'a> {
    order: &'a Order<'a>,
    send: SyncSender<Piece>,
    used: Receiver<Vec<u8>>,
    look: Sender<Database>,
    /// Bytes that the manifest will have, at most.
    listed: u64,
    members: Vec<Member>,
    left_out: Vec<Issue>,
    left_out_more: u64,
    skipped: BTreeMap<&'static str, (u64, Vec<String>)>,
    content_bytes: u64,
    ledger: Option<(PathBuf, format::LedgerMark)>,
    copies: u64,
}

impl<'a> Reader<'a> {
    fn new(order: &'a Order<'a>, send: SyncSender<Piece>, used: Receiver<Vec<u8>>, look: Sender<Database>) -> Self {
        Self {
            order,
            send,
            used,
            look,
            listed: LISTED,
            members: Vec::new(),
            left_out: Vec::new(),
            left_out_more: 0,
            skipped: BTreeMap::new(),
            content_bytes: 0,
            ledger: None,
            copies: 0,
        }
    }

    /// `unsound` waits for what was found in the copies of databases.
    fn read_all(mut self, unsound: impl FnOnce() -> Vec<(usize, Vec<String>)>) -> Result<Written, Failed> {
        // First of all the ledger: every object that it names lies there already when the archive is walked.
        let home = self.order.sources.iter().find(|source| source.place == HOME);
        if let Some(ledger) = home.map(|home| home.root.join("state/moon.db")).filter(|path| path.is_file()) {
            let copy = self.order.work.join("copy-of-the-ledger");
            match sqlite::take(&ledger, None, &copy, &|| self.order.meter.is_stopped()) {
                Ok(_) => self.ledger = sqlite::mark(&copy).ok().map(|mark| (copy, mark)),
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
        // Nothing more is to be looked into.
        self.look = channel().0;
        for (member, complaints) in unsound() {
            self.unsound(member, &complaints);
        }
        self.close()
    }

    /// It is taken as the file that it is; a restore asks nothing of it.
    fn unsound(&mut self, member: usize, complaints: &[String]) {
        let member = &mut self.members[member];
        member.kind = Kind::File;
        if member.path == LEDGER {
            self.ledger = None;
        }
        let error = Error::data(UNSOUND, format!("the database {} is not sound", member.path));
        let hint = "it is in the backup as it is; repair it, or restore it from an older backup";
        self.left_out.push(error.cause(complaints.join("\n")).hint(hint).into());
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
        let databases = format::databases(&manifest);
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
            databases,
            left_out: self.left_out,
            landed: None,
        })
    }

    /// A buffer that the writer is done with, if there is one: new ones cost more than to read into them.
    fn used(&self) -> Vec<u8> {
        self.used.try_recv().unwrap_or_default()
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
        self.list(Member { path, kind, bytes: 0, sha256: None, mode, mtime })
    }

    /// One more member, if a restore would take so many.
    fn list(&mut self, member: Member) -> Result<(), Failed> {
        let escaped = member.path.bytes().filter(|b| matches!(b, b'"' | b'\\')).count();
        self.listed += (member.path.len() + escaped + LISTED_MEMBER) as u64;
        self.members.push(member);
        let limits = &self.order.limits;
        if self.members.len() > limits.members {
            return Err(Failed::TooMuch(format!("more than {} files and folders", limits.members)));
        }
        if self.listed > limits.list {
            return Err(Failed::TooMuch(format!("a list of more than {} bytes", limits.list)));
        }
        Ok(())
    }

    fn file(&mut self, found: &Found, file: File) -> Result<IsDatabase, Failed> {
        if self.order.unreadable.contains(found.path) {
            self.leave_out(found.path, "it could not be read to its end");
            return Ok(IsDatabase::No);
        }
        let is_database = match sqlite::is_database(&file) {
            Ok(is_database) => is_database,
            Err(e) => {
                self.leave_out(found.path, &e.to_string());
                return Ok(IsDatabase::No);
            }
        };
        if is_database && let Some(taken) = self.database(found)? {
            self.pass_database(found, taken, Some(file))?;
            return Ok(IsDatabase::Yes);
        }
        let bytes = u64::try_from(found.stat.st_size).unwrap_or(0);
        if self.order.copy_first.contains(found.path) {
            let copy = self.next_copy();
            let bytes = io::copy(&mut file.take(bytes), &mut File::create(&copy)?)?;
            self.pass(found, &File::open(&copy)?, bytes, Kind::File)?;
            std::fs::remove_file(&copy)?;
        } else {
            self.pass(found, &file, bytes, Kind::File)?;
        }
        Ok(IsDatabase::No)
    }

    fn next_copy(&mut self) -> PathBuf {
        self.copies += 1;
        self.order.work.join(format!("copy-{}", self.copies))
    }

    /// Lets a database pass, and has SQLite look into it meanwhile.
    fn pass_database(&mut self, found: &Found, taken: Taken, file: Option<File>) -> Result<(), Failed> {
        let (member, is_ledger) = (self.members.len(), found.path == LEDGER);
        match (&taken, &file) {
            // No other handle of it: closing that would drop the connection's locks.
            (Taken::Still(_), Some(file)) => self.pass(found, file, file.metadata()?.len(), Kind::Sqlite)?,
            (Taken::Still(_), None) => return Err(io::Error::other("nobody opened the database").into()),
            (Taken::Copy(copy), _) => {
                let copy = File::open(copy)?;
                self.pass(found, &copy, copy.metadata()?.len(), Kind::Sqlite)?;
            }
        }
        // Behind the bytes: the transaction must last as long as they are read. A checker that ended has panicked, which is met when
        // it is joined.
        let _ = self.look.send(Database { member, taken, is_ledger, file });
        Ok(())
    }

    /// It, unchanging. `None`: SQLite cannot read it, and it is taken as the file that it is.
    fn database(&mut self, found: &Found) -> Result<Option<Taken>, Failed> {
        let copy = self.next_copy();
        let identity = Some(super::walk::identity(found.stat));
        match sqlite::take(found.on_disk, identity, &copy, &|| self.order.meter.is_stopped()) {
            Ok(taken) => Ok(Some(taken)),
            Err(failed) => {
                let _ = std::fs::remove_file(&copy);
                self.not_copied(found.path, &failed).map(|()| None)
            }
        }
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
        let error = Error::data(UNSOUND, format!("the database {path} could not be copied by SQLite")).cause(why);
        let hint = "its file is in the backup as it lay there, which may be in the middle of a change";
        self.left_out.push(error.hint(hint).into());
        Ok(())
    }

    /// Lets a file of `bytes` pass through.
    fn pass(&mut self, found: &Found, mut file: &File, bytes: u64, kind: Kind) -> Result<(), Failed> {
        let (mode, mtime) = rights_and_time(found.stat);
        let path = found.path.to_owned();
        let mut hasher = sha2::Sha256::new();
        let mut bytes = bytes;
        if bytes <= PIECE as u64 {
            // Small: it is read before its length is said, so it may have become shorter.
            let mut piece = self.used();
            if let Err(e) = fill_up(&mut file, &mut piece, bytes as usize) {
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
                let mut piece = self.used();
                let wanted = left.min(PIECE as u64);
                match fill_up(&mut file, &mut piece, wanted as usize) {
                    Ok(()) if piece.len() as u64 == wanted => {}
                    Ok(()) => return Err(Failed::Shrank(path)),
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
        self.list(Member { path, kind, bytes, sha256: Some(finish(hasher)), mode, mtime })
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
    fn held_open(&mut self, found: &Found) -> io::Result<bool> {
        let Some((copy, _)) = self.reader.ledger.clone().filter(|_| found.path == LEDGER) else { return Ok(false) };
        let outcome = self.reader.pass_database(found, Taken::Copy(copy), None);
        self.keep(outcome).map(|()| true)
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

/// The entries of `[backup] include` as they stand in the manifest.
pub(super) fn included(sources: &[Source]) -> Vec<Included> {
    let of = |source: &Source| {
        let n = source.place.strip_prefix("include/")?.parse().ok()?;
        Some(Included { n, path: source.root.display().to_string() })
    };
    sources.iter().filter_map(of).collect()
}
