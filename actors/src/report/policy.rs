//! What counts as healthy, and how that is said. Pure.

use crate::port::Period;
use serde::Serialize;

/// What is known at the moment of the report.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Now {
    pub(super) disk_used: Option<f64>,
    pub(super) home_bytes: Option<u64>,
    pub(super) fullest: Option<f64>,
    pub(super) firing: usize,
}

/// One figure with its goal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Measure {
    pub(super) name: &'static str,
    pub(super) value: Option<f64>,
    /// `%`, `a day`, or nothing.
    pub(super) unit: &'static str,
    pub(super) goal: &'static str,
    /// `None`: not known, which is no failure and no success.
    pub(super) ok: Option<bool>,
}

/// The six measures of a healthy system.
pub(super) fn measures(period: &Period, now: &Now, days: f64) -> Vec<Measure> {
    let measure = |name, value: Option<f64>, (unit, goal), holds: fn(f64) -> bool| Measure {
        name,
        value,
        unit,
        goal,
        ok: value.map(holds),
    };
    let share = |part: i64, whole: i64| (whole > 0).then(|| 100.0 * (part as f64 / whole as f64).clamp(0.0, 1.0));
    // A home younger than the period is judged by its own age, and by at least a day.
    let known_days = (period.known_secs as f64 / 86_400.0).clamp(1.0, days.max(1.0));
    let (alerts, weeks) = (period.alerts_critical + period.alerts_warning, (known_days / 7.0).max(1.0));
    let restarts = (period.starts - 1).max(0) + period.crashes;
    let backups = (period.backups_done + period.backups_failed > 0 || period.known_secs > 86_400)
        .then_some(period.backups_done as f64 / known_days.floor().max(1.0));
    vec![
        measure("daemon uptime", share(period.up_secs, period.observed_secs), ("%", "above 99 %"), |v| v > 99.0),
        measure(
            "checks passing",
            share(period.checks - period.checks_not_ok, period.checks),
            ("%", "above 95 %"),
            |v| v > 95.0,
        ),
        measure("backups done", backups, ("a day", "1 a day"), |v| v >= 1.0),
        measure("disk used", now.disk_used.map(|used| used * 100.0), ("%", "below 80 %"), |v| v < 80.0),
        measure("alerts", Some(alerts as f64 / known_days), ("a day", "below 5 a day"), |v| v < 5.0),
        measure("restarts", Some(restarts as f64 / weeks), ("a week", "below 1 a week"), |v| v < 1.0),
    ]
}

/// `healthy` only when everything that is known holds and something is known.
pub(super) fn verdict(measures: &[Measure]) -> &'static str {
    match measures {
        m if m.iter().any(|m| m.ok == Some(false)) => "not healthy",
        m if m.iter().any(|m| m.ok == Some(true)) => "healthy",
        _ => "unknown",
    }
}

/// The report for people.
pub(super) fn text(period: &Period, now: &Now, measures: &[Measure], verdict: &str) -> String {
    let day = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    let mut lines = vec![
        format!("Health report, {} to {} (UTC)", day(period.since), day(period.until)),
        format!("Status: {}", verdict.to_uppercase()),
    ];
    lines.extend(partly(period));
    lines.push(String::new());
    for m in measures {
        let mark = match m.ok {
            Some(true) => "\u{2713}",
            Some(false) => "\u{2717}",
            None => "?",
        };
        let value = m.value.map_or("not known".into(), |v| format!("{v:.1} {}", m.unit));
        lines.push(format!("  {mark} {:<16} {value:<14} goal: {}", m.name, m.goal));
    }
    let counted = |n: i64, noun: &str| crate::contract::count(n, noun);
    lines.push(String::new());
    lines.push(format!(
        "  alerts    {} critical, {} warning, {} info; {} firing now",
        period.alerts_critical, period.alerts_warning, period.alerts_info, now.firing
    ));
    lines.push(format!(
        "  daemon    {}, {} without an orderly end, {} of actors",
        counted(period.starts, "start"),
        period.unclean_ends,
        if period.crashes == 1 { "1 crash".to_owned() } else { format!("{} crashes", period.crashes) }
    ));
    let fullest = now.fullest.map_or(String::new(), |share| format!("; the fullest is at {:.0} %", share * 100.0));
    lines.push(format!("  sessions  {} with new readings{fullest}", period.sessions));
    lines.push(format!(
        "  archive   {}, {} of transcripts",
        counted(period.archived_segments, "segment"),
        bytes(period.archived_bytes.max(0) as f64)
    ));
    lines.push(format!(
        "  memory    {}, {}, {}",
        counted(period.prunes, "prune"),
        counted(period.distillations, "distillation"),
        counted(period.rollovers, "rollover")
    ));
    lines.push(format!("  backups   {} done, {} failed", period.backups_done, period.backups_failed));
    if let Some(home) = now.home_bytes {
        lines.push(format!("  home      {}", bytes(home as f64)));
    }
    lines.join("\n") + "\n"
}

