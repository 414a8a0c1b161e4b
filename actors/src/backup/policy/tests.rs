//! The retention lived through: 800 days, gaps, several a day, clocks that jump, and properties of every single decision.

use super::*;
use proptest::prelude::*;

const RULES: Rules = Rules {
    daily: TimeDelta::days(7),
    weekly: TimeDelta::days(30),
    monthly: TimeDelta::days(365),
    usual: TimeDelta::days(1),
};

fn start() -> DateTime<Utc> {
    "2026-01-01T02:00:00Z".parse().expect("a time")
}
fn made(at: DateTime<Utc>, is_verified: bool) -> Candidate {
    Candidate { id: at.format("%Y%m%d_%H%M%S").to_string(), at, is_verified }
}
/// What is left after one look.
fn look(kept: &mut Vec<Candidate>, now: DateTime<Utc>, last: Option<DateTime<Utc>>) -> Plan {
    let plan = retain(kept, now, last, &RULES);
    kept.retain(|backup| plan.verdicts.iter().any(|v| v.id == backup.id && v.keep));
    plan
}
fn between(kept: &[Candidate], now: DateTime<Utc>, from: i64, to: i64) -> Vec<&Candidate> {
    let in_range = |b: &&Candidate| now - b.at > TimeDelta::days(from) && now - b.at <= TimeDelta::days(to);
    kept.iter().filter(in_range).collect()
}

#[test]
fn eight_hundred_days_keep_seven_days_then_one_a_week_then_one_a_month() {
    let (mut kept, mut last) = (Vec::new(), None);
    for day in 0..800 {
        let now = start() + TimeDelta::days(day);
        kept.push(made(now, true));
        look(&mut kept, now, last);
        last = Some(now);
        assert!(between(&kept, now, -1, 7).len() as i64 == (day + 1).min(8), "day {day}");
        let weekly = between(&kept, now, 7, 30);
        let mut weeks: Vec<_> = weekly.iter().map(|b| week(b.at)).collect();
        weeks.dedup();
        assert_eq!(weeks.len(), weekly.len(), "one a week: day {day}");
        let monthly = between(&kept, now, 30, 365);
        let mut months: Vec<_> = monthly.iter().map(|b| month(b.at)).collect();
        months.dedup();
        assert_eq!(months.len(), monthly.len(), "one a month: day {day}");
        if day > 40 {
            assert!((3..=4).contains(&weekly.len()), "day {day}: {weekly:?}");
        }
        if day > 430 {
            assert!((10..=12).contains(&monthly.len()), "day {day}: {}", monthly.len());
        }
        assert!(between(&kept, now, 365, 10_000).is_empty(), "nothing older: day {day}");
    }
    assert!((21..=24).contains(&kept.len()), "{}", kept.len());
}

#[test]
fn a_second_look_removes_nothing_more_on_any_of_the_days() {
    let (mut kept, mut last) = (Vec::new(), None);
    for day in 0..800 {
        let now = start() + TimeDelta::days(day);
        kept.push(made(now, day % 5 != 0));
        look(&mut kept, now, last);
        last = Some(now);
        assert_eq!(retain(&kept, now, last, &RULES).deleted().count(), 0, "day {day}");
    }
}

#[test]
fn a_clock_that_jumps_ahead_removes_nothing_that_day_and_never_all() {
    let (mut kept, mut last) = (Vec::new(), None);
    for day in 0..100 {
        let now = start() + TimeDelta::days(day);
        kept.push(made(now, true));
        look(&mut kept, now, last);
        last = Some(now);
    }
    let before = kept.clone();
    let ahead = start() + TimeDelta::days(1_000);
    kept.push(made(ahead, false));
    let plan = look(&mut kept, ahead, last);
    assert_eq!(plan.doubt, Some(Doubt::Jumped { last: last.expect("looked") }));
    assert_eq!(kept.len(), before.len() + 1);
    // Set right again: there is a backup from the future now, and nothing goes.
    let right = start() + TimeDelta::days(101);
    let plan = look(&mut kept, right, Some(ahead));
    assert_eq!(plan.doubt, Some(Doubt::BeforeNewest { newest: ahead }));
    assert_eq!(kept.len(), before.len() + 1);
    // And were the future true, the newest verified one would still be there.
    look(&mut kept, ahead + TimeDelta::days(1), Some(ahead));
    assert!(kept.iter().any(|b| b.id == before.last().expect("some").id), "{kept:?}");
}

#[test]
fn a_clock_set_back_below_the_newest_or_the_last_look_removes_nothing() {
    let kept: Vec<_> = (0..60).map(|day| made(start() + TimeDelta::days(day), true)).collect();
    let newest = start() + TimeDelta::days(59);
    for (now, last) in [
        (newest - TimeDelta::seconds(1), None),
        (newest + TimeDelta::hours(1), Some(newest + TimeDelta::hours(2))),
        (newest + TimeDelta::days(900), Some(newest)),
    ] {
        let plan = retain(&kept, now, last, &RULES);
        assert!(plan.doubt.is_some(), "{now}");
        assert_eq!(plan.deleted().count(), 0, "{now}");
    }
    assert!(retain(&kept, newest + TimeDelta::hours(1), Some(newest), &RULES).deleted().count() > 0);
}

