//! `moon alerts` of the built program, with a daemon and without: what it prints, what it leaves, how it ends.

use crate::support::process::{Daemon, Scratch, wait_for};
use moon::daemon::lock::HomeLock;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn log(scratch: &Scratch) -> Vec<String> {
    let text = std::fs::read_to_string(scratch.in_home("logs/alerts.log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The line without its time, and whether that has the document's shape.
fn said(line: &str) -> String {
    let (at, rest) = line.strip_prefix('[').and_then(|line| line.split_once("] ")).expect("a time in brackets");
    chrono::NaiveDateTime::parse_from_str(at, "%Y-%m-%d %H:%M:%S").expect("the document's time");
    rest.to_owned()
}

fn data(scratch: &Scratch, words: &[&str], code: i32) -> Value {
    let ran = scratch.json(words).expect(code);
    ran.report()["data"].clone()
}

#[test]
fn an_alert_of_a_script_is_raised_known_silenced_and_over_without_a_daemon() {
    let scratch = Scratch::new();
    scratch.run(&["alerts", "list"]).expect(1);
    let raised = scratch.run(&["alerts", "raise", "daemon_critical", "--message", "Process not running"]).expect(0);
    assert_eq!((raised.stdout.as_str(), raised.stderr.as_str()), ("alert 1 fires: Process not running\n", ""));
    assert_eq!(
        log(&scratch).iter().map(|line| said(line)).collect::<Vec<_>>(),
        ["[CRITICAL] Daemon Critical Failure - Process not running"]
    );
    let listed = data(&scratch, &["alerts", "list"], 2);
    let alert = &listed["alerts"][0];
    assert_eq!(
        json!([alert["id"], alert["severity"], alert["state"], alert["title"], alert["acknowledged"]]),
        json!([1, "critical", "firing", "Daemon Critical Failure", null])
    );
    assert_eq!(listed["routes"][0]["name"], "log");
    data(&scratch, &["alerts", "ack", "1", "--by", "ann", "--note", "on it"], 0);
    let shown = data(&scratch, &["alerts", "show", "1"], 0);
    assert_eq!(
        json!([shown["alert"]["acknowledged"]["by"], shown["alert"]["acknowledged"]["note"]]),
        json!(["ann", "on it"])
    );
    assert_eq!(shown["deliveries"][0]["fate"], "sent");

    data(&scratch, &["alerts", "silence", "disk_*", "--for", "2h", "--reason", "moving", "--by", "ann"], 0);
    scratch.run(&["alerts", "raise", "disk_low", "--message", "4 GB left"]).expect(0);
    assert_eq!(said(&log(&scratch)[1]), "[WARNING] Disk Space Low - 4 GB left (suppressed - silenced)");
    let text = scratch.run(&["alerts", "list"]).expect(2).stdout;
    assert!(text.contains("suppressed (silenced)") && text.contains("2 alerts firing"), "{text}");
    assert_eq!(data(&scratch, &["alerts", "silences"], 0)["silences"][0]["reason"], "moving");
    data(&scratch, &["alerts", "unsilence", "1"], 0);
    scratch.run(&["alerts", "unsilence", "1"]).expect(1);
    assert_eq!(data(&scratch, &["alerts", "silences"], 0)["silences"], json!([]));

    data(&scratch, &["alerts", "resolve", "daemon_critical"], 0);
    scratch.run(&["alerts", "ack", "1"]).expect(1);
    assert_eq!(said(log(&scratch).last().expect("lines")), "[RESOLVED] Daemon Critical Failure - Process not running");
    // Again within the cooldown, and it survives that each command is a process of its own.
    scratch.run(&["alerts", "raise", "daemon_critical", "--message", "Process not running"]).expect(0);
    let again = "[CRITICAL] Daemon Critical Failure - Process not running (suppressed - cooldown active)";
    assert_eq!(said(log(&scratch).last().expect("lines")), again);
    let history = data(&scratch, &["alerts", "history", "-n", "2"], 0);
    let states: Vec<&str> =
        history["alerts"].as_array().expect("rows").iter().filter_map(|a| a["state"].as_str()).collect();
    assert_eq!(states, ["firing", "firing"]);
    let mode = std::fs::metadata(scratch.in_home("logs/alerts.log")).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn what_cannot_be_done_says_so_and_changes_nothing() {
    let scratch = Scratch::new();
    scratch.run(&["alerts", "raise", "disk_low", "--message", "m"]).expect(0);
    scratch.run(&["alerts", "raise", "a b", "--message", "m"]).expect(64);
    scratch.run(&["alerts", "raise", "x", "--message", "m", "--severity", "loud"]).expect(64);
    scratch.run(&["alerts", "show", "99"]).expect(1);
    scratch.run(&["alerts", "silence", "*", "--for", "0s"]).expect(64);
    scratch.run(&["alerts", "silence", "*", "--for", "1000y"]).expect(64);
    let ran = scratch.json(&["alerts", "test", "--route", "nobody"]).expect(1);
    assert_eq!(ran.report()["data"]["error"]["code"], "alert.no_route");
    assert_eq!(log(&scratch).len(), 1);
}

#[test]
fn a_test_says_for_each_route_what_happened() {
    let scratch = Scratch::new();
    let tested = data(&scratch, &["alerts", "test"], 0);
    assert_eq!(json!([tested["routes"][0]["route"], tested["routes"][0]["delivered"]]), json!(["log", true]));
    assert!(log(&scratch)[0].contains("[CRITICAL] Test Alert - "), "{:?}", log(&scratch));
    assert!(log(&scratch)[1].contains("[RESOLVED] Test Alert - "), "{:?}", log(&scratch));
    // A route that fails: the log is a folder.
    std::fs::remove_file(scratch.in_home("logs/alerts.log")).expect("removed");
    std::fs::create_dir(scratch.in_home("logs/alerts.log")).expect("a folder in its place");
    let failed = data(&scratch, &["alerts", "test", "--route", "log"], 2);
    assert_eq!(
        json!([failed["routes"][0]["delivered"], failed["routes"][0]["error"]["code"]]),
        json!([false, "alert.log"])
    );
}

/// Settings with a route that takes everything and tells nobody.
fn settings(scratch: &Scratch, alerts: &str, route: &str) -> String {
    let file = scratch.path().join("moon-test.toml");
    let route = format!("[[alerts.routes]]\nname = \"ops\"\nkind = \"command\"\nargv = [\"true\"]\n{route}\n");
    std::fs::write(&file, format!("[alerts]\n{alerts}\n{route}")).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode");
    file.display().to_string()
}

#[test]
fn a_test_says_which_route_does_not_want_its_severity() {
    let scratch = Scratch::new();
    let file = settings(&scratch, "", "min_severity = \"warning\"");
    let test = |words: &[&str], code| {
        let words: Vec<&str> = ["--config", &file, "alerts", "test"].iter().chain(words).copied().collect();
        (scratch.run(&words).expect(code).stdout, data(&scratch, &words, code)["routes"].clone())
    };
    let (text, routes) = test(&["--severity", "info"], 0);
    assert!(
        text.contains("ops: not sent: the route wants warning and above\n") && text.contains("log: delivered"),
        "{text}"
    );
    assert_eq!(
        json!([routes[1]["route"], routes[1]["delivered"], routes[1]["wanted"], routes[1]["min_severity"]]),
        json!(["ops", false, false, "warning"])
    );
    let (text, _) = test(&["--severity", "info", "--route", "ops"], 2);
    assert!(text.contains("nothing was sent by ops: the route wants warning and above"), "{text}");
    let (_, routes) = test(&["--severity", "warning", "--route", "ops"], 0);
    assert_eq!(json!([routes[0]["delivered"], routes[0]["wanted"]]), json!([true, true]));
    test(&["--route", "ops"], 0);
}

#[test]
fn what_waits_for_a_digest_is_said_to_be_held_until_that_is_sent() {
    let scratch = Scratch::new();
    let file = settings(&scratch, "per_hour = 1", "min_severity = \"info\"");
    for subject in ["a", "b"] {
        scratch
            .run(&["--config", &file, "alerts", "raise", "disk_low", "--subject", subject, "--message", "m"])
            .expect(0);
    }
    let shown = data(&scratch, &["alerts", "show", "2"], 0)["deliveries"][1].clone();
    assert_eq!(json!([shown["route"], shown["fate"], shown["is_held"]]), json!(["ops", "digested", true]));
    let due: chrono::DateTime<chrono::Utc> =
        shown["held_until"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    let wait = (due - chrono::Utc::now()).num_seconds();
    assert!((0..=60).contains(&wait), "it gathers for a minute: {shown}");
    let at = due.with_timezone(&chrono::Local).format("%H:%M").to_string();
    let text = scratch.run(&["alerts", "show", "2"]).expect(0).stdout;
    assert!(text.contains(&format!("firing by ops: held for the digest at {at} (hourly limit reached)")), "{text}");
    let text = scratch.run(&["alerts", "list"]).expect(2).stdout;
    assert!(text.contains(&format!("1 held for the digest at {at}")), "{text}");
}

#[test]
fn alerts_without_a_verb_lists_what_fires() {
    let scratch = Scratch::new();
    scratch.run(&["alerts", "raise", "disk_low", "--message", "m"]).expect(0);
    let listed = scratch.json(&["alerts"]).expect(2).report();
    assert_eq!(json!([listed["command"], listed["data"]["alerts"][0]["id"]]), json!(["alerts list", 1]));
    scratch.run(&["alerts", "nonsense"]).expect(64);
}

#[test]
fn people_see_what_fires_once_and_programs_have_it_as_an_issue() {
    let scratch = Scratch::new();
    scratch.run(&["alerts", "raise", "disk_low", "--message", "m"]).expect(0);
    let text = scratch.run(&["alerts"]).expect(2).stdout;
    assert_eq!(text.matches("disk_low").count(), 1, "{text}");
    assert!(!text.contains("issue:"), "{text}");
    let listed = scratch.json(&["alerts"]).expect(2).report();
    let issues = listed["issues"].as_array().expect("a list");
    assert_eq!((&listed["ok"], issues.len()), (&json!(false), 1), "{listed}");
    assert_eq!(issues[0]["message"], "alert 1 fires: disk_low of moon");
}

#[test]
fn what_a_silence_holds_back_is_told_as_silenced_and_not_as_waiting() {
    let scratch = Scratch::new();
    let file = settings(&scratch, "", "min_severity = \"info\"");
    let run = |words: &[&str], code| scratch.run(&[&["--config", &file], words].concat()).expect(code).stdout;
    run(&["alerts", "silence", "disk_*", "--for", "2h"], 0);
    run(&["alerts", "raise", "disk_low", "--message", "m"], 0);
    let text = run(&["alerts"], 2);
    assert!(text.contains("route ops: nothing sent yet, 1 silenced\n"), "{text}");
    let listed = data(&scratch, &["--config", &file, "alerts"], 2);
    assert_eq!(json!([listed["routes"][1]["owed"], listed["routes"][1]["silenced"]]), json!([0, 1]));
    let text = run(&["alerts", "show", "1"], 0);
    assert!(text.contains("firing by ops: silenced\n"), "{text}");
    assert_eq!(data(&scratch, &["alerts", "show", "1"], 0)["deliveries"][1]["is_silenced"], true);
    let health = scratch.run(&["--config", &file, "health", "--check", "alerts"]).expect(0).stdout;
    assert!(health.contains("2 routes, 0 waiting, 1 silenced"), "{health}");
    run(&["alerts", "unsilence", "1"], 0);
    let listed = data(&scratch, &["--config", &file, "alerts"], 2);
    assert_eq!(json!([listed["routes"][1]["owed"], listed["routes"][1]["silenced"]]), json!([0, 0]), "it was told");
}

#[test]
fn a_daemon_is_asked_and_what_it_was_told_outlives_it() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon(&[]);
    data(&scratch, &["alerts", "raise", "nightly.sync_failed", "--message", "no route to host", "--hint", "look"], 0);
    wait_for("the line", || {
        log(&scratch).first().map(|line| said(line)).filter(|l| l == "[WARNING] Nightly Sync Failed - no route to host")
    });
    let status = scratch.json(&["status"]).expect(2).report();
    let alert = &status["data"]["alerts"][0];
    assert_eq!(
        json!([alert["key"]["rule"], alert["state"], alert["hint"]]),
        json!(["nightly.sync_failed", "firing", "look"])
    );
    data(&scratch, &["alerts", "ack", "1", "--by", "ann"], 0);
    data(&scratch, &["alerts", "test"], 0);
    daemon.kill();
    assert_eq!(data(&scratch, &["alerts", "list"], 2)["alerts"][0]["acknowledged"]["by"], "ann");
    let daemon = scratch.daemon(&[]);
    data(&scratch, &["alerts", "resolve", "nightly.sync_failed"], 0);
    wait_for("its end", || log(&scratch).iter().any(|line| line.contains("[RESOLVED] Nightly")).then_some(()));
    daemon.stop();
    assert_eq!(log(&scratch).iter().filter(|line| line.contains("Nightly")).count(), 2, "{:?}", log(&scratch));
}

/// A process that was stopped in its tracks. It goes on when this ends, also when a test fails.
struct Stopped(rustix::process::Pid);

impl Stopped {
    /// Not in the middle of a transaction, nor of a delivery.
    fn stop(scratch: &Scratch, pid: u32) -> Self {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
        let delivers = || {
            let mut files =
                std::fs::read_dir(scratch.in_home("run")).expect("listable").map(|file| file.expect("a file"));
            let is_turn = |file: &std::fs::DirEntry| file.file_name().to_string_lossy().starts_with("turn-");
            files.any(|file| is_turn(&file) && HomeLock::look_at_turn(&file.path()).is_err())
        };
        wait_for("a moment without a transaction or a delivery", || {
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("a signal");
            let stopped = Self(pid);
            let ledger = rusqlite::Connection::open(scratch.in_home("state/moon.db")).expect("the ledger");
            let is_free = ledger.execute_batch("PRAGMA busy_timeout = 0; BEGIN IMMEDIATE; ROLLBACK").is_ok();
            (is_free && !delivers()).then_some(stopped)
        })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::CONT);
    }
}

#[test]
fn an_alert_beside_a_daemon_that_hangs_keeps_its_severity_and_the_limits_and_is_not_told_again_when_that_wakes() {
    let scratch = Scratch::new();
    let file = settings(&scratch, "per_hour = 1", "min_severity = \"info\"");
    let daemon = scratch.daemon(&["--config", &file]);
    let raise = |subject: &str, more: &[&str]| {
        let words =
            ["--config", &file, "alerts", "raise", "nightly.sync_failed", "--subject", subject, "--message", "m"];
        let ran = scratch.json(&[&words, more].concat()).expect(0);
        assert_eq!(ran.stderr, "", "nothing went wrong");
        ran.report()
    };
    raise("before", &[]);
    wait_for("the line", || (log(&scratch).len() == 1).then_some(()));
    let hung = Stopped::stop(&scratch, daemon.pid());
    // Both at once: each waits for a word of the daemon first.
    let (beside, listed) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| raise("beside", &["--severity", "info"]));
        let listed = scope.spawn(|| scratch.json(&["--config", &file, "alerts"]).expect(2).report());
        (beside.join().expect("raised"), listed.join().expect("listed"))
    });
    assert_eq!(beside["data"]["alert"]["severity"], "info");
    assert!(beside["details"].to_string().contains("does not answer: this was done beside it"), "{beside}");
    assert_eq!(listed["data"]["routes"][0]["name"], "log");
    assert!(listed["details"].to_string().contains("does not answer: this is what the ledger holds"), "{listed}");
    let fates = |id: &str| {
        let shown = data(&scratch, &["--config", &file, "alerts", "show", id], 0)["deliveries"].clone();
        json!([shown[0]["fate"], shown[1]["fate"], shown[1]["why"]])
    };
    drop(hung);
    assert_eq!(fates("2"), json!(["noted", "digested", "hourly limit reached"]));
    // Awake it tells what is raised now, and what was told beside it stays told.
    raise("after", &[]);
    wait_for("its line", || (log(&scratch).len() == 3).then_some(()));
    assert_eq!(data(&scratch, &["--config", &file, "alerts"], 2)["alerts"].as_array().map(Vec::len), Some(3));
    daemon.stop();
    let told: Vec<String> = log(&scratch).iter().map(|line| said(line)).collect();
    let (fires, held) = ("Nightly Sync Failed - m", "(suppressed - hourly limit reached)");
    assert_eq!(
        told,
        [format!("[WARNING] {fires}"), format!("[INFO] {fires} {held}"), format!("[WARNING] {fires} {held}")]
    );
}

