//! The keys there are, their types and their names in the environment, all read off the defaults.
//!
//! Nothing here is a second list to be kept in step: a field added to `Settings` is a key, a variable and a suggestion at
//! once. Only the names of earlier plans are written down by hand.

use super::items;
pub(super) use moon_actors::contract::nearest;
use moon_actors::settings::Settings;
use serde::Deserialize as _;
use toml::{Table, Value};

/// Names of earlier plans that still work: variable, key, and whether the value is a bare number of seconds.
const FORMER_NAMES: [(&str, &str, bool); 8] = [
    ("MOON_THRESHOLD_ARCHIVE_RATIO", "thresholds.archive", false),
    ("MOON_THRESHOLD_PRUNE_RATIO", "thresholds.prune", false),
    ("MOON_THRESHOLD_DISTILL_RATIO", "thresholds.distill", false),
    ("MOON_POLL_INTERVAL_SECS", "watch.poll", true),
    ("MOON_COOLDOWN_SECS", "thresholds.prune_cooldown", true),
    ("OPENCLAW_BIN", "openclaw.command", false),
    ("MOON_HOME", "home.path", false),
    ("ALERT_EMAIL", "alerts.email_to", false),
];

/// A variable that sets a key.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) key: String,
    /// The value is a number of seconds without a unit.
    pub(super) bare_seconds: bool,
}

/// The defaults as a table; the shape of everything else.
pub(super) fn defaults() -> Table {
    Table::try_from(Settings::default()).expect("the defaults are plain values under named sections")
}

/// The sections, in the order of the documentation.
pub(super) fn sections() -> Vec<String> {
    ordered().into_iter().map(|(section, _)| section).collect()
}

/// The keys of one section, in order; none for a section that does not exist.
pub(super) fn fields(section: &str) -> Vec<String> {
    ordered().into_iter().find(|(name, _)| name == section).map(|(_, fields)| fields).unwrap_or_default()
}

/// Every dotted key, in the order of the documentation.
pub fn all() -> Vec<String> {
    let dotted = |(section, fields): (String, Vec<String>)| -> Vec<String> {
        fields.into_iter().map(|field| format!("{section}.{field}")).collect()
    };
    ordered().into_iter().flat_map(dotted).collect()
}

/// Sections with their fields as they are declared. JSON keeps that order, TOML tables are sorted.
fn ordered() -> Vec<(String, Vec<String>)> {
    let defaults = serde_json::to_value(Settings::default()).expect("the defaults are plain values");
    let sections = defaults.as_object().into_iter().flatten();
    let fields = |value: &serde_json::Value| value.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
    sections.map(|(section, value)| (section.clone(), fields(value))).collect()
}

/// Every variable that sets a key: the former names first, so that a present name overrides a former one.
pub(super) fn variables() -> Vec<Variable> {
    let former = FORMER_NAMES.iter().map(|(name, key, bare_seconds)| Variable {
        name: (*name).to_owned(),
        key: (*key).to_owned(),
        bare_seconds: *bare_seconds,
    });
    former.chain(all().into_iter().map(|key| Variable { name: variable(&key), key, bare_seconds: false })).collect()
}

/// `thresholds.archive` is `MOON_THRESHOLDS_ARCHIVE`.
pub(super) fn variable(key: &str) -> String {
    format!("MOON_{}", key.replace('.', "_").to_uppercase())
}

pub(super) fn lookup<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    let (section, field) = key.split_once('.')?;
    table.get(section)?.as_table()?.get(field)
}

pub(super) fn assign(table: &mut Table, key: &str, value: Value) {
    let (section, field) = key.split_once('.').expect("every key has a section");
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(fields) = section {
        fields.insert(field.to_owned(), value);
    }
}

