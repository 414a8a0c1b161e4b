//! Edits on values, and the command's ways to fail. The real OpenClaw is asked in `tests/bridge_real.rs`.

use super::edit::{all_changes, apply, patch, revert, wishes};
use super::*;
use moon_actors::port::Bridge as _;
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;

const FOLDER: &str = "/m/openclaw/moon-bridge";

fn install_into(config: &Value, mode: Mode, recorded: &[Change]) -> (Value, Vec<Change>) {
    let base = edit::without_moon(config, recorded);
    let wished = wishes(&base, mode, FOLDER, "/m", 20_000).expect("may be installed");
    let (target, changes, _) = apply(config, &base, &wished, recorded);
    (target, changes)
}

fn there_and_back(before: &Value, mode: Mode) -> Value {
    let (target, changes) = install_into(before, mode, &[]);
    let (again, recorded) = install_into(&target, mode, &changes);
    assert_eq!((&again, &recorded), (&target, &changes), "a second run changes nothing");
    let mut patched = before.clone();
    if let Some(patch) = patch(before, &target) {
        edit::merge(&mut patched, &patch);
    }
    assert_eq!(patched, target, "the patch says what the edit does");
    // Through the file, as the next process sees it.
    let stored = serde_json::to_string(&changes).expect("serialisable");
    let changes: Vec<Change> = serde_json::from_str(&stored).expect("readable");
    let mut after = target.clone();
    revert(&mut after, &changes);
    assert_eq!(&after, before, "taken back exactly");
    target
}

#[test]
fn what_install_did_uninstall_takes_back_exactly() {
    for config in [
        json!({}),
        json!({"plugins": {}}),
        json!({"plugins": {"enabled": false}}),
        json!({"plugins": {"enabled": false, "allow": []}}),
        json!({"plugins": {"allow": []}}),
        json!({"plugins": {"allow": ["other"], "load": {"paths": ["/o"]}, "entries": {"other": {"enabled": true}}}}),
        json!({"agents": {"defaults": {"compaction": {"provider": "theirs", "mode": "safeguard"}}}, "gateway": {"port": 1}}),
        json!({"agents": {"defaults": {"compaction": {"enabled": null}}}, "plugins": {"load": {"paths": []}, "entries": {}}}),
    ] {
        for mode in [Mode::Observe, Mode::Lead] {
            there_and_back(&config, mode);
        }
    }
}

#[test]
fn foreign_entries_stay_and_lists_are_merged() {
    let before =
        json!({"plugins": {"allow": ["other"], "load": {"paths": ["/o"]}, "entries": {"other": {"enabled": true}}}});
    let target = there_and_back(&before, Mode::Lead);
    assert_eq!(target["plugins"]["allow"], json!(["other", "moon-bridge"]));
    assert_eq!(target["plugins"]["load"]["paths"], json!(["/o", FOLDER]));
    assert_eq!(target["plugins"]["entries"]["other"], json!({"enabled": true}));
    assert_eq!(target["agents"]["defaults"]["compaction"], json!({"enabled": false, "provider": "moon-bridge"}));
}

#[test]
fn moons_item_keeps_its_place_when_others_come_after_it() {
    let (mut config, changes) = install_into(&json!({}), Mode::Observe, &[]);
    config["plugins"]["load"]["paths"].as_array_mut().expect("a list").push(json!("/later"));
    let (again, _) = install_into(&config, Mode::Observe, &changes);
    assert_eq!(again, config);
}

#[test]
fn observing_touches_no_compaction_setting() {
    let target = there_and_back(&json!({}), Mode::Observe);
    assert_eq!(target.get("agents"), None);
    assert_eq!(target["plugins"].get("allow"), None, "a list that is not there lets every plugin in");
}

#[test]
fn switching_from_lead_to_observe_puts_the_owners_compaction_back() {
    let before = json!({"agents": {"defaults": {"compaction": {"provider": "theirs"}}}});
    let (led, changes) = install_into(&before, Mode::Lead, &[]);
    let (watched, recorded) = install_into(&led, Mode::Observe, &changes);
    assert_eq!(watched["agents"], before["agents"]);
    let (again, back) = install_into(&watched, Mode::Lead, &recorded);
    assert_eq!(again, led);
    let mut after = again.clone();
    revert(&mut after, &back);
    assert_eq!(after, before);
}

