//! The only place where Moon creates, writes, renames and syncs files that must survive a power cut.
//!
//! One sequence for all: a temporary file beside the target, write, fsync the file, rename, fsync the folder. A reader sees the
//! old bytes or the new ones, never a mixture. A failed fsync is never repeated: the kernel may have dropped the dirty pages and
//! would report success, so the temporary file is thrown away and the caller starts anew from its source.
//!
//! Everything is made 0600 / 0700 at creation. Blocking: call it from `spawn_blocking` or a thread of your own.

use crate::process;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Temporary files begin with this, so that a sweep can tell them from everything else.
pub const TEMPORARY_PREFIX: &str = ".moon-tmp-";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Makes a folder and its missing parents with mode 0700, and syncs every folder that gained an entry.
pub fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_folder(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_parent(path),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Replaces `path` (or makes it) by `bytes`, durably and atomically.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// Like [`replace`], with the content written by `fill`, which may read it back through the same handle.
pub fn replace_with(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let written = write_synced(&temporary, fill).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        // Best effort: a leftover is swept at the next start.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// Like [`replace`], unless somebody else changed the file since `seen` was taken (`None`: it was not there). False then, and
/// nothing was touched. The last look is right before the rename; a write of somebody's in between is lost, as it is between
/// any two programs that share a file without a lock.
pub fn replace_unless_changed(path: &Path, seen: Option<&Seen>, bytes: &[u8]) -> io::Result<bool> {
    let temporary = temporary_beside(path)?;
    let replaced = write_synced(&temporary, |file| file.write_all(bytes)).and_then(|()| {
        let is_unchanged = Seen::of(path)?.as_ref() == seen;
        if is_unchanged {
            std::fs::rename(&temporary, path)?;
        }
        Ok(is_unchanged)
    });
    if !matches!(replaced, Ok(true)) {
        // Best effort: a leftover is swept at the next start.
        let _ = std::fs::remove_file(&temporary);
        return replaced;
    }
    sync_parent(path).map(|()| true)
}

/// What a file looked like at one moment: enough to notice that it was written or replaced since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    /// `None` when there is nothing at `path`. A symlink is seen itself, not what it points to.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::symlink_metadata(path) {
            Ok(found) => Ok(Some(Self::from_metadata(&found))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
    pub fn from_metadata(found: &std::fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Opens an existing regular file for reading. Errors: `InvalidInput` for a symlink, a folder, a pipe or a device, none of
/// which is ever followed, waited for or read.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let refused = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{what}, not a regular file"));
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Err(refused("a symlink")),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(refused("something else"));
    }
    Ok(file)
}

/// Like [`open_regular`], with the kernel's copy of the bytes given up first where the system can do that: what was synced is
/// then read from the device, not from memory.
pub fn open_from_disk(path: &Path) -> io::Result<File> {
    let file = open_regular(path)?;
    // Only advice; a file system without it still gives the right bytes.
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(file)
}

/// Moves a file to where it is out of the way and kept, durably. Nothing at `to` may be lost: the caller picks a free name.
pub fn set_aside(path: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        create_folder(folder)?;
    }
    std::fs::rename(path, to)?;
    sync_parent(to)?;
    sync_parent(path)
}

/// A name beside `path` that nothing has yet: `path` with `suffix`, then with a number behind that.
pub fn free_name(path: &Path, suffix: &str) -> PathBuf {
    let numbers = std::iter::once(String::new()).chain((1..).map(|n: u64| format!("-{n}")));
    let named = |number: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{suffix}{number}"));
        PathBuf::from(name)
    };
    numbers.map(named).find(|name| name.symlink_metadata().is_err()).expect("there are more numbers than files")
}

