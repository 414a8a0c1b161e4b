//! What findings mean, over made-up traces.

use super::*;
use proptest::prelude::*;

const RULES: AlertRules = AlertRules { warning: "disk_low", critical: "disk_critical", subject: "moon" };
const COOLDOWN: Duration = Duration::from_secs(300);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_795_165_200 + seconds)
}
fn found(condition: Condition) -> Finding {
    Finding::new(condition, format!("it is {}", condition.as_str()))
}
/// Rules raised and rules resolved.
type Told = (Vec<String>, Vec<String>);

/// Lives through findings, one a minute. Returns what was raised and resolved at each, and the last row.
fn live(findings: impl IntoIterator<Item = Finding>) -> (Vec<Told>, CheckRow) {
    let (mut row, mut told) = (None, Vec::new());
    for (minute, finding) in findings.into_iter().enumerate() {
        let stamp = (at(60 * minute as i64), Duration::from_millis(3));
        let judged = judge("disk", row.as_ref(), finding, Some(RULES), stamp);
        let raised = judged.raise.iter().map(|w| w.key.rule.clone()).collect();
        told.push((raised, judged.resolve.into_iter().map(|key| key.rule).collect()));
        row = Some(judged.row);
    }
    (told, row.expect("at least one finding"))
}
fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_warning_is_told_when_it_is_seen_twice_and_a_critical_state_at_once() {
    use Condition::{Critical, Ok, Warning};
    let (told, _) = live([Warning, Ok, Warning, Warning, Ok].map(found));
    assert_eq!(told[0], (vec![], vec![]), "once is nothing");
    assert_eq!(told[2], (vec![], vec![]), "it came and went");
    assert_eq!(told[3], (words(&["disk_low"]), vec![]));
    assert_eq!(told[4], (vec![], words(&["disk_low"])));
    assert_eq!(live([found(Critical)]).0[0], (words(&["disk_critical"]), vec![]));
}

#[test]
fn one_disk_is_low_or_critical_and_never_both() {
    use Condition::{Critical, Warning};
    let (told, row) = live([Warning, Warning, Critical, Critical, Warning].map(found));
    assert_eq!(told[2], (words(&["disk_critical"]), words(&["disk_low"])));
    assert_eq!(told[3], (words(&["disk_critical"]), vec![]), "said again to the ledger, which knows it");
    assert_eq!(told[4], (words(&["disk_low"]), words(&["disk_critical"])), "no gap in between");
    assert_eq!(row.kept.raised.len(), 1);
    assert_eq!(row.since, at(240), "in this state since the last look");
}

#[test]
fn what_cannot_be_looked_at_ends_no_alert() {
    use Condition::{Critical, Ok, Unknown};
    let (told, row) = live([Critical, Unknown, Unknown].map(found));
    assert_eq!(told[1], (words(&["health.unknown"]), vec![]), "the look before was not fine either");
    assert_eq!(row.kept.raised.len(), 2);
    let (told, row) = live([Critical, Unknown, Ok].map(found));
    assert_eq!(told[2].1.len(), 2, "both are over");
    assert!(row.kept.raised.is_empty());
    assert_eq!(live([found(Unknown)]).0[0], (vec![], vec![]), "one look cut off wakes nobody");
}

#[test]
fn an_alert_of_another_severity_is_another_alert() {
    let rules = Some(AlertRules::both("backup.old"));
    let first = judge("backup", None, found(Condition::Critical), rules, (at(0), Duration::ZERO));
    let second = judge("backup", Some(&first.row), found(Condition::Warning), rules, (at(60), Duration::ZERO));
    assert_eq!(second.resolve, [AlertKey::new("backup.old", "backup")]);
    assert_eq!(second.raise[0].severity, Severity::Warning);
}

