//! Log files: none has outgrown its rotation.

use super::{Senses, expand, size};
use async_trait::async_trait;
use moon_actors::domain::{Condition, Figure, Finding, Trouble};
use moon_actors::port::{AlertRules, Check, CheckGroup, Look};
use std::path::PathBuf;

/// Files looked at.
const MOST_FILES: usize = 4096;

pub(super) struct LogSize {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    most: u64,
    lane: super::lane::Lane,
}

impl LogSize {
    pub(super) fn new(senses: &Senses) -> Self {
        let health = &senses.settings.health;
        let is_path = |path: &&String| !path.contains(['*', '?', '[']);
        let files = health.logs.iter().map(|log| &log.path).filter(is_path).map(|path| expand(path)).collect();
        Self { folders: vec![senses.home.logs_dir()], files, most: health.log_mib << 20, lane: Default::default() }
    }
}

#[async_trait]
impl Check for LogSize {
    fn name(&self) -> &str {
        "logs"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::LogSize
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("logs.large"))
    }
    async fn look(&self, _: &Look) -> Finding {
        let (folders, files) = (self.folders.clone(), self.files.clone());
        let listed = self.lane.run(move || {
            let below = folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
            let all = below.map(|entry| entry.path()).chain(files).take(MOST_FILES);
            let measured = all.filter_map(|path| path.metadata().ok().filter(|m| m.is_file()).map(|m| (path, m.len())));
            measured.collect::<Vec<_>>()
        });
        let listed = match listed.await {
            Ok(listed) => listed,
            Err(why) => return Finding::unknown(why),
        };
        let (total, largest) = listed.iter().fold((0, 0), |(sum, most), (_, bytes)| (sum + bytes, most.max(*bytes)));
        let large = listed.iter().filter(|(_, bytes)| *bytes > self.most).map(|(path, bytes)| Trouble {
            subject: path.display().to_string(),
            condition: Condition::Warning,
            reason: format!("{} has {}", path.display(), size(*bytes)),
            rule: None,
        });
        let fine = format!("{}, {} in all", moon_actors::contract::count(listed.len(), "file"), size(total));
        Finding::of(large.collect(), fine)
            .hint("see that it is rotated ([rotation] in moon.toml), or who fills it")
            .figure("size", Figure::new(total as f64, "B"))
            .figure("largest", Figure::new(largest as f64, "B").above(Some(self.most as f64), None))
    }
}