#[test]
fn what_somebody_changed_since_is_left_alone() {
    let (mut config, changes) = install_into(&json!({}), Mode::Lead, &[]);
    config["agents"]["defaults"]["compaction"]["provider"] = json!("theirs");
    config["plugins"]["load"]["paths"].as_array_mut().expect("a list").push(json!("/later"));
    config["plugins"]["entries"]["moon-bridge"]["hooks"]["timeouts"] = json!({"agent_end": 5});
    let outcomes = revert(&mut config, &changes);
    assert_eq!(config["agents"]["defaults"]["compaction"], json!({"provider": "theirs"}));
    assert_eq!(config["plugins"]["load"]["paths"], json!(["/later"]));
    assert_eq!(config["plugins"]["entries"]["moon-bridge"], json!({"hooks": {"timeouts": {"agent_end": 5}}}));
    assert!(outcomes.iter().any(|o| o.why.starts_with("changed by somebody else")));
}

#[test]
fn an_empty_list_that_lets_every_plugin_in_does_not_become_one_that_lets_only_moons_in() {
    let target = there_and_back(&json!({"plugins": {"allow": []}}), Mode::Observe);
    assert_eq!(target["plugins"]["allow"], json!([]));
}

/// What an uninstall leaves, in one step and in stages.
fn taken_out(config: &Value, recorded: Option<&[Change]>) -> Value {
    let changes = all_changes(config, recorded, FOLDER, "/m");
    let mut after = config.clone();
    revert(&mut after, &changes);
    let (stages, _) = shrink::stages(config, &changes);
    assert_eq!(stages.last().unwrap_or(config), &after, "stage by stage as in one step");
    after
}

#[test]
fn plugins_that_came_since_are_not_switched_off_with_moons() {
    let before = json!({"plugins": {"enabled": false}});
    let (installed, changes) = install_into(&before, Mode::Observe, &[]);
    assert_eq!(taken_out(&installed, Some(&changes)), before, "nobody else is there");
    let mut config = installed.clone();
    config["plugins"]["allow"].as_array_mut().expect("a list").push(json!("later"));
    let kept = json!({"plugins": {"enabled": true, "allow": ["later"]}});
    assert_eq!(taken_out(&config, Some(&changes)), kept, "let in by name");
    config["plugins"].as_object_mut().expect("an object").shift_remove("allow");
    assert_eq!(taken_out(&config, Some(&changes)), json!({"plugins": {"enabled": true}}), "all were let in");
}

#[test]
fn no_plugin_is_let_in_because_moons_name_leaves_a_list() {
    let (mut config, changes) = install_into(&json!({"plugins": {"allow": ["other"]}}), Mode::Observe, &[]);
    config["plugins"]["allow"] = json!(["moon-bridge"]);
    for recorded in [Some(&changes[..]), None] {
        assert_eq!(taken_out(&config, recorded), json!({"plugins": {"allow": ["moon-bridge"]}}));
    }
}

#[test]
fn with_the_record_lost_what_can_only_be_moons_is_taken_out() {
    for before in [
        json!({}),
        json!({"plugins": {"enabled": false}}),
        json!({"plugins": {"allow": ["other"], "load": {"paths": ["/o"]}, "entries": {"other": {"enabled": true}}}}),
        json!({"agents": {"defaults": {"compaction": {"mode": "safeguard"}}}, "gateway": {"port": 1}}),
    ] {
        for mode in [Mode::Observe, Mode::Lead] {
            let (installed, _) = install_into(&before, mode, &[]);
            assert_eq!(taken_out(&installed, None), before);
        }
    }
    let theirs = json!({"agents": {"defaults": {"compaction": {"enabled": false, "provider": "theirs"}}}, "plugins": {"enabled": true}});
    assert_eq!(taken_out(&theirs, None), theirs);
    let (of_another_home, _) = install_into(&json!({}), Mode::Lead, &[]);
    assert_eq!(all_changes(&of_another_home, None, "/n/openclaw/moon-bridge", "/n"), [], "another Moon's");
}

