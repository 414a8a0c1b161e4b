//! The agent of `moon demo`: it owns a transcript and obeys, but there is no model in it.
//!
//! It writes the conversation exchange by exchange into a scratch folder, as OpenClaw would, and lets Moon reduce its
//! context by the same two records a real host writes. Reading goes through [`TranscriptsHost`], the same code as for
//! foreign transcripts. It must never write anywhere but into its own transcript, and never take a record back.

#[cfg(test)]
mod tests;

use super::conversation::{Exchange, Part, conversation};
use crate::adapters::transcripts::{KEY_PREFIX, TranscriptsHost};
use crate::durable;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::domain::{Capabilities, Page, SessionKey, SessionRef, Sha256, UsageReading};
use moon_actors::port::{Bridge, Compacted, Doorbell, SessionHost, Slot};
use moon_actors::settings::Settings;
use moon_actors::usage::estimate;
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Name of the one session, and of its file.
const SESSION: &str = "library-move";
const MODEL: &str = "demo-model";
/// A compaction keeps the newest entries up to this share of the window, word for word.
const KEPT_SHARE: f64 = 0.15;

/// A host with one session that plays a written conversation.
pub struct DemoAgent {
    reader: TranscriptsHost,
    bridge: Arc<dyn Bridge>,
    bell: OnceLock<Doorbell>,
    session: SessionRef,
    path: PathBuf,
    window_tokens: u64,
    state: Mutex<State>,
}

struct State {
    file: File,
    script: std::vec::IntoIter<Exchange>,
    /// Exchanges written so far.
    played: usize,
    /// Records written so far, for their ids.
    records: u64,
    parent: Option<String>,
    at: DateTime<Utc>,
    /// What of the transcript the next model call carries.
    active: Vec<Entry>,
}

struct Entry {
    id: String,
    role: &'static str,
    text: String,
}

/// What a model call would carry, and which texts of Moon's are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// In the order the model would read them.
    pub texts: Vec<String>,
    pub injected: Vec<(Slot, Sha256)>,
}

impl Request {
    /// Whether any of its texts holds `needle`.
    pub fn holds(&self, needle: &str) -> bool {
        self.texts.iter().any(|text| text.contains(needle))
    }
}

