//! What Moon changes in OpenClaw's configuration, computed on values: no files, no processes.
//!
//! Every edit is recorded with what it replaced, so that it can be taken back on its own. What somebody else put there, or
//! changed since, is never touched.

use moon_actors::settings::Mode;
use moon_actors::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The plugin's id, which is also the name of its compaction provider.
pub(super) const PLUGIN: &str = "moon-bridge";

/// One setting Moon wants.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    pub(super) path: Vec<String>,
    pub(super) kind: WishKind,
    pub(super) why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Op {
    /// The value itself.
    Set,
    /// One item of a list that others use too.
    Add,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum WishKind {
    Set(Value),
    Add(Value),
}

/// One change Moon made, with what is needed to take it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    pub(super) path: Vec<String>,
    pub(super) op: Op,
    /// What Moon put there.
    pub(super) value: Value,
    /// What was there; none if nothing was (a `null` that was written there is `Some(null)`).
    #[serde(default, skip_serializing_if = "Option::is_none", with = "kept_null")]
    pub(super) before: Option<Value>,
    /// How many leading parts of the path existed before.
    pub(super) existing: usize,
}

mod kept_null {
    //! Tells an absent value from a `null`.
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(value: &Option<Value>, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(from).map(Some)
    }
}

/// What became of one wish or of one change that was taken back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) path: Vec<String>,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
    pub(super) why: String,
}

/// Everything Moon wants in the configuration for `mode`. Errors: a configuration that Moon must not overrule by itself.
pub(super) fn wishes(config: &Value, mode: Mode, folder: &str, home: &str, wait_ms: u64) -> Result<Vec<Wish>> {
    let plugins = config.get("plugins").unwrap_or(&Value::Null);
    let listed = |list: &str| plugins.get(list).and_then(Value::as_array).is_some_and(|l| l.contains(&json!(PLUGIN)));
    if listed("deny") {
        return Err(Error::config("openclaw.plugin_denied", "OpenClaw's plugins.deny names moon-bridge")
            .hint("take moon-bridge out of plugins.deny, then run `moon install` again"));
    }
    let set = |path: &str, value: Value, why| Wish { path: parts(path), kind: WishKind::Set(value), why };
    let add = |path: &str, value: Value, why| Wish { path: parts(path), kind: WishKind::Add(value), why };
    let mut wishes = Vec::new();
    let allow = plugins.get("allow").and_then(Value::as_array);
    if plugins.get("enabled") == Some(&Value::Bool(false)) {
        if allow.is_some_and(|names| names.iter().any(|name| name != PLUGIN)) {
            let error = "OpenClaw's plugins are switched off while plugins.allow names some of them";
            return Err(Error::config("openclaw.plugins_off", error)
                .cause("switching plugins on for Moon would switch those on too")
                .hint("set plugins.enabled to true yourself, or empty plugins.allow, then run `moon install` again"));
        }
        wishes.push(set("plugins.enabled", json!(true), "plugins are switched off as a whole"));
        wishes.push(add("plugins.allow", json!(PLUGIN), "so that no other plugin is switched on with it"));
    } else if allow.is_some() {
        wishes.push(add("plugins.allow", json!(PLUGIN), "only listed plugins are loaded"));
    }
    wishes.push(add("plugins.load.paths", json!(folder), "where the plugin lies"));
    let entry = |rest: &str| format!("plugins.entries.{PLUGIN}.{rest}");
    wishes.push(set(&entry("enabled"), json!(true), "switches the plugin on"));
    let access = "lets it see that a turn ended and add Moon's texts to a prompt";
    wishes.push(set(&entry("hooks.allowConversationAccess"), json!(true), access));
    wishes.push(set(&entry("config.home"), json!(home), "where Moon and the plugin meet"));
    wishes.push(set(&entry("config.waitMs"), json!(wait_ms), "longest wait for the archive before a compaction"));
    if mode == Mode::Lead {
        let off = "Moon prunes before OpenClaw would; its overflow recovery stays";
        wishes.push(set("agents.defaults.compaction.enabled", json!(false), off));
        wishes.push(set("agents.defaults.compaction.provider", json!(PLUGIN), "Moon supplies the summary"));
    }
    Ok(wishes)
}

/// Refuses a configuration whose parts in question live in other files: their authored values cannot be seen here.
pub(super) fn refuse_includes(config: &Value) -> Result<()> {
    let places = ["", "plugins", "plugins.load", "plugins.entries", "agents", "agents.defaults"];
    let found = places.iter().find(|place| {
        let path = if place.is_empty() { vec![] } else { parts(place) };
        get(config, &path).is_some_and(|value| value.get("$include").is_some())
    });
    match found {
        None => Ok(()),
        Some(place) => {
            let place = if place.is_empty() { "the top" } else { place };
            Err(Error::config(
                "openclaw.config_included",
                format!("OpenClaw's configuration has an $include at {place}"),
            )
            .cause("what is written there cannot be restored exactly by `moon uninstall`")
            .hint("add the lines `moon install --dry-run` would print for a plain file by hand"))
        }
    }
}

/// The configuration as it would be without Moon: what wishes and records are made from.
pub(super) fn without_moon(config: &Value, recorded: &[Change]) -> Value {
    let mut base = config.clone();
    revert(&mut base, recorded);
    base
}

