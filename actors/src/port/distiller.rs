//! Whoever turns a stretch of conversation into a few durable statements.

use crate::domain::{Distillate, SessionKey, Sha256, Turn};
use crate::error::Result;
use async_trait::async_trait;

#[derive(Clone, Debug)]
pub struct DistillInput {
    pub session: SessionKey,
    /// Turns with the segment each stands in, in order.
    pub turns: Vec<(Sha256, Turn)>,
    /// At most this many items of one kind.
    pub max_items: usize,
}

#[async_trait]
pub trait Distiller: Send + Sync {
    /// `local`; a model's name for later ones.
    fn name(&self) -> &'static str;
    async fn distill(&self, input: &DistillInput) -> Result<Distillate>;
}
