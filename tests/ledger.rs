//! The ledger in SQLite, on disk and in memory: claims, transactions, the audit chain, full disks, two openers.
//!
//! What these tests must never do: ask the ledger alone whether it tells the truth; the file is also opened behind its back.

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

#[test]
fn a_session_has_one_open_cycle_and_captures_beside_it() {
    both(async |ledger, _| {
        assert!(open(&ledger, "c1", "s", CycleKind::Prune).await.is_some());
        assert!(open(&ledger, "c2", "s", CycleKind::Distill).await.is_none(), "a second cycle beside an open one");
        assert!(open(&ledger, "c3", "s", CycleKind::Capture).await.is_some());
        assert!(
            open(&ledger, "c4", "s", CycleKind::Capture).await.is_none(),
            "a capture that waits already sees it all"
        );
        assert!(open(&ledger, "c5", "other", CycleKind::Prune).await.is_some(), "sessions do not wait for each other");
        // A capture that has begun to read may miss what comes now.
        let (first, second) = (claim(&ledger, Stage::Archive).await, claim(&ledger, Stage::Archive).await);
        let claimed = [first.expect("a job").job.cycle, second.expect("a job").job.cycle];
        assert!(claimed.contains(&CycleId::from("c3")), "{claimed:?}");
        assert!(open(&ledger, "c6", "s", CycleKind::Capture).await.is_some());
    });
}

#[test]
fn a_capture_of_another_transcript_does_not_wait_for_the_old_ones() {
    both(async |ledger, _| {
        assert!(open(&ledger, "c1", "s", CycleKind::Capture).await.is_some());
        let mut replaced = cycle("c2", "s", CycleKind::Capture);
        replaced.session.session_id = "another".into();
        assert!(ledger.open_cycle(&replaced, None).await.expect("opened or not").is_some());
    });
}

#[test]
fn compactions_that_wait_for_one_archive_are_all_answered() {
    both(async |ledger, _| {
        for (id, ack) in [("c1", "a"), ("c2", "b"), ("c3", "c")] {
            ledger.observe(&[reading("s")]).await.expect("recorded");
            let capture = NewCycle { ack: Some(ack.into()), ..cycle(id, "s", CycleKind::Capture) };
            ledger.open_cycle(&capture, None).await.expect("opened or joined");
        }
        assert_eq!(claim(&ledger, Stage::Archive).await.expect("one job").job.ack.as_deref(), Some("a,b,c"));
    });
}

#[test]
fn what_a_compaction_waits_for_goes_before_all_others_and_out_of_its_pause() {
    both(async |ledger, _| {
        open(&ledger, "c1", "first", CycleKind::Capture).await;
        open(&ledger, "c2", "s", CycleKind::Capture).await;
        let held = claim(&ledger, Stage::Archive).await.expect("the older one");
        assert_eq!(held.job.cycle, CycleId::from("c1"));
        let failing = claim(&ledger, Stage::Archive).await.expect("the other");
        let error = Error::transient("archive.disk_full", "no room");
        assert!(ledger.retry(&failing, Duration::from_secs(300), &error, &done()).await.expect("answers"));
        open(&ledger, "c3", "third", CycleKind::Capture).await;
        let waiting = NewCycle { ack: Some("a".into()), ..cycle("c4", "s", CycleKind::Capture) };
        assert!(ledger.open_cycle(&waiting, None).await.expect("joined").is_none());
        let next = claim(&ledger, Stage::Archive).await.expect("due at once");
        assert_eq!((next.job.cycle, next.job.ack.as_deref()), (CycleId::from("c2"), Some("a")));
    });
}

