//! Good restores: swapped, started again, undone; single files; other places; what the archive may not say.

use super::build::{Entry, ID, MTIME, Parts, gzip, pax, publish};
use super::support::process::{Disk, Ran, Scratch, changes, count, open_to_others, temporary_files, tree, wait_for};
use super::support::skip;
use super::{FAST, lived_in};
use moon_actors::domain::Sha256;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(super) const DAY: &str = "memory/2026-11-19.md";

/// Ends the daemon that a restore started again: it is nobody's child.
struct Stops<'a>(&'a Scratch);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        let _ = self.0.moon(&["ctl", "stop"]).output();
    }
}

fn pid(scratch: &Scratch) -> Value {
    scratch.json(&["ctl", "status"]).report()["data"]["daemon"]["pid"].clone()
}

pub(super) fn day(scratch: &Scratch) -> String {
    std::fs::read_to_string(scratch.in_home(DAY)).unwrap_or_else(|_| "gone".into())
}

/// The folders beside the home whose name holds `what`.
pub(super) fn beside(scratch: &Scratch, what: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(scratch.path()).expect("listable").flatten().map(|e| e.path());
    let mut found: Vec<_> = entries.filter(|p| p.to_string_lossy().contains(what)).collect();
    found.sort();
    found
}

pub(super) fn given(scratch: &Scratch, parts: &Parts) -> PathBuf {
    let file = scratch.path().join("given.tar.zst");
    std::fs::write(&file, parts.packed()).expect("an archive");
    file
}

pub(super) fn restore(scratch: &Scratch, file: &Path, words: &[&str]) -> Ran {
    Ran::of(scratch.moon(&["restore"]).arg(file).args(["--yes", "--json"]).args(words))
}

/// `moon restore` at a terminal, up to its question: the process, the terminal, and what it showed.
pub(super) fn asked(scratch: &Scratch, file: &Path, words: &[&str]) -> (Child, std::fs::File, String) {
    let mut command = scratch.moon(&["restore"]);
    command.arg(file).args(words);
    at_terminal(&mut command, "Type yes")
}

/// A command at a terminal, until it has shown some words.
pub(super) fn at_terminal(command: &mut Command, words: &str) -> (Child, std::fs::File, String) {
    let pty =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).expect("a terminal");
    rustix::pty::grantpt(&pty).and_then(|()| rustix::pty::unlockpt(&pty)).expect("unlocked");
    let name = rustix::pty::ptsname(&pty, Vec::new()).expect("a name").into_string().expect("plain");
    let end = || std::fs::OpenOptions::new().read(true).write(true).open(&name).expect("its other end");
    let child = command.env("TERM", "xterm").stdin(end()).stderr(end()).stdout(end()).spawn().expect("starts");
    // Else nobody would ever be the last to close it.
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
    let (mut shown, mut pty) = (String::new(), std::fs::File::from(pty));
    while !shown.contains(words) {
        let mut some = [0; 1024];
        let read = std::io::Read::read(&mut pty, &mut some).expect("these words");
        shown.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    (child, pty, shown)
}

