//! What is in a backup, what is not, and what is told of it.

use super::support::process::{Ran, open_to_others, tree};
use super::{files, folder, issues, manifest, ready, unpacked, with_agent};
use moon::adapters::backup::format::{self, Sidecar};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

#[test]
fn a_backup_holds_the_home_and_the_users_folder_and_sha256sum_agrees() {
    let scratch = ready();
    std::os::unix::fs::symlink("/etc/passwd", scratch.path().join("agent/link")).expect("a link");
    let made = Command::new("mkfifo").arg(scratch.path().join("agent/pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    let long = "x".repeat(120);
    std::fs::create_dir_all(scratch.path().join("agent").join(&long)).expect("a folder");
    std::fs::write(scratch.path().join("agent").join(&long).join("größe 日本.txt"), b"long").expect("a file");
    std::fs::write(scratch.path().join("agent/a.tmp"), b"no").expect("a file");
    std::fs::write(scratch.path().join("agent/orphan-wal"), b"a file of its own").expect("a file");
    let ran =
        Ran::of(with_agent(&scratch, &["--set", "backup.exclude=[\"*.tmp\", \"deep/er/**\"]", "backup"]).arg("--json"))
            .expect(0);
    let report = ran.report();
    assert_eq!(report["data"]["backup"]["proof"], "restored");
    let said = report["details"].to_string();
    assert!(said.contains("1 link: include/0/link") && said.contains("1 pipe: include/0/pipe"), "{said}");
    let file = files(&folder(&scratch)).pop().expect("a backup");
    let place = tempfile::tempdir().expect("a place");
    // By the tools that everybody has, without Moon.
    let ran = Ran::of(Command::new("tar").arg("-xf").arg(&file).args(["--zstd", "-C"]).arg(place.path()));
    ran.expect(0);
    let id =
        format::parse_name(file.file_name().and_then(|n| n.to_str()).expect("a name")).expect("an id").0.to_owned();
    let top = place.path().join(&id);
    Ran::of(Command::new("sha256sum").args(["--check", "--strict", "checksums.sha256"]).current_dir(&top)).expect(0);
    let manifest = manifest(&top);
    let listed: BTreeSet<String> = manifest.members.iter().map(|m| m.path.clone()).collect();
    let there: BTreeSet<String> = tree(&top).into_keys().map(|p| p.display().to_string()).collect();
    let ours = ["", "include", "manifest.json", "checksums.sha256"];
    let there: BTreeSet<String> = there.into_iter().filter(|p| !ours.contains(&p.as_str())).collect();
    assert_eq!(listed, there);
    for wanted in ["home/state/moon.db", "home/archives/ledger.jsonl", "include/0/deep/er", "include/0/orphan-wal"] {
        assert!(listed.contains(wanted), "{wanted}: {listed:?}");
    }
    for unwanted in [
        "home/run",
        "home/index",
        "home/backups",
        "home/state/reserve.bin",
        "home/state/moon.db-wal",
        "include/0/a.tmp",
        "include/0/deep/er/unknown.xyz",
    ] {
        assert!(!listed.contains(unwanted), "{unwanted}");
    }
    assert!(listed.contains(&format!("include/0/{long}/größe 日本.txt")));
    assert!(manifest.ledger.is_some_and(|mark| mark.audit_seq > 0));
    // Everything about it is its owner's alone, and nothing is left of the work.
    assert_eq!(open_to_others(&scratch.in_home("backups")), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(scratch.in_home("backups/work")).expect("a folder").count(), 0);
    assert_eq!(std::fs::read_to_string(folder(&scratch).join("latest")).expect("latest"), format!("{id}\n"));
    let note: Sidecar =
        serde_json::from_slice(&std::fs::read(folder(&scratch).join(format!("{id}.json"))).expect("a note"))
            .expect("JSON");
    assert_eq!((note.bytes, note.members), (file.metadata().expect("there").len(), listed.len() as u64));
    assert!(note.verified_at.is_some());
}

#[test]
fn a_database_that_is_damaged_is_told_and_taken_as_it_is_and_a_missing_folder_is_told() {
    let scratch = ready();
    let db = scratch.path().join("agent/broken.db");
    {
        let db = Connection::open(&db).expect("a database");
        db.execute_batch("CREATE TABLE t (a TEXT); CREATE INDEX i ON t(a);").expect("a schema");
        for n in 0..2000 {
            db.execute("INSERT INTO t VALUES (?1)", [format!("{n} {}", "x".repeat(40))]).expect("a row");
        }
    }
    let mut bytes = std::fs::read(&db).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&db, &bytes).expect("damaged");
    std::fs::write(scratch.path().join("agent/not.db"), b"SQLite format 3\0 and then nothing of the kind")
        .expect("a file");
    let include = format!("backup.include=[\"{}\", \"/nowhere/at/all\"]", scratch.path().join("agent").display());
    let ran = scratch.json(&["--set", &include, "backup"]).expect(2);
    let found = issues(&ran);
    assert_eq!(found, ["backup.include", "backup.unsound", "backup.unsound"], "{ran:#?}");
    // It is whole and verified all the same, as what it is: the file as it was.
    assert!(ran.report()["data"]["backup"]["verified_at"].is_string());
    let place = tempfile::tempdir().expect("a place");
    let top = unpacked(&files(&folder(&scratch))[0], place.path());
    assert_eq!(
        std::fs::read(top.join("include/0/not.db")).expect("there"),
        std::fs::read(scratch.path().join("agent/not.db")).expect("there")
    );
    let alerts = scratch.json(&["status"]).report()["data"]["alerts"].to_string();
    assert!(alerts.contains("backup.incomplete"), "{alerts}");
}

#[test]
fn an_archive_that_lost_an_object_is_backed_up_and_does_not_count_as_verified() {
    let scratch = ready();
    let objects = tree(&scratch.in_home("archives/objects"));
    let object = objects.keys().find(|p| p.extension().is_some_and(|e| e == "zst")).expect("an object");
    std::fs::remove_file(scratch.in_home("archives/objects").join(object)).expect("removed");
    let ran = scratch.json(&["backup"]).expect(2);
    assert_eq!(issues(&ran), ["backup.source_damaged"], "{ran:?}");
    assert_eq!(ran.report()["data"]["backup"]["verified_at"], Value::Null);
    assert_eq!(files(&folder(&scratch)).len(), 1);
}

#[test]
fn a_name_that_is_turned_into_a_link_under_our_hands_leads_nowhere() {
    let scratch = ready();
    let (agent, outside) = (scratch.path().join("agent"), scratch.path().join("outside"));
    for (folder, text) in [(&outside, "the secret of somebody else"), (&agent.join("swap"), "ours")] {
        std::fs::create_dir_all(folder.join("sub")).expect("folders");
        for n in 0..40 {
            std::fs::write(folder.join(format!("sub/{n}.txt")), text).expect("a file");
        }
        Connection::open(folder.join("sub/a.db"))
            .and_then(|db| db.execute_batch(&format!("CREATE TABLE t (a); INSERT INTO t VALUES ('{text}');")))
            .expect("a database");
    }
    std::os::unix::fs::symlink(&outside, agent.join("away")).expect("a link");
    let (stop, turns) = (std::sync::Arc::new(AtomicBool::new(false)), std::sync::Arc::new(AtomicI64::new(0)));
    let swapper = std::thread::spawn({
        let (stop, turns, agent) = (stop.clone(), turns.clone(), agent.clone());
        move || {
            let (swap, away, third) = (agent.join("swap"), agent.join("away"), agent.join("third"));
            while !stop.load(Ordering::Relaxed) {
                for (from, to) in [(&swap, &third), (&away, &swap), (&third, &away)] {
                    std::fs::rename(from, to).expect("renamed");
                }
                turns.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for _ in 0..6 {
        let ran = Ran::of(&mut with_agent(&scratch, &["backup"]));
        assert!([Some(0), Some(2)].contains(&ran.code), "{ran:?}");
        let packed = std::fs::File::open(files(&folder(&scratch)).last().expect("a backup")).expect("opens");
        let plain = zstd::decode_all(packed).expect("it unpacks");
        let secret = b"the secret of somebody else";
        assert!(!plain.windows(secret.len()).any(|w| w == secret), "something from outside is in the backup");
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().expect("the swapper ends");
    assert!(turns.load(Ordering::Relaxed) > 100);
}
