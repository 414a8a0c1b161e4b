//! The folder as the plugin, a crash and a careless person leave it.

use super::*;
use moon_actors::port::BridgeEventKind as Kind;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

const ID: &str = "0b7e2f4a-1c3d-4e5f-8a9b-0c1d2e3f4a5b";

struct Scratch {
    home: tempfile::TempDir,
    bridge: BridgeDir,
}

fn scratch() -> Scratch {
    let home = tempfile::tempdir().expect("a scratch folder");
    let bridge = BridgeDir::open(home.path()).expect("the folder can be made");
    Scratch { home, bridge }
}

impl Scratch {
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("bridge").join(name)
    }
    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).expect("opens");
        file.write_all(text.as_bytes()).expect("appends");
    }
    fn start(&self, name: &str, generation: u64) {
        std::fs::write(self.path(name), format!("{{\"v\":1,\"generation\":{generation}}}\n")).expect("writes");
    }
    async fn hooks(&self, position: u64) -> (Vec<Kind>, u64) {
        let (events, next) = self.bridge.events(position).await.expect("readable");
        (events.into_iter().map(|e| e.kind).collect(), next)
    }
}

fn line(hook: &str) -> String {
    format!(
        "{{\"v\":1,\"id\":\"{ID}\",\"ts\":1795150114207,\"pid\":7,\"hook\":\"{hook}\",\"sessionKey\":\"agent:main:main\"}}\n"
    )
}

fn key() -> SessionKey {
    SessionKey::from("agent:main:../../etc")
}

#[tokio::test]
async fn a_torn_last_line_is_left_for_the_next_read() {
    let s = scratch();
    s.start("events.jsonl", 1);
    let whole = line("after_compaction");
    s.append("events.jsonl", &(line("agent_end") + &whole[..20]));
    let (kinds, position) = s.hooks(0).await;
    assert_eq!(kinds, [Kind::TurnEnded]);
    s.append("events.jsonl", &whole[20..]);
    let (kinds, next) = s.hooks(position).await;
    assert_eq!(kinds, [Kind::AfterCompaction]);
    assert_eq!(s.hooks(next).await, (vec![], next));
}

#[tokio::test]
async fn a_damaged_line_is_skipped_and_the_rest_is_read() {
    let s = scratch();
    s.start("events.jsonl", 1);
    let zeros = "\0".repeat(64);
    s.append("events.jsonl", &format!("{}{zeros}\n{{\"v\":1}}\n\n{}", line("agent_end"), line("before_reset")));
    assert_eq!(s.hooks(0).await.0, [Kind::TurnEnded, Kind::WindowEnding]);
}

#[tokio::test]
async fn a_rotation_loses_nothing_and_repeats_nothing() {
    let s = scratch();
    s.start("events.jsonl", 4);
    s.append("events.jsonl", &line("agent_end"));
    let (_, position) = s.hooks(0).await;
    s.append("events.jsonl", &line("after_compaction"));
    std::fs::rename(s.path("events.jsonl"), s.path("events.1.jsonl")).expect("rotates");
    s.start("events.jsonl", 5);
    s.append("events.jsonl", &line("before_reset"));
    let (kinds, next) = s.hooks(position).await;
    assert_eq!(kinds, [Kind::AfterCompaction, Kind::WindowEnding]);
    assert_eq!(s.hooks(next).await.0, []);
    assert_eq!(Position::from_u64(next).generation, 5);
}

#[tokio::test]
async fn a_line_torn_by_a_crash_before_a_rotation_does_not_stop_the_reader() {
    let s = scratch();
    s.start("events.1.jsonl", 1);
    s.append("events.1.jsonl", &(line("agent_end") + "{\"v\":1,\"id"));
    s.start("events.jsonl", 2);
    s.append("events.jsonl", &line("after_compaction"));
    assert_eq!(s.hooks(0).await.0, [Kind::TurnEnded, Kind::AfterCompaction]);
}

#[tokio::test]
async fn a_deleted_spool_is_empty_and_its_successor_is_read_from_its_beginning() {
    let s = scratch();
    s.start("events.jsonl", 9);
    s.append("events.jsonl", &line("agent_end"));
    let (_, position) = s.hooks(0).await;
    std::fs::remove_file(s.path("events.jsonl")).expect("deleted");
    assert_eq!(s.hooks(position).await, (vec![], position));
    s.start("events.jsonl", 1);
    s.append("events.jsonl", &line("before_reset"));
    let (kinds, next) = s.hooks(position).await;
    assert_eq!(kinds, [Kind::WindowEnding]);
    assert_eq!(s.hooks(next).await, (vec![], next));
}

#[tokio::test]
async fn a_spool_cut_short_is_read_anew() {
    let s = scratch();
    s.start("events.jsonl", 2);
    s.append("events.jsonl", &line("agent_end").repeat(3));
    let (_, position) = s.hooks(0).await;
    s.start("events.jsonl", 2);
    s.append("events.jsonl", &line("before_reset"));
    assert_eq!(s.hooks(position).await.0, [Kind::WindowEnding]);
}

