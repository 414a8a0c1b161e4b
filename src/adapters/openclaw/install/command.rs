//! OpenClaw's own command line. It sees only the environment it needs, and only its first words reach an error.

use crate::child::{Failure, Program, Variables};
use moon_actors::settings::OpenClaw;
use moon_actors::{Error, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::time::Duration;

/// Most characters of a failed command's words in an error.
const EXCERPT: usize = 300;

/// The variables OpenClaw needs to find itself, its state and its configuration.
const PASSED: [&str; 18] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "OPENCLAW_HOME",
    "OPENCLAW_STATE_DIR",
    "OPENCLAW_CONFIG_PATH",
    "OPENCLAW_PROFILE",
    "OPENCLAW_CONFIG_READONLY",
    "OPENCLAW_NIX_MODE",
];

pub(super) struct Cli {
    command: String,
    environment: Vec<(String, OsString)>,
    deadline: Duration,
}

impl Cli {
    /// For the settings' command and state folder. `environment` is where the allowed variables come from.
    pub(super) fn new(
        settings: &OpenClaw,
        environment: impl Iterator<Item = (String, OsString)>,
        deadline: Duration,
    ) -> Self {
        let mut environment: Vec<_> = environment.filter(|(name, _)| PASSED.contains(&name.as_str())).collect();
        if !settings.state_dir.is_empty() {
            environment.retain(|(name, _)| name != "OPENCLAW_STATE_DIR");
            environment.push(("OPENCLAW_STATE_DIR".into(), settings.state_dir.clone().into()));
        }
        environment.push(("NO_COLOR".into(), "1".into()));
        Self { command: settings.command.clone(), environment, deadline }
    }

    /// With these variables too.
    pub(super) fn with_variables(mut self, more: impl Iterator<Item = (String, OsString)>) -> Self {
        self.environment.extend(more);
        self
    }

    /// Runs the command and returns what it wrote to its standard output.
    /// Errors: `openclaw.command_missing`, `openclaw.command_timeout`, `openclaw.command_failed`.
    pub(super) async fn run(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        let shown = format!("{} {}", self.command, arguments.join(" "));
        let variables = self.environment.iter().map(|(name, value)| (name.into(), value.clone())).collect();
        let program = Program::new(&self.command, arguments, Variables::Only(variables));
        let ended = match program.input(input).within(self.deadline).run().await {
            Ok(ended) => ended,
            Err(Failure::NotStarted(error)) => return Err(cannot_start(&self.command, &error)),
            Err(Failure::TooLong(_)) => {
                let message = format!("{shown}: no end within {} s", self.deadline.as_secs());
                return Err(Error::transient("openclaw.command_timeout", message)
                    .hint("run it by hand to see what it waits for"));
            }
            Err(Failure::Lost(error)) => return Err(Error::transient("openclaw.command_failed", &shown).cause(error)),
        };
        if ended.is_ok() {
            return Ok(ended.text());
        }
        // Failures of `--json` commands are told on the standard output.
        Err(Error::config("openclaw.command_failed", format!("{shown} ended with {}", ended.status))
            .cause(ended.excerpt(EXCERPT))
            .hint("Moon was built against OpenClaw 2026.9.6; see what `openclaw config validate` says"))
    }
}

fn cannot_start(command: &str, error: &io::Error) -> Error {
    let failed =
        Error::unavailable("openclaw.command_missing", format!("OpenClaw's command {command:?} cannot be run"));
    failed.cause(error).hint("install OpenClaw, or set openclaw.command in moon.toml to the command's absolute path")
}

/// The names of `${VARIABLES}` in a configuration text: OpenClaw needs their values to check it.
pub(super) fn variables(text: &str) -> BTreeSet<String> {
    let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    text.split("${")
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(n, _)| n)
        .filter(is_name)
        .map(Into::into)
        .collect()
}
