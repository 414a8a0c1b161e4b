//! The desktop on a bus of its own, commands, and the daemon that uses all of them.

use super::*;
use moon_actors::error::Kind;
use moon_actors::port::Ledger;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::process::{Scratch, wait_for};

/// A private bus with a mocked notification service: the address, and both programs.
fn desktop(test: &str, scene: &Scene) -> Option<(String, Peer, Peer)> {
    let (Some(mut daemon), Some(root)) = (support::debian_command("dbus-daemon"), support::debian_peers()) else {
        support::skip(test, "dbus-daemon is not in target/peers (tests/run unpacks it)");
        return None;
    };
    let packages = root.join("usr/lib/python3/dist-packages");
    let mut mock = Command::new("/usr/bin/python3");
    mock.env("PYTHONPATH", &packages);
    if !mock.args(["-c", "import dbusmock"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        support::skip(test, "python3-dbusmock does not run here");
        return None;
    }
    let config = scene.path("bus.conf");
    let text = format!(
        "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
         <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
        scene.path("bus").display()
    );
    std::fs::write(&config, text).expect("written");
    daemon.arg(format!("--config-file={}", config.display())).args(["--nofork", "--print-address"]);
    let bus = Peer::start(&mut daemon);
    let address = bus.line();
    let mut mock = Command::new("/usr/bin/python3");
    mock.args(["-u", "-m", "dbusmock", "--session", "-t", "notification_daemon", "-l"]).arg(scene.path("mock.log"));
    mock.env("PYTHONPATH", packages).env("DBUS_SESSION_BUS_ADDRESS", &address);
    let mock = Peer::start(&mut mock);
    Some((address, bus, mock))
}

/// Runs one test of this program again as a child on another bus.
fn on_bus(test: &str, address: &str) -> std::process::Output {
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child
        .args(["--exact", test, "--nocapture"])
        .env("MOON_TEST_DESKTOP_CHILD", "1")
        .env("DBUS_SESSION_BUS_ADDRESS", address);
    child.output().expect("runs")
}

#[tokio::test]
async fn a_desktop_shows_an_alert_and_replaces_it_when_it_ends() {
    let scene = Scene::new();
    if std::env::var_os("MOON_TEST_DESKTOP_CHILD").is_some() {
        let route = scene.route("kind = \"desktop\"");
        // The mock takes a moment to be there.
        let begun = Instant::now();
        while let Err(error) = route.deliver(&firing(1)).await {
            assert_eq!((error.code.as_str(), error.kind), ("route.no_desktop", Kind::Unavailable));
            assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let other = Alert { severity: Severity::Warning, message: "<b>bold</b> & <a href='x'>".into(), ..alert(2) };
        route.deliver(&Notice::Alert(other)).await.expect("shown");
        route.deliver(&resolved(1)).await.expect("shown");
        return;
    }
    let Some((address, _bus, _mock)) = desktop("a_desktop_shows_an_alert", &scene) else { return };
    let ran = on_bus("desk::a_desktop_shows_an_alert_and_replaces_it_when_it_ends", &address);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    let log = wait_for("three notices", || {
        let log = std::fs::read_to_string(scene.path("mock.log")).unwrap_or_default();
        (log.matches(" Notify ").count() == 3).then_some(log)
    });
    // A notice has several lines.
    let calls: Vec<&str> = log.split(" Notify ").skip(1).collect();
    assert!(
        calls[0].contains("\"Moon\" 0 ") && calls[0].contains("CRITICAL: disk_critical (moon) on box.example.org"),
        "{log}"
    );
    assert!(calls[0].contains("What to do: make room"), "{log}");
    assert!(calls[1].contains("\"Moon\" 0 ") && calls[1].contains("&lt;b&gt;bold&lt;/b&gt; &amp; &lt;a"), "{log}");
    assert!(
        calls[2].contains("\"Moon\" 1 ") && calls[2].contains("RESOLVED: disk_critical"),
        "takes the place of the first: {log}"
    );
    let urgency: Vec<bool> =
        calls.iter().zip(["2", "1", "0"]).map(|(call, u)| call.contains(&format!("\"urgency\": {u}"))).collect();
    assert_eq!(urgency, [true; 3], "{log}");
}

#[tokio::test]
async fn a_machine_without_a_desktop_says_so_and_what_it_needs() {
    if std::env::var_os("MOON_TEST_DESKTOP_CHILD").is_some() {
        let error = failed(Scene::new().route("kind = \"desktop\"").deliver(&firing(1)).await, "route.no_desktop");
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("session of a user")), "{error:?}");
        return;
    }
    let ran = on_bus("desk::a_machine_without_a_desktop_says_so_and_what_it_needs", "unix:path=/nonexistent/bus");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

fn script(scene: &Scene, text: &str) -> String {
    let path = scene.secret("script", &format!("#!/bin/sh\n{text}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("mode");
    path
}

#[tokio::test]
async fn a_command_gets_the_notice_as_json_and_only_the_named_variables() {
    let scene = Scene::new();
    let (env, input) = (scene.path("env"), scene.path("input"));
    let run = script(
        &scene,
        &format!("env > '{}'; cat > '{}'; echo \"$1\" >> '{}'", env.display(), input.display(), env.display()),
    );
    let route = scene.route(&format!("kind = \"command\"\nargv = [{run:?}, \"$(id); a b\"]\nenvironment = [\"PATH\"]"));
    let mut hostile = alert(4);
    hostile.key.subject = "a\0b\n$(reboot)".into();
    route.deliver(&Notice::Alert(hostile)).await.expect("ran");
    let told: Value = serde_json::from_str(&std::fs::read_to_string(input).expect("read")).expect("JSON");
    assert_eq!(
        (&told["version"], &told["id"], &told["rule"]),
        (&json!(1), &json!("alert-4-firing"), &json!("disk_critical"))
    );
    assert_eq!(told["subject"], "a\\u{0}b\\n$(reboot)");
    let env = std::fs::read_to_string(env).expect("read");
    assert!(env.lines().last() == Some("$(id); a b"), "no shell looked at it: {env}");
    let mut names: Vec<&str> = env.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    // What the shell sets by itself.
    names.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name));
    names.sort_unstable();
    let own = ["HOST", "ID", "KEY", "MESSAGE", "RULE", "SEVERITY", "STATE", "SUBJECT", "TITLE"]
        .map(|n| format!("MOON_ALERT_{n}"));
    assert_eq!(names, own.iter().map(String::as_str).chain(["PATH"]).collect::<Vec<_>>());
    assert!(
        env.contains("MOON_ALERT_STATE=firing\n") && env.contains("MOON_ALERT_SUBJECT=a\\u{0}b\\n$(reboot)\n"),
        "{env}"
    );
}

#[tokio::test]
async fn a_command_that_fails_hangs_floods_or_is_not_there_is_told_apart() {
    let scene = Scene::new();
    for (text, code, kind) in [
        ("echo ruled out >&2; exit 65", "route.rejected", Kind::Data),
        ("echo later >&2; exit 75", "route.command_failed", Kind::Transient),
        ("exit 1", "route.command_failed", Kind::Transient),
        ("head -c 5000000 /dev/zero | tr '\\0' x >&2; exit 1", "route.command_failed", Kind::Transient),
    ] {
        let run = script(&scene, text);
        let error =
            failed(scene.route(&format!("kind = \"command\"\nargv = [{run:?}]")).deliver(&firing(1)).await, code);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().len() < 1000, "{error}");
    }
    let missing = scene.route("kind = \"command\"\nargv = [\"/nonexistent/program\"]");
    assert_eq!(failed(missing.deliver(&firing(1)).await, "route.command").kind, Kind::Unavailable);
    // What it leaves behind holds nothing up, and ends.
    let left = scene.path("left");
    let run = script(&scene, &format!("sleep 300 & echo $! > '{}'", left.display()));
    let begun = Instant::now();
    scene.route(&format!("kind = \"command\"\nargv = [{run:?}]")).deliver(&firing(1)).await.expect("ran");
    assert!(begun.elapsed() < Duration::from_secs(10));
    ended(&left);
    // Ends with everything it started.
    let pid = scene.path("pid");
    let run = script(&scene, &format!("sleep 300 & echo $! > '{}'; wait", pid.display()));
    let begun = Instant::now();
    let route = scene.route(&format!("kind = \"command\"\nargv = [{run:?}]\ntimeout = \"2s\""));
    failed(route.deliver(&firing(1)).await, "route.timeout");
    assert!(begun.elapsed() < Duration::from_secs(10));
    ended(&pid);
}

