//! Watched files of the user: each kind of damage is found and named, and a sound file under a live writer is not.

use super::support::process::{Scratch, wait_for};
use super::{config, look, moon};
use rusqlite::Connection;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A database with some tables, an index and many pages.
fn database(path: &Path, journal: &str) -> Connection {
    let db = Connection::open(path).expect("opens");
    db.execute_batch(&format!(
        "PRAGMA journal_mode={journal};
         CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
         CREATE TABLE notes (id INTEGER PRIMARY KEY, person INTEGER REFERENCES people(id), text TEXT);
         CREATE INDEX notes_by_text ON notes(text);
         INSERT INTO people VALUES (1, 'ada');"
    ))
    .expect("made");
    // In one transaction: each of its own would wait for the disk.
    db.execute_batch("BEGIN").expect("begun");
    for n in 0..300 {
        db.execute("INSERT INTO notes (person, text) VALUES (1, ?1)", [format!("note {n} {}", "x".repeat(200))])
            .expect("added");
    }
    db.execute_batch("COMMIT").expect("committed");
    db
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(path).expect("opens");
    file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(bytes)).expect("damaged");
}

/// Damages a fresh database and returns what the check says: state and reason.
fn damaged(damage: impl FnOnce(Connection, &Path)) -> (String, String) {
    let s = Scratch::new();
    let path = s.path().join("memory.db");
    let db = database(&path, "delete");
    damage(db, &path);
    let config = config(&s, &format!("[health]\ndatabases = [\"{}\"]\n", path.display()));
    let row = look(&s, &config, &format!("database:{}", path.display()));
    let text = |key: &str| row[key].as_str().expect("text").to_owned();
    (text("state"), text("reason"))
}

#[test]
fn a_sound_database_is_sound_in_either_journal_mode() {
    assert_eq!(damaged(|_, _| {}).0, "ok");
    let (state, reason) = damaged(|db, _| {
        db.execute_batch("PRAGMA journal_mode=wal; INSERT INTO people VALUES (2, 'bob');").expect("WAL");
        // As a writer that was cut off leaves it: the last rows are in the log only.
        std::mem::forget(db);
    });
    assert_eq!(state, "ok", "{reason}");
}

#[test]
fn each_kind_of_damage_is_found_and_named() {
    let (state, reason) = damaged(|db, path| {
        drop(db);
        overwrite(path, 3 * 4096 + 100, &[0xA5; 2000]);
        overwrite(path, 6 * 4096, &[0x5A; 4096]);
    });
    assert!(state == "critical" && reason.contains("damaged page"), "{state}: {reason}");

    // What `PRAGMA integrity_check` only prints, and `sqlite3` ends with 0 for: a row goes while the index is not looked at.
    let (state, reason) = damaged(|db, path| {
        let row: (i64, String) = db
            .query_row("SELECT rootpage, sql FROM sqlite_schema WHERE name = 'notes_by_text'", [], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })
            .expect("an index");
        let hide = "PRAGMA writable_schema=ON; DELETE FROM sqlite_schema WHERE name = 'notes_by_text';";
        db.execute_batch(hide).expect("hidden");
        drop(db);
        let db = Connection::open(path).expect("opens");
        db.execute_batch("DELETE FROM notes WHERE id = 7; PRAGMA writable_schema=ON;").expect("deleted");
        let show = "INSERT INTO sqlite_schema VALUES ('index', 'notes_by_text', 'notes', ?1, ?2)";
        db.execute(show, row).expect("shown again");
    });
    assert!(state == "critical" && reason.contains("index mismatch"), "{state}: {reason}");

    let (state, reason) = damaged(|db, path| {
        drop(db);
        let length = path.metadata().expect("there").len();
        std::fs::OpenOptions::new().write(true).open(path).and_then(|f| f.set_len(length / 2 + 17)).expect("cut");
    });
    assert!(state == "critical" && reason.contains("truncated file"), "{state}: {reason}");

    let (state, reason) = damaged(|db, path| {
        drop(db);
        std::fs::write(path, "these are no pages\n".repeat(500)).expect("overwritten");
    });
    assert!(state == "critical" && reason.contains("not a database"), "{state}: {reason}");

    let (state, reason) = damaged(|db, _| {
        db.execute_batch("PRAGMA foreign_keys=OFF; DELETE FROM people;").expect("orphaned");
    });
    assert!(state == "critical" && reason.contains("foreign key violation"), "{state}: {reason}");

    let (state, reason) = damaged(|db, path| {
        drop(db);
        std::fs::remove_file(path).expect("removed");
    });
    assert!(state == "critical" && reason.contains("is not there"), "{state}: {reason}");
}

