//! The plan's files, written from the ledger: `moon_state.json`, `archives/ledger.jsonl`, the audit log.
//!
//! `moon_state.json` is replaced whole. The two JSON-lines files grow by whole lines; what can still change (a segment that is not
//! indexed yet, and all behind it) is rewritten from its first byte on. Once per life each file is read and compared line by line;
//! a damaged or missing one is written anew and named. Nothing of Moon's ever reads them back as truth.

pub use super::shown::HEARTBEAT;
use super::shown::Shown;
use super::sqlite::SqliteLedger;
use crate::durable;
use crate::home::Home;
use async_trait::async_trait;
use moon_actors::contract::{ArchiveRecord, MoonState, SessionUsageSnapshot};
use moon_actors::port::{AuditRow, Clock, DaemonPhase, Ledger, Projector};
use moon_actors::settings::Dashboard;
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

/// How often a file is looked at in one refresh while somebody takes lines away; the next refresh goes on.
const LOOKS: usize = 3;

/// The files as people know them, relative to the home.
const STATE: &str = "state/moon_state.json";
const ARCHIVES: &str = "archives/ledger.jsonl";
const AUDIT: &str = "skills/moon-system/logs/audit.log";

pub struct Projections {
    ledger: SqliteLedger,
    clock: Arc<dyn Clock>,
    state_file: PathBuf,
    archives: Mutex<Lines>,
    audit: Mutex<Lines>,
    checked_state: std::sync::atomic::AtomicBool,
    shown: Shown,
}

/// Files that are not as the ledger would have them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Not written so far yet, or not there.
    pub behind: Vec<&'static str>,
    /// They say something else.
    pub damaged: Vec<&'static str>,
}

/// The files that grow by lines.
#[derive(Clone, Copy)]
enum Growing {
    Archives,
    Audit,
}

impl Growing {
    const ALL: [Self; 2] = [Self::Archives, Self::Audit];

