//! A real systemd runs the real unit: ready, killed, hung, reloaded, stopped on purpose, crashing until it gives up.
//!
//! One container for all of it, because a crash loop and a watchdog take seconds of real time. The unit is the one that
//! `moon service install --system` writes, with its walls; the pause between two starts alone is made shorter.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use support::container::Container;
use support::process::Transcript;

#[test]
fn the_service_lives_through_kills_hangs_storms_and_stops_under_a_real_systemd() {
    const TEST: &str = "the_service_lives_through_kills_hangs_storms_and_stops_under_a_real_systemd";
    let Some(container) = Container::make(TEST) else { return };
    container.program("moon", Path::new(env!("CARGO_BIN_EXE_moon")));
    std::fs::create_dir_all(container.root().join("home/ada/bin")).expect("a folder");
    std::fs::hard_link(container.root().join("opt/lab/moon"), container.root().join("home/ada/bin/moon"))
        .expect("linked");
    let home = container.root().join("home/ada/.lilac_metaflora");
    std::fs::create_dir_all(container.root().join("home/ada/transcripts")).expect("a folder");
    std::fs::create_dir_all(&home).expect("a folder");
    let settings = "[watch]\nhost = \"transcripts\"\ntranscripts_dir = \"/home/ada/transcripts\"\npoll = \"500ms\"\n\n\
        [service]\nwatchdog = \"3s\"\n\n[health]\ndatabases = [\"~/agent/memory/*.db\"]\n\n\
        [dashboard]\ntextfile = \"/srv/textfile/moon.prom\"\n\n\
        [rotation]\nmax_mib = 1\nfiles = [{ path = \"~/logs/*.log\" }]\n";
    std::fs::write(home.join("moon.toml"), settings).expect("written");
    what_the_settings_name(container.root());
    let transcript = Transcript::at(container.root().join("home/ada/transcripts/work.jsonl"));
    transcript.begin().exchange(0, 40);
    for path in [
        "home/ada",
        "home/ada/bin",
        "home/ada/transcripts",
        "home/ada/transcripts/work.jsonl",
        "home/ada/.lilac_metaflora",
        "home/ada/.lilac_metaflora/moon.toml",
        "home/ada/agent",
        "home/ada/agent/memory",
        "home/ada/agent/memory/facts.db",
        "home/ada/logs",
        "home/ada/logs/agent.log",
        "srv/textfile",
    ] {
        std::os::unix::fs::chown(container.root().join(path), Some(1000), Some(1000)).expect("root may");
    }
    let said = container.run(include_str!("support/systemd-probe.sh"));
    let seen: BTreeMap<&str, &str> = said.lines().filter_map(|line| line.split_once('=')).collect();
    let told = |key: &str| seen.get(key).copied().unwrap_or_default();
    let context = [
        "install",
        "answer",
        "health",
        "rotated",
        "stop",
        "verify",
        "user_manager",
        "user_install",
        "user_restart",
        "journal",
    ]
    .map(|name| container.read(&format!("out/{name}")))
    .concat();
    let context = format!("{said}\n{context}");
    let is = |key: &str, wanted: &str| assert_eq!(told(key), wanted, "{key}\n{context}");
    is("done", "yes");
    is("installed", "0");
    is("ready", "active running");
    assert!(told("status").starts_with("watching "), "{context}");
    is("user", "ada");
    is("again", "0 2 1");
    // Behind the walls it archives, keeps its rights, and answers its owner.
    assert_ne!(told("archived"), "0", "{context}");
    is("wide", "0");
    is("answers", "0");
    is("looks_at_databases", "0");
    is("rotates", "0 1");
    is("metrics", "0");
    let back_within = |key: &str, limit: u64| {
        let (code, millis) = told(key).split_once(' ').unwrap_or_default();
        assert!(code == "0" && millis.parse::<u64>().is_ok_and(|ms| ms < limit), "{key} {}\n{context}", told(key));
    };
    back_within("killed_back", 8_000);
    back_within("hung_back", 3_000 + 9_000);
    is("hung_why", "1");
    is("reloaded", "0 active same");
    is("reloaded_value", "1");
    is("broken_reload", "1 active same");
    is("stopped", "0 inactive success");
    is("stays", "inactive noted");
    is("storm", "5 failed signal");
    is("told", "1");
    is("told_ended", "success 0");
    is("alert", "1");
    is("refused", "1");
    is("by_hand", "0 active");
    back_within("verified", 3_000);
    is("uninstalled", "0 not-found 0");
    // A user's own systemd, if this machine's can run one (it needs D-Bus and PAM).
    if told("user_manager") == "0" {
        assert!(told("user_installed").starts_with("0 active watching "), "{context}");
        is("user_restarted", "0");
        is("user_stopped", "0 inactive");
        is("user_started", "0 active");
        is("user_status", "0");
        is("user_uninstalled", "0 0");
    } else {
        support::skip("the_service_under_a_users_own_systemd", "no user manager starts in the container");
    }
    if container.root().join("opt/lab/crontab").exists() {
        the_crontab_kept_its_foreign_lines(&container, &seen);
    }
}

/// An agent's database in WAL mode, a log of its own, and a folder for metrics.
fn what_the_settings_name(root: &Path) {
    for folder in ["home/ada/agent/memory", "home/ada/logs", "srv/textfile"] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    std::fs::write(root.join("home/ada/logs/agent.log"), "a line\n".repeat(200_000)).expect("written");
    let db = rusqlite::Connection::open(root.join("home/ada/agent/memory/facts.db")).expect("a database");
    db.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE facts (text); INSERT INTO facts VALUES ('one');")
        .expect("written");
}

fn the_crontab_kept_its_foreign_lines(container: &Container, seen: &BTreeMap<&str, &str>) {
    let read = |name: &str| container.read(&format!("out/{name}"));
    assert_eq!((seen.get("cron"), seen.get("cron_removed")), (Some(&"0"), Some(&"0")), "{}", read("cron.told"));
    let (before, with) = (read("cron.before"), read("cron.with"));
    assert!(before.contains("7 4 * * * /usr/bin/true  \n"), "{before}");
    assert!(with.starts_with(&before) && with.len() > before.len(), "{with}");
    assert_eq!(with.lines().filter(|line| line.contains("--home /opt/moon")).count(), 5, "{with}");
    assert_eq!(read("cron.twice"), with);
    assert_eq!(read("cron.after"), before);
}
