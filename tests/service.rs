//! Moon as a service: the units as real tools read them, their installation, and a daemon that tells its manager the truth.
//!
//! Managers are played by programs in a `PATH` of the test's own, so that no test can touch the machine's; the real systemd has a
//! test of its own (`systemd.rs`). The daemon's notifications arrive at a socket as systemd would hold it.

mod support;

use moon::service::outside::{CHECKS, Check};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::process::{Daemon, Ran, Scratch, log, wait_for};
use support::skip;

/// The example of `deploy/README.md`, without the kind of service.
const EXAMPLE: [&str; 4] = ["--home", "/home/ada/.lilac_metaflora", "--json", "service"];

fn printed(scratch: &Scratch, words: &[&str]) -> Vec<(String, String)> {
    let mut command = scratch.bare();
    let ran = Ran::of(command.env("HOME", "/home/ada").args(EXAMPLE).args(words)).expect(0);
    let units = ran.report()["data"]["units"].as_array().expect("units").clone();
    let text = |unit: &Value, key: &str| unit[key].as_str().expect("text").to_owned();
    units.iter().map(|unit| (text(unit, "path"), text(unit, "text"))).collect()
}

const SYSTEM: [&str; 9] =
    ["print", "systemd", "--system", "--as", "ada", "--user-home", "/home/ada", "--program", "/usr/local/bin/moon"];
const USER: [&str; 4] = ["print", "systemd", "--program", "/usr/local/bin/moon"];
const LAUNCHD: [&str; 4] = ["print", "launchd", "--program", "/usr/local/bin/moon"];

fn timers(words: &[&'static str]) -> Vec<&'static str> {
    [words, &["--timers"]].concat()
}

#[test]
fn the_templates_are_what_the_command_prints() {
    let scratch = Scratch::new();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    for (words, folder, place) in [
        (SYSTEM.to_vec(), "systemd/system", "/etc/systemd/system/"),
        (timers(&SYSTEM), "systemd/system/timers", "/etc/systemd/system/"),
        (USER.to_vec(), "systemd/user", "/home/ada/.config/systemd/user/"),
        (timers(&USER), "systemd/user/timers", "/home/ada/.config/systemd/user/"),
        (LAUNCHD.to_vec(), "launchd", "/home/ada/Library/LaunchAgents/"),
    ] {
        let units = printed(&scratch, &words);
        assert!(!units.is_empty());
        for (path, text) in units {
            let name = path.strip_prefix(place).unwrap_or_else(|| panic!("{path} lies elsewhere"));
            let template = deploy.join(folder).join(name);
            let there = std::fs::read_to_string(&template).unwrap_or_default();
            assert_eq!(there, text, "{}: write it anew from `moon {}`", template.display(), words.join(" "));
        }
    }
}

/// The units in a folder, with a program that is there.
fn written(scratch: &Scratch, words: &[&str]) -> PathBuf {
    let folder = scratch.path().join(format!("units-{}", words.len()));
    std::fs::create_dir(&folder).expect("a folder");
    let program = env!("CARGO_BIN_EXE_moon");
    let words: Vec<&str> = words.iter().map(|w| if *w == "/usr/local/bin/moon" { program } else { w }).collect();
    for (path, text) in printed(scratch, &words) {
        std::fs::write(folder.join(path.rsplit('/').next().expect("a name")), text).expect("written");
    }
    folder
}

fn has(test: &str, program: &str) -> bool {
    let here = Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success());
    if !here {
        skip(test, &format!("{program} is not installed"));
    }
    here
}

#[test]
fn systemd_finds_nothing_wrong_and_little_exposed() {
    if !has("systemd_finds_nothing_wrong_and_little_exposed", "systemd-analyze") {
        return;
    }
    let scratch = Scratch::new();
    for (words, most) in [(SYSTEM.to_vec(), 2.5), (timers(&SYSTEM), 2.5), (USER.to_vec(), 7.0), (timers(&USER), 7.0)] {
        let folder = written(&scratch, &words);
        let units: Vec<PathBuf> =
            std::fs::read_dir(&folder).expect("listable").map(|entry| entry.expect("an entry").path()).collect();
        let mut verify = Command::new("systemd-analyze");
        // It ends with 0 also for a key that it does not know: any word is one too many.
        let said = Ran::of(verify.args(["verify", "--man=no", "--recursive-errors=no"]).args(&units));
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "", ""));
        for unit in units.iter().filter(|unit| unit.extension().is_some_and(|e| e == "service")) {
            let rated =
                Ran::of(Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(unit));
            let line =
                rated.stdout.lines().find(|line| line.contains("Overall exposure")).expect("a rating").to_owned();
            let level: f64 = line.split_whitespace().filter_map(|word| word.parse().ok()).next().expect("a figure");
            assert!(level <= most, "{}: {line}", unit.display());
        }
    }
}

