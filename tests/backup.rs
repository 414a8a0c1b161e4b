//! Backups by the real program: under writers, through kills and full disks, encrypted, in a store, and every flipped bit found.
//!
//! `MOON_TEST_CAMPAIGN=1 cargo test --test backup -- campaign --nocapture` runs the long forms: 100 backups, 200 flipped bits; with
//! `MOON_BENCH_BINARY=target/release/moon` by that program.

mod support;

use chrono::Utc;
use moon::adapters::backup::format::{self, Manifest, Sidecar};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};
use support::process::{Disk, Ran, Scratch, open_to_others, temporary_files, tree, wait_for};

/// A home with something archived, and a folder of the user's.
fn ready() -> Scratch {
    let scratch = Scratch::new();
    scratch.transcript("work").exchange(1, 50).exchange(2, 50);
    scratch.run(&["watch", "--once"]).expect(0);
    std::fs::create_dir_all(scratch.path().join("agent/deep/er")).expect("folders");
    std::fs::write(scratch.path().join("agent/deep/er/unknown.xyz"), b"kept").expect("a file");
    scratch
}

/// `moon` with the user's folder included.
fn with_agent(scratch: &Scratch, words: &[&str]) -> Command {
    let include = format!("backup.include=[\"{}\"]", scratch.path().join("agent").display());
    let mut all = vec!["--set", &include];
    all.extend(words);
    scratch.moon(&all)
}

/// The same command with the program that `MOON_BENCH_BINARY` names, if it names one: campaigns are long.
fn released(command: Command) -> Command {
    let Some(binary) = std::env::var_os("MOON_BENCH_BINARY") else { return command };
    let mut other = Command::new(Path::new(&binary).canonicalize().expect("the program is there"));
    other.env_clear().args(command.get_args()).stdin(Stdio::null());
    for (key, value) in command.get_envs() {
        other.env(key, value.unwrap_or_default());
    }
    other
}

fn folder(scratch: &Scratch) -> PathBuf {
    scratch.in_home("backups/moon")
}

/// Names of the files of backups.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut found: Vec<_> = entries
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| format::parse_name(n).is_some()))
        .collect();
    // Several within one second are told apart by a number, which is no order of names.
    found.sort_by_key(|path| path.metadata().and_then(|m| m.modified()).expect("a time"));
    found
}

fn unpacked(file: &Path, to: &Path) -> PathBuf {
    let packed = std::fs::File::open(file).expect("a backup opens");
    tar::Archive::new(zstd::Decoder::new(packed).expect("zstd")).unpack(to).expect("it unpacks");
    let id = format::parse_name(file.file_name().and_then(|n| n.to_str()).expect("a name"))
        .expect("of a backup")
        .0
        .to_owned();
    to.join(id)
}

fn manifest(top: &Path) -> Manifest {
    serde_json::from_slice(&std::fs::read(top.join("manifest.json")).expect("a manifest")).expect("JSON")
}

fn issues(ran: &Ran) -> Vec<String> {
    let report = ran.report();
    let all = report["issues"].as_array().cloned().unwrap_or_default();
    all.iter().map(|i| i["code"].as_str().unwrap_or_default().to_owned()).collect()
}

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

/// Flips bits all over a backup, one at a time: how many `moon backup verify` lets pass.
fn flips_that_pass(times: u64) -> usize {
    let scratch = ready();
    Ran::of(&mut with_agent(&scratch, &["backup"])).expect(0);
    let file = files(&folder(&scratch)).pop().expect("a backup");
    let note =
        file.with_file_name(file.file_name().and_then(|n| n.to_str()).expect("a name").replace(".tar.zst", ".json"));
    let (whole, noted) = (std::fs::read(&file).expect("readable"), std::fs::read(&note).expect("readable"));
    let mut passed = 0;
    for n in 0..times {
        let bit = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.rotate_left(n as u32 % 61)) % (whole.len() as u64 * 8);
        let mut flipped = whole.clone();
        flipped[(bit / 8) as usize] ^= 1 << (bit % 8);
        std::fs::write(&file, &flipped).expect("written");
        // Every other time without the note that holds the hash of the file: then the file must speak for itself.
        let _ = if n % 2 == 0 { std::fs::write(&note, &noted) } else { std::fs::remove_file(&note) };
        let ran = scratch.json(&["backup", "verify"]);
        let is_caught = ran.code == Some(2) && issues(&ran).iter().all(|code| code == "backup.damaged");
        passed += usize::from(!is_caught);
        if !is_caught {
            support::skip("flip", &format!("no skip: bit {bit} passed: {ran:?}"));
        }
    }
    std::fs::write(&file, &whole).expect("written");
    std::fs::write(&note, &noted).expect("written");
    scratch.run(&["backup", "verify"]).expect(0);
    passed
}

