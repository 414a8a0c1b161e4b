//! One start of one child, in a task of its own: a child that hangs in `pre_start` holds up nobody else.
//!
//! The task ends with the child or with a reason, and rings a bell in whatever way it ends. Dropped with a supervisor that
//! was killed, so that no child is born to a dead parent. It decides nothing.

use super::spec::StartFn;
use ractor::{ActorCell, SpawnErr};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A child that needs longer for `pre_start` has failed to start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The task of a dead child that takes longer to let go of its state makes the restart a failed one: two lives of one
/// child at once would share its resources.
pub(super) const LET_GO: Duration = Duration::from_secs(30);

pub(super) enum Outcome {
    Up(ActorCell, JoinHandle<()>),
    Failed(String),
    /// The former life has not ended; here is its task again.
    Haunted(JoinHandle<()>),
}

/// A start under way.
pub(super) struct Attempt(JoinHandle<Outcome>);

impl Attempt {
    pub(super) fn begin(
        start: StartFn,
        parent: ActorCell,
        former: Option<JoinHandle<()>>,
        settled: impl FnOnce() + Send + 'static,
    ) -> Self {
        let bell = Bell(Some(settled));
        Self(tokio::spawn(async move {
            let _bell = bell;
            attempt(start, parent, former).await
        }))
    }
    /// Waits for the end, which has come once the bell has rung. A panic while the child is made is a failed start.
    pub(super) async fn outcome(&mut self) -> Outcome {
        (&mut self.0).await.unwrap_or_else(|e| Outcome::Failed(format!("the start failed: {e}")))
    }
    /// Ends it. Returns the child if it came up in the last moment.
    pub(super) async fn call_off(&mut self, limit: Duration) -> Option<(ActorCell, JoinHandle<()>)> {
        self.0.abort();
        match timeout(limit, &mut self.0).await {
            Ok(Ok(Outcome::Up(cell, task))) => Some((cell, task)),
            _ => None,
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Bell<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Bell<F> {
    fn drop(&mut self) {
        if let Some(ring) = self.0.take() {
            ring();
        }
    }
}

async fn attempt(start: StartFn, parent: ActorCell, former: Option<JoinHandle<()>>) -> Outcome {
    // The event of an end can overtake the drop of the old state; only its task's end proves that locks are free.
    if let Some(mut former) = former
        && timeout(LET_GO, &mut former).await.is_err()
    {
        return Outcome::Haunted(former);
    }
    match timeout(START_LIMIT, start(parent)).await {
        Ok(Ok((cell, task))) => Outcome::Up(cell, task),
        // ractor's own text says "panicked" for a plain error, too.
        Ok(Err(SpawnErr::StartupFailed(error))) => Outcome::Failed(error.to_string()),
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed(format!("did not start within {START_LIMIT:?}")),
    }
}
