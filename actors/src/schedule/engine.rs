//! Runs a task once, and leaves its traces: the ledger's row, the audit, and an alert when it failed for good.

use super::policy::ATTEMPTS;
use super::{Chore, Ran, Task};
use crate::error::{Kind, Result};
use crate::port::{AlertKey, CheckGroup, Severity};
use crate::wiring::Wiring;
use chrono::{DateTime, Utc};

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This time of the calendar.
    Due(DateTime<Utc>),
    /// Somebody asked for it now, a person or a crontab.
    Asked,
}

/// Runs it and says what was done.
pub async fn run(wiring: &Wiring, chore: &dyn Chore, cause: Cause) -> Ran {
    match recorded(wiring, chore, cause).await {
        Ok(ran) => ran,
        Err(error) => Err(error).into(),
    }
}

/// An error here is one of the ledger's.
async fn recorded(wiring: &Wiring, chore: &dyn Chore, cause: Cause) -> Result<Ran> {
    let (ledger, task) = (&wiring.ports.ledger, chore.task());
    let due = match cause {
        Cause::Due(due) => due,
        Cause::Asked => wiring.ports.clock.now(),
    };
    let attempts = ledger.begin_chore(task, due).await?;
    let ran = chore.run().await;
    ledger.end_chore(task, ran.said.as_ref()).await?;
    let key = AlertKey::new(&format!("{}.failing", task.as_str()), "moon");
    match &ran.said {
        Ok(did) => {
            tracing::info!(task = task.as_str(), "{did}");
            ledger.resolve(&key).await?;
        }
        Err(error) => {
            tracing::warn!(task = task.as_str(), code = error.code, attempts, "{error}");
            // Nobody tries again before the next time of the calendar, or trying again is no use. What was asked for may never be tried
            // again; only that somebody else is at it just now is no failure.
            let is_given_up = match cause {
                Cause::Due(_) => attempts >= ATTEMPTS || error.kind == Kind::Config,
                Cause::Asked => error.kind != Kind::Conflict,
            };
            if is_given_up {
                let message = format!("the {} failed: {error}", task.as_str());
                ledger.raise(&key, Severity::Critical, &message, error.hint.as_deref()).await?;
            }
        }
    }
    // What is known of the backups is of before, and may be the next thing that somebody reads.
    if matches!(task, Task::Backup | Task::Drill) {
        let checks = wiring.doctor.names(CheckGroup::Backup);
        // No names would mean all checks.
        if !checks.is_empty() {
            let _ = wiring.doctor.answer(&checks, true).await;
        }
    }
    wiring.mail.alert.cast(crate::alert::AlertMsg::Ring);
    Ok(ran)
}
