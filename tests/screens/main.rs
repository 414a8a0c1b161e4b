//! The screens, as a person and a program meet them: in text, in a terminal, in a browser, as metrics; with a daemon that lives, hangs,
//! is dead, was stopped or never was. Peers: tmux, Chromium, promtool and the node exporter.

mod document;
mod metrics;
mod page;
mod pictures;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod terminal;

use moon::screens::view::View;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::process::{Scratch, wait_for};

/// Names as an attacker would give them: for a terminal, for a page, for a reader.
const HOSTILE: [&str; 3] = [
    "<script>window.hacked=1<\u{2215}script><img src=x onerror=window.hacked=2>",
    "\u{1b}[2Jansi\u{1b}]0;owned\u{7}",
    "\u{202e}gnp.exe",
];

fn with_sessions(names: &[&str]) -> Scratch {
    let scratch = Scratch::new();
    for name in names {
        scratch.transcript(name).begin().exchange(1, 200).exchange(2, 200);
    }
    scratch
}

/// The dashboard's JSON without a report around it.
fn dashboard(scratch: &Scratch) -> Value {
    scratch.run(&["dashboard", "json"]).expect(0).report()
}

/// Screens that any home can be asked for, with what they print.
fn screens(scratch: &Scratch) -> Vec<(&'static str, String)> {
    let html = scratch.path().join("page.html");
    scratch.run(&["dashboard", "--html", &html.display().to_string()]).expect(0);
    let said = |words: &[&str]| {
        let ran = scratch.run(words);
        assert!(matches!(ran.code, Some(0 | 2)), "{words:?}: {ran:#?}");
        ran.stdout
    };
    vec![
        ("status", said(&["status"])),
        ("dashboard", said(&["dashboard"])),
        ("page", std::fs::read_to_string(html).expect("a page")),
        ("json", said(&["dashboard", "json"])),
    ]
}

#[test]
fn a_home_in_which_nothing_ever_ran_is_called_so_and_stays_as_it_is() {
    let scratch = Scratch::new();
    for (name, text) in screens(&scratch) {
        assert!(text.contains("never started") || text.contains("never_started"), "{name}: {text}");
    }
    let status = scratch.run(&["status"]).stdout;
    assert!(status.contains("\nmode      observe; bridge: no gateway has loaded the plugin yet\n"), "{status}");
    let json = dashboard(&scratch);
    assert_eq!((&json["daemon"]["status"], &json["memory"]["size"]), (&json!("never_started"), &Value::Null));
    assert!(scratch.run(&["dashboard", "prometheus"]).expect(0).stdout.contains("moon_up 0\n"));
    let refused = scratch.json(&["dashboard", "web"]).expect(1).report();
    assert_eq!(refused["data"]["error"]["code"], "dashboard.not_served");
    assert!(!scratch.home().exists(), "looking made a home");
}

#[test]
fn a_daemon_is_live_or_stale_or_dead_or_stopped_and_every_screen_says_which() {
    let scratch = with_sessions(&["one"]);
    let all_say = |word: &str, status: &str| {
        for (name, text) in screens(&scratch) {
            assert!(text.contains(if name == "json" { status } else { word }), "{name} does not say {word}: {text}");
        }
        assert_eq!(dashboard(&scratch)["daemon"]["status"], status);
    };
    let daemon = scratch.daemon(&[]);
    wait_for("the session", || scratch.run(&["status"]).stdout.contains("transcripts:one").then_some(()));
    all_say("live", "running");
    let up = dashboard(&scratch);
    assert_eq!(up["daemon"]["pid"], json!(daemon.pid()));
    for (part, key) in
        [("daemon", "uptime"), ("memory", "databases"), ("system", "disk_available"), ("system", "log_size")]
    {
        assert!(up[part][key].is_u64(), "{part}.{key}: {up:#}");
    }
    let file: Value =
        serde_json::from_slice(&std::fs::read(scratch.in_home("logs/daemon_status.json")).expect("a status file"))
            .expect("JSON");
    assert_eq!((&file["status"], &file["pid"]), (&json!("running"), &json!(daemon.pid().to_string())));

    let pid = rustix::process::Pid::from_raw(daemon.pid().cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
    let begun = Instant::now();
    let hung = scratch.run(&["status"]).expect(2);
    assert!(begun.elapsed() < Duration::from_secs(15), "a screen hung with the daemon");
    assert!(hung.stdout.starts_with("issue: critical: daemon: the daemon does not answer"), "{}", hung.stdout);
    assert!(hung.stdout.contains("transcripts:one"), "what the ledger holds is shown: {}", hung.stdout);
    assert_eq!(dashboard(&scratch)["daemon"]["status"], "not_answering");

    daemon.kill();
    all_say("daemon is dead", "error");
    scratch.run(&["status"]).expect(2);
    let again = scratch.daemon(&[]);
    again.stop();
    all_say("stopped on purpose on ", "stopped");
    let stopped = scratch.run(&["status"]).expect(0).stdout;
    assert!(stopped.contains(" UTC (asked to stop), "), "{stopped}");
    let health = stopped.lines().find(|line| line.starts_with("health ")).expect("a line");
    assert!(["no daemon runs; ", "nothing was checked yet"].iter().any(|said| health.contains(said)), "{health}");
    let metrics = scratch.run(&["dashboard", "prometheus"]).expect(0).stdout;
    assert!(metrics.contains("moon_up 0\n") && metrics.contains("moon_archived_records_total 5\n"), "{metrics}");
    let report = scratch.json(&["dashboard", "report"]).expect(0).report();
    let period = &report["data"]["period"];
    assert_eq!(
        (&period["starts"], &period["unclean_ends"], &period["archived_segments"]),
        (&json!(2), &json!(1), &json!(1))
    );
}

#[test]
fn foreign_names_are_harmless_on_every_screen() {
    let scratch = with_sessions(&HOSTILE);
    scratch.run(&["watch", "--once"]).expect(0);
    for (name, text) in screens(&scratch) {
        let obeyed = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}');
        assert!(!text.contains(obeyed), "{name}: {text:?}");
        if name == "page" {
            assert!(!text.contains("<script") && !text.contains("<img") && text.contains("&lt;script&gt;"), "{text}");
            assert!(text.contains("default-src &#x27;none&#x27;; style-src &#x27;sha256-"), "{text}");
        }
    }
    let keys: Vec<Value> = dashboard(&scratch)["status"]["sessions"]
        .as_array()
        .expect("sessions")
        .iter()
        .map(|s| s["key"].clone())
        .collect();
    for name in HOSTILE {
        assert!(keys.contains(&json!(format!("transcripts:{name}"))), "a program gets the name as it is: {keys:?}");
    }
}

