//! Backups in a store that speaks S3: the same files under the same names, each with its note.
//!
//! The note goes last: what has none is on its way. It must never change a store's object that is not named like a backup.

use super::format::{self, Sidecar};
use super::{BackupVault, SIDECAR_MAX, Work, failed, stored};
use futures_util::{StreamExt, TryStreamExt, stream};
use moon_actors::port::{Held, Proven, StoredBackup};
use moon_actors::{Error, Kind, Result};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path as Key;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One part of an upload; two are on their way at a time.
const PART: usize = 8 << 20;
const PARTS: usize = 2;
/// Notes fetched at the same time.
const NOTES: usize = 8;
const CREDENTIALS_MAX: u64 = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT: Duration = Duration::from_secs(10);
const RETRIES: usize = 3;

/// A bucket and a prefix in it.
pub(super) struct Store {
    store: AmazonS3,
    url: String,
    prefix: Key,
}

impl BackupVault {
    pub(super) fn store(&self) -> Result<Store> {
        let s = &self.settings;
        let wrong = |e: object_store::Error| {
            Error::config("backup.store", format!("could not use the store {}", s.s3_url))
                .cause(e)
                .hint("check the keys of [backup] that begin with s3_")
        };
        let (bucket, prefix) =
            s.s3_url.trim_start_matches("s3://").split_once('/').unwrap_or((s.s3_url.trim_start_matches("s3://"), ""));
        let path = self.path("backup.s3_credentials_file", &s.s3_credentials_file)?.unwrap_or_default();
        let credentials = Credentials::read(&path)?;
        let options =
            ClientOptions::new().with_timeout(TIMEOUT).with_connect_timeout(CONNECT).with_allow_http(s.s3_allow_http);
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: TIMEOUT, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&s.s3_region)
            .with_access_key_id(credentials.id)
            .with_secret_access_key(credentials.secret)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_allow_http(s.s3_allow_http)
            .with_retry(retry)
            .with_client_options(options);
        if let Some(token) = credentials.token {
            builder = builder.with_token(token);
        }
        if !s.s3_endpoint.is_empty() {
            builder = builder.with_endpoint(&s.s3_endpoint).with_virtual_hosted_style_request(false);
        }
        let store = builder.build().map_err(wrong)?;
        let url = s.s3_url.trim_end_matches('/').to_owned();
        Ok(Store { store, url, prefix: Key::from(prefix.trim_matches('/')) })
    }

    /// Fetches one and proves it like one of the folder.
    pub(super) async fn verify_store(&self, held: &Held, id: &str) -> Result<Proven> {
        let begun = Instant::now();
        let store = self.store()?;
        let backup = store.list().await?.into_iter().find(|backup| backup.id == id).ok_or_else(|| {
            Error::data("backup.unknown", format!("there is no backup {id} in {}", store.url))
                .hint("`moon backup list` lists them")
        })?;
        let sidecar = store.note(id).await?;
        let work = Work::make(&self.home)?;
        let path = work.path().join(format::file_name(id, backup.encrypted));
        store.fetch(id, backup.encrypted, &path).await?;
        let outcome = self.prove(held, &path, &backup, sidecar.clone()).await;
        let note = match &outcome {
            Ok((_, sidecar)) => Some(sidecar.clone()),
            Err(e) if e.kind == Kind::Data => sidecar.map(|s| s.damaged(e)),
            Err(_) => None,
        };
        if let Some(note) = note {
            store.put_note(&note).await?;
        }
        let (proof, note) = outcome?;
        drop(work);
        let backup = StoredBackup { verified_at: note.verified_at, damaged: None, ..backup };
        Ok(Proven { backup, proof, took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) })
    }
}

impl Store {
    fn key(&self, name: &str) -> Key {
        self.prefix.clone().join(name)
    }

    fn failed(&self, operation: &str, error: object_store::Error) -> Error {
        let what = format!("could not {operation} {}", self.url);
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Error::config("backup.store_denied", what)
                    .cause(error)
                    .hint("check backup.s3_credentials_file and what its key may do: list, get, put and delete")
            }
            object_store::Error::NotFound { .. } => {
                Error::config("backup.store_missing", what).cause(error).hint("check the bucket in backup.s3_url")
            }
            _ => Error::transient("backup.store_failed", what)
                .cause(error)
                .hint("the backup in the folder is untouched; the next run sends what is missing"),
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<StoredBackup>> {
        let objects: Vec<_> =
            self.store.list(Some(&self.prefix)).try_collect().await.map_err(|e| self.failed("list", e))?;
        let mut found = Vec::new();
        let depth = self.prefix.parts().count() + 1;
        for object in &objects {
            let name = object.location.filename().and_then(format::parse_name);
            if let Some((id, encrypted)) = name.filter(|_| object.location.parts().count() == depth) {
                found.push((id.to_owned(), encrypted, object.size));
            }
        }
        let described = stream::iter(found).map(|(id, encrypted, bytes)| async move {
            let sidecar = self.note(&id).await?;
            let path = format!("{}/{}", self.url, format::file_name(&id, encrypted));
            Ok::<_, Error>(stored(path, &id, encrypted, bytes, sidecar))
        });
        let mut all: Vec<StoredBackup> = described.buffered(NOTES).try_collect().await?;
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(all)
    }

