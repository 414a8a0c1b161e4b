//! The supervision tree from outside: crashes, limits, escalation, restarts on request and shutdown, on a paused clock.
//!
//! An hour of restart window costs no real time here. What these tests must never do: look at a supervisor's inside; an
//! operator cannot either.

use moon_actors::supervisor::*;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_millis(5);

/// What happened, in order, as a test reads it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().expect("no test panics while it holds this").push(line.into());
    }
    fn all(&self) -> Vec<String> {
        self.0.lock().expect("no test panics while it holds this").clone()
    }
    fn sink(&self) -> Sink {
        let log = self.clone();
        Arc::new(move |notice| log.add(words(&notice)))
    }
}

fn words(notice: &Notice) -> String {
    match notice {
        Notice::Crashed { child, reason, restarts } => format!("crashed {child} ({reason}) after {restarts}"),
        Notice::Restarted { child } => format!("restarted {child}"),
        Notice::Parked { child, reason } => format!("parked {child} ({reason})"),
        Notice::Escalated { child, reason } => format!("escalated {child} ({reason})"),
        Notice::Stopped { killed } => format!("stopped {killed:?}"),
    }
}

enum Msg {
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
struct Starts {
    failing: Arc<AtomicU32>,
    hanging: Arc<AtomicU32>,
    /// Dies right after its start.
    dying: Arc<AtomicU32>,
    /// States alive; must return to zero.
    alive: Arc<AtomicI64>,
}

struct Alive(Arc<AtomicI64>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

struct Worker {
    name: &'static str,
    log: Log,
    starts: Starts,
}

struct WorkerState {
    count: u32,
    _alive: Alive,
}

fn take_one(counter: &AtomicU32) -> bool {
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
struct Kid {
    address: Address<Msg>,
    starts: Starts,
    start: StartFn,
}

fn kid(name: &'static str, log: &Log) -> Kid {
    let (address, starts, log) = (Address::new(), Starts::default(), log.clone());
    let given = starts.clone();
    let start = child(address.clone(), move || (Worker { name, log: log.clone(), starts: given.clone() }, ()));
    Kid { address, starts, start }
}

impl Kid {
    async fn crash(&self) {
        assert!(self.address.cast(Msg::Panic), "somebody is there to crash");
        sleep(MOMENT).await;
    }
    async fn count(&self) -> Option<u32> {
        self.address.ask(Msg::Read, Duration::from_secs(1)).await
    }
}

fn silent() -> Sink {
    Arc::new(|_| {})
}

async fn phases(tree: &Tree) -> Vec<(String, Phase)> {
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

fn gave_up(path: &str, reason: &str) -> EndReason {
    EndReason::GaveUp { path: path.into(), reason: reason.into() }
}

#[tokio::test(start_paused = true)]
async fn a_crashed_child_comes_back_at_the_same_address_with_fresh_state() {
    let (work, notices) = (Log::default(), Log::default());
    let a = kid("a", &work);
    let tree = run(supervisor("moon", OneForOne, max(3).per(HOUR)).vital("a", a.start.clone()), notices.sink()).await;
    sleep(MOMENT).await;
    a.address.cast(Msg::Count);
    assert_eq!(a.count().await, Some(1));
    a.crash().await;
    assert_eq!(a.count().await, Some(0));
    assert_eq!(notices.all(), ["crashed moon/a (boom) after 0", "restarted moon/a"]);
    let status = tree.status().await;
    assert_eq!((status[0].restarts, status[0].crashes_in_window), (1, 1));
    assert_eq!((status[0].last_error.as_deref(), status[0].path.as_str()), (Some("boom"), "moon/a"));
}

#[tokio::test(start_paused = true)]
async fn every_unwanted_end_is_a_crash_whatever_it_looks_like() {
    for (how, reason) in
        [(Msg::Panic, "boom"), (Msg::Fail, "broken"), (Msg::End, "ended by itself"), (Msg::Kill, "killed")]
    {
        let log = Log::default();
        let a = kid("a", &log);
        let spec = supervisor("moon", OneForOne, max(3).per(HOUR)).optional("a", a.start.clone());
        let tree = run(spec, silent()).await;
        sleep(MOMENT).await;
        a.address.cast(how);
        sleep(MOMENT).await;
        let status = tree.status().await;
        assert_eq!((status[0].phase, status[0].crashes_in_window), (Phase::Up, 1));
        assert_eq!(status[0].last_error.as_deref(), Some(reason));
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_restart_is_immediate_and_later_ones_pause() {
    let log = Log::default();
    let a = kid("a", &log);
    let _tree = run(supervisor("moon", OneForOne, max(3).per(HOUR)).optional("a", a.start.clone()), silent()).await;
    sleep(MOMENT).await;
    for pause in [0, 1, 2] {
        let fell = Instant::now();
        a.crash().await;
        while !a.address.is_up() {
            sleep(MOMENT).await;
        }
        assert_eq!(fell.elapsed().as_secs(), pause);
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_child_leaves_its_siblings_alone() {
    let (work, notices) = (Log::default(), Log::default());
    let (a, b) = (kid("a", &work), kid("b", &work));
    let spec =
        supervisor("moon", OneForOne, max(3).per(HOUR)).optional("a", a.start.clone()).vital("b", b.start.clone());
    let tree = run(spec, notices.sink()).await;
    sleep(MOMENT).await;
    b.address.cast(Msg::Count);
    for _ in 0..4 {
        a.crash().await;
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(phases(&tree).await, [("a".into(), Phase::Parked), ("b".into(), Phase::Up)]);
    assert_eq!(notices.all().last().map(String::as_str), Some("parked moon/a (boom)"));
    assert_eq!(b.count().await, Some(1));
    assert!(!a.address.is_up() && !a.address.cast(Msg::Count));
    sleep(2 * HOUR).await;
    assert_eq!(phases(&tree).await[0].1, Phase::Parked);
}

#[tokio::test(start_paused = true)]
async fn a_vital_child_escalates_through_branch_and_root() {
    let (work, notices) = (Log::default(), Log::default());
    let (early, a, steady) = (kid("early", &work), kid("a", &work), kid("steady", &work));
    let branch = supervisor("pipeline", OneForOne, max(1).per(HOUR))
        .vital("a", a.start.clone())
        .vital("steady", steady.start.clone());
    let spec = supervisor("moon", OneForOne, max(1).per(HOUR)).vital("early", early.start.clone()).branch(branch);
    let tree = run(spec, notices.sink()).await;
    sleep(MOMENT).await;
    for _ in 0..4 {
        steady.address.cast(Msg::Count);
        a.crash().await;
        sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(tree.finished().await, gave_up("moon/pipeline/a", "boom"));
    let told = notices.all();
    // One restart of the child in each life of its branch, and one of the branch: (1 + 1) · (1 + 1) starts.
    assert_eq!(work.all().iter().filter(|l| *l == "a starts").count(), 4);
    assert_eq!(told.iter().filter(|l| l.starts_with("escalated moon/pipeline/a")).count(), 2);
    assert_eq!(told.last().map(String::as_str), Some("escalated moon/pipeline (boom)"));
    // Siblings were drained, not killed: their accepted messages are counted and they ended in reverse order.
    let ends: Vec<_> = work.all().into_iter().filter(|l| l.contains("ends")).collect();
    assert_eq!(ends, ["steady ends with 2", "steady ends with 2", "early ends with 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_start_counts_like_a_crash_and_holds_up_nobody() {
    let (work, notices) = (Log::default(), Log::default());
    let (never, late, good) = (kid("never", &work), kid("late", &work), kid("good", &work));
    never.starts.failing.store(99, SeqCst);
    late.starts.failing.store(2, SeqCst);
    let spec = supervisor("moon", OneForOne, max(3).per(HOUR))
        .optional("never", never.start.clone())
        .optional("late", late.start.clone())
        .vital("good", good.start.clone());
    let tree = run(spec, notices.sink()).await;
    sleep(MOMENT).await;
    assert!(good.address.is_up());
    sleep(Duration::from_secs(10)).await;
    let status = tree.status().await;
    let seen: Vec<_> = status.iter().map(|c| (c.phase, c.restarts, c.last_error.as_deref())).collect();
    let no_start = Some("no start");
    assert_eq!(seen, [(Phase::Parked, 3, no_start), (Phase::Up, 2, no_start), (Phase::Up, 0, None)]);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_hangs_in_its_start_blocks_neither_siblings_nor_the_stop() {
    let log = Log::default();
    let (stuck, good) = (kid("stuck", &log), kid("good", &log));
    stuck.starts.hanging.store(1, SeqCst);
    let spec = supervisor("moon", OneForOne, max(3).per(HOUR))
        .optional("stuck", stuck.start.clone())
        .vital("good", good.start.clone());
    let tree = run(spec, silent()).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(phases(&tree).await, [("stuck".into(), Phase::Waiting), ("good".into(), Phase::Up)]);
    good.crash().await;
    assert!(good.address.is_up());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(phases(&tree).await[0].1, Phase::Up);
    assert_eq!(tree.status().await[0].last_error.as_deref(), Some("did not start within 30s"));
    stuck.starts.hanging.store(1, SeqCst);
    stuck.crash().await;
    sleep(Duration::from_secs(3)).await;
    let asked = Instant::now();
    assert!(tree.stop(Duration::from_secs(5)).await.is_empty());
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_name_drains_a_running_child_deep_in_the_tree_without_counting_a_crash() {
    let (work, notices) = (Log::default(), Log::default());
    let (a, b) = (kid("a", &work), kid("b", &work));
    let branch =
        supervisor("pipeline", OneForOne, max(0).per(HOUR)).vital("a", a.start.clone()).vital("b", b.start.clone());
    let tree = run(supervisor("moon", OneForOne, max(0).per(HOUR)).branch(branch), notices.sink()).await;
    sleep(MOMENT).await;
    a.address.cast(Msg::Count);
    assert_eq!(tree.restart("a").await, Ok(()));
    assert_eq!(a.count().await, Some(0));
    assert_eq!(work.all(), ["a starts", "b starts", "a ends with 1", "a starts"]);
    assert_eq!(notices.all(), ["restarted moon/pipeline/a"]);
    let status = tree.status().await;
    assert_eq!((status[0].children[0].restarts, status[0].children[0].crashes_in_window), (1, 0));
    assert_eq!(tree.restart("nobody").await, Err(RestartError::Unknown("nobody".into())));
    assert_eq!(tree.restart("pipeline").await, Ok(()));
    sleep(MOMENT).await;
    assert!(a.address.is_up() && b.address.is_up());
    assert_eq!(&work.all()[4..], ["b ends with 0", "a ends with 0", "a starts", "b starts"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_name_revives_a_parked_child_with_a_clean_count() {
    let log = Log::default();
    let a = kid("a", &log);
    a.starts.failing.store(5, SeqCst);
    let branch = supervisor("upkeep", OneForOne, max(3).per(HOUR)).optional("a", a.start.clone());
    let tree = run(supervisor("moon", OneForOne, max(3).per(HOUR)).branch(branch), silent()).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(phases(&tree).await[1].1, Phase::Parked);
    assert_eq!(tree.restart("a").await, Err(RestartError::Failed("no start".into())));
    sleep(Duration::from_secs(10)).await;
    let status = tree.status().await;
    let a = &status[0].children[0];
    assert_eq!((a.phase, a.crashes_in_window), (Phase::Up, 1));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_end_for_its_restart_is_killed_and_started() {
    let log = Log::default();
    let (a, b) = (kid("a", &log), kid("b", &log));
    let spec = supervisor("moon", OneForOne, max(0).per(HOUR)).vital("a", a.start.clone()).vital("b", b.start.clone());
    let tree = run(spec.drain(Duration::from_secs(7)), silent()).await;
    sleep(MOMENT).await;
    a.address.cast(Msg::Busy(HOUR));
    let asked = Instant::now();
    assert_eq!(tree.restart("a").await, Ok(()));
    assert_eq!(asked.elapsed().as_secs(), 7);
    assert_eq!(a.count().await, Some(0));
}

#[tokio::test(start_paused = true)]
async fn stopping_drains_in_reverse_order_and_names_who_had_to_be_killed() {
    let (work, notices) = (Log::default(), Log::default());
    let kids = ["first", "inner", "stuck", "last"].map(|name| kid(name, &work));
    let [first, inner, stuck, last] = &kids;
    let branch = supervisor("branch", OneForOne, max(3).per(HOUR))
        .vital("inner", inner.start.clone())
        .vital("stuck", stuck.start.clone());
    let spec = supervisor("moon", OneForOne, max(3).per(HOUR))
        .vital("first", first.start.clone())
        .branch(branch)
        .vital("last", last.start.clone());
    let tree = run(spec, notices.sink()).await;
    sleep(MOMENT).await;
    stuck.address.cast(Msg::Busy(HOUR));
    for kid in [first, inner, last] {
        kid.address.cast(Msg::Count);
        kid.address.cast(Msg::Count);
    }
    let asked = Instant::now();
    assert_eq!(tree.stop(Duration::from_secs(5)).await, ["moon/branch/stuck"]);
    assert_eq!(asked.elapsed().as_secs(), 5);
    let ends: Vec<_> = work.all().into_iter().filter(|l| l.contains("ends")).collect();
    assert_eq!(ends, ["last ends with 2", "inner ends with 2", "first ends with 2"]);
    assert_eq!(tree.finished().await, EndReason::Stopped);
    assert_eq!(notices.all(), ["stopped [\"moon/branch/stuck\"]"]);
    assert!(phases(&tree).await.iter().all(|(_, phase)| *phase == Phase::Stopped));
    assert_eq!(tree.stop(MOMENT).await, ["moon/branch/stuck"]);
    assert_eq!(tree.restart("last").await, Err(RestartError::Stopping));
}

#[tokio::test(start_paused = true)]
async fn crashes_spread_over_hours_never_park() {
    let log = Log::default();
    let a = kid("a", &log);
    let tree = run(supervisor("moon", OneForOne, max(3).per(HOUR)).optional("a", a.start.clone()), silent()).await;
    sleep(MOMENT).await;
    for _ in 0..12 {
        a.crash().await;
        sleep(Duration::from_secs(1210)).await;
        assert_eq!(tree.status().await[0].phase, Phase::Up);
    }
    assert_eq!(tree.status().await[0].restarts, 12);
    sleep(HOUR).await;
    assert_eq!(tree.status().await[0].crashes_in_window, 0);
}

#[tokio::test(start_paused = true)]
async fn messages_to_a_dead_child_are_lost_without_an_error() {
    let log = Log::default();
    let a = kid("a", &log);
    assert!(!a.address.cast(Msg::Count), "nobody lives there yet");
    let tree = run(supervisor("moon", OneForOne, max(3).per(HOUR)).vital("a", a.start.clone()), silent()).await;
    sleep(MOMENT).await;
    a.crash().await;
    a.address.cast(Msg::Panic);
    a.address.cast(Msg::Count); // Accepted, and gone with the crash before it.
    sleep(MOMENT).await;
    assert_eq!((a.address.cast(Msg::Count), a.count().await), (false, None));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(a.count().await, Some(0));
    tree.stop(MOMENT).await;
    assert!(!a.address.cast(Msg::Count));
}

#[tokio::test(start_paused = true)]
async fn under_rest_for_one_those_behind_a_crashed_child_are_drained_and_started_again_in_order() {
    let log = Log::default();
    let kids = ["ledger", "router", "socket"].map(|name| kid(name, &log));
    let [ledger, router, socket] = &kids;
    let spec = supervisor("control", RestForOne, max(3).per(HOUR))
        .vital("ledger", ledger.start.clone())
        .vital("router", router.start.clone())
        .vital("socket", socket.start.clone());
    let tree = run(spec, silent()).await;
    sleep(MOMENT).await;
    assert_eq!(log.all(), ["ledger starts", "router starts", "socket starts"]);
    router.crash().await;
    assert_eq!(&log.all()[3..], ["socket ends with 0", "router starts", "socket starts"]);
    assert_eq!(tree.restart("ledger").await, Ok(()));
    sleep(MOMENT).await;
    let expected = ["socket ends with 0", "router ends with 0", "ledger ends with 0"];
    assert_eq!(&log.all()[6..9], expected);
    assert_eq!(&log.all()[9..], ["ledger starts", "router starts", "socket starts"]);
    socket.crash().await;
    assert_eq!(&log.all()[12..], ["socket starts"]);
    let crashes: Vec<_> = tree.status().await.iter().map(|c| c.crashes_in_window).collect();
    assert_eq!(crashes, [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn two_trees_of_the_same_names_live_in_one_process() {
    let log = Log::default();
    let (a, b) = (kid("a", &log), kid("a", &log));
    let spec = |kid: &Kid| supervisor("moon", OneForOne, max(3).per(HOUR)).vital("a", kid.start.clone());
    let (one, two) = (run(spec(&a), silent()).await, run(spec(&b), silent()).await);
    sleep(MOMENT).await;
    b.address.cast(Msg::Count);
    a.crash().await;
    one.stop(MOMENT).await;
    assert_eq!((a.address.is_up(), b.count().await), (false, Some(1)));
    assert_eq!(two.status().await[0].restarts, 0);
    two.stop(MOMENT).await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_hurts_nobody() {
    let log = Log::default();
    let a = kid("a", &log);
    let sink: Sink = Arc::new(|_| panic!("the sink is broken"));
    let tree = run(supervisor("moon", OneForOne, max(3).per(HOUR)).vital("a", a.start.clone()), sink).await;
    sleep(MOMENT).await;
    a.crash().await;
    assert_eq!(a.count().await, Some(0));
    assert!(tree.stop(Duration::from_secs(1)).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_tree_is_left_behind_it() {
    let log = Log::default();
    let (a, b) = (kid("a", &log), kid("b", &log));
    let witness = Arc::new(());
    let weak = Arc::downgrade(&witness);
    let sink: Sink = Arc::new(move |_| drop(Arc::clone(&witness)));
    let branch = supervisor("branch", OneForOne, max(3).per(HOUR)).vital("b", b.start.clone());
    let spec = supervisor("moon", OneForOne, max(3).per(HOUR)).optional("a", a.start.clone()).branch(branch);
    let tree = run(spec, sink).await;
    sleep(MOMENT).await;
    for _ in 0..3 {
        a.crash().await;
        b.crash().await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!((a.starts.alive.load(SeqCst), b.starts.alive.load(SeqCst)), (1, 1));
    }
    a.address.cast(Msg::Busy(HOUR));
    tree.stop(Duration::from_secs(1)).await;
    drop(tree);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((a.starts.alive.load(SeqCst), b.starts.alive.load(SeqCst)), (0, 0));
    assert!(weak.upgrade().is_none(), "the board and its sink are gone");
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_gives_up_is_started_again_whole_and_leaves_no_child_behind() {
    let (work, notices) = (Log::default(), Log::default());
    let a = kid("a", &work);
    let branch = supervisor("branch", OneForOne, max(0).per(HOUR)).vital("a", a.start.clone());
    let tree = run(supervisor("moon", OneForOne, max(1).per(HOUR)).branch(branch), notices.sink()).await;
    sleep(MOMENT).await;
    a.crash().await; // Limit zero: the branch gives up and the root starts it again.
    sleep(MOMENT).await;
    assert_eq!(a.count().await, Some(0));
    assert_eq!(a.starts.alive.load(SeqCst), 1);
    a.crash().await;
    assert_eq!(tree.finished().await, gave_up("moon/branch/a", "boom"));
    assert_eq!(a.starts.alive.load(SeqCst), 0);
}

#[test]
#[should_panic(expected = "two actors of the tree are named a")]
fn a_name_used_twice_is_refused() {
    let log = Log::default();
    let (one, two) = (kid("a", &log), kid("a", &log));
    let branch = supervisor("branch", OneForOne, max(1).per(HOUR)).vital("a", two.start);
    let spec = supervisor("moon", OneForOne, max(1).per(HOUR)).vital("a", one.start).branch(branch);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(run(spec, silent()));
}

/// On real threads, because the end of such a child overtakes the news of its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_that_dies_right_after_its_start_is_never_missed() {
    const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    for _ in 0..25 {
        let log = Log::default();
        let kids = NAMES.map(|name| kid(name, &log));
        let mut spec = supervisor("moon", OneForOne, max(3).per(HOUR));
        for (name, kid) in NAMES.iter().zip(&kids) {
            kid.starts.dying.store(1, SeqCst);
            spec = spec.optional(name, kid.start.clone());
        }
        let tree = run(spec, silent()).await;
        let all_back = async {
            while tree.status().await.iter().any(|c| (c.phase, c.restarts, c.crashes_in_window) != (Phase::Up, 1, 1)) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), all_back).await.is_ok(), "{:?}", tree.status().await);
        assert!(tree.stop(Duration::from_secs(5)).await.is_empty());
        assert!(kids.iter().all(|kid| kid.starts.alive.load(SeqCst) == 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_blocks_a_thread_is_named_and_holds_up_the_stop_no_longer_than_its_grace() {
    let log = Log::default();
    let (first, stuck) = (kid("first", &log), kid("stuck", &log));
    let spec = supervisor("moon", OneForOne, max(3).per(HOUR))
        .vital("first", first.start.clone())
        .vital("stuck", stuck.start.clone());
    let tree = run(spec, silent()).await;
    while !(first.address.is_up() && stuck.address.is_up()) {
        sleep(Duration::from_millis(1)).await;
    }
    stuck.address.cast(Msg::Block(Duration::from_secs(3)));
    let asked = Instant::now();
    assert_eq!(tree.stop(Duration::from_millis(20)).await, ["moon/stuck"]);
    assert!(asked.elapsed() < Duration::from_millis(2800), "{:?}", asked.elapsed());
    assert!(log.all().contains(&"first ends with 0".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_child_is_made_counts_as_a_failed_start() {
    let log = Log::default();
    let good = kid("good", &log);
    let broken: StartFn = child(Address::<Msg>::new(), || -> (Worker, ()) { panic!("no arguments") });
    let spec =
        supervisor("moon", OneForOne, max(1).per(HOUR)).optional("broken", broken).vital("good", good.start.clone());
    let tree = run(spec, silent()).await;
    sleep(Duration::from_secs(5)).await;
    let status = tree.status().await;
    assert_eq!((status[0].phase, status[0].crashes_in_window, status[1].phase), (Phase::Parked, 2, Phase::Up));
    assert!(status[0].last_error.as_deref().is_some_and(|e| e.contains("no arguments")), "{:?}", status[0].last_error);
}

#[tokio::test(start_paused = true)]
async fn a_pulse_tells_a_busy_actor_from_an_idle_one_and_a_dead_one_has_none() {
    let log = Log::default();
    let a = kid("a", &log);
    let tree = run(supervisor("moon", OneForOne, max(3).per(HOUR)).optional("a", a.start.clone()), silent()).await;
    sleep(MOMENT).await;
    let pulse = a.address.pulse().clone();
    assert_eq!(pulse.busy_for(), None);
    a.address.cast(Msg::Busy(HOUR));
    sleep(HOUR / 2).await;
    let busy = pulse.busy_for().expect("in the midst of it");
    assert!(busy >= HOUR / 2 - MOMENT && busy <= HOUR / 2, "{busy:?}");
    sleep(HOUR).await;
    assert_eq!(pulse.busy_for(), None);
    a.crash().await;
    assert_eq!(pulse.busy_for(), None, "a panic ends the message");
    a.address.cast(Msg::Busy(HOUR));
    sleep(MOMENT).await;
    tree.stop(Duration::from_secs(1)).await;
    assert_eq!(pulse.busy_for(), None, "so does a kill");
}

#[tokio::test(start_paused = true)]
async fn the_supervisors_answer_also_while_a_child_hangs_and_not_when_they_are_gone() {
    let log = Log::default();
    let (a, b) = (kid("a", &log), kid("b", &log));
    let branch = supervisor("branch", RestForOne, max(3).per(HOUR)).vital("b", b.start.clone());
    let spec = supervisor("moon", OneForOne, max(3).per(HOUR)).vital("a", a.start.clone()).branch(branch);
    let tree = run(spec, silent()).await;
    sleep(MOMENT).await;
    let limit = Duration::from_secs(2);
    assert!(tree.answers(limit).await);
    a.address.cast(Msg::Busy(HOUR));
    b.address.cast(Msg::Busy(HOUR));
    sleep(MOMENT).await;
    assert!(tree.answers(limit).await, "who hangs is a child, not a supervisor");
    // Under rest-for-one a supervisor waits for those behind the child that fell: nobody is behind b, so it answers at once.
    tree.stop(Duration::from_secs(1)).await;
    assert!(!tree.answers(limit).await);
}
