//! What is known of every child, readable at any moment.
//!
//! Supervisors write here and `status` reads here, so that the answer comes even while a supervisor is busy draining a
//! hung child: status must work when it is needed most. It is a view: decisions are taken by the supervisors.

use super::policy::{self, Decision, History, Limits};
use super::{ChildKind, ChildStatus, EndReason, Notice, Phase, Sink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

pub(super) struct Row {
    name: &'static str,
    path: String,
    kind: ChildKind,
    /// Row of the branch it belongs to; `None` directly below the root.
    parent: Option<usize>,
    limits: Limits,
    pub(super) phase: Phase,
    restarts: u64,
    history: History,
    last_error: Option<String>,
    since: Duration,
}

impl Row {
    pub(super) fn new(
        name: &'static str,
        path: String,
        kind: ChildKind,
        parent: Option<usize>,
        limits: Limits,
    ) -> Self {
        Self {
            name,
            path,
            kind,
            parent,
            limits,
            phase: Phase::Waiting,
            restarts: 0,
            history: History::default(),
            last_error: None,
            since: Duration::ZERO,
        }
    }
}

pub(super) struct Board {
    origin: Instant,
    rows: Mutex<Vec<Row>>,
    deadline: Mutex<Duration>,
    killed: Mutex<Vec<String>>,
    end: Mutex<Option<EndReason>>,
    sink: Sink,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(super) fn new(rows: Vec<Row>, drain: Duration, sink: Sink) -> Self {
        let (deadline, killed, end) = (Mutex::new(drain), Mutex::default(), Mutex::default());
        Self { origin: Instant::now(), rows: Mutex::new(rows), deadline, killed, end, sink }
    }

    /// Tells the outside. A sink that panics is its own problem.
    pub(super) fn tell(&self, notice: Notice) {
        if catch_unwind(AssertUnwindSafe(|| (self.sink)(notice))).is_err() {
            tracing::error!("the sink of supervision notices panicked");
        }
    }

    pub(super) fn enter(&self, row: usize, phase: Phase) {
        let now = self.origin.elapsed();
        let row = &mut lock(&self.rows)[row];
        if row.phase != phase {
            (row.phase, row.since) = (phase, now);
        }
    }

    /// Counts a crash and decides. Returns the decision and the restarts so far.
    pub(super) fn crashed(&self, row: usize, reason: &str) -> (Decision, u64) {
        let now = self.origin.elapsed();
        let row = &mut lock(&self.rows)[row];
        row.last_error = Some(reason.to_owned());
        let vital = row.kind != ChildKind::Optional;
        (policy::crashed(&mut row.history, now, row.limits, vital), row.restarts)
    }

    pub(super) fn count_restart(&self, row: usize) {
        lock(&self.rows)[row].restarts += 1;
    }

    /// Forgets the crashes of a child: a person revived it, or its supervisor begins anew.
    pub(super) fn forgive(&self, row: usize) {
        lock(&self.rows)[row].history.clear();
    }

    pub(super) fn deadline(&self) -> Duration {
        *lock(&self.deadline)
    }
    pub(super) fn set_deadline(&self, deadline: Duration) {
        *lock(&self.deadline) = deadline;
    }
    pub(super) fn note_killed(&self, path: &str) {
        lock(&self.killed).push(path.to_owned());
    }
    pub(super) fn killed(&self) -> Vec<String> {
        lock(&self.killed).clone()
    }
    /// The first reason stays.
    pub(super) fn end(&self, reason: EndReason) -> EndReason {
        lock(&self.end).get_or_insert(reason).clone()
    }

    pub(super) fn snapshot(&self) -> Vec<ChildStatus> {
        let now = self.origin.elapsed();
        let rows = lock(&self.rows);
        below(&rows, None, now)
    }
}

fn below(rows: &[Row], parent: Option<usize>, now: Duration) -> Vec<ChildStatus> {
    let is_child = |(_, row): &(usize, &Row)| row.parent == parent;
    let status = |(index, row): (usize, &Row)| ChildStatus {
        name: row.name.to_owned(),
        path: row.path.clone(),
        kind: row.kind,
        phase: row.phase,
        restarts: row.restarts,
        crashes_in_window: row.history.within(now, row.limits.window) as u64,
        last_error: row.last_error.clone(),
        since: now.saturating_sub(row.since),
        children: below(rows, Some(index), now),
    };
    rows.iter().enumerate().filter(is_child).map(status).collect()
}
