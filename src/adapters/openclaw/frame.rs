//! The gateway's frames as values: parsing what comes in, writing what goes out, naming what went wrong.
//!
//! Pure, so that every recorded frame can be a test. It must never keep a frame it does not understand, and never put more
//! of a foreign message into an error than its first words.

use super::device::Device;
use super::discovery::Token;
use moon_actors::Error;
use serde_json::{Value, json};

/// Characters of a foreign message that an error may carry.
const QUOTED: usize = 160;

/// One frame from the gateway.
#[derive(Debug)]
pub(super) enum Frame {
    Response { id: String, result: Result<Value, Refusal> },
    Event { name: String, payload: Value, seq: Option<u64> },
}

/// The gateway's error object. Branch on the codes; the message is for people (and, where there is no code, for `says`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: String,
    /// `details.code`, else `details.reason`.
    pub(super) detail: Option<String>,
    pub(super) message: String,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) expected_protocol: Option<u64>,
}

impl Frame {
    /// `None` for anything that is not a frame: the gateway may add kinds, and a proxy may talk rubbish.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut frame: Value = serde_json::from_str(text).ok()?;
        let word = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
        match frame.get("type")?.as_str()? {
            "res" => {
                let id = word(&frame, "id")?;
                let result = match frame.get("ok")?.as_bool()? {
                    true => Ok(frame.get_mut("payload").map(Value::take).unwrap_or_default()),
                    false => Err(Refusal::parse(frame.get("error").unwrap_or(&Value::Null))),
                };
                Some(Self::Response { id, result })
            }
            "event" => {
                let name = word(&frame, "event")?;
                let seq = frame.get("seq").and_then(Value::as_u64);
                let payload = frame.get_mut("payload").map(Value::take).unwrap_or_default();
                Some(Self::Event { name, payload, seq })
            }
            _ => None,
        }
    }
}

impl Refusal {
    pub(super) fn parse(error: &Value) -> Self {
        let word = |at: &str| error.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let number = |at: &str| error.pointer(at).and_then(Value::as_u64);
        Self {
            code: word("/code").unwrap_or_default(),
            detail: word("/details/code").or_else(|| word("/details/reason")),
            message: word("/message").unwrap_or_default(),
            retry_after_ms: number("/retryAfterMs"),
            expected_protocol: number("/details/expectedProtocol"),
        }
    }
    /// Code and the first words of the message, for an error's cause.
    pub(super) fn summary(&self) -> String {
        let code = self.detail.as_deref().unwrap_or(&self.code);
        format!("{} ({code})", shorten(&self.message))
    }
    pub(super) fn says(&self, words: &str) -> bool {
        self.message.contains(words)
    }
    pub(super) fn is_missing_scope(&self) -> bool {
        self.code == "FORBIDDEN" || self.detail.as_deref() == Some("MISSING_SCOPE") || self.says("missing scope")
    }
    /// The credentials were not accepted; asking again soon changes nothing.
    pub(super) fn is_about_credentials(&self) -> bool {
        let known = |text: &str| ["AUTH_", "DEVICE_", "PAIRING_", "NOT_PAIRED"].iter().any(|p| text.starts_with(p));
        known(&self.code) || self.detail.as_deref().is_some_and(known)
    }
    pub(super) fn is_about_protocol(&self) -> bool {
        self.expected_protocol.is_some()
            || self.detail.as_deref() == Some("PROTOCOL_MISMATCH")
            || self.says("protocol mismatch")
    }
}

/// The first words of a foreign text, on one line.
pub(super) fn shorten(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED).collect();
    match line.len() < text.len() {
        true => format!("{line}…"),
        false => line,
    }
}

/// What the greeting said about this connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Hello {
    pub(super) version: String,
    pub(super) protocol: u64,
    pub(super) scopes: Vec<String>,
    pub(super) can_subscribe: bool,
    /// Whose the sessions are that name no agent in their key.
    pub(super) default_agent: Option<String>,
    /// Every agent has one session, and all of them have the same key: the list shows only the default agent's.
    pub(super) keys_are_shared: bool,
    pub(super) device_token: Option<Token>,
}

impl Hello {
    pub(super) fn parse(payload: &Value) -> Self {
        let list =
            |at: &str| payload.pointer(at).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        Self {
            version: payload.pointer("/server/version").and_then(Value::as_str).map_or("?".into(), shorten),
            protocol: payload.get("protocol").and_then(Value::as_u64).unwrap_or(0),
            scopes: list("/auth/scopes").map(str::to_owned).collect(),
            can_subscribe: list("/features/methods").any(|method| method == "sessions.subscribe"),
            default_agent: payload
                .pointer("/snapshot/sessionDefaults/defaultAgentId")
                .and_then(Value::as_str)
                .map(str::to_owned),
            keys_are_shared: payload.pointer("/snapshot/sessionDefaults/scope").is_some_and(|scope| scope == "global"),
            device_token: payload.pointer("/auth/deviceToken").and_then(Value::as_str).and_then(Token::new),
        }
    }
    pub(super) fn grants(&self, scope: &str) -> bool {
        self.scopes.iter().any(|s| s == scope)
    }
}

