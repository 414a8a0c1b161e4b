//! Beyond the limit: who is parked, who takes others along, and what is started again with them.

use super::kids::*;
use moon_actors::supervisor::*;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::sleep;

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
