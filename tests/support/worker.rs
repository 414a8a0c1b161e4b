//! A daemon with a scripted agent in a process of its own, to be killed and started again over the same files.
//!
//! The process is the test executable itself, started again with [`VARIABLE`] set, so that no product code exists for tests.
//! The agent is a JSONL transcript that grows by a fixed conversation and obeys `compact` and `reset` by the records OpenClaw
//! writes. Where the script stands is read from the transcript and the ledger, never kept in memory: a worker that was killed
//! anywhere goes on from there.

use super::process::{Transcript, message};
use async_trait::async_trait;
use moon::adapters::bridge_dir::BridgeDir;
use moon::adapters::transcripts::TranscriptsHost;
use moon::daemon::Daemon;
use moon::daemon::lock::HomeLock;
use moon::durable;
use moon::home::Home;
use moon_actors::domain::{Capabilities, Page, SessionRef, UsageReading};
use moon_actors::port::{Bridge, Compacted, Doorbell, Ledger, SessionHost, Slot};
use moon_actors::settings::{HostChoice, Mode, Settings};
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Names the scratch folder to a worker; without it the worker's test returns at once.
pub const VARIABLE: &str = "MOON_TEST_WORKER";
/// Key of the one session.
pub const KEY: &str = "transcripts:work";
const WINDOW_TOKENS: u64 = 20_000;
/// Words of each message; an exchange is a good twentieth of the window.
const WORDS: usize = 450;
/// Exchanges of the whole conversation.
pub const EXCHANGES: usize = 42;
/// Exchanges that a compaction keeps word for word.
const KEPT: usize = 2;
const LOOK: Duration = Duration::from_millis(10);
/// How a capture ends that found something new, or nothing.
const DONE: [&str; 2] = ["succeeded", "skipped"];
const PATIENCE: Duration = Duration::from_secs(45);

/// The command that runs the worker over `root`: `root/home` and `root/transcripts/work.jsonl`.
pub fn command(root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test knows its own file"));
    command.args(["worker", "--exact", "--nocapture", "--test-threads=1"]).env(VARIABLE, root).stdin(Stdio::null());
    command.env_remove("MOON_TEST_KILL_AT");
    command
}

/// What the `worker` test of a test file runs: nothing, unless this process was started as a worker.
pub fn run_if_asked() {
    let Some(root) = std::env::var_os(VARIABLE).map(PathBuf::from) else { return };
    // As the program does first of all.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(work(&root)).expect("the worker's daemon goes on");
}

/// The settings of the worker's home.
pub fn settings(root: &Path) -> Settings {
    let mut settings = Settings::default();
    settings.home.path = root.join("home").display().to_string();
    settings.watch.host = HostChoice::Transcripts;
    settings.watch.transcripts_dir = root.join("transcripts").display().to_string();
    settings.watch.window_tokens = WINDOW_TOKENS;
    settings.openclaw.mode = Mode::Lead;
    // What the host refuses because somebody is writing is tried again soon.
    settings.supervision.retry_min = Duration::from_millis(50);
    settings.supervision.retry_max = Duration::from_secs(1);
    settings
}

async fn work(root: &Path) -> Result<()> {
    let settings = settings(root);
    let (home, _) = Home::open(root.join("home"))?;
    let lock = HomeLock::take(&home, "daemon")?;
    let bridge: Arc<dyn Bridge> = Arc::new(BridgeDir::open(home.root()).expect("a bridge opens"));
    let agent = Arc::new(Agent::new(root, &settings, bridge));
    load_plugin(home.root());
    let daemon = Daemon::start(&home, settings, lock, Arc::clone(&agent) as _).await?;
    let ledger = Arc::clone(&daemon.wiring.ports.ledger);
    let script = Script { agent, ledger, home: home.root().to_owned() };
    script.play().await?;
    daemon.stop("the script is over").await
}

/// Says that a plugin is loaded, as the gateway's one does.
fn load_plugin(home: &Path) {
    let status = json!({"version": "test", "pid": std::process::id(), "startedAt": 0});
    durable::replace(&home.join("bridge/status.json"), status.to_string().as_bytes()).expect("a status is written");
}

