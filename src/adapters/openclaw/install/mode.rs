//! `openclaw.mode` in moon.toml: `moon install --mode` writes it, `moon uninstall` puts back what was there.
//!
//! Everything else in the file stays as it is, comments included, also one on that very line.

use crate::durable;
use moon_actors::settings::Mode;
use moon_actors::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, TableLike, Value};

/// What a settings file said before Moon wrote a mode into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    pub(super) file: PathBuf,
    /// None if there was no mode.
    pub(super) mode: Option<String>,
    /// The section `[openclaw]` was there.
    pub(super) section: bool,
}

/// Writes the mode and returns what was there.
pub(super) fn write(file: &Path, mode: Mode) -> Result<Before> {
    let mut document = read(file)?;
    let section = section(&mut document);
    let (mode_there, section) = (section.as_deref().and_then(mode_in), section.is_some());
    let before = Before { file: file.to_owned(), mode: mode_there, section };
    put(&mut document, mode.as_str()).ok_or_else(|| failed(file, &"`openclaw` is not a section"))?;
    store(file, &document)?;
    Ok(before)
}

/// True if the file still says what Moon wrote, so that it is Moon's to take back.
pub(super) fn says(file: &Path, mode: Mode) -> Result<bool> {
    let mut document = read(file)?;
    Ok(section(&mut document).as_deref().and_then(mode_in).as_deref() == Some(mode.as_str()))
}

/// Puts back what was there.
pub(super) fn restore(before: &Before) -> Result<()> {
    let file = &before.file;
    let mut document = read(file)?;
    match &before.mode {
        Some(mode) => put(&mut document, mode).ok_or_else(|| failed(file, &"`openclaw` is not a section"))?,
        None => {
            let is_empty = section(&mut document).is_some_and(|section| {
                section.remove("mode");
                section.is_empty()
            });
            if is_empty && !before.section {
                document.remove("openclaw");
            }
        }
    }
    if document.to_string().trim().is_empty() {
        return durable::remove(file).map(drop).map_err(|e| failed(file, &e));
    }
    store(file, &document)
}

fn section(document: &mut DocumentMut) -> Option<&mut dyn TableLike> {
    document.get_mut("openclaw")?.as_table_like_mut()
}

fn mode_in(section: &dyn TableLike) -> Option<String> {
    section.get("mode").and_then(Item::as_str).map(str::to_owned)
}

/// None if the file is not made so that it could hold the setting.
fn put(document: &mut DocumentMut, word: &str) -> Option<()> {
    let section = document.entry("openclaw").or_insert_with(toml_edit::table).as_table_like_mut()?;
    match section.get_mut("mode").and_then(Item::as_value_mut) {
        Some(value) => {
            let decor = value.decor().clone();
            *value = Value::from(word);
            *value.decor_mut() = decor;
        }
        None => drop(section.insert("mode", toml_edit::value(word))),
    }
    Some(())
}

fn read(file: &Path) -> Result<DocumentMut> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(failed(file, &e)),
    };
    text.parse().map_err(|e: toml_edit::TomlError| failed(file, &e))
}

fn store(file: &Path, document: &DocumentMut) -> Result<()> {
    durable::replace(file, document.to_string().as_bytes()).map_err(|e| failed(file, &e))
}

fn failed(file: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::config("config.write", format!("could not write openclaw.mode to {}", file.display()))
        .cause(cause)
        .hint("set it there yourself")
}
