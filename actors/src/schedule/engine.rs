//! Runs a task once, and leaves its traces: the ledger's row, the audit, and an alert when it failed for good.

use super::policy::ATTEMPTS;
use super::{Chore, Ran};
use crate::error::{Kind, Result};
use crate::port::{AlertKey, Severity};
use crate::wiring::Wiring;
use chrono::{DateTime, Utc};

/// Runs it for the time `due` and says what was done.
pub async fn run(wiring: &Wiring, chore: &dyn Chore, due: DateTime<Utc>) -> Ran {
    match recorded(wiring, chore, due).await {
        Ok(ran) => ran,
        Err(error) => Err(error).into(),
    }
}

/// An error here is one of the ledger's.
async fn recorded(wiring: &Wiring, chore: &dyn Chore, due: DateTime<Utc>) -> Result<Ran> {
    let (ledger, task) = (&wiring.ports.ledger, chore.task());
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
            // Nobody tries again before the next time of the calendar, or trying again is no use.
            if attempts >= ATTEMPTS || error.kind == Kind::Config {
                let message = format!("the {} could not be done: {error}", task.as_str());
                ledger.raise(&key, Severity::Critical, &message, error.hint.as_deref()).await?;
            }
        }
    }
    wiring.mail.alert.cast(crate::alert::AlertMsg::Ring);
    Ok(ran)
}
