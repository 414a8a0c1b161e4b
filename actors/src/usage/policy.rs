//! What of a reading is news, and whether a clock was set back. Pure.

use crate::domain::UsageReading;
use chrono::{DateTime, TimeDelta};

/// Corrections smaller than this are what time services do all day.
const TOLERATED: TimeDelta = TimeDelta::seconds(5);

/// Whether a reading says something that the one before did not. The moment it was taken is no change.
pub fn is_news(before: Option<&UsageReading>, now: &UsageReading) -> bool {
    let untimed = |reading: &UsageReading| UsageReading { captured_at: DateTime::UNIX_EPOCH, ..reading.clone() };
    before.is_none_or(|before| untimed(before) != untimed(now))
}

/// By how much a clock was set back between two looks at its lead over a steady one. `None` when it was not, or hardly. A lead
/// that grows is a machine that slept, or a clock set forward; neither makes anything happen twice.
pub fn set_back(before: TimeDelta, now: TimeDelta) -> Option<TimeDelta> {
    Some(before - now).filter(|back| *back > TOLERATED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SessionRef;

    fn reading(used: u64, second: i64) -> UsageReading {
        UsageReading {
            session: SessionRef { key: "s".into(), session_id: "s".into() },
            used_tokens: Some(used),
            window_tokens: Some(100),
            fresh: true,
            running: false,
            last_activity: None,
            generation: None,
            model: None,
            provider: "test".into(),
            captured_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(second),
        }
    }

    #[test]
    fn a_reading_is_news_when_it_says_something_else_not_when_it_is_said_again() {
        let before = reading(10, 1000);
        assert!(is_news(None, &before) && is_news(Some(&before), &reading(11, 1000)));
        assert!(!is_news(Some(&before), &reading(10, 2000)));
    }

    #[test]
    fn only_a_step_back_beyond_a_correction_is_news() {
        let seconds = TimeDelta::seconds;
        assert_eq!(set_back(seconds(0), seconds(-3600)), Some(seconds(3600)));
        assert_eq!(set_back(seconds(100), seconds(96)), None);
        assert_eq!(set_back(seconds(0), seconds(86_400)), None);
    }
}
