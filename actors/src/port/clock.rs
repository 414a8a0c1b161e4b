//! Time and fresh names, both injected so that tests decide them.

use chrono::{DateTime, NaiveDate, Utc};
use croner::Cron;

/// Two clocks, because a wall clock jumps.
pub trait Clock: Send + Sync {
    /// Wall time, for people, files and the audit.
    fn now(&self) -> DateTime<Utc>;
    /// Wall time at the daemon's start plus monotonic time since: never jumps within one life. For cooldowns and ages.
    fn steady(&self) -> DateTime<Utc>;
    /// The day it is for the people here: names the daily memory.
    fn today(&self) -> NaiveDate;
    /// The last of these times up to now and the next one, by the calendar of the people here; by that of UTC where a clock knows
    /// no better.
    fn calendar(&self, times: &Cron) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        crate::schedule::policy::around(times, &self.now())
    }
}

/// Names that were never used before and sort by time.
pub trait Ids: Send + Sync {
    fn next(&self) -> String;
}
