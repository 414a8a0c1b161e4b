//! Takes what routes are owed from the ledger to them, at least once each.
//!
//! Whoever notices something raises the alert in the ledger, with its cause; this only carries. A route that fails keeps what it
//! is owed and is tried again; the alert about it goes to the other routes. A delivery that is cut off is repeated under the same id.
//! Two processes may carry at once: the daemon, and a command beside it while it hangs. They take turns at each route, notice by notice.

use super::policy::{self, Ruling};
use crate::error::{Error, Result};
use crate::port::{Book, Failure, Fate, Ledger, Notice, Notifier, Owed, Parcel, Phase, Probe, Settlement};
use crate::settings::{Alerts, Settings, Supervision};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Longest time a route may take over one notice.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Notices looked at in one go.
const PAGE: usize = 500;

/// Everything it takes to deliver.
#[derive(Clone)]
pub struct Post {
    pub ledger: Arc<dyn Ledger>,
    pub notifiers: Vec<Arc<dyn Notifier>>,
    pub probe: Arc<dyn Probe>,
    pub settings: Arc<Settings>,
}

impl Post {
    /// Makes the ledger know these routes. Before anything is raised, so that nothing is older than its route.
    pub async fn open(&self) -> Result<()> {
        let names: Vec<String> = self.notifiers.iter().map(|notifier| notifier.name().to_owned()).collect();
        self.ledger.open_routes(&names).await
    }

    /// What time does to alerts.
    pub async fn tend(&self) -> Result<u64> {
        self.ledger.tend_alerts(self.settings.alerts.escalate_after).await
    }

    pub fn couriers(&self) -> Vec<Courier> {
        let courier = |notifier: &Arc<dyn Notifier>| Courier {
            ledger: Arc::clone(&self.ledger),
            notifier: Arc::clone(notifier),
            probe: Arc::clone(&self.probe),
            alerts: self.settings.alerts.clone(),
            supervision: self.settings.supervision.clone(),
        };
        self.notifiers.iter().map(courier).collect()
    }

    /// Delivers everything that may go out now, all routes at once. Returns how many notices went out.
    pub async fn deliver(&self) -> Result<usize> {
        self.open().await?;
        self.deliver_to_open().await
    }

    /// The same for somebody who raises an alert himself, and must not undo what the actor that delivers knows.
    pub async fn open_once(&self) -> Result<()> {
        for notifier in &self.notifiers {
            self.ledger.book(notifier.name(), i64::MAX - 1, 1, Duration::ZERO).await?;
        }
        Ok(())
    }

    pub(super) async fn deliver_to_open(&self) -> Result<usize> {
        self.tend().await?;
        let mut passes = JoinSet::new();
        for courier in self.couriers() {
            passes.spawn(async move { courier.pass().await });
        }
        let (mut delivered, mut failed) = (0, None);
        while let Some(passed) = passes.join_next().await {
            match passed {
                Ok(Ok(passed)) => delivered += passed.delivered,
                Ok(Err(error)) => failed = Some(error),
                Err(crashed) => tracing::error!("a route crashed: {crashed}"),
            }
        }
        failed.map_or(Ok(delivered), Err)
    }
}

/// What a look at a route's book led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub delivered: usize,
    /// When there may be something to do again, unless it rings before.
    pub again: Option<Duration>,
}

impl Passed {
    fn again_in(&mut self, wait: Duration) {
        self.again = Some(self.again.map_or(wait, |again| again.min(wait)));
    }
}

/// Serves one route. There is one of each at a time in a process.
#[derive(Clone)]
pub struct Courier {
    ledger: Arc<dyn Ledger>,
    notifier: Arc<dyn Notifier>,
    probe: Arc<dyn Probe>,
    alerts: Alerts,
    supervision: Supervision,
}

/// What is about to be handed to the route.
struct Outgoing {
    notice: Notice,
    parcel: Parcel,
}

impl Courier {
    pub fn route(&self) -> &str {
        self.notifier.name()
    }

    /// Goes once through what the route is owed. Ends early when the route fails.
    pub async fn pass(&self) -> Result<Passed> {
        let mut passed = Passed::default();
        let (mut after, mut failures) = (0, 0);
        loop {
            let mut book = self.ledger.book(self.route(), after, PAGE, self.alerts.cooldown).await?;
            for owed in &mut book.owed {
                owed.is_wanted = self.notifier.wants(&notice(owed));
            }
            let outgoing = self.settle(&book, &mut passed).await?;
            self.probe.reach("alert.settled").await;
            if !book.paused.is_zero() {
                passed.again_in(book.paused);
                return Ok(passed);
            }
            failures = if after == 0 { book.failures } else { failures };
            for one in outgoing {
                if !self.hand_over(&one, &mut failures, &mut passed).await? {
                    return Ok(passed);
                }
            }
            match book.owed.last() {
                Some(last) if book.has_more => after = last.notice,
                _ => break,
            }
        }
        self.digest(failures, &mut passed).await?;
        Ok(passed)
    }

