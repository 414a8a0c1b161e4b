//! A scripted gateway, Moon's side of it, and a store to go with them.
//!
//! It answers like OpenClaw 2026.9.6 unless told otherwise, on a port of its own. It must never decide what a test expects.

use futures_util::{SinkExt, StreamExt};
use moon::adapters::openclaw::{Discovered, OpenClaw};
use moon_actors::domain::{SessionRef, UsageReading};
use moon_actors::port::SessionHost;
use moon_actors::settings::{self, Mode};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

pub(crate) const KEY: &str = "agent:main:main";
pub(crate) const TOKEN: &str = "shared-s3cret";
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a test tells the gateway to say unasked.
#[derive(Clone, Debug)]
pub(crate) enum Unasked {
    Text(String),
    Binary,
    Close(u16),
}

/// A gateway that answers by script.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

pub(crate) struct State {
    /// Method to answers; the last one is given again and again.
    answers: Mutex<HashMap<String, VecDeque<Value>>>,
    heard: Mutex<Vec<(String, Value)>>,
    connections: AtomicUsize,
    pub(crate) seq: AtomicUsize,
    unasked: broadcast::Sender<Unasked>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn ok(payload: &Value) -> Value {
    json!({ "ok": true, "payload": payload })
}
pub(crate) fn no(code: &str, message: &str, details: &Value) -> Value {
    json!({ "ok": false, "error": { "code": code, "message": message, "details": details } })
}

/// `hello-ok` as 2026.9.6 gives it, with the scopes that were asked for.
pub(crate) fn hello(scopes: &Value, device_token: Option<&str>) -> Value {
    let mut auth = json!({ "role": "operator", "scopes": scopes });
    if let Some(token) = device_token {
        auth["deviceToken"] = json!(token);
    }
    json!({ "type": "hello-ok", "protocol": 4, "server": { "version": "2026.9.6", "connId": "c" },
        "features": { "methods": ["sessions.list", "sessions.subscribe"], "events": [] }, "auth": auth,
        "policy": { "maxPayload": 26_214_400, "tickIntervalMs": 30_000 } })
}

pub(crate) fn row(at: i64, changes: &Value) -> Value {
    let mut row = json!({ "key": KEY, "sessionId": "ac63a3c9", "agentId": "main", "kind": "direct", "updatedAt": at,
        "lastInteractionAt": at, "snapshotAt": at, "status": "done", "hasActiveRun": false, "model": "mock-small",
        "inputTokens": 3685, "outputTokens": 400, "totalTokens": 3685, "totalTokensFresh": true, "contextTokens": 16000 });
    for (name, value) in changes.as_object().expect("an object") {
        row[name] = value.clone();
    }
    row
}

pub(crate) fn list(rows: &[Value]) -> Value {
    json!({ "ts": 1_795_150_000_000_i64, "count": rows.len(), "nextOffset": null, "hasMore": false, "sessions": rows })
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }
    /// On a port that was somebody's before.
    pub(crate) async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let url = format!("ws://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(State {
            answers: Mutex::default(),
            heard: Mutex::default(),
            connections: AtomicUsize::new(0),
            seq: AtomicUsize::new(0),
            unasked: broadcast::channel(64).0,
        });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                connections.spawn(async move { state.serve(stream).await });
            }
        });
        let fake = Self { url, state, task };
        fake.say("sessions.list", ok(&list(&[row(1_795_150_000_000, &json!({}))])));
        fake.say(
            "sessions.subscribe",
            ok(&json!({"subscribed": true, "list": list(&[row(1_795_150_000_000, &json!({}))])})),
        );
        fake
    }
    /// Replaces what is answered to a method.
    pub(crate) fn say(&self, method: &str, answer: Value) {
        self.state.answers.lock().expect("whole").insert(method.into(), VecDeque::from([answer]));
    }
    /// Puts an answer before those that are there.
    pub(crate) fn say_first(&self, method: &str, answer: Value) {
        self.state.answers.lock().expect("whole").entry(method.into()).or_default().push_front(answer);
    }
    pub(crate) fn push(&self, event: &str, payload: &Value) {
        let seq = self.state.seq.fetch_add(1, Ordering::SeqCst) + 1;
        self.raw(&json!({ "type": "event", "event": event, "payload": payload, "seq": seq }).to_string());
    }
    pub(crate) fn push_row(&self, row: &Value) {
        self.push("sessions.changed", &json!({ "sessionKey": KEY, "reason": "send", "session": row }));
    }
    pub(crate) fn raw(&self, text: &str) {
        self.unasked(Unasked::Text(text.into()));
    }
    pub(crate) fn unasked(&self, what: Unasked) {
        self.state.unasked.send(what).expect("somebody is connected");
    }
    pub(crate) fn heard(&self, method: &str) -> Vec<Value> {
        let heard = self.state.heard.lock().expect("whole");
        heard.iter().filter(|(name, _)| name == method).map(|(_, params)| params.clone()).collect()
    }
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl State {
    pub(crate) async fn serve(&self, stream: tokio::net::TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        self.seq.store(0, Ordering::SeqCst);
        let mut unasked = self.unasked.subscribe();
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        let challenge = json!({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n0nce", "ts": 1_795_150_000_000_i64}});
        let mut held: Vec<Value> = Vec::new();
        if socket.send(Message::text(challenge.to_string())).await.is_err() {
            return;
        }
        loop {
            let message = tokio::select! {
                message = socket.next() => message,
                Ok(what) = unasked.recv() => {
                    let message = match what {
                        Unasked::Text(text) => Message::text(text),
                        Unasked::Binary => Message::binary(vec![0_u8, 159, 146, 150]),
                        Unasked::Close(code) => {
                            Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: "service restart".into() }))
                        }
                    };
                    if socket.send(message).await.is_err() { return }
                    continue;
                }
            };
            let Some(Ok(message)) = message else { return };
            let Message::Text(text) = message else { continue };
            let request: Value = serde_json::from_str(&text).expect("the client speaks JSON");
            let answer = self.answer(&request);
            if answer["hold"] == true {
                held.push(answer);
                continue;
            }
            for answer in std::iter::once(answer).chain(held.drain(..)) {
                if socket.send(Message::text(answer.to_string())).await.is_err() {
                    return;
                }
            }
        }
    }

    pub(crate) fn answer(&self, request: &Value) -> Value {
        let method = request["method"].as_str().expect("a method");
        self.heard.lock().expect("whole").push((method.into(), request["params"].clone()));
        let mut answers = self.answers.lock().expect("whole");
        let scripted = answers.get_mut(method).and_then(|queue| match queue.len() {
            0 | 1 => queue.front().cloned(),
            _ => queue.pop_front(),
        });
        let mut answer = match (scripted, method) {
            (Some(answer), _) => answer,
            (None, "connect") => ok(&hello(&request["params"]["scopes"], None)),
            (None, _) => no("INVALID_REQUEST", "unknown method", &json!({})),
        };
        answer["type"] = json!("res");
        answer["id"] = request["id"].clone();
        answer
    }
}

