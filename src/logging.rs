//! What the program says while it runs: to people on stderr, and for the daemon as JSON lines in `logs/moon.log`.
//!
//! One place decides levels, format and rotation. A log that cannot be written is lost, never an error and never a pause:
//! lines go through a bounded queue to a thread of their own, and when the queue is full they are dropped. Plain levels
//! apply to Moon's own code; libraries stay at `warn`, because at `debug` they would log what they carry.

use crate::adapters::rotation;
use crate::home::Home;
use moon_actors::settings::Log;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::panic::PanicHookInfo;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, reload};

/// Lines waiting for the disk; at a few hundred bytes each this is some megabytes at worst.
const QUEUE_LINES: usize = 4096;

/// How often a writing log looks whether its file is still there.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Sets the filter of one of the two destinations.
type SetFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

struct Handles {
    stderr: SetFilter,
    file: SetFilter,
    verbose: u8,
}

static HANDLES: OnceLock<Handles> = OnceLock::new();
/// True while the daemon runs: only then does the time of a line matter on stderr.
static IS_DAEMON: AtomicBool = AtomicBool::new(false);
/// Where JSON lines go, while the daemon runs.
static FILE: Mutex<Option<NonBlocking>> = Mutex::new(None);

/// Keeps the log file's thread alive; dropping it writes out what is queued.
#[derive(Debug)]
pub struct LogFile {
    _worker: WorkerGuard,
    lost: ErrorCounter,
}

impl LogFile {
    /// Lines that were dropped because the disk did not keep up.
    pub fn lost_lines(&self) -> usize {
        self.lost.dropped_lines()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        set(|handles| &handles.file, EnvFilter::new("off"));
        *file() = None;
    }
}

/// Starts logging to stderr for a command (`warn`; more with `-v`) and sends panics there. Calls after the first do nothing.
pub fn start(verbose: u8) {
    let (stderr_filter, stderr_handle) = reload::Layer::new(filter(command_level(verbose)));
    let (file_filter, file_handle) = reload::Layer::new(EnvFilter::new("off"));
    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never)
        .with_timer(DaemonTime)
        .with_target(false)
        // It would report a closed stderr with a macro that panics when stderr is closed.
        .log_internal_errors(false)
        .with_filter(stderr_filter);
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(FileWriter)
        .log_internal_errors(false)
        .with_filter(file_filter);
    if tracing_subscriber::registry().with(stderr).with(json).try_init().is_ok() {
        let stderr = Box::new(move |filter| drop(stderr_handle.reload(filter)));
        let file = Box::new(move |filter| drop(file_handle.reload(filter)));
        let _ = HANDLES.set(Handles { stderr, file, verbose });
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Adds the daemon's log file and its levels. Call it while holding the daemon's lock: two writers would rotate each
/// other's file. A log that cannot be opened is a warning and `None`; the daemon then runs without one.
pub fn daemon(home: &Home, settings: &Log) -> Option<LogFile> {
    let verbose = HANDLES.get().map_or(0, |handles| handles.verbose);
    let level = if verbose > 0 { command_level(verbose) } else { &settings.level };
    IS_DAEMON.store(true, Ordering::Relaxed);
    set(|handles| &handles.stderr, filter(level));
    let writer = RotatingFile::new(home, settings);
    if let Err(error) = writer.probe() {
        tracing::warn!(file = %home.log_file().display(), %error, "could not open the log file; going on without it");
        return None;
    }
    let (queue, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES)
        .thread_name("moon-log")
        .finish(writer);
    let lost = queue.error_counter();
    *file() = Some(queue);
    set(|handles| &handles.file, filter(level));
    Some(LogFile { _worker: worker, lost })
}

fn set(which: impl Fn(&'static Handles) -> &'static SetFilter, filter: EnvFilter) {
    if let Some(handles) = HANDLES.get() {
        which(handles)(filter);
    }
}

fn command_level(verbose: u8) -> &'static str {
    match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    }
}

/// A plain level is meant for Moon; a filter is taken as it is. The settings were checked, so a bad one cannot come here
/// but from a caller's mistake, and then `info` is used.
fn filter(level: &str) -> EnvFilter {
    let text = match level.to_lowercase().as_str() {
        quiet @ ("off" | "error") => quiet.to_owned(),
        plain if !plain.contains(['=', ',']) => format!("warn,moon={plain},moon_actors={plain}"),
        _ => level.to_owned(),
    };
    EnvFilter::builder().parse(text).unwrap_or_else(|_| EnvFilter::new("warn,moon=info,moon_actors=info"))
}

fn file() -> std::sync::MutexGuard<'static, Option<NonBlocking>> {
    FILE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bug, told once with its place. The payload is text that a programmer wrote.
fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(panic = message, place, thread = thread.name().unwrap_or("unnamed"), "a part of moon crashed");
}

/// The time of a line, for the daemon; a command's remark is about now.
struct DaemonTime;

impl FormatTime for DaemonTime {
    fn format_time(&self, to: &mut Writer<'_>) -> std::fmt::Result {
        if IS_DAEMON.load(Ordering::Relaxed) { SystemTime.format_time(to) } else { Ok(()) }
    }
}

/// Hands each JSON line to the queue, if there is one.
struct FileWriter;

