//! Moon's own logs and the user's, as the rotation sees them: looked up, renamed, compressed, removed.
//!
//! A file is only ever renamed, never cut: its writer goes on in it until it opens the new one. What it must never touch: the
//! ledger, the audit, the archives, and anything else in Moon's home outside of its log folder.

mod gzip;
mod holders;
mod names;

use crate::child::{Program, Variables};
use crate::config::Environment;
use crate::durable;
use crate::home::Home;
use crate::pattern;
use async_trait::async_trait;
use chrono::{DateTime, Local, NaiveDateTime};
use holders::Held;
use moon_actors::port::{Carried, LogFiles, LogSet};
use moon_actors::rotation::policy::{LogFile, Place, Rules, Step};
use moon_actors::settings::{LogPattern, Settings};
use moon_actors::{Error, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Logs of Moon's that grow and are rotated, without `.log`; the others in the folder are kept short by those who write them.
const OWN: [&str; 4] = [DAEMON, "cron", "launchd_stdout", "launchd_stderr"];
const DAEMON: &str = "moon";
/// Most files one pattern may name.
const MOST_FILES: usize = 10_000;
/// How long a command may take that makes a writer open its log anew.
const REOPEN_DEADLINE: Duration = Duration::from_secs(10);

/// Puts a live log aside under a name with the present time, and returns that. `None`: it is not there, or it is empty.
pub(crate) fn put_aside(live: &Path) -> io::Result<Option<PathBuf>> {
    match std::fs::symlink_metadata(live) {
        Ok(found) if found.is_file() && found.len() > 0 => {}
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    for name in names::aside(live, Local::now().naive_local()) {
        if names::compressed(&name).symlink_metadata().is_ok() {
            continue;
        }
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, live, CWD, &name, RenameFlags::NOREPLACE) {
            Ok(()) => return durable::sync_parent(live).map(|()| Some(name)),
            Err(rustix::io::Errno::EXIST) => {}
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name within this second"))
}

/// Files that were put aside of a live log, the newest first.
pub(crate) fn put_aside_before(live: &Path) -> Vec<PathBuf> {
    let Some((folder, name)) = live.parent().zip(live.file_name().and_then(|name| name.to_str())) else {
        return vec![];
    };
    let mut found: Vec<(Option<SystemTime>, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_aside =
            entry.file_name().to_str().and_then(|n| names::place(n, name)).is_some_and(|(p, _)| p != Place::Live);
        if is_aside {
            found.push((entry.metadata().and_then(|m| m.modified()).ok(), entry.path()));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// One log to look after.
struct Target {
    /// A path or a pattern, absolute.
    pattern: String,
    rules: Rules,
    /// `None`: Moon's own.
    user: Option<LogPattern>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct LogFolders {
    home: PathBuf,
    targets: Arc<Vec<Result<Target>>>,
    environment: Arc<Environment>,
}

impl LogFolders {
    pub fn new(home: &Home, settings: &Settings, environment: Environment) -> Self {
        let r = &settings.rotation;
        let rules = Rules {
            max_bytes: r.max_mib << 20,
            is_dated: false,
            compress_after: r.compress_after,
            keep: r.keep,
            keep_files: None,
        };
        let own = OWN.into_iter().map(|name| {
            let keep_files = (name == DAEMON).then_some(settings.log.keep);
            let max_bytes = if name == DAEMON { settings.log.max_mib << 20 } else { rules.max_bytes };
            let pattern = pattern::literal(&home.logs_dir().join(format!("{name}.log")));
            Ok(Target { pattern, rules: Rules { max_bytes, keep_files, ..rules }, user: None })
        });
        let users = r.files.iter().map(|file| {
            let pattern = crate::config::expand(Path::new(&file.path), &environment).map_err(|message| {
                Error::config("rotation.pattern", format!("could not use {:?} of rotation.files", file.path))
                    .cause(message)
            })?;
            let rules = Rules { is_dated: file.dated, ..rules };
            Ok(Target { pattern: pattern.display().to_string(), rules, user: Some(file.clone()) })
        });
        let targets = Arc::new(own.chain(users).collect());
        Self { home: home.root().to_owned(), targets, environment: Arc::new(environment) }
    }

    fn sets(&self) -> Vec<Result<LogSet>> {
        let mut held = None;
        let mut sets = Vec::new();
        for (id, target) in self.targets.iter().enumerate() {
            match target {
                Ok(target) => match self.live_files(target) {
                    Ok(live) if target.rules.is_dated => sets.push(dated_set(id, target, &live, &mut held)),
                    Ok(live) => sets.extend(live.iter().map(|path| log_set(id, target, path, &mut held))),
                    Err(error) => sets.push(Err(error)),
                },
                Err(error) => sets.push(Err(error.clone())),
            }
        }
        sets
    }

    /// Regular files of ours that a pattern names, but those that are Moon's own or were put aside.
    fn live_files(&self, target: &Target) -> Result<Vec<PathBuf>> {
        let refused = |message: &str| {
            Error::config("rotation.pattern", format!("could not look up the logs {}", target.pattern)).cause(message)
        };
        let found = pattern::paths(&target.pattern).map_err(|why| refused(&why))?;
        // By whatever name a file was found: a link may lead into the home.
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let home = Home::at(real(&self.home));
        let mut live = Vec::new();
        for path in found {
            if live.len() >= MOST_FILES {
                return Err(refused("it names more than 10000 files").hint("name a narrower pattern in rotation.files"));
            }
            let is_ours = |m: &std::fs::Metadata| m.is_file() && m.uid() == rustix::process::geteuid().as_raw();
            if !path.symlink_metadata().is_ok_and(|m| is_ours(&m)) {
                continue;
            }
            if target.user.is_some() && home.holds_no_log(&real(&path)) {
                return Err(refused("it names files of Moon's home, which are no logs")
                    .hint("the audit, the ledger and the archives are never rotated"));
            }
            live.push(path);
        }
        let is_aside = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(names::COMPRESSED)
                || live.iter().any(|other| {
                    other.parent() == path.parent()
                        && other.file_name().and_then(|other| other.to_str()).is_some_and(|other| {
                            names::place(name, other).is_some_and(|(place, _)| place != Place::Live)
                        })
                })
        };
        Ok(live.iter().filter(|path| !is_aside(path)).cloned().collect())
    }

    fn target(&self, id: usize) -> Option<&Target> {
        self.targets.get(id).and_then(|target| target.as_ref().ok())
    }
}

/// A live file with what was put aside of it.
fn log_set(id: usize, target: &Target, live: &Path, held: &mut Option<Held>) -> Result<LogSet> {
    let name = live.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut files = Vec::new();
    let folder = live.parent().unwrap_or(live);
    let entries = std::fs::read_dir(folder).map_err(|e| failed("list", folder, &e))?;
    for entry in entries.flatten() {
        let Some(other) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if let Some((place, begun)) = names::place(&other, name) {
            files.extend(look(&entry.path(), other, place, begun, held));
        }
    }
    Ok(LogSet { id, name: live.display().to_string(), rules: target.rules, files })
}

/// All files of a log that its writer dates: one set, named by their folder.
fn dated_set(id: usize, target: &Target, live: &[PathBuf], held: &mut Option<Held>) -> Result<LogSet> {
    let mut files = Vec::new();
    for path in live {
        files.extend(look(path, path.display().to_string(), Place::Live, None, held));
    }
    let compressed = format!("{}{}", target.pattern, names::COMPRESSED);
    for path in pattern::paths(&compressed).into_iter().flatten() {
        files.extend(look(&path, path.display().to_string(), Place::Compressed, None, held));
    }
    Ok(LogSet { id, name: target.pattern.clone(), rules: target.rules, files })
}

/// `None` when it went away.
fn look(
    path: &Path,
    name: String,
    place: Place,
    begun: Option<NaiveDateTime>,
    held: &mut Option<Held>,
) -> Option<LogFile> {
    let found = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
    let local = |time: SystemTime| DateTime::<Local>::from(time).naive_local();
    let written = local(found.modified().ok()?);
    let made = found.created().map_or(written, local).min(written);
    let is_open = match place {
        Place::Compressed => Some(false),
        _ => held.get_or_insert_with(Held::look).is_open((found.dev(), found.ino())),
    };
    // A live log begins when its file was made; one put aside is as old as its name says, or as its last line.
    let begun = begun.unwrap_or(if place == Place::Live { made } else { written });
    Some(LogFile { name, bytes: found.len(), begun, written, is_open, place })
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let code = if durable::is_full(error) { "rotation.disk_full" } else { "rotation.io" };
    Error::transient(code, format!("could not {what} {}", path.display()))
        .cause(error)
        .hint("check the owner and mode of the file and its folder, and the room on its disk")
}

fn carry_out(live: &Path, step: &Step) -> Result<Carried> {
    const GONE: Carried = Carried::Left("it is not there any more");
    let done = |freed: u64, to: Option<PathBuf>| Carried::Done { freed, to: to.map(|path| path.display().to_string()) };
    match step {
        Step::PutAside { .. } => {
            let aside = put_aside(live).map_err(|e| failed("put aside the log", live, &e))?;
            Ok(aside.map_or(GONE, |path| done(0, Some(path))))
        }
        Step::Compress { name } => {
            let path = live.with_file_name(name);
            let freed = gzip::compress(&path).map_err(|e| failed("compress", &path, &e))?;
            let meanwhile = Carried::Left("it was written or taken away meanwhile");
            Ok(freed.map_or(meanwhile, |freed| done(freed, Some(names::compressed(&path)))))
        }
        Step::Remove { name, .. } => {
            let path = live.with_file_name(name);
            let bytes = path.symlink_metadata().map_or(0, |found| found.len());
            let was_there = durable::remove(&path).map_err(|e| failed("remove", &path, &e))?;
            Ok(if was_there { done(bytes, None) } else { GONE })
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        // Only a runtime that is going away cancels it.
        Err(_) => std::future::pending().await,
    }
}

#[async_trait]
impl LogFiles for LogFolders {
    async fn list(&self) -> Vec<Result<LogSet>> {
        let me = self.clone();
        blocking(move || me.sets()).await
    }

    async fn carry_out(&self, log: &LogSet, step: &Step) -> Result<Carried> {
        let (live, step) = (PathBuf::from(&log.name), step.clone());
        blocking(move || carry_out(&live, &step)).await
    }

    async fn reopen(&self, log: &LogSet) -> Result<()> {
        let Some(file) = self.target(log.id).and_then(|target| target.user.as_ref()) else { return Ok(()) };
        if !file.pid_file.is_empty() {
            self.signal(log, file)?;
        }
        match file.command.is_empty() {
            true => Ok(()),
            false => self.command(log, file).await,
        }
    }

    fn now(&self) -> NaiveDateTime {
        Local::now().naive_local()
    }
}

impl LogFolders {
    /// Signals the writer. A number in a file may long be somebody else's, and most programs die of a signal they do not expect:
    /// where the system can say so, only a process that holds the file is signalled.
    fn signal(&self, log: &LogSet, file: &LogPattern) -> Result<()> {
        let refused = |cause: String| {
            let message = format!("could not tell the writer of {} to open it anew", log.name);
            Error::config("rotation.reopen", message)
                .cause(cause)
                .hint("it goes on in the file that was put aside; nothing is lost")
        };
        let pid_file = crate::config::expand(Path::new(&file.pid_file), &self.environment).map_err(refused)?;
        let text = std::fs::read_to_string(&pid_file).map_err(|e| refused(format!("{}: {e}", pid_file.display())))?;
        let pid = text.trim().parse().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| refused(format!("{} holds no process number", pid_file.display())))?;
        let newest = put_aside_before(Path::new(&log.name)).into_iter().next();
        let identity = newest.and_then(|path| path.metadata().ok()).map(|found| (found.dev(), found.ino()));
        if identity.is_some_and(|identity| holders::holds(pid, identity) == Some(false)) {
            return Err(refused(format!("process {} does not hold the log", pid.as_raw_nonzero())));
        }
        let signal = match file.signal.as_str() {
            "USR1" => Signal::USR1,
            "USR2" => Signal::USR2,
            _ => Signal::HUP,
        };
        kill_process(pid, signal).map_err(|e| refused(format!("process {}: {e}", pid.as_raw_nonzero())))
    }

    async fn command(&self, log: &LogSet, file: &LogPattern) -> Result<()> {
        let Some(program) = file.command.first() else { return Ok(()) };
        let refused = |cause: String| {
            let message = format!("could not tell the writer of {} to open it anew", log.name);
            Error::config("rotation.reopen", message).cause(cause).hint("check `command` of this log in rotation.files")
        };
        let variables = Variables::plain_of(&self.environment);
        match Program::of(&file.command, variables).within(REOPEN_DEADLINE).run().await {
            Ok(ended) if ended.is_ok() => Ok(()),
            Ok(ended) => Err(refused(format!("{program} ended with {}: {}", ended.status, ended.excerpt(200)))),
            Err(failure) => Err(refused(format!("{program}: {failure}"))),
        }
    }
}
