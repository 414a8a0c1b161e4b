//! What a compaction does to the figures, on the wire.
//!
//! The rows are those that OpenClaw 2026.9.6 gave before and after a compaction. It must never take a guess for a count.

use super::fake::{Client, Fake, KEY, list, ok, row};
use moon_actors::port::SessionHost;
use serde_json::{Value, json};

const AT: i64 = 1_795_150_000_000;

/// A compaction takes the last run's figures away and leaves a small count that it calls fresh.
fn after_compaction(at: i64) -> Value {
    row(at, &json!({ "totalTokens": 946, "inputTokens": null, "outputTokens": null, "lastRunId": "r1" }))
}

fn after_next_run(at: i64) -> Value {
    row(at, &json!({ "totalTokens": 3746, "inputTokens": 3746, "outputTokens": 100, "lastRunId": "r2" }))
}

#[tokio::test]
async fn after_moons_own_compaction_no_count_is_fresh_until_the_next_run_has_ended() {
    let fake = Fake::start().await;
    let result = json!({ "tokensBefore": 4290, "tokensAfter": 946 });
    fake.say("sessions.compact", ok(&json!({ "ok": true, "key": KEY, "compacted": true, "result": result })));
    fake.say("sessions.list", ok(&list(&[after_compaction(AT + 100)])));
    let client = Client::lead(&fake);
    assert!(client.reading().await.fresh);
    client.host.compact(&client.session()).await.expect("compacted");
    let reading = client.reading().await;
    assert_eq!((reading.used_tokens, reading.fresh), (Some(946), false));
    let mut listed = client.host.refresh().await.expect("listed");
    assert!(!listed.remove(0).fresh, "a list says nothing new");
    fake.push_row(&after_next_run(AT + 200));
    assert_eq!(client.until("the run's count", |reading| reading.fresh).await.used_tokens, Some(3746));
}

#[tokio::test]
async fn a_gateway_whose_row_does_not_tell_of_moons_compaction_is_not_believed_either() {
    let fake = Fake::start().await;
    fake.say("sessions.compact", ok(&json!({ "ok": true, "key": KEY, "compacted": true })));
    // The end of the run before the compaction comes with the list after it.
    fake.say("sessions.list", ok(&list(&[row(AT + 100, &json!({ "lastRunId": "r1", "outputTokens": 7 }))])));
    let client = Client::lead(&fake);
    client.reading().await;
    client.host.compact(&client.session()).await.expect("compacted");
    assert!(!client.reading().await.fresh);
    client.host.refresh().await.expect("listed");
    assert!(!client.reading().await.fresh);
    fake.push_row(&after_next_run(AT + 200));
    client.until("fresh after the run", |reading| reading.fresh).await;
}

#[tokio::test]
async fn a_compaction_that_was_refused_takes_no_trust_away() {
    let fake = Fake::start().await;
    fake.say("sessions.compact", ok(&json!({ "ok": false, "compacted": false, "reason": "Already compacted" })));
    let client = Client::lead(&fake);
    client.reading().await;
    client.host.compact(&client.session()).await.expect_err("nothing to compact");
    assert!(client.reading().await.fresh);
}

#[tokio::test]
async fn after_somebody_elses_compaction_no_count_is_fresh_until_the_next_run_has_ended() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    assert!(client.reading().await.fresh);
    let told = |compacted: bool, at: i64| json!({ "sessionKey": KEY, "reason": "compact", "compacted": compacted, "session": row(at, &json!({ "totalTokens": at - AT })) });
    fake.push("sessions.changed", &told(false, AT + 100));
    assert!(client.until("nothing done", |reading| reading.used_tokens == Some(100)).await.fresh);
    fake.push("sessions.changed", &told(true, AT + 200));
    assert!(!client.until("compacted", |reading| reading.used_tokens == Some(200)).await.fresh);
    fake.push_row(&row(AT + 300, &json!({ "totalTokens": 200, "hasActiveRun": true })));
    assert!(!client.until("a run begins", |reading| reading.running).await.fresh);
    fake.push_row(&after_next_run(AT + 400));
    client.until("fresh after the run", |reading| reading.fresh).await;
}

#[tokio::test]
async fn a_compaction_without_a_row_is_heard_too() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    assert!(client.reading().await.fresh);
    fake.push("sessions.changed", &json!({ "sessionKey": KEY, "reason": "compact", "compacted": true }));
    client.until("stale", |reading| !reading.fresh).await;
}
