//! The archive in a folder: content-addressed objects, one manifest per segment, Markdown projections.
//!
//! ```text
//! archives/objects/3f/3f…e1.jsonl.zst                                       the bytes, named by their hash
//! archives/sessions/agent-main-main-d0a7…/9c1e…-0-000012.manifest.json      what they are
//! archives/mlib/agent-main-main-d0a7…/9c1e…-0.md                            what a person reads
//! archives/damaged/…                                                        what was found broken, kept
//! ```
//!
//! Everything else in Moon may be rebuilt from here, so nothing is acknowledged before it was fsynced and read back, and
//! nothing that was acknowledged is ever written again or removed. A damaged file is moved aside, not deleted.

mod codec;
mod layout;

use crate::durable;
use async_trait::async_trait;
use codec::{Content, Flaw};
use moon_actors::domain::{Manifest, Record, Segment, Series, Sha256};
use moon_actors::port::{ArchiveStore, SegmentDraft, Stored};
use moon_actors::{Error, Result};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const MANIFEST_VERSION: u32 = 1;
/// A manifest grows with the gaps in its numbering; one beyond this is not ours.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// The archive below one home. Clones share it.
#[derive(Clone)]
pub struct ArchiveDir {
    inner: Arc<Inner>,
}

struct Inner {
    home: PathBuf,
    zstd_level: i32,
    writer: String,
    /// One write at a time: a write that fails removes its new object, which must not be another one's acknowledged object by
    /// then. A killed actor's write goes on in its thread; its successor waits here.
    writing: Mutex<()>,
}

impl ArchiveDir {
    /// Makes the folders if they are missing. `zstd_level` 1 to 19; `writer` is what manifests name, e.g. `moon 0.1.0`.
    /// Errors: `InvalidInput` for another level, and when one of the folders is a symlink.
    pub fn open(home_root: &Path, zstd_level: i32, writer: String) -> io::Result<Self> {
        if !(1..=19).contains(&zstd_level) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("zstd level {zstd_level} is not 1 to 19")));
        }
        for folder in [layout::ROOT, layout::OBJECTS, layout::SESSIONS, layout::PROJECTIONS] {
            let path = home_root.join(folder);
            durable::create_folder(&path)?;
            if path.symlink_metadata()?.file_type().is_symlink() {
                let refused = format!("{} is a symlink", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, refused));
            }
        }
        let inner = Inner { home: home_root.to_owned(), zstd_level, writer, writing: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How many manifests lie below a home; 0 when it cannot be looked into. Opens nothing and makes nothing.
    pub fn count_manifests(home_root: &Path) -> usize {
        let inner =
            Inner { home: home_root.to_owned(), zstd_level: 1, writer: String::new(), writing: Mutex::default() };
        inner.manifest_paths().map_or(0, |paths| paths.len())
    }

    /// Reads the object of a manifest again and compares its hash. Errors: as [`ArchiveStore::verify`].
    pub async fn verify_object(&self, manifest: &Manifest) -> Result<()> {
        let manifest = manifest.clone();
        self.blocking(move |archive| {
            let path = layout::object(&manifest.sha256);
            archive.check_object(&path, &manifest).map_err(|flaw| unreadable(&path, flaw))
        })
        .await
    }

    /// Manifests that are there and cannot be used, with the reason: the other half of
    /// [`manifests`](ArchiveStore::manifests).
    pub async fn damaged_manifests(&self) -> Result<Vec<(String, String)>> {
        self.blocking(|archive| Ok(archive.walk()?.1)).await
    }

    /// Runs file work where it may block. A panic in there is a bug of ours and goes on as one.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Err(_) => Err(Error::transient("archive.io", "the archive is closing")),
        }
    }
}

