//! Supervision as Erlang/OTP does it, over ractor, which only delivers the events.
//!
//! ```text
//! spec.rs (the tree as data) ─► actor.rs (one Supervisor per branch) ─► policy.rs (restart, park or escalate: pure)
//! address.rs (how actors reach each other over restarts)              ─► board.rs (what status reads)
//! pulse.rs (since when an actor has been busy with one message: what the watchdog reads)
//! ```
//!
//! A crash is a bug or a broken invariant, never weather: the outside world's troubles are values with a retry policy in the
//! engines. A child that crashes is started again with fresh state. Too often within the window: an optional child is parked
//! and its siblings run on; a vital one takes its supervisor with it, drained in reverse start order, up to the root, whose
//! end ends the process. This module must never know what its children do.

mod actor;
mod address;
mod board;
pub mod policy;
mod pulse;
mod spec;
mod start;

pub use address::Address;
pub use policy::Limits;
pub use pulse::Pulse;
pub use spec::Strategy::{OneForOne, RestForOne};
pub use spec::{StartFn, Started, Strategy, SupervisorSpec, child, max, supervisor};

use actor::{Msg, Supervisor};
use board::Board;
use ractor::{Actor, ActorRef, rpc::CallResult};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longest wait for a restart that was asked for: a drain at its deadline, and a start.
const RESTART_WAIT: Duration = Duration::from_secs(60);

/// What a child is to its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildKind {
    Vital,
    Optional,
    /// A supervisor; vital.
    Branch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Up,
    /// Starting, or pausing before a restart.
    Waiting,
    /// Down until somebody revives it.
    Parked,
    Stopped,
}

/// One child, and those below it if it is a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildStatus {
    pub name: String,
    /// `moon/pipeline/archive`
    pub path: String,
    pub kind: ChildKind,
    pub phase: Phase,
    /// Since the tree began, for whatever reason.
    pub restarts: u64,
    /// Crashes that still count against its limit.
    pub crashes_in_window: u64,
    /// Why it crashed last.
    pub last_error: Option<String>,
    /// How long it has been in this phase.
    pub since: Duration,
    /// In start order.
    pub children: Vec<Self>,
}

/// What happened in the tree, for the ledger and for alerts. `child` is a path like `moon/pipeline/archive`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// `restarts` before this crash.
    Crashed {
        child: String,
        reason: String,
        restarts: u64,
    },
    /// It is up again, after a crash or on request.
    Restarted {
        child: String,
    },
    Parked {
        child: String,
        reason: String,
    },
    /// Past its limit, it takes its supervisor down; the siblings are drained already.
    Escalated {
        child: String,
        reason: String,
    },
    /// The whole tree ended as it was asked to; `killed` had not ended by their deadline.
    Stopped {
        killed: Vec<String>,
    },
}

/// Who hears of notices. Called in the midst of supervision: hand over and return, never wait.
pub type Sink = Arc<dyn Fn(Notice) + Send + Sync>;

/// Why the tree ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Somebody asked it to.
    Stopped,
    /// The child at `path` failed too often and nobody above could do without it.
    GaveUp { path: String, reason: String },
}

/// Why a restart that was asked for has not brought the child up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    #[error("no actor is named {0}")]
    Unknown(String),
    #[error("it failed to start: {0}")]
    Failed(String),
    #[error("the tree is stopping")]
    Stopping,
    #[error("its supervisor is restarting itself or has not answered in time")]
    NoAnswer,
}

/// A running tree. Clones are handles of the same tree; dropping them stops nothing.
#[derive(Clone)]
pub struct Tree {
    root: ActorRef<Msg>,
    board: Arc<Board>,
    ended: watch::Receiver<Option<EndReason>>,
}

/// Starts a tree. Returns when the root runs; its children come up in order behind it.
///
/// # Panics
/// When a name is used twice in the spec: a mistake in the program, not in the world.
pub async fn run(spec: SupervisorSpec, sink: Sink) -> Tree {
    let drain = spec.drain;
    let (plan, board) = spec::plan(spec, |rows| Board::new(rows, drain, sink));
    let path = plan.path.clone();
    let (root, task) = Actor::spawn(None, Supervisor, (plan, Arc::clone(&board)))
        .await
        .expect("an unnamed supervisor starts: its pre_start only builds state");
    let (end, ended) = watch::channel(None);
    let watched = Arc::clone(&board);
    tokio::spawn(async move {
        // Says nothing of how it ended; the root wrote that on the board unless it was killed or had a bug itself.
        let _ = task.await;
        let unexplained = EndReason::GaveUp { path, reason: "the supervisor itself ended unexpectedly".into() };
        let reason = watched.end(unexplained);
        if reason == EndReason::Stopped {
            watched.tell(Notice::Stopped { killed: watched.killed() });
        }
        let _ = end.send(Some(reason));
    });
    Tree { root, board, ended }
}

impl Tree {
    /// Every child in start order, branches with theirs. Never waits for a busy supervisor.
    pub async fn status(&self) -> Vec<ChildStatus> {
        self.board.snapshot()
    }

    /// True when the root and every branch that is up took a message and answered within `limit`: supervision itself works.
    pub async fn answers(&self, limit: Duration) -> bool {
        matches!(self.root.call(|reply| Msg::Ping { reply, limit }, Some(limit)).await, Ok(CallResult::Success(true)))
    }

    /// Drains the child of that name, wherever it is in the tree, and starts it afresh; revives a parked one with a clean
    /// count. Answers when it is up.
    pub async fn restart(&self, name: &str) -> Result<(), RestartError> {
        let ask = |reply| Msg::Restart { name: name.to_owned(), reply };
        match self.root.call(ask, Some(RESTART_WAIT)).await {
            Ok(CallResult::Success(result)) => result,
            Err(_) => Err(RestartError::Stopping),
            Ok(CallResult::Timeout | CallResult::SenderError) => Err(RestartError::NoAnswer),
        }
    }

    /// Stops everything, last started first; each child may take `deadline` to finish what it has accepted and is killed
    /// then. Returns the paths of those who had to be. A second call only waits.
    pub async fn stop(&self, deadline: Duration) -> Vec<String> {
        self.board.set_deadline(deadline);
        self.root.stop(None);
        self.finished().await;
        self.board.killed()
    }

    /// Waits for the end of the tree and says why it came.
    pub async fn finished(&self) -> EndReason {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().expect("waited for a reason"),
            Err(_) => EndReason::GaveUp { path: "runtime".into(), reason: "the runtime shut down".into() },
        }
    }
}
