//! `moon demo`: the whole story in a scratch home, with the real tree, stages and files.
//!
//! Only the agent is played ([`agent`], `plugin`): it replays a shipped conversation into a transcript, compacts and resets
//! when Moon asks, and shows what its next model call would hold. Time is not faked; the conversation is just fast.

pub mod agent;
pub mod conversation;
mod plugin;

pub use agent::{DemoAgent, Request};
pub use conversation::{Exchange, PLANTED, Part, Planted, conversation};

use crate::adapters::bridge_dir::BridgeDir;
use crate::daemon::Daemon;
use crate::daemon::lock::HomeLock;
use crate::home::Home;
use moon_actors::contract::RecallResult;
use moon_actors::domain::{CycleId, SessionKey};
use moon_actors::port::{AuditRow, Bridge, Ledger, Query};
use moon_actors::settings::{HostChoice, Mode, Settings};
use moon_actors::{Error, Result};
use plugin::DemoPlugin;
use serde::Serialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A small window, so that the conversation crosses every threshold.
const WINDOW_TOKENS: u64 = 24_000;
/// Longest wait for the pipeline to settle after an exchange.
const SETTLE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);

/// What the demo showed, for programs and tests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Told {
    pub exchanges: usize,
    pub records: i64,
    pub archives: usize,
    pub prunes: usize,
    pub distillations: usize,
    pub rollovers: usize,
    /// The map was in the model call after the rollover and in the one after that.
    pub map_arrived: bool,
    /// The fact was in no model call at the end.
    pub fact_left_the_context: bool,
    /// Its rank in `recall`, 1 is first.
    pub recalled_at_rank: Option<usize>,
    /// After `--inject` it was in the next model call, and only in that one.
    pub injected_once: bool,
    pub seconds: f64,
}

/// The settings of a demo home: the defaults, but for the host, the window, who leads, no wait for a person who has just spoken
/// (nobody types here), and no checks of a host that is only played.
pub fn settings(home: &Home) -> Settings {
    let mut settings = Settings::default();
    settings.home.path = home.root().display().to_string();
    settings.watch.host = HostChoice::Transcripts;
    settings.watch.transcripts_dir = home.root().join("demo").display().to_string();
    settings.watch.window_tokens = WINDOW_TOKENS;
    settings.openclaw.mode = Mode::Lead;
    settings.continuity.quiet = Duration::ZERO;
    settings.health.start_after = Duration::from_secs(86_400);
    settings
}

/// Plays the story over a home held by `lock`, telling it line by line.
pub async fn run(home: &Home, lock: HomeLock, tell: &mut (dyn FnMut(&str) + Send)) -> Result<Told> {
    let begun = Instant::now();
    let settings = settings(home);
    keep_settings(home, &settings)?;
    let bridge: Arc<dyn Bridge> = Arc::new(BridgeDir::open(home.root()).map_err(io_failed)?);
    let agent = Arc::new(DemoAgent::new(&home.root().join("demo"), &settings, bridge)?);
    let plugin = DemoPlugin::load(home.root())?;
    let daemon = Daemon::start(home, settings.clone(), lock, Arc::clone(&agent) as _).await?;
    let mut story = Story::new(agent, plugin, Arc::clone(&daemon.wiring.ports.ledger));
    story.converse(&settings, tell).await?;
    story.remember(&daemon, tell).await?;
    let mut told = story.told;
    daemon.stop("the demo is over").await?;
    told.seconds = begun.elapsed().as_secs_f64();
    Ok(told)
}

/// A settings file in the demo's home, so that every other command can be tried on it.
fn keep_settings(home: &Home, settings: &Settings) -> Result<()> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let text = format!(
        "# Written by `moon demo`: try any command with --home on this folder.\n\n[watch]\nhost = \"transcripts\"\n\
         transcripts_dir = {}\nwindow_tokens = {WINDOW_TOKENS}\n\n[openclaw]\nmode = \"lead\"\n",
        quoted(&settings.watch.transcripts_dir)
    );
    crate::durable::replace(&home.config_file(), text.as_bytes()).map_err(io_failed)
}

fn io_failed(e: std::io::Error) -> Error {
    Error::transient("demo.io", "could not prepare the demo's home").cause(e)
}

struct Story {
    agent: Arc<DemoAgent>,
    plugin: DemoPlugin,
    ledger: Arc<dyn Ledger>,
    told: Told,
    /// Last audit row that was told.
    seen: i64,
    /// Cycles that a threshold opened: what their stages do is told.
    cycles: HashSet<CycleId>,
}

impl Story {
    fn new(agent: Arc<DemoAgent>, plugin: DemoPlugin, ledger: Arc<dyn Ledger>) -> Self {
        Self { agent, plugin, ledger, told: Told::default(), seen: 0, cycles: HashSet::new() }
    }

    /// Plays the conversation, exchange by exchange, and lets Moon finish after each.
    async fn converse(&mut self, settings: &Settings, tell: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        let t = &settings.thresholds;
        tell(&format!(
            "An agent with a window of {WINDOW_TOKENS} tokens works through a long conversation. Moon archives at {:.0} %, \
             prunes at {:.0} %, distils and rolls over at {:.0} %.",
            t.archive * 100.0,
            t.prune * 100.0,
            t.distill * 100.0
        ));
        tell(&format!("Early on ({}) somebody says: \"{}\"", PLANTED.decided_on, PLANTED.sentence));
        tell("");
        while self.agent.play(1)? > 0 {
            self.told.exchanges += 1;
            self.settle(tell).await?;
            let call = self.agent.next_call().await?;
            let rolled = self.told.rollovers > 0;
            if rolled {
                let carried = call.injected.first();
                self.plugin.built(&self.agent.session().key, carried)?;
                self.told.map_arrived = carried.is_some() && (self.told.map_arrived || self.told.rollovers == 1);
            }
        }
        self.settle(tell).await?;
        let totals = self.ledger.totals().await?;
        self.told.records = totals.records;
        tell("");
        tell(&format!(
            "{} exchanges, {} records ({}) archived byte for byte in {} segments.",
            self.told.exchanges,
            totals.records,
            crate::cli::output::size(totals.bytes),
            totals.segments
        ));
        Ok(())
    }

