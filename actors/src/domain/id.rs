//! Identities as types, so that a session key can never be passed where a cycle is meant.
//!
//! New ids come from the [`Ids`](crate::port::Ids) port and sort by time; nothing here makes one up.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

id!(/** The host's stable name of a conversation, e.g. `agent:main:main`. Foreign text: never a path. */ SessionKey);
id!(/** One pass of one session through some stages. */ CycleId);
id!(/** One trigger (push, poll, command); joins log lines, jobs and audit rows. */ TraceId);
id!(/** One life of the daemon or of a one-shot command. */ BootId);

/// SHA-256 in lower-case hexadecimal, 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sha256(String);

impl Sha256 {
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(&sha2::Sha256::digest(bytes))
    }
    pub fn from_digest(digest: &[u8]) -> Self {
        assert_eq!(digest.len(), 32, "a SHA-256 digest has 32 bytes");
        Self(data_encoding::HEXLOWER.encode(digest))
    }
    /// Accepts only 64 lower-case hexadecimal digits, so that a stored hash is always safe as a file name.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        hex.then(|| Self(text.to_owned()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