#[test]
fn a_job_that_waits_for_a_turn_counts_nothing_and_is_hurried_by_that_sessions_end_of_turn_alone() {
    both(async |ledger, hands| {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let busy = Error::transient("host.busy", "a turn is running in s");
        for minutes in [0, 1] {
            let claim = claim(&ledger, Stage::Archive).await.expect("due");
            assert_eq!((claim.job.attempt, claim.job.failures), (1, 0));
            assert_eq!(claim.job.age, Duration::from_secs(60 * minutes), "since it was queued");
            assert!(ledger.wait(&claim, Duration::from_secs(60), &busy).await.expect("answers"));
            assert!(!ledger.wait(&claim, Duration::from_secs(60), &busy).await.expect("answers"), "no claim any more");
            hands.forward(60);
        }
        let claim = claim(&ledger, Stage::Archive).await.expect("due");
        assert!(ledger.wait(&claim, Duration::from_secs(60), &busy).await.expect("answers"));
        let told = ledger.audit_rows(0, 100).await.expect("rows");
        assert_eq!(
            told.iter().filter(|row| row.entry.event == "started").count(),
            1,
            "the first time is told, no other"
        );
        assert_eq!(ledger.hurry_waiting(&SessionKey::from("other")).await.expect("answers"), 0);
        assert!(self::claim(&ledger, Stage::Archive).await.is_none());
        assert_eq!(ledger.hurry_waiting(&SessionKey::from("s")).await.expect("answers"), 1);
        let claim = self::claim(&ledger, Stage::Archive).await.expect("due at once");
        let full = Error::transient("archive.disk_full", "no room");
        assert!(ledger.retry(&claim, Duration::from_secs(60), &full, &done()).await.expect("answers"));
        assert_eq!(
            ledger.hurry_waiting(&SessionKey::from("s")).await.expect("answers"),
            0,
            "a failure keeps its pause"
        );
    });
}

#[test]
fn an_alert_about_a_failing_stage_goes_on_while_another_job_of_the_session_fails_there() {
    both(async |ledger, _| {
        open(&ledger, "c1", "s", CycleKind::Capture).await;
        let old = claim(&ledger, Stage::Archive).await.expect("due");
        let error = Error::data("openclaw.record_damaged", "a row is damaged");
        assert!(ledger.retry(&old, Duration::ZERO, &error, &done()).await.expect("answers"));
        let key = AlertKey::failing(Stage::Archive, &SessionKey::from("s"));
        ledger.raise(&key, Severity::Critical, "m", None).await.expect("raised");
        let mut present = cycle("c2", "s", CycleKind::Capture);
        present.session.session_id = "another".into();
        ledger.open_cycle(&present, None).await.expect("opened");
        let firing = async || ledger.alerts(true).await.expect("alerts").len();
        let first = claim(&ledger, Stage::Archive).await.expect("due");
        let second = claim(&ledger, Stage::Archive).await.expect("due");
        let (old, new) = if first.job.failures > 0 { (first, second) } else { (second, first) };
        assert!(ledger.retry(&old, Duration::ZERO, &error, &done()).await.expect("answers"));
        assert!(finish(&ledger, &new, Effect::None).await);
        assert_eq!(firing().await, 1, "the older transcript still cannot be read");
        let old = claim(&ledger, Stage::Archive).await.expect("due");
        assert!(finish(&ledger, &old, Effect::None).await);
        assert_eq!(firing().await, 0);
    });
}

#[test]
fn what_a_prune_left_is_taken_from_the_first_count_that_can_be_trusted_after_it() {
    both(async |ledger, hands| {
        let claim = up_to(&ledger, "c1", CycleKind::Prune, Stage::Prune).await;
        let effect = Effect::Pruned { tokens_before: Some(90), tokens_after: None, permit: json!({}) };
        assert!(finish(&ledger, &claim, effect).await);
        let freed = async || {
            let row = ledger.session(&SessionKey::from("s")).await.expect("answers").expect("a session");
            row.last_freed.map(|share| (share * 90.0).round())
        };
        let seen = |used: u64, fresh: bool| UsageReading {
            used_tokens: Some(used),
            fresh,
            captured_at: hands.now(),
            ..reading("s")
        };
        ledger.observe(&[seen(90, true)]).await.expect("recorded");
        assert_eq!(freed().await, None, "seen in the same moment: it may be from before");
        hands.forward(1);
        ledger.observe(&[seen(90, false)]).await.expect("recorded");
        assert_eq!(freed().await, None, "nobody vouches for it");
        ledger.observe(&[seen(40, true)]).await.expect("recorded");
        hands.forward(60);
        ledger.observe(&[seen(70, true)]).await.expect("recorded");
        assert_eq!(freed().await, Some(50.0), "90 less 40; what came later is new talk");
    });
}

#[test]
fn a_finished_stage_queues_the_next_and_the_last_one_closes_the_cycle() {
    both(async |ledger, _| {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        for stage in CycleKind::Prune.stages() {
            assert_eq!(ledger.cycle_done(&CycleId::from("c1")).await.expect("answers"), None);
            let claim = claim(&ledger, *stage).await.unwrap_or_else(|| panic!("{stage:?} is due"));
            assert_eq!(claim.job.attempt, 1);
            assert!(finish(&ledger, &claim, Effect::None).await);
        }
        assert_eq!(ledger.cycle_done(&CycleId::from("c1")).await.expect("answers"), Some(true));
        assert!(open(&ledger, "c2", "s", CycleKind::Prune).await.is_some(), "the next cycle may begin");
    });
}

