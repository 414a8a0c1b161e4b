//! Content blocks as text, and the text of a turn taken apart again.
//!
//! Tool calls are written `name {arguments}`, thinking between `<thinking>` tags. Line breaks inside arguments are
//! real ones, because an escaped one would glue an `n` to the next word and make it unfindable; [`parts`] reads exactly
//! this form back. It must never fail: any text has parts.

use serde_json::{Map, Value};
use std::fmt::Write as _;

const THINKING: (&str, &str) = ("<thinking>\n", "\n</thinking>");

/// Appends `more` on a line of its own.
pub(super) fn line(text: &mut String, more: &str) {
    if !text.is_empty() && !text.ends_with('\n') && !more.is_empty() {
        text.push('\n');
    }
    text.push_str(more);
}

/// The content of a message: a string, a block, or an array of both.
pub(super) fn content(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let mut text = String::new();
            for one in blocks {
                line(&mut text, &block(one));
            }
            text
        }
        other => block(other),
    }
}

/// One block. Pictures and other binary data leave a note of their size only.
pub(super) fn block(value: &Value) -> String {
    let Value::Object(map) = value else {
        return value.as_str().map_or_else(|| json(value), str::to_owned);
    };
    let text = |key: &str| map.get(key).and_then(Value::as_str);
    match text("type").unwrap_or_default() {
        "toolCall" | "tool_use" | "tool_call" | "function" | "function_call" | "toolUse" => call(map),
        "thinking" | "reasoning" => match text("thinking").or_else(|| text("text")) {
            Some(thought) if !thought.trim().is_empty() => format!("{}{thought}{}", THINKING.0, THINKING.1),
            _ => String::new(),
        },
        "redacted_thinking" => String::new(),
        "image" | "image_url" | "input_image" | "audio" | "input_audio" | "document" | "file"
            if text("text").is_none() =>
        {
            attachment(map)
        }
        "tool_result" => map.get("content").map(content).unwrap_or_default(),
        _ => match text("text").or_else(|| text("content")) {
            Some(text) => text.to_owned(),
            None => map.get("content").filter(|c| c.is_array()).map_or_else(|| json(value), content),
        },
    }
}

fn call(map: &Map<String, Value>) -> String {
    let inner = map.get("function").and_then(Value::as_object).unwrap_or(map);
    let name = inner.get("name").or_else(|| map.get("toolName")).and_then(Value::as_str).unwrap_or("tool");
    let arguments = ["arguments", "input", "args", "parameters"].iter().find_map(|key| inner.get(*key));
    let arguments = match arguments {
        // Some hosts carry the arguments as text that holds JSON.
        Some(Value::String(text)) => {
            super::json::parse(text).map_or_else(|_| format!("{{{}}}", quoted(text)), |v| json(&v))
        }
        Some(value) => json(value),
        None => "{}".to_owned(),
    };
    format!("{name} {arguments}")
}

fn attachment(map: &Map<String, Value>) -> String {
    let kind = map.get("type").and_then(Value::as_str).unwrap_or("file");
    let source = map.get("source").and_then(Value::as_object).unwrap_or(map);
    let text = |key: &str| source.get(key).or_else(|| map.get(key)).and_then(Value::as_str);
    let media = text("mimeType").or_else(|| text("media_type")).unwrap_or("data");
    let name = text("name").or_else(|| text("filename")).or_else(|| text("path")).unwrap_or_default();
    let size = text("data").map_or(0, str::len);
    format!("[attachment: {kind} {media} {name}, {size} encoded bytes]")
}

