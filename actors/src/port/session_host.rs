//! The agent's gateway: usage, transcripts, and the few acts Moon may ask of it.

use crate::domain::{Capabilities, Page, SessionRef, UsageReading};
use crate::error::Result;
use async_trait::async_trait;
use std::sync::Arc;

/// Rung by an adapter when something happened; carries nothing, may be rung any number of times.
pub type Doorbell = Arc<dyn Fn() + Send + Sync>;

/// The host's answer to a compaction that really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    pub tokens_before: Option<u64>,
    /// Only when the host really knows it, measured as `tokens_before` was. Otherwise the next fresh reading says it.
    pub tokens_after: Option<u64>,
}

#[async_trait]
pub trait SessionHost: Send + Sync {
    /// `openclaw` or `transcripts`.
    fn name(&self) -> &'static str;

    fn capabilities(&self) -> Capabilities;

    /// Whether sessions of this kind can be reduced through Moon at all, now or later. False for what can only be read.
    fn reduces(&self) -> bool {
        true
    }

    /// One line for people: version, address, connection state.
    fn describe(&self) -> String;

    /// Installs the doorbell for pushed changes. Called once, before anything else.
    fn subscribe(&self, bell: Doorbell);

    /// The last known reading of every session, without asking the host. `unavailable` while never connected.
    /// A count the host no longer vouches for is kept with `fresh: false`; so is whatever it says between a compaction and
    /// the end of the next run.
    async fn readings(&self) -> Result<Vec<UsageReading>>;

    /// Asks the host for the full list; also the way to notice that it is gone.
    async fn refresh(&self) -> Result<Vec<UsageReading>>;

    /// Reads records with `seq >= from` (use -1 or 0 for the start), in order, byte-exact, at most about `max_bytes` of
    /// them but always at least one if there is one. Includes everything the store still has: rows before a reset too.
    /// Errors: `unavailable` (store not there; a code that ends in `.session_gone` when only this transcript is gone),
    /// `data` (store there, not readable: schema unknown, row undecodable).
    async fn records(&self, session: &SessionRef, from: i64, max_bytes: usize) -> Result<Page>;

    /// Replaces the older part of the session's context by a summary (the bridge supplies Moon's text). An answer "ok"
    /// whose payload says otherwise is an error:
    /// `transient` with code `host.busy` (a turn is running), `conflict` with code `host.nothing_to_compact`,
    /// `conflict` with code `host.changed` (the session has another transcript now), `data` with code
    /// `host.compact_refused`, `unavailable` (no scope, not connected). After a `transient` error the outcome is unknown: look
    /// before repeating.
    async fn compact(&self, session: &SessionRef) -> Result<Compacted>;

    /// Gives the session a new, empty window under the same key; everything archived must be safe before.
    /// Must refuse (`transient`, `host.busy`) while a turn runs and (`conflict`, `host.changed`) when
    /// `session.session_id` is not the present transcript any more. Returns the transcript id after the reset.
    async fn reset(&self, session: &SessionRef) -> Result<String>;
}