#[test]
fn two_who_tell_beside_a_daemon_that_hangs_tell_each_alert_once() {
    let scratch = Scratch::new();
    let (told, script) = (scratch.path().join("told"), scratch.path().join("tell"));
    std::fs::write(&script, format!("#!/bin/sh\nsleep 0.5\necho \"$MOON_ALERT_SUBJECT\" >> '{}'\n", told.display()))
        .expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let route = format!(
        "alerts.routes=[{{ kind = \"command\", name = \"slow\", argv = [{:?}] }}]",
        script.display().to_string()
    );
    let daemon = scratch.daemon(&["--set", &route]);
    let hung = Stopped::stop(&scratch, daemon.pid());
    std::thread::scope(|scope| {
        for subject in ["one", "two"] {
            let words =
                ["--set", &route, "alerts", "raise", "nightly.sync_failed", "--subject", subject, "--message", "m"];
            let scratch = &scratch;
            scope.spawn(move || scratch.run(&words).expect(0));
        }
    });
    let mut lines: Vec<String> = std::fs::read_to_string(&told).expect("told").lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    drop(hung);
    daemon.stop();
}

/// A route that writes down whom it is told of when it begins, and has ended when the file `go` is there.
struct Gated {
    setting: String,
    told: PathBuf,
    go: PathBuf,
}

