//! Webhooks and Alertmanager: receivers with every fault, addresses in every disguise, the real Alertmanager.

use super::*;
use moon_actors::error::Kind;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HTTP: &str = "allow_http = true\nallow_private = true\ntimeout = \"2s\"";

/// One request as it came.
#[derive(Clone, Debug)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// What a receiver does.
#[derive(Clone)]
enum Does {
    /// Answers these words.
    Says(String),
    /// Answers this and then bytes without end.
    Floods(&'static str),
    /// Answers one byte at a time, slowly.
    Drips,
    Hangs,
    Resets,
}

struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Does one after another; the last one for ever.
    async fn start(mut does: Vec<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let requests = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let now = if does.len() > 1 { does.remove(0) } else { does[0].clone() };
                tokio::spawn(answer(stream, now, Arc::clone(&requests)));
            }
        });
        Self { port, seen }
    }
    async fn saying(answer: &str) -> Self {
        Self::start(vec![Does::Says(answer.into())]).await
    }
    fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("one user").clone()
    }
    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

async fn answer(mut stream: TcpStream, does: Does, seen: Arc<Mutex<Vec<Request>>>) {
    let Some(request) = read(&mut stream).await else { return };
    seen.lock().expect("one user").push(request);
    match does {
        Does::Says(words) => drop(stream.write_all(words.as_bytes()).await),
        Does::Floods(head) => {
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
        }
        Does::Drips => {
            for byte in "HTTP/1.1 200 OK\r\n".bytes().cycle() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
        Does::Hangs => std::future::pending().await,
        Does::Resets => {}
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.ok().filter(|length| *length > 0)?;
        bytes.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.lines();
        let line = lines.next()?.to_owned();
        let headers: BTreeMap<String, String> =
            lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
        let length: usize = headers.get("content-length")?.parse().ok()?;
        if body.len() >= length {
            let body = body.to_owned();
            return Some(Request { line, headers, body });
        }
    }
}

fn says(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_webhook_gets_signed_json_that_others_can_check() {
    let scene = Scene::new();
    let server = Server::saying(&says("204 No Content", "")).await;
    let key = data_encoding::BASE64.encode(b"a key of thirty-two bytes, or so");
    let secret = scene.secret("secret", &format!("whsec_{key}\n"));
    let headers = scene.secret("headers", "Authorization: Bearer canary-token-1\nX-Room: ops\n");
    let (url, route) = (server.url("/hook"), |url: &str| {
        scene.route(&format!(
            "kind = \"webhook\"\nurl = {url:?}\nsecret_file = {secret:?}\nheaders_file = {headers:?}\n{HTTP}"
        ))
    });
    let route = route(&url);
    for notice in [firing(5), firing(5), resolved(5), Notice::Escalation(alert(5)), digest()] {
        route.deliver(&notice).await.expect("taken");
    }
    let seen = server.seen();
    assert_eq!(seen[0].line, "POST /hook HTTP/1.1");
    assert_eq!(seen[0].headers["authorization"], "Bearer canary-token-1");
    assert_eq!(seen[0].headers["content-type"], "application/json");
    let ids: Vec<&str> = seen.iter().map(|request| request.headers["webhook-id"].as_str()).collect();
    assert_eq!(ids[..3], ["alert-5-firing.1790000000", "alert-5-firing.1790000000", "alert-5-resolved.1790000000"]);
    assert!(seen.iter().all(|request| request.headers["idempotency-key"] == request.headers["webhook-id"]));
    let bodies: Vec<Value> = seen.iter().map(|request| serde_json::from_str(&request.body).expect("JSON")).collect();
    assert_eq!(bodies[0]["state"], "firing");
    assert_eq!(bodies[0]["message"], alert(5).message);
    assert_eq!((&bodies[2]["state"], &bodies[2]["resolved_at"]), (&json!("resolved"), &json!("2026-09-21T14:18:20Z")));
    assert_eq!((&bodies[3]["state"], &bodies[4]["state"]), (&json!("escalated"), &json!("digest")));
    assert_eq!((&bodies[4]["count"], &bodies[4]["lines"]), (&json!(17), &json!(["one line"])));
    verify(&seen[0], &format!("whsec_{key}"));
}

/// By Python's own HMAC, and by the library of the specification where node and that library are there.
fn verify(request: &Request, secret: &str) {
    let given = json!({ "secret": secret, "headers": request.headers, "body": request.body }).to_string();
    let python = "import sys, json, hmac, hashlib, base64\n\
        g = json.load(sys.stdin); h = g['headers']\n\
        signed = '.'.join([h['webhook-id'], h['webhook-timestamp'], g['body']]).encode()\n\
        mac = hmac.new(base64.b64decode(g['secret'][6:]), signed, hashlib.sha256).digest()\n\
        assert h['webhook-signature'] == 'v1,' + base64.b64encode(mac).decode(), h";
    feed(Command::new("python3").args(["-c", python]), &given);
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/node_modules");
    match support::peers().filter(|_| modules.join("standardwebhooks").is_dir()) {
        Some(peers) => {
            let node = "const { Webhook } = require('standardwebhooks');\n\
                const g = JSON.parse(require('fs').readFileSync(0));\n\
                new Webhook(g.secret).verify(g.body, g.headers);\n\
                try { new Webhook(g.secret).verify(g.body + ' ', g.headers); process.exit(3) } catch {}";
            feed(Command::new(peers.node).args(["-e", node]).env("NODE_PATH", modules), &given);
        }
        None => {
            support::skip("a_webhook_gets_signed_json: by the specification's library", "it is not in target/peers");
        }
    }
}

fn feed(command: &mut Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input.as_bytes()).expect("written");
    assert!(child.wait().expect("ends").success(), "{command:?} refuses the signature");
}

#[tokio::test]
async fn every_fault_of_a_receiver_ends_in_time_and_with_the_right_kind() {
    let scene = Scene::new();
    let location = |to: &str| Does::Says(says("302 Found", &format!("location: {to}\r\n")));
    let status = |line: &str| Does::Says(says(line, ""));
    for (does, code, kind) in [
        (location("http://169.254.169.254/latest/meta-data/"), "route.redirected", Kind::Unavailable),
        (location("file:///etc/passwd"), "route.redirected", Kind::Unavailable),
        (location("/hook"), "route.redirected", Kind::Unavailable),
        (status("308 Permanent Redirect"), "route.redirected", Kind::Unavailable),
        (status("400 Bad Request"), "route.rejected", Kind::Data),
        (status("401 Unauthorized"), "route.login", Kind::Unavailable),
        (status("404 Not Found"), "route.login", Kind::Unavailable),
        (status("413 Content Too Large"), "route.rejected", Kind::Data),
        (status("429 Too Many Requests"), "route.busy", Kind::Transient),
        (status("500 Internal Server Error"), "route.unreachable", Kind::Transient),
        (status("503 Service Unavailable"), "route.unreachable", Kind::Transient),
        (Does::Floods("HTTP/1.1 500 x\r\n\r\n"), "route.unreachable", Kind::Transient),
        (Does::Floods("HTTP/1.1 200 OK\r\nx: "), "route.unreachable", Kind::Transient),
        (Does::Says("no HTTP at all\r\n\r\n".into()), "route.unreachable", Kind::Transient),
        (Does::Drips, "route.timeout", Kind::Transient),
        (Does::Hangs, "route.timeout", Kind::Transient),
        (Does::Resets, "route.unreachable", Kind::Transient),
    ] {
        let server = Server::start(vec![does]).await;
        let route = scene.route(&format!("kind = \"webhook\"\nurl = {:?}\n{HTTP}", server.url("/hook")));
        let begun = Instant::now();
        let error = failed(route.deliver(&firing(1)).await, code);
        assert_eq!(error.kind, kind, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{error} took {:?}", begun.elapsed());
        assert_eq!(server.seen().len(), 1, "asked once: {error}");
    }
    // A receiver that takes it and then talks without end has taken it.
    let server = Server::start(vec![Does::Floods("HTTP/1.1 200 OK\r\n\r\n")]).await;
    let route = scene.route(&format!("kind = \"webhook\"\nurl = {:?}\n{HTTP}", server.url("/")));
    route.deliver(&firing(1)).await.expect("taken");
}

#[tokio::test]
async fn a_receiver_that_asks_for_silence_gets_it() {
    let scene = Scene::new();
    let busy = Does::Says(says("429 Too Many Requests", "retry-after: 1\r\n"));
    let server = Server::start(vec![busy, Does::Says(says("200 OK", ""))]).await;
    let route = scene.route(&format!("kind = \"webhook\"\nurl = {:?}\n{HTTP}", server.url("/")));
    let error = failed(route.deliver(&firing(1)).await, "route.busy");
    assert!(error.to_string().contains("asks to be left alone for 1s"), "{error}");
    for _ in 0..20 {
        failed(route.deliver(&firing(1)).await, "route.busy");
    }
    assert_eq!(server.seen().len(), 1, "nobody knocked meanwhile");
    tokio::time::sleep(Duration::from_millis(1050)).await;
    route.deliver(&firing(1)).await.expect("taken");
    let date = Does::Says(says("503 Service Unavailable", "retry-after: Tue, 31 Dec 2199 23:59:59 GMT\r\n"));
    let server = Server::start(vec![date]).await;
    let route = scene.route(&format!("kind = \"webhook\"\nurl = {:?}\n{HTTP}", server.url("/")));
    let error = failed(route.deliver(&firing(1)).await, "route.busy");
    assert!(error.to_string().contains("for 1h"), "a date, and never longer than an hour: {error}");
}

#[tokio::test]
async fn this_machine_is_refused_in_all_its_spellings() {
    let scene = Scene::new();
    let server = Server::saying(&says("200 OK", "")).await;
    // Not every system knows this spelling; those that do mean themselves.
    scene.knows("localhost.", &[&["::1", "127.0.0.1"]]);
    let hosts = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "127.00.00.01",
        "2130706433",
        "0x7f000001",
        "0x7F.0.0.1",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0177.1",
        "127.0.0.1.",
        "127.255.255.254",
        "0",
        "0.0.0.0",
        "00.0",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0::ffff:127.1.2.3]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "l%6fcalhost",
        "１２７.０.０.１",
        "127。0。0。1",
        "127%2e0%2e0%2e1",
        "example.org@127.0.0.1",
        "example.org:80@127.0.0.1",
        "example.org%2F@127.0.0.1",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "224.0.0.1",
    ];
    for host in hosts {
        let file = scene.secret("url", &format!("http://{host}:{}/hook", server.port));
        let route =
            scene.route(&format!("kind = \"webhook\"\nurl_file = {file:?}\nallow_http = true\ntimeout = \"2s\""));
        let error = route.deliver(&firing(1)).await.expect_err(host);
        assert!(["route.address_refused", "route.address"].contains(&error.code.as_str()), "{host}: {error:?}");
        assert_eq!(error.kind, Kind::Unavailable, "{host}");
    }
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

#[tokio::test]
async fn a_name_that_turns_private_is_refused_where_the_connection_is_made() {
    // Each connection asks anew: what was answered before, here nothing at all, counts for none after it. No test of Moon's sends a
    // packet to a public address, so the one in `both.test` stands beside a private one, which refuses both.
    let scene = Scene::new();
    let server = Server::saying(&says("200 OK", "")).await;
    scene.knows("turns.test", &[&[], &["127.0.0.1"]]);
    scene.knows("both.test", &[&["192.88.99.77", "127.0.0.1"]]);
    let route = |name: &str, more: &str| {
        scene.route(&format!(
            "kind = \"webhook\"\nurl = \"http://{name}:{}/\"\nallow_http = true\ntimeout = \"1s\"\n{more}",
            server.port
        ))
    };
    let turning = route("turns.test", "");
    let error = turning.deliver(&firing(1)).await.expect_err("nobody there");
    assert_eq!(error.kind, Kind::Transient, "let through: {error:?}");
    let error = failed(turning.deliver(&firing(1)).await, "route.address_refused");
    assert!(error.to_string().contains("turns.test is 127.0.0.1"), "{error}");
    failed(route("both.test", "").deliver(&firing(1)).await, "route.address_refused");
    assert!(server.seen().is_empty());
    route("turns.test", "allow_private = true").deliver(&firing(1)).await.expect("allowed");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_asked() {
    // A child, because the environment belongs to the whole process.
    if std::env::var_os("MOON_TEST_PROXY_CHILD").is_some() {
        let scene = Scene::new();
        let server = Server::saying(&says("200 OK", "")).await;
        let route = scene.route(&format!("kind = \"webhook\"\nurl = {:?}\n{HTTP}", server.url("/")));
        route.deliver(&firing(1)).await.expect("taken");
        assert_eq!(server.seen().len(), 1);
        return;
    }
    let proxy = Server::saying(&says("200 OK", "")).await;
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", "web::proxies_of_the_environment_are_not_asked"]).env("MOON_TEST_PROXY_CHILD", "1");
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, format!("http://127.0.0.1:{}", proxy.port));
    }
    let ran = tokio::task::spawn_blocking(move || child.output()).await.expect("ends").expect("starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    assert!(proxy.seen().is_empty(), "{:?}", proxy.seen());
}

/// Everything that was logged, by any library, at any level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one user").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_in_a_log_an_error_or_the_settings() {
    let log = Log::default();
    let writer = log.clone();
    let collector =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(collector);
    let scene = Scene::new();
    let secrets = ["canary-path-aaaa", "canary-query-bbbb", "canary-token-cccc", "canary-sign-dddd"];
    let echo = format!("HTTP/1.1 400 Bad\r\nconnection: close\r\n\r\nyou sent {}", secrets.join(" and "));
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    let mut told = String::new();
    for does in [Does::Says(echo), Does::Resets, Does::Hangs, Does::Says(says("302 Found", "location: /elsewhere\r\n"))]
    {
        let server = Server::start(vec![does]).await;
        for port in [server.port, closed] {
            let url = scene.secret("url", &format!("http://127.0.0.1:{port}/{}?key={}\n", secrets[0], secrets[1]));
            let headers = scene.secret("headers", &format!("Authorization: Bearer {}", secrets[2]));
            let sign = scene.secret("sign", secrets[3]);
            let fields = format!(
                "kind = \"webhook\"\nurl_file = {url:?}\nheaders_file = {headers:?}\nsecret_file = {sign:?}\ntemplate = \"discord\"\n{HTTP}"
            );
            let error = scene.route(&fields).deliver(&firing(1)).await.expect_err("fails");
            tracing::warn!("could not deliver: {error}");
            told.push_str(&format!("{error} {error:?} {:?}\n", scene.alerts(&fields)));
        }
        assert!(
            server.seen()[0].line.contains(secrets[0])
                && server.seen()[0].headers["authorization"].contains(secrets[2])
        );
    }
    for (name, text) in
        [("url", "nonsense canary-path-aaaa"), ("url", "ftp://canary-path-aaaa"), ("headers", "canary-token-cccc")]
    {
        let (mut url, mut headers) = (scene.secret("url", "http://127.0.0.1:1/"), scene.secret("headers", "A: b"));
        match name {
            "url" => url = scene.secret("url", text),
            _ => headers = scene.secret("headers", text),
        }
        let error = scene.route(&format!("kind = \"webhook\"\nurl_file = {url:?}\nheaders_file = {headers:?}\n{HTTP}"));
        told.push_str(&format!("{:?}\n", error.deliver(&firing(1)).await.expect_err("fails")));
    }
    told.push_str(&String::from_utf8_lossy(&log.0.lock().expect("one user")));
    assert!(
        told.contains("could not deliver") && told.contains("hyper_util"),
        "the libraries' own log was caught: {told}"
    );
    assert!(told.contains("you sent *** and *** and *** and canary-sign"), "{told}");
    for secret in &secrets[..3] {
        assert!(
            !told.contains(secret),
            "{secret} in {}",
            told.lines().find(|l| l.contains(secret)).unwrap_or_default()
        );
    }
}

