//! The ledger: SQLite's own checks with what they print read, over a connection of their own that holds up no writer.

use super::sqlite_file::{self, Access, Stop};
use super::{Place, Senses, shown, size};
use crate::daemon::lock::HomeLock;
use crate::home::Home;
use async_trait::async_trait;
use moon_actors::Error;
use moon_actors::domain::{Condition, Figure, Finding};
use moon_actors::health::policy;
use moon_actors::port::{AlertRules, Check, CheckGroup, Look};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct LedgerSound {
    home: Home,
    place: Place,
    path: PathBuf,
    refused: Option<Error>,
    limit: Duration,
    lane: super::lane::Lane,
    /// What was found last, and from when on it is looked at again.
    last: Mutex<Option<(Finding, Instant, Duration)>>,
}

impl LedgerSound {
    pub(super) fn new(senses: &Senses) -> Self {
        let limit = senses.settings.health.database_timeout;
        let refused = senses.ledger.as_ref().err().cloned();
        let (home, place, path) = (senses.home.clone(), senses.place, senses.home.ledger_db());
        Self { home, place, path, refused, limit, lane: Default::default(), last: Mutex::default() }
    }

    async fn inspect(&self) -> Finding {
        let (path, stop) = (self.path.clone(), Stop::default());
        let is_alone = self.place == Place::Outside && HomeLock::holder(&self.home).is_none();
        let access = if is_alone { Access::Alone } else { Access::Shared };
        let _guard = stop.guard();
        let begun = Instant::now();
        let inspected = self.lane.run(move || sqlite_file::inspect(&path, access, &stop)).await;
        let inspected = match inspected {
            Ok(Ok(inspected)) => inspected,
            Ok(Err(why)) | Err(why) => return Finding::unknown(why),
        };
        let (took, bytes) = (begun.elapsed(), inspected.bytes);
        let finding = match inspected.damages.is_empty() {
            true => Finding::ok(format!("sound: integrity and foreign keys, {}", size(bytes))),
            false => Finding::critical(format!("damaged: {}", inspected.told()))
                .hint("stop moon, keep a copy of state/, and restore a backup; the archives are untouched"),
        };
        finding.figure("size", Figure::new(bytes as f64, "B")).figure("time", Figure::new(took.as_secs_f64(), "s"))
    }
}

#[async_trait]
impl Check for LedgerSound {
    fn name(&self) -> &str {
        "ledger"
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Ledger
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("memory_corrupt"))
    }
    fn limit(&self) -> Option<Duration> {
        Some(self.limit)
    }
    async fn look(&self, look: &Look) -> Finding {
        if !self.path.exists() {
            let why = self.refused.as_ref().map_or("there is no ledger".to_owned(), ToString::to_string);
            let is_lost = self.refused.as_ref().is_some_and(|error| error.code == "ledger.missing");
            let condition = if is_lost { Condition::Critical } else { Condition::Warning };
            let hint = self.refused.as_ref().and_then(|error| error.hint.clone()).unwrap_or_default();
            return Finding::new(condition, why).hint(hint);
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((mut finding, at, rest)) = last.filter(|(_, at, rest)| !look.is_asked && at.elapsed() < *rest) {
            finding.reason =
                format!("{} (read {} ago, the next time {} later)", finding.reason, shown(at.elapsed()), shown(rest));
            return finding;
        }
        let begun = Instant::now();
        let finding = self.inspect().await;
        if finding.condition != Condition::Unknown {
            let rest = policy::rest_after(begun.elapsed());
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((finding.clone(), Instant::now(), rest));
        }
        finding
    }
}
