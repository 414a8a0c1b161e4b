//! Single files, previews, the way back from each kind of restore, and who may not run into a restore.

use super::build::{ID, publish};
use super::lived_in;
use super::support::process::{Ran, changes, tree};
use super::verbs::{DAY, asked, at_terminal, beside, day, given, restore};
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

/// The path that a hint shows when it knows none.
const DAY_OF_HINT: &str = "memory/2026-11-20.md";

#[test]
fn single_files_and_folders_come_back_and_the_ledger_never_alone() {
    let (scratch, good) = lived_in();
    let file = given(&scratch, &good);
    let object = good.entries.iter().map(|e| String::from_utf8_lossy(&e.path).into_owned());
    let object = object.into_iter().find(|p| p.ends_with(".jsonl.zst")).expect("an object");
    let object = object.strip_prefix("home/").expect("of the home").to_owned();
    let right = std::fs::read(scratch.in_home(&object)).expect("readable");
    std::fs::write(scratch.in_home(&object), b"damaged").expect("damaged");
    std::fs::write(scratch.in_home("archives/objects/later"), b"later").expect("a later object");
    std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
    std::fs::write(scratch.in_home("memory/2026-11-20.md"), "later\n").expect("a memory");

    restore(&scratch, &file, &["--only", DAY]).expect(0);
    assert_eq!(day(&scratch), "what was said\n");
    assert!(scratch.in_home("memory/2026-11-20.md").exists(), "nothing else changed");
    let entries = std::fs::read_dir(scratch.in_home("memory")).expect("listable").flatten();
    let kept: Vec<_> = entries.map(|e| e.path()).filter(|p| p.to_string_lossy().contains(".md.pre-restore-")).collect();
    assert_eq!(std::fs::read_to_string(&kept[0]).expect("kept"), "overwritten\n");

    restore(&scratch, &file, &["--only", "memory/", "--only", "archives"]).expect(0);
    assert!(!scratch.in_home("memory/2026-11-20.md").exists(), "the folder is the one of the backup");
    let old = std::fs::read_dir(scratch.home()).expect("listable").flatten();
    assert!(old.map(|e| e.path()).any(|p| p.join("2026-11-20.md").exists()), "the folder before is kept");
    assert_eq!(std::fs::read(scratch.in_home(&object)).expect("readable"), right);
    assert!(scratch.in_home("archives/objects/later").exists(), "what the archive got later stays");

    let before = tree(&scratch.home());
    for (path, code) in
        [("state/moon.db", "restore.choice"), ("state", "restore.choice"), ("nothing", "restore.choice")]
    {
        let error = restore(&scratch, &file, &["--only", path]).expect(1).report()["data"]["error"].clone();
        assert_eq!(error["code"], code, "{path}: {error}");
    }
    for (path, place, holds) in [("no/such", "the home", "archives, "), ("memory/x", "memory", "2026-11-19.md")] {
        let error = restore(&scratch, &file, &["--only", path]).expect(1).report()["data"]["error"].clone();
        let message = format!("the backup holds no file or folder {path:?}, and nothing was touched");
        assert_eq!(error["message"], message, "{error}");
        let cause = error["cause"].as_str().expect("a cause");
        assert!(cause.starts_with(&format!("in it {place} holds {holds}")), "{error}");
    }
    let nothing = Ran::of(scratch.moon(&["restore", "--yes", "--only", ""]).arg(&file)).expect(64);
    assert!(nothing.stderr.contains("a value is required for '--only <PATH>'"), "{nothing:?}");
    let whole = scratch.in_home(DAY);
    for (path, example) in [("../../etc", DAY_OF_HINT), ("/etc", DAY_OF_HINT), (whole.to_str().expect("plain"), DAY)] {
        let error = restore(&scratch, &file, &["--only", path]).expect(64).report()["data"]["error"].clone();
        assert_eq!(error["code"], "cli.usage", "{path}: {error}");
        assert_eq!(error["hint"], format!("for example: moon restore --only {example}"), "{path}: {error}");
    }
    assert_eq!(changes(&before, &tree(&scratch.home())), Vec::<String>::new());
    assert_eq!(beside(&scratch, "home."), Vec::<PathBuf>::new());
}