impl<'a> MakeWriter<'a> for FileWriter {
    type Writer = Box<dyn Write>;
    fn make_writer(&'a self) -> Self::Writer {
        match &*file() {
            Some(queue) => Box::new(queue.clone()),
            None => Box::new(io::sink()),
        }
    }
}

/// The log file. Put aside by rename when it is large enough, opened again when somebody gave it another name or removed it;
/// swallows every failure. What was put aside is looked after by the rotation, its number also here: a crash loop must not fill a
/// disk between two looks.
struct RotatingFile {
    folder: PathBuf,
    path: PathBuf,
    max_bytes: u64,
    keep: usize,
    open: Option<Open>,
    looked: Instant,
}

struct Open {
    file: File,
    bytes: u64,
    inode: u64,
}

impl RotatingFile {
    fn new(home: &Home, settings: &Log) -> Self {
        let max_bytes = settings.max_mib.saturating_mul(1 << 20);
        let (folder, path) = (home.logs_dir(), home.log_file());
        let keep = usize::try_from(settings.keep).unwrap_or(usize::MAX).max(1);
        Self { folder, path, max_bytes, keep, open: None, looked: Instant::now() }
    }

    /// True to the promise of [`daemon`]: says at once when the file cannot be written at all.
    fn probe(&self) -> io::Result<()> {
        self.open_file().map(drop)
    }

    fn open_file(&self) -> io::Result<Open> {
        use std::os::unix::fs::OpenOptionsExt;
        crate::durable::create_folder(&self.folder)?;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        let found = file.metadata()?;
        Ok(Open { bytes: found.len(), inode: found.ino(), file })
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            let inode = std::fs::symlink_metadata(&self.path).map(|found| found.ino()).ok();
            self.open.take_if(|open| inode != Some(open.inode));
        }
        let size = line.len() as u64;
        if self.open.as_ref().is_some_and(|open| open.bytes > 0 && open.bytes + size > self.max_bytes) {
            self.open = None;
            rotation::put_aside(&self.path)?;
            for old in rotation::put_aside_before(&self.path).into_iter().skip(self.keep) {
                crate::durable::remove(&old)?;
            }
        }
        if self.open.is_none() {
            self.open = Some(self.open_file()?);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.bytes += size;
        open.file.write_all(line)
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.write_line(line).is_err() {
            self.open = None;
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn log(home: &Home, max_bytes: u64) -> RotatingFile {
        RotatingFile { max_bytes, ..RotatingFile::new(home, &Log { keep: 2, ..Log::default() }) }
    }

    #[test]
    fn the_log_is_private_rotated_by_size_and_bounded_in_number() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let home = Home::at(scratch.path());
        let mut file = log(&home, 1000);
        for number in 0..200 {
            file.write_all(format!("{{\"line\":{number:060}}}\n").as_bytes()).expect("never fails");
        }
        file.flush().expect("never fails");
        drop(file);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(home.logs_dir()).expect("listable").flatten() {
            let found = entry.metadata().expect("there");
            assert_eq!(found.permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
            assert!(found.len() <= 1000, "{:?}", entry.file_name());
            names.push(entry.file_name().into_string().expect("text"));
        }
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[0] == "moon.log" && names[1].starts_with("moon.log-2"), "{names:?}");
    }

    #[test]
    fn a_log_that_somebody_renamed_is_opened_anew_and_no_line_is_lost() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let home = Home::at(scratch.path());
        let mut file = log(&home, 1 << 20);
        file.write_all(b"one\n").expect("never fails");
        assert!(rotation::put_aside(&home.log_file()).expect("put aside").is_some());
        file.write_all(b"two\n").expect("never fails");
        file.looked = Instant::now().checked_sub(LOOK_EVERY).expect("the machine is up for longer");
        file.write_all(b"three\n").expect("never fails");
        let aside = rotation::put_aside_before(&home.log_file());
        assert_eq!(std::fs::read_to_string(&aside[0]).expect("readable"), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(home.log_file()).expect("readable"), "three\n");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_lost_and_never_an_error() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let home = Home::at(scratch.path().join("home"));
        std::fs::write(scratch.path().join("home"), b"a file where the folder should be").expect("a file");
        let mut file = log(&home, 1000);
        assert!(file.probe().is_err());
        file.write_all(b"{}\n").expect("never fails");
        file.flush().expect("never fails");
    }

    #[test]
    fn a_removed_log_folder_is_made_again() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let home = Home::at(scratch.path().join("home"));
        let mut file = log(&home, 1000);
        file.write_all(b"{\"n\":1}\n").expect("never fails");
        std::fs::remove_dir_all(home.root()).expect("removed");
        file.looked = Instant::now().checked_sub(LOOK_EVERY).expect("the machine is up for longer");
        file.write_all(b"{\"n\":2}\n").expect("never fails");
        file.flush().expect("never fails");
        assert_eq!(std::fs::read_to_string(home.log_file()).expect("readable"), "{\"n\":2}\n");
    }

    #[test]
    fn plain_levels_are_for_moon_and_libraries_stay_quiet() {
        assert_eq!(filter("debug").to_string().matches("debug").count(), 2);
        assert!(filter("debug").to_string().contains("warn"));
        assert_eq!(filter("moon=trace").to_string(), "moon=trace");
    }
}
