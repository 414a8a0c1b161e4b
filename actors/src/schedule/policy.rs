//! When a task is due. Pure: the calendar's answers and the time come in as values.

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use croner::Cron;
use std::str::FromStr;

/// A run that failed or was cut off is begun again this often before the next time of the calendar is waited for.
pub const ATTEMPTS: u32 = 3;
/// Between two attempts at the same run.
pub const PAUSE: TimeDelta = TimeDelta::minutes(5);

/// What is known of a task's last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// The time of the calendar it was for.
    pub due: DateTime<Utc>,
    pub attempts: u32,
    /// When the last attempt ended, or began if it was cut off.
    pub at: DateTime<Utc>,
    /// It was done, or left out on purpose.
    pub is_done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Seen for the first time: the next time of the calendar is the first one; this one is noted as past.
    Begin { past: DateTime<Utc> },
    /// Run it now, for this time of the calendar.
    Run { due: DateTime<Utc> },
    /// Nothing before this moment.
    Wait { until: Option<DateTime<Utc>> },
}

/// The times of a cron expression; `None` for an empty one.
pub fn parse(times: &str) -> Result<Option<Cron>, String> {
    match times.trim() {
        "" => Ok(None),
        text => Cron::from_str(text).map(Some).map_err(|e| e.to_string()),
    }
}

/// Whether there is such a time at all: nothing is ever run on the 30th of February.
pub fn comes(times: Option<&Cron>) -> Result<(), String> {
    match times.map(|times| times.find_next_occurrence(&DateTime::UNIX_EPOCH, false)) {
        Some(Err(_)) => Err("no calendar has such a day".into()),
        _ => Ok(()),
    }
}

/// The last time of the calendar up to `now` and the first one after it. A time that a change of the clocks leaves out comes right
/// behind the gap; one that it repeats comes once.
pub fn around<Tz: TimeZone>(times: &Cron, now: &DateTime<Tz>) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>)
where
    DateTime<Tz>: croner::CronDateTime,
{
    let next = times.find_next_occurrence(now, false).ok();
    let last = times.find_previous_occurrence(now, true).ok();
    (last.map(|at| at.with_timezone(&Utc)), next.map(|at| at.with_timezone(&Utc)))
}

/// Whether to run. However many times were missed, one run makes up for them. A last run from the future (a clock set back since)
/// counts as one for the time that has just been: it holds up nothing longer.
pub fn decide(
    last_run: Option<LastRun>,
    (last_time, next_time): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    now: DateTime<Utc>,
) -> Decision {
    let wait = Decision::Wait { until: next_time };
    let Some(due) = last_time else { return wait };
    let Some(run) = last_run else { return Decision::Begin { past: due } };
    if run.due < due {
        return Decision::Run { due };
    }
    if run.is_done || run.due > now || run.attempts >= ATTEMPTS {
        return wait;
    }
    let again = run.at.min(now) + PAUSE;
    if again > now {
        return Decision::Wait { until: Some(next_time.map_or(again, |next| next.min(again))) };
    }
    Decision::Run { due: run.due }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Tz;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }
    fn nightly() -> Cron {
        parse("0 2 * * *").expect("a cron expression").expect("not empty")
    }
    /// Lives through the given moments; a run takes no time and succeeds. Returns what it ran for.
    fn live(zone: Tz, moments: impl IntoIterator<Item = DateTime<Utc>>) -> Vec<DateTime<Utc>> {
        let (mut last_run, mut ran) = (None, Vec::new());
        for now in moments {
            match decide(last_run, around(&nightly(), &now.with_timezone(&zone)), now) {
                Decision::Begin { past } => last_run = Some(LastRun { due: past, attempts: 0, at: now, is_done: true }),
                Decision::Run { due } => {
                    last_run = Some(LastRun { due, attempts: 1, at: now, is_done: true });
                    ran.push(due);
                }
                Decision::Wait { .. } => {}
            }
        }
        ran
    }

    #[test]
    fn every_local_day_has_exactly_one_run_also_when_the_clocks_change() {
        // A year in three zones, looked at every 47 minutes; in Lord Howe the clocks change by half an hour at 2 o'clock.
        for zone in [Tz::Europe__Berlin, Tz::America__New_York, Tz::Australia__Lord_Howe] {
            let start = at("2026-01-01T12:00:00Z");
            let ran = live(zone, (0..365 * 24 * 60 / 47).map(|n| start + TimeDelta::minutes(n * 47)));
            let days: Vec<_> = ran.iter().map(|due| due.with_timezone(&zone).date_naive()).collect();
            let first = start.with_timezone(&zone).date_naive() + TimeDelta::days(1);
            let all: Vec<_> = first.iter_days().take(days.len()).collect();
            assert_eq!(days, all, "{zone}");
            assert!(days.len() >= 364, "{zone}: {}", days.len());
        }
    }

    #[test]
    fn what_was_missed_is_made_up_once_and_what_was_before_moon_is_not() {
        let day = |d: u32, h: u32| at(&format!("2026-03-{d:02}T{h:02}:00:00Z"));
        assert!(live(Tz::UTC, [day(1, 12), day(1, 23)]).is_empty());
        assert_eq!(
            live(Tz::UTC, [day(1, 12), day(9, 12), day(9, 13), day(10, 1), day(10, 2)]),
            [day(9, 2), day(10, 2)]
        );
    }

    #[test]
    fn a_clock_that_jumps_holds_up_no_later_run() {
        let day = |d: u32, h: u32| at(&format!("2026-03-{d:02}T{h:02}:00:00Z"));
        // A day ahead, and back again: the run of the 3rd was made by the clock's own mistake, and the 4th is not lost.
        let ran = live(Tz::UTC, [day(1, 12), day(2, 3), day(3, 3), day(2, 4), day(2, 23), day(4, 3)]);
        assert_eq!(ran, [day(2, 2), day(3, 2), day(4, 2)]);
        // Back to 1970 and forward again.
        let ran = live(Tz::UTC, [day(1, 12), at("1970-01-02T00:00:00Z"), day(1, 13), day(2, 3)]);
        assert_eq!(ran, [day(2, 2)]);
    }

    #[test]
    fn a_failed_run_is_tried_three_times_with_pauses_and_then_left_to_the_next_time() {
        let (due, now) = (at("2026-03-02T02:00:00Z"), at("2026-03-02T02:00:01Z"));
        let times = around(&nightly(), &now);
        let failed = |attempts, at| Some(LastRun { due, attempts, at, is_done: false });
        assert_eq!(decide(failed(1, now), times, now), Decision::Wait { until: Some(now + PAUSE) });
        assert_eq!(decide(failed(2, now - PAUSE), times, now), Decision::Run { due });
        assert_eq!(decide(failed(3, now - PAUSE), times, now), Decision::Wait { until: times.1 });
        // A stamp from the future is no reason to wait for the future.
        assert_eq!(
            decide(failed(1, now + TimeDelta::days(3)), times, now),
            Decision::Wait { until: Some(now + PAUSE) }
        );
    }

    proptest! {
        #[test]
        fn no_time_of_the_calendar_is_run_for_twice_while_time_goes_forward(steps in prop::collection::vec(1i64..5_000, 1..300)) {
            let mut now = at("2026-10-20T00:00:00Z");
            let moments = steps.into_iter().map(|minutes| { now += TimeDelta::minutes(minutes); now });
            let ran = live(Tz::Europe__Berlin, moments.collect::<Vec<_>>());
            let mut once = ran.clone();
            once.sort();
            once.dedup();
            prop_assert_eq!(once, ran);
        }
    }
}
