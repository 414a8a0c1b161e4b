//! The transcripts host against files that grow, shrink, are replaced, are torn and hold anything.

use super::*;
use chrono::{DateTime, TimeDelta, Utc};
use moon_actors::Kind;
use moon_actors::domain::Record;
use proptest::prelude::*;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use tempfile::TempDir;

/// A clock that stands still until a test moves it.
struct HandClock(Mutex<DateTime<Utc>>);

impl HandClock {
    fn advance(&self, by: TimeDelta) {
        *self.0.lock().expect("no test panics holding it") += by;
    }
}

impl Clock for HandClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("no test panics holding it")
    }
    fn steady(&self) -> DateTime<Utc> {
        self.now()
    }
    fn today(&self) -> chrono::NaiveDate {
        self.now().date_naive()
    }
}

/// A scratch folder with a host over it.
struct Bench {
    scratch: TempDir,
    host: TranscriptsHost,
    clock: Arc<HandClock>,
}

const LIMITS: Limits = Limits {
    window_tokens: 16_000,
    torn_tail_after: Duration::from_secs(60),
    max_line: page::MAX_LINE,
    scan_budget: 512 << 20,
};

impl Bench {
    fn new() -> Self {
        Self::with(LIMITS)
    }
    fn with(limits: Limits) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let clock = Arc::new(HandClock(Mutex::new(Utc::now())));
        let folder = scratch.path().to_owned();
        let host = TranscriptsHost::with(folder, &Settings::default(), limits, clock.clone());
        Self { scratch, host, clock }
    }
    fn path(&self, id: &str) -> PathBuf {
        self.scratch.path().join(format!("{id}.jsonl"))
    }
    fn write(&self, id: &str, bytes: &[u8]) {
        std::fs::write(self.path(id), bytes).expect("scratch files can be written");
    }
    fn append(&self, id: &str, bytes: &[u8]) {
        let mut file = std::fs::OpenOptions::new().append(true).open(self.path(id)).expect("the file is there");
        file.write_all(bytes).expect("scratch files can be written");
    }
    async fn page(&self, id: &str, from: i64, max_bytes: usize) -> Result<Page> {
        self.host.records(&session(id), from, max_bytes).await
    }
    async fn all(&self, id: &str, from: i64, max_bytes: usize) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        loop {
            let next = records.last().map_or(from, |r| r.seq + 1);
            let page = self.page(id, next, max_bytes).await.expect("a readable page");
            let got = !page.records.is_empty();
            records.extend(page.records);
            assert!(got || !page.more, "an empty page with more to come would loop for ever");
            if !page.more {
                return records;
            }
        }
    }
    async fn reading(&self, id: &str) -> UsageReading {
        let readings = self.host.refresh().await.expect("a readable folder");
        readings.into_iter().find(|r| r.session.session_id == id).expect("the session is listed")
    }
}

fn session(id: &str) -> SessionRef {
    SessionRef { key: format!("transcripts:{id}").as_str().into(), session_id: id.into() }
}

fn seqs(records: &[Record]) -> Vec<i64> {
    records.iter().map(|r| r.seq).collect()
}

fn message(id: &str, role: &str, text: &str) -> String {
    let record = serde_json::json!({"type": "message", "id": id, "message": {"role": role, "content": text}});
    format!("{record}\n")
}

#[tokio::test]
async fn every_line_is_a_record_byte_for_byte_whatever_it_holds() {
    let bench = Bench::new();
    bench.write("a", b"{\"type\":\"session\"}\n\n\xff\xfe\0bad\r\n  \nlast\n");
    let page = bench.page("a", -1, 1 << 20).await.expect("readable");
    let bytes: Vec<&[u8]> = page.records.iter().map(|r| r.bytes.as_slice()).collect();
    assert_eq!(bytes, [&b"{\"type\":\"session\"}"[..], b"", b"\xff\xfe\0bad\r", b"  ", b"last"]);
    assert_eq!((seqs(&page.records), page.more, page.torn_bytes), (vec![0, 1, 2, 3, 4], false, 0));
    let metadata = std::fs::metadata(bench.path("a")).expect("there");
    assert_eq!((page.source.device, page.source.inode), (Some(metadata.dev()), Some(metadata.ino())));
    assert_eq!(page.source.kind, "jsonl");
}

