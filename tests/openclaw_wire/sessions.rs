//! Which sessions are asked for, and whose they are.
//!
//! What a gateway leaves out of its list nobody archives. It must never lose a session because of an older release's manners.

use super::fake::{Client, Fake, hello, list, no, ok, row, store};
use moon_actors::domain::{SessionRef, UsageReading};
use moon_actors::error::Kind;
use moon_actors::port::SessionHost;
use serde_json::{Value, json};

const AT: i64 = 1_795_150_000_000;

fn words(asked: &[Value]) -> Vec<(bool, bool)> {
    asked.iter().map(|params| (params.get("includeGlobal").is_some(), params.get("archived").is_some())).collect()
}

#[tokio::test]
async fn a_gateway_that_refuses_a_word_is_asked_for_less_and_not_asked_again() {
    let refused = no("INVALID_REQUEST", "invalid params: at root: unexpected property 'archived'", &json!({}));
    let fake = Fake::start().await;
    fake.say_first("sessions.subscribe", refused.clone());
    let client = Client::observe(&fake);
    client.reading().await;
    client.host.refresh().await.expect("listed");
    assert_eq!(words(&fake.heard("sessions.subscribe")), [(true, true), (true, false)]);
    assert_eq!(words(&fake.heard("sessions.list")), [(true, false)]);
    let older = Fake::start().await;
    older.say_first("sessions.subscribe", refused.clone());
    older.say_first("sessions.subscribe", refused);
    Client::observe(&older).reading().await;
    assert_eq!(words(&older.heard("sessions.subscribe")), [(true, true), (true, false), (false, false)]);
    assert_eq!(older.connections(), 1, "a refused word is no broken connection");
}

#[tokio::test]
async fn archived_and_global_sessions_are_seen_and_archived_ones_never_acted_on() {
    let fake = Fake::start().await;
    let rows = [
        row(AT, &json!({ "key": "agent:main:old", "archived": true })),
        row(AT, &json!({ "key": "global", "kind": "global" })),
    ];
    fake.say("sessions.subscribe", ok(&json!({ "subscribed": true, "list": list(&rows) })));
    let client = Client::observe(&fake);
    let readings = client.host.readings().await.expect("listed");
    let seen: Vec<_> = readings.iter().map(|r| (r.session.key.as_str(), r.fresh)).collect();
    assert_eq!(seen, [("agent:main:old", false), ("global", true)], "only a fresh count can trigger anything");
}

#[tokio::test]
async fn a_session_whose_agent_nobody_named_is_unavailable_until_the_gateway_says_it() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    client.reading().await;
    store(
        client.home.path(),
        "CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT, event_zstd BLOB, event_utf8_bytes INTEGER);
         INSERT INTO transcript_events VALUES ('g1', 0, '{\"type\":\"session\"}', NULL, 18);",
    );
    let global = SessionRef { key: "global".into(), session_id: "g1".into() };
    let unknown = client.host.records(&global, -1, 1 << 20).await.expect_err("whose is it?");
    assert_eq!((unknown.code.as_str(), unknown.kind), ("openclaw.agent_unknown", Kind::Unavailable));
    assert!(unknown.cause.is_some() && unknown.hint.is_some());
    fake.push_row(&row(AT + 1, &json!({ "key": "global", "sessionId": "g1" })));
    client.until("the row", |reading| reading.session == global).await;
    assert_eq!(client.host.records(&global, -1, 1 << 20).await.expect("read").records.len(), 1);
}

/// Two agents with one session each under the same key, as `session.scope = "global"` makes them.
fn two_agents(fake: &Fake) {
    let mut hello = hello(&json!(["operator.read", "operator.write", "operator.admin"]), None);
    hello["snapshot"] = json!({ "sessionDefaults": { "defaultAgentId": "main", "scope": "global" } });
    fake.say("connect", ok(&hello));
    fake.say("agents.list", ok(&json!({ "defaultId": "main", "agents": [{ "id": "main" }, { "id": "second" }] })));
    let of = |agent: &str, id: &str| list(&[row(AT, &json!({ "key": "global", "agentId": agent, "sessionId": id }))]);
    fake.say("sessions.subscribe", ok(&json!({ "subscribed": true, "list": of("main", "m1") })));
    fake.say("sessions.list", ok(&of("second", "s1")));
    fake.say_first("sessions.list", ok(&of("main", "m1")));
}

#[tokio::test]
async fn sessions_of_several_agents_with_one_key_are_all_listed_and_kept_apart() {
    let fake = Fake::start().await;
    two_agents(&fake);
    let client = Client::lead(&fake);
    let readings = client.host.readings().await.expect("listed");
    let seen = |readings: &[UsageReading]| -> Vec<_> {
        readings.iter().map(|r| (r.session.key.0.clone(), r.session.session_id.clone())).collect()
    };
    let both = [("agent:second:global".to_owned(), "s1".to_owned()), ("global".to_owned(), "m1".to_owned())];
    assert_eq!(seen(&readings), both);
    assert_eq!(fake.heard("sessions.list")[1]["agentId"], "second");
    let pushed = row(AT + 100, &json!({ "key": "global", "agentId": "second", "sessionId": "s1", "totalTokens": 77 }));
    fake.push("sessions.changed", &json!({ "sessionKey": "global", "agentId": "second", "session": pushed }));
    let reading = client.until("the second agent's", |reading| reading.used_tokens == Some(77)).await;
    assert_eq!(reading.session.key.as_str(), "agent:second:global");
    assert_eq!(seen(&client.host.readings().await.expect("listed")), both);

    two_agents(&fake);
    fake.say("sessions.compact", ok(&json!({ "ok": true, "compacted": true })));
    client.host.compact(&reading.session).await.expect("compacted");
    assert_eq!(fake.heard("sessions.compact"), [json!({ "key": "global", "agentId": "second" })]);
    fake.push("sessions.changed", &json!({ "sessionKey": "global", "agentId": "second", "reason": "delete" }));
    client.until("the first agent's is left", |reading| reading.session.session_id == "m1").await;
}
