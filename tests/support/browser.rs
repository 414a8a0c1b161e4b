//! A real Chromium without a window, spoken to by its own protocol: looks at pages, runs questions in them, takes pictures.

use super::process::wait_for;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Browser {
    child: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    next: u64,
    /// What the pages said on their consoles, refusals of the content policy among it.
    pub console: Vec<String>,
}

impl Browser {
    /// Starts one with an empty profile below `folder`; `None` where it is not installed.
    pub async fn start(folder: &Path) -> Option<Self> {
        let program = super::debian_peers()?.join("usr/lib/chromium/chromium");
        if !program.is_file() {
            return None;
        }
        let profile = folder.join("browser");
        let mut command = super::debian_command("chromium")?;
        let libraries: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        command = std::process::Command::new(program);
        command.envs(libraries.into_iter().filter_map(|(k, v)| Some((k, v?))));
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--remote-debugging-port=0",
        ];
        command.args(flags).arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        command
            .env("HOME", folder)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let child = command.spawn().expect("the browser starts");
        let file = profile.join("DevToolsActivePort");
        let (port, path) = wait_for("the browser", || {
            let text = std::fs::read_to_string(&file).ok()?;
            let (port, path) = text.split_once('\n')?;
            Some((port.trim().to_owned(), path.trim().to_owned()))
        });
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("the browser answers");
        let mut browser = Self { child, socket, session: String::new(), next: 0, console: Vec::new() };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attached =
            browser.ask("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true })).await;
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.ask(domain, json!({})).await;
        }
        Some(browser)
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut request = json!({ "id": self.next, "method": method, "params": params });
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(request.to_string())).await.expect("the browser listens");
        loop {
            let message =
                tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the browser answers in time");
            let text = message.expect("the browser is there").expect("a message").into_text().expect("text");
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            if answer["id"] == self.next {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            if let Some("Log.entryAdded" | "Runtime.consoleAPICalled" | "Page.javascriptDialogOpening") =
                answer["method"].as_str()
            {
                self.console.push(answer["params"].to_string());
            }
        }
    }

    pub async fn open(&mut self, url: &str) {
        self.ask("Page.navigate", json!({ "url": url })).await;
    }
    /// The value of an expression in the page.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        self.ask("Runtime.evaluate", params).await["result"]["value"].clone()
    }
    /// Waits until an expression is true.
    pub async fn until(&mut self, expression: &str) {
        let begun = std::time::Instant::now();
        while self.eval(expression).await != true {
            if begun.elapsed() > PATIENCE {
                let body = self.eval("document.body ? document.body.innerText : ''").await;
                panic!("waited for {expression} in {body}; {:?}", self.console);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    /// How large the window is, and whether a person likes it dark.
    pub async fn look(&mut self, (width, height): (u32, u32), is_dark: bool) {
        let scheme = if is_dark { "dark" } else { "light" };
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.ask("Emulation.setEmulatedMedia", feature).await;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", metrics).await;
    }
    /// A picture of the window, PNG.
    pub async fn picture(&mut self) -> Vec<u8> {
        let shot = self.ask("Page.captureScreenshot", json!({ "format": "png" })).await;
        data_encoding::BASE64.decode(shot["data"].as_str().expect("a picture").as_bytes()).expect("base64")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