#[test]
fn every_flipped_bit_is_found() {
    assert_eq!(flips_that_pass(24), 0);
}

#[test]
fn campaign_200_flipped_bits() {
    if std::env::var_os("MOON_TEST_CAMPAIGN").is_some() {
        let passed = flips_that_pass(200);
        support::skip("campaign", &format!("no skip: 200 flipped bits, {passed} passed"));
        assert_eq!(passed, 0);
    }
}

#[test]
fn a_backup_that_was_found_damaged_counts_as_verified_no_more() {
    let scratch = ready();
    scratch.run(&["backup"]).expect(0);
    let file = files(&folder(&scratch)).pop().expect("a backup");
    let mut bytes = std::fs::read(&file).expect("readable");
    bytes.truncate(bytes.len() - 1);
    std::fs::write(&file, bytes).expect("cut");
    scratch.run(&["backup", "verify", "all"]).expect(2);
    let status = scratch.json(&["status"]).report();
    assert_eq!(status["data"]["backups"]["newest_verified"], Value::Null);
    scratch.run(&["backup"]).expect(0);
    let status = scratch.json(&["status"]).report();
    assert_eq!(status["data"]["backups"]["newest_verified"]["id"], status["data"]["backups"]["newest"]["id"]);
    assert_eq!(status["data"]["backups"]["count"], 2);
}