#[test]
fn the_times_of_the_crontab_are_those_of_the_settings_and_systemd_reads_them() {
    const TEST: &str = "the_times_of_the_crontab_are_those_of_the_settings_and_systemd_reads_them";
    let settings = moon_actors::settings::Settings::default();
    assert_eq!(settings.health.every, Duration::from_secs(300));
    // Moon itself looks at the logs every hour, and puts yesterday's aside at the first look of a day: the document's midnight.
    let wanted = ["*/5 * * * *", "0 0 * * *", &settings.backup.at, "* * * * *", &settings.dashboard.report_at];
    assert_eq!(CHECKS.map(|check| check.cron.to_owned()).as_slice(), wanted);
    if !has(TEST, "systemd-analyze") {
        return;
    }
    for Check { cron, calendar, .. } in CHECKS {
        let ran =
            Ran::of(Command::new("systemd-analyze").args(["calendar", "--iterations=1", calendar]).env("TZ", "UTC"))
                .expect(0);
        let next = ran
            .stdout
            .lines()
            .find_map(|line| line.trim().strip_prefix("Next elapse: ").map(str::to_owned))
            .expect("a time");
        let at = chrono::NaiveDateTime::parse_from_str(next.split_once(' ').expect("a day").1, "%Y-%m-%d %H:%M:%S UTC");
        let at = at.unwrap_or_else(|e| panic!("{next}: {e}")).and_utc();
        let cron: croner::Cron = cron.parse().expect("an expression");
        assert_eq!(cron.is_time_matching(&at).ok(), Some(true), "{cron} is not {calendar}: {next}");
    }
}

#[test]
fn python_reads_the_property_list_as_the_document_wants_it() {
    const TEST: &str = "python_reads_the_property_list_as_the_document_wants_it";
    if !has(TEST, "python3") {
        return;
    }
    let scratch = Scratch::new();
    let [(_, text)] = printed(&scratch, &LAUNCHD).try_into().expect("one file");
    let file = scratch.path().join("agent.plist");
    std::fs::write(&file, text).expect("written");
    let program = "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    let read = Ran::of(Command::new("python3").args(["-c", program]).arg(&file)).expect(0).report();
    let wanted = json!({
        "Label": "com.moon.agent",
        "ProgramArguments": ["/usr/local/bin/moon", "--home", "/home/ada/.lilac_metaflora", "watch", "--daemon"],
        "RunAtLoad": true,
        "KeepAlive": { "SuccessfulExit": false, "Crashed": true },
        "ThrottleInterval": 60,
        "Nice": 10,
        "ProcessType": "Background",
        "LowPriorityIO": true,
        "SoftResourceLimits": { "NumberOfFiles": 1024, "Core": 0 },
        "HardResourceLimits": { "NumberOfFiles": 2048, "Core": 0 },
        "TimeOut": 300,
        "ExitTimeOut": 60,
        "Umask": 0o077,
        "WorkingDirectory": "/home/ada/.lilac_metaflora",
        "StandardOutPath": "/home/ada/.lilac_metaflora/logs/launchd_stdout.log",
        "StandardErrorPath": "/home/ada/.lilac_metaflora/logs/launchd_stderr.log",
    });
    assert_eq!(read, wanted);
}

