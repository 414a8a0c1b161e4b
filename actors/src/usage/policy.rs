//! Whether a clock was set back. Pure.

use chrono::TimeDelta;

/// Corrections smaller than this are what time services do all day.
const TOLERATED: TimeDelta = TimeDelta::seconds(5);

/// By how much a clock was set back between two looks at its lead over a steady one. `None` when it was not, or hardly. A lead
/// that grows is a machine that slept, or a clock set forward; neither makes anything happen twice.
pub fn set_back(before: TimeDelta, now: TimeDelta) -> Option<TimeDelta> {
    Some(before - now).filter(|back| *back > TOLERATED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_step_back_beyond_a_correction_is_news() {
        let seconds = TimeDelta::seconds;
        assert_eq!(set_back(seconds(0), seconds(-3600)), Some(seconds(3600)));
        assert_eq!(set_back(seconds(100), seconds(96)), None);
        assert_eq!(set_back(seconds(0), seconds(86_400)), None);
    }
}
