//! kill -9 at every border between two effects, and at random times: a restart loses nothing and doubles nothing.
//!
//! Each case runs the whole pipeline in a process of its own (`support/worker.rs`), killed once or often and then run to its
//! end, and compares what is there with what a run without a kill left.

mod support;

use moon_actors::Result;
use moon_actors::domain::{Capabilities, Page, SessionRef, Sha256, Stage, UsageReading};
use moon_actors::port::{Compacted, Doorbell, Ledger, SessionHost};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::process::{
    Daemon, Disk, Ran, Scratch, Transcript, archived, count, ledger, open_to_others, temporary_files, walk,
};
use support::worker;

/// Every point at which a process can be stopped; the tidy check below compares it with the sources.
const POINTS: [&str; 28] = [
    "archive.claimed",
    "archive.completed",
    "archive.projected",
    "archive.stored",
    "archive.worked",
    "continuity.claimed",
    "continuity.completed",
    "continuity.intended",
    "continuity.mapped",
    "continuity.permitted",
    "continuity.placed",
    "continuity.rolled",
    "continuity.worked",
    "distill.claimed",
    "distill.completed",
    "distill.distilled",
    "distill.remembered",
    "distill.worked",
    "index.claimed",
    "index.completed",
    "index.put",
    "index.worked",
    "prune.acted",
    "prune.claimed",
    "prune.completed",
    "prune.intended",
    "prune.permitted",
    "prune.worked",
];

/// Points outside of the pipeline, killed at by tests of their own: `tests/restore`.
const ELSEWHERE: [&str; 2] = ["restore.swapped", "restore.unpacked"];

/// Points that are passed many times: killed there later as well, in the middle of a cycle.
const LATER: [(&str, u32); 8] = [
    ("archive.stored", 4),
    ("archive.projected", 5),
    ("archive.completed", 6),
    ("archive.worked", 7),
    ("index.put", 4),
    ("index.worked", 7),
    ("archive.claimed", 8),
    ("index.completed", 8),
];

/// Does nothing unless this process was started as a worker.
#[test]
fn worker() {
    worker::run_if_asked();
}

#[test]
fn the_list_of_points_is_the_one_in_the_sources() {
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["actors/src", "src"] {
        support::process::walk(&root.join(folder), &mut |path, meta| {
            if meta.is_file() && path.extension().is_some_and(|e| e == "rs") {
                points_in(&std::fs::read_to_string(path).expect("a source"), &mut found);
            }
        });
    }
    // The path of alerts has a campaign of its own: tests/alerts/kill.rs.
    found.retain(|point| !point.starts_with("alert."));
    let elsewhere: BTreeSet<String> = ELSEWHERE.map(str::to_owned).into();
    assert!(elsewhere.is_subset(&found), "{found:?}");
    let found: BTreeSet<String> = found.difference(&elsewhere).cloned().collect();
    assert_eq!(found, POINTS.map(str::to_owned).into_iter().collect());
}

/// Literals handed to `reach(`, and those of the table of borders.
fn points_in(source: &str, found: &mut BTreeSet<String>) {
    let table = source.split_once("fn borders(").map_or("", |(_, rest)| rest.split_once("\n}").map_or("", |(t, _)| t));
    for literal in table.split('"').skip(1).step_by(2) {
        found.insert(literal.to_owned());
    }
    for call in source.split(".reach(").skip(1) {
        if let Some(rest) = call.strip_prefix('"') {
            found.insert(rest.split('"').next().expect("a first part").to_owned());
        }
    }
}

#[test]
fn a_kill_at_any_point_and_a_restart_end_like_a_run_without_a_kill() {
    let orders: Vec<String> = POINTS.iter().map(|point| format!("{point}:1")).collect();
    side_by_side(&orders, |order| killed_at(order).is_like(reference(), order));
}

#[test]
fn a_kill_at_a_later_pass_of_a_point_ends_the_same() {
    let orders: Vec<String> = LATER.iter().map(|(point, times)| format!("{point}:{times}")).collect();
    side_by_side(&orders, |order| killed_at(order).is_like(reference(), order));
}