#[tokio::test]
async fn a_page_holds_at_least_one_record_and_stops_near_its_size() {
    let bench = Bench::new();
    bench.write("a", b"0123456789\n01\n23\n456789\n");
    let page = bench.page("a", 0, 4).await.expect("readable");
    assert_eq!((seqs(&page.records), page.more), (vec![0], true));
    let page = bench.page("a", 1, 5).await.expect("readable");
    assert_eq!((seqs(&page.records), page.more), (vec![1, 2], true));
    let page = bench.page("a", 3, 0).await.expect("readable");
    assert_eq!((seqs(&page.records), page.more), (vec![3], false));
    let page = bench.page("a", 4, 100).await.expect("readable");
    assert_eq!((seqs(&page.records), page.more), (vec![], false));
}

#[tokio::test]
async fn a_torn_last_line_is_left_for_the_next_read() {
    let bench = Bench::new();
    bench.write("a", b"one\n{\"half");
    let page = bench.page("a", 0, 100).await.expect("readable");
    assert_eq!((seqs(&page.records), page.more, page.torn_bytes), (vec![0], false, 6));
    bench.append("a", b"\":1}\n");
    let page = bench.page("a", 1, 100).await.expect("readable");
    assert_eq!(page.records, [Record { seq: 1, bytes: b"{\"half\":1}".to_vec() }]);
    assert_eq!(page.torn_bytes, 0);
}

#[tokio::test]
async fn a_torn_last_line_counts_once_the_file_was_quiet_for_long_enough() {
    let bench = Bench::new();
    bench.write("a", b"one\ntwo");
    let torn = bench.reading("a").await.last_activity;
    assert_eq!(bench.page("a", 0, 100).await.expect("readable").torn_bytes, 3);
    bench.clock.advance(TimeDelta::seconds(58));
    assert_eq!(bench.page("a", 1, 100).await.expect("readable").torn_bytes, 3);
    bench.clock.advance(TimeDelta::seconds(4));
    let page = bench.page("a", 0, 1).await.expect("readable");
    assert_eq!((seqs(&page.records), page.more, page.torn_bytes), (vec![0], true, 0));
    let page = bench.page("a", 1, 100).await.expect("readable");
    assert_eq!((page.records, page.more), (vec![Record { seq: 1, bytes: b"two".to_vec() }], false));
    let settled = bench.reading("a").await.last_activity;
    assert!(settled > torn, "a new record is news even if the file did not change");
    assert_eq!(bench.reading("a").await.last_activity, settled, "and news only once");
}

#[tokio::test]
async fn a_file_dated_in_the_future_settles_by_being_watched() {
    let bench = Bench::new();
    bench.write("a", b"two");
    let file = std::fs::File::options().write(true).open(bench.path("a")).expect("there");
    file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).expect("a time can be set");
    assert_eq!(bench.page("a", 0, 100).await.expect("readable").torn_bytes, 3);
    bench.clock.advance(TimeDelta::seconds(61));
    assert_eq!(bench.page("a", 0, 100).await.expect("readable").records.len(), 1);
}

#[tokio::test]
async fn a_line_beyond_the_limit_is_an_error_that_names_its_place() {
    let bench = Bench::with(Limits { max_line: 8, ..LIMITS });
    bench.write("a", b"12345678\n123456789\nok\n");
    let page = bench.page("a", 0, 1 << 20).await.expect("the first line fits exactly");
    assert_eq!((seqs(&page.records), page.more), (vec![0], true));
    let error = bench.page("a", 1, 1 << 20).await.expect_err("nine bytes are too many");
    assert_eq!((error.code.as_str(), error.kind), ("transcripts.line_too_long", Kind::Data));
    assert!(error.message.contains("byte 9") && error.message.contains("a.jsonl"), "{}", error.message);
    assert_eq!(seqs(&bench.page("a", 2, 100).await.expect("what lies behind is readable").records), [2]);
}

