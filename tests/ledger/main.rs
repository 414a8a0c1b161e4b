//! The ledger in SQLite, on disk and in memory: claims, transactions, the audit chain, full disks, two openers.
//!
//! What these tests must never do: ask the ledger alone whether it tells the truth; the file is also opened behind its back.

mod audit;
mod file;
mod jobs;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use moon::adapters::sqlite::{SQLITE_FLOOR, SqliteLedger};
use moon_actors::domain::{
    Claim, CycleId, CycleKind, SessionKey, SessionRef, Sha256, Stage, TraceId, Trigger, UsageReading,
};
use moon_actors::port::{
    AlertKey, AuditEntry, Clock, ContinuityRow, DistillationRow, Effect, Ids, Ledger, NewCycle, Release, Severity,
};
use moon_actors::{Error, Kind};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const START: i64 = 1_795_165_200_000;

/// A clock that stands still until it is moved; wall and steady apart.
#[derive(Default)]
struct Hands {
    wall: AtomicI64,
    steady: AtomicI64,
    named: AtomicU64,
}

impl Hands {
    fn forward(&self, seconds: i64) {
        self.wall.fetch_add(seconds * 1000, Ordering::Relaxed);
        self.steady.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}
fn instant(millis: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds(START + millis)
}
impl Clock for Hands {
    fn now(&self) -> DateTime<Utc> {
        instant(self.wall.load(Ordering::Relaxed))
    }
    fn steady(&self) -> DateTime<Utc> {
        instant(self.steady.load(Ordering::Relaxed))
    }
    fn today(&self) -> NaiveDate {
        self.now().date_naive()
    }
}
impl Ids for Hands {
    fn next(&self) -> String {
        format!("id-{:05}", self.named.fetch_add(1, Ordering::Relaxed))
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

fn on_disk(folder: &Path) -> (SqliteLedger, Arc<Hands>) {
    let hands = Arc::new(Hands::default());
    (reopened(folder, &hands).expect("a scratch ledger opens"), hands)
}

fn reopened(folder: &Path, hands: &Arc<Hands>) -> moon_actors::Result<SqliteLedger> {
    SqliteLedger::open(&folder.join("moon.db"), Arc::clone(hands) as _, Arc::clone(hands) as _)
}

/// The same story on disk and in memory.
fn both(story: impl AsyncFn(SqliteLedger, Arc<Hands>)) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (ledger, hands) = on_disk(folder.path());
    wait(story(ledger, hands));
    let hands = Arc::new(Hands::default());
    let memory = SqliteLedger::in_memory(Arc::clone(&hands) as _, Arc::clone(&hands) as _).expect("memory is there");
    wait(story(memory, hands));
}

fn session(key: &str) -> SessionRef {
    SessionRef { key: SessionKey::from(key), session_id: format!("{key}-id") }
}

fn reading(key: &str) -> UsageReading {
    UsageReading {
        session: session(key),
        used_tokens: Some(90),
        window_tokens: Some(100),
        fresh: true,
        running: false,
        last_activity: None,
        generation: None,
        model: None,
        provider: "test".into(),
        captured_at: instant(0),
    }
}

fn cycle(id: &str, key: &str, kind: CycleKind) -> NewCycle {
    NewCycle {
        id: CycleId::from(id),
        session: session(key),
        trigger: Trigger { kind, reason: "a test".into(), ratio: Some(0.9) },
        trace: TraceId::from("trace"),
        used_tokens: Some(90),
        ack: None,
    }
}

async fn open(ledger: &SqliteLedger, id: &str, key: &str, kind: CycleKind) -> Option<CycleId> {
    ledger.observe(&[reading(key)]).await.expect("a reading is recorded");
    ledger.open_cycle(&cycle(id, key, kind), None).await.expect("a cycle is opened or not")
}

async fn claim(ledger: &SqliteLedger, stage: Stage) -> Option<Claim> {
    ledger.claim(stage, 3).await.expect("the ledger answers")
}

fn done() -> AuditEntry {
    AuditEntry::new("test", "succeeded", "ok", "done")
}

async fn finish(ledger: &SqliteLedger, claim: &Claim, effect: Effect) -> bool {
    ledger.complete(claim, &effect, &done()).await.expect("the ledger answers")
}

/// Every row of every table but the audit's own text: what "nothing changed" is compared by.
fn dump(path: &Path) -> String {
    let db = Connection::open(path).expect("the file opens");
    let tables: Vec<String> = db
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .expect("tables");
    let mut out = String::new();
    for table in tables {
        let mut statement = db.prepare(&format!("SELECT * FROM {table}")).expect("a table");
        let columns = statement.column_count();
        let mut rows = statement.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let values: Vec<String> = (0..columns).map(|i| format!("{:?}", row.get_ref(i).expect("a value"))).collect();
            out.push_str(&format!("{table}: {}\n", values.join(" | ")));
        }
    }
    out
}

/// A ledger on disk with this many audit rows more or less, closed.
fn audited(folder: &Path, rows: usize) {
    let (ledger, _) = on_disk(folder);
    wait(async {
        ledger.begin("t").await.expect("begins");
        for n in 1..rows {
            let entry = AuditEntry::new("test", "noted", "info", format!("row {n}")).detail(json!({ "n": n }));
            ledger.audit(&entry).await.expect("written");
        }
    });
}
