//! Every command that works on a home, as a person and as a program would use it: text, `--json`, exit codes, and what is
//! left on disk.
//!
//! One demo is played for all tests that only look (see [`demo`]); each test that changes something plays with a copy.

mod support;

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use support::process::{Ran, Scratch, archived, changes, open_to_others, temporary_files, tree, wait_for, walk};

/// The shape that every report has, whatever the command.
#[track_caller]
fn assert_report(ran: &Ran, command: &str) -> Value {
    let report = ran.report();
    assert_eq!(report["command"], command, "{ran:#?}");
    let ok = report["ok"].as_bool().expect("ok is a boolean");
    assert!(report["details"].as_array().is_some_and(|d| d.iter().all(Value::is_string)), "{report}");
    for issue in report["issues"].as_array().expect("issues is a list") {
        assert!(issue["message"].is_string(), "{issue}");
    }
    assert!(report["data"].is_object(), "{report}");
    let mut keys: Vec<&String> = report.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["command", "data", "details", "issues", "ok"]);
    assert_eq!(ok, ran.code == Some(0), "{ran:#?}");
    if let Some(error) = report["data"].get("error") {
        for key in ["code", "kind", "message"] {
            assert!(error[key].is_string(), "{error}");
        }
    }
    report
}

/// A home with everything in it, made by one `moon demo --home`.
struct Demo {
    folder: tempfile::TempDir,
    told: Ran,
}

fn play() -> Demo {
    let folder = tempfile::Builder::new().prefix("moon-test-demo-").tempdir().expect("a scratch folder");
    let scratch = Scratch::new();
    let mut command = scratch.bare();
    let told = Ran::of(command.arg("demo").arg("--home").arg(folder.path().join("home")).arg("--json"));
    Demo { folder, told }
}

/// Path, mode, and content unless it is a folder.
type Entry = (std::path::PathBuf, u32, Option<Vec<u8>>);

/// A copy of the demo's home in a scratch of its own. Played once; the original goes away with the process.
fn demo() -> Scratch {
    static FILES: OnceLock<Vec<Entry>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let demo = play();
        assert_eq!(demo.told.code, Some(0), "{:#?}", demo.told);
        let home = demo.folder.path().join("home");
        let mut files = Vec::new();
        support::process::walk(&home, &mut |path, meta| {
            use std::os::unix::fs::MetadataExt;
            let content = meta.is_file().then(|| std::fs::read(path).expect("readable"));
            files.push((path.strip_prefix(&home).expect("below").to_owned(), meta.mode() & 0o777, content));
        });
        files
    });
    let scratch = Scratch::new();
    for (path, mode, content) in files {
        use std::io::Write;
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        let path = scratch.home().join(path);
        match content {
            None => std::fs::DirBuilder::new().mode(*mode).create(&path).expect("a folder"),
            Some(bytes) => std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(*mode)
                .open(&path)
                .and_then(|mut file| file.write_all(bytes))
                .expect("a file"),
        }
    }
    scratch
}

/// `moon --home <home> <words>`, with nothing else said.
fn moon(scratch: &Scratch, words: &[&str]) -> Command {
    let mut command = scratch.bare();
    command.arg("--home").arg(scratch.home()).args(words);
    command
}

fn run(scratch: &Scratch, words: &[&str]) -> Ran {
    Ran::of(&mut moon(scratch, words))
}

fn run_json(scratch: &Scratch, words: &[&str]) -> Ran {
    Ran::of(moon(scratch, words).arg("--json"))
}

#[test]
fn a_demo_without_a_home_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let before = names(scratch.path());
    let ran = Ran::of(scratch.bare().arg("demo"));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(names(scratch.path()), before);
    for word in ["archive", "prune", "distill", "continuity", "23 days"] {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
    assert_eq!(ran.stderr, "");
}

fn names(root: &Path) -> Vec<std::path::PathBuf> {
    tree(root).into_keys().collect()
}