#[tokio::test]
async fn a_shrunk_a_replaced_and_a_rewritten_file_are_read_anew() {
    let bench = Bench::new();
    bench.write("a", b"one\ntwo\nthree\n");
    let before = bench.page("a", 0, 100).await.expect("readable");
    bench.write("a", b"uno\n");
    assert_eq!(bench.all("a", 0, 100).await, [Record { seq: 0, bytes: b"uno".to_vec() }]);
    assert_eq!(bench.all("a", 2, 100).await, []);
    let fresh = bench.scratch.path().join("new");
    std::fs::write(&fresh, b"x\ny\nlonger than before\n").expect("writable");
    std::fs::rename(&fresh, bench.path("a")).expect("renamed");
    let after = bench.page("a", 0, 100).await.expect("readable");
    assert_eq!(after.records.len(), 3);
    assert_ne!(before.source.inode, after.source.inode);
    bench.write("a", b"other\nbytes but longer than they were\n");
    assert_eq!(bench.all("a", 0, 100).await.len(), 2);
    // As long as before, with the lines elsewhere and another time.
    bench.write("a", b"o\nt\nhe rbytes but longer than they were\n");
    let file = std::fs::File::options().write(true).open(bench.path("a")).expect("there");
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).expect("a time can be set");
    assert_eq!(bench.page("a", 2, 0).await.expect("readable").records.len(), 1);
    // Both ends alike, one line less in the middle.
    let text = |middle: &str| format!("{}{middle}{}", "head\n".repeat(200), "tail\n".repeat(200));
    bench.write("a", text("a\nb\n").as_bytes());
    assert_eq!(bench.all("a", 0, 1 << 20).await.len(), 402);
    bench.write("a", text("abc\n").as_bytes());
    file.set_modified(SystemTime::now() + Duration::from_secs(9)).expect("a time can be set");
    assert_eq!(bench.all("a", 0, 1 << 20).await.len(), 401);
}

#[tokio::test]
async fn a_file_that_vanished_is_unavailable_and_leaves_the_list() {
    let bench = Bench::new();
    bench.write("a", b"one\n");
    bench.write("b", b"one\n");
    assert_eq!(bench.host.refresh().await.expect("readable").len(), 2);
    std::fs::remove_file(bench.path("a")).expect("removed");
    let error = bench.page("a", 0, 100).await.expect_err("it is gone");
    assert_eq!((error.code.as_str(), error.kind), ("transcripts.gone", Kind::Unavailable));
    let left = bench.host.readings().await.expect("readable");
    assert_eq!(left.iter().map(|r| r.session.key.as_str()).collect::<Vec<_>>(), ["transcripts:b"]);
}

#[tokio::test]
async fn only_regular_jsonl_files_are_transcripts() {
    let bench = Bench::new();
    bench.write("real", b"one\n");
    std::fs::write(bench.scratch.path().join("notes.txt"), b"x").expect("writable");
    std::fs::write(bench.scratch.path().join(".hidden.jsonl"), b"x").expect("writable");
    std::fs::create_dir(bench.path("folder")).expect("made");
    symlink(bench.path("real"), bench.path("link")).expect("linked");
    rustix::fs::mkfifoat(rustix::fs::CWD, bench.path("pipe"), rustix::fs::Mode::RUSR).expect("a pipe");
    let readings = bench.host.refresh().await.expect("readable");
    assert_eq!(readings.iter().map(|r| r.session.session_id.as_str()).collect::<Vec<_>>(), ["real"]);
    for id in ["link", "pipe", "folder", "../real", "/etc/passwd", ""] {
        assert_eq!(bench.page(id, 0, 100).await.expect_err("not a transcript").code, "transcripts.gone", "{id}");
    }
    // A transcript that turns into a link between two looks is not followed either.
    std::fs::rename(bench.path("real"), bench.scratch.path().join("moved")).expect("moved");
    symlink(bench.scratch.path().join("moved"), bench.path("real")).expect("linked");
    assert!(bench.page("real", 0, 100).await.is_err());
}

