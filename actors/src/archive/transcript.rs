//! Records of any known transcript shape as turns: the one place that knows what a host's rows look like.
//!
//! Projection, index and distillers all read turns, so that a new host shape is taught here only. A record gives at
//! most one turn, in order, with its sequence number. It must never panic and never drop text because a record is
//! damaged or strange: what cannot be understood becomes a `System` turn with its text, so that it stays findable.

use super::{block, json};
use crate::domain::{Record, Role, Turn};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Speaker of a turn that was read from a record which is not what it should be.
pub const DAMAGED: &str = "damaged record";

/// Rows of OpenClaw's that hold no words and come with nearly every turn.
const SILENT: &[&str] = &["thinking_level_change", "leaf", "label"];
const SILENT_CUSTOM: &[&str] = &["model-snapshot", "openclaw.cache-ttl"];

/// The turns in these records. Text is complete whatever its size; NUL is shown as U+FFFD.
pub fn turns(records: &[Record]) -> Vec<Turn> {
    records.iter().filter_map(turn).collect()
}

/// Whether the record says that the host gave the session a new window. Strict: a damaged record is not one.
pub fn is_reset(bytes: &[u8]) -> bool {
    is_type(bytes, "reset")
}

/// Whether the record is a compaction. Strict: a damaged record is not one.
pub fn is_compaction(bytes: &[u8]) -> bool {
    is_type(bytes, "compaction")
}

/// Reads the outermost `type` only; a second `type` key is refused.
fn is_type(bytes: &[u8], wanted: &str) -> bool {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
    }
    // An array would also be accepted as this structure.
    bytes.trim_ascii_start().first() == Some(&b'{')
        && serde_json::from_slice::<Head<'_>>(bytes).is_ok_and(|head| head.kind == wanted)
}

fn turn(record: &Record) -> Option<Turn> {
    let mut turn = match std::str::from_utf8(&record.bytes) {
        Ok(text) => match json::parse(text) {
            Ok(value) => read(&value)?,
            Err(_) => unparsed(text)?,
        },
        Err(_) => damaged(&String::from_utf8_lossy(&record.bytes))?,
    };
    turn.seq = record.seq;
    if turn.text.contains('\0') {
        turn.text = turn.text.replace('\0', "\u{fffd}");
    }
    Some(turn)
}

fn make(role: Role, speaker: &str, text: String, at: Option<DateTime<Utc>>) -> Option<Turn> {
    let empty = text.trim().is_empty();
    (!empty).then(|| Turn { seq: 0, at, role, speaker: speaker.to_owned(), text })
}

/// Text that is no JSON: a lone surrogate is repaired as the host's own reader would, a line of plain text is taken as
/// it is, the rest is damaged.
fn unparsed(text: &str) -> Option<Turn> {
    if text.trim_start().starts_with(['{', '[', '"']) {
        if let Some(value) = block::repair_surrogates(text).and_then(|t| json::parse(&t).ok()) {
            return read(&value);
        }
        return damaged(text);
    }
    if text.contains('\0') {
        return damaged(text);
    }
    if let Some((name, rest)) = text.split_once(':')
        && let Some(role) = role_of(name.trim().trim_matches('*'))
    {
        return make(role, speaker_of(role), rest.trim_start().to_owned(), None);
    }
    make(Role::System, "text", text.to_owned(), None)
}

fn damaged(text: &str) -> Option<Turn> {
    make(Role::System, DAMAGED, block::unescape_lossily(text), None)
}

fn role_of(name: &str) -> Option<Role> {
    // A name is short; a sentence before a colon is not compared letter by letter.
    if name.len() > 32 {
        return None;
    }
    Some(match name.to_ascii_lowercase().as_str() {
        "user" | "human" | "operator" => Role::User,
        "assistant" | "ai" | "bot" | "model" | "agent" => Role::Assistant,
        "tool" | "toolresult" | "tool_result" | "function" | "bashexecution" | "bash" => Role::Tool,
        "summary" | "compactionsummary" | "branchsummary" => Role::Summary,
        "system" | "developer" => Role::System,
        _ => return None,
    })
}

fn speaker_of(role: Role) -> &'static str {
    role.as_str()
}

/// A parsed record. When a key stands twice, the last one counts, as for the host's own reader.
fn read(value: &Value) -> Option<Turn> {
    let Value::Object(row) = value else {
        let text = value.as_str().map_or_else(|| block::json(value), str::to_owned);
        return make(Role::System, "text", text, None);
    };
    let at = time(row);
    match row.get("type").and_then(Value::as_str).unwrap_or_default() {
        "session" => session(row, at),
        "model_change" => {
            let name = [string(row, "provider"), string(row, "modelId")].into_iter().flatten().collect::<Vec<_>>();
            make(Role::System, "openclaw", format!("Model: {}", name.join("/")), at)
        }
        "reset" => {
            let reason = string(row, "reason").unwrap_or("unknown");
            make(Role::System, "openclaw", format!("New context window (reset, reason: {reason})"), at)
        }
        "compaction" => make(Role::Summary, "compaction", summary(row), at),
        "branch_summary" => make(Role::Summary, "branch summary", summary(row), at),
        "custom_message" => {
            let speaker = string(row, "customType").unwrap_or("custom message");
            make(Role::System, speaker, row.get("content").map(block::content).unwrap_or_default(), at)
        }
        "custom" if SILENT_CUSTOM.contains(&string(row, "customType").unwrap_or_default()) => None,
        kind if SILENT.contains(&kind) => None,
        _ => wrapped(row, at).or_else(|| flat(row, at)).or_else(|| strange(value, at)),
    }
}

