//! The OpenClaw adapter against a scripted gateway that speaks recorded frames over a real socket.
//!
//! Here because what matters is what happens on the wire: greetings, pushes, refusals, broken connections. It must never
//! need a real OpenClaw, a fixed port or a fixed pause: every wait is for a state, with a deadline.

#[path = "openclaw_wire/compaction.rs"]
mod compaction;
#[path = "openclaw_wire/daemon.rs"]
mod daemon;
#[path = "openclaw_wire/fake.rs"]
mod fake;
#[path = "openclaw_wire/moved.rs"]
mod moved;
#[path = "openclaw_wire/sessions.rs"]
mod sessions;

use fake::{Client, Fake, KEY, PATIENCE, TOKEN, Unasked, eventually, hello, list, no, ok, row, store};
use moon_actors::domain::Capabilities;
use moon_actors::error::Kind;
use moon_actors::port::{Compacted, SessionHost};
use moon_actors::settings::Mode;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

#[tokio::test]
async fn the_greeting_asks_for_read_access_only_and_the_list_comes_with_the_subscription() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    let reading = client.reading().await;
    assert_eq!((reading.used_tokens, reading.window_tokens, reading.fresh), (Some(3685), Some(16000), true));
    assert_eq!((reading.session, reading.provider.as_str()), (client.session(), "openclaw"));
    let greeting = &fake.heard("connect")[0];
    assert_eq!((&greeting["minProtocol"], &greeting["maxProtocol"]), (&json!(3), &json!(4)));
    assert_eq!(greeting["scopes"], json!(["operator.read"]));
    assert_eq!(greeting["client"]["displayName"], "moon");
    assert_eq!((&greeting["client"]["id"], &greeting["client"]["mode"]), (&json!("gateway-client"), &json!("backend")));
    assert_eq!(greeting["auth"]["token"], TOKEN);
    let everything = json!({ "limit": 200, "includeGlobal": true, "includeUnknown": true, "archived": "all" });
    assert_eq!(fake.heard("sessions.subscribe"), [everything]);
    let expected = format!("OpenClaw 2026.9.6 at {}, connected, protocol 4, scopes operator.read", fake.url);
    assert_eq!(client.host.describe(), expected);
    let can = client.host.capabilities();
    assert!(can.push && !can.compact && !can.reset && !can.inject);
}

#[tokio::test]
async fn leading_asks_for_write_and_admin_and_believes_only_what_was_granted() {
    let fake = Fake::start().await;
    let client = Client::lead(&fake);
    client.reading().await;
    assert_eq!(fake.heard("connect")[0]["scopes"], json!(["operator.read", "operator.write", "operator.admin"]));
    assert!(client.host.capabilities().compact && client.host.capabilities().reset);
    let stingy = Fake::start().await;
    stingy.say("connect", ok(&hello(&json!(["operator.read"]), None)));
    let client = Client::lead(&stingy);
    client.reading().await;
    assert!(!client.host.capabilities().compact && !client.host.capabilities().reset);
}

#[tokio::test]
async fn a_pushed_change_is_read_at_once_and_rings() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    client.reading().await;
    let before = client.rings.load(Ordering::SeqCst);
    fake.push_row(&row(1_795_150_000_100, &json!({ "hasActiveRun": true })));
    client.until("running", |reading| reading.running).await;
    fake.push_row(&row(1_795_150_000_200, &json!({ "totalTokens": 9000 })));
    let reading = client.until("the new count", |reading| reading.used_tokens == Some(9000)).await;
    assert!(reading.fresh && !reading.running);
    assert_eq!(client.rings.load(Ordering::SeqCst), before + 2);
    assert_eq!(fake.heard("sessions.list").len(), 0, "pushes need no polling");
}

#[tokio::test]
async fn a_count_the_gateway_does_not_vouch_for_is_kept_but_not_fresh() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    client.reading().await;
    fake.push_row(&row(1_795_150_000_100, &json!({ "totalTokens": null, "totalTokensFresh": false })));
    assert_eq!(client.until("stale", |reading| !reading.fresh).await.used_tokens, Some(3685));
    fake.push_row(&row(1_795_150_000_200, &json!({ "totalTokens": 4007 })));
    assert_eq!(client.until("fresh", |reading| reading.fresh).await.used_tokens, Some(4007));
}

