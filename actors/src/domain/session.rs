//! A session as its host shows it, and one reading of its context usage.

use super::id::SessionKey;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Which transcript of which conversation: the key stays over resets, the id may or may not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionRef {
    pub key: SessionKey,
    /// The host's id of the transcript. Foreign text: never a path.
    pub session_id: String,
}

/// How full one session's context window is, as the host said at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageReading {
    pub session: SessionRef,
    /// Tokens of the last model call's prompt. `None` until the host knows.
    pub used_tokens: Option<u64>,
    /// The effective window. `None` until the host knows.
    pub window_tokens: Option<u64>,
    /// Whether the host vouches for `used_tokens` now. Only a fresh count may trigger anything.
    pub fresh: bool,
    /// A turn is running; nothing may be reduced meanwhile.
    pub running: bool,
    /// Grows with every turn; a change means there is something new to archive.
    pub last_activity: Option<DateTime<Utc>>,
    /// Changes when the host gives the session a new window (a reset), whoever did it. `None`: the host cannot say now.
    pub generation: Option<String>,
    pub model: Option<String>,
    /// `openclaw` or `transcripts`.
    pub provider: String,
    pub captured_at: DateTime<Utc>,
}

impl UsageReading {
    /// Used share of the window, 0.0 and up; `None` when either figure is missing. Says nothing about freshness.
    pub fn ratio(&self) -> Option<f64> {
        match (self.used_tokens, self.window_tokens) {
            (Some(used), Some(window)) if window > 0 => Some(used as f64 / window as f64),
            _ => None,
        }
    }
    /// The ratio, only if it may be acted on.
    pub fn trusted_ratio(&self) -> Option<f64> {
        self.fresh.then(|| self.ratio()).flatten()
    }
}

/// What a host allows Moon to do now. Read again before each use: a connection can lose its scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Usage arrives by itself; polling is only the safety net.
    pub push: bool,
    /// Moon may ask for a compaction (`lead` mode, scope granted).
    pub compact: bool,
    /// Moon may start a new window (`lead` mode, scope granted).
    pub reset: bool,
    /// A block of Moon's can be put into the next model call (the bridge is installed and alive).
    pub inject: bool,
}
