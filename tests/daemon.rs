//! The daemon as a process: who holds the home, how it ends, who may talk to it, and what it does about damage.
//!
//! Every test runs the real program over a scratch home and a folder of transcripts, and looks at files, exit codes and logs.

mod support;

use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use support::process::{Daemon, Disk, Ran, Scratch, archived, count, wait_for, warnings};
use support::skip;

const FAST: [&str; 4] = ["--set", "watch.poll=200ms", "--set", "supervision.retry_min=100ms"];

/// Waits until the archive's newest series holds the transcript, byte for byte, and all of it is in the index.
fn until_archived(scratch: &Scratch, transcript: &Path) {
    const RECORDS: &str = "SELECT COALESCE((SELECT records FROM series ORDER BY session DESC, id DESC LIMIT 1), 0)";
    wait_for("the transcript to be archived and indexed", || {
        let bytes = std::fs::read(transcript).expect("readable");
        // What the ledger says comes first: to read the whole archive at every look would take the processor from the daemon.
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        if count(&scratch.home(), RECORDS) < i64::try_from(lines).expect("few") {
            return None;
        }
        let whole = archived(&scratch.home()).last().is_some_and(|(_, _, archive)| *archive == bytes);
        (whole && count(&scratch.home(), "SELECT COUNT(*) FROM segments WHERE indexed_at IS NULL") == 0).then_some(())
    });
}

fn archived_name(scratch: &Scratch, name: &str) -> Vec<Vec<u8>> {
    let key = format!("transcripts:{name}");
    archived(&scratch.home()).into_iter().filter(|(session, ..)| *session == key).map(|(.., bytes)| bytes).collect()
}

#[test]
fn a_second_daemon_exits_with_3_and_names_the_holder() {
    let scratch = Scratch::new();
    let first = scratch.daemon(&FAST);
    let second = scratch.json(&["watch", "--daemon"]).expect(3);
    let error = &second.report()["data"]["error"];
    assert_eq!(error["code"], "daemon.held");
    assert!(error["message"].as_str().is_some_and(|m| m.contains(&format!("pid {}", first.pid()))), "{error}");
    let once = scratch.run(&["watch", "--once"]).expect(3);
    assert!(once.stderr.contains(&first.pid().to_string()), "{once:?}");
    assert!(first.is_running());
    first.stop();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_daemon_has_one_heap_and_what_it_runs_is_not_told_so() {
    const VARIABLE: &str = "MALLOC_ARENA_MAX=";
    let scratch = Scratch::new();
    let (script, seen) = (scratch.path().join("look"), scratch.path().join("seen"));
    std::fs::write(&script, format!("#!/bin/sh\nenv > '{}'\n", seen.display())).expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let check = format!("health.commands=[{{ name = \"look\", argv = [{:?}] }}]", script.display().to_string());
    let daemon = scratch.daemon(&["--set", &check]);
    // Its own environment is its owner's secret, even for its user; what it runs is seen by the file.
    match std::fs::read_to_string(format!("/proc/{}/environ", daemon.pid())) {
        Ok(own) => assert_eq!(
            own.split('\0').filter(|line| line.starts_with(VARIABLE)).collect::<Vec<_>>(),
            [format!("{VARIABLE}1")]
        ),
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::PermissionDenied),
    }
    scratch.run(&["health", "--now", "--check", "command:look"]).expect(0);
    let told = std::fs::read_to_string(&seen).expect("the check's command ran");
    assert!(!told.contains(VARIABLE), "{told}");
    daemon.stop();
}

/// The loader is the program then, as the system sees it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_daemon_that_the_loader_was_told_to_run_works_as_well() {
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"].map(Path::new);
    let Some(loader) = loaders.into_iter().find(|path| path.exists()) else { return };
    let scratch = Scratch::new();
    let moon = scratch.moon(&["watch", "--daemon"]);
    let mut command = Command::new(loader);
    command.env_clear().envs(moon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.arg(moon.get_program()).args(moon.get_args()).current_dir(scratch.path());
    let daemon = Daemon::start(command, scratch.path().join("daemon.said"));
    wait_for("the daemon's first answer", || {
        assert!(daemon.is_running(), "the daemon ended at once: {}", daemon.said());
        let status = scratch.json(&["ctl", "status"]);
        (status.report()["data"]["daemon"]["pid"] == json!(daemon.pid())).then_some(())
    });
    daemon.stop();
}