#[test]
fn a_backup_is_swapped_in_under_a_running_daemon_which_starts_again_and_the_way_back_is_open_twice() {
    let (scratch, good) = lived_in();
    publish(&scratch.in_home("backups/moon"), &good.packed());
    let daemon = scratch.daemon(&FAST);
    let _stops = Stops(&scratch);
    std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
    std::fs::write(scratch.in_home("memory/2026-11-20.md"), "later\n").expect("a memory");
    let report = scratch.json(&["restore", "--yes"]).expect(0).report();
    assert_eq!(daemon.end().code(), Some(0), "it was stopped in order");
    assert_eq!((&report["data"]["id"], &report["data"]["restored"]), (&json!(ID), &json!(true)), "{report}");
    assert_eq!(report["data"]["daemon"]["stopped"], json!(daemon.pid()));
    assert_eq!(report["data"]["daemon"]["started"], pid(&scratch), "the one that answers");
    assert_eq!(day(&scratch), "what was said\n");
    assert!(!scratch.in_home("memory/2026-11-20.md").exists());
    for member in &good.entries {
        let path = String::from_utf8(member.path.clone()).expect("plain");
        let here = scratch.in_home(path.strip_prefix("home/").expect("of the home"));
        // What a daemon writes all the time is its own.
        if member.kind == b'0'
            && ["home/memory", "home/archives/objects", "home/continuity"].iter().any(|f| path.starts_with(f))
        {
            assert_eq!(std::fs::read(here).expect("restored"), member.body, "{path}");
        }
    }
    let kept = beside(&scratch, ".pre-restore-");
    assert_eq!(std::fs::read_to_string(kept[0].join(DAY)).expect("kept"), "overwritten\n");
    assert!(
        scratch.in_home(&format!("backups/moon/{ID}.tar.zst")).exists()
            && !kept[0].join("backups/moon/latest").exists()
    );
    assert_eq!(count(&scratch.home(), "SELECT COUNT(*) FROM audit WHERE record LIKE '%restored the backup%'"), 1);
    scratch.run(&["verify"]).expect(0);
    for expected in ["overwritten\n", "what was said\n"] {
        let before = pid(&scratch);
        scratch.run(&["restore", "--undo", "--yes"]).expect(0);
        assert_eq!(day(&scratch), expected);
        assert_ne!(pid(&scratch), before, "started again");
        assert!(scratch.in_home(&format!("backups/moon/{ID}.tar.zst")).exists());
    }
    assert_eq!(beside(&scratch, ".pre-restore-").len(), 1, "one state before, whatever way");
    assert_eq!(beside(&scratch, ".restor"), Vec::<PathBuf>::new());
    assert_eq!(open_to_others(&scratch.home()), Vec::<String>::new());
    assert_eq!(temporary_files(&scratch.home()), Vec::<PathBuf>::new());
}

#[test]
fn nobody_is_asked_without_a_terminal_and_a_preview_changes_nothing() {
    let (scratch, good) = lived_in();
    publish(&scratch.in_home("backups/moon"), &good.packed());
    std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
    std::fs::write(scratch.in_home("memory/2026-11-20.md"), "later\n").expect("a memory");
    std::fs::remove_file(scratch.in_home("moon.toml")).expect("gone");
    let before = tree(scratch.path());
    let refused = scratch.run(&["restore"]).expect(1);
    assert!(refused.stderr.contains("moon restore latest --yes"), "{refused:?}");
    let report = scratch.json(&["restore", "--dry-run"]).expect(0).report();
    let data = &report["data"];
    assert_eq!(data["added"], json!({ "count": 1, "paths": ["moon.toml"] }), "{data}");
    assert_eq!(data["removed"], json!({ "count": 1, "paths": ["memory/2026-11-20.md"] }), "{data}");
    assert!(data["changed"]["paths"].as_array().is_some_and(|all| all.contains(&json!(DAY))), "{data}");
    let changed = changes(&before, &tree(scratch.path()));
    // Making and removing a folder beside the home moves the time of the folder above it.
    assert_eq!(changed, ["changed: "], "{changed:?}");
    let text = scratch.run(&["restore", ID, "--dry-run"]).expect(0).stdout;
    assert!(text.contains("would add 1") && text.contains("+ moon.toml"), "{text}");
    assert_eq!(
        scratch.json(&["restore", "20200101_000000", "--yes"]).expect(1).report()["data"]["error"]["code"],
        "restore.no_backup"
    );
}

