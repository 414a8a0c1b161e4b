//! A language model that does what the last user message says. It remembers every request, which is the proof of what a
//! model really saw.
//!
//! OpenAI-compatible: `POST /v1/chat/completions` (SSE and JSON), `GET /v1/models`. Tokens are a quarter of the characters
//! of messages and tools as JSON, so that they grow like the real thing.
//!
//! `[[reply:N]]` about N tokens of text, `[[sleep:S]]` wait S seconds, `[[overflow]]` refuse as too long.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const MODEL: &str = "mock-small";

/// Served on a free port of the loopback until dropped.
pub struct MockModel {
    port: u16,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

struct Shared {
    requests: Mutex<Vec<Value>>,
    /// 0: none.
    limit: AtomicU64,
    count: AtomicU64,
}

impl MockModel {
    /// With a `limit`, requests of more tokens are refused as too long.
    pub async fn start(limit: Option<u64>) -> Self {
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            limit: AtomicU64::new(limit.unwrap_or(0)),
            count: AtomicU64::new(0),
        });
        let routes = axum::Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/models", get(models))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.expect("serves") });
        Self { port, shared, server }
    }

    /// From now on.
    pub fn set_limit(&self, limit: Option<u64>) {
        self.shared.limit.store(limit.unwrap_or(0), Ordering::Relaxed);
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Every request body so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Value> {
        self.shared.requests.lock().expect("not poisoned").clone()
    }

    /// The requests whose JSON holds `text`.
    pub fn requests_with(&self, text: &str) -> Vec<Value> {
        self.requests().into_iter().filter(|request| request.to_string().contains(text)).collect()
    }
}

impl Drop for MockModel {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// All text of the messages with this role.
pub fn text_of_role(request: &Value, role: &str) -> String {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = messages.iter().filter(|m| m["role"] == role).map(|m| text_of(&m["content"]));
    texts.collect::<Vec<_>>().join("\n")
}

async fn models() -> Json<Value> {
    Json(json!({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "mock"}]}))
}

async fn complete(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    shared.requests.lock().expect("not poisoned").push(body.clone());
    let number = shared.count.fetch_add(1, Ordering::Relaxed);
    let prompt_tokens = tokens(&json!([body["messages"], body["tools"]]));
    let asked = last_user_text(&body);
    if let Some(seconds) = directive(&asked, "sleep").and_then(|s| s.parse().ok()) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
    let limit = shared.limit.load(Ordering::Relaxed);
    // What is to be summarised holds directives too; the task stands at the beginning of the instructions.
    let task: String = text_of_role(&body, "system").chars().take(600).collect();
    let is_summary = task.to_lowercase().contains("summariz");
    if (asked.contains("[[overflow]]") && !is_summary) || (limit > 0 && prompt_tokens > limit) {
        return overflow(prompt_tokens);
    }
    let text = if is_summary { SUMMARY.to_owned() } else { reply(&asked) };
    let usage = json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": tokens(&json!(text)),
        "total_tokens": prompt_tokens + tokens(&json!(text)),
    });
    let head = json!({"id": format!("chatcmpl-{number}"), "created": 1_700_000_000, "model": body["model"]});
    if body["stream"] == json!(true) { stream(&head, &text, &usage) } else { whole(&head, &text, &usage) }
}

const SUMMARY: &str = "## Goal\nMOCK-SUMMARY of the earlier conversation.\n\n## Decisions\n- none\n\n## Open TODOs\n- none\n\n\
     ## Constraints/Rules\n- none\n\n## Pending user asks\nNone.\n\n## Exact identifiers\n- none\n";

fn reply(asked: &str) -> String {
    match directive(asked, "reply").and_then(|n| n.parse::<usize>().ok()) {
        Some(n) => (0..(n * 4 / 5).max(1)).map(|i| format!("w{i:03}")).collect::<Vec<_>>().join(" "),
        None => "ok".to_owned(),
    }
}

fn whole(head: &Value, text: &str, usage: &Value) -> Response {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    Json(with(head, json!({"object": "chat.completion", "choices": [choice], "usage": usage}))).into_response()
}

fn stream(head: &Value, text: &str, usage: &Value) -> Response {
    let chunk = |choices: Value| with(head, json!({"object": "chat.completion.chunk", "choices": choices}));
    let delta = |delta: Value, end: Value| chunk(json!([{"index": 0, "delta": delta, "finish_reason": end}]));
    let mut frames = vec![delta(json!({"role": "assistant", "content": text}), Value::Null)];
    frames.push(delta(json!({}), json!("stop")));
    frames.push(with(&chunk(json!([])), json!({"usage": usage})));
    let body: String = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
    ([(header::CONTENT_TYPE, "text/event-stream")], body + "data: [DONE]\n\n").into_response()
}

fn overflow(tokens: u64) -> Response {
    let message =
        format!("This model's maximum context length is exceeded: your messages resulted in {tokens} tokens.");
    let error = json!({"message": message, "type": "invalid_request_error", "code": "context_length_exceeded"});
    (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response()
}

fn with(base: &Value, more: Value) -> Value {
    let mut all = base.clone();
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

fn tokens(value: &Value) -> u64 {
    (value.to_string().chars().count() as u64).div_ceil(4)
}

fn last_user_text(body: &Value) -> String {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().rfind(|m| m["role"] == "user").map(|m| text_of(&m["content"])).unwrap_or_default()
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|p| p["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// The argument of the last `[[name:argument]]`.
fn directive<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.rsplit_once(&format!("[[{name}:"))?;
    rest.split_once("]]").map(|(argument, _)| argument)
}