    const fn name(self) -> &'static str {
        match self {
            Self::Archives => ARCHIVES,
            Self::Audit => AUDIT,
        }
    }
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

    /// Once per life, and whenever somebody has taken lines away.
    fn needs_check(&self) -> bool {
        !self.checked || std::fs::metadata(&self.path).map_or(0, |found| found.len()) < self.bytes
    }

    /// Goes on where the file agrees with the ledger. One that says something else is moved aside: it may be the only witness
    /// of a ledger that was changed. Returns what was wrong, if anything.
    fn adopt(&mut self, check: Check) -> Result<Option<String>> {
        let was_cut = self.checked && check.bytes < self.bytes;
        let said = match check.verdict {
            Some(Verdict::Damaged(what)) => {
                let aside = durable::free_name(&self.path, ".damaged");
                durable::set_aside(&self.path, &aside).map_err(|e| io_failed(&self.path, &e))?;
                (self.bytes, self.last, self.checked) = (0, 0, true);
                let name = aside.file_name().unwrap_or_default().to_string_lossy();
                return Ok(Some(format!("{what}; what stood there is kept as {name}")));
            }
            _ if was_cut => Some(format!("{} was cut or removed and is written anew from the ledger", check.name)),
            _ => None,
        };
        ((self.bytes, self.last), self.checked) = (check.settled, true);
        Ok(said)
    }

    /// False: somebody has taken lines away since they were looked at, and nothing was written.
    fn write(&mut self, lines: &str) -> Result<bool> {
        let failed = |e: io::Error| io_failed(&self.path, &e);
        if let Some(folder) = self.path.parent() {
            durable::create_folder(folder).map_err(failed)?;
        }
        let there = std::fs::metadata(&self.path).map_or(0, |m| m.len());
        if lines.is_empty() && there == self.bytes {
            return Ok(true);
        }
        match durable::append_at(&self.path, self.bytes, lines.as_bytes()) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            written => written.map(|_| true).map_err(failed),
        }
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
            shown: Shown::new(home),
        }
    }

    /// With the files that show the status document, where the settings name them.
    #[must_use]
    pub fn screens(mut self, settings: &Dashboard) -> Self {
        self.shown.settle(settings);
        self
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
            repaired = Some(format!("{STATE} was damaged and is written anew from the ledger"));
        }
        let text = state_text(&self.state().await?);
        durable::replace(&self.state_file, &text).map_err(|e| io_failed(&self.state_file, &e))?;
        Ok(repaired)
    }

    /// Files that do not agree with the ledger (yet). Changes nothing.
    pub async fn stale(&self) -> Result<Stale> {
        let mut stale = Stale::default();
        let found = std::fs::read(&self.state_file).unwrap_or_default();
        // Equal but for the heartbeat.
        let mut wanted = self.state().await?;
        let there = serde_json::from_slice::<MoonState>(&found);
        wanted.last_heartbeat_epoch_secs = there.as_ref().map_or(0, |found| found.last_heartbeat_epoch_secs);
        match there {
            Err(_) if !found.is_empty() => stale.damaged.push(STATE),
            _ if state_text(&wanted) != found => stale.behind.push(STATE),
            _ => {}
        }
        for file in Growing::ALL {
            let check = self.check(file, &*self.lines(file).lock().await).await?;
            match check.verdict {
                Some(Verdict::Damaged(_)) => stale.damaged.push(check.name),
                Some(Verdict::Behind) => stale.behind.push(check.name),
                Some(Verdict::Whole) | None => {}
            }
        }
        Ok(stale)
    }

    fn lines(&self, file: Growing) -> &Mutex<Lines> {
        match file {
            Growing::Archives => &self.archives,
            Growing::Audit => &self.audit,
        }
    }

    async fn check(&self, file: Growing, lines: &Lines) -> Result<Check> {
        let mut check = Check::of(lines, file.name());
        while check.verdict.is_none() {
            match file {
                Growing::Archives => {
                    let rows = self.ledger.archive_rows(check.last, BATCH).await?;
                    check.compare(rows.iter().map(|(id, record)| (*id, line(record), record.indexed)));
                }
                Growing::Audit => {
                    let rows = self.ledger.audit_rows(check.last, BATCH).await?;
                    check.compare(rows.iter().map(|row| (row.seq, line(&audit_line(row)), true)));
                }
            }
        }
        Ok(check)
    }

    /// Says what was wrong with it before, if anything.
    async fn write(&self, file: Growing) -> Result<Option<String>> {
        let mut lines = self.lines(file).lock().await;
        let mut repaired = None;
        for _ in 0..LOOKS {
            if lines.needs_check() {
                let check = self.check(file, &lines).await?;
                repaired = lines.adopt(check)?.or(repaired);
            }
            let is_written = match file {
                Growing::Archives => self.grow_archives(&mut lines).await?,
                Growing::Audit => self.grow_audit(&mut lines).await?,
            };
            if is_written {
                break;
            }
        }
        Ok(repaired)
    }

    /// Writes what is new or has changed. False: the file has become shorter.
    async fn grow_archives(&self, lines: &mut Lines) -> Result<bool> {
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
        let is_written = lines.write(&text)?;
        if is_written {
            lines.bytes += final_bytes;
            lines.last = last_final;
        }
        Ok(is_written)
    }

    /// Writes what is new. False: the file has become shorter.
    async fn grow_audit(&self, lines: &mut Lines) -> Result<bool> {
        loop {
            let rows = self.ledger.audit_rows(lines.last, BATCH).await?;
            let Some(newest) = rows.last().map(|row| row.seq) else { return Ok(true) };
            let text: String = rows.iter().map(|row| line(&audit_line(row))).collect();
            if !lines.write(&text)? {
                return Ok(false);
            }
            lines.bytes += text.len() as u64;
            lines.last = newest;
        }
    }
}

/// A file that is compared with what it should hold, line by line: as far as it agrees it is kept.
struct Check {
    name: &'static str,
    /// `None` when there is no file.
    reader: Option<BufReader<File>>,
    bytes: u64,
    /// The last id whose line agrees.
    last: i64,
    /// The same for the lines that can never change again: one of them that still can is written with all behind it.
    settled: (u64, i64),
    open: bool,
    verdict: Option<Verdict>,
}

enum Verdict {
    Whole,
    /// Not written so far yet, or not there.
    Behind,
    /// What is wrong, in one sentence.
    Damaged(String),
}

