//! When to archive, prune and distil: the state machine of one session, as a pure function.
//!
//! ```text
//!            >= archive            >= prune              >= distill
//!   Normal ------------> Archive ------------> Prune ------------> Distill
//!      ^    ArchiveTriggered       PruneTriggered        DistillTriggered
//!      |                  |             |                      |
//!      '---- cooldown over <--------- Cooldown <---------------'
//! ```
//!
//! An action fires when usage is at or above its threshold, it is *armed*, and its cooldown is over. Firing disarms it; it is
//! armed again only below its threshold minus the hysteresis, or in a new window. The lowest action that may fire goes first,
//! and nothing fires while a cycle of the session is open: so the order is archive, prune, distil, and a count that flickers
//! around a threshold fires once. Two rules more, because a prune that works keeps a session below the distil threshold for
//! ever: after `distill.after_prunes` prunes, or one that freed less than `distill.min_freed`, distillation is due at the
//! *archive* threshold and goes before another prune; and a quiet session with undistilled records is distilled as it is.
//!
//! Time is the steady clock. A stamp from the future (another life, a clock that jumped back) counts as now: it blocks for one
//! cooldown at most and never fires at once.

use crate::domain::{CycleKind, Trigger};
use crate::settings::{Distill, Thresholds};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One action's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    pub armed: bool,
    /// When it last fired.
    pub fired: Option<DateTime<Utc>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { armed: true, fired: None }
    }
}

/// The plan's five states, for people and `moon_state.json`. Derived; the gates decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    #[default]
    Normal,
    ArchiveTriggered,
    PruneTriggered,
    DistillTriggered,
    Cooldown,
}

/// What is remembered of one session between readings. Stored in the ledger, never only in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub phase: Phase,
    pub archive: Gate,
    pub prune: Gate,
    pub distill: Gate,
    pub idle: Gate,
    /// The window the gates were last armed for.
    pub generation: Option<String>,
}

/// Everything a decision rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Used share of the window, fresh; `None` when the host does not vouch for a count now.
    pub ratio: Option<f64>,
    pub generation: Option<String>,
    /// A cycle of this session (other than a capture) is open.
    pub cycle_open: bool,
    /// The reading is older than the end of the last reduction, so it does not show its effect.
    pub outdated: bool,
    /// Moon may reduce: `lead` mode and the host allows it.
    pub may_reduce: bool,
    /// Prunes since the last rollover, and the share of used tokens the last one freed.
    pub prunes: u32,
    pub last_freed: Option<f64>,
    pub undistilled: i64,
    /// Since the last activity; `None` when unknown or a turn is running.
    pub idle: Option<Duration>,
}

/// One step: the machine after this observation, and what to do now, if anything.
pub fn step(
    machine: &Machine,
    seen: &Observation,
    thresholds: &Thresholds,
    distill: &Distill,
    now: DateTime<Utc>,
) -> (Machine, Option<Trigger>) {
    let mut next = machine.clone();
    for gate in [&mut next.archive, &mut next.prune, &mut next.distill, &mut next.idle] {
        gate.fired = gate.fired.map(|fired| fired.min(now));
    }
    let due = distillation_due(seen, distill);
    let distill_at = if due { thresholds.archive } else { thresholds.distill };
    arm(&mut next, seen, thresholds, distill_at);
    let trigger = if seen.cycle_open {
        None
    } else {
        crossing(&mut next, seen, thresholds, due, now).or_else(|| quiet(&mut next, seen, thresholds, distill, now))
    };
    next.phase = phase(&next, trigger.as_ref(), seen.cycle_open, machine.phase, thresholds, now);
    (next, trigger)
}

/// Whether the rules on prunes ask for a distillation at the archive threshold.
fn distillation_due(seen: &Observation, distill: &Distill) -> bool {
    let poor = seen.prunes > 0 && seen.last_freed.is_some_and(|freed| freed < distill.min_freed);
    seen.prunes >= distill.after_prunes || poor
}

fn arm(next: &mut Machine, seen: &Observation, thresholds: &Thresholds, distill_at: f64) {
    // `None` is a host that cannot say, never a new window.
    if seen.generation.is_some() && seen.generation != next.generation {
        for gate in [&mut next.archive, &mut next.prune, &mut next.distill] {
            gate.armed |= next.generation.is_some();
        }
        next.generation.clone_from(&seen.generation);
    }
    let Some(ratio) = seen.ratio else { return };
    let below = |threshold: f64| ratio < threshold - thresholds.hysteresis;
    next.archive.armed |= below(thresholds.archive);
    next.prune.armed |= below(thresholds.prune);
    next.distill.armed |= below(distill_at);
}