#[test]
fn nothing_in_a_home_is_open_to_group_or_others() {
    let demo = play();
    assert_eq!(demo.told.code, Some(0), "{:#?}", demo.told);
    assert_eq!(open_to_others(&demo.folder.path().join("home")), Vec::<String>::new());
    assert_eq!(temporary_files(&demo.folder.path().join("home")), Vec::<std::path::PathBuf>::new());
    let told = assert_report(&demo.told, "demo");
    let data = &told["data"];
    for key in ["exchanges", "records", "archives", "prunes", "distillations", "rollovers"] {
        assert!(data[key].as_u64().is_some_and(|n| n > 0), "{key}: {data}");
    }
    for key in ["map_arrived", "fact_left_the_context", "injected_once"] {
        assert_eq!(data[key], json!(true), "{key}: {data}");
    }
    assert_eq!(data["recalled_at_rank"], json!(1));
    // A second demo does not continue or overwrite the first.
    let scratch = Scratch::new();
    let again = Ran::of(scratch.bare().arg("demo").arg("--home").arg(demo.folder.path().join("home")));
    assert_eq!(again.code, Some(1), "{again:#?}");
    assert!(again.stderr.contains("hint:"), "{again:#?}");
}

#[test]
fn status_and_sessions_of_a_demo_home() {
    let scratch = demo();
    let status = assert_report(&run_json(&scratch, &["status"]).expect(0), "status");
    let data = &status["data"];
    assert_eq!((&data["daemon"], &data["mode"]), (&Value::Null, &json!("lead")));
    assert_eq!(data["alerts"], json!([]));
    assert_eq!(data["totals"]["unindexed"], 0);
    let text = run(&scratch, &["status"]).expect(0).stdout;
    for part in ["daemon    stopped in order", "transcripts:library-move", "\narchive   ", "\nmemory    "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let sessions = assert_report(&run_json(&scratch, &["sessions"]).expect(0), "sessions");
    let list = sessions["data"]["sessions"].as_array().expect("a list");
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["key"], "transcripts:library-move");
    let none = assert_report(&run_json(&scratch, &["sessions", "no-such-key"]).expect(0), "sessions");
    assert_eq!(none["data"]["sessions"], json!([]));
}

#[test]
fn recall_finds_names_and_limits() {
    let scratch = demo();
    let question = "How many days may a puppet theatre kit be kept, and why?";
    let found = assert_report(&run_json(&scratch, &["recall", question]).expect(0), "recall");
    let matches = found["data"]["matches"].as_array().expect("a list");
    assert!(matches[0]["snippet"].as_str().is_some_and(|s| s.contains("23 days")), "{found}");
    for key in ["archive_path", "snippet", "score", "metadata"] {
        assert!(!matches[0][key].is_null(), "{key}: {found}");
    }
    assert!(scratch.in_home(matches[0]["archive_path"].as_str().expect("a path")).is_file());
    let one = assert_report(&run_json(&scratch, &["recall", question, "--limit", "1"]).expect(0), "recall");
    assert_eq!(one["data"]["matches"].as_array().map(Vec::len), Some(1));
    let text = run(&scratch, &["recall", "--query", question]).expect(0).stdout;
    assert!(text.starts_with("1. transcripts:library-move") && text.contains("23 days"), "{text}");
    let elsewhere = run_json(&scratch, &["recall", question, "--session", "transcripts:other"]).expect(1);
    assert_eq!(elsewhere.report()["data"]["error"]["code"], "session.unknown");
    let later = run_json(&scratch, &["recall", question, "--since", "2099-01-01"]).expect(0);
    assert_eq!(later.report()["data"]["matches"], json!([]));
    let never = run_json(&scratch, &["recall", question, "--since", "yesterday-ish"]);
    assert_eq!((never.code, &never.report()["data"]["error"]["code"]), (Some(64), &json!("cli.usage")));
    // Query operators and foreign bytes are words, not syntax.
    for odd in ["\"", "AND OR NOT", "NEAR(", "*", "a:b", "\u{202e}x", "-", "'; DROP TABLE chunk; --"] {
        let ran = run(&scratch, &["--json", "recall", "--", odd]);
        assert!(matches!(ran.code, Some(0 | 1)), "{odd:?}: {ran:#?}");
        assert_eq!(ran.report()["command"], "recall", "{odd:?}");
    }
    let empty = run_json(&scratch, &["recall", "   "]);
    assert_ne!(empty.code, Some(0));
    assert_eq!(empty.report()["data"]["error"]["code"], "recall.empty_query");
}

