//! The outside world of a simulation: what survives a crash of Moon, and how it misbehaves.
//!
//! Everything durable of host, bridge, archive, index and memory lies in one [`State`]; the ports are thin hands that reach into
//! it. Time is tokio's paused clock. It must never be kinder than the real adapters: an effect may happen and its answer be lost.

use crate::dice::Dice;
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use moon::adapters::sqlite::SqliteLedger;
use moon_actors::domain::{SessionKey, UsageReading};
use moon_actors::port::{Clock, Doorbell, Ids, Notice, Notifier, Probe, Projector};
use moon_actors::settings::Settings;
use moon_actors::{Error, Result};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use crate::bridge::Inbox;
use crate::driver::Plan;
pub(crate) use crate::host::Session;
pub(crate) use crate::stores::{Archive, Index, Memory};

/// How likely each kind of trouble is, in a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Weather {
    /// A port call fails before or after its effect, or hangs.
    pub(crate) faults: u64,
    pub(crate) hangs: u64,
    pub(crate) panics: u64,
    /// The process dies at a probe point.
    pub(crate) deaths: u64,
    /// A push of the host is lost.
    pub(crate) lost_pushes: u64,
}

/// A reduction that the host really performed.
#[derive(Clone, Debug)]
pub(crate) struct Reduction {
    pub(crate) session: SessionKey,
    pub(crate) kind: &'static str,
    pub(crate) cycle: Option<String>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) weather: Weather,
    /// Ports that always fail now, whatever the dice say.
    pub(crate) broken: HashMap<&'static str, Error>,
    /// Probe points that panic now, for jobs of nobody in particular.
    pub(crate) mines: HashMap<&'static str, u32>,
    /// The probe point at which the process dies next.
    pub(crate) fatal: Option<&'static str>,
    pub(crate) sessions: BTreeMap<SessionKey, Session>,
    /// Readings as the host last pushed or listed them.
    pub(crate) shown: BTreeMap<SessionKey, UsageReading>,
    pub(crate) inbox: Inbox,
    pub(crate) archive: Archive,
    pub(crate) index: Index,
    pub(crate) memory: Memory,
    pub(crate) reductions: Vec<Reduction>,
    /// Compactions that the host did for itself: session and real time.
    pub(crate) own_compactions: Vec<(SessionKey, i64)>,
    /// Sessions that the host runs and does not list.
    pub(crate) unlisted: HashSet<SessionKey>,
    /// Promises found broken.
    pub(crate) violations: Vec<String>,
    /// (alert, resolved) as delivered, and how often.
    pub(crate) told: HashMap<(i64, bool), u32>,
    pub(crate) host_bell: Option<Doorbell>,
    pub(crate) bridge_bell: Option<Doorbell>,
    pub(crate) lead: bool,
    /// Turns grow a window by the same small amount, and a compaction leaves this share of it, in percent.
    pub(crate) steady: bool,
    pub(crate) share: Option<u64>,
    /// What the agents and the host are about to do, by real time.
    pub(crate) plans: BTreeMap<(i64, u64), Plan>,
    pub(crate) planned: u64,
    /// Compactions of the host's own that went on without an answer from Moon.
    pub(crate) unanswered: u64,
    /// Faults that really happened, by kind: a simulation in which nothing happens proves nothing.
    pub(crate) happened: BTreeMap<&'static str, u64>,
}

/// Simulated time: real milliseconds since the world began, and a wall clock that jumps.
pub(crate) struct Time {
    base: AtomicI64,
    offset: AtomicI64,
    life: Mutex<Option<(Instant, i64)>>,
    /// Wall offset at the start of every life, with the real time it began.
    pub(crate) lives: Mutex<Vec<(i64, i64)>>,
    pub(crate) named: AtomicU64,
}

/// 2026-11-20 09:00 UTC.
const DAWN_MS: i64 = 1_795_165_200_000;