/// Debian's program looks for its templates where the package would be installed. It was only unpacked, so a copy gets another path of
/// the same length; everything else is the program as it is.
fn unpacked_alertmanager(scene: &Scene) -> Option<Command> {
    const INSTALLED: &str = "/usr/share/prometheus/alertmanager";
    let root = support::debian_peers()?;
    for name in ["default.tmpl", "email.tmpl"] {
        std::fs::copy(root.join(&INSTALLED[1..]).join(name), scene.path(name)).ok()?;
    }
    let here = scene.folder.path().display().to_string();
    let here = format!("{}{here}", "/".repeat(INSTALLED.len().checked_sub(here.len())?)).into_bytes();
    let mut program = std::fs::read(root.join("usr/bin/prometheus-alertmanager")).ok()?;
    // By its first byte first: a debug build is slow with windows over 24 MB.
    let mut from = 0;
    while let Some(at) = program[from..].iter().position(|byte| *byte == b'/').map(|at| from + at) {
        if program[at..].starts_with(INSTALLED.as_bytes()) {
            program[at..at + here.len()].copy_from_slice(&here);
        }
        from = at + 1;
    }
    let copy = scene.path("alertmanager");
    std::fs::write(&copy, program).ok()?;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o700)).ok()?;
    Some(Command::new(copy))
}