#[test]
fn a_backup_that_a_restore_found_damaged_is_a_good_one_to_nobody_any_more() {
    let (scratch, _) = lived_in();
    let _stops = Stops(&scratch);
    scratch.run(&["backup"]).expect(0);
    let newest = || scratch.json(&["backup", "list"]).report()["data"]["backups"][0].clone();
    let good = newest();
    assert!(good["verified_at"].is_string(), "{good}");
    let path = PathBuf::from(good["path"].as_str().expect("a path"));
    let mut bytes = std::fs::read(&path).expect("the archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let refused = scratch.json(&["restore", "--dry-run"]).expect(1).report();
    assert_eq!(refused["data"]["error"]["code"], "restore.damaged", "{refused}");
    let found = newest();
    assert!(found["verified_at"].is_null(), "{found}");
    assert!(found["damaged"].as_str().is_some_and(|why| why.contains("SHA-256")), "{found}");
    let health = scratch.run(&["health", "--now", "--check", "backup"]).expect(1);
    assert!(health.stdout.contains("is damaged"), "{health:?}");
}

#[test]
fn nobody_is_asked_about_a_backup_that_is_not_there() {
    let scratch = Scratch::new();
    for words in [&["restore"][..], &["restore", "20200101_000000"], &["restore", "/no/such.tar.zst"]] {
        let error = scratch.json(words).expect(1).report()["data"]["error"].clone();
        assert_eq!(error["code"], "restore.no_backup", "{words:?}: {error}");
    }
    assert!(!scratch.home().exists(), "a question makes no home");
}

#[test]
fn only_a_typed_yes_restores() {
    let (scratch, good) = lived_in();
    let file = given(&scratch, &good);
    std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
    for (typed, code, expected) in [("y\n", 1, "overwritten\n"), ("yes\n", 0, "what was said\n")] {
        let (mut child, mut pty, shown) = asked(&scratch, &file, &[]);
        assert!(shown.contains("every hash as listed"), "what is asked about stands above the question: {shown}");
        std::io::Write::write_all(&mut pty, typed.as_bytes()).expect("typed");
        let reader = std::thread::spawn(move || drop(std::io::copy(&mut pty, &mut std::io::sink())));
        assert_eq!(child.wait().expect("ends").code(), Some(code), "{typed:?}");
        drop(reader);
        assert_eq!(day(&scratch), expected);
    }
    assert_eq!(beside(&scratch, ".restoring-"), Vec::<PathBuf>::new());
}

#[test]
fn everything_can_be_unpacked_elsewhere_where_sha256sum_agrees() {
    let (scratch, mut good) = lived_in();
    good.add(&format!("home/memory/{}/{}.md", "d".repeat(120), "n".repeat(130)), "file", b"a long name\n");
    let (file, to) = (given(&scratch, &good), scratch.path().join("elsewhere"));
    let before = tree(&scratch.home());
    Ran::of(scratch.moon(&["restore"]).arg(&file).arg("--to").arg(&to)).expect(0);
    let sums =
        Command::new("sha256sum").args(["-c", "--quiet", "--strict", "checksums.sha256"]).current_dir(&to).output();
    match sums {
        Ok(said) => assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr)),
        Err(_) => skip("everything_can_be_unpacked_elsewhere_where_sha256sum_agrees", "there is no sha256sum"),
    }
    assert_eq!(changes(&before, &tree(&scratch.home())), Vec::<String>::new());
    let again = Ran::of(scratch.moon(&["restore", "--json"]).arg(&file).arg("--to").arg(&to)).expect(1);
    assert_eq!(again.report()["data"]["error"]["code"], "restore.choice", "it is not empty");
}

#[test]
fn a_lost_home_is_restored_where_nothing_is() {
    let (scratch, good) = lived_in();
    let file = given(&scratch, &good);
    std::fs::remove_dir_all(scratch.home()).expect("lost");
    restore(&scratch, &file, &[]).expect(0);
    assert_eq!(day(&scratch), "what was said\n");
    scratch.run(&["index"]).expect(0);
    scratch.run(&["verify"]).expect(0);
    let nothing = scratch.json(&["restore", "--undo", "--yes"]).expect(1).report();
    assert_eq!(nothing["data"]["error"]["code"], "restore.nothing_to_undo");
    assert_eq!(day(&scratch), "what was said\n");
}

#[test]
fn rights_and_owners_are_ours_whatever_the_archive_says() {
    let (scratch, mut good) = lived_in();
    good.add("home/memory/tool", "file", b"#!/bin/sh\n");
    for entry in &mut good.entries {
        (entry.mode, entry.uid) = (0o7777, 54_321);
    }
    good.members().iter_mut().for_each(|m| m["mode"] = json!("4777"));
    let at = good.members().iter().position(|m| m["path"] == "home/moon.toml").expect("listed");
    good.members()[at]["mode"] = json!("4666");
    let manifest_owner = good.entries[0].uid;
    let to = scratch.path().join("elsewhere");
    // The two lists are written with our own id: they must agree with the rest.
    good.entries.iter_mut().for_each(|e| e.uid = u64::from(rustix::process::geteuid().as_raw()));
    assert_ne!(manifest_owner, good.entries[0].uid);
    Ran::of(scratch.moon(&["restore"]).arg(given(&scratch, &good)).arg("--to").arg(&to)).expect(0);
    assert_eq!(open_to_others(&to), Vec::<String>::new());
    let mode = |path: &str| std::fs::metadata(to.join(path)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode("home/memory/tool"), mode("home/moon.toml"), mode("home")), (0o700, 0o600, 0o700));
    let found = std::fs::metadata(to.join("home/memory/tool")).expect("there");
    assert_eq!((found.uid(), found.mtime()), (rustix::process::geteuid().as_raw(), MTIME));
    assert_eq!(std::fs::metadata(to.join("home/memory")).expect("there").mtime(), MTIME, "folders, too");
}

