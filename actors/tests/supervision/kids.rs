//! Children that fail as they are told to, and what a test reads of a tree.

use moon_actors::supervisor::*;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const MOMENT: Duration = Duration::from_millis(5);

/// What happened, in order, as a test reads it.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(super) fn add(&self, line: impl Into<String>) {
        self.0.lock().expect("no test panics while it holds this").push(line.into());
    }
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().expect("no test panics while it holds this").clone()
    }
    pub(super) fn sink(&self) -> Sink {
        let log = self.clone();
        Arc::new(move |notice| log.add(words(&notice)))
    }
}

pub(super) fn words(notice: &Notice) -> String {
    match notice {
        Notice::Crashed { child, reason, restarts } => format!("crashed {child} ({reason}) after {restarts}"),
        Notice::Restarted { child } => format!("restarted {child}"),
        Notice::Parked { child, reason } => format!("parked {child} ({reason})"),
        Notice::Escalated { child, reason } => format!("escalated {child} ({reason})"),
        Notice::Stopped { killed } => format!("stopped {killed:?}"),
    }
}

pub(super) enum Msg {
    Panic,
    Fail,
    End,
    Kill,
    Busy(Duration),
    /// Holds a thread, out of reach of any kill.
    Block(Duration),
    Count,
    Read(RpcReplyPort<u32>),
}

/// How a child starts: counted down with every start.
#[derive(Clone, Default)]
pub(super) struct Starts {
    pub(super) failing: Arc<AtomicU32>,
    pub(super) hanging: Arc<AtomicU32>,
    /// Dies right after its start.
    pub(super) dying: Arc<AtomicU32>,
    /// States alive; must return to zero.
    pub(super) alive: Arc<AtomicI64>,
}

pub(super) struct Alive(Arc<AtomicI64>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

pub(super) struct Worker {
    name: &'static str,
    log: Log,
    starts: Starts,
}

pub(super) struct WorkerState {
    count: u32,
    _alive: Alive,
}

pub(super) fn take_one(counter: &AtomicU32) -> bool {
    counter.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl Actor for Worker {
    type Msg = Msg;
    type State = WorkerState;
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<Msg>, (): ()) -> Result<WorkerState, ActorProcessingErr> {
        if take_one(&self.starts.hanging) {
            std::future::pending::<()>().await;
        }
        if take_one(&self.starts.failing) {
            return Err("no start".into());
        }
        self.log.add(format!("{} starts", self.name));
        self.starts.alive.fetch_add(1, SeqCst);
        Ok(WorkerState { count: 0, _alive: Alive(Arc::clone(&self.starts.alive)) })
    }
    async fn post_start(&self, _: ActorRef<Msg>, _: &mut WorkerState) -> Result<(), ActorProcessingErr> {
        if take_one(&self.starts.dying) { Err("stillborn".into()) } else { Ok(()) }
    }
    async fn handle(&self, me: ActorRef<Msg>, msg: Msg, state: &mut WorkerState) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Panic => panic!("boom"),
            Msg::Fail => return Err("broken".into()),
            Msg::End => me.stop(None),
            Msg::Kill => me.kill(),
            Msg::Busy(span) => sleep(span).await,
            Msg::Block(span) => std::thread::sleep(span),
            Msg::Count => state.count += 1,
            Msg::Read(reply) => drop(reply.send(state.count)),
        }
        Ok(())
    }
    async fn post_stop(&self, _: ActorRef<Msg>, state: &mut WorkerState) -> Result<(), ActorProcessingErr> {
        self.log.add(format!("{} ends with {}", self.name, state.count));
        Ok(())
    }
}

/// One child, its address and the ways it may be made to fail.
pub(super) struct Kid {
    pub(super) address: Address<Msg>,
    pub(super) starts: Starts,
    pub(super) start: StartFn,
}

pub(super) fn kid(name: &'static str, log: &Log) -> Kid {
    let (address, starts, log) = (Address::new(), Starts::default(), log.clone());
    let given = starts.clone();
    let start = child(address.clone(), move || (Worker { name, log: log.clone(), starts: given.clone() }, ()));
    Kid { address, starts, start }
}

impl Kid {
    pub(super) async fn crash(&self) {
        assert!(self.address.cast(Msg::Panic), "somebody is there to crash");
        sleep(MOMENT).await;
    }
    pub(super) async fn count(&self) -> Option<u32> {
        self.address.ask(Msg::Read, Duration::from_secs(1)).await
    }
}

pub(super) fn silent() -> Sink {
    Arc::new(|_| {})
}

pub(super) async fn phases(tree: &Tree) -> Vec<(String, Phase)> {
    fn flat(children: Vec<ChildStatus>, into: &mut Vec<(String, Phase)>) {
        for child in children {
            into.push((child.name, child.phase));
            flat(child.children, into);
        }
    }
    let mut all = Vec::new();
    flat(tree.status().await, &mut all);
    all
}

pub(super) fn gave_up(path: &str, reason: &str) -> EndReason {
    EndReason::GaveUp { path: path.into(), reason: reason.into() }
}
