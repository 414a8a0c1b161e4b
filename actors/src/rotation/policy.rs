//! What to do with a log file and those that were put aside before it. Pure.

use chrono::{NaiveDateTime, TimeDelta};
use serde::Serialize;
use std::time::Duration;

/// A log file as its folder shows it. Times are local, as people and file names give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Name without its folder.
    pub name: String,
    pub bytes: u64,
    /// When it was begun: by its own name if that says so, else as the file system knows.
    pub begun: NaiveDateTime,
    /// When it was last written.
    pub written: NaiveDateTime,
    /// Somebody holds it open. `None`: this system does not say.
    pub is_open: Option<bool>,
    pub place: Place,
}

/// What a file is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The one that is written.
    Live,
    /// Put aside.
    Aside,
    /// Put aside and compressed.
    Compressed,
}

/// The rules for one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A live file is put aside at this size.
    pub max_bytes: u64,
    /// The writer begins a new file by itself and names it by the date: live files are never renamed.
    pub is_dated: bool,
    /// A file put aside is compressed when it was not written for this long.
    pub compress_after: Duration,
    /// One that was put aside is removed after this long.
    pub keep: Duration,
    /// Most files put aside; the oldest go first.
    pub keep_files: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Give the live file another name.
    PutAside {
        name: String,
        why: &'static str,
    },
    Compress {
        name: String,
    },
    Remove {
        name: String,
        why: &'static str,
    },
}

/// The steps for one log, in the order they have to be done. A file from the future is left alone: the clock may be wrong.
pub fn steps(files: &[LogFile], rules: &Rules, now: NaiveDateTime) -> Vec<Step> {
    let mut steps = Vec::new();
    for file in files.iter().filter(|file| file.begun <= now && file.written <= now) {
        let quiet = is_past(file.written, rules.compress_after, now);
        match file.place {
            // Whoever dates files by name has left yesterday's for good, once it is neither held nor written.
            Place::Live if rules.is_dated && quiet && file.is_open != Some(true) && file.bytes > 0 => {
                steps.push(Step::Compress { name: file.name.clone() });
            }
            Place::Live if rules.is_dated => {}
            Place::Live if file.bytes == 0 => {}
            Place::Live if file.bytes >= rules.max_bytes => {
                steps.push(Step::PutAside { name: file.name.clone(), why: "it is as large as it may be" });
            }
            Place::Live if file.begun.date() < now.date() => {
                steps.push(Step::PutAside { name: file.name.clone(), why: "a new day has begun" });
            }
            Place::Aside if !is_past(file.begun, rules.keep, now) && quiet && file.is_open != Some(true) => {
                steps.push(Step::Compress { name: file.name.clone() });
            }
            _ => {}
        }
    }
    let removals = removals(files, rules, now);
    let goes = |name: &str| removals.iter().any(|step| matches!(step, Step::Remove { name: gone, .. } if gone == name));
    steps.retain(|step| !matches!(step, Step::Compress { name } if goes(name)));
    steps.extend(removals);
    steps
}

/// Why a file that has no step stays as it is.
pub fn why_left(file: &LogFile, rules: &Rules, now: NaiveDateTime) -> &'static str {
    let quiet = is_past(file.written, rules.compress_after, now);
    match file.place {
        _ if file.begun > now || file.written > now => "its time lies in the future",
        Place::Live if file.bytes == 0 => "it is empty",
        Place::Live if !rules.is_dated => "it is of today, and not too large",
        _ if file.is_open == Some(true) => "somebody holds it open",
        Place::Live | Place::Aside if !quiet => "it was written a short while ago",
        _ => "it is not yet so old that it goes",
    }
}

fn removals(files: &[LogFile], rules: &Rules, now: NaiveDateTime) -> Vec<Step> {
    let is_old_dated = |file: &LogFile| rules.is_dated && file.place == Place::Live;
    let mut aside: Vec<&LogFile> =
        files.iter().filter(|file| file.place != Place::Live || is_old_dated(file)).collect();
    // The newest first; a name decides between files of the same second.
    aside.sort_by(|a, b| (b.begun, &b.name).cmp(&(a.begun, &a.name)));
    let too_many = rules.keep_files.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let mut steps = Vec::new();
    for (number, file) in aside.into_iter().enumerate() {
        let is_free = file.is_open != Some(true) && file.written <= now;
        if is_free && is_past(file.begun, rules.keep, now) && is_past(file.written, rules.keep, now) {
            steps.push(Step::Remove { name: file.name.clone(), why: "it is older than it may be" });
        } else if number >= too_many && file.begun <= now && !is_old_dated(file) {
            steps.push(Step::Remove { name: file.name.clone(), why: "there are more than may be kept" });
        }
    }
    steps
}

