//! The two sides of the bridge against each other: the real plugin in a bare node, the real adapter here, a folder between.
//!
//! What a gateway does to the plugin is imitated call by call, so that races, full spools and broken folders can be made.

mod support;

use moon::adapters::bridge_dir::{Asked, BridgeDir, SLOT_LIMIT};
use moon_actors::domain::Sha256;
use moon_actors::port::{Bridge, BridgeEventKind as Kind, Slot};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::{Peers, peers_or_skip};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const KEY: &str = "agent:main:main";

/// The plugin in a process of its own.
struct Plugin {
    _child: Child,
    stdin: tokio::sync::Mutex<ChildStdin>,
    stdout: tokio::sync::Mutex<Lines<BufReader<ChildStdout>>>,
    answers: Mutex<HashMap<u64, Value>>,
    next: AtomicU64,
}

impl Plugin {
    async fn load(peers: &Peers, config: Value) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(&peers.node)
            .arg(root.join("tests/support/plugin_host.mjs"))
            .arg(root.join("deploy/openclaw/moon-bridge/index.js"))
            .arg(config.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let stdin = child.stdin.take().expect("piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        stdout.next_line().await.expect("readable").expect("the plugin is loaded");
        let (stdin, stdout) = (tokio::sync::Mutex::new(stdin), tokio::sync::Mutex::new(stdout));
        Self { _child: child, stdin, stdout, answers: Mutex::default(), next: AtomicU64::new(0) }
    }

    async fn ask(&self, hook: &str, event: Value, ctx: Value) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let line = format!("{}\n", json!({"id": id, "hook": hook, "event": event, "ctx": ctx}));
        self.stdin.lock().await.write_all(line.as_bytes()).await.expect("asked");
        id
    }

    async fn answer(&self, id: u64) -> Value {
        loop {
            if let Some(answer) = self.answers.lock().expect("not poisoned").remove(&id) {
                return answer;
            }
            let line = self.stdout.lock().await.next_line().await.expect("readable").expect("the plugin lives");
            let mut answer: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(answer.get("error"), None, "the plugin never throws");
            let id = answer["id"].as_u64().expect("numbered");
            self.answers.lock().expect("not poisoned").insert(id, answer["result"].take());
        }
    }

    async fn call(&self, hook: &str, event: Value, ctx: Value) -> Value {
        let id = self.ask(hook, event, ctx).await;
        tokio::time::timeout(Duration::from_secs(30), self.answer(id)).await.expect("answered in time")
    }

    async fn build(&self, key: &str, run: &str) -> Value {
        self.call("before_prompt_build", json!({"messages": []}), json!({"sessionKey": key, "runId": run})).await
    }
}

struct Scene {
    home: tempfile::TempDir,
    peers: Peers,
    bridge: BridgeDir,
}

fn scene(name: &str) -> Option<Scene> {
    let peers = peers_or_skip(name)?;
    let home = tempfile::tempdir().expect("a scratch folder");
    let bridge = BridgeDir::open(home.path()).expect("opens");
    Some(Scene { home, peers, bridge })
}

impl Scene {
    async fn plugin(&self) -> Plugin {
        self.plugin_waiting(10_000).await
    }
    async fn plugin_waiting(&self, wait_ms: u64) -> Plugin {
        Plugin::load(&self.peers, json!({"home": self.home.path(), "waitMs": wait_ms})).await
    }
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("bridge").join(name)
    }
    fn slot(&self, slot: &str, key: &str) -> PathBuf {
        self.path("slots").join(slot).join(format!("{}.md", Sha256::of(key.as_bytes())))
    }
    async fn kinds(&self) -> Vec<Kind> {
        self.all_after(0).await.0
    }
    async fn all_after(&self, mut position: u64) -> (Vec<Kind>, u64) {
        let mut kinds = Vec::new();
        loop {
            let (events, next) = self.bridge.events(position).await.expect("readable");
            if next == position {
                return (kinds, position);
            }
            kinds.extend(events.into_iter().map(|event| event.kind));
            position = next;
        }
    }
    /// Makes the spool as long as if much had happened.
    fn fill(&self, bytes: usize) {
        let mut text = std::fs::read(self.path("events.jsonl")).expect("begun");
        text.extend(std::iter::repeat_n(b'\n', bytes));
        std::fs::write(self.path("events.jsonl"), text).expect("filled");
    }
}

