//! The truth: what was archived, what is to be done, what happened. One transaction per method.
//!
//! A stage's completion, the next job and the audit row commit together; nothing is ever recorded as done before its
//! effect is. Cooldowns, cursors and claims live here, so that a restart forgets nothing.

use super::{
    Alert, AlertBook, AlertKey, CheckRow, PastAlert, Period, Proof, Severity, StageLoad, Stored, StoredBackup, Target,
    UsageTrack,
};
use crate::contract::Issue;
use crate::domain::{
    BootId, Claim, CycleId, CycleKind, Job, Segment, Series, SessionKey, SessionRef, Sha256, Stage, TraceId, Trigger,
    UsageReading,
};
use crate::error::{Error, Result};
use crate::schedule::Task;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// One row to be added to the audit. `seq`, time, boot and the hash chain are the ledger's business.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Who did it: an actor or command, e.g. `archive`, `cli`.
    pub actor: String,
    /// What happened, past tense: `started`, `succeeded`, `failed`, `retried`, `skipped`, `quarantined`, `parked`, …
    pub event: String,
    pub trace: Option<TraceId>,
    pub cycle: Option<CycleId>,
    pub session: Option<SessionKey>,
    pub stage: Option<Stage>,
    pub attempt: Option<u32>,
    /// `ok`, `failed`, `skipped`, `info`.
    pub outcome: String,
    pub error_code: Option<String>,
    /// One sentence for people. Never transcript text, never a secret.
    pub message: String,
    /// Figures and hashes.
    pub detail: Value,
}

impl AuditEntry {
    pub fn new(actor: &str, event: &str, outcome: &str, message: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
            event: event.into(),
            trace: None,
            cycle: None,
            session: None,
            stage: None,
            attempt: None,
            outcome: outcome.into(),
            error_code: None,
            message: message.into(),
            detail: Value::Null,
        }
    }
    #[must_use]
    pub fn session(mut self, session: &SessionKey) -> Self {
        self.session = Some(session.clone());
        self
    }
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }
}

/// A stored audit row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    pub seq: i64,
    pub at: DateTime<Utc>,
    pub boot: BootId,
    #[serde(flatten)]
    pub entry: AuditEntry,
    pub prev_sha256: String,
    pub sha256: String,
}

/// A cycle to be opened.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCycle {
    pub id: CycleId,
    pub session: SessionRef,
    pub trigger: Trigger,
    pub trace: TraceId,
    pub used_tokens: Option<u64>,
    pub ack: Option<String>,
}

/// What a finished stage leaves behind; written in the transaction that completes its job.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The stage's own rows were written as it went (archive segments), or there was nothing to do.
    None,
    Indexed {
        segments: Vec<i64>,
    },
    Pruned {
        tokens_before: Option<u64>,
        tokens_after: Option<u64>,
        permit: Value,
    },
    /// One row a stretch; none when nothing was new.
    Distilled(Vec<DistillationRow>),
    Continued(Box<ContinuityRow>),
}

/// A distillation as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistillationRow {
    pub key: Sha256,
    pub series_id: i64,
    pub session: SessionKey,
    pub session_id: String,
    pub cycle: CycleId,
    pub from_seq: i64,
    pub to_seq: i64,
    pub provider: String,
    /// Relative to the home.
    pub summary_path: String,
    pub at: DateTime<Utc>,
    /// A [`Distillate`](crate::domain::Distillate).
    pub body: Value,
}

/// Old and new window, linked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContinuityRow {
    pub cycle: CycleId,
    pub session: SessionKey,
    pub source_session_id: String,
    pub target_session_id: String,
    pub map_path: String,
    pub map_sha256: Sha256,
    /// Of the block that must arrive in the next model call.
    pub block_sha256: Sha256,
    /// `reset`, `compact` or `none` (observe mode: the map is written, the window stays).
    pub rollover: String,
    pub at: DateTime<Utc>,
    pub confirmed_at: Option<DateTime<Utc>>,
}

