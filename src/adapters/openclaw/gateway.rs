//! The connection's task: connect, greet, subscribe, listen, and begin again when it breaks.
//!
//! One WebSocket for everything, because a connection costs the gateway more than a call. It must never hammer a gateway
//! that refused Moon's credentials, never hold more than one frame of the gateway's own limit, and never log a payload.

use super::device::Device;
use super::discovery::{self, Token};
use super::frame::{Frame, Greeting, Hello, Refusal, refused, request};
use super::link::{Call, Shared, blocking};
use super::usage::MOST_SESSIONS;
use chrono::Utc;
use futures_util::{SinkExt, StreamExt};
use moon_actors::settings::{self, Mode};
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// `policy.maxPayload` of every release seen.
const LARGEST_FRAME: usize = 26_214_400;
/// Rows asked for at once.
const PAGE: usize = 200;
const PING_EVERY: Duration = Duration::from_secs(20);
/// The gateway ticks every 30 s and answers pings: this much silence means that nobody is there.
const SILENCE: Duration = Duration::from_secs(75);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After a refusal that only a person (or a rotated token) can change.
const SLOW_PAUSE: Duration = Duration::from_secs(60);
/// A connection that lasted this long starts the pauses anew.
const PROVEN: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// What the task needs to connect, again and again.
#[derive(Clone)]
pub(super) struct Gateway {
    pub(super) settings: settings::OpenClaw,
    pub(super) config_path: PathBuf,
    pub(super) home: PathBuf,
    pub(super) shared: Arc<Shared>,
}

/// How long to wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pause {
    Growing,
    Exactly(Duration),
    Slow,
}

/// Why an attempt or a connection ended.
struct Ended {
    error: Error,
    pause: Pause,
    /// Other credentials may be accepted.
    about_credentials: bool,
}

impl Ended {
    fn soon(error: Error) -> Self {
        Self { error, pause: Pause::Growing, about_credentials: false }
    }
    fn slow(error: Error) -> Self {
        Self { error, pause: Pause::Slow, about_credentials: false }
    }
}

const READ: &[&str] = &["operator.read"];
const LEAD: &[&str] = &["operator.read", "operator.write", "operator.admin"];

/// One way to be let in: a token, whether Moon's device signs, and what is asked for.
struct Credential {
    token: Option<Token>,
    device: Option<Device>,
    scopes: &'static [&'static str],
}

