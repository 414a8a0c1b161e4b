//! The plan's files, written from the ledger: `moon_state.json`, `archives/ledger.jsonl`, the audit log.
//!
//! `moon_state.json` is replaced whole. The two JSON-lines files grow by whole lines; what can still change (a segment that is not
//! indexed yet, and all behind it) is rewritten from its first byte on. Once per life each file is read and compared line by line;
//! a damaged or missing one is written anew and named. Nothing of Moon's ever reads them back as truth.

use super::sqlite::SqliteLedger;
use crate::durable;
use crate::home::Home;
use async_trait::async_trait;
use moon_actors::contract::{ArchiveRecord, MoonState, SessionUsageSnapshot};
use moon_actors::port::{AuditRow, Clock, Ledger, Projector};
use moon_actors::threshold::engine::machine_of;
use moon_actors::{Error, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Audit rows and segments taken from the ledger at a time.
const BATCH: usize = 500;
/// Longest line looked at when a file is checked.
const LINE_CAP: u64 = 1 << 20;

pub struct Projections {
    ledger: SqliteLedger,
    clock: Arc<dyn Clock>,
    state_file: PathBuf,
    archives: Mutex<Lines>,
    audit: Mutex<Lines>,
    checked_state: std::sync::atomic::AtomicBool,
}

/// A JSON-lines file: how much of it is final, and the last id that is.
struct Lines {
    path: PathBuf,
    bytes: u64,
    last: i64,
    checked: bool,
}

impl Lines {
    fn new(path: PathBuf) -> Self {
        Self { path, bytes: 0, last: 0, checked: false }
    }

    /// Starts from nothing. True if there was something to lose.
    fn forget(&mut self) {
        (self.bytes, self.last) = (0, 0);
    }

    fn write(&mut self, lines: &str) -> Result<()> {
        let failed = |e: io::Error| io_failed(&self.path, &e);
        if let Some(folder) = self.path.parent() {
            durable::create_folder(folder).map_err(failed)?;
        }
        let there = std::fs::metadata(&self.path).map_or(0, |m| m.len());
        if lines.is_empty() && there == self.bytes {
            return Ok(());
        }
        durable::append_at(&self.path, self.bytes, lines.as_bytes()).map(drop).map_err(failed)
    }
}

impl Projections {
    pub fn new(home: &Home, ledger: SqliteLedger, clock: Arc<dyn Clock>) -> Self {
        Self {
            ledger,
            clock,
            state_file: home.state_json(),
            archives: Mutex::new(Lines::new(home.archive_ledger())),
            audit: Mutex::new(Lines::new(home.audit_log())),
            checked_state: Default::default(),
        }
    }

    async fn state(&self) -> Result<MoonState> {
        let rows = self.ledger.sessions().await?;
        let newest = rows.iter().max_by_key(|row| row.reading.captured_at);
        let mut state = MoonState {
            schema_version: 1,
            last_heartbeat_epoch_secs: self.clock.now().timestamp(),
            last_session_id: newest.map(|row| row.reading.session.session_id.clone()),
            last_usage_ratio: newest.and_then(|row| row.reading.ratio()),
            last_provider: newest.map(|row| row.reading.provider.clone()),
            counters: serde_json::to_value(self.ledger.totals().await?).expect("totals are plain data"),
            ..MoonState::default()
        };
        for row in &rows {
            let machine = machine_of(row);
            let latest = |so_far: Option<i64>, fired: Option<chrono::DateTime<chrono::Utc>>| {
                so_far.max(fired.map(|at| at.timestamp()))
            };
            state.last_archive_trigger_epoch_secs =
                latest(state.last_archive_trigger_epoch_secs, machine.archive.fired);
            state.last_prune_trigger_epoch_secs = latest(state.last_prune_trigger_epoch_secs, machine.prune.fired);
            state.last_distill_trigger_epoch_secs =
                latest(state.last_distill_trigger_epoch_secs, machine.distill.fired);
            let shown = json!({ "usage": SessionUsageSnapshot::from(&row.reading), "machine": machine });
            state.sessions.insert(row.reading.session.key.to_string(), shown);
        }
        Ok(state)
    }

    async fn write_state(&self) -> Result<Option<String>> {
        let mut repaired = None;
        if !self.checked_state.swap(true, std::sync::atomic::Ordering::Relaxed)
            && let Ok(text) = std::fs::read(&self.state_file)
            && serde_json::from_slice::<MoonState>(&text).is_err()
        {
            repaired = Some("state/moon_state.json was damaged and is written anew from the ledger".to_owned());
        }
        let text = serde_json::to_vec_pretty(&self.state().await?).expect("the state is plain data");
        durable::replace(&self.state_file, &text).map_err(|e| io_failed(&self.state_file, &e))?;
        Ok(repaired)
    }

    async fn write_archives(&self) -> Result<Option<String>> {
        let mut lines = self.archives.lock().await;
        let mut repaired = None;
        if !lines.checked {
            lines.checked = true;
            let expected = self.ledger.archive_rows(0, usize::MAX).await?;
            let expected = expected.iter().map(|(id, record)| (*id, line(record)));
            repaired = adopt(&mut lines, expected, "archives/ledger.jsonl");
        }
        let mut text = String::new();
        let (mut last, mut last_final, mut final_bytes, mut open) = (lines.last, lines.last, 0, false);
        loop {
            let rows = self.ledger.archive_rows(last, BATCH).await?;
            let Some((newest, _)) = rows.last() else { break };
            last = *newest;
            for (id, record) in &rows {
                text.push_str(&line(record));
                open |= !record.indexed;
                if !open {
                    (last_final, final_bytes) = (*id, text.len() as u64);
                }
            }
        }
        lines.write(&text)?;
        lines.bytes += final_bytes;
        lines.last = last_final;
        Ok(repaired)
    }

    async fn write_audit(&self) -> Result<Option<String>> {
        let mut lines = self.audit.lock().await;
        let mut repaired = None;
        if !lines.checked {
            lines.checked = true;
            let (mut expected, mut after) = (Vec::new(), 0);
            loop {
                let rows = self.ledger.audit_rows(after, BATCH).await?;
                let Some(newest) = rows.last() else { break };
                after = newest.seq;
                expected.extend(rows.iter().map(|row| (row.seq, line(&audit_line(row)))));
            }
            repaired = adopt(&mut lines, expected.into_iter(), "skills/moon-system/logs/audit.log");
        }
        loop {
            let rows = self.ledger.audit_rows(lines.last, BATCH).await?;
            let Some(newest) = rows.last().map(|row| row.seq) else { return Ok(repaired) };
            let text: String = rows.iter().map(|row| line(&audit_line(row))).collect();
            lines.write(&text)?;
            lines.bytes += text.len() as u64;
            lines.last = newest;
        }
    }
}

/// Compares a file with what it should hold, and keeps the part that agrees. Says so when something did not.
fn adopt(lines: &mut Lines, expected: impl Iterator<Item = (i64, String)>, name: &str) -> Option<String> {
    lines.forget();
    let Ok(file) = File::open(&lines.path) else { return None };
    let mut reader = BufReader::new(file);
    for (id, wanted) in expected {
        let mut found = Vec::new();
        let read = io::Read::take(&mut reader, LINE_CAP).read_until(b'\n', &mut found);
        match read {
            Ok(0) => return None,
            Ok(n) if found == wanted.as_bytes() => {
                lines.bytes += n as u64;
                lines.last = id;
            }
            // A segment that has been indexed since is no damage: its line is final only now.
            Ok(_) if is_older_version(&found, &wanted) => return None,
            _ => {
                return Some(format!(
                    "{name} was damaged after byte {} and is written anew from the ledger",
                    lines.bytes
                ));
            }
        }
    }
    let surplus = reader.fill_buf().is_ok_and(|rest| !rest.is_empty());
    surplus.then(|| format!("{name} held lines that the ledger does not know; they are removed"))
}

fn is_older_version(found: &[u8], wanted: &str) -> bool {
    let (Ok(found), Ok(wanted)) =
        (serde_json::from_slice::<ArchiveRecord>(found), serde_json::from_str::<ArchiveRecord>(wanted))
    else {
        return false;
    };
    ArchiveRecord { indexed: wanted.indexed, ..found } == wanted
}

fn line(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("records are plain data");
    text.push('\n');
    text
}

/// The plan's four keys first, then everything else of the row.
fn audit_line(row: &AuditRow) -> Value {
    let phase = row.entry.stage.map_or(row.entry.actor.as_str(), |stage| stage.as_str());
    let mut value = json!({
        "at_epoch_secs": row.at.timestamp(), "phase": phase, "status": row.entry.outcome, "message": row.entry.message,
    });
    if let (Some(to), Ok(Value::Object(from))) = (value.as_object_mut(), serde_json::to_value(row)) {
        for (key, entry) in from {
            to.entry(key).or_insert(entry);
        }
    }
    value
}

fn io_failed(path: &Path, e: &io::Error) -> Error {
    Error::transient("projection.io", format!("could not write {}", path.display()))
        .cause(e)
        .hint("nothing is lost: it is written again from the ledger")
}

#[async_trait]
impl Projector for Projections {
    async fn refresh(&self) -> Result<Vec<String>> {
        self.ledger.keep_reserve();
        let repaired = [self.write_state().await, self.write_archives().await, self.write_audit().await];
        let mut notes = Vec::new();
        for outcome in repaired {
            notes.extend(outcome?);
        }
        Ok(notes)
    }
}