#[test]
fn a_preview_of_single_files_names_these_and_nothing_else() {
    let (scratch, good) = lived_in();
    let file = given(&scratch, &good);
    std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
    std::fs::write(scratch.in_home("memory/2026-11-20.md"), "later\n").expect("a memory");
    std::fs::remove_file(scratch.in_home("moon.toml")).expect("gone");
    let preview = |words: &[&str]| {
        let data = restore(&scratch, &file, &[&["--dry-run"], words].concat()).expect(0).report()["data"].clone();
        ["added", "changed", "removed"].map(|what| data[what]["paths"].clone())
    };
    assert_eq!(preview(&["--only", DAY]), [json!([]), json!([DAY]), json!([])]);
    assert_eq!(preview(&["--only", "moon.toml"]), [json!(["moon.toml"]), json!([]), json!([])]);
    // A folder is put back whole; the archive file by file.
    assert_eq!(preview(&["--only", "memory"]), [json!([]), json!([DAY]), json!(["memory/2026-11-20.md"])]);
    std::fs::write(scratch.in_home("archives/objects/later"), b"later").expect("a later object");
    let [added, changed, removed] = preview(&["--only", "archives/objects"]);
    assert_eq!([added, changed, removed], [json!([]), json!([]), json!([])]);
    let to = scratch.path().join("elsewhere");
    let [added, changed, removed] = preview(&["--to", to.to_str().expect("plain")]);
    assert!(added.as_array().is_some_and(|all| !all.is_empty()), "{added}");
    assert_eq!([changed, removed], [json!([]), json!([])]);
    assert!(!to.exists());
}

#[test]
fn an_undo_after_single_files_takes_back_these_and_not_the_restore_before() {
    let (scratch, good) = lived_in();
    let file = given(&scratch, &good);
    std::fs::write(scratch.in_home("memory/later.md"), "before the whole\n").expect("a memory");
    restore(&scratch, &file, &[]).expect(0);
    assert!(!scratch.in_home("memory/later.md").exists());
    std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
    std::fs::remove_file(scratch.in_home("moon.toml")).expect("gone");
    restore(&scratch, &file, &["--only", DAY, "--only", "moon.toml"]).expect(0);
    let undo = |words: &[&str]| scratch.json(&[&["restore", "--undo"], words].concat()).expect(0).report();
    // It is said before it is done, and saying it changes nothing.
    let before = tree(scratch.path());
    let said = undo(&["--dry-run"]);
    let way = &said["data"]["undo"];
    assert_eq!((&way["whole"], &way["from"]), (&json!(false), &json!(ID)), "{said}");
    assert_eq!(way["back"][0]["place"], json!(scratch.in_home(DAY)), "{said}");
    assert_eq!(way["aside"], json!([scratch.in_home("moon.toml")]), "{said}");
    assert!(way["earlier"].as_str().is_some_and(|kept| kept.contains("home.pre-restore-")), "{said}");
    assert!(said["details"].to_string().contains("would put aside"), "{said}");
    assert_eq!(changes(&before, &tree(scratch.path())), Vec::<String>::new());
    // Back, forth and back again; what is in the way is kept each time.
    for (expected, is_there) in [("overwritten\n", false), ("what was said\n", true), ("overwritten\n", false)] {
        undo(&["--yes"]);
        assert_eq!((day(&scratch).as_str(), scratch.in_home("moon.toml").exists()), (expected, is_there));
        assert!(!scratch.in_home("memory/later.md").exists(), "the restore of the whole stands");
    }
    assert_eq!(beside(&scratch, "home.pre-restore-").len(), 1);
    // What somebody removed cannot be put back, and nothing else is put back in its place.
    let entries = std::fs::read_dir(scratch.in_home("memory")).expect("listable").flatten();
    let kept = entries.map(|e| e.path()).filter(|p| p.to_string_lossy().contains(".pre-restore-"));
    let kept: Vec<PathBuf> = kept
        .chain(
            std::fs::read_dir(scratch.home())
                .expect("listable")
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.to_string_lossy().contains("moon.toml.pre-restore-")),
        )
        .collect();
    kept.iter().for_each(|path| std::fs::remove_file(path).expect("removed"));
    let ran = scratch.json(&["restore", "--undo", "--yes"]).expect(1).report();
    assert_eq!(ran["data"]["error"]["code"], "restore.nothing_to_undo", "{ran}");
    // A later restore of the whole is the last one again.
    restore(&scratch, &file, &[]).expect(0);
    assert_eq!(undo(&["--dry-run"])["data"]["undo"]["whole"], json!(true));
    undo(&["--yes"]);
    assert_eq!(undo(&["--dry-run"])["data"]["undo"]["whole"], json!(true), "not what was replaced in it long before");
}

