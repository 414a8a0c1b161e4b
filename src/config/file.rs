//! Reads one TOML file into values with their lines, collecting every problem.
//!
//! It is parsed into values with their places. It must never stop at the first mistake unless
//! the text is not TOML at all, and never read without a limit.

use super::origin::EntryPlace;
use super::{Origin, Problem, items, keys};
use moon_actors::settings::two_of_one_name;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

/// A settings file is a few kilobytes; anything near this is another file.
const FILE_MAX: u64 = 1 << 20;

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct FileValues {
    /// Good values with their key and origin. A list with what can be read of its bad entries: each of them is a problem.
    pub(super) values: Vec<(String, Value, Origin)>,
    /// Where the entries of those lists stand.
    pub(super) entries: Vec<(String, Vec<EntryPlace>)>,
    /// Keys that are there with a value that cannot be used, or not all of it.
    pub(super) bad: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

/// Reads and understands `path`.
pub(super) fn read(path: &Path) -> FileValues {
    match text_of(path) {
        Ok(text) => understand(path, &text),
        Err(message) => {
            let problem = Problem { place: path.display().to_string(), key: String::new(), message };
            FileValues { problems: vec![problem], ..FileValues::default() }
        }
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    // Not blocking: a pipe under this name must not hang the start.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("open flags are small");
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(|e| format!("could not open the file: {e}"))?;
    let found = file.metadata().map_err(|e| format!("could not look at the file: {e}"))?;
    if !found.is_file() {
        return Err("not a file".to_owned());
    }
    // The settings name a program that is run and a file whose content is sent as a token.
    if found.mode() & 0o002 != 0 {
        return Err("everybody may write to this file; take that right away first (chmod o-w)".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|e| format!("could not read the file: {e}"))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("larger than {FILE_MAX} bytes: this is not a settings file"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        format!("not UTF-8 text, first in line {line}")
    })
}

/// Understands the text of a file. `path` is for the places only.
pub(super) fn understand(path: &Path, text: &str) -> FileValues {
    let lines = Lines { path, text };
    let places = match DeTable::parse(text) {
        Ok(places) => places,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            let problem = Problem { place: lines.place(at), key: String::new(), message: syntax(error.message()) };
            return FileValues { problems: vec![problem], ..FileValues::default() };
        }
    };
    let mut out = FileValues::default();
    let mut sections: Vec<_> = places.get_ref().iter().collect();
    sections.sort_by_key(|(name, _)| name.span().start);
    for (name, place) in sections {
        let at = name.span().start;
        let name = name.get_ref().as_ref();
        match place.get_ref() {
            DeValue::Table(fields) if !keys::fields(name).is_empty() => section(name, fields, &lines, &mut out),
            other => out.problems.push(not_a_section(name, other, lines.place(at))),
        }
    }
    out
}

/// A value as TOML's own type. Only a number can be too large for that, also one in a table.
fn value(read: &Spanned<DeValue<'_>>) -> Result<Value, String> {
    Value::deserialize(read.clone().into_deserializer()).map_err(|_| match read.get_ref() {
        DeValue::Integer(number) => format!("{number} is too large a number"),
        _ => "holds a number that is too large".to_owned(),
    })
}

fn section(section: &str, places: &DeTable<'_>, lines: &Lines<'_>, out: &mut FileValues) {
    let known = keys::fields(section);
    let mut places: Vec<_> = places.iter().collect();
    places.sort_by_key(|(name, _)| name.span().start);
    for (name, read) in places {
        let at = name.span().start;
        let origin = Origin::File { path: lines.path.to_owned(), line: lines.line(at), column: lines.column(at) };
        let field = name.get_ref().as_ref();
        let key = format!("{section}.{field}");
        let problem = |message| Problem { place: origin.place(), key: key.clone(), message };
        if !known.iter().any(|name| name == field) {
            out.problems.push(problem(unknown_key(field, &known)));
            continue;
        }
        if let DeValue::Array(entries) = read.get_ref()
            && keys::is_list(&key)
        {
            list(&key, entries, origin, lines, out);
            continue;
        }
        match value(read).and_then(|value| keys::accept(&key, &value).map(|()| value)) {
            Ok(value) => out.values.push((key, value, origin)),
            Err(message) => {
                out.problems.push(problem(message));
                out.bad.push(key);
            }
        }
    }
}

/// A list, entry by entry: a bad one hides no other, and of a bad one what can be read is kept for the rules.
fn list(key: &str, entries: &[Spanned<DeValue<'_>>], origin: Origin, lines: &Lines<'_>, out: &mut FileValues) {
    let (mut values, mut places, mut is_known) = (Vec::new(), Vec::new(), true);
    let mut names: Vec<(&str, bool)> = Vec::new();
    for entry in entries {
        let items::Entry { mut mistakes, rest, told } = items::judge(key, entry);
        let at = entry.span().start;
        let readable = match rest {
            Some(rest) => value(&Spanned::new(entry.span(), rest)).ok(),
            None if !mistakes.is_empty() => None,
            None => {
                value(entry).map_err(|message| mistakes.push(items::Mistake { at, field: String::new(), message })).ok()
            }
        };
        if let Some((name, at)) = route_name(key, entry).filter(|_| mistakes.iter().all(|m| m.field != "name")) {
            // The rules see only what can be read. They tell of two such routes.
            let is_judged = |other: bool| other && readable.is_some();
            let others = || names.iter().filter(|(other, _)| *other == name);
            if others().count() > 0 && !others().any(|(_, is_readable)| is_judged(*is_readable)) {
                let message = two_of_one_name(name, "");
                mistakes.push(items::Mistake { at, field: "name".to_owned(), message });
            }
            names.push((name, readable.is_some()));
        }
        is_known &= readable.is_some() && !told.hides_the_name();
        if let Some(readable) = readable {
            values.push(readable);
            places.push(entry_place(entry, told, lines));
        }
        for mistake in mistakes {
            let place = lines.place(mistake.at);
            out.problems.push(Problem { place, key: keys::below(key, &mistake.field), message: mistake.message });
        }
    }
    if !is_known {
        out.bad.push(key.to_owned());
    }
    out.values.push((key.to_owned(), Value::Array(values), origin));
    out.entries.push((key.to_owned(), places));
}

/// What a route is called, whatever else is wrong with it, and where that stands.
fn route_name<'e>(key: &str, entry: &'e Spanned<DeValue<'_>>) -> Option<(&'e str, usize)> {
    let DeValue::Table(fields) = entry.get_ref() else { return None };
    let (name, value) = fields.get_key_value("name").filter(|_| key == "alerts.routes")?;
    Some((value.get_ref().as_str()?, name.span().start))
}

fn entry_place(entry: &Spanned<DeValue<'_>>, told: items::Told, lines: &Lines<'_>) -> EntryPlace {
    let fields = match entry.get_ref() {
        DeValue::Table(fields) => {
            fields.keys().map(|name| (name.get_ref().to_string(), lines.place(name.span().start))).collect()
        }
        _ => Default::default(),
    };
    EntryPlace { place: lines.place(entry.span().start), fields, told }
}

/// Of a key with its section, which may be unknown, too.
pub(super) fn unknown_key_of(key: &str) -> String {
    let (section, field) = key.split_once('.').unwrap_or((key, ""));
    match keys::fields(section) {
        known if known.is_empty() => format!("unknown key; there are the sections {}", keys::sections().join(", ")),
        known => unknown_key(field, &known),
    }
}

fn unknown_key(field: &str, known: &[String]) -> String {
    if let Some(near) = keys::nearest(field, known.iter().map(String::as_str)) {
        return format!("unknown key; did you mean \"{near}\"?");
    }
    // The right name under the wrong heading.
    let everywhere = keys::all();
    match everywhere.iter().find(|key| key.ends_with(&format!(".{field}"))) {
        Some(elsewhere) => format!("unknown key; did you mean \"{elsewhere}\"?"),
        None => format!("unknown key; there are {}", known.join(", ")),
    }
}

fn not_a_section(name: &str, value: &DeValue<'_>, place: String) -> Problem {
    let sections = keys::sections();
    let message = if sections.iter().any(|section| section == name) {
        format!("expected a table [{name}], found {}", value.type_str())
    } else {
        let kind = if value.is_table() { "table" } else { "key" };
        let all = keys::all();
        let elsewhere = all.iter().find(|key| !value.is_table() && key.ends_with(&format!(".{name}")));
        match (elsewhere, keys::nearest(name, sections.iter().map(String::as_str))) {
            (Some(key), _) => format!("unknown key; did you mean \"{key}\"?"),
            (None, Some(near)) => format!("unknown {kind}; did you mean \"[{near}]\"?"),
            (None, None) => format!("unknown {kind}; there are {}", sections.join(", ")),
        }
    };
    Problem { place, key: name.to_owned(), message }
}

/// The parser's words on one line.
fn syntax(message: &str) -> String {
    format!("not valid TOML: {}", message.split_whitespace().collect::<Vec<_>>().join(" "))
}

struct Lines<'t> {
    path: &'t Path,
    text: &'t str,
}

impl Lines<'_> {
    fn line(&self, at: usize) -> usize {
        self.before(at).bytes().filter(|b| *b == b'\n').count() + 1
    }
    fn column(&self, at: usize) -> usize {
        let before = self.before(at);
        before[before.rfind('\n').map_or(0, |i| i + 1)..].chars().count() + 1
    }
    fn place(&self, at: usize) -> String {
        format!("{}:{}:{}", self.path.display(), self.line(at), self.column(at))
    }
    fn before(&self, at: usize) -> &str {
        self.text.get(..at.min(self.text.len())).unwrap_or(self.text)
    }
}
