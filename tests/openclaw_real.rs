//! Moon's connection to a real OpenClaw gateway: what is claimed of its figures and of its doors.
//!
//! Here because the scripted gateway only says what was once recorded. It must never start a gateway for one question alone:
//! each takes seconds.

mod support;

use moon::adapters::openclaw::{OpenClaw, discover};
use moon_actors::domain::UsageReading;
use moon_actors::port::SessionHost;
use moon_actors::settings::{self, Mode};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use support::gateway::{Gateway, SESSION};
use support::mock_model::MockModel;
use support::peers_or_skip;

const PATIENCE: Duration = Duration::from_secs(30);

fn connect(gateway: &Gateway, home: &Path, mode: Mode) -> OpenClaw {
    let state_dir = gateway.state_dir().display().to_string();
    let settings = settings::OpenClaw { mode, state_dir, ..settings::OpenClaw::default() };
    OpenClaw::connect(&settings, &discover(&settings).expect("found"), home)
}

async fn until(host: &OpenClaw, what: &str, is_so: impl Fn(&UsageReading) -> bool) -> UsageReading {
    let began = Instant::now();
    loop {
        let readings = host.readings().await.expect("connected");
        if let Some(reading) = readings.iter().find(|r| r.session.key.as_str() == SESSION && is_so(r)) {
            return reading.clone();
        }
        assert!(began.elapsed() < PATIENCE, "never seen: {what}: {readings:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn connected(host: &OpenClaw, scopes: &str) {
    let began = Instant::now();
    while !host.describe().ends_with(&format!("connected, protocol 4, scopes {scopes}")) {
        assert!(began.elapsed() < PATIENCE, "{}", host.describe());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_and_doors_of_a_real_gateway_are_as_claimed() {
    let Some(peers) = peers_or_skip("figures_and_doors_of_a_real_gateway_are_as_claimed") else { return };
    let model = MockModel::start(None).await;
    let mut gateway = Gateway::prepare(&peers, &model.base_url(), json!({"enabled": false}));
    gateway.start().await;
    let home = gateway.scratch().join("moon");
    let host = connect(&gateway, &home, Mode::Lead);
    no_count_is_fresh_between_a_compaction_and_the_next_run(&gateway, &host).await;
    an_archived_session_is_still_seen(&gateway, &host).await;
    drop(host);
    a_device_keeps_what_it_was_granted_until_it_is_removed(&gateway, &home).await;
}

async fn no_count_is_fresh_between_a_compaction_and_the_next_run(gateway: &Gateway, host: &OpenClaw) {
    for turn in 0..3 {
        gateway.send(&format!("turn {turn} [[reply:500]]")).await;
    }
    let before = until(host, "a count", |r| r.fresh && !r.running).await;
    let done = host.compact(&before.session).await.expect("compacted");
    assert!(done.tokens_before >= before.used_tokens && done.tokens_after.is_none(), "{done:?}");
    assert!(!until(host, "the session", |_| true).await.fresh);
    host.refresh().await.expect("listed");
    let guess = until(host, "a guess", |r| !r.fresh).await;
    gateway.send("and on [[reply:100]]").await;
    let after = until(host, "the next run's count", |r| r.fresh).await;
    assert!(guess.used_tokens < after.used_tokens, "the guess leaves the instructions out: {guess:?} {after:?}");
    // The same by another hand.
    assert_eq!(gateway.compact(SESSION).await["compacted"], true);
    until(host, "stale", |r| !r.fresh && !r.running).await;
    gateway.send("and on [[reply:100]]").await;
    until(host, "the next run's count", |r| r.fresh).await;
}

async fn an_archived_session_is_still_seen(gateway: &Gateway, host: &OpenClaw) {
    let other = "agent:main:other";
    gateway.send_to(other, "hello").await;
    let row = gateway.call("sessions.describe", json!({ "key": other })).await.expect("there");
    let id = row["session"]["sessionId"].as_str().or_else(|| row["sessionId"].as_str()).expect("an id").to_owned();
    let archive = json!({ "key": other, "archived": true, "expectedSessionId": id });
    gateway.call("sessions.patch", archive).await.expect("archived");
    let plain = gateway.call("sessions.list", json!({})).await.expect("listed");
    assert!(!plain.to_string().contains(other), "a plain list leaves it out");
    let readings = host.refresh().await.expect("listed");
    let seen = readings.iter().find(|r| r.session.key.as_str() == other).expect("in Moon's list");
    assert!(!seen.fresh && seen.session.session_id == id, "{seen:?}");
}

async fn granted(gateway: &Gateway) -> Vec<Value> {
    let devices = gateway.call("device.pair.list", json!({})).await.expect("the devices");
    devices["paired"].as_array().expect("a list").clone()
}

/// What `docs/security.md` says under "Shutting Moon out".
async fn a_device_keeps_what_it_was_granted_until_it_is_removed(gateway: &Gateway, home: &Path) {
    let host = connect(gateway, home, Mode::Observe);
    connected(&host, "operator.read").await;
    assert!(!host.capabilities().compact && !host.capabilities().reset);
    let device = granted(gateway).await.pop().expect("Moon's device");
    assert!(device["scopes"].to_string().contains("operator.admin"), "what lead was granted stays: {device}");
    let id = device["deviceId"].clone();
    gateway.call("device.pair.remove", json!({ "deviceId": id })).await.expect("removed");
    let began = Instant::now();
    while granted(gateway).await.is_empty() {
        assert!(began.elapsed() < PATIENCE, "not paired anew: {}", host.describe());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    connected(&host, "operator.read").await;
    assert_eq!(granted(gateway).await[0]["scopes"], json!(["operator.read"]));
    drop(host);
    connected(&connect(gateway, home, Mode::Lead), "operator.read operator.write operator.admin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_share_one_key_are_all_seen_and_compacted_apart() {
    let Some(peers) = peers_or_skip("agents_that_share_one_key_are_all_seen_and_compacted_apart") else { return };
    let model = MockModel::start(None).await;
    let mut gateway = Gateway::prepare(&peers, &model.base_url(), json!({"enabled": false}));
    let workspace = gateway.state_dir().join("workspace");
    let mut config = gateway.config();
    config["session"] = json!({ "scope": "global" });
    config["agents"]["list"] =
        json!([{ "id": "main", "default": true, "workspace": workspace }, { "id": "second", "workspace": workspace }]);
    std::fs::write(gateway.config_path(), config.to_string()).expect("written");
    gateway.start().await;
    for agent in ["main", "second"] {
        let key = format!("first-{agent}");
        let params =
            json!({ "message": format!("hello {agent} [[reply:500]]"), "agentId": agent, "idempotencyKey": key });
        let run = gateway.call("agent", params).await.expect("accepted")["runId"].as_str().unwrap_or(&key).to_owned();
        let ended = gateway.call("agent.wait", json!({ "runId": run, "timeoutMs": 55_000 })).await.expect("ended");
        assert_eq!(ended["status"], "ok", "{ended}");
    }
    let host = connect(&gateway, &gateway.scratch().join("moon"), Mode::Lead);
    host.readings().await.expect("connected");
    let readings = host.refresh().await.expect("listed");
    let keys: Vec<_> = readings.iter().map(|reading| reading.session.key.as_str()).collect();
    assert_eq!(keys, ["agent:second:global", "global"]);
    for reading in &readings {
        let page = host.records(&reading.session, -1, 1 << 20).await.expect("its own agent's store has it");
        assert!(!page.records.is_empty(), "{reading:?}");
    }
    host.compact(&readings[0].session).await.expect("the second agent's is compacted");
    let fresh: Vec<_> = host.readings().await.expect("listed").iter().map(|reading| reading.fresh).collect();
    assert_eq!(fresh, [false, true], "the other one is as it was");
}
