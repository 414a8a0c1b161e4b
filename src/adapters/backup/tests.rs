//! No backup is made that cannot be restored, whatever lies in a folder: made, proved and restored here by the same code as outside.

use super::BackupVault;
use super::format::{self, Kind, Manifest, PATH_MAX};
use super::write::{self, Failed, Limits, Order};
use super::{Meter, walk};
use crate::adapters::beneath::Beneath;
use crate::adapters::restore::{self, Choice, source::Source};
use crate::home::Home;
use moon_actors::contract::Issue;
use moon_actors::port::{NoProbe, Proof, Target, Vault};
use moon_actors::settings;
use proptest::prelude::*;
use std::collections::HashSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A home and a folder of the user's beside it.
fn ready() -> (TempDir, Home, PathBuf) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
    let agent = scratch.path().join("agent");
    std::fs::create_dir(&agent).expect("a folder");
    (scratch, home, agent)
}

/// Backs everything up, proves it, restores it elsewhere: where to, its manifest, and what was told.
fn round_trip(scratch: &Path, home: &Home, agent: &Path) -> (PathBuf, Manifest, Vec<Issue>) {
    let (restored, proof) = round_trip_proved(scratch, home, agent);
    assert_eq!(proof.expect("proved"), Proof::Restored);
    restored
}

/// The same, and what became of the proof.
fn round_trip_proved(
    scratch: &Path,
    home: &Home,
    agent: &Path,
) -> ((PathBuf, Manifest, Vec<Issue>), moon_actors::Result<Proof>) {
    let settings = settings::Backup { include: vec![agent.display().to_string()], ..settings::Backup::default() };
    let vault = BackupVault::new(home, &settings);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (made, proven) = runtime.block_on(async {
        let held = vault.hold().await.expect("free");
        let made = vault.make(&held).await.expect("made");
        let proven = vault.verify(&held, Target::Folder, &made.backup.id).await;
        (made, proven)
    });
    let to = scratch.join(format!("restored-{}", made.backup.id));
    let source = Source::open(Path::new(&made.backup.path)).expect("opens");
    let prepared =
        restore::prepare(home, &source, None, Choice::To(to.clone()), &|_| {}, &NoProbe).expect("restorable");
    prepared.put_in_place(None, &(std::sync::Arc::new(NoProbe) as _)).expect("restored");
    let text = std::fs::read(to.join(format::MANIFEST)).expect("a manifest");
    ((to, serde_json::from_slice(&text).expect("JSON"), made.issues), proven.map(|proven| proven.proof))
}

fn has(issues: &[Issue], words: &str) -> bool {
    issues.iter().any(|issue| format!("{issue:?}").contains(words))
}

/// Names that are meant well, and names that are not.
const NAMES: [&str; 18] = [
    "a",
    "b.jsonl",
    "größe 日本",
    "run",
    "index",
    "backups",
    "a.db",
    "a.db-wal",
    "a.db-shm",
    "state",
    "moon.db-wal",
    "..x",
    "\\back",
    "quo\"te",
    "line\nbreak",
    ".moon-tmp-1-2",
    "home",
    "with space ",
];

#[derive(Clone, Debug)]
enum Thing {
    File(Vec<u8>),
    Folder,
    Database,
    Link,
}

fn things() -> impl Strategy<Value = Vec<(Vec<String>, Thing)>> {
    let name = prop_oneof![
        4 => proptest::sample::select(&NAMES[..]).prop_map(str::to_owned),
        1 => (1..=255usize).prop_map(|n| "n".repeat(n)),
    ];
    let thing = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..3000).prop_map(Thing::File),
        1 => Just(Thing::Folder),
        1 => Just(Thing::Database),
        1 => Just(Thing::Link),
    ];
    proptest::collection::vec((proptest::collection::vec(name, 1..30), thing), 0..12)
}