fn ctx(key: &str) -> Value {
    json!({"sessionKey": key, "sessionId": "s", "agentId": "main"})
}

#[tokio::test]
async fn a_spool_moon_has_read_gives_way_at_8_mib_and_nothing_is_lost() {
    let Some(s) = scene("a_spool_moon_has_read_gives_way_at_8_mib_and_nothing_is_lost") else { return };
    let plugin = s.plugin().await;
    plugin.call("agent_end", json!({}), ctx(KEY)).await;
    s.fill(9 << 20);
    plugin.call("after_compaction", json!({}), ctx(KEY)).await;
    assert!(!s.path("events.1.jsonl").exists(), "Moon has not read in this generation yet");
    let (kinds, position) = s.all_after(0).await;
    assert_eq!(kinds, [Kind::TurnEnded, Kind::AfterCompaction]);
    s.bridge.events(position).await.expect("tells the plugin how far Moon is");
    plugin.call("before_reset", json!({}), ctx(KEY)).await;
    assert!(
        s.path("events.1.jsonl").exists() && std::fs::metadata(s.path("events.jsonl")).expect("there").len() < 1000
    );
    let (kinds, next) = s.all_after(position).await;
    assert_eq!(kinds, [Kind::WindowEnding]);
    assert_eq!(next >> 40, (position >> 40) + 1);
}

#[tokio::test]
async fn a_spool_nobody_reads_is_bounded() {
    let Some(s) = scene("a_spool_nobody_reads_is_bounded") else { return };
    let plugin = s.plugin().await;
    for _ in 0..3 {
        plugin.call("agent_end", json!({}), ctx(KEY)).await;
        s.fill(65 << 20);
    }
    plugin.call("agent_end", json!({}), ctx(KEY)).await;
    let names = std::fs::read_dir(s.path("")).expect("listable").flatten().map(|e| e.file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().starts_with("events")).count(), 2);
    assert_eq!(s.kinds().await, [Kind::TurnEnded, Kind::TurnEnded], "the two last generations");
}

#[tokio::test]
async fn two_processes_that_rotate_at_once_lose_nothing() {
    let Some(s) = scene("two_processes_that_rotate_at_once_lose_nothing") else { return };
    let (one, two) = tokio::join!(s.plugin(), s.plugin());
    one.call("agent_end", json!({}), ctx(KEY)).await;
    let (_, position) = s.all_after(0).await;
    s.bridge.events(position).await.expect("tells how far Moon is");
    // As long as the file is that long, every event of either process tries to move it aside.
    s.fill(9 << 20);
    let many = async |plugin: &Plugin| {
        let mut last = 0;
        for _ in 0..1000 {
            last = plugin.ask("agent_end", json!({}), ctx(KEY)).await;
        }
        plugin.answer(last).await;
    };
    tokio::join!(many(&one), many(&two));
    let (kinds, _) = s.all_after(position).await;
    assert!(s.path("events.1.jsonl").exists());
    // At least once: a line may be written again when its file is moved under the writer's hand.
    assert!((2000..2010).contains(&kinds.len()), "{}", kinds.len());
}