/// Reads text from outside TOML (environment, flag) as the type its key has.
pub(super) fn parse(key: &str, text: &str) -> Result<Value, String> {
    let defaults = defaults();
    let default = lookup(&defaults, key).ok_or("unknown key")?;
    let trimmed = text.trim();
    let value = match default {
        Value::Float(_) => trimmed.parse().ok().map(Value::Float),
        Value::Integer(_) => trimmed.replace('_', "").parse().ok().map(Value::Integer),
        Value::Boolean(_) => match trimmed.to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Some(Value::Boolean(false)),
            _ => None,
        },
        // `["a", "b"]` as in the file, or plain words between commas.
        Value::Array(_) if trimmed.starts_with('[') => {
            format!("list = {trimmed}").parse::<Table>().ok().and_then(|mut table| table.remove("list"))
        }
        Value::Array(_) => {
            let words = trimmed.split(',').map(str::trim).filter(|word| !word.is_empty());
            Some(Value::Array(words.map(|word| Value::String(word.to_owned())).collect()))
        }
        _ => Some(Value::String(text.to_owned())),
    };
    let value = value.ok_or_else(|| format!("expected {}, found {:?}", expected(default), shorten(text)))?;
    accept(key, &value).map(|()| value)
}

/// Says what is wrong with one value, taken alone.
pub(super) fn accept(key: &str, value: &Value) -> Result<(), String> {
    let defaults = defaults();
    let default = lookup(&defaults, key).ok_or("unknown key")?;
    let same = default.same_type(value) || (default.is_float() && value.is_integer());
    if default.is_array() && value.is_table() {
        return Err(format!("expected a list, found a table; a list of tables is written [[{key}]]"));
    }
    if !same {
        return Err(format!("expected {}, found {}", expected(default), found(value)));
    }
    let Value::Array(items) = value else { return understood(key, value.clone()) };
    let said = |(index, mistake): (usize, items::Mistake)| {
        let number = if items.len() > 1 { format!("entry {}: ", index + 1) } else { String::new() };
        let field = if mistake.field.is_empty() { String::new() } else { format!("{}: ", mistake.field) };
        format!("{number}{field}{}", mistake.message)
    };
    let wrong: Vec<String> = items::judge_value(key, value).into_iter().map(said).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// Whether the value of this key is a list.
pub(super) fn is_list(key: &str) -> bool {
    lookup(&defaults(), key).is_some_and(Value::is_array)
}

/// How a key of an entry of a list is called: `alerts.routes.host`.
pub(super) fn below(key: &str, field: &str) -> String {
    if field.is_empty() { key.to_owned() } else { format!("{key}.{field}") }
}

/// Whether the settings take this value under this key.
fn understood(key: &str, value: Value) -> Result<(), String> {
    let number = value.as_integer();
    let mut alone = Table::new();
    assign(&mut alone, key, value);
    Settings::deserialize(alone).map(|_| ()).map_err(|e| match number {
        Some(number) if number < 0 => format!("{number} is below 0"),
        _ => with_suggestion(e.message().trim()),
    })
}

/// Names the word somebody probably meant: serde says "unknown field `hots`, expected one of `host`, `port`".
pub(super) fn with_suggestion(message: &str) -> String {
    let is_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let mut words = message.split('`').skip(1).step_by(2);
    let near = words.next().filter(|_| is_unknown).and_then(|wrong| nearest(wrong, words));
    near.map_or_else(|| message.to_owned(), |near| format!("{message}; did you mean \"{near}\"?"))
}

/// A value as TOML text, a secret as `***`. By design no key holds a secret; this is for the day one does, and for a
/// password in an address.
pub fn mask(key: &str, value: &Value) -> String {
    masked(key, value).to_string()
}

fn masked(key: &str, value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text,
        Value::Array(items) => return Value::Array(items.iter().map(|item| masked(key, item)).collect()),
        Value::Table(fields) => {
            return Value::Table(fields.iter().map(|(name, value)| (name.clone(), masked(name, value))).collect());
        }
        other => return other.clone(),
    };
    let field = key.rsplit('.').next().unwrap_or(key);
    let secret = ["token", "password", "secret"].iter().any(|word| field.contains(word)) && !field.ends_with("_file");
    if secret && !text.is_empty() {
        return Value::String("***".to_owned());
    }
    Value::String(mask_address(text))
}

fn mask_address(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (address, query) = match rest.split_once(['?', '#']) {
        Some((address, _)) => (address, "?***"),
        None => (rest, ""),
    };
    let (host, path) =
        address.split_once('/').map_or((address, String::new()), |(host, path)| (host, format!("/{path}")));
    match host.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}{query}"),
        None => format!("{scheme}://{host}{path}{query}"),
    }
}

