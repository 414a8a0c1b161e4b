//! The machine's service manager, driven by its own program: `systemctl` or `launchctl`.
//!
//! Every call has a deadline and its words are fixed; nothing is guessed from a process list. Where no manager answers, that is
//! one clear error and nothing has been changed.

use super::units::Unit;
use super::{Description, Scope, call, launchd, systemd, timers};
use crate::child::Ended;
use moon_actors::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For questions.
const ASK: Duration = Duration::from_secs(10);
/// For what waits until Moon is up or gone.
const ACT: Duration = Duration::from_secs(150);

/// The kinds there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Systemd,
    Launchd,
}

impl Kind {
    /// This machine's.
    pub fn here() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }
}

/// One manager, of the user or of the machine.
#[derive(Clone, Debug)]
pub struct Manager {
    pub kind: Kind,
    pub scope: Scope,
    /// What the user calls home: where a user's units lie.
    pub user_home: PathBuf,
    /// `$XDG_CONFIG_HOME`, if it is set.
    pub config_home: Option<PathBuf>,
}

/// How the manager sees Moon.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct State {
    pub is_active: bool,
    /// `active (running)`, `failed (start-limit-hit)`, …
    pub text: String,
    pub pid: Option<u32>,
    pub restarts: Option<u64>,
    /// What Moon says of itself.
    pub status: Option<String>,
    /// Starts by itself.
    pub is_enabled: bool,
}

impl Manager {
    /// Refuses what does not exist: a system agent of launchd's would run as root.
    pub fn new(kind: Kind, scope: Scope, user_home: PathBuf, config_home: Option<PathBuf>) -> Result<Self> {
        if kind == Kind::Launchd && scope == Scope::System {
            return Err(Error::config("service.user_only", "on macOS Moon is an agent of its user")
                .hint("leave --system out; the agent starts with the login"));
        }
        Ok(Self { kind, scope, user_home, config_home })
    }

    /// The files of a description, with their places, in the order they are written.
    pub fn units(&self, d: &Description) -> Result<Vec<Unit>> {
        match self.kind {
            Kind::Systemd => Ok(self.placed(systemd::units(d))),
            Kind::Launchd => Ok(vec![Unit { path: self.main_unit(), text: launchd::agent(d)? }]),
        }
    }

    /// The files of the checks from outside. launchd gets none: cron is there.
    pub fn timers(&self, d: &Description) -> Result<Vec<Unit>> {
        if self.kind == Kind::Launchd {
            return Err(Error::config("service.no_timers", "timers are for systemd")
                .hint("`moon service cron` puts the same checks into the crontab"));
        }
        Ok(self.placed(timers::units(d)))
    }

    fn placed<N: AsRef<Path>>(&self, units: impl IntoIterator<Item = (N, String)>) -> Vec<Unit> {
        let folder = self.folder();
        units.into_iter().map(|(name, text)| Unit { path: folder.join(name), text }).collect()
    }

    fn folder(&self) -> PathBuf {
        match (self.kind, self.scope) {
            (Kind::Systemd, Scope::System) => "/etc/systemd/system".into(),
            (Kind::Systemd, Scope::User) => {
                self.config_home.clone().unwrap_or_else(|| self.user_home.join(".config")).join("systemd/user")
            }
            (Kind::Launchd, _) => self.user_home.join("Library/LaunchAgents"),
        }
    }

    /// Where the unit of the daemon lies.
    pub fn main_unit(&self) -> PathBuf {
        match self.kind {
            Kind::Systemd => self.folder().join(systemd::SERVICE),
            Kind::Launchd => self.folder().join(format!("{}.plist", launchd::LABEL)),
        }
    }

    /// True if the installed unit runs Moon for this home.
    pub fn serves(&self, home: &Path) -> bool {
        let shown = home.display().to_string();
        let words = |text: &str| match self.kind {
            Kind::Systemd => {
                let shown = shown.replace('%', "%%").replace('$', "$$");
                let line = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap_or_default().to_owned();
                line.contains(&format!("--home {shown} ")) || line.contains(&format!("--home \"{shown}\" "))
            }
            Kind::Launchd => {
                let parsed = plist::Value::from_reader_xml(text.as_bytes()).ok();
                let words = parsed.and_then(|root| root.as_dictionary()?.get("ProgramArguments")?.as_array().cloned());
                words.unwrap_or_default().iter().any(|word| word.as_string() == Some(&shown))
            }
        };
        std::fs::read_to_string(self.main_unit()).is_ok_and(|text| words(&text))
    }

