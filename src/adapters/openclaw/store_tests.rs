//! The store against databases built here, in the layout of OpenClaw 2026.9.6. Never a real transcript.

use super::*;
use moon_actors::error::Kind;

struct Scene {
    state: tempfile::TempDir,
    db: Connection,
}

impl Scene {
    fn new() -> Self {
        Self::with(
            "CREATE TABLE transcript_events (session_id TEXT NOT NULL, seq INTEGER NOT NULL, event_json TEXT,
                 created_at INTEGER, event_zstd BLOB, event_utf8_bytes INTEGER, PRIMARY KEY (session_id, seq));
             CREATE TABLE transcript_rewrite_watermarks (session_id TEXT PRIMARY KEY, generation TEXT NOT NULL);
             CREATE TABLE session_windows (session_id TEXT PRIMARY KEY, session_key TEXT);
             CREATE TABLE session_nodes (session_key TEXT PRIMARY KEY, entry_json TEXT NOT NULL);
             CREATE TABLE schema_meta (meta_key TEXT PRIMARY KEY, schema_version INTEGER);
             INSERT INTO schema_meta VALUES ('primary', 23);
             INSERT INTO transcript_rewrite_watermarks VALUES ('s1', 'g1');
             INSERT INTO session_windows VALUES ('s1', 'agent:main:main'), ('empty', 'agent:main:empty');",
        )
    }
    fn with(schema: &str) -> Self {
        let state = tempfile::tempdir().expect("a scratch folder");
        let folder = state.path().join("agents/main/agent");
        std::fs::create_dir_all(&folder).expect("folders");
        let db = Connection::open(folder.join("openclaw-agent.sqlite")).expect("a database");
        db.execute_batch(&format!("PRAGMA journal_mode = WAL; {schema}")).expect("the schema");
        Self { state, db }
    }
    fn plain(&self, seq: i64, text: &str) {
        let sql = "INSERT INTO transcript_events VALUES ('s1', ?1, ?2, 0, NULL, ?3)";
        self.db.execute(sql, params![seq, text, text.len() as i64]).expect("a plain row");
    }
    fn packed(&self, seq: i64, text: &str) {
        let blob = zstd::encode_all(text.as_bytes(), 3).expect("packed");
        let sql = "INSERT INTO transcript_events VALUES ('s1', ?1, NULL, 0, ?2, ?3)";
        self.db.execute(sql, params![seq, blob, text.len() as i64]).expect("a packed row");
    }
    fn store(&self) -> Store {
        Store::new(self.state.path().to_owned())
    }
    fn page(&self, from: i64, max: usize) -> Result<Page> {
        self.store().page("main", "s1", from, max)
    }
    fn code(&self) -> String {
        self.page(0, 1 << 20).expect_err("an error").code
    }
}

fn seqs(page: &Page) -> Vec<i64> {
    page.records.iter().map(|record| record.seq).collect()
}

#[test]
fn plain_and_packed_rows_come_back_byte_for_byte_over_gaps() {
    let scene = Scene::new();
    let long = format!("{{\"type\":\"compaction\",\"summary\":\"{}\"}}", "ä words ".repeat(400));
    scene.plain(0, "{\"type\":\"session\" ,  \"version\":4}");
    scene.packed(3, &long);
    scene.plain(17, "{\"type\":\"reset\"}");
    let page = scene.page(-1, 1 << 20).expect("readable");
    assert_eq!((seqs(&page), page.more, page.torn_bytes), (vec![0, 3, 17], false, 0));
    assert_eq!(page.records[1].bytes, long.as_bytes());
    assert_eq!(page.records[0].bytes, b"{\"type\":\"session\" ,  \"version\":4}");
    assert_eq!((page.source.kind.as_str(), page.source.schema.as_deref()), ("openclaw-sqlite", Some("23")));
    assert_eq!(page.source.generation.as_deref(), Some("g1"));
    assert!(page.source.device.is_some() && page.source.inode.is_some());
    assert_eq!(seqs(&scene.page(4, 1 << 20).expect("readable")), [17]);
}

