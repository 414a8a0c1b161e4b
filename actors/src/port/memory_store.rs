//! The agent's readable memory: one Markdown file a day, and the continuity maps.

use crate::domain::{ContinuityMap, Sha256};
use crate::error::Result;
use async_trait::async_trait;
use chrono::NaiveDate;

/// A block of the daily memory, marked with its key so that it is written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryBlock {
    pub day: NaiveDate,
    /// Hex; never foreign text.
    pub key: Sha256,
    pub markdown: String,
}

/// A written map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFile {
    /// Relative to the home.
    pub path: String,
    pub sha256: Sha256,
}

#[async_trait]
pub trait MemoryStore: Send + Sync {
    /// Appends the block unless a block with its key is there, keeping every other byte of the file (people and agents
    /// write there too). Atomic: the file is the old or the new one. Returns the path relative to the home.
    async fn append(&self, block: &MemoryBlock) -> Result<String>;

    /// Writes `continuity/continuity-<epoch>-<cycle>.json` atomically. Idempotent by name.
    async fn write_map(&self, cycle: &str, map: &ContinuityMap) -> Result<MapFile>;

    async fn read_map(&self, path: &str) -> Result<ContinuityMap>;
}
