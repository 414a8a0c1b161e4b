//! What the daemon makes of a gateway that was away, or that keeps sessions to itself.
//!
//! The daemon is the real one, in this process, over a scratch home. It must never wait for a poll: the default one is far away.

use super::fake::{Client, Fake, KEY, PATIENCE, list, ok, row, store};
use moon::daemon::Daemon;
use moon::daemon::lock::HomeLock;
use moon::home::Home;
use moon_actors::settings::{Mode, Settings};
use moon_actors::usage::actor::UsageMsg;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SCHEMA: &str = "CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT, event_zstd BLOB, event_utf8_bytes INTEGER);
    CREATE TABLE session_windows (session_id TEXT PRIMARY KEY, session_key TEXT);
    INSERT INTO session_windows VALUES ('ac63a3c9', 'agent:main:main');";

fn append(db: &rusqlite::Connection, seq: i64) {
    let text =
        json!({ "type": "message", "id": seq.to_string(), "message": { "role": "user", "content": "hi" } }).to_string();
    let sql = "INSERT INTO transcript_events VALUES ('ac63a3c9', ?1, ?2, NULL, ?3)";
    db.execute(sql, rusqlite::params![seq, text, text.len() as i64]).expect("a row");
}

/// A daemon whose polls are too far apart to help.
async fn start(scratch: &Path, url: &str) -> Daemon {
    start_as(Mode::Observe, scratch, url).await
}

async fn start_as(mode: Mode, scratch: &Path, url: &str) -> Daemon {
    let (home, _) = Home::open(scratch.join("home")).expect("a home");
    let host = Client::host_of(scratch, scratch, url, mode, false);
    let mut settings = Settings::default();
    settings.openclaw.mode = mode;
    assert!(settings.watch.poll > 3 * PATIENCE, "a poll would hide what is not rung");
    settings.watch.poll = Duration::from_secs(3600);
    let lock = HomeLock::take(&home, "test").expect("nobody else");
    Daemon::start(&home, settings, lock, Arc::new(host)).await.expect("starts")
}

async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn archived(daemon: &Daemon, records: i64) {
    let ledger = &daemon.wiring.ports.ledger;
    until("archived", || async {
        ledger.all_series(Some(&KEY.into())).await.expect("series").iter().map(|s| s.records).sum::<i64>() == records
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_known_from_before_is_read_at_the_start_though_the_gateway_does_not_show_it_or_is_away() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let db = store(scratch.path(), SCHEMA);
    append(&db, 0);
    let fake = Fake::start().await;
    let daemon = start(scratch.path(), &fake.url).await;
    archived(&daemon, 1).await;
    daemon.stop("test").await.expect("stops");

    append(&db, 1);
    fake.say("sessions.list", ok(&list(&[])));
    fake.say("sessions.subscribe", ok(&json!({ "subscribed": true, "list": list(&[]) })));
    let daemon = start(scratch.path(), &fake.url).await;
    archived(&daemon, 2).await;
    daemon.stop("test").await.expect("stops");

    append(&db, 2);
    let url = fake.url.clone();
    drop(fake);
    let daemon = start(scratch.path(), &url).await;
    archived(&daemon, 3).await;
    daemon.stop("test").await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alert_of_an_unreachable_gateway_ends_with_the_connection_not_with_the_next_poll() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let fake = Fake::start().await;
    let (url, address) = (fake.url.clone(), fake.url.replace("ws://", ""));
    drop(fake);
    let daemon = start(scratch.path(), &url).await;
    let ledger = &daemon.wiring.ports.ledger;
    let open = || async {
        ledger.alerts(true).await.expect("alerts").iter().any(|alert| alert.key.rule == "host.unreachable")
    };
    until("the alert", || {
        daemon.wiring.mail.usage.cast(UsageMsg::Refresh);
        open()
    })
    .await;
    let fake = Fake::start_at(&address).await;
    until("its end", || async { !open().await }).await;
    assert_eq!(fake.connections(), 1);
    daemon.stop("test").await.expect("stops");
}

/// A store in a form that Moon does not know, and a gateway that shows its messages.
fn shown_by_the_gateway_only(scratch: &Path, fake: &Fake) -> rusqlite::Connection {
    let message = |seq: i64| {
        json!({ "role": "user", "content": format!("m{seq}"), "timestamp": 1_795_150_100_101_i64,
            "__openclaw": { "id": format!("id{seq}"), "transcriptPosition": { "source": "x", "rawSeq": seq } } })
    };
    fake.say("sessions.get", ok(&json!({ "messages": [message(0), message(1)] })));
    let full = row(1_795_150_000_000, &json!({ "totalTokens": 15_500 }));
    fake.say("sessions.list", ok(&list(std::slice::from_ref(&full))));
    fake.say("sessions.subscribe", ok(&json!({ "subscribed": true, "list": list(&[full]) })));
    fake.say("sessions.compact", ok(&json!({ "ok": true, "key": KEY, "compacted": true })));
    store(scratch, "CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT);")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_only_shows_is_archived_but_never_reduced() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let fake = Fake::start().await;
    let _db = shown_by_the_gateway_only(scratch.path(), &fake);
    let daemon = start_as(Mode::Lead, scratch.path(), &fake.url).await;
    // Moon's text would be carried: only the transcript is in the way.
    let plugin = json!({ "version": "test", "pid": std::process::id(), "startedAt": 0 });
    std::fs::write(scratch.path().join("home/bridge/status.json"), plugin.to_string()).expect("written");
    archived(&daemon, 2).await;
    let ledger = &daemon.wiring.ports.ledger;
    until("the refusal", || async {
        let jobs = ledger.jobs(false).await.expect("jobs");
        jobs.iter().any(|job| format!("{job:?}").contains("prune.not_exact"))
    })
    .await;
    assert!(fake.heard("sessions.compact").is_empty() && fake.heard("sessions.reset").is_empty());
    daemon.stop("test").await.expect("stops");
}
