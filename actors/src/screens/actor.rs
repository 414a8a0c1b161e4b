//! The two actors of the screens: `pages` beats once a minute and writes the files that are wanted, `web` keeps the page served.
//!
//! Without a page and without files a minute costs one row of the ledger. What is shown is the status document that everybody
//! else gets, asked for in the same way.

use crate::contract::Request;
use crate::control::{Router, Serving, status};
use crate::port::{AlertKey, Severity};
use crate::supervisor::{StartFn, child};
use crate::wiring::Wiring;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
/// Longest wait for the document: the files are written again in a minute.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a served page is looked at, and an address that was taken is tried again.
const CHECK: Duration = Duration::from_secs(15);

pub struct PagesActor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagesMsg {
    Beat,
}

/// How the tree starts the pages.
pub fn pages(wiring: &Wiring) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.pages.clone(), move || (PagesActor, wiring.clone()))
}

impl Actor for PagesActor {
    type Msg = PagesMsg;
    type State = Wiring;
    type Arguments = Wiring;

    async fn pre_start(&self, _: ActorRef<PagesMsg>, wiring: Wiring) -> Result<Wiring, ActorProcessingErr> {
        Ok(wiring)
    }
    async fn post_start(&self, myself: ActorRef<PagesMsg>, _: &mut Wiring) -> Result<(), ActorProcessingErr> {
        myself.send_interval(MINUTE, || PagesMsg::Beat);
        Ok(myself.cast(PagesMsg::Beat)?)
    }
    async fn handle(&self, _: ActorRef<PagesMsg>, _: PagesMsg, wiring: &mut Wiring) -> Result<(), ActorProcessingErr> {
        if let Err(error) = beat(wiring).await {
            tracing::warn!(code = error.code, "{error}");
        }
        Ok(())
    }
    /// The last word of a page is that nobody writes it any more.
    async fn post_stop(&self, _: ActorRef<PagesMsg>, wiring: &mut Wiring) -> Result<(), ActorProcessingErr> {
        let projector = &wiring.ports.projector;
        if projector.has_screens() {
            let mut document = status::document(&wiring.ports, &wiring.settings).await?;
            document["liveness"] = serde_json::json!({
                "state": "stopped", "said": "the daemon was stopped in order", "since": wiring.ports.clock.now(),
            });
            projector.show(&document).await?;
        }
        Ok(())
    }
}

async fn beat(wiring: &Wiring) -> crate::Result<()> {
    let ports = &wiring.ports;
    let (total, not_ok) = status::checks(&status::health(ports).await);
    ports.ledger.beat(total, not_ok).await?;
    ports.projector.note_checks(total - not_ok, total);
    if !ports.projector.has_screens() {
        return Ok(());
    }
    let router = Router { address: wiring.mail.control.clone() };
    let document = match tokio::time::timeout(PATIENCE, router.ask(Request::Status)).await {
        Ok(report) if report.error.is_none() => report.data,
        // The router starts after this actor, and may hang: what the ledger says is better than an old page.
        _ => {
            let mut document = status::document(ports, &wiring.settings).await?;
            status::say_alive(&mut document);
            document
        }
    };
    let key = AlertKey::new("dashboard.unwritable", "files");
    match ports.projector.show(&document).await {
        Ok(()) => ports.ledger.resolve(&key).await.map(drop),
        Err(error) => {
            let message = error.to_string();
            ports.ledger.raise(&key, Severity::Warning, &message, error.hint.as_deref()).await?;
            wiring.mail.alert.cast(crate::alert::AlertMsg::Ring);
            Ok(())
        }
    }
}

pub struct WebActor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebMsg {
    Look,
}

pub struct WebState {
    wiring: Wiring,
    serving: Option<Box<dyn Serving>>,
}

/// How the tree starts the web page.
pub fn web(wiring: &Wiring) -> StartFn {
    let wiring = wiring.clone();
    child(wiring.mail.web.clone(), move || (WebActor, wiring.clone()))
}

impl Actor for WebActor {
    type Msg = WebMsg;
    type State = WebState;
    type Arguments = Wiring;

    async fn pre_start(&self, _: ActorRef<WebMsg>, wiring: Wiring) -> Result<WebState, ActorProcessingErr> {
        Ok(WebState { wiring, serving: None })
    }
    async fn post_start(&self, myself: ActorRef<WebMsg>, _: &mut WebState) -> Result<(), ActorProcessingErr> {
        Ok(myself.cast(WebMsg::Look)?)
    }
    async fn handle(
        &self,
        myself: ActorRef<WebMsg>,
        _: WebMsg,
        state: &mut WebState,
    ) -> Result<(), ActorProcessingErr> {
        // A page that nobody wants costs nothing from here on.
        if state.look().await? {
            myself.send_after(CHECK, || WebMsg::Look);
        }
        Ok(())
    }
    /// Not left to the drop of the state: ractor keeps that until the supervisor ends.
    async fn post_stop(&self, _: ActorRef<WebMsg>, state: &mut WebState) -> Result<(), ActorProcessingErr> {
        state.serving = None;
        Ok(())
    }
}

impl WebState {
    /// True when there is something to look at again. An address that is taken is weather: it is told and tried again.
    async fn look(&mut self) -> crate::Result<bool> {
        if self.serving.as_ref().is_some_and(|serving| serving.ended().is_none()) {
            return Ok(true);
        }
        self.serving = None;
        let router = Router { address: self.wiring.mail.control.clone() };
        let (ledger, key) = (&self.wiring.ports.ledger, AlertKey::new("dashboard.unavailable", "web"));
        match self.wiring.transport.serve_page(router) {
            Ok(serving) => {
                self.serving = serving;
                ledger.resolve(&key).await?;
                Ok(self.serving.is_some())
            }
            Err(error) => {
                ledger.raise(&key, Severity::Warning, &error.to_string(), error.hint.as_deref()).await?;
                self.wiring.mail.alert.cast(crate::alert::AlertMsg::Ring);
                Ok(true)
            }
        }
    }
}