#[async_trait]
impl ArchiveStore for ArchiveDir {
    async fn put(&self, draft: SegmentDraft) -> Result<Stored> {
        self.blocking(move |archive| archive.put(&draft)).await
    }
    async fn read(&self, segment: &Segment) -> Result<Vec<Record>> {
        let segment = segment.clone();
        self.blocking(move |archive| archive.read(&segment)).await
    }
    async fn verify(&self, segment: &Segment) -> Result<()> {
        let segment = segment.clone();
        self.blocking(move |archive| archive.verify(&segment)).await
    }
    async fn project(&self, series: &Series, keep_bytes: i64, text: &str) -> Result<i64> {
        let (path, text) = (self.projection_path(series), text.to_owned());
        self.blocking(move |archive| archive.project(&path, keep_bytes, &text)).await
    }
    async fn is_projected(&self, series: &Series) -> Result<bool> {
        let (path, wanted) = (self.inner.home.join(self.projection_path(series)), series.projection_bytes);
        self.blocking(move |_| {
            let length = path.symlink_metadata().map_or(0, |found| found.len());
            Ok(u64::try_from(wanted).is_ok_and(|wanted| wanted > 0 && length >= wanted))
        })
        .await
    }
    fn projection_path(&self, series: &Series) -> String {
        layout::projection(&series.session, &series.session_id, series.epoch)
    }
    async fn manifests(&self) -> Result<Vec<(String, Manifest)>> {
        self.blocking(|archive| Ok(archive.walk()?.0)).await
    }
    async fn sweep(&self) -> Result<u64> {
        self.blocking(|archive| {
            let root = archive.home.join(layout::ROOT);
            durable::sweep(&root).map_err(|e| failed("sweep", layout::ROOT, e))
        })
        .await
    }
}

/// Manifests found, and those found damaged with the reason.
type Walk = (Vec<(String, Manifest)>, Vec<(String, String)>);

impl Inner {
    fn put(&self, draft: &SegmentDraft) -> Result<Stored> {
        let content = Content::of(&draft.records);
        check_draft(draft, &content)?;
        let manifest = self.manifest(draft, content);
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = layout::object(&manifest.sha256);
        let is_new = self.put_object(&path, &manifest, &draft.records)?;
        self.put_manifest(&path, manifest).inspect_err(|_| {
            // Without a manifest nobody knows of the object; on a full disk it would be in the way of the next try.
            if is_new && let Err(error) = durable::remove(&self.home.join(&path)) {
                tracing::warn!(path, %error, "an object without a manifest stays behind");
            }
        })
    }

    fn manifest(&self, draft: &SegmentDraft, content: Content) -> Manifest {
        let (first, last) = (&draft.records[0], &draft.records[draft.records.len() - 1]);
        Manifest {
            version: MANIFEST_VERSION,
            session_key: draft.session_key.clone(),
            session_id: draft.session_id.clone(),
            epoch: draft.epoch,
            ordinal: draft.ordinal,
            sha256: content.sha256,
            previous: draft.previous.clone(),
            bytes: content.bytes,
            records: draft.records.len() as u64,
            first_seq: first.seq,
            last_seq: last.seq,
            last_record: Sha256::of(&last.bytes),
            seq_ranges: content.seq_ranges,
            multiline: content.multiline,
            source: draft.source.clone(),
            archived_at: draft.archived_at,
            writer: self.writer.clone(),
        }
    }