#[test]
fn an_included_folder_is_restored_only_when_it_is_named_and_comes_back_with_an_undo() {
    let (scratch, mut good) = lived_in();
    let notes = scratch.path().join("notes");
    std::fs::create_dir(&notes).expect("a folder");
    std::fs::write(notes.join("a.txt"), "now").expect("a note");
    good.manifest["include"] = json!([{ "n": 0, "path": notes }]);
    good.add("include/0/a.txt", "file", b"then");
    let file = given(&scratch, &good);
    let note = || std::fs::read_to_string(notes.join("a.txt")).expect("a note");
    restore(&scratch, &file, &[]).expect(0);
    assert_eq!(note(), "now");
    let strange = restore(&scratch, &file, &["--include", "/etc"]).expect(1).report();
    assert_eq!(strange["data"]["error"]["code"], "restore.choice", "{strange}");
    // However it is written, and also when it is named twice.
    let plain = notes.to_str().expect("plain");
    for names in [&[plain.to_owned()][..], &[format!("{plain}/")], &[format!("{plain}/."), format!("/{plain}//")]] {
        let words: Vec<&str> = names.iter().flat_map(|name| ["--include", name]).collect();
        restore(&scratch, &file, &words).expect(0);
        assert_eq!(note(), "then", "{words:?}");
        scratch.run(&["restore", "--undo", "--yes"]).expect(0);
        assert_eq!(note(), "now", "{words:?}");
    }
    scratch.run(&["restore", "--undo", "--yes"]).expect(0);
    assert_eq!(note(), "then");
    let to = scratch.path().join("there");
    restore(&scratch, &file, &["--to", &format!("{}/", to.display())]).expect(0);
    assert_eq!(std::fs::read_to_string(to.join("include/0/a.txt")).expect("a note"), "then");
}

#[test]
fn an_encrypted_backup_opens_with_its_key_and_with_no_other() {
    let (scratch, good) = lived_in();
    let (right, wrong) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
    let recipient = right.to_public();
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).expect("one");
    let mut locked = Vec::new();
    let mut writer = encryptor.wrap_output(&mut locked).expect("a writer");
    std::io::Write::write_all(&mut writer, &good.packed()).expect("written");
    writer.finish().expect("finished");
    let file = scratch.path().join(format!("{ID}.tar.zst.age"));
    std::fs::write(&file, &locked).expect("an archive");
    let key = |name: &str, identity: &age::x25519::Identity| {
        use age::secrecy::ExposeSecret;
        let path = scratch.path().join(name);
        std::fs::write(&path, format!("# a key\n{}\n", identity.to_string().expose_secret())).expect("a key");
        path.to_str().expect("plain").to_owned()
    };
    let (right, wrong) = (key("right", &right), key("wrong", &wrong));
    std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
    for words in [vec![], vec!["--identity", &wrong], vec!["--identity", "/nowhere"]] {
        let error = restore(&scratch, &file, &words).expect(1).report()["data"]["error"].clone();
        assert_eq!(error["code"], "restore.identity", "{words:?}: {error}");
    }
    let mut spoilt = locked.clone();
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 1;
    for bytes in [&spoilt[..], &locked[..locked.len() - 1], &[&locked[..], b"x"].concat()] {
        std::fs::write(&file, bytes).expect("an archive");
        let error = restore(&scratch, &file, &["--identity", &right]).expect(1).report()["data"]["error"].clone();
        assert_eq!(error["code"], "restore.damaged", "{error}");
    }
    assert_eq!(day(&scratch), "overwritten\n");
    std::fs::write(&file, &locked).expect("an archive");
    restore(&scratch, &file, &["--identity", &right]).expect(0);
    assert_eq!(day(&scratch), "what was said\n");
}

/// How a good archive is turned into a bad one.
type Spoil = fn(&mut Parts);

