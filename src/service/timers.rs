//! Moon's checks as timers of systemd's: what [`super::cron`] is for a crontab, for machines without one.
//!
//! Each check is a timer and the command it starts, behind the daemon's own walls. Pure: a description in, units out.

use super::Description;
use super::outside::{CHECKS, Check};
use super::systemd::oneshot;

/// Every unit by its file name: for each check its service and its timer.
pub fn units(d: &Description) -> Vec<(String, String)> {
    let both = |check: &Check| {
        let service = oneshot(d, check.about, check.words, check.limit);
        [(format!("moon-{}.service", check.name), service), (timer_name(check), timer(check))]
    };
    CHECKS.iter().flat_map(both).collect()
}

/// The names of the timers, which are what is enabled.
pub fn names() -> Vec<String> {
    CHECKS.iter().map(timer_name).collect()
}

fn timer_name(check: &Check) -> String {
    format!("moon-{}.timer", check.name)
}

fn timer(check: &Check) -> String {
    let Check { about, calendar, .. } = check;
    // What was missed while the machine was off is made up once.
    format!(
        "[Unit]\nDescription={about}, from outside\n\n[Timer]\nOnCalendar={calendar}\nPersistent=yes\nAccuracySec=5s\n\n\
         [Install]\nWantedBy=timers.target\n"
    )
}
