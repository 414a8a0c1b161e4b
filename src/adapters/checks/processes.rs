//! A program of the user's runs, beats, and does not start over and over. One that was stopped on purpose is left in peace.

use super::{Senses, expand, shown};
use crate::child::{Program, Variables};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::domain::{Condition, Figure, Finding, Trouble};
use moon_actors::health::policy;
use moon_actors::port::{AlertRules, Check, CheckGroup, Clock, Look};
use moon_actors::settings::Process;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const SYSTEMCTL_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct ProcessUp {
    name: String,
    process: Process,
    clock: Arc<dyn Clock>,
    lane: super::lane::Lane,
}

/// Which process was seen, and when it was another one than before.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    seen: Option<String>,
    starts: Vec<DateTime<Utc>>,
}

/// What files and the table of processes say.
#[derive(Debug, Default)]
struct Seen {
    /// `Err`: why it does not run; `None`: nobody asked.
    alive: Option<Result<(u32, String), String>>,
    /// Age of the heartbeat, or why there is none.
    beat: Option<Result<Duration, String>>,
    is_stopped: bool,
}

impl ProcessUp {
    pub(super) fn new(process: &Process, senses: &Senses) -> Arc<Self> {
        let (name, clock) = (format!("process:{}", process.name), Arc::clone(&senses.clock));
        Arc::new(Self { name, process: process.clone(), clock, lane: Default::default() })
    }

    fn judge(&self, seen: Seen, service: Service, look: &Look) -> Finding {
        let (name, now) = (&self.process.name, self.clock.now());
        if seen.is_stopped {
            return Finding::ok(format!("{name} is stopped on purpose: {} is there", self.process.stopped_file));
        }
        let is_dead = seen.alive.as_ref().is_none_or(Result::is_err);
        if service == Service::Stopped && is_dead {
            return Finding::ok(format!("{name} is stopped on purpose: its service was ended in order"));
        }
        let mut memory: Memory = serde_json::from_value(look.memory.clone()).unwrap_or_default();
        let mut troubles = Vec::new();
        let mut add = |condition, reason: String, rule| {
            troubles.push(Trouble { subject: name.clone(), condition, reason, rule });
        };
        let mut fine = Vec::new();
        match (&seen.alive, service) {
            (Some(Err(why)), _) => add(Condition::Critical, format!("{name} does not run: {why}"), None),
            (_, Service::Failed(state)) => add(Condition::Critical, format!("the service of {name} is {state}"), None),
            (Some(Ok((pid, start))), _) => {
                fine.push(format!("pid {pid}"));
                if memory.seen.as_ref().is_some_and(|before| before != start) {
                    memory.starts.push(now);
                }
                memory.seen = Some(start.clone());
            }
            (None, Service::Active) => fine.push("its service is active".into()),
            (None, _) => {}
        }
        memory.starts.retain(|at| now - *at < policy::LOOP_WINDOW);
        let starts: Vec<_> = memory.starts.iter().map(|at| (name.clone(), *at)).collect();
        for (_, count) in policy::loops(&starts, now) {
            add(
                Condition::Warning,
                format!("{name} was started anew {count} times within the hour"),
                Some("restart_loop"),
            );
        }
        let interval = self.process.interval;
        match &seen.beat {
            Some(Ok(age)) if policy::is_stale(*age, interval) => {
                let reason =
                    format!("the heartbeat of {name} is {} old; one comes every {}", shown(*age), shown(interval));
                add(Condition::Warning, reason, None);
            }
            Some(Ok(age)) => fine.push(format!("last heartbeat {} ago", shown(*age))),
            Some(Err(why)) => add(Condition::Warning, format!("{name} has no heartbeat: {why}"), None),
            None => {}
        }
        let finding = Finding::of(troubles, fine.join(", ")).hint(format!("start {name} again, and see its own log"));
        let limit = 2.0 * interval.as_secs_f64();
        let finding = match seen.beat {
            Some(Ok(age)) => {
                finding.figure("heartbeat_age", Figure::new(age.as_secs_f64(), "s").above(Some(limit), None))
            }
            _ => finding,
        };
        finding.memory(json!(memory))
    }
}