/// JSON for readers: compact, but with real line breaks and tabs inside strings.
pub(super) fn json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => out.push_str(&quoted(text)),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (at, (key, item)) in map.iter().enumerate() {
                let _ = write!(out, "{}{}:", if at > 0 { "," } else { "" }, quoted(key));
                write_json(item, out);
            }
            out.push('}');
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A piece of an assistant's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Words.
    Text(&'a str),
    /// What the model thought aloud; nobody was told.
    Thinking(&'a str),
    /// A tool call: `whole` is `name {arguments}`.
    Call { name: &'a str, arguments: &'a str, whole: &'a str },
}

/// Takes the text of an assistant's turn apart again. Linear; joins of `Text`, `Thinking` and `Call` lose only the
/// separating line breaks and tags.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    let (mut start, mut at) = (0, 0);
    // A scan that finds no end reads all that is left, so only a few may fail.
    let (mut calls, mut thoughts) = (8_u32, true);
    while at < text.len() {
        let rest = &text[at..];
        let mut taken = None;
        if thoughts && rest.starts_with(THINKING.0) {
            match rest.find(THINKING.1) {
                Some(end) => {
                    let inner = rest.get(THINKING.0.len()..end).unwrap_or_default();
                    taken = Some((Part::Thinking(inner), end + THINKING.1.len()));
                }
                None => thoughts = false,
            }
        } else if calls > 0
            && let Some(name) = call_name(rest)
        {
            match close(&rest[name.len() + 1..]) {
                Some(length) => {
                    let end = name.len() + 1 + length;
                    let arguments = &rest[name.len() + 1..end];
                    taken = Some((Part::Call { name, arguments, whole: &rest[..end] }, end));
                }
                None => calls -= 1,
            }
        }
        if let Some((part, length)) = taken {
            push_text(&mut found, &text[start..at]);
            found.push(part);
            at += length;
            start = at;
        }
        // Parts begin at the beginning of a line.
        at = text[at..].find('\n').map_or(text.len(), |step| at + step + 1);
    }
    push_text(&mut found, &text[start..]);
    found
}

fn push_text<'a>(found: &mut Vec<Part<'a>>, text: &'a str) {
    if !text.trim().is_empty() {
        found.push(Part::Text(text));
    }
}

/// The tool's name if a line begins like `name {"` or `name {}`.
fn call_name(line: &str) -> Option<&str> {
    let end = line.bytes().take(129).position(|b| !(b.is_ascii_alphanumeric() || b"_-.:".contains(&b)))?;
    let arguments = line[end..].strip_prefix(" {")?;
    // A key of ordinary length and its colon, so that prose with a brace is not scanned for one that closes it.
    let key =
        |rest: &str| rest.bytes().take(200).position(|b| b == b'"').is_some_and(|at| rest[at + 1..].starts_with(':'));
    let opens = arguments.starts_with('}') || arguments.strip_prefix('"').is_some_and(key);
    (end > 0 && opens).then(|| &line[..end])
}

/// Length of the braces' content, both braces included, minding strings.
fn close(text: &str) -> Option<usize> {
    let (mut depth, mut inside, mut escaped) = (0_u32, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'{' if !inside => depth += 1,
            b'}' if !inside => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The text with each lone `\ud83d`-like escape replaced by `\ufffd`; `None` if there is none. JavaScript writes them
/// when a text was cut inside an emoji, and reads them; strict JSON refuses the whole record.
pub(super) fn repair_surrogates(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut repaired) = (text, false);
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        let length = match unit(escape) {
            Some(0xd800..=0xdbff) if escape.get(6..).and_then(unit).is_some_and(|u| (0xdc00..=0xdfff).contains(&u)) => {
                12
            }
            Some(0xd800..=0xdfff) => {
                repaired = true;
                out.push_str(&rest[..at]);
                out.push_str("\\ufffd");
                rest = &rest[at + 6..];
                continue;
            }
            Some(_) => 6,
            None => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..at + length]);
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    repaired.then_some(out)
}

/// The code unit of `\uXXXX` at the beginning.
fn unit(escape: &str) -> Option<u16> {
    let digits = escape.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// Damaged JSON for readers and search: escapes are resolved where they are whole, so that words stay words.
pub(super) fn unescape_lossily(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at..];
        let (shown, length) = match (unit(escape), escape.chars().nth(1)) {
            (Some(high @ 0xd800..=0xdbff), _) => match escape.get(6..).and_then(unit) {
                Some(low @ 0xdc00..=0xdfff) => {
                    let pair = char::decode_utf16([high, low]).next().and_then(Result::ok);
                    (pair.unwrap_or(char::REPLACEMENT_CHARACTER), 12)
                }
                _ => (char::REPLACEMENT_CHARACTER, 6),
            },
            (Some(unit), _) => (char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
            (None, Some('n' | 'r')) => ('\n', 2),
            (None, Some('t')) => ('\t', 2),
            (None, Some(c @ ('"' | '\\' | '/'))) => (c, 2),
            (None, _) => ('\\', 1),
        };
        out.push(shown);
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}