impl Gated {
    fn new(scratch: &Scratch) -> Self {
        let [told, go, script] = ["told", "go", "tell"].map(|name| scratch.path().join(name));
        let text = format!(
            "#!/bin/sh\necho \"$MOON_ALERT_SUBJECT\" >> '{}'\n\
             n=0; while [ ! -e '{}' ] && [ $n -lt 80 ]; do sleep 0.1; n=$((n + 1)); done\n",
            told.display(),
            go.display()
        );
        std::fs::write(&script, text).expect("a script");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a program");
        let argv = script.display().to_string();
        let setting = format!("alerts.routes=[{{ kind = \"command\", name = \"slow\", argv = [{argv:?}] }}]");
        Self { setting, told, go }
    }
    fn told(&self) -> Vec<String> {
        std::fs::read_to_string(&self.told).unwrap_or_default().lines().map(str::to_owned).collect()
    }
    fn until_under_way(&self) {
        wait_for("a delivery", || (self.told() == ["beside"]).then_some(()));
    }
    fn let_end(&self) {
        std::fs::write(&self.go, "").expect("a file");
    }
    fn raise<'a>(&'a self, subject: &'a str) -> [&'a str; 9] {
        ["--set", &self.setting, "alerts", "raise", "nightly.sync_failed", "--subject", subject, "--message", subject]
    }
    /// Rings all couriers of a daemon that is awake, and waits until they have looked.
    fn ring(&self, scratch: &Scratch) {
        scratch.run(&self.raise("after")).expect(0);
        wait_for("the daemon's look", || log(scratch).iter().any(|line| line.ends_with("after")).then_some(()));
    }
}

