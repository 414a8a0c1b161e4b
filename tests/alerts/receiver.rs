//! A world for the path without a daemon: a ledger in memory, a clock that is moved by hand, routes that fail as they are told.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use moon::adapters::sqlite::SqliteLedger;
use moon_actors::alert::Post;
use moon_actors::port::{AlertBook, AlertKey, Clock, Ids, Ledger, NoProbe, Notice, Notifier, Probe, Severity};
use moon_actors::settings::Settings;
use moon_actors::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const START: i64 = 1_795_165_200_000;

/// Real time, what the wall clock is off by, and at what wall time this life's steady clock began.
#[derive(Default)]
pub(crate) struct Time {
    real: AtomicI64,
    off: AtomicI64,
    /// Steady minus real.
    steady: AtomicI64,
    named: AtomicU64,
}

impl Time {
    pub(crate) fn forward(&self, span: Duration) {
        self.real.fetch_add(span.as_millis() as i64, Ordering::Relaxed);
    }
    pub(crate) fn real(&self) -> i64 {
        self.real.load(Ordering::Relaxed)
    }
    /// The wall clock is set; nothing else happens.
    pub(crate) fn jump(&self, millis: i64) {
        self.off.fetch_add(millis, Ordering::Relaxed);
    }
    /// A process starts: its steady clock begins at what the wall says.
    pub(crate) fn begin_life(&self) {
        self.steady.store(self.off.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    fn at(&self, off: &AtomicI64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(START + self.real() + off.load(Ordering::Relaxed))
    }
}

impl Clock for Time {
    fn now(&self) -> DateTime<Utc> {
        self.at(&self.off)
    }
    fn steady(&self) -> DateTime<Utc> {
        self.at(&self.steady)
    }
    fn today(&self) -> NaiveDate {
        self.now().date_naive()
    }
}

impl Ids for Time {
    fn next(&self) -> String {
        format!("id-{:06}", self.named.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    Away,
    /// Takes the notice and loses the answer.
    LosesAnswers,
    Refuses,
    Hangs,
}

/// A route, with everything it was given and when.
pub(crate) struct Receiver {
    name: &'static str,
    mood: Mutex<Mood>,
    got: Mutex<Vec<(i64, Notice)>>,
    time: Arc<Time>,
    is_record: bool,
}

impl Receiver {
    pub(crate) fn is(&self, mood: Mood) {
        *self.mood.lock().expect("one user") = mood;
    }
    pub(crate) fn got(&self) -> Vec<(i64, Notice)> {
        self.got.lock().expect("one user").clone()
    }
    pub(crate) fn ids(&self) -> Vec<String> {
        self.got().iter().map(|(_, notice)| notice.id()).collect()
    }
    fn take(&self, notice: &Notice) {
        self.got.lock().expect("one user").push((self.time.real(), notice.clone()));
    }
}

#[async_trait]
impl Notifier for Receiver {
    fn name(&self) -> &str {
        self.name
    }
    fn is_record(&self) -> bool {
        self.is_record
    }
    async fn deliver(&self, notice: &Notice) -> Result<()> {
        let mood = *self.mood.lock().expect("one user");
        match mood {
            Mood::Well => {
                self.take(notice);
                Ok(())
            }
            Mood::Away => Err(Error::unavailable("test.away", "nobody is there")),
            Mood::LosesAnswers => {
                self.take(notice);
                Err(Error::transient("test.lost", "the answer was lost"))
            }
            Mood::Refuses => Err(Error::data("test.refused", "refused")),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

/// Stops the delivery at a point, as a killed process would.
#[derive(Default)]
pub(crate) struct Stop {
    pub(crate) at: Mutex<Option<&'static str>>,
    pub(crate) is_stopped: AtomicBool,
}

#[async_trait]
impl Probe for Stop {
    async fn reach(&self, point: &'static str) {
        let is_here = *self.at.lock().expect("one user") == Some(point);
        if is_here || self.is_stopped.load(Ordering::Relaxed) {
            self.is_stopped.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
    }
}

pub(crate) struct World {
    pub(crate) time: Arc<Time>,
    pub(crate) ledger: SqliteLedger,
    pub(crate) routes: Vec<Arc<Receiver>>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) probe: Arc<dyn Probe>,
}

impl World {
    /// Routes with these names; `record` keeps a record.
    pub(crate) async fn new(names: &[&'static str]) -> Self {
        let time = Arc::new(Time::default());
        let ledger = SqliteLedger::in_memory(Arc::clone(&time) as _, Arc::clone(&time) as _).expect("a ledger");
        let route = |name: &&'static str| {
            let (mood, got) = (Mutex::new(Mood::Well), Mutex::default());
            Arc::new(Receiver { name, mood, got, time: Arc::clone(&time), is_record: *name == "record" })
        };
        let routes = names.iter().map(route).collect();
        let world = Self { time, ledger, routes, settings: Arc::default(), probe: Arc::new(NoProbe) };
        world.post().open().await.expect("routes open");
        world
    }
    pub(crate) fn post(&self) -> Post {
        Post {
            ledger: Arc::new(self.ledger.clone()),
            notifiers: self.routes.iter().map(|route| Arc::clone(route) as Arc<dyn Notifier>).collect(),
            probe: Arc::clone(&self.probe),
            settings: Arc::clone(&self.settings),
        }
    }
    pub(crate) async fn raise(&self, rule: &str, subject: &str, severity: Severity) -> Option<i64> {
        let raised = self.ledger.raise(&AlertKey::new(rule, subject), severity, "it is so", None).await;
        raised.expect("raised").map(|alert| alert.id)
    }
    pub(crate) async fn resolve(&self, rule: &str, subject: &str) {
        self.ledger.resolve(&AlertKey::new(rule, subject)).await.expect("resolved");
    }
    /// Looks once, as the actor does when it is rung.
    pub(crate) async fn pass(&self) {
        let post = self.post();
        post.tend().await.expect("tended");
        for courier in post.couriers() {
            courier.pass().await.expect("passed");
        }
    }
    /// Time goes on, and the path is looked at every 15 s as by the actor, but for speed only every `step`.
    pub(crate) async fn live(&self, span: Duration, step: Duration) {
        let mut left = span;
        while !left.is_zero() {
            let part = left.min(step);
            self.time.forward(part);
            left -= part;
            self.pass().await;
        }
    }
    pub(crate) async fn restart(&mut self) {
        self.time.begin_life();
        self.ledger = self.ledger.next_life();
        self.ledger.begin("test").await.expect("a life begins");
        self.post().open().await.expect("routes open");
    }
    /// By route: how many notices have each fate (`owed` for none), and the sum of what the digests there say.
    pub(crate) async fn fates(&self, route: &str) -> std::collections::BTreeMap<String, u64> {
        let mut fates = std::collections::BTreeMap::new();
        for row in self.ledger.alert_rows(false, None, 100_000).await.expect("rows") {
            for one in self.ledger.alert_deliveries(row.alert.id).await.expect("rows") {
                if one.route == route {
                    *fates.entry(one.fate.map_or("owed", |fate| fate.as_str()).to_owned()).or_default() += 1;
                }
            }
        }
        fates
    }
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
