//! Rotation of real files under real writers: no line is lost, none is doubled, and what is no log is never touched.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use flate2::read::GzDecoder;
use moon::adapters::rotation::LogFolders;
use moon::config::Environment;
use moon::home::Home;
use moon_actors::port::LogFiles;
use moon_actors::rotation::engine::{Rotated, Rotation};
use moon_actors::settings::{LogPattern, Settings};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A writer of 10,000 numbered lines: it opens its file anew on SIGHUP, for every line, or never.
const WRITER: &str = r#"
import os, signal, sys, time
path, kind, lines = sys.argv[1], sys.argv[2], int(sys.argv[3])
opened = lambda: os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
log, again = opened(), False
def hup(*_):
    global again
    again = True
signal.signal(signal.SIGHUP, hup)
open(path + ".pid", "w").write(str(os.getpid()))
for n in range(lines):
    if kind == "each" or again:
        again = False
        os.close(log)
        log = opened()
    os.write(log, b"%d %s\n" % (n, b"x" * 80))
    if n % 20 == 0:
        time.sleep(0.002)
"#;

fn writer(path: &Path, kind: &str) -> Child {
    let arguments = ["-c", WRITER, &path.display().to_string(), kind, "10000"];
    Command::new("python3").args(arguments).stdin(Stdio::null()).spawn().expect("python3 runs")
}

fn rotation(home: &Path, change: impl FnOnce(&mut Settings)) -> Rotation {
    let mut settings = Settings::default();
    settings.rotation.compress_after = Duration::ZERO;
    change(&mut settings);
    assert_eq!(settings.check(), vec![]);
    let logs = Arc::new(LogFolders::new(&Home::at(home), &settings, Environment::new()));
    Rotation { logs, times: String::new() }
}

/// Every line of a log and of all that was put aside of it.
fn lines(folder: &Path, name: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let file = entry.file_name().into_string().unwrap();
        if !file.starts_with(name) || file.ends_with(".pid") {
            continue;
        }
        let mut text = String::new();
        match file.ends_with(".gz") {
            true => GzDecoder::new(std::fs::File::open(entry.path()).unwrap()).read_to_string(&mut text).unwrap(),
            false => std::fs::File::open(entry.path()).unwrap().read_to_string(&mut text).unwrap(),
        };
        assert!(text.is_empty() || text.ends_with('\n'), "{file} ends in a torn line");
        numbers.extend(text.lines().map(|line| line.split(' ').next().unwrap().parse::<u32>().expect("a whole line")));
    }
    numbers.sort_unstable();
    numbers
}

