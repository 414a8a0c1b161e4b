//! The dashboard in a terminal of tmux.

use super::*;
use crate::support::process::Ran;
use std::process::{Command, Stdio};

/// A terminal of tmux with a server of its own.
struct Tmux {
    program: std::ffi::OsString,
    socket: std::path::PathBuf,
}

impl Tmux {
    fn start(scratch: &Scratch, words: &[&str], size: (&str, &str), environment: &str) -> Option<Self> {
        let system = Command::new("tmux").arg("-V").output().is_ok_and(|ran| ran.status.success());
        let program = if system {
            "tmux".into()
        } else {
            support::debian_command("tmux").filter(|c| c.get_program() != "tmux")?.get_program().to_owned()
        };
        let tmux = Self { program, socket: scratch.path().join("tmux.sock") };
        let moon = scratch.moon(words);
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_string_lossy());
        let words: Vec<String> = std::iter::once(moon.get_program()).chain(moon.get_args()).map(quoted).collect();
        let line = format!("env {environment} {}; echo ended with $?; exec sleep 60", words.join(" "));
        tmux.tell(&["new-session", "-d", "-x", size.0, "-y", size.1, &line]);
        Some(tmux)
    }
    fn tell(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .arg("-u")
            .arg("-S")
            .arg(&self.socket)
            .arg("-f/dev/null")
            .args(words);
        Ran::of(command.stdin(Stdio::null())).expect(0).stdout
    }
    fn seen(&self) -> String {
        self.tell(&["capture-pane", "-p"])
    }
    fn until(&self, what: &str) -> String {
        wait_for(what, || Some(self.seen()).filter(|seen| seen.contains(what)))
    }
    fn pid(&self) -> i32 {
        let shell = self.tell(&["display-message", "-p", "#{pane_pid}"]);
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.trim())).expect("Linux has it");
        children.split_whitespace().next().expect("a child").parse().expect("a pid")
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new(&self.program).arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

#[test]
fn the_terminal_dashboard_is_live_follows_the_keys_and_the_size_and_gives_the_terminal_back() {
    let mut names = HOSTILE.to_vec();
    names.push("library-move");
    let scratch = with_sessions(&names);
    let daemon = scratch.daemon(&[]);
    let Some(tmux) = Tmux::start(&scratch, &["dashboard"], ("120", "44"), "NO_COLOR=1") else {
        return support::skip("the_terminal_dashboard_is_live", "tmux is not installed");
    };
    let seen = tmux.until("library-move");
    for pane in
        ["live", "Sessions", "Pipeline", "Actors", "Health", "Alerts", "Backups", "Resources", "✓   archive", "q quit"]
    {
        assert!(seen.contains(pane), "{pane}: {seen}");
    }
    assert!(seen.contains("<script>") || seen.contains("<scr"), "{seen}");
    assert!(!seen.contains('\u{202e}'), "{seen}");
    // Small: one pane at a time.
    tmux.tell(&["resize-window", "-x", "60", "-y", "16"]);
    let small = wait_for("the small screen", || {
        Some(tmux.seen()).filter(|seen| !seen.contains("Resources") && seen.contains(" Sessions "))
    });
    assert!(small.lines().count() <= 16, "{small}");
    tmux.tell(&["send-keys", "Tab"]);
    tmux.until("set aside");
    tmux.tell(&["send-keys", "BTab", "3"]);
    tmux.until("✓ alert");
    daemon.kill();
    tmux.until("daemon dead");
    tmux.tell(&["send-keys", "q"]);
    tmux.until("ended with 0");
    assert_eq!(tmux.tell(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
}

#[test]
fn a_terminal_dashboard_that_is_told_to_end_gives_the_terminal_back() {
    let scratch = Scratch::new();
    let Some(tmux) = Tmux::start(&scratch, &["dashboard", "watch"], ("80", "24"), "TERM=tmux-256color") else {
        return support::skip("a_terminal_dashboard_that_is_told_to_end", "tmux is not installed");
    };
    tmux.until("never started");
    assert_eq!(tmux.tell(&["display-message", "-p", "#{alternate_on}"]).trim(), "1");
    let pid = rustix::process::Pid::from_raw(tmux.pid()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    tmux.until("ended with 0");
    assert_eq!(tmux.tell(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
}
