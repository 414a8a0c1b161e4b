//! The index as its callers see it, on real files: what is put is found, whatever happens to the file.

use super::FtsIndex;
use chrono::{DateTime, Duration, Utc};
use moon_actors::domain::{Role, Sha256, Turn};
use moon_actors::port::{Hits, IndexDoc, Put, Query, SearchIndex, SegmentName};
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

type Damage<'a> = &'a dyn Fn(&Path);

fn open(folder: &Path) -> FtsIndex {
    FtsIndex::open(&file(folder), 1_200)
}

fn file(folder: &Path) -> PathBuf {
    folder.join("index/history.db")
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch folder")
}

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_000_000, 0).expect("a time")
}

fn turn(seq: i64, role: Role, text: &str) -> Turn {
    Turn { seq, at: Some(noon() + Duration::minutes(seq)), role, speaker: role.as_str().into(), text: text.into() }
}

fn doc(session: &str, ordinal: i64, turns: Vec<Turn>) -> IndexDoc {
    let segment = Sha256::of(format!("{session} {ordinal} {turns:?}").as_bytes());
    let (session, session_id) = (session.into(), format!("{session}-id"));
    IndexDoc { name: SegmentName { segment, session, session_id, epoch: 0, ordinal }, turns }
}

fn said(session: &str, text: &str) -> IndexDoc {
    doc(session, 0, vec![turn(0, Role::User, text)])
}

fn asking(text: &str) -> Query {
    Query { text: text.into(), limit: 10, session: None, since: None }
}

async fn ask(index: &FtsIndex, text: &str) -> Hits {
    index.search(&asking(text)).await.expect("an answer")
}

async fn first(index: &FtsIndex, text: &str) -> String {
    ask(index, text).await.hits.first().map_or_else(String::new, |hit| hit.session.0.clone())
}

async fn code(index: &FtsIndex, text: &str) -> String {
    index.search(&asking(text)).await.expect_err("refused").code
}

#[tokio::test]
async fn a_put_segment_is_there_once_and_the_others_are_missing() {
    let scratch = scratch();
    let index = open(scratch.path());
    let (here, gone) = (said("a", "the lighthouse keeper"), said("b", "never put"));
    assert_eq!(index.put(here.clone()).await, Ok(Put::New));
    assert_eq!(index.put(here.clone()).await, Ok(Put::Unchanged));
    assert_eq!((index.contains(&here.name).await, index.contains(&gone.name).await), (Ok(true), Ok(false)));
    // The same bytes in another transcript are another segment.
    let copy = SegmentName { session: "c".into(), ..here.name.clone() };
    let asked = [gone.name.clone(), here.name.clone(), copy.clone()];
    assert_eq!(index.missing(&asked).await, Ok(vec![gone.name, copy]));
    let status = index.status().await.expect("a status");
    assert_eq!((status.segments, status.chunks, status.backend.as_str()), (1, 1, "fts5"));
    assert!(status.bytes > 0);
    let name = SegmentName { epoch: 1, ..here.name };
    assert_eq!(index.put(IndexDoc { name, ..here }).await, Ok(Put::New), "a rewritten transcript is another series");
}

#[tokio::test]
async fn the_file_and_its_folder_are_private() {
    let scratch = scratch();
    let index = open(scratch.path());
    index.put(said("a", "secret")).await.expect("put");
    let mode = |p: PathBuf| p.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(scratch.path().join("index")), 0o700);
    for entry in std::fs::read_dir(scratch.path().join("index")).expect("listable") {
        assert_eq!(mode(entry.expect("an entry").path()), 0o600);
    }
}

#[tokio::test]
async fn a_hit_shows_the_turn_that_matches_exactly_as_archived() {
    let scratch = scratch();
    let index = open(scratch.path());
    let texts = ["Good morning.", "The kettle  is\n\"broken\", 水壶坏了", "Then buy a new one.", "Done."];
    let turns: Vec<_> = (0..).zip(texts).map(|(seq, text)| turn(seq, Role::User, text)).collect();
    let put = doc("kitchen", 0, turns);
    index.put(put.clone()).await.expect("put");
    let hits = ask(&index, "is the kettle broken?").await.hits;
    assert_eq!((hits[0].session.as_str(), hits[0].session_id.as_str()), ("kitchen", "kitchen-id"));
    let best = &hits[0].turns[0];
    assert_eq!((&best.segment, best.seq, best.at), (&put.name.segment, 1, put.turns[1].at));
    assert_eq!((best.speaker.as_str(), best.text.as_str()), ("user", texts[1]));
    assert!(hits[0].turns.len() <= 3 && hits[0].score > 0.0);
}