#[test]
fn a_ghost_with_an_old_token_changes_no_row() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (ledger, _) = on_disk(folder.path());
    wait(async {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let ghost = claim(&ledger, Stage::Archive).await.expect("a job");
        assert_eq!(ledger.release(Stage::Archive, Release::Crashed).await.expect("released"), 1);
        let mut answers = Vec::new();
        // Once while nobody holds the job, once while somebody else does, once after it is done.
        for round in 0..3 {
            let holder = if round == 1 { claim(&ledger, Stage::Archive).await } else { None };
            let before = dump(&folder.path().join("moon.db"));
            let entry = done();
            answers.push(ledger.complete(&ghost, &Effect::None, &entry).await.expect("answers"));
            answers.push(ledger.intend(&ghost, &json!({})).await.expect("answers"));
            answers.push(ledger.cancel(&ghost, &entry).await.expect("answers"));
            let error = Error::transient("x.y", "z");
            answers.push(ledger.retry(&ghost, Duration::ZERO, &error, &entry).await.expect("answers"));
            assert_eq!(before, dump(&folder.path().join("moon.db")), "round {round}");
            if let Some(holder) = holder {
                assert!(finish(&ledger, &holder, Effect::None).await);
            }
        }
        assert_eq!(answers, vec![false; 12]);
    });
}

fn distillation(key: &str, cycle: &str, series: i64, at: DateTime<Utc>) -> DistillationRow {
    DistillationRow {
        key: Sha256::of(key.as_bytes()),
        series_id: series,
        session: SessionKey::from("s"),
        session_id: "s-id".into(),
        cycle: CycleId::from(cycle),
        from_seq: 0,
        to_seq: 9,
        provider: "local".into(),
        summary_path: "memory/x.md".into(),
        at,
        body: Value::Null,
    }
}

fn continued(cycle: &str, at: DateTime<Utc>) -> Effect {
    Effect::Continued(Box::new(ContinuityRow {
        cycle: CycleId::from(cycle),
        session: SessionKey::from("s"),
        source_session_id: "s-id".into(),
        target_session_id: "s-id".into(),
        map_path: "continuity/x.json".into(),
        map_sha256: Sha256::of(b"map"),
        block_sha256: Sha256::of(b"block"),
        rollover: "reset".into(),
        at,
        confirmed_at: None,
    }))
}

/// Works a distill cycle off up to `stage`, which is claimed and returned.
async fn up_to(ledger: &SqliteLedger, id: &str, kind: CycleKind, stage: Stage) -> Claim {
    open(ledger, id, "s", kind).await.expect("no cycle is open");
    loop {
        for next in kind.stages() {
            if let Some(claim) = claim(ledger, *next).await {
                if *next == stage {
                    return claim;
                }
                assert!(finish(ledger, &claim, Effect::None).await);
            }
        }
    }
}

#[test]
fn a_completion_that_fails_in_the_middle_changes_nothing_and_can_be_repeated() {
    // Each trigger breaks the transaction at another of its steps.
    let breaks = [
        ("the effect", "CREATE TRIGGER broken BEFORE INSERT ON distillations BEGIN SELECT RAISE(ABORT, 'broken'); END"),
        ("the next job", "CREATE TRIGGER broken BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'broken'); END"),
        ("the alert", "CREATE TRIGGER broken BEFORE UPDATE ON alerts BEGIN SELECT RAISE(ABORT, 'broken'); END"),
        ("the audit", "CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'broken'); END"),
    ];
    for (what, trigger) in breaks {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("moon.db");
        let (ledger, _) = on_disk(folder.path());
        wait(async {
            let claim = up_to(&ledger, "c1", CycleKind::Distill, Stage::Distill).await;
            let series = ledger.series(&session("s")).await.expect("a series");
            ledger.raise(&AlertKey::new("distill.failing", "s"), Severity::Warning, "m", None).await.expect("raised");
            let raw = Connection::open(&path).expect("the file opens");
            raw.execute_batch(trigger).expect("a trigger");
            let effect = Effect::Distilled(vec![distillation("k", "c1", series.id, instant(0))]);
            let before = dump(&path);
            let failed = ledger.complete(&claim, &effect, &done()).await.expect_err("it must fail");
            assert_eq!(failed.kind, Kind::Transient, "{what}: {failed}");
            assert_eq!(before, dump(&path), "{what} broke, and something was written all the same");
            raw.execute_batch("DROP TRIGGER broken").expect("dropped");
            assert!(finish(&ledger, &claim, effect).await, "{what}: the claim is still ours");
            assert_eq!(ledger.distillations(&SessionKey::from("s")).await.expect("rows").len(), 1);
            assert!(self::claim(&ledger, Stage::Continuity).await.is_some(), "{what}: the next job waits");
            assert_eq!(ledger.alerts(true).await.expect("alerts"), []);
            ledger.verify_audit().await.expect("read").expect("whole");
        });
    }
}