#[test]
fn the_daemon_makes_the_backup_and_answers_meanwhile() {
    let scratch = ready();
    let daemon = scratch.daemon(&[]);
    let ran = scratch.json(&["backup"]).expect(0);
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

#[test]
fn an_encrypted_backup_is_opened_by_the_age_tool_and_by_moon_and_by_nobody_else() {
    let Some(mut keygen) = support::debian_command("age-keygen") else {
        return support::skip("age", "age is not unpacked");
    };
    let scratch = ready();
    let identity = scratch.path().join("identity.txt");
    if keygen.arg("-o").arg(&identity).output().map_or(true, |out| !out.status.success()) {
        return support::skip("age", "age-keygen does not run");
    }
    let text = std::fs::read_to_string(&identity).expect("an identity");
    let recipient = text.lines().find_map(|l| l.strip_prefix("# public key: ")).expect("a recipient").to_owned();
    let sealed = format!("backup.recipients=[\"{recipient}\"]");
    let made = scratch.json(&["--set", &sealed, "backup"]).expect(0).report();
    assert_eq!(
        (&made["data"]["backup"]["proof"], &made["data"]["backup"]["encrypted"]),
        (&Value::from("stream"), &Value::from(true))
    );
    let file = files(&folder(&scratch)).pop().expect("a backup");
    assert!(file.to_string_lossy().ends_with(".tar.zst.age"));
    // Without the key the file is compared; with it the backup is restored; with another one it is refused.
    assert_eq!(scratch.json(&["backup", "verify"]).expect(0).report()["data"]["verified"][0]["proof"], "stream");
    let known = format!("backup.identity_file={}", identity.display());
    assert_eq!(
        scratch.json(&["--set", &known, "backup", "verify"]).expect(0).report()["data"]["verified"][0]["proof"],
        "restored"
    );
    let other = scratch.path().join("other.txt");
    let ran = support::debian_command("age-keygen").expect("known").arg("-o").arg(&other).output().expect("it runs");
    assert!(ran.status.success());
    let wrong = format!("backup.identity_file={}", other.display());
    assert_eq!(issues(&scratch.json(&["--set", &wrong, "backup", "verify"]).expect(2)), ["backup.identity"]);
    // By the tool, without Moon.
    let plain = scratch.path().join("plain.tar.zst");
    let ran = Ran::of(
        support::debian_command("age")
            .expect("known")
            .arg("-d")
            .arg("-i")
            .arg(&identity)
            .arg("-o")
            .arg(&plain)
            .arg(&file),
    );
    ran.expect(0);
    Ran::of(Command::new("tar").arg("-tf").arg(&plain).arg("--zstd")).expect(0);
    // And the other way: what the tool encrypted is a backup that Moon can prove.
    std::fs::remove_file(&file).expect("removed");
    let ran = Ran::of(
        support::debian_command("age").expect("known").arg("-r").arg(&recipient).arg("-o").arg(&file).arg(&plain),
    );
    ran.expect(0);
    std::fs::remove_file(
        folder(&scratch).join(format!("{}.json", made["data"]["backup"]["id"].as_str().expect("an id"))),
    )
    .expect("removed");
    assert_eq!(
        scratch.json(&["--set", &known, "backup", "verify"]).expect(0).report()["data"]["verified"][0]["proof"],
        "restored"
    );
    // What is no recipient is refused by name and never shown: it could be an identity by mistake.
    let secret = text.lines().find(|l| l.starts_with("AGE-SECRET-KEY-")).expect("a secret").to_owned();
    let ran = scratch.json(&["--set", &format!("backup.recipients=[\"{secret}\"]"), "backup"]).expect(64);
    assert!(!format!("{ran:?}").contains(&secret), "a secret was shown");
}

/// A store of the kind that everybody runs, from moto.
struct Moto(std::process::Child, String);

impl Moto {
    fn start(scratch: &Scratch) -> Option<Self> {
        let python = support::python_peers()?;
        python.join("moto").is_dir().then_some(())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let said = std::fs::File::create(scratch.path().join("moto.said")).expect("a file");
        let child = Command::new("python3")
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .env("PYTHONPATH", python)
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .ok()?;
        let mut moto = Self(child, format!("http://127.0.0.1:{port}"));
        wait_for("moto", || {
            assert!(
                moto.0.try_wait().expect("a child").is_none(),
                "moto ended: {:?}",
                std::fs::read_to_string(scratch.path().join("moto.said"))
            );
            let made = Command::new("curl")
                .args(["-s", "-f", "-X", "PUT", &format!("{}/bucket", moto.1)])
                .output()
                .expect("curl runs");
            made.status.success().then_some(())
        });
        Some(moto)
    }
    fn curl(&self, words: &[&str], key: &str) -> String {
        let out = Command::new("curl")
            .arg("-s")
            .args(words)
            .arg(format!("{}/bucket{key}", self.1))
            .output()
            .expect("curl runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_backup_is_copied_into_a_store_and_proved_from_there() {
    let scratch = ready();
    let Some(moto) = Moto::start(&scratch) else { return support::skip("store", "moto is not in target/peers/python") };
    let credentials = scratch.path().join("credentials");
    std::fs::write(&credentials, "[default]\naws_access_key_id = testing\naws_secret_access_key = testing-secret\n")
        .expect("a file");
    let settings = [
        "backup.s3_url=s3://bucket/my/moon".to_owned(),
        format!("backup.s3_endpoint={}", moto.1),
        format!("backup.s3_credentials_file={}", credentials.display()),
        "backup.s3_allow_http=true".to_owned(),
    ];
    let run = |words: &[&str]| {
        let mut all: Vec<&str> = settings.iter().flat_map(|s| ["--set", s.as_str()]).collect();
        all.extend(words);
        scratch.json(&all)
    };
    // A file of credentials that others may read is refused, and the backup in the folder is made all the same.
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o640)).expect("widened");
    let ran = run(&["backup"]).expect(2);
    assert!(issues(&ran).iter().all(|code| code == "backup.credentials"), "{ran:?}");
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o600)).expect("narrowed");
    let ran = run(&["backup"]).expect(0);
    assert!(!format!("{ran:?}").contains("testing-secret"));
    // What was missing of the last days was sent, too.
    let listed = moto.curl(&[], "?list-type=2");
    assert_eq!(listed.matches(".tar.zst</Key>").count(), 2, "{listed}");
    let list = run(&["backup", "list"]).expect(0).report();
    let targets: Vec<&str> =
        list["data"]["backups"].as_array().expect("a list").iter().filter_map(|b| b["target"].as_str()).collect();
    assert_eq!(targets, ["folder", "folder", "s3", "s3"]);
    // The weekly drill takes it from there; one that was changed there is found.
    let id = list["data"]["backups"][0]["id"].as_str().expect("an id").to_owned();
    let daemon_words: Vec<String> = settings.iter().flat_map(|s| ["--set".to_owned(), s.clone()]).collect();
    let words: Vec<&str> = daemon_words.iter().map(String::as_str).collect();
    let drilled = |ok: bool| {
        let mut all = words.clone();
        all.extend(["backup", "drill"]);
        let ran = scratch.json(&all).expect(if ok { 0 } else { 1 });
        let status = scratch.json(&["status"]).report();
        assert_eq!(status["data"]["backups"]["last_drill"]["ok"], ok, "{ran:?}");
    };
    drilled(true);
    moto.curl(&["-X", "PUT", "--data-binary", "rubbish"], &format!("/my/moon/{id}.tar.zst"));
    drilled(false);
    moto.curl(&["-X", "PUT", "--data-binary", "foreign"], "/my/moon/other.txt");
    // Without the store everything here goes on, and says what it could not do.
    drop(moto);
    let ran = run(&["backup"]).expect(2);
    assert!(issues(&ran).iter().all(|code| code == "backup.store_failed"), "{ran:?}");
}

