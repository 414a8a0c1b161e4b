//! What of `[backup]` cannot be used: told by `moon config check`, instead of at two in the morning.

use super::seal::{self, Seal};
use super::target::Credentials;
use super::walk;
use crate::config::{Environment, expand};
use moon_actors::settings;
use std::path::{Path, PathBuf};

/// What is wrong with a recipient. The text is not in it: it could be an identity by mistake.
pub fn recipient_fault(text: &str) -> Option<String> {
    let why = seal::recipient(text).err()?;
    Some(format!("is no age recipient: {why} (`age-keygen -y` shows that of an identity)"))
}

/// What is wrong with a pattern of `backup.exclude`.
pub fn exclusion_fault(text: &str) -> Option<String> {
    walk::exclusion(text).err()
}

/// The keys whose files cannot be used now, and why. Reads them, and talks to nobody.
pub fn unready(settings: &settings::Backup, environment: &Environment) -> Vec<(&'static str, String)> {
    let path = |text: &str| -> Option<PathBuf> {
        (!text.is_empty()).then(|| expand(Path::new(text), environment).ok()).flatten()
    };
    let recipients = path(&settings.recipients_file).and_then(|file| {
        let seal = Seal { recipients_file: Some(file), ..Seal::default() };
        seal.encryptor().err()
    });
    let identity = path(&settings.identity_file).and_then(|file| seal::identities(&file).err());
    let credentials = path(&settings.s3_credentials_file).and_then(|file| Credentials::read(&file).err());
    let found = [
        ("backup.recipients_file", recipients),
        ("backup.identity_file", identity),
        ("backup.s3_credentials_file", credentials),
    ];
    found.into_iter().filter_map(|(key, error)| Some((key, error?.in_full()))).collect()
}