#[test]
fn fifteen_kills_at_random_times_lose_and_double_nothing() {
    let seed = std::env::var("MOON_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let whole = reference().took.as_millis() as u64;
    // Three homes, each killed five times before it may finish.
    side_by_side(&[0, 1, 2], |home| {
        let scratch = Scratch::new();
        for kill in 0..5 {
            run_for(&scratch, Duration::from_millis(random(seed, home * 5 + kill) % (whole * 2 / 3).max(1)));
        }
        let label = format!("random kills, MOON_TEST_SEED={seed}");
        assert_eq!(finish(&scratch, &label).conversation, reference().conversation, "{label}");
    });
}

#[test]
fn what_is_said_between_a_kill_and_the_restart_is_kept_and_distilled_once() {
    let orders = ["distill.remembered", "distill.worked", "continuity.rolled", "prune.acted", "archive.stored:4"];
    side_by_side(&orders, |order| {
        let scratch = Scratch::new();
        die_at(&scratch, order);
        // The agent does not wait for Moon.
        let transcript = Transcript::at(scratch.transcripts().join("work.jsonl"));
        transcript.line(&serde_json::json!({"type": "custom", "customType": "note", "data": {"text": "meanwhile"},
            "id": "n0000000", "parentId": null}));
        let label = format!("meanwhile, {order}");
        assert_eq!(finish(&scratch, &label).conversation, reference().conversation, "{label}");
    });
}

#[test]
fn a_distillation_that_was_cut_off_is_finished_as_it_was_begun() {
    // One pass archives what came meanwhile before it distils: the longer stretch must not be remembered beside the short one.
    for order in ["distill.distilled", "distill.remembered", "distill.worked"] {
        let scratch = Scratch::new();
        die_at(&scratch, order);
        Transcript::at(scratch.transcripts().join("work.jsonl")).exchange(900, 40);
        scratch.run(&["watch", "--once"]).expect(0);
        scratch.run(&["watch", "--once"]).expect(0);
        remembered_once(&scratch, order);
        assert_eq!(temporary_files(&scratch.home()), Vec::<PathBuf>::new(), "{order}");
    }
}

#[test]
fn a_full_disk_reduces_nothing_until_there_is_room_again() {
    const TEST: &str = "a_full_disk_reduces_nothing_until_there_is_room_again";
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.home()).expect("a folder");
    let Some(_disk) = Disk::mount(&scratch.home(), "64m") else {
        return support::skip(TEST, "a small file system cannot be mounted here");
    };
    die_at(&scratch, "prune.claimed");
    let filler = scratch.in_home("logs/filler");
    std::fs::remove_file(scratch.in_home("state/reserve.bin")).expect("used up by an earlier shortage");
    std::fs::write(&filler, vec![b'x'; free_bytes(&scratch.home()) - (3 << 20)]).expect("a filler");
    // Not archived yet: nothing may be reduced before it is.
    let transcript = Transcript::at(scratch.transcripts().join("work.jsonl"));
    transcript.line(&serde_json::json!({"type": "custom", "customType": "note", "data": {"text": "not archived yet"},
        "id": "n0000000", "parentId": null}));
    let before = transcript.bytes();
    let worker = Daemon::start(worker::command(scratch.path()), scratch.path().join("worker.said"));
    support::process::wait_for("an alert", || {
        assert!(worker.is_running(), "{}", worker.said());
        let firing = texts(&scratch, "SELECT rule FROM alerts WHERE resolved_at IS NULL");
        firing.contains(&"archive.failing".to_owned()).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    assert!(transcript.bytes() == before, "the host was asked to reduce what is not archived");
    std::fs::remove_file(&filler).expect("room again");
    assert_eq!(worker.end().code(), Some(0), "{}", worker.said());
    let end = finish(&scratch, "meanwhile, a full disk");
    assert_eq!(end.conversation, reference().conversation);
}

fn free_bytes(path: &Path) -> usize {
    usize::try_from(moon::adapters::room::free(path).expect("a disk says how much is free")).expect("a small disk")
}

/// A host whose answers take different times to arrive.
struct Dawdling {
    inner: moon::adapters::transcripts::TranscriptsHost,
    calls: AtomicUsize,
}

#[async_trait::async_trait]
impl SessionHost for Dawdling {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn subscribe(&self, bell: Doorbell) {
        self.inner.subscribe(bell);
    }
    async fn readings(&self) -> Result<Vec<UsageReading>> {
        self.inner.readings().await
    }
    async fn refresh(&self) -> Result<Vec<UsageReading>> {
        self.inner.refresh().await
    }
    async fn records(&self, session: &SessionRef, from: i64, max_bytes: usize) -> Result<Page> {
        let page = self.inner.records(session, from, max_bytes).await;
        let turn = self.calls.fetch_add(1, Ordering::Relaxed) as u64 % 4;
        tokio::time::sleep(Duration::from_millis(20 * turn)).await;
        page
    }
    async fn compact(&self, session: &SessionRef) -> Result<Compacted> {
        self.inner.compact(session).await
    }
    async fn reset(&self, session: &SessionRef) -> Result<String> {
        self.inner.reset(session).await
    }
}

/// Two stages that look at the same moment both see the same new records.
#[test]
fn captures_at_the_same_moment_store_every_record_once() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin();
    let settings = worker::settings(scratch.path());
    let (home, _) = moon::home::Home::open(scratch.home()).expect("a home");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts");
    runtime.block_on(async {
        let host = moon::adapters::transcripts::TranscriptsHost::new(scratch.transcripts(), &settings);
        let host = Dawdling { inner: host, calls: AtomicUsize::new(0) };
        let (ports, ledger) = moon::daemon::ports::open(&home, &settings, std::sync::Arc::new(host)).expect("ports");
        ledger.begin("test").await.expect("a life");
        let wiring = moon::daemon::ports::alone(ports, settings);
        let readings = wiring.ports.host.refresh().await.expect("a reading");
        wiring.ports.ledger.observe(&readings).await.expect("a session");
        wiring.captures().open(&readings[0].session, "test", None).await.expect("a cycle");
        let claim = ledger.claim(Stage::Archive, 3).await.expect("a job").expect("one is due");
        for number in 0..12 {
            transcript.exchange(number, 20);
            let captures = (0..4).map(|_| {
                let (archiver, job) = (wiring.archiver(), claim.job.clone());
                tokio::spawn(async move { archiver.capture(&job).await })
            });
            for capture in captures.collect::<Vec<_>>() {
                capture.await.expect("no panic").expect("a capture");
            }
        }
    });
    let text = String::from_utf8(transcript.bytes()).expect("text");
    everything_is_archived_once(&scratch, &text, "captures at the same moment");
}

/// What a finished run left, as far as it must be the same for all.
#[derive(Debug)]
struct End {
    took: Duration,
    /// The message records of the transcript, as written.
    conversation: Vec<String>,
    /// Kinds of all records, in order.
    kinds: Vec<String>,
    /// First and last record of each distillation.
    distilled: Vec<(i64, i64)>,
}

impl End {
    fn is_like(&self, other: &Self, label: &str) {
        assert_eq!(self.conversation, other.conversation, "{label}");
        assert_eq!(self.kinds, other.kinds, "{label}: compacted or reset at another place");
        assert_eq!(self.distilled, other.distilled, "{label}");
    }
}

/// The run without a kill; made once.
fn reference() -> &'static End {
    static REFERENCE: OnceLock<End> = OnceLock::new();
    REFERENCE.get_or_init(|| finish(&Scratch::new(), "no kill"))
}