#[tokio::test]
async fn a_missing_folder_says_what_to_do() {
    let bench = Bench::new();
    let host = TranscriptsHost::new(bench.scratch.path().join("none"), &Settings::default());
    host.subscribe(Arc::new(|| {}));
    for error in [
        host.refresh().await.expect_err("nothing there"),
        host.records(&session("a"), 0, 10).await.expect_err("nothing there"),
    ] {
        assert_eq!((error.code.as_str(), error.kind), ("transcripts.not_found", Kind::Unavailable));
        assert!(error.hint.is_some_and(|h| h.contains("watch.transcripts_dir")));
    }
}

#[tokio::test]
async fn a_transcripts_folder_can_only_be_read() {
    let bench = Bench::new();
    let can = bench.host.capabilities();
    assert_eq!((can.push, can.compact, can.reset, can.inject), (true, false, false, false));
    let compact = bench.host.compact(&session("a")).await.expect_err("read only");
    let reset = bench.host.reset(&session("a")).await.expect_err("read only");
    assert_eq!((compact.code, reset.code), ("transcripts.read_only".to_owned(), "transcripts.read_only".to_owned()));
}

#[tokio::test]
async fn usage_follows_growth_a_compaction_and_a_reset() {
    let bench = Bench::new();
    let talk = "The reading room opens at nine and the catalogue moves on Friday evening. ".repeat(20);
    bench.write("a", b"{\"type\":\"session\",\"id\":\"x\"}\n");
    assert_eq!(bench.reading("a").await.used_tokens, Some(0));
    bench.append("a", message("m1", "user", &talk).as_bytes());
    bench.append("a", message("m2", "assistant", &talk).as_bytes());
    let two = bench.reading("a").await;
    assert_eq!((two.window_tokens, two.fresh, two.running), (Some(16_000), true, false));
    let two = two.used_tokens.expect("priced");
    let compaction = r#"{"type":"compaction","id":"c","summary":"Short.","firstKeptEntryId":"m2"}"#;
    bench.append("a", format!("{compaction}\n").as_bytes());
    let compacted = bench.reading("a").await.used_tokens.expect("priced");
    assert!(compacted > two / 2 && compacted < two / 2 + 20, "{compacted} of {two}");
    assert_eq!(bench.reading("a").await.generation.as_deref(), Some("0"));
    bench.append("a", b"{\"type\":\"reset\",\"id\":\"r\"}\n");
    let reset = bench.reading("a").await;
    assert_eq!((reset.used_tokens, reset.generation.as_deref()), (Some(0), Some("1")));
    // Read from nothing, the whole file says the same.
    let other = TranscriptsHost::new(bench.scratch.path().to_owned(), &Settings::default());
    let again = other.refresh().await.expect("readable").remove(0);
    assert_eq!((again.used_tokens, again.generation), (reset.used_tokens, reset.generation));
}

#[tokio::test]
async fn a_pass_that_ran_out_of_budget_is_not_fresh_and_goes_on_next_time() {
    let bench = Bench::with(Limits { scan_budget: 300, ..LIMITS });
    let lines: String = (0..10).map(|i| message(&format!("m{i}"), "user", "hello there")).collect();
    bench.write("a", lines.as_bytes());
    let first = bench.reading("a").await;
    assert_eq!((first.fresh, first.used_tokens), (false, None));
    for _ in 0..5 {
        bench.reading("a").await;
    }
    let last = bench.reading("a").await;
    assert!(last.fresh && last.used_tokens.is_some_and(|t| t > 40));
}

#[tokio::test]
async fn an_unreadable_file_does_not_hide_the_others() {
    let bench = Bench::new();
    bench.write("open", b"one\n");
    bench.write("shut", b"one\n");
    std::fs::set_permissions(bench.path("shut"), std::fs::Permissions::from_mode(0o000)).expect("shut");
    // The superuser reads everything: then there is nothing to be denied.
    let denied = std::fs::File::open(bench.path("shut")).is_err();
    assert!(bench.reading("open").await.fresh);
    assert_eq!(bench.reading("shut").await.fresh, !denied);
    if denied {
        assert_eq!(bench.page("shut", 0, 10).await.expect_err("denied").code, "transcripts.denied");
    }
}

