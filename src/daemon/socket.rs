//! The control socket: HTTP over a Unix socket that only its owner can open, so that `curl --unix-socket` works.
//!
//! The socket is bound while the home's lock is held, in a 0700 folder under umask 0077; a leftover of a dead daemon is removed only
//! if it is a socket. Each connection's user is checked again by the kernel's credentials.

use crate::home::Home;
use axum::body::Bytes;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, serve};
use moon_actors::contract::{Report, Request, ctl::PROTOCOL};
use moon_actors::control::{Router, Serving, Transport};
use moon_actors::settings::Dashboard;
use moon_actors::{Error, Result};
use std::error::Error as _;
use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path as FsPath, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Largest request, bytes: the longest query with every character of it escaped, and some names.
const BODY_LIMIT: usize = 256 << 10;
/// Longest wait of a client for an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest silence after a knock: a daemon that was stopped in its tracks accepts connections and never says a word.
const KNOCK: Duration = Duration::from_secs(10);
/// The code of an error that says so.
pub const SILENT: &str = "control.silent";

/// Serves a home's socket.
pub struct SocketTransport {
    home: Home,
    dashboard: Dashboard,
}

impl SocketTransport {
    pub fn new(home: Home, dashboard: Dashboard) -> Self {
        Self { home, dashboard }
    }
}

impl Transport for SocketTransport {
    fn serve(&self, router: Router) -> Result<Box<dyn Serving>> {
        let path = self.home.prepare_socket_folder()?;
        remove_leftover(&path)?;
        let listener = UnixListener::bind(&path).map_err(|e| {
            Error::config("control.bind", format!("could not open the control socket {}", path.display())).cause(e)
        })?;
        // Under this process's umask it is its owner's alone from the start; a socket's right to be executed says nothing.
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(|e| {
            Error::config("control.bind", format!("could not set the rights of {}", path.display())).cause(e)
        })?;
        let app = app(router).into_make_service_with_connect_info::<Peer>();
        let task = tokio::spawn(async move { serve(listener, app).await.map_err(|e| e.to_string()) });
        Ok(Box::new(Socket { task, path }))
    }
    fn serve_page(&self, router: Router) -> Result<Option<Box<dyn Serving>>> {
        crate::screens::web::serve(&self.home, &self.dashboard, router)
    }
}

struct Socket {
    task: JoinHandle<std::result::Result<(), String>>,
    path: PathBuf,
}

impl Serving for Socket {
    fn ended(&self) -> Option<String> {
        if self.task.is_finished() {
            return Some("the server task ended".into());
        }
        (!self.path.exists()).then(|| "its file was removed".into())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn remove_leftover(path: &FsPath) -> Result<()> {
    let occupied = |what: &str| Error::config("control.bind", format!("{} is {what}", path.display()));
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)
            .map_err(|e| occupied("a socket of a dead daemon that cannot be removed").cause(e)),
        Ok(_) => Err(occupied("not a socket").hint("move it away")),
        Err(_) => Ok(()),
    }
}

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug)]
struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|c| c.uid()) }
    }
}

fn app(router: Router) -> axum::Router {
    axum::Router::new()
        .route("/v1/health", get(|| async { Json(serde_json::json!({ "ok": true, "protocol": PROTOCOL })) }))
        .route("/v1/status", get(|State(r): State<Router>| async move { answer(r.ask(Request::Status).await) }))
        .route("/v1/tree", get(|State(r): State<Router>| async move { answer(r.ask(Request::Tree).await) }))
        .route("/v1/restart/{actor}", post(restart))
        .route("/v1/stop", post(|State(r): State<Router>| async move { answer(r.ask(Request::Stop).await) }))
        .route("/v1/request", post(request))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(owner_only))
        .with_state(router)
}