#[async_trait]
impl Check for ProcessUp {
    fn name(&self) -> &str {
        &self.name
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Processes
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules { warning: "daemon_degraded", critical: "daemon_critical", subject: "" })
    }
    async fn look(&self, look: &Look) -> Finding {
        let process = self.process.clone();
        let seen = match self.lane.run(move || see(&process)).await {
            Ok(seen) => seen,
            Err(why) => return Finding::unknown(why),
        };
        let service = match self.process.service.as_str() {
            "" => Service::NotAsked,
            unit => service(unit).await,
        };
        if let (Service::Unknown(why), None, None) = (&service, &seen.alive, &seen.beat) {
            return Finding::unknown(format!("the service {} could not be asked: {why}", self.process.service));
        }
        self.judge(seen, service, look)
    }
}

fn see(process: &Process) -> Seen {
    let path = |text: &str| (!text.is_empty()).then(|| expand(text));
    let alive = match path(&process.pid_file) {
        Some(file) => Some(by_pid_file(&file, &process.command)),
        None if process.command.is_empty() => None,
        None => Some(by_command(&process.command)),
    };
    let beat = path(&process.heartbeat_file).map(|file| {
        let written =
            file.metadata().and_then(|found| found.modified()).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(SystemTime::now().duration_since(written).unwrap_or_default())
    });
    let is_stopped = path(&process.stopped_file).is_some_and(|file| file.exists());
    Seen { alive, beat, is_stopped }
}

fn by_pid_file(file: &Path, command: &[String]) -> Result<(u32, String), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let pid: u32 = text.trim().parse().map_err(|_| format!("{} holds no process id", file.display()))?;
    if !crate::process::lives(pid) {
        return Err(format!("there is no process {pid}"));
    }
    let argv = argv(pid).unwrap_or_default();
    if is_zombie(pid) {
        return Err(format!("process {pid} has ended and waits to be reaped"));
    }
    if !command.is_empty() && !is_meant(&argv, exe(pid).as_deref(), command) {
        return Err(format!("process {pid} is another program: {}", argv.first().map_or("?", String::as_str)));
    }
    Ok((pid, identity(pid)))
}

fn by_command(command: &[String]) -> Result<(u32, String), String> {
    let me = std::process::id();
    let found = pids()
        .into_iter()
        .filter(|pid| *pid != me)
        .find(|pid| argv(*pid).is_some_and(|argv| is_meant(&argv, exe(*pid).as_deref(), command)) && !is_zombie(*pid));
    found.map(|pid| (pid, identity(pid))).ok_or_else(|| format!("no process is {:?}", command.join(" ")))
}

/// The program by its name or its path, then the first arguments, each exactly.
fn is_meant(argv: &[String], exe: Option<&str>, wanted: &[String]) -> bool {
    let Some((program, arguments)) = wanted.split_first() else { return false };
    let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let own = argv.first().map(String::as_str);
    let is_program = [own, exe].into_iter().flatten().any(|path| path == program || base(path) == *program);
    is_program && argv.get(1..=arguments.len()).unwrap_or_default() == arguments
}

#[cfg(target_os = "linux")]
fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
#[cfg(target_os = "linux")]
fn argv(pid: u32) -> Option<Vec<String>> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|bytes| !bytes.is_empty())?;
    let words = bytes.strip_suffix(b"\0").unwrap_or(&bytes).split(|b| *b == 0);
    Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}
#[cfg(target_os = "linux")]
fn exe(pid: u32) -> Option<String> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| path.to_string_lossy().into_owned())
}
/// Fields of `stat` behind the name, which may hold anything: state first.
#[cfg(target_os = "linux")]
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}
#[cfg(target_os = "linux")]
fn is_zombie(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| state == "Z" || state == "X"))
}
/// A process id is given again; together with the time of its start it is not.
#[cfg(target_os = "linux")]
fn identity(pid: u32) -> String {
    format!("{pid}@{}", stat(pid).and_then(|fields| fields.get(19).cloned()).unwrap_or_default())
}

#[cfg(not(target_os = "linux"))]
use elsewhere::{argv, exe, identity, is_zombie, pids};

/// Where there is no `/proc`. Compiled everywhere, so that it cannot rot.
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "for other systems"))]
mod elsewhere {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

