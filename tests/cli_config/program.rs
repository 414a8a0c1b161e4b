//! The command line as a whole: reports, exit codes, names, colour, output that nobody reads, the daemon's log.

use super::*;
use moon_actors::settings::Settings;
use std::io::Read;

#[test]
fn every_report_has_the_same_shape() {
    let scene = Scene::new();
    scene.write("bad.toml", "[recall]\nlimt = 9\n");
    for (words, code) in [
        (vec!["config", "show"], 0),
        (vec!["config", "check"], 0),
        (vec!["logs"], 0),
        (vec!["--config", "bad.toml", "config", "check"], 64),
        (vec!["--config", "bad.toml", "config", "show"], 64),
        (vec!["--config", "bad.toml", "sessions"], 64),
        (vec!["config", "show", "--no-such-flag"], 64),
        (vec!["no-such-verb"], 64),
    ] {
        let (report, got) = json(scene.moon().arg("--json").args(&words));
        assert_eq!(got, code, "{words:?}");
        let fields: Vec<_> = report.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(fields, ["command", "ok", "details", "issues", "data"], "{words:?}");
        assert_eq!(report["ok"], code == 0, "{words:?}");
        assert_eq!(report["issues"].as_array().expect("a list").is_empty(), code == 0, "{words:?}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_64_and_help_with_0() {
    let scene = Scene::new();
    for words in [vec![], vec!["no-such-verb"], vec!["recall"], vec!["ctl"], vec!["recall", "q", "--limit", "0"]] {
        let output = scene.moon().args(&words).assert().code(64).get_output().clone();
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{words:?}");
    }
    for words in [vec!["--help"], vec!["--version"], vec!["recall", "--help"], vec!["ctl", "restart", "-h"]] {
        let output = scene.moon().args(&words).assert().code(0).get_output().clone();
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn an_error_names_operation_causes_and_next_step_on_stderr_without_colour() {
    let scene = Scene::new();
    scene.write(".lilac_metaflora/moon.toml", "[recall]\nlimt = 9\nlimit = 0\n");
    let output = scene.moon().arg("sessions").assert().code(64).get_output().clone();
    let file = scene.path(".lilac_metaflora/moon.toml");
    let want = format!(
        "error: could not use the configuration: 2 problems\n  cause: {file}:2:1: recall.limt: unknown key; did you mean \
         \"limit\"?\n  cause: {file}:3:1: recall.limit: 0 must be between 1 and 100\n  hint:  `moon config check` shows the \
         problems again, `moon.toml.example` every key with its default\n",
        file = file.display()
    );
    assert_eq!(String::from_utf8(output.stderr).expect("text"), want);
    assert!(output.stdout.is_empty());
}

#[test]
fn a_template_that_is_broken_stops_what_starts_a_daemon_and_nothing_that_needs_no_route() {
    let scene = Scene::new();
    let template = scene.write("bad.j2", "{{ title");
    let config = scene.write(
        "routes.toml",
        &format!("[[alerts.routes]]\nname = \"a\"\nkind = \"webhook\"\nurl = \"https://example.org\"\ntemplate = {template:?}\n"),
    );
    let run = |words: &[&str]| scene.moon().arg("--config").arg(&config).args(words).output().expect("runs");
    for words in [&["config", "check"][..], &["watch", "--once"], &["start"], &["restart"]] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(64), "{words:?}: {output:?}");
    }
    for words in [&["rotate-logs", "--dry-run"][..], &["health", "--check", "disk"], &["status"], &["service", "print"]]
    {
        let output = run(words);
        assert_ne!(output.status.code(), Some(64), "{words:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let note = "the settings are wrong, `moon config check` says how: ";
        assert!(said.matches(note).count() == 1 && said.contains("routes.toml:5:1: alerts.routes.template"), "{said}");
    }
    // Beside another mistake it is one of two.
    std::fs::write(&config, std::fs::read_to_string(&config).expect("there") + "[recall]\nlimit = 0\n")
        .expect("written");
    assert_eq!(run(&["rotate-logs", "--dry-run"]).status.code(), Some(64));
    assert_eq!(
        json(scene.moon().args(["--json", "--config", "routes.toml", "config", "check"])).0["issues"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

#[test]
fn status_is_shown_of_the_home_that_broken_settings_name_and_refused_where_that_is_not_known() {
    let scene = Scene::new();
    let home = scene.path("elsewhere");
    let config = scene.write("given.toml", &format!("[home]\npath = {home:?}\n[watch]\npoll = 5\nhots = 1\n"));
    let run = || json(scene.moon().args(["--json", "--config", "given.toml", "status"]));
    let (report, code) = run();
    assert_eq!((report["data"]["home"].as_str(), code), (home.to_str(), 0), "{report}");
    std::fs::write(&config, "[watch\n").expect("written");
    assert_eq!(run().1, 64);
    let named = json(scene.moon().args(["--json", "--config", "given.toml", "--home"]).arg(&home).arg("status"));
    assert_eq!(named.1, 0, "{named:?}");
}

#[test]
fn the_names_of_the_first_plan_work_as_verbs_and_as_links() {
    let scene = Scene::new();
    for name in ["moon-watch", "moon-recall", "moon-distill", "moon-snapshot", "moon-index", "moon-status"] {
        let verb = name.trim_start_matches("moon-");
        let help = |command: &mut Command| {
            let output = command.arg("--help").assert().code(0).get_output().clone();
            String::from_utf8(output.stdout).expect("text")
        };
        let want = help(scene.moon().arg(verb));
        assert!(want.contains(&format!("Usage: moon {verb}")), "{want}");
        assert_eq!(help(scene.moon().arg(name)), want);
        let link = scene.path(name);
        std::os::unix::fs::symlink(assert_cmd::cargo::cargo_bin!("moon"), &link).expect("a link");
        assert_eq!(help(&mut scene.command(&link)), want);
    }
}

/// What `moon recall` in an empty home says on a terminal.
fn said_on_a_terminal(scene: &Scene, no_color: bool) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("unlocked");
    let name = ptsname(&controller, Vec::new()).expect("a name").into_string().expect("text");
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open(name).expect("opens");
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("moon"));
    command.env_clear().env("HOME", scene.folder.path()).env("TERM", "xterm").args(["recall", "x"]).stderr(terminal);
    if no_color {
        command.env("NO_COLOR", "1");
    }
    assert_eq!(command.status().expect("runs").code(), Some(1));
    // It holds the terminal too; once nobody does, the reading ends (on Linux with an error).
    drop(command);
    let mut said = Vec::new();
    let _ = std::fs::File::from(controller).read_to_end(&mut said);
    String::from_utf8(said).expect("text")
}

#[test]
fn colour_is_used_on_a_terminal_and_not_with_no_color() {
    let scene = Scene::new();
    let plain = said_on_a_terminal(&scene, true);
    assert!(plain.starts_with("error: ") && !plain.contains('\u{1b}'), "{plain:?}");
    let coloured = said_on_a_terminal(&scene, false);
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
}

#[test]
fn a_reader_that_goes_away_ends_the_output_quietly() {
    let scene = Scene::new();
    let long: String = (0..20_000).map(|n| format!("{{\"message\":\"line {n}\"}}\n")).collect();
    scene.write(".lilac_metaflora/logs/moon.log", &long);
    for extra in ["--lines=10000", "--follow"] {
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("moon"))
            .env_clear()
            .env("HOME", scene.folder.path())
            .args(["logs", "--lines", "9999", "--json"])
            .args((extra == "--follow").then_some(extra))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let mut first = [0; 16];
        child.stdout.take().expect("piped").read_exact(&mut first).expect("begins to answer");
        let output = child.wait_with_output().expect("ends");
        assert_eq!(output.status.code(), Some(0), "{extra}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{extra}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let scene = Scene::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin!("moon"))
        .env_clear()
        .env("HOME", scene.folder.path())
        .args(["config", "show"])
        .stdout(full)
        .stderr(std::process::Stdio::piped())
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: could not write the answer\n  cause: "));
}

#[test]
fn commands_that_only_read_make_no_home() {
    let scene = Scene::new();
    scene.moon().arg("logs").assert().success();
    scene.moon().args(["config", "show"]).assert().success();
    assert_eq!(std::fs::read_dir(scene.folder.path()).expect("listable").count(), 0);
}

#[test]
fn every_command_flag_and_exit_code_is_in_the_documentation() {
    fn walk(command: &clap::Command, words: &str, missing: &mut Vec<String>) {
        let text = include_str!("../../docs/cli.md");
        for flag in command.get_arguments().filter(|a| !a.is_hide_set()).filter_map(clap::Arg::get_long) {
            if !text.contains(&format!("--{flag}")) {
                missing.push(format!("{words} --{flag}"));
            }
        }
        for child in command.get_subcommands() {
            let name = child.get_name();
            let words = format!("{words} {name}");
            // `ctl` lists its own on one line.
            let there = text.contains(&format!("`{words}")) || text.contains(&format!("|{name}")) || name == "status";
            if !there {
                missing.push(words.clone());
            }
            walk(child, &words, missing);
        }
    }
    let mut missing = Vec::new();
    walk(&<moon::cli::Cli as clap::CommandFactory>::command(), "moon", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
    use moon::cli::exit::Exit;
    for exit in [Exit::Ok, Exit::Error, Exit::NotOk, Exit::Held, Exit::HostUnreachable, Exit::Usage, Exit::GaveUp] {
        assert!(include_str!("../../docs/cli.md").contains(&format!("\n| {} | ", exit as u8)), "{exit:?}");
    }
}

/// The subscriber is one per process, so everything about the daemon's log is one test.
#[test]
fn the_daemons_log_is_private_json_lines_that_moon_logs_finds_by_trace() {
    let scene = Scene::new();
    let (home, _) = moon::home::Home::open(scene.path(".lilac_metaflora")).expect("opens");
    moon::logging::start(0);
    tracing::error!(target: "moon::test", "before the daemon");
    let log = moon::logging::daemon(&home, &Settings::default().log).expect("a log file");
    tracing::info!(target: "moon::test", trace = "t1", bytes = 5, "archived");
    tracing::info_span!(target: "moon::test", "job", trace = "t2").in_scope(|| {
        tracing::warn!(target: "moon::test", "slow");
    });
    tracing::debug!(target: "moon::test", "below the level");
    tracing::info!(target: "hyper::proto", "a library talks");
    let crashed = std::thread::spawn(|| panic!("a bug of a test")).join();
    assert!(crashed.is_err());
    assert_eq!(log.lost_lines(), 0);
    drop(log);
    tracing::error!(target: "moon::test", "after the daemon");

    let text = std::fs::read_to_string(home.log_file()).expect("readable");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap_or_default()).collect();
    assert_eq!(messages, ["archived", "slow", "a part of moon crashed"]);
    assert_eq!(lines[2]["panic"], "a bug of a test");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(home.log_file()).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);

    for (trace, message) in [("t1", "archived"), ("t2", "slow")] {
        let (report, _) = json(scene.moon().args(["logs", "--json", "--trace", trace]));
        let found: Vec<_> = report["data"]["lines"].as_array().expect("a list").iter().map(|l| &l["message"]).collect();
        assert_eq!(found, [message]);
    }
    let text = scene.moon().args(["logs", "-n", "2"]).assert().success().get_output().stdout.clone();
    let text = String::from_utf8(text).expect("text");
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains(" WARN slow trace=t2\n"), "{text}");
}
