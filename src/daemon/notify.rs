//! What the service manager is told: ready, stopping, reloading, and one line of status. Does nothing where nobody listens.
//!
//! "Ready" is said when every vital actor is up, not when the process has begun. A failed notification is never an error: the
//! manager's own timeouts are the judge of that.

use moon_actors::supervisor::{ChildKind, ChildStatus, Phase, Tree};
use moon_actors::wiring::Wiring;
use sd_notify::NotifyState;
use std::time::Duration;

/// How often the tree is looked at until it is up.
const SOON: Duration = Duration::from_millis(20);
/// How often the line of status is brought up to date.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// Longest line of status.
const STATUS_CHARS: usize = 200;

fn tell_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

/// Says "ready" once everybody vital is up, then how it goes, for as long as it is polled.
pub(super) async fn tell(tree: Tree, wiring: Wiring) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    while !is_up(&tree.status().await) {
        tokio::time::sleep(SOON).await;
    }
    let status = line(&tree, &wiring).await;
    tell_manager(&[NotifyState::Ready, NotifyState::Status(&status)]);
    let mut told = status;
    loop {
        tokio::time::sleep(STATUS_EVERY).await;
        let status = line(&tree, &wiring).await;
        if status != told {
            tell_manager(&[NotifyState::Status(&status)]);
            told = status;
        }
    }
}

pub(super) fn stopping() {
    tell_manager(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// "Ready" follows when the new tree is up.
pub(super) fn reloading() {
    let status = NotifyState::Status("begins anew with new settings");
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell_manager(&[NotifyState::Reloading, now, status]),
        Err(_) => tell_manager(&[NotifyState::Reloading, status]),
    }
}

/// Whether everybody who is vital is up. An optional one that does not start keeps nobody waiting.
fn is_up(children: &[ChildStatus]) -> bool {
    children.iter().all(|child| match child.kind {
        ChildKind::Optional => true,
        ChildKind::Vital => child.phase == Phase::Up,
        ChildKind::Branch => child.phase == Phase::Up && is_up(&child.children),
    })
}

/// `watching 3 sessions; 1 alert fires; parked: index`
async fn line(tree: &Tree, wiring: &Wiring) -> String {
    let ledger = &wiring.ports.ledger;
    let mut line = match ledger.sessions().await {
        Ok(sessions) => {
            format!("watching {}", moon_actors::contract::count(sessions.len(), "session"))
        }
        Err(error) => format!("the ledger cannot be read: {error}"),
    };
    if let Ok(alerts) = ledger.alerts(true).await
        && !alerts.is_empty()
    {
        line.push_str(&format!("; {}", moon_actors::contract::count(alerts.len(), "firing alert")));
    }
    let mut parked = Vec::new();
    collect_parked(&tree.status().await, &mut parked);
    if !parked.is_empty() {
        line.push_str(&format!("; parked: {}", parked.join(", ")));
    }
    // One line, and no more than a screen takes.
    line.chars().filter(|c| !c.is_control()).take(STATUS_CHARS).collect()
}

fn collect_parked(children: &[ChildStatus], parked: &mut Vec<String>) {
    for child in children {
        if child.phase == Phase::Parked {
            parked.push(child.name.clone());
        }
        collect_parked(&child.children, parked);
    }
}