#[tokio::test]
async fn a_compaction_goes_on_as_soon_as_moon_agrees() {
    let Some(s) = scene("a_compaction_goes_on_as_soon_as_moon_agrees") else { return };
    let plugin = s.plugin().await;
    s.bridge.heartbeat().await.expect("alive");
    let call = plugin.ask("before_compaction", json!({"messageCount": 4}), ctx(KEY)).await;
    let id = loop {
        match s.kinds().await.into_iter().next() {
            Some(Kind::BeforeCompaction { id }) => break id,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(!s.kinds().await.contains(&Kind::Other("compaction_released".into())));
    s.bridge.acknowledge(&id).await.expect("acknowledged");
    plugin.answer(call).await;
    assert_eq!(s.kinds().await, [Kind::BeforeCompaction { id: id.clone() }, Kind::Other("compaction_released".into())]);
    assert!(!s.path("acks").join(id).exists(), "the acknowledgement is taken away");
}

#[tokio::test]
async fn a_compaction_waits_no_longer_than_it_was_told_and_not_at_all_for_an_old_heartbeat() {
    let Some(s) = scene("a_compaction_waits_no_longer_than_it_was_told_and_not_at_all_for_an_old_heartbeat") else {
        return;
    };
    let plugin = s.plugin_waiting(100).await;
    s.bridge.heartbeat().await.expect("alive");
    plugin.call("before_compaction", json!({}), ctx(KEY)).await;
    let text = std::fs::read_to_string(s.path("events.jsonl")).expect("there");
    assert!(text.contains("\"acked\":false"), "{text}");
    let beat = json!({"pid": std::process::id(), "at": 1_700_000_000_000_u64, "freshMs": 180_000});
    std::fs::write(s.path("daemon.json"), beat.to_string()).expect("written");
    plugin.call("before_compaction", json!({}), ctx(KEY)).await;
    let text = std::fs::read_to_string(s.path("events.jsonl")).expect("there");
    assert_eq!(text.matches("\"waiting\":false").count(), 1);
    assert_eq!(text.matches("compaction_released").count(), 1);
}

#[tokio::test]
async fn a_passage_stays_with_its_run_and_leaves_with_it() {
    let Some(s) = scene("a_passage_stays_with_its_run_and_leaves_with_it") else { return };
    let plugin = s.plugin().await;
    s.bridge.place(&KEY.into(), Slot::Passage, "recalled").await.expect("placed");
    assert_eq!(plugin.build("agent:main:other", "r0").await, Value::Null, "not in another session");
    assert_eq!(plugin.build(KEY, "../r1").await, json!({"prependContext": "recalled"}));
    assert_eq!(plugin.build(KEY, "../r1").await, json!({"prependContext": "recalled"}), "a retry of the same run");
    assert_eq!(plugin.build(KEY, "r2").await, Value::Null);
    s.bridge.place(&KEY.into(), Slot::Passage, "second").await.expect("placed");
    assert_eq!(plugin.build(KEY, "r3").await, json!({"prependContext": "second"}));
    assert_eq!(plugin.build(KEY, "r4").await, Value::Null);
    assert_eq!(std::fs::read_dir(s.path("slots/passage")).expect("listable").count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn a_passage_is_there_again_when_a_failed_attempt_is_repeated() {
    let Some(s) = scene("a_passage_is_there_again_when_a_failed_attempt_is_repeated") else { return };
    let plugin = s.plugin().await;
    let run = json!({"sessionKey": KEY, "runId": "r1"});
    s.bridge.place(&KEY.into(), Slot::Passage, "recalled").await.expect("placed");
    assert_eq!(plugin.build(KEY, "r1").await, json!({"prependContext": "recalled"}));
    plugin.call("agent_end", json!({"success": false}), run.clone()).await;
    assert_eq!(plugin.build(KEY, "r1").await, json!({"prependContext": "recalled"}), "the second attempt");
    plugin.call("agent_end", json!({"success": true}), run).await;
    assert_eq!(plugin.build(KEY, "r2").await, Value::Null, "the next run");
}

#[tokio::test]
async fn links_and_texts_that_are_too_long_or_not_text_are_not_injected() {
    let Some(s) = scene("links_and_texts_that_are_too_long_or_not_text_are_not_injected") else { return };
    let plugin = s.plugin().await;
    let file = s.slot("context", KEY);
    std::fs::write(s.home.path().join("secret"), "token").expect("written");
    symlink(s.home.path().join("secret"), &file).expect("linked");
    assert_eq!(plugin.build(KEY, "r1").await, Value::Null);
    std::fs::remove_file(&file).expect("removed");
    std::fs::write(&file, "x".repeat(SLOT_LIMIT + 1)).expect("written");
    assert_eq!(plugin.build(KEY, "r2").await, Value::Null);
    std::fs::write(&file, b"\xff\xfe").expect("written");
    assert_eq!(plugin.build(KEY, "r3").await, Value::Null);
    let longest = "x".repeat(SLOT_LIMIT);
    s.bridge.place(&KEY.into(), Slot::Context, &longest).await.expect("placed");
    assert_eq!(plugin.build(KEY, "r4").await, json!({"appendSystemContext": longest}));
    std::fs::rename(s.path("slots/context"), s.home.path().join("elsewhere")).expect("moved");
    symlink(s.home.path().join("elsewhere"), s.path("slots/context")).expect("linked");
    assert_eq!(plugin.build(KEY, "r5").await, Value::Null);
}

#[tokio::test]
async fn a_summary_goes_only_to_the_session_it_was_written_for() {
    let Some(s) = scene("a_summary_goes_only_to_the_session_it_was_written_for") else { return };
    let plugin = s.plugin_waiting(0).await;
    let said = |run: &str| json!([{"role": "user", "content": "x", "idempotencyKey": format!("{run}:user")}]);
    let other = "agent:main:other";
    for (key, run) in [(KEY, "a"), (other, "b")] {
        plugin.call("agent_end", json!({"messages": said(run)}), ctx(key)).await;
        plugin.call("before_compaction", json!({}), ctx(key)).await;
    }
    s.bridge.place(&KEY.into(), Slot::Summary, "for main").await.expect("placed");
    let asked = async |run: &str| plugin.call("summarize", json!({"messages": said(run)}), Value::Null).await;
    assert_eq!(asked("b").await, "", "the other session has no text of Moon's");
    assert_eq!(asked("unknown").await, "", "two sessions are in question");
    assert_eq!(asked("a").await, "for main");
    assert!(s.slot("summary", KEY).exists(), "kept until the compaction has really happened");
    plugin.call("after_compaction", json!({}), ctx(KEY)).await;
    assert!(!s.slot("summary", KEY).exists());
    s.bridge.place(&other.into(), Slot::Summary, "for other").await.expect("placed");
    assert_eq!(asked("a").await, "", "messages of a session that is not under compaction");
    plugin.call("before_compaction", json!({}), ctx("agent:main:fresh")).await;
    s.bridge.place(&"agent:main:fresh".into(), Slot::Summary, "for fresh").await.expect("placed");
    plugin.call("after_compaction", json!({}), ctx(other)).await;
    assert_eq!(asked("new").await, "for fresh", "only one session can be meant");
}

#[tokio::test]
async fn a_text_placed_during_a_compaction_is_not_thrown_away_with_the_used_one() {
    let Some(s) = scene("a_text_placed_during_a_compaction_is_not_thrown_away_with_the_used_one") else { return };
    let plugin = s.plugin_waiting(0).await;
    plugin.call("before_compaction", json!({}), ctx(KEY)).await;
    s.bridge.place(&KEY.into(), Slot::Summary, "first").await.expect("placed");
    assert_eq!(plugin.call("summarize", json!({"messages": []}), Value::Null).await, "first");
    s.bridge.place(&KEY.into(), Slot::Summary, "second").await.expect("placed");
    plugin.call("after_compaction", json!({}), ctx(KEY)).await;
    assert_eq!(s.bridge.placed(&KEY.into(), Slot::Summary).await.expect("readable").as_deref(), Some("second"));
}

#[tokio::test]
async fn a_summary_is_used_only_while_moon_lives_and_its_text_is_young() {
    let Some(s) = scene("a_summary_is_used_only_while_moon_lives_and_its_text_is_young") else { return };
    let plugin = s.plugin_waiting(0).await;
    s.bridge.place(&KEY.into(), Slot::Summary, "of Moon").await.expect("placed");
    let asked = async || {
        plugin.call("before_compaction", json!({}), ctx(KEY)).await;
        plugin.call("summarize", json!({"messages": []}), Value::Null).await
    };
    assert_eq!(asked().await, "of Moon");
    let mut gone = std::process::Command::new("true").spawn().expect("runs");
    gone.wait().expect("ends");
    let beat = std::fs::read_to_string(s.path("daemon.json")).expect("there");
    let of_the_dead = beat.replace(&std::process::id().to_string(), &gone.id().to_string());
    std::fs::write(s.path("daemon.json"), &of_the_dead).expect("written");
    assert_eq!(asked().await, "", "left behind by a Moon that was killed");
    std::fs::remove_file(s.path("daemon.json")).expect("removed");
    assert_eq!(asked().await, "", "no Moon at all");
    s.bridge.heartbeat().await.expect("alive again");
    assert_eq!(asked().await, "of Moon");
    let file = std::fs::File::options().write(true).open(s.slot("summary", KEY)).expect("there");
    file.set_modified(std::time::SystemTime::now() - Duration::from_mins(6)).expect("made old");
    assert_eq!(asked().await, "", "placed for another moment");
}

#[tokio::test]
async fn a_summary_ends_with_the_window_it_was_written_for() {
    let Some(s) = scene("a_summary_ends_with_the_window_it_was_written_for") else { return };
    let plugin = s.plugin_waiting(0).await;
    for (hook, reason, kept) in [
        ("session_end", "shutdown", true),
        ("session_end", "compaction", true),
        ("session_end", "idle", false),
        ("before_reset", "new", false),
    ] {
        s.bridge.place(&KEY.into(), Slot::Summary, "of Moon").await.expect("placed");
        plugin.call(hook, json!({"reason": reason}), ctx(KEY)).await;
        plugin.call("before_compaction", json!({}), ctx(KEY)).await;
        let answer = plugin.call("summarize", json!({"messages": []}), Value::Null).await;
        assert_eq!(answer, if kept { "of Moon" } else { "" }, "{hook} {reason}");
    }
}

#[tokio::test]
async fn the_end_of_a_window_is_told_with_its_reason_and_its_transcript() {
    let Some(s) = scene("the_end_of_a_window_is_told_with_its_reason_and_its_transcript") else { return };
    let plugin = s.plugin().await;
    // OpenClaw names the session in the event as well as beside it.
    plugin.call("session_end", json!({"sessionKey": KEY, "sessionId": "old", "reason": "daily"}), json!({})).await;
    plugin.call("before_reset", json!({"reason": "new", "messages": [{"content": "words"}]}), ctx(KEY)).await;
    let spool = std::fs::read_to_string(s.path("events.jsonl")).expect("there");
    let told: Vec<Value> = spool.lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let parts = |event: &Value| ["hook", "sessionKey", "sessionId", "reason"].map(|part| event[part].clone());
    assert_eq!(parts(&told[0]), ["session_end", KEY, "old", "daily"]);
    assert_eq!(parts(&told[1]), ["before_reset", KEY, "s", "new"]);
    assert!(!spool.contains("words"), "{spool}");
    assert_eq!(s.kinds().await, [Kind::WindowEnding, Kind::WindowEnding]);
}

#[tokio::test]
async fn a_compaction_does_not_wait_for_a_pass_that_cannot_answer() {
    let Some(s) = scene("a_compaction_does_not_wait_for_a_pass_that_cannot_answer") else { return };
    let plugin = s.plugin().await;
    s.bridge.place(&KEY.into(), Slot::Summary, "of a pass").await.expect("placed");
    plugin.call("before_compaction", json!({}), ctx(KEY)).await;
    assert_eq!(plugin.call("summarize", json!({"messages": []}), Value::Null).await, "of a pass");
    assert!(!s.kinds().await.contains(&Kind::Other("compaction_released".into())), "it never waited");
}

#[tokio::test]
async fn a_torn_line_of_a_dead_process_costs_only_itself() {
    let Some(s) = scene("a_torn_line_of_a_dead_process_costs_only_itself") else { return };
    let plugin = s.plugin().await;
    plugin.call("agent_end", json!({}), ctx(KEY)).await;
    let mut text = std::fs::read_to_string(s.path("events.jsonl")).expect("there");
    text.push_str("{\"v\":1,\"id\":\"torn");
    std::fs::write(s.path("events.jsonl"), text).expect("torn");
    plugin.call("after_compaction", json!({}), ctx(KEY)).await;
    assert_eq!(s.kinds().await, [Kind::TurnEnded, Kind::AfterCompaction]);
}

#[tokio::test]
async fn a_broken_spool_breaks_nothing_else() {
    let Some(s) = scene("a_broken_spool_breaks_nothing_else") else { return };
    let plugin = s.plugin().await;
    std::fs::create_dir(s.path("events.jsonl")).expect("in the way");
    std::fs::create_dir(s.path("status.json")).expect("in the way");
    s.bridge.place(&KEY.into(), Slot::Context, "block").await.expect("placed");
    assert_eq!(plugin.build(KEY, "r1").await, json!({"appendSystemContext": "block"}));
    for hook in ["gateway_start", "session_start", "before_reset", "session_end", "llm_output", "agent_end"] {
        assert_eq!(plugin.call(hook, Value::Null, Value::Null).await, Value::Null);
    }
    s.bridge.heartbeat().await.expect("alive");
    plugin.call("before_compaction", Value::Null, Value::Null).await;
    assert_eq!(plugin.call("summarize", Value::Null, Value::Null).await, "");
    // The plugin is not deaf for ever, and says what it could not write.
    std::fs::remove_dir(s.path("events.jsonl")).expect("removed");
    plugin.call("agent_end", json!({}), ctx(KEY)).await;
    assert_eq!(s.kinds().await, [Kind::TurnEnded]);
    assert!(std::fs::read_to_string(s.path("events.jsonl")).expect("there").contains("\"lost\":"));
}

#[tokio::test]
async fn without_moons_folder_the_plugin_leaves_no_trace() {
    let Some(s) = scene("without_moons_folder_the_plugin_leaves_no_trace") else { return };
    std::fs::remove_dir_all(s.path("")).expect("removed");
    let plugin = s.plugin().await;
    for hook in ["gateway_start", "session_start", "before_compaction", "after_compaction", "llm_output", "agent_end"] {
        assert_eq!(plugin.call(hook, json!({}), ctx(KEY)).await, Value::Null);
    }
    assert_eq!(plugin.build(KEY, "r").await, Value::Null);
    assert_eq!(plugin.call("summarize", json!({"messages": []}), Value::Null).await, "");
    assert_eq!(std::fs::read_dir(s.home.path()).expect("listable").count(), 0);
    let unconfigured = Plugin::load(&s.peers, json!({"home": "relative/path"})).await;
    assert_eq!(unconfigured.call("agent_end", json!({}), ctx(KEY)).await, Value::Null);
}

#[tokio::test]
async fn a_model_call_by_a_runtime_that_never_asked_for_context_is_told() {
    let Some(s) = scene("a_model_call_by_a_runtime_that_never_asked_for_context_is_told") else { return };
    let plugin = s.plugin().await;
    assert_eq!(s.bridge.asked(), None, "not loaded");
    plugin.call("gateway_start", json!({"port": 1}), Value::Null).await;
    assert_eq!(s.bridge.asked(), Some(Asked::Unknown));
    plugin.call("llm_output", json!({"usage": {"input": 5}}), json!({"sessionKey": KEY, "runId": "r1"})).await;
    assert_eq!(s.bridge.asked(), Some(Asked::Never));
    plugin.build(KEY, "r2").await;
    assert_eq!(s.bridge.asked(), Some(Asked::Yes));
    plugin.call("llm_output", json!({}), json!({"sessionKey": KEY, "runId": "r2"})).await;
    let told = Kind::Other("llm_output".into());
    let started = Kind::Other("gateway_start".into());
    assert_eq!(s.kinds().await, [started, Kind::NotInjected, told.clone(), Kind::NotInjected, told]);
    assert!(s.bridge.status().await.alive, "the process that loaded the plugin");
    plugin.call("gateway_stop", Value::Null, Value::Null).await;
    let status = s.bridge.status().await;
    assert!(!status.alive && status.detail.contains("in good order"), "it lives on without the plugin: {status:?}");
    plugin.call("gateway_start", json!({"port": 1}), Value::Null).await;
    assert_eq!(s.bridge.asked(), Some(Asked::Unknown), "loaded again, and not asked yet");
}