    /// Waits until Moon has seen the newest record and nothing is left to do, telling what it did meanwhile.
    async fn settle(&mut self, tell: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        let deadline = Instant::now() + SETTLE;
        let (key, mut calm) = (self.agent.session().key, 0);
        while calm < 3 {
            tokio::time::sleep(LOOK).await;
            let written = self.agent.records_written();
            let archived = self.ledger.all_series(Some(&key)).await?.iter().map(|s| s.last_seq + 1).max().unwrap_or(0);
            let busy = self.ledger.totals().await?.open_cycles > 0 || archived < written;
            calm = if busy { 0 } else { calm + 1 };
            self.tell_news(tell).await?;
            if Instant::now() > deadline {
                return Err(Error::transient(
                    "demo.stuck",
                    format!("moon did not finish: {archived} of {written} records are archived"),
                )
                .hint("run it again with -v and report what it says"));
            }
        }
        Ok(())
    }

    async fn tell_news(&mut self, tell: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        for row in self.ledger.audit_rows(self.seen, 500).await? {
            self.seen = row.seq;
            if let Some(line) = self.news(&row) {
                tell(&line);
            }
        }
        Ok(())
    }

    /// What an audit row means for the story. Captures of single turns are not told: there is one after each exchange.
    fn news(&mut self, row: &AuditRow) -> Option<String> {
        let entry = &row.entry;
        let of_threshold = entry.cycle.as_ref().is_some_and(|cycle| self.cycles.contains(cycle));
        match (entry.actor.as_str(), entry.event.as_str()) {
            ("threshold", "triggered") => {
                self.cycles.extend(entry.cycle.clone());
                let kind = entry.detail["kind"].as_str().unwrap_or_default();
                self.told.archives += usize::from(kind == "archive");
                let bar = bar(entry.detail["ratio"].as_f64().unwrap_or(0.0));
                return Some(format!("exchange {:>3}  {bar}  {kind}: {}", self.told.exchanges, entry.message));
            }
            ("prune", "succeeded") => self.told.prunes += 1,
            ("distill", "succeeded") => self.told.distillations += 1,
            ("continuity", "succeeded") => self.told.rollovers += 1,
            ("archive" | "index", "succeeded") if of_threshold => {}
            ("continuity", "confirmed") | ("alert", "fired") => {}
            _ => return None,
        }
        Some(format!("              {:<12}{}", entry.actor, entry.message))
    }

    /// Asks for the fact that left the context, finds it, and puts it back.
    async fn remember(&mut self, daemon: &Daemon, tell: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        self.agent.ask(PLANTED.question)?;
        self.settle(tell).await?;
        let recaller = daemon.wiring.recaller();
        let key = self.agent.session().key;
        self.told.fact_left_the_context = !self.agent.next_call().await?.holds(PLANTED.needle);
        tell("");
        tell(&format!("Weeks later somebody asks: \"{}\"", PLANTED.question));
        tell(&format!(
            "The next model call {} it.",
            if self.told.fact_left_the_context {
                "does not hold the answer any more: its context has lost"
            } else {
                "still holds"
            }
        ));
        let query = Query { text: PLANTED.question.to_owned(), limit: 5, session: None, since: None };
        let mut found = recaller.recall(&query).await?;
        self.told.recalled_at_rank = rank(&found);
        found.matches.truncate(1);
        tell("");
        tell(&format!("$ moon recall {:?} --limit 1", PLANTED.question));
        crate::cli::recall::lines(&found).iter().for_each(|line| tell(line));
        self.put_back(daemon, &query, &key, tell).await
    }

    async fn put_back(
        &mut self,
        daemon: &Daemon,
        query: &Query,
        key: &SessionKey,
        tell: &mut (dyn FnMut(&str) + Send),
    ) -> Result<()> {
        let Some(pick) = self.told.recalled_at_rank else { return Ok(()) };
        daemon.wiring.recaller().inject(query, pick, key).await?;
        let (with, after) = (self.agent.next_call().await?, self.agent.next_call().await?);
        self.told.injected_once = with.holds(PLANTED.needle) && !after.holds(PLANTED.needle);
        tell("");
        tell(&format!("$ moon recall … --inject {key}"));
        tell(match self.told.injected_once {
            true => "The next model call holds the passage as quoted data; the one after it does not.",
            false => "The passage did not arrive as it should have.",
        });
        Ok(())
    }
}

fn rank(found: &RecallResult) -> Option<usize> {
    found.matches.iter().position(|m| m.snippet.contains(PLANTED.needle)).map(|at| at + 1)
}

/// Usage as a bar of twenty with the figure.
fn bar(ratio: f64) -> String {
    let full = ((ratio * 20.0).round() as usize).min(20);
    format!("[{}{}] {:>5.1} %", "#".repeat(full), ".".repeat(20 - full), ratio * 100.0)
}