#[tokio::test]
async fn a_change_rings_the_bell_and_reading_does_not() {
    let bench = Bench::new();
    bench.write("a", b"one\n");
    let (rung, mut rings) = tokio::sync::mpsc::unbounded_channel();
    bench.host.subscribe(Arc::new(move || rung.send(()).unwrap_or(())));
    bench.append("a", b"two\n");
    tokio::time::timeout(Duration::from_secs(20), rings.recv()).await.expect("rung in time").expect("still open");
    let quiet = Duration::from_millis(150);
    while tokio::time::timeout(quiet, rings.recv()).await.is_ok() {}
    bench.reading("a").await;
    bench.page("a", 0, 100).await.expect("readable");
    assert!(tokio::time::timeout(quiet, rings.recv()).await.is_err(), "reading must not wake the reader");
}

#[tokio::test]
async fn moons_own_folder_is_never_watched() {
    let bench = Bench::new();
    let mut settings = Settings::default();
    settings.home.path = bench.scratch.path().display().to_string();
    let host = TranscriptsHost::new(bench.scratch.path().to_owned(), &settings);
    host.subscribe(Arc::new(|| {}));
    assert!(host.describe().contains("polled"), "{}", host.describe());
    bench.host.subscribe(Arc::new(|| {}));
    assert!(bench.host.describe().contains("watched"), "{}", bench.host.describe());
}

#[tokio::test]
async fn a_line_deep_in_a_large_file_is_found_by_its_number() {
    let bench = Bench::new();
    // Uneven lines over many waypoints, written in two goes so that the index is also extended.
    let line = |i: usize| format!("{i}:{}", "x".repeat(i * 7919 % 1500));
    let text = |range: std::ops::Range<usize>| range.map(|i| line(i) + "\n").collect::<String>();
    bench.write("a", text(0..1000).as_bytes());
    assert_eq!(bench.page("a", 999, 1).await.expect("readable").records[0].bytes, line(999).as_bytes());
    bench.append("a", text(1000..3000).as_bytes());
    for at in [0_usize, 1, 87, 88, 512, 999, 1000, 1777, 2998, 2999] {
        let page = bench.page("a", at as i64, 3000).await.expect("readable");
        for (offset, record) in page.records.iter().enumerate() {
            assert_eq!(record.bytes, line(at + offset).as_bytes(), "line {at} and {offset} more");
        }
        assert_eq!(page.more, at + page.records.len() < 3000);
    }
    let waypoint = lines_of(&bench).before(2999);
    assert!(2999 - waypoint.line < 200, "a page deep in the file begins near its place: {waypoint:?}");
}

fn lines_of(bench: &Bench) -> lines::LineIndex {
    let file = std::fs::File::open(bench.path("a")).expect("there");
    let stamp = lines::Stamp::of(&file.metadata().expect("there"));
    let mut index = lines::LineIndex::new();
    index.follow(&file, stamp).expect("readable");
    index
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => any::<u8>(), 1 => Just(b'\n'), 1 => Just(b'{')];
    proptest::collection::vec(byte, 0..600)
}

