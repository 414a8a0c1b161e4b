//! Ends that somebody asked for: restarts by name, the stop of a tree, and whoever does not end by itself.

use super::kids::*;
use moon_actors::supervisor::*;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::{Instant, sleep};

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
