//! Measurements of the whole: how long a session takes into the archive, what an idle process costs.
//!
//! Everything runs on made-up data in a scratch folder that goes away. Figures are for comparing runs on one machine; no test
//! asserts them. The search index has its own in [`crate::adapters::fts::bench`].

use crate::adapters::transcripts::TranscriptsHost;
use crate::daemon::Daemon;
use crate::daemon::lock::HomeLock;
use crate::durable;
use crate::home::Home;
use crate::scratch::Scratch;
use moon_actors::domain::SessionKey;
use moon_actors::port::Ledger;
use moon_actors::settings::{HostChoice, Settings};
use moon_actors::{Error, Result};
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for one transcript.
const LIMIT: Duration = Duration::from_secs(600);

/// From the first sight of a transcript to its archived, read-back and recorded copy, and to its text in the index.
#[derive(Clone, Debug, Serialize)]
pub struct Archived {
    pub bytes: u64,
    pub records: i64,
    pub to_archived_ms: f64,
    pub to_searchable_ms: f64,
    /// The same for one more turn of about 1 kB.
    pub next_turn_to_archived_ms: f64,
    pub next_turn_to_searchable_ms: f64,
    /// Bytes on disk, compressed.
    pub stored_bytes: u64,
    /// Largest resident set seen meanwhile, bytes.
    pub peak_rss_bytes: u64,
}

impl fmt::Display for Archived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(f, "transcript  {:.1} MiB, {} records", mib(self.bytes), self.records)?;
        writeln!(
            f,
            "first sight archived and verified after {:.0} ms, searchable after {:.0} ms",
            self.to_archived_ms, self.to_searchable_ms
        )?;
        writeln!(
            f,
            "one turn    archived and verified after {:.0} ms, searchable after {:.0} ms",
            self.next_turn_to_archived_ms, self.next_turn_to_searchable_ms
        )?;
        write!(f, "stored      {:.1} MiB, peak memory {:.1} MiB", mib(self.stored_bytes), mib(self.peak_rss_bytes))
    }
}

/// What a process used over a span of time.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    pub pid: u32,
    pub seconds: f64,
    pub rss_bytes: u64,
    pub cpu_ms: f64,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.rss_bytes as f64 / f64::from(1 << 20);
        write!(f, "process {}: {mib:.1} MiB resident, {:.0} ms of CPU in {:.0} s", self.pid, self.cpu_ms, self.seconds)
    }
}

/// Watches a process for a while.
pub async fn idle(pid: u32, span: Duration) -> Result<Idle> {
    let before = usage(pid)?;
    let began = Instant::now();
    tokio::time::sleep(span).await;
    let after = usage(pid)?;
    let (cpu_ms, seconds) = (after.1.saturating_sub(before.1) as f64, began.elapsed().as_secs_f64());
    Ok(Idle { pid, seconds, rss_bytes: after.0, cpu_ms })
}

/// Resident bytes and accumulated CPU milliseconds of a process.
fn usage(pid: u32) -> Result<(u64, u64)> {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
    let unreadable = |e| Error::unavailable("bench.unreadable", "could not read this machine's processes").cause(e);
    let mut system = System::new().map_err(unreadable)?;
    let pid_of = Pid::from_u32(pid);
    let kind = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid_of]), true, kind);
    let gone = || Error::data("bench.no_process", format!("there is no process {pid}"));
    let process = system.process(pid_of).ok_or_else(gone)?;
    Ok((process.memory(), process.accumulated_cpu_time()))
}