#[test]
fn an_installation_over_one_whose_record_is_lost_leaves_nothing_behind_in_the_end() {
    let (led, _) = install_into(&json!({}), Mode::Lead, &[]);
    let recognised = all_changes(&led, None, FOLDER, "/m");
    let (watched, recorded) = install_into(&led, Mode::Observe, &recognised);
    assert_eq!(watched.get("agents"), None, "a compaction that Moon switched off is on again");
    assert_eq!(taken_out(&watched, Some(&recorded)), json!({}));
    // A record that knew nothing of a home which was there before it.
    let poor: Vec<Change> =
        recorded.iter().filter(|change| change.path.last().is_some_and(|last| last != "home")).cloned().collect();
    assert_eq!(taken_out(&watched, Some(&poor)), json!({}));
    let mut moved = watched.clone();
    moved["plugins"]["entries"]["moon-bridge"]["config"]["home"] = json!("/elsewhere");
    moved["plugins"]["entries"]["moon-bridge"]["enabled"] = json!(false);
    assert_eq!(taken_out(&moved, Some(&recorded)), json!({}), "nobody else has a use for Moon's entry");
}

#[test]
fn a_switch_that_is_off_is_pointed_out() {
    let off = json!({"plugins": {"entries": {"moon-bridge": {"enabled": false}}}});
    let (on, _) = install_into(&off, Mode::Observe, &[]);
    assert_eq!(on["plugins"]["entries"]["moon-bridge"]["enabled"], true);
    assert!(switched_off(&off, &on, Mode::Observe)[0].contains("switched on again"));
    let theirs = json!({"agents": {"defaults": {"compaction": {"enabled": false}}}});
    assert!(switched_off(&theirs, &theirs, Mode::Observe)[0].contains("will not compact either"));
    assert!(switched_off(&theirs, &json!({}), Mode::Observe)[0].contains("on again"));
    assert_eq!(switched_off(&theirs, &theirs, Mode::Lead), Vec::<String>::new());
}

#[test]
fn the_mode_in_moon_toml_comes_back_with_everything_around_it() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let file = scratch.path().join("moon.toml");
    for text in [
        "# mine\n[openclaw]\nmode = \"observe\"   # until I trust it\nport = 1 # as ever\n\n[watch]\n",
        "[watch] # that\npoll = \"5s\"\n",
        "openclaw.mode = 'observe' # short\n",
        "[openclaw]\n# nothing yet\n",
        "openclaw = { port = 1 }\n",
    ] {
        std::fs::write(&file, text).expect("written");
        let before = mode::write(&file, Mode::Lead).expect("written");
        let led = std::fs::read_to_string(&file).expect("there");
        assert!(mode::says(&file, Mode::Lead).expect("read") && led.contains("\"lead\""), "{led}");
        for comment in text.lines().filter_map(|line| line.split_once('#')) {
            assert!(led.contains(comment.1), "{led}");
        }
        mode::restore(&before).expect("restored");
        let restored =
            std::fs::read_to_string(&file).expect("there").replace("\"observe\" # short", "'observe' # short");
        assert_eq!(restored, text);
    }
    std::fs::remove_file(&file).expect("removed");
    let before = mode::write(&file, Mode::Lead).expect("written");
    mode::restore(&before).expect("restored");
    assert!(!file.exists(), "there was none");
}

/// The size of the file OpenClaw writes.
fn bytes(config: &Value) -> usize {
    serde_json::to_string_pretty(config).expect("JSON").len() + 1
}