#[test]
fn recall_puts_a_passage_into_the_next_model_call() {
    let scratch = demo();
    let key = "transcripts:library-move";
    let question = "How many days may a puppet theatre kit be kept, and why?";
    // The plugin that announced itself ended with the demo: a passage would lie there unread.
    let gone = run_json(&scratch, &["recall", question, "--inject", key]).expect(1);
    assert_eq!(assert_report(&gone, "recall")["data"]["error"]["code"], "recall.no_bridge");
    let alive = json!({"version": "test", "pid": std::process::id(), "startedAt": 0});
    std::fs::write(scratch.in_home("bridge/status.json"), alive.to_string()).expect("written");
    assert_report(&run_json(&scratch, &["recall", question, "--inject", key]).expect(0), "recall");
    let slot = scratch.in_home(&format!("bridge/slots/passage/{}.md", moon_actors::domain::Sha256::of(key.as_bytes())));
    let text = std::fs::read_to_string(&slot).expect("a passage in its slot");
    assert!(text.contains("23 days"), "{text}");
    // A second one before the next call takes its place behind the first.
    assert_report(&run_json(&scratch, &["recall", "telescope deposit", "--inject", key]).expect(0), "recall");
    let both = std::fs::read_to_string(&slot).expect("passages in the slot");
    assert!(both.starts_with(text.trim_end()) && both.contains("50 €"), "{both}");
    let nobody = run_json(&scratch, &["recall", question, "--inject", "transcripts:other"]).expect(1);
    assert_eq!(nobody.report()["data"]["error"]["code"], "session.unknown");
    let beyond = run_json(&scratch, &["recall", "puppet theatre", "--inject", key, "--pick", "100"]);
    assert_ne!(beyond.code, Some(0), "{beyond:#?}");
    assert!(beyond.report()["data"]["error"]["message"].is_string(), "{beyond:#?}");
}

#[test]
fn continuity_index_distill_snapshot_and_verify_of_a_demo_home() {
    let scratch = demo();
    let shown = assert_report(&run_json(&scratch, &["continuity", "show"]).expect(0), "continuity show");
    assert_eq!(shown["data"]["link"]["rollover"], "reset");
    assert!(shown["data"]["map"]["source_session_id"].is_string(), "{shown}");
    let nobody = run_json(&scratch, &["continuity", "show", "--session", "transcripts:other"]).expect(1);
    assert_eq!(nobody.report()["data"]["error"]["code"], "session.unknown");

    let verified = assert_report(&run_json(&scratch, &["verify"]).expect(0), "verify");
    assert_eq!(verified["data"]["audit"]["whole"], json!(true));
    assert_eq!(verified["data"]["projections"]["stale"], json!([]));
    let rebuilt = assert_report(&run_json(&scratch, &["index", "--rebuild"]).expect(0), "index");
    let before = &verified["data"]["archives"]["segments"];
    assert!(rebuilt["data"].to_string().contains(&before.to_string()), "{before}: {rebuilt}");
    assert_report(&run_json(&scratch, &["index"]).expect(0), "index");
    let again = assert_report(&run_json(&scratch, &["verify"]).expect(0), "verify");
    assert_eq!((&again["data"]["index"]["missing"], &again["data"]["index"]["waiting"]), (&json!(0), &json!(0)));
    let found = run_json(&scratch, &["recall", "puppet theatre kit"]).expect(0).report();
    assert!(found["data"]["matches"].to_string().contains("23 days"), "{found}");

    // The copy's own transcripts folder, so that the host is there.
    let folder = format!("watch.transcripts_dir={}", scratch.in_home("demo").display());
    let hosted = |words: &[&str]| Ran::of(moon(&scratch, words).args(["--set", &folder, "--json"]));
    let snapshot = assert_report(&hosted(&["snapshot"]).expect(0), "snapshot");
    assert!(snapshot["details"].to_string().contains("nothing new"), "{snapshot}");
    let unknown = hosted(&["snapshot", "--session", "transcripts:other"]);
    assert_ne!(unknown.code, Some(0), "{unknown:#?}");
    assert_report(&hosted(&["distill"]).expect(0), "distill");
    let last = run(&scratch, &["verify"]).expect(0).stdout;
    assert!(last.contains("projections: agree with the ledger"), "{last}");
    assert_eq!(open_to_others(&scratch.home()), Vec::<String>::new());
}

