//! SQLite files and JSON-lines files of the user: sound, complete, and with the tables they had before.
//!
//! What tables and columns a database has is remembered at the first look. More of them are learned in silence; fewer are damage until
//! somebody says that it is meant (`moon health --accept`).

use super::sqlite_file::{self, Access, Stop, Tables};
use super::{Senses, expand, jsonl, size};
use crate::adapters::backup::BackupVault;
use crate::pattern;
use async_trait::async_trait;
use moon_actors::domain::{Condition, Figure, Finding, Trouble};
use moon_actors::health::policy;
use moon_actors::port::{AlertRules, Check, CheckGroup, Look};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Files looked at for one entry.
const MOST_FILES: usize = 200;

pub(super) struct Databases {
    name: String,
    entry: String,
    limit: Duration,
    /// What a damaged one could come from.
    vault: BackupVault,
    lane: super::lane::Lane,
    rests: Arc<Mutex<BTreeMap<String, Rest>>>,
}

/// A file that was costly to read, and what was found.
#[derive(Clone)]
struct Rest {
    until: Instant,
    troubles: Vec<Trouble>,
    bytes: u64,
}

/// What is remembered from look to look.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    files: BTreeMap<String, Tables>,
}

impl Databases {
    pub(super) fn new(entry: &str, senses: &Senses) -> Arc<Self> {
        let limit = senses.settings.health.database_timeout;
        let (name, entry) = (format!("database:{entry}"), entry.to_owned());
        let vault = BackupVault::new(&senses.home, &senses.settings.backup);
        Arc::new(Self { name, entry, limit, vault, lane: Default::default(), rests: Arc::default() })
    }
}

#[async_trait]
impl Check for Databases {
    fn name(&self) -> &str {
        &self.name
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Databases
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("memory_corrupt"))
    }
    fn limit(&self) -> Option<Duration> {
        Some(self.limit)
    }
    async fn look(&self, look: &Look) -> Finding {
        let memory: Memory = serde_json::from_value(look.memory.clone()).unwrap_or_default();
        let (entry, rests, stop, is_asked) =
            (self.entry.clone(), Arc::clone(&self.rests), Stop::default(), look.is_asked);
        let vault = Some(self.vault.clone());
        let _guard = stop.guard();
        let walk = Walk { memory, rests, stop, is_asked, vault, ..Walk::default() };
        let looked = self.lane.run(move || walk.go(&entry)).await;
        match looked {
            Ok(finding) => finding,
            Err(why) => Finding::unknown(why),
        }
    }
}

/// One walk over the files of an entry.
#[derive(Default)]
struct Walk {
    memory: Memory,
    rests: Arc<Mutex<BTreeMap<String, Rest>>>,
    stop: Stop,
    is_asked: bool,
    vault: Option<BackupVault>,
    troubles: Vec<Trouble>,
    unread: Vec<String>,
    files: usize,
    bytes: u64,
}

impl Walk {
    fn go(mut self, entry: &str) -> Finding {
        let path = expand(entry);
        let found = if pattern::is_pattern(entry) { matching(&path) } else { Ok(vec![path]) };
        let paths = match found {
            Ok(paths) => paths,
            Err(why) => return Finding::unknown(why),
        };
        if paths.is_empty() && self.memory.files.is_empty() {
            return Finding::warning(format!("no file matches {entry}")).hint("is the pattern right?");
        }
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        for gone in self.memory.files.keys().filter(|known| !names.contains(known)).cloned().collect::<Vec<_>>() {
            self.trouble(&gone, Condition::Warning, format!("{gone} was there and is gone"));
        }
        for (path, name) in paths.iter().zip(&names) {
            self.file(path, name);
        }
        self.conclude()
    }

    fn conclude(self) -> Finding {
        let fine = format!("{} sound, {}", moon_actors::contract::count(self.files, "file"), size(self.bytes));
        let first = self.troubles.iter().find(|trouble| trouble.condition == Condition::Critical);
        let hint = first.map(|trouble| hint(self.vault.as_ref(), &trouble.subject)).unwrap_or_default();
        let finding = match (self.troubles.is_empty(), self.unread.is_empty()) {
            (true, false) => Finding::unknown(self.unread.join("; ")),
            _ => Finding::of(self.troubles, fine),
        };
        finding
            .hint(format!("{hint}tables that were dropped on purpose: `moon health --accept NAME`"))
            .figure("files", Figure::new(self.files as f64, ""))
            .figure("size", Figure::new(self.bytes as f64, "B"))
            .memory(serde_json::json!(self.memory))
    }