fn is_past(since: NaiveDateTime, span: Duration, now: NaiveDateTime) -> bool {
    TimeDelta::from_std(span).is_ok_and(|span| now - since >= span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const RULES: Rules = Rules {
        max_bytes: 1000,
        is_dated: false,
        compress_after: DAY,
        keep: Duration::from_secs(30 * 86_400),
        keep_files: None,
    };

    fn at(text: &str) -> NaiveDateTime {
        text.parse().expect("a time")
    }
    fn file(name: &str, place: Place, begun: &str, written: &str) -> LogFile {
        let (begun, written) = (at(begun), at(written));
        LogFile { name: name.into(), bytes: 10, begun, written, is_open: Some(false), place }
    }

    #[test]
    fn a_log_is_put_aside_by_size_at_once_and_by_age_when_a_day_begins() {
        let now = at("2026-03-02T00:00:05");
        let yesterday = file("a.log", Place::Live, "2026-03-01T00:00:03", "2026-03-01T23:59:59");
        let put = |file: &LogFile| steps(std::slice::from_ref(file), &RULES, now);
        assert!(matches!(&put(&yesterday)[..], [Step::PutAside { why: "a new day has begun", .. }]));
        let today = LogFile { begun: now, written: now, ..yesterday.clone() };
        assert_eq!(put(&today), []);
        assert!(matches!(&put(&LogFile { bytes: 1000, ..today.clone() })[..], [Step::PutAside { .. }]));
        assert_eq!(put(&LogFile { bytes: 0, ..yesterday }), []);
    }

    #[test]
    fn a_file_is_compressed_after_a_quiet_day_and_never_while_somebody_holds_it() {
        let now = at("2026-03-03T12:00:00");
        let quiet = file("a.log-1", Place::Aside, "2026-03-01T00:00:00", "2026-03-02T11:59:59");
        let does = |file: &LogFile| steps(std::slice::from_ref(file), &RULES, now);
        assert_eq!(does(&quiet), [Step::Compress { name: "a.log-1".into() }]);
        assert_eq!(does(&LogFile { is_open: Some(true), ..quiet.clone() }), []);
        assert_eq!(does(&LogFile { written: at("2026-03-03T11:00:00"), ..quiet.clone() }), []);
        assert_eq!(does(&LogFile { is_open: None, ..quiet.clone() }), [Step::Compress { name: "a.log-1".into() }]);
        assert_eq!(does(&LogFile { place: Place::Compressed, ..quiet }), []);
    }

    #[test]
    fn what_stays_as_it_is_has_a_reason() {
        let now = at("2026-03-03T12:00:00");
        let fresh = file("a.log", Place::Live, "2026-03-03T00:00:03", "2026-03-03T11:00:00");
        let why = |file: LogFile| {
            assert_eq!(steps(std::slice::from_ref(&file), &RULES, now), []);
            why_left(&file, &RULES, now)
        };
        assert_eq!(why(fresh.clone()), "it is of today, and not too large");
        assert_eq!(why(LogFile { bytes: 0, ..fresh.clone() }), "it is empty");
        assert_eq!(why(LogFile { written: at("2026-03-04T00:00:00"), ..fresh.clone() }), "its time lies in the future");
        let aside = LogFile { place: Place::Aside, ..fresh };
        assert_eq!(why(aside.clone()), "it was written a short while ago");
        assert_eq!(why(LogFile { is_open: Some(true), ..aside.clone() }), "somebody holds it open");
        assert_eq!(why(LogFile { place: Place::Compressed, ..aside }), "it is not yet so old that it goes");
    }

    #[test]
    fn old_files_go_and_the_number_is_bounded_from_the_oldest_on() {
        let now = at("2026-03-31T12:00:00");
        let aside = |n: u32, day: u32| {
            let time = format!("2026-03-{day:02}T00:00:00");
            file(&format!("a.log-{n}.gz"), Place::Compressed, &time, &time)
        };
        let files = [aside(1, 1), aside(2, 20), aside(3, 21), aside(4, 22)];
        let gone = |rules: &Rules| -> Vec<String> {
            let removed = |step| match step {
                Step::Remove { name, .. } => Some(name),
                _ => None,
            };
            steps(&files, rules, now).into_iter().filter_map(removed).collect()
        };
        assert_eq!(gone(&RULES), ["a.log-1.gz"]);
        assert_eq!(gone(&Rules { keep_files: Some(2), ..RULES }), ["a.log-2.gz", "a.log-1.gz"]);
    }

    #[test]
    fn dated_files_are_compressed_where_they_are_and_never_renamed() {
        let rules = Rules { is_dated: true, ..RULES };
        let now = at("2026-03-31T12:00:00");
        let day = |d: u32| {
            file(
                &format!("run_{d}.log"),
                Place::Live,
                &format!("2026-03-{d:02}T00:00:00"),
                &format!("2026-03-{d:02}T23:00:00"),
            )
        };
        let all = steps(&[day(29), day(30), LogFile { bytes: 9999, ..day(31) }], &rules, at("2026-03-31T23:30:00"));
        assert_eq!(all, [Step::Compress { name: "run_29.log".into() }, Step::Compress { name: "run_30.log".into() }]);
        let old = LogFile { begun: at("2026-01-01T00:00:00"), written: at("2026-01-01T01:00:00"), ..day(1) };
        assert!(
            steps(&[old], &rules, now)
                .contains(&Step::Remove { name: "run_1.log".into(), why: "it is older than it may be" })
        );
    }

    proptest! {
        #[test]
        fn nothing_young_open_or_of_the_future_is_ever_removed(
            ages in prop::collection::vec((-48i64..2_000, any::<bool>(), 0u8..3), 0..40)
        ) {
            let now = at("2026-06-01T12:00:00");
            let files: Vec<LogFile> = ages.iter().enumerate().map(|(n, (hours, open, place))| {
                let time = now - TimeDelta::hours(*hours);
                let place = [Place::Live, Place::Aside, Place::Compressed][usize::from(*place)];
                LogFile { name: format!("f{n}"), bytes: 5, begun: time, written: time, is_open: Some(*open), place }
            }).collect();
            for step in steps(&files, &RULES, now) {
                if let Step::Remove { name, .. } = step {
                    let file = files.iter().find(|file| file.name == name).expect("one of them");
                    prop_assert!(now - file.written >= TimeDelta::days(30) && file.is_open == Some(false));
                    prop_assert!(file.place != Place::Live);
                }
            }
        }
    }
}