/// A message inside an envelope: OpenClaw's `message`, other recorders' `payload`, `data` or `item`.
fn wrapped(row: &Map<String, Value>, at: Option<DateTime<Utc>>) -> Option<Turn> {
    ["message", "payload", "data", "item"].iter().find_map(|key| {
        let inner = row.get(*key)?.as_object()?;
        message(inner, at.or_else(|| time(inner)))
    })
}

/// `{role, content}` and its relatives. `None` when there is no role that is known.
fn message(row: &Map<String, Value>, at: Option<DateTime<Utc>>) -> Option<Turn> {
    let role = role_of(string(row, "role")?)?;
    let content = row.get("content");
    let mut text = content.map(block::content).unwrap_or_default();
    for key in ["text", "summary", "output", "reasoning_content"] {
        if let Some(more) = string(row, key).filter(|_| text.is_empty() || key == "output") {
            block::line(&mut text, more);
        }
    }
    if let Some(command) = string(row, "command") {
        text = format!("$ {command}\n{text}");
    }
    for call in row.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        block::line(&mut text, &block::block(call));
    }
    if let Some(error) = string(row, "errorMessage") {
        block::line(&mut text, &format!("Error: {error}"));
    }
    // Some hosts put tool results into a message of the user's.
    let results = |c: &Value| c.get("type").and_then(Value::as_str) == Some("tool_result");
    let only_results =
        content.and_then(Value::as_array).is_some_and(|blocks| !blocks.is_empty() && blocks.iter().all(results));
    let role = if only_results { Role::Tool } else { role };
    let tool = ["toolName", "name", "tool_name"].iter().find_map(|key| string(row, key));
    let speaker = if role == Role::Tool { tool.unwrap_or("tool") } else { speaker_of(role) };
    make(role, speaker, text, at)
}

/// An object without an envelope: `{role, content}`, `{speaker, text}` and what else people log.
fn flat(row: &Map<String, Value>, at: Option<DateTime<Utc>>) -> Option<Turn> {
    if let Some(turn) = message(row, at) {
        return Some(turn);
    }
    // Only a person's name makes somebody speak; a row's type does not put its text into the user's mouth.
    let person = ["speaker", "author", "from", "sender", "name"].iter().find_map(|key| string(row, key));
    let name = person.or_else(|| string(row, "role")).or_else(|| string(row, "type"))?;
    let text = ["text", "content", "message", "body", "summary"].iter().find_map(|key| row.get(*key))?;
    let role = role_of(name).unwrap_or(if person.is_some() { Role::User } else { Role::System });
    make(role, role_of(name).map_or(name, |role| speaker_of(role)), block::content(text), at)
}

/// Valid JSON of an unknown kind: shown whole.
fn strange(value: &Value, at: Option<DateTime<Utc>>) -> Option<Turn> {
    // A message that is known but holds no words is no turn.
    let envelope = value.get("message").unwrap_or(value);
    if envelope.get("role").and_then(Value::as_str).and_then(role_of).is_some() {
        return None;
    }
    let speaker = value.get("type").and_then(Value::as_str).unwrap_or("record");
    make(Role::System, speaker, block::json(value), at)
}

fn session(row: &Map<String, Value>, at: Option<DateTime<Utc>>) -> Option<Turn> {
    let id = string(row, "id").unwrap_or("unknown");
    let place = string(row, "cwd").map(|cwd| format!(" in {cwd}")).unwrap_or_default();
    make(Role::System, "openclaw", format!("Session {id}{place}"), at)
}

/// A summary's text and the files its details name.
fn summary(row: &Map<String, Value>) -> String {
    let mut text = row.get("summary").map(block::content).unwrap_or_default();
    for (key, title) in [("readFiles", "Files read"), ("modifiedFiles", "Files modified")] {
        let files = row.get("details").and_then(|d| d.get(key)).and_then(Value::as_array);
        let files: Vec<&str> = files.into_iter().flatten().filter_map(Value::as_str).collect();
        if !files.is_empty() {
            block::line(&mut text, &format!("{title}: {}", files.join(", ")));
        }
    }
    text
}

fn string<'a>(row: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    row.get(key).and_then(Value::as_str)
}

/// The record's own time, else its message's.
fn time(row: &Map<String, Value>) -> Option<DateTime<Utc>> {
    const KEYS: [&str; 8] = ["timestamp", "at", "time", "ts", "created_at", "createdAt", "date", "date_time"];
    KEYS.iter().find_map(|key| instant(row.get(*key)?))
}

/// RFC 3339, `2026-09-06 12:00:00` (taken as UTC), or seconds or milliseconds since 1970.
fn instant(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            let naive = || {
                ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"]
                    .iter()
                    .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
            };
            (text.len() <= 64).then_some(())?;
            DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).ok().or_else(|| naive().map(|at| at.and_utc()))
        }
        Value::Number(number) => {
            let amount = number.as_f64().filter(|n| n.is_finite() && *n > 0.0 && *n < 1e17)?;
            // Seconds stay below 1e11 until the year 5138; milliseconds passed it in 1973.
            let millis = if amount < 1e11 { amount * 1000.0 } else { amount };
            DateTime::from_timestamp_millis(millis as i64)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