/// A folder of programs that play the machine's, first in the `PATH`; each call is a line in `calls`.
struct Stage {
    scratch: Scratch,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { scratch: Scratch::new() };
        std::fs::create_dir(stage.bin()).expect("a folder");
        stage.says("fails", "");
        stage.program("systemctl", "case \" $* \" in *\" $(cat \"$0.fails\" 2>/dev/null || echo nothing) \"*) echo 'no such luck' >&2; exit 1;; esac\ncase \"$*\" in *\"show moon.service\"*) cat \"$(dirname \"$0\")/../state\" 2>/dev/null || printf 'LoadState=loaded\\nActiveState=inactive\\nSubState=dead\\n';; esac");
        stage.program("launchctl", "case \"$1\" in print) [ \"$2\" = \"${2#*com.moon}\" ] || exit 113;; esac");
        stage.program("loginctl", "");
        stage
    }
    fn bin(&self) -> PathBuf {
        self.scratch.path().join("bin")
    }
    fn program(&self, name: &str, body: &str) {
        let path = self.bin().join(name);
        let text = format!("#!/bin/sh\necho \"{name} $*\" >> \"$(dirname \"$0\")/../calls\"\n{body}\n");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("made a program");
    }
    /// Lets every call of systemctl fail that holds this word.
    fn says(&self, _: &str, word: &str) {
        let file = self.bin().join("systemctl.fails");
        if word.is_empty() { drop(std::fs::remove_file(file)) } else { std::fs::write(file, word).expect("written") }
    }
    fn calls(&self) -> Vec<String> {
        let file = self.scratch.path().join("calls");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(&file);
        text.lines().map(str::to_owned).collect()
    }
    fn run(&self, words: &[&str]) -> Ran {
        Ran::of(self.scratch.moon(words).env("PATH", self.path()))
    }
    fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.bin().display())
    }
    fn unit(&self, name: &str) -> PathBuf {
        self.scratch.path().join("user/.config/systemd/user").join(name)
    }
}

const SYSTEMD: [&str; 2] = ["--manager", "systemd"];

fn service<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["service"], words, &SYSTEMD].concat()
}

#[test]
fn a_service_is_installed_once_kept_apart_from_foreign_files_and_taken_away() {
    let stage = Stage::new();
    let unit = stage.unit("moon.service");
    let planned = stage.run(&service(&["install", "--dry-run"])).expect(0);
    assert!(planned.stdout.contains("would write") && !unit.exists(), "{planned:?}");
    assert_eq!(stage.calls().iter().filter(|call| !call.contains(" show ")).count(), 0);

    std::fs::create_dir_all(unit.parent().expect("a folder")).expect("made");
    std::fs::write(&unit, "[Service]\n# somebody's own\n").expect("written");
    let installed = stage.run(&service(&["install"])).expect(0);
    assert!(installed.stdout.contains("kept as"), "{installed:?}");
    let kept = unit.with_file_name("moon.service.kept");
    assert_eq!(std::fs::read_to_string(&kept).expect("kept"), "[Service]\n# somebody's own\n");
    let mode = unit.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let calls = stage.calls().join("\n");
    for word in ["--user daemon-reload", "--user enable moon.service", "--user start moon.service"] {
        assert!(calls.contains(word), "{word}: {calls}");
    }
    let text = std::fs::read_to_string(&unit).expect("there");
    let again = stage.run(&service(&["install"])).expect(0);
    assert_eq!(again.stdout.matches("already so").count(), 2, "{again:?}");
    assert_eq!(std::fs::read_to_string(&unit).expect("there"), text);

    // Another home may not take its place.
    let other = stage.scratch.path().join("other-home").display().to_string();
    let mut command = stage.scratch.bare();
    command.args(["--home", other.as_str(), "--json"]).args(service(&["install"])).env("PATH", stage.path());
    let refused = Ran::of(&mut command);
    assert_eq!(refused.report()["data"]["error"]["code"], "service.other_home", "{refused:?}");

    stage.calls();
    stage.run(&service(&["uninstall"])).expect(0);
    assert!(stage.calls().iter().any(|call| call.ends_with("disable --now moon.service")));
    let left: Vec<_> = std::fs::read_dir(unit.parent().expect("a folder"))
        .expect("listable")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left, ["moon.service.kept"]);
    std::fs::write(&unit, "[Service]\n# somebody's own\n").expect("written");
    let left = stage.run(&service(&["uninstall"])).expect(0);
    assert!(left.stdout.contains("left, not Moon's") && unit.exists(), "{left:?}");
}

