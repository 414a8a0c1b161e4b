//! What Moon itself costs, and what room is left: figures of this process and of the disk its home lies on.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// `None` is "not known here", never nought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Process id of the one who says this.
    pub pid: Option<u32>,
    pub rss_bytes: Option<u64>,
    /// Processor time since the process began.
    pub cpu_ms: Option<u64>,
    pub uptime_secs: Option<u64>,
    pub open_files: Option<u64>,
    /// Everything below the home; counted again after some minutes at the earliest.
    pub home_bytes: Option<u64>,
    pub home_files: Option<u64>,
    /// SQLite databases of Moon's and their bytes.
    pub databases: Option<u64>,
    pub database_bytes: Option<u64>,
    pub log_files: Option<u64>,
    pub log_bytes: Option<u64>,
    /// On the disk of the home.
    pub disk_free_bytes: Option<u64>,
    pub disk_total_bytes: Option<u64>,
}

#[async_trait]
pub trait Meter: Send + Sync {
    async fn resources(&self) -> Resources;
}

/// Says nothing.
pub struct NoMeter;

#[async_trait]
impl Meter for NoMeter {
    async fn resources(&self) -> Resources {
        Resources::default()
    }
}