fn killed_at(order: &str) -> End {
    let scratch = Scratch::new();
    die_at(&scratch, order);
    finish(&scratch, order)
}

/// Runs the worker to the ordered point.
fn die_at(scratch: &Scratch, order: &str) {
    let died = Ran::of(worker::command(scratch.path()).env("MOON_TEST_KILL_AT", order));
    assert_eq!(died.signal, Some(9), "{order} was never reached: {died:#?}");
}

/// Runs the worker for a while and kills it from outside. It may be done before: the reference may have run on a busier machine.
fn run_for(scratch: &Scratch, wait: Duration) {
    let worker = Daemon::start(worker::command(scratch.path()), scratch.path().join("worker.said"));
    std::thread::sleep(wait);
    let status = worker.kill_or_end();
    assert!(status.signal() == Some(9) || status.success(), "{status:?}: {}", worker.said());
}

/// Runs the worker to its end and checks everything that has to hold after any run.
fn finish(scratch: &Scratch, label: &str) -> End {
    let begun = Instant::now();
    let ran = Ran::of(&mut worker::command(scratch.path()));
    assert_eq!(ran.code, Some(0), "{label}: {ran:#?}");
    let took = begun.elapsed();
    let transcript = std::fs::read_to_string(scratch.transcripts().join("work.jsonl")).expect("a transcript");
    everything_is_archived_once(scratch, &transcript, label);
    reduced_once(&transcript, scratch, label);
    let distilled = remembered_once(scratch, label);
    the_map_is_in_place(scratch, label);
    commands_agree(scratch, label);
    assert_eq!(temporary_files(&scratch.home()), Vec::<PathBuf>::new(), "{label}");
    assert_eq!(open_to_others(&scratch.home()), Vec::<String>::new(), "{label}");
    let kind =
        |line: &str| serde_json::from_str::<Value>(line).expect("a record")["type"].as_str().unwrap_or("").to_owned();
    let conversation: Vec<String> =
        transcript.lines().filter(|line| kind(line) == "message").map(str::to_owned).collect();
    assert_eq!(conversation.len(), 2 * worker::EXCHANGES, "{label}");
    let kinds = transcript.lines().map(kind).collect();
    End { took, conversation, kinds, distilled }
}

