//! The supervisor itself: starts, watches, restarts, parks, drains. It knows no domain and does nothing else.
//!
//! ```text
//!            start                settled: up
//!   Idle ───────────► Starting ─────────────────► Up ──┐ drained on request: start again
//!                        ▲  │ failed                │  │
//!                   due  │  ▼                       ▼  │
//!                     Waiting ◄───── restart ──── crash ◄── limit passed ──► Parked  or  give up
//! ```
//!
//! ractor's edges that shape it: a failing `pre_start` sends no event, so both ways meet in `crashed`; `kill` and abort look
//! like a normal end, so only an end that was asked for is normal; an end event may overtake the start's own result, so such
//! ends are kept until then; a supervisor that ends kills its children unheard, so it drains them first. A start runs in a
//! task of its own: a child that hangs in `pre_start` holds up nobody else.

use super::board::Board;
use super::policy::Decision;
use super::spec::{Plan, Planned, Strategy};
use super::start::{Attempt, LET_GO, Outcome};
use super::{ChildKind, EndReason, Notice, Phase, RestartError};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// At the first start the next sibling waits this long for the one before it.
const START_PATIENCE: Duration = Duration::from_secs(2);
/// A killed child that is still there after this sits in blocking code, out of anybody's reach.
const KILL_GRACE: Duration = Duration::from_secs(1);

pub(super) type Restarted = Result<(), RestartError>;

pub(super) enum Msg {
    /// The pause before a restart is over.
    Due {
        child: usize,
        life: u64,
    },
    /// A start has an outcome.
    Settled {
        child: usize,
        life: u64,
    },
    /// The one before has had its time: start the next one.
    Onward {
        child: usize,
    },
    /// A child that was asked to end is still there.
    Overdue {
        child: usize,
        life: u64,
    },
    Restart {
        name: String,
        reply: RpcReplyPort<Restarted>,
    },
    /// Is this supervisor there, and are those below it?
    Ping {
        reply: RpcReplyPort<bool>,
        limit: Duration,
    },
}

/// The typed reason of a supervisor that gave up: what its parent finds in the event.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{path} failed too often: {reason}")]
struct GaveUp {
    path: String,
    reason: String,
}

struct Crash {
    reason: String,
    /// Of a branch: which child below brought it down.
    origin: Option<String>,
}

impl Crash {
    fn of(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), origin: None }
    }
    fn from_error(error: &ActorProcessingErr) -> Self {
        match error.downcast_ref::<GaveUp>() {
            Some(below) => Self { reason: below.reason.clone(), origin: Some(below.path.clone()) },
            None => Self::of(error.to_string()),
        }
    }
}

enum Slot {
    /// Not started yet, or stopped because a sibling before it fell.
    Idle,
    Starting(Attempt),
    Up {
        cell: ActorCell,
        task: JoinHandle<()>,
    },
    /// Down until `Due`.
    Waiting,
    Parked,
}

struct Child {
    slot: Slot,
    /// Grows with every change that makes an older timer meaningless.
    life: u64,
    /// Its next end is wanted.
    asked: bool,
    has_been_up: bool,
    /// Task of the former life; awaited before the next one.
    former: Option<JoinHandle<()>>,
    waiters: Vec<RpcReplyPort<Restarted>>,
}

impl Child {
    fn is_starting(&self) -> bool {
        matches!(self.slot, Slot::Starting(_))
    }
}

pub(super) struct State {
    me: ActorRef<Msg>,
    plan: Arc<Plan>,
    board: Arc<Board>,
    children: Vec<Child>,
    /// Ends that arrived before the result of their start.
    early: HashMap<ActorId, Crash>,
}

pub(super) struct Supervisor;

impl Actor for Supervisor {
    type Msg = Msg;
    type State = State;
    type Arguments = (Arc<Plan>, Arc<Board>);

    async fn pre_start(&self, me: ActorRef<Msg>, (plan, board): Self::Arguments) -> Result<State, ActorProcessingErr> {
        let new = |planned: &Planned| {
            board.forgive(planned.row);
            board.enter(planned.row, Phase::Waiting);
            Child { slot: Slot::Idle, life: 0, asked: false, has_been_up: false, former: None, waiters: Vec::new() }
        };
        let children = plan.children.iter().map(new).collect();
        Ok(State { me, plan, board, children, early: HashMap::new() })
    }

