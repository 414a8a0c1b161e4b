//! OpenClaw as a [`SessionHost`].
//!
//! Here because the core knows one language for every host. Acts are checked against the newest state before they are asked
//! for, and an answer "ok" is believed only if its payload says so too. It must never repeat an act whose outcome is unknown.

use super::discovery::Discovered;
use super::frame::{Hello, Refusal, shorten};
use super::gateway::Gateway;
use super::link::{Failure, Link, Shared, blocking, still_connecting};
use super::listing::{ListPage, Listing, agents_beside, page_request};
use super::store::{SCHEMA_UNKNOWN, Store};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::domain::{Capabilities, Page, Record, SessionRef, SourceIdentity, UsageReading};
use moon_actors::port::{Compacted, Doorbell, SessionHost};
use moon_actors::settings::{self, Mode};
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// OpenClaw calls a session busy for up to 0.4 s after its run ended: asked again this often, this far apart.
const SETTLING: (u32, Duration) = (4, Duration::from_millis(200));
/// Messages asked for at once when the store cannot be read.
const RPC_MESSAGES: usize = 10_000;

/// A running connection to one OpenClaw. Dropping it closes the connection.
pub struct OpenClaw {
    settings: settings::OpenClaw,
    shared: Arc<Shared>,
    store: Store,
    inject: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for OpenClaw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OpenClaw {
    /// Starts connecting in the background and returns at once; must be called inside a Tokio runtime.
    ///
    /// `home` is Moon's home, where the device key lives (`state/openclaw-device.json`). In `observe` mode only
    /// `operator.read` is asked for, in `lead` mode `operator.write` and `operator.admin` too.
    pub fn connect(settings: &settings::OpenClaw, discovered: &Discovered, home: &Path) -> Self {
        for note in &discovered.notes {
            tracing::warn!("{note}");
        }
        let shared = Arc::new(Shared::new(discovered.url.clone(), settings.connect_timeout));
        let gateway = Gateway {
            settings: settings.clone(),
            config_path: discovered.config_path.clone(),
            home: home.to_owned(),
            shared: shared.clone(),
        };
        Self {
            settings: settings.clone(),
            shared,
            store: Store::new(discovered.state_dir.clone()),
            inject: Arc::default(),
            task: tokio::spawn(gateway.supervise()),
        }
    }

    /// Lets [`Capabilities::inject`] follow the bridge, which this adapter knows nothing about. Without it: always false.
    #[must_use]
    pub fn with_inject(mut self, alive: Arc<AtomicBool>) -> Self {
        self.inject = alive;
        self
    }

    /// The table's readings, with the generations that had to be looked up in the store.
    async fn table_readings(&self) -> Vec<UsageReading> {
        let due = self.shared.table().take_due_generations();
        if !due.is_empty() {
            let store = self.store.clone();
            let look = move || due.iter().map(|(agent, keys)| store.generations(agent, keys)).collect::<Vec<_>>();
            let found = blocking(look).await.unwrap_or_default();
            let mut table = self.shared.table();
            for (key, generation) in found.iter().flatten() {
                table.set_generation(key, generation);
            }
        }
        self.shared.table().readings()
    }

    async fn list(&self) -> Result<()> {
        let mut listing = Listing { agents: self.agents_with_shared_keys().await, ..Listing::default() };
        let mut offset = 0;
        loop {
            // The connection has found out what this gateway may be asked for.
            let params = page_request(self.shared.breadth(), listing.agent.as_deref(), offset);
            let answer = self.shared.call("sessions.list", params, self.settings.request_timeout).await;
            let payload = answer.map_err(|failure| failure.into_error("sessions.list"))?;
            let page = ListPage::take(payload).ok_or_else(|| {
                Error::unavailable("openclaw.answer_unknown", "cannot read OpenClaw's list of sessions")
                    .cause("the answer to sessions.list has no sessions")
                    .hint("this OpenClaw may be a version Moon does not know")
            })?;
            match listing.add(page) {
                Some(next) => offset = next,
                None => break,
            }
        }
        let listed_at = listing.listed_at.unwrap_or(i64::MAX);
        self.shared.table().replace_all(&listing.rows, listed_at, Utc::now());
        Ok(())
    }

    /// Agents whose sessions the list of all does not show. Without an answer there is still that list.
    async fn agents_with_shared_keys(&self) -> VecDeque<String> {
        match self.shared.settled().await {
            Link::Up { hello, .. } if hello.keys_are_shared => {
                let answer = self.shared.call("agents.list", json!({}), self.settings.request_timeout).await;
                answer.map(|answer| agents_beside(hello.default_agent.as_deref(), &answer)).unwrap_or_default()
            }
            _ => VecDeque::new(),
        }
    }

    /// Errors: `unavailable` `openclaw.observe_only`, `openclaw.too_old`, or whatever keeps the connection down.
    async fn may_act(&self, act: &str) -> Result<()> {
        if self.settings.mode == Mode::Lead {
            return match self.shared.settled().await {
                Link::Up { hello, .. } if reduces_safely(&hello) => Ok(()),
                Link::Up { hello, .. } => Err(too_old(act, &hello)),
                Link::Down(error) => Err(error),
                Link::Connecting => Err(still_connecting(&self.shared.url())),
            };
        }
        Err(Error::unavailable("openclaw.observe_only", format!("{act} is not Moon's to ask for"))
            .cause("openclaw.mode is \"observe\"")
            .hint("set openclaw.mode = \"lead\" in moon.toml to let Moon prune and roll over"))
    }

    /// The session's present reading, if its transcript is still the one that was asked for.
    fn present(&self, session: &SessionRef) -> Result<Option<UsageReading>> {
        let reading = self.shared.table().reading(&session.key).cloned();
        match reading {
            Some(reading) if reading.session.session_id != session.session_id => Err(changed(session)),
            reading => Ok(reading),
        }
    }

    /// Lets the readings show what an act did. The act stands whatever this brings; the next push or list repeats it.
    async fn look_again(&self) {
        if let Err(error) = self.list().await {
            tracing::debug!(%error, "no list after an act");
        }
    }

    async fn compact_once(&self, session: &SessionRef) -> Result<Compacted> {
        // Never with `maxLines`: that form cuts the transcript off without a backup.
        let params = self.shared.table().address(&session.key);
        match self.shared.call("sessions.compact", params, self.settings.compact_timeout).await {
            Ok(payload) => {
                let outcome = compacted(session, &payload);
                if outcome.is_ok() {
                    self.shared.table().mark_compacted(&session.key);
                }
                self.look_again().await;
                if outcome.is_ok() {
                    // Once more: the list may have brought the end of the run before the compaction.
                    self.shared.table().mark_compacted(&session.key);
                }
                outcome
            }
            Err(Failure::Refused(refusal)) => Err(refused_act("sessions.compact", session, &refusal)),
            Err(Failure::Failed(error)) => Err(error),
        }
    }

    /// What the gateway still shows of a transcript whose store Moon cannot read. Not byte-exact: messages are written
    /// anew in the store's shape, and nothing from before the last reset is among them.
    async fn records_by_rpc(&self, session: &SessionRef, from: i64, max_bytes: usize) -> Result<Page> {
        self.present(session)?;
        let mut params = self.shared.table().address(&session.key);
        params["limit"] = RPC_MESSAGES.into();
        let answer = self.shared.call("sessions.get", params, self.settings.request_timeout).await;
        let payload = answer.map_err(|failure| failure.into_error("sessions.get"))?;
        let messages = payload.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut all: Vec<_> = messages.iter().filter_map(record_of_message).filter(|r| r.seq >= from).collect();
        all.sort_by_key(|record| record.seq);
        all.dedup_by_key(|record| record.seq);
        let (records, more) = first_page(all, max_bytes);
        let source = SourceIdentity {
            kind: moon_actors::domain::OPENCLAW_RPC.into(),
            location: self.shared.url(),
            device: None,
            inode: None,
            schema: None,
            generation: None,
        };
        Ok(Page { records, more, source, torn_bytes: 0, revision: 0 })
    }
}

#[async_trait]
impl SessionHost for OpenClaw {
    fn name(&self) -> &'static str {
        "openclaw"
    }

