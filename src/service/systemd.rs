//! The units for systemd: `moon.service`, and `moon-failed.service` that tells of its end.
//!
//! A system unit stands behind every wall that the daemon can work behind; the check is `systemd-analyze security`, and that the
//! daemon archives behind it is a test with a real systemd. A user's own systemd may not mount or drop capabilities, so a user
//! unit carries what the kernel grants anybody: no new privileges, system calls, memory, tasks, modes.

use super::{BURST, BURST_WINDOW, Description, FINAL_CODES, RESTART_PAUSE, START_LIMIT, Scope};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Names of the units.
pub const SERVICE: &str = "moon.service";
pub const FAILED: &str = "moon-failed.service";

/// What is told when systemd has given up.
const GAVE_UP: &str = "moon kept failing and systemd has given up starting it";

/// Longest time to tell it: a mail server may be slow.
const TELLING: Duration = Duration::from_secs(60);

const NEXT_STEP: &str = "moon service logs says why; moon start tries again";

/// Every unit by its file name, in the order they are written.
pub fn units(d: &Description) -> Vec<(&'static str, String)> {
    vec![(FAILED, failed(d)), (SERVICE, service(d))]
}

fn service(d: &Description) -> String {
    let mut unit = String::new();
    let target = if d.scope == Scope::User { "default.target" } else { "multi-user.target" };
    let mut section = |name: &str, lines: Vec<String>| {
        let gap = if unit.is_empty() { "" } else { "\n" };
        writeln!(unit, "{gap}[{name}]\n{}", lines.join("\n")).expect("writing to a String cannot fail");
    };
    section("Unit", {
        let mut lines = vec![
            "Description=Moon, which keeps an agent's memory".to_owned(),
            format!("StartLimitIntervalSec={}", BURST_WINDOW.as_secs()),
            format!("StartLimitBurst={BURST}"),
            format!("OnFailure={FAILED}"),
        ];
        if d.scope == Scope::System {
            lines.push("After=network.target local-fs.target".into());
            lines.push(format!("RequiresMountsFor={}", quoted(&d.home)));
        }
        lines
    });
    let mut lines = vec![
        "Type=notify".to_owned(),
        "NotifyAccess=main".into(),
        format!("ExecStart={}", command(&d.call(&["watch", "--daemon"]))),
        format!("ExecReload={}", command(&d.call(&["ctl", "reload"]))),
        format!("WatchdogSec={}", d.watchdog.as_secs()),
        "Restart=on-failure".into(),
        format!("RestartSec={}", RESTART_PAUSE.as_secs()),
        format!("RestartPreventExitStatus={}", FINAL_CODES.map(|code| code.to_string()).join(" ")),
        format!("TimeoutStartSec={}", START_LIMIT.as_secs()),
        format!("TimeoutStopSec={}", d.stop.as_secs()),
        // A hung process writes nothing worth waiting for.
        "TimeoutAbortSec=10".into(),
        "Nice=10".into(),
    ];
    lines.extend(identity(d));
    lines.extend(walls(d));
    section("Service", lines);
    section("Install", vec![format!("WantedBy={target}")]);
    unit
}

/// One sentence into Moon's own alert path. It stands alone: when the daemon cannot run, this has to.
fn failed(d: &Description) -> String {
    let words = ["alerts", "raise", "daemon_critical", "--message", GAVE_UP, "--hint", NEXT_STEP];
    oneshot(d, "Tells that Moon has given up", &words, TELLING)
}

/// A unit that runs one command of Moon's, behind the same walls as the daemon.
pub(super) fn oneshot(d: &Description, description: &str, words: &[&str], limit: Duration) -> String {
    let mut lines = vec!["Type=oneshot".to_owned(), format!("ExecStart={}", command(&d.call(words)))];
    lines.push(format!("TimeoutStartSec={}", limit.as_secs()));
    lines.extend(identity(d));
    lines.extend(walls(d));
    format!("[Unit]\nDescription={description}\n\n[Service]\n{}\n", lines.join("\n"))
}

/// As whom it runs and what it finds in its environment.
fn identity(d: &Description) -> Vec<String> {
    let mut lines = Vec::new();
    if d.scope == Scope::System {
        lines.push(format!("User={}", d.user));
        lines.push(format!("Environment={}", quoted_text(&format!("HOME={}", d.user_home.display()))));
    }
    lines
}

