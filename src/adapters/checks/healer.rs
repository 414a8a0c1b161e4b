//! Restarts a service or runs a program, exactly as the settings name it.

use crate::child::{Program, Variables};
use async_trait::async_trait;
use moon_actors::port::Healer;
use moon_actors::settings::Remedy;
use moon_actors::{Error, Result};
use std::time::Duration;

/// A service that takes longer to come up is judged by the next look.
const DEADLINE: Duration = Duration::from_secs(90);

pub struct SystemHealer;

#[async_trait]
impl Healer for SystemHealer {
    async fn heal(&self, act: &Remedy) -> Result<String> {
        let argv = if act.argv.is_empty() { restart(act) } else { program(&act.argv) };
        let failed = |why: String| {
            Error::transient("health.not_healed", format!("could not do the {}", act.describe()))
                .cause(why)
                .hint(format!("run it by hand: {}", argv.join(" ")))
        };
        let program = Program::of(&argv, Variables::plain()).within(DEADLINE);
        // `agent &` in a script of the user's.
        let program = if act.argv.is_empty() { program } else { program.starts_others() };
        let ended = program.run().await.map_err(|e| failed(e.to_string()))?;
        if ended.is_ok() {
            return Ok("done".into());
        }
        Err(failed(ended.complaint()))
    }
}

fn program(argv: &[String]) -> Vec<String> {
    let mut argv = argv.to_vec();
    if let Some(program) = argv.first_mut() {
        *program = super::expand(program).to_string_lossy().into_owned();
    }
    argv
}

/// `systemctl` or `launchctl`, with the service behind `--` so that no name can be an option.
fn restart(act: &Remedy) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    if cfg!(target_os = "macos") {
        let domain =
            if act.system { "system".to_owned() } else { format!("gui/{}", rustix::process::getuid().as_raw()) };
        return words(&["launchctl", "kickstart", "-k", &format!("{domain}/{}", act.service)]);
    }
    match act.system {
        true => words(&["systemctl", "restart", "--", &act.service]),
        false => words(&["systemctl", "--user", "restart", "--", &act.service]),
    }
}