    fn capabilities(&self) -> Capabilities {
        let inject = self.inject.load(Ordering::Relaxed);
        let Link::Up { hello, .. } = self.shared.link() else {
            return Capabilities { inject, ..Capabilities::default() };
        };
        let act = self.settings.mode == Mode::Lead && hello.grants("operator.admin") && reduces_safely(&hello);
        Capabilities { push: hello.can_subscribe, compact: act, reset: act, inject }
    }

    fn describe(&self) -> String {
        let url = self.shared.url();
        match self.shared.link() {
            Link::Connecting => format!("OpenClaw at {url}, connecting"),
            Link::Up { hello, .. } => {
                let (version, protocol, scopes) = (&hello.version, hello.protocol, hello.scopes.join(" "));
                format!("OpenClaw {version} at {url}, connected, protocol {protocol}, scopes {scopes}")
            }
            Link::Down(error) => match error.cause {
                Some(cause) => format!("OpenClaw at {url}, not connected: {cause}"),
                None => format!("OpenClaw at {url}, not connected"),
            },
        }
    }

    fn subscribe(&self, bell: Doorbell) {
        self.shared.install_bell(bell);
    }

    async fn readings(&self) -> Result<Vec<UsageReading>> {
        if !self.shared.table().is_loaded() {
            let link = self.shared.settled().await;
            if !self.shared.table().is_loaded() {
                return Err(never_connected(&self.shared.url(), link));
            }
        }
        Ok(self.table_readings().await)
    }

