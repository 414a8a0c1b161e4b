//! Opens captures: the order to archive and index what is new of one transcript.

use crate::domain::{CycleId, CycleKind, SessionRef, TraceId, Trigger};
use crate::error::Result;
use crate::port::{Ids, Ledger, NewCycle};
use std::sync::Arc;

#[derive(Clone)]
pub struct Captures {
    pub ledger: Arc<dyn Ledger>,
    pub ids: Arc<dyn Ids>,
}

impl Captures {
    /// Opens a capture. False when one is waiting that will see everything this one would. `ack` is what the bridge is told
    /// once all of it is archived.
    pub async fn open(&self, session: &SessionRef, reason: &str, ack: Option<String>) -> Result<bool> {
        let cycle = NewCycle {
            id: CycleId(self.ids.next()),
            session: session.clone(),
            trigger: Trigger { kind: CycleKind::Capture, reason: reason.to_owned(), ratio: None },
            trace: TraceId(self.ids.next()),
            used_tokens: None,
            ack,
        };
        Ok(self.ledger.open_cycle(&cycle, None).await?.is_some())
    }
}
