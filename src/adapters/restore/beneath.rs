//! A folder held open, and files made below it and nowhere else.
//!
//! Every step is taken from a descriptor of the folder above and follows no link, so a name that somebody turns into a link
//! meanwhile leads to an error and not out of the folder. Everything is new: what is there already is never opened for writing.

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

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
        rustix::fs::mkdir(path, Mode::RWXU)?;
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

    /// Makes a new file, 0600 or 0700, with its folders.
    pub(super) fn make_file(&mut self, path: &str, is_executable: bool) -> io::Result<File> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mode = if is_executable { Mode::RWXU } else { Mode::RUSR | Mode::WUSR };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = self.folder(folder)?;
        Ok(rustix::fs::openat(folder, name, flags, mode)?.into())
    }

    /// A file made before, for reading or syncing.
    pub(super) fn open(&self, path: &str) -> io::Result<File> {
        let mut folder = self.root.try_clone()?;
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            folder = rustix::fs::openat(&folder, part, folder_flags(), Mode::empty())?;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(&folder, name, flags, Mode::empty())?.into())
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

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Gives a file the time of change that the archive knows; a file system without it is no reason to fail.
pub(super) fn set_mtime(file: &File, secs: u64) {
    let Ok(tv_sec) = i64::try_from(secs) else { return };
    let stamp = Timespec { tv_sec, tv_nsec: 0 };
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