    fn file(&mut self, path: &Path, name: &str) {
        self.files += 1;
        let rest = self.rests.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(rest) = rest.filter(|rest| !self.is_asked && Instant::now() < rest.until && path.exists()) {
            self.bytes += rest.bytes;
            self.troubles.extend(rest.troubles);
            return;
        }
        let (begun, before, bytes) = (Instant::now(), self.troubles.len(), self.bytes);
        if !path.exists() {
            self.trouble(name, Condition::Critical, format!("{name} is not there"));
        } else if is_lines(path) {
            self.lines(path, name);
        } else {
            self.database(path, name);
        }
        let until = begun + policy::rest_after(begun.elapsed());
        let rest = Rest { until, troubles: self.troubles[before..].to_vec(), bytes: self.bytes - bytes };
        self.rests.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), rest);
    }

    fn lines(&mut self, path: &Path, name: &str) {
        match jsonl::inspect(path) {
            Ok(looked) => {
                self.bytes += looked.bytes;
                self.memory.files.entry(name.to_owned()).or_default();
                if !looked.broken.is_empty() {
                    let told: Vec<String> =
                        looked.broken.iter().map(|(line, why)| format!("line {line} is {why}")).collect();
                    self.trouble(name, Condition::Critical, format!("{name}: {}", told.join("; ")));
                }
            }
            Err(why) => self.unread(name, &why),
        }
    }

    fn database(&mut self, path: &Path, name: &str) {
        let inspected = match sqlite_file::inspect(path, Access::Foreign, &self.stop) {
            Ok(inspected) => inspected,
            Err(why) => return self.unread(name, &why),
        };
        self.bytes += inspected.bytes;
        if !inspected.damages.is_empty() {
            return self.trouble(name, Condition::Critical, format!("{name}: {}", inspected.told()));
        }
        let known = self.memory.files.entry(name.to_owned()).or_default();
        let lost = lost(known, &inspected.tables);
        if lost.is_empty() {
            *known = inspected.tables;
        } else if inspected.bytes == 0 {
            self.trouble(name, Condition::Critical, format!("{name}: truncated file: it is empty, and had tables"));
        } else {
            self.trouble(name, Condition::Critical, format!("{name}: wrong schema: {} gone", lost.join(", ")));
        }
    }

    fn trouble(&mut self, subject: &str, condition: Condition, reason: String) {
        self.troubles.push(Trouble { subject: subject.to_owned(), condition, reason, rule: None });
    }

    /// Not damage; but nobody can say that it is sound either.
    fn unread(&mut self, name: &str, why: &str) {
        self.unread.push(format!("{name} could not be looked into: {why}"));
        self.trouble(name, Condition::Unknown, format!("{name} could not be looked into: {why}"));
    }
}

/// What to do about a damaged file: a backup of a database is named only when it is known to hold it whole.
fn hint(vault: Option<&BackupVault>, damaged: &str) -> String {
    let path = Path::new(damaged);
    let is_taken = vault.is_some_and(|vault| vault.takes(path));
    let what = match vault.and_then(|vault| vault.holding(path)) {
        Some((id, member)) => match member.strip_prefix("home/").filter(|path| !path.starts_with("state/")) {
            Some(path) => format!("the backup {id} holds it whole: `moon restore {id} --only {path}`"),
            None => format!("the backup {id} holds it whole: `moon restore {id} --to DIR`, then copy DIR/{member}"),
        },
        None if is_lines(path) && is_taken => {
            "backups hold it as it was when they were made, and look into none of its lines: \
             `moon backup list`, `moon restore ID --to DIR`, and compare"
                .to_owned()
        }
        None if is_lines(path) => "take the broken lines out; no backup holds the file".to_owned(),
        None => "no backup here is known to hold it whole: `sqlite3 COPY .recover` may save some of it".to_owned(),
    };
    let from_now_on = if is_taken { "" } else { ", and backup.include takes its folder from now on" };
    format!("stop what writes it and keep a copy; {what}{from_now_on}; ")
}

/// Lines of JSON, by the name.
fn is_lines(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "jsonl" || end == "ndjson")
}

/// Tables and columns that were there.
fn lost(known: &Tables, now: &Tables) -> Vec<String> {
    let mut lost = Vec::new();
    for (table, columns) in known {
        match now.get(table) {
            None => lost.push(format!("table {table}")),
            Some(present) => {
                lost.extend(columns.iter().filter(|c| !present.contains(c)).map(|c| format!("column {table}.{c}")));
            }
        }
    }
    lost.truncate(5);
    lost
}

fn matching(entry: &Path) -> Result<Vec<PathBuf>, String> {
    let paths = pattern::paths(&entry.to_string_lossy()).map_err(|why| format!("the pattern cannot be used: {why}"))?;
    let is_side_file =
        |path: &PathBuf| ["-wal", "-shm", "-journal"].iter().any(|end| path.to_string_lossy().ends_with(end));
    let files: Vec<PathBuf> = paths.filter(|path| path.is_file() && !is_side_file(path)).take(MOST_FILES + 1).collect();
    if files.len() > MOST_FILES {
        return Err(format!("more than {MOST_FILES} files match; use several entries"));
    }
    Ok(files)
}
