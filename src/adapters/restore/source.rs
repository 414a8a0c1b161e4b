//! Finds an archive and takes its wrapping off: sidecar, age, zstd or gzip, all with limits.
//!
//! The file is opened once and read through that handle only. Nothing is written here. What comes out is a plain tar stream that
//! ends where the archive ends: one frame, nothing behind it.

use super::members::{Layout, read_error, too_large};
use super::names::{damaged, is_id, refused};
use crate::adapters::ahead::ahead;
use crate::adapters::backup::format::{LIST_MAX, PATH_MAX};
use moon_actors::domain::Sha256;
use moon_actors::{Error, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256 as Hasher};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An archive may unpack to so many times its size …
const RATIO_MAX: u64 = 1000;
/// … once it is beyond this, bytes: small archives of empty databases compress well.
const RATIO_FREE: u64 = 16 << 20;
/// Headers, long name and padding of a member, at most, bytes.
const HEADERS: u64 = 4 * 512 + PATH_MAX as u64;
/// Largest window of zstd, as a power of two: what the decoder keeps in memory.
const WINDOW_LOG: u32 = 27;
/// Largest sidecar or list of keys, bytes.
const SMALL_FILE: u64 = 64 << 10;

/// What lies beside an archive: its hash, as the backup wrote it.
#[derive(Clone, Debug, Deserialize)]
struct Sidecar {
    id: String,
    bytes: u64,
    sha256: Sha256,
    #[serde(default)]
    members: u64,
    #[serde(default)]
    content_bytes: u64,
}

impl Sidecar {
    /// As long as the archive unpacked may be: its content, two headers and a long name for each member, and the lists.
    fn unpacked(&self) -> u64 {
        let headers = self.members.saturating_mul(HEADERS);
        self.content_bytes.saturating_add(headers).saturating_add(2 * LIST_MAX)
    }
}

/// An archive, opened.
#[derive(Debug)]
pub struct Source {
    pub path: PathBuf,
    pub layout: Layout,
    pub is_encrypted: bool,
    pub bytes: u64,
    /// The id that its sidecar gives it; `None` without a sidecar.
    pub known_id: Option<String>,
    file: File,
    sidecar: Option<Sidecar>,
}

impl Source {
    /// `latest`, the id of a backup in `backups`, or the path of a file.
    pub fn find(backups: &Path, wanted: &str) -> Result<Self> {
        let path = if wanted == "latest" {
            newest(backups)?
        } else if is_id(wanted) && !Path::new(wanted).exists() {
            of_id(backups, wanted)
                .ok_or_else(|| no_backup(format!("{} holds no backup {wanted}", backups.display())))?
        } else {
            PathBuf::from(wanted)
        };
        Self::open(&path)
    }

