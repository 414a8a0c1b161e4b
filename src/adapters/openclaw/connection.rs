//! One greeted connection: subscribe, list, answer callers, take pushes, until it breaks.
//!
//! Separate from the attempts to connect because it lives by other rules: here everything is an event. It must never log a
//! payload, and never leave a caller waiting when it ends (dropping it answers them all).

use super::frame::{Frame, Hello, Refusal, refused, request};
use super::gateway::{Ended, Gateway, Socket, socket_error};
use super::link::Call;
use super::listing::{Breadth, ListPage, Listing, agents_beside, page_request};
use chrono::Utc;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

const PING_EVERY: Duration = Duration::from_secs(20);
/// The gateway ticks every 30 s and answers pings: this much silence means that nobody is there.
const SILENCE: Duration = Duration::from_secs(75);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Who waits for an answer.
enum Waiter {
    Caller(oneshot::Sender<Result<Value, Refusal>>),
    /// The answer to the subscription, with or without a first page.
    Subscription,
    /// Which agents there are to be listed.
    Agents,
    List,
}

/// A greeted connection.
pub(super) struct Connection<'a> {
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
    /// Milliseconds until a gateway that announced its restart is back.
    restart_in: Option<u64>,
    calls: (mpsc::Sender<Call>, mpsc::Receiver<Call>),
}

impl<'a> Connection<'a> {
    pub(super) fn new(socket: Socket, hello: Hello, gateway: &'a Gateway) -> Self {
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

    pub(super) async fn serve(mut self) -> Ended {
        let ended = self.exchange().await.expect_err("a connection only ends with a reason");
        if self.published {
            tracing::warn!(url = %self.gateway.shared.url(), error = %ended.error, "lost the connection to OpenClaw");
        }
        ended.paused(self.restart_in)
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
        // The gateway may be another one than before.
        self.gateway.shared.set_breadth(Breadth::default());
        self.gateway.shared.table().set_default_agent(self.hello.default_agent.clone());
        self.ask_first().await
    }

    async fn ask_first(&mut self) -> Result<(), Ended> {
        self.listing = Some(Listing::default());
        match self.hello.can_subscribe {
            true => {
                let params = page_request(self.gateway.shared.breadth(), None, 0);
                self.send("sessions.subscribe", &params, Waiter::Subscription).await
            }
            false => self.ask_list().await,
        }
    }

    /// Begins the list; where sessions of several agents have the same key, with the question which agents there are.
    async fn ask_list(&mut self) -> Result<(), Ended> {
        match self.hello.keys_are_shared {
            true => self.send("agents.list", &json!({}), Waiter::Agents).await,
            false => self.ask_page(0).await,
        }
    }

    async fn agents(&mut self, result: Result<Value, Refusal>) -> Result<(), Ended> {
        // Without an answer there is still the list of all.
        let agents =
            result.map(|answer| agents_beside(self.hello.default_agent.as_deref(), &answer)).unwrap_or_default();
        self.listing.get_or_insert_default().agents = agents;
        self.ask_page(0).await
    }

    async fn ask_page(&mut self, offset: usize) -> Result<(), Ended> {
        let agent = self.listing.as_ref().and_then(|listing| listing.agent.as_deref());
        let params = page_request(self.gateway.shared.breadth(), agent, offset);
        self.send("sessions.list", &params, Waiter::List).await
    }

    /// Gets the full list, once at a time.
    async fn relist(&mut self) -> Result<(), Ended> {
        if self.listing.is_some() {
            self.list_again = true;
            return Ok(());
        }
        self.listing = Some(Listing::default());
        self.ask_list().await
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
            Some(Waiter::Agents) => return self.agents(result).await,
            Some(Waiter::List) => return self.listed(result, false).await,
            // Some methods answer twice, and late answers outlive their callers.
            None => {}
        }
        Ok(())
    }

    async fn listed(&mut self, result: Result<Value, Refusal>, may_lack_list: bool) -> Result<(), Ended> {
        let payload = match result {
            Ok(payload) => payload,
            Err(refusal) => return self.list_refused(&refusal, may_lack_list).await,
        };
        let Some(page) = ListPage::take(payload).filter(|_| !(may_lack_list && self.hello.keys_are_shared)) else {
            return match may_lack_list {
                true => self.ask_list().await,
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
            tracing::info!(url = %self.gateway.shared.url(), version = %self.hello.version, "connected to OpenClaw");
            self.gateway.shared.set_up(self.hello.clone(), self.calls.0.clone());
        } else if changed {
            self.gateway.shared.ring();
        }
        match std::mem::take(&mut self.list_again) {
            true => self.relist().await,
            false => Ok(()),
        }
    }

    /// Asks for less what this release does not know how to list.
    async fn list_refused(&mut self, refusal: &Refusal, subscribing: bool) -> Result<(), Ended> {
        let Some(less) = self.gateway.shared.breadth().after(refusal) else {
            return Err(Ended::soon(refused("sessions.list", refusal)).paused(refusal.retry_after_ms));
        };
        tracing::debug!(refusal = refusal.summary(), "asking OpenClaw for a narrower list");
        self.gateway.shared.set_breadth(less);
        if subscribing {
            return self.ask_first().await;
        }
        self.listing = Some(Listing::default());
        self.ask_list().await
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
                self.restart_in = payload["restartExpectedMs"].as_u64();
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
        let compacted = payload["reason"] == "compact" && payload["compacted"] != false;
        let key = self.gateway.shared.table().key_of(payload, "sessionKey");
        let mut changed = match (payload.get("session").filter(|row| row.is_object()), &key) {
            (_, Some(key)) if deleted => self.gateway.shared.table().remove(key),
            (Some(row), _) => self.gateway.shared.table().apply(row, Utc::now()),
            // Something changed, but it does not say what.
            (None, _) => {
                self.relist().await?;
                false
            }
        };
        if let Some(key) = key.filter(|_| compacted) {
            changed |= self.gateway.shared.table().mark_compacted(&key);
        }
        if changed {
            self.gateway.shared.ring();
        }
        Ok(())
    }
}