#[test]
fn verify_names_what_is_damaged() {
    let scratch = demo();
    let object = archived_object(&scratch);
    let mut bytes = std::fs::read(&object).expect("an object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, bytes).expect("damaged");
    let damaged = run_json(&scratch, &["verify"]).expect(2);
    let report = assert_report(&damaged, "verify");
    let name = object.strip_prefix(scratch.home()).expect("below").display().to_string();
    assert!(report["data"]["archives"]["bad"].to_string().contains(&name), "{report}");

    let scratch = demo();
    let db = rusqlite::Connection::open(scratch.in_home("state/moon.db")).expect("a ledger");
    db.execute_batch("DROP TRIGGER audit_is_append_only_update;").expect("as a forger would");
    db.execute("UPDATE audit SET record = replace(record, 'ok', 'OK') WHERE seq = 7", []).expect("forged");
    drop(db);
    let report = assert_report(&run_json(&scratch, &["verify"]).expect(2), "verify");
    assert!(report["data"]["audit"]["first_broken_seq"].as_i64().is_some_and(|seq| (7..=8).contains(&seq)), "{report}");
}

fn archived_object(scratch: &Scratch) -> std::path::PathBuf {
    let mut objects = Vec::new();
    support::process::walk(&scratch.in_home("archives/objects"), &mut |path, meta| {
        if meta.is_file() {
            objects.push(path.to_owned());
        }
    });
    objects.into_iter().next().expect("an object")
}

#[test]
fn every_damaged_object_is_named_and_the_others_are_searchable() {
    let scratch = demo();
    let mut objects = Vec::new();
    walk(&scratch.in_home("archives/objects"), &mut |path, meta| {
        if meta.is_file() {
            objects.push(path.to_owned());
        }
    });
    objects.sort();
    objects.iter().take(2).for_each(|path| std::fs::write(path, b"").expect("emptied"));
    let rebuilt = run_json(&scratch, &["index", "--rebuild"]).expect(2).report();
    assert_eq!(rebuilt["issues"].as_array().map(Vec::len), Some(2), "{rebuilt}");
    assert_eq!(rebuilt["data"]["indexed"], json!(objects.len() - 2));
    let folder = format!("watch.transcripts_dir={}", scratch.in_home("demo").display());
    let snapshot = Ran::of(moon(&scratch, &["snapshot"]).args(["--set", &folder, "--json"])).expect(2).report();
    assert!(snapshot["issues"][0]["message"].to_string().contains("and 1 object besides"), "{snapshot}");
}

#[test]
fn a_home_that_watches_a_folder_is_not_installed_into_an_openclaw() {
    let scratch = demo();
    let refused = run_json(&scratch, &["install", "--no-service"]).expect(1).report();
    assert_eq!(refused["data"]["error"]["code"], "install.not_watched");
    let file = scratch.in_home("moon.toml");
    let folder = format!("watch.transcripts_dir={}", file.display());
    let wrong = Ran::of(moon(&scratch, &["watch", "--once"]).args(["--set", &folder])).expect(64);
    assert!(wrong.stderr.contains("is not a folder"), "{wrong:?}");
}

#[test]
fn logs_of_a_home() {
    let scratch = Scratch::new();
    scratch.transcript("work").begin().exchange(0, 10);
    let daemon = scratch.daemon(&[]);
    let logs = assert_report(&run_json(&scratch, &["logs"]).expect(0), "logs");
    let lines = logs["data"]["lines"].as_array().expect("a list");
    assert!(lines.iter().any(|line| line["message"] == "moon is watching"), "{logs}");
    let one = run(&scratch, &["logs", "-n", "1"]).expect(0).stdout;
    assert_eq!(one.lines().count(), 1, "{one}");
    daemon.stop();
    let empty = Scratch::new();
    let nothing = run(&empty, &["logs"]).expect(0).stdout;
    assert!(nothing.contains("holds nothing"), "{nothing}");
}

#[test]
fn a_machine_without_an_agent_gets_one_line_with_the_next_step_and_no_file() {
    let scratch = Scratch::new();
    let before = tree(scratch.path());
    for words in [
        &["watch", "--once"][..],
        &["watch"],
        &["watch", "--dry-run"],
        &["snapshot"],
        &["distill"],
        &["moon-watch", "--once"],
    ] {
        let ran = Ran::of(scratch.bare().args(words)).expect(4);
        assert_eq!(ran.stdout, "", "{words:?}");
        assert!(ran.stderr.starts_with("error: no OpenClaw on this machine ("), "{ran:?}");
        assert!(ran.stderr.ends_with("or try `moon demo`\n") && ran.stderr.lines().count() == 1, "{ran:?}");
        let report = assert_report(
            &Ran::of(scratch.bare().args(words).arg("--json")).expect(4),
            words[0].trim_start_matches("moon-"),
        );
        assert_eq!(report["data"]["error"]["code"], "openclaw.not_found");
        assert_eq!(report["data"]["error"]["kind"], "unavailable");
    }
    assert_eq!(tree(scratch.path()), before);
}

/// An OpenClaw with an empty configuration whose command can only say where that is. Returns the setting that names it.
fn fake_openclaw(scratch: &Scratch) -> String {
    let config = scratch.path().join("user/.openclaw/openclaw.json");
    std::fs::create_dir_all(config.parent().expect("a folder")).expect("made");
    std::fs::write(&config, "{}").expect("written");
    let command = scratch.path().join("openclaw");
    std::fs::write(&command, format!("#!/bin/sh\necho '{{\"path\": \"{}\"}}'\n", config.display())).expect("written");
    std::fs::set_permissions(&command, PermissionsExt::from_mode(0o700)).expect("executable");
    format!("openclaw.command={}", command.display())
}

#[test]
fn an_uninstall_beside_a_daemon_asks_for_its_restart() {
    let scratch = Scratch::new();
    scratch.transcript("work").begin().exchange(0, 10);
    let set = fake_openclaw(&scratch);
    let uninstall =
        || assert_report(&scratch.json(&["--set", &set, "uninstall", "--no-service"]).expect(0), "uninstall");
    let daemon = scratch.daemon(&[]);
    let asks = |report: &Value| report["issues"].to_string().contains("restart it");
    assert!(!asks(&uninstall()), "nothing was changed");
    std::fs::write(scratch.in_home("bridge/slots/passage/left.md"), "behind").expect("written");
    assert!(asks(&uninstall()));
    assert!(!scratch.in_home("bridge/slots/passage/left.md").exists());
    daemon.stop();
}

#[test]
fn verify_looks_at_the_installation_before_anything_is_archived() {
    let scratch = Scratch::new();
    let set = fake_openclaw(&scratch);
    let before = tree(scratch.path());
    let mut moon = scratch.bare();
    moon.arg("--home").arg(scratch.home()).args(["--set", &set, "verify", "--json"]);
    let report = assert_report(&Ran::of(&mut moon).expect(2), "verify");
    let codes: Vec<_> =
        report["issues"].as_array().expect("a list").iter().map(|issue| issue["code"].clone()).collect();
    assert!(codes.contains(&json!("home.empty")) && codes.contains(&json!("install.incomplete")), "{report}");
    let checks = report["data"]["installation"].as_array().expect("every expectation");
    let loaded =
        checks.iter().find(|check| check["what"] == "a running gateway has loaded the plugin").expect("one of them");
    assert_eq!(loaded["holds"], false);
    assert_eq!(loaded["hint"], "moon install", "not even the folder is there");
    assert_eq!(tree(scratch.path()), before, "it makes nothing");
}

#[test]
fn commands_about_what_is_kept_make_nothing_on_an_empty_home() {
    let scratch = Scratch::new();
    let before = tree(scratch.path());
    let expected = [
        (&["recall", "anything"][..], 1, "home.empty"),
        (&["sessions"], 1, "home.empty"),
        (&["verify"], 1, "home.empty"),
        (&["index"], 1, "home.empty"),
        (&["index", "--rebuild"], 1, "home.empty"),
        (&["continuity", "show"], 1, "home.empty"),
        (&["ctl", "status"], 3, "daemon.not_running"),
        (&["ctl", "tree"], 3, "daemon.not_running"),
        (&["ctl", "restart", "index"], 3, "daemon.not_running"),
        (&["ctl", "stop"], 3, "daemon.not_running"),
    ];
    for (words, code, error) in expected {
        let ran = run_json(&scratch, words);
        assert_eq!(
            (ran.code, &ran.report()["data"]["error"]["code"]),
            (Some(code), &json!(error)),
            "{words:?}: {ran:#?}"
        );
        assert!(ran.report()["data"]["error"]["hint"].is_string(), "{words:?}");
        let text = run(&scratch, words);
        assert_eq!((text.code, text.stdout.as_str()), (Some(code), ""), "{words:?}");
        assert!(text.stderr.contains("hint:"), "{text:?}");
    }
    let status = assert_report(&run_json(&scratch, &["status"]).expect(0), "status");
    assert_eq!((&status["data"]["empty"], &status["data"]["daemon"]), (&json!(true), &Value::Null));
    assert_eq!(tree(scratch.path()), before);
}

#[test]
fn a_dry_run_changes_nothing() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin().exchange(0, 10).exchange(1, 10);
    let full = ["--set", "watch.window_tokens=50"];
    let dry: [&[&str]; 3] = [&["watch", "--dry-run"], &["snapshot", "--dry-run"], &["distill", "--dry-run"]];
    let before = tree(scratch.path());
    for words in dry {
        let ran = scratch.run(&[words, &full[..]].concat()).expect(0);
        assert!(
            ran.stdout.contains("transcripts:work") && ran.stdout.contains("nothing was changed"),
            "{words:?}: {ran:?}"
        );
        assert_report(&scratch.json(&[words, &full[..]].concat()).expect(0), words[0]);
    }
    assert_eq!(changes(&before, &tree(scratch.path())), Vec::<String>::new(), "there was no home");

    scratch.run(&["watch", "--once"]).expect(0);
    transcript.exchange(2, 10);
    let before = tree(scratch.path());
    for words in dry {
        let ran = scratch.run(&[words, &full[..]].concat()).expect(0);
        assert!(ran.stdout.contains("nothing was changed"), "{words:?}: {ran:?}");
    }
    assert_eq!(changes(&before, &tree(scratch.path())), Vec::<String>::new(), "there was a home");
}