#[test]
fn nothing_is_counted_in_the_first_line_of_a_daemon_that_has_not_looked_yet() {
    let scratch = Scratch::new();
    scratch.transcript("work").begin();
    let daemon = scratch.daemon(&FAST);
    let said = daemon.said();
    let first = said.lines().find(|line| line.contains("moon is watching")).expect("a first line");
    assert!(!first.contains("0 sessions"), "{first}");
    let known = || scratch.json(&["status"]).report()["data"]["host"]["description"].to_string();
    wait_for("a look", || known().contains("(1 session, ").then_some(()));
    daemon.stop();
}

#[test]
fn what_a_running_daemon_has_not_written_yet_is_behind_and_what_was_changed_is_told_apart() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon(&[]);
    let mut number = 0;
    let text = wait_for("a page that is behind", || {
        number += 1;
        scratch.run(&["alerts", "raise", "disk_low", "--subject", &number.to_string(), "--message", "m"]).expect(0);
        let text = scratch.run(&["verify"]).expect(0).stdout;
        text.contains("audit.log").then_some(text)
    });
    let line = text.lines().find(|line| line.starts_with("projections: ")).expect("a line");
    assert!(line.starts_with("projections: behind the ledger: ") && line.contains("skills/moon-system/logs/audit.log"));
    assert!(line.ends_with(" (the running daemon writes every 30 s)"), "{line}");
    daemon.stop();
    let audit = scratch.in_home("skills/moon-system/logs/audit.log");
    let whole = std::fs::read_to_string(&audit).expect("readable");
    let told = |text: &str| {
        std::fs::write(&audit, text).expect("changed");
        let report = scratch.json(&["verify"]).expect(0).report();
        let line = report["details"].as_array().and_then(|all| {
            all.iter().filter_map(Value::as_str).find(|line| line.starts_with("projections: ")).map(str::to_owned)
        });
        (line.expect("a line"), report["data"]["projections"].clone())
    };
    let name = "skills/moon-system/logs/audit.log";
    let (line, data) = told(&whole[..whole.len() / 2]);
    assert!(line.starts_with("projections: not what the ledger says: "), "a torn line is damage: {line}");
    assert_eq!(data, json!({ "stale": [name], "damaged": [name] }));
    let (line, data) = told(whole.split_inclusive('\n').next().expect("a line"));
    assert_eq!(line, format!("projections: behind the ledger: {name} (written when moon runs next)"));
    assert_eq!(data, json!({ "stale": [name], "damaged": [] }));
}

#[test]
fn kill_9_frees_the_home_at_once_and_the_next_daemon_says_so() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin().exchange(0, 20);
    let first = scratch.daemon(&FAST);
    until_archived(&scratch, transcript.path());
    first.kill();
    assert!(scratch.in_home("run/moon.sock").exists(), "a killed daemon leaves its socket");
    transcript.exchange(1, 20);
    let second = scratch.daemon(&FAST);
    until_archived(&scratch, transcript.path());
    assert_eq!(warnings(&scratch.home(), "did not end in order").len(), 1);
    second.stop();
    scratch.run(&["verify"]).expect(0);
    scratch.daemon(&FAST).stop();
    assert_eq!(warnings(&scratch.home(), "did not end in order").len(), 1, "the second one did");
}

#[test]
fn sigterm_ends_in_order_within_the_deadline() {
    let scratch = Scratch::new();
    for name in 0..40 {
        let transcript = scratch.transcript(&format!("s{name}"));
        transcript.begin();
        (0..20).for_each(|n| _ = transcript.exchange(n, 200));
    }
    // In the middle of its first captures.
    let daemon = scratch.daemon(&FAST);
    let begun = Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < Duration::from_secs(5 + 3), "{:?}", begun.elapsed());
    assert!(daemon.said().contains("moon has stopped in order"), "{}", daemon.said());
    assert!(!scratch.in_home("run/moon.sock").exists());
    let ended = "SELECT COUNT(*) FROM boots WHERE ended_at IS NULL";
    assert_eq!(count(&scratch.home(), ended), 0);
    assert_eq!(count(&scratch.home(), "SELECT COUNT(*) FROM jobs WHERE state = 'claimed'"), 0);
    assert_eq!(warnings(&scratch.home(), ""), Vec::<String>::new());
    scratch.run(&["verify"]).expect(0);
}