    async fn refresh(&self) -> Result<Vec<UsageReading>> {
        self.list().await?;
        Ok(self.table_readings().await)
    }

    async fn records(&self, session: &SessionRef, from: i64, max_bytes: usize) -> Result<Page> {
        let agent = self.shared.table().agent(&session.key).ok_or_else(|| agent_unknown(session))?;
        let (store, id) = (self.store.clone(), session.session_id.clone());
        match blocking(move || store.page(&agent, &id, from, max_bytes)).await? {
            Err(unknown) if unknown.code == SCHEMA_UNKNOWN => {
                let shown = self.records_by_rpc(session, from, max_bytes).await;
                shown.map_err(|error| Error { cause: Some(format!("{unknown}; {error}")), ..unknown })
            }
            page => page,
        }
    }

    async fn compact(&self, session: &SessionRef) -> Result<Compacted> {
        self.may_act("a compaction").await?;
        let (tries, pause) = SETTLING;
        for _ in 1..tries {
            let running = self.present(session)?.is_some_and(|reading| reading.running);
            match self.compact_once(session).await {
                // Refused, so nothing happened; unless a turn really runs, the refusal is the echo of the last one.
                Err(error) if error.code == "host.busy" && !running => tokio::time::sleep(pause).await,
                outcome => return outcome,
            }
        }
        self.compact_once(session).await
    }

    async fn reset(&self, session: &SessionRef) -> Result<String> {
        self.may_act("a reset").await?;
        // The gateway aborts a running turn for a reset, so the newest list decides; a turn that begins between the list
        // and the reset cannot be protected from here.
        self.list().await?;
        self.present(session)?.ok_or_else(|| changed(session))?;
        match self.shared.table().run_state(&session.key) {
            Some(false) => {}
            Some(true) => return Err(busy(session, "a turn is running")),
            None => return Err(busy(session, "OpenClaw does not say whether a turn is running")),
        }
        let mut params = self.shared.table().address(&session.key);
        params["reason"] = "new".into();
        params["expectedSessionId"] = session.session_id.as_str().into();
        match self.shared.call("sessions.reset", params, self.settings.request_timeout).await {
            Ok(payload) => {
                self.look_again().await;
                self.was_reset(session, &payload)
            }
            Err(Failure::Refused(refusal)) => Err(refused_act("sessions.reset", session, &refusal)),
            Err(Failure::Failed(error)) => Err(error),
        }
    }
}