fn crossing(
    next: &mut Machine,
    seen: &Observation,
    thresholds: &Thresholds,
    due: bool,
    now: DateTime<Utc>,
) -> Option<Trigger> {
    let ratio = seen.ratio?;
    let fire = |gate: &mut Gate, threshold: f64, cooldown: Duration| {
        let may = gate.armed && ratio >= threshold && cooled(gate, cooldown, now);
        if may {
            *gate = Gate { armed: false, fired: Some(now) };
        }
        may
    };
    let trigger = |kind, reason: String| Some(Trigger { kind, reason, ratio: Some(ratio) });
    let crossed = |at: f64| format!("usage {ratio:.3} at or above {at}");
    if fire(&mut next.archive, thresholds.archive, thresholds.archive_cooldown) {
        return trigger(CycleKind::Archive, crossed(thresholds.archive));
    }
    if seen.outdated {
        return None;
    }
    if seen.may_reduce && !due && fire(&mut next.prune, thresholds.prune, thresholds.prune_cooldown) {
        return trigger(CycleKind::Prune, crossed(thresholds.prune));
    }
    let distill_at = if due { thresholds.archive } else { thresholds.distill };
    // A poor prune is itself a reduction of this session: distillation waits for its cooldown too.
    let rested = !due || cooled(&next.prune, thresholds.prune_cooldown.min(thresholds.distill_cooldown), now);
    if rested && fire(&mut next.distill, distill_at, thresholds.distill_cooldown) {
        let why = if due { format!(", due after {} prunes", seen.prunes) } else { String::new() };
        return trigger(CycleKind::Distill, format!("{}{why}", crossed(distill_at)));
    }
    None
}

fn quiet(
    next: &mut Machine,
    seen: &Observation,
    thresholds: &Thresholds,
    distill: &Distill,
    now: DateTime<Utc>,
) -> Option<Trigger> {
    let idle = seen.idle.filter(|idle| *idle >= distill.idle)?;
    if seen.undistilled <= 0 || !cooled(&next.idle, thresholds.distill_cooldown, now) {
        return None;
    }
    next.idle = Gate { armed: true, fired: Some(now) };
    let reason = format!("idle for {} minutes with undistilled records", idle.as_secs() / 60);
    Some(Trigger { kind: CycleKind::IdleDistill, reason, ratio: seen.ratio })
}

fn cooled(gate: &Gate, cooldown: Duration, now: DateTime<Utc>) -> bool {
    let cooldown = TimeDelta::from_std(cooldown).unwrap_or(TimeDelta::MAX);
    gate.fired.is_none_or(|fired| now - fired >= cooldown)
}

