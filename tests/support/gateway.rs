//! A real OpenClaw gateway in a scratch home: configured, started, spoken to, stopped.
//!
//! Spoken to over its WebSocket: its command line takes seconds for what takes milliseconds there.

use super::Peers;
use super::mock_model::MODEL;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

pub const SESSION: &str = "agent:main:main";
const READY_WITHIN: Duration = Duration::from_secs(90);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A gateway of its own, stopped when dropped.
pub struct Gateway {
    scratch: tempfile::TempDir,
    peers: Peers,
    port: u16,
    token: String,
    child: Option<Child>,
}

impl Gateway {
    /// A scratch home with the smallest configuration that runs unattended: one model with a 16k window, plugins as
    /// `plugins` says. Not started.
    pub fn prepare(peers: &Peers, model_url: &str, plugins: Value) -> Self {
        let scratch = tempfile::Builder::new().prefix("moon-gw-").tempdir().expect("a scratch folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let gateway =
            Self { scratch, peers: peers.clone(), port, token: uuid::Uuid::now_v7().to_string(), child: None };
        for folder in ["home/.openclaw/workspace", "tmp", "bin"] {
            std::fs::create_dir_all(gateway.scratch.path().join(folder)).expect("folders");
        }
        // With an empty workspace every run fails.
        std::fs::write(gateway.user_home().join(".openclaw/workspace/AGENTS.md"), "# Agents\n\nTest agent.\n")
            .expect("file");
        gateway.write_command();
        let mut config = base_config(port, &gateway.token, model_url);
        config["plugins"] = plugins;
        let mut file = std::fs::OpenOptions::new();
        let mut file =
            file.write(true).create_new(true).mode(0o600).open(gateway.config_path()).expect("configuration");
        std::io::Write::write_all(&mut file, config.to_string().as_bytes()).expect("written");
        gateway
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) {
        let log = std::fs::File::create(self.log_path()).expect("log");
        let child = Command::new(self.command())
            .arg("gateway")
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("the gateway starts");
        self.child = Some(child);
        let began = Instant::now();
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        loop {
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("waitable"));
            assert!(ended.is_none(), "the gateway ended: {ended:?}\n{}", self.log());
            assert!(began.elapsed() < READY_WITHIN, "the gateway is not ready in time\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Asks it to stop and waits until it has.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = rustix::process::Pid::from_child(&child);
        // Both fail only if it has already ended.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let began = Instant::now();
        while child.try_wait().expect("waitable").is_none() {
            if began.elapsed() > STOPPED_WITHIN {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
                child.wait().expect("waitable");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// One request on a connection of its own, with all scopes. The error is what the gateway says.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, Value> {
        let call = async {
            let mut socket = self.connect().await;
            request(&mut socket, "2", method, params).await
        };
        tokio::time::timeout(ANSWER_WITHIN, call)
            .await
            .unwrap_or_else(|_| panic!("no answer to {method}\n{}", self.log()))
    }

    /// Runs one turn of the main session to its end. Returns the run's final answer.
    pub async fn send(&self, message: &str) -> Value {
        self.send_to(SESSION, message).await
    }

    pub async fn send_to(&self, session: &str, message: &str) -> Value {
        let key = uuid::Uuid::now_v7().to_string();
        let params = json!({"message": message, "sessionKey": session, "idempotencyKey": key});
        let started = self.call("agent", params).await.expect("the turn is accepted");
        let run = started["runId"].as_str().unwrap_or(&key);
        let ended = self.call("agent.wait", json!({"runId": run, "timeoutMs": 55_000})).await.expect("the turn ends");
        assert_eq!(ended["status"], "ok", "{ended}\n{}", self.log());
        ended
    }

    /// Asks for a compaction, again while a run is still being put away.
    pub async fn compact(&self, session: &str) -> Value {
        let began = Instant::now();
        loop {
            match self.call("sessions.compact", json!({"key": session})).await {
                Ok(answer) => return answer,
                Err(error) if began.elapsed() < Duration::from_secs(10) && error.to_string().contains("active run") => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => panic!("compaction refused: {error}\n{}", self.log()),
            }
        }
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
    pub fn token(&self) -> &str {
        &self.token
    }
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
    /// The scratch folder around everything; Moon's home may go here too.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }
    pub fn state_dir(&self) -> PathBuf {
        self.user_home().join(".openclaw")
    }
    pub fn config_path(&self) -> PathBuf {
        self.state_dir().join("openclaw.json")
    }
    pub fn config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.config_path()).expect("there")).expect("JSON")
    }
    /// OpenClaw's command, for `openclaw.command`.
    pub fn command(&self) -> PathBuf {
        self.scratch.path().join("bin/openclaw")
    }
    /// The whole environment of the gateway and its command.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        let path = format!("{}:/usr/bin:/bin", self.scratch.path().join("bin").display());
        let tmp = self.scratch.path().join("tmp");
        vec![
            ("HOME".into(), self.user_home().into_os_string()),
            ("PATH".into(), path.into()),
            ("TMPDIR".into(), tmp.into_os_string()),
            ("LANG".into(), "C.UTF-8".into()),
        ]
    }
    /// The end of what the gateway printed.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(|line| line.chars().take(300).collect()).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("gateway.log")
    }
    fn user_home(&self) -> PathBuf {
        self.scratch.path().join("home")
    }