#[tokio::test]
async fn a_deleted_session_is_gone_and_a_change_that_says_nothing_is_looked_up() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    client.reading().await;
    fake.push("sessions.changed", &json!({ "sessionKey": KEY, "sessionId": "ac63a3c9", "reason": "delete" }));
    let deadline = Instant::now() + PATIENCE;
    while !client.host.readings().await.expect("connected").is_empty() {
        assert!(Instant::now() < deadline, "not deleted in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fake.push("sessions.changed", &json!({ "reason": "delete" }));
    client.until("listed again", |_| true).await;
    assert_eq!(fake.heard("sessions.list").len(), 1);
}

#[tokio::test]
async fn a_gap_in_the_events_brings_a_full_list() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    client.reading().await;
    fake.say("sessions.list", ok(&list(&[row(1_795_150_000_300, &json!({ "totalTokens": 7777 }))])));
    fake.push("tick", &json!({ "ts": 1 }));
    fake.state.seq.fetch_add(3, Ordering::SeqCst);
    fake.push("tick", &json!({ "ts": 2 }));
    client.until("what was missed", |reading| reading.used_tokens == Some(7777)).await;
}

#[tokio::test]
async fn garbage_is_ignored() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    client.reading().await;
    for garbage in ["", "{", "null", "[1]", "{\"type\":\"event\"}", "{\"type\":\"res\",\"id\":\"99\",\"ok\":true}"] {
        fake.raw(garbage);
    }
    fake.unasked(Unasked::Binary);
    fake.raw(r#"{"type":"event","event":"sessions.changed","payload":{"sessionKey":5,"session":{"key":7}}}"#);
    fake.push_row(&row(1_795_150_000_100, &json!({ "totalTokens": 5 })));
    client.until("still listening", |reading| reading.used_tokens == Some(5)).await;
    assert_eq!(fake.connections(), 1);
}

#[tokio::test]
async fn a_restart_makes_figures_stale_until_the_new_connection_has_listed() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    client.reading().await;
    fake.push("shutdown", &json!({ "reason": "restart", "restartExpectedMs": 300 }));
    fake.unasked(Unasked::Close(1012));
    assert_eq!(client.until("stale", |reading| !reading.fresh).await.used_tokens, Some(3685));
    assert!(client.host.describe().contains("not connected: the gateway closed the connection with code 1012"));
    assert_eq!(client.host.capabilities(), Capabilities::default());
    let gone = client.host.refresh().await.expect_err("not connected");
    assert_eq!((gone.code.as_str(), gone.kind), ("openclaw.unreachable", Kind::Unavailable));
    assert!(gone.cause.is_some() && gone.hint.is_some());
    client.until("fresh again", |reading| reading.fresh).await;
    assert_eq!((fake.connections(), fake.heard("sessions.subscribe").len()), (2, 2));
}

#[tokio::test]
async fn nobody_there_is_unreachable_with_a_cause_and_a_next_step() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}", free.local_addr().expect("bound"));
    drop(free);
    let home = Arc::new(tempfile::tempdir().expect("a scratch folder"));
    let client = Client::connect_from(home, &url, Mode::Observe, false);
    let error = client.host.readings().await.expect_err("nobody there");
    assert_eq!((error.code.as_str(), error.kind), ("openclaw.unreachable", Kind::Unavailable));
    assert!(error.cause.is_some() && error.hint.is_some());
    assert!(client.host.describe().contains("not connected"));
}