/// A session as last seen, with the state of its threshold machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    pub reading: UsageReading,
    /// The last reading that could be trusted, if the present one cannot.
    pub last_fresh: Option<UsageReading>,
    /// [`threshold::policy::Machine`](crate::threshold), as JSON.
    pub machine: Option<Value>,
    /// Archived positions that no distillation covers.
    pub undistilled: i64,
    /// The open cycle that is more than a capture, if any.
    pub open_cycle: Option<CycleId>,
    /// When the last cycle that reduces ended: older readings say nothing about its effect.
    pub settled_at: Option<DateTime<Utc>>,
    /// Prunes since the last rollover, and the share of used tokens that the last one freed.
    pub prunes: u32,
    pub last_freed: Option<f64>,
}

impl SessionRow {
    /// A session of which nothing but this reading is known.
    pub fn new(reading: UsageReading) -> Self {
        Self {
            reading,
            last_fresh: None,
            machine: None,
            undistilled: 0,
            open_cycle: None,
            settled_at: None,
            prunes: 0,
            last_freed: None,
        }
    }
}

/// Neither the host nor the archive has ever shown that session.
pub fn unknown_session(session: &str) -> Error {
    Error::data("session.unknown", format!("there is no session {session}")).hint("`moon sessions` lists them")
}

/// What `begin` found of the life before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    pub released_claims: u64,
    pub clean_stop: bool,
    /// By how much the clock is behind the last audit row: it was set back between two lives. 0 usually.
    pub clock_behind_secs: i64,
}

/// One life of a process that wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    pub started_at: DateTime<Utc>,
    /// `None`: it was cut off.
    pub ended_at: Option<DateTime<Utc>>,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub segments: i64,
    pub records: i64,
    pub bytes: i64,
    pub unindexed: i64,
    pub distillations: i64,
    pub rollovers: i64,
    pub audit_rows: i64,
    pub open_cycles: i64,
    pub waiting_jobs: i64,
    pub quarantined_jobs: i64,
}

/// Why the claims of a stage are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The worker crashed or has just been started: the attempt stays counted, or a poisoned job would run for ever.
    Crashed,
    /// The ledger could not be written, so nobody could say how the job ended: not the job's fault.
    LedgerFailed,
}

/// A job as shown to people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRow {
    pub cycle: CycleId,
    pub kind: CycleKind,
    pub stage: Stage,
    pub session: SessionKey,
    /// `waiting`, `claimed`, `done`, `quarantined`, `cancelled`.
    pub state: String,
    pub attempts: u32,
    /// Failures of the world since the job was queued.
    pub failures: u32,
    pub not_before: Option<DateTime<Utc>>,
    pub last_error: Option<Error>,
}

/// A task of the calendar and its last run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChoreRow {
    pub task: Task,
    /// The time of the calendar it was for.
    pub due: DateTime<Utc>,
    pub attempts: u32,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    /// It was done, or left out on purpose.
    pub is_done: bool,
    /// What was done, or why it was not.
    pub said: Option<String>,
    /// The end of the last run that was done.
    pub done_at: Option<DateTime<Utc>>,
}

/// A backup as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupRow {
    pub target: Target,
    #[serde(flatten)]
    pub backup: StoredBackup,
    /// How long its making and its last proof took. Unknown for one that another Moon made.
    pub made_ms: Option<u64>,
    pub verified_ms: Option<u64>,
    pub proof: Option<Proof>,
    /// What could not be taken or done when it was made.
    pub issues: Vec<Issue>,
}

/// What is new about a backup and cannot be seen on it.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupNews {
    pub id: String,
    pub made_ms: Option<u64>,
    pub verified_ms: Option<u64>,
    pub proof: Option<Proof>,
    /// Empty: as before.
    pub issues: Vec<Issue>,
}

