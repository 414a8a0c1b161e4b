//! Who holds a file open. Linux tells by `/proc`; elsewhere nobody knows, and only the time since the last write counts.

use rustix::process::Pid;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// What is open on this machine.
pub(super) struct Held {
    open: BTreeSet<Identity>,
    /// Every process could be looked into.
    is_whole: bool,
}

impl Held {
    /// Looks once.
    pub(super) fn look() -> Self {
        let mut held = Self { open: BTreeSet::new(), is_whole: cfg!(target_os = "linux") };
        let Ok(processes) = std::fs::read_dir("/proc") else { return Self { is_whole: false, ..held } };
        for process in processes.flatten() {
            if process.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
                match open_of(process.path()) {
                    Ok(open) => held.open.extend(open),
                    // It ended meanwhile, or it is somebody else's.
                    Err(e) => held.is_whole &= e.kind() == std::io::ErrorKind::NotFound,
                }
            }
        }
        held
    }

    pub(super) fn is_open(&self, file: Identity) -> Option<bool> {
        match self.open.contains(&file) {
            true => Some(true),
            false => self.is_whole.then_some(false),
        }
    }
}

/// Whether this process has the file open. `None`: this system does not say.
pub(super) fn holds(pid: Pid, file: Identity) -> Option<bool> {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    cfg!(target_os = "linux").then(|| open_of(process).is_ok_and(|open| open.contains(&file)))
}

fn open_of(process: PathBuf) -> std::io::Result<BTreeSet<Identity>> {
    use std::os::unix::fs::MetadataExt;
    let mut open = BTreeSet::new();
    for descriptor in std::fs::read_dir(process.join("fd"))?.flatten() {
        // Closed meanwhile is as good as not open.
        if let Ok(found) = std::fs::metadata(descriptor.path()) {
            open.insert((found.dev(), found.ino()));
        }
    }
    Ok(open)
}
