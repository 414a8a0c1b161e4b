//! Checks of the user's own: any program that says by its exit code, or as a Nagios plugin, how things are.

use super::nagios;
use crate::child::{Program, Variables};
use async_trait::async_trait;
use moon_actors::domain::Finding;
use moon_actors::port::{AlertRules, Check, CheckGroup, Look};
use moon_actors::settings::{Command, CommandFormat};
use std::sync::Arc;
use std::time::Duration;

/// Of what it says this much is read, bytes.
const KEPT: usize = 64 << 10;
/// And this much is shown, characters.
const SHOWN: usize = 300;

pub(super) struct OwnCommand {
    name: String,
    argv: Vec<String>,
    format: CommandFormat,
    timeout: Duration,
}

impl OwnCommand {
    pub(super) fn new(command: &Command) -> Arc<Self> {
        let mut argv = command.argv.clone();
        if let Some(program) = argv.first_mut() {
            *program = super::expand(program).to_string_lossy().into_owned();
        }
        let name = format!("command:{}", command.name);
        Arc::new(Self { name, argv, format: command.format, timeout: command.timeout })
    }
}

#[async_trait]
impl Check for OwnCommand {
    fn name(&self) -> &str {
        &self.name
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Commands
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("command.failed"))
    }
    fn limit(&self) -> Option<Duration> {
        Some(self.timeout + Duration::from_secs(2))
    }
    async fn look(&self, _: &Look) -> Finding {
        let program = Program::of(&self.argv, Variables::plain()).within(self.timeout).keep(KEPT);
        let ended = match program.run().await {
            Ok(ended) => ended,
            Err(why) => {
                return Finding::unknown(why.to_string()).hint(format!("run it by hand: {}", self.argv.join(" ")));
            }
        };
        let said = if ended.stdout.trim_ascii().is_empty() { &ended.stderr } else { &ended.stdout };
        let parsed = nagios::parse(&String::from_utf8_lossy(said));
        let text: String = match parsed.text.is_empty() {
            true => format!("ended with {}", ended.status),
            false => parsed.text.chars().take(SHOWN).collect(),
        };
        let finding = match (self.format, ended.status.code()) {
            (CommandFormat::Nagios, code) => Finding::new(nagios::condition(code), text),
            (CommandFormat::Exit, Some(0)) => Finding::ok(text),
            (CommandFormat::Exit, _) => Finding::critical(text),
        };
        let figures = if self.format == CommandFormat::Nagios { parsed.figures } else { Default::default() };
        Finding { figures, ..finding.hint(format!("run it by hand: {}", self.argv.join(" "))) }
    }
}
