//! Moon's bridge in a real OpenClaw gateway, with a model that records what it is shown.
//!
//! Order is proven by events and by content, never by a clock: a text that is put into its slot only after the gateway
//! announced the compaction, and arrives all the same, proves that the gateway waited.

mod support;

use moon::adapters::bridge_dir::BridgeDir;
use moon::adapters::openclaw::install::{Installer, Report, StepState};
use moon_actors::domain::{SessionKey, Sha256};
use moon_actors::port::{Bridge, BridgeEvent, BridgeEventKind as Kind, Slot};
use moon_actors::settings::{Mode, OpenClaw};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::gateway::{Gateway, SESSION};
use support::mock_model::{MockModel, text_of_role};
use support::peers_or_skip;

const PATIENCE: Duration = Duration::from_secs(30);

fn installer(gateway: &Gateway, home: &Path) -> Installer {
    let settings = OpenClaw { command: gateway.command().display().to_string(), ..OpenClaw::default() };
    Installer::new(home, &settings).with_environment(gateway.environment())
}

fn moon_home(gateway: &Gateway) -> PathBuf {
    gateway.scratch().join("moon")
}

/// Reads the spool from its beginning until `enough` says so.
async fn events_until(bridge: &BridgeDir, what: &str, enough: impl Fn(&[BridgeEvent]) -> bool) -> Vec<BridgeEvent> {
    let began = Instant::now();
    loop {
        let (events, _) = bridge.events(0).await.expect("the spool is readable");
        if enough(&events) {
            return events;
        }
        assert!(began.elapsed() < PATIENCE, "never seen: {what}; seen: {events:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn alive(bridge: &BridgeDir, gateway: &Gateway) {
    let began = Instant::now();
    while !bridge.status().await.alive {
        assert!(began.elapsed() < PATIENCE, "the plugin was never loaded\n{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn is_turn_of_the_model(request: &Value) -> bool {
    !text_of_role(request, "system").to_lowercase().contains("summarization assistant")
}

#[tokio::test(flavor = "multi_thread")]
async fn moons_texts_reach_the_model_and_a_compaction_waits_for_moon() {
    let name = "moons_texts_reach_the_model_and_a_compaction_waits_for_moon";
    let Some(peers) = peers_or_skip(name) else { return };
    let model = MockModel::start(None).await;
    let mut gateway = Gateway::prepare(&peers, &model.base_url(), json!({"enabled": false}));
    let home = moon_home(&gateway);
    installer(&gateway, &home).install(Mode::Lead, false).await.expect("installed");
    let bridge = BridgeDir::open(&home).expect("the bridge's folder");
    gateway.start().await;
    alive(&bridge, &gateway).await;

    a_block_is_in_every_model_call_of_its_session_only(&model, &gateway, &bridge).await;
    a_passage_is_in_one_run_only_and_never_in_the_instructions(&model, &gateway, &bridge).await;
    a_compaction_waits_and_takes_moons_summary(&model, &gateway, &bridge).await;
    an_overflow_in_a_turn_waits_for_moon_too(&model, &gateway, &bridge).await;
    the_block_survives_a_reset(&model, &gateway, &bridge).await;
    without_the_folder_everything_goes_on(&model, &gateway, &bridge, &home).await;
}

async fn a_block_is_in_every_model_call_of_its_session_only(model: &MockModel, gateway: &Gateway, bridge: &BridgeDir) {
    gateway.send("before the block").await;
    events_until(bridge, "a call without the block", |e| e.iter().any(|e| e.kind == Kind::NotInjected)).await;
    let hash = bridge.place(&SESSION.into(), Slot::Context, "MOON-BLOCK port 7777").await.expect("placed");
    for turn in 1..=3 {
        gateway.send(&format!("turn {turn} [[reply:400]]")).await;
    }
    gateway.send_to("agent:main:other", "elsewhere").await;
    let requests: Vec<Value> = model.requests().into_iter().filter(is_turn_of_the_model).collect();
    let carriers: Vec<bool> =
        requests.iter().map(|r| text_of_role(r, "system").contains("MOON-BLOCK port 7777")).collect();
    assert_eq!(carriers, [false, true, true, true, false]);
    let injected = Kind::Injected { slot: Slot::Context, sha256: hash };
    let count = |e: &[BridgeEvent]| e.iter().filter(|e| e.kind == injected).count();
    let events = events_until(bridge, "three injections", |e| count(e) == 3).await;
    assert!(events.iter().filter(|e| e.kind == injected).all(|e| e.session == Some(SessionKey::from(SESSION))));
    events_until(bridge, "five turns", |e| e.iter().filter(|e| e.kind == Kind::TurnEnded).count() == 5).await;
}

async fn a_passage_is_in_one_run_only_and_never_in_the_instructions(
    model: &MockModel,
    gateway: &Gateway,
    bridge: &BridgeDir,
) {
    let hash = bridge.place(&SESSION.into(), Slot::Passage, "RECALLED the cat is called Ada").await.expect("placed");
    gateway.send("what is the cat called?").await;
    gateway.send("and the dog?").await;
    let with: Vec<Value> = model.requests_with("RECALLED the cat is called Ada");
    assert_eq!(with.len(), 1, "one model call");
    assert!(text_of_role(&with[0], "user").contains("RECALLED"));
    assert!(!text_of_role(&with[0], "system").contains("RECALLED"), "data, not instructions");
    assert_eq!(bridge.placed(&SESSION.into(), Slot::Passage).await.expect("readable"), None);
    let injected = Kind::Injected { slot: Slot::Passage, sha256: hash };
    events_until(bridge, "one passage", |e| e.iter().filter(|e| e.kind == injected).count() == 1).await;
}

async fn a_compaction_waits_and_takes_moons_summary(model: &MockModel, gateway: &Gateway, bridge: &BridgeDir) {
    bridge.heartbeat().await.expect("alive");
    let calls_before = model.requests().len();
    let moon = async {
        let events = events_until(bridge, "the compaction", |e| e.iter().any(|e| waiting_id(e).is_some())).await;
        let id = events.iter().find_map(waiting_id).expect("just seen");
        assert!(!events.iter().any(|e| e.kind == Kind::AfterCompaction), "nothing is reduced before Moon agrees");
        // Only now: were the compaction not waiting, it could not have this text.
        bridge.place(&SESSION.into(), Slot::Summary, "MOON-SUMMARY decided port 7777").await.expect("placed");
        bridge.acknowledge(&id).await.expect("acknowledged");
        id
    };
    // As a Moon would that was killed meanwhile and has just come back.
    let again = async {
        events_until(bridge, "the compaction", |e| e.iter().any(|e| waiting_id(e).is_some())).await;
        gateway.call("sessions.compact", json!({"key": SESSION})).await.expect("an answer")
    };
    let (answer, id, again) = tokio::join!(gateway.compact(SESSION), moon, again);
    assert_eq!(answer["compacted"], true, "{answer}");
    assert_eq!((&again["compacted"], &again["reason"]), (&json!(false), &json!("Already compacted")), "done once");
    assert!(answer.to_string().contains("MOON-SUMMARY decided port 7777"), "{answer}");
    assert_eq!(model.requests().len(), calls_before, "no model call for the summary");
    let events = events_until(bridge, "the end of it", |e| e.iter().any(|e| e.kind == Kind::AfterCompaction)).await;
    let kinds: Vec<&Kind> = events.iter().map(|e| &e.kind).collect();
    let place = |kind: &Kind| kinds.iter().position(|k| *k == kind).unwrap_or_else(|| panic!("{kind:?} in {kinds:?}"));
    let summary = Kind::Injected { slot: Slot::Summary, sha256: Sha256::of(b"MOON-SUMMARY decided port 7777") };
    assert!(place(&Kind::BeforeCompaction { id: id.clone() }) < place(&Kind::Other("compaction_released".into())));
    assert!(place(&Kind::Other("compaction_released".into())) < place(&summary));
    assert!(place(&summary) < place(&Kind::AfterCompaction));
    assert_eq!(bridge.placed(&SESSION.into(), Slot::Summary).await.expect("readable"), None, "used up");
    gateway.send("what was decided?").await;
    let last = model.requests().pop().expect("a call");
    assert!(text_of_role(&last, "user").contains("MOON-SUMMARY decided port 7777"));
    assert!(text_of_role(&last, "system").contains("MOON-BLOCK"), "the block outlives a compaction");
}

fn waiting_id(event: &BridgeEvent) -> Option<String> {
    match &event.kind {
        Kind::BeforeCompaction { id } => Some(id.clone()),
        _ => None,
    }
}

/// The safety net that stays when Moon leads: the provider refuses, OpenClaw compacts in the middle of a turn and tries again.
async fn an_overflow_in_a_turn_waits_for_moon_too(model: &MockModel, gateway: &Gateway, bridge: &BridgeDir) {
    // OpenClaw refuses to compact a short session.
    for turn in 1..=6 {
        gateway.send(&format!("long {turn} [[reply:1400]]")).await;
    }
    bridge.heartbeat().await.expect("alive");
    let (_, start) = bridge.events(0).await.expect("readable");
    let size = model.requests().pop().expect("a call").to_string().len() as u64 / 4;
    model.set_limit(Some(size));
    let moon = async {
        let began = Instant::now();
        let id = loop {
            let (events, _) = bridge.events(start).await.expect("readable");
            if let Some(id) = events.iter().find_map(waiting_id) {
                break id;
            }
            assert!(began.elapsed() < PATIENCE, "no compaction; {events:?}\n{}", gateway.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        bridge.place(&SESSION.into(), Slot::Summary, "MOON-RESCUE of the long turns").await.expect("placed");
        bridge.acknowledge(&id).await.expect("acknowledged");
    };
    tokio::join!(gateway.send("one more"), moon);
    model.set_limit(None);
    let last = model.requests().pop().expect("a call");
    assert!(text_of_role(&last, "user").contains("MOON-RESCUE of the long turns"), "{last}");
    assert!(text_of_role(&last, "system").contains("MOON-BLOCK"), "the retry carries the block");
}

async fn the_block_survives_a_reset(model: &MockModel, gateway: &Gateway, bridge: &BridgeDir) {
    let began = Instant::now();
    while let Err(error) = gateway.call("sessions.reset", json!({"key": SESSION, "reason": "new"})).await {
        assert!(began.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    events_until(bridge, "the end of the window", |e| e.iter().any(|e| e.kind == Kind::WindowEnding)).await;
    gateway.send("after the reset").await;
    let last = model.requests().pop().expect("a call");
    assert!(!last.to_string().contains("MOON-SUMMARY"), "a new window");
    assert!(text_of_role(&last, "system").contains("MOON-BLOCK"));
}

async fn without_the_folder_everything_goes_on(model: &MockModel, gateway: &Gateway, bridge: &BridgeDir, home: &Path) {
    bridge.clear(&SESSION.into(), Slot::Context).await.expect("cleared");
    std::fs::remove_dir_all(home).expect("removed");
    for turn in 1..=4 {
        gateway.send(&format!("alone {turn} [[reply:400]]")).await;
    }
    assert!(!model.requests().pop().expect("a call").to_string().contains("MOON-BLOCK"));
    let answer = gateway.compact(SESSION).await;
    assert_eq!(answer["compacted"], true, "{answer}");
    assert!(!answer.to_string().contains("MOON-SUMMARY"), "OpenClaw summarised by itself");
    assert!(!home.exists(), "the plugin makes no folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_into_a_running_gateway_with_moon_away_nothing_waits() {
    let Some(peers) = peers_or_skip("installed_into_a_running_gateway_with_moon_away_nothing_waits") else { return };
    let model = MockModel::start(None).await;
    let mut gateway = Gateway::prepare(&peers, &model.base_url(), json!({"slots": {"memory": "none"}}));
    gateway.start().await;
    let home = moon_home(&gateway);
    installer(&gateway, &home).install(Mode::Observe, false).await.expect("installed");
    let bridge = BridgeDir::open(&home).expect("the bridge's folder");
    alive(&bridge, &gateway).await;
    for turn in 1..=4 {
        gateway.send(&format!("turn {turn} [[reply:400]]")).await;
    }
    // A heartbeat of a daemon that is gone: the process exists no more.
    let mut gone = std::process::Command::new("true").spawn().expect("runs");
    gone.wait().expect("ends");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let beat = json!({"pid": gone.id(), "at": u64::try_from(now).expect("fits"), "freshMs": 180_000});
    std::fs::write(home.join("bridge/daemon.json"), beat.to_string()).expect("written");
    let answer = gateway.compact(SESSION).await;
    assert_eq!(answer["compacted"], true, "{answer}");
    let events = events_until(&bridge, "the compaction", |e| e.iter().any(|e| e.kind == Kind::AfterCompaction)).await;
    assert!(!events.iter().any(|e| e.kind == Kind::Other("compaction_released".into())), "it never waited");
    let spool = std::fs::read_to_string(home.join("bridge/events.jsonl")).expect("there");
    assert!(spool.contains("\"waiting\":false") && !spool.contains("turn 1"), "figures, no texts");
    assert!(installer(&gateway, &home).verify(Mode::Observe).await.expect("verified").iter().all(|c| c.holds));
    // A newer Moon brings a newer plugin: the running gateway is told.
    let file = home.join("openclaw/moon-bridge/index.js");
    std::fs::write(&file, "export default { id: 'moon-bridge', register() {} };\n").expect("an old one");
    let upgraded = installer(&gateway, &home).install(Mode::Observe, false).await.expect("upgraded");
    assert!(upgraded.notes.iter().any(|note| note.contains("reloaded")), "{upgraded:?}");
    alive(&bridge, &gateway).await;
    gateway.send("with the new plugin").await;
    let began = Instant::now();
    installer(&gateway, &home).uninstall(false).await.expect("uninstalled");
    while bridge.status().await.alive {
        assert!(began.elapsed() < PATIENCE, "the running gateway keeps the plugin\n{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (_, position) = bridge.events(0).await.expect("readable");
    gateway.send("without the plugin").await;
    assert_eq!(bridge.events(position).await.expect("readable").0, []);
}

fn config_with_foreign_plugins(gateway: &Gateway) -> Value {
    let other = gateway.scratch().join("other");
    std::fs::create_dir(&other).expect("folder");
    let manifest = json!({"id": "other", "name": "Other", "configSchema": {"type": "object"}});
    let package =
        json!({"name": "other", "version": "1.0.0", "type": "module", "openclaw": {"extensions": ["./index.js"]}});
    std::fs::write(other.join("openclaw.plugin.json"), manifest.to_string()).expect("written");
    std::fs::write(other.join("package.json"), package.to_string()).expect("written");
    std::fs::write(other.join("index.js"), "export default { id: 'other', register() {} };\n").expect("written");
    json!({"allow": ["other"], "load": {"paths": [other]}, "entries": {"other": {"enabled": true}}})
}

/// The configuration but for OpenClaw's own note of who wrote it last.
fn meaning(gateway: &Gateway) -> Value {
    let mut config = gateway.config();
    config.as_object_mut().expect("an object").remove("meta");
    config
}

fn states(report: &Report) -> Vec<StepState> {
    report.steps.iter().map(|step| step.state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstall_restores_the_configuration_and_keeps_foreign_entries() {
    let Some(peers) = peers_or_skip("uninstall_restores_the_configuration_and_keeps_foreign_entries") else { return };
    let gateway = Gateway::prepare(&peers, "http://127.0.0.1:1/v1", json!({"enabled": false}));
    let home = moon_home(&gateway);
    let mut config = gateway.config();
    config["plugins"] = config_with_foreign_plugins(&gateway);
    config["agents"]["defaults"]["compaction"] = json!({"provider": "theirs", "memoryFlush": {"enabled": false}});
    std::fs::write(gateway.config_path(), config.to_string()).expect("written");
    let installer = installer(&gateway, &home);

    let planned = installer.install(Mode::Lead, true).await.expect("planned");
    assert!(planned.changes_something() && !home.exists(), "a dry run writes nothing");
    assert_eq!(gateway.config(), config);
    let first = installer.install(Mode::Lead, false).await.expect("installed");
    let paths = |report: &Report| report.steps.iter().map(|step| step.what.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&planned), paths(&first), "the plan is what is done");
    let backup = std::fs::read(first.backup.as_ref().expect("a copy")).expect("there");
    assert_eq!(serde_json::from_slice::<Value>(&backup).expect("JSON"), config);
    let led = meaning(&gateway);
    assert_eq!(led["plugins"]["allow"], json!(["other", "moon-bridge"]));
    assert_eq!(led["plugins"]["entries"]["other"], json!({"enabled": true}));
    assert_eq!(led["agents"]["defaults"]["compaction"]["provider"], "moon-bridge");

    let second = installer.install(Mode::Lead, false).await.expect("installed");
    assert!(states(&second).iter().all(|state| *state == StepState::Already) && second.backup.is_none());
    assert_eq!(meaning(&gateway), led);
    let checks = installer.verify(Mode::Lead).await.expect("verified");
    let missing: Vec<_> = checks.iter().filter(|check| !check.holds).map(|check| check.what.as_str()).collect();
    assert_eq!(missing, ["a running gateway has loaded the plugin"]);

    installer.install(Mode::Observe, false).await.expect("switched");
    assert_eq!(meaning(&gateway)["agents"], config["agents"], "observing leaves compaction to its owner");
    let watched = gateway.config();
    let planned = installer.uninstall(true).await.expect("planned");
    assert!(planned.changes_something() && gateway.config() == watched, "a dry run writes nothing");
    let done = installer.uninstall(false).await.expect("uninstalled");
    assert_eq!(paths(&planned), paths(&done), "the plan is what is done");
    assert_eq!(meaning(&gateway), config);
    assert!(!home.join("openclaw/moon-bridge").exists());
    let again = installer.uninstall(false).await.expect("nothing to do");
    assert!(!again.changes_something());
}

/// The smallest sensible configuration, as somebody would write it.
fn make_small(gateway: &Gateway) -> Value {
    let port = gateway.config()["gateway"]["port"].clone();
    let auth = json!({"mode": "token", "token": gateway.token()});
    let config = json!({"gateway": {"mode": "local", "port": port, "auth": auth}});
    std::fs::write(gateway.config_path(), config.to_string()).expect("written");
    config
}

fn rejected_copies(gateway: &Gateway) -> Vec<String> {
    let entries = std::fs::read_dir(gateway.state_dir()).expect("there").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".rejected")).collect()
}

/// OpenClaw restores its last backup when it reads a configuration that has lost half of its size since it last looked.
fn let_openclaw_load_it(gateway: &Gateway) {
    let mut command = std::process::Command::new(gateway.command());
    let done = command.args(["plugins", "list"]).env_clear().envs(gateway.environment()).output().expect("runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// OpenClaw refuses a write that halves its configuration: a small one is restored in several.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_configuration_is_restored_although_openclaw_refuses_to_halve_it() {
    let name = "a_small_configuration_is_restored_although_openclaw_refuses_to_halve_it";
    let Some(peers) = peers_or_skip(name) else { return };
    let gateway = Gateway::prepare(&peers, "http://127.0.0.1:1/v1", json!({}));
    let config = make_small(&gateway);
    let installer = installer(&gateway, &moon_home(&gateway));
    installer.install(Mode::Observe, false).await.expect("installed");
    let_openclaw_load_it(&gateway);
    let installed = gateway.config();
    let planned = installer.uninstall(true).await.expect("planned");
    assert_eq!(gateway.config(), installed, "a dry run writes nothing");
    let done = installer.uninstall(false).await.expect("uninstalled");
    assert_eq!(planned.steps.len(), done.steps.len(), "the plan is what is done");
    assert!(done.notes.iter().any(|note| note.contains(" writes, as OpenClaw refuses")), "{:?}", done.notes);
    assert_eq!(meaning(&gateway), config);
    assert!(!installer.uninstall(false).await.expect("nothing to do").changes_something());

    installer.install(Mode::Lead, false).await.expect("installed");
    let again = installer.install(Mode::Lead, false).await.expect("installed");
    assert!(states(&again).iter().all(|state| *state == StepState::Already) && again.backup.is_none());
    installer.install(Mode::Observe, false).await.expect("switched");
    assert_eq!(meaning(&gateway).get("agents"), None);
    installer.install(Mode::Lead, false).await.expect("switched back");
    let missing = installer.verify(Mode::Lead).await.expect("verified").into_iter().filter(|check| !check.holds);
    assert_eq!(missing.map(|check| check.what).collect::<Vec<_>>(), ["a running gateway has loaded the plugin"]);
    // Without the record, twice: switching over and taking out go by what can only be Moon's.
    let record = moon_home(&gateway).join("state/openclaw-install.json");
    std::fs::remove_file(&record).expect("lost");
    installer.install(Mode::Observe, false).await.expect("switched");
    assert_eq!(meaning(&gateway).get("agents"), None);
    std::fs::remove_file(&record).expect("lost");
    let done = installer.uninstall(false).await.expect("uninstalled");
    assert!(done.notes.iter().any(|note| note.contains("record of the installation is lost")), "{:?}", done.notes);
    assert!(!moon_home(&gateway).join("openclaw/moon-bridge").exists());
    let_openclaw_load_it(&gateway);
    assert_eq!(meaning(&gateway), config);
    assert_eq!(rejected_copies(&gateway), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_linked_configuration_with_comments_the_owner_is_told_what_openclaw_does_to_it() {
    let name = "of_a_linked_configuration_with_comments_the_owner_is_told_what_openclaw_does_to_it";
    let Some(peers) = peers_or_skip(name) else { return };
    let gateway = Gateway::prepare(&peers, "http://127.0.0.1:1/v1", json!({}));
    let config = make_small(&gateway);
    let text = format!("// mine\n{config}\n");
    let kept = gateway.scratch().join("kept.json5");
    std::fs::remove_file(gateway.config_path()).expect("removed");
    std::fs::write(&kept, &text).expect("written");
    std::os::unix::fs::symlink(&kept, gateway.config_path()).expect("linked");
    let installer = installer(&gateway, &moon_home(&gateway));
    let planned = installer.install(Mode::Observe, true).await.expect("planned");
    let told = |report: &Report, words: &str| report.notes.iter().any(|note| note.contains(words));
    assert!(told(&planned, "is a link") && told(&planned, "comments"), "{:?}", planned.notes);
    let done = installer.install(Mode::Observe, false).await.expect("installed");
    assert_eq!(std::fs::read_to_string(done.backup.expect("a copy")).expect("there"), text, "comments and all");
    assert_eq!(std::fs::read_to_string(&kept).expect("there"), text, "OpenClaw leaves it");
    assert!(!gateway.config_path().is_symlink(), "OpenClaw follows links now: drop the remark");
    installer.uninstall(false).await.expect("uninstalled");
    assert_eq!(meaning(&gateway), config);
}