#[test]
fn each_of_several_troubles_has_an_alert_of_its_own_and_ends_alone() {
    let trouble = |subject: &str| Trouble {
        subject: subject.into(),
        condition: Condition::Critical,
        reason: format!("{subject} is broken"),
        rule: None,
    };
    let both = Finding::of(vec![trouble("a.db"), trouble("b.db")], "fine");
    assert_eq!(both.reason, "a.db is broken; b.db is broken");
    let rules = Some(AlertRules::both("memory_corrupt"));
    let first = judge("database:x", None, both, rules, (at(0), Duration::ZERO));
    assert_eq!(first.raise.iter().map(|w| w.key.subject.as_str()).collect::<Vec<_>>(), ["a.db", "b.db"]);
    let one = Finding::of(vec![trouble("b.db")], "fine");
    let second = judge("database:x", Some(&first.row), one, rules, (at(60), Duration::ZERO));
    assert_eq!(second.resolve, [AlertKey::new("memory_corrupt", "a.db")]);
    let many = Finding::of((0..1000).map(|n| trouble(&n.to_string())).collect(), "fine");
    assert_eq!(judge("x", None, many, rules, (at(0), Duration::ZERO)).raise.len(), MOST_ALERTS);
}

fn remedy() -> Remedy {
    Remedy { rule: "daemon_critical".into(), argv: vec!["/bin/true".into()], ..Remedy::default() }
}
fn down() -> Vec<Raised> {
    vec![Raised { key: AlertKey::new("daemon_critical", "agent"), severity: Severity::Critical }]
}
/// What is done at each of these moments while the alert fires, or not.
fn treated(trace: impl IntoIterator<Item = (i64, bool)>) -> Vec<Vec<Treatment>> {
    let mut episodes = Vec::new();
    let mut done = Vec::new();
    for (seconds, is_down) in trace {
        let raised = if is_down { down() } else { vec![] };
        let (next, treatments) = treat(&raised, &episodes, &[remedy()], COOLDOWN, at(seconds));
        episodes = next;
        done.push(treatments);
    }
    done
}
fn attempts(done: &[Vec<Treatment>]) -> Vec<u32> {
    let attempt = |t: &Treatment| match t {
        Treatment::Act { attempt, .. } => Some(*attempt),
        _ => None,
    };
    done.iter().flatten().filter_map(attempt).collect()
}

#[test]
fn three_attempts_with_pauses_and_then_a_person_is_asked() {
    let done = treated((0..30).map(|n| (n * 60, true)));
    assert_eq!(attempts(&done), [1, 2, 3]);
    let when: Vec<usize> = (0..30).filter(|n| !done[*n].is_empty()).collect();
    assert_eq!(when[..4], [0, 5, 10, 15], "a cooldown apart");
    assert!(matches!(done[15][0], Treatment::GiveUp { attempts: 3, .. }));
}

#[test]
fn an_alert_that_flaps_gets_no_new_attempts_and_one_that_was_quiet_does() {
    let done = treated((0..40).map(|n| (n * 60, n % 2 == 0)));
    assert_eq!(attempts(&done), [1, 2, 3], "it was never quiet for a cooldown");
    let done = treated([(0, true), (60, false), (120, false), (400, false), (460, true)]);
    assert_eq!(attempts(&done), [1, 1]);
    assert!(matches!(done[1][0], Treatment::Recovered { .. }) && done[2].is_empty(), "told once");
}

#[test]
fn nothing_is_done_that_the_settings_do_not_name() {
    let raised = down();
    assert_eq!(treat(&raised, &[], &[], COOLDOWN, at(0)), (vec![], vec![]));
    let other = Remedy { subject: "mail".into(), ..remedy() };
    assert_eq!(treat(&raised, &[], &[other], COOLDOWN, at(0)), (vec![], vec![]));
    let rule = Remedy { rule: "daemon_degraded".into(), ..remedy() };
    assert_eq!(treat(&raised, &[], &[rule], COOLDOWN, at(0)), (vec![], vec![]), "a hung one only by its own rule");
}

#[test]
fn the_fourth_crash_within_an_hour_is_a_loop_and_older_ones_do_not_count() {
    let crashes = |minutes: &[i64]| minutes.iter().map(|m| ("moon".to_owned(), at(m * 60))).collect::<Vec<_>>();
    assert!(loops(&crashes(&[0, 10, 20]), at(1800)).is_empty());
    assert_eq!(loops(&crashes(&[0, 10, 20, 29]), at(1800)), [("moon".to_owned(), 4)]);
    assert!(loops(&crashes(&[0, 10, 20, 59]), at(3600)).is_empty(), "the first one is an hour old");
    let others =
        vec![("a".to_owned(), at(0)), ("b".to_owned(), at(0)), ("c".to_owned(), at(0)), ("d".to_owned(), at(0))];
    assert!(loops(&others, at(60)).is_empty(), "four once are no loop");
}

