//! Sends the running daemon away for a while, and starts it again as it ran.
//!
//! For work that needs the home for itself, such as a restore. The daemon is asked over its socket and ends in order; nothing is
//! killed. What ran under a service manager is left to that one.

use super::lock::HomeLock;
use super::socket;
use crate::home::Home;
use moon_actors::contract::Request;
use moon_actors::{Error, Result};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take until it answers for the first time.
const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);
/// Most of what a daemon that did not start has said is shown, bytes.
const SAID_MAX: usize = 2000;

/// A daemon that was sent away, and how to call it back.
#[derive(Debug)]
pub struct Away {
    pub pid: u32,
    words: Vec<OsString>,
    folder: Option<PathBuf>,
    /// The service that runs it.
    pub service: Option<String>,
}

/// Asks a running daemon to end and waits until the home is free. `None` when none runs. `fallback` are the words to start one
/// with where the system cannot say how this one was started.
pub async fn send_away(home: &Home, limit: Duration, fallback: Vec<OsString>) -> Result<Option<Away>> {
    let Some(holder) = HomeLock::holder(home) else { return Ok(None) };
    let busy = || {
        Error::conflict("daemon.held", format!("this home is held by moon {} (pid {})", holder.what, holder.pid))
            .hint("wait until it has ended, or stop it with `moon ctl stop`")
    };
    let Some(pid) = daemon_pid(home).await? else { return Err(busy()) };
    let away = Away::of(pid, fallback);
    crate::service::wish::returns(home);
    socket::ask(home, &Request::Stop).await?;
    let begun = Instant::now();
    while HomeLock::holder(home).is_some() {
        if begun.elapsed() > limit {
            return Err(busy().cause("it was told to stop and has not ended yet"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(Some(away))
}

/// Starts the daemon again and waits until it answers. Returns its pid.
pub async fn start_again(away: &Away, home: &Home) -> Result<u32> {
    let said = home.run_dir().join("started.said");
    let mut child = match &away.service {
        // Its manager starts it: at once when it always restarts, else when it is told to.
        Some(_) => None,
        None => Some(spawn(away, home, &said)?),
    };
    let begun = Instant::now();
    loop {
        if let Some(pid) = daemon_pid(home).await.ok().flatten() {
            return Ok(pid);
        }
        let ended = child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        if ended.is_some() || begun.elapsed() > START_LIMIT {
            return Err(not_started(away, ended.is_some(), &said));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn spawn(away: &Away, home: &Home, said: &std::path::Path) -> Result<Child> {
    let failed = |e: std::io::Error| {
        Error::transient("daemon.not_started", "could not start the daemon again")
            .cause(e)
            .hint("start it with `moon start`")
    };
    crate::durable::create_folder(&home.run_dir()).map_err(failed)?;
    crate::durable::replace(said, b"").map_err(failed)?;
    let said = std::fs::OpenOptions::new().append(true).open(said).map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(&away.words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
    if let Some(folder) = &away.folder {
        command.current_dir(folder);
    }
    // A group of its own: what is typed to end this command does not end the daemon.
    command.process_group(0).spawn().map_err(failed)
}

fn not_started(away: &Away, has_ended: bool, said: &std::path::Path) -> Error {
    let error = Error::transient("daemon.not_started", "the daemon does not answer after it was started again");
    if let Some(service) = &away.service {
        return error
            .cause(format!("it is run by {service}, which has not started it yet"))
            .hint("start it there, then look with `moon status`");
    }
    let text = std::fs::read_to_string(said).unwrap_or_default();
    let from = text.char_indices().map(|(at, _)| at).find(|at| text.len() - at <= SAID_MAX).unwrap_or_default();
    let why = if has_ended { format!("it has ended: {}", text[from..].trim()) } else { "it runs and is silent".into() };
    error.cause(why).hint("see `moon logs`; `moon restore --undo` brings the state before back")
}

/// Who holds the home, once a daemon answers; `None` when nobody does.
async fn daemon_pid(home: &Home) -> Result<Option<u32>> {
    let answers = socket::ask(home, &Request::Status).await?.is_some();
    Ok(HomeLock::holder(home).filter(|_| answers).map(|holder| holder.pid))
}

impl Away {
    fn of(pid: u32, fallback: Vec<OsString>) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let words: Vec<OsString> = words
            .split(|b| *b == 0)
            .skip(1)
            .filter(|w| !w.is_empty())
            .map(|w| OsString::from_vec(w.to_vec()))
            .collect();
        let words = if words.is_empty() { fallback } else { words };
        let folder = std::fs::read_link(process.join("cwd")).ok();
        let groups = std::fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        Self { pid, words, folder, service: service_of(&groups) }
    }
}

/// The unit in a process's control group, if it is one of Moon's.
fn service_of(groups: &str) -> Option<String> {
    let unit = groups.lines().find_map(|line| line.rsplit('/').next().filter(|unit| unit.ends_with(".service")))?;
    unit.starts_with("moon").then(|| unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_moons_is_known_by_its_control_group_and_a_terminal_is_none() {
        let service = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/moon.service\n";
        assert_eq!(service_of(service), Some("moon.service".into()));
        assert_eq!(service_of("0::/user.slice/user-1000.slice/session-2.scope\n"), None);
        assert_eq!(service_of("0::/system.slice/ssh.service\n"), None);
        assert_eq!(service_of(""), None);
    }
}
