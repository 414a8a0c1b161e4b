//! The main job, end to end: a real OpenClaw session fills up, and nothing is lost.
//!
//! The real gateway, the real `moon` binary as a daemon, and a model that remembers every request: what it was shown is the
//! proof. Nothing here looks into Moon's memory, only at its files, its commands and the model's log.

mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::gateway::{Gateway, SESSION};
use support::mock_model::{MockModel, text_of_role};
use support::peers_or_skip;

/// A fact that is said once, in passing, and that nobody can guess.
const FACT: &str = "the spare key of the pump house hangs behind the blue fuse box in room 214";
const NEEDLE: &str = "blue fuse box";
const QUESTION: &str = "where does the spare key of the pump house hang?";
const PATIENCE: Duration = Duration::from_secs(60);

/// `moon` as its user runs it: the gateway's environment and a home of its own.
struct Moon {
    home: PathBuf,
    environment: Vec<(String, std::ffi::OsString)>,
    daemon: Option<Child>,
}

impl Moon {
    fn beside(gateway: &Gateway) -> Self {
        let home = gateway.scratch().join("moon");
        let mut environment = gateway.environment();
        environment.push(("MOON_HOME".into(), home.clone().into_os_string()));
        environment.push(("OPENCLAW_BIN".into(), gateway.command().into_os_string()));
        Self { home, environment, daemon: None }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moon"));
        command.args(words).env_clear().envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("moon runs")
    }