    async fn post_start(&self, _: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.begin(0);
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Msg>, msg: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Due { child, life } if state.is_due(child, life) => state.begin(child),
            Msg::Settled { child, life } if state.children[child].life == life => state.settle(child).await?,
            Msg::Onward { child } => state.onward(child),
            Msg::Overdue { child, life } => state.kill_overdue(child, life),
            Msg::Restart { name, reply } => state.restart(name, reply).await,
            Msg::Ping { reply, limit } => state.pong(reply, limit),
            // A timer of an earlier life.
            Msg::Due { .. } | Msg::Settled { .. } => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (id, crash) = match &event {
            SupervisionEvent::ActorFailed(cell, error) => (cell.get_id(), Crash::from_error(error)),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell.get_id(), Crash::of(reason.as_deref().unwrap_or("ended by itself")))
            }
            _ => return Ok(()),
        };
        // The event carries the dead child's state, with whatever that still holds.
        drop(event);
        state.ended(id, crash).await
    }

    /// Reached by `stop` and `drain`, not after an error, a panic or a kill.
    async fn post_stop(&self, _: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.stop_all().await;
        if state.plan.is_root {
            state.board.end(EndReason::Stopped);
        }
        Ok(())
    }
}

/// Starting.
impl State {
    fn is_due(&self, i: usize, life: u64) -> bool {
        let child = &self.children[i];
        child.life == life && matches!(child.slot, Slot::Waiting)
    }

    /// Starts a child that is not there. Does nothing past the last one.
    fn begin(&mut self, i: usize) {
        let Some(planned) = self.plan.children.get(i) else { return };
        let child = &mut self.children[i];
        child.life += 1;
        let (me, life) = (self.me.clone(), child.life);
        // Fails only when this supervisor is ending itself.
        let settled = move || drop(me.cast(Msg::Settled { child: i, life }));
        let former = child.former.take();
        child.slot = Slot::Starting(Attempt::begin(Arc::clone(&planned.start), self.me.get_cell(), former, settled));
        self.board.enter(planned.row, Phase::Waiting);
        self.me.send_after(START_PATIENCE, move || Msg::Onward { child: i });
    }

    async fn settle(&mut self, i: usize) -> Result<(), ActorProcessingErr> {
        let Slot::Starting(attempt) = &mut self.children[i].slot else { return Ok(()) };
        // It has rung its bell as its last act, so this does not wait.
        let outcome = attempt.outcome().await;
        self.children[i].slot = Slot::Waiting;
        let reason = match outcome {
            Outcome::Up(cell, task) => return self.came_up(i, cell, task).await,
            Outcome::Failed(reason) => reason,
            Outcome::Haunted(task) => {
                self.children[i].former = Some(task);
                format!("its former life has not ended within {LET_GO:?}")
            }
        };
        self.answer(i, &Err(RestartError::Failed(reason.clone())));
        self.crashed(i, Crash::of(reason)).await
    }

    async fn came_up(&mut self, i: usize, cell: ActorCell, task: JoinHandle<()>) -> Result<(), ActorProcessingErr> {
        let overtaken = self.early.remove(&cell.get_id());
        if !self.children.iter().any(Child::is_starting) {
            self.early.clear();
        }
        let (child, planned) = (&mut self.children[i], &self.plan.children[i]);
        child.slot = Slot::Up { cell, task };
        self.board.enter(planned.row, Phase::Up);
        if std::mem::replace(&mut child.has_been_up, true) {
            self.board.tell(Notice::Restarted { child: planned.path.clone() });
        }
        self.answer(i, &Ok(()));
        if let Some(crash) = overtaken {
            return self.fell(i, crash).await;
        }
        self.onward(i);
        Ok(())
    }

    /// Starts the one behind `i`, if it has never been started or fell with a sibling.
    fn onward(&mut self, i: usize) {
        let may = self.plan.strategy == Strategy::OneForOne || matches!(self.children[i].slot, Slot::Up { .. });
        if may && self.children.get(i + 1).is_some_and(|next| matches!(next.slot, Slot::Idle)) {
            self.begin(i + 1);
        }
    }