impl Gateway {
    /// Keeps the connection's task alive for ever; ends, with the task, when it is aborted.
    pub(super) async fn supervise(self) {
        loop {
            let mut task = tokio::task::JoinSet::new();
            task.spawn(self.clone().run());
            // `run` never returns, so this is a panic: a bug that must not leave old figures looking fresh.
            task.join_next().await;
            tracing::error!(url = %self.shared.url, "the connection to OpenClaw panicked and is begun anew");
            self.shared.set_down(self.unreachable("the connection's task panicked"));
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
    }

    async fn run(self) {
        let mut growing = SHORTEST_PAUSE;
        loop {
            let began = Instant::now();
            let ended = self.attempt().await;
            tracing::debug!(url = %self.shared.url, error = %ended.error, "not connected to OpenClaw");
            self.shared.set_down(ended.error);
            if began.elapsed() >= PROVEN {
                growing = SHORTEST_PAUSE;
            }
            let pause = match ended.pause {
                Pause::Exactly(pause) => pause.clamp(Duration::from_millis(100), SLOW_PAUSE),
                Pause::Slow => SLOW_PAUSE,
                Pause::Growing => {
                    let pause = growing;
                    growing = (growing * 2).min(LONGEST_PAUSE);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Connects with the first credentials that are accepted and serves that connection until it ends.
    async fn attempt(&self) -> Ended {
        let credentials = match self.credentials().await {
            Ok(credentials) => credentials,
            Err(error) => return Ended::slow(error),
        };
        let mut last = Ended::slow(self.unreachable("no credentials to try"));
        for credential in credentials {
            match self.open(&credential).await {
                Ok((socket, hello)) => {
                    self.remember(credential.device, &hello).await;
                    return Connection::new(socket, hello, self).serve().await;
                }
                Err(ended) if ended.about_credentials => last = ended,
                Err(ended) => return ended,
            }
        }
        last
    }

    /// The device's own token first, then the shared one with and without the device, and last, so that watching and
    /// archiving go on when Moon may not lead any more, the device's token with read access only.
    async fn credentials(&self) -> Result<Vec<Credential>> {
        let this = self.clone();
        let (device, shared) = blocking(move || {
            let device = this.settings.pair_device.then(|| Device::load_or_create(&this.home)).and_then(|device| {
                device.inspect_err(|error| tracing::warn!(%error, "connecting without a device of Moon's own")).ok()
            });
            (device, discovery::current_token(&this.settings, &this.config_path))
        })
        .await?;
        let scopes = match self.settings.mode {
            Mode::Observe => READ,
            Mode::Lead => LEAD,
        };
        let own = device.as_ref().and_then(Device::token).cloned();
        let mut credentials = Vec::new();
        if own.is_some() {
            credentials.push(Credential { token: own.clone(), device: device.clone(), scopes });
        }
        match shared {
            Ok(token) => {
                if device.is_some() {
                    credentials.push(Credential { token: token.clone(), device: device.clone(), scopes });
                }
                credentials.push(Credential { token, device: None, scopes });
            }
            // Paired: the configuration need not be readable any more.
            Err(error) if own.is_none() => return Err(error),
            Err(_) => {}
        }
        if own.is_some() && scopes != READ {
            credentials.push(Credential { token: own, device, scopes: READ });
        }
        Ok(credentials)
    }

    /// Opens a socket and exchanges the greeting, all within the connect timeout.
    async fn open(&self, credential: &Credential) -> Result<(Socket, Hello), Ended> {
        let exchange = self.greet(credential);
        match timeout(self.settings.connect_timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Ended::soon(self.unreachable("no greeting within openclaw.connect_timeout"))),
        }
    }

    async fn greet(&self, credential: &Credential) -> Result<(Socket, Hello), Ended> {
        let limits =
            WebSocketConfig::default().max_message_size(Some(LARGEST_FRAME)).max_frame_size(Some(LARGEST_FRAME));
        let opened = tokio_tungstenite::connect_async_with_config(format!("{}/", self.shared.url), Some(limits), true);
        let (mut socket, _) = opened.await.map_err(|e| Ended::soon(self.unreachable(socket_error(&e))))?;
        let challenge = self.challenge(&mut socket).await?;
        let greeting = Greeting {
            scopes: credential.scopes,
            token: credential.token.as_ref(),
            device: credential.device.as_ref(),
            challenge: &challenge,
        };
        let text = request("connect", "connect", &greeting.params());
        socket.send(Message::text(text)).await.map_err(|e| Ended::soon(self.unreachable(socket_error(&e))))?;
        let hello = loop {
            match self.frame(&mut socket).await? {
                Some(Frame::Response { id, result }) if id == "connect" => {
                    break Hello::parse(&result.map_err(|refusal| self.turned_away(&refusal))?);
                }
                _ => {}
            }
        };
        let lacking: Vec<_> = credential.scopes.iter().filter(|scope| !hello.grants(scope)).copied().collect();
        if hello.grants("operator.read") && (lacking.is_empty() || credential.device.is_none()) {
            return Ok((socket, hello));
        }
        Err(Ended { about_credentials: true, ..Ended::slow(self.lacks(&lacking)) })
    }

    async fn challenge(&self, socket: &mut Socket) -> Result<Value, Ended> {
        loop {
            match self.frame(socket).await? {
                Some(Frame::Event { name, payload, .. }) if name == "connect.challenge" => return Ok(payload),
                _ => {}
            }
        }
    }

    /// The next text frame; `None` for one that is not understood.
    async fn frame(&self, socket: &mut Socket) -> Result<Option<Frame>, Ended> {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => Ok(Frame::parse(&text)),
            Some(Ok(Message::Close(_))) | None => {
                Err(Ended::soon(self.unreachable("the gateway closed the connection")))
            }
            Some(Ok(_)) => Ok(None),
            Some(Err(e)) => Err(Ended::soon(self.unreachable(socket_error(&e)))),
        }
    }

    /// Keeps the token the gateway gave Moon's device. Without it the shared token still works, so a failure only warns.
    async fn remember(&self, device: Option<Device>, hello: &Hello) {
        let (Some(mut device), Some(token)) = (device, hello.device_token.clone()) else { return };
        let saved = blocking(move || device.set_token(Some(token))).await;
        if let Err(error) = saved.and_then(|saved| saved) {
            tracing::warn!(%error, "cannot keep the device token");
        }
    }

    fn unreachable(&self, cause: impl std::fmt::Display) -> Error {
        Error::unavailable("openclaw.unreachable", format!("cannot reach OpenClaw's gateway at {}", self.shared.url))
            .cause(cause)
            .hint("start it with `openclaw gateway`, or correct openclaw.url; Moon keeps trying")
    }

    fn lacks(&self, scopes: &[&str]) -> Error {
        Error::config(
            "openclaw.scope_missing",
            format!("OpenClaw at {} did not grant what Moon needs", self.shared.url),
        )
        .cause(format!("missing {}", scopes.join(", ")))
        .hint("approve Moon's device (`openclaw devices list`), or set openclaw.token_file")
    }

    fn turned_away(&self, refusal: &Refusal) -> Ended {
        let url = &self.shared.url;
        if refusal.is_about_protocol() {
            let asks = refusal.expected_protocol.map_or("another".into(), |version| version.to_string());
            return Ended::slow(
                Error::unavailable("openclaw.protocol_mismatch", format!("cannot talk to OpenClaw at {url}"))
                    .cause(format!("it speaks protocol {asks}, Moon speaks 3 and 4"))
                    .hint("update Moon, or use an OpenClaw release it knows"),
            );
        }
        if refusal.is_about_credentials() {
            let error = Error::config("openclaw.auth_failed", format!("OpenClaw at {url} refused Moon's credentials"))
                .cause(refusal.detail.as_deref().unwrap_or(&refusal.code))
                .hint("set openclaw.token_file or $OPENCLAW_GATEWAY_TOKEN to the gateway's present token");
            return Ended { about_credentials: true, ..Ended::slow(error) };
        }
        match refusal.retry_after_ms {
            Some(ms) => {
                Ended { pause: Pause::Exactly(Duration::from_millis(ms)), ..Ended::soon(refused("connect", refusal)) }
            }
            None => Ended::soon(refused("connect", refusal)),
        }
    }
}

/// The library's words without anything of the payload.
fn socket_error(error: &WsError) -> String {
    match error {
        WsError::WriteBufferFull(_) => "the gateway does not read what is sent".into(),
        WsError::Capacity(_) => "the gateway sent a frame larger than its own limit".into(),
        other => other.to_string(),
    }
}

/// Parameters of `sessions.list`; the first page goes without the offset that old releases do not know.
pub(super) fn page_request(offset: usize) -> Value {
    match offset {
        0 => json!({ "limit": PAGE }),
        _ => json!({ "limit": PAGE, "offset": offset }),
    }
}

/// One page of `sessions.list` (or of the list inside a `sessions.subscribe` answer).
pub(super) struct ListPage {
    pub(super) rows: Vec<Value>,
    pub(super) listed_at: i64,
    pub(super) next: Option<usize>,
}

impl ListPage {
    /// `None` when the answer carries no list.
    pub(super) fn take(mut payload: Value) -> Option<Self> {
        let mut list = match payload.get_mut("list") {
            Some(list) => list.take(),
            None => payload,
        };
        let listed_at = list.get("ts").and_then(Value::as_i64).unwrap_or(i64::MAX);
        let has_more = list.get("hasMore").and_then(Value::as_bool).unwrap_or(false);
        let next = list.get("nextOffset").and_then(Value::as_u64).filter(|_| has_more);
        let Value::Array(rows) = list.get_mut("sessions")?.take() else { return None };
        Some(Self { rows, listed_at, next: next.and_then(|n| usize::try_from(n).ok()) })
    }
}

/// Pages gathered so far.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) rows: Vec<Value>,
    /// The time of the first page: what was seen later than that is kept.
    pub(super) listed_at: Option<i64>,
}

impl Listing {
    /// Takes a page; the offset of the next one, if it should be asked for.
    pub(super) fn add(&mut self, page: ListPage) -> Option<usize> {
        let progress = !page.rows.is_empty();
        self.rows.extend(page.rows);
        self.listed_at.get_or_insert(page.listed_at);
        page.next.filter(|_| progress && self.rows.len() < MOST_SESSIONS)
    }
}

/// Who waits for an answer.
enum Waiter {
    Caller(oneshot::Sender<Result<Value, Refusal>>),
    /// The answer to the subscription, with or without a first page.
    Subscription,
    List,
}

/// A greeted connection.
struct Connection<'a> {
    socket: Socket,
    gateway: &'a Gateway,
    hello: Arc<Hello>,
    waiting: HashMap<String, Waiter>,
    next_id: u64,
    last_seq: Option<u64>,
    listing: Option<Listing>,
    /// Something changed while a list was on its way.
    list_again: bool,
    published: bool,
    heard: Instant,
    restart_in: Option<Duration>,
    calls: (mpsc::Sender<Call>, mpsc::Receiver<Call>),
}

impl<'a> Connection<'a> {
    fn new(socket: Socket, hello: Hello, gateway: &'a Gateway) -> Self {
        Self {
            socket,
            gateway,
            hello: Arc::new(hello),
            waiting: HashMap::new(),
            next_id: 0,
            last_seq: None,
            listing: None,
            list_again: false,
            published: false,
            heard: Instant::now(),
            restart_in: None,
            calls: mpsc::channel(64),
        }
    }