/// The conversation with its milestones.
struct Script {
    agent: Arc<Agent>,
    ledger: Arc<dyn Ledger>,
    home: PathBuf,
}

impl Script {
    async fn play(&self) -> Result<()> {
        // Each life begins with a look at every session; a script that has nothing left to write must not end before it.
        self.until("the first capture of this life", async || {
            let rows = self.ledger.audit_rows(0, usize::MAX >> 1).await?;
            let boot = self.ledger.boot();
            Ok(rows
                .iter()
                .any(|r| r.boot == boot && r.entry.actor == "archive" && DONE.contains(&r.entry.event.as_str())))
        })
        .await?;
        self.quiet().await?;
        self.grow(0.30).await?;
        self.grow(0.60).await?;
        if self.prunes().await? == 0 {
            self.grow(0.81).await?;
            self.until("the archive cycle", async || Ok(self.cycles("archive").await? > 0)).await?;
            self.grow(0.86).await?;
            self.until("the prune", async || Ok(self.prunes().await? > 0)).await?;
        }
        if self.ledger.totals().await?.rollovers == 0 {
            self.grow(0.50).await?;
            self.grow(0.91).await?;
            self.until("the rollover", async || Ok(self.ledger.totals().await?.rollovers > 0)).await?;
        }
        while self.agent.step(EXCHANGES) {}
        self.quiet().await?;
        self.call_model()?;
        self.until("the map's arrival", async || {
            Ok(self.ledger.continuity(None, 1).await?.first().is_some_and(|row| row.confirmed_at.is_some()))
        })
        .await?;
        self.quiet().await
    }

    /// Writes until the window is that full, unless an earlier life went further already.
    async fn grow(&self, share: f64) -> Result<()> {
        let further = self.prunes().await? > 0 && share < 0.5 || self.ledger.totals().await?.rollovers > 0;
        while !further && self.agent.share().await? < share && self.agent.step(EXCHANGES) {}
        self.quiet().await
    }