#[test]
fn ctl_shows_the_tree_restarts_an_actor_and_stops_the_daemon() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon(&FAST);
    let status = scratch.json(&["ctl", "status"]).expect(0).report();
    assert_eq!((&status["command"], &status["ok"]), (&json!("ctl status"), &json!(true)));
    assert_eq!(status["data"]["daemon"]["pid"], json!(daemon.pid()));
    let tree = scratch.run(&["ctl", "tree"]).expect(0).stdout;
    for actor in
        ["alert", "archive", "index", "prune", "distill", "continuity", "threshold", "usage", "router", "socket"]
    {
        let line = tree.lines().find(|line| line.trim_start().starts_with(actor));
        assert!(line.is_some_and(|line| line.contains("up")), "{actor}: {tree}");
    }
    scratch.run(&["ctl", "restart", "index"]).expect(0);
    let rows = "SELECT COUNT(*) FROM audit WHERE json_extract(record, '$.event') = 'restarted'";
    wait_for("the restart to be recorded", || (count(&scratch.home(), rows) == 1).then_some(()));

    let unknown = scratch.json(&["ctl", "restart", "no-such-actor"]).expect(1).report();
    let error = &unknown["data"]["error"];
    assert!(error["message"].as_str().is_some_and(|m| m.contains("no-such-actor")), "{error}");
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("moon ctl tree")), "{error}");

    let stopped = scratch.run(&["ctl", "stop"]).expect(0);
    assert!(stopped.stdout.contains("moon has stopped"), "{stopped:?}");
    assert_eq!(daemon.end().code(), Some(0));
    let nobody = scratch.json(&["ctl", "status"]).expect(3).report();
    assert_eq!(nobody["data"]["error"]["code"], "daemon.not_running");
    scratch.run(&["ctl", "stop"]).expect(3);
}

#[test]
fn curl_can_ask_the_socket_which_is_its_owners_alone() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon(&FAST);
    let socket = scratch.in_home("run/moon.sock");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(socket.parent().expect("run"))), (0o600, 0o700));
    if !curl_is_here("curl_can_ask_the_socket_which_is_its_owners_alone") {
        return;
    }
    let status = curl(&socket, &["http://moon/v1/status"]).expect(0).report();
    assert_eq!((&status["ok"], &status["data"]["mode"]), (&json!(true), &json!("observe")), "{status}");
    let health = curl(&socket, &["http://moon/v1/health"]).expect(0).report();
    assert_eq!(health["ok"], json!(true));
    let wrong = curl(&socket, &["--data", "{nonsense", "http://moon/v1/request"]).expect(0).report();
    assert_eq!(wrong["error"]["code"], "control.bad_request", "{wrong}");
    let noise = scratch.path().join("noise");
    std::fs::write(&noise, vec![b'x'; 1 << 20]).expect("written");
    let data = format!("@{}", noise.display());
    let large = curl(&socket, &["-w", "%{http_code}", "--data-binary", &data, "http://moon/v1/request"]);
    assert!(large.stdout.contains("control.bad_request") && large.stdout.ends_with("413"), "{large:?}");
    assert!(daemon.is_running());
    daemon.stop();
}

fn curl_is_here(test: &str) -> bool {
    let here = Command::new("curl").arg("--version").output().is_ok();
    if !here {
        skip(test, "curl is not installed");
    }
    here
}

fn curl(socket: &Path, words: &[&str]) -> Ran {
    Ran::of(Command::new("curl").args(["-sS", "--max-time", "20", "--unix-socket"]).arg(socket).args(words))
}

#[test]
fn another_user_is_refused_even_where_the_socket_is_in_reach() {
    const TEST: &str = "another_user_is_refused_even_where_the_socket_is_in_reach";
    if !rustix::process::geteuid().is_root() {
        return skip(TEST, "only root can become another user");
    }
    if Command::new("setpriv").arg("--version").output().is_err() {
        return skip(TEST, "setpriv is not installed");
    }
    if !curl_is_here(TEST) {
        return;
    }
    let scratch = Scratch::new();
    let daemon = scratch.daemon(&FAST);
    let socket = scratch.in_home("run/moon.sock");
    let widen = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("root may");
    };
    widen(scratch.path(), 0o755);
    widen(&scratch.home(), 0o755);
    widen(&scratch.in_home("run"), 0o755);
    widen(&socket, 0o666);
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let asked = Ran::of(
        Command::new("setpriv")
            .args(nobody)
            .args(["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", "--unix-socket"])
            .arg(&socket)
            .arg("http://moon/v1/status"),
    );
    assert!(asked.stdout.ends_with("403"), "{asked:?}");
    assert!(asked.stdout.contains("control.foreign_user") && !asked.stdout.contains("sessions"), "{asked:?}");
    let stop = Ran::of(
        Command::new("setpriv")
            .args(nobody)
            .args(["curl", "-sS", "--max-time", "20", "-X", "POST", "--unix-socket"])
            .arg(&socket)
            .arg("http://moon/v1/stop"),
    );
    assert!(stop.stdout.contains("control.foreign_user"), "{stop:?}");
    // The program itself, from a copy that the other user can reach.
    let copy = scratch.path().join("moon");
    std::fs::copy(env!("CARGO_BIN_EXE_moon"), &copy).expect("copied");
    widen(&copy, 0o755);
    let home = scratch.home().display().to_string();
    let ran = Ran::of(
        Command::new("setpriv")
            .args(nobody)
            .arg(&copy)
            .args(["--home", &home, "ctl", "status"])
            .env("HOME", "/nonexistent"),
    );
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(daemon.is_running());
    daemon.stop();
}