impl DemoAgent {
    /// Makes `folder` (0700) and a new transcript in it (0600). The window is `settings.watch.window_tokens`.
    /// Errors: `conflict` `demo.exists` when the folder holds a transcript already, `transient` `demo.io`.
    pub fn new(folder: &Path, settings: &Settings, bridge: Arc<dyn Bridge>) -> Result<Self> {
        let path = folder.join(format!("{SESSION}.jsonl"));
        durable::create_folder(folder).map_err(|e| failed(folder, &e))?;
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path).map_err(|e| {
            if e.kind() == std::io::ErrorKind::AlreadyExists { exists(&path) } else { failed(&path, &e) }
        })?;
        let script = conversation();
        let at = script.first().map_or(DateTime::UNIX_EPOCH, |e| e.at);
        let script = script.into_iter();
        let mut state = State { file, script, played: 0, records: 0, parent: None, at, active: Vec::new() };
        let opening = json!({"type": "session", "version": 4, "id": SESSION, "timestamp": at, "cwd": "/srv/library"});
        state.write(&path, &opening)?;
        Ok(Self {
            reader: TranscriptsHost::new(folder.to_owned(), settings),
            bridge,
            bell: OnceLock::new(),
            session: SessionRef { key: SessionKey(format!("{KEY_PREFIX}{SESSION}")), session_id: SESSION.into() },
            path,
            window_tokens: settings.watch.window_tokens,
            state: Mutex::new(state),
        })
    }

    /// The one session.
    pub fn session(&self) -> SessionRef {
        self.session.clone()
    }

    /// The transcript it writes.
    pub fn transcript(&self) -> &Path {
        &self.path
    }

    /// Exchanges written and exchanges still to come.
    pub fn progress(&self) -> (usize, usize) {
        let state = self.lock();
        (state.played, state.script.len())
    }

    /// Records written so far.
    pub fn records_written(&self) -> i64 {
        i64::try_from(self.lock().records).unwrap_or(i64::MAX)
    }

    /// Writes the next `count` exchanges. Returns how many there were; 0 at the end of the conversation.
    pub fn play(&self, count: usize) -> Result<usize> {
        let mut written = 0;
        {
            let mut state = self.lock();
            while written < count {
                let Some(exchange) = state.script.next() else { break };
                state.append_exchange(&self.path, &exchange)?;
                written += 1;
            }
        }
        self.ring();
        Ok(written)
    }

    /// Writes one more question of a person, as the end of the demo asks it.
    pub fn ask(&self, question: &str) -> Result<()> {
        let mut state = self.lock();
        state.at += chrono::TimeDelta::minutes(5);
        state.append_message(&self.path, "user", json!({"role": "user", "content": question}), question.into())?;
        drop(state);
        self.ring();
        Ok(())
    }

    /// The texts of the model call that would be made now. A recalled passage is in one call only: it is taken away.
    pub async fn next_request(&self) -> Result<Vec<String>> {
        Ok(self.next_call().await?.texts)
    }

    /// Like [`Self::next_request`], and says what of Moon's is in it.
    pub async fn next_call(&self) -> Result<Request> {
        let mut request = Request::default();
        for slot in [Slot::Context, Slot::Passage] {
            if let Some(text) = self.bridge.placed(&self.session.key, slot).await? {
                request.injected.push((slot, Sha256::of(text.as_bytes())));
                request.texts.push(text);
            }
        }
        request.texts.extend(self.lock().active.iter().map(|entry| format!("{}: {}", entry.role, entry.text)));
        if request.injected.iter().any(|(slot, _)| *slot == Slot::Passage) {
            self.bridge.clear(&self.session.key, Slot::Passage).await?;
        }
        Ok(request)
    }

    fn check(&self, session: &SessionRef) -> Result<()> {
        if *session == self.session {
            return Ok(());
        }
        Err(Error::conflict("host.changed", format!("the demo agent has no session {:?}", session.session_id)))
    }

    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Appends one record as one write, so that a reader never sees two halves of different records.
    fn write(&mut self, path: &Path, record: &Value) -> Result<()> {
        let line = format!("{record}\n");
        self.file.write_all(line.as_bytes()).map_err(|e| failed(path, &e))?;
        self.records += 1;
        Ok(())
    }

    /// Appends an entry of the conversation's tree; returns its id.
    fn append(&mut self, path: &Path, kind: &str, fields: Value) -> Result<String> {
        // Looks random, repeats only after 2^32 records.
        let id = format!("{:08x}", (self.records as u32).wrapping_mul(0x9e37_79b1));
        let mut record = json!({"type": kind, "id": id, "parentId": self.parent, "timestamp": self.at});
        if let (Some(record), Value::Object(fields)) = (record.as_object_mut(), fields) {
            record.extend(fields);
        }
        self.write(path, &record)?;
        self.parent = Some(id.clone());
        Ok(id)
    }

    fn append_message(&mut self, path: &Path, role: &'static str, message: Value, text: String) -> Result<()> {
        let id = self.append(path, "message", json!({"message": message}))?;
        self.active.push(Entry { id, role, text });
        Ok(())
    }

    fn append_exchange(&mut self, path: &Path, exchange: &Exchange) -> Result<()> {
        self.at = exchange.at;
        for part in &exchange.parts {
            match part {
                Part::User { user, text } => {
                    let text = format!("[{user}] {text}");
                    self.append_message(path, "user", json!({"role": "user", "content": text}), text.clone())?;
                }
                Part::Assistant { assistant } => {
                    let block = json!([{"type": "text", "text": assistant}]);
                    self.append_message(path, "assistant", said(block, "stop"), assistant.clone())?;
                }
                Part::Tool { call, arguments, result, failed } => {
                    self.append_tool(path, call, arguments, (result, *failed))?;
                }
            }
            self.at += chrono::TimeDelta::seconds(20);
        }
        self.played += 1;
        Ok(())
    }

    fn append_tool(&mut self, path: &Path, tool: &str, arguments: &Value, result: (&str, bool)) -> Result<()> {
        let call_id = format!("call_{}", self.records);
        let block = json!([{"type": "toolCall", "id": call_id, "name": tool, "arguments": arguments}]);
        self.append_message(path, "assistant", said(block, "toolUse"), format!("{tool} {arguments}"))?;
        let (text, is_error) = result;
        let content = json!([{"type": "text", "text": text}]);
        let message = json!({"role": "toolResult", "toolCallId": call_id, "toolName": tool, "content": content,
            "isError": is_error});
        self.append_message(path, "toolResult", message, text.to_owned())
    }

    fn tokens(&self) -> u64 {
        self.active.iter().map(|e| estimate::tokens(&e.text)).sum()
    }

    /// Where the kept tail begins: at something a person said, so that no tool result loses its call.
    fn tail(&self, budget: u64) -> Option<usize> {
        let mut left = budget;
        let mut start = None;
        for (at, entry) in self.active.iter().enumerate().rev() {
            let tokens = estimate::tokens(&entry.text);
            if tokens > left {
                break;
            }
            left -= tokens;
            if entry.role == "user" {
                start = Some(at);
            }
        }
        // Not even the last exchange fits: it stays all the same.
        start.or_else(|| self.active.iter().rposition(|e| e.role == "user"))
    }
}

