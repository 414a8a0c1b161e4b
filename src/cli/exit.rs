//! The codes the process ends with. Stable: scripts and services act on them; documented in `docs/cli.md`.

use moon_actors::{Error, Kind};
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// The command could not be carried out.
    Error = 1,
    /// It was carried out, and what it looked at is not in order.
    NotOk = 2,
    /// Another process holds the home, or no daemon is there to talk to.
    Held = 3,
    /// The session host cannot be reached.
    HostUnreachable = 4,
    /// The command line or the configuration is wrong.
    Usage = 64,
    /// The supervisor gave up: something vital kept crashing.
    GaveUp = 70,
}

impl Exit {
    /// The code for an error, from its stable name.
    pub fn of(error: &Error) -> Self {
        let (noun, reason) = error.code.split_once('.').unwrap_or((&error.code, ""));
        match (noun, reason) {
            ("config", _)
            | ("cli", "usage")
            | ("recall", "empty_query" | "query_too_long")
            | ("alert", "rule" | "silence")
            | ("health", "no_such_check") => Self::Usage,
            ("daemon", "gave_up") => Self::GaveUp,
            ("restore", "under_way") => Self::Held,
            ("daemon" | "lock" | "control" | "backup", "held" | "running" | "not_running" | "not_reachable") => {
                Self::Held
            }
            ("host" | "openclaw" | "transcripts", _) if error.kind == Kind::Unavailable => Self::HostUnreachable,
            _ => Self::Error,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_end_with_the_documented_code() {
        let codes = [
            (Error::config("config.invalid", ""), 64),
            (Error::config("cli.usage", ""), 64),
            (Error::conflict("daemon.held", ""), 3),
            (Error::unavailable("daemon.not_running", ""), 3),
            (Error::unavailable("host.unreachable", ""), 4),
            (Error::transient("host.busy", ""), 1),
            (Error::transient("daemon.gave_up", ""), 70),
            (Error::config("home.is_link", ""), 1),
            (Error::transient("archive.io", ""), 1),
        ];
        for (error, code) in codes {
            assert_eq!(Exit::of(&error) as u8, code, "{}", error.code);
        }
    }
}