#[test]
fn damaged_projections_are_named_once_and_written_anew() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin();
    let daemon = scratch.daemon(&FAST);
    for number in 0..3 {
        transcript.exchange(number, 20);
        until_archived(&scratch, transcript.path());
    }
    daemon.stop();
    let files = ["state/moon_state.json", "archives/ledger.jsonl", "skills/moon-system/logs/audit.log"];
    std::fs::write(scratch.in_home(files[0]), b"{\"schema_version\": 1, ").expect("damaged");
    let before: Vec<String> = files[1..]
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(scratch.in_home(file)).expect("readable");
            let mut lines: Vec<&str> = text.lines().collect();
            assert!(lines.len() >= 3, "{file}: {text}");
            let middle = lines.len() / 2;
            lines[middle] = "{\"torn\": ";
            std::fs::write(scratch.in_home(file), lines.join("\n") + "\n").expect("damaged");
            text
        })
        .collect();

    let daemon = scratch.daemon(&FAST);
    transcript.exchange(3, 20);
    until_archived(&scratch, transcript.path());
    wait_for("the files to be put right", || {
        let whole = |file: &&str| {
            let text = std::fs::read_to_string(scratch.in_home(file)).expect("readable");
            text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok())
        };
        files[1..].iter().all(whole).then_some(())
    });
    daemon.stop();
    for (file, before) in files[1..].iter().zip(&before) {
        let text = std::fs::read_to_string(scratch.in_home(file)).expect("readable");
        assert!(text.starts_with(before), "{file} is not what it was, with more behind it");
    }
    let state = std::fs::read(scratch.in_home(files[0])).expect("readable");
    let state: Value = serde_json::from_slice(&state).expect("whole again");
    assert!(state["sessions"]["transcripts:work"].is_object(), "{state}");
    for file in files {
        assert_eq!(warnings(&scratch.home(), file).len(), 1, "{file}: {:?}", warnings(&scratch.home(), file));
    }
    let verified = scratch.json(&["verify"]).expect(0).report();
    assert_eq!(verified["data"]["projections"]["stale"], json!([]), "{verified}");
}

#[test]
fn projections_that_are_taken_away_while_it_runs_come_back_at_once() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin();
    let daemon = scratch.daemon(&FAST);
    until_archived(&scratch, transcript.path());
    let (list, audit) =
        (scratch.in_home("archives/ledger.jsonl"), scratch.in_home("skills/moon-system/logs/audit.log"));
    let lines = |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
    // Only lines that can never change again are missed: what is not indexed yet is written anew in any case.
    let is_final = || std::fs::read_to_string(&list).is_ok_and(|text| text.contains("\"indexed\":true"));
    wait_for("the files", || (is_final() && lines(&audit) > 0).then_some(()));
    let before = lines(&audit);
    std::fs::remove_file(&list).expect("there");
    std::fs::write(&audit, b"").expect("emptied, as a log rotation does");
    transcript.exchange(0, 20);
    until_archived(&scratch, transcript.path());
    wait_for("the files, whole again", || (lines(&list) > 1 && lines(&audit) > before).then_some(()));
    daemon.stop();
    let verified = scratch.json(&["verify"]).expect(0).report();
    assert_eq!(verified["data"]["projections"]["stale"], json!([]), "{verified}");
    for name in ["archives/ledger.jsonl", "audit.log"] {
        assert_eq!(warnings(&scratch.home(), name).len(), 1, "{name}: {:?}", warnings(&scratch.home(), ""));
    }
}