    /// Opens the file. Refuses links, other kinds of files and other users' files.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = crate::durable::open_regular(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => no_backup(format!("there is no file {shown}")),
            io::ErrorKind::InvalidInput => no_backup(format!("{shown} is {e}")),
            _ => Error::transient("restore.unreadable", format!("could not open {shown}")).cause(e),
        })?;
        let found = file.metadata().map_err(|e| unreadable(path, &e))?;
        let me = rustix::process::geteuid().as_raw();
        if found.uid() != me {
            return Err(Error::config("restore.foreign_owner", format!("{shown} belongs to another user"))
                .cause(format!("it belongs to user id {}, and this is user id {me}", found.uid()))
                .hint("if you trust it, make a copy of your own and restore that"));
        }
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (layout, is_encrypted) = wrapping(&name, path)?;
        let sidecar = sidecar(path, &name)?;
        let known_id = sidecar.as_ref().map(|s| s.id.clone());
        Ok(Self { path: path.to_owned(), layout, is_encrypted, bytes: found.len(), known_id, file, sidecar })
    }

    /// Bytes that a restore reads of it: once for its sidecar if there is one, once to verify it, once to unpack it.
    pub fn to_read(&self) -> u64 {
        self.bytes * (2 + u64::from(self.sidecar.is_some()))
    }

    /// Compares the whole file with its sidecar, before anything of it is believed. True if there is one.
    pub fn check_sidecar(&self, progress: &dyn Fn(u64)) -> Result<bool> {
        let Some(sidecar) = &self.sidecar else { return Ok(false) };
        if sidecar.bytes != self.bytes {
            return Err(damaged(format!("it has {} bytes, and its sidecar says {}", self.bytes, sidecar.bytes)));
        }
        let (mut hasher, mut buffer, mut done) = (Hasher::new(), vec![0; 256 << 10], 0);
        let mut file = self.rewound()?;
        loop {
            let read = file.read(&mut buffer).map_err(|e| unreadable(&self.path, &e))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            done += read as u64;
            progress(done);
        }
        if hash(hasher) != sidecar.sha256 {
            return Err(damaged("its SHA-256 is not the one in its sidecar"));
        }
        Ok(true)
    }

    /// Hands the unpacked stream to `work`, which must read it to its end. `progress` is told the bytes read of the file.
    pub fn unpack<T>(
        &self,
        identity: Option<&Path>,
        progress: &dyn Fn(u64),
        work: impl FnOnce(&mut dyn Read) -> Result<T>,
    ) -> Result<T> {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: self.rewound()?, count: Arc::clone(&count) };
        // Zeros pack very small. What the sidecar vouches for is no bomb: it was compared with the file before.
        let announced = self.sidecar.as_ref().map_or(0, Sidecar::unpacked);
        let packed = Packed { count, progress, announced };
        if !self.is_encrypted {
            return self.decompress(BufReader::with_capacity(128 << 10, counted), &packed, work);
        }
        let identities = identities(identity)?;
        let wrong = |e: age::DecryptError| match e {
            age::DecryptError::NoMatchingKeys => {
                Error::config("restore.identity", "no key of the identity file opens the archive")
                    .hint("name the file with the key the backup was encrypted for: `--identity FILE`")
            }
            age::DecryptError::Io(e) => read_error(&e),
            other => damaged(other),
        };
        let decryptor = age::Decryptor::new(counted).map_err(wrong)?;
        let plain = decryptor.decrypt(identities.iter().map(AsRef::as_ref)).map_err(wrong)?;
        self.decompress(BufReader::with_capacity(128 << 10, plain), &packed, work)
    }

    fn decompress<T>(
        &self,
        input: impl BufRead + Send,
        packed: &Packed,
        work: impl FnOnce(&mut dyn Read) -> Result<T>,
    ) -> Result<T> {
        let (done, mut rest): (Result<T>, Box<dyn Read + '_>) = match self.layout {
            Layout::Moon => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(input).map_err(|e| read_error(&e))?.single_frame();
                decoder.window_log_max(WINDOW_LOG).map_err(|e| read_error(&e))?;
                let (done, decoder) = ahead(decoder, |plain| worked(plain, packed, work));
                (done, Box::new(decoder.finish()))
            }
            Layout::Document => {
                let decoder = flate2::bufread::GzDecoder::new(input);
                let (done, decoder) = ahead(decoder, |plain| worked(plain, packed, work));
                (done, Box::new(decoder.into_inner()))
            }
        };
        let done = done?;
        match rest.read(&mut [0]) {
            Ok(0) => Ok(done),
            Ok(_) => Err(refused("something stands behind the compressed archive")),
            Err(e) => Err(read_error(&e)),
        }
    }

    fn rewound(&self) -> Result<File> {
        let rewind = || {
            let mut file = self.file.try_clone()?;
            file.rewind()?;
            Ok(file)
        };
        rewind().map_err(|e: io::Error| unreadable(&self.path, &e))
    }
}

/// Runs `work` and expects it to have read everything: the decoder checks its own end only when it is reached.
fn worked<T>(decoder: &mut dyn Read, packed: &Packed, work: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
    let mut capped = Capped { inner: decoder, packed, out: 0 };
    let done = work(&mut capped)?;
    match capped.read(&mut [0]) {
        Ok(0) => Ok(done),
        Ok(_) => Err(refused("something stands behind the archive's end")),
        Err(e) => Err(read_error(&e)),
    }
}

/// Counts what is read of the file.
struct Counted {
    inner: File,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// What was read of the file, and who is told.
struct Packed<'a> {
    count: Arc<AtomicU64>,
    progress: &'a dyn Fn(u64),
    /// It may unpack to so many bytes, whatever its size.
    announced: u64,
}

/// Ends a stream that unpacks to far more than was packed, unless that was announced.
struct Capped<'a> {
    inner: &'a mut dyn Read,
    packed: &'a Packed<'a>,
    out: u64,
}

