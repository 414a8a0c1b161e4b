//! Health checks of the built program: with a daemon and without, against real files, sockets, processes and plugins.
//!
//! Damage is made behind SQLite's back. What these tests must never do: believe a check that nobody has seen fail.

#[path = "../support/mod.rs"]
mod support;

mod damage;
mod engine;
mod recovery;

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::process::{Ran, Scratch, changes, count, tree, wait_for};

/// Writes a settings file and returns its path.
fn config(s: &Scratch, text: &str) -> String {
    let path = s.path().join("moon-test.toml");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// A program of the test's own.
fn program(s: &Scratch, name: &str, script: &str) -> PathBuf {
    let path = s.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("executable");
    path
}

fn moon(s: &Scratch, config: &str, words: &[&str]) -> Ran {
    Ran::of(s.moon(&["--config", config]).args(words))
}

/// One check, looked at now.
fn look(s: &Scratch, config: &str, check: &str) -> Value {
    let ran = moon(s, config, &["health", "--json", "--now", "--check", check]);
    let report = ran.report();
    assert_eq!(report["data"]["checks"].as_array().map(Vec::len), Some(1), "{report}");
    report["data"]["checks"][0].clone()
}

fn names(report: &Value) -> Vec<String> {
    let checks = report["data"]["checks"].as_array().expect("checks");
    checks.iter().map(|check| check["name"].as_str().expect("a name").to_owned()).collect()
}

/// The checks that every home has.
const OWN: [&str; 13] = [
    "daemon",
    "heartbeat",
    "ledger",
    "archive",
    "index",
    "host",
    "disk",
    "inodes",
    "logs",
    "clock",
    "backup",
    "alerts",
    "restarts",
];

#[test]
fn every_state_ends_with_its_code_in_both_dialects() {
    let s = Scratch::new();
    let mut text = String::new();
    for (name, code) in [("fine", 0), ("poor", 1), ("bad", 2), ("odd", 3), ("lost", 77)] {
        let path = program(&s, name, &format!("echo \"{name} says | so=5;3;9;0\"; exit {code}"));
        text.push_str(&format!("[[health.commands]]\nname = \"{name}\"\nargv = [\"{}\"]\n", path.display()));
    }
    let config = config(&s, &text);
    // (checks asked for, the document's code and word, the plugin's code and word)
    let table: [(&[&str], i32, &str, i32, &str); 8] = [
        (&["fine"], 0, "HEALTHY", 0, "OK"),
        (&["poor"], 2, "DEGRADED", 1, "WARNING"),
        (&["bad"], 1, "CRITICAL", 2, "CRITICAL"),
        (&["odd"], 2, "DEGRADED", 3, "UNKNOWN"),
        (&["lost"], 2, "DEGRADED", 3, "UNKNOWN"),
        (&["fine", "odd", "poor"], 2, "DEGRADED", 1, "WARNING"),
        (&["bad", "odd", "poor", "fine"], 1, "CRITICAL", 2, "CRITICAL"),
        (&["fine", "odd"], 2, "DEGRADED", 3, "UNKNOWN"),
    ];
    for (checks, code, word, plugin_code, plugin_word) in table {
        let mut words = vec!["health".to_owned()];
        checks.iter().for_each(|check| words.extend(["--check".to_owned(), format!("command:{check}")]));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = moon(&s, &config, &words);
        assert_eq!(ran.code, Some(code), "{checks:?}: {}", ran.stdout);
        assert!(ran.stdout.ends_with(&format!("Status: {word}\n")), "{}", ran.stdout);
        assert!(checks.iter().all(|check| ran.stdout.contains(&format!("command:{check}"))), "{}", ran.stdout);
        let ran = moon(&s, &config, &[&words[..], &["--format", "nagios"]].concat());
        assert_eq!(ran.code, Some(plugin_code), "{checks:?}: {}", ran.stdout);
        assert!(ran.stdout.starts_with(&format!("MOON {plugin_word} - ")), "{}", ran.stdout);
        let first = ran.stdout.lines().next().expect("a line");
        assert!(first.contains(&format!("'command:{}_so'=5;3;9;0", checks[0])), "{first}");
    }
    let stranger = moon(&s, &config, &["health", "--check", "nobody"]);
    assert_eq!(stranger.code, Some(64));
    let stranger = moon(&s, &config, &["health", "--check", "nobody", "--format", "nagios"]);
    assert_eq!((stranger.code, stranger.stdout.starts_with("MOON UNKNOWN - there is no check")), (Some(3), true));
}

#[test]
fn all_checks_run_though_the_first_fails_and_no_trace_is_left() {
    let s = Scratch::new();
    let config = config(&s, "[health]\ndatabases = [\"/nowhere/at-all.db\"]\n");
    let never = moon(&s, &config, &["health", "--json"]);
    assert_eq!(never.code, Some(1), "{}", never.stdout);
    let expected: Vec<String> =
        OWN.iter().map(ToString::to_string).chain(["database:/nowhere/at-all.db".into()]).collect();
    assert_eq!(names(&never.report()), expected);
    assert!(!s.home().exists(), "a look makes no home");
    let first = &never.report()["data"]["checks"][0];
    assert_eq!(
        (first["state"].as_str(), first["reason"].as_str()),
        (Some("critical"), Some("moon was never started in this home"))
    );
    let text = moon(&s, &config, &["health"]).stdout;
    assert!(text.starts_with("✗ daemon") && text.contains("\n✓ disk") && text.contains("\n⚠ backup"), "{text}");

    s.transcript("a").begin().exchange(1, 5);
    let daemon = s.daemon(&["--config", &config]);
    let up = moon(&s, &config, &["health", "--json"]);
    assert_eq!(names(&up.report()), expected, "the same checks, in the same order");
    assert_eq!(up.report()["data"]["checks"][0]["state"], "ok", "{}", up.stdout);
    daemon.stop();
    let before = tree(&s.home());
    let down = moon(&s, &config, &["health", "--json"]);
    let mut changed = changes(&before, &tree(&s.home()));
    // The index is opened as every command that reads opens it.
    changed.retain(|change| !change.contains("index/history.db-"));
    assert_eq!(changed, Vec::<String>::new(), "looking changes nothing");
    let report = down.report();
    assert_eq!(names(&report), expected);
    let reason = report["data"]["checks"][0]["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("it was stopped on purpose") && reason.contains("asked to stop"), "{reason}");
    for sound in ["ledger", "archive", "index", "host", "disk", "clock"] {
        let row = report["data"]["checks"].as_array().and_then(|all| all.iter().find(|c| c["name"] == sound));
        assert_eq!(row.map(|r| r["state"].clone()), Some("ok".into()), "{sound}: {report}");
    }

    let killed = s.daemon(&["--config", &config]);
    killed.kill();
    let reason = look(&s, &config, "daemon")["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("was cut off"), "{reason}");
}

#[test]
fn what_is_told_of_the_last_daemons_end_is_its_own_whatever_ran_since() {
    let s = Scratch::new();
    let config = config(&s, "");
    s.daemon(&[]).kill();
    s.run(&["rotate-logs"]).expect(0);
    let reason = look(&s, &config, "daemon")["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("was cut off") && !reason.contains("rotate-logs"), "{reason}");
}

#[test]
fn a_daemon_that_somebody_stopped_is_told_as_stopped_on_purpose_with_who_and_when() {
    let s = Scratch::new();
    let config = config(&s, "");
    let daemon = s.daemon(&[]);
    let stopped = Ran::of(s.moon(&["stop"]).env("USER", "ann")).expect(0);
    assert_eq!(stopped.stdout, "moon has stopped\n");
    daemon.end();
    s.run(&["rotate-logs"]).expect(0);
    let row = look(&s, &config, "daemon");
    let day = chrono::Utc::now().format("%Y-").to_string();
    let reason = row["reason"].as_str().expect("a reason");
    assert!(reason.starts_with(&format!("no daemon runs: it was stopped on purpose on {day}")), "{reason}");
    assert!(reason.ends_with(" UTC by ann (moon stop)"), "{reason}");
    assert_eq!(row["hint"], "nothing brings it back by itself; `moon start` does when it is wanted again");
}

#[test]
fn a_check_that_is_not_there_is_a_wrong_command_line_and_the_nearest_is_named() {
    let s = Scratch::new();
    let nearest = |daemon: &str| {
        let error = s.json(&["health", "--check", "disc"]).expect(64).report()["data"]["error"].clone();
        assert_eq!(error["code"], "health.no_such_check", "{daemon}: {error}");
        assert!(
            error["hint"].as_str().is_some_and(|hint| hint.starts_with("did you mean disk? there are ")),
            "{error}"
        );
    };
    nearest("without a daemon");
    let daemon = s.daemon(&[]);
    nearest("with one");
    daemon.stop();
    assert_eq!(s.run(&["health", "--check", "disc", "--format", "nagios"]).code, Some(3));
}

#[test]
fn a_daemon_that_was_stopped_in_its_tracks_is_found_by_a_request_with_a_deadline() {
    let s = Scratch::new();
    let daemon = s.daemon(&[]);
    let pid = rustix::process::Pid::from_raw(daemon.pid().cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("a signal");
    let begun = Instant::now();
    let ran = s.json(&["health", "--check", "daemon", "--check", "disk"]);
    let took = begun.elapsed();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("a signal");
    let checks = &ran.report()["data"]["checks"];
    assert_eq!(
        (checks[0]["state"].as_str(), checks[1]["state"].as_str()),
        (Some("critical"), Some("ok")),
        "{}",
        ran.stdout
    );
    assert!(checks[0]["reason"].as_str().is_some_and(|r| r.contains("does not answer")), "{checks}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    wait_for("the daemon's answer", || (s.json(&["health", "--check", "daemon"]).code == Some(0)).then_some(()));
    daemon.stop();
}

#[test]
fn what_hangs_delays_nothing_else() {
    let s = Scratch::new();
    let (silent, hung) =
        (TcpListener::bind("127.0.0.1:0").expect("a port"), program(&s, "hung", "sleep 600 & sleep 600"));
    let quick = program(&s, "quick", "echo quick");
    let config = config(
        &s,
        &format!(
            "[health]\nevery = \"1s\"\n[[health.commands]]\nname = \"hung\"\nargv = [\"{}\"]\ntimeout = \"4s\"\n\
         [[health.commands]]\nname = \"quick\"\nargv = [\"{}\"]\n\
         [[health.endpoints]]\nname = \"silent\"\nurl = \"tcp://{}\"\nexpect = \"hello\"\ntimeout = \"4s\"\n",
            hung.display(),
            quick.display(),
            silent.local_addr().expect("an address")
        ),
    );
    let daemon = s.daemon(&["--config", &config]);
    let rows = || s.json(&["status"]).report()["data"]["health"]["checks"].clone();
    let row = |name: &str| rows().as_array().and_then(|all| all.iter().find(|r| r["name"] == name).cloned());
    // The neighbours of the hung command are looked at again and again while it hangs.
    wait_for("several looks of the quick command", || row("command:quick"));
    let first = row("command:quick").expect("there")["checked_at"].clone();
    wait_for("another one", || row("command:quick").filter(|r| r["checked_at"] != first));
    assert_eq!(row("command:hung"), None, "it still hangs");
    assert_eq!(row("disk").expect("there")["state"], "ok");
    let cut = wait_for("the hung command's end", || row("command:hung"));
    assert_eq!((cut["state"].as_str(), cut["reason"].as_str()), (Some("unknown"), Some("no end within 4s")), "{cut}");
    let silent = wait_for("the silent endpoint's end", || row("endpoint:silent"));
    assert_eq!(silent["state"], "critical", "{silent}");
    assert!(silent["reason"].as_str().is_some_and(|r| r.contains("no answer within 4s")), "{silent}");
    daemon.stop();
    let sleepers = || {
        std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&words).contains(&hung.display().to_string())
            })
            .count()
    };
    if Path::new("/proc/self").exists() {
        wait_for("the whole process group to be gone", || (sleepers() == 0).then_some(()));
    }
}

/// Answers every connection with these bytes; a web server hears the request first.
fn server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            if answer.starts_with(b"HTTP") {
                let _ = stream.read(&mut [0; 4096]);
            }
            let _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn endpoints_are_up_only_when_they_say_what_they_should() {
    let s = Scratch::new();
    let imap = server(b"* OK [CAPABILITY IMAP4rev1] ready\r\n");
    let good = server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nalive");
    let moved = server(
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").to_string()
    };
    let mut text = String::new();
    let entries = [
        ("bridge", format!("tcp://{imap}"), "", 0, "ok"),
        ("imap", format!("tcp://{imap}"), "* OK", 0, "ok"),
        ("smtp", format!("tcp://{imap}"), "220 ", 0, "critical"),
        ("closed", format!("tcp://{closed}"), "", 0, "critical"),
        ("web", format!("http://{good}/"), "alive", 0, "ok"),
        ("other", format!("http://{good}/?token=hush"), "dead", 0, "critical"),
        ("moved", format!("http://{moved}/"), "", 0, "critical"),
        ("moved-right", format!("http://{moved}/"), "", 302, "ok"),
        ("nowhere", format!("http://user:hush@{closed}/"), "", 0, "critical"),
    ];
    for (name, url, expect, status, _) in &entries {
        text.push_str(&format!(
            "[[health.endpoints]]\nname = \"{name}\"\nurl = \"{url}\"\nexpect = \"{expect}\"\nstatus = {status}\ntimeout = \"3s\"\n"
        ));
    }
    let config = config(&s, &text);
    let ran = moon(&s, &config, &["health", "--json"]);
    assert!(!ran.stdout.contains("hush"), "an address may hold a password: {}", ran.stdout);
    let report = ran.report();
    for (name, _, _, _, state) in &entries {
        let row = report["data"]["checks"]
            .as_array()
            .and_then(|all| all.iter().find(|r| r["name"] == format!("endpoint:{name}")));
        let row = row.expect("there");
        assert_eq!(row["state"], *state, "{name}: {row}");
    }
}

#[test]
fn real_plugins_are_read_and_a_real_plugin_wrapper_reads_moon() {
    let s = Scratch::new();
    let plugin = |name: &str| {
        support::debian_peers().map(|root| root.join("usr/lib/nagios/plugins").join(name)).filter(|p| p.exists())
    };
    let (Some(dummy), Some(negate), Some(file_age)) = (plugin("check_dummy"), plugin("negate"), plugin("check_procs"))
    else {
        return support::skip(
            "real_plugins_are_read",
            "monitoring-plugins-basic is not in target/peers/debian (tests/run unpacks it)",
        );
    };
    let config = config(
        &s,
        &format!(
            "[[health.commands]]\nname = \"dummy\"\nargv = [\"{0}\", \"1\", \"so so\"]\n\
         [[health.commands]]\nname = \"procs\"\nargv = [\"{1}\", \"-w\", \"1:\", \"-c\", \"1:99999\"]\n",
            dummy.display(),
            file_age.display()
        ),
    );
    let row = look(&s, &config, "command:dummy");
    assert_eq!((row["state"].as_str(), row["reason"].as_str()), (Some("warning"), Some("WARNING: so so")), "{row}");
    let row = look(&s, &config, "command:procs");
    assert_eq!(row["state"], "ok", "{row}");
    assert!(row["figures"]["procs"]["value"].as_f64().is_some_and(|n| n > 1.0), "{row}");
    // `negate` runs a plugin and turns its state round: it must understand the code, and finds the word in the text.
    let mut moon = s.moon(&["--config", &config]);
    moon.args(["health", "--format", "nagios", "--check", "command:dummy"]);
    let mut wrapped = std::process::Command::new(negate);
    wrapped.args(["-s", "-w", "CRITICAL"]).arg(moon.get_program()).args(moon.get_args());
    wrapped.env("HOME", s.path().join("user")).env("LD_LIBRARY_PATH", "");
    let ran = Ran::of(&mut wrapped);
    assert_eq!(ran.code, Some(2), "{} {}", ran.stdout, ran.stderr);
    assert!(ran.stdout.starts_with("MOON CRITICAL - command:dummy: "), "the word was replaced: {}", ran.stdout);
}

#[test]
fn errors_in_the_last_lines_of_a_log_are_counted_and_those_before_are_not() {
    let s = Scratch::new();
    let log = s.path().join("email_20260101.log");
    let newer = s.path().join("email_20260102.log");
    let config =
        config(&s, &format!("[[health.logs]]\nname = \"email\"\npath = \"{}/email_*.log\"\n", s.path().display()));
    assert_eq!(look(&s, &config, "log:email")["state"], "unknown", "there is none yet");
    std::fs::write(&log, "ERROR: old\n".repeat(50)).expect("written");
    std::thread::sleep(Duration::from_millis(20));
    let lines = |errors: usize| "Error: could not send\n".repeat(errors) + &"sent\n".repeat(100 - errors);
    std::fs::write(&newer, "ERROR\n".repeat(30) + &lines(5)).expect("written");
    let row = look(&s, &config, "log:email");
    assert_eq!((row["state"].as_str(), row["figures"]["errors"]["value"].as_f64()), (Some("ok"), Some(5.0)), "{row}");
    std::fs::write(&newer, lines(6)).expect("written");
    assert_eq!(look(&s, &config, "log:email")["state"], "warning");
}

#[test]
fn disk_logs_heartbeat_and_backup_follow_their_limits() {
    let s = Scratch::new();
    let daemon = s.daemon(&[]);
    daemon.stop();
    let state = |sets: &[&str], check: &str| {
        let mut command = s.moon(&[]);
        for set in sets {
            command.args(["--set", set]);
        }
        let ran = Ran::of(command.args(["health", "--json", "--check", check]));
        ran.report()["data"]["checks"][0].clone()
    };
    let disk = |low: &str, critical: &str| {
        let sets = [format!("health.disk_low_gib={low}"), format!("health.disk_critical_gib={critical}")];
        let sets: Vec<&str> = sets
            .iter()
            .map(String::as_str)
            .chain(["health.disk_low_percent=0", "health.disk_critical_percent=0"])
            .collect();
        state(&sets, "disk")["state"].clone()
    };
    assert_eq!(
        (disk("0", "0"), disk("9999999", "0"), disk("9999999", "9999999")),
        ("ok".into(), "warning".into(), "critical".into())
    );
    let percent = state(&["health.disk_low_percent=100", "health.disk_critical_percent=100"], "disk");
    assert_eq!(percent["state"], "critical", "no disk is wholly free: {percent}");

    let large = s.in_home("logs/large.log");
    std::fs::File::create(&large).and_then(|f| f.set_len(2 << 20)).expect("a sparse file");
    assert_eq!(state(&["health.log_mib=2"], "logs")["state"], "ok");
    let logs = state(&["health.log_mib=1"], "logs");
    assert_eq!(logs["state"], "warning", "{logs}");
    assert!(logs["reason"].as_str().is_some_and(|r| r.contains("large.log")), "{logs}");

    // Thirty seconds is the interval: the daemon ended just now, and a minute later that shows.
    assert_eq!(state(&[], "heartbeat")["state"], "ok");
    let file = s.in_home("state/moon_state.json");
    let mut beat: Value = serde_json::from_slice(&std::fs::read(&file).expect("there")).expect("JSON");
    beat["last_heartbeat_epoch_secs"] = (chrono::Utc::now().timestamp() - 61).into();
    std::fs::write(&file, beat.to_string()).expect("written");
    assert_eq!(state(&[], "heartbeat")["state"], "warning");

    assert_eq!(state(&[], "backup")["state"], "warning", "never is a warning");
    assert_eq!(state(&["backup.at="], "backup")["state"], "ok", "nobody wants one");
    let kept = |id: &str, hours: Option<i64>| {
        let made = chrono::Utc::now() - chrono::TimeDelta::hours(hours.unwrap_or(0));
        // Proved just now: what counts is how old the content is.
        let proved = hours.map(|_| chrono::Utc::now().to_rfc3339());
        let text = serde_json::json!({
            "id": id, "file": format!("{id}.tar.zst"), "created_at": made.to_rfc3339(), "verified_at": proved, "bytes": 3,
            "sha256": "0".repeat(64), "encrypted": false, "members": 1, "content_bytes": 1,
        });
        std::fs::create_dir_all(s.in_home("backups/moon")).expect("a folder");
        std::fs::write(s.in_home(&format!("backups/moon/{id}.json")), text.to_string()).expect("written");
        std::fs::write(s.in_home(&format!("backups/moon/{id}.tar.zst")), "abc").expect("written");
    };
    kept("20260103_020000", None);
    assert!(state(&[], "backup")["reason"].as_str().is_some_and(|r| r.contains("ever verified")));
    for (hours, expected) in [(51, "critical"), (27, "warning"), (25, "ok")] {
        kept("20260102_020000", Some(hours));
        assert_eq!(state(&[], "backup")["state"], expected, "{hours} h");
    }
    // A note beside nothing is no backup.
    std::fs::remove_file(s.in_home("backups/moon/20260102_020000.tar.zst")).expect("removed");
    assert_eq!(state(&[], "backup")["state"], "warning");
}

#[test]
fn a_damaged_backup_is_named_with_what_is_wrong_until_there_is_a_good_one() {
    let s = Scratch::new();
    s.transcript("one").begin().exchange(1, 50);
    s.run(&["watch", "--once"]).expect(0);
    let check = || s.json(&["health", "--check", "backup"]).report()["data"]["checks"][0].clone();
    let reason = || check()["reason"].as_str().unwrap_or_default().to_owned();
    assert_eq!(reason(), "there is no backup yet");
    let made = s.json(&["backup"]).expect(0).report()["data"]["backup"].clone();
    assert_eq!(check()["state"], "ok");
    let file = std::path::PathBuf::from(made["path"].as_str().expect("a path"));
    let mut bytes = std::fs::read(&file).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&file, &bytes).expect("damaged");
    assert_eq!(check()["state"], "ok", "nobody has looked into it since");
    s.run(&["backup", "verify"]).expect(2);
    assert_eq!(check()["state"], "critical", "there is no other one");
    let named = format!("the newest one, {}, is damaged (", file.display());
    assert!(reason().starts_with(&named) && reason().ends_with("no other one is verified"), "{}", reason());
    assert!(s.run(&["backup", "list"]).expect(0).stdout.contains("damaged"));
    std::fs::write(&file, &bytes[..middle]).expect("cut");
    assert!(reason().contains(&format!("the file has {middle} bytes, {} were written", bytes.len())), "{}", reason());
    s.run(&["backup"]).expect(0);
    assert_eq!(check()["state"], "ok");
}

#[test]
fn four_kills_within_an_hour_are_a_restart_loop_told_once_and_orderly_stops_are_none() {
    let s = Scratch::new();
    for _ in 0..5 {
        s.daemon(&["--set", "health.every=1h"]).stop();
    }
    let empty = config(&s, "");
    let restarts = || look(&s, &empty, "restarts");
    assert_eq!(restarts()["figures"]["crashes"]["value"], 0.0, "stopped on purpose, five times");
    for _ in 0..4 {
        s.daemon(&["--set", "health.every=1h"]).kill();
    }
    // The fourth one is seen as a crash when the next life begins.
    let daemon = s.daemon(&["--set", "health.every=1s"]);
    wait_for("the alert", || {
        (count(&s.home(), "SELECT count(*) FROM alerts WHERE rule = 'restart_loop'") > 0).then_some(())
    });
    wait_for("some more looks", || {
        let row = s.json(&["health", "--check", "restarts", "--now"]).report()["data"]["checks"][0].clone();
        (row["state"] == "warning").then_some(())
    });
    assert_eq!(count(&s.home(), "SELECT count(*) FROM alerts WHERE rule = 'restart_loop'"), 1, "once");
    daemon.stop();
    assert_eq!(restarts()["figures"]["crashes"]["value"], 4.0);
}
