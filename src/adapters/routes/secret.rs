//! Reads a secret from its file.
//!
//! Only from a regular file that is ours and that nobody else may read. A secret lives for one delivery and is shown nowhere: what a
//! receiver answers is cleaned by [`Secrets::clean`] before it becomes a part of an error.

use super::Around;
use moon_actors::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A password, an address or a few headers; anything near this is another file.
const SECRET_MAX: u64 = 16 << 10;
/// Files that are no secret: an authority, a template.
const FILE_MAX: u64 = 256 << 10;

/// The secret in the file that the settings name under `key`.
pub(super) fn read(around: &Around, key: &str, text: &str) -> Result<SecretString> {
    let path = around.path(key, text)?;
    let failed = |cause: String| {
        Error::unavailable("route.secret", format!("cannot read {key} {}", path.display())).cause(cause).hint(
            "it must be a file of your own with the secret as its only content, readable for nobody else (chmod 600)",
        )
    };
    let is_credential = around.credentials().is_some_and(|folder| path.starts_with(folder));
    let (file, found) = open(&path).map_err(failed)?;
    refuse_shared(&found, is_credential).map_err(failed)?;
    let mut text = text_of(file, SECRET_MAX).map_err(failed)?;
    while text.ends_with(['\n', '\r']) {
        text.pop();
    }
    match text.trim().is_empty() {
        true => Err(failed("the file is empty".into())),
        false => Ok(text.into()),
    }
}

/// The same, for one line: a line break in a password or an address is a mistake.
pub(super) fn read_line(around: &Around, key: &str, text: &str) -> Result<SecretString> {
    let secret = read(around, key, text)?;
    if secret.expose_secret().contains(char::is_control) {
        return Err(Error::unavailable("route.secret", format!("cannot use {key}"))
            .cause("the file holds more than one line, or control characters")
            .hint("the secret must be its only content"));
    }
    Ok(secret)
}

/// A file that is no secret.
pub(super) fn read_file(around: &Around, key: &str, text: &str) -> Result<String> {
    let path = around.path(key, text)?;
    let failed =
        |cause: String| Error::unavailable("route.file", format!("cannot read {key} {}", path.display())).cause(cause);
    let (file, _) = open(&path).map_err(failed)?;
    text_of(file, FILE_MAX).map_err(failed)
}

fn open(path: &Path) -> Result<(File, Metadata), String> {
    // Not blocking: a pipe under this name must not hang the delivery.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("open flags are small");
    let file =
        std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(|e| e.to_string())?;
    let found = file.metadata().map_err(|e| e.to_string())?;
    if !found.is_file() {
        return Err("not a file".into());
    }
    Ok((file, found))
}

/// systemd's credentials may be root's and read by a right of their own, which shows as one of the group.
fn refuse_shared(found: &Metadata, is_credential: bool) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    let (others, is_ours) = match is_credential {
        true => (0o037, found.uid() == own || found.uid() == 0),
        false => (0o077, found.uid() == own),
    };
    if !is_ours {
        return Err(format!("it belongs to another user ({})", found.uid()));
    }
    match found.mode() & others {
        0 => Ok(()),
        _ => Err(format!("others may read or change it (mode {:03o})", found.mode() & 0o777)),
    }
}

fn text_of(file: File, most: u64) -> Result<String, String> {
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > most {
        return Err(format!("larger than {most} bytes"));
    }
    Ok(text)
}

/// The secrets of one delivery.
#[derive(Default)]
pub(super) struct Secrets(Vec<SecretString>);

impl Secrets {
    pub(super) fn add(&mut self, secret: &SecretString) {
        self.0.push(secret.clone());
    }

    /// Foreign words without any of them, plain or as base64.
    pub(super) fn clean(&self, words: &str) -> String {
        let mut clean = words.to_owned();
        for secret in &self.0 {
            let plain = secret.expose_secret();
            // A shorter one would blank out half of every sentence.
            if plain.len() >= 4 {
                clean = clean.replace(plain, "***").replace(&data_encoding::BASE64.encode(plain.as_bytes()), "***");
            }
        }
        clean
    }
}
