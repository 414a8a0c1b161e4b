//! `moon troubleshoot`: what is in the bundle, what must never be, and that it works when everything else does not.

mod support;

use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::process::{Ran, Scratch, wait_for};

/// Secrets of several shapes; none of them may be found in the bundle, wherever it was planted.
const CANARIES: [&str; 9] = [
    "sk-proj-Zq81Canary0123456789abcdefXYZ",
    "ghp_Canary0123456789abcdefghijklmnopqrst",
    "AKIACANARY0123456789",
    "xoxb-1234567890-canarycanarycanary",
    "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnkiOjF9.c2lnbmF0dXJlY2FuYXJ5",
    "hooks.slack.com/services/T0CANARY/B0CANARY/canarycanarycanarycanary",
    "plainwordcanary",
    "kanarienvogel-in-der-umgebung",
    "canary of a file with spaces",
];

fn members(bundle: &Path) -> BTreeMap<String, String> {
    let file = std::fs::File::open(bundle).expect("the bundle");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut members = BTreeMap::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("a member");
        assert_eq!(entry.header().mode().expect("a mode"), 0o600);
        let name = entry.path().expect("a name").display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        members.insert(name.trim_start_matches("moon-troubleshoot/").to_owned(), text);
    }
    members
}

fn plant(scratch: &Scratch) -> String {
    let file = scratch.path().join("gateway-token");
    std::fs::write(&file, format!("{}\n", CANARIES[8])).expect("written");
    let settings = format!(
        "[openclaw]\ntoken_file = {:?}\nurl = \"ws://ada:{}@127.0.0.1:1\"\n",
        file.display().to_string(),
        CANARIES[6]
    );
    std::fs::write(scratch.in_home("moon.toml"), settings).expect("written");
    std::fs::set_permissions(scratch.in_home("moon.toml"), std::fs::Permissions::from_mode(0o600)).expect("set");
    let mut log = String::new();
    for (at, canary) in CANARIES.iter().enumerate() {
        let line = match at % 3 {
            0 => json!({"level": "INFO", "message": format!("request with {canary} sent"), "password": CANARIES[6]}).to_string(),
            1 => json!({"level": "INFO", "nested": {"list": [format!("Authorization: Bearer {canary}")]}, "token": canary}).to_string(),
            _ => format!("not json: password={canary} torn {{"),
        };
        // A plain word is a secret only where something says so.
        if ![6].contains(&at) || at % 3 != 0 {
            log.push_str(&line);
            log.push('\n');
        }
    }
    for name in ["moon.log", "alerts.log", "daemon.out"] {
        std::fs::write(scratch.in_home("logs").join(name), &log).expect("written");
    }
    log
}

fn troubleshoot(scratch: &Scratch, out: &Path) -> Ran {
    let mut command = scratch.moon(&["troubleshoot", "--json", "--out"]);
    command.arg(out).env("MOON_CANARY_TOKEN", CANARIES[7]).env("OPENCLAW_GATEWAY_TOKEN", CANARIES[0]);
    Ran::of(&mut command)
}

#[test]
fn no_secret_and_no_word_of_a_conversation_is_in_the_bundle() {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin().exchange(0, 30);
    scratch.run(&["watch", "--once"]).expect(0);
    let log = plant(&scratch);
    assert!(CANARIES[..6].iter().all(|canary| log.contains(canary)), "they are planted");
    let out = scratch.path().join("bundle.tar.gz");
    let ran = troubleshoot(&scratch, &out);
    assert_eq!(ran.code, Some(2), "the daemon does not run, which is worth a word: {ran:?}");
    assert_eq!(out.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    let members = members(&out);
    for name in [
        "about/machine.txt",
        "about/settings.txt",
        "about/daemon.txt",
        "about/ledger.txt",
        "about/service.txt",
        "about/disk.txt",
        "about/rights.txt",
        "findings.json",
        "logs/moon.log",
        "alerts.jsonl",
        "chores.json",
        "jobs.json",
    ] {
        assert!(
            members.get(name).is_some_and(|text| !text.trim().is_empty() || name == "alerts.jsonl"),
            "{name}: {:?}",
            members.keys()
        );
    }
    assert!(members["logs/moon.log"].lines().count() >= 7, "the lines themselves are there");
    assert!(members["about/settings.txt"].contains("variable MOON_CANARY_TOKEN is set"));
    for (name, text) in &members {
        for canary in CANARIES {
            assert!(!text.contains(canary), "{canary} in {name}: {text}");
        }
        assert!(!text.contains("question 0"), "a word of the conversation is in {name}");
    }
    for canary in CANARIES {
        assert!(!ran.stdout.contains(canary) && !ran.stderr.contains(canary), "{canary}: {ran:?}");
    }
}

#[test]
fn it_names_what_is_wrong_with_causes_and_next_steps() {
    let scratch = Scratch::new();
    let daemon = scratch.daemon(&["--set", "watch.poll=200ms"]);
    let out = scratch.path().join("bundle.tar.gz");
    troubleshoot(&scratch, &out);
    let first = members(&out);
    assert!(first.contains_key("tree.json") && first.contains_key("status.json"), "{:?}", first.keys());
    daemon.kill();
    wait_for("the lock to be free", || scratch.json(&["ctl", "status"]).code.filter(|code| *code == 3));
    std::fs::write(scratch.in_home("moon.toml"), "[thresholds]\nnonsense = 1\n").expect("written");
    std::fs::set_permissions(scratch.in_home("moon.toml"), std::fs::Permissions::from_mode(0o600)).expect("set");
    // The settings are wrong, the daemon crashed: this is what it is for.
    let report = troubleshoot(&scratch, &out).expect(2).report();
    let findings = report["data"]["findings"].as_array().expect("findings").clone();
    let of =
        |part: &str| findings.iter().find(|f| f["symptom"].as_str().is_some_and(|text| text.contains(part))).cloned();
    let settings = of("nonsense").unwrap_or_else(|| panic!("{findings:?}"));
    assert!(settings["next_step"].as_str().is_some_and(|step| step.contains("moon config check")));
    let daemon = of("does not run and nobody stopped it").unwrap_or_else(|| panic!("{findings:?}"));
    assert!(daemon["next_step"].as_str().is_some_and(|step| step.contains("moon start")));
    // A damaged ledger is named, and the bundle is made all the same.
    std::fs::remove_file(scratch.in_home("moon.toml")).expect("removed");
    for name in ["moon.db-wal", "moon.db-shm"] {
        let _ = std::fs::remove_file(scratch.in_home("state").join(name));
    }
    std::fs::write(scratch.in_home("state/moon.db"), vec![b'x'; 8192]).expect("damaged");
    let report = troubleshoot(&scratch, &out).expect(2).report();
    let text = report["data"]["findings"].to_string();
    assert!(text.contains("ledger"), "{text}");
}