/// An archive in the layout of the operations document, as macOS writes it.
fn document() -> Parts {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let db = rusqlite::Connection::open(scratch.path().join("m.db")).expect("a database");
    db.execute_batch("CREATE TABLE m (t TEXT); INSERT INTO m VALUES ('kept')").expect("rows");
    drop(db);
    let mut parts = Parts::empty();
    parts.has_manifest = false;
    parts.entries = vec![
        Entry::file("memory.db", &std::fs::read(scratch.path().join("m.db")).expect("readable")),
        Entry::file("observations.jsonl", b"{\"content\": \"x\"}\n"),
        Entry::file("identity_core.json", b"{}\n"),
    ];
    let sums = parts.entries.iter().map(|e| format!("{}  {}\n", Sha256::of(&e.body), String::from_utf8_lossy(&e.path)));
    parts.sums = Some(sums.collect());
    let vendor = pax(&[
        ("mtime", b"1768900000.25"),
        ("LIBARCHIVE.xattr.com.apple.provenance", b"AQIA"),
        ("SCHILY.xattr.com.apple.provenance", b"\x01\x02\x00"),
    ]);
    parts.entries.insert(0, Entry { is_whole_path: true, ..Entry::folder(&format!("{ID}/")) });
    parts.entries.insert(0, Entry { is_whole_path: true, ..Entry::file(&format!("./._{ID}"), b"\0\x05\x16\x07") });
    parts.entries[2].before = vendor;
    parts.entries.insert(2, Entry::file("._memory.db", b"\0\x05\x16\x07 apple"));
    parts
}

#[test]
fn an_archive_of_the_documents_layout_is_unpacked_without_what_macos_added() {
    let (scratch, _) = lived_in();
    let file = scratch.path().join(format!("{ID}.tar.gz"));
    let to = scratch.path().join("old-memory");
    std::fs::write(&file, gzip(&document().tar())).expect("an archive");
    let into_home = restore(&scratch, &file, &[]).expect(1).report();
    assert_eq!(into_home["data"]["error"]["code"], "restore.choice", "{into_home}");
    let run = || Ran::of(scratch.moon(&["restore", "--json"]).arg(&file).arg("--to").arg(&to));
    run().expect(0);
    let entries = std::fs::read_dir(&to).expect("listable").flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().expect("plain")).collect();
    names.sort();
    assert_eq!(names, ["checksums.sha256", "identity_core.json", "memory.db", "observations.jsonl"]);
    assert_eq!(open_to_others(&to), Vec::<String>::new());
    std::fs::remove_dir_all(&to).expect("removed");

    let spoilt: [(&str, Spoil); 7] = [
        ("a wrong hash", |p| p.entries.last_mut().expect("one").body = b"{} \n".to_vec()),
        ("a member too few", |p| drop(p.entries.pop())),
        ("a member too many", |p| p.entries.push(Entry::file("evil.jsonl", b"x"))),
        ("a link", |p| p.entries.push(Entry::of_kind("l", b'2', "/etc"))),
        ("a path that leads out", |p| p.entries.push(Entry::file("../x", b"x"))),
        ("no list of hashes", |p| p.has_sums = false),
        ("a damaged database", |p| {
            let at = p.entries.iter().position(|e| e.path == b"memory.db").expect("there");
            p.entries[at].body[4096..].fill(7);
            let line = format!("{}  memory.db\n", Sha256::of(&p.entries[at].body));
            let sums = p.sums.take().unwrap_or_default();
            p.sums = Some(
                sums.lines().filter(|l| !l.ends_with("memory.db")).map(|l| format!("{l}\n")).collect::<String>()
                    + &line,
            );
        }),
    ];
    for (name, spoil) in spoilt {
        let mut parts = document();
        spoil(&mut parts);
        std::fs::write(&file, gzip(&parts.tar())).expect("an archive");
        let error = run().expect(1).report()["data"]["error"].clone();
        assert!(
            ["restore.unsafe", "restore.damaged"].contains(&error["code"].as_str().unwrap_or_default()),
            "{name}: {error}"
        );
    }
    let whole = gzip(&document().tar());
    for bytes in [&whole[..whole.len() - 9], &[&whole[..], &whole[..]].concat(), &[&whole[..], b"x"].concat()] {
        std::fs::write(&file, bytes).expect("an archive");
        run().expect(1);
    }
    assert!(!to.exists() && beside(&scratch, ".restoring-").is_empty());
}

