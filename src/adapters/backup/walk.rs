//! Goes through a folder and hands over every file and folder below it, without ever leaving it.
//!
//! Each folder is held open and its entries are opened relative to it, never through a link: a name that is turned into a link while
//! we walk leads nowhere. Links, pipes, sockets and devices are left out and named. It must never open anything but regular files and
//! folders, and never change anything.

use crate::durable::TEMPORARY_PREFIX;
use crate::pattern::Pattern;
use moon_actors::{Error, Result};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Deepest folder that is looked into: each level holds a descriptor.
const DEEPEST: usize = 128;
// Beside these: the top folder, `include/0`, and a file in the deepest one.
const _: () = assert!(DEEPEST + 4 <= super::format::DEPTH_MAX);
/// What SQLite would take for a part of a ledger that is restored beside it.
const BESIDE_THE_LEDGER: [&str; 3] = ["home/state/moon.db-wal", "home/state/moon.db-shm", "home/state/moon.db-journal"];
/// As much of a long path as a message shows, characters.
const SHOWN: usize = 200;

/// A folder to be taken.
pub(super) struct Source {
    /// Where its members stand: `home`, `include/0`.
    pub(super) place: String,
    pub(super) root: PathBuf,
    /// What of it is left out without a word, relative paths.
    pub(super) never: &'static [&'static str],
}

/// Something below a source.
pub(super) struct Found<'a> {
    /// Relative to the top folder of the backup.
    pub(super) path: &'a str,
    pub(super) on_disk: &'a Path,
    pub(super) stat: &'a Stat,
}

/// Whether a file is a database: then what SQLite keeps beside it is a part of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IsDatabase {
    Yes,
    No,
}

/// What is done with it.
pub(super) trait Visit {
    fn folder(&mut self, found: &Found) -> io::Result<()>;
    /// Takes a database that this process has open, without a handle of our own: closing any would drop the process's locks on it.
    /// False: it is none, and may be opened.
    fn held_open(&mut self, found: &Found) -> io::Result<bool>;
    fn file(&mut self, found: &Found, file: File) -> io::Result<IsDatabase>;
    /// Something cannot be taken, and this is why.
    fn left_out(&mut self, path: &str, why: &str);
    /// Something is never taken: a link, a pipe.
    fn skipped(&mut self, path: &str, what: &'static str);
}

/// What is not looked at, wherever it lies.
pub(super) struct Rules {
    patterns: Vec<Pattern>,
    names: Vec<Pattern>,
    /// Folders by device and inode: where backups themselves lie.
    pub(super) apart: HashSet<(u64, u64)>,
    /// Longest path of a member, bytes.
    pub(super) longest: usize,
}

impl Rules {
    /// `config` `backup.pattern` for a pattern that cannot be read.
    pub(super) fn new(exclude: &[String], longest: usize) -> Result<Self> {
        let (mut patterns, mut names) = (Vec::new(), Vec::new());
        for text in exclude {
            let (pattern, is_of_names) = exclusion(text).map_err(|cause| {
                Error::config("backup.pattern", format!("could not use the pattern {text:?} of backup.exclude"))
                    .cause(cause)
                    .hint("`*` stands for anything but a slash, `**` for any folders: \"*.tmp\", \"cache/**\"")
            })?;
            if is_of_names {
                names.push(pattern);
            } else {
                patterns.push(pattern);
            }
        }
        Ok(Self { patterns, names, apart: HashSet::new(), longest })
    }

    pub(super) fn excludes(&self, below: &Path, name: &OsStr) -> bool {
        self.names.iter().any(|pattern| pattern.matches(Path::new(name)))
            || self.patterns.iter().any(|pattern| pattern.matches(below))
    }
}

/// An entry of `backup.exclude`, and whether it is about names alone.
pub(super) fn exclusion(text: &str) -> std::result::Result<(Pattern, bool), String> {
    let trimmed = text.trim_start_matches("./").trim_end_matches('/');
    Pattern::new(trimmed).map(|pattern| (pattern, !trimmed.contains('/')))
}

/// Walks a source. An error of `visit` ends it; what cannot be read is left out.
pub(super) fn walk(source: &Source, rules: &Rules, visit: &mut dyn Visit) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, &source.root, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&root)?;
    visit.folder(&Found { path: &source.place, on_disk: &source.root, stat: &stat })?;
    let mut walk = Walk { source, rules, visit };
    walk.folder(root, Path::new(""), 0)
}

