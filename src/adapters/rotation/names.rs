//! How files that were put aside are called: `moon.log-20261121_000000`, then `moon.log-20261121_000000.gz`.
//!
//! The stamp is the local time at which the file got its name. Names of other rotators (`moon.log.3`) are understood, too.

use chrono::NaiveDateTime;
use moon_actors::rotation::policy::Place;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub(super) const COMPRESSED: &str = ".gz";
const STAMP: &str = "%Y%m%d_%H%M%S";
/// More files within one second are not put aside.
const WITHIN_A_SECOND: u32 = 1000;

/// Names the live file may get at `now`, the best first.
pub(super) fn aside(live: &Path, now: NaiveDateTime) -> impl Iterator<Item = PathBuf> {
    let stamp = now.format(STAMP).to_string();
    let live = live.as_os_str().to_owned();
    (0..WITHIN_A_SECOND).map(move |n| {
        let mut name = live.clone();
        name.push(format!("-{stamp}"));
        if n > 0 {
            name.push(format!(".{n:03}"));
        }
        PathBuf::from(name)
    })
}

pub(super) fn compressed(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(COMPRESSED);
    PathBuf::from(name)
}

/// What `name` is to the log `live`, and when it was put aside if the name says so. `None`: something else.
pub(super) fn place(name: &str, live: &str) -> Option<(Place, Option<NaiveDateTime>)> {
    if name == live {
        return Some((Place::Live, None));
    }
    let rest = name.strip_prefix(live)?;
    let (rest, place) = match rest.strip_suffix(COMPRESSED) {
        Some(rest) => (rest, Place::Compressed),
        None => (rest, Place::Aside),
    };
    if let Some(number) = rest.strip_prefix('.') {
        return (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some((place, None));
    }
    let stamp = rest.strip_prefix('-')?;
    let (stamp, number) = stamp.split_once('.').unwrap_or((stamp, "0"));
    let is_number = number.bytes().all(|b| b.is_ascii_digit());
    let at = NaiveDateTime::parse_from_str(stamp, STAMP).ok().filter(|_| is_number)?;
    Some((place, Some(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_made_here_is_understood_again_and_others_names_are_not_taken() {
        let now = NaiveDateTime::parse_from_str("20261121_000000", STAMP).expect("a time");
        let names: Vec<_> = aside(Path::new("/x/a.log"), now).take(2).collect();
        assert_eq!(names, [Path::new("/x/a.log-20261121_000000"), Path::new("/x/a.log-20261121_000000.001")]);
        assert_eq!(place("a.log-20261121_000000.001", "a.log"), Some((Place::Aside, Some(now))));
        assert_eq!(place("a.log-20261121_000000.gz", "a.log"), Some((Place::Compressed, Some(now))));
        assert_eq!(place("a.log.2", "a.log"), Some((Place::Aside, None)));
        assert_eq!(place("a.log", "a.log"), Some((Place::Live, None)));
        for other in ["a.log-notes", "a.log.old", "a.logs", "b.log", "a.log-20261121", "a.log.", "a.log.gz"] {
            assert_eq!(place(other, "a.log"), None, "{other}");
        }
    }
}