#[tokio::test]
async fn a_spool_without_its_first_line_is_still_read_once() {
    let s = scratch();
    s.append("events.jsonl", &format!("\0\0\0\n{}", line("agent_end")));
    let (kinds, next) = s.hooks(0).await;
    assert_eq!((kinds, s.hooks(next).await), (vec![Kind::TurnEnded], (vec![], next)));
}

#[tokio::test]
async fn a_large_spool_comes_in_bounded_pieces() {
    let s = scratch();
    s.start("events.jsonl", 1);
    let (one, count) = (line("agent_end"), 80_000);
    s.append("events.jsonl", &one.repeat(count));
    let (mut seen, mut position, mut calls) = (0, 0, 0);
    loop {
        let (kinds, next) = s.hooks(position).await;
        assert!(kinds.len() * one.len() <= 4 << 20);
        if kinds.is_empty() {
            break;
        }
        (seen, position, calls) = (seen + kinds.len(), next, calls + 1);
    }
    assert_eq!(seen, count);
    assert!(calls >= 3);
}

#[tokio::test]
async fn a_line_longer_than_a_whole_read_is_passed_over() {
    let s = scratch();
    s.start("events.jsonl", 1);
    s.append("events.jsonl", &("x".repeat(5 << 20) + "\n" + &line("agent_end")));
    let (kinds, next) = s.hooks(0).await;
    assert_eq!(kinds, []);
    assert_eq!(s.hooks(next).await.0, [Kind::TurnEnded]);
}

#[tokio::test]
async fn moon_tells_the_plugin_which_generation_it_reads() {
    let s = scratch();
    s.start("events.jsonl", 3);
    let (_, position) = s.hooks(0).await;
    assert!(!s.path("consumed").exists());
    s.hooks(position).await;
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(s.path("consumed")).expect("written")).expect("JSON");
    assert_eq!(told["generation"], 3);
}

