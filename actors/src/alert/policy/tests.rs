//! What may go out: cooldown, hourly share, silences, ends, digests.

use super::*;
use crate::port::Alert;
use chrono::DateTime;
use proptest::prelude::*;

fn settings() -> Alerts {
    Alerts::default()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

fn owed(notice: i64, alert: i64, phase: Phase) -> Owed {
    let key = AlertKey::new("disk_low", format!("s{alert}"));
    let is_over = phase == Phase::Resolved;
    let resolved_at = is_over.then_some(DateTime::UNIX_EPOCH);
    Owed {
        notice,
        phase,
        made_at: DateTime::UNIX_EPOCH,
        alert: Alert {
            id: alert,
            key,
            severity: Severity::Warning,
            message: "m".into(),
            hint: None,
            fired_at: DateTime::UNIX_EPOCH,
            resolved_at,
        },
        firing: None,
        last_told: None,
        is_silenced: false,
        is_acknowledged: false,
        is_wanted: true,
    }
}

fn over(mut owed: Owed) -> Owed {
    owed.alert.resolved_at = Some(DateTime::UNIX_EPOCH);
    owed
}

fn rulings(owed: Vec<Owed>, sent: Vec<Duration>) -> Vec<Ruling> {
    rule(&Book { route: "mail".into(), owed, sent, ..Book::default() }, &settings())
}

#[test]
fn a_second_notice_of_the_same_waits_out_the_cooldown_unless_it_is_worse() {
    let mut again = owed(3, 3, Phase::Firing);
    again.last_told = Some(minutes(10));
    assert_eq!(rulings(vec![again.clone()], vec![]), [Ruling::Hold(COOLDOWN, Some(minutes(20)))]);
    // Nothing as bad was told: the ledger counts only what was at least as severe.
    assert_eq!(rulings(vec![Owed { last_told: None, ..again.clone() }], vec![]), [Ruling::Send]);
    assert_eq!(rulings(vec![Owed { last_told: Some(minutes(30)), ..again.clone() }], vec![]), [Ruling::Send]);
    let gone = over(again);
    let end = Owed { alert: gone.alert.clone(), ..owed(4, 3, Phase::Resolved) };
    let both = [Ruling::Digest(COOLDOWN, minutes(30)), Ruling::Digest(IN_DIGEST, minutes(30))];
    assert_eq!(rulings(vec![gone, end], vec![]), both, "it came and went unheard: both are counted");
}

#[test]
fn within_one_look_the_same_is_sent_once() {
    let (mut first, mut second) = (over(owed(1, 1, Phase::Firing)), owed(3, 3, Phase::Firing));
    first.alert.key = AlertKey::new("disk_low", "same");
    second.alert.key = first.alert.key.clone();
    let told = rulings(vec![first.clone(), second.clone()], vec![]);
    assert_eq!(told, [Ruling::Send, Ruling::Hold(COOLDOWN, Some(minutes(30)))]);
    second.alert.severity = Severity::Critical;
    assert_eq!(rulings(vec![first, second], vec![]), [Ruling::Send, Ruling::Send]);
}

/// The places of what is sent.
fn kept(rulings: &[Ruling]) -> Vec<usize> {
    (0..rulings.len()).filter(|at| rulings[*at] == Ruling::Send).collect()
}

fn critical(owed: Owed) -> Owed {
    Owed { alert: Alert { severity: Severity::Critical, ..owed.alert }, ..owed }
}

#[test]
fn five_go_out_within_an_hour_the_worst_first_and_the_rest_into_the_digest() {
    let mut many: Vec<Owed> = (1..=7).map(|n| owed(n, n, Phase::Firing)).collect();
    (4..7).for_each(|at| many[at] = critical(many[at].clone()));
    let sent = rulings(many.clone(), vec![]);
    assert_eq!(kept(&sent), [4, 5, 6]);
    assert_eq!(sent[3], Ruling::Digest(RATE, GATHER));
    let earlier = vec![minutes(1), minutes(59), minutes(61)];
    assert_eq!(kept(&rulings(many, earlier)), [4, 5, 6], "what is older than an hour does not count");
    let all: Vec<Owed> = (1..=7).map(|n| critical(owed(n, n, Phase::Firing))).collect();
    assert_eq!(kept(&rulings(all, vec![])), [0, 1, 2, 3, 4], "what is critical may have all of them");
}

#[test]
fn warnings_leave_the_last_two_of_an_hour_to_what_is_critical() {
    let warnings: Vec<Owed> = (1..=9).map(|n| owed(n, n, Phase::Firing)).collect();
    assert_eq!(kept(&rulings(warnings.clone(), vec![])), [0, 1, 2]);
    let later =
        vec![owed(1, 1, Phase::Firing), critical(owed(2, 2, Phase::Firing)), critical(owed(3, 3, Phase::Firing))];
    assert_eq!(kept(&rulings(later.clone(), vec![minutes(5); 3])), [1, 2]);
    assert_eq!(kept(&rulings(later, vec![minutes(5); 4])), [1], "five are five");
    let few = |per_hour| {
        let book = Book { route: "mail".into(), owed: warnings.clone(), ..Book::default() };
        kept(&rule(&book, &Alerts { per_hour, ..settings() })).len()
    };
    assert_eq!([1, 2, 3, 4, 5, 8].map(few), [1, 1, 2, 2, 3, 6], "never more than half is kept back");
}

#[test]
fn good_news_takes_no_place_from_bad_news() {
    let end = critical(Owed { firing: Some(Fate::Sent), ..owed(1, 1, Phase::Resolved) });
    let news = vec![end, critical(owed(2, 2, Phase::Firing))];
    assert_eq!(kept(&rulings(news.clone(), vec![minutes(5); 4])), [1]);
    assert_eq!(kept(&rulings(news, vec![minutes(5); 3])), [0, 1]);
}

#[test]
fn an_end_is_told_exactly_where_the_beginning_was() {
    let end = |firing| {
        let end = Owed { firing, is_silenced: true, ..owed(2, 1, Phase::Resolved) };
        rulings(vec![end], vec![])[0]
    };
    assert_eq!(end(Some(Fate::Sent)), Ruling::Send, "no silence holds back good news");
    assert!(matches!(end(Some(Fate::Digested)), Ruling::Digest(..)));
    assert_eq!(end(Some(Fate::Failed)), Ruling::Drop(NOT_TOLD));
    assert_eq!(end(Some(Fate::Dropped)), Ruling::Drop(NOT_TOLD));
    let both = vec![over(owed(1, 1, Phase::Firing)), owed(2, 1, Phase::Resolved)];
    assert_eq!(rulings(both.clone(), vec![]), [Ruling::Send, Ruling::Send]);
    let full = vec![minutes(1); 2];
    assert_eq!(rulings(both, full), [Ruling::Send, Ruling::Digest(RATE, GATHER)], "begun before it ends");
}

#[test]
fn silence_holds_back_what_begins_and_forgets_what_is_over() {
    let silenced = Owed { is_silenced: true, ..owed(1, 1, Phase::Firing) };
    assert_eq!(rulings(vec![silenced.clone()], vec![]), [Ruling::Hold(SILENCED, None)]);
    let pair = vec![over(silenced), Owed { is_silenced: true, ..owed(2, 1, Phase::Resolved) }];
    assert_eq!(rulings(pair, vec![]), [Ruling::Drop(SILENCED), Ruling::Drop(NOT_TOLD)]);
}

#[test]
fn an_escalation_goes_where_the_alert_went_unless_somebody_knows_by_now() {
    let late = Owed { firing: Some(Fate::Sent), ..owed(2, 1, Phase::Escalated) };
    let known = Owed { is_acknowledged: true, ..late.clone() };
    let quiet = Owed { is_silenced: true, ..late.clone() };
    let untold = Owed { firing: Some(Fate::Dropped), ..late.clone() };
    let all = rulings(vec![late, known, quiet, untold], vec![]);
    assert_eq!(all, [Ruling::Send, Ruling::Drop(OVER), Ruling::Hold(SILENCED, None), Ruling::Drop(NOT_TOLD)]);
}

#[test]
fn what_may_have_arrived_is_sent_until_that_is_known_and_keeps_its_place() {
    let mut many: Vec<Owed> = (1..=6).map(|n| owed(n, n, Phase::Firing)).collect();
    many[0] = over(Owed { is_silenced: true, ..many[0].clone() });
    many[1..].iter_mut().for_each(|owed| owed.alert.severity = Severity::Critical);
    let book = Book { route: "mail".into(), owed: many, under_way: Some(1), ..Book::default() };
    let rulings = rule(&book, &settings());
    assert_eq!((rulings[0], rulings[5]), (Ruling::Send, Ruling::Digest(RATE, GATHER)));
}

#[test]
fn a_route_is_never_told_about_itself() {
    let mut about = owed(1, 1, Phase::Firing);
    about.alert.key = AlertKey::new(UNDELIVERED, "mail");
    let other =
        Owed { alert: Alert { key: AlertKey::new(UNDELIVERED, "chat"), ..about.alert.clone() }, ..about.clone() };
    assert_eq!(rulings(vec![about, other], vec![]), [Ruling::Drop(OWN), Ruling::Send]);
}

#[test]
fn a_record_writes_down_what_people_are_spared() {
    assert_eq!(for_record(Ruling::Hold(COOLDOWN, None)), Ruling::Note(COOLDOWN));
    assert_eq!(for_record(Ruling::Digest(RATE, GATHER)), Ruling::Note(RATE));
    assert_eq!(for_record(Ruling::Drop(SILENCED)), Ruling::Note(SILENCED));
    assert_eq!(for_record(Ruling::Drop(OWN)), Ruling::Drop(OWN));
    assert_eq!(for_record(Ruling::Send), Ruling::Send);
}

#[test]
fn a_digest_gathers_and_then_waits_for_its_hour() {
    let digests = |open, last_sent| digest_in(&Digests { open, closed: None, last_sent });
    assert_eq!(digests(None, None), None);
    assert_eq!(digests(Some((Duration::from_secs(20), GATHER)), None), Some(Duration::from_secs(40)));
    assert_eq!(digests(Some((GATHER, GATHER)), None), Some(Duration::ZERO));
    assert_eq!(digests(Some((GATHER, GATHER)), Some(minutes(50))), Some(minutes(10)));
}

#[test]
fn what_the_world_may_mend_is_tried_again_and_a_refusal_is_given_up() {
    let supervision = Supervision::default();
    let away = Error::unavailable("x.away", "m");
    let first = setback(&away, 0, &supervision);
    assert!(!first.is_given_up && !first.alarm && first.pause > Duration::ZERO);
    assert!(setback(&away, 5, &supervision).pause > first.pause);
    assert!(setback(&away, 2, &supervision).alarm);
    let refused = setback(&Error::data("x.refused", "m"), 0, &supervision);
    assert_eq!(refused, Setback { is_given_up: true, pause: Duration::ZERO, alarm: true });
}

proptest! {
    /// Hours of alerts, each pass deciding about what came since the last one.
    #[test]
    fn no_hour_has_more_than_its_share_and_warnings_never_hold_back_what_is_critical(
        per_hour in 1u32..9,
        passes in prop::collection::vec((0u64..45, prop::collection::vec(any::<bool>(), 0..6)), 1..60),
    ) {
        let settings = Alerts { per_hour, ..settings() };
        let share = per_hour as usize;
        let (mut now, mut sent, mut next) = (0, Vec::<(u64, bool)>::new(), 0);
        for (wait, coming) in passes {
            now += wait;
            let new = |is_critical: &bool| {
                next += 1;
                let owed = owed(next, next, Phase::Firing);
                if *is_critical { critical(owed) } else { owed }
            };
            let book = Book {
                route: "mail".into(),
                owed: coming.iter().map(new).collect(),
                sent: sent.iter().map(|(at, _)| minutes(now - at)).collect(),
                ..Book::default()
            };
            let decided = rule(&book, &settings);
            sent.extend(kept(&decided).into_iter().map(|at| (now, coming[at])));
            let hour: Vec<bool> = sent.iter().filter(|(at, _)| now - at < 60).map(|(_, critical)| *critical).collect();
            let mild = hour.iter().filter(|is_critical| !**is_critical).count();
            prop_assert!(hour.len() <= share && mild <= share - reserve(share), "{hour:?} of {share}");
            let is_held_back = decided.iter().zip(&coming).any(|(ruling, is_critical)| *is_critical && *ruling != Ruling::Send);
            prop_assert!(!is_held_back || hour.len() == share, "a critical alert waits though there was room: {hour:?}");
            prop_assert!(decided.iter().all(|ruling| matches!(ruling, Ruling::Send | Ruling::Digest(RATE, _))));
        }
    }
}
