//! The demo's agent fills, loses and carries what it should.

use super::*;
use crate::demo::PLANTED;
use moon_actors::Kind;
use moon_actors::port::{BridgeEvent, BridgeStatus};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

/// A bridge without a folder.
#[derive(Default)]
struct Slots(Mutex<HashMap<(SessionKey, Slot), String>>);

impl Slots {
    fn lock(&self) -> MutexGuard<'_, HashMap<(SessionKey, Slot), String>> {
        self.0.lock().expect("no test panics holding it")
    }
}

#[async_trait]
impl Bridge for Slots {
    async fn status(&self) -> BridgeStatus {
        BridgeStatus::default()
    }
    fn subscribe(&self, _: Doorbell) {}
    async fn events(&self, position: u64) -> Result<(Vec<BridgeEvent>, u64)> {
        Ok((Vec::new(), position))
    }
    async fn place(&self, session: &SessionKey, slot: Slot, text: &str) -> Result<Sha256> {
        self.lock().insert((session.clone(), slot), text.to_owned());
        Ok(Sha256::of(text.as_bytes()))
    }
    async fn placed(&self, session: &SessionKey, slot: Slot) -> Result<Option<String>> {
        Ok(self.lock().get(&(session.clone(), slot)).cloned())
    }
    async fn clear(&self, session: &SessionKey, slot: Slot) -> Result<()> {
        self.lock().remove(&(session.clone(), slot));
        Ok(())
    }
    async fn acknowledge(&self, _: &str) -> Result<()> {
        Ok(())
    }
    async fn heartbeat(&self) -> Result<()> {
        Ok(())
    }
}

struct Stage {
    _scratch: TempDir,
    agent: DemoAgent,
    bridge: Arc<Slots>,
    session: SessionRef,
}

impl Stage {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let mut settings = Settings::default();
        settings.watch.window_tokens = 16_000;
        let bridge = Arc::new(Slots::default());
        let agent = DemoAgent::new(&scratch.path().join("agent"), &settings, bridge.clone()).expect("a new agent");
        let session = agent.session();
        Self { _scratch: scratch, agent, bridge, session }
    }
    async fn reading(&self) -> UsageReading {
        self.agent.refresh().await.expect("readable").pop().expect("one session")
    }
    async fn ratio(&self) -> f64 {
        self.reading().await.trusted_ratio().expect("a fresh count")
    }
    async fn place(&self, slot: Slot, text: &str) {
        self.bridge.place(&self.session.key, slot, text).await.expect("placed");
    }
    async fn holds(&self, needle: &str) -> bool {
        self.agent.next_call().await.expect("a request").holds(needle)
    }
}

#[tokio::test]
async fn unpruned_the_conversation_overflows_its_window_more_than_twice() {
    let stage = Stage::new();
    let mut crossed = Vec::new();
    let mut before = stage.ratio().await;
    while stage.agent.play(1).expect("written") == 1 {
        let now = stage.ratio().await;
        for share in [0.80, 0.85, 0.90, 1.0, 2.0] {
            if before < share && now >= share {
                crossed.push((stage.agent.progress().0 - 1, share));
            }
        }
        before = now;
    }
    // 0-based exchange and the share of the window it takes the session over.
    assert_eq!(crossed, [(33, 0.80), (34, 0.85), (36, 0.90), (41, 1.0), (82, 2.0)]);
    assert!(before > 2.8, "{before}");
}

#[tokio::test]
async fn pruned_at_eighty_five_percent_it_fills_again_and_again() {
    let stage = Stage::new();
    stage.place(Slot::Summary, &"Decisions so far are in PLAN.md. ".repeat(40)).await;
    let mut pruned = Vec::new();
    while stage.agent.play(1).expect("written") == 1 {
        if stage.ratio().await >= 0.85 {
            let compacted = stage.agent.compact(&stage.session).await.expect("compacted");
            assert!(compacted.tokens_after < compacted.tokens_before);
            assert!(stage.ratio().await < 0.30, "{}", stage.ratio().await);
            pruned.push(stage.agent.progress().0 - 1);
        }
    }
    assert!(pruned.len() >= 3, "{pruned:?}");
    assert_eq!(stage.reading().await.generation.as_deref(), Some("0"));
}

#[tokio::test]
async fn what_was_compacted_is_out_of_the_request_and_the_map_and_one_passage_come_in() {
    let stage = Stage::new();
    stage.agent.play(40).expect("written");
    assert!(stage.holds(PLANTED.sentence).await, "said and not yet reduced");
    stage.place(Slot::Summary, "A library moves its catalogue.").await;
    stage.agent.compact(&stage.session).await.expect("compacted");
    assert!(!stage.holds(PLANTED.needle).await, "the fact left the window");
    assert!(stage.holds("A library moves its catalogue.").await);
    stage.place(Slot::Context, "MAP: rollover 1").await;
    stage.place(Slot::Passage, PLANTED.sentence).await;
    stage.agent.ask(PLANTED.question).expect("written");
    let call = stage.agent.next_call().await.expect("a request");
    assert!(call.holds("MAP: rollover 1") && call.holds(PLANTED.sentence) && call.holds(PLANTED.question));
    let of = |text: &str| Sha256::of(text.as_bytes());
    assert_eq!(call.injected, [(Slot::Context, of("MAP: rollover 1")), (Slot::Passage, of(PLANTED.sentence))]);
    let later = stage.agent.next_request().await.expect("a request");
    assert!(later.iter().any(|t| t.contains("MAP")), "the map stays");
    assert!(!later.iter().any(|t| t.contains(PLANTED.needle)), "the passage was for one call only");
}

