//! From outside, as cron calls it: a dead daemon is noticed and brought back, a stopped one is left in peace, and what a living
//! daemon does by itself is never done twice.

mod support;

use moon::daemon::lock::HomeLock;
use moon::home::Home;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use support::process::{Ran, Scratch, count, wait_for};

/// Ends whatever daemon a test has left.
struct End<'a>(&'a Scratch);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let _ = Ran::of(&mut self.0.moon(&["stop", "--force", "--within", "1s"]));
    }
}

/// A home whose settings watch the scratch's transcripts, also for a command that cron calls.
fn settled(more: &str) -> Scratch {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.home()).expect("a home");
    let folder = scratch.transcripts();
    let text = format!("[watch]\nhost = \"transcripts\"\ntranscripts_dir = {folder:?}\n{more}");
    std::fs::write(scratch.in_home("moon.toml"), text).expect("written");
    scratch.transcript("work").begin().exchange(0, 20);
    scratch
}

fn pid(scratch: &Scratch) -> Option<u64> {
    scratch.json(&["ctl", "status"]).report()["data"]["daemon"]["pid"].as_u64()
}

/// Returns when the home is free, which is what "dead" means.
fn kill(scratch: &Scratch, pid: u64) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("small")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a daemon of this test");
    let home = Home::at(scratch.home());
    wait_for("its end", || HomeLock::holder(&home).is_none().then_some(()));
}

/// A program of the machine's, played.
fn program(scratch: &Scratch, name: &str, script: &str) {
    let bin = scratch.path().join("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    std::fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join(name), mode).expect("a program");
}

/// The lines that would stand in the crontab, without their times and with their redirection, as cron gives them to its shell.
fn lines(scratch: &Scratch) -> Vec<String> {
    program(scratch, "crontab", "echo no crontab for ada >&2\nexit 1");
    let bin = scratch.path().join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("set"));
    let printed = Ran::of(scratch.moon(&["service", "cron", "--dry-run"]).env("PATH", path)).expect(0).stdout;
    let commands = printed.lines().filter(|line| !line.starts_with('#'));
    commands.map(|line| line.splitn(6, ' ').nth(5).expect("times and a command").replace("\\%", "%")).collect()
}

/// Runs a line with what cron has in its environment.
fn as_cron(scratch: &Scratch, line: &str) -> Ran {
    let mut shell = Command::new("/bin/sh");
    let path = format!("{}:/usr/bin:/bin", scratch.path().join("bin").display());
    shell.args(["-c", line]).env_clear().env("PATH", path).env("HOME", scratch.path().join("user"));
    Ran::of(shell.env("LOGNAME", "ada").current_dir(scratch.path().join("user")))
}

/// The newest alert of a dead daemon.
fn told(scratch: &Scratch) -> Value {
    let history = scratch.json(&["alerts", "history"]).expect(0).report();
    let alerts = history["data"]["alerts"].as_array().expect("alerts").clone();
    alerts.into_iter().find(|alert| alert["key"]["rule"] == "daemon_critical").unwrap_or_default()
}

fn cron_log(scratch: &Scratch) -> String {
    std::fs::read_to_string(scratch.in_home("logs/cron.log")).unwrap_or_default()
}

fn weekly(scratch: &Scratch) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(scratch.in_home("logs")).expect("listable").flatten();
    entries.map(|entry| entry.path()).filter(|path| path.display().to_string().contains("weekly_health_")).collect()
}

#[test]
fn a_dead_daemon_is_told_of_and_started_again_and_a_stopped_one_is_left_in_peace() {
    let scratch = settled("");
    // Where none ever ran, none is started.
    let health = lines(&scratch).into_iter().find(|line| line.contains(" health ")).expect("a line");
    as_cron(&scratch, &health);
    assert_eq!(pid(&scratch), None);

    scratch.json(&["start"]).expect(0);
    let _guard = End(&scratch);
    let first = pid(&scratch).expect("it runs");
    assert_eq!(as_cron(&scratch, &health).signal, None);
    assert_eq!(pid(&scratch), Some(first), "a living one is left alone");
    kill(&scratch, first);
    as_cron(&scratch, &health);
    let second = pid(&scratch).expect("it runs again");
    assert_ne!(second, first);
    let log = cron_log(&scratch);
    assert!(log.contains("the daemon is dead: it ended without a word; it was started again"), "{log}");
    // It was told, and the new life ended that.
    assert_eq!(told(&scratch)["state"], "resolved", "{}", told(&scratch));

    scratch.run(&["stop"]).expect(0);
    as_cron(&scratch, &health);
    assert_eq!(pid(&scratch), None, "somebody wanted it to stop");
    // Killed after it was told to stop is stopped, too.
    scratch.json(&["start"]).expect(0);
    kill(&scratch, pid(&scratch).expect("it runs"));
    scratch.run(&["stop"]).expect(0);
    as_cron(&scratch, &health);
    assert_eq!(pid(&scratch), None);
}

#[test]
fn a_running_daemon_is_seen_and_stopped_whatever_the_settings_say_by_now() {
    let scratch = settled("");
    scratch.json(&["start"]).expect(0);
    let _guard = End(&scratch);
    let running = pid(&scratch).expect("it runs");
    std::fs::write(scratch.in_home("moon.toml"), "[watc]\n").expect("written");
    let seen = Ran::of(&mut scratch.moon(&["status", "--json"]));
    assert_eq!(seen.report()["data"]["daemon"]["pid"].as_u64(), Some(running), "{seen:?}");
    assert_eq!(seen.stderr.matches("the settings are wrong").count(), 1, "{seen:?}");
    assert_eq!(scratch.run(&["restart"]).code, Some(64), "it could not start again");
    assert_eq!(pid(&scratch), Some(running));
    scratch.run(&["stop"]).expect(0);
    assert_eq!(pid(&scratch), None);
}

