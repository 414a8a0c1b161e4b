//! The machine's clocks and time-sorted random ids.

use chrono::{DateTime, Local, NaiveDate, TimeDelta, Utc};
use croner::Cron;
use moon_actors::port::{Clock, Ids};
use std::time::Instant;

/// Wall time, and wall time at start plus monotonic time since.
pub struct SystemClock {
    started_wall: DateTime<Utc>,
    started: Instant,
}

impl SystemClock {
    pub fn start() -> Self {
        Self { started_wall: Utc::now(), started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
    fn steady(&self) -> DateTime<Utc> {
        self.started_wall + TimeDelta::from_std(self.started.elapsed()).unwrap_or(TimeDelta::MAX)
    }
    fn today(&self) -> NaiveDate {
        Local::now().date_naive()
    }
    fn calendar(&self, times: &Cron) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        moon_actors::schedule::policy::around(times, &Local::now())
    }
}

/// UUID version 7: sorts by time.
pub struct UuidIds;

impl Ids for UuidIds {
    fn next(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }
}