    /// Makes sure that a sound object is on disk. True if it was written now.
    fn put_object(&self, path: &str, manifest: &Manifest, records: &[Record]) -> Result<bool> {
        let full = self.home.join(path);
        match self.check_object(path, manifest) {
            Ok(()) => {
                // Its writer may have died between the rename and this.
                durable::sync_parent(&full).map_err(|e| failed("sync", path, e))?;
                return Ok(false);
            }
            Err(Flaw::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
            Err(Flaw::Io(e)) if e.kind() != io::ErrorKind::InvalidInput => return Err(failed("read", path, e)),
            Err(flaw) => self.set_aside(path, &flaw)?,
        }
        let write = || {
            durable::create_folder(full.parent().expect("an object lies in a folder"))?;
            durable::replace_with(&full, |file| codec::encode(records, manifest.bytes, self.zstd_level, file))
        };
        write().map_err(|e| failed("write", path, e))?;
        if let Err(flaw) = self.check_object(path, manifest) {
            durable::remove(&full).map_err(|e| failed("remove", path, e))?;
            return Err(match flaw {
                Flaw::Io(e) => failed("read back", path, e),
                Flaw::Damaged(why) => Error::data("archive.verify", format!("{path} is not what was written to it"))
                    .cause(why)
                    .hint("nothing was reduced; check the disk under the home"),
            });
        }
        Ok(true)
    }

    fn put_manifest(&self, object: &str, manifest: Manifest) -> Result<Stored> {
        let path = layout::manifest_of(&manifest);
        let bytes = manifest_bytes(&manifest);
        let stored = |manifest: Manifest, bytes: &[u8]| Stored {
            manifest,
            manifest_sha256: Sha256::of(bytes),
            path: object.to_owned(),
            manifest_path: path.clone(),
        };
        if let Some((there, found)) = self.manifest_in_place(&path, &manifest)? {
            return Ok(stored(found, &there));
        }
        let full = self.home.join(&path);
        let write = || {
            durable::create_folder(full.parent().expect("a manifest lies in a folder"))?;
            durable::replace(&full, &bytes)
        };
        write().map_err(|e| failed("write", &path, e))?;
        if self.read_small(&path).map_err(|e| failed("read back", &path, e))? != bytes {
            durable::remove(&full).map_err(|e| failed("remove", &path, e))?;
            return Err(Error::data("archive.verify", format!("{path} is not what was written to it"))
                .hint("nothing was reduced; check the disk under the home"));
        }
        Ok(stored(manifest, &bytes))
    }

    /// A manifest of an earlier attempt at the same segment is kept, byte for byte. Any other in its place (an attempt that
    /// was never acknowledged, a damaged one) is moved aside.
    fn manifest_in_place(&self, path: &str, wanted: &Manifest) -> Result<Option<(Vec<u8>, Manifest)>> {
        let bytes = match self.read_small(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Vec::new(),
            Err(e) => return Err(failed("read", path, e)),
        };
        if let Some(found) =
            serde_json::from_slice::<Manifest>(&bytes).ok().filter(|found| manifest_bytes(found) == bytes)
        {
            let when = (wanted.archived_at, wanted.writer.clone(), wanted.source.clone());
            let same_segment =
                Manifest { archived_at: when.0, writer: when.1, source: when.2, ..found.clone() } == *wanted;
            if same_segment {
                durable::sync_parent(&self.home.join(path)).map_err(|e| failed("sync", path, e))?;
                return Ok(Some((bytes, found)));
            }
        }
        self.set_aside(path, &Flaw::Damaged("another segment is written in its place".into()))?;
        Ok(None)
    }

    /// Moves what cannot be trusted out of the way, under a name that was never used.
    fn set_aside(&self, path: &str, flaw: &Flaw) -> Result<()> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let free = (0..)
            .map(|n| format!("{}/{n}-{name}", layout::DAMAGED))
            .find(|to| self.home.join(to).symlink_metadata().is_err())
            .expect("there are more numbers than files");
        tracing::warn!(path, to = free, ?flaw, "moved aside");
        durable::set_aside(&self.home.join(path), &self.home.join(&free)).map_err(|e| failed("move aside", path, e))
    }

    fn check_object(&self, path: &str, manifest: &Manifest) -> Result<(), Flaw> {
        let file = durable::open_from_disk(&self.home.join(path)).map_err(Flaw::Io)?;
        codec::check(file, &manifest.sha256, manifest.bytes)
    }

    fn read(&self, segment: &Segment) -> Result<Vec<Record>> {
        let path = object_path(segment)?;
        let file = durable::open_regular(&self.home.join(&path)).map_err(|e| unreadable(&path, Flaw::Io(e)))?;
        codec::decode(file, &segment.manifest).map_err(|flaw| unreadable(&path, flaw))
    }

    fn verify(&self, segment: &Segment) -> Result<()> {
        let path = object_path(segment)?;
        self.check_object(&path, &segment.manifest).map_err(|flaw| unreadable(&path, flaw))?;
        let manifest_path = layout::manifest_of(&segment.manifest);
        let bytes = self.read_small(&manifest_path).map_err(|e| unreadable(&manifest_path, Flaw::Io(e)))?;
        let is_same = manifest_path == segment.manifest_path
            && Sha256::of(&bytes) == segment.manifest_sha256
            && serde_json::from_slice(&bytes).is_ok_and(|found| is_described(&segment.manifest, &found));
        if is_same {
            Ok(())
        } else {
            Err(unreadable(&manifest_path, Flaw::Damaged("it differs from the ledger".into())))
        }
    }

    fn project(&self, path: &str, keep_bytes: i64, text: &str) -> Result<i64> {
        let full = self.home.join(path);
        let lost = |why: String| {
            Error::conflict("archive.projection_lost", format!("{path} is shorter than it was left"))
                .cause(why)
                .hint("it is rebuilt from the archive")
        };
        let keep = u64::try_from(keep_bytes).map_err(|_| lost(format!("{keep_bytes} bytes to keep")))?;
        if keep > 0 && !full.exists() {
            return Err(lost("it is not there".into()));
        }
        let write = || {
            durable::create_folder(full.parent().expect("a projection lies in a folder"))?;
            durable::append_at(&full, keep, text.as_bytes())
        };
        match write() {
            Ok(length) => Ok(i64::try_from(length).expect("no file is longer than an i64")),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(lost(e.to_string())),
            Err(e) => Err(failed("append to", path, e)),
        }
    }