async fn owner_only(ConnectInfo(peer): ConnectInfo<Peer>, request: HttpRequest, next: Next) -> Response {
    if peer.uid == Some(rustix::process::geteuid().as_raw()) {
        return next.run(request).await;
    }
    let error = Error::config("control.foreign_user", "the control socket answers its owner only");
    (StatusCode::FORBIDDEN, Json(Report::failed("ctl", error))).into_response()
}

async fn restart(State(router): State<Router>, Path(actor): Path<String>) -> Response {
    answer(router.ask(Request::Restart { actor }).await)
}

async fn request(State(router): State<Router>, body: std::result::Result<Bytes, BytesRejection>) -> Response {
    let refused = |status: StatusCode, cause: String, hint: String| {
        let error = Error::config("control.bad_request", "could not read the request").cause(cause).hint(hint);
        (status, Json(Report::failed("ctl", error))).into_response()
    };
    let body = match body {
        Ok(body) => body,
        Err(e) => return refused(e.status(), e.body_text(), format!("a request has at most {BODY_LIMIT} bytes")),
    };
    match serde_json::from_slice::<Request>(&body) {
        Ok(request) => answer(router.ask(request).await),
        Err(e) => {
            let hint = format!("this daemon speaks protocol {PROTOCOL}; use the moon of the same version");
            refused(StatusCode::BAD_REQUEST, e.to_string(), hint)
        }
    }
}

/// The report says how it went; the HTTP status only repeats it for scripts.
fn answer(report: Report) -> Response {
    let status = match &report.error {
        None => StatusCode::OK,
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, Json(report)).into_response()
}

/// The report in an answer. Anything else is not from a moon that this one understands.
async fn read(response: reqwest::Response, patience: Duration) -> Result<Report> {
    let status = response.status();
    let body = response.bytes().await.map_err(|e| unanswered(&e, patience))?;
    serde_json::from_slice(&body).map_err(|e| {
        Error::transient("control.io", format!("the daemon's answer (HTTP {status}) is no report"))
            .cause(e)
            .hint("is the daemon of another version? restart it with the moon that you call now")
    })
}

/// What became of a daemon that took a request and gave no whole answer.
fn unanswered(e: &reqwest::Error, patience: Duration) -> Error {
    if e.is_timeout() {
        return Error::transient("control.io", "the moon daemon has not answered")
            .cause(format!("no answer within {}", humantime::format_duration(patience)))
            .hint("see `moon logs`");
    }
    // What reqwest says itself is about a URL that is nobody's; the reason stands at the bottom.
    let reason = std::iter::successors(e.source(), |e| (*e).source()).last();
    Error::transient("control.io", "the moon daemon ended before it answered")
        .cause(reason.map_or_else(|| e.to_string(), ToString::to_string))
        .hint("what was asked may have been done: look with `moon status`, and `moon start` if it does not run again")
}

/// Asks the daemon of a home. `None` when nobody listens. An answer may take as long as a backup does, but not a sign of life:
/// without one it is [`SILENT`], and nothing was asked.
pub async fn ask(home: &Home, request: &Request) -> Result<Option<Report>> {
    match tokio::time::timeout(KNOCK, exchange(home)).await {
        Ok(Ok(None)) => Ok(None),
        Ok(_) => ask_within(home, request, CLIENT_TIMEOUT).await,
        Err(_) => Err(Error::transient(SILENT, "the moon daemon does not answer")
            .cause(format!("not a word within {}", humantime::format_duration(KNOCK)))
            .hint("`moon restart --force` ends one that hangs")),
    }
}

/// The same with less patience, for screens.
pub async fn ask_within(home: &Home, request: &Request, patience: Duration) -> Result<Option<Report>> {
    for path in home.socket_candidates() {
        if !path.exists() {
            continue;
        }
        let client = reqwest::Client::builder()
            .unix_socket(path)
            // No TLS on this wire: a machine without certificates of authorities can be talked to all the same.
            .tls_certs_only([])
            .timeout(patience)
            .no_proxy()
            .build()
            .map_err(|e| {
                Error::transient("control.io", "could not talk to the moon daemon").cause(e).hint("see `moon logs`")
            })?;
        match client.post("http://moon/v1/request").json(request).send().await {
            Ok(response) => return read(response, patience).await.map(Some),
            Err(e) if e.is_connect() => {}
            Err(e) => return Err(unanswered(&e, patience)),
        }
    }
    Ok(None)
}