/// Moon's side.
pub(crate) struct Client {
    pub(crate) host: OpenClaw,
    pub(crate) rings: Arc<AtomicUsize>,
    pub(crate) home: Arc<tempfile::TempDir>,
}

impl Client {
    pub(crate) fn connect(fake: &Fake, mode: Mode, pair_device: bool) -> Self {
        Self::connect_from(Arc::new(tempfile::tempdir().expect("a scratch folder")), &fake.url, mode, pair_device)
    }
    pub(crate) fn connect_from(home: Arc<tempfile::TempDir>, url: &str, mode: Mode, pair_device: bool) -> Self {
        let host = Self::host_of(home.path(), home.path(), url, mode, pair_device);
        let rings = Arc::new(AtomicUsize::new(0));
        let counter = rings.clone();
        host.subscribe(Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        }));
        Self { host, rings, home }
    }
    /// A connection with OpenClaw's state in `openclaw` below `state`, and Moon's own in `home`.
    pub(crate) fn host_of(state: &Path, home: &Path, url: &str, mode: Mode, pair_device: bool) -> OpenClaw {
        let token_file = home.join("token");
        std::fs::write(&token_file, TOKEN).expect("a token file");
        let settings = settings::OpenClaw {
            mode,
            pair_device,
            token_file: token_file.display().to_string(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            ..settings::OpenClaw::default()
        };
        let discovered = Discovered {
            state_dir: state.join("openclaw"),
            config_path: state.join("openclaw.json"),
            url: url.into(),
            token: None,
            notes: Vec::new(),
        };
        OpenClaw::connect(&settings, &discovered, home)
    }
    pub(crate) fn observe(fake: &Fake) -> Self {
        Self::connect(fake, Mode::Observe, false)
    }
    pub(crate) fn lead(fake: &Fake) -> Self {
        Self::connect(fake, Mode::Lead, false)
    }
    /// The only reading.
    pub(crate) async fn reading(&self) -> UsageReading {
        let mut readings = self.host.readings().await.expect("connected once");
        assert_eq!(readings.len(), 1, "{readings:?}");
        readings.remove(0)
    }
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&UsageReading) -> bool) -> UsageReading {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let readings = self.host.readings().await.expect("connected once");
            if let Some(reading) = readings.into_iter().find(|reading| is_so(reading)) {
                return reading;
            }
            assert!(Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    pub(crate) fn session(&self) -> SessionRef {
        SessionRef { key: KEY.into(), session_id: "ac63a3c9".into() }
    }
}

pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A store of agent `main` below `home`.
pub(crate) fn store(home: &Path, schema: &str) -> rusqlite::Connection {
    let folder = home.join("openclaw/agents/main/agent");
    std::fs::create_dir_all(&folder).expect("folders");
    let db = rusqlite::Connection::open(folder.join("openclaw-agent.sqlite")).expect("a database");
    db.execute_batch(&format!("PRAGMA journal_mode = WAL; {schema}")).expect("a schema");
    db
}
