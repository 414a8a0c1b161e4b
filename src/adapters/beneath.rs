//! A folder held open, and files made below it and nowhere else.
//!
//! Every step is taken from a descriptor of the folder above and follows no link, so a name that somebody turns into a link
//! meanwhile leads to an error and not out of the folder. Everything is new: what is there already is never opened for writing.

use crate::durable::TEMPORARY_PREFIX;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// SQLite takes 512 bytes, with what it puts behind a name itself.
const LONGEST_FOR_SQLITE: usize = 480;

static NAMES: AtomicU64 = AtomicU64::new(0);

/// A folder of our own.
#[derive(Debug)]
pub(super) struct Beneath {
    root: OwnedFd,
    path: PathBuf,
    /// The folder used last: members come folder by folder.
    last: Option<(String, OwnedFd)>,
}

impl Beneath {
    /// Makes a new folder, 0700; an error if anything is there.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        if make_apart(path).is_err() {
            rustix::fs::mkdir(path, Mode::RWXU)?;
        }
        Self::hold(path)
    }

    /// Holds a folder that was made for this and is empty.
    pub(super) fn hold(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(path, folder_flags(), Mode::empty())?;
        let found = rustix::fs::fstat(&root)?;
        if found.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "somebody else's folder took its place"));
        }
        Ok(Self { root, path: path.to_owned(), last: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder and those above it that are missing.
    pub(super) fn make_folder(&mut self, path: &str) -> io::Result<()> {
        self.folder(path).map(drop)
    }

    /// Makes a new file, 0600 or 0700, with its folders. It may be read again through the same handle.
    pub(super) fn make_file(&mut self, path: &str, is_executable: bool) -> io::Result<File> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mode = if is_executable { Mode::RWXU } else { Mode::RUSR | Mode::WUSR };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = self.folder(folder)?;
        Ok(rustix::fs::openat(folder, name, flags, mode)?.into())
    }

    /// A file or folder made before, for reading or syncing; the empty path is the folder itself.
    pub(super) fn open(&self, path: &str) -> io::Result<File> {
        let mut folder = self.root.try_clone()?;
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            folder = rustix::fs::openat(&folder, part, folder_flags(), Mode::empty())?;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let name = if name.is_empty() { "." } else { name };
        Ok(rustix::fs::openat(&folder, name, flags, Mode::empty())?.into())
    }

    /// A name for a file made before that SQLite takes: a second, short one where its own is too long.
    pub(super) fn name_for_sqlite(&self, path: &str) -> io::Result<Name> {
        let own = self.path.join(path);
        if own.as_os_str().len() <= LONGEST_FOR_SQLITE {
            return Ok(Name { path: own, is_second: false });
        }
        let short = self.path.join(format!("{TEMPORARY_PREFIX}{}", NAMES.fetch_add(1, Ordering::Relaxed)));
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.open(folder)?;
        rustix::fs::linkat(&folder, name, &self.root, short.file_name().unwrap_or_default(), AtFlags::empty())?;
        Ok(Name { path: short, is_second: true })
    }

    /// Makes the root's entries durable.
    pub(super) fn sync_root(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.root)?)
    }

    fn folder(&mut self, path: &str) -> io::Result<impl AsFd + '_> {
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            let mut folder = self.root.try_clone()?;
            for part in path.split('/').filter(|part| !part.is_empty()) {
                match rustix::fs::mkdirat(&folder, part, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                folder = rustix::fs::openat(&folder, part, folder_flags(), Mode::empty())?;
            }
            self.last = Some((path.to_owned(), folder));
        }
        Ok(&self.last.as_ref().expect("just put there").1)
    }
}

/// Where a folder is begun. Only a kill leaves it.
pub(super) fn above(path: &Path) -> PathBuf {
    let mut above = path.as_os_str().to_owned();
    above.push("-above");
    above.into()
}

/// Makes a folder where the file system has room, not beside its neighbours: below a folder that says so, and then to its place.
///
/// ext4 puts files into the group of their folder, and passes over each inode there that was given up within the last minutes. To
/// restore thousands of files where thousands were just removed, which is when people restore, took three times as long otherwise.
#[cfg(target_os = "linux")]
fn make_apart(path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, IFlags, RenameFlags};
    let above = above(path);
    rustix::fs::mkdir(&above, Mode::RWXU)?;
    // The group is found by the name.
    let made = above.join(uuid::Uuid::new_v4().to_string());
    let done = (|| {
        let folder = rustix::fs::open(&above, folder_flags(), Mode::empty())?;
        rustix::fs::ioctl_setflags(&folder, rustix::fs::ioctl_getflags(&folder)? | IFlags::TOPDIR)?;
        rustix::fs::mkdir(&made, Mode::RWXU)?;
        rustix::fs::renameat_with(CWD, &made, CWD, path, RenameFlags::NOREPLACE)
    })();
    if done.is_err() {
        let _ = rustix::fs::rmdir(&made);
    }
    let _ = rustix::fs::rmdir(&above);
    Ok(done?)
}

#[cfg(not(target_os = "linux"))]
fn make_apart(_: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A file's name. A second one goes when this is dropped.
pub(super) struct Name {
    path: PathBuf,
    is_second: bool,
}

impl AsRef<Path> for Name {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if self.is_second {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Gives a file or folder the time of change that the archive knows; a file system without it is no reason to fail.
pub(super) fn set_mtime(file: &File, secs: i64) {
    let stamp = Timespec { tv_sec: secs, tv_nsec: 0 };
    let _ = rustix::fs::futimens(file, &Timestamps { last_access: stamp, last_modification: stamp });
}

/// True if the two names are one file system's: only then one can be renamed to the other.
pub(super) fn same_device(a: &Path, b: &Path) -> io::Result<bool> {
    let device =
        |path: &Path| rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW).map(|found| found.st_dev);
    Ok(device(a)? == device(b)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn nothing_is_written_through_a_link_that_takes_a_folders_place_and_nothing_over_a_file() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let outside = scratch.path().join("outside");
        std::fs::create_dir(&outside).expect("a folder");
        let mut root = Beneath::make(&scratch.path().join("root")).expect("a new folder");
        assert!(Beneath::make(root.path()).is_err(), "it is there already");
        root.make_file("a/b/one", false).and_then(|mut file| file.write_all(b"1")).expect("a file");
        std::fs::rename(root.path().join("a"), scratch.path().join("away")).expect("moved");
        std::os::unix::fs::symlink(&outside, root.path().join("a")).expect("a link");
        assert!(root.make_file("a/two", false).is_err());
        assert!(root.make_folder("a/c").is_err());
        assert!(root.open("a/b/one").is_err());
        std::os::unix::fs::symlink(outside.join("x"), root.path().join("three")).expect("a link");
        assert!(root.make_file("three", false).is_err());
        root.make_file("four", true).expect("a file");
        assert_eq!(root.make_file("four", false).expect_err("there").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_dir(&outside).expect("listable").count(), 0);
    }
}
