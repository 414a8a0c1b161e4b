//! A folder of one piece of work's own, removed with it by two threads: to give thousands of files back takes the system a while.
//!
//! It must never remove anything outside of that folder: every step is taken from a descriptor of the folder above, and no link is
//! followed. What is left of it is swept by the next backup.

use super::failed;
use crate::adapters::beneath::Beneath;
use crate::durable;
use crate::home::Home;
use moon_actors::Result;
use rustix::fs::{AtFlags, Dir, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder below `backups/work`.
pub(super) struct Work(PathBuf);

impl Work {
    pub(super) fn make(home: &Home) -> Result<Self> {
        let (all, name) = (home.backup_work_dir(), uuid::Uuid::new_v4().to_string());
        durable::create_folder(&all).map_err(|e| failed("make", &all, e))?;
        let path = all.join(name);
        Beneath::make(&path).map_err(|e| failed("make", &path, e))?;
        Ok(Self(path))
    }
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        give_up(&self.0);
    }
}

/// Removes a folder of ours with all that is in it, as far as that can be done.
pub(super) fn give_up(path: &Path) {
    // The second removes what the first left.
    let _ = remove_files(path);
    let _ = std::fs::remove_dir_all(path);
}

/// Removes the files below a folder and leaves its folders.
fn remove_files(path: &Path) -> io::Result<()> {
    let root = Beneath::hold(path)?;
    let (mut folders, mut known) = (vec![String::new()], 0);
    while known < folders.len() {
        let below = folders_of(&root, &folders[known])?;
        folders.extend(below);
        known += 1;
    }
    let next = AtomicUsize::new(0);
    let remove = || {
        while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            remove_files_of(&root, folder)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(remove);
        let ours = remove();
        other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(ours)
    })
}

fn folders_of(root: &Beneath, folder: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in Dir::new(root.open(folder)?)? {
        let entry = entry?;
        // What has a name that we never give is removed with the folder.
        let Ok(name) = entry.file_name().to_str() else { continue };
        if entry.file_type() == FileType::Directory && name != "." && name != ".." {
            found.push(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") });
        }
    }
    Ok(found)
}

fn remove_files_of(root: &Beneath, folder: &str) -> io::Result<()> {
    let folder = root.open(folder)?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if entry.file_type() == FileType::RegularFile {
            rustix::fs::unlinkat(&folder, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_work_goes_with_all_that_is_in_it_and_nothing_that_a_link_leads_to() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
        let outside = scratch.path().join("outside");
        std::fs::create_dir(&outside).expect("a folder");
        std::fs::write(outside.join("kept"), b"x").expect("a file");
        let work = Work::make(&home).expect("a folder of work");
        let mut root = Beneath::hold(work.path()).expect("ours");
        for n in 0..60 {
            root.make_file(&format!("a/{}/{n}", n % 7), false).expect("a file");
        }
        root.make_folder("empty/below").expect("a folder");
        std::os::unix::fs::symlink(&outside, work.path().join("a/link")).expect("a link");
        let path = work.path().to_owned();
        drop(work);
        assert!(!path.exists() && outside.join("kept").exists());
        assert_eq!(std::fs::read_dir(home.backup_work_dir()).expect("listable").count(), 0);
    }
}