#[test]
fn three_hundred_rows_are_read_in_bounded_pages_without_a_loss() {
    let scene = Scene::new();
    for seq in 0..300 {
        let text = format!("{{\"n\":{seq},\"text\":\"{}\"}}", "x".repeat(usize::try_from(seq).expect("small")));
        if seq % 3 == 0 { scene.packed(seq, &text) } else { scene.plain(seq, &text) }
    }
    let (mut all, mut from, mut pages) = (Vec::new(), 0, 0);
    loop {
        let page = scene.page(from, 4096).expect("readable");
        let size: usize = page.records.iter().map(|r| r.bytes.len()).sum();
        assert!(size <= 4096 && !page.records.is_empty());
        pages += 1;
        from = page.records.last().expect("not empty").seq + 1;
        all.extend(page.records);
        if !page.more {
            break;
        }
    }
    assert_eq!((all.len(), pages > 5), (300, true));
    assert!(
        all.iter()
            .zip(0..)
            .all(|(record, seq)| record.seq == seq && record.bytes.len() > usize::try_from(seq).expect("small"))
    );
}

#[test]
fn a_record_larger_than_the_page_is_still_read_alone() {
    let scene = Scene::new();
    scene.plain(0, &"a".repeat(5000));
    scene.packed(1, &"b".repeat(5000));
    for seq in [0, 1] {
        let page = scene.page(seq, 10).expect("readable");
        assert_eq!((seqs(&page), page.more), (vec![seq], seq == 0));
    }
}

#[test]
fn an_empty_transcript_is_an_empty_page_and_a_deleted_one_an_error() {
    let scene = Scene::new();
    assert!(scene.store().page("main", "empty", 0, 10).expect("known").records.is_empty());
    scene.plain(0, "{}");
    assert!(scene.page(1, 10).expect("known").records.is_empty(), "nothing new");
    let gone = scene.store().page("main", "deleted", 0, 10).expect_err("unknown");
    assert_eq!((gone.code.as_str(), gone.kind), ("openclaw.session_gone", Kind::Unavailable));
}

#[test]
fn a_missing_store_is_unavailable_and_a_file_that_is_none_is_data() {
    let scene = Scene::new();
    let missing = scene.store().page("other", "s1", 0, 10).expect_err("no such agent");
    assert_eq!((missing.code.as_str(), missing.kind), ("openclaw.store_missing", Kind::Unavailable));
    let folder = scene.state.path().join("agents/noise/agent");
    std::fs::create_dir_all(&folder).expect("folders");
    std::fs::write(folder.join("openclaw-agent.sqlite"), "no database at all, just words".repeat(50)).expect("noise");
    assert_eq!(scene.store().page("noise", "s1", 0, 10).expect_err("noise").code, "openclaw.store_unreadable");
}

#[test]
fn a_foreign_agent_name_never_becomes_a_path() {
    let store = Scene::new().store();
    for name in ["", "..", ".", "a/b", "../../etc", "a\0b", "-a", &"a".repeat(65), "ä"] {
        assert_eq!(store.page(name, "s1", 0, 10).expect_err(name).code, "openclaw.agent_invalid");
    }
}

#[test]
fn a_link_out_of_the_state_folder_is_not_followed() {
    let (scene, other) = (Scene::new(), Scene::new());
    other.plain(0, "{}");
    let target = other.state.path().join("agents/main");
    std::os::unix::fs::symlink(target, scene.state.path().join("agents/linked")).expect("a link");
    let refused = scene.store().page("linked", "s1", 0, 10).expect_err("outside");
    assert_eq!((refused.code.as_str(), refused.kind), ("openclaw.store_outside", Kind::Config));
}

