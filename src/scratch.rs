//! A private folder for what is made up and thrown away: the demo and the measurements. Never for a user's data.

use crate::durable;
use moon_actors::{Error, Result};
use std::path::{Path, PathBuf};

/// Removed with everything in it when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in the system's temporary folder, 0700. `name` says what for.
    pub(crate) fn make(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("moon-{name}-{}", uuid::Uuid::new_v4()));
        durable::create_folder(&path).map_err(|e| {
            Error::transient("scratch.io", format!("could not make the scratch folder {}", path.display()))
                .cause(e)
                .hint("make room in the temporary folder, or name another one with TMPDIR")
        })?;
        Ok(Self(path))
    }
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: it lies in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