/// How much of the span the uptime speaks of, where that is not all of it.
fn partly(period: &Period) -> Option<String> {
    let whole = (period.until - period.since).num_seconds();
    let is_all = period.observed_secs as f64 >= 0.99 * whole as f64;
    (!is_all).then(|| format!("Observed: {} of {}", span(period.observed_secs), span(whole)))
}

/// `3 h`, `7 days`
fn span(seconds: i64) -> String {
    const DAY: i64 = 86_400;
    match seconds {
        ..60 => "less than a minute".to_owned(),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ if seconds % DAY < DAY / 10 => format!("{} days", seconds / DAY),
        _ => format!("{:.1} days", seconds as f64 / DAY as f64),
    }
}

/// `12.3 MiB`
fn bytes(mut amount: f64) -> String {
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    format!("{amount:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta};

    const WEEK: i64 = 7 * 86_400;

    fn good() -> (Period, Now) {
        let period = Period {
            until: DateTime::UNIX_EPOCH + TimeDelta::seconds(WEEK),
            known_secs: WEEK,
            observed_secs: WEEK,
            up_secs: WEEK - 60,
            starts: 1,
            checks: 1000,
            checks_not_ok: 10,
            backups_done: 7,
            alerts_warning: 3,
            archived_bytes: 3 << 20,
            archived_segments: 4,
            ..Period::default()
        };
        (period, Now { disk_used: Some(0.5), ..Now::default() })
    }
    fn failing(period: &Period, now: &Now) -> Vec<&'static str> {
        measures(period, now, 7.0).into_iter().filter(|m| m.ok == Some(false)).map(|m| m.name).collect()
    }

    #[test]
    fn a_good_week_is_healthy_and_each_measure_can_fail_alone() {
        let (period, now) = good();
        assert_eq!(failing(&period, &now), Vec::<&str>::new());
        assert_eq!(verdict(&measures(&period, &now, 7.0)), "healthy");
        type Spoil = fn(&mut Period, &mut Now);
        let spoil: [(&str, Spoil); 6] = [
            ("daemon uptime", |p, _| p.up_secs = WEEK * 98 / 100),
            ("checks passing", |p, _| p.checks_not_ok = 60),
            ("backups done", |p, _| p.backups_done = 6),
            ("disk used", |_, n| n.disk_used = Some(0.8)),
            ("alerts", |p, _| p.alerts_critical = 32),
            ("restarts", |p, _| p.starts = 2),
        ];
        for (name, spoil) in spoil {
            let (mut period, mut now) = good();
            spoil(&mut period, &mut now);
            assert_eq!(failing(&period, &now), [name]);
            assert_eq!(verdict(&measures(&period, &now, 7.0)), "not healthy");
        }
    }

    #[test]
    fn a_young_home_is_judged_by_what_was_observed_and_the_report_says_how_much_that_is() {
        let (week, now) = good();
        let young = Period { observed_secs: 3 * 3600 + 59, up_secs: 3 * 3600, ..week.clone() };
        let all = measures(&young, &now, 7.0);
        assert_eq!((all[0].name, all[0].ok), ("daemon uptime", Some(true)), "{all:?}");
        assert!(text(&young, &now, &all, "healthy").contains("\nObserved: 3 h of 7 days\n"));
        assert!(!text(&week, &now, &all, "healthy").contains("Observed"));
        let none = measures(&Period { observed_secs: 0, up_secs: 0, ..week }, &now, 7.0);
        assert_eq!((none[0].value, none[0].ok), (None, None), "no daemon has run");
        assert_eq!([59, 3_000, 7_200, 190_000].map(span), ["less than a minute", "50 min", "2 h", "2.2 days"]);
    }

    #[test]
    fn what_is_not_known_is_said_and_is_no_failure() {
        let none = Now::default();
        let measures = measures(&Period::default(), &none, 7.0);
        assert!(measures.iter().all(|m| m.ok != Some(false)), "{measures:?}");
        let text = text(&Period::default(), &none, &measures, verdict(&measures));
        assert!(text.contains("? daemon uptime    not known"), "{text}");
    }

    #[test]
    fn a_report_can_be_read() {
        let (period, now) = good();
        let all = measures(&period, &now, 7.0);
        let text = text(&period, &now, &all, verdict(&all));
        assert!(text.contains("Status: HEALTHY"), "{text}");
        assert!(text.contains("\u{2713} daemon uptime    100.0 %"), "{text}");
        assert!(text.contains("4 segments, 3.0 MiB of transcripts"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 78), "{text}");
    }
}