#[test]
fn the_status_of_a_quiet_system_fits_a_small_terminal() {
    let scratch = with_sessions(&["library-move", "garden", "tax"]);
    let _daemon = scratch.daemon(&[]);
    wait_for("the archive", || scratch.run(&["status"]).stdout.contains("in 3 segments").then_some(()));
    let text = scratch.run(&["status"]).expect(0).stdout;
    // The home's own path is as long as somebody made it.
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert!(
        lines.len() < 23 && lines.iter().all(|line| line.chars().count() <= 80 || line.starts_with("host")),
        "{text}"
    );
}

#[test]
fn a_check_that_fails_is_one_line_of_the_status_whatever_its_alert_is_called() {
    let scratch = Scratch::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let file = scratch.path().join("moon-test.toml");
    let text = format!(
        "[health]\nevery = \"1s\"\nstart_after = \"0s\"\n[[health.endpoints]]\nname = \"bridge\"\nurl = \"tcp://127.0.0.1:{port}\"\n"
    );
    std::fs::write(&file, text).expect("written");
    let daemon = scratch.daemon(&["--config", &file.display().to_string()]);
    let status = wait_for("the alert", || {
        let fires = scratch.json(&["alerts"]).report()["data"]["alerts"].to_string().contains("endpoint.down");
        fires.then(|| scratch.run(&["status"]).stdout)
    });
    assert_eq!(status.lines().filter(|line| line.contains("endpoint:bridge")).count(), 1, "{status}");
    assert!(status.starts_with("issue: critical: endpoint.down: endpoint:bridge: "), "trouble first: {status}");
    daemon.stop();
    let health = |text: String| text.lines().find(|line| line.starts_with("health ")).map(str::to_owned);
    let said = health(scratch.run(&["status"]).stdout).expect("a line");
    assert!(said.starts_with("health    no daemon runs; ") && said.contains(" ago critical: "), "{said}");
}

#[test]
fn what_is_silenced_is_called_so_and_comes_behind_what_is_not() {
    let scratch = Scratch::new();
    let raise = |rule: &str, severity: &str, message: &str| {
        let words = ["alerts", "raise", rule, "--subject", "nightly", "--severity", severity, "--message", message];
        scratch.run(&words).expect(0);
    };
    raise("sync.failed", "critical", "quiet");
    raise("disk.low", "warning", "4 GB left");
    scratch.run(&["alerts", "silence", "sync.*", "--for", "2h", "--reason", "known", "--by", "ann"]).expect(0);
    let status = scratch.run(&["status"]).expect(2).stdout;
    let at = |said: &str| status.find(said).unwrap_or_else(|| panic!("{said}: {status}"));
    let silenced = at("issue: critical: sync.failed nightly: quiet, silenced (for ");
    assert!(at("issue: warning: disk.low nightly: 4 GB left (for ") < silenced, "{status}");
}
