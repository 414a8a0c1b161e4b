//! What is done from outside, and when, for those who want somebody to notice a dead daemon: the operations document's table.
//!
//! `cron.rs` writes it into a crontab, `timers.rs` as timers of systemd's; the times are the same. Each command makes sense beside
//! a daemon that lives, which keeps most of these times itself, and beside one that is dead or was never started.

use std::time::Duration;

/// One command and its times.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// As units are named after it.
    pub name: &'static str,
    pub about: &'static str,
    /// When, as cron writes it.
    pub cron: &'static str,
    /// The same as systemd writes it.
    pub calendar: &'static str,
    /// The words after `moon`.
    pub words: &'static [&'static str],
    /// Longest it may take.
    pub limit: Duration,
}

/// All of them.
pub const CHECKS: [Check; 5] = [
    Check {
        name: "health",
        about: "Looks whether Moon and the agent's host are well",
        cron: "*/5 * * * *",
        calendar: "*:0/5",
        words: &["health", "--revive"],
        limit: Duration::from_secs(240),
    },
    Check {
        name: "rotate-logs",
        about: "Puts the day's logs aside",
        cron: "0 0 * * *",
        calendar: "*-*-* 00:00:00",
        words: &["rotate-logs", "--unless-scheduled"],
        limit: Duration::from_secs(600),
    },
    Check {
        name: "backup",
        about: "Makes the night's backup",
        cron: "0 2 * * *",
        calendar: "*-*-* 02:00:00",
        words: &["backup", "--unless-scheduled"],
        limit: Duration::from_secs(4 * 3600),
    },
    Check {
        name: "dashboard",
        about: "Writes the page that shows how Moon is",
        cron: "* * * * *",
        calendar: "*:*",
        words: &["dashboard", "html", "--unless-scheduled"],
        limit: Duration::from_secs(50),
    },
    Check {
        name: "report",
        about: "Writes the week's health report",
        cron: "0 9 * * 0",
        calendar: "Sun *-*-* 09:00:00",
        words: &["dashboard", "report", "--keep", "--unless-scheduled"],
        limit: Duration::from_secs(240),
    },
];