#[test]
fn a_restore_says_which_databases_are_whole_and_which_were_not_when_they_were_backed_up() {
    let (scratch, _) = lived_in();
    let notes = scratch.path().join("notes");
    std::fs::create_dir(&notes).expect("a folder");
    for name in ["whole.db", "damaged.db"] {
        rusqlite::Connection::open(notes.join(name))
            .and_then(|db| db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (randomblob(9000));"))
            .expect("a database");
    }
    let mut bytes = std::fs::read(notes.join("damaged.db")).expect("readable");
    bytes[4096..8192].fill(7);
    std::fs::write(notes.join("damaged.db"), bytes).expect("damaged");
    let include = format!("backup.include=[{notes:?}]");
    scratch.run(&["--set", &include, "backup"]).expect(2);
    let notes = notes.to_str().expect("plain");
    let found = |words: &[&str]| {
        let report = scratch.json(&[&["restore", "--dry-run"], words].concat()).expect(0).report();
        (report["data"]["databases"].clone(), report["details"].to_string())
    };
    let (data, said) = found(&["--include", notes]);
    let damaged = format!("{notes}/damaged.db");
    assert_eq!(data, json!({ "whole": 2, "unopened": 0, "unsound": [damaged] }), "{said}");
    assert!(said.contains("2 databases opened and whole") && said.contains(&damaged), "{said}");
    let changed = scratch.json(&["restore", "--dry-run", "--include", notes]).report()["data"]["changed"].to_string();
    assert!(!changed.contains("damaged.db"), "it is as it was: {changed}");
    let (data, said) = found(&[]);
    assert_eq!(data, json!({ "whole": 1, "unopened": 1, "unsound": [damaged] }), "{said}");
    assert!(said.contains("1 database opened and whole, 1 database not restored and not opened"), "{said}");
}

#[test]
fn the_progress_of_a_restore_goes_forward_once_to_its_end_and_leaves_the_terminal_clean() {
    use moon::adapters::restore::{self as restores, Choice, source::Source};
    let (scratch, mut good) = lived_in();
    // What does not pack: so that there is some way to go.
    let noise = (0..500_000u64).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17).to_le_bytes());
    good.add("home/memory/noise", "file", &noise.collect::<Vec<u8>>());
    publish(&scratch.in_home("backups/moon"), &good.packed());
    let source = Source::find(&scratch.in_home("backups/moon"), ID).expect("a backup");
    let (seen, home) = (std::cell::RefCell::new(vec![0]), moon::home::Home::at(scratch.home()));
    let whole = Choice::Whole { include: vec![] };
    let told = |bytes: u64| seen.borrow_mut().push(bytes);
    drop(restores::prepare(&home, &source, None, whole, &told, &moon_actors::port::NoProbe).expect("prepared"));
    let seen = seen.into_inner();
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!((seen.last(), source.to_read()), (Some(&source.to_read()), 3 * source.bytes));
    // On a terminal: what was drawn is taken away again before anything is said.
    let file = given(&scratch, &good);
    let (mut child, _pty, shown) = asked(&scratch, &file, &[]);
    child.kill().and_then(|()| child.wait()).expect("ended");
    let (drawn, said) = shown.split_once("given.tar.zst").expect("what is asked about");
    let (bars, left) = drawn.rsplit_once("\u{1b}[2K").expect("a bar that was taken away");
    assert!(bars.contains("unpacking") && !left.contains("unpacking") && !said.contains("unpacking"), "{shown:?}");
}

#[test]
fn whoever_interrupts_a_restore_or_a_backup_is_told_so_on_a_line_of_its_own_without_a_bar() {
    let (scratch, mut good) = lived_in();
    let noise = (0..2_000_000u64).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17).to_le_bytes());
    let noise = noise.collect::<Vec<u8>>();
    std::fs::write(scratch.in_home("memory/noise"), &noise).expect("a file");
    good.add("home/memory/noise", "file", &noise);
    let file = given(&scratch, &good);
    let file = file.to_str().expect("plain");
    let said = "interrupted: nothing was restored, and everything is as it was";
    for (words, step, said) in [(&["restore", file][..], "unpacking", said), (&["backup"], "writing", "interrupted")] {
        // On a machine that is slow to tell, the work is over before it can be cut off.
        let is_told = (0..20).any(|_| {
            let (mut child, mut pty, mut shown) = at_terminal(&mut scratch.moon(words), step);
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("interrupted");
            let mut rest = Vec::new();
            // The end of a terminal is an error.
            let _ = std::io::Read::read_to_end(&mut pty, &mut rest);
            shown.push_str(&String::from_utf8_lossy(&rest));
            let ended = child.wait().expect("ended");
            assert!(ended.signal() == Some(2) || ended.code() == Some(0), "{ended:?} {shown:?}");
            let (_, left) = shown.rsplit_once("\u{1b}[2K").expect("a bar that was taken away");
            assert!(!left.contains(step), "{shown:?}");
            assert!(!shown.contains("the daemon is at work"), "there is none: {shown:?}");
            left.trim_start_matches('\r') == format!("{said}\r\n")
        });
        assert!(is_told, "{words:?} was never cut off half-way");
    }
}

