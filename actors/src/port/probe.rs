//! Named points in the engines where a test may stop the world.
//!
//! Product builds use [`NoProbe`]; debug builds of the binary can kill themselves at a point, simulations can panic or
//! hang there. Points are named `stage.step` and stand *between* two effects.

use async_trait::async_trait;

#[async_trait]
pub trait Probe: Send + Sync {
    async fn reach(&self, point: &'static str);
}

/// Does nothing.
pub struct NoProbe;

#[async_trait]
impl Probe for NoProbe {
    async fn reach(&self, _: &'static str) {}
}