/// Longest answer to a ping that is read, bytes.
const PONG_LIMIT: u64 = 64 << 10;

/// Whether the daemon of a home answers a ping by then; a daemon that was stopped in its tracks accepts connections and never does.
/// False when nobody listens. Spoken by hand: the daemon asks itself this for ever, and a whole HTTP client with TLS costs it
/// megabytes.
pub async fn ping(home: &Home, limit: Duration) -> Result<bool> {
    let silent = |cause: String| {
        Error::transient("control.io", "no answer from the daemon").cause(cause).hint("see `moon logs`")
    };
    let waited = || silent(format!("none within {}", humantime::format_duration(limit)));
    let pong = tokio::time::timeout(limit, exchange(home)).await.map_err(|_| waited())?;
    let Some(pong) = pong.map_err(|e| silent(e.to_string()))? else { return Ok(false) };
    let (head, body) = pong.split_once("\r\n\r\n").unwrap_or((&pong, ""));
    match head.split(' ').nth(1) {
        // 400: a daemon of another version, which does not know the question and is alive.
        Some("200" | "400") => Ok(true),
        Some("422") => {
            let error = serde_json::from_str::<Report>(body).ok().and_then(|report| report.error);
            Err(error.unwrap_or_else(|| silent("an error without words".into())))
        }
        _ => Err(silent("what came is no answer of a moon".into())),
    }
}

async fn exchange(home: &Home) -> std::io::Result<Option<String>> {
    for path in home.socket_candidates() {
        let Ok(mut stream) = UnixStream::connect(&path).await else { continue };
        let body = serde_json::to_string(&Request::Ping).map_err(std::io::Error::other)?;
        let head = "POST /v1/request HTTP/1.1\r\nHost: moon\r\nContent-Type: application/json\r\nConnection: close\r\n";
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(PONG_LIMIT).read_to_end(&mut answer).await?;
        return Ok(Some(String::from_utf8_lossy(&answer).into_owned()));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_hangs_is_told_and_not_waited_for() {
        let scratch = tempfile::tempdir().expect("a folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
        assert!(ask(&home, &Request::Status).await.expect("nobody listens").is_none());
        // It takes connections, as a stopped process's system does, and says nothing.
        let _listener = std::os::unix::net::UnixListener::bind(home.socket_path()).expect("a socket");
        let error = ask(&home, &Request::Status).await.expect_err("not a word");
        assert_eq!(error.code, SILENT);
        assert!(error.hint.is_some_and(|hint| hint.contains("moon restart --force")));
    }

    #[tokio::test]
    async fn a_daemon_that_dies_under_its_client_is_said_to_have_ended() {
        use std::io::{Read as _, Write as _};
        let scratch = tempfile::tempdir().expect("a folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
        let listener = std::os::unix::net::UnixListener::bind(home.socket_path()).expect("a socket");
        // It answers the knock, takes the request, and is gone.
        let daemon = std::thread::spawn(move || {
            let (mut knock, _) = listener.accept().expect("a knock");
            assert_ne!(knock.read(&mut [0; 4096]).expect("read"), 0);
            knock.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("answered");
            drop(knock);
            let (mut request, _) = listener.accept().expect("a request");
            assert_ne!(request.read(&mut [0; 4096]).expect("read"), 0);
        });
        let error = ask(&home, &Request::Status).await.expect_err("no answer");
        daemon.join().expect("ended");
        assert_eq!(
            (error.code.as_ref(), error.message.as_str()),
            ("control.io", "the moon daemon ended before it answered")
        );
        assert!(!error.to_string().contains("http://") && error.hint.is_some_and(|hint| hint.contains("moon status")));
    }
}
