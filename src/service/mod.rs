//! Moon as a service of the machine: one description, from which every unit is generated, and the programs that install it.
//!
//! ```text
//! Description ─► systemd.rs (moon.service, moon-failed.service) ┐
//!             └► launchd.rs (com.moon.agent.plist)              ┴─► units.rs (put there, told from foreign ones, taken away)
//! places.rs (what it has to reach)   manager.rs (systemctl, launchctl)   wish.rs (a deliberate stop)
//! outside.rs (checks that need no daemon) ─► cron.rs (lines in a crontab), timers.rs (systemd's)
//! ```
//!
//! The templates in `deploy/` are what `moon service print` says. Nothing here may change a file that is not Moon's without
//! keeping a copy, and nothing is started through a shell.

pub mod cron;
pub mod launchd;
pub mod manager;
pub mod outside;
pub mod places;
pub mod systemd;
pub mod timers;
pub mod units;
pub mod wish;

use crate::child::{Ended, Failure, Program, Variables};
use crate::home::Home;
use moon_actors::settings::Settings;
use moon_actors::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use places::Places;

/// Whose service manager runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The user's own: starts with the login.
    User,
    /// The machine's: starts with the machine, as a named user, behind walls.
    System,
}

/// Everything a unit is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub scope: Scope,
    /// The `moon` that is run.
    pub program: PathBuf,
    /// Moon's home.
    pub home: PathBuf,
    /// A settings file that is not in the home.
    pub config: Option<PathBuf>,
    /// As whom a system service runs, and what that user calls home.
    pub user: String,
    pub user_home: PathBuf,
    /// What beside the home has to be read, and what may be written.
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
    pub watchdog: Duration,
    /// Longest orderly stop.
    pub stop: Duration,
    pub memory_max_mib: u32,
}

/// Pause before Moon is started again.
pub const RESTART_PAUSE: Duration = Duration::from_secs(5);
/// A start that takes longer has failed.
pub const START_LIMIT: Duration = Duration::from_secs(45);
/// So many starts within [`BURST_WINDOW`], then Moon stays down and somebody is told.
pub const BURST: u32 = 5;
/// Longer than [`BURST`] starts can take: a window that is shorter would never be full, and the starts would go on for ever.
pub const BURST_WINDOW: Duration = Duration::from_secs(300);
/// Codes after which a start would end the same way: another daemon holds the home, and wrong settings.
pub const FINAL_CODES: [u8; 2] = [3, 64];
/// What an orderly stop may take beside the children's own time.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// Most bytes of a program's output: a journal, a crontab.
const OUTPUT_MAX: usize = 4 << 20;
/// Children that may each use up their time when Moon stops, one after the other.
const DRAINING: u32 = 12;

impl Description {
    /// For this installation. `who` is the user, with what that user calls home.
    pub fn new(
        scope: Scope,
        program: PathBuf,
        home: &Home,
        config: Option<PathBuf>,
        settings: &Settings,
        who: (String, PathBuf),
        places: Places,
    ) -> Result<Self> {
        let (user, user_home) = who;
        let is_reachable = home.socket_path().starts_with(home.root());
        if scope == Scope::System && !is_reachable {
            return Err(Error::config("service.home_too_long", "the home's path is too long for a system service")
                .cause("its control socket would have to lie in a temporary folder, and a system service has one of its own")
                .hint("move the home to a path of less than 85 characters, or install a user service"));
        }
        let own = [&*program, home.root(), &*user_home];
        // A user's unit names none of its places.
        let walled = places.read.iter().chain(&places.write).filter(|_| scope == Scope::System);
        let others = config.iter().chain(walled).map(PathBuf::as_path);
        for path in own.into_iter().chain(others) {
            refuse_odd(path)?;
        }
        let stop = settings.supervision.drain * DRAINING + STOP_MARGIN;
        Ok(Self {
            scope,
            program,
            home: home.root().to_owned(),
            config,
            user,
            user_home,
            read: places.read,
            write: places.write,
            watchdog: settings.service.watchdog,
            stop,
            memory_max_mib: settings.service.memory_max_mib,
        })
    }

    /// The words that run a command of this installation: `moon --home … <words>`.
    pub fn call(&self, words: &[&str]) -> Vec<String> {
        let mut call = vec![shown(&self.program), "--home".to_owned(), shown(&self.home)];
        if let Some(config) = &self.config {
            call.extend(["--config".to_owned(), shown(config)]);
        }
        call.extend(words.iter().map(|word| (*word).to_owned()));
        call
    }

    /// A place in the home, for files that others write: launchd, cron.
    pub fn in_home(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }
}

/// Runs a program of the machine's: its service manager's, or cron's.
/// Errors: `service.program_missing`, `service.program_timeout`, `service.program_io`.
pub async fn call(program: &str, words: &[&str], input: &[u8], limit: Duration) -> Result<Ended> {
    let ran = Program::new(program, words, Variables::plain()).input(input).within(limit).keep(OUTPUT_MAX).run().await;
    let shown = format!("{program} {}", words.join(" "));
    ran.map_err(|failure| match failure {
        Failure::NotStarted(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Error::unavailable("service.program_missing", format!("{program} cannot be run"))
                .cause(e)
                .hint("install it, or see `moon service print` for what to give to the service manager by hand")
        }
        Failure::TooLong(_) => Error::transient("service.program_timeout", format!("{shown}: {failure}"))
            .hint("run it by hand to see what it waits for"),
        Failure::NotStarted(e) | Failure::Lost(e) => {
            Error::transient("service.program_io", format!("could not run {shown}")).cause(e)
        }
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A path that a unit cannot hold unambiguously. Refused rather than quoted three ways for three formats.
fn refuse_odd(path: &Path) -> Result<()> {
    let is_plain = path.to_str().is_some_and(|text| !text.chars().any(|c| c.is_control() || "\"'\\:".contains(c)));
    if is_plain && path.is_absolute() {
        return Ok(());
    }
    Err(Error::config("service.odd_path", format!("{} cannot be written into a unit", path.display()))
        .cause("a path in a unit is absolute, in UTF-8, and holds no quote, backslash, colon or control character")
        .hint("move it, or name it by another path"))
}
