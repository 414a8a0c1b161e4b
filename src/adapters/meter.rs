//! Figures of this process and of the disk that Moon's home lies on.
//!
//! Looking is cheap but for the size of the home, which walks it: that is counted again after some minutes at the earliest, and only
//! when somebody looks. What the system does not say is not known, never guessed.

use crate::home::Home;
use async_trait::async_trait;
use moon_actors::port::{Meter, Resources};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How old a count of the home may be.
const COUNT_AGE: Duration = Duration::from_secs(300);
/// Most entries that are counted: beyond that the size is not known.
const MOST_ENTRIES: u64 = 1_000_000;

pub struct SystemMeter {
    home: Home,
    begun: Instant,
    counted: Arc<Mutex<Option<(Instant, Count)>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    files: u64,
    bytes: u64,
    databases: u64,
    database_bytes: u64,
    log_files: u64,
    log_bytes: u64,
    is_whole: bool,
}

impl SystemMeter {
    pub fn new(home: &Home) -> Self {
        Self { home: home.clone(), begun: Instant::now(), counted: Arc::default() }
    }
}

#[async_trait]
impl Meter for SystemMeter {
    async fn resources(&self) -> Resources {
        let (home, counted, uptime) = (self.home.clone(), Arc::clone(&self.counted), self.begun.elapsed().as_secs());
        let looked = tokio::task::spawn_blocking(move || look(&home, &counted, uptime)).await;
        looked.unwrap_or_default()
    }
}

fn look(home: &Home, counted: &Mutex<Option<(Instant, Count)>>, uptime: u64) -> Resources {
    let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
    if counted.as_ref().is_none_or(|(at, _)| at.elapsed() > COUNT_AGE) {
        let mut count = Count { is_whole: true, ..Count::default() };
        walk(home.root(), home, &mut count);
        *counted = Some((Instant::now(), count));
    }
    let count = counted.as_ref().map(|(_, count)| *count).filter(|count| count.is_whole);
    let (rss_bytes, cpu_ms) = process().unzip();
    let disk = rustix::fs::statvfs(home.root()).ok();
    Resources {
        pid: Some(std::process::id()),
        rss_bytes,
        cpu_ms,
        uptime_secs: Some(uptime),
        open_files: open_files(),
        home_bytes: count.map(|c| c.bytes),
        home_files: count.map(|c| c.files),
        databases: count.map(|c| c.databases),
        database_bytes: count.map(|c| c.database_bytes),
        log_files: count.map(|c| c.log_files),
        log_bytes: count.map(|c| c.log_bytes),
        disk_free_bytes: disk.as_ref().map(|d| d.f_bavail.saturating_mul(d.f_frsize)),
        disk_total_bytes: disk.map(|d| d.f_blocks.saturating_mul(d.f_frsize)),
    }
}

fn walk(folder: &Path, home: &Home, count: &mut Count) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if count.files > MOST_ENTRIES {
            count.is_whole = false;
            return;
        }
        // A file may go away while we look; a link is not followed.
        let (Ok(kind), path) = (entry.file_type(), entry.path()) else { continue };
        if kind.is_dir() {
            walk(&path, home, count);
        } else if let (true, Ok(found)) = (kind.is_file(), entry.metadata()) {
            count.files += 1;
            count.bytes += found.len();
            if path.extension().is_some_and(|end| end == "db") {
                count.databases += 1;
                count.database_bytes += found.len();
            }
            if path.parent() == Some(home.logs_dir().as_path()) {
                count.log_files += 1;
                count.log_bytes += found.len();
            }
        }
    }
}

/// Resident bytes and processor time of this process.
#[cfg(target_os = "linux")]
fn process() -> Option<(u64, u64)> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before may hold anything, also spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some((pages * rustix::param::page_size() as u64, (user + system) * 1000 / per_second))
}

#[cfg(not(target_os = "linux"))]
fn process() -> Option<(u64, u64)> {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
    let pid = Pid::from_u32(std::process::id());
    let mut system = System::new().ok()?;
    let kind = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    system.process(pid).map(|process| (process.memory(), process.accumulated_cpu_time()))
}

fn open_files() -> Option<u64> {
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    // One of them is the look itself.
    std::fs::read_dir(folder).ok().map(|entries| (entries.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_says_what_this_process_costs_and_what_the_home_holds() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
        std::fs::write(home.ledger_db(), [0; 1000]).expect("a database");
        std::fs::write(home.log_file(), [0; 10]).expect("a log");
        std::os::unix::fs::symlink("/", home.root().join("memory/everything")).expect("a link");
        let found = SystemMeter::new(&home).resources().await;
        assert_eq!((found.home_bytes, found.home_files), (Some(1010), Some(2)));
        assert_eq!((found.databases, found.database_bytes, found.log_files), (Some(1), Some(1000), Some(1)));
        assert!(found.rss_bytes.is_some_and(|rss| rss > 1 << 20) && found.cpu_ms.is_some());
        assert!(found.open_files.is_some_and(|files| files >= 3));
        assert!(found.disk_total_bytes > found.disk_free_bytes);
    }
}