    /// Writes down what is decided without the route, and returns what is to be sent: what may have arrived first, then the oldest.
    async fn settle(&self, book: &Book, passed: &mut Passed) -> Result<Vec<Outgoing>> {
        let mut settlement = Settlement::default();
        let mut outgoing = Vec::new();
        for (owed, ruling) in book.owed.iter().zip(policy::rule(book, &self.alerts)) {
            let ruling = if self.notifier.is_record() { policy::for_record(ruling) } else { ruling };
            let parcel = |fate, why| Parcel::Notice { id: owed.notice, fate, why };
            match ruling {
                Ruling::Send => outgoing.push(Outgoing { notice: notice(owed), parcel: parcel(Fate::Sent, None) }),
                Ruling::Note(why) => {
                    outgoing.push(Outgoing { notice: notice(owed), parcel: parcel(Fate::Noted, Some(why)) });
                }
                Ruling::Hold(_, wait) => wait.into_iter().for_each(|wait| passed.again_in(wait)),
                Ruling::Digest(why, patience) => settlement.digest.push(policy::entry(owed, why, patience)),
                Ruling::Drop(why) => settlement.drop.push((owed.notice, why)),
            }
        }
        if settlement != Settlement::default() {
            self.ledger.settle(self.route(), &settlement).await?;
        }
        let is_under_way =
            |one: &Outgoing| matches!(one.parcel, Parcel::Notice { id, .. } if book.under_way == Some(id));
        outgoing.sort_by_key(|one| !is_under_way(one));
        Ok(outgoing)
    }

    /// Sends the digest, if it is time for one.
    async fn digest(&self, mut failures: u32, passed: &mut Passed) -> Result<()> {
        let digests = self.ledger.digests(self.route()).await?;
        let digest = match (digests.closed.clone(), policy::digest_in(&digests)) {
            (Some(closed), _) => Some(closed),
            (None, Some(Duration::ZERO)) => self.ledger.close_digest(self.route()).await?,
            (None, Some(wait)) => {
                passed.again_in(wait);
                None
            }
            (None, None) => None,
        };
        let Some(digest) = digest else { return Ok(()) };
        self.probe.reach("alert.closed").await;
        let parcel = Parcel::Digest { id: digest.id.clone() };
        let outgoing = Outgoing { notice: Notice::Digest(digest), parcel };
        self.hand_over(&outgoing, &mut failures, passed).await.map(drop)
    }

    /// False when the route is left alone for now.
    async fn hand_over(&self, outgoing: &Outgoing, failures: &mut u32, passed: &mut Passed) -> Result<bool> {
        let route = self.route();
        let _turn = self.notifier.turn().await;
        // Whoever had the turn before may have told it since the book was read.
        if !self.ledger.is_owed(route, &outgoing.parcel).await? {
            return Ok(true);
        }
        let outcome = self.give(outgoing).await;
        self.probe.reach("alert.handed").await;
        let Err(error) = outcome else {
            self.ledger.told(route, &outgoing.parcel).await?;
            self.probe.reach("alert.recorded").await;
            *failures = 0;
            passed.delivered += 1;
            return Ok(true);
        };
        let setback = policy::setback(&error, *failures, &self.supervision);
        tracing::warn!(route, code = error.code, failures = *failures + 1, "could not deliver an alert: {error}");
        let says = || format!("alerts do not arrive by the route {route}: {error}");
        let (is_given_up, pause) = (setback.is_given_up, setback.pause);
        let failure = Failure { error: error.clone(), is_given_up, pause, alarm: setback.alarm.then(says) };
        self.ledger.not_told(route, &outgoing.parcel, &failure).await?;
        *failures += 1;
        if !is_given_up {
            passed.again_in(pause);
        }
        Ok(is_given_up)
    }

    async fn give(&self, outgoing: &Outgoing) -> Result<()> {
        let delivery = async {
            match &outgoing.parcel {
                Parcel::Notice { why: Some(why), .. } => self.notifier.note(&outgoing.notice, why).await,
                _ => self.notifier.deliver(&outgoing.notice).await,
            }
        };
        in_time(delivery).await
    }
}

/// Cuts a delivery off that takes too long.
pub(super) async fn in_time(delivery: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout(DEADLINE, delivery).await.unwrap_or_else(|_| {
        Err(Error::unavailable("alert.deadline", "could not deliver an alert")
            .cause(format!("the route had not answered after {} s", DEADLINE.as_secs()))
            .hint("check the address of the route, and whether it can be reached from here"))
    })
}

/// What is told of an instance in this phase: as it was then, not as it is by now.
fn notice(owed: &Owed) -> Notice {
    let mut alert = owed.alert.clone();
    match owed.phase {
        Phase::Resolved => Notice::Alert(alert),
        Phase::Firing | Phase::Escalated => {
            alert.resolved_at = None;
            if owed.phase == Phase::Escalated { Notice::Escalation(alert) } else { Notice::Alert(alert) }
        }
    }
}