#[test]
fn a_full_disk_during_a_restore_leaves_everything_as_it_was() {
    const TEST: &str = "a_full_disk_during_a_restore_leaves_everything_as_it_was";
    let (scratch, mut good) = lived_in();
    good.add(
        "home/memory/large",
        "file",
        &(0..3_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()[..6 << 20],
    );
    let file = given(&scratch, &good);
    let before = tree(&scratch.home());
    // A limit on the size of a file is a full disk in the middle of a member.
    let moon = scratch.moon(&["restore"]);
    let words = moon.get_args().map(|a| a.to_str().expect("plain")).collect::<Vec<_>>();
    let program = moon.get_program().to_str().expect("plain");
    let mut limited = scratch.bare();
    let mut shell = Command::new("sh");
    shell.env_clear().envs(limited.get_envs().filter_map(|(k, v)| v.map(|v| (k, v)))).current_dir(scratch.path());
    limited.arg("unused");
    shell.args(["-c", "ulimit -f 8192; exec \"$@\"", "sh", program]).args(words).arg(&file).args(["--yes", "--json"]);
    let error = Ran::of(&mut shell).expect(1).report()["data"]["error"].clone();
    assert_eq!(error["code"], "restore.no_room", "{error}");
    assert_eq!(changes(&before, &tree(&scratch.home())), Vec::<String>::new());
    assert_eq!(beside(&scratch, "home."), Vec::<PathBuf>::new());

    let small = scratch.path().join("small");
    std::fs::create_dir(&small).expect("a folder");
    let Some(_disk) = Disk::mount(&small, "20m") else { return skip(TEST, "this user may not mount a small disk") };
    let to = small.join("there");
    let error = Ran::of(scratch.moon(&["restore", "--json"]).arg(&file).arg("--to").arg(&to)).expect(1);
    assert_eq!(error.report()["data"]["error"]["code"], "restore.no_room", "{error:?}");
    assert_eq!(std::fs::read_dir(&small).expect("listable").count(), 0);
}

#[test]
fn a_daemon_that_does_not_start_with_the_old_settings_is_told_and_undone() {
    let (scratch, mut good) = lived_in();
    good.replace("home/moon.toml", b"[thresholds]\narchive = 7.0\n");
    let file = given(&scratch, &good);
    let daemon = scratch.daemon(&FAST);
    let _stops = Stops(&scratch);
    let ran = restore(&scratch, &file, &[]).expect(2);
    assert_eq!(daemon.end().code(), Some(0));
    let issue = &ran.report()["issues"][0];
    assert_eq!(issue["code"], "daemon.not_started", "{issue}");
    assert!(issue["cause"].as_str().is_some_and(|c| c.contains("thresholds.archive")), "{issue}");
    assert!(issue["hint"].as_str().is_some_and(|c| c.contains("moon restore --undo")), "{issue}");
    // The settings in force are wrong, so the way back is told the right ones.
    let empty = scratch.path().join("empty.toml");
    std::fs::write(&empty, "").expect("settings");
    Ran::of(scratch.moon(&["restore", "--undo", "--yes", "--config"]).arg(&empty)).expect(0);
    wait_for("a home with right settings", || {
        (std::fs::read(scratch.in_home("moon.toml")).ok()?.is_empty()).then_some(())
    });
}

#[test]
fn a_backup_made_here_comes_back_without_a_crash_in_the_books_and_without_forgetting_a_deliberate_stop() {
    let (scratch, _) = lived_in();
    let daemon = scratch.daemon(&FAST);
    let _stops = Stops(&scratch);
    for _ in 0..4 {
        scratch.run(&["backup"]).expect(0);
        std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
        scratch.run(&["restore", "--yes"]).expect(0);
        assert_eq!(day(&scratch), "what was said\n");
    }
    assert_eq!(daemon.end().code(), Some(0));
    let health = Ran::of(&mut scratch.moon(&["health", "--now", "--check", "restarts"]));
    assert!(health.stdout.contains("no crash within the hour"), "{health:?}");
    // Wrong settings must not keep anybody from stopping what runs.
    let file = scratch.path().join("wrong.toml");
    std::fs::write(&file, "nonsense = 1\n").expect("settings");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("rights");
    let stopped = Ran::of(scratch.moon(&["stop"]).arg("--config").arg(&file)).expect(0);
    assert!(stopped.stderr.contains("the settings are wrong"), "{stopped:?}");
    scratch.run(&["restore", "--yes"]).expect(0);
    let status = scratch.json(&["status"]).report();
    assert_eq!(status["data"]["liveness"]["state"], "stopped", "{status}");
}
