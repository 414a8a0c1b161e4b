//! Feeds the service manager's watchdog, only by a round trip: the root supervisor and its branches answer, no vital actor is
//! stuck, and the ledger takes a write and gives it back.
//!
//! A bare timer would go on for ever in a daemon whose work hangs. What is *optional* is not asked: it may hang and be restarted
//! by hand while archiving goes on. A ledger that answers with an error (disk full) has answered: the process is alive, says so
//! in an alert, and a restart would free no disk.

use crate::adapters::sqlite::SqliteLedger;
use moon_actors::domain::Stage;
use moon_actors::supervisor::Tree;
use moon_actors::wiring::Wiring;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Round trips within the manager's time: one may fail without harm.
const TRIES: u32 = 3;

/// Starts feeding, if the manager asks for it.
pub(super) fn start(tree: &Tree, wiring: &Wiring, ledger: &SqliteLedger) -> Option<JoinHandle<()>> {
    let limit = sd_notify::watchdog_enabled()?;
    let (tree, wiring, ledger) = (tree.clone(), wiring.clone(), ledger.clone());
    Some(tokio::spawn(feed(tree, wiring, ledger, limit / TRIES)))
}

async fn feed(tree: Tree, wiring: Wiring, ledger: SqliteLedger, every: Duration) {
    // A reload begins inside the time that the last feed has left.
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        match round_trip(&tree, &wiring, &ledger, every).await {
            Ok(()) => {
                if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
                    tracing::debug!(%error, "the watchdog could not be fed");
                }
            }
            Err(hung) => tracing::error!("the watchdog is not fed: {hung}"),
        }
        ticks.tick().await;
    }
}

/// What hangs, if anything does.
async fn round_trip(tree: &Tree, wiring: &Wiring, ledger: &SqliteLedger, limit: Duration) -> Result<(), String> {
    if let Some(stuck) = stuck(wiring) {
        return Err(stuck);
    }
    if !tree.answers(limit).await {
        return Err(format!("the supervisors did not answer within {limit:?}"));
    }
    match tokio::time::timeout(limit, ledger.echo()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::warn!(code = error.code, "the heartbeat could not be written: {error}");
            Ok(())
        }
        Err(_) => Err(format!("the ledger did not answer within {limit:?}")),
    }
}

/// A vital actor that has been at one message for longer than it may.
fn stuck(wiring: &Wiring) -> Option<String> {
    let settings = &wiring.settings;
    let limit = |name: &str| match name == Stage::Archive.as_str() {
        // Its message is a whole job, which has a limit of its own.
        true => settings.service.stuck_after + settings.supervision.job_timeout,
        false => settings.service.stuck_after,
    };
    let busy = wiring.mail.vital().into_iter().filter_map(|(name, pulse)| Some((name, pulse.busy_for()?)));
    busy.filter(|(name, busy)| *busy > limit(name))
        .map(|(name, busy)| format!("{name} has been busy with one message for {} s", busy.as_secs()))
        .next()
}