/// A drill: the newest backup of every target, restored into an empty place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillRow {
    pub at: DateTime<Utc>,
    pub ok: bool,
    pub said: String,
}

#[async_trait]
pub trait Ledger: AlertBook {
    // ---- lives ------------------------------------------------------------------------------------------------------
    /// Begins a life: releases the claims of dead ones. Must be called under the home's lock.
    async fn begin(&self, writer: &str) -> Result<Recovery>;
    /// Marks a clean stop.
    async fn end(&self, reason: &str) -> Result<()>;
    fn boot(&self) -> BootId;

    // ---- sessions ---------------------------------------------------------------------------------------------------
    /// Records readings, all in one transaction. A fresh one also says what the last prune of its session left, if that is not
    /// known yet.
    async fn observe(&self, readings: &[UsageReading]) -> Result<()>;
    async fn session(&self, key: &SessionKey) -> Result<Option<SessionRow>>;
    async fn sessions(&self) -> Result<Vec<SessionRow>>;
    /// Sessions that were observed, or had a cycle opened or ended, since the given mark (0: ever), and the mark of now.
    async fn sessions_since(&self, mark: i64) -> Result<(Vec<SessionRow>, i64)>;
    async fn save_machine(&self, key: &SessionKey, machine: &Value) -> Result<()>;

    // ---- cycles and jobs --------------------------------------------------------------------------------------------
    /// Opens a cycle with its first job and audit row, and stores `machine`. Per session at most one capture that has
    /// not archived yet and at most one other cycle are open: `None` when there is one. An `ack` is added to an open capture,
    /// which is then tried at once.
    async fn open_cycle(&self, cycle: &NewCycle, machine: Option<&Value>) -> Result<Option<CycleId>>;
    /// Gives back every claim of a stage. Only its one worker may ask, while it works on none.
    async fn release(&self, stage: Stage, why: Release) -> Result<u64>;
    /// Claims the oldest due job of a stage, one that a compaction waits for first: counts the attempt, sets the token. A job that used up `max_attempts` is
    /// quarantined here (audit, alert) and the next one is tried.
    async fn claim(&self, stage: Stage, max_attempts: u32) -> Result<Option<Claim>>;
    /// Writes down what is about to be done to the host, before it is done. False when the claim is not ours any more.
    async fn intend(&self, claim: &Claim, intent: &Value) -> Result<bool>;
    /// Effect, `done`, next job (or the cycle's end), audit: one transaction.
    /// False when the claim is not ours any more: nothing was written.
    async fn complete(&self, claim: &Claim, effect: &Effect, audit: &AuditEntry) -> Result<bool>;
    /// Gives the job back for later; the world failed, not the job, so the attempt is returned and a failure counted.
    async fn retry(&self, claim: &Claim, after: Duration, error: &Error, audit: &AuditEntry) -> Result<bool>;
    /// Gives the job back because the moment was not right: no attempt, no failure, no audit row. `why` is shown with the job.
    async fn wait(&self, claim: &Claim, after: Duration, why: &Error) -> Result<bool>;
    /// Ends a cycle early without harm (nothing to compact, mode changed): audit says why.
    async fn cancel(&self, claim: &Claim, audit: &AuditEntry) -> Result<bool>;
    /// When the next waiting job of the stage is due, if any.
    async fn next_due(&self, stage: Stage) -> Result<Option<DateTime<Utc>>>;
    async fn jobs(&self, unfinished_only: bool) -> Result<Vec<JobRow>>;
    async fn cycle_done(&self, cycle: &CycleId) -> Result<Option<bool>>;
    /// Lets every waiting job run now (the cause of their failing is gone, or a person asks).
    async fn hurry(&self) -> Result<u64>;
    /// Lets the jobs of a session run now that only wait for the end of a turn.
    async fn hurry_waiting(&self, key: &SessionKey) -> Result<u64>;