    fn walk(&self) -> Result<Walk> {
        let (mut good, mut damaged) = (Vec::new(), Vec::new());
        for path in self.manifest_paths().map_err(|e| failed("list", layout::SESSIONS, e))? {
            match self.load_manifest(&path) {
                Ok(manifest) => good.push((path, manifest)),
                Err(why) => {
                    tracing::warn!(path, why, "a manifest is damaged");
                    damaged.push((path, why));
                }
            }
        }
        good.sort_by(|(_, a), (_, b)| {
            (&a.session_key, &a.session_id, a.epoch, a.ordinal).cmp(&(
                &b.session_key,
                &b.session_id,
                b.epoch,
                b.ordinal,
            ))
        });
        damaged.sort();
        Ok((good, damaged))
    }

    fn manifest_paths(&self) -> io::Result<Vec<String>> {
        let mut paths = Vec::new();
        for folder in std::fs::read_dir(self.home.join(layout::SESSIONS))? {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(folder.path())? {
                let name = file?.file_name();
                if name.to_string_lossy().ends_with(layout::MANIFEST_SUFFIX) {
                    let folder = folder.file_name();
                    let (folder, name) = (folder.to_string_lossy(), name.to_string_lossy());
                    paths.push(format!("{}/{folder}/{name}", layout::SESSIONS));
                }
            }
        }
        Ok(paths)
    }

    fn load_manifest(&self, path: &str) -> Result<Manifest, String> {
        let bytes = self.read_small(path).map_err(|e| e.to_string())?;
        // serde_json's text quotes no content, only the position.
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        if manifest.version != MANIFEST_VERSION {
            return Err(format!("version {} is not {MANIFEST_VERSION}", manifest.version));
        }
        if Sha256::parse(manifest.sha256.as_str()).is_none() {
            return Err("its hash is not one".into());
        }
        if layout::manifest_of(&manifest) != path {
            return Err("it describes another segment than its name says".into());
        }
        Ok(manifest)
    }

    fn read_small(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        durable::open_from_disk(&self.home.join(path))?.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "larger than any manifest"));
        }
        Ok(bytes)
    }
}

fn manifest_bytes(manifest: &Manifest) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(manifest).expect("a manifest has only strings, numbers and lists");
    bytes.push(b'\n');
    bytes
}

fn check_draft(draft: &SegmentDraft, content: &Content) -> Result<()> {
    let is_growing = draft.records.windows(2).all(|pair| pair[0].seq < pair[1].seq);
    let wrong = match () {
        () if draft.records.is_empty() => "it has no records",
        () if !is_growing => "its positions do not grow",
        () if draft.epoch < 0 || draft.ordinal < 0 => "its place in the series is negative",
        () if content.bytes > codec::MAX_DECODED => "it is larger than 2 GiB",
        () => return Ok(()),
    };
    Err(Error::data("archive.bad_draft", "a segment cannot be stored").cause(wrong))
}

/// Whether a ledger's copy says what the manifest says. A ledger may keep the time less precisely than the file.
fn is_described(row: &Manifest, found: &Manifest) -> bool {
    Manifest { archived_at: found.archived_at, ..row.clone() } == *found
}

/// The path is made from the hash; one in the ledger that differs shows that the row is damaged.
fn object_path(segment: &Segment) -> Result<String> {
    let path = Sha256::parse(segment.manifest.sha256.as_str()).map(|sha256| layout::object(&sha256));
    path.filter(|path| *path == segment.path).ok_or_else(|| {
        Error::data("archive.corrupt", format!("the ledger's row of segment {} is damaged", segment.id))
            .hint("run `moon verify`")
    })
}

fn unreadable(path: &str, flaw: Flaw) -> Error {
    match flaw {
        Flaw::Io(e) if e.kind() == io::ErrorKind::NotFound => corrupt(path, "it is missing"),
        Flaw::Io(e) if e.kind() == io::ErrorKind::InvalidInput => corrupt(path, &e.to_string()),
        Flaw::Io(e) => failed("read", path, e),
        Flaw::Damaged(why) => corrupt(path, &why),
    }
}

fn corrupt(path: &str, why: &str) -> Error {
    Error::data("archive.corrupt", format!("{path} is not what was archived"))
        .cause(why)
        .hint("restore it from a backup; run `moon verify` for the whole picture")
}

fn failed(operation: &str, path: &str, error: io::Error) -> Error {
    if durable::is_full(&error) {
        return Error::transient("archive.disk_full", format!("no room to {operation} {path}"))
            .cause(error)
            .hint("free space on the disk of the home; Moon goes on by itself");
    }
    Error::transient("archive.io", format!("could not {operation} {path}")).cause(error)
}