#[test]
fn a_manager_that_refuses_or_is_not_there_leaves_everything_as_it_was() {
    let stage = Stage::new();
    let unit = stage.unit("moon.service");
    stage.says("fails", "enable");
    std::fs::create_dir_all(unit.parent().expect("a folder")).expect("made");
    std::fs::write(&unit, "[Service]\n# somebody's own\n").expect("written");
    let refused = stage.run(&[service(&["install"]).as_slice(), &["--json"]].concat()).expect(1);
    let error = &refused.report()["data"]["error"];
    assert_eq!((&error["code"], &error["cause"]), (&json!("service.refused"), &json!("no such luck")));
    assert_eq!(std::fs::read_to_string(&unit).expect("there"), "[Service]\n# somebody's own\n");
    assert!(!stage.unit("moon-failed.service").exists());

    stage.says("fails", "show");
    std::fs::remove_file(&unit).expect("removed");
    let away = stage.run(&[service(&["install"]).as_slice(), &["--json"]].concat()).expect(1);
    let error = &away.report()["data"]["error"];
    assert_eq!(error["code"], "service.unreachable");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("moon start")), "{error}");
    assert!(!unit.exists());
    // To the whole installation it is a remark: the machine has no such manager.
    let whole = stage.run(&["install"]).expect(0);
    assert!(whole.stdout.contains("cannot be reached"), "{whole:?}");
}

#[test]
fn launchd_is_driven_by_its_present_verbs() {
    let stage = Stage::new();
    let plist = stage.scratch.path().join("user/Library/LaunchAgents/com.moon.agent.plist");
    let words = |verb| ["service", verb, "--manager", "launchd"];
    stage.run(&words("install")).expect(0);
    assert!(plist.exists());
    let uid = rustix::process::getuid().as_raw();
    let calls = stage.calls().join("\n");
    assert!(calls.contains(&format!("launchctl bootstrap gui/{uid} {}", plist.display())), "{calls}");
    stage.run(&words("uninstall")).expect(0);
    assert!(stage.calls().contains(&format!("launchctl bootout gui/{uid}/com.moon.agent")) && !plist.exists());
}

#[test]
fn the_crontab_is_merged_asked_for_and_restored() {
    let stage = Stage::new();
    stage.program("crontab", "tab=\"$(dirname \"$0\")/../tab\"\ncase \"$1\" in -l) [ -f \"$tab\" ] || { echo 'no crontab for ada' >&2; exit 1; }; cat \"$tab\";; -) cat > \"$tab\";; esac");
    let tab = stage.scratch.path().join("tab");
    let asked = stage.run(&["cron-install", "--json"]).expect(1);
    assert_eq!(asked.report()["data"]["error"]["code"], "cron.not_confirmed");
    assert!(!tab.exists());
    stage.run(&["service", "cron", "--yes"]).expect(0);
    let block = std::fs::read_to_string(&tab).expect("written");
    assert_eq!(block.lines().filter(|line| line.contains(&*stage.scratch.home().display().to_string())).count(), 5);
    std::fs::write(&tab, format!("\u{fc}ber\tall\n{block}1 2 3 4 5 true")).expect("written");
    let merged = stage.run(&["cron", "--yes"]).expect(0);
    assert!(merged.stdout.contains("already"), "{merged:?}");
    stage.run(&["cron", "--remove", "--yes"]).expect(0);
    assert_eq!(std::fs::read_to_string(&tab).expect("there"), "\u{fc}ber\tall\n1 2 3 4 5 true");
}

#[test]
fn a_preview_of_the_crontab_needs_no_crontab() {
    let stage = Stage::new();
    let run = |words: &[&str]| Ran::of(stage.scratch.moon(words).env("PATH", stage.scratch.path().join("none")));
    let shown = run(&["cron-install", "--dry-run", "--json"]).expect(0).report();
    assert!(shown["details"].to_string().contains("umask 077"), "{shown}");
    assert_eq!(shown["issues"][0]["code"], "cron.missing");
    assert!(
        shown["issues"][1]["message"].as_str().is_some_and(|said| said.contains("taken for an empty one")),
        "{shown}"
    );
    assert_eq!(run(&["cron-install", "--yes", "--json"]).expect(1).report()["data"]["error"]["code"], "cron.missing");
}