    /// Waits until everything written is archived and findable and nothing is left to do.
    async fn quiet(&self) -> Result<()> {
        self.until("everything to be archived", async || {
            let totals = self.ledger.totals().await?;
            Ok(totals.open_cycles == 0 && totals.unindexed == 0 && totals.records >= self.agent.lines() as i64)
        })
        .await
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        loop {
            if holds().await? {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let totals = self.ledger.totals().await?;
                let jobs = self.ledger.jobs(true).await?;
                return Err(Error::transient(
                    "test.stuck",
                    format!("waited for {what}: {} lines, {totals:?}, {jobs:?}", self.agent.lines()),
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn prunes(&self) -> Result<usize> {
        let rows = self.ledger.audit_rows(0, usize::MAX >> 1).await?;
        Ok(rows.iter().filter(|r| r.entry.actor == "prune" && r.entry.event == "succeeded").count())
    }

    async fn cycles(&self, kind: &str) -> Result<usize> {
        let rows = self.ledger.audit_rows(0, usize::MAX >> 1).await?;
        Ok(rows.iter().filter(|r| r.entry.event == "triggered" && r.entry.detail["kind"] == kind).count())
    }

    /// The next model call carries the map, and the plugin says so; once, whatever was killed in between.
    fn call_model(&self) -> Result<()> {
        let spool = Transcript::at(self.home.join("bridge/events.jsonl"));
        if spool.path().exists() {
            return Ok(());
        }
        let key = moon_actors::domain::Sha256::of(KEY.as_bytes());
        let block = std::fs::read(self.home.join(format!("bridge/slots/context/{key}.md"))).expect("the map in place");
        let event = json!({
            "v": 1, "id": uuid::Uuid::new_v4().to_string(), "ts": chrono::Utc::now().timestamp_millis(), "pid": 1,
            "hook": "injected", "sessionKey": KEY, "slot": "context", "sha256": moon_actors::domain::Sha256::of(&block),
        });
        spool.raw(format!("{}\n{event}\n", json!({"v": 1, "generation": 1})).as_bytes());
        Ok(())
    }
}

/// The scripted host.
struct Agent {
    reader: TranscriptsHost,
    bridge: Arc<dyn Bridge>,
    bell: OnceLock<Doorbell>,
    transcript: Transcript,
    /// One writer at a time: the script or an act of Moon's.
    writing: Mutex<()>,
}

impl Agent {
    fn new(root: &Path, settings: &Settings, bridge: Arc<dyn Bridge>) -> Self {
        let folder = root.join("transcripts");
        let transcript = Transcript::at(folder.join("work.jsonl"));
        if !transcript.path().exists() {
            transcript.begin();
        }
        let reader = TranscriptsHost::new(folder, settings);
        Self { reader, bridge, bell: OnceLock::new(), transcript, writing: Mutex::new(()) }
    }

    fn records(&self) -> Vec<Value> {
        let text = self.transcript.bytes();
        assert_eq!(text.last(), Some(&b'\n'), "a killed agent left half a record");
        let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("the agent's own record")).collect()
    }

    fn lines(&self) -> usize {
        self.transcript.bytes().iter().filter(|b| **b == b'\n').count()
    }

    /// Writes what is missing of the next exchange. False at the end.
    fn step(&self, exchanges: usize) -> bool {
        let _one = self.writing.lock().expect("nobody panicked");
        let written = self.records().iter().filter(|r| r["type"] == "message").count();
        let (number, answered) = (written / 2, written % 2 == 1);
        if number >= exchanges {
            return false;
        }
        if !answered {
            let text = text_of(number, "question");
            self.transcript.line(&message(number, "u", &json!({"role": "user", "content": text})));
        }
        let block = json!([{"type": "text", "text": text_of(number, "answer")}]);
        self.transcript.line(&message(
            number,
            "a",
            &json!({"role": "assistant", "content": block, "stopReason": "stop"}),
        ));
        self.ring();
        true
    }

    async fn share(&self) -> Result<f64> {
        let readings = self.reader.refresh().await?;
        Ok(readings.first().and_then(UsageReading::ratio).unwrap_or(0.0))
    }

    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }
}

/// What is said in an exchange; the seventh holds the fact that is asked for at the end.
pub fn text_of(number: usize, what: &str) -> String {
    let fact = if number == 6 && what == "answer" { "We decided that the heron gate opens at 04:17. " } else { "" };
    format!("{what} {number}: {fact}{}", super::process::filler(number, WORDS))
}

#[async_trait]
impl SessionHost for Agent {
    fn name(&self) -> &'static str {
        "scripted"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { push: true, compact: true, reset: true, inject: true }
    }
    fn describe(&self) -> String {
        "a scripted agent".into()
    }
    fn subscribe(&self, bell: Doorbell) {
        self.reader.subscribe(bell.clone());
        let _ = self.bell.set(bell);
    }
    async fn readings(&self) -> Result<Vec<UsageReading>> {
        self.reader.readings().await
    }
    async fn refresh(&self) -> Result<Vec<UsageReading>> {
        self.reader.refresh().await
    }
    async fn records(&self, session: &SessionRef, from: i64, max_bytes: usize) -> Result<Page> {
        self.reader.records(session, from, max_bytes).await
    }
    async fn compact(&self, session: &SessionRef) -> Result<Compacted> {
        let summary = self.bridge.placed(&session.key, Slot::Summary).await?;
        let summary =
            summary.ok_or_else(|| Error::data("host.compact_refused", "there is no summary in the bridge"))?;
        {
            let _one = self.writing.lock().expect("nobody panicked");
            let asked: Vec<Value> = self
                .records()
                .into_iter()
                .filter(|r| r["message"]["role"] == "user")
                .map(|r| r["id"].clone())
                .collect();
            let kept = &asked[asked.len().saturating_sub(KEPT)];
            self.transcript
                .line(&json!({"type": "compaction", "id": format!("c{:07x}", asked.len()), "parentId": null,
                "summary": summary, "firstKeptEntryId": kept, "tokensBefore": 0, "tokensAfter": 0, "fromHook": true}));
        }
        self.ring();
        Ok(Compacted::default())
    }
    async fn reset(&self, session: &SessionRef) -> Result<String> {
        {
            let _one = self.writing.lock().expect("nobody panicked");
            self.transcript.line(&json!({"type": "reset", "id": "r0000000", "parentId": null, "reason": "new"}));
        }
        self.ring();
        Ok(session.session_id.clone())
    }
}