/// A working home as somebody's agent has it: 200 MB in 2,000 files, three databases with a write-ahead log among them (107 MB).
fn two_hundred_megabytes(at: &Path) {
    for n in 0..3 {
        std::fs::create_dir_all(at.join("db")).expect("a folder");
        let db = Connection::open(at.join(format!("db/{n}.sqlite"))).expect("a database");
        db.execute_batch("PRAGMA journal_mode=wal; PRAGMA synchronous=OFF; CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT); BEGIN;").expect("a schema");
        let mut put = db.prepare("INSERT INTO t (text) VALUES (?1)").expect("a statement");
        for row in 0..33_000 {
            put.execute([format!("{row} {}", support::process::filler(row * 3 + n, 130))]).expect("a row");
        }
        drop(put);
        db.execute_batch("COMMIT").expect("committed");
    }
    for n in 0..1997usize {
        let folder = at.join(format!("sessions/{}", n % 40));
        std::fs::create_dir_all(&folder).expect("a folder");
        // Half words, half what does not compress, as transcripts with pictures in them.
        let mut bytes = support::process::filler(n, 4_300).into_bytes();
        let mut state = n as u64 + 1;
        bytes.extend(
            std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .take(12_000),
        );
        std::fs::write(folder.join(format!("{n}.jsonl")), bytes).expect("a file");
    }
}

/// Seconds, CPU seconds and peak memory (MiB) of a command.
fn measured(command: &mut Command) -> (f64, f64, f64) {
    let mut timed = Command::new("python3");
    timed.args(["-c", "import os,resource,subprocess,sys,time\nb=time.time()\nr=subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL)\nu=resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(time.time()-b,u.ru_utime+u.ru_stime,u.ru_maxrss/1024)\nsys.exit(r.returncode)"]);
    timed.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        timed.env(key, value.unwrap_or_default());
    }
    let out = timed.output().expect("python3 runs");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(|n| n.parse().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    (next(), next(), next())
}