#[test]
fn a_torn_transcript_tail_waits_for_its_end() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin().exchange(0, 20).raw(b"{\"type\":\"message\",\"id\":\"half");
    let daemon = scratch.daemon(&FAST);
    let whole = transcript.bytes();
    let complete = &whole[..=whole.iter().rposition(|b| *b == b'\n').expect("a line")];
    wait_for("what is complete", || {
        archived_name(&scratch, "work").first().is_some_and(|a| a == complete).then_some(())
    });
    // Several looks later it still is one warning, and nothing of the torn line is archived.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(archived_name(&scratch, "work"), [complete]);
    assert_eq!(warnings(&scratch.home(), "unfinished record").len(), 1, "{:?}", warnings(&scratch.home(), ""));
    transcript.raw(b"\",\"message\":{\"role\":\"user\",\"content\":\"whole\"}}\n");
    until_archived(&scratch, transcript.path());
    assert_eq!(archived_name(&scratch, "work").len(), 1);
    daemon.stop();
    scratch.run(&["verify"]).expect(0);
}

#[test]
fn stamps_from_a_future_that_a_corrected_clock_took_back_stop_nothing() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin().exchange(0, 400);
    let window = ["--set", "watch.poll=200ms", "--set", "watch.window_tokens=1000"];
    let daemon = scratch.daemon(&window);
    until_archived(&scratch, transcript.path());
    daemon.stop();
    let db = rusqlite::Connection::open(scratch.in_home("state/moon.db")).expect("a ledger");
    // As a life would have left them whose clock ran a year ahead.
    const AHEAD: i64 = 365 * 86_400_000;
    for (table, columns) in [
        ("boots", ["started_at", "ended_at"]),
        ("cycles", ["opened_at", "closed_at"]),
        ("jobs", ["queued_at", "claimed_at"]),
        ("segments", ["archived_at", "indexed_at"]),
    ] {
        for column in columns {
            db.execute(&format!("UPDATE {table} SET {column} = {column} + {AHEAD}"), []).expect("moved");
        }
    }
    let machine = json!({"phase": "Cooldown", "archive": {"armed": true, "fired": "2099-01-01T00:00:00Z"},
        "prune": {"armed": true, "fired": null}, "distill": {"armed": true, "fired": null},
        "idle": {"armed": true, "fired": null}, "generation": "0"});
    db.execute("UPDATE sessions SET machine = ?1", [machine.to_string()]).expect("moved");
    drop(db);
    let cooldown = ["--set", "thresholds.archive_cooldown=1s", "--set", "thresholds.distill=0.99"];
    let daemon = scratch.daemon(&[&window[..], &cooldown[..]].concat());
    transcript.exchange(1, 400);
    until_archived(&scratch, transcript.path());
    let fired = "SELECT COUNT(*) FROM cycles WHERE kind = 'archive' AND outcome = 'done'";
    let before = count(&scratch.home(), fired);
    wait_for("the threshold to fire again in this century", || {
        // A reading is news only when something changed.
        transcript.exchange(2, 10);
        std::thread::sleep(Duration::from_millis(200));
        (count(&scratch.home(), fired) > before).then_some(())
    });
    daemon.stop();
    scratch.run(&["verify"]).expect(0);
}

#[test]
fn an_index_that_vanishes_is_made_again_while_it_runs_and_while_it_is_down() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin().exchange(0, 20);
    let daemon = scratch.daemon(&FAST);
    until_archived(&scratch, transcript.path());
    let delete = || {
        for name in ["history.db", "history.db-wal", "history.db-shm"] {
            let _ = std::fs::remove_file(scratch.in_home("index").join(name));
        }
    };
    let finds = |what: &str| {
        let found = scratch.json(&["recall", what]);
        (found.report()["data"]["matches"].as_array().is_some_and(|m| !m.is_empty())).then_some(())
    };
    delete();
    transcript.exchange(1, 20);
    until_archived(&scratch, transcript.path());
    wait_for("recall by the running daemon", || finds("question 0"));
    daemon.stop();
    let verified = scratch.json(&["verify"]);
    let first = verified.report()["data"]["index"].clone();

    delete();
    let daemon = scratch.daemon(&FAST);
    wait_for("the new index", || {
        let verified = scratch.json(&["verify"]).report();
        (verified["data"]["index"]["missing"] == 0 && verified["data"]["index"]["waiting"] == 0).then_some(())
    });
    wait_for("recall from the new index", || finds("question 0"));
    daemon.stop();
    scratch.run(&["verify"]).expect(0);
    assert_eq!(first["missing"], 0, "deleted under the running daemon: {first}");
}

