//! How Moon is asked and told: requests by socket or in-process, the same engine behind both.

pub mod actor;
mod backup;
pub mod engine;
pub mod status;

use crate::contract::{Report, Request};
use crate::supervisor::Address;
use std::time::Duration;
use tokio::sync::oneshot;

/// A request with the way back for its answer.
pub struct ControlMsg {
    pub request: Request,
    pub reply: oneshot::Sender<Report>,
}

/// What a transport hands requests to. Cheap to clone; answers even while the router is being restarted.
#[derive(Clone)]
pub struct Router {
    pub address: Address<ControlMsg>,
}

/// Longest wait for an answer: a snapshot of everything may take its time.
const ANSWER_WAIT: Duration = Duration::from_secs(600);

impl Router {
    pub async fn ask(&self, request: Request) -> Report {
        let (reply, answer) = oneshot::channel();
        let unavailable = || {
            let error = crate::Error::unavailable("control.down", "the control actor is restarting").hint("try again");
            Report::failed("ctl", error)
        };
        if !self.address.cast(ControlMsg { request, reply }) {
            return unavailable();
        }
        match tokio::time::timeout(ANSWER_WAIT, answer).await {
            Ok(Ok(report)) => report,
            _ => unavailable(),
        }
    }
}

/// Keeps a transport serving; dropping it ends it.
pub trait Serving: Send + Sync {
    /// Why it has ended by itself, if it has.
    fn ended(&self) -> Option<String>;
}

/// Accepts requests from outside and hands them to a router. Must not block: the shell owns the tasks.
pub trait Transport: Send + Sync {
    fn serve(&self, router: Router) -> crate::Result<Box<dyn Serving>>;
    /// Serves the web page, if the settings want one.
    fn serve_page(&self, _: Router) -> crate::Result<Option<Box<dyn Serving>>> {
        Ok(None)
    }
}
