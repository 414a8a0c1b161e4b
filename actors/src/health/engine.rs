//! Runs checks: one look with a deadline, what it means, and that written down. Each check on its own: none waits for another.

use super::policy::{self, Judged, Treatment};
use crate::contract::nearest;
use crate::control::engine::Hands;
use crate::domain::Finding;
use crate::error::{Error, Result};
use crate::port::{AlertKey, AuditEntry, Check, CheckGroup, CheckRow, Clock, Healer, Ledger, Look, Ports, Severity};
use crate::settings::{Health, Remedy};
use chrono::TimeDelta;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as Turn, OnceCell};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// A service that was restarted gets this long before it is looked at again, or the time between two looks if that is shorter.
const AFTER_ACT: Duration = Duration::from_secs(5);

/// All checks with what is known of them. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Doctor {
    inner: Arc<Inner>,
}

struct Inner {
    entries: Vec<Entry>,
    ledger: Option<Arc<dyn Ledger>>,
    clock: Arc<dyn Clock>,
    healer: Arc<dyn Healer>,
    settings: Health,
    /// Rows and alerts are written; a command that only reads writes nothing.
    keeps: bool,
    ready: OnceCell<()>,
}

struct Entry {
    check: Arc<dyn Check>,
    /// One look at a time.
    turn: Turn<()>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    row: Option<CheckRow>,
    /// Looked at in this life of the process.
    is_seen: bool,
}

impl Doctor {
    pub fn new(ports: &Ports, settings: &Health) -> Self {
        let (checks, ledger) = (ports.checks.clone(), Arc::clone(&ports.ledger));
        Self::keeper(checks, ledger, Arc::clone(&ports.clock), Arc::clone(&ports.healer), settings)
    }
    /// Writes down what it finds.
    pub fn keeper(
        checks: Vec<Arc<dyn Check>>,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        healer: Arc<dyn Healer>,
        settings: &Health,
    ) -> Self {
        Self::with(checks, Some(ledger), (clock, healer), settings, true)
    }
    /// For a command beside or without a daemon: it looks, and writes nothing down.
    pub fn onlooker(
        checks: Vec<Arc<dyn Check>>,
        ledger: Option<Arc<dyn Ledger>>,
        clock: Arc<dyn Clock>,
        settings: &Health,
    ) -> Self {
        Self::with(checks, ledger, (clock, Arc::new(crate::port::NoHealer)), settings, false)
    }
    fn with(
        checks: Vec<Arc<dyn Check>>,
        ledger: Option<Arc<dyn Ledger>>,
        (clock, healer): (Arc<dyn Clock>, Arc<dyn Healer>),
        settings: &Health,
        keeps: bool,
    ) -> Self {
        let entry = |check| Entry { check, turn: Turn::new(()), known: Mutex::default() };
        let entries = checks.into_iter().map(entry).collect();
        let (settings, ready) = (settings.clone(), OnceCell::new());
        Self { inner: Arc::new(Inner { entries, ledger, clock, healer, settings, keeps, ready }) }
    }

    /// The names of a group's checks.
    pub fn names(&self, group: CheckGroup) -> Vec<String> {
        let of_group = self.inner.entries.iter().filter(|entry| entry.check.group() == group);
        of_group.map(|entry| entry.check.name().to_owned()).collect()
    }

    /// Looks once and treats what is found, as the settings allow. True when somebody may have to be told.
    pub async fn visit(&self, name: &str, hands: &dyn Hands) -> bool {
        let Some(entry) = self.entry(name) else { return false };
        let (mut row, mut told) = self.examine(entry, false).await;
        if self.treat(&row, hands).await {
            tokio::time::sleep(AFTER_ACT.min(self.inner.settings.every)).await;
            (row, _) = self.examine(entry, false).await;
            self.treat(&row, hands).await;
            told = true;
        }
        told || row.condition != crate::domain::Condition::Ok
    }

    /// Forgets what a check remembers, and lets it look anew.
    pub async fn accept(&self, name: &str) -> Result<Vec<CheckRow>> {
        let rows = self.answer(&[name.to_owned()], false).await?;
        let (Some(entry), Some(ledger)) = (self.entry(name), &self.inner.ledger) else { return Ok(rows) };
        if let Some(mut row) = entry.row() {
            row.kept.memory = Value::Null;
            ledger
                .audit(&AuditEntry::new("health", "accepted", "info", format!("what {name} remembers was put aside")))
                .await?;
            ledger.save_check(&row).await?;
            entry.learn(row);
        }
        self.answer(&[name.to_owned()], true).await
    }