#[test]
fn both_versions_of_a_rewritten_transcript_are_kept() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin().exchange(0, 20).exchange(1, 20);
    let first = transcript.bytes();
    let daemon = scratch.daemon(&FAST);
    until_archived(&scratch, transcript.path());
    let other = support::process::Transcript::at(scratch.path().join("other"));
    other.begin().exchange(7, 25).exchange(8, 25).exchange(9, 25);
    std::fs::rename(other.path(), transcript.path()).expect("replaced");
    until_archived(&scratch, transcript.path());
    assert_eq!(archived_name(&scratch, "work"), [first, transcript.bytes()]);
    let said = warnings(&scratch.home(), "keeping both versions");
    assert_eq!(said.len(), 1, "{said:?}");
    for text in ["question 1", "question 9"] {
        let found = scratch.json(&["recall", text]).expect(0).report();
        let all = found["data"]["matches"].to_string();
        assert!(all.contains(text), "{text}: {all}");
    }
    daemon.stop();
    scratch.run(&["verify"]).expect(0);
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_watching() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin().exchange(0, 20);
    std::fs::create_dir_all(scratch.in_home("logs/moon.log/in-the-way")).expect("a folder in the log's place");
    std::fs::create_dir_all(scratch.in_home("state")).expect("a folder");
    let daemon = scratch.daemon(&FAST);
    until_archived(&scratch, transcript.path());
    assert!(daemon.said().contains("moon.log"), "it says nowhere that there is no log: {:?}", daemon.said());
    daemon.stop();
    scratch.run(&["verify"]).expect(0);
}

#[test]
fn a_full_disk_is_told_and_recovered_from() {
    const TEST: &str = "a_full_disk_is_told_and_recovered_from";
    let scratch = Scratch::new();
    let home = scratch.home();
    std::fs::create_dir(&home).expect("a folder");
    let Some(_disk) = Disk::mount(&home, "160m") else {
        return skip(TEST, "a small file system cannot be mounted here");
    };
    let transcript = scratch.transcript("work");
    transcript.begin().exchange(0, 20);
    // A disk as small as this one is always low.
    let names = ["low_gib", "critical_gib", "low_percent", "critical_percent"].map(|n| format!("health.disk_{n}=0"));
    let small: Vec<&str> = names.iter().flat_map(|set| ["--set", set.as_str()]).collect();
    let settings = [&FAST[..], &small, &["--set", "supervision.retry_max=1s"]].concat();
    let daemon: Daemon = scratch.daemon(&settings);
    until_archived(&scratch, transcript.path());
    let filler = home.join("logs/filler");
    fill(&filler);
    // More than the ledger's reserve could take.
    let before = archived_name(&scratch, "work");
    for number in 0..12 {
        // Pictures: much to archive and little to search.
        let picture = json!([{"type": "image", "mimeType": "image/png", "data": noise(number + 1, 1 << 20)}]);
        let shown = json!({"role": "user", "content": picture});
        transcript.line(&support::process::message(usize::try_from(number).expect("small"), "n", &shown));
    }
    let alert = wait_for("an alert", || {
        let status = scratch.json(&["status"]).report();
        let alerts = status["data"]["alerts"].as_array()?.clone();
        alerts.into_iter().find(|a| a["message"].as_str().is_some_and(|m| m.contains("nothing of it was reduced")))
    });
    assert!(alert.to_string().contains("space"), "{alert}");
    let now = archived_name(&scratch, "work");
    assert!(
        now[0].starts_with(&before[0]) && transcript.bytes().starts_with(&now[0]),
        "the archive is a whole beginning"
    );
    assert!(daemon.is_running());
    std::fs::remove_file(&filler).expect("room again");
    until_archived(&scratch, transcript.path());
    wait_for("the alert to go", || {
        let status = scratch.json(&["status"]).report();
        status["data"]["alerts"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    daemon.stop();
    assert_eq!(archived_name(&scratch, "work").len(), 1);
    scratch.run(&["verify"]).expect(0);
    assert!(
        std::fs::metadata(home.join("state/reserve.bin")).is_ok_and(|m| m.size() > 0),
        "the reserve is there again"
    );
}

/// Writes until there is no room left.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("a file");
    for size in [1 << 20, 4096, 1] {
        let block = vec![b'x'; size];
        while file.write_all(&block).is_ok() {}
    }
}

/// Text that hardly compresses.
fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(state >> 40) as usize % 64]
    };
    String::from_utf8((0..bytes).map(|_| next()).collect()).expect("ASCII")
}
