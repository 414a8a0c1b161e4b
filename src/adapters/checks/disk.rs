//! Room on the disk of Moon's home: bytes, and inodes.

use super::{Senses, size};
use async_trait::async_trait;
use moon_actors::domain::{Figure, Finding};
use moon_actors::health::policy::{self, Floors};
use moon_actors::port::{AlertRules, Check, CheckGroup, Look};
use moon_actors::settings::Health;
use rustix::fs::StatVfs;
use std::path::{Path, PathBuf};

const GIB: f64 = (1_u64 << 30) as f64;

pub(super) struct DiskRoom {
    path: PathBuf,
    floors: Floors,
    lane: super::lane::Lane,
}

pub(super) struct Inodes {
    path: PathBuf,
    floors: Floors,
    lane: super::lane::Lane,
}

fn floors(health: &Health) -> Floors {
    Floors {
        low: health.disk_low_gib as f64 * GIB,
        critical: health.disk_critical_gib as f64 * GIB,
        low_percent: f64::from(health.disk_low_percent),
        critical_percent: f64::from(health.disk_critical_percent),
    }
}

impl DiskRoom {
    pub(super) fn new(senses: &Senses) -> Self {
        let path = senses.home.root().to_owned();
        Self { path, floors: floors(&senses.settings.health), lane: Default::default() }
    }
}

impl Inodes {
    pub(super) fn new(senses: &Senses) -> Self {
        let floors = Floors { low: 0.0, critical: 0.0, ..floors(&senses.settings.health) };
        Self { path: senses.home.root().to_owned(), floors, lane: Default::default() }
    }
}

/// The disk of a folder, or of the nearest one above it that exists.
fn statvfs(path: &Path) -> Result<StatVfs, String> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    rustix::fs::statvfs(there).map_err(|e| e.to_string())
}

#[async_trait]
impl Check for DiskRoom {
    fn name(&self) -> &str {
        "disk"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Disk
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::moons("disk_low", "disk_critical"))
    }
    async fn look(&self, _: &Look) -> Finding {
        let path = self.path.clone();
        let disk = match self.lane.run(move || statvfs(&path)).await {
            Ok(Ok(disk)) => disk,
            Ok(Err(why)) | Err(why) => return Finding::unknown(format!("the disk could not be asked: {why}")),
        };
        let (free, total) = (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
        let (free_f, total_f, floors) = (free as f64, total as f64, self.floors);
        let percent = if total > 0 { 100.0 * free_f / total_f } else { 100.0 };
        let condition = policy::room(free_f, total_f, floors);
        let reason = format!("{} free of {} ({percent:.0} %)", size(free), size(total));
        // Whichever floor is the higher one on this disk is the one that is met first.
        let floor =
            |bytes: f64, percent: f64| Some(bytes.max(percent / 100.0 * total_f).ceil()).filter(|floor| *floor > 0.0);
        let (low, critical) = (floor(floors.low, floors.low_percent), floor(floors.critical, floors.critical_percent));
        Finding::new(condition, reason)
            .hint(
                "make room: old backups (`moon backup prune`), logs, whatever else fills it; archiving stops when it is full",
            )
            .figure("free", Figure::new(free_f, "B").floor(low, critical).max(total_f))
            .figure("free_percent", Figure::new(percent, "%").max(100.0))
    }
}

#[async_trait]
impl Check for Inodes {
    fn name(&self) -> &str {
        "inodes"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Inodes
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::moons("inodes.low", "inodes.low"))
    }
    async fn look(&self, _: &Look) -> Finding {
        let path = self.path.clone();
        let disk = match self.lane.run(move || statvfs(&path)).await {
            Ok(Ok(disk)) => disk,
            Ok(Err(why)) | Err(why) => return Finding::unknown(format!("the disk could not be asked: {why}")),
        };
        if disk.f_files == 0 {
            return Finding::ok("this file system has no fixed number of them");
        }
        let (free, total, floors) = (disk.f_favail as f64, disk.f_files as f64, self.floors);
        let condition = policy::room(free, total, floors);
        let floor = |percent: f64| Some((percent / 100.0 * total).ceil()).filter(|floor| *floor > 0.0);
        let figure = Figure::new(free, "").floor(floor(floors.low_percent), floor(floors.critical_percent)).max(total);
        Finding::new(condition, format!("{free:.0} free of {total:.0} ({:.0} %)", 100.0 * free / total))
            .hint("a file system without inodes takes no new file: look for folders with very many small files")
            .figure("free", figure)
    }
}