/// A socket as the service manager holds it.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    heard: std::sync::Mutex<Vec<(Instant, String)>>,
}

impl Manager {
    fn new(scratch: &Scratch) -> Self {
        let path = scratch.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_nonblocking(true).expect("set");
        Self { socket, path, heard: std::sync::Mutex::default() }
    }
    fn start(&self, scratch: &Scratch, words: &[&str], variables: &[(&str, &str)]) -> Daemon {
        let mut command = scratch.moon(&[]);
        command
            .args(words)
            .args(["watch", "--daemon"])
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", "1500000");
        command.envs(variables.iter().copied());
        Daemon::start(command, scratch.path().join("daemon.said"))
    }
    /// Lines so far, with when they came.
    fn heard(&self) -> Vec<(Instant, String)> {
        let mut all = self.heard.lock().expect("one user");
        let mut text = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut text) {
            let text = String::from_utf8_lossy(&text[..length]).into_owned();
            all.extend(text.lines().map(|line| (Instant::now(), line.to_owned())));
        }
        all.clone()
    }
    fn count(&self, wanted: &str) -> usize {
        self.heard().iter().filter(|(_, line)| line == wanted).count()
    }
    fn until(&self, wanted: &str, times: usize) {
        wait_for(&format!("{wanted} × {times}"), || (self.count(wanted) >= times).then_some(()));
    }
    /// How often the watchdog was fed within a span from now.
    fn fed_within(&self, span: Duration) -> usize {
        let before = self.count("WATCHDOG=1");
        std::thread::sleep(span);
        self.count("WATCHDOG=1") - before
    }
}

#[test]
fn the_manager_hears_ready_watchdog_reloading_and_stopping() {
    let scratch = Scratch::new();
    scratch.transcript("work").begin();
    let manager = Manager::new(&scratch);
    let daemon = manager.start(&scratch, &[], &[]);
    manager.until("READY=1", 1);
    manager.until("WATCHDOG=1", 3);
    assert!(manager.heard().iter().any(|(_, line)| line.starts_with("STATUS=watching ")), "{:?}", manager.heard());

    let tree = scratch.json(&["ctl", "tree"]).expect(0).report();
    let watched = moon_actors::wiring::Mailboxes::default().vital().map(|(name, _)| name).to_vec();
    let mut vital = Vec::new();
    names_of_vital(&tree["data"]["tree"], &mut vital);
    assert_eq!(watched, vital, "the watchdog looks after all that are vital");

    let settings = scratch.in_home("moon.toml");
    let other = scratch.path().join("right.toml");
    std::fs::write(&other, "").expect("written");
    // Wrong settings are refused by the daemon itself, too, and it goes on.
    std::fs::write(&settings, "[thresholds]\nnonsense = 1\n").expect("written");
    std::fs::set_permissions(&settings, std::fs::Permissions::from_mode(0o600)).expect("set");
    let with = |words: &[&str]| {
        let mut command = scratch.bare();
        Ran::of(command.arg("--home").arg(scratch.home()).arg("--config").arg(&other).args(words).arg("--json"))
    };
    let refused = with(&["ctl", "reload"]).expect(64);
    assert_eq!(refused.report()["data"]["error"]["code"], "config.invalid", "{refused:?}");
    daemon.hang_up();
    wait_for("the refusal in the log", || daemon.said().contains("not reloaded").then_some(()));
    assert_eq!((manager.count("RELOADING=1"), manager.count("READY=1")), (0, 1));

    std::fs::write(&settings, "[openclaw]\nmode = \"lead\"\n").expect("written");
    let reloaded = with(&["ctl", "reload"]).expect(0);
    assert!(reloaded.stdout.contains("moon runs with them"), "{reloaded:?}");
    manager.until("RELOADING=1", 1);
    manager.until("READY=1", 2);
    assert_eq!(with(&["ctl", "status"]).expect(0).report()["data"]["mode"], "lead");
    daemon.hang_up();
    manager.until("READY=1", 3);
    with(&["ctl", "restart"]).expect(0);
    manager.until("READY=1", 4);
    let lives = log(&scratch.home()).iter().filter(|line| line["message"] == "moon is watching").count();
    assert_eq!(lives, 4, "each life goes on writing the log");
    assert!(manager.fed_within(Duration::from_millis(1200)) >= 1);
    assert!(daemon.is_running());
    daemon.stop();
    assert_eq!(manager.count("STOPPING=1"), 1);
    assert!(scratch.in_home("state/stopped").exists());
}

