//! What an archive says of itself: `manifest.json` and `checksums.sha256`, read and compared.
//!
//! Pure. The manifest decides what is restored; the tar stream only delivers it.

use super::names::{check_home_path, checked, damaged, refused};
use moon_actors::domain::Sha256;
use moon_actors::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const CHECKSUMS: &str = "checksums.sha256";
/// The newest version of the format that this Moon reads.
const VERSION: u64 = 1;

#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    pub id: String,
    pub created_at: String,
    #[serde(default)]
    pub host: String,
    #[serde(default)]
    pub include: Vec<Include>,
    #[serde(default)]
    pub ledger: Option<LedgerHead>,
    pub members: Vec<Listed>,
}

/// A folder from outside of the home.
#[derive(Clone, Debug, Deserialize)]
pub struct Include {
    pub n: usize,
    pub path: PathBuf,
}

/// Where the ledger stood.
#[derive(Clone, Debug, Deserialize)]
pub struct LedgerHead {
    pub schema: i64,
    pub audit_seq: i64,
    /// `None` before the first row.
    pub audit_sha256: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    File,
    Sqlite,
    Folder,
}

/// A member as the manifest lists it.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    pub path: String,
    pub kind: Kind,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub sha256: Option<Sha256>,
    /// Octal. Only the owner's right to execute a file is taken from it.
    #[serde(default)]
    pub mode: String,
    /// Seconds since 1970.
    #[serde(default)]
    pub mtime: Option<i64>,
}

impl Listed {
    pub(super) fn is_executable(&self) -> bool {
        self.kind == Kind::File && u32::from_str_radix(&self.mode, 8).is_ok_and(|mode| mode & 0o100 != 0)
    }
}

/// What was seen of a member in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub bytes: u64,
    /// `None` for a folder.
    pub sha256: Option<Sha256>,
    /// It begins as a database of SQLite's does.
    pub looks_like_database: bool,
}

impl Manifest {
    pub(in crate::adapters) fn parse(text: &[u8]) -> Result<Self> {
        let loose: serde_json::Value =
            serde_json::from_slice(text).map_err(|e| damaged(format!("{MANIFEST} is no JSON: {e}")))?;
        if loose["format"] != "moon-backup" {
            return Err(refused(format!("{MANIFEST} is not that of a backup")));
        }
        if loose["version"].as_u64().is_none_or(|version| version > VERSION) {
            return Err(newer(format!(
                "its format has version {}, and this moon reads up to {VERSION}",
                loose["version"]
            )));
        }
        // From the text, not from the value: a name that stands there twice is refused.
        serde_json::from_slice(text).map_err(|e| refused(format!("{MANIFEST} is not well-formed: {e}")))
    }

    /// The members by path, each allowed to be where it is.
    pub(in crate::adapters) fn by_path(&self) -> Result<BTreeMap<&str, &Listed>> {
        let mut listed = BTreeMap::new();
        for member in &self.members {
            let path = checked(member.path.as_bytes())?;
            if path != member.path {
                return Err(refused(format!("{MANIFEST} spells {} with a slash", member.path)));
            }
            self.check_place(path)?;
            if (member.kind == Kind::Folder) != member.sha256.is_none() {
                return Err(refused(format!("{MANIFEST} lists {path} without a hash, or a folder with one")));
            }
            if listed.insert(path, member).is_some() {
                return Err(refused(format!("{MANIFEST} lists {path} twice")));
            }
        }
        check_nesting(listed.iter().map(|(path, member)| (*path, member.kind == Kind::Folder)))?;
        for path in listed.keys() {
            let is_side_file =
                path.strip_suffix("-wal").or(path.strip_suffix("-shm")).or(path.strip_suffix("-journal"));
            if is_side_file.and_then(|db| listed.get(db)).is_some_and(|db| db.kind == Kind::Sqlite) {
                return Err(refused(format!("{path} lies beside a database, which would obey it")));
            }
        }
        Ok(listed)
    }

    /// Where a member came from, for people: relative to the home, or in an included folder.
    fn origin(&self, path: &str) -> String {
        let of_include = || {
            let (n, below) = path.strip_prefix("include/")?.split_once('/')?;
            let include = self.include.iter().find(|include| include.n.to_string() == n)?;
            Some(include.path.join(below).display().to_string())
        };
        of_include().unwrap_or_else(|| path.strip_prefix("home/").unwrap_or(path).to_owned())
    }

    /// Databases that are listed as plain files: they were not sound, or could not be copied, when the backup was made.
    pub(super) fn unsound(&self, seen: &BTreeMap<String, Seen>) -> Vec<String> {
        let looks = |path: &str| seen.get(path).is_some_and(|seen| seen.looks_like_database);
        let plain = self.members.iter().filter(|member| member.kind == Kind::File && looks(&member.path));
        plain.map(|member| self.origin(&member.path)).collect()
    }