    // ---- archive ----------------------------------------------------------------------------------------------------
    /// The newest series of a transcript, made if there is none.
    async fn series(&self, session: &SessionRef) -> Result<Series>;
    /// Begins a new series because the host rewrote what was archived. The old one stays.
    async fn supersede(&self, series: &Series, why: &str) -> Result<Series>;
    async fn all_series(&self, key: Option<&SessionKey>) -> Result<Vec<Series>>;
    /// Records a stored segment; moves the series' cursor and the length of its projection (-1: rebuild it). Idempotent by
    /// (series, ordinal). Audited.
    async fn add_segment(&self, series: &Series, stored: &Stored, projection_bytes: i64, job: &Job) -> Result<Series>;
    async fn set_projected(&self, series_id: i64, bytes: i64) -> Result<()>;
    async fn segments(&self, series_id: i64) -> Result<Vec<Segment>>;
    /// The last segment of a series.
    async fn tail(&self, series_id: i64) -> Result<Option<Segment>>;
    /// Segments that are not indexed, of a session or of all, oldest first, behind the segment with the id `after`.
    async fn unindexed(&self, key: Option<&SessionKey>, after: i64, limit: usize) -> Result<Vec<Segment>>;
    async fn find_segment(&self, sha256: &Sha256) -> Result<Option<(Segment, Series)>>;
    /// Marks segments as indexed outside a job (rebuild), or all as not indexed with an empty list.
    async fn mark_indexed(&self, segments: &[i64]) -> Result<()>;
    async fn forget_indexed(&self) -> Result<()>;
    async fn all_segments(&self) -> Result<Vec<Segment>>;

    // ---- memory and continuity --------------------------------------------------------------------------------------
    /// Highest sequence number of the series that a distillation covers; -1 if none.
    async fn distilled_to(&self, series_id: i64) -> Result<i64>;
    /// Distillations of a session since its last rollover, oldest first.
    async fn distillations(&self, key: &SessionKey) -> Result<Vec<DistillationRow>>;
    async fn continuity(&self, key: Option<&SessionKey>, limit: usize) -> Result<Vec<ContinuityRow>>;
    /// The map was seen in a model call. Audited; true if it was news.
    async fn confirm_continuity(&self, key: &SessionKey, block: &Sha256) -> Result<bool>;
    /// How far the bridge's events are dealt with.
    async fn spool_position(&self) -> Result<u64>;
    async fn set_spool_position(&self, position: u64) -> Result<()>;

    // ---- audit and alerts -------------------------------------------------------------------------------------------
    async fn audit(&self, entry: &AuditEntry) -> Result<()>;
    async fn audit_rows(&self, after_seq: i64, limit: usize) -> Result<Vec<AuditRow>>;
    /// Walks the whole hash chain: the number of rows, or the first sequence number that does not fit.
    async fn verify_audit(&self) -> Result<std::result::Result<i64, i64>>;
    /// Raises an alert, or does nothing while the same one fires at least as severely. One that was less severe ends, and a new
    /// instance takes over. Returns the new instance.
    async fn raise(
        &self,
        key: &AlertKey,
        severity: Severity,
        message: &str,
        hint: Option<&str>,
    ) -> Result<Option<Alert>>;
    /// Like [`Ledger::raise`] for a condition that may pass by itself: the alert is pending first, and fires when it was not
    /// resolved for `pending_for`. Call it at every look at the condition.
    async fn raise_after(
        &self,
        key: &AlertKey,
        severity: Severity,
        message: &str,
        hint: Option<&str>,
        pending_for: Duration,
    ) -> Result<Option<Alert>>;
    /// Ends a firing alert. Returns it if there was one. A pending one is forgotten and leaves no notice.
    async fn resolve(&self, key: &AlertKey) -> Result<Option<Alert>>;
    async fn alerts(&self, firing_only: bool) -> Result<Vec<Alert>>;