/// Base configurations from the smallest up, with the folder and the home of different lengths.
fn stages_hold(base: &Value, mode: Mode, home: &str) {
    let folder = format!("{home}/openclaw/moon-bridge");
    let wished = wishes(base, mode, &folder, home, 20_000).expect("may be installed");
    let (installed, changes, _) = apply(base, base, &wished, &[]);
    let (stages, outcomes) = shrink::stages(&installed, &changes);
    assert_eq!((stages.last(), outcomes.len()), (Some(base), changes.len()), "all of it is taken back");
    let mut from = &installed;
    for stage in &stages {
        let (before, after) = (bytes(from), bytes(stage));
        assert!(before < 512 || after >= before / 2, "{before} -> {after} in {stages:?}");
        // What OpenClaw would refuse or must not run with.
        let plugins = &stage["plugins"];
        let is_loaded = plugins["load"]["paths"].as_array().is_some_and(|paths| paths.contains(&json!(folder)));
        assert!(!is_loaded || plugins["entries"]["moon-bridge"]["config"]["home"].is_string(), "{stage}");
        let is_open = plugins["allow"].as_array().is_none_or(Vec::is_empty) && plugins["enabled"] != false;
        assert!(!is_open || base["plugins"]["enabled"] != false, "other plugins would wake: {stage}");
        // Cut short here, the next run does the rest and finds nothing that somebody else did.
        let (rest, outcomes) = shrink::stages(stage, &changes);
        assert_eq!(rest.last().unwrap_or(stage), base);
        assert!(outcomes.iter().all(|outcome| !outcome.why.contains("somebody else")), "{outcomes:?}");
        from = stage;
    }
}

#[test]
fn no_stage_of_an_uninstall_is_what_openclaw_refuses() {
    let meta = json!({"migrations": {"modelPolicyAllowlist": true, "utilityModelSeparation": true}, "lastTouchedVersion": "2026.9.6"});
    for length in [2, 30, 100, 250] {
        let home = format!("/{}", "m".repeat(length));
        for mode in [Mode::Observe, Mode::Lead] {
            for mut base in [
                json!({}),
                json!({"gateway": {"mode": "local"}}),
                json!({"gateway": {"mode": "local", "port": 18_789, "auth": {"mode": "token", "token": "0".repeat(64)}}}),
                json!({"plugins": {"enabled": false, "allow": []}}),
                json!({"agents": {"defaults": {"compaction": {"enabled": true, "provider": "theirs"}}}, "plugins": {"allow": ["other"]}}),
                json!({"other": "x".repeat(4000)}),
            ] {
                base["meta"] = meta.clone();
                stages_hold(&base, mode, &home);
            }
        }
    }
}

#[test]
fn a_large_configuration_is_written_once() {
    let base = json!({"other": "x".repeat(4000)});
    let (installed, changes) = install_into(&base, Mode::Lead, &[]);
    assert_eq!(shrink::stages(&installed, &changes).0, std::slice::from_ref(&base));
    assert_eq!(shrink::stages(&base, &changes).0, Vec::<Value>::new(), "nothing left to do");
}

#[test]
fn a_setting_that_was_there_before_is_not_moons_to_take_away() {
    let before = json!({"agents": {"defaults": {"compaction": {"enabled": false}}}});
    there_and_back(&before, Mode::Lead);
}

#[test]
fn switching_all_plugins_on_for_moon_is_refused_when_it_would_wake_others() {
    let refusal = |config: Value| wishes(&config, Mode::Observe, FOLDER, "/m", 1).expect_err("refused").code;
    assert_eq!(refusal(json!({"plugins": {"enabled": false, "allow": ["other"]}})), "openclaw.plugins_off");
    assert_eq!(refusal(json!({"plugins": {"deny": ["moon-bridge"]}})), "openclaw.plugin_denied");
    let included = edit::refuse_includes(&json!({"plugins": {"$include": "p.json5"}})).expect_err("refused");
    assert_eq!(included.code, "openclaw.config_included");
}

/// A command that stands in for OpenClaw's.
fn fake(folder: &Path, script: &str) -> Installer {
    let command = folder.join("openclaw");
    std::fs::write(&command, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&command, std::fs::Permissions::from_mode(0o700)).expect("executable");
    let settings = OpenClaw { command: command.display().to_string(), ..OpenClaw::default() };
    Installer::new(&folder.join("moon"), &settings)
}