/// Waits for the end of the process whose number stands in a file.
fn ended(file: &Path) {
    let pid = std::fs::read_to_string(file).expect("it had begun").trim().to_owned();
    wait_for("the end of what it started", || {
        let gone =
            !Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status().expect("kill runs").success();
        // Where nobody collects orphans, a dead one keeps its number.
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (gone || state.contains(") Z ")).then_some(())
    });
}

#[test]
fn the_daemon_delivers_by_the_routes_of_its_settings_and_warns_of_those_that_cannot() {
    let scratch = Scratch::new();
    let out = scratch.path().join("told.jsonl");
    let script = scratch.path().join("tell");
    std::fs::write(&script, format!("#!/bin/sh\ncat >> '{0}'; echo >> '{0}'\n", out.display())).expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).expect("mode");
    let settings = scratch.path().join("moon.toml");
    let text = format!(
        "[[alerts.routes]]\nname = \"tell\"\nkind = \"command\"\nargv = [{script:?}]\n\
         [[alerts.routes]]\nname = \"chat\"\nkind = \"webhook\"\ntemplate = \"slack\"\nurl_file = \"~/not-there\"\n"
    );
    std::fs::write(&settings, text).expect("written");
    std::fs::set_permissions(&settings, std::fs::Permissions::from_mode(0o600)).expect("mode");
    let settings = settings.display().to_string();
    let checked = scratch.run(&["--config", &settings, "config", "check"]).expect(0);
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(said.contains("the alert route \"chat\" cannot deliver"), "{said}");
    // Something to tell, before anybody is there to tell it.
    scratch.run(&["--config", &settings, "snapshot"]);
    raise(&scratch);
    let daemon = scratch.daemon(&["--config", &settings]);
    let told =
        wait_for("the notice", || std::fs::read_to_string(&out).ok().filter(|text| text.contains("drill.failing")));
    let told: Value = told
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .find(|v: &Value| v["rule"] == "drill.failing")
        .expect("JSON");
    assert_eq!((&told["state"], &told["severity"]), (&json!("firing"), &json!("warning")));
    let log = scratch.run(&["logs"]).stdout + &daemon.said();
    assert!(
        log.contains("the alert route \\\"chat\\\" cannot deliver")
            || log.contains("the alert route \"chat\" cannot deliver"),
        "{log}"
    );
    daemon.stop();
}

/// An alert in the ledger of a home that nobody holds.
fn raise(scratch: &Scratch) {
    use moon::adapters::clock::{SystemClock, UuidIds};
    use moon::adapters::sqlite::SqliteLedger;
    let home = moon::home::Home::open(scratch.home()).expect("a home").0;
    let ledger =
        SqliteLedger::open(&home.ledger_db(), Arc::new(SystemClock::start()), Arc::new(UuidIds)).expect("a ledger");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Nothing that a check would find well again at its first look.
    let key = AlertKey::new("drill.failing", "moon");
    runtime
        .block_on(async { ledger.raise(&key, Severity::Warning, "little room", None).await.map(drop) })
        .expect("raised");
}