#[tokio::test]
async fn a_wrong_token_is_told_once_without_hammering_and_without_the_token() {
    let fake = Fake::start().await;
    let mismatch = json!({ "code": "AUTH_TOKEN_MISMATCH", "recommendedNextStep": "update_auth_credentials" });
    fake.say("connect", no("INVALID_REQUEST", &format!("unauthorized: {TOKEN}"), &mismatch));
    let client = Client::observe(&fake);
    let error = client.host.readings().await.expect_err("refused");
    assert_eq!((error.code.as_str(), error.kind), ("openclaw.unreachable", Kind::Unavailable));
    let refresh = client.host.refresh().await.expect_err("refused");
    assert_eq!((refresh.code.as_str(), refresh.kind), ("openclaw.auth_failed", Kind::Config));
    let told = format!("{error:?} {refresh:?} {} {error} {refresh}", client.host.describe());
    assert!(told.contains("AUTH_TOKEN_MISMATCH") && !told.contains(TOKEN), "{told}");
    // The shortest pause is 0.5 s: were it used here, a second connection would come within this time.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(fake.connections(), 1);
}

#[tokio::test]
async fn a_gateway_of_another_protocol_is_named() {
    let fake = Fake::start().await;
    fake.say("connect", no("INVALID_REQUEST", "protocol mismatch", &json!({ "expectedProtocol": 9 })));
    let client = Client::observe(&fake);
    let error = client.host.refresh().await.expect_err("refused");
    assert_eq!((error.code.as_str(), error.kind), ("openclaw.protocol_mismatch", Kind::Unavailable));
    assert!(error.cause.expect("a cause").contains('9'));
}

#[tokio::test]
async fn a_starting_gateway_is_asked_again_when_it_said() {
    let fake = Fake::start().await;
    let starting = json!({ "ok": false, "error": { "code": "UNAVAILABLE", "message": "gateway starting; retry shortly",
        "retryable": true, "retryAfterMs": 150, "details": { "reason": "startup-sidecars" } } });
    fake.say("connect", ok(&hello(&json!(["operator.read"]), None)));
    fake.say_first("connect", starting.clone());
    let client = Client::observe(&fake);
    let began = Instant::now();
    eventually("connected", || client.host.describe().contains("connected, protocol 4")).await;
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    assert_eq!(fake.connections(), 2);
    client.reading().await;
}

#[tokio::test]
async fn a_compaction_that_happened_gives_its_figures() {
    let fake = Fake::start().await;
    let result = json!({ "summary": "…", "firstKeptEntryId": "x", "tokensBefore": 7584, "tokensAfter": 1205 });
    fake.say("sessions.compact", ok(&json!({ "ok": true, "key": KEY, "compacted": true, "result": result })));
    let client = Client::lead(&fake);
    client.reading().await;
    let done = client.host.compact(&client.session()).await.expect("compacted");
    assert_eq!(done, Compacted { tokens_before: Some(7584), tokens_after: None }, "its figure for after is a guess");
    assert_eq!(fake.heard("sessions.compact"), [json!({ "key": KEY })], "nothing but the key: maxLines destroys");
}

#[tokio::test]
async fn every_documented_refusal_of_a_compaction_has_its_code() {
    let said = |ok: bool, reason: &str| json!({ "ok": ok, "key": KEY, "compacted": false, "reason": reason });
    let missing = json!({ "code": "MISSING_SCOPE", "missingScope": "operator.admin" });
    let changed = json!({ "reason": "session-changed" });
    let cases = [
        (ok(&said(true, "no sessionId")), "host.nothing_to_compact", Kind::Conflict),
        (ok(&said(true, "no transcript")), "host.nothing_to_compact", Kind::Conflict),
        (ok(&said(false, "Already compacted")), "host.nothing_to_compact", Kind::Conflict),
        (ok(&said(false, "Nothing to compact (session too small)")), "host.nothing_to_compact", Kind::Conflict),
        (
            ok(&said(false, "Compaction safeguard finalized summary failed quality checks.")),
            "host.compact_refused",
            Kind::Data,
        ),
        (
            no("INVALID_REQUEST", "Session x has queued work; retry after it finishes.", &json!({})),
            "host.busy",
            Kind::Transient,
        ),
        (
            no("INVALID_REQUEST", "Session x changed before compaction. Retry.", &changed),
            "host.changed",
            Kind::Conflict,
        ),
        (no("FORBIDDEN", "missing scope: operator.admin", &missing), "openclaw.scope_missing", Kind::Unavailable),
        (no("INVALID_REQUEST", "something new", &json!({})), "openclaw.refused", Kind::Unavailable),
    ];
    let fake = Fake::start().await;
    let client = Client::lead(&fake);
    client.reading().await;
    for (answer, code, kind) in cases {
        fake.say("sessions.compact", answer);
        let error = client.host.compact(&client.session()).await.expect_err(code);
        assert_eq!((error.code.as_str(), error.kind), (code, kind));
        assert!(error.cause.is_some() && error.hint.is_some(), "{error:?}");
    }
}