/// The configuration with the wishes carried out on `base` (the one without Moon), what is to be recorded for that, and one
/// outcome per wish, unchanged ones included, and per recorded change that is taken back (another mode's).
pub(super) fn apply(
    config: &Value,
    base: &Value,
    wishes: &[Wish],
    recorded: &[Change],
) -> (Value, Vec<Change>, Vec<Outcome>) {
    let mut target = base.clone();
    let (mut changes, mut outcomes) = (Vec::new(), Vec::new());
    for wish in wishes.iter().filter(|wish| !holds(base, wish)) {
        let before = get(base, &wish.path).cloned();
        let existing = existing_parts(base, &wish.path);
        let (op, value, before, after) = match &wish.kind {
            WishKind::Set(value) => (Op::Set, value, before, value.clone()),
            // Moon's item keeps its place in the list.
            WishKind::Add(value) if holds(config, wish) => {
                (Op::Add, value, None, get(config, &wish.path).cloned().unwrap_or_default())
            }
            WishKind::Add(value) => (Op::Add, value, None, with_item(before.as_ref(), value)),
        };
        put(&mut target, &wish.path, after);
        changes.push(Change { path: wish.path.clone(), op, value: value.clone(), before, existing });
    }
    let mut tell = |path: &[String], why: &str| {
        let (before, after) = (get(config, path).cloned(), get(&target, path).cloned());
        outcomes.push(Outcome { path: path.to_vec(), before, after, why: why.into() });
    };
    for wish in wishes {
        tell(&wish.path, wish.why);
    }
    for change in recorded.iter().filter(|change| !wishes.iter().any(|wish| wish.path == change.path)) {
        tell(&change.path, "restored, this mode does not need it");
    }
    (target, changes, outcomes)
}

/// Takes back the changes, last one first, each only if it is still as Moon left it.
pub(super) fn revert(config: &mut Value, changes: &[Change]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for change in changes.iter().rev() {
        let now = get(config, &change.path).cloned();
        let why = match (change.op, &now) {
            (_, None) => "already gone",
            (Op::Set, Some(value)) if *value == change.value => {
                match &change.before {
                    Some(before) => put(config, &change.path, before.clone()),
                    None => drop_value(config, &change.path, change.existing),
                }
                "restored"
            }
            (Op::Add, Some(Value::Array(list))) if list.contains(&change.value) => {
                let rest: Vec<Value> = list.iter().filter(|item| **item != change.value).cloned().collect();
                if rest.is_empty() && change.existing < change.path.len() {
                    drop_value(config, &change.path, change.existing);
                } else {
                    put(config, &change.path, Value::Array(rest));
                }
                "taken out"
            }
            // An uninstall that was cut short got this far.
            (Op::Set, Some(_)) if now == change.before => "already restored",
            (Op::Set, Some(_)) => "changed by somebody else since, left as it is",
            (Op::Add, Some(_)) => "already gone",
        };
        let after = get(config, &change.path).cloned();
        outcomes.push(Outcome { path: change.path.clone(), before: now, after, why: why.into() });
    }
    outcomes
}

/// The patch that turns `from` into `to`: objects merge, `null` deletes, everything else replaces. None if they are equal.
pub(super) fn patch(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        return (from != to).then(|| to.clone());
    };
    let mut out = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        out.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let part = match old.get(key) {
            Some(was) => patch(was, value),
            None => Some(value.clone()),
        };
        if let Some(part) = part {
            out.insert(key.clone(), part);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// Applies a patch the way OpenClaw does: objects merge, `null` deletes, everything else replaces.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let object = target.as_object_mut().expect("made an object just above");
    for (key, value) in patch {
        if value.is_null() {
            object.shift_remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// True if the configuration is as wished.
pub(super) fn holds(config: &Value, wish: &Wish) -> bool {
    let now = get(config, &wish.path);
    match &wish.kind {
        WishKind::Set(value) => now == Some(value),
        WishKind::Add(value) => now.and_then(Value::as_array).is_some_and(|list| list.contains(value)),
    }
}

pub(super) fn get<'a>(config: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(config, |at, part| at.get(part))
}

/// The path for people and for OpenClaw's own commands. None of Moon's paths holds a dot within a part.
pub(super) fn dotted(path: &[String]) -> String {
    path.join(".")
}

fn parts(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

fn with_item(list: Option<&Value>, item: &Value) -> Value {
    let mut items = list.and_then(Value::as_array).cloned().unwrap_or_default();
    items.push(item.clone());
    Value::Array(items)
}

fn existing_parts(config: &Value, path: &[String]) -> usize {
    (1..=path.len()).take_while(|n| get(config, &path[..*n]).is_some()).count()
}

fn put(config: &mut Value, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *config = value;
        return;
    };
    if !config.is_object() {
        *config = Value::Object(Map::new());
    }
    let object = config.as_object_mut().expect("made an object just above");
    put(object.entry(first.clone()).or_insert(Value::Null), rest, value);
}

/// Removes the value and then the objects around it that did not exist before (`existing` parts did) and are empty now.
fn drop_value(config: &mut Value, path: &[String], existing: usize) {
    for length in (1..=path.len()).rev() {
        let Some((last, above)) = path[..length].split_last() else { return };
        let Some(object) = above.iter().try_fold(&mut *config, |at, part| at.get_mut(part)) else { return };
        let Some(object) = object.as_object_mut() else { return };
        let is_leaf = length == path.len();
        let is_empty = object.get(last).and_then(Value::as_object).is_some_and(Map::is_empty);
        if !is_leaf && (!is_empty || length <= existing) {
            return;
        }
        object.shift_remove(last);
    }
}