#[test]
fn a_daemon_that_wakes_while_somebody_tells_beside_it_does_not_tell_the_same() {
    let scratch = Scratch::new();
    let slow = Gated::new(&scratch);
    let daemon = scratch.daemon(&["--set", &slow.setting]);
    let hung = Stopped::stop(&scratch, daemon.pid());
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| scratch.run(&slow.raise("beside")).expect(0));
        slow.until_under_way();
        drop(hung);
        slow.ring(&scratch);
        slow.let_end();
        assert_eq!(beside.join().expect("raised").stderr, "", "nothing went wrong");
    });
    wait_for("what was raised later", || slow.told().contains(&"after".to_owned()).then_some(()));
    daemon.stop();
    assert_eq!(slow.told(), ["beside", "after"]);
}

#[test]
fn what_was_being_told_beside_a_daemon_that_hangs_is_told_by_that_one_when_the_teller_is_killed() {
    let scratch = Scratch::new();
    let slow = Gated::new(&scratch);
    let daemon = scratch.daemon(&["--set", &slow.setting]);
    let hung = Stopped::stop(&scratch, daemon.pid());
    let beside = Daemon::start(scratch.moon(&slow.raise("beside")), scratch.path().join("beside.said"));
    slow.until_under_way();
    beside.kill();
    drop(hung);
    slow.ring(&scratch);
    slow.let_end();
    wait_for("what was raised later", || slow.told().contains(&"after".to_owned()).then_some(()));
    daemon.stop();
    assert_eq!(slow.told(), ["beside", "beside", "after"], "whether it arrived is not known");
}

#[test]
fn an_alert_is_told_although_the_ledger_cannot_be_used() {
    let scratch = Scratch::new();
    scratch.run(&["alerts", "raise", "disk_low", "--message", "first"]).expect(0);
    std::fs::write(
        scratch.in_home("state/moon.db"),
        "this is no database, and it is long enough to be looked at ".repeat(99),
    )
    .expect("damaged");
    for rest in ["moon.db-wal", "moon.db-shm"] {
        let _ = std::fs::remove_file(scratch.in_home("state").join(rest));
    }
    let ran = scratch.json(&["alerts", "raise", "memory_corrupt", "--message", "the ledger is damaged"]).expect(1);
    let error = ran.report()["data"]["error"].clone();
    assert_eq!(error["code"], "ledger.corrupt", "{ran:?}");
    assert!(error["message"].as_str().is_some_and(|m| m.ends_with("told without the ledger, by log")), "{error}");
    assert_eq!(said(&log(&scratch)[1]), "[CRITICAL] Memory Database Corrupt - the ledger is damaged");
}