impl Time {
    pub(crate) fn real_ms(&self) -> i64 {
        let life = self.life.lock().expect("no panic under this lock");
        let lived = life.map_or(0, |(start, _)| start.elapsed().as_millis() as i64);
        self.base.load(Ordering::Relaxed) + lived
    }
    /// Must be called inside the runtime of the new life.
    pub(crate) fn begin_life(&self) {
        let offset = self.offset.load(Ordering::Relaxed);
        *self.life.lock().expect("no panic under this lock") = Some((Instant::now(), offset));
        self.lives.lock().expect("no panic under this lock").push((self.base.load(Ordering::Relaxed), offset));
    }
    pub(crate) fn end_life(&self) {
        let now = self.real_ms();
        *self.life.lock().expect("no panic under this lock") = None;
        // A dead process needs a moment to be started again.
        self.base.store(now + 200, Ordering::Relaxed);
    }
    pub(crate) fn jump(&self, ms: i64) {
        self.offset.fetch_add(ms, Ordering::Relaxed);
    }
    pub(crate) fn jump_to_1970(&self) {
        self.offset.store(-DAWN_MS - self.real_ms() + 86_400_000, Ordering::Relaxed);
    }
    pub(crate) fn set_right(&self) {
        self.offset.store(0, Ordering::Relaxed);
    }
    fn at(&self, offset: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(DAWN_MS + self.real_ms() + offset)
    }
}

impl Clock for Time {
    fn now(&self) -> DateTime<Utc> {
        self.at(self.offset.load(Ordering::Relaxed))
    }
    fn steady(&self) -> DateTime<Utc> {
        let offset = self.life.lock().expect("no panic under this lock").map_or(0, |(_, offset)| offset);
        self.at(offset)
    }
    fn today(&self) -> NaiveDate {
        self.now().date_naive()
    }
}

/// Ids that name the real moment they were made at, which is how the checkers know when a cycle began.
impl Ids for Time {
    fn next(&self) -> String {
        format!("{:012}-{:06}", self.real_ms(), self.named.fetch_add(1, Ordering::Relaxed))
    }
}

/// The real time inside an id.
pub(crate) fn real_ms_of(id: &str) -> i64 {
    id.split('-').next().and_then(|ms| ms.parse().ok()).expect("ids of the simulation begin with their time")
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) dice: Arc<Dice>,
    pub(crate) time: Arc<Time>,
    pub(crate) death: Arc<Notify>,
    pub(crate) planned: Arc<Notify>,
    pub(crate) ledger: SqliteLedger,
    state: Arc<Mutex<State>>,
}

/// What becomes of one call of a port.
enum Fate {
    Fine,
    Before(Error),
    After(Error),
    Hang { effect: bool, long: Duration },
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let time = Arc::new(Time {
            base: AtomicI64::new(0),
            offset: AtomicI64::new(0),
            life: Mutex::default(),
            lives: Mutex::default(),
            named: AtomicU64::new(0),
        });
        let ledger = SqliteLedger::in_memory(Arc::clone(&time) as _, Arc::clone(&time) as _).expect("memory is there");
        Self {
            dice: Arc::new(Dice::new(seed)),
            time,
            death: Arc::default(),
            planned: Arc::default(),
            ledger,
            state: Arc::new(Mutex::new(State { lead: true, ..State::default() })),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Lets a port do something to the world, or fail at it.
    pub(crate) async fn act<T>(&self, port: &'static str, effect: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        match self.fate(port) {
            Fate::Fine => effect(&mut self.state()),
            Fate::Before(error) => Err(error),
            Fate::After(error) => effect(&mut self.state()).and(Err(error)),
            Fate::Hang { effect: true, long } => {
                let done = effect(&mut self.state());
                tokio::time::sleep(long).await;
                done
            }
            Fate::Hang { effect: false, long } => {
                tokio::time::sleep(long).await;
                Err(Error::transient(&code(port, "timeout"), format!("{port} took too long")))
            }
        }
    }

    fn fate(&self, port: &'static str) -> Fate {
        let weather = {
            let state = self.state();
            if let Some(error) = state.broken.get(port).or_else(|| state.broken.get(family(port))) {
                return Fate::Before(error.clone());
            }
            state.weather
        };
        let luck = self.dice.next(port) % 1000;
        if luck < weather.hangs {
            self.note("hangs");
            let long = Duration::from_secs(self.dice.between("hang", 1, 1500));
            return Fate::Hang { effect: self.dice.per_mille("hang.effect", 500), long };
        }
        if luck < weather.hangs + weather.faults {
            self.note("faults");
            let error = self.trouble(port);
            return if self.dice.per_mille("fault.after", 500) { Fate::After(error) } else { Fate::Before(error) };
        }
        Fate::Fine
    }