impl Check {
    fn of(lines: &Lines, name: &'static str) -> Self {
        let reader = File::open(&lines.path).ok().map(BufReader::new);
        Self { name, reader, bytes: 0, last: 0, settled: (0, 0), open: false, verdict: None }
    }

    /// Compares the next lines, of which each says whether it is final; none at all mean that the ledger has no more.
    fn compare(&mut self, wanted: impl ExactSizeIterator<Item = (i64, String, bool)>) {
        let is_all = wanted.len() == 0;
        let Some(mut reader) = self.reader.take() else {
            // No file is the whole file where there is nothing to say.
            self.verdict = Some(if is_all { Verdict::Whole } else { Verdict::Behind });
            return;
        };
        for (id, wanted, is_final) in wanted {
            let mut found = Vec::new();
            // No further than the line may reach, whatever stands there.
            let most = wanted.len() as u64 + 1;
            match io::Read::take(&mut reader, most).read_until(b'\n', &mut found) {
                Ok(n) if n > 0 && found == wanted.as_bytes() => {
                    self.bytes += n as u64;
                    self.last = id;
                    self.open |= !is_final;
                    if !self.open {
                        self.settled = (self.bytes, id);
                    }
                }
                Ok(0) => self.verdict = Some(Verdict::Behind),
                // A segment that has been indexed since is no damage: its line is final only now.
                Ok(_) if is_older_version(&found, &wanted) => self.verdict = Some(Verdict::Behind),
                _ => {
                    let (name, at) = (self.name, self.bytes);
                    let what = format!("{name} was damaged after byte {at} and is written anew from the ledger");
                    self.verdict = Some(Verdict::Damaged(what));
                }
            }
            if self.verdict.is_some() {
                return;
            }
        }
        if is_all {
            let surplus = reader.fill_buf().is_ok_and(|rest| !rest.is_empty());
            let what = format!("{} held lines that the ledger does not know", self.name);
            self.verdict = Some(if surplus { Verdict::Damaged(what) } else { Verdict::Whole });
        }
        self.reader = Some(reader);
    }
}

fn is_older_version(found: &[u8], wanted: &str) -> bool {
    let (Ok(found), Ok(wanted)) =
        (serde_json::from_slice::<ArchiveRecord>(found), serde_json::from_str::<ArchiveRecord>(wanted))
    else {
        return false;
    };
    ArchiveRecord { indexed: wanted.indexed, ..found } == wanted
}

