//! The two tasks of the calendar: a backup, and the drill that restores the newest one again.

use super::engine::Backups;
use crate::schedule::{Chore, Ran, Task};
use async_trait::async_trait;

/// Makes a backup.
pub struct BackupChore(pub Backups);

#[async_trait]
impl Chore for BackupChore {
    fn task(&self) -> Task {
        Task::Backup
    }
    fn times(&self) -> &str {
        &self.0.settings.at
    }
    async fn run(&self) -> Ran {
        self.0.make().await.map(|made| made.said).into()
    }
}

/// Restores the newest backup into an empty place.
pub struct DrillChore(pub Backups);

#[async_trait]
impl Chore for DrillChore {
    fn task(&self) -> Task {
        Task::Drill
    }
    fn times(&self) -> &str {
        &self.0.settings.drill_at
    }
    async fn run(&self) -> Ran {
        self.0.drill().await.into()
    }
}