#[tokio::test]
async fn a_missing_command_says_what_to_do() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let settings = OpenClaw { command: "/nowhere/openclaw".into(), ..OpenClaw::default() };
    let error = Installer::new(scratch.path(), &settings).install(Mode::Observe, false).await.expect_err("missing");
    assert_eq!(error.code, "openclaw.command_missing");
    assert!(error.hint.is_some_and(|hint| hint.contains("openclaw.command")));
}

#[tokio::test]
async fn an_openclaw_without_a_configuration_is_told_from_a_broken_one() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let config = scratch.path().join("openclaw.json");
    let installer = fake(scratch.path(), &format!("echo '{{\"path\": \"{}\"}}'", config.display()));
    let code = async || installer.install(Mode::Observe, false).await.expect_err("refused").code;
    assert_eq!(code().await, "openclaw.not_configured");
    std::fs::write(&config, "{\"gateway\": {\"token\": \"s3cret\", ").expect("written");
    let error = installer.install(Mode::Observe, false).await.expect_err("refused");
    assert_eq!(error.code, "openclaw.config_unreadable");
    assert!(!format!("{error:?}").contains("s3cret"));
    assert!(!installer.plugin_folder().exists(), "nothing is written before the configuration is understood");
}

#[tokio::test]
async fn a_refused_patch_is_an_error_with_openclaws_words() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let config = scratch.path().join("openclaw.json");
    std::fs::write(&config, "{}").expect("written");
    let script = format!(
        "if [ \"$2\" = file ]; then echo '{{\"path\": \"{}\"}}'; else cat > /dev/null; echo 'config is immutable' >&2; exit 3; fi",
        config.display()
    );
    let installer = fake(scratch.path(), &script);
    let error = installer.install(Mode::Lead, false).await.expect_err("refused");
    assert_eq!(error.code, "openclaw.command_failed");
    assert!(error.cause.is_some_and(|cause| cause.contains("immutable")));
    assert_eq!(std::fs::read_to_string(&config).expect("there"), "{}");
}

#[tokio::test]
async fn of_the_copies_a_refused_write_leaves_only_moons_own_is_removed() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let config = scratch.path().join("openclaw.json");
    let copy = |name: &str| scratch.path().join(format!("openclaw.json.rejected.{name}"));
    std::fs::write(&config, "{\"gateway\": {\"token\": \"s3cret\"}}").expect("written");
    std::fs::write(copy("earlier"), "{}").expect("written");
    let path = config.display();
    let script = format!(
        "if [ \"$2\" = file ]; then echo '{{\"path\": \"{path}\"}}'; else cat > /dev/null; cp '{path}' '{path}.rejected.now'
        echo '{{}}' > '{path}.rejected.another'
        echo 'Config write rejected: {path} (size-drop:683->310). Rejected payload saved to {path}.rejected.now.' >&2; exit 1; fi",
    );
    let error = fake(scratch.path(), &script).install(Mode::Lead, false).await.expect_err("refused");
    assert_eq!(error.code, "openclaw.write_refused");
    let cause = error.cause.expect("OpenClaw's words");
    assert!(cause.ends_with("(size-drop:683->310)."), "{cause}");
    let hint = error.hint.expect("a next step");
    assert!(hint.contains("--dry-run") && hint.contains(&copy("another").display().to_string()), "{hint}");
    assert!(!copy("now").exists() && copy("another").exists() && copy("earlier").exists(), "only Moon's own");
    assert!(!hint.contains("earlier") && !hint.contains("s3cret"));
}

#[tokio::test]
async fn plugin_files_stay_while_the_configuration_names_them() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let config = scratch.path().join("openclaw.json");
    let installer = fake(scratch.path(), &format!("echo '{{\"path\": \"{}\"}}'", config.display()));
    installer.put_files(false, &mut Report { steps: vec![], backup: None, notes: vec![] }).expect("written");
    let folder = installer.plugin_folder();
    let elsewhere = json!({"plugins": {"installs": {"moon-bridge": {"path": folder}}}});
    std::fs::write(&config, elsewhere.to_string()).expect("written");
    let kept = installer.uninstall(false).await.expect("done as far as it goes");
    assert!(
        kept.steps.iter().any(|s| s.state == StepState::Left && s.why.contains("plugins.installs.moon-bridge.path"))
    );
    assert!(folder.join("index.js").exists());
    std::fs::write(&config, "{plugins: {$include: './p.json5'}}").expect("written");
    assert_eq!(installer.uninstall(false).await.expect_err("not seen").code, "openclaw.config_included");
    assert!(folder.join("index.js").exists());
    std::fs::write(&config, "{}").expect("written");
    installer.uninstall(false).await.expect("uninstalled");
    assert!(!folder.exists());
}

