//! Moon's own identity towards the gateway: an Ed25519 key, and the token the gateway gave it.
//!
//! Here because a device of its own survives a rotation of the shared token and can be revoked alone. The key must never
//! leave its file, and neither key nor token may be printed.

use super::discovery::Token;
use crate::durable;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ed25519_dalek::{Signer, SigningKey};
use moon_actors::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::fmt;
use std::path::{Path, PathBuf};

/// The file's layout.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// Base64url of the 32-byte seed.
    secret: String,
    /// Given by the gateway; belongs to this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_token: Option<String>,
}

/// A key pair with its place on disk.
#[derive(Clone)]
pub(super) struct Device {
    path: PathBuf,
    key: SigningKey,
    id: String,
    token: Option<Token>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("id", &self.id).field("token", &self.token).finish_non_exhaustive()
    }
}

impl Device {
    /// Reads `<home>/state/openclaw-device.json`, or makes it (0600, durable) with a fresh key. Blocking.
    /// Errors: `config` `openclaw.device_unreadable`, `transient` `openclaw.device_unwritable`.
    pub(super) fn load_or_create(home: &Path) -> Result<Self> {
        let path = home.join("state").join("openclaw-device.json");
        match std::fs::read(&path) {
            Ok(bytes) => Self::decode(path, &bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::create(path),
            Err(e) => Err(unreadable(&path, e)),
        }
    }

    fn decode(path: PathBuf, bytes: &[u8]) -> Result<Self> {
        // A parse error would quote the content, and the content is the key: only the fact is told.
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| unreadable(&path, "not the JSON Moon wrote"))?;
        let seed = BASE64URL_NOPAD.decode(stored.secret.as_bytes()).ok().and_then(|s| <[u8; 32]>::try_from(s).ok());
        let Some(seed) = seed.filter(|_| stored.version == 1) else {
            return Err(unreadable(&path, "unknown version or damaged key"));
        };
        Ok(Self::from_seed(path, &seed, stored.device_token.as_deref().and_then(Token::new)))
    }

    fn create(path: PathBuf) -> Result<Self> {
        let mut seed = [0_u8; 32];
        getrandom::fill(&mut seed).map_err(|e| {
            Error::transient("openclaw.no_randomness", "cannot make a device key").cause(e).hint("tried again later")
        })?;
        let device = Self::from_seed(path, &seed, None);
        device.save()?;
        Ok(device)
    }

    fn from_seed(path: PathBuf, seed: &[u8; 32], token: Option<Token>) -> Self {
        let key = SigningKey::from_bytes(seed);
        let id = HEXLOWER.encode(&sha2::Sha256::digest(key.verifying_key().as_bytes()));
        Self { path, key, id, token }
    }

    /// Keeps (or, with `None`, forgets) the gateway's token. Blocking; writes only when it changed.
    pub(super) fn set_token(&mut self, token: Option<Token>) -> Result<()> {
        if self.token == token {
            return Ok(());
        }
        self.token = token;
        self.save()
    }

    fn save(&self) -> Result<()> {
        let stored = Stored {
            version: 1,
            secret: BASE64URL_NOPAD.encode(self.key.as_bytes()),
            device_token: self.token.as_ref().map(|t| t.reveal().to_owned()),
        };
        let bytes = serde_json::to_vec_pretty(&stored).expect("plain text always serialises");
        let folder = self.path.parent().expect("the path was made with a folder");
        durable::create_folder(folder).and_then(|()| durable::replace(&self.path, &bytes)).map_err(|e| {
            Error::transient("openclaw.device_unwritable", format!("cannot write {}", self.path.display()))
                .cause(e)
                .hint("Moon goes on with the shared gateway token; check free space and permissions")
        })
    }

    /// SHA-256 of the public key, hex.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
    /// Base64url without padding.
    pub(super) fn public_key(&self) -> String {
        BASE64URL_NOPAD.encode(self.key.verifying_key().as_bytes())
    }
    /// Base64url without padding.
    pub(super) fn sign(&self, text: &[u8]) -> String {
        BASE64URL_NOPAD.encode(&self.key.sign(text).to_bytes())
    }
    pub(super) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }
}

fn unreadable(path: &Path, cause: impl fmt::Display) -> Error {
    Error::config("openclaw.device_unreadable", format!("cannot read Moon's device key {}", path.display()))
        .cause(cause)
        .hint("move the file away to pair anew, or set openclaw.pair_device = false")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, Verifier, VerifyingKey};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_kept_private_and_signs_what_its_public_half_verifies() {
        let home = tempfile::tempdir().expect("a scratch folder");
        let made = Device::load_or_create(home.path()).expect("made");
        let read = Device::load_or_create(home.path()).expect("read");
        assert_eq!(made.id(), read.id());
        let file = home.path().join("state/openclaw-device.json");
        let mode = |p: &Path| std::fs::metadata(p).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
        let raw = BASE64URL_NOPAD.decode(read.public_key().as_bytes()).expect("base64url");
        assert_eq!(read.id(), HEXLOWER.encode(&sha2::Sha256::digest(&raw)));
        let public = VerifyingKey::from_bytes(&raw.try_into().expect("32 bytes")).expect("a key");
        let signature = BASE64URL_NOPAD.decode(made.sign(b"v3|x").as_bytes()).expect("base64url");
        public.verify(b"v3|x", &Signature::from_slice(&signature).expect("64 bytes")).expect("verifies");
    }

    #[test]
    fn the_token_survives_a_restart_and_is_never_printed() {
        let home = tempfile::tempdir().expect("a scratch folder");
        let mut device = Device::load_or_create(home.path()).expect("made");
        device.set_token(Token::new("device-t0ken")).expect("saved");
        let read = Device::load_or_create(home.path()).expect("read");
        assert_eq!(read.token().map(Token::reveal), Some("device-t0ken"));
        let printed = format!("{read:?}");
        assert!(!printed.contains("t0ken") && !printed.contains(&BASE64URL_NOPAD.encode(read.key.as_bytes())));
    }

    #[test]
    fn a_damaged_key_file_is_reported_and_left_alone() {
        let home = tempfile::tempdir().expect("a scratch folder");
        std::fs::create_dir(home.path().join("state")).expect("folder");
        let file = home.path().join("state/openclaw-device.json");
        for damage in ["", "{", r#"{"version":1,"secret":"c2hvcnQ"}"#, r#"{"version":9,"secret":""}"#] {
            std::fs::write(&file, damage).expect("written");
            assert_eq!(Device::load_or_create(home.path()).expect_err(damage).code, "openclaw.device_unreadable");
            assert_eq!(std::fs::read_to_string(&file).expect("kept"), damage);
        }
    }
}