#[test]
fn a_daemon_that_hangs_is_told_of_once_and_left_alone_and_its_answer_ends_that() {
    let scratch = settled("");
    let health = lines(&scratch).into_iter().find(|line| line.contains(" health ")).expect("a line");
    scratch.json(&["start"]).expect(0);
    let _guard = End(&scratch);
    let hung = pid(&scratch).expect("it runs");
    let signal = |signal| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(hung).expect("small")).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("a daemon of this test");
    };
    signal(rustix::process::Signal::STOP);
    as_cron(&scratch, &health);
    signal(rustix::process::Signal::CONT);
    let alert = told(&scratch);
    assert_eq!((alert["state"].as_str(), alert["severity"].as_str()), (Some("firing"), Some("critical")), "{alert}");
    assert!(cron_log(&scratch).contains("the moon daemon does not answer; people were told"), "{}", cron_log(&scratch));
    as_cron(&scratch, &health);
    assert_eq!(
        (told(&scratch)["id"].clone(), told(&scratch)["state"].as_str()),
        (alert["id"].clone(), Some("resolved"))
    );
    assert_eq!(pid(&scratch), Some(hung));
    let log = std::fs::read_to_string(scratch.in_home("logs/alerts.log")).expect("written");
    assert_eq!(log.matches("[CRITICAL] Daemon Critical Failure").count(), 1, "{log}");
}

#[test]
fn a_service_that_its_manager_has_given_up_is_told_of_and_left_to_it() {
    let scratch = settled("");
    let health = lines(&scratch).into_iter().find(|line| line.contains(" health ")).expect("a line");
    scratch.json(&["start"]).expect(0);
    let _guard = End(&scratch);
    kill(&scratch, pid(&scratch).expect("it runs"));
    let units = scratch.path().join("user/.config/systemd/user");
    std::fs::create_dir_all(&units).expect("a folder");
    let unit = format!("[Service]\nExecStart=/opt/moon --home {} watch --daemon\n", scratch.home().display());
    std::fs::write(units.join("moon.service"), unit).expect("written");
    let calls = scratch.path().join("calls");
    program(
        &scratch,
        "systemctl",
        &format!(
            "echo \"$*\" >> '{}'\necho LoadState=loaded\necho ActiveState=failed\necho Result=start-limit-hit",
            calls.display()
        ),
    );
    as_cron(&scratch, &health);
    assert_eq!(pid(&scratch), None, "{}", cron_log(&scratch));
    let calls = std::fs::read_to_string(calls).expect("it was asked");
    assert!(calls.contains(" show ") && !calls.contains(" start "), "{calls}");
    let told = told(&scratch);
    assert_eq!(told["state"], "firing", "{told}");
    assert!(told["message"].as_str().is_some_and(|m| m.contains("its service manager has not started it again")));
}

#[test]
fn beside_a_living_daemon_the_crontab_doubles_nothing_and_without_one_it_does_the_work() {
    let scratch = settled("[dashboard]\nhtml_file = \"logs/dashboard.html\"\n");
    scratch.json(&["start"]).expect(0);
    let _guard = End(&scratch);
    wait_for("the archive", || (count(&scratch.home(), "SELECT COUNT(*) FROM segments") > 0).then_some(()));
    let all = lines(&scratch);
    assert_eq!(all.len(), 5);
    let chores = "SELECT COUNT(*) FROM chores WHERE attempts > 0";
    let before = count(&scratch.home(), chores);
    for line in all.iter().filter(|line| !line.contains(" health ")) {
        assert_eq!(as_cron(&scratch, line).code, Some(0), "{line}: {}", cron_log(&scratch));
    }
    let log = cron_log(&scratch);
    for key in ["rotation.at", "backup.at", "dashboard.html_file", "dashboard.report_at"] {
        assert!(log.contains(&format!("does it by itself: {key} = ")), "{key}: {log}");
    }
    assert_eq!(count(&scratch.home(), chores), before);
    assert_eq!((weekly(&scratch), count(&scratch.home(), "SELECT COUNT(*) FROM backups")), (vec![], 0));

    // A time that the daemon does not keep is cron's.
    let words = ["--set", "backup.at=", "backup", "--unless-scheduled", "--json"];
    assert!(scratch.run(&words).expect(0).report()["data"]["backup"]["id"].is_string());
    scratch.run(&["stop"]).expect(0);
    for line in all.iter().filter(|line| !line.contains(" health ")) {
        assert_eq!(as_cron(&scratch, line).code, Some(0), "{line}: {}", cron_log(&scratch));
    }
    assert_eq!(count(&scratch.home(), "SELECT COUNT(*) FROM backups"), 2);
    assert!(scratch.in_home("logs/dashboard.html").exists());
    // The report as the daemon writes it: text and figures, and not a word of cron's in it.
    let written = weekly(&scratch);
    assert_eq!(written.len(), 2, "{written:?}");
    let text = written.iter().find(|path| path.extension().is_some_and(|e| e == "log")).expect("the text");
    assert!(!std::fs::read_to_string(text).expect("readable").contains("written to"));
    // When the daemon comes back it knows what was done meanwhile.
    let done = "SELECT COUNT(*) FROM chores WHERE task IN ('backup', 'rotation', 'report') AND attempts > 0";
    assert_eq!(count(&scratch.home(), done), 3);
}