    fn look(which: ProcessesToUpdate<'_>) -> Option<System> {
        let mut system = System::new().ok()?;
        let kind = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).with_exe(UpdateKind::Always);
        system.refresh_processes_specifics(which, true, kind);
        Some(system)
    }
    fn one<T>(pid: u32, read: impl FnOnce(&sysinfo::Process) -> T) -> Option<T> {
        let pid = Pid::from_u32(pid);
        look(ProcessesToUpdate::Some(&[pid]))?.process(pid).map(read)
    }
    pub(super) fn pids() -> Vec<u32> {
        look(ProcessesToUpdate::All).iter().flat_map(|s| s.processes().keys()).map(|pid| pid.as_u32()).collect()
    }
    pub(super) fn argv(pid: u32) -> Option<Vec<String>> {
        one(pid, |p| p.cmd().iter().map(|word| word.to_string_lossy().into_owned()).collect())
    }
    pub(super) fn exe(pid: u32) -> Option<String> {
        one(pid, |p| p.exe().map(|path| path.to_string_lossy().into_owned())).flatten()
    }
    pub(super) fn is_zombie(pid: u32) -> bool {
        one(pid, |p| p.status() == ProcessStatus::Zombie).unwrap_or(false)
    }
    pub(super) fn identity(pid: u32) -> String {
        format!("{pid}@{}", one(pid, sysinfo::Process::start_time).unwrap_or(0))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Service {
    NotAsked,
    Active,
    /// Ended in order, by somebody who wanted that.
    Stopped,
    Failed(String),
    Unknown(String),
}

/// What systemd says: the user's own unit of that name, else the system's.
async fn service(unit: &str) -> Service {
    let mut why = String::new();
    for scope in ["--user", "--system"] {
        let argv = ["systemctl", scope, "show", "--property=LoadState,ActiveState,SubState,Result", "--", unit];
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        match Program::of(&argv, Variables::plain()).within(SYSTEMCTL_DEADLINE).run().await {
            Ok(ended) if ended.is_ok() => match read_service(&ended.text()) {
                Some(service) => return service,
                None => why = "there is no such unit".into(),
            },
            Ok(ended) => why = ended.excerpt(120),
            Err(error) => why = error.to_string(),
        }
    }
    Service::Unknown(why)
}

/// `None`: no such unit here.
fn read_service(shown: &str) -> Option<Service> {
    let property = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or("");
    if property("LoadState") == "not-found" {
        return None;
    }
    Some(match (property("ActiveState"), property("Result")) {
        ("active" | "activating" | "reloading", _) => Service::Active,
        ("inactive" | "deactivating", "success") => Service::Stopped,
        (state, result) => Service::Failed(format!("{state} ({result})")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_program_is_meant_by_its_exact_name_and_its_first_arguments() {
        let argv = words("/usr/bin/python3 daemon.py --fast");
        assert!(is_meant(&argv, None, &words("python3 daemon.py")));
        assert!(is_meant(&argv, None, &words("/usr/bin/python3")));
        assert!(is_meant(&argv, Some("/usr/bin/python3.11"), &words("python3.11 daemon.py --fast")));
        // As `pgrep -f daemon.py` would: an editor of that file is no daemon, and a part of a name is no name.
        assert!(!is_meant(&words("vi daemon.py"), None, &words("daemon.py")));
        assert!(!is_meant(&argv, None, &words("python")));
        assert!(!is_meant(&argv, None, &words("python3 other.py")));
        assert!(!is_meant(&argv, None, &words("python3 daemon.py --fast --more")));
    }

    #[test]
    fn a_service_that_was_ended_in_order_is_told_from_one_that_failed() {
        let shown = |state: &str, result: &str| {
            read_service(&format!("LoadState=loaded\nActiveState={state}\nResult={result}\n"))
        };
        assert_eq!(shown("inactive", "success"), Some(Service::Stopped));
        assert_eq!(shown("active", "success"), Some(Service::Active));
        assert!(matches!(shown("failed", "exit-code"), Some(Service::Failed(_))));
        assert_eq!(read_service("LoadState=not-found\nActiveState=inactive\nResult=success\n"), None);
    }

    #[test]
    fn this_process_is_seen_as_itself_also_where_there_is_no_proc() {
        let me = std::process::id();
        assert_eq!(elsewhere::argv(me).map(|a| a.len()), argv(me).map(|a| a.len()));
        assert!(elsewhere::pids().contains(&me) && pids().contains(&me));
        assert!(!is_zombie(me) && !elsewhere::is_zombie(me));
        assert_eq!(identity(me), identity(me));
    }
}
