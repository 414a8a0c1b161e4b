//! Log files, Moon's own and those the user named.

use crate::error::Result;
use crate::rotation::policy::{LogFile, Rules, Step};
use async_trait::async_trait;

/// One log with what was put aside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSet {
    /// Number of the log among all: what [`LogFiles::carry_out`] is told.
    pub id: usize,
    /// As shown to people: its path, or the pattern it comes from.
    pub name: String,
    pub rules: Rules,
    pub files: Vec<LogFile>,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// With the bytes fewer on the disk, and the file's new name if it has one.
    Done { freed: u64, to: Option<String> },
    /// The file is not as it was when the step was planned.
    Left(&'static str),
}

#[async_trait]
pub trait LogFiles: Send + Sync {
    /// Every log there is, looked up anew. A pattern that cannot be looked up is an error beside the others.
    async fn list(&self) -> Vec<Result<LogSet>>;
    /// Does one step. Safe to repeat: what is done already is no error.
    async fn carry_out(&self, log: &LogSet, step: &Step) -> Result<Carried>;
    /// Tells whoever writes the log that its file has another name now.
    async fn reopen(&self, log: &LogSet) -> Result<()>;
    /// The local time that file names and days are in.
    fn now(&self) -> chrono::NaiveDateTime;
}