    fn answer(&mut self, i: usize, result: &Restarted) {
        for waiter in self.children[i].waiters.drain(..) {
            // The asker may have stopped waiting.
            let _ = waiter.send(result.clone());
        }
    }
}

/// Crashes.
impl State {
    async fn ended(&mut self, id: ActorId, crash: Crash) -> Result<(), ActorProcessingErr> {
        let is_it = |child: &Child| matches!(&child.slot, Slot::Up { cell, .. } if cell.get_id() == id);
        match self.children.iter().position(is_it) {
            Some(i) => self.fell(i, crash).await,
            None => {
                // Else it is one that was stopped on purpose.
                if self.children.iter().any(Child::is_starting) {
                    self.early.insert(id, crash);
                }
                Ok(())
            }
        }
    }

    /// A child that was up has ended.
    async fn fell(&mut self, i: usize, crash: Crash) -> Result<(), ActorProcessingErr> {
        let child = &mut self.children[i];
        if let Slot::Up { task, .. } = std::mem::replace(&mut child.slot, Slot::Waiting) {
            child.former = Some(task);
        }
        if std::mem::take(&mut child.asked) {
            self.board.count_restart(self.plan.children[i].row);
            self.due_after(i, Duration::ZERO);
            return Ok(());
        }
        self.crashed(i, crash).await
    }

    /// Every crash comes through here, whether the child was up or failed to start.
    async fn crashed(&mut self, i: usize, crash: Crash) -> Result<(), ActorProcessingErr> {
        let plan = Arc::clone(&self.plan);
        let planned = &plan.children[i];
        self.children[i].slot = Slot::Waiting;
        self.board.enter(planned.row, Phase::Waiting);
        let (decision, restarts) = self.board.crashed(planned.row, &crash.reason);
        let (child, reason) = (planned.path.clone(), crash.reason.clone());
        self.board.tell(Notice::Crashed { child: child.clone(), reason: reason.clone(), restarts });
        match decision {
            Decision::Restart { after } => {
                self.stop_behind(i).await;
                self.board.count_restart(planned.row);
                self.due_after(i, after);
                self.onward(i);
                Ok(())
            }
            Decision::Park => {
                self.children[i].slot = Slot::Parked;
                self.board.enter(planned.row, Phase::Parked);
                self.board.tell(Notice::Parked { child, reason });
                self.onward(i);
                Ok(())
            }
            Decision::Escalate => Err(self.give_up(child, crash).await),
        }
    }

    /// By a message even when it is due at once: events of siblings that fell before go first.
    fn due_after(&mut self, i: usize, pause: Duration) {
        let child = &mut self.children[i];
        child.life += 1;
        let due = Msg::Due { child: i, life: child.life };
        if pause.is_zero() {
            // Fails only when this supervisor is ending itself.
            let _ = self.me.cast(due);
        } else {
            self.me.send_after(pause, move || due);
        }
    }

    /// Drains everything, then names who is to blame. The caller fails with it.
    async fn give_up(&mut self, child: String, crash: Crash) -> ActorProcessingErr {
        // An error ends an actor at once and its children unheard.
        self.stop_all().await;
        let path = crash.origin.unwrap_or_else(|| child.clone());
        let reason = crash.reason;
        self.board.tell(Notice::Escalated { child, reason: reason.clone() });
        if self.plan.is_root {
            self.board.end(EndReason::GaveUp { path: path.clone(), reason: reason.clone() });
        }
        Box::new(GaveUp { path, reason })
    }
}

/// Restarting on request.
impl State {
    async fn restart(&mut self, name: String, reply: RpcReplyPort<Restarted>) {
        let plan = Arc::clone(&self.plan);
        if let Some(i) = plan.children.iter().position(|c| c.name == name) {
            self.children[i].waiters.push(reply);
            return self.restart_own(i).await;
        }
        match plan.children.iter().find(|c| c.below.contains(name.as_str())) {
            // Lost with a branch that is down: the dropped port answers.
            Some(branch) => drop(branch.branch.as_ref().map(|address| address.cast(Msg::Restart { name, reply }))),
            None => drop(reply.send(Err(RestartError::Unknown(name)))),
        }
    }