/// One series that holds the transcript byte for byte, in segments without gaps or overlaps.
fn everything_is_archived_once(scratch: &Scratch, transcript: &str, label: &str) {
    let series = archived(&scratch.home());
    assert_eq!(series.len(), 1, "{label}");
    assert!(series[0].2 == transcript.as_bytes(), "{label}: the archive is not the transcript");
    let db = ledger(&scratch.home());
    let mut rows = db.prepare("SELECT manifest FROM segments ORDER BY ordinal").expect("a query");
    let manifests: Vec<Value> = rows
        .query_map([], |r| r.get::<_, String>(0))
        .expect("rows")
        .map(|text| serde_json::from_str(&text.expect("text")).expect("a manifest"))
        .collect();
    let mut next = 0;
    for manifest in &manifests {
        assert_eq!(manifest["first_seq"].as_i64(), Some(next), "{label}: {manifest}");
        next = manifest["last_seq"].as_i64().expect("a number") + 1;
    }
    assert_eq!(next, transcript.lines().count() as i64, "{label}");
    let objects = manifests.iter().map(|m| m["sha256"].to_string()).collect::<HashSet<_>>().len();
    let mut files = 0;
    walk(&scratch.in_home("archives/objects"), &mut |_, meta| files += usize::from(meta.is_file()));
    assert_eq!(objects, manifests.len(), "{label}: an object twice");
    // A segment that was stored but not recorded is stored again with what came meanwhile; its first object stays unnamed.
    let unnamed = files - objects;
    // The agent may have gone on writing between that segment's last record and the kill.
    let most = if label.contains("random") { 5 } else { usize::from(label.contains("archive.")) };
    assert!(unnamed <= most || label.contains("meanwhile"), "{label}: {unnamed}");
}

/// The host was asked exactly once for each kind of reduction, and the ledger says so exactly once.
fn reduced_once(transcript: &str, scratch: &Scratch, label: &str) {
    let records = |kind: &str| transcript.lines().filter(|l| l.starts_with(&format!("{{\"type\":\"{kind}\""))).count();
    assert_eq!((records("compaction"), records("reset")), (1, 1), "{label}");
    let count = |sql: &str| count(&scratch.home(), sql);
    assert_eq!(count("SELECT COUNT(*) FROM prunes"), 1, "{label}");
    assert_eq!(count("SELECT COUNT(*) FROM continuity"), 1, "{label}");
    assert_eq!(count("SELECT COUNT(*) FROM cycles WHERE kind = 'prune'"), 1, "{label}");
    assert_eq!(count("SELECT COUNT(*) FROM cycles WHERE kind = 'distill'"), 1, "{label}");
    // A capture that found nothing new ends at once.
    let unfinished =
        "SELECT c.kind || ': ' || c.reason || ' ' || COALESCE(c.outcome, 'open') || ' ' || j.stage || ' ' || j.state || ' ' || j.failures || ' ' || j.deaths
        || ' ' || COALESCE(j.last_error, '') FROM cycles c JOIN jobs j ON j.cycle = c.id
        WHERE (j.state <> 'done' OR c.closed_at IS NULL OR c.outcome <> 'done')
        AND NOT (c.kind = 'capture' AND c.outcome = 'cancelled')";
    assert_eq!(texts(scratch, unfinished), Vec::<String>::new(), "{label}");
    let alerts: Vec<String> = texts(scratch, "SELECT rule || ': ' || message FROM alerts WHERE resolved_at IS NULL");
    assert_eq!(alerts, Vec::<String>::new(), "{label}");
}