#[test]
fn the_worlds_failures_never_use_up_the_attempts_but_crashes_do() {
    both(async |ledger, hands| {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let error = Error::transient("archive.disk_full", "no room");
        for n in 0..20 {
            let claim = claim(&ledger, Stage::Archive).await.expect("due again");
            assert_eq!((claim.job.attempt, claim.job.failures), (1, n));
            assert!(ledger.retry(&claim, Duration::from_secs(60), &error, &done()).await.expect("answers"));
            assert!(self::claim(&ledger, Stage::Archive).await.is_none(), "it waits its minute");
            let due = ledger.next_due(Stage::Archive).await.expect("answers").expect("a job waits");
            assert_eq!(due, hands.steady() + TimeDelta::seconds(60));
            hands.forward(60);
        }
        for _ in 0..10 {
            assert_eq!(claim(&ledger, Stage::Archive).await.expect("due").job.attempt, 1);
            ledger.release(Stage::Archive, Release::LedgerFailed).await.expect("its end could not be written down");
        }
        for attempt in 1..=3 {
            assert_eq!(claim(&ledger, Stage::Archive).await.expect("due").job.attempt, attempt);
            ledger.release(Stage::Archive, Release::Crashed).await.expect("the worker crashed and came back");
        }
        open(&ledger, "c2", "other", CycleKind::Prune).await;
        let next = claim(&ledger, Stage::Archive).await.expect("the other session's job");
        assert_eq!(next.job.cycle, CycleId::from("c2"), "the poisoned job blocks nobody");
        assert!(
            claim(&ledger, Stage::Archive).await.is_none(),
            "the poisoned job is set aside, not tried a fourth time"
        );
        let quarantined = ledger.jobs(true).await.expect("jobs");
        assert!(
            quarantined.iter().any(|j| j.cycle == CycleId::from("c1") && j.state == "quarantined"),
            "{quarantined:?}"
        );
        let firing = ledger.alerts(true).await.expect("alerts");
        assert_eq!(firing.iter().map(|a| a.key.rule.as_str()).collect::<Vec<_>>(), ["archive.quarantined"]);
        assert_eq!(ledger.cycle_done(&CycleId::from("c1")).await.expect("answers"), Some(false));
    });
}

#[test]
fn a_job_that_is_set_aside_is_not_failing_any_more() {
    both(async |ledger, _| {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        ledger.raise(&AlertKey::new("archive.failing", "s"), Severity::Warning, "m", None).await.expect("raised");
        for _ in 0..3 {
            claim(&ledger, Stage::Archive).await.expect("due");
            ledger.release(Stage::Archive, Release::Crashed).await.expect("released");
        }
        assert!(claim(&ledger, Stage::Archive).await.is_none());
        let rules: Vec<String> = ledger.alerts(true).await.expect("alerts").into_iter().map(|a| a.key.rule).collect();
        assert_eq!(rules, ["archive.quarantined"]);
    });
}

#[test]
fn a_new_life_takes_the_claims_of_a_dead_one_back_and_says_so() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (ledger, hands) = on_disk(folder.path());
    wait(async {
        assert!(ledger.begin("t").await.expect("begins").clean_stop, "there was no life before");
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let error = Error::transient("x.y", "z");
        let held = claim(&ledger, Stage::Archive).await.expect("due");
        ledger.retry(&held, Duration::from_secs(3600), &error, &done()).await.expect("put back");
        open(&ledger, "c2", "other", CycleKind::Prune).await;
        let ghost = claim(&ledger, Stage::Archive).await.expect("due");
        ledger
            .raise(&AlertKey::new("supervision.parked", "moon/x"), Severity::Critical, "m", None)
            .await
            .expect("raised");
        // The clock falls back to 1970 while the process is dead.
        hands.wall.store(-START, Ordering::Relaxed);
        hands.steady.store(-START, Ordering::Relaxed);
        let second = reopened(folder.path(), &hands).expect("opens");
        let recovery = second.begin("t").await.expect("begins");
        assert_eq!((recovery.clean_stop, recovery.released_claims), (false, 1));
        assert!(!finish(&ledger, &ghost, Effect::None).await, "the dead life's claim is worth nothing");
        let due: Vec<_> = [claim(&second, Stage::Archive).await, claim(&second, Stage::Archive).await]
            .into_iter()
            .flatten()
            .map(|c| c.job.attempt)
            .collect();
        assert_eq!(due, [1, 1], "both are due at once, waiting times and attempts of the dead life forgotten");
        assert_eq!(second.alerts(true).await.expect("alerts"), [], "nobody is parked in a new life");
        second.end("stopped").await.expect("ends");
        let third = reopened(folder.path(), &hands).expect("opens");
        assert!(
            third.begin("t").await.expect("begins").clean_stop,
            "the last life in order, not the one latest by the clock"
        );
    });
}