#[test]
fn a_table_or_column_that_goes_missing_is_damage_until_somebody_accepts_it() {
    let s = Scratch::new();
    let path = s.path().join("memory.db");
    let db = database(&path, "wal");
    let config = config(&s, &format!("[health]\ndatabases = [\"{}\"]\n", path.display()));
    let name = format!("database:{}", path.display());
    let daemon = s.daemon(&["--config", &config]);
    let state = || look(&s, &config, &name);
    assert_eq!(state()["state"], "ok", "learned");
    db.execute_batch("ALTER TABLE people ADD COLUMN age INTEGER; CREATE TABLE more (x);").expect("grown");
    assert_eq!(state()["state"], "ok", "more is learned in silence");
    db.execute_batch("DROP TABLE notes; ALTER TABLE people DROP COLUMN age;").expect("shrunk");
    let row = state();
    assert_eq!(row["state"], "critical", "{row}");
    let reason = row["reason"].as_str().expect("text");
    assert!(reason.contains("wrong schema: table notes, column people.age gone"), "{reason}");
    daemon.stop();
    // Remembered over a restart, also by a look without a daemon.
    assert_eq!(state()["state"], "critical");
    let daemon = s.daemon(&["--config", &config]);
    assert_eq!(state()["state"], "critical");
    let accepted = moon(&s, &config, &["health", "--accept", &name]);
    assert_eq!(accepted.code, Some(0), "{}", accepted.stdout);
    assert_eq!(state()["state"], "ok");
    daemon.stop();
}

#[test]
fn torn_and_broken_lines_are_named_by_their_number_and_a_writer_at_work_is_left_alone() {
    let s = Scratch::new();
    let path = s.path().join("memory/deep/layers.jsonl");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    let config = config(&s, &format!("[health]\ndatabases = [\"{}/memory/**/*.jsonl\"]\n", s.path().display()));
    let name = format!("database:{}/memory/**/*.jsonl", s.path().display());
    let state = |text: &str, is_old: bool| {
        std::fs::write(&path, text).expect("written");
        if is_old {
            let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
            let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
            file.set_modified(hour_ago).expect("aged");
        }
        let row = look(&s, &config, &name);
        (row["state"].as_str().expect("text").to_owned(), row["reason"].as_str().expect("text").to_owned())
    };
    assert_eq!(state("{\"a\":1}\n\n[2]\n", false).0, "ok");
    let (condition, reason) = state("{\"a\":1}\n{\"b\":\n{\"c\":3}\n", false);
    assert!(condition == "critical" && reason.contains("line 2 is not JSON") && !reason.contains("line 1"), "{reason}");
    assert_eq!(state("{\"a\":1}\n{\"b\":2", false).0, "ok", "a line that is being written");
    let (condition, reason) = state("{\"a\":1}\n{\"b\":2", true);
    assert!(condition == "critical" && reason.contains("line 2 is torn"), "{reason}");
    assert_eq!(state("{\"a\":1}\n{\"b\":2}", true).0, "ok", "whole, only without its line break");
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(look(&s, &config, &name)["state"], "warning", "a pattern that matches nothing");
}

#[test]
fn a_live_writer_is_neither_disturbed_nor_mistaken_for_damage() {
    let s = Scratch::new();
    let entries: Vec<_> = ["delete", "wal"].iter().map(|mode| s.path().join(format!("{mode}.db"))).collect();
    let done = Arc::new(AtomicBool::new(false));
    let commits = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = entries
        .iter()
        .zip(["delete", "wal"])
        .map(|(path, mode)| {
            let (db, done, commits) = (database(path, mode), Arc::clone(&done), Arc::clone(&commits));
            db.execute_batch("PRAGMA synchronous=OFF").expect("faster");
            // Python's own patience.
            db.busy_timeout(std::time::Duration::from_secs(5)).expect("set");
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    db.execute("INSERT INTO notes (person, text) VALUES (1, 'live')", []).expect("a commit");
                    commits.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let config = config(&s, &format!("[health]\ndatabases = [\"{}/*.db\"]\n", s.path().display()));
    let name = format!("database:{}/*.db", s.path().display());
    for _ in 0..8 {
        let before = commits.load(Ordering::Relaxed);
        let row = look(&s, &config, &name);
        assert_eq!(
            (row["state"].as_str(), row["figures"]["files"]["value"].as_f64()),
            (Some("ok"), Some(2.0)),
            "{row}"
        );
        wait_for("more commits", || (commits.load(Ordering::Relaxed) > before).then_some(()));
    }
    done.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().expect("every commit went through"));
}

#[test]
fn damage_to_moons_own_ledger_and_archive_is_found_in_a_running_daemon() {
    let s = Scratch::new();
    s.transcript("a").begin().exchange(1, 50).exchange(2, 50);
    let (daemon, empty) = (s.daemon(&["--set", "health.every=1s"]), config(&s, ""));
    let object = wait_for("an archived object", || {
        let path: Option<String> =
            super::support::process::ledger(&s.home()).query_row("SELECT path FROM segments", [], |r| r.get(0)).ok();
        path.map(|path| s.in_home(&path))
    });
    assert_eq!(look(&s, &empty, "ledger")["state"], "ok");
    assert_eq!(look(&s, &empty, "archive")["state"], "ok");
    let good = std::fs::read(&object).expect("readable");
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&object, &bad).expect("damaged");
    let row = look(&s, &empty, "archive");
    assert_eq!(row["state"], "critical", "{row}");
    let firing = |rule: &str| {
        let alerts = s.json(&["status"]).report()["data"]["alerts"].clone();
        alerts.as_array().expect("alerts").iter().filter(|a| a["key"]["rule"] == rule).count()
    };
    assert_eq!(firing("memory_corrupt"), 1);
    std::fs::write(&object, &good).expect("restored");
    assert_eq!(look(&s, &empty, "archive")["state"], "ok");
    assert_eq!(firing("memory_corrupt"), 0, "it is whole again");
    daemon.stop();
}

