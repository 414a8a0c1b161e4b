//! The age of the newest backup that was restored and compared: the only one that counts.

use super::{Senses, shown};
use crate::adapters::backup::{BackupVault, format::Database};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::domain::{Figure, Finding};
use moon_actors::health::policy;
use moon_actors::port::{AlertRules, Check, CheckGroup, Clock, Look};
use serde::Deserialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Records of backups read at most, and the size of each.
const MOST_FILES: usize = 4096;
const MOST_BYTES: u64 = 64 << 10;

pub(super) struct BackupAge {
    folder: moon_actors::Result<PathBuf>,
    is_off: bool,
    limits: (Duration, Duration),
    clock: Arc<dyn Clock>,
    lane: super::lane::Lane,
}

/// What stands beside each backup.
#[derive(Deserialize)]
struct Sidecar {
    id: String,
    created_at: DateTime<Utc>,
    verified_at: Option<DateTime<Utc>>,
    #[serde(default)]
    databases: Vec<Database>,
}

/// The newest verified backup that holds a database of this path whole: its id, and the database as a member.
pub(super) fn holding(folder: &Path, path: &Path) -> Option<(String, String)> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut all = all(folder).ok()?;
    all.retain(|one| one.verified_at.is_some());
    all.sort_by_key(|one| std::cmp::Reverse(one.created_at));
    all.into_iter().find_map(|one| {
        let held = one.databases.into_iter().find(|database| Path::new(&database.path) == path)?;
        Some((one.id, held.member))
    })
}

impl BackupAge {
    pub(super) fn new(senses: &Senses) -> Self {
        let health = &senses.settings.health;
        Self {
            folder: BackupVault::new(&senses.home, &senses.settings.backup).folder(),
            is_off: senses.settings.backup.at.trim().is_empty(),
            limits: (health.backup_warning, health.backup_critical),
            clock: Arc::clone(&senses.clock),
            lane: Default::default(),
        }
    }
}

/// The newest one that was verified, and how many there are.
fn newest(folder: &Path) -> Result<(Option<Sidecar>, usize), String> {
    let all = all(folder)?;
    let count = all.len();
    Ok((all.into_iter().filter(|one| one.verified_at.is_some()).max_by_key(|one| one.created_at), count))
}

fn all(folder: &Path) -> Result<Vec<Sidecar>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e.to_string()),
    };
    let is_record = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    let mut all: Vec<Sidecar> = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()).filter(is_record).take(MOST_FILES) {
        let mut text = Vec::new();
        let read = crate::durable::open_regular(&path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
        all.extend(read.ok().and_then(|_| serde_json::from_slice::<Sidecar>(&text).ok()));
    }
    Ok(all)
}

#[async_trait]
impl Check for BackupAge {
    fn name(&self) -> &str {
        "backup"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Backup
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("backup.old"))
    }
    async fn look(&self, _: &Look) -> Finding {
        let folder = match self.folder.clone() {
            Ok(folder) => folder,
            Err(error) => return Finding::unknown(error.to_string()),
        };
        let (newest, count) = match self.lane.run(move || newest(&folder)).await {
            Ok(Ok(found)) => found,
            Ok(Err(why)) | Err(why) => return Finding::unknown(format!("the backups could not be listed: {why}")),
        };
        let hint = "`moon backup` makes and verifies one; `moon logs` says why the last one failed";
        let (id, at) = match newest {
            // As old as what is in it: a proof of today makes last week's backup no younger.
            Some(Sidecar { id, created_at, .. }) => (id, created_at),
            _ if self.is_off && count == 0 => return Finding::ok("no backups are made here (backup.at is empty)"),
            _ if count == 0 => return Finding::warning("there is no backup yet").hint(hint),
            _ => {
                let there = moon_actors::contract::count(count, "backup");
                return Finding::warning(format!("none of {there} was ever verified")).hint(hint);
            }
        };
        let age = (self.clock.now() - at).to_std().unwrap_or_default();
        let (warning, critical) = self.limits;
        let limit = |span: Duration| Some(span.as_secs_f64());
        Finding::new(
            policy::aged(age, warning, critical),
            format!("the newest verified one, {id}, is {} old", shown(age)),
        )
        .hint(hint)
        .figure("verified_age", Figure::new(age.as_secs_f64(), "s").above(limit(warning), limit(critical)))
        .figure("backups", Figure::new(count as f64, ""))
    }
}
