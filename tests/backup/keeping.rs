//! Who makes backups, which are kept, and what a full disk or a kill leaves.

use super::support::process::{Disk, Ran, temporary_files};
use super::{files, folder, issues, ready, support, with_agent};
use chrono::Utc;
use moon::adapters::backup::format::{self, Sidecar};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// How many POSIX locks a process holds on a file. `None` where the system does not say.
fn locks_on(path: &Path, pid: u32) -> Option<usize> {
    let inode = format!(":{}", path.metadata().expect("there").ino());
    let all = std::fs::read_to_string("/proc/locks").ok()?;
    let is_of = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.contains(&"POSIX")
            && words.contains(&pid.to_string().as_str())
            && words.iter().any(|w| w.ends_with(&inode))
    };
    Some(all.lines().filter(is_of).count())
}

#[test]
fn the_daemon_makes_the_backup_and_answers_meanwhile() {
    let scratch = ready();
    let daemon = scratch.daemon(&[]);
    let locks = locks_on(&scratch.in_home("state/moon.db"), daemon.pid());
    let before = scratch.run(&["health", "--check", "backup"]).expect(2);
    assert!(before.stdout.contains("there is no backup yet"), "{before:?}");
    let ran = scratch.json(&["backup"]).expect(0);
    // Nobody reads of what was before it.
    scratch.run(&["health", "--check", "backup"]).expect(0);
    // A handle of our own on the ledger, closed, would have dropped SQLite's locks: the next to close it would take the log away.
    assert_eq!(locks_on(&scratch.in_home("state/moon.db"), daemon.pid()), locks);
    assert!(locks != Some(0), "SQLite holds one as long as the ledger is open");
    let id = ran.report()["data"]["backup"]["id"].as_str().expect("an id").to_owned();
    scratch.run(&["backup", "verify", &id]).expect(0);
    scratch.run(&["ctl", "backup"]).expect(0);
    scratch.run(&["backup", "prune"]).expect(0);
    let status = scratch.json(&["ctl", "status"]).report();
    assert_eq!(status["data"]["backups"]["count"], 2, "{status:#}");
    daemon.stop();
}

#[test]
fn a_second_maker_is_told_that_one_is_at_work() {
    let scratch = ready();
    scratch.run(&["backup"]).expect(0);
    let lock = std::fs::File::open(scratch.in_home("backups/backup.lock")).expect("a lock file");
    lock.try_lock().expect("free");
    let ran = scratch.json(&["backup"]).expect(3);
    assert_eq!(issues(&ran), ["backup.held"]);
    drop(lock);
    scratch.run(&["backup"]).expect(0);
}