fn names_of_vital(tree: &Value, into: &mut Vec<String>) {
    for child in tree.as_array().into_iter().flatten() {
        if child["kind"] == "vital" {
            into.push(child["name"].as_str().expect("a name").to_owned());
        }
        names_of_vital(&child["children"], into);
    }
}

#[test]
fn a_hung_vital_actor_starves_the_watchdog_and_a_hung_optional_one_does_not() {
    let limits =
        ["--set", "service.stuck_after=500ms", "--set", "supervision.job_timeout=1s", "--set", "watch.poll=200ms"];
    for (point, is_vital) in [("archive.claimed", true), ("index.claimed", false)] {
        let scratch = Scratch::new();
        scratch.transcript("work").begin().exchange(0, 20);
        let manager = Manager::new(&scratch);
        let daemon = manager.start(&scratch, &limits, &[("MOON_TEST_HANG_AT", point)]);
        manager.until("READY=1", 1);
        if is_vital {
            wait_for("the hung one to be named", || daemon.said().contains("archive has been busy").then_some(()));
            assert_eq!(manager.fed_within(Duration::from_millis(1600)), 0, "{}", daemon.said());
        } else {
            // Longer than a vital one may take, and the watchdog is fed all the same.
            std::thread::sleep(Duration::from_millis(2500));
            assert!(manager.fed_within(Duration::from_millis(1600)) >= 2, "{}", daemon.said());
        }
        daemon.kill();
    }
}

#[test]
fn a_stop_that_comes_in_the_midst_of_a_reload_is_not_lost() {
    let scratch = Scratch::new();
    let manager = Manager::new(&scratch);
    for pause in [0, 5, 20, 60] {
        let ready = manager.count("READY=1");
        let daemon = manager.start(&scratch, &[], &[]);
        manager.until("READY=1", ready + 1);
        daemon.hang_up();
        std::thread::sleep(Duration::from_millis(pause));
        daemon.terminate();
        assert_eq!(daemon.end().code(), Some(0), "{pause} ms: {}", daemon.said());
    }
}

#[test]
fn a_ledger_that_does_not_answer_starves_the_watchdog() {
    let scratch = Scratch::new();
    let manager = Manager::new(&scratch);
    let daemon = manager.start(&scratch, &[], &[]);
    manager.until("READY=1", 1);
    manager.until("WATCHDOG=1", 2);
    // Somebody holds the database for longer than the watchdog's patience: each write waits.
    let db = rusqlite::Connection::open(scratch.in_home("state/moon.db")).expect("a ledger");
    db.execute_batch("BEGIN IMMEDIATE").expect("held");
    wait_for("the ledger to be named", || daemon.said().contains("the ledger did not answer").then_some(()));
    assert_eq!(manager.fed_within(Duration::from_millis(1600)), 0, "{}", daemon.said());
    db.execute_batch("ROLLBACK").expect("let go");
    let fed = manager.count("WATCHDOG=1");
    manager.until("WATCHDOG=1", fed + 1);
    daemon.stop();
}