fn texts(scratch: &Scratch, sql: &str) -> Vec<String> {
    let db = ledger(&scratch.home());
    let mut query = db.prepare(sql).expect("a query");
    query.query_map([], |r| r.get(0)).expect("rows").collect::<rusqlite::Result<_>>().expect("texts")
}

/// One block in the daily memory for each distillation, none twice, none that the ledger does not know; stretches that touch.
fn remembered_once(scratch: &Scratch, label: &str) -> Vec<(i64, i64)> {
    let mut blocks: BTreeMap<String, usize> = BTreeMap::new();
    walk(&scratch.in_home("memory"), &mut |path, meta| {
        if meta.is_file() {
            for line in std::fs::read_to_string(path).expect("a memory").lines() {
                if let Some(key) = line.strip_prefix("<!-- moon:begin ") {
                    *blocks.entry(key.trim_end_matches(" -->").to_owned()).or_default() += 1;
                }
            }
        }
    });
    let db = ledger(&scratch.home());
    let mut rows =
        db.prepare("SELECT key, from_seq, to_seq, summary_path FROM distillations ORDER BY from_seq").expect("a query");
    let rows: Vec<(String, i64, i64, String)> = rows
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
        .expect("rows")
        .collect::<rusqlite::Result<_>>()
        .expect("rows");
    let known: BTreeMap<String, usize> =
        rows.iter().filter(|(.., path)| !path.is_empty()).map(|(key, ..)| (key.clone(), 1)).collect();
    assert!(!known.is_empty(), "{label}");
    assert_eq!(blocks, known, "{label}");
    let mut next = 0;
    for (_, from, to, _) in &rows {
        assert_eq!(*from, next, "{label}: a gap or an overlap");
        next = to + 1;
    }
    rows.into_iter().map(|(_, from, to, _)| (from, to)).collect()
}

/// The one map is a file with the recorded hash, and the block that the next window begins with is the recorded one.
fn the_map_is_in_place(scratch: &Scratch, label: &str) {
    let row = ledger(&scratch.home()).query_row(
        "SELECT map_path, map_sha256, block_sha256, rollover, confirmed_at IS NOT NULL FROM continuity",
        [],
        |r| {
            Ok((
                r.get::<_, String>(0)?,
                r.get::<_, String>(1)?,
                r.get::<_, String>(2)?,
                r.get::<_, String>(3)?,
                r.get(4)?,
            ))
        },
    );
    let (path, map, block, rollover, confirmed): (_, _, _, _, bool) = row.expect("one row");
    assert_eq!((rollover.as_str(), confirmed), ("reset", true), "{label}");
    let hash = |path: &Path| Sha256::of(&std::fs::read(path).expect("readable")).as_str().to_owned();
    assert_eq!(hash(&scratch.in_home(&path)), map, "{label}");
    let key = Sha256::of(worker::KEY.as_bytes());
    assert_eq!(hash(&scratch.in_home(&format!("bridge/slots/context/{key}.md"))), block, "{label}");
    assert!(
        !scratch.in_home(&format!("bridge/slots/summary/{key}.md")).exists(),
        "{label}: the summary is still placed"
    );
    let maps = std::fs::read_dir(scratch.in_home("continuity")).expect("a folder").count();
    assert_eq!(maps, 1, "{label}: a map that nobody knows");
}

/// What a person would type agrees: nothing is wrong, everything is in the index, and the fact is found.
fn commands_agree(scratch: &Scratch, label: &str) {
    let verified = scratch.json(&["verify"]);
    let report = verified.report();
    assert_eq!(verified.code, Some(0), "{label}: {verified:#?}");
    assert_eq!(
        (&report["data"]["index"]["missing"], &report["data"]["index"]["waiting"]),
        (&0.into(), &0.into()),
        "{label}"
    );
    assert_eq!(report["data"]["archives"]["not_in_ledger"], 0, "{label}");
    assert_eq!(report["data"]["projections"]["stale"], serde_json::json!([]), "{label}");
    let found = scratch.json(&["recall", "when does the heron gate open"]);
    let best = found.report()["data"]["matches"][0]["snippet"].to_string();
    assert!(best.contains("04:17"), "{label}: {found:#?}");
}

/// Runs the cases side by side, and fails with the first that failed. Half of a case is waiting for a disk or for a process.
fn side_by_side<T: Sync>(cases: &[T], run: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(4, |processors| 2 * processors.get()).min(8);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(case);
                }
            });
        }
    });
}

/// Deterministic noise (splitmix64).
fn random(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