fn state_text(state: &MoonState) -> Vec<u8> {
    serde_json::to_vec_pretty(state).expect("the state is plain data")
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
        let repaired =
            [self.write_state().await, self.write(Growing::Archives).await, self.write(Growing::Audit).await];
        let mut notes = Vec::new();
        self.shown.write_status(None, self.clock.now())?;
        for outcome in repaired {
            notes.extend(outcome?);
        }
        Ok(notes)
    }
    async fn phase(&self, phase: DaemonPhase) -> Result<()> {
        self.shown.write_status(Some(phase), self.clock.now())
    }
    fn note_checks(&self, passed: u32, total: u32) {
        self.shown.note_checks(passed, total);
    }
    fn has_screens(&self) -> bool {
        self.shown.has_files()
    }
    async fn show(&self, document: &Value) -> Result<()> {
        self.shown.write(document)
    }
    async fn keep_report(&self, report: &str, figures: &Value) -> Result<String> {
        self.shown.keep_report(&self.clock.today().format("%Y%m%d").to_string(), report, figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::archive_dir::ArchiveDir;
    use crate::adapters::clock::{SystemClock, UuidIds};
    use moon_actors::domain::{CycleId, CycleKind, Job, Record, SessionRef, SourceIdentity, Stage, TraceId};
    use moon_actors::port::{ArchiveStore, SegmentDraft};

    struct Scene {
        _folder: tempfile::TempDir,
        home: Home,
        archive: ArchiveDir,
        ledger: SqliteLedger,
        clock: Arc<dyn Clock>,
    }

    impl Scene {
        fn set() -> Self {
            let folder = tempfile::tempdir().expect("a scratch folder");
            let (home, _) = Home::open(folder.path().join("home")).expect("a home");
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
            let ledger = SqliteLedger::in_memory(Arc::clone(&clock), Arc::new(UuidIds)).expect("a ledger");
            let archive = ArchiveDir::open(home.root(), 3, "moon test".into()).expect("an archive");
            Self { _folder: folder, home, archive, ledger, clock }
        }

        /// A life of the projections; each begins by reading what the one before has left.
        fn life(&self) -> Projections {
            Projections::new(&self.home, self.ledger.clone(), Arc::clone(&self.clock))
        }

        /// Archives one record as a segment. Returns its id.
        async fn archived(&self, seq: i64) -> i64 {
            let session = SessionRef { key: "agent:main:main".into(), session_id: "7f3c".into() };
            let series = self.ledger.series(&session).await.expect("a series");
            let source = SourceIdentity {
                kind: "jsonl".into(),
                location: "/somewhere".into(),
                device: None,
                inode: None,
                schema: None,
                generation: None,
            };
            let draft = SegmentDraft {
                session_key: session.key.clone(),
                session_id: session.session_id.clone(),
                epoch: 0,
                ordinal: seq,
                previous: None,
                records: vec![Record { seq, bytes: format!("record {seq}").into_bytes() }],
                source,
                archived_at: self.clock.now(),
            };
            let stored = self.archive.put(draft).await.expect("stored");
            let job = Job {
                cycle: CycleId::from("c"),
                kind: CycleKind::Capture,
                stage: Stage::Archive,
                session: session.key,
                session_id: session.session_id,
                trace: TraceId::from("t"),
                age: std::time::Duration::ZERO,
                attempt: 1,
                failures: 0,
                ratio: None,
                used_tokens: None,
                ack: None,
                intent: None,
            };
            self.ledger.add_segment(&series, &stored, 0, &job).await.expect("added");
            self.ledger.all_segments().await.expect("segments").last().expect("this one").id
        }
    }

    #[tokio::test]
    async fn a_file_that_is_taken_away_between_a_look_and_the_writing_is_written_whole_with_one_note() {
        let s = Scene::set();
        s.ledger.begin("test").await.expect("begun");
        let first = s.archived(0).await;
        s.ledger.mark_indexed(&[first]).await.expect("marked");
        let life = s.life();
        life.refresh().await.expect("written");
        for (file, lines) in [(s.home.archive_ledger(), &life.archives), (s.home.audit_log(), &life.audit)] {
            let mut lines = lines.lock().await;
            assert!(!lines.needs_check());
            std::fs::write(&file, "").expect("emptied");
            assert!(!lines.write("a line\n").expect("no failure"), "it is looked at again");
            assert_eq!(std::fs::read(&file).expect("there"), b"", "no line stands where another one belongs");
        }
        let notes = life.refresh().await.expect("written");
        assert_eq!((notes.len(), life.stale().await.expect("compared")), (2, Stale::default()), "{notes:?}");
    }

    #[tokio::test]
    async fn a_segment_that_is_indexed_in_the_next_life_is_told_so() {
        let s = Scene::set();
        s.ledger.begin("test").await.expect("begun");
        let (first, second) = (s.archived(0).await, s.archived(1).await);
        s.ledger.mark_indexed(&[second]).await.expect("marked");
        s.life().refresh().await.expect("written");
        let life = s.life();
        assert_eq!(life.refresh().await.expect("written"), Vec::<String>::new(), "what may still change is no damage");
        assert_eq!(life.stale().await.expect("compared"), Stale::default());
        s.ledger.mark_indexed(&[first]).await.expect("marked");
        assert_eq!(life.stale().await.expect("compared"), Stale { behind: vec![STATE, ARCHIVES], damaged: vec![] });
        assert_eq!(life.refresh().await.expect("written"), Vec::<String>::new());
        assert_eq!(life.stale().await.expect("compared"), Stale::default(), "the first line says it as well");
        let third = s.archived(2).await;
        s.ledger.mark_indexed(&[third]).await.expect("marked");
        life.refresh().await.expect("written");
        assert_eq!(s.life().stale().await.expect("compared"), Stale::default());
    }
}