    /// An error with the next step when nobody answers.
    pub async fn reach(&self) -> Result<()> {
        let (what, ran) = match (self.kind, self.scope) {
            (Kind::Systemd, Scope::System) => ("systemd", self.systemctl(&["show", "--property=Version"], ASK).await),
            (Kind::Systemd, Scope::User) => {
                ("the user's systemd", self.systemctl(&["show", "--property=Version"], ASK).await)
            }
            (Kind::Launchd, _) => ("launchd", call("launchctl", &["print", &domain()], b"", ASK).await),
        };
        let cause = match ran {
            Ok(ran) if ran.is_ok() => return Ok(()),
            Ok(ran) => ran.complaint(),
            Err(error) => error.to_string(),
        };
        let hint = match (self.kind, self.scope) {
            (Kind::Systemd, Scope::User) => {
                "log in as this user (not by su), or run `loginctl enable-linger` for it; without systemd, `moon start` runs Moon by itself"
            }
            _ => {
                "where there is no such manager, `moon start` runs Moon by itself, and `moon service print` shows the unit"
            }
        };
        Err(Error::unavailable("service.unreachable", format!("{what} cannot be reached")).cause(cause).hint(hint))
    }

    /// Lets the manager read the units anew, and Moon start by itself from now on.
    pub async fn enable(&self) -> Result<()> {
        match self.kind {
            Kind::Systemd => {
                self.act("read its units anew", &["daemon-reload"]).await?;
                self.act("enable Moon", &["enable", systemd::SERVICE]).await
            }
            // Loading it starts it: `RunAtLoad`.
            Kind::Launchd => Ok(()),
        }
    }

    /// Lets the timers run from now on. The units have to be read before: [`Self::enable`].
    pub async fn enable_timers(&self) -> Result<()> {
        self.act_on("enable Moon's timers", &["enable", "--now"], &timers::names()).await
    }

    pub async fn disable_timers(&self) -> Result<()> {
        self.act_on("disable Moon's timers", &["disable", "--now"], &timers::names()).await
    }

    pub async fn disable(&self) -> Result<()> {
        match self.kind {
            Kind::Systemd => self.act("disable Moon", &["disable", "--now", systemd::SERVICE]).await,
            Kind::Launchd => {
                let ran = call("launchctl", &["bootout", &target()], b"", ACT).await?;
                // 3: there is none of that name.
                if ran.is_ok() || ran.status.code() == Some(3) {
                    Ok(())
                } else {
                    Err(self.refused("unload Moon", &ran))
                }
            }
        }
    }

    /// After the units are gone.
    pub async fn forget(&self) -> Result<()> {
        match self.kind {
            Kind::Systemd => {
                self.act("read its units anew", &["daemon-reload"]).await?;
                // A unit that never failed is not to be reset.
                let _ = self.systemctl(&["reset-failed", systemd::SERVICE], ASK).await;
                Ok(())
            }
            Kind::Launchd => Ok(()),
        }
    }

    /// Returns when Moon has said that it is ready.
    pub async fn start(&self) -> Result<()> {
        match self.kind {
            Kind::Systemd => {
                // A start by a person counts anew.
                let _ = self.systemctl(&["reset-failed", systemd::SERVICE], ASK).await;
                self.act("start Moon", &["start", systemd::SERVICE]).await
            }
            Kind::Launchd => {
                if self.state().await.is_ok_and(|state| state.text != "not loaded") {
                    return self.launchctl("start Moon", &["kickstart", &target()]).await;
                }
                let unit = self.main_unit().display().to_string();
                self.launchctl("load Moon", &["bootstrap", &domain(), &unit]).await
            }
        }
    }

    pub async fn stop(&self) -> Result<()> {
        match self.kind {
            Kind::Systemd => self.act("stop Moon", &["stop", systemd::SERVICE]).await,
            Kind::Launchd => self.launchctl("stop Moon", &["kill", "SIGTERM", &target()]).await,
        }
    }

    /// SIGKILL, for a daemon that does not end.
    pub async fn kill(&self) -> Result<()> {
        match self.kind {
            Kind::Systemd => self.act("kill Moon", &["kill", "--signal=SIGKILL", systemd::SERVICE]).await,
            Kind::Launchd => self.launchctl("kill Moon", &["kill", "SIGKILL", &target()]).await,
        }
    }

    pub async fn state(&self) -> Result<State> {
        match self.kind {
            Kind::Systemd => {
                let properties =
                    "--property=LoadState,ActiveState,SubState,Result,MainPID,NRestarts,StatusText,UnitFileState";
                let ran = self.systemctl(&["show", systemd::SERVICE, properties], ASK).await?;
                if ran.is_ok() { Ok(systemd_state(&ran.text())) } else { Err(self.refused("tell of Moon", &ran)) }
            }
            Kind::Launchd => {
                let ran = call("launchctl", &["print", &target()], b"", ASK).await?;
                Ok(if ran.is_ok() {
                    launchd_state(&ran.text())
                } else {
                    State { text: "not loaded".into(), ..State::default() }
                })
            }
        }
    }