#[test]
fn a_verified_backup_stands_for_its_week_before_an_older_one_that_is_not() {
    // Monday and Tuesday of the same week, both older than the days that are all kept.
    let monday = made("2026-03-02T02:00:00Z".parse().expect("a time"), false);
    let tuesday = made("2026-03-03T02:00:00Z".parse().expect("a time"), true);
    let newest = made("2026-03-14T02:00:00Z".parse().expect("a time"), true);
    let now = newest.at;
    let plan = retain(&[monday.clone(), tuesday.clone(), newest], now, None, &RULES);
    let gone: Vec<_> = plan.deleted().map(|v| (v.id.clone(), v.reasons.clone())).collect();
    assert_eq!(gone, [(monday.id, vec![Reason::WeekHas(tuesday.id)])]);
}

#[test]
fn a_schedule_of_weeks_is_no_jump() {
    let rules = Rules { usual: TimeDelta::days(7), ..RULES };
    let (old, newest) = (start(), start() + TimeDelta::days(400));
    let backups = [made(old, true), made(newest, true)];
    assert_eq!(retain(&backups, newest, Some(newest - TimeDelta::days(7)), &rules).deleted().count(), 1);
    assert_eq!(retain(&backups, newest, Some(newest - TimeDelta::days(9)), &rules).deleted().count(), 0);
}

/// Backups at any times within two years, verified or not, in any order.
fn backups() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::btree_map(0i64..730 * 24 * 60, any::<bool>(), 0..120).prop_map(|times| {
        times.into_iter().map(|(minute, ok)| made(start() + TimeDelta::minutes(minute), ok)).collect()
    })
}

proptest! {
    // A life has hundreds of looks: fewer lives are enough.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_newest_and_the_newest_verified_are_never_removed(backups in backups(), minute in 0i64..1_100_000, last in prop::option::of(0i64..1_100_000)) {
        let now = start() + TimeDelta::minutes(minute);
        let plan = retain(&backups, now, last.map(|m| start() + TimeDelta::minutes(m)), &RULES);
        prop_assert_eq!(plan.verdicts.len(), backups.len());
        prop_assert!(plan.verdicts.iter().all(|v| !v.reasons.is_empty()));
        let kept = |b: Option<&Candidate>| b.is_none_or(|b| plan.verdicts.iter().any(|v| v.id == b.id && v.keep));
        prop_assert!(kept(backups.iter().max_by_key(|b| b.at)));
        prop_assert!(kept(backups.iter().filter(|b| b.is_verified).max_by_key(|b| b.at)));
    }

    #[test]
    fn order_does_not_matter_and_twice_is_once(mut backups in backups(), minute in 1_051_200i64..1_200_000) {
        let now = start() + TimeDelta::minutes(minute);
        let plan = retain(&backups, now, None, &RULES);
        backups.reverse();
        prop_assert_eq!(&retain(&backups, now, None, &RULES), &plan);
        backups.retain(|b| plan.verdicts.iter().any(|v| v.id == b.id && v.keep));
        prop_assert_eq!(retain(&backups, now, Some(now), &RULES).deleted().count(), 0);
    }

    /// Days left out, several a day, looks at odd hours: whatever the run, each week and month of the past keeps at most one, the last
    /// days keep all, and what once stands for its week stands for it until its age is over.
    #[test]
    fn any_life_keeps_the_scheme(steps in prop::collection::vec((1i64..4_000, any::<bool>()), 1..250)) {
        let (mut kept, mut now, mut last): (Vec<Candidate>, _, Option<DateTime<Utc>>) = (vec![], start(), None);
        for (minutes, verified) in steps {
            now += TimeDelta::minutes(minutes);
            kept.push(made(now, verified));
            let before = kept.clone();
            let plan = look(&mut kept, now, last);
            if plan.doubt.is_none() {
                for b in &before {
                    prop_assert!(now - b.at > RULES.daily || kept.contains(b), "recent ones stay");
                }
                let special = |b: &&&Candidate| {
                    plan.verdicts.iter().any(|v| v.id == b.id && (v.reasons.contains(&Reason::Newest) || v.reasons.contains(&Reason::NewestVerified)))
                };
                let weekly: Vec<_> = between(&kept, now, 7, 30).into_iter().filter(|b| !special(&b)).map(|b| week(b.at)).collect();
                let mut once = weekly.clone();
                once.dedup();
                prop_assert_eq!(once, weekly);
                // Whoever stands for its week or month now does so tomorrow, too, if nothing new comes and its time is not over.
                let tomorrow = now + TimeDelta::days(1);
                for gone in retain(&kept, tomorrow, Some(now), &RULES).deleted() {
                    let b = kept.iter().find(|b| b.id == gone.id).expect("known");
                    let crossed = [RULES.daily, RULES.weekly, RULES.monthly].iter().any(|edge| now - b.at <= *edge && tomorrow - b.at > *edge);
                    let was_special = special(&&b);
                    prop_assert!(crossed || was_special, "{gone:?}");
                }
            }
            last = Some(now);
        }
    }
}
