//! Puts unit files where the service manager looks, and takes away only what it put there.
//!
//! The last line of a file of Moon's is a stamp with the hash of all above it: it tells Moon's own file from a foreign one, and an
//! untouched one from one that somebody changed. What is foreign or changed is copied beside itself before it is replaced, and is
//! never deleted. Writing is atomic: a unit is the old one or the new one.

use moon_actors::domain::Sha256;
use moon_actors::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};

const STAMP: &str = "moon service install sha256:";
/// Largest unit that is read.
const LARGEST: u64 = 1 << 20;
/// What a kept copy's name ends with; no service manager reads such a file.
const KEPT: &str = ".kept";

/// A file as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub path: PathBuf,
    pub text: String,
}

/// What stands at a unit's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// Moon wrote it and nobody changed it; with its text.
    Ours(String),
    /// Moon wrote it, and it was changed since.
    Changed,
    Foreign,
}

/// What was done with one file, or would be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    pub path: PathBuf,
    /// `written`, `already`, `removed`, `left`, `absent`.
    pub did: &'static str,
    /// Where what stood there before is kept.
    pub kept: Option<PathBuf>,
    #[serde(skip)]
    before: Option<Vec<u8>>,
}

impl Unit {
    /// The file's text with its stamp.
    fn stamped(&self) -> String {
        let is_xml = self.text.starts_with("<?xml");
        let stamp = format!("{STAMP}{}", Sha256::of(self.text.as_bytes()).as_str());
        let line = if is_xml { format!("<!-- {stamp} -->") } else { format!("# {stamp}") };
        format!("{}{line}\n", self.text)
    }

    /// What stands there now.
    pub fn found(&self) -> Result<Found> {
        let Some(bytes) = read(&self.path)? else { return Ok(Found::Nothing) };
        let text = String::from_utf8_lossy(&bytes);
        let Some((body, stamp)) = split(&text) else { return Ok(Found::Foreign) };
        if stamp == Sha256::of(body.as_bytes()).as_str() {
            Ok(Found::Ours(body.to_owned()))
        } else {
            Ok(Found::Changed)
        }
    }

    /// Writes it, unless it is there. With `dry_run` only says so.
    pub fn put(&self, dry_run: bool) -> Result<Step> {
        let found = self.found()?;
        if found == Found::Ours(self.text.clone()) {
            return Ok(self.step("already"));
        }
        let mut step = self.step("written");
        if dry_run {
            return Ok(step);
        }
        step.before = read(&self.path)?;
        if let (Found::Changed | Found::Foreign, Some(before)) = (&found, &step.before) {
            step.kept = Some(self.keep(before)?);
        }
        if let Some(folder) = self.path.parent() {
            crate::durable::create_folder(folder).map_err(|e| self.failed("make the folder of", e))?;
        }
        crate::durable::replace(&self.path, self.stamped().as_bytes()).map_err(|e| self.failed("write", e))?;
        Ok(step)
    }

    /// Takes it away if it is Moon's. A changed one is kept as a copy, a foreign one stays.
    pub fn take_away(&self, dry_run: bool) -> Result<Step> {
        let mut step = match self.found()? {
            Found::Nothing => return Ok(self.step("absent")),
            Found::Foreign => return Ok(self.step("left")),
            Found::Ours(_) => self.step("removed"),
            Found::Changed => {
                let mut step = self.step("removed");
                if let (false, Some(text)) = (dry_run, read(&self.path)?) {
                    step.kept = Some(self.keep(&text)?);
                }
                step
            }
        };
        if !dry_run {
            step.before = read(&self.path)?;
            crate::durable::remove(&self.path).map_err(|e| self.failed("remove", e))?;
        }
        Ok(step)
    }

    /// Takes a step back: what stood there before stands there again.
    pub fn undo(&self, step: &Step) {
        let undone = match (&step.before, step.did) {
            (Some(before), _) => crate::durable::replace(&self.path, before),
            (None, "written") => crate::durable::remove(&self.path).map(drop),
            _ => Ok(()),
        };
        if let Err(error) = undone {
            tracing::warn!(path = %self.path.display(), %error, "could not take the change back");
        }
    }