struct Walk<'a> {
    source: &'a Source,
    rules: &'a Rules,
    visit: &'a mut dyn Visit,
}

impl Walk<'_> {
    fn folder(&mut self, folder: OwnedFd, below: &Path, depth: usize) -> io::Result<()> {
        let mut databases: HashSet<OsString> = HashSet::new();
        for name in names(&folder)? {
            let path = below.join(&name);
            if self.is_left_out_quietly(&path, &name, &databases) {
                continue;
            }
            let shown = format!("{}/{}", self.source.place, path.to_string_lossy());
            if !name.to_str().is_some_and(super::format::is_plain_name) {
                self.visit.left_out(&shown, "its name is not UTF-8, or has control characters in it");
                continue;
            }
            if shown.len() > self.rules.longest {
                let shown: String = shown.chars().take(SHOWN).collect();
                self.visit.left_out(&format!("{shown}…"), "its path is longer than a restore takes");
                continue;
            }
            if BESIDE_THE_LEDGER.contains(&shown.as_str()) {
                self.visit
                    .left_out(&shown, "the ledger beside it could not be copied, and a restored one would obey it");
                continue;
            }
            let stat = match statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => {
                    self.visit.left_out(&shown, &e.to_string());
                    continue;
                }
            };
            let found = Found { path: &shown, on_disk: &self.source.root.join(&path), stat: &stat };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => self.enter(&folder, &found, &path, &name, depth)?,
                FileType::RegularFile => {
                    if self.visit.held_open(&found)? || self.file(&folder, &found, &name)? == IsDatabase::Yes {
                        databases.insert(name);
                    }
                }
                kind => self.visit.skipped(&shown, what(kind)),
            }
        }
        Ok(())
    }

    fn is_left_out_quietly(&self, path: &Path, name: &OsStr, databases: &HashSet<OsString>) -> bool {
        let is_never = self.source.never.iter().any(|never| Path::new(never) == path);
        let is_temporary = name.as_bytes().starts_with(TEMPORARY_PREFIX.as_bytes());
        // In the order of names the database comes first.
        let is_beside = [&b"-wal"[..], b"-shm", b"-journal"].iter().any(|suffix| {
            name.as_bytes().strip_suffix(*suffix).is_some_and(|base| databases.contains(OsStr::from_bytes(base)))
        });
        is_never || is_temporary || is_beside || self.rules.excludes(path, name)
    }

    fn enter(&mut self, folder: &OwnedFd, found: &Found, path: &Path, name: &OsStr, depth: usize) -> io::Result<()> {
        if depth >= DEEPEST {
            self.visit.left_out(found.path, "too deep");
            return Ok(());
        }
        if self.rules.apart.contains(&identity(found.stat)) {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(folder, name, flags, Mode::empty()) {
            Ok(inside) => {
                self.visit.folder(found)?;
                self.folder(inside, path, depth + 1)
            }
            Err(Errno::NOENT) => Ok(()),
            Err(e) => {
                self.visit.left_out(found.path, &e.to_string());
                Ok(())
            }
        }
    }

    fn file(&mut self, folder: &OwnedFd, found: &Found, name: &OsStr) -> io::Result<IsDatabase> {
        // Not blocking: between the look and now it may have become a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(folder, name, flags, Mode::empty()).and_then(|file| {
            let stat = rustix::fs::fstat(&file)?;
            Ok((file, stat))
        });
        match opened {
            Ok((file, stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                self.visit.file(&Found { stat: &stat, ..*found }, File::from(file))
            }
            Ok(_) => {
                self.visit.left_out(found.path, "it became something else while it was looked at");
                Ok(IsDatabase::No)
            }
            Err(Errno::NOENT) => Ok(IsDatabase::No),
            Err(e) => {
                self.visit.left_out(found.path, &e.to_string());
                Ok(IsDatabase::No)
            }
        }
    }
}

/// Device and inode.
pub(super) fn identity(stat: &Stat) -> (u64, u64) {
    #[allow(clippy::unnecessary_cast, reason = "the width differs between systems")]
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// The same of a path, links followed. `None` when there is nothing.
pub(super) fn identity_of(path: &Path) -> Option<(u64, u64)> {
    rustix::fs::stat(path).ok().map(|stat| identity(&stat))
}

fn names(folder: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn what(kind: FileType) -> &'static str {
    match kind {
        FileType::Symlink => "link",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "special file",
    }
}