    async fn serve(mut self) -> Ended {
        let ended = self.exchange().await.expect_err("a connection only ends with a reason");
        if self.published {
            tracing::warn!(url = %self.gateway.shared.url, error = %ended.error, "lost the connection to OpenClaw");
        }
        match self.restart_in {
            Some(pause) => Ended { pause: Pause::Exactly(pause), ..ended },
            None => ended,
        }
    }

    async fn exchange(&mut self) -> Result<std::convert::Infallible, Ended> {
        let began = Instant::now();
        let mut ping = tokio::time::interval_at(began + PING_EVERY, PING_EVERY);
        let primed_by = tokio::time::sleep(self.gateway.settings.request_timeout);
        tokio::pin!(primed_by);
        self.begin().await?;
        loop {
            tokio::select! {
                frame = self.socket.next() => self.heard(frame).await?,
                Some(call) = self.calls.1.recv() => {
                    self.send(call.method, &call.params, Waiter::Caller(call.answer)).await?;
                }
                _ = ping.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        return Err(self.broken("the gateway has been silent for too long"));
                    }
                    self.write(Message::Ping(Vec::new().into())).await?;
                }
                () = &mut primed_by, if !self.published => {
                    return Err(self.broken("no list of sessions within openclaw.request_timeout"));
                }
            }
        }
    }

    /// Asks for the pushes and the first list.
    async fn begin(&mut self) -> Result<(), Ended> {
        self.listing = Some(Listing::default());
        match self.hello.can_subscribe {
            true => self.send("sessions.subscribe", &json!({ "limit": PAGE }), Waiter::Subscription).await,
            false => self.ask_page(0).await,
        }
    }

    async fn ask_page(&mut self, offset: usize) -> Result<(), Ended> {
        self.send("sessions.list", &page_request(offset), Waiter::List).await
    }

    /// Gets the full list, once at a time.
    async fn relist(&mut self) -> Result<(), Ended> {
        if self.listing.is_some() {
            self.list_again = true;
            return Ok(());
        }
        self.listing = Some(Listing::default());
        self.ask_page(0).await
    }

    async fn send(&mut self, method: &str, params: &Value, waiter: Waiter) -> Result<(), Ended> {
        if self.waiting.len() > 64 {
            // Callers whose deadline passed do not come back.
            self.waiting.retain(|_, waiter| !matches!(waiter, Waiter::Caller(answer) if answer.is_closed()));
        }
        self.next_id += 1;
        let id = self.next_id.to_string();
        let text = request(&id, method, params);
        self.waiting.insert(id, waiter);
        self.write(Message::text(text)).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Ended> {
        match timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.broken(socket_error(&e))),
            Err(_) => Err(self.broken("the gateway does not read what is sent")),
        }
    }

    fn broken(&self, cause: impl std::fmt::Display) -> Ended {
        Ended::soon(self.gateway.unreachable(cause))
    }

    async fn heard(&mut self, message: Option<Result<Message, WsError>>) -> Result<(), Ended> {
        self.heard = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => match Frame::parse(&text) {
                Some(Frame::Response { id, result }) => self.answered(&id, result).await,
                Some(Frame::Event { name, payload, seq }) => self.happened(&name, &payload, seq).await,
                None => {
                    tracing::debug!(bytes = text.len(), "a frame from OpenClaw that is not understood");
                    Ok(())
                }
            },
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map_or(1005, |frame| u16::from(frame.code));
                Err(self.broken(format!("the gateway closed the connection with code {code}")))
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(e)) => Err(self.broken(socket_error(&e))),
            None => Err(self.broken("the connection ended")),
        }
    }

    async fn answered(&mut self, id: &str, result: Result<Value, Refusal>) -> Result<(), Ended> {
        match self.waiting.remove(id) {
            // A caller that stopped waiting is no error.
            Some(Waiter::Caller(answer)) => drop(answer.send(result)),
            Some(Waiter::Subscription) => return self.listed(result, true).await,
            Some(Waiter::List) => return self.listed(result, false).await,
            // Some methods answer twice, and late answers outlive their callers.
            None => {}
        }
        Ok(())
    }

    async fn listed(&mut self, result: Result<Value, Refusal>, may_lack_list: bool) -> Result<(), Ended> {
        let payload = result.map_err(|refusal| {
            let ended = Ended::soon(refused("sessions.list", &refusal));
            match refusal.retry_after_ms {
                Some(ms) => Ended { pause: Pause::Exactly(Duration::from_millis(ms)), ..ended },
                None => ended,
            }
        })?;
        let Some(page) = ListPage::take(payload) else {
            return match may_lack_list {
                true => self.ask_page(0).await,
                false => {
                    Err(Ended::slow(self.gateway.unreachable("its list of sessions is in a form Moon does not know")))
                }
            };
        };
        let listing = self.listing.get_or_insert_default();
        if let Some(offset) = listing.add(page) {
            return self.ask_page(offset).await;
        }
        let listing = self.listing.take().unwrap_or_default();
        let listed_at = listing.listed_at.unwrap_or(i64::MAX);
        let changed = self.gateway.shared.table().replace_all(&listing.rows, listed_at, Utc::now());
        if !self.published {
            self.published = true;
            tracing::info!(url = %self.gateway.shared.url, version = %self.hello.version, "connected to OpenClaw");
            self.gateway.shared.set_up(self.hello.clone(), self.calls.0.clone());
        } else if changed {
            self.gateway.shared.ring();
        }
        match std::mem::take(&mut self.list_again) {
            true => self.relist().await,
            false => Ok(()),
        }
    }

    async fn happened(&mut self, name: &str, payload: &Value, seq: Option<u64>) -> Result<(), Ended> {
        let missed = matches!((self.last_seq, seq), (Some(last), Some(now)) if now > last + 1);
        self.last_seq = seq.or(self.last_seq);
        match name {
            "sessions.changed" => self.changed(payload).await?,
            "session.message" if payload["session"].is_object() => self.changed(payload).await?,
            // Releases without subscriptions tell every operator when a run begins and ends.
            "agent" if !self.hello.can_subscribe && payload["stream"] == "lifecycle" => self.relist().await?,
            "shutdown" => {
                self.restart_in = payload["restartExpectedMs"].as_u64().map(Duration::from_millis);
            }
            _ => {}
        }
        match missed {
            true => self.relist().await,
            false => Ok(()),
        }
    }

    async fn changed(&mut self, payload: &Value) -> Result<(), Ended> {
        let deleted = payload["reason"] == "delete";
        let changed = match (payload.get("session").filter(|row| row.is_object()), payload["sessionKey"].as_str()) {
            (_, Some(key)) if deleted => self.gateway.shared.table().remove(key),
            (Some(row), _) => self.gateway.shared.table().apply(row, Utc::now()),
            // Something changed, but it does not say what.
            (None, _) => return self.relist().await,
        };
        if changed {
            self.gateway.shared.ring();
        }
        Ok(())
    }
}
