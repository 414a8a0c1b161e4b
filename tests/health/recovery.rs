//! Auto-recovery: only what is allowed, a few times, with a look afterwards, and never against somebody's will.

use super::support::process::{Scratch, count, ledger, wait_for};
use super::{config, look, program};

fn alerts(s: &Scratch, rule: &str, firing: bool) -> i64 {
    let open = if firing { " AND resolved_at IS NULL" } else { "" };
    count(&s.home(), &format!("SELECT count(*) FROM alerts WHERE rule = '{rule}'{open}"))
}

/// Settings of an agent with a pid file, whose start is `script`.
fn agent(s: &Scratch, script: &str, cooldown: &str) -> String {
    let start = program(s, "start-agent", script);
    config(
        s,
        &format!(
            "[health]\nevery = \"1s\"\nrecover_cooldown = \"{cooldown}\"\n\
             [[health.processes]]\nname = \"agent\"\npid_file = \"{0}/agent.pid\"\nstopped_file = \"{0}/agent.stopped\"\n\
             [[health.recover]]\nrule = \"daemon_critical\"\nsubject = \"agent\"\nargv = [\"{1}\"]\n",
            s.path().display(),
            start.display()
        ),
    )
}

#[test]
fn a_killed_agent_is_started_again_and_one_stopped_on_purpose_is_left_alone() {
    let s = Scratch::new();
    let pid_file = s.path().join("agent.pid");
    let script = format!(
        "setsid sleep 300 >/dev/null 2>&1 & echo $! > {0}.new; mv {0}.new {0}; echo started >> {0}.starts",
        pid_file.display()
    );
    let config = agent(&s, &script, "1s");
    let starts = || std::fs::read_to_string(s.path().join("agent.pid.starts")).unwrap_or_default().lines().count();
    let pid = || {
        std::fs::read_to_string(&pid_file)
            .ok()
            .and_then(|t| t.trim().parse::<i32>().ok())
            .and_then(rustix::process::Pid::from_raw)
    };
    let kill = || {
        let pid = pid().expect("a pid");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    };
    // Stopped on purpose: nothing is done, nobody is told.
    std::fs::write(s.path().join("agent.stopped"), "").expect("written");
    let daemon = s.daemon(&["--config", &config]);
    wait_for("a look", || (look(&s, &config, "process:agent")["state"] == "ok").then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!((starts(), alerts(&s, "daemon_critical", false)), (0, 0));
    // Now it should run and does not.
    std::fs::remove_file(s.path().join("agent.stopped")).expect("removed");
    wait_for("a start", || (starts() == 1).then_some(()));
    wait_for("the end of the alert", || {
        (alerts(&s, "daemon_critical", true) == 0 && alerts(&s, "auto_recovery", true) == 0).then_some(())
    });
    assert_eq!((alerts(&s, "daemon_critical", false), alerts(&s, "auto_recovery", false)), (1, 1));
    let row = look(&s, &config, "process:agent");
    assert_eq!(row["state"], "ok", "{row}");
    let severity: String = ledger(&s.home())
        .query_row("SELECT severity FROM alerts WHERE rule = 'auto_recovery'", [], |r| r.get(0))
        .expect("a row");
    assert_eq!(severity, "info");
    kill();
    wait_for("another start", || (starts() == 2).then_some(()));
    daemon.stop();
    kill();
}

#[test]
fn three_attempts_that_do_not_help_are_all_and_a_person_is_told() {
    let s = Scratch::new();
    let tries = s.path().join("tries");
    let config = agent(&s, &format!("echo try >> {}; exit 1", tries.display()), "1s");
    let daemon = s.daemon(&["--config", &config]);
    let tried = || std::fs::read_to_string(&tries).unwrap_or_default().lines().count();
    wait_for("the alert", || (alerts(&s, "auto_recovery_failed", true) == 1).then_some(()));
    assert_eq!(tried(), 3);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!((tried(), alerts(&s, "auto_recovery_failed", false)), (3, 1), "no more than that");
    assert_eq!(alerts(&s, "daemon_critical", false), 1, "and one alert of the trouble itself");
    daemon.stop();
    // Neither does a restart of Moon's give it more.
    let daemon = s.daemon(&["--config", &config]);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(tried(), 3);
    daemon.stop();
}
