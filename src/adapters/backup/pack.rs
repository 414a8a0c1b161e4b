//! Packs what is read: a plain tar, compressed, encrypted if that is wished, hashed on its way into the file.
//!
//! It must never write anywhere but into the file it is given.

use super::follow::Growing;
use super::unpack::finish;
use age::Encryptor;
use age::stream::StreamWriter;
use moon_actors::domain::Sha256;
use sha2::Digest;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender};

const BLOCK: u64 = 512;
/// Left free on the disk that the backup is written to, bytes: the ledger may lie there, too.
const KEPT: u64 = 8 << 20;
const LOOK_EVERY: u64 = 4 << 20;

/// What the reader hands over: the beginning of a member, then its bytes.
pub(super) enum Piece {
    Head { path: String, is_folder: bool, bytes: u64, mode: u32, mtime: i64 },
    Data(Vec<u8>),
}

/// Where pieces come from, and where their buffers go when they are empty.
pub(super) struct Pieces {
    pub(super) receive: Receiver<Piece>,
    pub(super) give_back: SyncSender<Vec<u8>>,
}

/// Turns pieces into a compressed tar.
pub(super) fn pack(
    pieces: &Pieces,
    id: &str,
    level: i32,
    out: Out<'_>,
    seal: Option<Encryptor>,
    copy: Option<SyncSender<io::Result<Vec<u8>>>>,
) -> io::Result<(u64, Sha256)> {
    let sealed = match seal {
        None => Sealed::Plain(out),
        Some(encryptor) => Sealed::Age(Box::new(encryptor.wrap_output(out)?)),
    };
    let mut packer = zstd::stream::write::Encoder::new(Tee { inner: sealed, copy }, level)?;
    packer.include_checksum(true)?;
    let mut padding = 0;
    let zeros = [0; BLOCK as usize];
    while let Ok(piece) = pieces.receive.recv() {
        match piece {
            Piece::Head { path, is_folder, bytes, mode, mtime } => {
                packer.write_all(&zeros[..padding])?;
                let slash = if is_folder { "/" } else { "" };
                head(&mut packer, &format!("{id}/{path}{slash}"), is_folder, bytes, mode, mtime)?;
                padding = (BLOCK - bytes % BLOCK) as usize % BLOCK as usize;
            }
            Piece::Data(bytes) => {
                packer.write_all(&bytes)?;
                // Nobody waits for it at the end.
                let _ = pieces.give_back.try_send(bytes);
            }
        }
    }
    packer.write_all(&zeros[..padding])?;
    packer.write_all(&zeros)?;
    packer.write_all(&zeros)?;
    let out = match packer.finish()?.inner {
        Sealed::Plain(out) => out,
        Sealed::Age(age) => age.finish()?,
    };
    if let Some(growing) = out.growing {
        growing.end();
    }
    Ok((out.bytes, finish(out.hasher)))
}

/// A header in the plain form that every tar reads; a name that does not fit gets a PAX record before it.
fn head(to: &mut impl Write, path: &str, is_folder: bool, bytes: u64, mode: u32, mtime: i64) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_mtime(u64::try_from(mtime).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(if is_folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_size(bytes);
    if header.set_path(path).is_err() {
        let record = pax("path", path);
        let mut extension = tar::Header::new_ustar();
        extension.set_path("pax/path")?;
        extension.set_mode(0o600);
        extension.set_mtime(0);
        extension.set_uid(0);
        extension.set_gid(0);
        extension.set_entry_type(tar::EntryType::XHeader);
        extension.set_size(record.len() as u64);
        extension.set_cksum();
        to.write_all(extension.as_bytes())?;
        to.write_all(record.as_bytes())?;
        let padding = (BLOCK - record.len() as u64 % BLOCK) % BLOCK;
        to.write_all(&vec![0; padding as usize])?;
        header.set_path("pax/name")?;
    }
    header.set_cksum();
    to.write_all(header.as_bytes())
}

/// `<length of all this> <key>=<value>\n`
fn pax(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// The file at the end of it all.
pub(super) struct Out<'a> {
    file: &'a mut File,
    hasher: sha2::Sha256,
    bytes: u64,
    since_look: u64,
    folder: PathBuf,
    growing: Option<Growing>,
}

impl<'a> Out<'a> {
    /// `folder` lies on a disk that must not become full either. Whoever follows the file is told of every byte.
    pub(super) fn new(file: &'a mut File, folder: PathBuf, growing: Option<Growing>) -> Self {
        Self { file, hasher: sha2::Sha256::new(), bytes: 0, since_look: u64::MAX, folder, growing }
    }
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.since_look >= LOOK_EVERY {
            if rustix::fs::fstatvfs(&*self.file).is_ok_and(|d| d.f_bavail.saturating_mul(d.f_frsize) < KEPT)
                || crate::adapters::room::free(&self.folder).is_some_and(|free| free < KEPT)
            {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.since_look = 0;
        }
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        self.since_look += written as u64;
        if let Some(growing) = &self.growing {
            growing.grew(written as u64)?;
        }
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Sealed<'a> {
    Plain(Out<'a>),
    Age(Box<StreamWriter<Out<'a>>>),
}

impl Write for Sealed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Age(age) => age.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives whoever proves the stream a copy of it.
struct Tee<'a> {
    inner: Sealed<'a>,
    copy: Option<SyncSender<io::Result<Vec<u8>>>>,
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        if let Some(copy) = &self.copy {
            // A prover that ended early says itself what was wrong.
            let _ = copy.send(Ok(bytes[..written].to_vec()));
        }
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
