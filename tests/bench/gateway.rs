//! What Moon costs beside OpenClaw: from a usage push to the archived, verified copy, and an idle daemon on a live gateway.
//!
//! Run it with `cargo bench --bench gateway`; `-- idle` makes the last measurement only, and `MOON_BENCH_BINARY` names the program for it.
//! The latencies are taken on a scripted gateway with a store of OpenClaw's form, because
//! a transcript of 100 MB cannot be talked into a real one in reasonable time; the idle daemon watches the real one that
//! `tests/run` installs, and is left out by name without it. Figures are for `docs/performance.md`; nothing is asserted on them.

#![allow(clippy::print_stdout, reason = "a measurement is told on stdout")]

#[path = "../openclaw_wire/fake.rs"]
#[allow(dead_code, reason = "made for the tests of the wire")]
mod fake;
#[path = "../support/mod.rs"]
mod support;

use fake::{Fake, KEY, TOKEN, list, ok, row, store};
use moon::adapters::openclaw::{Discovered, OpenClaw};
use moon::bench::idle;
use moon::daemon::Daemon;
use moon::daemon::lock::HomeLock;
use moon::home::Home;
use moon_actors::settings::Settings;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::gateway::Gateway;
use support::mock_model::MockModel;

const SESSION_ID: &str = "ac63a3c9";
const LIMIT: Duration = Duration::from_secs(600);
const IDLE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    if !std::env::args().any(|word| word == "idle") {
        for megabytes in [1, 100] {
            push_to_archive(megabytes).await;
        }
    }
    idle_beside_a_live_gateway().await;
}

/// A session that Moon has never seen appears in a push with a transcript of this size; then it grows by one turn.
async fn push_to_archive(megabytes: usize) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let fake = Fake::start().await;
    let nothing = list(&[]);
    fake.say("sessions.list", ok(&nothing));
    fake.say("sessions.subscribe", ok(&json!({ "subscribed": true, "list": nothing })));
    let daemon = watch(scratch.path(), &fake).await;

    let db = store(scratch.path(), SCHEMA);
    let mut records = write(&db, megabytes * 1_000_000);
    let (archived, searchable) = pushed(&daemon, &fake, records, 1).await;
    println!("{megabytes} MB, {records} records: push to archived {archived:.0} ms, to searchable {searchable:.0} ms");

    for (at, turn) in (0..3).enumerate() {
        append(&db, records);
        records += 1;
        let (archived, searchable) = pushed(&daemon, &fake, records, 2 + at as i64).await;
        println!("  turn {}: push to archived {archived:.1} ms, to searchable {searchable:.1} ms", turn + 1);
    }
    let now = idle(std::process::id(), Duration::ZERO).await.expect("this process");
    println!(
        "  {:.0} MiB resident at the end, the scripted gateway included",
        now.rss_bytes as f64 / f64::from(1 << 20)
    );
    daemon.stop("the measurement is over").await.expect("stops");
}

const SCHEMA: &str = "
    CREATE TABLE transcript_events (session_id TEXT NOT NULL, seq INTEGER NOT NULL, event_json TEXT, created_at INTEGER,
        event_zstd BLOB, event_utf8_bytes INTEGER, PRIMARY KEY (session_id, seq));
    CREATE TABLE session_windows (session_id TEXT PRIMARY KEY, session_key TEXT);
    CREATE TABLE session_nodes (session_key TEXT PRIMARY KEY, entry_json TEXT NOT NULL);
    INSERT INTO session_windows VALUES ('ac63a3c9', 'agent:main:main');
    INSERT INTO session_nodes VALUES ('agent:main:main', '{\"lifecycleRevision\":\"r1\"}');";

/// The daemon in this process, over a scratch home and the scripted gateway.
async fn watch(scratch: &Path, fake: &Fake) -> Daemon {
    let (home, _) = Home::open(scratch.join("home")).expect("a home");
    let token = scratch.join("token");
    std::fs::write(&token, TOKEN).expect("a token file");
    let mut settings = Settings::default();
    settings.openclaw.token_file = token.display().to_string();
    settings.openclaw.pair_device = false;
    let discovered = Discovered {
        state_dir: scratch.join("openclaw"),
        config_path: scratch.join("openclaw.json"),
        url: fake.url.clone(),
        token: None,
        notes: Vec::new(),
    };
    let host = Arc::new(OpenClaw::connect(&settings.openclaw, &discovered, home.root()));
    let lock = HomeLock::take(&home, "bench").expect("nobody else");
    let daemon = Daemon::start(&home, settings, lock, host).await.expect("starts");
    let connected = async { daemon.wiring.ports.host.readings().await.expect("connects") };
    assert!(connected.await.is_empty(), "no session yet");
    daemon
}

