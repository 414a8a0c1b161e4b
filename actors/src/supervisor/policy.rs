//! Whether a crashed child is started again: a sliding window per child, pure.
//!
//! A child that lives just long enough to look healthy does not reset its count; only time does, and a person who
//! revives it. Time is an argument (since any fixed origin, monotonic). What this must never do: wait, or look at a clock.

use std::collections::VecDeque;
use std::time::Duration;

/// Longest pause before a restart.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// More than `max` crashes of one child with ages below `window` and it is not started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max: usize,
    pub window: Duration,
}

/// What happens after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Restart {
        after: Duration,
    },
    /// The child stays down, its siblings run on; a person revives it.
    Park,
    /// The supervisor itself gives up and fails to its parent.
    Escalate,
}

/// When one child crashed, oldest first. Never longer than the limit that it is compared with, plus one.
#[derive(Clone, Debug, Default)]
pub struct History {
    crashes: VecDeque<Duration>,
}

impl History {
    /// Notes a crash at `now` and forgets those that left the window.
    pub fn record(&mut self, now: Duration, limits: Limits) {
        self.crashes.push_back(now);
        let is_old = |at: Duration| now.saturating_sub(at) >= limits.window;
        while self.crashes.len() > limits.max.saturating_add(1)
            || self.crashes.len() > 1 && self.crashes.front().is_some_and(|at| is_old(*at))
        {
            self.crashes.pop_front();
        }
    }
    /// Crashes younger than `window` at `now`.
    pub fn within(&self, now: Duration, window: Duration) -> usize {
        self.crashes.iter().filter(|at| now.saturating_sub(**at) < window).count()
    }
    pub fn clear(&mut self) {
        self.crashes.clear();
    }
}

/// Records a crash at `now` and decides.
pub fn crashed(history: &mut History, now: Duration, limits: Limits, vital: bool) -> Decision {
    history.record(now, limits);
    // The crash itself counts even under an empty window.
    let crashes = history.within(now, limits.window).max(1);
    match (crashes > limits.max, vital) {
        (false, _) => Decision::Restart { after: pause(crashes) },
        (true, false) => Decision::Park,
        (true, true) => Decision::Escalate,
    }
}

/// At once the first time (a restart means "back to a known good state"), then 1 s, 2 s, 4 s … so that a child that
/// cannot start does not burn its restarts within one hiccup of the machine.
fn pause(crashes: usize) -> Duration {
    match crashes {
        0 | 1 => Duration::ZERO,
        n => Duration::from_secs(1 << (n - 2).min(16)).min(MAX_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const LIMITS: Limits = Limits { max: 3, window: HOUR };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_fourth_crash_in_an_hour_parks_or_escalates() {
        for (vital, last) in [(false, Decision::Park), (true, Decision::Escalate)] {
            let mut history = History::default();
            let decisions = [0, 10, 20, 30].map(|s| crashed(&mut history, at(s), LIMITS, vital));
            let restart = |s| Decision::Restart { after: at(s) };
            assert_eq!(decisions, [restart(0), restart(1), restart(2), last]);
        }
    }

    #[test]
    fn a_crash_leaves_the_window_exactly_when_it_is_an_hour_old() {
        let mut history = History::default();
        for second in [0, 1, 2] {
            crashed(&mut history, at(second), LIMITS, false);
        }
        assert_eq!(crashed(&mut history.clone(), at(3599), LIMITS, false), Decision::Park);
        assert!(matches!(crashed(&mut history, at(3600), LIMITS, false), Decision::Restart { .. }));
    }

    #[test]
    fn a_limit_of_zero_never_restarts() {
        let limits = Limits { max: 0, window: HOUR };
        assert_eq!(crashed(&mut History::default(), at(5), limits, true), Decision::Escalate);
    }

    #[test]
    fn the_pause_is_capped_however_many_crashes_are_allowed() {
        let limits = Limits { max: usize::MAX, window: HOUR };
        let mut history = History::default();
        let last = (0..200).map(|s| crashed(&mut history, at(s), limits, false)).last();
        assert_eq!(last, Some(Decision::Restart { after: MAX_PAUSE }));
    }

    proptest! {
        /// Against the naive model: keep every crash for ever and count those inside the window.
        #[test]
        fn decisions_equal_a_model_that_forgets_nothing(
            gaps in prop::collection::vec(0u64..2000, 1..80), max in 0usize..6, window in 1u64..5000, vital: bool,
        ) {
            let limits = Limits { max, window: at(window) };
            let (mut history, mut all, mut now) = (History::default(), Vec::new(), 0);
            for gap in gaps {
                now += gap;
                all.push(now);
                let inside = all.iter().filter(|t| now - **t < window).count();
                let decision = crashed(&mut history, at(now), limits, vital);
                let gives_up = inside > max;
                prop_assert_eq!(matches!(decision, Decision::Restart { .. }), !gives_up);
                prop_assert_eq!(decision == Decision::Escalate, gives_up && vital);
                prop_assert!(history.crashes.len() <= max + 1);
            }
        }
    }
}
