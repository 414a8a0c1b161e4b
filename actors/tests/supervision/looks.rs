//! What a tree shows of itself: names, pulses, and answers while a child hangs.

use super::kids::*;
use moon_actors::supervisor::*;
use std::time::Duration;
use tokio::time::sleep;

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