fn walls(d: &Description) -> Vec<String> {
    let mut lines: Vec<String> = [
        "UMask=0077",
        "LimitCORE=0",
        "TasksMax=64",
        "NoNewPrivileges=yes",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "RestrictNamespaces=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        // Moon is told "not permitted" and goes on; a kill would be a crash.
        "SystemCallErrorNumber=EPERM",
    ]
    .map(str::to_owned)
    .into();
    lines.push(format!("MemoryMax={}M", d.memory_max_mib));
    if d.scope == Scope::User {
        return lines;
    }
    lines.extend(
        [
            "PrivateTmp=yes",
            "PrivateDevices=yes",
            "ProtectSystem=strict",
            "ProtectHome=tmpfs",
            "ProtectKernelTunables=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelLogs=yes",
            "ProtectControlGroups=yes",
            "ProtectClock=yes",
            "ProtectHostname=yes",
            "ProtectProc=invisible",
            "CapabilityBoundingSet=",
            "AmbientCapabilities=",
            "RemoveIPC=yes",
            "KeyringMode=private",
        ]
        .map(str::to_owned),
    );
    // What ProtectHome hides has to be let in again, and what ProtectSystem closes opened.
    for path in std::iter::once(&d.home).chain(&d.write) {
        lines.push(format!("BindPaths={}", optional(path, path != &d.home)));
        lines.push(format!("ReadWritePaths={}", optional(path, path != &d.home)));
    }
    for path in std::iter::once(&d.program).chain(&d.config).chain(&d.read) {
        lines.push(format!("BindReadOnlyPaths={}", optional(path, path != &d.program)));
    }
    lines
}

/// A path that may be missing when the unit starts begins with a minus sign.
fn optional(path: &Path, may_be_missing: bool) -> String {
    let minus = if may_be_missing { "-" } else { "" };
    let text = format!("{minus}{}", specifiers(&path.display().to_string()));
    if text.contains(' ') { format!("\"{text}\"") } else { text }
}

fn quoted(path: &Path) -> String {
    quoted_text(&path.display().to_string())
}

/// `%` begins a specifier wherever systemd reads a value.
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

fn quoted_text(text: &str) -> String {
    let text = specifiers(text);
    if text.contains(' ') { format!("\"{text}\"") } else { text }
}

/// Words as a command line of systemd's, where also a dollar sign means something.
fn command(words: &[String]) -> String {
    words.iter().map(|word| quoted_text(word).replace('$', "$$")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::service::Places;
    use moon_actors::settings::Settings;

    pub(crate) fn example(scope: Scope) -> Description {
        let who = ("ada".to_owned(), "/home/ada".into());
        let home = Home::at("/home/ada/.lilac_metaflora");
        Description::new(scope, "/usr/local/bin/moon".into(), &home, None, &Settings::default(), who, Places::default())
            .expect("plain paths")
    }

    #[test]
    fn the_start_limit_can_be_reached_by_the_slowest_start() {
        let slowest = BURST * (RESTART_PAUSE + START_LIMIT);
        assert!(slowest < BURST_WINDOW, "{slowest:?} do not fit into {BURST_WINDOW:?}: the limit would never engage");
        // Also by a daemon that comes up at once and hangs each time.
        let d = example(Scope::System);
        let hanging = BURST * (RESTART_PAUSE + d.watchdog + Duration::from_secs(10));
        assert!(hanging < BURST_WINDOW, "{hanging:?}");
        let unit = service(&d);
        for line in ["StartLimitIntervalSec=300", "StartLimitBurst=5", "RestartSec=5", "TimeoutStartSec=45"] {
            assert!(unit.lines().any(|l| l == line), "{line}: {unit}");
        }
    }

    #[test]
    fn an_orderly_stop_has_the_time_it_may_need() {
        let d = example(Scope::User);
        assert!(d.stop > Settings::default().supervision.drain * 12, "{:?}", d.stop);
        assert!(service(&d).contains(&format!("TimeoutStopSec={}\n", d.stop.as_secs())));
    }

    #[test]
    fn a_space_a_percent_sign_and_a_dollar_survive_and_a_quote_is_refused() {
        let home = Home::at("/srv/my 100% $home");
        let who = || ("ada".to_owned(), "/home/ada".into());
        let d = |program: &str| {
            let settings = Settings::default();
            Description::new(Scope::System, program.into(), &home, None, &settings, who(), Places::default())
        };
        let unit = service(&d("/opt/moon").expect("plain"));
        assert!(unit.contains("ExecStart=/opt/moon --home \"/srv/my 100%% $$home\" watch --daemon\n"), "{unit}");
        assert!(unit.contains("BindPaths=\"/srv/my 100%% $home\"\n"), "{unit}");
        assert_eq!(d("/opt/mo\"on").expect_err("a quote").code, "service.odd_path");
        assert_eq!(d("moon").expect_err("relative").code, "service.odd_path");
    }

    #[test]
    fn a_home_whose_socket_would_lie_elsewhere_is_no_home_of_a_system_service() {
        let home = Home::at(format!("/srv/{}", "x".repeat(100)));
        let made = |scope| {
            let who = ("ada".to_owned(), "/home/ada".into());
            Description::new(scope, "/opt/moon".into(), &home, None, &Settings::default(), who, Places::default())
        };
        assert_eq!(made(Scope::System).expect_err("too long").code, "service.home_too_long");
        made(Scope::User).expect("a user service shares the user's temporary folders");
    }
}