#[test]
fn reading_commands_change_nothing_in_a_home() {
    let scratch = demo();
    let before = tree(&scratch.home());
    let reading: [&[&str]; 8] = [
        &["status"],
        &["sessions"],
        &["recall", "puppet"],
        &["continuity", "show"],
        &["logs"],
        &["config", "show"],
        &["verify"],
        &["ctl", "status"],
    ];
    for words in reading {
        run(&scratch, words);
        let mut changed = changes(&before, &tree(&scratch.home()));
        // What SQLite does beside its files for any reader: not content, but the place where content is looked for.
        let sqlites = ["state", "index", "index/history.db", "-shm", "-wal"];
        changed.retain(|line| !sqlites.iter().any(|end| line.ends_with(end)));
        assert_eq!(changed, Vec::<String>::new(), "{words:?}");
    }
}

#[test]
fn one_pass_archives_indexes_and_says_so() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin();
    (0..6).for_each(|n| _ = transcript.exchange(n, 30));
    scratch.transcript("other").begin().exchange(50, 10);
    let full = ["--set", "watch.window_tokens=300"];
    let first = scratch.json(&[&["watch", "--once"], &full[..]].concat()).expect(0);
    let report = assert_report(&first, "watch");
    assert!(report["details"].to_string().contains("triggered archive"), "{report}");
    let all = archived(&scratch.home());
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].2, transcript.bytes());
    // Nothing can be reduced here: the transcript is as it was, and a second pass adds nothing.
    let second = scratch.json(&[&["watch", "--once"], &full[..]].concat()).expect(0);
    assert_report(&second, "watch");
    assert_eq!(archived(&scratch.home()), all);
    scratch.run(&["verify"]).expect(0);
    let snapshot = scratch.run(&["snapshot"]).expect(0).stdout;
    assert!(snapshot.contains("nothing new"), "{snapshot}");
    transcript.exchange(6, 10);
    let snapshot = assert_report(&scratch.json(&["snapshot", "--session", "transcripts:work"]).expect(0), "snapshot");
    assert_eq!(archived(&scratch.home())[1].2, transcript.bytes(), "{snapshot}");
}