#[test]
fn start_stop_and_restart_are_verified_and_force_ends_a_daemon_that_hangs() {
    let scratch = Scratch::new();
    let pid = || scratch.json(&["ctl", "status"]).report()["data"]["daemon"]["pid"].as_u64();
    let started = scratch.json(&["start"]).expect(0).report();
    let first = started["data"]["daemon"]["pid"].as_u64().expect("a pid");
    let _guard = End(&scratch);
    assert_eq!(pid(), Some(first));
    assert!(!scratch.in_home("state/stopped").exists());
    assert_eq!(scratch.json(&["start"]).expect(0).report()["data"]["ran_already"], true);

    let second = scratch.json(&["restart"]).expect(0).report()["data"]["daemon"]["pid"].as_u64().expect("a pid");
    assert!(second != first && pid() == Some(second));

    // It hangs: an orderly restart says so and changes nothing, a forced one kills it.
    signal(second, rustix::process::Signal::STOP);
    let refused = scratch.json(&["restart", "--within", "500ms"]).expect(1).report();
    assert_eq!(refused["data"]["error"]["code"], "daemon.does_not_end");
    let third = scratch.json(&["restart", "--force", "--within", "500ms"]).expect(0).report();
    let third = third["data"]["daemon"]["pid"].as_u64().expect("a pid");
    assert!(third != second && pid() == Some(third));

    scratch.run(&["stop"]).expect(0);
    assert_eq!(pid(), None);
    let note = std::fs::read_to_string(scratch.in_home("state/stopped")).expect("a deliberate stop is remembered");
    assert!(note.contains("moon stop"), "{note}");
    assert!(scratch.run(&["stop"]).expect(0).stdout.contains("no moon was running"));
    // What the settings name and the machine lacks is said, and stops nothing.
    let lacking = scratch.run(&["--set", "service.read=[\"/nonexistent/x\"]", "start"]).expect(0).stdout;
    assert!(lacking.contains("warning: --set: service.read: entry 1: /nonexistent/x is not there"), "{lacking}");
    scratch.run(&["stop"]).expect(0);
    // A daemon that cannot start says why at once.
    let broken = scratch.json(&["--set", "watch.transcripts_dir=/nonexistent/x/y", "start"]);
    assert!(broken.code != Some(0) || pid().is_some(), "{broken:?}");
}

#[test]
fn a_restart_with_a_backup_that_fails_restarts_nothing() {
    let scratch = Scratch::new();
    scratch.json(&["start"]).expect(0);
    let _guard = End(&scratch);
    let before = scratch.json(&["ctl", "status"]).report()["data"]["daemon"]["pid"].clone();
    // Nothing can be written where backups belong.
    let backups = scratch.in_home("backups");
    std::fs::remove_dir_all(&backups).expect("empty");
    std::fs::write(&backups, "in the way").expect("written");
    let refused = scratch.json(&["restart", "--backup"]).expect(1).report();
    assert_eq!(refused["data"]["error"]["code"], "restart.no_backup", "{refused}");
    assert_eq!(scratch.json(&["ctl", "status"]).report()["data"]["daemon"]["pid"], before);
}

#[test]
fn a_restart_with_a_backup_makes_one_that_is_proved_and_brings_the_daemon_back() {
    let scratch = Scratch::new();
    scratch.transcript("work").begin().exchange(0, 20);
    scratch.json(&["start"]).expect(0);
    let _guard = End(&scratch);
    let pid = || scratch.json(&["ctl", "status"]).report()["data"]["daemon"]["pid"].clone();
    let before = pid();
    let backups =
        || scratch.json(&["backup", "list"]).report()["data"]["backups"].as_array().cloned().unwrap_or_default();
    assert_eq!(backups(), Vec::<Value>::new());

    let done = scratch.json(&["restart", "--backup"]).expect(0).report();
    assert!(done["details"].to_string().contains("a backup is made and verified"), "{done}");
    let after = done["data"]["daemon"]["pid"].clone();
    assert_eq!(done["data"]["before"]["pid"], before, "{done}");
    assert!(after.is_u64() && after != before, "{done}");
    assert_eq!(pid(), after);
    let made = backups();
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(made[0]["verified_at"].is_string() && made[0]["members"].as_u64() > Some(0), "{made:?}");
    let id = made[0]["id"].as_str().expect("an id");
    scratch.run(&["backup", "verify", id]).expect(0);
}

fn signal(pid: u64, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("small")).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("a signal to a daemon of this test");
}

/// Ends whatever daemon a test that failed has left.
struct End<'a>(&'a Scratch);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let _ = Ran::of(&mut self.0.moon(&["stop", "--force", "--within", "1s"]));
    }
}