    // ---- the calendar -----------------------------------------------------------------------------------------------
    async fn chore(&self, task: Task) -> Result<Option<ChoreRow>>;
    async fn chores(&self) -> Result<Vec<ChoreRow>>;
    /// Notes a time of the calendar as past without a run: what came before Moon is not made up.
    async fn leave_out_chore(&self, task: Task, due: DateTime<Utc>) -> Result<()>;
    /// Counts an attempt at the run for `due` and returns which one it is. Audited.
    async fn begin_chore(&self, task: Task, due: DateTime<Utc>) -> Result<u32>;
    /// Ends the attempt with what was done, or why it was not. Audited.
    async fn end_chore(&self, task: Task, outcome: std::result::Result<&String, &Error>) -> Result<()>;

    // ---- health -----------------------------------------------------------------------------------------------------
    /// What each check found last, by name.
    async fn checks(&self) -> Result<Vec<CheckRow>>;
    async fn save_check(&self, row: &CheckRow) -> Result<()>;
    /// Drops the rows of checks that are not among these, and ends their alerts.
    async fn forget_checks(&self, known: &[String]) -> Result<()>;
    /// What crashed since then: actors by path, and lives of the whole process as `moon`. Oldest first.
    async fn crashes(&self, since: DateTime<Utc>) -> Result<Vec<(String, DateTime<Utc>)>>;
    /// The last life that wrote here, the present one aside.
    async fn last_life(&self) -> Result<Option<Life>>;
    /// When the last row of the audit was written.
    async fn last_audited(&self) -> Result<Option<DateTime<Utc>>>;
    /// Segments in the order of their hashes, behind one: a walk that comes by all of them, in no order that means anything.
    async fn segments_by_hash(&self, after: &str, limit: usize) -> Result<Vec<Segment>>;

    // ---- backups ----------------------------------------------------------------------------------------------------
    /// Brings what is known of a target's backups up to what lies there, adds what is new about one of them, and appends to the
    /// audit.
    async fn record_backups(
        &self,
        target: Target,
        present: &[StoredBackup],
        news: Option<&BackupNews>,
        audit: &[AuditEntry],
    ) -> Result<()>;
    /// Backups that lay somewhere when it was last looked, newest first.
    async fn backups(&self) -> Result<Vec<BackupRow>>;
    /// The newest of them that was restored into an empty place, wherever it lies.
    async fn newest_verified_backup(&self) -> Result<Option<BackupRow>>;
    /// When it was last decided which backups of a target are kept.
    async fn backups_looked_at(&self, target: Target) -> Result<Option<DateTime<Utc>>>;
    async fn set_backups_looked_at(&self, target: Target, at: DateTime<Utc>) -> Result<()>;
    /// Audited.
    async fn record_drill(&self, drill: &DrillRow) -> Result<()>;
    async fn last_drill(&self) -> Result<Option<DrillRow>>;

    // ---- overview ---------------------------------------------------------------------------------------------------
    async fn totals(&self) -> Result<Totals>;
    /// How full the sessions were, of at most `limit` of them, those with the newest readings first.
    async fn usage_tracks(&self, limit: usize) -> Result<Vec<UsageTrack>>;
    /// What lies before each stage, in the pipeline's order.
    async fn pipeline(&self) -> Result<Vec<StageLoad>>;
    /// Alerts that fired since then, newest first.
    async fn alerts_since(&self, since: DateTime<Utc>, limit: usize) -> Result<Vec<PastAlert>>;
    /// Notes that this life's daemon is alive now, and counts a look at the health: how many checks, and how many of them not ok.
    async fn beat(&self, checks: u32, not_ok: u32) -> Result<()>;
    /// What happened between two moments. Reads much: not for every minute.
    async fn period(&self, since: DateTime<Utc>, until: DateTime<Utc>) -> Result<Period>;
    /// `PRAGMA integrity_check` and `foreign_key_check`, read: every complaint.
    async fn integrity(&self) -> Result<Vec<String>>;
}