/// Alertmanager on a free port.
fn alertmanager(test: &str, scene: &Scene, port: Option<u16>) -> Option<(Peer, u16)> {
    let Some(mut command) = unpacked_alertmanager(scene) else {
        support::skip(test, "Alertmanager is not in target/peers (tests/run unpacks it)");
        return None;
    };
    let config = scene.path("alertmanager.yml");
    std::fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n").expect("written");
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let port = port.unwrap_or_else(free);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", scene.path("am").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--cluster.listen-address=");
    let peer = Peer::start(&mut command);
    support::process::wait_for("Alertmanager", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    Some((peer, port))
}

fn amtool(port: u16, words: &[&str]) -> Value {
    let mut command = support::debian_command("amtool").expect("beside Alertmanager");
    command.arg(format!("--alertmanager.url=http://127.0.0.1:{port}")).args(["--output=json", "alert"]).args(words);
    let ran = command.env("HOME", "/nonexistent").output().expect("amtool runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).expect("JSON")
}

#[tokio::test]
async fn alertmanager_shows_an_alert_until_it_ends_and_again_after_it_forgot() {
    let scene = Scene::new();
    let Some((peer, port)) = alertmanager("alertmanager_shows_an_alert", &scene, None) else { return };
    let route = |port: u16| {
        scene.route(&format!(
            "kind = \"alertmanager\"\nurl = \"http://127.0.0.1:{port}/\"\nlabels = {{ team = \"ops\" }}\n\
             generator_url = \"https://moon.example.org/\"\nallow_http = true\nallow_private = true"
        ))
    };
    let at = route(port);
    at.deliver(&firing(1)).await.expect("taken");
    at.deliver(&firing(1)).await.expect("taken twice");
    let listed = amtool(port, &["query", "team=ops", "severity=critical"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "a repeat is the same alert: {listed}");
    let shown = &listed[0];
    let want = json!({ "alertname": "disk_critical", "host": "box.example.org", "severity": "critical", "source": "moon",
        "subject": "moon", "team": "ops" });
    assert_eq!(shown["labels"], want);
    assert_eq!(
        (&shown["generatorURL"], &shown["annotations"]["hint"]),
        (&json!("https://moon.example.org/"), &json!("make room"))
    );
    assert_eq!(shown["annotations"]["description"], alert(1).message);
    assert!(shown["startsAt"].as_str().is_some_and(|t| t.starts_with("2026-09-21T14:13:20")), "{shown}");
    assert!(
        shown["endsAt"].as_str().is_some_and(|t| t.starts_with("2027-09-21")),
        "it stays without being repeated: {shown}"
    );
    let other = Alert { key: AlertKey::new("memory_corrupt", "a \"quoted\"\nsubject"), ..alert(2) };
    at.deliver(&Notice::Alert(other.clone())).await.expect("taken");
    at.deliver(&Notice::Escalation(other)).await.expect("taken");
    at.deliver(&resolved(1)).await.expect("taken");
    let names = |listed: &Value| -> Vec<String> {
        let mut names: Vec<_> =
            listed.as_array().expect("a list").iter().map(|a| a["labels"]["alertname"].to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&amtool(port, &["query"])), ["\"memory_corrupt\""], "the other one has ended");
    // It keeps no alerts over a restart; the next notice brings back what fires.
    drop(peer);
    std::fs::remove_dir_all(scene.path("am")).expect("removed");
    let (_peer, port) = alertmanager("alertmanager_shows_an_alert", &scene, Some(port)).expect("it was there before");
    assert_eq!(names(&amtool(port, &["query"])), Vec::<String>::new());
    at.deliver(&Notice::Alert(Alert { key: AlertKey::new("disk_low", "moon"), ..alert(3) })).await.expect("taken");
    assert_eq!(names(&amtool(port, &["query"])), ["\"disk_low\"", "\"memory_corrupt\""]);
}

#[tokio::test]
async fn what_fires_goes_along_with_the_next_notice_to_an_alertmanager_that_forgot() {
    let scene = Scene::new();
    let server = Server::saying(&says("200 OK", "")).await;
    let at = scene.route(&format!("kind = \"alertmanager\"\nurl = {:?}\n{HTTP}", server.url("/am")));
    for notice in [firing(1), firing(2), resolved(1), digest()] {
        at.deliver(&notice).await.expect("taken");
    }
    let seen = server.seen();
    assert!(seen.iter().all(|request| request.line == "POST /am/api/v2/alerts HTTP/1.1"), "{seen:?}");
    let sizes: Vec<usize> =
        seen.iter().map(|r| serde_json::from_str::<Vec<Value>>(&r.body).expect("a list").len()).collect();
    assert_eq!(sizes, [1, 2, 2, 2], "one ended, so it goes along no more");
    let last: Vec<Value> = serde_json::from_str(&seen[3].body).expect("a list");
    assert_eq!(last[1]["labels"]["alertname"], "moon_digest");
    assert_eq!(last[1]["annotations"]["description"].as_str().map(|d| d.ends_with("\n- one line")), Some(true));
}

#[tokio::test]
async fn https_is_checked_against_the_named_authority_and_no_other() {
    let scene = Scene::new();
    let (ca, cert, key) = certificate(scene.folder.path());
    let python = "import http.server, ssl, sys\n\
        class H(http.server.BaseHTTPRequestHandler):\n\
        \tdef do_POST(self):\n\
        \t\tbody = self.rfile.read(int(self.headers['content-length']))\n\
        \t\tself.send_response(200); self.end_headers(); print(self.path, len(body), flush=True)\n\
        s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n\
        c = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH); c.load_cert_chain(sys.argv[1], sys.argv[2])\n\
        s.socket = c.wrap_socket(s.socket, server_side=True); print(s.server_port, flush=True); s.serve_forever()";
    let peer = Peer::start(Command::new("python3").args(["-c", python]).arg(cert).arg(key));
    let port: u16 = peer.line().parse().expect("a port");
    scene.knows("hook.test", &[&["127.0.0.1"]]);
    scene.knows("other.test", &[&["127.0.0.1"]]);
    let route = |host: &str, ca: &Path| {
        scene.route(&format!(
            "kind = \"webhook\"\nurl = \"https://{host}:{port}/h\"\nca_file = {ca:?}\nallow_private = true"
        ))
    };
    route("hook.test", &ca).deliver(&firing(1)).await.expect("taken");
    assert!(peer.line().starts_with("/h "), "posted");
    let error = failed(route("other.test", &ca).deliver(&firing(1)).await, "route.unreachable");
    assert!(error.to_string().contains("certificate"), "another name: {error}");
    let elsewhere = Scene::new();
    let (foreign, ..) = certificate(elsewhere.folder.path());
    failed(route("hook.test", &foreign).deliver(&firing(1)).await, "route.unreachable");
    assert!(peer.said().is_empty());
}