#[test]
fn a_job_that_is_under_way_at_every_death_of_the_process_is_set_aside_with_an_alert() {
    both(async |ledger, _| {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let mut lives = 0;
        let mut life = ledger.next_life();
        while claim(&life, Stage::Archive).await.is_some() {
            lives += 1;
            assert!(lives <= 8, "it kills the process for ever");
            life = life.next_life();
            life.begin("t").await.expect("begins");
        }
        assert_eq!(lives, 8);
        let rules: Vec<String> = life.alerts(true).await.expect("alerts").into_iter().map(|a| a.key.rule).collect();
        assert_eq!(rules, ["archive.quarantined"]);
        let rows = life.audit_rows(0, 1000).await.expect("rows");
        assert_eq!(rows.iter().filter(|r| r.entry.event == "quarantined").count(), 1);
        assert!(open(&life, "c2", "s", CycleKind::Prune).await.is_some(), "the session is not blocked");
    });
}

#[test]
fn an_alert_fires_once_resolves_once_and_reaches_every_route() {
    both(async |ledger, _| {
        let key = AlertKey::new("index.failing", "s");
        let first = ledger.raise(&key, Severity::Warning, "m", Some("h")).await.expect("raised").expect("new");
        assert_eq!(ledger.raise(&key, Severity::Critical, "m2", None).await.expect("answers"), None);
        assert_eq!(ledger.undelivered("a", 10).await.expect("rows").len(), 1);
        ledger.delivered("a", &first).await.expect("noted");
        ledger.delivered("a", &first).await.expect("noted twice is noted once");
        assert_eq!(ledger.undelivered("a", 10).await.expect("rows"), []);
        assert_eq!(ledger.undelivered("b", 10).await.expect("rows").len(), 1, "routes do not deliver for each other");
        assert!(ledger.resolve(&key).await.expect("answers").is_some());
        assert_eq!(ledger.resolve(&key).await.expect("answers"), None);
        let told = ledger.undelivered("a", 10).await.expect("rows");
        assert!(told.len() == 1 && told[0].resolved_at.is_some(), "what was told as firing is told as resolved");
        ledger.delivered("a", &told[0]).await.expect("noted");
        assert_eq!(ledger.undelivered("a", 10).await.expect("rows"), []);
        let again = ledger.raise(&key, Severity::Warning, "m3", None).await.expect("raised").expect("a second episode");
        assert_ne!(again.id, first.id, "a second episode is not eaten by the first one's record");
        assert_eq!(ledger.undelivered("a", 10).await.expect("rows").len(), 1);
    });
}