#[test]
fn room_is_measured_in_bytes_and_in_percent() {
    let floors = Floors { low: 5.0, critical: 2.0, low_percent: 5.0, critical_percent: 1.0 };
    let states = [6.0, 5.0, 4.9, 2.0, 1.9].map(|free| room(free, 50.0, floors));
    use Condition::{Critical, Ok, Warning};
    assert_eq!(states, [Ok, Ok, Warning, Warning, Critical]);
    assert_eq!(room(40.0, 1000.0, floors), Warning, "4 % of a large disk");
    assert_eq!(room(9.0, 1000.0, floors), Critical);
    assert_eq!(
        room(0.0, 0.0, Floors { low: 0.0, critical: 0.0, ..floors }),
        Ok,
        "a disk that has no size says nothing"
    );
}

#[test]
fn a_heartbeat_is_stale_past_twice_its_interval() {
    let s = Duration::from_secs;
    assert!(!is_stale(s(7200), s(3600)) && is_stale(s(7201), s(3600)));
    assert!(!is_stale(Duration::MAX, Duration::MAX));
}

#[test]
fn first_looks_are_spread_and_never_later_than_the_interval() {
    const START: Duration = Duration::from_secs(2);
    let names = ["daemon", "ledger", "disk", "archive", "index", "host"];
    let pauses: Vec<_> = names.iter().map(|name| first_pause(name, START, COOLDOWN)).collect();
    assert!(pauses.iter().all(|p| *p >= START && *p < Duration::from_secs(20)), "{pauses:?}");
    assert!(pauses.iter().collect::<std::collections::HashSet<_>>().len() == names.len(), "{pauses:?}");
    assert_eq!(first_pause("daemon", Duration::ZERO, Duration::from_millis(1)), Duration::from_millis(1));
    assert_eq!(rest_after(Duration::from_millis(1)), Duration::from_secs(5));
    assert_eq!(rest_after(Duration::from_secs(3600)), LONGEST_REST);
}

proptest! {
    /// However findings come: what is raised and not resolved is what the row says, and a fine look leaves nothing firing.
    #[test]
    fn what_fires_is_what_the_row_says(states in prop::collection::vec(0usize..4, 1..60)) {
        let (mut firing, mut row): (Vec<AlertKey>, Option<CheckRow>) = (vec![], None);
        for (n, state) in states.into_iter().enumerate() {
            let condition = Condition::ALL[state];
            let judged = judge("disk", row.as_ref(), found(condition), Some(RULES), (at(n as i64), Duration::ZERO));
            for key in &judged.resolve {
                let place = firing.iter().position(|f| f == key);
                prop_assert!(place.is_some(), "only what fires is ended");
                firing.remove(place.expect("looked at"));
            }
            for wanted in &judged.raise {
                if !firing.contains(&wanted.key) {
                    firing.push(wanted.key.clone());
                }
            }
            let mut kept: Vec<AlertKey> = judged.row.kept.raised.iter().map(|r| r.key.clone()).collect();
            kept.sort_by(|a, b| a.rule.cmp(&b.rule));
            firing.sort_by(|a, b| a.rule.cmp(&b.rule));
            prop_assert_eq!(&kept, &firing);
            if condition == Condition::Ok {
                prop_assert!(firing.is_empty());
            }
            row = Some(judged.row);
        }
    }

    /// However an alert comes and goes: never more than three attempts without a quiet cooldown, and never two within one.
    #[test]
    fn attempts_are_bounded(gaps in prop::collection::vec((1i64..400, any::<bool>()), 1..80)) {
        let mut now = 0;
        let trace: Vec<(i64, bool)> = gaps.into_iter().map(|(gap, down)| { now += gap; (now, down) }).collect();
        let done = treated(trace.clone());
        let mut last: Option<(i64, u32)> = None;
        for ((seconds, _), treatments) in trace.iter().zip(&done) {
            for attempt in attempts(std::slice::from_ref(treatments)) {
                prop_assert!(attempt <= MOST_ATTEMPTS);
                if let Some((before, number)) = last && attempt > 1 {
                    prop_assert!(seconds - before >= 300 && attempt == number + 1);
                }
                last = Some((*seconds, attempt));
            }
        }
    }
}