#[tokio::test]
async fn an_uninstall_puts_the_mode_back_and_empties_the_slots() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let config = scratch.path().join("openclaw.json");
    std::fs::write(&config, "{}").expect("written");
    let installer = fake(scratch.path(), &format!("echo '{{\"path\": \"{}\"}}'", config.display()));
    let home = installer.home.clone();
    let bridge = BridgeDir::open(&home).expect("opens");
    bridge.place(&"k".into(), moon_actors::port::Slot::Context, "block").await.expect("placed");
    // The file that was named, wherever it is.
    let file = scratch.path().join("named.toml");
    std::fs::write(&file, "[openclaw]\nmode = \"observe\" # mine\n").expect("written");
    let record = Record { v: 1, mode: Mode::Observe, config: config.clone(), changes: vec![], mode_before: None };
    installer.write_record(&record).expect("written");
    installer.keep_mode(&file, Mode::Lead).expect("kept");
    installer.keep_mode(&file, Mode::Lead).expect("kept again");
    let planned = installer.uninstall(true).await.expect("planned");
    assert!(std::fs::read_to_string(&file).expect("there").contains("lead"), "a dry run writes nothing");
    let done = installer.uninstall(false).await.expect("uninstalled");
    assert_eq!(planned.steps.len(), done.steps.len(), "the plan is what is done");
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "[openclaw]\nmode = \"observe\" # mine\n");
    assert_eq!(bridge.placed(&"k".into(), moon_actors::port::Slot::Context).await.expect("readable"), None);

    installer.write_record(&record).expect("written");
    installer.keep_mode(&file, Mode::Lead).expect("kept");
    std::fs::write(&file, "openclaw.mode = \"observe\" # by hand\n").expect("written");
    installer.uninstall(false).await.expect("uninstalled");
    assert!(std::fs::read_to_string(&file).expect("there").contains("by hand"));
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_everything_it_started() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let installer = fake(scratch.path(), "sleep 600 & echo $! > \"$TMPDIR/child\"; wait");
    let environment =
        vec![("TMPDIR".to_owned(), scratch.path().as_os_str().to_owned()), ("PATH".to_owned(), "/usr/bin:/bin".into())];
    let cli = Cli::new(&installer.settings, environment.into_iter(), Duration::from_secs(1));
    let error = cli.run(&["gateway"], b"").await.expect_err("given up");
    assert_eq!(error.code, "openclaw.command_timeout");
    let child = std::fs::read_to_string(scratch.path().join("child")).expect("it had started one");
    let pid = rustix::process::Pid::from_raw(child.trim().parse().expect("a number")).expect("not zero");
    let gone = async {
        while std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).is_ok_and(|s| !s.contains(") Z"))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("ended too");
}

#[tokio::test]
async fn the_command_sees_no_variable_it_does_not_need() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let installer = fake(scratch.path(), "env");
    let environment = [("SECRET", "x"), ("HOME", "/h"), ("PATH", "/usr/bin:/bin"), ("AWS_KEY", "y"), ("GIVEN", "z")];
    let environment = environment.map(|(name, value)| (name.to_owned(), OsString::from(value)));
    let cli = Cli::new(&installer.settings, environment.into_iter(), Duration::from_secs(10));
    let named = command::variables("{apiKey: \"${GIVEN}\", other: \"${not a name}\"}");
    let printed =
        cli.with_variables(named.into_iter().map(|name| (name, "z".into()))).run(&[], b"").await.expect("runs");
    assert!(printed.contains("HOME=/h") && printed.contains("GIVEN=z"));
    assert!(!printed.contains("SECRET") && !printed.contains("AWS_KEY"));
}