#[async_trait]
impl SessionHost for DemoAgent {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { push: true, compact: true, reset: true, inject: true }
    }

    fn describe(&self) -> String {
        let (played, left) = self.progress();
        format!("demo agent, {played} of {} exchanges played", played + left)
    }

    fn subscribe(&self, bell: Doorbell) {
        self.reader.subscribe(bell.clone());
        // Where files cannot be watched the agent still rings by itself.
        let _ = self.bell.set(bell);
    }

    async fn readings(&self) -> Result<Vec<UsageReading>> {
        self.refresh().await
    }

    /// What the transcript says, plus the block that every model call carries.
    async fn refresh(&self) -> Result<Vec<UsageReading>> {
        let block = self.bridge.placed(&self.session.key, Slot::Context).await?;
        let block = block.as_deref().map_or(0, estimate::tokens);
        let mut readings = self.reader.refresh().await?;
        for reading in &mut readings {
            reading.used_tokens = reading.used_tokens.map(|tokens| tokens + block);
            reading.provider = self.name().into();
        }
        Ok(readings)
    }

    async fn records(&self, session: &SessionRef, from: i64, max_bytes: usize) -> Result<Page> {
        self.reader.records(session, from, max_bytes).await
    }

    async fn compact(&self, session: &SessionRef) -> Result<Compacted> {
        self.check(session)?;
        let summary = self.bridge.placed(&session.key, Slot::Summary).await?.ok_or_else(|| {
            Error::data("host.compact_refused", "the demo agent was asked to compact without a summary")
                .hint("place the text of the summary into the bridge first")
        })?;
        let compacted = {
            let mut state = self.lock();
            let before = state.tokens();
            let kept = state.tail((self.window_tokens as f64 * KEPT_SHARE) as u64);
            let Some(kept) = kept.filter(|kept| *kept > 0) else {
                return Err(Error::conflict("host.nothing_to_compact", "the demo agent has nothing to compact"));
            };
            let after = estimate::tokens(&summary)
                + state.active[kept..].iter().map(|e| estimate::tokens(&e.text)).sum::<u64>();
            let fields = json!({"summary": summary, "firstKeptEntryId": state.active[kept].id, "tokensBefore": before,
                "tokensAfter": after, "details": {"readFiles": [], "modifiedFiles": []}, "fromHook": true});
            let id = state.append(&self.path, "compaction", fields)?;
            state.active.splice(..kept, [Entry { id, role: "summary", text: summary }]);
            Compacted { tokens_before: Some(before), tokens_after: Some(after) }
        };
        self.ring();
        Ok(compacted)
    }

    async fn reset(&self, session: &SessionRef) -> Result<String> {
        self.check(session)?;
        {
            let mut state = self.lock();
            state.append(&self.path, "reset", json!({"reason": "new"}))?;
            state.active.clear();
        }
        self.ring();
        Ok(self.session.session_id.clone())
    }
}

fn said(content: Value, stop: &str) -> Value {
    json!({"role": "assistant", "content": content, "provider": "demo", "model": MODEL, "stopReason": stop})
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::transient("demo.io", format!("the demo agent cannot write {}", path.display())).cause(error)
}

fn exists(path: &Path) -> Error {
    Error::conflict("demo.exists", format!("{} is there already", path.display()))
        .hint("give the demo an empty folder; it never continues or overwrites a transcript")
}