#[tokio::test]
async fn every_role_and_every_position_of_a_huge_turn_is_found_and_shown_in_part() {
    let scratch = scratch();
    let index = open(scratch.path());
    let mut huge = String::from("zebrafirst ");
    let filler = |n: usize| (0..n).map(|i| format!("row {i} of the listing, ")).collect::<String>();
    for needle in ["zebramiddle ", "zebralast"] {
        huge.push_str(&filler(40_000));
        huge.push_str(needle);
    }
    let roles = [Role::User, Role::Assistant, Role::Summary, Role::System];
    let mut turns: Vec<_> = (0..).zip(roles).map(|(n, role)| turn(n, role, &format!("walrus{role:?}"))).collect();
    turns.push(turn(9, Role::Tool, &huge));
    index.put(doc("big", 0, turns)).await.expect("put");
    for needle in ["zebrafirst", "zebramiddle", "zebralast"] {
        let hits = ask(&index, needle).await.hits;
        let best = &hits[0].turns[0];
        assert!(best.seq == 9 && best.text.contains(needle) && best.text.len() <= 1_200, "{needle}");
    }
    for role in roles {
        assert_eq!(first(&index, &format!("walrus{role:?}")).await, "big");
    }
}

#[tokio::test]
async fn a_turn_of_some_pieces_is_shown_whole() {
    let scratch = scratch();
    let index = open(scratch.path());
    let long = format!("{}the pelican landed {}", "before ".repeat(300), "after ".repeat(300));
    index.put(said("a", &long)).await.expect("put");
    assert_eq!(ask(&index, "pelican").await.hits[0].turns[0].text, long);
}

#[tokio::test]
async fn identifiers_paths_dates_and_foreign_words_are_found() {
    let scratch = scratch();
    let index = open(scratch.path());
    let facts = [
        ("path", "edit src/moon/index.rs now", "src/moon/index.rs"),
        ("symbol", "call foo::bar twice", "foo::bar"),
        ("error", "got error[E0499] again", "error[E0499]"),
        ("mail", "ask user@example.com", "user@example.com"),
        ("url", "see https://example.org/a/b?c=1", "https://example.org/a/b?c=1"),
        ("date", "at 2031-03-02T10:11 it stopped", "what stopped on 2031-03-02?"),
        ("chinese", "我们决定把部署推迟到星期五", "部署推迟"),
        ("japanese", "会議は来週の火曜日に変更", "火曜日"),
        ("korean", "데이터베이스를 옮겼다", "데이터베이스"),
        ("french", "le café est fermé", "cafe"),
        ("german", "die Brücke über den Fluß", "Brücke"),
        ("russian", "Сервер перезагружен вчера", "сервер"),
    ];
    for (session, text, _) in facts {
        index.put(said(session, text)).await.expect("put");
    }
    index
        .put(said("noise", "src index main rs foo and bar, user of an example com error, a b c 1"))
        .await
        .expect("put");
    for (session, _, query) in facts {
        assert_eq!(first(&index, query).await, session, "{query}");
    }
}