    fn check_place(&self, path: &str) -> Result<()> {
        match path.split_once('/') {
            Some(("home", below)) => {
                if ["state/moon.db-wal", "state/moon.db-shm", "state/moon.db-journal"].contains(&below) {
                    return Err(refused(format!("{path} lies beside the ledger, which would obey it")));
                }
                check_home_path(below)
            }
            Some(("include", below)) => {
                let number = below.split('/').next().unwrap_or_default();
                let is_known = self.include.iter().any(|include| include.n.to_string() == number);
                if is_known { Ok(()) } else { Err(refused(format!("{path} belongs to no included folder"))) }
            }
            None if ["home", "include"].contains(&path) => Ok(()),
            _ => Err(refused(format!("{path} is neither of the home nor of an included folder"))),
        }
    }

    /// Compares with what the stream held: exactly the listed members, each with its size and hash.
    pub(super) fn compare(&self, seen: &BTreeMap<String, Seen>) -> Result<()> {
        let listed = self.by_path()?;
        for (path, found) in seen {
            if [MANIFEST, CHECKSUMS].contains(&path.as_str()) {
                continue;
            }
            let Some(member) = listed.get(path.as_str()) else {
                // A folder that only holds others need not be listed.
                if found.sha256.is_none() && self.check_place(path).is_ok() {
                    continue;
                }
                return Err(refused(format!("{path} is in the archive and not in {MANIFEST}")));
            };
            if found.sha256.is_none() != (member.kind == Kind::Folder) {
                return Err(refused(format!("{path} is of another kind than {MANIFEST} says")));
            }
            if found.sha256 != member.sha256 || found.sha256.is_some() && found.bytes != member.bytes {
                return Err(damaged(format!("{path} is not what {MANIFEST} says: size or SHA-256 differ")));
            }
        }
        let missing = listed.iter().find(|(path, m)| m.kind != Kind::Folder && !seen.contains_key(**path));
        match missing {
            Some((path, _)) => Err(refused(format!("{path} is in {MANIFEST} and not in the archive"))),
            None => Ok(()),
        }
    }
}

/// No file may be where another member has a folder.
pub(super) fn check_nesting<'a>(members: impl Iterator<Item = (&'a str, bool)>) -> Result<()> {
    let all: BTreeMap<&str, bool> = members.collect();
    for path in all.keys() {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        if let Some(file) = above.into_iter().find(|above| all.get(above) == Some(&false)) {
            return Err(refused(format!("{file} is a file and holds {path}")));
        }
    }
    Ok(())
}

/// Compares `checksums.sha256` with what the stream held: every file but itself, no other. `sha256sum` reads the same text.
pub(super) fn check_sums(text: &[u8], seen: &BTreeMap<String, Seen>) -> Result<()> {
    let text = std::str::from_utf8(text).map_err(|_| damaged(format!("{CHECKSUMS} is not UTF-8")))?;
    let mut listed = BTreeMap::new();
    for line in text.lines() {
        let (path, hash) = sum(line).ok_or_else(|| damaged(format!("{CHECKSUMS} holds a line that is none")))?;
        if path == CHECKSUMS {
            // It cannot know its own; some lists hold the hash of its first, empty state.
            continue;
        }
        if listed.insert(path.clone(), hash).is_some() {
            return Err(refused(format!("{CHECKSUMS} lists {path} twice")));
        }
    }
    for (path, found) in seen.iter().filter(|(path, found)| found.sha256.is_some() && *path != CHECKSUMS) {
        match listed.remove(path) {
            None => return Err(refused(format!("{path} is in the archive and not in {CHECKSUMS}"))),
            Some(hash) if Some(&hash) != found.sha256.as_ref() => {
                return Err(damaged(format!("{path} has another SHA-256 than {CHECKSUMS} says")));
            }
            Some(_) => {}
        }
    }
    match listed.keys().next() {
        Some(path) => Err(refused(format!("{path} is in {CHECKSUMS} and not in the archive"))),
        None => Ok(()),
    }
}

/// `<hex>  <path>`, or with ` *`; a backslash in front says that the path is escaped.
fn sum(line: &str) -> Option<(String, Sha256)> {
    let (line, is_escaped) = line.strip_prefix('\\').map_or((line, false), |line| (line, true));
    let (hash, rest) = line.split_at_checked(64)?;
    let path = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = if is_escaped { path.replace("\\\\", "\\") } else { path.to_owned() };
    Some((path, Sha256::parse(hash)?))
}

pub(super) fn newer(why: impl std::fmt::Display) -> Error {
    Error::config("restore.newer", "the archive was made by a newer moon, and nothing was touched")
        .cause(why)
        .hint("install that version of moon, then restore again")
}
