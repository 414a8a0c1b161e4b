//! Has OpenClaw's own command write a configuration, and clears up after a refusal.
//!
//! A refused write leaves a copy of what was refused beside the configuration, with the gateway's token in it. Only the copy
//! that Moon's own write caused is removed. It must never touch any other file of OpenClaw's.

use super::command::Cli;
use super::{Authored, CONFIG_LIMIT, edit, read_authored};
use crate::durable;
use moon_actors::{Error, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Most characters kept of what OpenClaw said about a write.
const EXCERPT: usize = 200;

/// Writes the stages one after the other, then looks each time at what is really there. Returns what the command said, which
/// is whether the gateway has to be restarted.
/// Errors: `openclaw.write_refused`, `openclaw.config_changed`, `openclaw.command_*`. Stages already written stay.
pub(super) async fn write(cli: &Cli, authored: &Authored, stages: &[Value]) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let mut from = &authored.value;
    for target in stages {
        // Between the stages as planned: OpenClaw's own stamp is in the file, and not to be patched.
        let Some(patch) = edit::patch(from, target) else { continue };
        let said = patch_once(cli, &authored.path, &patch, target).await?;
        let note = format!("OpenClaw: {}", said.trim().chars().take(EXCERPT).collect::<String>());
        if !notes.contains(&note) {
            notes.push(note);
        }
        from = target;
    }
    Ok(notes)
}

async fn patch_once(cli: &Cli, config: &Path, patch: &Value, target: &Value) -> Result<String> {
    let before = rejected_copies(config);
    let said = match cli.run(&["config", "patch", "--stdin"], patch.to_string().as_bytes()).await {
        Ok(said) => said,
        Err(error) => {
            let left = clear_up(config, &before, target, error.cause.as_deref().unwrap_or_default());
            return Err(told(error, config, &left));
        }
    };
    let now = read_authored(config)?;
    let mut patched = now.value.clone();
    edit::merge(&mut patched, patch);
    if patched == now.value || edit::patch(target, &now.value).is_none() {
        return Ok(said);
    }
    Err(Error::conflict("openclaw.config_changed", "OpenClaw's configuration is not as the patch should have left it")
        .hint("run the command again; if it persists, see `openclaw config validate`"))
}

/// A refusal with its next step; any other failure as it is.
fn told(error: Error, config: &Path, left: &[PathBuf]) -> Error {
    let cause = error.cause.as_deref().unwrap_or_default();
    if !cause.contains("Config write rejected") {
        return error;
    }
    // What follows names the copy, which is gone or named in the hint.
    let cause = cause.split(" Rejected payload").next().unwrap_or_default().to_owned();
    // Never by an editor: OpenClaw would take the halved file for an accident and put its last backup in its place.
    let mut hint = String::from(
        "make the changes that the same command lists with --dry-run one by one, in that order, by `openclaw config set` and \
         `openclaw config unset`, then run the command again: it does the rest",
    );
    for copy in left {
        hint += &format!("; remove {}, a copy of the configuration that may hold its token", copy.display());
    }
    Error::config("openclaw.write_refused", format!("OpenClaw refused to change {}", config.display()))
        .cause(cause)
        .hint(hint)
}

/// The copies of refused writes beside the configuration.
fn rejected_copies(config: &Path) -> BTreeSet<PathBuf> {
    let (Some(folder), Some(name)) = (config.parent(), config.file_name()) else { return BTreeSet::new() };
    let prefix = format!("{}.rejected.", name.to_string_lossy());
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let copies = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    copies.map(|entry| entry.path()).collect()
}

/// Removes the copies that appeared during Moon's write and are Moon's: OpenClaw named them to Moon's command, or they hold
/// what Moon wanted written. Returns the others that appeared.
fn clear_up(config: &Path, before: &BTreeSet<PathBuf>, target: &Value, said: &str) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for copy in rejected_copies(config).difference(before) {
        let is_named = said.contains(&format!("Rejected payload saved to {}.", copy.display()));
        let is_removed = (is_named || holds(copy, target)) && durable::remove(copy).is_ok();
        if !is_removed {
            left.push(copy.clone());
        }
    }
    left
}

/// True if the file holds this configuration, but for OpenClaw's stamp.
fn holds(file: &Path, target: &Value) -> bool {
    let is_plain = std::fs::symlink_metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= CONFIG_LIMIT);
    let text = if is_plain { std::fs::read(file).unwrap_or_default() } else { vec![] };
    let unstamped = |mut value: Value| {
        if let Some(parts) = value.as_object_mut() {
            parts.shift_remove("meta");
        }
        value
    };
    serde_json::from_slice(&text).is_ok_and(|found: Value| unstamped(found) == unstamped(target.clone()))
}