#[test]
fn what_came_since_the_last_rollover_is_told_by_order_not_by_the_clock() {
    both(async |ledger, hands| {
        let series = ledger.series(&session("s")).await.expect("a series");
        // A rollover while the clock was a day ahead.
        hands.wall.fetch_add(86_400_000, Ordering::Relaxed);
        let held = up_to(&ledger, "c1", CycleKind::Distill, Stage::Distill).await;
        finish(&ledger, &held, Effect::Distilled(vec![distillation("one", "c1", series.id, hands.now())])).await;
        let held = claim(&ledger, Stage::Continuity).await.expect("due");
        finish(&ledger, &held, continued("c1", hands.now())).await;
        assert_eq!(ledger.distillations(&SessionKey::from("s")).await.expect("rows"), []);
        hands.wall.fetch_sub(86_400_000, Ordering::Relaxed);
        for id in ["c2", "c3"] {
            let held = up_to(&ledger, id, CycleKind::Prune, Stage::Prune).await;
            let effect = Effect::Pruned { tokens_before: Some(100), tokens_after: Some(40), permit: Value::Null };
            assert!(finish(&ledger, &held, effect).await);
        }
        let row = ledger.session(&SessionKey::from("s")).await.expect("answers").expect("known");
        assert_eq!((row.prunes, row.last_freed), (2, Some(0.6)));
        assert_eq!(row.settled_at, Some(hands.now()), "the last cycle's end, not the one latest by the clock");
        let held = up_to(&ledger, "c4", CycleKind::IdleDistill, Stage::Distill).await;
        finish(&ledger, &held, Effect::Distilled(vec![distillation("two", "c4", series.id, hands.now())])).await;
        let since = ledger.distillations(&SessionKey::from("s")).await.expect("rows");
        assert_eq!(since.iter().map(|d| d.cycle.as_str()).collect::<Vec<_>>(), ["c4"], "the next map must hold it");
    });
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

#[test]
fn the_audit_is_gap_free_and_refuses_to_be_changed() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    audited(folder.path(), 30);
    let raw = Connection::open(folder.path().join("moon.db")).expect("the file opens");
    for attack in
        ["UPDATE audit SET record = '{}' WHERE seq = 3", "DELETE FROM audit WHERE seq = 30", "DELETE FROM audit"]
    {
        let refused = raw.execute(attack, []).expect_err(attack).to_string();
        assert!(refused.contains("append-only"), "{refused}");
    }
    let (ledger, _) = on_disk(folder.path());
    let rows = wait(ledger.audit_rows(0, 1000)).expect("rows");
    assert_eq!(rows.iter().map(|r| r.seq).collect::<Vec<_>>(), (1..=30).collect::<Vec<i64>>());
    assert_eq!(wait(ledger.verify_audit()).expect("read"), Ok(30));
}

#[test]
fn two_hundred_tamperings_of_the_audit_are_each_found_where_they_are() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let rows = 40;
    audited(folder.path(), rows);
    let (ledger, _) = on_disk(folder.path());
    let mut raw = Connection::open(folder.path().join("moon.db")).expect("the file opens");
    raw.execute_batch("DROP TRIGGER audit_is_append_only_update; DROP TRIGGER audit_is_append_only_delete;")
        .expect("dropped");
    let mut luck = 0x2545_f491_4f6c_dd1d_u64;
    let mut dice = move |below: u64| {
        luck ^= luck << 13;
        luck ^= luck >> 7;
        luck ^= luck << 17;
        luck % below
    };
    for round in 0..200 {
        let whole = raw
            .prepare("SELECT seq, record, prev_sha256, sha256 FROM audit ORDER BY seq")
            .and_then(|mut s| {
                s.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?
                    .collect::<rusqlite::Result<Vec<(i64, String, String, String)>>>()
            })
            .expect("rows");
        let seq = 1 + dice(rows as u64) as i64;
        let (what, first_bad) = tamper(&mut raw, round % 7, seq, &mut dice);
        let verdict = wait(ledger.verify_audit()).expect("read");
        let found = verdict.expect_err(&format!("round {round}: {what} at {seq} was not found"));
        assert!(found <= first_bad, "round {round}: {what} at {seq} was found only at {found}");
        let tx = raw.transaction().expect("a transaction");
        tx.execute("DELETE FROM audit", []).expect("emptied");
        for (seq, record, prev, sha) in whole {
            let sql = "INSERT INTO audit (seq, record, prev_sha256, sha256) VALUES (?1, ?2, ?3, ?4)";
            tx.execute(sql, (seq, record, prev, sha)).expect("put back");
        }
        tx.commit().expect("committed");
        assert_eq!(wait(ledger.verify_audit()).expect("read"), Ok(rows as i64), "put back after round {round}");
    }
}