#[tokio::test]
async fn events_keep_their_figures_and_a_gateway_that_stops_ends_no_window() {
    let s = scratch();
    s.start("events.jsonl", 1);
    let hash = Sha256::of(b"block");
    let with = |hook: &str, more: &str| line(hook).replace("\"pid\":7", more);
    s.append("events.jsonl", &line("before_compaction"));
    s.append("events.jsonl", &with("injected", &format!("\"slot\":\"passage\",\"sha256\":\"{hash}\"")));
    s.append("events.jsonl", &with("session_end", "\"reason\":\"shutdown\""));
    s.append("events.jsonl", &with("session_end", "\"reason\":\"idle\""));
    s.append("events.jsonl", &line("not_injected"));
    // An id that could leave the folder is no id.
    s.append("events.jsonl", &line("before_compaction").replace(ID, "../../../x"));
    let (events, _) = s.bridge.events(0).await.expect("readable");
    assert_eq!(events[0].session, Some(SessionKey::from("agent:main:main")));
    assert_eq!(events[0].at.timestamp_millis(), 1_795_150_114_207);
    let kinds: Vec<_> = events.into_iter().map(|e| e.kind).collect();
    let expected = [
        Kind::BeforeCompaction { id: ID.into() },
        Kind::Injected { slot: Slot::Passage, sha256: hash },
        Kind::Other("session_end".into()),
        Kind::WindowEnding,
        Kind::NotInjected,
    ];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn a_window_ends_for_whatever_reason_the_host_gives() {
    let s = scratch();
    s.start("events.jsonl", 1);
    for hook in ["session_end", "before_reset"] {
        for reason in
            ["", "\"reason\":null,", "\"reason\":\"daily\",", "\"reason\":\"never heard of\",", "\"reason\":7,"]
        {
            s.append("events.jsonl", &line(hook).replace("\"pid\":7,", reason));
        }
    }
    assert_eq!(s.hooks(0).await.0, vec![Kind::WindowEnding; 10]);
}

#[tokio::test]
async fn a_text_is_placed_read_back_and_cleared_without_the_key_in_the_path() {
    let s = scratch();
    for slot in [Slot::Context, Slot::Summary, Slot::Passage] {
        let hash = s.bridge.place(&key(), slot, "remember this").await.expect("placed");
        assert_eq!(hash, Sha256::of(b"remember this"));
        assert_eq!(s.bridge.placed(&key(), slot).await.expect("readable").as_deref(), Some("remember this"));
        let file = s.bridge.inner.slot_file(&key(), slot);
        assert!(file.starts_with(s.path("slots")) && !file.to_string_lossy().contains("etc"));
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        s.bridge.clear(&key(), slot).await.expect("cleared");
        s.bridge.clear(&key(), slot).await.expect("cleared twice");
        assert_eq!(s.bridge.placed(&key(), slot).await.expect("readable"), None);
    }
}

#[tokio::test]
async fn a_text_too_long_for_the_plugin_is_refused() {
    let s = scratch();
    let long = "x".repeat(SLOT_LIMIT + 1);
    let refused = s.bridge.place(&key(), Slot::Context, &long).await.expect_err("too long");
    assert_eq!(refused.code, "bridge.slot_size");
    assert_eq!(s.bridge.placed(&key(), Slot::Context).await.expect("readable"), None);
}

#[tokio::test]
async fn a_link_in_a_slot_is_not_followed() {
    let s = scratch();
    let secret = s.home.path().join("secret");
    std::fs::write(&secret, "token").expect("written");
    std::os::unix::fs::symlink(&secret, s.bridge.inner.slot_file(&key(), Slot::Context)).expect("linked");
    let refused = s.bridge.placed(&key(), Slot::Context).await.expect_err("not followed");
    assert!(!refused.to_string().contains("token"));
    // Replacing puts a file where the link was; what it pointed to stays.
    s.bridge.place(&key(), Slot::Context, "block").await.expect("placed");
    assert_eq!(std::fs::read_to_string(secret).expect("there"), "token");
}

#[tokio::test]
async fn an_acknowledgement_is_a_file_named_by_the_id_and_nothing_else_is() {
    let s = scratch();
    s.bridge.acknowledge(ID).await.expect("acknowledged");
    assert!(s.path("acks").join(ID).is_file());
    for id in ["", "..", "../../x", "0b7e2f4a-1c3d-4e5f-8a9b-0c1d2e3f4a5/"] {
        assert_eq!(s.bridge.acknowledge(id).await.expect_err("refused").code, "bridge.bad_id");
    }
}

#[tokio::test]
async fn the_heartbeat_names_this_process_and_when() {
    let s = scratch();
    s.bridge.heartbeat().await.expect("written");
    let beat: serde_json::Value =
        serde_json::from_slice(&std::fs::read(s.path("daemon.json")).expect("there")).expect("JSON");
    assert_eq!(beat["pid"], std::process::id());
    assert!(beat["at"].as_u64() > Some(1_700_000_000_000) && beat["freshMs"] == 180_000);
    assert_eq!(beat["answers"], true);
}

#[tokio::test]
async fn whoever_places_a_summary_is_alive_and_a_single_pass_answers_no_compaction() {
    let s = scratch();
    let beat = || std::fs::read(s.path("daemon.json")).ok();
    let answers = |beat: Option<Vec<u8>>| {
        serde_json::from_slice::<serde_json::Value>(&beat.expect("there")).expect("JSON")["answers"].clone()
    };
    s.bridge.place(&key(), Slot::Context, "block").await.expect("placed");
    assert_eq!(beat(), None, "a block is there for a gateway without Moon too");
    s.bridge.place(&key(), Slot::Summary, "summary").await.expect("placed");
    assert_eq!(answers(beat()), false);
    s.bridge.heartbeat().await.expect("written");
    s.bridge.place(&key(), Slot::Summary, "summary").await.expect("placed");
    assert_eq!(answers(beat()), true, "a daemon's heartbeat is not made less");
}

#[tokio::test]
async fn the_status_tells_a_running_gateway_from_a_gone_one() {
    let s = scratch();
    assert!(!s.bridge.status().await.alive);
    let tell = |pid: u32| {
        std::fs::write(s.path("status.json"), format!("{{\"version\":\"0.1.0\",\"pid\":{pid},\"startedAt\":1}}"))
    };
    tell(std::process::id()).expect("written");
    let status = s.bridge.status().await;
    assert_eq!((status.alive, status.version.as_deref()), (true, Some("0.1.0")));
    let mut child = std::process::Command::new("true").spawn().expect("runs");
    child.wait().expect("ends");
    tell(child.id()).expect("written");
    assert!(!s.bridge.status().await.alive);
    tell(0).expect("written");
    assert!(!s.bridge.status().await.alive);
    let told = format!("{{\"version\":\"0.1.0\",\"pid\":{},\"startedAt\":1,\"stoppedAt\":2}}", std::process::id());
    std::fs::write(s.path("status.json"), told).expect("written");
    let status = s.bridge.status().await;
    assert!(!status.alive && status.detail.contains("in good order"), "{status:?}");
    assert_eq!(s.bridge.asked(), None);
    std::fs::write(s.path("status.json"), "{").expect("written");
    assert!(!s.bridge.status().await.alive);
}

#[tokio::test]
async fn a_folder_removed_meanwhile_is_made_again() {
    let s = scratch();
    std::fs::remove_dir_all(s.path("")).expect("removed");
    assert_eq!(s.hooks(0).await, (vec![], 0));
    s.bridge.place(&key(), Slot::Context, "block").await.expect("placed");
    std::fs::remove_dir_all(s.path("")).expect("removed");
    s.bridge.acknowledge(ID).await.expect("acknowledged");
    s.bridge.heartbeat().await.expect("written");
    assert_eq!(std::fs::metadata(s.path("")).expect("there").permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn the_bell_rings_for_a_new_event() {
    let s = scratch();
    s.start("events.jsonl", 1);
    let (ring, mut rung) = tokio::sync::mpsc::unbounded_channel();
    s.bridge.subscribe(Arc::new(move || ring.send(()).unwrap_or(())));
    s.append("events.jsonl", &line("agent_end"));
    tokio::time::timeout(Duration::from_secs(10), rung.recv()).await.expect("rung in time").expect("still watching");
}