#[tokio::test]
async fn the_echo_of_a_finished_run_is_waited_out_but_a_real_run_is_busy_at_once() {
    let fake = Fake::start().await;
    let active = no("INVALID_REQUEST", "Session x has an active run; retry after it finishes.", &json!({}));
    let done = json!({ "ok": true, "key": KEY, "compacted": true, "result": { "tokensBefore": 10, "tokensAfter": 5 } });
    fake.say("sessions.compact", ok(&done));
    fake.say_first("sessions.compact", active.clone());
    let client = Client::lead(&fake);
    client.reading().await;
    client.host.compact(&client.session()).await.expect("compacted after the echo");
    assert_eq!(fake.heard("sessions.compact").len(), 2);
    fake.say("sessions.compact", active);
    fake.push_row(&row(1_795_150_000_100, &json!({ "hasActiveRun": true })));
    client.until("running", |reading| reading.running).await;
    let error = client.host.compact(&client.session()).await.expect_err("a turn runs");
    assert_eq!((error.code.as_str(), fake.heard("sessions.compact").len()), ("host.busy", 3));
}

#[tokio::test]
async fn a_reset_is_refused_while_a_turn_runs_and_for_another_transcript() {
    let fake = Fake::start().await;
    let client = Client::lead(&fake);
    client.reading().await;
    // The push has not come yet: the newest list decides.
    fake.say("sessions.list", ok(&list(&[row(1_795_150_000_100, &json!({ "hasActiveRun": true }))])));
    let busy = client.host.reset(&client.session()).await.expect_err("a turn runs");
    assert_eq!((busy.code.as_str(), busy.kind), ("host.busy", Kind::Transient));
    fake.say("sessions.list", ok(&list(&[row(1_795_150_000_200, &json!({ "sessionId": "other" }))])));
    let changed = client.host.reset(&client.session()).await.expect_err("another transcript");
    assert_eq!((changed.code.as_str(), changed.kind), ("host.changed", Kind::Conflict));
    assert_eq!(client.host.compact(&client.session()).await.expect_err("another transcript").code, "host.changed");
    let mut silent = row(1_795_150_000_300, &json!({}));
    silent.as_object_mut().expect("a row").remove("hasActiveRun");
    fake.say("sessions.list", ok(&list(&[])));
    client.host.refresh().await.expect("listed");
    fake.say("sessions.list", ok(&list(&[silent])));
    let unknown = client.host.reset(&client.session()).await.expect_err("nobody knows whether a turn runs");
    assert_eq!(unknown.code, "host.busy");
    assert!(fake.heard("sessions.reset").is_empty() && fake.heard("sessions.compact").is_empty());
}

#[tokio::test]
async fn a_reset_names_the_transcript_it_means_and_returns_the_one_after() {
    let fake = Fake::start().await;
    let entry =
        json!({ "sessionId": "ac63a3c9", "lifecycleRevision": "e36d57d3", "totalTokens": 0, "totalTokensFresh": true });
    fake.say("sessions.reset", ok(&json!({ "ok": true, "key": KEY, "entry": entry })));
    let client = Client::lead(&fake);
    client.reading().await;
    assert_eq!(client.host.reset(&client.session()).await.expect("reset"), "ac63a3c9");
    let asked = json!({ "key": KEY, "reason": "new", "expectedSessionId": "ac63a3c9" });
    assert_eq!(fake.heard("sessions.reset"), [asked]);
    assert_eq!(client.reading().await.generation.as_deref(), Some("e36d57d3"));
    let changed =
        no("INVALID_REQUEST", "Session x changed before reset. Retry.", &json!({ "reason": "session-changed" }));
    fake.say("sessions.reset", changed);
    assert_eq!(client.host.reset(&client.session()).await.expect_err("changed").code, "host.changed");
    fake.say("sessions.reset", ok(&json!({ "ok": false, "reason": "locked" })));
    assert_eq!(client.host.reset(&client.session()).await.expect_err("refused").code, "host.reset_refused");
}