/// `cargo build --release && MOON_BENCH_BINARY=target/release/moon cargo test --test backup -- --ignored --nocapture bench`
#[test]
#[ignore = "by hand: a measurement, it wants a release build and a quiet machine"]
fn bench_beside_restic_and_tar() {
    let binary = std::env::var_os("MOON_BENCH_BINARY").map_or(PathBuf::from(env!("CARGO_BIN_EXE_moon")), PathBuf::from);
    let binary = binary.canonicalize().expect("the program is there");
    let scratch = ready();
    let agent = scratch.path().join("agent");
    two_hundred_megabytes(&agent);
    let bytes: u64 = tree(&agent).keys().map(|p| agent.join(p).metadata().expect("there").len()).sum();
    support::skip("bench", &format!("no skip: {bytes} bytes"));
    let include = format!("backup.include=[\"{}\"]", agent.display());
    let show = |what: &str, (wall, cpu, rss): (f64, f64, f64), out: u64| {
        let figures =
            format!("{what:<28} {wall:5.2} s wall {cpu:5.2} s CPU {rss:6.1} MiB peak {:6.1} MB out", out as f64 / 1e6);
        support::skip("bench", &format!("no skip: {figures}"));
    };
    let best = |run: &mut dyn FnMut() -> (f64, f64, f64)| {
        (0..3).map(|_| run()).min_by(|a, b| a.0.total_cmp(&b.0)).expect("three")
    };
    let size = |path: &Path| {
        tree(path)
            .keys()
            .map(|p| path.join(p))
            .filter(|p| p.is_file())
            .map(|p| p.metadata().expect("there").len())
            .sum::<u64>()
    };
    let moon = |words: &[&str]| {
        let mut command = Command::new(&binary);
        command
            .arg("--home")
            .arg(scratch.home())
            .args(["--set", &include])
            .args(words)
            .env("HOME", scratch.path().join("user"));
        command
    };
    let figures = best(&mut || measured(&mut moon(&["backup"])));
    let one = files(&folder(&scratch)).pop().expect("a backup");
    show("moon backup, proved", figures, one.metadata().expect("there").len());
    show("moon backup verify", best(&mut || measured(&mut moon(&["backup", "verify"]))), 0);
    let tar = scratch.path().join("all.tar.zst");
    let line = format!(
        "cd {} && tar -cf - agent home/state home/archives home/memory | zstd -3 -q -f -o {} && sync {1}",
        scratch.path().display(),
        tar.display()
    );
    show("tar | zstd -3", best(&mut || measured(Command::new("sh").args(["-c", &line]))), 0);
    let place = scratch.path().join("place");
    let line = format!(
        "{line} && rm -rf {0} && mkdir {0} && tar --zstd -xf {1} -C {0} && cd {0} && find . -type f -print0 | xargs -0 sha256sum > /dev/null",
        place.display(),
        tar.display()
    );
    show(
        "the same, unpacked, hashed",
        best(&mut || measured(Command::new("sh").args(["-c", &line]))),
        tar.metadata().expect("there").len(),
    );
    let Some(restic) = support::debian_command("restic").filter(|c| Path::new(c.get_program()).is_file()) else {
        return support::skip("restic", "it is not unpacked");
    };
    let restic = |repository: &Path, words: &[&str]| {
        let mut command = Command::new(restic.get_program());
        command
            .args(["-q", "-r"])
            .arg(repository)
            .args(words)
            .env("RESTIC_PASSWORD", "x")
            .env("HOME", scratch.path().join("user"));
        command
    };
    let mut number = 0;
    let mut repository = scratch.path().join("restic-0");
    let figures = best(&mut || {
        number += 1;
        repository = scratch.path().join(format!("restic-{number}"));
        measured(&mut restic(&repository, &["init"]));
        measured(&mut restic(
            &repository,
            &["backup", &agent.display().to_string(), &scratch.home().display().to_string()],
        ))
    });
    show("restic backup, first", figures, size(&repository));
    show("restic check --read-data", best(&mut || measured(&mut restic(&repository, &["check", "--read-data"]))), 0);
}