impl OpenClaw {
    fn was_reset(&self, session: &SessionRef, payload: &Value) -> Result<String> {
        let id = payload.pointer("/entry/sessionId").and_then(Value::as_str);
        match id.filter(|_| payload["ok"] == true) {
            Some(id) => {
                if let Some(generation) = payload.pointer("/entry/lifecycleRevision").and_then(Value::as_str) {
                    self.shared.table().set_generation(&session.key, generation);
                }
                Ok(id.to_owned())
            }
            None => Err(Error::data("host.reset_refused", format!("OpenClaw did not reset {}", session.key))
                .cause(reason(payload))
                .hint("look at the session in OpenClaw; Moon's archive is complete")),
        }
    }
}

/// Before protocol 4, `sessions.compact` cuts the transcript off (and a reset cannot be told which transcript is meant):
/// such a gateway is watched and archived, never acted on.
fn reduces_safely(hello: &Hello) -> bool {
    hello.protocol >= 4 && hello.can_subscribe
}

fn too_old(act: &str, hello: &Hello) -> Error {
    Error::unavailable("openclaw.too_old", format!("{act} is not safe with this OpenClaw"))
        .cause(format!(
            "version {} speaks protocol {}, whose compaction destroys history",
            hello.version, hello.protocol
        ))
        .hint("update OpenClaw to 2026.8 or later; until then Moon watches and archives only")
}

/// Reads the payload of an accepted `sessions.compact`: accepted does not mean compacted.
fn compacted(session: &SessionRef, payload: &Value) -> Result<Compacted> {
    let number = |name: &str| payload.pointer(&format!("/result/{name}")).and_then(Value::as_u64);
    let (ok, done) = (payload["ok"] == true, payload["compacted"] == true);
    if ok && done {
        // What the gateway calls `tokensAfter` is its guess at the history alone, while `tokensBefore` counts the whole
        // prompt (seen on 2026.9.6: 4290 and 946, and 3746 with the next call): together they would make a compaction that
        // freed little look like a good one. The next run says what is left.
        return Ok(Compacted { tokens_before: number("tokensBefore"), tokens_after: None });
    }
    let reason = reason(payload);
    let message = format!("OpenClaw did not compact {}", session.key);
    // `ok` with nothing done is how the gateway says "no such session" and "no transcript"; the rest are known words.
    let lower = reason.to_lowercase();
    let nothing = ["already compacted", "nothing to compact", "no sessionid", "no transcript"];
    if (ok && !done) || nothing.iter().any(|words| lower.contains(words)) {
        return Err(Error::conflict("host.nothing_to_compact", message)
            .cause(reason)
            .hint("nothing is wrong; there was nothing to summarise"));
    }
    Err(Error::data("host.compact_refused", message)
        .cause(reason)
        .hint("OpenClaw's own safeguard refused the summary; if it repeats, a rollover is the way out"))
}

/// A refusal of an act: what is running, what changed, what is not allowed, in the port's words.
fn refused_act(method: &str, session: &SessionRef, refusal: &Refusal) -> Error {
    // The gateway has no code for these two, only words.
    if refusal.says("has an active run") || refusal.says("has queued work") {
        return busy(session, &refusal.summary());
    }
    if refusal.detail.as_deref() == Some("session-changed") || refusal.says("changed before") {
        return changed(session);
    }
    super::frame::refused(method, refusal)
}

fn busy(session: &SessionRef, cause: &str) -> Error {
    Error::transient("host.busy", format!("{} is busy", session.key)).cause(cause).hint("tried again after the turn")
}

fn changed(session: &SessionRef) -> Error {
    Error::conflict("host.changed", format!("{} has another transcript now", session.key))
        .cause("it was reset, deleted or replaced meanwhile")
        .hint("Moon looks at the session again")
}

fn agent_unknown(session: &SessionRef) -> Error {
    Error::unavailable("openclaw.agent_unknown", format!("cannot find the transcript of {}", session.key))
        .cause("its key names no agent, and OpenClaw has not said whose it is")
        .hint("tried again when OpenClaw lists the session; if it never does, it was deleted there")
}

