//! Encryption of backups with age: recipients to write, an identity to read. Keys come from files and are never shown.

use age::{DecryptError, Decryptor, Encryptor, Identity, IdentityFile, Recipient};
use moon_actors::{Error, Result};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Largest file of keys that is read.
const KEYS_MAX: u64 = 1 << 20;

/// Who may read the backups, and whether we can.
#[derive(Clone, Debug, Default)]
pub(super) struct Seal {
    pub(super) recipients: Vec<String>,
    pub(super) recipients_file: Option<PathBuf>,
    pub(super) identity_file: Option<PathBuf>,
}

impl Seal {
    /// `None`: backups are not encrypted.
    pub(super) fn encryptor(&self) -> Result<Option<Encryptor>> {
        let entry = |(at, text): (usize, &String)| (text.clone(), format!("entry {} of backup.recipients", at + 1));
        let mut texts: Vec<(String, String)> = self.recipients.iter().enumerate().map(entry).collect();
        if let Some(path) = &self.recipients_file {
            let text = read(path)?;
            let lines = text.lines().map(str::trim).enumerate();
            let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
            let named = |(at, line): (usize, &str)| (line.to_owned(), format!("line {} of {}", at + 1, path.display()));
            texts.extend(lines.map(named));
            if texts.is_empty() {
                return Err(Error::config("backup.keys", format!("{} names no recipient", path.display()))
                    .hint("one a line, each beginning with \"age1\""));
            }
        }
        if texts.is_empty() {
            return Ok(None);
        }
        let mut recipients: Vec<age::x25519::Recipient> = Vec::new();
        for (text, place) in texts {
            // Never the text itself: it could be an identity by mistake.
            recipients.push(recipient(&text).map_err(|why| {
                Error::config("backup.keys", format!("{place} is no age recipient"))
                    .cause(why)
                    .hint("a recipient begins with \"age1\"; `age-keygen -y` shows that of an identity")
            })?);
        }
        Encryptor::with_recipients(recipients.iter().map(|r| r as &dyn Recipient))
            .map(Some)
            .map_err(|e| Error::config("backup.keys", "could not encrypt for these recipients").cause(e))
    }

    pub(super) fn can_open(&self) -> bool {
        self.identity_file.is_some()
    }

    /// Reads through the encryption. `config` `backup.identity` when the key does not fit.
    pub(super) fn open<'a, R: Read + Send + 'a>(&self, sealed: R) -> Result<Box<dyn Read + Send + 'a>> {
        let path = self.identity_file.as_ref().ok_or_else(|| {
            Error::config("backup.identity", "the backup is encrypted, and no identity is known")
                .hint("name the file of the age identity in backup.identity_file")
        })?;
        let identities = identities(path)?;
        let damaged =
            |e: DecryptError| Error::data("backup.damaged", "the encryption of the backup cannot be read").cause(e);
        let decryptor = Decryptor::new_buffered(BufReader::with_capacity(128 << 10, sealed)).map_err(damaged)?;
        match decryptor.decrypt(identities.iter().map(|i| &**i as &dyn Identity)) {
            Ok(plain) => Ok(Box::new(plain)),
            Err(e @ (DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed)) => Err(unusable(path, e)),
            Err(e) => Err(damaged(e)),
        }
    }
}

/// A recipient from its text. The reason never holds the text, which could be an identity by mistake.
pub(super) fn recipient(text: &str) -> std::result::Result<age::x25519::Recipient, &'static str> {
    age::x25519::Recipient::from_str(text)
}

/// The identities in a file.
pub(super) fn identities(path: &Path) -> Result<Vec<Box<dyn Identity + Send + Sync>>> {
    let text = read(path)?;
    let file = IdentityFile::from_buffer(BufReader::new(text.as_bytes())).map_err(|e| unusable(path, e))?;
    file.into_identities().map_err(|e| unusable(path, e))
}

fn unusable(path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::config("backup.identity", format!("could not use the identity {}", path.display()))
        .cause(cause)
        .hint("the file that `age-keygen` made for one of the recipients is needed")
}

fn read(path: &Path) -> Result<String> {
    let unreadable = |e: std::io::Error| {
        Error::config("backup.keys", format!("could not read the file of keys {}", path.display()))
            .cause(e)
            .hint("it must be a file that you may read")
    };
    let mut text = String::new();
    let file = crate::durable::open_regular(path).map_err(unreadable)?;
    file.take(KEYS_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_recipient_is_named_by_its_place_and_never_shown() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (path, right) = (scratch.path().join("keys"), age::x25519::Identity::generate().to_public().to_string());
        std::fs::write(&path, format!("# ours\n{right}\n\nage1secret\n")).expect("written");
        let said = |seal: Seal| format!("{:?}", seal.encryptor().err().expect("refused"));
        let of_file = said(Seal { recipients_file: Some(path), ..Seal::default() });
        let of_list = said(Seal { recipients: vec![right, "age1secret".into()], ..Seal::default() });
        assert!(
            of_file.contains("line 4 of ") && of_list.contains("entry 2 of backup.recipients"),
            "{of_file} {of_list}"
        );
        assert!(!of_file.contains("age1secret") && !of_list.contains("age1secret"), "{of_file} {of_list}");
    }
}
