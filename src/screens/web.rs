//! The web page: read-only, on loopback, behind a token, live by server-sent events.
//!
//! What a browser brings along is not trusted: the Host header must name this machine (a rebound DNS name does not), nothing but GET
//! and HEAD is answered, no other origin is ever let in, and the token leaves the address at the first visit for a cookie that no
//! script can read. While nobody looks, nothing is worked out. Clients are bounded, and one that does not read is dropped.

mod connection;
mod feed;
mod guard;

use super::{metrics, page, page::Pages};
use crate::home::Home;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use connection::Limited;
use feed::Feed;
pub use guard::token;
use moon_actors::contract::Request;
use moon_actors::control::{Router, Serving};
use moon_actors::settings::Dashboard;
use moon_actors::{Error, Result};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Longest wait for the document.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the page may do: show itself, with the style and the script that lie beside it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Site {
    router: Router,
    pages: Pages,
    feed: Feed,
}

/// Serves the page until it is dropped; `None` when no address is set.
pub fn serve(home: &Home, settings: &Dashboard, router: Router) -> Result<Option<Box<dyn Serving>>> {
    let Some(address) = settings.address() else { return Ok(None) };
    let failed = |e: std::io::Error| {
        Error::unavailable("dashboard.bind", format!("could not serve the page on {address}"))
            .cause(e)
            .hint("another program may listen there: set dashboard.listen to another port")
    };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let gate = Arc::new(guard::Gate::new(token(home)?, bound, settings.exposed));
    let url_file = home.dashboard_url();
    crate::durable::replace(&url_file, url(bound).as_bytes()).map_err(failed)?;
    let site = Arc::new(Site { router, pages: Pages::new()?, feed: Feed::default() });
    let app = app(site, gate);
    let task = tokio::spawn(async move {
        axum::serve(Limited::new(listener), app.into_make_service()).await.map_err(|e| e.to_string())
    });
    tracing::info!(address = %bound, "the page is served; `moon dashboard web` says how to open it");
    Ok(Some(Box::new(Server { task, url_file })))
}

/// Where the page is, without its token. What listens everywhere is reached here, too.
fn url(bound: SocketAddr) -> String {
    let port = bound.port();
    match bound {
        _ if bound.ip().is_unspecified() => format!("http://127.0.0.1:{port}/"),
        bound => format!("http://{bound}/"),
    }
}

struct Server {
    task: JoinHandle<std::result::Result<(), String>>,
    url_file: PathBuf,
}

impl Serving for Server {
    fn ended(&self) -> Option<String> {
        self.task.is_finished().then(|| "the server task ended".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.url_file);
    }
}

fn app(site: Arc<Site>, gate: Arc<guard::Gate>) -> axum::Router {
    axum::Router::new()
        .route("/", get(whole))
        .route("/events", get(events))
        .route("/status.json", get(document))
        .route("/metrics", get(exposition))
        .route("/page.css", get(|| async { typed("text/css; charset=utf-8", page::STYLE) }))
        .route("/page.js", get(|| async { typed("text/javascript; charset=utf-8", page::SCRIPT) }))
        .layer(middleware::from_fn_with_state(gate, guard::guard))
        .layer(middleware::map_response(sealed))
        .with_state(site)
}

/// Every answer, also a refusal, carries the policy.
async fn sealed(mut response: Response) -> Response {
    let headers: [(header::HeaderName, &'static str); 7] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn typed(kind: &'static str, body: impl Into<String>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body.into()).into_response()
}

fn unavailable(error: &Error) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    (StatusCode::SERVICE_UNAVAILABLE, headers, format!("{error}\n")).into_response()
}

impl Site {
    async fn document(&self) -> Result<Value> {
        let busy = || Error::unavailable("control.down", "the daemon did not answer in time").hint("try again");
        let asked = tokio::time::timeout(PATIENCE, self.router.ask(Request::Status)).await;
        let report = asked.map_err(|_| busy())?;
        report.error.map_or(Ok(report.data), Err)
    }
}

async fn whole(State(site): State<Arc<Site>>) -> Response {
    match site.document().await.and_then(|document| site.pages.served(&document)) {
        Ok(html) => typed("text/html; charset=utf-8", html),
        Err(error) => unavailable(&error),
    }
}

async fn document(State(site): State<Arc<Site>>) -> Response {
    match site.document().await {
        Ok(document) => typed("application/json", document.to_string()),
        Err(error) => unavailable(&error),
    }
}

async fn exposition(State(site): State<Arc<Site>>) -> Response {
    match site.document().await {
        Ok(document) => typed("text/plain; version=0.0.4; charset=utf-8", metrics::text(&document)),
        Err(error) => unavailable(&error),
    }
}

async fn events(State(site): State<Arc<Site>>) -> Response {
    Feed::join(&site).map_or_else(
        || unavailable(&Error::transient("dashboard.crowded", "too many browsers look at this page already")),
        IntoResponse::into_response,
    )
}
