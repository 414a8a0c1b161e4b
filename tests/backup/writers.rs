//! Backups while others write: no committed row is missing, and what is rewritten all the time ends nothing.

use super::support::process::{Ran, wait_for};
use super::{files, folder, manifest, ready, released, support, unpacked, with_agent};
use moon::adapters::backup::format;
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Commits rows until it is dropped, as another process would: through a connection of its own.
struct Writer {
    stop: std::sync::Arc<AtomicBool>,
    committed: std::sync::Arc<AtomicI64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(path: &Path, journal: &str) -> Self {
        let db = Connection::open(path).expect("a database");
        db.busy_timeout(Duration::from_secs(30)).expect("a timeout");
        db.execute_batch(&format!(
            "PRAGMA journal_mode={journal}; PRAGMA synchronous=OFF;
             CREATE TABLE IF NOT EXISTS parents (id INTEGER PRIMARY KEY);
             CREATE TABLE IF NOT EXISTS rows (n INTEGER PRIMARY KEY, text TEXT, parent INTEGER REFERENCES parents(id));
             CREATE INDEX IF NOT EXISTS by_text ON rows(text); INSERT OR IGNORE INTO parents VALUES (1);"
        ))
        .expect("a schema");
        let (stop, committed) = (std::sync::Arc::new(AtomicBool::new(false)), std::sync::Arc::new(AtomicI64::new(0)));
        let (stopped, count) = (stop.clone(), committed.clone());
        let thread = std::thread::spawn(move || {
            let mut n: i64 = db.query_row("SELECT coalesce(max(n), 0) FROM rows", [], |r| r.get(0)).expect("a number");
            while !stopped.load(Ordering::Relaxed) {
                n += 1;
                let text = support::process::filler(n as usize, 20);
                db.execute("INSERT INTO rows VALUES (?1, ?2, 1)", (n, text)).expect("a row is committed");
                count.store(n, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        wait_for("the first rows", || (committed.load(Ordering::SeqCst) > 20).then_some(()));
        Self { stop, committed, thread: Some(thread) }
    }
    fn committed(&self) -> i64 {
        self.committed.load(Ordering::SeqCst)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// What SQLite says of a restored database: complaints, and how many rows it holds.
fn rows_in(path: &Path) -> (Vec<String>, i64) {
    let db = Connection::open(path).expect("it opens");
    let check = |sql: &str| -> Vec<String> {
        let mut statement = db.prepare(sql).expect("a check");
        let rows = statement.query_map([], |r| r.get::<_, String>(0)).expect("rows");
        rows.map(|r| r.expect("a line")).filter(|line| line != "ok").collect()
    };
    let complaints = [check("PRAGMA integrity_check"), check("PRAGMA foreign_key_check")].concat();
    (complaints, db.query_row("SELECT count(*) FROM rows", [], |r| r.get(0)).expect("a count"))
}

/// `times` backups while somebody writes: how many databases were damaged, and how many lacked a row that was committed before.
fn backups_under_a_writer(times: usize, journal: &str) -> (usize, usize, Duration) {
    let scratch = ready();
    let db = scratch.path().join("agent/deep/memory.sqlite");
    let writer = Writer::start(&db, journal);
    let mut last = 0;
    let (mut damaged, mut missing, mut longest) = (0, 0, Duration::ZERO);
    for _ in 0..times {
        let before = writer.committed();
        let begun = Instant::now();
        Ran::of(&mut released(with_agent(&scratch, &["backup"]))).expect(0);
        longest = longest.max(begun.elapsed());
        let place = tempfile::tempdir().expect("a place");
        let top = unpacked(files(&folder(&scratch)).last().expect("a backup"), place.path());
        let (complaints, rows) = rows_in(&top.join("include/0/deep/memory.sqlite"));
        damaged += usize::from(!complaints.is_empty());
        missing += usize::from(rows < before);
        assert!(rows > last, "the writer goes on");
        last = rows;
        assert_eq!(std::fs::read(top.join("include/0/deep/er/unknown.xyz")).expect("taken"), b"kept");
        assert!(!top.join("include/0/deep/memory.sqlite-wal").exists());
        let member = |m: &&format::Member| m.path == "include/0/deep/memory.sqlite";
        assert_eq!(manifest(&top).members.iter().find(member).expect("listed").kind, format::Kind::Sqlite);
    }
    (damaged, missing, longest)
}

#[test]
fn a_backup_under_a_committing_writer_holds_every_row_that_was_committed_before() {
    for journal in ["wal", "delete"] {
        let (damaged, missing, _) = backups_under_a_writer(4, journal);
        assert_eq!((damaged, missing), (0, 0), "{journal}");
    }
}

#[test]
fn campaign_100_backups_under_a_committing_writer() {
    if std::env::var_os("MOON_TEST_CAMPAIGN").is_none() {
        return;
    }
    for journal in ["wal", "delete"] {
        let (damaged, missing, longest) = backups_under_a_writer(100, journal);
        support::skip(
            "campaign",
            &format!(
                "no skip: {journal}: 100 backups, {damaged} damaged, {missing} with a row missing, longest {longest:?}"
            ),
        );
        assert_eq!((damaged, missing), (0, 0), "{journal}");
    }
}

#[test]
fn a_file_that_is_cut_off_and_written_anew_all_the_time_ends_no_backup() {
    let scratch = ready();
    let path = scratch.path().join("agent/restless.log");
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (path, stop) = (path.clone(), stop.clone());
        let text = support::process::filler(1, 400_000);
        move || {
            while !stop.load(Ordering::Relaxed) {
                std::fs::write(&path, &text).expect("written");
                std::fs::write(&path, b"").expect("cut off");
            }
        }
    });
    for _ in 0..5 {
        let ran = Ran::of(&mut with_agent(&scratch, &["backup"])).expect(0);
        assert!(ran.stdout.contains("restored into an empty place"), "{ran:?}");
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends");
}