/// Does one kind of harm; says which and the first row it touched.
fn tamper(raw: &mut Connection, kind: usize, seq: i64, dice: &mut impl FnMut(u64) -> u64) -> (&'static str, i64) {
    let run = |sql: &str| assert!(raw.execute(sql, [seq]).expect(sql) > 0, "{sql} did nothing");
    match kind {
        0 => {
            let column = ["record", "prev_sha256", "sha256"][dice(3) as usize];
            let sql = format!("SELECT {column} FROM audit WHERE seq = ?1");
            let mut text: Vec<u8> = raw.query_row(&sql, [seq], |r| r.get::<_, String>(0)).expect("a row").into_bytes();
            let at = dice(text.len() as u64) as usize;
            text[at] = if text[at] == b'7' { b'8' } else { b'7' };
            let text = String::from_utf8(text).expect("ASCII stays ASCII");
            raw.execute(&format!("UPDATE audit SET {column} = ?2 WHERE seq = ?1"), (seq, text)).expect("changed");
            ("a flipped character", seq)
        }
        1 => {
            run("DELETE FROM audit WHERE seq = ?1");
            ("a deleted row", seq)
        }
        2 => {
            run("UPDATE audit SET seq = -1 WHERE seq = ?1");
            raw.execute("UPDATE audit SET seq = ?1 WHERE seq = ?1 + 1", [seq]).expect("moved");
            raw.execute("UPDATE audit SET seq = ?1 + 1 WHERE seq = -1", [seq]).expect("moved");
            ("two rows swapped", seq)
        }
        3 => {
            run("DELETE FROM audit WHERE seq = ?1");
            raw.execute("UPDATE audit SET seq = seq - 1 WHERE seq > ?1", [seq]).expect("closed up");
            ("a row cut out and the gap closed", seq)
        }
        4 => {
            // The record is replaced and its own hash made right again: only the next link tells.
            let prev: String =
                raw.query_row("SELECT prev_sha256 FROM audit WHERE seq = ?1", [seq], |r| r.get(0)).expect("a row");
            let record: String =
                raw.query_row("SELECT record FROM audit WHERE seq = ?1", [seq], |r| r.get(0)).expect("a row");
            let forged = record.replace("\"test\"", "\"else\"").replace("\"moon\"", "\"none\"");
            assert_ne!(forged, record);
            let sha = Sha256::of(format!("{prev}\n{forged}").as_bytes());
            raw.execute("UPDATE audit SET record = ?2, sha256 = ?3 WHERE seq = ?1", (seq, forged, sha.as_str()))
                .expect("forged");
            ("a forged row with a right hash", seq + 1)
        }
        5 => {
            run("UPDATE audit SET seq = seq + 1000 WHERE seq >= ?1");
            ("rows moved away", seq)
        }
        _ => {
            run("DELETE FROM audit WHERE seq >= ?1");
            ("the end cut off", seq)
        }
    }
}

#[test]
fn the_file_is_opened_the_safe_way_and_by_a_sqlite_that_is_new_enough() {
    assert!(rusqlite::version_number() >= SQLITE_FLOOR, "{}", rusqlite::version());
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (ledger, _) = on_disk(folder.path());
    let raw = Connection::open(folder.path().join("moon.db")).expect("the file opens");
    let mode: String = raw.query_row("PRAGMA journal_mode", [], |r| r.get(0)).expect("a mode");
    assert_eq!(mode, "wal");
    // Pragmas of a connection cannot be read by another one; what they forbid can be tried.
    let orphan = wait(ledger.open_cycle(&cycle("c1", "nobody", CycleKind::Prune), None));
    assert!(orphan.is_err(), "foreign keys are off: a cycle of an unknown session was accepted");
    assert_eq!(wait(ledger.integrity()).expect("read"), Vec::<String>::new());
}

#[test]
fn a_ledger_of_a_newer_moon_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    audited(folder.path(), 3);
    let path = folder.path().join("moon.db");
    Connection::open(&path).expect("opens").pragma_update(None, "user_version", 99).expect("set");
    let before = dump(&path);
    let refused = reopened(folder.path(), &Arc::new(Hands::default())).err().expect("it must be refused");
    assert_eq!((refused.code.as_str(), refused.kind), ("ledger.schema", Kind::Config));
    assert!(refused.hint.is_some_and(|hint| hint.contains("newer moon")));
    assert_eq!(before, dump(&path));
}

#[test]
fn two_openers_of_one_file_wait_for_each_other_and_lose_nothing() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (first, hands) = on_disk(folder.path());
    let second = reopened(folder.path(), &hands).expect("opens");
    std::thread::scope(|scope| {
        for ledger in [&first, &second] {
            scope.spawn(move || {
                for n in 0..100 {
                    let entry = AuditEntry::new("test", "noted", "info", format!("row {n}"));
                    wait(ledger.audit(&entry)).expect("written");
                }
            });
        }
    });
    assert_eq!(wait(first.verify_audit()).expect("read"), Ok(200));
    wait(open(&first, "c1", "s", CycleKind::Prune));
    let claims = Mutex::new(0);
    std::thread::scope(|scope| {
        for ledger in [&first, &second] {
            let claims = &claims;
            scope.spawn(move || {
                *claims.lock().expect("no panic") += i32::from(wait(claim(ledger, Stage::Archive)).is_some());
            });
        }
    });
    assert_eq!(claims.into_inner().expect("no panic"), 1, "one job, one claim");
}