    fn write_command(&self) {
        let text =
            format!("#!/bin/sh\nexec '{}' '{}' \"$@\"\n", self.peers.node.display(), self.peers.openclaw.display());
        std::fs::write(self.command(), text).expect("command");
        std::fs::set_permissions(self.command(), std::fs::Permissions::from_mode(0o700)).expect("executable");
        // Whatever the gateway starts finds the same node.
        std::os::unix::fs::symlink(&self.peers.node, self.scratch.path().join("bin/node")).expect("link");
    }

    async fn connect(&self) -> Socket {
        let (mut socket, _) = tokio_tungstenite::connect_async(self.url()).await.expect("the gateway listens");
        let challenge = next_frame(&mut socket).await;
        assert_eq!(challenge["event"], "connect.challenge");
        let params = json!({
            "minProtocol": 3, "maxProtocol": 4, "role": "operator",
            "client": {"id": "gateway-client", "version": "0.0.0", "platform": "linux", "mode": "backend"},
            "scopes": ["operator.read", "operator.write", "operator.admin"],
            "caps": [], "commands": [], "permissions": {}, "auth": {"token": self.token},
        });
        request(&mut socket, "1", "connect", params).await.expect("the gateway lets us in");
        socket
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn request(socket: &mut Socket, id: &str, method: &str, params: Value) -> Result<Value, Value> {
    let frame = json!({"type": "req", "id": id, "method": method, "params": params});
    socket.send(Message::text(frame.to_string())).await.expect("sent");
    loop {
        let mut frame = next_frame(socket).await;
        if frame["type"] == "res" && frame["id"] == id {
            return if frame["ok"] == true { Ok(frame["payload"].take()) } else { Err(frame["error"].take()) };
        }
    }
}

async fn next_frame(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.expect("the connection lasts").expect("a frame") {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Close(why) => panic!("closed: {why:?}"),
            _ => {}
        }
    }
}

fn base_config(port: u16, token: &str, model_url: &str) -> Value {
    json!({
        "gateway": {"mode": "local", "bind": "loopback", "port": port, "auth": {"mode": "token", "token": token}},
        "models": {"mode": "replace", "providers": {"mock": {
            "baseUrl": model_url, "apiKey": "mock-key", "api": "openai-completions",
            "models": [{"id": MODEL, "name": "Mock", "reasoning": false, "input": ["text"], "maxTokens": 1024,
                "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}, "contextWindow": 16000}],
        }}},
        "agents": {"defaults": {
            "model": {"primary": format!("mock/{MODEL}")}, "skipBootstrap": true, "skills": [], "heartbeat": {"every": "0m"},
        }},
        "tools": {"profile": "minimal"},
        "update": {"checkOnStart": false},
        "discovery": {"mdns": {"mode": "off"}},
    })
}