    async fn restart_own(&mut self, i: usize) {
        match &self.children[i].slot {
            // Asked already: it is ending.
            Slot::Up { .. } if self.children[i].asked => {}
            Slot::Up { .. } => {
                self.stop_behind(i).await;
                let limit = self.drain_limit(i);
                let child = &mut self.children[i];
                let Slot::Up { cell, .. } = &child.slot else { return };
                child.asked = true;
                child.life += 1;
                let overdue = Msg::Overdue { child: i, life: child.life };
                let _ = cell.drain();
                self.me.send_after(limit, move || overdue);
            }
            Slot::Parked => {
                self.board.forgive(self.plan.children[i].row);
                self.board.count_restart(self.plan.children[i].row);
                self.begin(i);
            }
            Slot::Waiting => self.begin(i),
            // Under way already, or behind a sibling that must come first: answered when it is up.
            Slot::Starting(_) | Slot::Idle => {}
        }
    }

    fn kill_overdue(&mut self, i: usize, life: u64) {
        let child = &self.children[i];
        if let (Slot::Up { cell, .. }, true) = (&child.slot, child.asked && child.life == life) {
            tracing::warn!(child = self.plan.children[i].path, "did not end in time for its restart, killed");
            cell.kill();
        }
    }
}

/// Being asked whether it is there.
impl State {
    /// Answers for itself and the branches that are up. In a task of its own: a branch may ask back meanwhile.
    fn pong(&self, reply: RpcReplyPort<bool>, limit: Duration) {
        let is_up = |i: &usize| matches!(self.children[*i].slot, Slot::Up { .. });
        let branches = (0..self.children.len()).filter(is_up).filter_map(|i| self.plan.children[i].branch.clone());
        let branches: Vec<_> = branches.collect();
        tokio::spawn(async move {
            let mut all = true;
            for branch in branches {
                all &= branch.ask(|reply| Msg::Ping { reply, limit }, limit).await == Some(true);
            }
            // Whoever asked may have given up.
            let _ = reply.send(all);
        });
    }
}

/// Stopping.
impl State {
    /// A branch has no deadline of its own; it gets the sum of its children's.
    fn drain_limit(&self, i: usize) -> Duration {
        let (planned, one) = (&self.plan.children[i], self.board.deadline());
        match planned.kind {
            ChildKind::Branch => (one + KILL_GRACE).saturating_mul(planned.leaves).saturating_add(KILL_GRACE),
            ChildKind::Vital | ChildKind::Optional => one,
        }
    }

    /// Under rest-for-one: drains those behind `i`, last first. They start again behind it.
    async fn stop_behind(&mut self, i: usize) {
        if self.plan.strategy == Strategy::RestForOne {
            for j in (i + 1..self.children.len()).rev() {
                self.stop_child(j).await;
                if !matches!(self.children[j].slot, Slot::Parked) {
                    self.children[j].slot = Slot::Idle;
                    self.board.enter(self.plan.children[j].row, Phase::Waiting);
                }
            }
        }
    }

    async fn stop_all(&mut self) {
        for i in (0..self.children.len()).rev() {
            self.stop_child(i).await;
            self.board.enter(self.plan.children[i].row, Phase::Stopped);
            self.answer(i, &Err(RestartError::Stopping));
        }
    }

    /// Lets a child finish its mailbox, or kills it at the deadline. A start under way is called off.
    async fn stop_child(&mut self, i: usize) {
        let limit = self.drain_limit(i);
        let child = &mut self.children[i];
        child.life += 1;
        child.asked = false;
        let (cell, mut task) = match std::mem::replace(&mut child.slot, Slot::Waiting) {
            Slot::Up { cell, task } => (cell, task),
            Slot::Starting(mut attempt) => match attempt.call_off(KILL_GRACE).await {
                Some((cell, task)) => (cell, task),
                None => return,
            },
            Slot::Parked => {
                child.slot = Slot::Parked;
                return;
            }
            Slot::Idle | Slot::Waiting => return,
        };
        // `stop` would overtake what was accepted already.
        let _ = cell.drain();
        if timeout(limit, &mut task).await.is_ok() {
            return;
        }
        cell.kill();
        self.board.note_killed(&self.plan.children[i].path);
        tracing::warn!(child = self.plan.children[i].path, "did not end in time, killed");
        if timeout(KILL_GRACE, &mut task).await.is_err() {
            child.former = Some(task);
        }
    }
}
