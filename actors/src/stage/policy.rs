//! What to do about a job that failed: when to try again, whether to tell somebody. Pure.
//!
//! The world's failures (no room, host away, index broken, archive not verifiable) are retried for ever, because the job is
//! what keeps a promise and heals by itself when the cause is gone. Only a job that *crashes* its worker is set aside, by its
//! count of attempts in the ledger.

use crate::domain::Stage;
use crate::error::{Error, Kind};
use crate::port::Severity;
use crate::settings::Supervision;
use std::time::Duration;

/// A turn is running in the session: waiting for it is not a failure.
pub const BUSY: &str = "host.busy";

/// Transient failures in a row before somebody is told.
const PATIENCE: u32 = 3;
/// A job that finds no moment between two turns for this long is worth a word.
const BUSY_PATIENCE: Duration = Duration::from_secs(3600);
/// Longest pause before it is looked again whether a turn still runs. The end of a turn that is noticed ends the pause.
const BUSY_PAUSE: Duration = Duration::from_secs(60);

/// How long to wait for the end of a turn when the job was queued `age` ago: an eighth of that, within bounds.
pub fn busy_pause(age: Duration, settings: &Supervision) -> Duration {
    (age / 8).clamp(settings.retry_min, BUSY_PAUSE.max(settings.retry_min))
}

/// Whether a job has waited for a moment between two turns for too long.
pub fn waits_too_long(age: Duration) -> bool {
    age >= BUSY_PATIENCE
}

/// How long to wait before the next try. `failures` counts those before this one.
pub fn pause(error: &Error, failures: u32, settings: &Supervision) -> Duration {
    let first = match error.kind {
        Kind::Transient | Kind::Conflict => settings.retry_min,
        Kind::Unavailable | Kind::Config | Kind::Data => settings.retry_min * 4,
    };
    first.saturating_mul(1 << failures.min(16)).min(settings.retry_max)
}

/// Whether this failure is worth an alert, and how bad it is.
pub fn alarming(stage: Stage, error: &Error, failures: u32) -> Option<Severity> {
    let worth = match error.kind {
        Kind::Transient | Kind::Conflict => failures + 1 >= PATIENCE,
        Kind::Unavailable | Kind::Config | Kind::Data => true,
    };
    // Without an archive nothing is safe; everything after it only waits.
    worth.then_some(if stage == Stage::Archive { Severity::Critical } else { Severity::Warning })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_never_overflow() {
        let settings = Supervision::default();
        let flaky = Error::transient("archive.disk_full", "x");
        let pauses: Vec<u64> = (0..9).map(|n| pause(&flaky, n, &settings).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(pause(&flaky, u32::MAX, &settings), settings.retry_max);
    }

    #[test]
    fn the_end_of_a_turn_is_looked_for_ever_more_rarely_and_a_turn_without_end_is_told_after_an_hour() {
        let pause = |secs| busy_pause(Duration::from_secs(secs), &Supervision::default()).as_secs();
        assert_eq!([pause(0), pause(30), pause(240), pause(7200)], [2, 3, 30, 60]);
        assert!(!waits_too_long(Duration::from_secs(3599)) && waits_too_long(Duration::from_secs(3600)));
    }

    #[test]
    fn a_blip_alarms_at_the_third_time_a_broken_archive_at_once() {
        let blip = Error::transient("index.busy", "x");
        assert_eq!(
            (alarming(Stage::Index, &blip, 1), alarming(Stage::Index, &blip, 2)),
            (None, Some(Severity::Warning))
        );
        assert_eq!(alarming(Stage::Archive, &Error::data("archive.verify", "x"), 0), Some(Severity::Critical));
    }
}
