//! Runs a task once, and leaves its traces: the ledger's row, the audit, and an alert when it failed for good.

use super::Chore;
use super::policy::ATTEMPTS;
use crate::error::{Kind, Result};
use crate::port::{AlertKey, Severity};
use crate::wiring::Wiring;
use chrono::{DateTime, Utc};

/// Runs it for the time `due` and says what was done.
pub async fn run(wiring: &Wiring, chore: &dyn Chore, due: DateTime<Utc>) -> Result<String> {
    let (ledger, task) = (&wiring.ports.ledger, chore.task());
    let attempts = ledger.begin_chore(task, due).await?;
    let outcome = chore.run().await;
    ledger.end_chore(task, outcome.as_ref()).await?;
    let key = AlertKey::new(&format!("{}.failing", task.as_str()), "moon");
    match &outcome {
        Ok(did) => {
            tracing::info!(task = task.as_str(), "{did}");
            ledger.resolve(&key).await?;
        }
        Err(error) => {
            tracing::warn!(task = task.as_str(), code = error.code, attempts, "{error}");
            // Nobody tries again before the next time of the calendar, or trying again is no use.
            if attempts >= ATTEMPTS || error.kind == Kind::Config {
                let message = format!("the {} could not be done: {error}", task.as_str());
                ledger.raise(&key, Severity::Critical, &message, error.hint.as_deref()).await?;
            }
        }
    }
    wiring.mail.alert.cast(crate::alert::AlertMsg::Ring);
    outcome
}
