//! The connection's task: connect, greet, hand over to [`Connection`], and begin again when it breaks.
//!
//! One WebSocket for everything, because a connection costs the gateway more than a call. It must never hammer a gateway
//! that refused Moon's credentials, never hold more than one frame of the gateway's own limit, and never log a payload.

use super::connection::Connection;
use super::device::Device;
use super::discovery::{self, Token};
use super::frame::{Frame, Greeting, Hello, Refusal, refused, request};
use super::link::{Shared, blocking};
use futures_util::{SinkExt, StreamExt};
use moon_actors::settings::{self, Mode};
use moon_actors::{Error, Result};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// `policy.maxPayload` of every release seen.
const LARGEST_FRAME: usize = 26_214_400;
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After a refusal that only a person (or a rotated token) can change.
const SLOW_PAUSE: Duration = Duration::from_secs(60);
/// A connection that lasted this long starts the pauses anew.
const PROVEN: Duration = Duration::from_secs(10);

pub(super) type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

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

/// The growing pauses between attempts.
struct Pauses(Duration);

impl Pauses {
    /// The pause after an attempt (with its connection, if there was one) that lasted this long.
    fn next(&mut self, pause: Pause, lasted: Duration) -> Duration {
        if lasted >= PROVEN {
            self.0 = SHORTEST_PAUSE;
        }
        match pause {
            Pause::Exactly(pause) => pause.clamp(Duration::from_millis(100), SLOW_PAUSE),
            Pause::Slow => SLOW_PAUSE,
            Pause::Growing => {
                let next = LONGEST_PAUSE.min(self.0 * 2);
                std::mem::replace(&mut self.0, next)
            }
        }
    }
}

/// Why an attempt or a connection ended.
pub(super) struct Ended {
    pub(super) error: Error,
    pause: Pause,
    /// Other credentials may be accepted.
    about_credentials: bool,
}

impl Ended {
    pub(super) fn soon(error: Error) -> Self {
        Self { error, pause: Pause::Growing, about_credentials: false }
    }
    /// With the gateway's own pause, if it named one.
    pub(super) fn paused(self, retry_after_ms: Option<u64>) -> Self {
        match retry_after_ms {
            Some(ms) => Self { pause: Pause::Exactly(Duration::from_millis(ms)), ..self },
            None => self,
        }
    }
    pub(super) fn slow(error: Error) -> Self {
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
            tracing::error!(url = %self.shared.url(), "the connection to OpenClaw panicked and is begun anew");
            self.shared.set_down(self.unreachable("the connection's task panicked"));
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
    }

    async fn run(self) {
        let mut pauses = Pauses(SHORTEST_PAUSE);
        loop {
            let began = Instant::now();
            let ended = self.attempt().await;
            tracing::debug!(url = %self.shared.url(), error = %ended.error, "not connected to OpenClaw");
            self.shared.set_down(ended.error);
            tokio::time::sleep(pauses.next(ended.pause, began.elapsed())).await;
        }
    }

    /// Connects with the first credentials that are accepted and serves that connection until it ends.
    async fn attempt(&self) -> Ended {
        self.follow().await;
        let credentials = match self.credentials().await {
            Ok(credentials) => credentials,
            // Nobody was asked, so nobody is hammered; the file may just be written.
            Err(error) => return Ended::soon(error),
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

    /// Goes where OpenClaw's configuration says that the gateway is now. One that cannot be read (it may just be written) says
    /// nothing new.
    async fn follow(&self) {
        let (settings, config_path) = (self.settings.clone(), self.config_path.clone());
        match blocking(move || discovery::current_url(&settings, &config_path)).await.and_then(|url| url) {
            Ok(Some(url)) => {
                if self.shared.set_url(url) {
                    tracing::info!(url = %self.shared.url(), "OpenClaw's gateway has another address now");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "cannot read again where OpenClaw's gateway is"),
        }
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
        let opened =
            tokio_tungstenite::connect_async_with_config(format!("{}/", self.shared.url()), Some(limits), true);
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

    pub(super) fn unreachable(&self, cause: impl std::fmt::Display) -> Error {
        Error::unavailable("openclaw.unreachable", format!("cannot reach OpenClaw's gateway at {}", self.shared.url()))
            .cause(cause)
            .hint("start it with `openclaw gateway`, or correct openclaw.url; Moon keeps trying")
    }

    fn lacks(&self, scopes: &[&str]) -> Error {
        Error::config(
            "openclaw.scope_missing",
            format!("OpenClaw at {} did not grant what Moon needs", self.shared.url()),
        )
        .cause(format!("missing {}", scopes.join(", ")))
        .hint("approve Moon's device (`openclaw devices list`), or set openclaw.token_file")
    }

    fn turned_away(&self, refusal: &Refusal) -> Ended {
        let url = self.shared.url();
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
        Ended::soon(refused("connect", refusal)).paused(refusal.retry_after_ms)
    }
}

/// The library's words without anything of the payload.
pub(super) fn socket_error(error: &WsError) -> String {
    match error {
        WsError::WriteBufferFull(_) => "the gateway does not read what is sent".into(),
        WsError::Capacity(_) => "the gateway sent a frame larger than its own limit".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_start_anew_after_a_connection_that_lasted() {
        let mut pauses = Pauses(SHORTEST_PAUSE);
        let grown: Vec<_> = (0..9).map(|_| pauses.next(Pause::Growing, Duration::ZERO).as_millis()).collect();
        assert_eq!(grown, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        assert_eq!(pauses.next(Pause::Growing, PROVEN), SHORTEST_PAUSE);
        assert_eq!(pauses.next(Pause::Slow, Duration::ZERO), SLOW_PAUSE);
    }

    #[test]
    fn the_gateways_own_pause_is_honoured_within_reason() {
        let mut pauses = Pauses(SHORTEST_PAUSE);
        let mut after = |ms| pauses.next(Pause::Exactly(Duration::from_millis(ms)), Duration::ZERO).as_millis();
        assert_eq!((after(1500), after(0), after(u64::MAX)), (1500, 100, 60_000));
    }
}