#[tokio::test]
async fn observing_never_asks_for_an_act() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    client.reading().await;
    let compact = client.host.compact(&client.session()).await.expect_err("observing");
    let reset = client.host.reset(&client.session()).await.expect_err("observing");
    assert_eq!((compact.code.as_str(), reset.code.as_str()), ("openclaw.observe_only", "openclaw.observe_only"));
    assert!(fake.heard("sessions.compact").is_empty() && fake.heard("sessions.reset").is_empty());
}

#[tokio::test]
async fn answers_may_come_out_of_order() {
    let fake = Fake::start().await;
    let mut compacted =
        ok(&json!({ "ok": true, "compacted": true, "result": { "tokensBefore": 9, "tokensAfter": 3 } }));
    compacted["hold"] = json!(true);
    fake.say("sessions.compact", compacted);
    let client = Client::lead(&fake);
    client.reading().await;
    let session = client.session();
    let late = async {
        eventually("compact asked", || !fake.heard("sessions.compact").is_empty()).await;
        client.host.refresh().await
    };
    let (compacted, refreshed) = tokio::join!(client.host.compact(&session), late);
    assert_eq!(compacted.expect("answered last").tokens_before, Some(9));
    assert_eq!(refreshed.expect("answered first").len(), 1);
}

#[tokio::test]
async fn a_connection_lost_during_an_act_is_told_and_the_act_not_repeated() {
    let fake = Fake::start().await;
    fake.say("sessions.compact", json!({ "hold": true }));
    let client = Client::lead(&fake);
    client.reading().await;
    let session = client.session();
    let cut = async {
        eventually("compact asked", || !fake.heard("sessions.compact").is_empty()).await;
        fake.unasked(Unasked::Close(1006));
    };
    let (lost, ()) = tokio::join!(client.host.compact(&session), cut);
    let lost = lost.expect_err("no answer");
    assert_eq!((lost.code.as_str(), lost.kind), ("openclaw.connection_lost", Kind::Transient));
    client.until("back", |reading| reading.fresh).await;
    assert_eq!(fake.heard("sessions.compact").len(), 1);
}

#[tokio::test]
async fn a_long_list_is_read_page_by_page() {
    let fake = Fake::start().await;
    let at = 1_795_150_000_000;
    let page = |from: usize, next: Option<usize>| {
        let rows: Vec<_> = (from..from + 2).map(|n| row(at, &json!({ "key": format!("agent:main:{n}") }))).collect();
        json!({ "ts": at, "sessions": rows, "hasMore": next.is_some(), "nextOffset": next })
    };
    fake.say("sessions.subscribe", ok(&json!({ "subscribed": true, "list": page(0, Some(2)) })));
    fake.say("sessions.list", ok(&page(2, None)));
    let client = Client::observe(&fake);
    assert_eq!(client.host.readings().await.expect("listed").len(), 4);
    fake.say("sessions.list", ok(&page(4, None)));
    fake.say_first("sessions.list", ok(&page(0, Some(2))));
    let keys: Vec<_> = client.host.refresh().await.expect("listed").into_iter().map(|r| r.session.key.0).collect();
    assert_eq!(keys, ["agent:main:0", "agent:main:1", "agent:main:4", "agent:main:5"]);
    assert_eq!(fake.heard("sessions.list")[0]["offset"], json!(2));
}