fn expected(default: &Value) -> &'static str {
    match default {
        Value::Float(_) => "a number",
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "true or false",
        Value::String(text) if humantime::parse_duration(text).is_ok() => "a duration such as \"30s\" or \"5m\"",
        Value::String(_) => "text in quotes",
        Value::Array(_) => "a list such as [\"a\", \"b\"]",
        _ => "another kind of value",
    }
}

fn found(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(_) => "text".to_owned(),
        other => format!("{} {}", other.type_str(), shorten(&other.to_string())),
    }
}

/// Enough of a wrong value to recognise it.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_the_order_they_are_declared() {
        assert_eq!(all()[..4], ["home.path", "thresholds.archive", "thresholds.prune", "thresholds.distill"]);
        assert_eq!(sections().last().map(String::as_str), Some("log"));
        assert_eq!(fields("log"), ["level", "max_mib", "keep"]);
    }

    #[test]
    fn a_secret_is_masked_and_the_path_of_one_or_a_number_of_tokens_is_not() {
        let text = |s: &str| Value::String(s.into());
        assert_eq!(mask("openclaw.token", &text("hush")), "\"***\"");
        assert_eq!(mask("openclaw.token_file", &text("/run/token")), "\"/run/token\"");
        assert_eq!(mask("watch.window_tokens", &Value::Integer(5)), "5");
        assert_eq!(mask("openclaw.url", &text("ws://u:hush@h:1/p?token=hush")), "\"ws://***@h:1/p?***\"");
        assert_eq!(mask("openclaw.url", &text("ws://127.0.0.1:18789")), "\"ws://127.0.0.1:18789\"");
        let route =
            format!("routes = [{{ password = {0:?}, url = \"https://u:{0}@h/\", password_file = \"/f\" }}]", "hush");
        let routes = route.parse::<Table>().expect("TOML");
        let shown = mask("alerts.routes", &routes["routes"]);
        assert!(!shown.contains("hush") && shown.contains("\"/f\""), "{shown}");
    }

    #[test]
    fn what_is_wrong_in_one_of_several_tables_is_said_with_its_number_and_the_word_that_was_meant() {
        let routes = "[[routes]]\nname = \"a\"\nkind = \"desktop\"\n[[routes]]\nname = \"b\"\nkind = \"emial\"\n\
                      [[routes]]\nname = \"c\"\nkind = \"email\"\nto = [\"me@example.org\"]\nhots = \"h\"\n";
        let routes = routes.parse::<Table>().expect("TOML");
        let said = accept("alerts.routes", &routes["routes"]).expect_err("two are wrong");
        assert!(said.contains("entry 2: kind: unknown variant `emial`"), "{said}");
        assert!(said.contains("did you mean \"email\"?; entry 3: hots: unknown key; did you mean \"host\"?"), "{said}");
    }

    #[test]
    fn text_from_outside_is_read_as_the_type_of_its_key() {
        assert_eq!(parse("thresholds.archive", "0.5"), Ok(Value::Float(0.5)));
        assert_eq!(parse("archive.zstd_level", " 7 "), Ok(Value::Integer(7)));
        assert_eq!(parse("openclaw.pair_device", "no"), Ok(Value::Boolean(false)));
        assert!(parse("watch.poll", "60").expect_err("no unit").contains("30s"));
        assert!(parse("openclaw.mode", "boss").expect_err("no such mode").contains("observe"));
        assert!(parse("recall.limit", "-1").expect_err("negative").contains("below 0"));
    }

    #[test]
    fn a_misspelt_name_and_a_name_of_an_earlier_plan_find_the_present_one() {
        let names = ["archive", "archive_cooldown", "prune", "prune_cooldown"];
        assert_eq!(nearest("prun", names), Some("prune"));
        assert_eq!(nearest("archive_ratio", names), Some("archive"));
        assert_eq!(nearest("zzz", names), None);
        let keys = ["health.endpoints", "health.logs", "index.chunk_chars", "MOON_WATCH_POLL"];
        for (wrong, meant) in [
            ("helth.lgos", Some("health.logs")),
            ("indx.chunk_chars", Some("index.chunk_chars")),
            ("index.chunkchars", Some("index.chunk_chars")),
            ("MOON_WATCH_POL", Some("MOON_WATCH_POLL")),
            ("health.nope", None),
            ("health.end", None),
            ("MOON_WATCH_TOWER", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, keys), meant, "{wrong}");
        }
    }
}