#[test]
fn a_stamp_from_the_future_does_not_keep_a_new_life_waiting() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (ledger, hands) = on_disk(folder.path());
    wait(async {
        hands.forward(50 * 365 * 86_400);
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let held = claim(&ledger, Stage::Archive).await.expect("due");
        ledger.retry(&held, Duration::from_secs(300), &Error::transient("x.y", "z"), &done()).await.expect("put back");
        hands.forward(-50 * 365 * 86_400);
        let next = reopened(folder.path(), &hands).expect("opens");
        next.begin("t").await.expect("begins");
        assert!(claim(&next, Stage::Archive).await.is_some());
        ledger.verify_audit().await.expect("read").expect("a chain does not mind the clock");
    });
}

#[test]
fn a_damaged_file_is_named_and_not_replaced_by_an_empty_one() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    std::fs::write(folder.path().join("moon.db"), vec![b'x'; 8192]).expect("written");
    let refused = reopened(folder.path(), &Arc::new(Hands::default())).err().expect("it must be refused");
    assert_eq!((refused.code.as_str(), refused.kind), ("ledger.corrupt", Kind::Data));
    assert_eq!(std::fs::read(folder.path().join("moon.db")).expect("read"), vec![b'x'; 8192]);
}

/// Says loudly what was not checked, so that nobody takes it for passed.
#[expect(clippy::print_stderr, reason = "a skipped check must be seen")]
fn skipped(test: &str, why: &str) {
    assert!(std::env::var_os("MOON_TEST_NO_SKIP").is_none(), "{test} was skipped: {why}");
    eprintln!("SKIPPED {test}: {why}");
}

#[test]
fn a_full_disk_gives_up_the_reserve_so_that_the_failure_is_written_down() {
    let name = "a_full_disk_gives_up_the_reserve_so_that_the_failure_is_written_down";
    let folder = tempfile::tempdir().expect("a scratch folder");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"]).arg(folder.path()).output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        return skipped(name, "mounting a small tmpfs needs root");
    }
    let result = std::panic::catch_unwind(|| full_disk(folder.path()));
    let unmounted = Command::new("umount").arg("-l").arg(folder.path()).status();
    assert!(unmounted.is_ok_and(|s| s.success()), "the scratch disk stays mounted");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn full_disk(folder: &Path) {
    let (ledger, _) = on_disk(folder);
    let reserve = folder.join("reserve.bin");
    assert_eq!(std::fs::metadata(&reserve).expect("a reserve").len(), 8 << 20);
    wait(open(&ledger, "c1", "s", CycleKind::Prune));
    let held = wait(claim(&ledger, Stage::Archive)).expect("due");
    let filled = std::fs::write(folder.join("filler"), vec![1u8; 48 << 20]).expect_err("the disk is smaller");
    assert_eq!(filled.raw_os_error(), Some(28), "no space left");
    let error = Error::transient("archive.disk_full", "no room");
    let large = AuditEntry::new("archive", "failed", "failed", "no room").detail(json!({ "x": "y".repeat(200_000) }));
    assert!(wait(ledger.retry(&held, Duration::ZERO, &error, &large)).expect("the failure is recorded"));
    assert!(!reserve.exists(), "the reserve was given up for it");
    let alert = wait(ledger.raise(&AlertKey::new("archive.failing", "s"), Severity::Critical, "no room", None));
    assert!(alert.expect("the alert is recorded").is_some());
    // And when the reserve is used up as well, the answer is an error, not a half-written row.
    let _ = std::fs::write(folder.join("more"), vec![1u8; 48 << 20]);
    let huge = AuditEntry::new("test", "noted", "info", "x").detail(json!({ "x": "y".repeat(4 << 20) }));
    let refused = wait(ledger.audit(&huge)).expect_err("no room at all");
    assert_eq!(refused.code, "ledger.disk_full");
    std::fs::remove_file(folder.join("filler")).expect("removed");
    std::fs::remove_file(folder.join("more")).expect("removed");
    wait(ledger.audit(&huge)).expect("there is room again");
    ledger.keep_reserve();
    assert!(reserve.exists(), "and a new reserve");
    wait(ledger.verify_audit()).expect("read").expect("whole");
    assert_eq!(wait(ledger.integrity()).expect("read"), Vec::<String>::new());
}