fn reason(payload: &Value) -> String {
    payload["reason"].as_str().map_or_else(|| "it gave no reason".into(), shorten)
}

fn never_connected(url: &str, link: Link) -> Error {
    let error = still_connecting(url);
    let Link::Down(last) = link else { return error };
    let cause = match last.code == error.code {
        true => last.cause,
        false => Some(last.to_string()),
    };
    Error { cause, hint: last.hint, ..error }
}

/// A message of `sessions.get` in the shape of the store's rows. Its own bookkeeping (`__openclaw`) stays out: parts of it
/// change from call to call, and the same message must give the same bytes.
fn record_of_message(message: &Value) -> Option<Record> {
    let mut message = message.clone();
    let own = message.as_object_mut()?.shift_remove("__openclaw")?;
    let seq = own.pointer("/transcriptPosition/rawSeq").and_then(Value::as_i64)?;
    let at = message.get("timestamp").and_then(Value::as_i64).and_then(DateTime::from_timestamp_millis);
    let timestamp = at.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
    let row = json!({ "type": "message", "id": own.get("id"), "timestamp": timestamp, "message": message });
    Some(Record { seq, bytes: row.to_string().into_bytes() })
}

/// At least one record, then as many as fit; and whether some did not.
fn first_page(mut records: Vec<Record>, max_bytes: usize) -> (Vec<Record>, bool) {
    let mut bytes = 0_usize;
    let fits = records.iter().take_while(|record| {
        bytes = bytes.saturating_add(record.bytes.len());
        bytes <= max_bytes
    });
    let keep = fits.count().max(1);
    let more = records.len() > keep;
    records.truncate(keep);
    (records, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionRef {
        SessionRef { key: "agent:main:main".into(), session_id: "s1".into() }
    }
    fn code(payload: &Value) -> String {
        compacted(&session(), payload).expect_err("not compacted").code
    }

    #[test]
    fn an_accepted_compaction_counts_only_when_it_happened() {
        let done = json!({"ok": true, "compacted": true, "result": {"tokensBefore": 7584, "tokensAfter": 1205}});
        let counts = Compacted { tokens_before: Some(7584), tokens_after: None };
        assert_eq!(compacted(&session(), &done).expect("done"), counts);
        assert_eq!(code(&json!({"ok": true, "compacted": false, "reason": "no sessionId"})), "host.nothing_to_compact");
        assert_eq!(
            code(&json!({"ok": false, "compacted": false, "reason": "Already compacted"})),
            "host.nothing_to_compact"
        );
        let refused = "Compaction safeguard finalized summary failed quality checks.";
        assert_eq!(code(&json!({"ok": false, "compacted": false, "reason": refused})), "host.compact_refused");
        assert_eq!(code(&json!({})), "host.compact_refused");
    }

    #[test]
    fn a_shown_message_gives_the_same_bytes_whatever_the_gateway_adds() {
        let message = |source: &str| {
            json!({"role": "user", "content": "hi", "timestamp": 1_795_150_100_101_i64,
                "__openclaw": {"id": "m1", "transcriptPosition": {"source": source, "rawSeq": 14}, "seq": 1}})
        };
        let (one, two) = (record_of_message(&message("a")), record_of_message(&message("b")));
        assert_eq!(one, two);
        let record = one.expect("a record");
        let row: Value = serde_json::from_slice(&record.bytes).expect("JSON");
        assert_eq!((record.seq, row["id"].as_str(), row["message"]["content"].as_str()), (14, Some("m1"), Some("hi")));
        assert!(record_of_message(&json!({"role": "user"})).is_none());
    }

    #[test]
    fn a_page_of_shown_messages_holds_at_least_one() {
        let records = |n: i64| (0..n).map(|seq| Record { seq, bytes: vec![0; 10] }).collect::<Vec<_>>();
        assert_eq!((first_page(records(3), 5).0.len(), first_page(records(3), 25).0.len()), (1, 2));
        assert_eq!((first_page(records(3), 25).1, first_page(records(3), 30).1), (true, false));
        assert!(first_page(Vec::new(), 5).0.is_empty());
    }
}