#[test]
fn commands_are_answered_by_the_running_daemon_as_without_one() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin().exchange(0, 20).exchange(1, 20);
    let daemon = scratch.daemon(&["--set", "watch.poll=1h", "--set", "watch.stale_after=1h"]);
    wait_for("the first capture", || {
        let status = scratch.json(&["status"]).report();
        (status["data"]["totals"]["records"] == 5 && status["data"]["totals"]["unindexed"] == 0).then_some(())
    });
    let status = assert_report(&scratch.json(&["status"]).expect(0), "status");
    assert_eq!(status["data"]["daemon"]["pid"], json!(daemon.pid()));
    let sessions = assert_report(&scratch.json(&["sessions"]).expect(0), "sessions");
    assert_eq!(sessions["data"]["sessions"][0]["key"], "transcripts:work");
    let found = assert_report(&scratch.json(&["recall", "question 1"]).expect(0), "recall");
    assert!(found["data"]["matches"].as_array().is_some_and(|m| !m.is_empty()), "{found}");
    assert_report(&scratch.json(&["index"]).expect(0), "index");
    assert_report(&scratch.json(&["index", "--rebuild"]).expect(0), "index");
    // The daemon has seen the new records at the same moment and may have begun by itself.
    for number in 2..14 {
        transcript.exchange(number, 20);
        let snapshot = scratch.json(&["snapshot"]).expect(0);
        assert!(archived(&scratch.home())[0].2 == transcript.bytes(), "it came back too early: {snapshot:?}");
    }
    assert_report(&scratch.json(&["distill"]).expect(0), "distill");
    let memory = std::fs::read_dir(scratch.in_home("memory")).expect("a folder").count();
    assert_eq!(memory, 1);
    assert_report(&scratch.json(&["continuity", "show"]).expect(0), "continuity show");
    let verified = assert_report(&scratch.json(&["verify"]).expect(0), "verify");
    assert_eq!(verified["data"]["archives"]["not_in_ledger"], 0);
    daemon.stop();
    assert_eq!(open_to_others(&scratch.home()), Vec::<String>::new());
    scratch.run(&["verify"]).expect(0);
}