#[tokio::test]
async fn an_older_gateway_is_watched_by_its_runs_and_never_acted_on() {
    let fake = Fake::start().await;
    let scopes = json!(["operator.read", "operator.write", "operator.admin"]);
    let old = json!({ "type": "hello-ok", "protocol": 3, "server": { "version": "dev" },
        "features": { "methods": ["sessions.list"] }, "auth": { "scopes": scopes } });
    fake.say("connect", ok(&old));
    let client = Client::lead(&fake);
    client.reading().await;
    let can = client.host.capabilities();
    assert!(!can.push && !can.compact && !can.reset);
    let refused = client.host.compact(&client.session()).await.expect_err("its compaction trims");
    assert_eq!((refused.code.as_str(), refused.kind), ("openclaw.too_old", Kind::Unavailable));
    fake.say("sessions.list", ok(&list(&[row(1_795_150_000_100, &json!({ "totalTokens": 4321 }))])));
    fake.push("agent", &json!({ "stream": "lifecycle", "data": { "phase": "end" }, "sessionKey": KEY }));
    client.until("listed after the run", |reading| reading.used_tokens == Some(4321)).await;
    assert!(fake.heard("sessions.compact").is_empty() && fake.heard("sessions.subscribe").is_empty());
}

#[tokio::test]
async fn a_device_signs_the_challenge_is_given_a_token_and_uses_it_first() {
    use data_encoding::BASE64URL_NOPAD;
    use ed25519_dalek::{Signature, Verifier, VerifyingKey};
    let fake = Fake::start().await;
    fake.say("connect", ok(&hello(&json!(["operator.read"]), Some("device-t0ken"))));
    let client = Client::connect(&fake, Mode::Observe, true);
    client.reading().await;
    let home = client.home.clone();
    let greeting = fake.heard("connect").remove(0);
    let (device, mode) = (&greeting["device"], greeting["client"]["mode"].as_str().expect("a mode"));
    let platform = greeting["client"]["platform"].as_str().expect("a platform");
    let id = device["id"].as_str().expect("an id");
    let signed =
        format!("v3|{id}|gateway-client|{mode}|operator|operator.read|1795150000000|{TOKEN}|n0nce|{platform}|");
    let bytes =
        |name: &str| BASE64URL_NOPAD.decode(device[name].as_str().expect("text").as_bytes()).expect("base64url");
    let key = VerifyingKey::from_bytes(&bytes("publicKey").try_into().expect("32 bytes")).expect("a key");
    key.verify(signed.as_bytes(), &Signature::from_slice(&bytes("signature")).expect("64 bytes")).expect("signed");
    assert_eq!((mode, &device["nonce"]), ("cli", &json!("n0nce")));
    drop(client);
    let again = Client::connect_from(home.clone(), &fake.url, Mode::Observe, true);
    again.reading().await;
    let greeting = fake.heard("connect").remove(1);
    assert_eq!((&greeting["auth"]["token"], &greeting["device"]["id"]), (&json!("device-t0ken"), &json!(id)));
    drop(again);
    assert_falls_back(&fake, home).await;
}

/// The device's token was revoked: the shared one is tried in the same breath, and the new device token is kept.
async fn assert_falls_back(fake: &Fake, home: Arc<tempfile::TempDir>) {
    fake.say("connect", ok(&hello(&json!(["operator.read"]), Some("second-t0ken"))));
    let revoked = json!({ "code": "AUTH_DEVICE_TOKEN_MISMATCH" });
    fake.say_first("connect", no("INVALID_REQUEST", "unauthorized", &revoked));
    let client = Client::connect_from(home.clone(), &fake.url, Mode::Observe, true);
    client.reading().await;
    let tokens: Vec<_> = fake.heard("connect").iter().skip(2).map(|g| g["auth"]["token"].clone()).collect();
    assert_eq!(tokens, [json!("device-t0ken"), json!(TOKEN)]);
    let stored = std::fs::read_to_string(home.path().join("state/openclaw-device.json")).expect("stored");
    assert!(stored.contains("second-t0ken"));
}