/// Archives a made-up transcript of about `bytes` with the real tree, and one more turn after that.
pub async fn archive(bytes: u64) -> Result<Archived> {
    let scratch = Scratch::make("bench")?;
    let (home, _) = Home::open(scratch.path().join("home"))?;
    let folder = scratch.path().join("sessions");
    durable::create_folder(&folder).map_err(failed)?;
    let transcript = folder.join("bench.jsonl");
    let mut settings = Settings::default();
    settings.watch.host = HostChoice::Transcripts;
    settings.watch.transcripts_dir = folder.display().to_string();
    settings.watch.window_tokens = u64::MAX;
    let lock = HomeLock::take(&home, "bench")?;
    let host = Arc::new(TranscriptsHost::new(folder, &settings));
    let daemon = Daemon::start(&home, settings, lock, host).await?;
    let watch = Watch { ledger: Arc::clone(&daemon.wiring.ports.ledger), key: "transcripts:bench".into(), peak: 0 };
    let measured = measure(watch, &transcript, bytes, &home).await;
    daemon.stop("the measurement is over").await?;
    measured
}

async fn measure(mut watch: Watch, transcript: &Path, bytes: u64, home: &Home) -> Result<Archived> {
    // Written aside and renamed: the first thing Moon sees is the whole file.
    let aside = transcript.with_extension("aside");
    let mut records = write_turns(&aside, bytes).map_err(failed)?;
    std::fs::rename(&aside, transcript).map_err(failed)?;
    let (to_archived_ms, to_searchable_ms) = watch.until(records).await?;
    let line = turn(records);
    let mut file = std::fs::OpenOptions::new().append(true).open(transcript).map_err(failed)?;
    file.write_all(line.as_bytes()).map_err(failed)?;
    records += 1;
    let (next_turn_to_archived_ms, next_turn_to_searchable_ms) = watch.until(records).await?;
    Ok(Archived {
        bytes: std::fs::metadata(transcript).map_err(failed)?.len(),
        records,
        to_archived_ms,
        to_searchable_ms,
        next_turn_to_archived_ms,
        next_turn_to_searchable_ms,
        stored_bytes: size_of(&home.objects_dir()).map_err(failed)?,
        peak_rss_bytes: watch.peak,
    })
}

struct Watch {
    ledger: Arc<dyn Ledger>,
    key: SessionKey,
    peak: u64,
}

impl Watch {
    /// Milliseconds from now until so many records are archived, and until all of them are searchable.
    async fn until(&mut self, records: i64) -> Result<(f64, f64)> {
        let began = Instant::now();
        let mut archived = None;
        while began.elapsed() < LIMIT {
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.peak = self.peak.max(usage(std::process::id())?.0);
            let have: i64 = self.ledger.all_series(Some(&self.key)).await?.iter().map(|s| s.records).sum();
            if have >= records {
                let ms = began.elapsed().as_secs_f64() * 1e3;
                let archived = *archived.get_or_insert(ms);
                if self.ledger.unindexed(Some(&self.key), 0, 1).await?.is_empty() {
                    return Ok((archived, ms));
                }
            }
        }
        Err(Error::transient("bench.timeout", format!("{records} records were not archived in {LIMIT:?}")))
    }
}

/// Writes turns until the file has about `bytes`; returns how many.
fn write_turns(path: &Path, bytes: u64) -> std::io::Result<i64> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let (mut written, mut records) = (0, 0);
    while written < bytes {
        let line = turn(records);
        file.write_all(line.as_bytes())?;
        written += line.len() as u64;
        records += 1;
    }
    file.flush()?;
    Ok(records)
}

/// One record of about 1 kB with words that differ from record to record.
fn turn(number: i64) -> String {
    let words = [
        "pump", "basin", "ledger", "valve", "report", "window", "archive", "signal", "harbour", "index", "meter",
        "canal", "filter", "night", "shift", "crane",
    ];
    let mut state = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = format!("Turn {number}:");
    while text.len() < 900 {
        // xorshift: enough variety to keep compression honest.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!(" {} {}", words[(state % 16) as usize], state >> 44));
    }
    let role = if number % 2 == 0 { "user" } else { "assistant" };
    let message = json!({ "role": role, "content": text });
    format!("{}\n", json!({ "type": "message", "id": format!("{number:08x}"), "message": message }))
}

fn size_of(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size_of(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

fn failed(e: std::io::Error) -> Error {
    Error::transient("bench.io", "could not prepare the measurement").cause(e)
}