#[test]
fn whoever_interrupts_the_question_of_a_restore_or_of_an_undo_is_told_that_nothing_was_touched() {
    let (scratch, good) = lived_in();
    let file = given(&scratch, &good);
    restore(&scratch, &file, &[]).expect(0);
    for words in [&["restore", file.to_str().expect("plain")][..], &["restore", "--undo"]] {
        let (mut child, mut pty, shown) = at_terminal(&mut scratch.moon(words), "Type yes: ");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("interrupted");
        let mut rest = Vec::new();
        // The end of a terminal is an error.
        let _ = std::io::Read::read_to_end(&mut pty, &mut rest);
        assert_eq!(child.wait().expect("ended").signal(), Some(2), "{shown:?}");
        let said = "\r\ninterrupted: nothing was restored, and everything is as it was\r\n";
        assert_eq!(String::from_utf8_lossy(&rest), said, "{words:?}");
        assert_eq!(day(&scratch), "what was said\n");
    }
}

#[test]
fn a_preview_calls_a_database_changed_only_when_it_holds_something_else() {
    let (scratch, _) = lived_in();
    let notes = scratch.path().join("notes");
    std::fs::create_dir(&notes).expect("a folder");
    let open = |name: &str, mode: &str| {
        let db = rusqlite::Connection::open(notes.join(name)).expect("a database");
        let made = "CREATE TABLE t (a); CREATE TABLE u (a); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1);
                    DROP TABLE u; INSERT INTO t VALUES (2);";
        db.execute_batch(&format!("PRAGMA journal_mode={mode}; PRAGMA wal_autocheckpoint=0; {made}")).expect("rows");
        db
    };
    // One without a log, one whose rows all stand in its log; both are open and in use.
    let (plain, logged) = (open("plain.db", "delete"), open("logged.db", "wal"));
    assert!(notes.join("logged.db-wal").metadata().expect("a log").len() > 0);
    let include = format!("backup.include=[{notes:?}]");
    scratch.run(&["--set", &include, "backup"]).expect(0);
    let before = tree(&notes);
    let notes = notes.to_str().expect("plain");
    let differing = || {
        let data = scratch.json(&["restore", "--dry-run", "--include", notes]).expect(0).report()["data"].clone();
        let paths =
            ["added", "changed", "removed"].map(|what| data[what]["paths"].as_array().cloned().expect("a list"));
        let of_notes = |path: &Value| path.as_str().and_then(|path| Some(path.strip_prefix(notes)?.to_owned()));
        paths.iter().flatten().filter_map(of_notes).collect::<Vec<String>>()
    };
    assert_eq!(differing(), Vec::<String>::new());
    assert_eq!(changes(&before, &tree(notes.as_ref())), Vec::<String>::new(), "a preview changes nothing");
    plain.execute_batch("UPDATE t SET a = 3 WHERE a = 2").expect("changed");
    assert_eq!(differing(), ["/plain.db"]);
    logged.execute_batch("UPDATE t SET a = 3 WHERE a = 2").expect("changed");
    assert_eq!(differing(), ["/logged.db", "/plain.db"]);
}

#[test]
fn a_restore_and_work_on_the_backups_never_run_into_each_other() {
    let (scratch, good) = lived_in();
    publish(&scratch.in_home("backups/moon"), &good.packed());
    restore(&scratch, &given(&scratch, &good), &[]).expect(0);
    std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
    let path = scratch.in_home("backups/backup.lock");
    let lock = std::fs::File::options().write(true).create(true).truncate(false).open(&path).expect("a lock file");
    lock.try_lock().expect("free");
    for words in [&["restore", "--yes"][..], &["restore", "--undo", "--yes"], &["restore", "--only", DAY, "--yes"]] {
        let error = scratch.json(words).expect(3).report()["data"]["error"].clone();
        assert_eq!(error["code"], "backup.held", "{words:?}: {error}");
        assert_eq!(day(&scratch), "overwritten\n");
    }
    // Looking is free.
    scratch.run(&["restore", "--dry-run"]).expect(0);
    drop(lock);
    scratch.run(&["restore", "--yes"]).expect(0);
    assert_eq!(day(&scratch), "what was said\n");
    let held: Value = scratch.json(&["backup", "prune"]).expect(0).report();
    assert_eq!(held["ok"], json!(true), "the lock went with the home: {held}");
}