    fn keep(&self, bytes: &[u8]) -> Result<PathBuf> {
        let copy = crate::durable::free_name(&self.path, KEPT);
        crate::durable::replace(&copy, bytes).map_err(|e| self.failed("keep a copy of", e))?;
        Ok(copy)
    }

    fn step(&self, did: &'static str) -> Step {
        Step { path: self.path.clone(), did, kept: None, before: None }
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        file_error(what, &self.path, error)
    }
}

/// The text above the stamp, and the hash in it.
fn split(text: &str) -> Option<(&str, &str)> {
    let whole = text.strip_suffix('\n').unwrap_or(text);
    let (body, last) = whole.rsplit_once('\n')?;
    let (_, stamp) = last.split_once(STAMP)?;
    Some((&text[..=body.len()], stamp.trim_end_matches(" -->").trim()))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let bytes = crate::durable::open_regular(path).and_then(|file| {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, LARGEST), &mut bytes).map(|_| bytes)
    });
    match bytes {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file_error("read", path, e)),
    }
}

fn file_error(what: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("could not {what} {}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::config("service.denied", message)
            .hint("a system service is installed by root; a user's own needs no rights"),
        _ => Error::transient("service.io", message),
    }
    .cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(folder: &Path, text: &str) -> Unit {
        Unit { path: folder.join("units/moon.service"), text: text.into() }
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).expect("readable")
    }

    #[test]
    fn a_unit_is_put_once_replaced_when_it_is_new_and_taken_away_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = unit(folder.path(), "[Unit]\nA=1\n");
        assert_eq!(first.put(true).expect("planned").did, "written");
        assert!(!first.path.exists());
        assert_eq!(first.put(false).expect("put").did, "written");
        assert_eq!(first.put(false).expect("put").did, "already");
        let second = unit(folder.path(), "[Unit]\nA=2\n");
        let step = second.put(false).expect("put");
        assert_eq!((step.did, &step.kept), ("written", &None), "an untouched one of ours needs no copy");
        assert_eq!(second.found().expect("read"), Found::Ours("[Unit]\nA=2\n".into()));
        second.undo(&step);
        assert_eq!(first.found().expect("read"), Found::Ours("[Unit]\nA=1\n".into()));
        assert_eq!(first.take_away(false).expect("removed").did, "removed");
        assert_eq!(first.take_away(false).expect("nothing").did, "absent");
        assert_eq!(std::fs::read_dir(first.path.parent().expect("a folder")).expect("listable").count(), 0);
    }

    #[test]
    fn what_somebody_changed_is_kept_and_what_is_foreign_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let ours = unit(folder.path(), "[Unit]\nA=1\n");
        ours.put(false).expect("put");
        let changed = text(&ours.path).replace("A=1", "A=9");
        std::fs::write(&ours.path, &changed).expect("changed");
        assert_eq!(ours.found().expect("read"), Found::Changed);
        let kept = ours.put(false).expect("put").kept.expect("a copy");
        assert_eq!(text(&kept), changed);
        std::fs::write(&ours.path, &changed).expect("changed");
        let kept = ours.take_away(false).expect("removed").kept.expect("a copy");
        assert_eq!(text(&kept), changed);
        std::fs::write(&ours.path, "[Unit]\n# somebody's\n").expect("foreign");
        assert_eq!(ours.take_away(false).expect("left").did, "left");
        let step = ours.put(false).expect("put");
        assert_eq!(text(&step.kept.clone().expect("a copy")), "[Unit]\n# somebody's\n");
        ours.undo(&step);
        assert_eq!(text(&ours.path), "[Unit]\n# somebody's\n");
    }

    #[test]
    fn a_property_list_carries_its_stamp_as_a_comment() {
        let folder = tempfile::tempdir().expect("a folder");
        let ours = unit(folder.path(), "<?xml version=\"1.0\"?>\n<plist/>\n");
        ours.put(false).expect("put");
        assert!(text(&ours.path).ends_with("-->\n"), "{}", text(&ours.path));
        assert_eq!(ours.found().expect("read"), Found::Ours(ours.text.clone()));
    }
}
