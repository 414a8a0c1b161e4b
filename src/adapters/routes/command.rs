//! A command of the user's: the notice as JSON on its standard input, the most important of it in variables.
//!
//! No shell; an environment of named variables only; its whole process group ends when the deadline has passed.

use super::told::Told;
use super::{Adapter, Around, EXCERPT, excerpt};
use crate::child::{Ended, Failure, Program, Variables};
use async_trait::async_trait;
use moon_actors::port::{Notice, Notifier};
use moon_actors::settings::route;
use moon_actors::{Error, Result};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

/// Bytes kept of what it says; the rest is read and dropped.
const OUTPUT_MAX: usize = 16 << 10;
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

    /// The named variables of Moon's, and the most important of the notice.
    fn variables(&self, told: &Told) -> Variables {
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
        let own = own.map(|(name, value)| (name, value.as_ref()));
        Variables::Only(passed.chain(own).map(|(name, value)| (name.into(), value.to_owned())).collect())
    }

    fn failed(&self, program: &Path, failure: &Failure) -> Error {
        match failure {
            Failure::NotStarted(error) => {
                Error::unavailable("route.command", format!("the command of the route {:?} cannot be run", self.name))
                    .cause(format!("{}: {error}", program.display()))
                    .hint("see `argv` and `environment` of the route: PATH must be among its variables for a bare name")
            }
            Failure::TooLong(_) | Failure::Lost(_) => {
                Error::transient("route.command_failed", format!("lost the command of the route {:?}", self.name))
                    .cause(failure.to_string())
            }
        }
    }

    fn judge(&self, ended: &Ended) -> Result<()> {
        if ended.is_ok() {
            return Ok(());
        }
        let said = excerpt(&ended.excerpt(EXCERPT));
        let message = format!("the command of the route {:?} ended with {}", self.name, ended.status);
        let failed = match ended.status.code().is_some_and(|code| FINAL.contains(&code)) {
            true => Error::data("route.rejected", message),
            false => Error::transient("route.command_failed", message),
        };
        Err(if said.is_empty() { failed } else { failed.cause(said) })
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
        let program = self.program()?;
        let words = self.command.argv.iter().skip(1);
        // The route's own timeout ends it, by dropping this.
        let command = Program::new(&program, words, self.variables(&told)).in_folder(Path::new("/"));
        let ended = command.input(input).keep(OUTPUT_MAX).run().await;
        self.judge(&ended.map_err(|failure| self.failed(Path::new(&program), &failure))?)
    }
}

impl Adapter for CommandRoute {
    fn ready(&self) -> Result<()> {
        let program = self.program()?;
        let found = match Path::new(&program) {
            path if path.is_absolute() => crate::child::runs(path),
            name => {
                let path =
                    self.around.variable("PATH").filter(|_| self.command.environment.iter().any(|v| v == "PATH"));
                path.is_some_and(|path| crate::child::runs_from(path, name))
            }
        };
        if found {
            return Ok(());
        }
        Err(Error::unavailable("route.command", "the command of the route is not there, or may not be run")
            .cause(program.to_string_lossy()))
    }
}
