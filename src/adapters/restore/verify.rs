//! Reads an archive from end to end and believes nothing of it that is not proven: the pass before anything is written.

use super::manifest::{self, CHECKSUMS, MANIFEST, Manifest, Seen};
use super::members::{Layout, Member, Members, read_error, too_large};
use super::names::{damaged, refused};
use super::source::Source;
use crate::adapters::backup::format::LIST_MAX;
use crate::adapters::backup::sqlite::MAGIC;
use moon_actors::Result;
use moon_actors::domain::Sha256;
use sha2::{Digest, Sha256 as Hasher};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

/// An archive that is what it says.
#[derive(Debug)]
pub struct Verified {
    pub id: String,
    pub layout: Layout,
    /// `None` for the document's layout.
    pub manifest: Option<Manifest>,
    pub members: BTreeMap<String, Seen>,
    pub content_bytes: u64,
    /// Its own hash was known before it was read.
    pub has_sidecar: bool,
}

impl Verified {
    /// Databases that were not sound, or could not be copied, when they were backed up; where they came from.
    pub fn unsound(&self) -> Vec<String> {
        self.manifest.as_ref().map(|manifest| manifest.unsound(&self.members)).unwrap_or_default()
    }
    pub fn files(&self) -> usize {
        self.members.values().filter(|seen| seen.sha256.is_some()).count()
    }
}

/// Checks everything that can be checked without writing. `progress` is told the bytes read, of [`Source::to_read`].
pub(super) fn verify(source: &Source, identity: Option<&Path>, progress: &dyn Fn(u64)) -> Result<Verified> {
    let has_sidecar = source.check_sidecar(progress)?;
    let before = if has_sidecar { source.bytes } else { 0 };
    let read = source.unpack(identity, &|bytes| progress(before + bytes), |input| read_all(input, source.layout))?;
    let verified = Verified { has_sidecar, ..read };
    if let Some(known) = source.known_id.as_ref().filter(|known| **known != verified.id) {
        return Err(refused(format!("it is the backup {}, and its sidecar is that of {known}", verified.id)));
    }
    Ok(verified)
}

fn read_all(input: &mut dyn Read, layout: Layout) -> Result<Verified> {
    let mut members = Members::new(input, layout);
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let (mut manifest_text, mut sums, mut content_bytes, mut owner) = (None, None, 0, None);
    while let Some(member) = members.next()? {
        check_order(&member, layout, manifest_text.is_some(), sums.is_some())?;
        if layout == Layout::Moon && *owner.get_or_insert(member.owner) != member.owner {
            return Err(refused(format!("{} belongs to another user than the other members", member.path)));
        }
        let found = match member.path.as_str() {
            CHECKSUMS if !member.is_folder => kept(&mut members, &member, &mut sums)?,
            MANIFEST if !member.is_folder && layout == Layout::Moon => kept(&mut members, &member, &mut manifest_text)?,
            _ if member.is_folder => Seen { bytes: 0, sha256: None, looks_like_database: false },
            _ => {
                content_bytes += member.bytes;
                hashed(&mut members, &member)?
            }
        };
        if seen.insert(member.path.clone(), found).is_some() {
            return Err(refused(format!("{} is in the archive twice", member.path)));
        }
    }
    let id = members.top().ok_or_else(|| refused("it is empty"))?.to_owned();
    let sums = sums.ok_or_else(|| refused(format!("{CHECKSUMS} is missing")))?;
    manifest::check_sums(&sums, &seen)?;
    manifest::check_nesting(seen.iter().map(|(path, seen)| (path.as_str(), seen.sha256.is_none())))?;
    let manifest = match layout {
        Layout::Document => None,
        Layout::Moon => {
            let text = manifest_text.ok_or_else(|| refused(format!("{MANIFEST} is missing")))?;
            let manifest = Manifest::parse(&text)?;
            if manifest.id != id {
                return Err(refused(format!("{MANIFEST} is that of {}, and the folder is {id}", manifest.id)));
            }
            manifest.compare(&seen)?;
            Some(manifest)
        }
    };
    Ok(Verified { id, layout, manifest, members: seen, content_bytes, has_sidecar: false })
}

/// The two lists close Moon's archives; what comes behind them was added.
fn check_order(member: &Member, layout: Layout, has_manifest: bool, has_sums: bool) -> Result<()> {
    if layout == Layout::Document {
        // One folder of files: that is all there ever was.
        let is_flat = !member.path.contains('/') && !member.is_folder;
        return if is_flat { Ok(()) } else { Err(refused(format!("{} is not a file of the one folder", member.path))) };
    }
    let is_list = [MANIFEST, CHECKSUMS].contains(&member.path.as_str());
    if has_sums || has_manifest && member.path != CHECKSUMS {
        return Err(refused(format!("{} stands behind the lists that close the archive", member.path)));
    }
    if member.path == CHECKSUMS && !has_manifest || is_list && member.is_folder {
        return Err(refused(format!("{} is not where it belongs", member.path)));
    }
    Ok(())
}

fn kept(members: &mut Members, member: &Member, into: &mut Option<Vec<u8>>) -> Result<Seen> {
    if member.bytes > LIST_MAX {
        return Err(too_large(format!("{} has {} bytes", member.path, member.bytes)));
    }
    let mut text = Vec::new();
    members.read_to_end(&mut text).map_err(|e| read_error(&e))?;
    let seen = Seen { bytes: member.bytes, sha256: Some(Sha256::of(&text)), looks_like_database: false };
    *into = Some(text);
    Ok(seen)
}

fn hashed(members: &mut Members, member: &Member) -> Result<Seen> {
    let (mut hasher, mut head) = (Hasher::new(), Vec::with_capacity(MAGIC.len()));
    let copied = copy(members, &mut |bytes| {
        hasher.update(bytes);
        head.extend_from_slice(&bytes[..bytes.len().min(MAGIC.len() - head.len())]);
        Ok(())
    });
    copied.map_err(|e| read_error(&e))?;
    let sha256 = Some(Sha256::from_digest(&hasher.finalize()));
    Ok(Seen { bytes: member.bytes, sha256, looks_like_database: head == MAGIC })
}

/// Reads to the end in large steps.
pub(super) fn copy(from: &mut dyn Read, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => to(&buffer[..read])?,
        }
    }
}

/// What the second pass gives when the file is not the one that was verified.
pub(super) fn changed(path: &str) -> moon_actors::Error {
    damaged(format!("{path} is not what it was a moment ago: the file was changed while it was read"))
}