/// What a `connect` request is made of.
pub(super) struct Greeting<'a> {
    pub(super) scopes: &'a [&'static str],
    pub(super) token: Option<&'a Token>,
    pub(super) device: Option<&'a Device>,
    pub(super) challenge: &'a Value,
}

impl Greeting<'_> {
    /// The parameters of `connect`. Only `gateway-client`/`cli` with a device mints a device token; without a device only
    /// `gateway-client`/`backend` keeps its scopes (both seen on 2026.9.6).
    pub(super) fn params(&self) -> Value {
        let mode = if self.device.is_some() { "cli" } else { "backend" };
        let platform = std::env::consts::OS;
        let mut params = json!({
            "minProtocol": 3, "maxProtocol": 4,
            "client": {
                "id": "gateway-client", "displayName": "moon", "version": env!("CARGO_PKG_VERSION"),
                "platform": platform, "mode": mode,
            },
            "role": "operator", "scopes": self.scopes, "caps": [], "commands": [], "permissions": {},
        });
        if let Some(token) = self.token {
            params["auth"] = json!({ "token": token.reveal() });
        }
        if let Some(device) = self.device {
            let nonce = self.challenge.get("nonce").and_then(Value::as_str).unwrap_or_default();
            let signed_at = self.challenge.get("ts").and_then(Value::as_i64).unwrap_or_default();
            let token = self.token.map(Token::reveal).unwrap_or_default();
            let text = format!(
                "v3|{}|gateway-client|{mode}|operator|{}|{signed_at}|{token}|{nonce}|{platform}|",
                device.id(),
                self.scopes.join(","),
            );
            params["device"] = json!({
                "id": device.id(), "publicKey": device.public_key(), "signature": device.sign(text.as_bytes()),
                "signedAt": signed_at, "nonce": nonce,
            });
        }
        params
    }
}

pub(super) fn request(id: &str, method: &str, params: &Value) -> String {
    json!({ "type": "req", "id": id, "method": method, "params": params }).to_string()
}

/// A refusal of an ordinary request as an operating error.
pub(super) fn refused(method: &str, refusal: &Refusal) -> Error {
    let message = format!("OpenClaw refused {method}");
    if refusal.is_missing_scope() {
        return Error::unavailable("openclaw.scope_missing", message)
            .cause(refusal.summary())
            .hint("set openclaw.mode = \"lead\" and approve Moon's device in OpenClaw (`openclaw devices list`)");
    }
    if refusal.code == "UNAVAILABLE" || refusal.retry_after_ms.is_some() {
        return Error::transient("openclaw.starting", message)
            .cause(refusal.summary())
            .hint("OpenClaw is starting or busy; Moon tries again by itself");
    }
    Error::unavailable("openclaw.refused", message)
        .cause(refusal.summary())
        .hint("this OpenClaw may be a version Moon does not know; run `moon verify`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_and_rubbish_is_dropped() {
        assert!(matches!(Frame::parse(r#"{"type":"res","id":"7","ok":true,"payload":{"a":1}}"#),
            Some(Frame::Response { id, result: Ok(_) }) if id == "7"));
        assert!(matches!(Frame::parse(r#"{"type":"event","event":"tick","payload":{"ts":1},"seq":3}"#),
            Some(Frame::Event { name, seq: Some(3), .. }) if name == "tick"));
        for rubbish in ["", "{", "[]", "null", r#"{"type":"res","ok":true}"#, r#"{"type":"new-kind"}"#, r#"{"type":5}"#]
        {
            assert!(Frame::parse(rubbish).is_none(), "{rubbish}");
        }
    }

    #[test]
    fn recorded_refusals_are_understood_by_their_codes() {
        let parse = |text: &str| Refusal::parse(&serde_json::from_str(text).expect("recorded"));
        let scope = parse(
            r#"{"code":"FORBIDDEN","message":"missing scope: operator.admin","details":{"code":"MISSING_SCOPE"}}"#,
        );
        assert!(scope.is_missing_scope() && !scope.is_about_credentials());
        let token =
            parse(r#"{"code":"INVALID_REQUEST","message":"unauthorized","details":{"code":"AUTH_TOKEN_MISMATCH"}}"#);
        assert!(token.is_about_credentials());
        let unpaired = parse(r#"{"code":"NOT_PAIRED","message":"x","details":{"code":"DEVICE_IDENTITY_REQUIRED"}}"#);
        assert!(unpaired.is_about_credentials());
        let starting =
            parse(r#"{"code":"UNAVAILABLE","message":"gateway starting","retryable":true,"retryAfterMs":500}"#);
        assert_eq!(refused("sessions.list", &starting).kind, moon_actors::error::Kind::Transient);
        assert!(parse(r#"{"message":"protocol mismatch","details":{"expectedProtocol":4}}"#).is_about_protocol());
    }

    #[test]
    fn a_foreign_message_is_cut_and_kept_on_one_line() {
        let long = "ä\n".repeat(500);
        let short = shorten(&long);
        assert!(short.chars().count() == QUOTED + 1 && !short.contains('\n'));
        assert_eq!(shorten("as it is"), "as it is");
    }
}