/// Appends to `path` (made 0600 if missing) after cutting it to `keep` bytes, then syncs. Returns the new length.
/// Errors: `UnexpectedEof` when the file is shorter than `keep`.
pub fn append_at(path: &Path, keep: u64, bytes: &[u8]) -> io::Result<u64> {
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    // Whatever somebody cuts away meanwhile, what is written lands at the end: there are never holes.
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    let length = file.metadata()?.len();
    if length < keep {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{length} bytes, expected {keep}")));
    }
    if length > keep {
        file.set_len(keep)?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    if is_new {
        sync_parent(path)?;
    }
    Ok(keep + bytes.len() as u64)
}

/// Removes a file if it is there, and syncs the folder. True if it was.
pub fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes what dead writers left in a folder and the folders below it. Returns how many files.
pub fn sweep(folder: &Path) -> io::Result<u64> {
    sweep_folder(folder, true)
}

/// The same for one folder that may be somebody else's, too: nothing below it is looked at.
pub fn sweep_here(folder: &Path) -> io::Result<u64> {
    sweep_folder(folder, false)
}

fn sweep_folder(folder: &Path, and_below: bool) -> io::Result<u64> {
    let mut swept = 0;
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if and_below {
                swept += sweep_folder(&entry.path(), true)?;
            }
        } else if is_left_behind(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// True for a temporary file whose writer is gone. A command beside the daemon may be in the middle of one; an older process
/// with our own number cannot live any more.
fn is_left_behind(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(TEMPORARY_PREFIX) else { return false };
    let pid = rest.split('-').next().and_then(|pid| pid.parse().ok());
    !pid.is_some_and(|pid: u32| pid != std::process::id() && process::lives(pid))
}

/// Makes the entries of `path`'s folder durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Makes everything durable that was written to the file system of `folder`, in one call. False where there is no such call, or
/// one that keeps errors to itself: then each file must be synced.
pub fn sync_file_system(folder: &Path) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    if tells_errors(rustix::system::uname().release().to_str().unwrap_or_default()) {
        rustix::fs::syncfs(File::open(folder)?)?;
        return Ok(true);
    }
    File::open(folder).map(|_| false)
}

/// Whether `syncfs` of this Linux says that something could not be written: since 5.8.
#[cfg(target_os = "linux")]
fn tells_errors(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (5, 8)
}

/// True for errors that mean "no room": the only ones for which waiting and trying again is the cure.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn write_synced(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    fill(&mut file)?;
    file.sync_all()
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let folder = path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a file needs a folder"))?;
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    Ok(folder.join(format!("{TEMPORARY_PREFIX}{}-{unique}", std::process::id())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn everything_is_made_private_and_replaced_whole() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let file = scratch.path().join("a/b/c.json");
        create_folder(file.parent().expect("has a folder")).expect("folders");
        replace(&file, b"old").expect("first write");
        replace(&file, b"new").expect("second write");
        assert_eq!(std::fs::read(&file).expect("readable"), b"new");
        let mode = |p: &Path| std::fs::metadata(p).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&scratch.path().join("a"))), (0o600, 0o700));
    }

    #[test]
    fn a_failed_fill_leaves_the_old_file_and_no_temporary_one() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let file = scratch.path().join("kept");
        replace(&file, b"old").expect("first write");
        let failed = replace_with(&file, |f| f.write_all(b"half").and(Err(io::ErrorKind::StorageFull.into())));
        assert!(is_full(&failed.expect_err("the fill failed")));
        assert_eq!(std::fs::read(&file).expect("readable"), b"old");
        assert_eq!(std::fs::read_dir(scratch.path()).expect("listable").count(), 1);
    }

    #[test]
    fn an_append_drops_a_torn_tail_and_refuses_a_file_that_lost_bytes() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let file = scratch.path().join("log");
        assert_eq!(append_at(&file, 0, b"one\n").expect("new file"), 4);
        std::fs::write(&file, b"one\ntor").expect("a torn write");
        assert_eq!(append_at(&file, 4, b"two\n").expect("append"), 8);
        assert_eq!(std::fs::read(&file).expect("readable"), b"one\ntwo\n");
        std::fs::write(&file, b"on").expect("shortened");
        let refused = append_at(&file, 8, b"x").expect_err("shorter than accounted for");
        assert_eq!(refused.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_sweep_removes_only_temporary_files() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let below = scratch.path().join("below");
        create_folder(&below).expect("a folder");
        // The first process of a system lives always; the highest number there can be belongs to nobody.
        let (of_the_living, of_the_dead) = (format!("{TEMPORARY_PREFIX}1-2"), format!("{TEMPORARY_PREFIX}4194305-2"));
        for name in [&of_the_living, &of_the_dead, "keep"] {
            std::fs::write(scratch.path().join(name), b"x").expect("written");
        }
        std::fs::write(below.join(&of_the_dead), b"x").expect("written");
        assert_eq!(sweep(scratch.path()).expect("sweep"), 2);
        assert!(scratch.path().join("keep").exists() && scratch.path().join(of_the_living).exists());
        assert_eq!(sweep(&scratch.path().join("nowhere")).expect("nothing there"), 0);
    }

    #[test]
    fn a_file_that_changed_since_it_was_seen_is_not_replaced() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let file = scratch.path().join("shared");
        assert!(replace_unless_changed(&file, None, b"ours").expect("nothing there"));
        assert!(!replace_unless_changed(&file, None, b"again").expect("something there"));
        let seen = Seen::of(&file).expect("readable");
        std::fs::write(&file, b"theirs, longer").expect("somebody writes");
        assert!(!replace_unless_changed(&file, seen.as_ref(), b"ours").expect("changed"));
        assert_eq!(std::fs::read(&file).expect("readable"), b"theirs, longer");
        let seen = Seen::of(&file).expect("readable");
        assert!(replace_unless_changed(&file, seen.as_ref(), b"ours").expect("unchanged"));
        assert_eq!(std::fs::read_dir(scratch.path()).expect("listable").count(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn one_sync_for_all_is_trusted_only_where_it_tells_of_errors() {
        for (release, trusted) in
            [("5.8.0", true), ("6.12.9-amd64", true), ("5.7.19", false), ("4.19", false), ("", false)]
        {
            assert_eq!(tells_errors(release), trusted, "{release}");
        }
        let scratch = tempfile::tempdir().expect("a scratch folder");
        sync_file_system(scratch.path()).expect("it syncs");
    }

    #[test]
    fn only_regular_files_are_opened() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (file, link, pipe) =
            (scratch.path().join("file"), scratch.path().join("link"), scratch.path().join("pipe"));
        std::fs::write(&file, b"x").expect("a file");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
        assert!(made.success());
        assert!(open_regular(&file).is_ok() && open_from_disk(&file).is_ok());
        for refused in [&link, &pipe, &scratch.path().to_owned()] {
            let error = open_regular(refused).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{}", refused.display());
        }
        assert!(append_at(&link, 0, b"y").is_err());
        assert_eq!(std::fs::read(&file).expect("readable"), b"x");
    }
}