#[test]
fn wrong_words_end_with_64_and_a_report() {
    let scratch = Scratch::new();
    let wrong: [&[&str]; 6] = [
        &["no-such-verb"],
        &["watch", "--once", "--daemon"],
        &["recall"],
        &["recall", "x", "--limit", "0"],
        &["--set", "thresholds.prun=0.5", "status"],
        &["--set", "thresholds.archive=0.95", "status"],
    ];
    for words in wrong {
        let text = run(&scratch, words);
        assert_eq!((text.code, text.stdout.as_str()), (Some(64), ""), "{words:?}: {text:?}");
        let ran = run_json(&scratch, words);
        assert_eq!(ran.code, Some(64), "{words:?}: {ran:?}");
        assert_eq!(ran.report()["ok"], json!(false), "{words:?}: {ran:?}");
        assert!(ran.report()["data"]["error"]["message"].is_string(), "{words:?}: {ran:?}");
    }
    // On whichever side of the verb they stand.
    let both =
        run_json(&scratch, &["--set", "thresholds.archive=0.7", "config", "show", "--set", "thresholds.prune=0.75"]);
    let keys = both.report()["data"]["keys"].clone();
    let value = |key: &str| {
        let list = keys.as_array().expect("a list");
        list.iter().find(|k| k["key"] == key).map(|k| k["value"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!((value("thresholds.archive"), value("thresholds.prune")), (Some("0.7".into()), Some("0.75".into())));
}