#[test]
fn a_newer_version_is_read_when_it_has_the_columns_and_named_when_not() {
    let scene = Scene::new();
    scene.plain(0, "{}");
    scene.db.execute_batch("UPDATE schema_meta SET schema_version = 99").expect("newer");
    assert_eq!(scene.page(0, 10).expect("readable").source.schema.as_deref(), Some("99"));
    scene.db.execute_batch("ALTER TABLE transcript_events RENAME COLUMN event_zstd TO event_lz4").expect("changed");
    let unknown = scene.page(0, 10).expect_err("unreadable");
    assert_eq!((unknown.code.as_str(), unknown.kind), (SCHEMA_UNKNOWN, Kind::Data));
    assert!(unknown.cause.expect("a cause").contains("99"));
    assert_eq!(Scene::with("").code(), SCHEMA_UNKNOWN);
}

#[test]
fn a_damaged_row_is_named_and_never_skipped() {
    let rows = [
        "VALUES ('s1', 7, '{}', 0, NULL, 999)",
        "VALUES ('s1', 7, NULL, 0, NULL, NULL)",
        "VALUES ('s1', 7, NULL, 0, x'28b52ffd00', 5)",
        "VALUES ('s1', 7, NULL, 0, x'6e6f207a737464', 7)",
        "VALUES ('s1', 7, NULL, 0, x'6e6f207a737464', NULL)",
        "VALUES ('s1', 7, NULL, 0, x'6e6f207a737464', 999999999)",
    ];
    for row in rows {
        let scene = Scene::new();
        scene.db.execute_batch(&format!("INSERT INTO transcript_events {row}")).expect("inserted");
        let damaged = scene.page(0, 10).expect_err(row);
        assert_eq!((damaged.code.as_str(), damaged.kind), ("openclaw.record_damaged", Kind::Data), "{row}");
        assert!(damaged.message.contains("record 7"), "{}", damaged.message);
    }
}

#[test]
fn rows_written_while_we_read_appear_in_the_next_page() {
    let scene = Scene::new();
    scene.plain(0, "{}");
    assert_eq!(seqs(&scene.page(0, 10).expect("readable")), [0]);
    scene.plain(1, "{}");
    assert_eq!(seqs(&scene.page(0, 10).expect("readable")), [0, 1]);
}

#[test]
fn generations_are_found_by_key_and_a_broken_entry_has_none() {
    let scene = Scene::new();
    scene
        .db
        .execute_batch(
            "INSERT INTO session_nodes VALUES ('agent:main:main', '{\"lifecycleRevision\":\"r1\"}'),
        ('agent:main:odd', 'not json'), ('agent:main:none', '{}')",
        )
        .expect("entries");
    let keys = ["agent:main:odd", "agent:main:main", "agent:main:none", "agent:main:unknown"];
    let keys = keys.map(|key| (SessionKey::from(key), key.to_owned()));
    let found = scene.store().generations("main", &keys);
    assert_eq!(found, HashMap::from([("agent:main:main".into(), "r1".into())]));
    assert!(scene.store().generations("nobody", &keys).is_empty());
}

#[test]
fn a_store_that_openclaw_closed_is_read_and_not_changed() {
    let scene = Scene::new();
    scene.packed(0, "{\"type\":\"session\"}");
    let Scene { state, db } = scene;
    drop(db);
    let file = state.path().join("agents/main/agent/openclaw-agent.sqlite");
    let before = std::fs::read(&file).expect("readable");
    let page = Store::new(state.path().to_owned()).page("main", "s1", -1, 10).expect("readable at rest");
    assert_eq!(seqs(&page), [0]);
    assert_eq!(std::fs::read(&file).expect("readable"), before);
}

#[test]
fn a_frame_that_decodes_to_more_than_announced_is_refused_without_decoding_it_all() {
    let scene = Scene::new();
    let bomb = zstd::encode_all(&vec![b'x'; 64 << 20][..], 3).expect("packed");
    let sql = "INSERT INTO transcript_events VALUES ('s1', 0, NULL, 0, ?1, 100)";
    scene.db.execute(sql, params![bomb]).expect("inserted");
    let refused = scene.page(0, 10).expect_err("more than announced");
    assert_eq!(refused.cause.as_deref(), Some("101 bytes where the store announces 100"));
}