    /// Runs a command that must succeed and returns the data of its report.
    fn data(&self, words: &[&str]) -> Value {
        let out = self.run(&[words, &["--json"]].concat());
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "moon {words:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
        let report: Value = serde_json::from_str(&text).expect("a report");
        report["data"].clone()
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.home.with_extension("log")).expect("a log");
        let child = self.command(&["watch", "--daemon"]).stdout(Stdio::null()).stderr(log).spawn();
        self.daemon = Some(child.expect("the daemon starts"));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.with_extension("log")).unwrap_or_default()
    }

    /// The audit as its log shows it: `(phase, event)`.
    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.home.join("skills/moon-system/logs/audit.log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn count(&self, phase: &str, event: &str) -> usize {
        self.audit().iter().filter(|row| row["phase"] == phase && row["event"] == event).count()
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "never: {what}\n{}\n{:#?}", self.log(), self.audit());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Moon {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// A message that adds about so many tokens to the prompt and is about nothing.
fn filler(number: usize, tokens: usize) -> String {
    let mut text = format!("Report {number}. ");
    let mut line = 0;
    while text.len() < tokens * 4 {
        line += 1;
        text.push_str(&format!("Line {number}-{line}: the level in basin {} was {} cm. ", line % 7, 200 + line % 90));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_fills_up_and_nothing_is_lost() {
    let Some(peers) = peers_or_skip("a_session_fills_up_and_nothing_is_lost") else { return };
    let model = MockModel::start(None).await;
    let mut gateway = Gateway::prepare(&peers, &model.base_url(), json!({"enabled": false}));
    let config_before = gateway.config();
    let mut moon = Moon::beside(&gateway);
    let installed = moon.run(&["install", "--mode", "lead", "--no-service"]);
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    gateway.start().await;
    moon.start();

    fill_and_prune(&moon, &gateway).await;
    grow_again_and_roll_over(&moon, &gateway).await;
    the_map_is_in_the_next_calls_and_the_fact_in_none(&moon, &gateway, &model).await;
    recall_finds_the_fact_and_puts_it_back(&moon, &gateway, &model).await;
    the_archive_is_the_transcript(&moon, &gateway, (1, 1)).await;

    let verified = moon.run(&["verify"]);
    assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
    let stopped = moon.run(&["ctl", "stop"]);
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
    let ended = moon.daemon.take().expect("started").wait().expect("ends");
    assert!(ended.success(), "{ended}\n{}", moon.log());
    let uninstalled = moon.run(&["uninstall", "--no-service"]);
    assert!(uninstalled.status.success(), "{}", text(&uninstalled.stderr));
    let mut config_after = gateway.config();
    // OpenClaw's own command notes that it has touched the file.
    config_after.as_object_mut().expect("an object").remove("meta");
    assert_eq!(config_after, config_before, "uninstall puts back what was there");
}

/// OpenClaw compacts by itself in `observe` mode; Moon has archived before, and reduces nothing.
#[tokio::test(flavor = "multi_thread")]
async fn in_observe_mode_openclaw_decides_and_moon_archives_before_every_compaction() {
    let name = "in_observe_mode_openclaw_decides_and_moon_archives_before_every_compaction";
    let Some(peers) = peers_or_skip(name) else { return };
    let model = MockModel::start(None).await;
    let mut gateway = Gateway::prepare(&peers, &model.base_url(), json!({"enabled": false}));
    let mut moon = Moon::beside(&gateway);
    let installed = moon.run(&["install", "--mode", "observe", "--no-service"]);
    assert!(installed.status.success(), "{}", text(&installed.stderr));
    gateway.start().await;
    moon.start();
    gateway.send(&format!("By the way, {FACT}. [[reply:60]]")).await;
    moon.until("the first archive", |m| m.count("archive", "archived") > 0).await;
    // 75 % of the small window is where OpenClaw compacts before a turn.
    for number in 0..9 {
        gateway.send(&format!("{} [[reply:200]]", filler(number, 1_400))).await;
        if spooled(&moon, "after_compaction") > 0 {
            break;
        }
    }
    assert_eq!(spooled(&moon, "after_compaction"), 1, "OpenClaw compacted by itself\n{}", gateway.log());
    let waited = events(&moon).into_iter().find(|e| e["hook"] == "compaction_released").expect("it asked Moon first");
    assert_eq!(waited["acked"], true, "Moon had archived before anything was reduced: {waited}");
    assert_eq!(moon.count("prune", "succeeded") + moon.count("continuity", "succeeded"), 0, "Moon reduced nothing");
    let found = moon.data(&["recall", QUESTION]);
    assert!(found["matches"][0]["snippet"].as_str().is_some_and(|s| s.contains(NEEDLE)), "{found:#}");
    the_archive_is_the_transcript(&moon, &gateway, (1, 0)).await;
}

/// The other way to roll over: one compaction whose summary is the map.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollover_by_compaction_carries_the_map_as_its_summary() {
    let name = "a_rollover_by_compaction_carries_the_map_as_its_summary";
    let Some(peers) = peers_or_skip(name) else { return };
    let model = MockModel::start(None).await;
    let mut gateway = Gateway::prepare(&peers, &model.base_url(), json!({"enabled": false}));
    let mut moon = Moon::beside(&gateway);
    for (key, value) in
        [("CONTINUITY_ROLLOVER", "compact"), ("THRESHOLDS_PRUNE", "0.97"), ("THRESHOLDS_DISTILL", "0.98")]
    {
        moon.environment.push((format!("MOON_{key}"), value.into()));
    }
    moon.environment.push(("MOON_THRESHOLDS_ARCHIVE".into(), "0.5".into()));
    let installed = moon.run(&["install", "--mode", "lead", "--no-service"]);
    assert!(installed.status.success(), "{}", text(&installed.stderr));
    gateway.start().await;
    moon.start();
    gateway.send("We decided to paint the pump house green. [[reply:60]]").await;
    for number in 0..7 {
        gateway.send(&format!("{} [[reply:200]]", filler(number, 1_000))).await;
    }
    moon.until("a fresh reading", |m| usage(m).is_some_and(|r| r > 0.6)).await;
    // Without a prune on the way: the jump goes over all thresholds, and the prune threshold is all but one.
    gateway.send(&format!("{} [[reply:40]]", filler(8, 4_300))).await;
    moon.until("a prune", |m| m.count("prune", "succeeded") == 1).await;
    gateway.send("And now? [[reply:40]]").await;
    moon.until("a reading after the prune", |m| usage(m).is_some_and(|r| r < 0.8)).await;
    let missing = 0.995 - usage(&moon).expect("read");
    gateway.send(&format!("{} [[reply:40]]", filler(9, (missing * 16_000.0) as usize))).await;
    moon.until("a rollover", |m| m.count("continuity", "succeeded") == 1).await;
    let before = model.requests().len();
    gateway.send("What was decided? [[reply:40]]").await;
    let call = model.requests()[before].clone();
    assert!(text_of_role(&call, "user").contains("Continuity map of agent:main:main"), "the map is the summary");
    moon.until("the arrival of the map", |m| m.count("continuity", "confirmed") == 1).await;
    the_archive_is_the_transcript(&moon, &gateway, (2, 0)).await;
}

/// The events the plugin has spooled.
fn events(moon: &Moon) -> Vec<Value> {
    let text = std::fs::read_to_string(moon.home.join("bridge/events.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn spooled(moon: &Moon, hook: &str) -> usize {
    events(moon).iter().filter(|event| event["hook"] == hook).count()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// From a small session to over 90 % in one turn: archive, index and prune, once each and in this order.
async fn fill_and_prune(moon: &Moon, gateway: &Gateway) {
    gateway.send("Good morning. Today we go through the reports of the water works. [[reply:60]]").await;
    gateway.send(&format!("By the way, {FACT}. [[reply:60]]")).await;
    for number in 0..6 {
        gateway.send(&format!("{} [[reply:300]]", filler(number, 900))).await;
    }
    moon.until("a fresh reading below the thresholds", |m| usage(m).is_some_and(|r| r > 0.4)).await;
    assert!(usage(moon).expect("read") < 0.8, "the set-up must stay below: {:?}", usage(moon));
    assert_eq!(moon.count("threshold", "triggered"), 0);
    gateway.send(&format!("{} [[reply:40]]", filler(6, 5_600))).await;
    moon.until("a prune", |m| m.count("prune", "succeeded") == 1).await;
    let triggers = triggers(moon);
    assert_eq!(triggers.iter().map(|t| t.0.as_str()).collect::<Vec<_>>(), ["archive", "prune"]);
    assert!(triggers.iter().all(|t| t.1 > 0.9), "{triggers:?}");
    let cycle = cycle_of(moon, "prune");
    let stages: Vec<String> = succeeded(moon, &cycle);
    assert_eq!(stages, ["archive", "index", "prune"], "each once and in this order");
}

/// Over 90 % again: distil, roll over.
async fn grow_again_and_roll_over(moon: &Moon, gateway: &Gateway) {
    gateway.send("Shall we go on? [[reply:40]]").await;
    moon.until("a reading after the prune", |m| usage(m).is_some_and(|r| r < 0.7)).await;
    let missing = 0.93 - usage(moon).expect("read");
    gateway.send(&format!("{} [[reply:40]]", filler(7, (missing * 16_000.0) as usize))).await;
    moon.until("a rollover", |m| m.count("continuity", "succeeded") == 1).await;
    let cycle = cycle_of(moon, "distill");
    assert_eq!(succeeded(moon, &cycle), ["archive", "index", "distill", "continuity"], "each once and in this order");
    assert_eq!(moon.count("prune", "succeeded"), 1, "no second prune");
    let memory = only_file(&moon.home.join("memory"));
    let daily = std::fs::read_to_string(memory).expect("readable");
    assert_eq!(daily.matches("<!-- moon:begin ").count(), 1, "{daily}");
    assert!(daily.contains(SESSION), "{daily}");
}

async fn the_map_is_in_the_next_calls_and_the_fact_in_none(moon: &Moon, gateway: &Gateway, model: &MockModel) {
    let before = model.requests().len();
    for number in 0..3 {
        gateway.send(&format!("Next topic, number {number}. [[reply:40]]")).await;
    }
    let calls = model.requests()[before..].to_vec();
    assert!(calls.len() >= 3);
    for call in &calls {
        let system = text_of_role(call, "system");
        assert!(system.contains("Continuity map of agent:main:main"), "the map is in every call of the new window");
        assert!(!call.to_string().contains(NEEDLE), "the fact has left the context");
        assert!(!call.to_string().contains("basin 3"), "so have the reports");
    }
    moon.until("the arrival of the map", |m| m.count("continuity", "confirmed") == 1).await;
    assert_eq!(moon.count("alert", "fired"), 0, "{:#?}", moon.audit());
}

async fn recall_finds_the_fact_and_puts_it_back(moon: &Moon, gateway: &Gateway, model: &MockModel) {
    let found = moon.data(&["recall", QUESTION]);
    let first = &found["matches"][0];
    assert!(first["snippet"].as_str().is_some_and(|s| s.contains(NEEDLE)), "rank 1: {found:#}");
    assert_eq!(first["metadata"]["session"], SESSION);
    moon.data(&["recall", QUESTION, "--inject", SESSION]);
    let before = model.requests().len();
    gateway.send("Where does the key hang? [[reply:20]]").await;
    gateway.send("Thank you. [[reply:20]]").await;
    let calls = model.requests()[before..].to_vec();
    assert!(calls[0].to_string().contains(NEEDLE), "the passage is in the next request");
    assert!(!text_of_role(&calls[0], "system").contains(NEEDLE), "as data, not as instructions");
    assert!(calls[0].to_string().contains("carries no instructions"), "framed");
    assert!(!calls[1].to_string().contains(NEEDLE), "and only in that one");
}

/// Every row of OpenClaw's own transcript, before and after every reduction, stands in the archive to the byte. `reduced` is
/// how many compactions and resets there were.
async fn the_archive_is_the_transcript(moon: &Moon, gateway: &Gateway, reduced: (usize, usize)) {
    moon.data(&["snapshot"]);
    let database = gateway.state_dir().join("agents/main/agent/openclaw-agent.sqlite");
    let rows = transcript(&database);
    let kinds = |kind: &str| rows.iter().filter(|row| text(row).contains(&format!("\"type\":\"{kind}\""))).count();
    assert_eq!((kinds("compaction"), kinds("reset")), reduced, "compactions and resets");
    assert!(rows.len() > 12, "{}", rows.len());
    let expected: Vec<u8> = rows.iter().flat_map(|row| row.iter().chain(b"\n").copied()).collect();
    // The list of archives is a projection: it follows the ledger within a moment.
    moon.until("the list names every archive", |m| archived(&m.home).len() >= expected.len()).await;
    assert!(archived(&moon.home) == expected, "{} rows differ from the archive", rows.len());
}

/// The main session's rows, read independently of Moon's own reader.
fn transcript(database: &Path) -> Vec<Vec<u8>> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(database, flags).expect("OpenClaw's store");
    let sql = "SELECT event_json, event_zstd FROM transcript_events WHERE session_id =
                 (SELECT current_session_id FROM session_nodes WHERE session_key = ?1) ORDER BY seq";
    let mut statement = db.prepare(sql).expect("the known columns");
    let rows = statement.query_map([SESSION], |r| {
        let plain: Option<String> = r.get(0)?;
        let packed: Option<Vec<u8>> = r.get(1)?;
        Ok(plain
            .map(String::into_bytes)
            .unwrap_or_else(|| zstd::decode_all(packed.expect("one of both").as_slice()).expect("a zstd frame")))
    });
    rows.expect("rows").collect::<Result<_, _>>().expect("rows")
}

/// The main session's archive, decoded with nothing but zstd, in the order of `ledger.jsonl`.
fn archived(home: &Path) -> Vec<u8> {
    let ledger = std::fs::read_to_string(home.join("archives/ledger.jsonl")).expect("the ledger's projection");
    let records: Vec<Value> = ledger.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    let mut bytes = Vec::new();
    for record in records.iter().filter(|record| record["session_key"] == SESSION) {
        let object = std::fs::read(home.join(record["archive_path"].as_str().expect("a path"))).expect("an object");
        bytes.extend(zstd::decode_all(object.as_slice()).expect("zstd"));
    }
    bytes
}

fn usage(moon: &Moon) -> Option<f64> {
    let state: Value =
        serde_json::from_slice(&std::fs::read(moon.home.join("state/moon_state.json")).ok()?).expect("whole JSON");
    let usage = &state["sessions"][SESSION]["usage"];
    usage["usage_ratio"].as_f64().filter(|_| usage["fresh"] == true)
}

/// Kind and usage of every trigger, in order.
fn triggers(moon: &Moon) -> Vec<(String, f64)> {
    let rows = moon.audit();
    let rows = rows.iter().filter(|row| row["phase"] == "threshold" && row["event"] == "triggered");
    rows.map(|row| {
        let detail = &row["detail"];
        (detail["kind"].as_str().expect("a kind").to_owned(), detail["ratio"].as_f64().expect("a ratio"))
    })
    .collect()
}

fn cycle_of(moon: &Moon, kind: &str) -> String {
    let rows = moon.audit();
    let row = rows.iter().find(|row| row["event"] == "triggered" && row["detail"]["kind"] == kind);
    row.unwrap_or_else(|| panic!("no {kind} cycle"))["cycle"].as_str().expect("an id").to_owned()
}

fn succeeded(moon: &Moon, cycle: &str) -> Vec<String> {
    let rows = moon.audit();
    let rows = rows.iter().filter(|row| row["cycle"] == cycle && row["event"] == "succeeded");
    rows.map(|row| row["phase"].as_str().expect("a stage").to_owned()).collect()
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("entry").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}
