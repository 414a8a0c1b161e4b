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

/// How long to wait before the next try. `failures` counts those before this one.
pub fn pause(error: &Error, failures: u32, settings: &Supervision) -> Duration {
    if error.code == BUSY {
        return settings.retry_min;
    }
    let first = match error.kind {
        Kind::Transient | Kind::Conflict => settings.retry_min,
        Kind::Unavailable | Kind::Config | Kind::Data => settings.retry_min * 4,
    };
    first.saturating_mul(1 << failures.min(16)).min(settings.retry_max)
}

/// Whether this failure is worth an alert, and how bad it is.
pub fn alarming(stage: Stage, error: &Error, failures: u32) -> Option<Severity> {
    let worth = match error.kind {
        Kind::Transient | Kind::Conflict => error.code != BUSY && failures + 1 >= PATIENCE,
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
    fn waiting_for_a_running_turn_alarms_nobody_and_stays_quick() {
        let busy = Error::transient(BUSY, "a turn is running");
        assert_eq!(alarming(Stage::Prune, &busy, 500), None);
        assert_eq!(pause(&busy, 500, &Supervision::default()), Supervision::default().retry_min);
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