fn joined(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(|r| r.bytes.iter().copied().chain([b'\n'])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn pages_of_any_size_rebuild_the_file_byte_for_byte(bytes in soup(), max in 0_usize..700) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let bench = Bench::new();
            bench.write("a", &bytes);
            let records = bench.all("a", 0, max).await;
            let torn = bench.page("a", 0, 0).await.expect("readable").torn_bytes;
            let mut rebuilt = joined(&records);
            assert_eq!(rebuilt.len() as u64 + torn, bytes.len() as u64);
            bench.clock.advance(TimeDelta::seconds(61));
            let settled = bench.all("a", 0, max).await;
            rebuilt = joined(&settled);
            if !bytes.is_empty() && !bytes.ends_with(b"\n") {
                rebuilt.pop();
            }
            assert_eq!(rebuilt, bytes);
            assert_eq!(seqs(&settled), (0..settled.len() as i64).collect::<Vec<_>>());
        });
    }

    #[test]
    fn reading_while_it_grows_equals_reading_it_once(parts in proptest::collection::vec(soup(), 1..6), max in 0_usize..200) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let growing = Bench::new();
            growing.write("a", b"");
            let mut grown = Vec::new();
            for part in &parts {
                growing.append("a", part);
                grown.extend(growing.all("a", grown.len() as i64, max).await);
                growing.reading("a").await;
            }
            let once = Bench::new();
            once.write("a", &parts.concat());
            assert_eq!(grown, once.all("a", 0, usize::MAX).await);
            assert_eq!(growing.reading("a").await.used_tokens, once.reading("a").await.used_tokens);
        });
    }
}

const ROUNDS: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_rewritten_while_it_is_read_never_gives_half_a_line() {
    let bench = Bench::new();
    let path = bench.path("a");
    bench.write("a", b"");
    let rounds = Arc::new(AtomicUsize::new(0));
    let counter = rounds.clone();
    // Grows, is cut, is rewritten in place with lines of another length and is replaced, again and again.
    let writer = std::thread::spawn(move || {
        for round in 0..ROUNDS {
            let letter = char::from(b'a' + (round % 26) as u8);
            // Some lines are longer than a read buffer, so that a rewrite can come between their halves.
            let (length, lines) = if round % 3 == 0 { (10 + round % 900, 300) } else { (150_000 + round * 997, 4) };
            let line = format!("<{}>\n", letter.to_string().repeat(length));
            if round % 5 == 4 {
                let other = path.with_extension("new");
                std::fs::write(&other, line.repeat(lines)).expect("written");
                std::fs::rename(&other, &path).expect("renamed");
            } else if round % 2 == 0 {
                std::fs::write(&path, line.repeat(lines)).expect("written");
            } else {
                let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("there");
                file.write_all(line.repeat(lines / 4).as_bytes()).expect("appended");
            }
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (mut read, mut changed, mut from) = (0, 0, 0);
    while rounds.load(Ordering::SeqCst) < ROUNDS && !writer.is_finished() {
        from = if from < 3 { from + 1 } else { (from * 7) % 320 };
        match bench.page("a", from, 400_000).await {
            Ok(page) => read += page.records.iter().inspect(|r| assert_whole(&r.bytes)).count(),
            Err(error) => {
                assert_eq!((error.code.as_str(), error.kind), ("transcripts.changed", Kind::Transient));
                changed += 1;
            }
        }
        if read % 16 == 0 {
            bench.host.refresh().await.expect("a pass never fails for one file");
        }
    }
    writer.join().expect("the writer lives");
    assert!(read > 0, "{read} read, {changed} changed");
}

/// A line as the writer writes them: one letter between angle brackets. A rewrite in the middle of a read may mix two
/// rounds, but never inside what is called a line.
fn assert_whole(bytes: &[u8]) {
    let inner =
        bytes.strip_prefix(b"<").and_then(|b| b.strip_suffix(b">")).unwrap_or_else(|| panic!("torn: {bytes:?}"));
    assert!(inner.windows(2).all(|w| w[0] == w[1]), "mixed: {bytes:?}");
}

#[tokio::test]
async fn a_file_with_an_impossible_date_is_read_like_any_other() {
    let bench = Bench::new();
    for seconds in [1_u64 << 33, 1 << 40, 1 << 55] {
        bench.write("a", b"one\ntwo");
        let file = std::fs::File::options().write(true).open(bench.path("a")).expect("there");
        // Not every file system can store it; those that can must not stop Moon.
        if file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).is_ok() {
            assert!(bench.reading("a").await.fresh);
            assert_eq!(bench.page("a", 0, 100).await.expect("readable").records.len(), 1);
        }
    }
}
