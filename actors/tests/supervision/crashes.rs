//! Crashes and what follows: a child comes back at its address, fresh, at once or after a pause, however it ended or failed to start.

use super::kids::*;
use moon_actors::supervisor::*;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::{Instant, sleep};

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
