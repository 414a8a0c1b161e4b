//! How much of a transcript is in the model's window, kept up to date line by line.
//!
//! A transcript is longer than the window: a `reset` record empties the window, a `compaction` record replaces everything
//! before `firstKeptEntryId` by its summary. This follows both and prices the rest. Lines it cannot read are priced as
//! plain text. It must never fail: an estimate of damaged input is still an estimate.
//!
//! Two known gaps: abandoned branches of OpenClaw's record tree are counted as if they were active (too high rather than
//! too low), and an unterminated last line is not counted until it has its end.

use moon_actors::archive::json;
use moon_actors::usage::estimate;
use serde_json::Value;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Entries remembered one by one; older ones are only remembered as a sum.
const MAX_ENTRIES: usize = 65_536;
/// What a message costs beside its text: role and separators, tokens.
const MESSAGE_OVERHEAD: u64 = 4;
/// A picture's price does not depend on the length of its encoding, tokens.
const IMAGE: u64 = 1_200;

/// Record types of OpenClaw that the model never sees.
const OUTSIDE: [&str; 6] = ["session", "session_info", "model_change", "thinking_level_change", "custom", "label"];

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Hash of the record's id; 0 without one.
    id: u64,
    tokens: u64,
}

/// The estimated content of a window.
#[derive(Debug, Default)]
pub(crate) struct ActiveContext {
    entries: VecDeque<Entry>,
    /// All of them, plus what stands before them: a summary, or entries too old to be kept one by one.
    tokens: u64,
    /// Reset records seen.
    pub(crate) resets: u64,
    /// The model that answered last, if a record names one.
    pub(crate) model: Option<String>,
}

impl ActiveContext {
    /// Estimated tokens in the window now.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Takes the next line of the transcript, without its newline.
    pub(crate) fn feed(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        match std::str::from_utf8(line).ok().and_then(|text| json::parse(text).ok()) {
            Some(record) => self.take(&record),
            None => self.push(0, estimate::tokens(&String::from_utf8_lossy(line))),
        }
    }

    /// Takes a line that is too long to be looked into.
    pub(crate) fn feed_unread(&mut self, bytes: u64) {
        self.push(0, bytes / 4);
    }

    fn take(&mut self, record: &Value) {
        let kind = record["type"].as_str();
        match kind {
            Some(kind) if OUTSIDE.contains(&kind) => {}
            Some("reset") => {
                self.resets += 1;
                self.keep_from(record["firstKeptEntryId"].as_str());
            }
            Some("compaction") => {
                self.keep_from(record["firstKeptEntryId"].as_str());
                self.tokens += record["summary"].as_str().map_or(0, estimate::tokens) + MESSAGE_OVERHEAD;
            }
            Some("branch_summary") => {
                self.push(id_of(record), content_tokens(&record["summary"]) + MESSAGE_OVERHEAD);
            }
            _ => self.take_message(kind.is_some(), record),
        }
        let named = record["message"]["model"].as_str().or_else(|| record["modelId"].as_str());
        if let Some(model) = named {
            self.model = Some(model.to_owned());
        }
    }

    fn take_message(&mut self, typed: bool, record: &Value) {
        let message = if record["message"].is_object() { &record["message"] } else { record };
        let tokens = match &message["content"] {
            // A record of a type nobody knows is the host's bookkeeping; an object without any type is probably talk.
            Value::Null if typed => return,
            Value::Null => leaf_tokens(message),
            content => content_tokens(content),
        };
        self.push(id_of(record), tokens + MESSAGE_OVERHEAD);
    }

    fn push(&mut self, id: u64, tokens: u64) {
        self.entries.push_back(Entry { id, tokens });
        self.tokens += tokens;
        if self.entries.len() > MAX_ENTRIES {
            self.entries.pop_front();
        }
    }

    /// Drops everything before the named entry; everything if there is no such entry.
    fn keep_from(&mut self, first_kept: Option<&str>) {
        let at = first_kept.and_then(|id| {
            let id = hash(id);
            self.entries.iter().rposition(|e| e.id == id)
        });
        match at {
            Some(at) => drop(self.entries.drain(..at)),
            None => self.entries.clear(),
        }
        self.tokens = self.entries.iter().map(|e| e.tokens).sum();
    }
}

