//! What a webhook's body looks like: Moon's own JSON, Slack's, Discord's, or a template of the user's.
//!
//! Foreign text is escaped for the language it is put into, and cut to the receiver's documented limits: a message that is one character
//! too long is refused as a whole.

use super::secret;
use super::told::{Told, short};
use super::{Around, excerpt};
use minijinja::{AutoEscape, UndefinedBehavior};
use moon_actors::settings::route::Template;
use moon_actors::{Error, Result};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// Steps a template may take, and bytes it may make.
const FUEL: u64 = 100_000;
const MADE_MAX: usize = 256 << 10;

// https://docs.slack.dev/reference/block-kit/blocks
const SLACK_HEADER: usize = 150;
const SLACK_SECTION: usize = 3000;
const SLACK_CONTEXT: usize = 2000;
// https://docs.discord.com/developers/resources/message#embed-object-embed-limits: 6000 characters over all.
const DISCORD_TITLE: usize = 256;
const DISCORD_DESCRIPTION: usize = 3000;
const DISCORD_FIELD: usize = 256;

/// The content type and the body.
pub(super) fn render(template: &Template, told: &Told, around: &Around) -> Result<(&'static str, Vec<u8>)> {
    let value = match template {
        Template::Generic => json!(told),
        Template::Slack => slack(told),
        Template::Discord => discord(told),
        Template::File(file) => return from_file(file, told, around),
    };
    Ok((JSON, value.to_string().into_bytes()))
}

fn slack(told: &Told) -> Value {
    let mut text = slack_text(&told.message, SLACK_SECTION / 2);
    let more = told
        .hint
        .iter()
        .map(|hint| format!("What to do: {hint}"))
        .chain(told.lines.iter().map(|line| format!("• {line}")));
    for line in more {
        let line = slack_text(&line, SLACK_SECTION / 2);
        if text.chars().count() + 1 + line.chars().count() > SLACK_SECTION {
            break;
        }
        text.push('\n');
        text.push_str(&line);
    }
    let fields: Vec<String> = told.fields().iter().map(|(name, value)| format!("{name}: {value}")).collect();
    // `verbatim`: nothing in it becomes a link or a mention by itself.
    let marked = |text: String| json!({ "type": "mrkdwn", "text": text, "verbatim": true });
    json!({
        "text": slack_text(&told.title, SLACK_SECTION),
        "blocks": [
            { "type": "header", "text": { "type": "plain_text", "text": short(&told.title, SLACK_HEADER), "emoji": false } },
            { "type": "section", "text": marked(text) },
            { "type": "context", "elements": [marked(slack_text(&fields.join(" · "), SLACK_CONTEXT))] },
        ],
    })
}

/// Slack's three characters, and at most `most` of all of them, none cut in half.
fn slack_text(text: &str, most: usize) -> String {
    escaped(text, most, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    })
}

fn escaped(text: &str, most: usize, replaced: impl Fn(char) -> Option<&'static str>) -> String {
    let (mut safe, mut length) = (String::new(), 0);
    for c in text.chars() {
        let replacement = replaced(c);
        length += replacement.map_or(1, |text| text.chars().count());
        if length >= most {
            safe.push('…');
            break;
        }
        match replacement {
            Some(text) => safe.push_str(text),
            None => safe.push(c),
        }
    }
    safe
}

fn discord(told: &Told) -> Value {
    let mut text = told.message.clone();
    text.extend(told.lines.iter().map(|line| format!("\n- {line}")));
    let mut fields: Vec<Value> = Vec::new();
    for (name, value) in told.hint.iter().map(|hint| ("What to do", hint.as_str())).chain(told.fields()) {
        fields
            .push(json!({ "name": name, "value": discord_text(value, DISCORD_FIELD), "inline": name != "What to do" }));
    }
    let colour = match (told.is_end(), told.severity) {
        (true, _) => 0x002e_a043,
        (_, "critical") => 0x00da_3633,
        (_, "warning") => 0x00d2_9922,
        _ => 0x0058_a6ff,
    };
    json!({
        "username": "Moon",
        "embeds": [{
            "title": discord_text(&told.title, DISCORD_TITLE),
            "description": discord_text(&text, DISCORD_DESCRIPTION),
            "color": colour,
            "fields": fields,
            "footer": { "text": format!("Moon {}, notice {}", told.moon, short(&told.id, DISCORD_FIELD)) },
        }],
        // Nobody is called by a name that a file or a session happens to have.
        "allowed_mentions": { "parse": [] },
    })
}

/// Markdown's characters, so that foreign text stays text.
fn discord_text(text: &str, most: usize) -> String {
    escaped(text, most, |c| match c {
        '\\' => Some("\\\\"),
        '*' => Some("\\*"),
        '_' => Some("\\_"),
        '~' => Some("\\~"),
        '`' => Some("\\`"),
        '|' => Some("\\|"),
        '>' => Some("\\>"),
        '<' => Some("\\<"),
        '#' => Some("\\#"),
        '[' => Some("\\["),
        ']' => Some("\\]"),
        '@' => Some("@\u{200b}"),
        _ => None,
    })
}

/// A template sees the fields of the generic JSON. Unless its name says text (`.txt`), values are put in as JSON and the whole must be JSON.
fn from_file(file: &str, told: &Told, around: &Around) -> Result<(&'static str, Vec<u8>)> {
    fill(file, &secret::read_file(around, "template", file)?, told)
}

/// What is wrong with the text of a template of the user's, if it can be read.
pub(super) fn fault(template: &Template, told: &Told, around: &Around) -> Option<String> {
    let Template::File(file) = template else { return None };
    let source = secret::read_file(around, "template", file).ok()?;
    fill(file, &source, told).err().map(|error| format!("{file:?}: {error}"))
}

fn fill(file: &str, source: &str, told: &Told) -> Result<(&'static str, Vec<u8>)> {
    let failed = |cause: String| {
        Error::unavailable("route.template", "the template cannot be used")
            .cause(cause)
            .hint("see `docs/contracts.md` for what a template sees")
    };
    let is_text = file.contains(".txt");
    let mut environment = minijinja::Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(move |_| if is_text { AutoEscape::None } else { AutoEscape::Json });
    let mut made = Made::default();
    let template = environment.template_from_named_str("template", source).map_err(|e| failed(words(&e)))?;
    template.render_captured_to(minijinja::value::Serde(told), &mut made).map_err(|e| failed(words(&e)))?;
    if !is_text {
        serde_json::from_slice::<serde::de::IgnoredAny>(&made.0)
            .map_err(|e| failed(format!("it does not make JSON: {e}")))?;
    }
    Ok((if is_text { TEXT } else { JSON }, made.0))
}

/// What is wrong, with what is behind it.
fn words(error: &minijinja::Error) -> String {
    let behind = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    excerpt(&format!("{error}{behind}"))
}

/// What a template has made so far.
#[derive(Default)]
struct Made(Vec<u8>);

impl std::io::Write for Made {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + piece.len() > MADE_MAX {
            return Err(std::io::Error::other(format!("it makes more than {MADE_MAX} bytes")));
        }
        self.0.extend_from_slice(piece);
        Ok(piece.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