fn compressed(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().ends_with(".gz")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_lines_of_three_kinds_of_writers_are_neither_lost_nor_doubled() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let folder = scratch.path().join("agent");
    std::fs::create_dir(&folder).unwrap();
    let log = |kind: &str| folder.join(format!("{kind}.log"));
    let rotation = rotation(&scratch.path().join("home"), |settings| {
        settings.rotation.files = ["hup", "each", "never"]
            .map(|kind| {
                let mut pattern = LogPattern { path: log(kind).display().to_string(), ..LogPattern::default() };
                if kind == "hup" {
                    pattern.signal = "HUP".into();
                    pattern.pid_file = format!("{}.pid", pattern.path);
                }
                pattern
            })
            .into();
    });
    // Every pass puts aside what there is: a size of nothing, as far as the policy is concerned.
    let rotation = Rotation { logs: Arc::new(Eager(rotation.logs)), ..rotation };
    let mut writers = ["hup", "each", "never"].map(|kind| writer(&log(kind), kind));
    let mut passes = 0;
    while writers.iter_mut().any(|writer| writer.try_wait().unwrap().is_none()) {
        rotation.pass().await;
        passes += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nobody writes any more: everything may be compressed now.
    for _ in 0..2 {
        rotation.pass().await;
    }
    assert!(passes > 5 && compressed(&folder) > 20, "{passes} passes, {} compressed", compressed(&folder));
    for kind in ["hup", "each", "never"] {
        assert_eq!(lines(&folder, &format!("{kind}.log")), (0..10_000).collect::<Vec<_>>(), "{kind}");
    }
}

/// The same logs under a rule that puts a file aside as soon as it holds anything.
struct Eager(Arc<dyn LogFiles>);

#[async_trait::async_trait]
impl LogFiles for Eager {
    async fn list(&self) -> Vec<moon_actors::Result<moon_actors::port::LogSet>> {
        let mut sets = self.0.list().await;
        sets.iter_mut().flatten().for_each(|set| set.rules.max_bytes = 1);
        sets
    }
    async fn carry_out(
        &self,
        log: &moon_actors::port::LogSet,
        step: &moon_actors::rotation::policy::Step,
    ) -> moon_actors::Result<moon_actors::port::Carried> {
        self.0.carry_out(log, step).await
    }
    async fn reopen(&self, log: &moon_actors::port::LogSet) -> moon_actors::Result<()> {
        self.0.reopen(log).await
    }
    fn now(&self) -> chrono::NaiveDateTime {
        self.0.now()
    }
}

fn codes(done: &Rotated) -> Vec<&str> {
    done.failed.iter().map(|error| error.code.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_the_audit_and_the_archives_are_no_logs_whatever_the_settings_say() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
    for file in ["state/moon.db", "skills/moon-system/logs/audit.log", "archives/ledger.jsonl"] {
        std::fs::write(home.root().join(file), "precious\n").unwrap();
    }
    let everything = ["state/*", "skills/moon-system/logs/*.log", "archives/*"];
    let rotation = rotation(home.root(), |settings| {
        let path = |pattern: &str| home.root().join(pattern).display().to_string();
        settings.rotation.files =
            everything.map(|pattern| LogPattern { path: path(pattern), ..LogPattern::default() }).into();
    });
    let rotation = Rotation { logs: Arc::new(Eager(rotation.logs)), ..rotation };
    let done = rotation.pass().await;
    assert_eq!(codes(&done), ["rotation.pattern"; 3]);
    assert_eq!(std::fs::read(home.audit_log()).unwrap(), b"precious\n");
    assert_eq!(std::fs::read(home.ledger_db()).unwrap(), b"precious\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_not_followed_and_a_process_that_does_not_hold_the_log_gets_no_signal() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (log, link) = (scratch.path().join("a.log"), scratch.path().join("b.log"));
    std::fs::write(scratch.path().join("elsewhere"), "precious\n").unwrap();
    std::os::unix::fs::symlink(scratch.path().join("elsewhere"), &link).unwrap();
    std::fs::write(&log, "one\n").unwrap();
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(scratch.path().join("pid"), bystander.id().to_string()).unwrap();
    let rotation = rotation(&scratch.path().join("home"), |settings| {
        settings.rotation.files = vec![LogPattern {
            path: scratch.path().join("*.log").display().to_string(),
            signal: "HUP".into(),
            pid_file: scratch.path().join("pid").display().to_string(),
            ..LogPattern::default()
        }];
    });
    let rotation = Rotation { logs: Arc::new(Eager(rotation.logs)), ..rotation };
    let done = rotation.pass().await;
    let alive = bystander.try_wait().unwrap().is_none();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert!(alive, "a process that has nothing to do with the log was signalled");
    assert_eq!(codes(&done), ["rotation.reopen"]);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(!log.exists(), "it was put aside");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_their_writer_dates_are_compressed_in_place_and_removed_when_old() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let aged = |name: &str, days: u64| {
        let path = scratch.path().join(name);
        std::fs::write(&path, "line\n").unwrap();
        let age = Duration::from_secs(days * 86_400 + 60);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(std::time::SystemTime::now() - age)
            .unwrap();
    };
    aged("run_1.log", 40);
    aged("run_2.log", 3);
    aged("run_3.log", 0);
    let rotation = rotation(&scratch.path().join("home"), |settings| {
        settings.rotation.compress_after = Duration::from_secs(86_400);
        settings.rotation.files = vec![LogPattern {
            path: scratch.path().join("run_*.log").display().to_string(),
            dated: true,
            ..LogPattern::default()
        }];
    });
    let done = rotation.pass().await;
    assert!(done.failed.is_empty(), "{:?}", done.failed);
    let names = || {
        let entries = std::fs::read_dir(scratch.path()).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["run_2.log.gz", "run_3.log"]);
    assert_eq!(done.sentence(), "0 log files put aside, 1 compressed, 1 removed, 0 KiB freed");
    assert_eq!(rotation.pass().await.steps, []);
    // The copy is as old as its lines: it goes when they are.
    let copy = std::fs::File::options().write(true).open(scratch.path().join("run_2.log.gz")).unwrap();
    copy.set_modified(std::time::SystemTime::now() - Duration::from_secs(31 * 86_400)).unwrap();
    rotation.pass().await;
    assert_eq!(names(), ["run_3.log"]);
}

#[test]
fn the_verb_names_every_file_with_what_was_done_and_goes_on_past_one_that_fails() {
    use support::process::Scratch;
    let scratch = Scratch::new();
    scratch.transcript("work").begin();
    let logs = scratch.path().join("agent");
    std::fs::create_dir(&logs).unwrap();
    let write = |name: &str, bytes: usize| std::fs::write(logs.join(name), "x".repeat(bytes - 1) + "\n").unwrap();
    write("large.log", 1_200_000);
    write("small.log", 10);
    write("old.log-20200101_000000", 50);
    write("old.log", 20);
    let age = std::time::SystemTime::now() - Duration::from_secs(60 * 86_400);
    let old = std::fs::File::options().write(true).open(logs.join("old.log-20200101_000000")).unwrap();
    old.set_modified(age).unwrap();
    drop(old);
    std::fs::create_dir_all(scratch.home()).unwrap();
    // By another name, which the settings' own check cannot know.
    let home = scratch.path().join("by-another-name");
    std::os::unix::fs::symlink(scratch.home(), &home).unwrap();
    let settings = format!(
        "[rotation]\nmax_mib = 1\n[[rotation.files]]\npath = \"{0}/*.log\"\n[[rotation.files]]\npath = \"{1}/state/*\"\n",
        logs.display(),
        home.display()
    );
    std::fs::write(scratch.in_home("moon.toml"), settings).unwrap();
    scratch.run(&["watch", "--once"]).expect(0);

    let planned = scratch.run(&["rotate-logs", "--dry-run"]).expect(2).stdout;
    assert!(planned.contains("would put aside") && planned.contains("small.log (10 bytes)"), "{planned}");
    assert!(logs.join("large.log").exists());
    // By the daemon it is the same.
    let daemon = scratch.daemon(&[]);
    let did = scratch.json(&["rotate-logs"]).expect(2).report();
    daemon.stop();
    let files = did["data"]["files"].as_array().expect("files").clone();
    let of = |name: &str| {
        let path = logs.join(name).display().to_string();
        let found = files.iter().find(|file| file["file"] == path.as_str());
        found.unwrap_or_else(|| panic!("{name} is not told of: {did:#}")).clone()
    };
    let large = of("large.log");
    assert_eq!((&large["did"], &large["bytes"]), (&"put_aside".into(), &1_200_000.into()), "{large}");
    assert_eq!(large["why"], "it is as large as it may be");
    assert!(Path::new(large["to"].as_str().expect("a name")).exists(), "{large}");
    let gone = of("old.log-20200101_000000");
    assert_eq!((&gone["did"], &gone["freed"]), (&"removed".into(), &50.into()), "{gone}");
    let left = of("small.log");
    assert_eq!((&left["did"], &left["why"]), (&"left".into(), &"it is of today, and not too large".into()), "{left}");
    assert_eq!(did["issues"][0]["code"], "rotation.pattern", "what failed is told, too: {did:#}");
    let text = scratch.run(&["rotate-logs"]).expect(2).stdout;
    let line = format!("left       {} (10 bytes): it is of today, and not too large", logs.join("small.log").display());
    assert!(text.lines().any(|shown| shown.trim() == line), "{line}\n{text}");
}