    /// The last lines that the manager itself keeps of Moon's.
    pub async fn log(&self, d: &Description, lines: u32) -> Result<Vec<String>> {
        let text = match self.kind {
            Kind::Systemd => {
                let count = format!("--lines={lines}");
                let mut words = vec![
                    "--no-pager",
                    "--output=short-iso",
                    &count,
                    "--unit",
                    systemd::SERVICE,
                    "--unit",
                    systemd::FAILED,
                ];
                if self.scope == Scope::User {
                    words.insert(0, "--user");
                }
                let ran = call("journalctl", &words, b"", ACT).await?;
                if !ran.is_ok() {
                    return Err(self.refused("show its journal", &ran));
                }
                ran.text()
            }
            Kind::Launchd => ["logs/launchd_stdout.log", "logs/launchd_stderr.log"]
                .map(|name| std::fs::read_to_string(d.in_home(name)).unwrap_or_default())
                .concat(),
        };
        let all: Vec<String> = text.lines().map(str::to_owned).collect();
        Ok(all[all.len().saturating_sub(lines as usize)..].to_vec())
    }

    async fn systemctl(&self, words: &[&str], deadline: Duration) -> Result<Ended> {
        let mut all = vec!["--no-pager", "--no-ask-password"];
        if self.scope == Scope::User {
            all.push("--user");
        }
        all.extend(words);
        call("systemctl", &all, b"", deadline).await
    }

    async fn act(&self, what: &str, words: &[&str]) -> Result<()> {
        let ran = self.systemctl(words, ACT).await?;
        if ran.is_ok() { Ok(()) } else { Err(self.refused(what, &ran)) }
    }

    async fn act_on(&self, what: &str, words: &[&str], names: &[String]) -> Result<()> {
        self.act(what, &words.iter().copied().chain(names.iter().map(String::as_str)).collect::<Vec<_>>()).await
    }

    async fn launchctl(&self, what: &str, words: &[&str]) -> Result<()> {
        let ran = call("launchctl", words, b"", ACT).await?;
        if ran.is_ok() { Ok(()) } else { Err(self.refused(what, &ran)) }
    }

    fn refused(&self, what: &str, ran: &Ended) -> Error {
        let who = if self.kind == Kind::Systemd { "systemd" } else { "launchd" };
        Error::transient("service.refused", format!("{who} could not {what}"))
            .cause(ran.complaint())
            .hint("`moon service status` and `moon service logs` say more")
    }
}

/// The user's place in launchd.
fn domain() -> String {
    format!("gui/{}", rustix::process::getuid().as_raw())
}

fn target() -> String {
    format!("{}/{}", domain(), launchd::LABEL)
}

fn systemd_state(text: &str) -> State {
    let values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |name: &str| values.get(name).copied().unwrap_or_default();
    let (active, sub, result) = (value("ActiveState"), value("SubState"), value("Result"));
    let detail = if active == "failed" { result } else { sub };
    State {
        is_active: ["active", "reloading", "activating"].contains(&active),
        text: match value("LoadState") {
            "not-found" => "not loaded".into(),
            _ => format!("{active} ({detail})"),
        },
        pid: value("MainPID").parse().ok().filter(|pid| *pid != 0),
        restarts: value("NRestarts").parse().ok(),
        status: Some(value("StatusText").to_owned()).filter(|text| !text.is_empty()),
        is_enabled: value("UnitFileState").starts_with("enabled"),
    }
}

fn launchd_state(text: &str) -> State {
    let value = |name: &str| {
        let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.map(str::to_owned)
    };
    let state = value("state").unwrap_or_else(|| "unknown".into());
    State {
        is_active: state == "running",
        pid: value("pid").and_then(|pid| pid.parse().ok()),
        restarts: value("runs").and_then(|runs| runs.parse::<u64>().ok()).map(|runs| runs.saturating_sub(1)),
        status: None,
        is_enabled: true,
        text: state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_and_launchd_say_is_read() {
        let text = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=start-limit-hit\nMainPID=0\nNRestarts=4\nStatusText=\nUnitFileState=enabled\n";
        let failed = systemd_state(text);
        assert_eq!((failed.text.as_str(), failed.pid, failed.restarts), ("failed (start-limit-hit)", None, Some(4)));
        assert!(failed.is_enabled && !failed.is_active);
        let up =
            launchd_state("com.moon.agent = {\n\tactive count = 1\n\tstate = running\n\truns = 3\n\tpid = 4711\n}\n");
        assert_eq!((up.is_active, up.pid, up.restarts), (true, Some(4711), Some(2)));
        assert_eq!(systemd_state("LoadState=not-found\nActiveState=inactive\n").text, "not loaded");
    }
}