    async fn note(&self, id: &str) -> Result<Option<Sidecar>> {
        let got = match self.store.get(&self.key(&format::sidecar_name(id))).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(self.failed("read a note in", e)),
        };
        if got.meta.size > SIDECAR_MAX {
            return Ok(None);
        }
        let bytes = got.bytes().await.map_err(|e| self.failed("read a note in", e))?;
        Ok(serde_json::from_slice::<Sidecar>(&bytes).ok().filter(|note| note.id == id))
    }

    async fn put_note(&self, note: &Sidecar) -> Result<()> {
        let text = serde_json::to_vec_pretty(note).expect("a sidecar is plain data");
        let put = self.store.put(&self.key(&format::sidecar_name(&note.id)), text.into()).await;
        put.map(drop).map_err(|e| self.failed("write a note in", e))
    }

    /// Sends the file in parts, looks whether all of it arrived, then sends its note.
    pub(super) async fn send(
        &self,
        path: &Path,
        note: &Sidecar,
        tell: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<StoredBackup> {
        let key = self.key(&note.file);
        let mut file = tokio::fs::File::open(path).await.map_err(|e| failed("read", path, e))?;
        let upload = self.store.put_multipart(&key).await.map_err(|e| self.failed("write to", e))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let (mut buffer, mut sent) = (vec![0; 256 << 10], 0);
        loop {
            let read = file.read(&mut buffer).await.map_err(|e| failed("read", path, e))?;
            if read == 0 {
                break;
            }
            upload.wait_for_capacity(PARTS).await.map_err(|e| self.failed("write to", e))?;
            upload.write(&buffer[..read]);
            sent += read as u64;
            tell(sent, note.bytes);
        }
        let put = upload.finish().await.map_err(|e| self.failed("write to", e))?;
        let there = self.store.head(&key).await.map_err(|e| self.failed("look into", e))?;
        if there.size != note.bytes || (put.e_tag.is_some() && there.e_tag != put.e_tag) {
            let what = format!("{} did not arrive whole in {}", note.file, self.url);
            return Err(Error::transient("backup.store_failed", what)
                .cause(format!("{} of {} bytes are there", there.size, note.bytes))
                .hint("the backup in the folder is untouched; the next run sends it again"));
        }
        self.put_note(note).await?;
        let path = format!("{}/{}", self.url, note.file);
        Ok(stored(path, &note.id, note.encrypted, there.size, Some(note.clone())))
    }

    async fn fetch(&self, id: &str, encrypted: bool, to: &Path) -> Result<()> {
        let got = self.store.get(&self.key(&format::file_name(id, encrypted))).await;
        let got = got.map_err(|e| self.failed("read from", e))?;
        let room = crate::adapters::room::free(to.parent().unwrap_or(to));
        if room.is_some_and(|free| free < got.meta.size) {
            return Err(Error::transient("backup.no_room", format!("there is no room to fetch {id} and compare it"))
                .hint("make room on the disk of the home, then `moon backup verify`; it was not verified"));
        }
        let mut file = tokio::fs::File::create(to).await.map_err(|e| failed("write", to, e))?;
        let mut stream = got.into_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|e| self.failed("read from", e))?;
            file.write_all(&piece).await.map_err(|e| failed("write", to, e))?;
        }
        file.flush().await.map_err(|e| failed("write", to, e))
    }

    pub(super) async fn delete(&self, id: &str) -> Result<()> {
        if !format::is_id(id) {
            return Err(Error::data("backup.unknown", format!("{id:?} is not the id of a backup")));
        }
        for name in [format::file_name(id, false), format::file_name(id, true), format::sidecar_name(id)] {
            match self.store.delete(&self.key(&name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(self.failed("remove from", e)),
            }
        }
        Ok(())
    }
}

/// A key for the store, from a file in the form of Amazon's own tools.
pub(super) struct Credentials {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Credentials {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let wrong = |cause: String| {
            Error::config("backup.credentials", format!("could not use the credentials {}", path.display()))
                .cause(cause)
                .hint("two lines, aws_access_key_id = … and aws_secret_access_key = …, in a file of mode 600")
        };
        let file = crate::durable::open_regular(path).map_err(|e| wrong(e.to_string()))?;
        let mode = file.metadata().map_err(|e| wrong(e.to_string()))?.mode();
        if mode & 0o077 != 0 {
            return Err(wrong(format!("others may read it (mode {:o})", mode & 0o777)));
        }
        let mut text = String::new();
        file.take(CREDENTIALS_MAX).read_to_string(&mut text).map_err(|e| wrong(e.to_string()))?;
        let value = |name: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let found = lines.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty())
        };
        let need = |name: &str| value(name).ok_or_else(|| wrong(format!("{name} is missing")));
        Ok(Self {
            id: need("aws_access_key_id")?,
            secret: need("aws_secret_access_key")?,
            token: value("aws_session_token"),
        })
    }
}