#[tokio::test]
async fn watching_goes_on_with_read_access_when_leading_is_refused() {
    let fake = Fake::start().await;
    fake.say("connect", ok(&hello(&json!(["operator.read"]), Some("device-t0ken"))));
    let client = Client::connect(&fake, Mode::Observe, true);
    client.reading().await;
    let home = client.home.clone();
    drop(client);
    let refused = no("INVALID_REQUEST", "unauthorized", &json!({ "code": "AUTH_TOKEN_MISMATCH" }));
    for _ in 0..3 {
        fake.say_first("connect", refused.clone());
    }
    let client = Client::connect_from(home, &fake.url, Mode::Lead, true);
    client.reading().await;
    let last = fake.heard("connect").pop().expect("connected");
    assert_eq!((&last["auth"]["token"], &last["scopes"]), (&json!("device-t0ken"), &json!(["operator.read"])));
    assert!(!client.host.capabilities().compact);
}

#[tokio::test]
async fn records_come_from_the_store_and_from_the_gateway_only_when_its_form_is_unknown() {
    let fake = Fake::start().await;
    let message = |seq: i64| {
        json!({ "role": "user", "content": format!("m{seq}"), "timestamp": 1_795_150_100_101_i64,
            "__openclaw": { "id": format!("id{seq}"), "transcriptPosition": { "source": "x", "rawSeq": seq } } })
    };
    fake.say("sessions.get", ok(&json!({ "messages": [message(4), message(9)] })));
    let client = Client::observe(&fake);
    client.reading().await;
    let missing = client.host.records(&client.session(), -1, 1 << 20).await.expect_err("no store");
    assert_eq!((missing.code.as_str(), missing.kind), ("openclaw.store_missing", Kind::Unavailable));
    let rows = "session_id TEXT, seq INTEGER, event_json TEXT";
    let db = store(client.home.path(), &format!("CREATE TABLE transcript_events ({rows});"));
    let shown = client.host.records(&client.session(), 5, 1 << 20).await.expect("shown by the gateway");
    assert_eq!((shown.source.kind.as_str(), shown.records.len(), shown.records[0].seq), ("openclaw-rpc", 1, 9));
    fake.say("sessions.get", no("UNAVAILABLE", "not now", &json!({})));
    let unknown = client.host.records(&client.session(), -1, 1 << 20).await.expect_err("neither");
    assert_eq!((unknown.code.as_str(), unknown.kind), ("openclaw.schema_unknown", Kind::Data));
    db.execute_batch(
        "ALTER TABLE transcript_events ADD event_zstd BLOB; ALTER TABLE transcript_events ADD event_utf8_bytes INTEGER;
         INSERT INTO transcript_events VALUES ('ac63a3c9', 0, '{\"type\":\"session\"}', NULL, 18);",
    )
    .expect("the form that is known");
    let stored = client.host.records(&client.session(), -1, 1 << 20).await.expect("stored");
    assert_eq!(
        (stored.source.kind.as_str(), stored.records[0].bytes.as_slice()),
        ("openclaw-sqlite", &b"{\"type\":\"session\"}"[..])
    );
}

#[tokio::test]
async fn the_generation_is_looked_up_in_the_store_after_each_change() {
    let fake = Fake::start().await;
    let client = Client::observe(&fake);
    let db = store(
        client.home.path(),
        "CREATE TABLE session_nodes (session_key TEXT PRIMARY KEY, entry_json TEXT);
        INSERT INTO session_nodes VALUES ('agent:main:main', '{\"lifecycleRevision\":\"r1\"}');",
    );
    assert_eq!(client.reading().await.generation.as_deref(), Some("r1"));
    db.execute_batch("UPDATE session_nodes SET entry_json = '{\"lifecycleRevision\":\"r2\"}'").expect("a reset");
    fake.push_row(&row(1_795_150_000_100, &json!({ "totalTokens": 0 })));
    let reading = client.until("the reset", |reading| reading.used_tokens == Some(0)).await;
    assert_eq!(reading.generation.as_deref(), Some("r2"));
}
