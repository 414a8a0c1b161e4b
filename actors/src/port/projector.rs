//! Files that show the ledger to people and scripts: never read back, rewritten when lost.

use crate::error::Result;
use async_trait::async_trait;

#[async_trait]
pub trait Projector: Send + Sync {
    /// Brings `moon_state.json`, `archives/ledger.jsonl` and the audit log up to the ledger. A damaged or missing file is
    /// written anew. Returns one sentence for each file that had to be repaired.
    async fn refresh(&self) -> Result<Vec<String>>;
}