    fn no_such_check(&self, name: &str) -> Error {
        let known: Vec<&str> = self.inner.entries.iter().map(|entry| entry.check.name()).collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}? there are {}", known.join(", ")),
            None => format!("there are {}", known.join(", ")),
        };
        Error::config("health.no_such_check", format!("there is no check {name}")).hint(hint)
    }

    /// The rows of these checks, or of all. Those that are not fresh are looked at; with `now`, all of them.
    pub async fn answer(&self, names: &[String], now: bool) -> Result<Vec<CheckRow>> {
        if let Some(stranger) = names.iter().find(|name| self.entry(name).is_none()) {
            return Err(self.no_such_check(stranger));
        }
        self.ready().await;
        let mut looks = JoinSet::new();
        let chosen: Vec<usize> = (0..self.inner.entries.len())
            .filter(|i| names.is_empty() || names.iter().any(|name| name == self.inner.entries[*i].check.name()))
            .collect();
        for i in chosen.iter().copied().filter(|i| now || !self.is_fresh(*i)) {
            let doctor = self.clone();
            looks.spawn(async move { doctor.examine(&doctor.inner.entries[i], true).await });
        }
        while looks.join_next().await.is_some() {}
        Ok(chosen.into_iter().filter_map(|i| self.inner.entries[i].row()).collect())
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.inner.entries.iter().find(|entry| entry.check.name() == name)
    }

    fn is_fresh(&self, i: usize) -> bool {
        let known = self.inner.entries[i].known.lock().unwrap_or_else(PoisonError::into_inner);
        let age = known.row.as_ref().filter(|_| known.is_seen).map(|row| self.inner.clock.now() - row.checked_at);
        let limit = TimeDelta::from_std(self.inner.settings.every * 2).unwrap_or(TimeDelta::MAX);
        age.is_some_and(|age| age >= TimeDelta::zero() && age < limit)
    }

    /// What the life before knew, once. A ledger that cannot be read is what the checks will tell.
    async fn ready(&self) {
        self.inner
            .ready
            .get_or_init(|| async {
                let Some(ledger) = &self.inner.ledger else { return };
                let rows = match ledger.checks().await {
                    Ok(rows) => rows,
                    Err(error) => return tracing::warn!(code = error.code, "{error}"),
                };
                for row in rows {
                    if let Some(entry) = self.entry(&row.name) {
                        entry.known.lock().unwrap_or_else(PoisonError::into_inner).row = Some(row);
                    }
                }
                if self.inner.keeps {
                    let known: Vec<String> = self.inner.entries.iter().map(|e| e.check.name().to_owned()).collect();
                    if let Err(error) = ledger.forget_checks(&known).await {
                        tracing::warn!(code = error.code, "{error}");
                    }
                }
            })
            .await;
    }

    /// One look and what follows from it. True when the state is another one, or an alert began or ended.
    async fn examine(&self, entry: &Entry, is_asked: bool) -> (CheckRow, bool) {
        let _turn = entry.turn.lock().await;
        self.ready().await;
        let previous = entry.row();
        let memory = previous.as_ref().map_or(Value::Null, |row| row.kept.memory.clone());
        let begun = Instant::now();
        let finding = self.look(entry, Look { memory, is_asked }).await;
        let stamp = (self.inner.clock.now(), begun.elapsed());
        let check = &entry.check;
        let judged = policy::judge(check.name(), previous.as_ref(), finding, check.rules(), stamp);
        let is_news = previous
            .is_none_or(|row| row.condition != judged.row.condition || row.kept.raised != judged.row.kept.raised);
        if let Some(ledger) = self.inner.ledger.as_ref().filter(|_| self.inner.keeps)
            && let Err(error) = keep(ledger.as_ref(), &judged).await
        {
            tracing::warn!(check = check.name(), code = error.code, "could not write a finding down: {error}");
        }
        entry.learn(judged.row.clone());
        (judged.row, is_news)
    }

    /// In a task of its own: a bug in a check ends that look and nothing else.
    async fn look(&self, entry: &Entry, look: Look) -> Finding {
        let limit = entry.check.limit().unwrap_or(self.inner.settings.timeout);
        let check = Arc::clone(&entry.check);
        let mut task = AbortOnDrop(tokio::spawn(async move { check.look(&look).await }));
        match tokio::time::timeout(limit, &mut task.0).await {
            Ok(Ok(finding)) => finding,
            Ok(Err(_)) => Finding::unknown("the check itself crashed").hint("see `moon logs` and report it: a bug"),
            Err(_) => Finding::unknown(format!("no answer within {}", humantime::format_duration(limit)))
                .hint("what it looks at hangs, or is slower than the timeout in [health] allows"),
        }
    }

    /// Does what the settings allow about what fires. True when something was done.
    async fn treat(&self, row: &CheckRow, hands: &dyn Hands) -> bool {
        let (settings, now) = (&self.inner.settings, self.inner.clock.now());
        let Some(ledger) = &self.inner.ledger else { return false };
        let (episodes, treatments) =
            policy::treat(&row.kept.raised, &row.kept.episodes, &settings.recover, settings.recover_cooldown, now);
        if episodes == row.kept.episodes && treatments.is_empty() {
            return false;
        }
        // Counted before it is done: a crash in between must not give more attempts.
        let mut row = row.clone();
        row.kept.episodes = episodes;
        if let Err(error) = ledger.save_check(&row).await {
            tracing::warn!(
                check = row.name,
                code = error.code,
                "nothing is put right while it cannot be written down: {error}"
            );
            return false;
        }
        if let Some(entry) = self.entry(&row.name) {
            entry.learn(row.clone());
        }
        let mut has_acted = false;
        for treatment in treatments {
            has_acted |= matches!(treatment, Treatment::Act { .. });
            if let Err(error) = self.carry_out(ledger.as_ref(), hands, treatment).await {
                tracing::warn!(check = row.name, code = error.code, "{error}");
            }
        }
        has_acted
    }

    async fn carry_out(&self, ledger: &dyn Ledger, hands: &dyn Hands, treatment: Treatment) -> Result<()> {
        let (acted, failed) =
            (|key: &AlertKey| recovery("auto_recovery", key), |key: &AlertKey| recovery("auto_recovery_failed", key));
        match treatment {
            Treatment::Act { key, remedy, attempt } => {
                let what = format!("{} because of {} ({})", remedy.describe(), key.rule, key.subject);
                let outcome = self.act(hands, &remedy).await;
                let said = match &outcome {
                    Ok(did) => format!("{what}, attempt {attempt} of {}: {did}", policy::MOST_ATTEMPTS),
                    Err(error) => format!("{what}, attempt {attempt} of {} failed: {error}", policy::MOST_ATTEMPTS),
                };
                let word = if outcome.is_ok() { "ok" } else { "failed" };
                ledger.audit(&AuditEntry::new("health", "recovered", word, &said)).await?;
                tracing::warn!("{said}");
                ledger.raise(&acted(&key), Severity::Info, &said, None).await.map(drop)
            }
            Treatment::GiveUp { key, attempts } => {
                let said =
                    format!("{} ({}) goes on after {attempts} attempts at putting it right", key.rule, key.subject);
                let hint = "nothing more is tried by itself until it was fine for a while; see the alert itself";
                ledger.raise(&failed(&key), Severity::Critical, &said, Some(hint)).await.map(drop)
            }
            Treatment::Recovered { key } => {
                ledger.resolve(&acted(&key)).await?;
                ledger.resolve(&failed(&key)).await.map(drop)
            }
        }
    }

    async fn act(&self, hands: &dyn Hands, remedy: &Remedy) -> Result<String> {
        if remedy.actor.is_empty() {
            return self.inner.healer.heal(remedy).await;
        }
        hands.restart(&remedy.actor).await.map(|()| format!("the actor {} is up again", remedy.actor))
    }
}

fn recovery(rule: &str, key: &AlertKey) -> AlertKey {
    AlertKey::new(rule, format!("{} {}", key.rule, key.subject))
}

/// Ends what is over, writes the row, then raises: whatever is cut off in between, the next look does again.
async fn keep(ledger: &dyn Ledger, judged: &Judged) -> Result<()> {
    for key in &judged.resolve {
        ledger.resolve(key).await?;
    }
    ledger.save_check(&judged.row).await?;
    for alert in &judged.raise {
        ledger.raise(&alert.key, alert.severity, &alert.message, alert.hint.as_deref()).await?;
    }
    Ok(())
}

impl Entry {
    fn row(&self) -> Option<CheckRow> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).row.clone()
    }
    fn learn(&self, row: CheckRow) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known { row: Some(row), is_seen: true };
    }
}

struct AbortOnDrop(JoinHandle<Finding>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