#[test]
fn a_ledger_that_cannot_even_be_opened_is_named_and_everything_else_is_looked_at_all_the_same() {
    let s = Scratch::new();
    s.transcript("a").begin().exchange(1, 5);
    s.daemon(&[]).stop();
    let path = s.in_home("state/moon.db");
    let whole = std::fs::read(&path).expect("readable");
    let cases: [(&str, Vec<u8>); 3] = [
        ("not a database", vec![b'x'; 9000]),
        ("truncated file", whole[..whole.len() / 2].to_vec()),
        (
            "damaged page",
            whole.iter().enumerate().map(|(at, b)| if at > 5000 && at % 3 == 0 { !b } else { *b }).collect(),
        ),
    ];
    for (name, bytes) in cases {
        std::fs::write(&path, bytes).expect("damaged");
        let ran = s.json(&["health"]);
        let report = ran.report();
        assert_eq!((ran.code, super::names(&report).len()), (Some(1), super::OWN.len()), "{name}: {report}");
        let row = report["data"]["checks"][2].clone();
        assert_eq!((row["name"].as_str(), row["state"].as_str()), (Some("ledger"), Some("critical")), "{row}");
        assert!(row["reason"].as_str().is_some_and(|reason| reason.contains(name)), "{name}: {row}");
        assert_eq!(report["data"]["checks"][6]["state"], "ok", "the disk is fine: {report}");
    }
}

#[test]
fn a_restore_is_named_only_when_a_backup_holds_the_database_whole() {
    let s = Scratch::new();
    s.transcript("work").exchange(1, 20);
    s.run(&["watch", "--once"]).expect(0);
    std::fs::create_dir_all(s.path().join("agent")).expect("a folder");
    let (kept, own) = (s.path().join("agent/kept.db"), s.in_home("memory/own.db"));
    let apart = s.path().join("apart.db");
    for path in [&kept, &own, &apart] {
        drop(database(path, "delete"));
    }
    let text = format!(
        "[backup]\ninclude = [\"{}\"]\n[health]\ndatabases = [\"{}\", \"{}\", \"{}\"]\n",
        s.path().join("agent").display(),
        kept.display(),
        own.display(),
        apart.display()
    );
    let config = config(&s, &text);
    let made = moon(&s, &config, &["backup", "--json"]).expect(0).report();
    let id = made["data"]["backup"]["id"].as_str().expect("an id").to_owned();
    [&kept, &own, &apart].iter().for_each(|path| overwrite(path, 4096 * 3, &[0xa5; 4096]));
    // A later backup holds them, too, and damaged: it is not the one to restore from.
    moon(&s, &config, &["backup"]).expect(2);
    let hint = |path: &Path| {
        let row = look(&s, &config, &format!("database:{}", path.display()));
        assert_eq!(row["state"], "critical", "{row}");
        row["hint"].as_str().expect("a hint").to_owned()
    };
    assert!(hint(&kept).contains(&format!("`moon restore {id} --to DIR`, then copy DIR/include/0/kept.db")));
    assert!(hint(&own).contains(&format!("`moon restore {id} --only memory/own.db`")));
    let nowhere = hint(&apart);
    assert!(
        nowhere.contains("no backup here is known to hold it whole") && !nowhere.contains("moon restore"),
        "{nowhere}"
    );
    // Of lines a backup knows nothing, and SQLite neither; what is taken already need not be included.
    for (folder, is_taken) in [("agent", true), ("elsewhere", false)] {
        let path = s.path().join(folder).join("log.jsonl");
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, "{\"a\": 1}\n{broken\n").expect("lines");
        let config = self::config(&s, &text.replace(&own.display().to_string(), &path.display().to_string()));
        let row = look(&s, &config, &format!("database:{}", path.display()));
        let hint = row["hint"].as_str().expect("a hint");
        assert_eq!(hint.contains("backups hold it as it was"), is_taken, "{row}");
        assert_eq!(hint.contains("backup.include takes its folder"), !is_taken, "{row}");
        assert!(!hint.contains("sqlite3"), "{row}");
    }
    let config = self::config(&s, &text);
    // What the hint says is what helps.
    std::fs::remove_file(&own).expect("put aside");
    moon(&s, &config, &["restore", &id, "--only", "memory/own.db", "--yes"]).expect(0);
    assert_eq!(look(&s, &config, &format!("database:{}", own.display()))["state"], "ok");
}