fn phase(
    next: &Machine,
    trigger: Option<&Trigger>,
    open: bool,
    before: Phase,
    thresholds: &Thresholds,
    now: DateTime<Utc>,
) -> Phase {
    match trigger.map(|t| t.kind) {
        Some(CycleKind::Archive | CycleKind::Capture) => Phase::ArchiveTriggered,
        Some(CycleKind::Prune) => Phase::PruneTriggered,
        Some(CycleKind::Distill | CycleKind::IdleDistill) => Phase::DistillTriggered,
        None if open => before,
        None => {
            let cooling = !cooled(&next.archive, thresholds.archive_cooldown, now)
                || !cooled(&next.prune, thresholds.prune_cooldown, now)
                || !cooled(&next.distill, thresholds.distill_cooldown, now);
            if cooling { Phase::Cooldown } else { Phase::Normal }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid time")
    }

    fn lead(ratio: f64) -> Observation {
        Observation { ratio: Some(ratio), may_reduce: true, ..Observation::default() }
    }

    /// Feeds readings `(second, observation)` and collects what fired when. Cycles end at once.
    fn drive(readings: &[(i64, Observation)]) -> Vec<(i64, CycleKind)> {
        let (mut machine, mut fired) = (Machine::default(), Vec::new());
        for (second, seen) in readings {
            loop {
                let (next, trigger) = step(&machine, seen, &Thresholds::default(), &Distill::default(), at(*second));
                machine = next;
                match trigger {
                    Some(trigger) => fired.push((*second, trigger.kind)),
                    None => break,
                }
            }
        }
        fired
    }

    #[test]
    fn a_jump_over_all_thresholds_fires_them_in_order() {
        use CycleKind::{Archive, Distill, Prune};
        assert_eq!(drive(&[(0, lead(0.95))]), [(0, Archive), (0, Prune), (0, Distill)]);
    }

    #[test]
    fn a_reading_older_than_the_last_reduction_reduces_nothing() {
        let old = Observation { outdated: true, ..lead(0.95) };
        assert_eq!(drive(&[(0, old)]), [(0, CycleKind::Archive)]);
    }

    #[test]
    fn nothing_fires_while_a_cycle_is_open_and_the_crossing_is_not_forgotten() {
        let open = Observation { cycle_open: true, ..lead(0.9) };
        assert_eq!(drive(&[(0, open), (5, lead(0.86))]), [(5, CycleKind::Archive), (5, CycleKind::Prune)]);
    }

    #[test]
    fn a_stale_count_triggers_nothing() {
        assert_eq!(drive(&[(0, Observation { ratio: None, may_reduce: true, ..Observation::default() })]), []);
    }

    #[test]
    fn in_observe_mode_nothing_is_pruned() {
        let seen = Observation { may_reduce: false, ..lead(0.88) };
        assert_eq!(drive(&[(0, seen)]), [(0, CycleKind::Archive)]);
    }

    #[test]
    fn growing_again_within_the_prune_cooldown_goes_on_to_distil() {
        use CycleKind::{Archive, Distill, Prune};
        let trace = [(0, lead(0.86)), (10, lead(0.30)), (120, lead(0.92))];
        assert_eq!(drive(&trace), [(0, Archive), (0, Prune), (120, Archive), (120, Distill)]);
    }

    #[test]
    fn after_three_prunes_the_next_crossing_of_the_archive_threshold_distils() {
        let pruned = Observation { prunes: 3, last_freed: Some(0.5), ..lead(0.81) };
        assert_eq!(drive(&[(0, pruned)]), [(0, CycleKind::Archive), (0, CycleKind::Distill)]);
    }

    #[test]
    fn a_prune_that_freed_too_little_makes_distillation_due_but_not_within_its_cooldown() {
        use CycleKind::{Archive, Distill, Prune};
        let poor = Observation { prunes: 1, last_freed: Some(0.1), ..lead(0.84) };
        let trace = [(0, lead(0.86)), (30, poor.clone()), (301, poor)];
        assert_eq!(drive(&trace), [(0, Archive), (0, Prune), (301, Distill)]);
    }

    #[test]
    fn a_quiet_session_is_distilled_once_and_only_with_something_to_distil() {
        let quiet = |undistilled| Observation {
            ratio: Some(0.3),
            undistilled,
            idle: Some(Duration::from_secs(31 * 60)),
            ..Observation::default()
        };
        assert_eq!(drive(&[(0, quiet(4)), (1, quiet(0))]), [(0, CycleKind::IdleDistill)]);
    }

    #[test]
    fn a_stamp_from_the_future_blocks_for_one_cooldown_at_most_and_never_fires_at_once() {
        let mut machine = Machine::default();
        machine.prune.fired = Some(at(86_400));
        machine.archive.armed = false;
        let t = Thresholds::default();
        let run = |machine: &Machine, second| step(machine, &lead(0.86), &t, &Distill::default(), at(second));
        let (machine, first) = run(&machine, 0);
        assert_eq!(first, None);
        assert_eq!(run(&machine, 299).1, None);
        assert_eq!(run(&machine, 300).1.map(|t| t.kind), Some(CycleKind::Prune));
    }

    #[test]
    fn a_host_that_cannot_name_its_window_for_a_while_has_not_begun_a_new_one() {
        let window = |name: Option<&str>, ratio| Observation { generation: name.map(Into::into), ..lead(ratio) };
        let trace = [(0, window(Some("a"), 0.81)), (3600, window(None, 0.81)), (3601, window(Some("a"), 0.81))];
        assert_eq!(drive(&trace), [(0, CycleKind::Archive)]);
    }

    #[test]
    fn a_new_window_arms_everything_again() {
        let window = |name: &str, ratio| Observation { generation: Some(name.into()), ..lead(ratio) };
        let trace = [(0, window("a", 0.81)), (3600, window("a", 0.81)), (3601, window("b", 0.81))];
        assert_eq!(drive(&trace), [(0, CycleKind::Archive), (3601, CycleKind::Archive)]);
    }

    proptest! {
        /// Random usage at random intervals: the order holds, and nothing repeats within its cooldown or before it was
        /// armed again.
        #[test]
        fn no_trace_of_usage_makes_a_trigger_storm(
            trace in prop::collection::vec((0.79f64..0.91, 0i64..40), 1000),
            wild in prop::collection::vec((0.0f64..1.2, 0i64..200), 200),
        ) {
            let mut second = 0;
            let readings: Vec<_> = trace.iter().chain(&wild).map(|(ratio, pause)| {
                second += pause;
                (second, lead(*ratio))
            }).collect();
            let fired = drive(&readings);
            let t = Thresholds::default();
            for (kind, threshold, cooldown) in [
                (CycleKind::Archive, t.archive, t.archive_cooldown),
                (CycleKind::Prune, t.prune, t.prune_cooldown),
                (CycleKind::Distill, t.distill, t.distill_cooldown),
            ] {
                let times: Vec<i64> = fired.iter().filter(|f| f.1 == kind).map(|f| f.0).collect();
                for pair in times.windows(2) {
                    prop_assert!(pair[1] - pair[0] >= cooldown.as_secs() as i64, "{kind:?} repeated at {pair:?}");
                    let rearmed = readings.iter().any(|(s, o)| {
                        (pair[0]..=pair[1]).contains(s) && o.ratio.is_some_and(|r| r < threshold - t.hysteresis)
                    });
                    prop_assert!(rearmed, "{kind:?} fired twice without being armed: {pair:?}");
                }
            }
            for (at, kind) in &fired {
                let before = |k: CycleKind| fired.iter().any(|(s, f)| *f == k && s <= at);
                prop_assert!(*kind != CycleKind::Prune || before(CycleKind::Archive));
                prop_assert!(*kind != CycleKind::Distill || before(CycleKind::Prune));
            }
        }
    }
}