#[tokio::test]
async fn a_compaction_keeps_the_last_words_and_no_result_without_its_call() {
    let stage = Stage::new();
    stage.agent.play(30).expect("written");
    let before = stage.agent.next_request().await.expect("a request");
    stage.place(Slot::Summary, "Short.").await;
    let compacted = stage.agent.compact(&stage.session).await.expect("compacted");
    let after = stage.agent.next_request().await.expect("a request");
    assert_eq!(after[0], "summary: Short.");
    assert!(after[1].starts_with("user: "), "{}", after[1]);
    assert!(before.ends_with(&after[1..]) && after.len() > 2);
    assert!(compacted.tokens_after.is_some_and(|t| t < 16_000 / 5));
    // The transcript, read like a foreign one, says the same as the agent.
    let used = stage.reading().await.used_tokens.expect("priced") as f64;
    let own = compacted.tokens_after.expect("counted") as f64;
    assert!((used / own - 1.0).abs() < 0.15, "{used} read, {own} kept");
}

#[tokio::test]
async fn a_compaction_without_a_text_or_without_anything_to_reduce_is_refused() {
    let stage = Stage::new();
    stage.agent.play(1).expect("written");
    let error = stage.agent.compact(&stage.session).await.expect_err("no summary");
    assert_eq!((error.code.as_str(), error.kind), ("host.compact_refused", Kind::Data));
    stage.place(Slot::Summary, "Short.").await;
    let error = stage.agent.compact(&stage.session).await.expect_err("one exchange only");
    assert_eq!((error.code.as_str(), error.kind), ("host.nothing_to_compact", Kind::Conflict));
    let other = SessionRef { session_id: "another".into(), ..stage.session.clone() };
    for error in [
        stage.agent.compact(&other).await.expect_err("not its session"),
        stage.agent.reset(&other).await.expect_err("not its session"),
    ] {
        assert_eq!((error.code.as_str(), error.kind), ("host.changed", Kind::Conflict));
    }
    assert_eq!(std::fs::read_to_string(stage.agent.transcript()).expect("there").matches("compaction").count(), 0);
}

#[tokio::test]
async fn a_reset_empties_the_window_and_loses_no_record() {
    let stage = Stage::new();
    stage.agent.play(10).expect("written");
    let before = stage.agent.records(&stage.session, 0, usize::MAX).await.expect("readable").records;
    assert_eq!(stage.agent.reset(&stage.session).await.expect("reset"), stage.session.session_id);
    let reading = stage.reading().await;
    assert_eq!((reading.used_tokens, reading.generation.as_deref()), (Some(0), Some("1")));
    assert_eq!(stage.agent.next_request().await.expect("a request"), [] as [String; 0]);
    let after = stage.agent.records(&stage.session, 0, usize::MAX).await.expect("readable");
    assert_eq!(after.records[..before.len()], before[..]);
    assert_eq!((after.records.len(), after.torn_bytes), (before.len() + 1, 0));
    assert_eq!(stage.agent.play(1).expect("written"), 1);
    assert!(stage.reading().await.used_tokens.is_some_and(|t| t > 0));
}

#[tokio::test]
async fn the_block_in_every_call_counts_as_used() {
    let stage = Stage::new();
    stage.agent.play(3).expect("written");
    let before = stage.reading().await.used_tokens.expect("priced");
    stage.place(Slot::Context, &"A line of the map. ".repeat(100)).await;
    let after = stage.reading().await.used_tokens.expect("priced");
    assert!(after > before + 400, "{before} then {after}");
}

#[tokio::test]
async fn every_change_rings_and_a_second_agent_in_the_folder_is_refused() {
    let stage = Stage::new();
    let rung = Arc::new(AtomicUsize::new(0));
    let counter = rung.clone();
    stage.agent.subscribe(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    stage.agent.play(1).expect("written");
    assert!(rung.load(Ordering::SeqCst) >= 1);
    let folder = stage.agent.transcript().parent().expect("a folder");
    let again = DemoAgent::new(folder, &Settings::default(), stage.bridge.clone()).err().expect("occupied");
    assert_eq!(again.code, "demo.exists");
}

#[tokio::test]
async fn the_transcript_has_the_shape_of_openclaws() {
    let stage = Stage::new();
    while stage.agent.play(10).expect("written") > 0 {}
    let text = std::fs::read_to_string(stage.agent.transcript()).expect("there");
    let records: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert!(records.len() > 390, "{}", records.len());
    assert_eq!((records[0]["type"].as_str(), records[0]["version"].as_i64()), (Some("session"), Some(4)));
    for pair in records[1..].windows(2) {
        assert_eq!(pair[1]["parentId"], pair[0]["id"], "one chain");
        if pair[1]["message"]["role"] == "toolResult" {
            assert_eq!(pair[1]["message"]["toolCallId"], pair[0]["message"]["content"][0]["id"]);
        }
    }
}