fn id_of(record: &Value) -> u64 {
    record["id"].as_str().map_or(0, hash)
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Tokens of a message's content: a text, or a list of blocks.
fn content_tokens(content: &Value) -> u64 {
    match content {
        Value::String(text) => estimate::tokens(text),
        Value::Array(blocks) => blocks.iter().map(block_tokens).sum(),
        other => leaf_tokens(other),
    }
}

fn block_tokens(block: &Value) -> u64 {
    match block["type"].as_str() {
        Some("text") => block["text"].as_str().map_or(0, estimate::tokens),
        Some("thinking") => block["thinking"].as_str().map_or(0, estimate::tokens),
        Some("image" | "image_url" | "input_image") => IMAGE,
        Some("toolCall") => {
            let name = block["name"].as_str().map_or(0, estimate::tokens);
            name + estimate::tokens(&block["arguments"].to_string()) + 2 * MESSAGE_OVERHEAD
        }
        _ if block["content"].is_null() => leaf_tokens(block),
        _ => content_tokens(&block["content"]),
    }
}

/// Tokens of every text anywhere in a value.
fn leaf_tokens(value: &Value) -> u64 {
    match value {
        Value::String(text) => estimate::tokens(text),
        Value::Array(items) => items.iter().map(leaf_tokens).sum(),
        Value::Object(fields) => fields.values().map(leaf_tokens).sum(),
        Value::Number(_) => 1,
        Value::Null | Value::Bool(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TALK: &str = "The reading room opens at nine and the catalogue moves on Friday evening.";

    fn said(id: &str, role: &str, content: Value) -> Vec<u8> {
        json!({"type": "message", "id": id, "message": {"role": role, "content": content}}).to_string().into_bytes()
    }

    fn fed(lines: &[Vec<u8>]) -> ActiveContext {
        let mut context = ActiveContext::default();
        lines.iter().for_each(|line| context.feed(line));
        context
    }

    #[test]
    fn bookkeeping_costs_nothing_and_talk_costs_what_it_says() {
        let quiet = [
            json!({"type": "session", "version": 4, "id": "s", "cwd": "/srv/library"}),
            json!({"type": "custom", "customType": "model-snapshot", "data": {"text": TALK}}),
            json!({"type": "file-history-snapshot", "data": TALK}),
            json!({"type": "model_change", "modelId": "small", "id": "m"}),
        ];
        let context = fed(&quiet.map(|r| r.to_string().into_bytes()));
        assert_eq!((context.tokens(), context.model.as_deref()), (0, Some("small")));
        let price = estimate::tokens(TALK) + MESSAGE_OVERHEAD;
        assert_eq!(fed(&[said("a", "user", json!(TALK))]).tokens(), price);
        assert_eq!(fed(&[said("a", "user", json!([{"type": "text", "text": TALK}]))]).tokens(), price);
    }

    #[test]
    fn tool_calls_and_results_cost_their_text_and_a_picture_a_fixed_price() {
        let call =
            json!([{"type": "toolCall", "id": "c", "name": "read", "arguments": {"path": "a/b.md", "why": TALK}}]);
        assert!(fed(&[said("a", "assistant", call)]).tokens() > estimate::tokens(TALK));
        let picture = json!([{"type": "image", "data": "iVBORw0KGgo".repeat(10_000), "mimeType": "image/png"}]);
        assert_eq!(fed(&[said("a", "user", picture)]).tokens(), IMAGE + MESSAGE_OVERHEAD);
    }

    #[test]
    fn a_compaction_replaces_what_is_before_the_first_kept_entry() {
        let compaction = |first: Value| {
            json!({"type": "compaction", "id": "c", "summary": "Short.", "firstKeptEntryId": first}).to_string()
        };
        let talk = |id: &str| said(id, "user", json!(TALK));
        let one = fed(&[talk("a")]).tokens();
        let summary = estimate::tokens("Short.") + MESSAGE_OVERHEAD;
        let mut context = fed(&[talk("a"), talk("b"), talk("c1"), compaction(json!("b")).into_bytes()]);
        assert_eq!(context.tokens(), 2 * one + summary);
        // A second one replaces the first summary too.
        context.feed(compaction(json!("c1")).as_bytes());
        assert_eq!(context.tokens(), one + summary);
        // An entry that is not there: nothing was kept.
        context.feed(compaction(json!("nowhere")).as_bytes());
        assert_eq!(context.tokens(), summary);
        context.feed(compaction(Value::Null).as_bytes());
        assert_eq!(context.tokens(), summary);
    }

    #[test]
    fn a_reset_empties_the_window_except_for_a_kept_tail() {
        let talk = |id: &str| said(id, "user", json!(TALK));
        let mut context =
            fed(&[talk("a"), talk("b"), br#"{"type":"reset","reason":"idle","firstKeptEntryId":"b"}"#.to_vec()]);
        assert_eq!((context.tokens(), context.resets), (fed(&[talk("b")]).tokens(), 1));
        context.feed(br#"{"type":"reset","reason":"new"}"#);
        assert_eq!((context.tokens(), context.resets), (0, 2));
    }

    #[test]
    fn damaged_and_foreign_lines_are_priced_and_never_fatal() {
        for line in
            [&b""[..], b"{", b"\xff\xfe\0", b"null", b"3", b"[]", b"\"text\"", b"{\"type\":7}", b"{\"message\":null}"]
        {
            assert!(fed(&[line.to_vec()]).tokens() < 40, "{line:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(fed(&[deep.into_bytes()]).tokens() > 0);
        assert!(fed(&[json!({"role": "user", "content": TALK}).to_string().into_bytes()]).tokens() > 10);
        assert!(fed(&[json!({"speaker": "Ann", "said": TALK}).to_string().into_bytes()]).tokens() > 10);
    }

    #[test]
    fn memory_is_bounded_and_the_sum_is_not_lost() {
        let mut context = ActiveContext::default();
        let line = said("a", "user", json!("word"));
        let many = MAX_ENTRIES as u64 + 1_000;
        (0..many).for_each(|_| context.feed(&line));
        assert_eq!((context.tokens(), context.entries.len()), (many * (1 + MESSAGE_OVERHEAD), MAX_ENTRIES));
        context.feed(br#"{"type":"reset"}"#);
        context.feed(&line);
        assert_eq!(context.tokens(), 1 + MESSAGE_OVERHEAD);
    }
}