    /// An error that the real adapter behind this port could give.
    fn trouble(&self, port: &'static str) -> Error {
        let say = |what: &str| format!("{port}: {what}");
        let which = self.dice.next("trouble") % 4;
        match (family(port), which) {
            ("archive", 0 | 1) => Error::transient("archive.disk_full", say("no space left")),
            ("archive", 2) if port == "archive.put" => Error::data("archive.verify", say("read back differently")),
            ("index", 0) => Error::data("index.corrupt", say("malformed")),
            ("index", 1) => Error::transient("index.disk_full", say("no space left")),
            ("host", 0) => Error::unavailable("host.down", say("not connected")),
            ("host", 1) if port == "host.compact" => Error::data("host.compact_refused", say("refused")),
            _ => Error::transient(&code(port, "io"), say("input/output error")),
        }
    }

    /// Lets something happen after so many milliseconds.
    pub(crate) fn plan(&self, in_ms: u64, plan: Plan) {
        let at = self.time.real_ms() + in_ms as i64;
        let mut state = self.state();
        state.planned += 1;
        let n = state.planned;
        state.plans.insert((at, n), plan);
        self.planned.notify_one();
    }

    pub(crate) fn note(&self, what: &'static str) {
        *self.state().happened.entry(what).or_default() += 1;
    }

    pub(crate) fn ring_host(&self) {
        let bell = self.state().host_bell.clone();
        let lost = self.state().weather.lost_pushes;
        if let Some(bell) = bell.filter(|_| !self.dice.per_mille("host.bell", lost)) {
            bell();
        }
    }
    pub(crate) fn ring_bridge(&self) {
        let bell = self.state().bridge_bell.clone();
        let lost = self.state().weather.lost_pushes;
        if let Some(bell) = bell.filter(|_| !self.dice.per_mille("bridge.bell", lost)) {
            bell();
        }
    }
}

fn family(port: &'static str) -> &'static str {
    port.split('.').next().unwrap_or(port)
}

fn code(port: &'static str, reason: &str) -> String {
    format!("{}.{reason}", family(port))
}

#[async_trait]
impl Probe for World {
    async fn reach(&self, point: &'static str) {
        let weather = self.state().weather;
        let mined = self.state().mines.get_mut(point).is_some_and(|left| {
            let live = *left > 0;
            *left = left.saturating_sub(1);
            live
        });
        if mined || self.dice.per_mille(point, weather.panics) {
            self.note("panics");
            panic!("the simulation panics at {point}");
        }
        let fatal = self.state().fatal.take_if(|fatal| *fatal == point).is_some();
        if fatal || self.dice.per_mille(point, weather.deaths) {
            self.note("deaths at a probe");
            self.death.notify_one();
            std::future::pending::<()>().await;
        }
        if self.dice.per_mille("probe.pause", 20) {
            tokio::time::sleep(Duration::from_millis(self.dice.between("probe.long", 1, 4000))).await;
        }
    }
}

#[async_trait]
impl Notifier for World {
    fn name(&self) -> &str {
        "sim"
    }
    async fn deliver(&self, notice: &Notice) -> Result<()> {
        let (Notice::Alert(alert) | Notice::Escalation(alert)) = notice else { return Ok(()) };
        let key = (alert.id, alert.resolved_at.is_some());
        self.act("notifier.deliver", |state| {
            *state.told.entry(key).or_default() += 1;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Projector for World {
    async fn refresh(&self) -> Result<Vec<String>> {
        self.act("projector.refresh", |_| Ok(vec![])).await
    }
}

/// Settings for a world that has sessions and no disk to back up or logs to rotate: what the calendar does is tested with the real one.
pub(crate) fn sessions_only() -> Settings {
    let mut settings = Settings::default();
    for times in [&mut settings.backup.at, &mut settings.backup.drill_at, &mut settings.rotation.at] {
        times.clear();
    }
    settings
}