#[tokio::test]
async fn a_misspelt_word_is_repaired_and_the_answer_says_so() {
    let scratch = scratch();
    let index = open(scratch.path());
    index.put(said("a", "The databases were migrated in November")).await.expect("put");
    index.put(said("b", "The dates were moved")).await.expect("put");
    let answer = ask(&index, "datbases migrtaed").await;
    assert_eq!(answer.hits[0].session.as_str(), "a");
    let expected = [("datbases", "databases"), ("migrtaed", "migrated")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(answer.repaired, expected);
    assert!(ask(&index, "database").await.repaired.is_empty(), "another form of a known word is no mistake");
    assert!(ask(&index, "xylophone").await.hits.is_empty());
}

#[tokio::test]
async fn a_search_stays_in_its_session_and_after_its_time() {
    let scratch = scratch();
    let index = open(scratch.path());
    index
        .put(doc("a", 0, vec![turn(0, Role::User, "the otter swims"), turn(600, Role::User, "the otter sleeps")]))
        .await
        .expect("put");
    index.put(doc("b", 0, vec![turn(0, Role::User, "the otter eats")])).await.expect("put");
    let mut query = Query { session: Some("b".into()), ..asking("otter") };
    let found = index.search(&query).await.expect("an answer").hits;
    assert_eq!(found.iter().map(|h| h.session.as_str()).collect::<Vec<_>>(), ["b"]);
    query = Query { since: Some(noon() + Duration::minutes(5)), ..asking("otter") };
    let found = index.search(&query).await.expect("an answer").hits;
    assert_eq!((found.len(), found[0].session.as_str(), found[0].turns.len()), (1, "a", 1));
    assert_eq!(found[0].turns[0].text, "the otter sleeps");
    query = Query { limit: 1, ..asking("otter") };
    assert_eq!(index.search(&query).await.expect("an answer").hits.len(), 1);
}

#[tokio::test]
async fn a_day_or_month_or_speaker_finds_what_was_said_then() {
    let scratch = scratch();
    let index = open(scratch.path());
    for (session, days, speaker) in [("winter", 0, "Ana"), ("spring", 60, "Boris"), ("summer", 150, "Chiara")] {
        let turn = Turn {
            speaker: speaker.into(),
            at: Some(noon() + Duration::days(days)),
            ..turn(0, Role::User, "we talked about the bridge and the ferry")
        };
        index.put(doc(session, 0, vec![turn])).await.expect("put");
    }
    let asked = [
        ("what about the bridge in April 2026?", "spring"),
        ("bridge 2026-02-25", "winter"),
        ("ferry 2026-07", "summer"),
        ("what did Chiara say about the ferry?", "summer"),
    ];
    for (query, session) in asked {
        assert_eq!(first(&index, query).await, session, "{query}");
    }
}

#[tokio::test]
async fn a_pasted_page_is_answered_too() {
    let scratch = scratch();
    let index = open(scratch.path());
    index.put(said("a", "the exact error was quux7 at line 12")).await.expect("put");
    let page: String = (0..5_000).map(|n| format!("word{n} nonsense{} ", n * 7)).collect();
    assert_eq!(first(&index, &format!("quux7 {page}")).await, "a");
}

#[tokio::test]
async fn a_giant_session_does_not_hide_a_small_one() {
    let scratch = scratch();
    let index = FtsIndex::open(&file(scratch.path()), 200);
    let giant = (0..1_500).map(|n| turn(n, Role::User, &format!("{}plover", "plover ".repeat(24)))).collect();
    index.put(doc("giant", 0, giant)).await.expect("put");
    index.put(said("small", &format!("a plover {}", "with much else ".repeat(12)))).await.expect("put");
    let hits = ask(&index, "plover").await.hits;
    assert_eq!(hits.iter().map(|h| h.session.as_str()).collect::<Vec<_>>(), ["giant", "small"]);
}

#[tokio::test]
async fn nothing_asked_is_an_error_and_nothing_found_is_not() {
    let scratch = scratch();
    let index = open(scratch.path());
    index.put(said("a", "something")).await.expect("put");
    assert_eq!(code(&index, " \n ").await, "recall.empty_query");
    for query in ["?!", "🚀", "absent", "\0", "\""] {
        assert!(ask(&index, query).await.hits.is_empty(), "{query:?}");
    }
}

#[tokio::test]
async fn small_segments_are_continued_in_one_chunk_and_only_in_order() {
    let scratch = scratch();
    let index = open(scratch.path());
    for n in 0..5 {
        index.put(doc("a", n, vec![turn(n, Role::User, &format!("step number{n} done"))])).await.expect("put");
    }
    assert_eq!(index.status().await.expect("a status").chunks, 1);
    index.put(doc("a", 7, vec![turn(7, Role::User, "a gap before step number7")])).await.expect("put");
    assert_eq!(index.status().await.expect("a status").chunks, 2);
    for n in [0, 1, 2, 3, 4, 7] {
        let hits = ask(&index, &format!("number{n}")).await.hits;
        assert_eq!((hits.len(), hits[0].turns[0].seq), (1, n));
    }
    assert_sound(&index);
}

#[tokio::test]
async fn a_turn_that_a_rewrite_archived_again_is_shown_once() {
    let scratch = scratch();
    let index = open(scratch.path());
    let put = said("a", "the heron waits");
    index.put(put.clone()).await.expect("put");
    let name = SegmentName { epoch: 1, segment: Sha256::of(b"rewritten"), ..put.name };
    index.put(IndexDoc { name, ..put }).await.expect("put");
    let hits = ask(&index, "heron").await.hits;
    assert_eq!((hits.len(), hits[0].turns.len()), (1, 1));
}

#[tokio::test]
async fn a_damaged_foreign_or_newer_file_is_refused_kept_and_replaced_by_clear() {
    let schema = |path: &Path, sql: &str| {
        let other = rusqlite::Connection::open(path).expect("a database");
        other.execute_batch(sql).expect("a schema");
    };
    let newer = |path: &Path| schema(path, "CREATE TABLE t(x); PRAGMA user_version = 999;");
    let foreign = |path: &Path| schema(path, "CREATE TABLE t(x);");
    let garbage = |path: &Path| std::fs::write(path, vec![b'x'; 10_000]).expect("written");
    let damages: [(&str, Damage<'_>); 3] = [("newer", &newer), ("foreign", &foreign), ("garbage", &garbage)];
    for (name, damage) in damages {
        let scratch = scratch();
        let path = file(scratch.path());
        std::fs::create_dir(scratch.path().join("index")).expect("a folder");
        damage(&path);
        let before = std::fs::read(&path).expect("readable");
        let index = open(scratch.path());
        let refused = index.put(said("a", "word")).await.expect_err(name);
        assert_eq!((refused.code.as_str(), refused.kind), ("index.corrupt", moon_actors::Kind::Data), "{name}");
        assert!(refused.hint.expect("a hint").contains("moon index --rebuild"));
        assert_eq!(code(&index, "word").await, "index.corrupt");
        index.clear().await.expect("cleared");
        index.put(said("a", "word")).await.expect("usable again");
        assert_eq!(first(&index, "word").await, "a");
        let kept = scratch.path().join("index/history.db.corrupt-1");
        assert_eq!(std::fs::read(kept).expect("kept"), before, "{name} is kept as it was");
    }
}

#[tokio::test]
async fn damage_that_shows_while_running_is_reported_and_cured_by_clear() {
    let scratch = scratch();
    let index = open(scratch.path());
    for n in 0..200 {
        index.put(said(&format!("s{n}"), &format!("common word{n} {}", "text ".repeat(150)))).await.expect("put");
    }
    drop(index);
    let path = file(scratch.path());
    let mut bytes = std::fs::read(&path).expect("readable");
    let from = bytes.len() / 4;
    bytes[from..].fill(0xa5);
    std::fs::write(&path, &bytes).expect("damaged");
    let index = open(scratch.path());
    let mut codes = Vec::new();
    for n in 0..200 {
        if let Err(e) = index.search(&asking(&format!("word{n}"))).await {
            codes.push(e.code);
        }
    }
    assert!(!codes.is_empty() && codes.iter().all(|c| c == "index.corrupt"), "{codes:?}");
    assert_eq!(index.put(said("a", "word")).await.expect_err("refused").code, "index.corrupt");
    index.clear().await.expect("cleared");
    index.put(said("a", "word")).await.expect("usable again");
    assert!(scratch.path().join("index/history.db.corrupt-1").exists());
}

#[tokio::test]
async fn clear_empties_a_healthy_index() {
    let scratch = scratch();
    let index = open(scratch.path());
    let put = said("a", "a word");
    index.put(put.clone()).await.expect("put");
    index.clear().await.expect("cleared");
    assert_eq!(index.contains(&put.name).await, Ok(false));
    assert!(ask(&index, "word").await.hits.is_empty());
    assert_eq!(index.put(put).await, Ok(Put::New));
    assert_eq!(first(&index, "word").await, "a");
    assert_sound(&index);
}

#[tokio::test]
async fn a_folder_deleted_under_the_index_is_made_again_and_its_segments_are_missing() {
    let scratch = scratch();
    let index = open(scratch.path());
    let put = said("a", "a word");
    index.put(put.clone()).await.expect("put");
    std::fs::remove_dir_all(scratch.path().join("index")).expect("deleted");
    assert_eq!(index.missing(std::slice::from_ref(&put.name)).await, Ok(vec![put.name.clone()]));
    index.put(put).await.expect("put again");
    assert_eq!(first(&open(scratch.path()), "word").await, "a");
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_half_and_goes_on_when_there_is_room() {
    let scratch = scratch();
    let index = open(scratch.path());
    index.put(said("before", "the finch")).await.expect("put");
    let limit = |pages: i64| {
        let set = |c: &rusqlite::Connection| c.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()));
        index.store.write("set a limit", set).expect("set");
    };
    limit(60);
    let text: String = (0..20_000).map(|n| format!("finch{n} ")).collect();
    let large = said("large", &text);
    let full = index.put(large.clone()).await.expect_err("no room");
    assert_eq!((full.code.as_str(), full.kind), ("index.disk_full", moon_actors::Kind::Transient));
    assert_eq!(index.contains(&large.name).await, Ok(false));
    assert!(ask(&index, "finch77").await.hits.is_empty());
    assert_eq!(first(&index, "finch").await, "before");
    limit(1 << 30);
    index.put(large).await.expect("room again");
    assert_eq!(first(&index, "finch77").await, "large");
    assert_sound(&index);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_and_searches_at_once_all_succeed() {
    let scratch = scratch();
    let index = open(scratch.path());
    // Another process (here: another handle) writes the same file.
    let handles = [index.clone(), index.clone(), open(scratch.path())];
    let mut tasks = tokio::task::JoinSet::new();
    for (writer, handle) in handles.into_iter().enumerate() {
        let reader = handle.clone();
        tasks.spawn(async move {
            for n in 0..40 {
                let text = format!("shared goose{writer}x{n}");
                handle.put(doc(&format!("w{writer}"), n, vec![turn(n, Role::User, &text)])).await.expect("put");
            }
        });
        tasks.spawn(async move {
            for _ in 0..40 {
                reader.search(&asking("shared goose")).await.expect("an answer");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    assert_eq!(index.status().await.expect("a status").segments, 120);
    assert_sound(&index);
}

#[test]
fn what_sqlite_says_becomes_a_stable_code_without_any_text_of_it() {
    let translated = |code| {
        let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some("near \"secret\"".into()));
        super::error::translate("search the index", &error)
    };
    let busy = translated(rusqlite::ffi::SQLITE_BUSY);
    assert_eq!((busy.code.as_str(), busy.kind), ("index.busy", moon_actors::Kind::Transient));
    assert_eq!(translated(rusqlite::ffi::SQLITE_IOERR).code, "index.io");
    assert_eq!(translated(rusqlite::ffi::SQLITE_FULL).code, "index.disk_full");
    assert!(!format!("{:?}", translated(rusqlite::ffi::SQLITE_ERROR)).contains("secret"));
}

/// SQLite's own checks, of the file and of the full-text table.
fn assert_sound(index: &FtsIndex) {
    let check = |c: &rusqlite::Connection| {
        c.execute("INSERT INTO chunk_text(chunk_text, rank) VALUES('integrity-check', 0)", [])?;
        c.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
    };
    assert_eq!(index.store.write("check", check), Ok("ok".into()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_text_is_ever_read_as_query_syntax(
        text in prop_oneof![
            any::<String>(),
            "[a-z\"'*:(){}^+\\-. \\x00搜]{1,30}",
            "(NEAR|OR|AND|NOT|body:|\"| |x|\\*){1,12}",
        ]
    ) {
        thread_local! {
            static INDEX: (tempfile::TempDir, FtsIndex, tokio::runtime::Runtime) = {
                let (scratch, runtime) = (scratch(), tokio::runtime::Runtime::new().expect("a runtime"));
                let index = open(scratch.path());
                runtime.block_on(index.put(said("a", "x near or and not body 搜 abc"))).expect("put");
                (scratch, index, runtime)
            };
        }
        INDEX.with(|(_, index, runtime)| {
            match runtime.block_on(index.search(&asking(&text))) {
                Ok(_) => Ok(()),
                Err(e) => { prop_assert_eq!(e.code, "recall.empty_query"); Ok(()) }
            }
        })?;
    }
}