/// Pushes the session's row. Milliseconds from there until so many records are archived, and until all are searchable.
async fn pushed(daemon: &Daemon, fake: &Fake, records: i64, number: i64) -> (f64, f64) {
    let ledger = &daemon.wiring.ports.ledger;
    let (key, at) = (KEY.into(), 1_795_150_000_000 + number * 1000);
    fake.push_row(&row(at, &json!({ "sessionId": SESSION_ID, "totalTokens": 4000 + number })));
    let began = Instant::now();
    let mut archived = None;
    while began.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let have: i64 = ledger.all_series(Some(&key)).await.expect("series").iter().map(|s| s.records).sum();
        if have < records {
            continue;
        }
        let ms = began.elapsed().as_secs_f64() * 1e3;
        let archived = *archived.get_or_insert(ms);
        if ledger.unindexed(Some(&key), 0, 1).await.expect("segments").is_empty() {
            return (archived, ms);
        }
    }
    panic!("{records} records were not archived within {LIMIT:?}");
}

/// Writes rows in OpenClaw's form until they hold about so many bytes. Returns how many.
fn write(db: &rusqlite::Connection, bytes: usize) -> i64 {
    db.execute_batch("BEGIN").expect("a transaction");
    let (mut written, mut records) = (0, 0);
    while written < bytes {
        written += append(db, records);
        records += 1;
    }
    db.execute_batch("COMMIT").expect("a commit");
    records
}

/// One row of about 1 kB, as OpenClaw stores it: packed when that saves a tenth.
fn append(db: &rusqlite::Connection, seq: i64) -> usize {
    let words =
        ["pump", "basin", "valve", "report", "window", "signal", "harbour", "meter", "canal", "filter", "shift"];
    let mut state = seq.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut said = format!("Turn {seq}:");
    while said.len() < 1_100 {
        // xorshift: enough variety to keep compression honest.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        said.push_str(&format!(" {} {}", words[(state % 11) as usize], state >> 44));
    }
    let role = if seq % 2 == 0 { "user" } else { "assistant" };
    let message = json!({ "role": role, "content": said });
    let text = json!({ "type": "message", "id": format!("{seq:08x}"), "message": message }).to_string();
    let packed = zstd::encode_all(text.as_bytes(), 3).expect("zstd");
    let smaller = packed.len() * 10 <= text.len() * 9;
    let (plain, packed) = if smaller { (None, Some(&packed)) } else { (Some(&text), None) };
    let sql = "INSERT INTO transcript_events (session_id, seq, event_json, event_zstd, event_utf8_bytes) VALUES (?, ?, ?, ?, ?)";
    db.execute(sql, rusqlite::params![SESSION_ID, seq, plain, packed, text.len() as i64]).expect("a row");
    text.len()
}

/// The real daemon beside the real gateway, with some turns behind it and nothing going on.
async fn idle_beside_a_live_gateway() {
    let Some(peers) = support::peers_or_skip("idle beside a live gateway") else { return };
    let model = MockModel::start(None).await;
    let mut gateway = Gateway::prepare(&peers, &model.base_url(), json!({"enabled": false}));
    let home = gateway.scratch().join("moon");
    let binary = std::env::var_os("MOON_BENCH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_moon").into());
    let moon = |words: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(words).env_clear().envs(gateway.environment()).env("MOON_HOME", &home);
        command.env("OPENCLAW_BIN", gateway.command()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let (install, mut watch) = (moon(&["install", "--no-service"]).status(), moon(&["watch", "--daemon"]));
    assert!(install.expect("moon runs").success(), "installed");
    gateway.start().await;
    let mut daemon = watch.spawn().expect("the daemon starts");
    for number in 0..5 {
        gateway.send(&format!("Good morning, number {number}. [[reply:100]]")).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let used = idle(daemon.id(), IDLE).await.expect("the daemon runs");
    println!("daemon on a live gateway, idle: {used}");
    let state: Value =
        serde_json::from_slice(&std::fs::read(home.join("state/moon_state.json")).expect("written")).expect("JSON");
    println!("  {} records archived before", state["counters"]["records"]);
    // In order, so that a program that traces it can write what it saw.
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    daemon.wait().expect("ends");
}