impl Read for Capped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.out += read as u64;
        let packed = self.packed.count.load(Ordering::Relaxed);
        (self.packed.progress)(packed);
        if self.out > RATIO_FREE && self.out / RATIO_MAX > packed && self.out > self.packed.announced {
            let why = format!("{packed} bytes unpack to more than {}", self.out);
            return Err(io::Error::other(too_large(why)));
        }
        Ok(read)
    }
}

pub fn hash(hasher: Hasher) -> Sha256 {
    let hex = data_encoding::HEXLOWER.encode(&hasher.finalize());
    Sha256::parse(&hex).expect("a digest in hex is a hash")
}

fn wrapping(name: &str, path: &Path) -> Result<(Layout, bool)> {
    let (plain, is_encrypted) = name.strip_suffix(".age").map_or((name, false), |plain| (plain, true));
    if plain.ends_with(".tar.zst") {
        return Ok((Layout::Moon, is_encrypted));
    }
    if plain.ends_with(".tar.gz") || plain.ends_with(".tgz") {
        return Ok((Layout::Document, is_encrypted));
    }
    Err(no_backup(format!("{} is neither .tar.zst, .tar.zst.age nor .tar.gz", path.display())))
}

/// The id in a file's name.
fn stem(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn sidecar(path: &Path, name: &str) -> Result<Option<Sidecar>> {
    let beside = path.with_file_name(format!("{}.json", stem(name)));
    let Some(text) = small_file(&beside)? else { return Ok(None) };
    let unusable = |why: String| damaged(format!("its sidecar {} {why}", beside.display()));
    let sidecar: Sidecar = serde_json::from_slice(&text).map_err(|e| unusable(format!("is no sidecar: {e}")))?;
    if sidecar.id != stem(name) {
        return Err(unusable(format!("is that of {}", sidecar.id)));
    }
    Ok(Some(sidecar))
}

fn small_file(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match crate::durable::open_regular(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(path, &e)),
    };
    let mut text = Vec::new();
    file.take(SMALL_FILE + 1).read_to_end(&mut text).map_err(|e| unreadable(path, &e))?;
    if text.len() as u64 > SMALL_FILE {
        return Err(damaged(format!("{} has more than {SMALL_FILE} bytes", path.display())));
    }
    Ok(Some(text))
}

fn identities(path: Option<&Path>) -> Result<Vec<Box<dyn age::Identity>>> {
    let Some(path) = path else {
        return Err(Error::config("restore.identity", "the archive is encrypted")
            .hint("name the file with the key: `--identity FILE`"));
    };
    let unusable = |why: String| {
        Error::config("restore.identity", format!("could not use the identity file {}", path.display()))
            .cause(why)
            .hint("it holds lines that begin with AGE-SECRET-KEY-1, as `age-keygen` writes them")
    };
    let Some(text) = small_file(path)? else { return Err(unusable("there is no such file".into())) };
    let file = age::IdentityFile::from_buffer(text.as_slice()).map_err(|e| unusable(e.to_string()))?;
    file.into_identities()
        .map(|keys| keys.into_iter().map(|key| key as Box<dyn age::Identity>).collect())
        .map_err(|e| unusable(e.to_string()))
}

/// What `latest` names, or the newest id that is there.
fn newest(backups: &Path) -> Result<PathBuf> {
    let named = small_file(&backups.join("latest"))?.and_then(|text| String::from_utf8(text).ok());
    if let Some(path) = named.map(|t| t.trim().to_owned()).filter(|id| is_id(id)).and_then(|id| of_id(backups, &id)) {
        return Ok(path);
    }
    let entries = std::fs::read_dir(backups).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut ids: Vec<String> =
        names.filter(|n| n.contains(".tar.")).map(|n| stem(&n).to_owned()).filter(|id| is_id(id)).collect();
    // `-10` comes after `-9`: by length of what stands behind the stamp, then by it.
    ids.sort_by_key(|id| (id[..15].to_owned(), id.len(), id.clone()));
    ids.last()
        .and_then(|id| of_id(backups, id))
        .ok_or_else(|| no_backup(format!("{} holds no backup", backups.display())))
}

fn of_id(backups: &Path, id: &str) -> Option<PathBuf> {
    let endings = [".tar.zst", ".tar.zst.age", ".tar.gz"];
    endings.iter().map(|end| backups.join(format!("{id}{end}"))).find(|path| path.exists())
}

fn no_backup(why: String) -> Error {
    Error::config("restore.no_backup", "there is no such backup").cause(why).hint("name a file, an id or `latest`")
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::transient("restore.unreadable", format!("could not read {}", path.display())).cause(error)
}
