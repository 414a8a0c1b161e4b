//! A command of the user's: the notice as JSON on its standard input, the most important of it in variables.
//!
//! No shell; an environment of named variables only; its whole process group ends when the deadline has passed.

use super::told::Told;
use super::{Adapter, Around, excerpt};
use crate::child::Group;
use async_trait::async_trait;
use moon_actors::port::{Notice, Notifier};
use moon_actors::settings::route;
use moon_actors::{Error, Result};
use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Bytes kept of what it says; the rest is read and dropped.
const OUTPUT_MAX: usize = 16 << 10;
/// How long its pipes are read after it has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Exit codes of `sysexits.h` that would be the same again: usage, data, input, user.
const FINAL: [i32; 4] = [64, 65, 66, 67];

pub(super) struct CommandRoute {
    name: String,
    command: route::Command,
    around: Arc<Around>,
}

impl CommandRoute {
    pub(super) fn new(name: String, command: route::Command, around: Arc<Around>) -> Self {
        Self { name, command, around }
    }

    fn program(&self) -> Result<OsString> {
        let program = self.command.argv.first().map(String::as_str).unwrap_or_default();
        match program.contains('/') {
            true => self.around.path("argv", program).map(Into::into),
            false => Ok(program.into()),
        }
    }

    fn start(&self, told: &Told) -> Result<Child> {
        let program = self.program()?;
        let passed =
            self.command.environment.iter().filter_map(|name| Some((name.as_str(), self.around.variable(name)?)));
        let own = [
            ("MOON_ALERT_ID", told.id.as_str()),
            ("MOON_ALERT_KEY", &told.key),
            ("MOON_ALERT_STATE", told.state),
            ("MOON_ALERT_SEVERITY", told.severity),
            ("MOON_ALERT_RULE", told.rule.as_deref().unwrap_or_default()),
            ("MOON_ALERT_SUBJECT", told.subject.as_deref().unwrap_or_default()),
            ("MOON_ALERT_TITLE", &told.title),
            ("MOON_ALERT_MESSAGE", &told.message),
            ("MOON_ALERT_HOST", &told.host),
        ];
        let mut command = Command::new(&program);
        command.args(&self.command.argv[1..]).env_clear().envs(passed).envs(own).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        command.spawn().map_err(|error| {
            Error::unavailable("route.command", format!("the command of the route {:?} cannot be run", self.name))
                .cause(format!("{}: {error}", program.to_string_lossy()))
                .hint("see `argv` and `environment` of the route: PATH must be among its variables for a bare name")
        })
    }

    fn judge(&self, status: ExitStatus, said: &[u8]) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let said = excerpt(&String::from_utf8_lossy(said));
        let message = format!("the command of the route {:?} ended with {status}", self.name);
        let failed = match status.code().is_some_and(|code| FINAL.contains(&code)) {
            true => Error::data("route.rejected", message),
            false => Error::transient("route.command_failed", message),
        };
        Err(if said.is_empty() { failed } else { failed.cause(said) })
    }
}

async fn drain(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut piece = vec![0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read.min(OUTPUT_MAX - kept.len())]);
    }
}

#[async_trait]
impl Notifier for CommandRoute {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, notice: &Notice) -> Result<()> {
        let told = Told::new(notice, &self.around.host);
        let input = serde_json::json!(told).to_string();
        let mut child = self.start(&told)?;
        let mut group = Group::of(child.id());
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A command that does not read says why in its exit status.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let lost = |e: std::io::Error| {
            Error::transient("route.command_failed", format!("lost the command of the route {:?}", self.name)).cause(e)
        };
        let mut said = Vec::new();
        let mut heard = Box::pin(async {
            tokio::join!(feed, drain(stderr, &mut said));
        });
        let (status, is_heard) = tokio::select! {
            status = child.wait() => (status.map_err(lost)?, false),
            () = &mut heard => (child.wait().await.map_err(lost)?, true),
        };
        // What it left running may hold its pipes for ever, and ends with `group` then.
        if is_heard || tokio::time::timeout(LAST_WORDS, &mut heard).await.is_ok() {
            group.spare();
        }
        drop(heard);
        self.judge(status, &said)
    }
}

impl Adapter for CommandRoute {
    fn ready(&self) -> Result<()> {
        let program = self.program()?;
        let found = match std::path::Path::new(&program) {
            path if path.is_absolute() => crate::child::runs(path),
            name => {
                let path =
                    self.around.variable("PATH").filter(|_| self.command.environment.iter().any(|v| v == "PATH"));
                path.is_some_and(|path| {
                    std::env::split_paths(path).any(|folder| crate::child::runs(&folder.join(name)))
                })
            }
        };
        if found {
            return Ok(());
        }
        Err(Error::unavailable("route.command", "the command of the route is not there, or may not be run")
            .cause(program.to_string_lossy()))
    }
}