#[test]
fn prune_keeps_the_scheme_and_gives_its_reasons() {
    let scratch = ready();
    scratch.run(&["backup"]).expect(0);
    let real = files(&folder(&scratch)).pop().expect("a backup");
    // Two years of nights, made up: only their names and notes count.
    let mut note: Sidecar =
        serde_json::from_slice(
            &std::fs::read(real.with_file_name(
                real.file_name().and_then(|n| n.to_str()).expect("a name").replace(".tar.zst", ".json"),
            ))
            .expect("a note"),
        )
        .expect("JSON");
    for day in 1..700 {
        let at = Utc::now() - chrono::TimeDelta::days(day);
        note.id = format::new_id(at, |_| false);
        (note.file, note.created_at) = (format::file_name(&note.id, false), at);
        let file = folder(&scratch).join(&note.file);
        std::fs::write(&file, b"").expect("a file");
        std::fs::File::options().write(true).open(&file).and_then(|f| f.set_len(note.bytes)).expect("a length");
        std::fs::write(folder(&scratch).join(format::sidecar_name(&note.id)), serde_json::to_vec(&note).expect("JSON"))
            .expect("a note");
    }
    std::fs::write(folder(&scratch).join("not-ours.tar.zst"), b"x").expect("a foreign file");
    let before = files(&folder(&scratch)).len();
    let plan = scratch.json(&["backup", "prune", "--dry-run"]).expect(0).report();
    assert_eq!(files(&folder(&scratch)).len(), before, "a preview removes nothing");
    let verdicts = plan["data"]["targets"][0]["backups"].as_array().expect("a list").clone();
    assert_eq!(verdicts.len(), 700);
    assert!(verdicts.iter().all(|v| !v["reasons"].as_array().expect("a list").is_empty()));
    let kept: BTreeSet<&str> = verdicts.iter().filter(|v| v["keep"] == true).filter_map(|v| v["id"].as_str()).collect();
    assert!((20..=26).contains(&kept.len()), "{}", kept.len());
    scratch.run(&["backup", "prune"]).expect(0);
    let left: Vec<PathBuf> = files(&folder(&scratch));
    let left: BTreeSet<&str> =
        left.iter().filter_map(|p| p.file_name()?.to_str()).filter_map(|n| Some(format::parse_name(n)?.0)).collect();
    assert_eq!(left, kept);
    assert!(folder(&scratch).join("not-ours.tar.zst").exists());
    let again = scratch.json(&["backup", "prune"]).expect(0).report();
    assert!(!again["details"].to_string().contains("deleted"), "{again:#}");
    // A note without its backup would be taken for one by nobody, but would stay for ever.
    let notes = std::fs::read_dir(folder(&scratch))
        .expect("listable")
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|x| x == "json"))
        .count();
    assert_eq!(notes, kept.len());
}

#[test]
fn a_full_disk_leaves_the_old_backup_and_no_half_of_a_new_one() {
    let scratch = ready();
    let small = scratch.path().join("small");
    std::fs::create_dir(&small).expect("a folder");
    let Some(_disk) = Disk::mount(&small, "24m") else { return support::skip("full disk", "no right to mount") };
    let to = format!("backup.folder={}", small.join("backups").display());
    scratch.run(&["--set", &to, "backup"]).expect(0);
    let old = std::fs::read(&files(&small.join("backups"))[0]).expect("a backup");
    let mut noise = vec![0u8; 40 << 20];
    let mut state = 1u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    std::fs::write(scratch.path().join("agent/noise"), &noise).expect("a large file");
    let ran = Ran::of(with_agent(&scratch, &["--set", &to, "backup"]).arg("--json")).expect(1);
    assert_eq!(ran.report()["data"]["error"]["code"], "backup.disk_full", "{ran:?}");
    let left = files(&small.join("backups"));
    assert_eq!(left.len(), 1);
    assert_eq!(std::fs::read(&left[0]).expect("readable"), old);
    assert_eq!(temporary_files(&small), Vec::<PathBuf>::new());
    std::fs::remove_file(scratch.path().join("agent/noise")).expect("removed");
    Ran::of(&mut with_agent(&scratch, &["--set", &to, "backup"])).expect(0);
}

#[test]
fn a_kill_in_the_middle_leaves_what_was_there_and_the_next_one_sweeps() {
    let scratch = ready();
    scratch.run(&["backup"]).expect(0);
    let old = std::fs::read(&files(&folder(&scratch))[0]).expect("a backup");
    std::fs::write(scratch.path().join("agent/large"), support::process::filler(3, 12_000_000)).expect("a large file");
    for wait in [30, 120, 250, 500] {
        let mut child =
            with_agent(&scratch, &["backup"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(wait));
        let _ = child.kill();
        child.wait().expect("it ends");
    }
    scratch.run(&["backup", "verify", "all"]).expect(0);
    assert_eq!(std::fs::read(&files(&folder(&scratch))[0]).expect("readable"), old);
    Ran::of(&mut with_agent(&scratch, &["backup"])).expect(0);
    assert_eq!(temporary_files(&scratch.in_home("backups")), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read_dir(scratch.in_home("backups/work")).expect("a folder").count(), 0);
}
