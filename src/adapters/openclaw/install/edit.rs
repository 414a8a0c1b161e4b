//! What Moon changes in OpenClaw's configuration, computed on values: no files, no processes.
//!
//! Every edit is recorded with what it replaced, so that it can be taken back on its own. What somebody else put there, or
//! changed since, is never touched.

use moon_actors::settings::Mode;
use moon_actors::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::Path;

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
    } else if allow.is_some_and(|names| !names.is_empty()) {
        // An empty list lets every plugin in; with Moon's in it, it would let no other in.
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

/// The recorded changes and, where the record is lost or knows less, what can only be Moon's: it names Moon's plugin. What
/// was there before such a value nobody knows any more; it is taken for nothing.
pub(super) fn all_changes(config: &Value, recorded: Option<&[Change]>, folder: &str, home: &str) -> Vec<Change> {
    let mut changes = recorded.unwrap_or_default().to_vec();
    let told_home = get(config, &entry("config.home")).and_then(Value::as_str);
    if recorded.is_none() && told_home.is_some_and(|told| told != home) {
        // Another Moon's.
        return changes;
    }
    for change in recognised(config, recorded.is_none(), folder) {
        let is_known =
            |known: &Change| known.path == change.path && (change.op, &change.value) == (known.op, &known.value);
        let is_settled = change.op == Op::Set && changes.iter().any(|known| known.path == change.path);
        if !is_settled && !changes.iter().any(is_known) {
            changes.push(change);
        }
    }
    changes
}

fn recognised(config: &Value, is_record_lost: bool, folder: &str) -> Vec<Change> {
    let change =
        |path: Vec<String>, op, value: &Value| Change { path, op, value: value.clone(), before: None, existing: 0 };
    let mut found = Vec::new();
    let listed = |path: &str, item: &Value| {
        get(config, &parts(path)).and_then(Value::as_array).is_some_and(|list| list.contains(item))
    };
    let (plugin, folder) = (json!(PLUGIN), json!(folder));
    if is_record_lost && listed("plugins.allow", &plugin) {
        let (enabled, allow) = (parts("plugins.enabled"), parts("plugins.allow"));
        // The only one let in, and plugins switched on in so many words: Moon does that where they were switched off.
        let is_switched_on = get(config, &enabled) == Some(&json!(true)) && !lets_others_in(config);
        if is_switched_on {
            let before = Some(json!(false));
            found.push(Change { before, existing: enabled.len(), ..change(enabled, Op::Set, &json!(true)) });
        }
        let existing = if is_switched_on { 1 } else { allow.len() };
        found.push(Change { existing, ..change(allow, Op::Add, &plugin) });
    }
    if listed("plugins.load.paths", &folder) {
        found.push(change(parts("plugins.load.paths"), Op::Add, &folder));
    }
    let provider = parts("agents.defaults.compaction.provider");
    let leads = get(config, &provider) == Some(&plugin);
    let off = parts("agents.defaults.compaction.enabled");
    let own = ["enabled", "hooks.allowConversationAccess", "config.home", "config.waitMs"].map(entry).into_iter();
    let compaction = [(is_record_lost && leads, off), (leads, provider)];
    let paths = own.chain(compaction.into_iter().filter(|(is_ours, _)| *is_ours).map(|(_, path)| path));
    found.extend(paths.filter_map(|path| get(config, &path).map(|now| change(path.clone(), Op::Set, now))));
    found
}

/// A path within the entry of Moon's plugin.
fn entry(rest: &str) -> Vec<String> {
    parts(&format!("plugins.entries.{PLUGIN}.{rest}"))
}

fn is_own(path: &[String]) -> bool {
    path.len() > 3 && path[..3] == entry("")[..3]
}

/// True if the list lets in another plugin than Moon's: one that names others, or none at all.
fn lets_others_in(config: &Value) -> bool {
    let allow = config.pointer("/plugins/allow").and_then(Value::as_array);
    allow.is_none_or(|names| names.is_empty() || names.iter().any(|name| name != PLUGIN))
}

/// Where the configuration still names this folder.
pub(super) fn names_folder(config: &Value, folder: &Path) -> Option<String> {
    holder_of(config, &folder.to_string_lossy(), &mut Vec::new())
}

fn holder_of(value: &Value, text: &str, path: &mut Vec<String>) -> Option<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::String(found) => return found.contains(text).then(|| dotted(path)),
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        Value::Object(items) => items.iter().map(|(name, item)| (name.clone(), item)).collect(),
        _ => vec![],
    };
    children.into_iter().find_map(|(name, child)| {
        path.push(name);
        let found = holder_of(child, text, path);
        path.pop();
        found
    })
}

/// Takes back the changes, last one first, each only if it is still as Moon left it; within the entry of Moon's own plugin in
/// any case, as nobody else has a use for it. No plugin of somebody else's is switched on or off by that.
pub(super) fn revert(config: &mut Value, changes: &[Change]) -> Vec<Outcome> {
    let others = lets_others_in(config);
    let is_off = config.pointer("/plugins/enabled") == Some(&json!(false));
    let stays_off = is_off || (changes.iter().any(switched_plugins_on) && !others);
    let mut outcomes = Vec::new();
    for change in changes.iter().rev() {
        let now = get(config, &change.path).cloned();
        let why = match change.op {
            _ if now.is_none() => "already gone",
            Op::Set => unset(config, change, others),
            Op::Add => take_from_list(config, change, stays_off),
        };
        let after = get(config, &change.path).cloned();
        outcomes.push(Outcome { path: change.path.clone(), before: now, after, why: why.into() });
    }
    outcomes
}

fn switched_plugins_on(change: &Change) -> bool {
    change.path == parts("plugins.enabled") && change.before == Some(json!(false))
}

/// Puts back what was there before a value of Moon's. `others`: plugins that are not Moon's are let in.
fn unset(config: &mut Value, change: &Change, others: bool) -> &'static str {
    let now = get(config, &change.path);
    if is_own(&change.path) {
        drop_value(config, &change.path, change.existing.min(2));
        return "taken out";
    }
    if now != Some(&change.value) {
        // An uninstall that was cut short got this far, or somebody else was here.
        let is_restored = now == change.before.as_ref();
        return if is_restored { "already restored" } else { "changed by somebody else since, left as it is" };
    }
    if others && switched_plugins_on(change) {
        return "changed by somebody else since: other plugins were let in, which this would switch off";
    }
    match &change.before {
        Some(before) => put(config, &change.path, before.clone()),
        None => drop_value(config, &change.path, change.existing),
    }
    "restored"
}

/// Takes Moon's item out of a list. `stays_off`: plugins are switched off as a whole, or will be.
fn take_from_list(config: &mut Value, change: &Change, stays_off: bool) -> &'static str {
    let Some(Value::Array(list)) = get(config, &change.path) else { return "already gone" };
    if !list.contains(&change.value) {
        return "already gone";
    }
    let rest: Vec<Value> = list.iter().filter(|item| **item != change.value).cloned().collect();
    if rest.is_empty() && !stays_off && change.path == parts("plugins.allow") {
        return "changed by somebody else since: the names beside it are gone, and an empty list lets every plugin in";
    }
    if rest.is_empty() && change.existing < change.path.len() {
        drop_value(config, &change.path, change.existing);
    } else {
        put(config, &change.path, Value::Array(rest));
    }
    "taken out"
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
