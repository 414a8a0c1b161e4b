//! Whether Moon is away because somebody wanted it: a file that a deliberate stop leaves and a start takes away.
//!
//! Whoever brings Moon back by itself asks here first: a deliberate stop is never undone by anybody but a person. A crash leaves
//! no such file. What the file says is for people; that it is there is the fact.

use crate::home::Home;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Longer than an orderly stop can take. Whoever said that Moon returns and was cut off before the stop has said it in vain then.
const RETURNS: Duration = Duration::from_secs(600);
/// Most that is read of the note, bytes.
const NOTE_MAX: u64 = 4096;

/// What is known of a deliberate stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub at: Option<DateTime<Utc>>,
    pub why: Option<String>,
    pub by: Option<String>,
}

impl Stop {
    /// The same words wherever a person is told that no daemon runs.
    pub fn in_words(&self) -> String {
        let when = self.at.map_or_else(String::new, |at| format!(" on {}", at.format("%Y-%m-%d %H:%M:%S UTC")));
        let by = self.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
        let why = self.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        format!("stopped on purpose{when}{by}{why}")
    }
}

/// Notes that Moon shall stay away. Best effort while stopping: the stop itself matters more.
pub fn stopped(home: &Home, why: &str, by: Option<String>) {
    forget(home);
    if !is_own(home) {
        // An administrator acts for the owner: a file of root's in the home would be in the owner's way.
        return;
    }
    let stop = Stop { at: Some(Utc::now()), why: Some(why.to_owned()), by };
    let note = serde_json::to_string(&stop).expect("a stop is plain data");
    if let Err(error) = crate::durable::replace(&home.stopped_file(), format!("{note}\n").as_bytes()) {
        tracing::warn!(%error, "could not note that moon was stopped on purpose");
    }
}

/// Notes that Moon is sent away for a moment only (a restart, a restore): its orderly end is no deliberate stop, also if whoever sent
/// it away does not come to start it again.
pub fn returns(home: &Home) {
    let noted = crate::durable::create_folder(&home.run_dir())
        .and_then(|()| crate::durable::replace(&home.returns_file(), b"somebody starts moon again\n"));
    if let Err(error) = noted {
        tracing::warn!(%error, "could not note that moon is sent away for a moment only");
    }
}

/// The daemon was asked to stop: for good, unless somebody said that it returns.
pub fn asked_to_stop(home: &Home) {
    let noted = std::fs::metadata(home.returns_file()).and_then(|found| found.modified());
    let is_young = noted.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < RETURNS));
    if !is_young {
        stopped(home, "asked to stop", None);
    }
}

fn is_own(home: &Home) -> bool {
    home.state_dir().metadata().is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
}

/// True while Moon shall stay away.
pub fn is_stopped(home: &Home) -> bool {
    home.stopped_file().exists()
}

/// What is known of the stop; `None` while there was none.
pub fn stop(home: &Home) -> Option<Stop> {
    let mut text = String::new();
    let file = crate::durable::open_regular(&home.stopped_file());
    // What cannot be read is a deliberate stop all the same.
    let _ = file.and_then(|file| file.take(NOTE_MAX).read_to_string(&mut text));
    is_stopped(home).then(|| serde_json::from_str(&text).unwrap_or_default())
}

/// Somebody wants Moon to run again.
pub fn clear(home: &Home) {
    forget(home);
    if let Err(error) = crate::durable::remove(&home.stopped_file()) {
        tracing::warn!(%error, "could not take back the note that moon was stopped on purpose");
    }
}

/// What somebody said about a return is over.
fn forget(home: &Home) {
    if let Err(error) = crate::durable::remove(&home.returns_file()) {
        tracing::warn!(%error, "could not take back the note that moon returns");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn an_end_before_a_return_is_no_deliberate_stop_and_any_other_is() {
        let scratch = tempfile::tempdir().expect("a folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
        asked_to_stop(&home);
        assert!(is_stopped(&home), "somebody asked for it");
        clear(&home);
        returns(&home);
        asked_to_stop(&home);
        assert!(!is_stopped(&home), "a restart that was cut off leaves a dead daemon, not a stopped one");
        stopped(&home, "moon stop", Some("ann".into()));
        let said = stop(&home).expect("a stop").in_words();
        assert!(said.starts_with("stopped on purpose on ") && said.ends_with(" UTC by ann (moon stop)"), "{said}");
        std::fs::write(home.stopped_file(), "by hand").expect("written");
        assert_eq!(stop(&home), Some(Stop::default()), "that it is there is the fact");
        assert_eq!(Stop::default().in_words(), "stopped on purpose");
        clear(&home);
        assert_eq!(stop(&home), None);
        asked_to_stop(&home);
        assert!(is_stopped(&home), "what was said about a return is over with the next start");
        clear(&home);
        returns(&home);
        let old = SystemTime::now() - 2 * RETURNS;
        std::fs::File::open(home.returns_file()).and_then(|file| file.set_modified(old)).expect("set");
        asked_to_stop(&home);
        assert!(is_stopped(&home), "and with the time that a stop can take");
    }
}
