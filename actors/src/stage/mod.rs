//! One way to work off a stage, five stages.
//!
//! archive, index, prune, distill and continuity differ in their engine only. Claiming, the deadline, completing with the next
//! job and the audit row, retrying and telling people are the same for all and stand here once.

pub mod actor;
pub mod once;
pub mod pass;
pub mod policy;

use crate::domain::{Claim, Stage};
use crate::error::Result;
use crate::port::Effect;
use async_trait::async_trait;
use serde_json::Value;

pub use actor::{StageMsg, start};
pub use pass::{Passed, pass};

/// What a stage did with its job.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    pub effect: Effect,
    /// One sentence for the audit. Never transcript text.
    pub message: String,
    /// Figures and hashes for the audit.
    pub detail: Value,
    /// `ok`, or `skipped` when there was nothing to do: a skipped act is never written down as done.
    pub outcome: &'static str,
    /// Ends the cycle here: later stages have nothing to stand on.
    pub ends_cycle: bool,
}

impl Done {
    pub fn ok(effect: Effect, message: impl Into<String>, detail: Value) -> Self {
        Self { effect, message: message.into(), detail, outcome: "ok", ends_cycle: false }
    }
    pub fn skipped(message: impl Into<String>) -> Self {
        Self {
            effect: Effect::None,
            message: message.into(),
            detail: Value::Null,
            outcome: "skipped",
            ends_cycle: false,
        }
    }
    #[must_use]
    pub fn ending_the_cycle(mut self) -> Self {
        self.ends_cycle = true;
        self
    }
}

/// The work of one stage. Every effect is safe to repeat: the future may be dropped at any await.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    fn stage(&self) -> Stage;

    /// Once per start of the worker, before the first job: puts right what the last life may have left.
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    async fn run(&self, claim: &Claim) -> Result<Done>;

    /// Whenever nothing is due: puts right what was spoilt meanwhile without anybody's asking.
    async fn rest(&self) -> Result<()> {
        Ok(())
    }
}