/// Puts a thing below a folder if nothing is in its way.
fn put(root: &Path, path: &[String], thing: &Thing) {
    let (text, on_disk) = (path.join("/"), root.join(path.join("/")));
    let mut folder = Beneath::hold(root).expect("a folder");
    let _ = match thing {
        Thing::File(bytes) => folder.make_file(&text, false).and_then(|mut f| std::io::Write::write_all(&mut f, bytes)),
        Thing::Folder => folder.make_folder(&text),
        Thing::Link => symlink("/etc/passwd", on_disk),
        Thing::Database => {
            let _ = on_disk.parent().map(std::fs::create_dir_all);
            let made = rusqlite::Connection::open(&on_disk).and_then(|db| {
                db.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t (a); INSERT INTO t VALUES (1);")
            });
            made.map_err(std::io::Error::other)
        }
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_lies_there_is_backed_up_so_that_it_can_be_restored(here in things(), in_home in things()) {
        let (scratch, home, agent) = ready();
        here.iter().for_each(|(path, thing)| put(&agent, path, thing));
        in_home.iter().for_each(|(path, thing)| put(home.root(), path, thing));
        let (to, manifest, _) = round_trip(scratch.path(), &home, &agent);
        for member in manifest.members.iter().filter(|m| m.kind == Kind::File) {
            let here = match member.path.strip_prefix("include/0/") {
                Some(below) => agent.join(below),
                None => home.root().join(member.path.strip_prefix("home/").expect("of the home")),
            };
            prop_assert_eq!(std::fs::read(here).ok(), std::fs::read(to.join(&member.path)).ok(), "{}", member.path);
        }
    }
}

#[test]
fn a_path_that_a_restore_does_not_take_is_left_out_and_named() {
    let (scratch, home, agent) = ready();
    let name = "n".repeat(250);
    let mut folder = Beneath::hold(&agent).expect("a folder");
    // The last one that fits: the id and a slash, `include/0/`, and the rest.
    let whole = format!("{name}/").repeat(16) + &"f".repeat(PATH_MAX - 16 - 10 - 16 * 251);
    folder.make_file(&whole, false).expect("a file");
    folder.make_file(&(format!("{name}/").repeat(20) + "too-long"), false).expect("a file");
    let (_, manifest, issues) = round_trip(scratch.path(), &home, &agent);
    assert!(has(&issues, "longer than a restore takes") && has(&issues, "backup.left_out"), "{issues:?}");
    assert!(manifest.members.iter().any(|m| m.path == format!("include/0/{whole}")), "the longest is in it");
    assert!(!manifest.members.iter().any(|m| m.path.ends_with("too-long")));
}

#[test]
fn a_broken_ledger_and_what_lies_beside_it_end_no_restore() {
    let (scratch, home, agent) = ready();
    std::fs::write(home.ledger_db(), b"SQLite format 3\0 and then nothing of the kind").expect("a file");
    std::fs::write(home.root().join("state/moon.db-wal"), b"a log").expect("a file");
    let ((_, manifest, issues), proof) = round_trip_proved(scratch.path(), &home, &agent);
    assert_eq!(proof.expect_err("nobody can say that the archive is whole").code, "backup.source_damaged");
    assert!(has(&issues, "state/moon.db-wal") && has(&issues, "backup.unsound"), "{issues:?}");
    assert!(manifest.members.iter().any(|m| m.path == "home/state/moon.db" && m.kind == Kind::File));
    assert!(!manifest.members.iter().any(|m| m.path.ends_with("-wal")));
}

#[test]
fn zeros_that_pack_to_nothing_are_no_bomb_when_the_note_announces_them() {
    let (scratch, home, agent) = ready();
    let file = std::fs::File::create(agent.join("zeros")).expect("a file");
    file.set_len(96 << 20).expect("a long file");
    let (to, manifest, _) = round_trip(scratch.path(), &home, &agent);
    assert_eq!(std::fs::metadata(to.join("include/0/zeros")).expect("restored").len(), 96 << 20);
    // Without its note nobody knows that it is one of ours.
    let archive = home.own_backups_dir().join(format::file_name(&manifest.id, false));
    std::fs::remove_file(home.own_backups_dir().join(format::sidecar_name(&manifest.id))).expect("removed");
    let source = Source::open(&archive).expect("opens");
    let elsewhere = Choice::To(scratch.path().join("elsewhere"));
    let refused = restore::prepare(&home, &source, None, elsewhere, &|_| {}, &NoProbe).expect_err("refused");
    assert_eq!(refused.code, "restore.too_large");
}

#[test]
fn more_than_one_archive_may_hold_is_refused_at_once() {
    let (scratch, home, agent) = ready();
    for n in 0..40 {
        std::fs::write(agent.join(format!("{n}.txt")), b"x").expect("a file");
    }
    let settings = settings::Backup { include: vec![agent.display().to_string()], ..settings::Backup::default() };
    let vault = BackupVault::new(&home, &settings);
    let mut issues = Vec::new();
    let sources = vault.sources(&mut issues).expect("folders");
    let written = |limits: Limits| {
        let work = tempfile::tempdir_in(scratch.path()).expect("a folder");
        let manifest = super::make::blank("20261121_020000", chrono::Utc::now(), &sources);
        let order = Order {
            sources: &sources,
            rules: &walk::Rules::new(&[], PATH_MAX).expect("rules"),
            manifest,
            level: 1,
            work: work.path(),
            copy_first: HashSet::new(),
            unreadable: HashSet::new(),
            looks_into_databases: true,
            meter: Meter::default(),
            limits,
        };
        let mut file = tempfile::tempfile_in(scratch.path()).expect("a file");
        write::write(&order, &mut file, None, write::Beside::Nobody).map(|written| written.members)
    };
    let all = written(Limits::default()).expect("within the limits");
    let refused = |limits| matches!(written(limits), Err(Failed::TooMuch(_)));
    assert!(!refused(Limits { members: all as usize, ..Limits::default() }));
    assert!(refused(Limits { members: all as usize - 1, ..Limits::default() }));
    assert!(refused(Limits { list: (1 << 20) + 1000, ..Limits::default() }));
    assert_eq!(super::make::too_much("more than 3 files and folders").code, "backup.too_much");
}
