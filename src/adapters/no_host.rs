//! Stands where a session host would be, in commands that need none (recall, status, verify) and where none is configured.

use async_trait::async_trait;
use moon_actors::domain::{Capabilities, Page, SessionRef, UsageReading};
use moon_actors::port::{Compacted, Doorbell, SessionHost};
use moon_actors::{Error, Result};

/// What stands where the name of a host would.
pub const NAME: &str = "none";

/// Answers everything with the reason why there is no host.
pub struct NoHost {
    why: Error,
}

impl NoHost {
    pub fn new(why: Error) -> Self {
        Self { why }
    }
    /// For commands that look at what is kept and at nothing else.
    pub fn not_needed() -> Self {
        Self::new(Error::unavailable("host.not_connected", "this command does not connect to the session host"))
    }
}

#[async_trait]
impl SessionHost for NoHost {
    fn name(&self) -> &'static str {
        NAME
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
    fn reduces(&self) -> bool {
        false
    }
    fn describe(&self) -> String {
        self.why.to_string()
    }
    fn subscribe(&self, _: Doorbell) {}
    async fn readings(&self) -> Result<Vec<UsageReading>> {
        Err(self.why.clone())
    }
    async fn refresh(&self) -> Result<Vec<UsageReading>> {
        Err(self.why.clone())
    }
    async fn records(&self, _: &SessionRef, _: i64, _: usize) -> Result<Page> {
        Err(self.why.clone())
    }
    async fn compact(&self, _: &SessionRef) -> Result<Compacted> {
        Err(self.why.clone())
    }
    async fn reset(&self, _: &SessionRef) -> Result<String> {
        Err(self.why.clone())
    }
}
