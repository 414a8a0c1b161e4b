//! OpenClaw's own command line, run to its end: with a deadline, with its pipes drained, with nothing left behind.
//!
//! It sees only the environment it needs. What it prints is bounded, and only its first lines reach an error.

use moon_actors::settings::OpenClaw;
use moon_actors::{Error, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeSet;
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Most bytes kept of either stream; the rest is read and dropped.
const OUTPUT_LIMIT: usize = 1 << 20;
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
    environment: Vec<(String, std::ffi::OsString)>,
    deadline: Duration,
}

impl Cli {
    /// For the settings' command and state folder. `environment` is where the allowed variables come from.
    pub(super) fn new(
        settings: &OpenClaw,
        environment: impl Iterator<Item = (String, std::ffi::OsString)>,
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
    pub(super) fn with_variables(mut self, more: impl Iterator<Item = (String, std::ffi::OsString)>) -> Self {
        self.environment.extend(more);
        self
    }

    /// Runs the command and returns what it wrote to its standard output.
    /// Errors: `openclaw.command_missing`, `openclaw.command_timeout`, `openclaw.command_failed`.
    pub(super) async fn run(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        let shown = format!("{} {}", self.command, arguments.join(" "));
        let mut child = Command::new(&self.command)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| cannot_start(&self.command, &error))?;
        let mut group = Group(child.id());
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let whole = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A command that does not read its input says why in its exit status.
                    let _ = stdin.write_all(input).await;
                }
            };
            let (status, (), out, err) = tokio::join!(child.wait(), feed, drain(stdout), drain(stderr));
            (status, out, err)
        };
        let Ok((status, out, err)) = tokio::time::timeout(self.deadline, whole).await else {
            drop(group);
            let message = format!("{shown}: no end within {} s", self.deadline.as_secs());
            return Err(
                Error::transient("openclaw.command_timeout", message).hint("run it by hand to see what it waits for")
            );
        };
        group.0 = None;
        let status = status.map_err(|error| Error::transient("openclaw.command_failed", &shown).cause(error))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        // Failures of `--json` commands are told on the standard output.
        let words = if err.is_empty() { &out } else { &err };
        let told = String::from_utf8_lossy(words).split_whitespace().collect::<Vec<_>>().join(" ");
        let told: String = told.chars().take(EXCERPT).collect();
        Err(Error::config("openclaw.command_failed", format!("{shown} ended with {status}"))
            .cause(told)
            .hint("Moon was built against OpenClaw 2026.9.6; see what `openclaw config validate` says"))
    }
}

fn cannot_start(command: &str, error: &io::Error) -> Error {
    let failed =
        Error::unavailable("openclaw.command_missing", format!("OpenClaw's command {command:?} cannot be run"));
    failed.cause(error).hint("install OpenClaw, or set openclaw.command in moon.toml to the command's absolute path")
}

/// Ends the whole process group when the command is given up (deadline, dropped future): it may have started others.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Nobody left to signal is as good.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

async fn drain(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return kept };
    let mut piece = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let room = OUTPUT_LIMIT - kept.len();
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
    kept
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
