//! The ledger's port: each method is one transaction over the rows of the file that is named after them.

use super::alerts::Pending;
use super::{SqliteLedger, alerts, archive, audit, backups, chores, health, jobs, memory, screens, sessions};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::domain::{
    BootId, Claim, CycleId, Job, Segment, Series, SessionKey, SessionRef, Sha256, Stage, UsageReading,
};
use moon_actors::port::{
    Alert, AlertKey, AuditEntry, AuditRow, BackupNews, BackupRow, CheckRow, ChoreRow, ContinuityRow, DistillationRow,
    DrillRow, Effect, JobRow, Ledger, Life, NewCycle, PastAlert, Period, Recovery, Release, SessionRow, Severity,
    StageLoad, Stored, StoredBackup, Target, Totals, UsageTrack,
};
use moon_actors::schedule::Task;
use moon_actors::{Error, Result};
use rusqlite::OptionalExtension;
use serde_json::Value;
use std::time::Duration;

#[async_trait]
impl Ledger for SqliteLedger {
    async fn begin(&self, writer: &str) -> Result<Recovery> {
        let writer = writer.to_owned();
        self.write("begin a life in the ledger", move |tx, stamp| sessions::begin(tx, stamp, &writer)).await
    }
    async fn end(&self, reason: &str) -> Result<()> {
        let reason = reason.to_owned();
        self.write("end a life in the ledger", move |tx, stamp| sessions::end(tx, stamp, &reason)).await
    }
    fn boot(&self) -> BootId {
        self.boot.clone()
    }

    async fn observe(&self, readings: &[UsageReading]) -> Result<()> {
        let readings = readings.to_vec();
        self.write("record usage readings", move |tx, stamp| {
            readings.iter().try_for_each(|reading| {
                sessions::observe(tx, reading)?;
                screens::note(tx, stamp, reading)
            })
        })
        .await
    }
    async fn sessions_since(&self, mark: i64) -> Result<(Vec<SessionRow>, i64)> {
        self.read("list what changed of the sessions", move |db, _| sessions::since(db, mark)).await
    }
    async fn session(&self, key: &SessionKey) -> Result<Option<SessionRow>> {
        let key = key.clone();
        self.read("read a session", move |db, _| sessions::one(db, &key)).await
    }
    async fn sessions(&self) -> Result<Vec<SessionRow>> {
        self.read("list the sessions", |db, _| sessions::all(db)).await
    }
    async fn save_machine(&self, key: &SessionKey, machine: &Value) -> Result<()> {
        let (key, machine) = (key.clone(), machine.to_string());
        self.write("save a threshold state", move |tx, _| sessions::save_machine(tx, &key, &machine)).await
    }

    async fn open_cycle(&self, cycle: &NewCycle, machine: Option<&Value>) -> Result<Option<CycleId>> {
        let (cycle, machine) = (cycle.clone(), machine.map(Value::to_string));
        self.write("open a cycle", move |tx, stamp| jobs::open_cycle(tx, stamp, &cycle, machine.as_deref())).await
    }
    async fn release(&self, stage: Stage, why: Release) -> Result<u64> {
        self.write("release claims", move |tx, _| jobs::release(tx, stage, why)).await
    }
    async fn claim(&self, stage: Stage, max_attempts: u32) -> Result<Option<Claim>> {
        let token = self.ids.next();
        self.write("claim a job", move |tx, stamp| jobs::claim(tx, stamp, stage, max_attempts, &token)).await
    }
    async fn intend(&self, claim: &Claim, intent: &Value) -> Result<bool> {
        let (claim, intent) = (claim.clone(), intent.to_string());
        self.write("write down an intent", move |tx, _| jobs::intend(tx, &claim, &intent)).await
    }
    async fn complete(&self, claim: &Claim, effect: &Effect, audit: &AuditEntry) -> Result<bool> {
        let (claim, effect, audit) = (claim.clone(), effect.clone(), audit.clone());
        self.write("complete a job", move |tx, stamp| jobs::complete(tx, stamp, &claim, &effect, &audit)).await
    }
    async fn retry(&self, claim: &Claim, after: Duration, error: &Error, audit: &AuditEntry) -> Result<bool> {
        let (claim, error, audit) = (claim.clone(), error.clone(), audit.clone());
        self.write("put a job back", move |tx, stamp| jobs::retry(tx, stamp, &claim, after, &error, &audit)).await
    }
    async fn wait(&self, claim: &Claim, after: Duration, why: &Error) -> Result<bool> {
        let (claim, why) = (claim.clone(), why.clone());
        self.write("let a job wait", move |tx, stamp| jobs::wait(tx, stamp, &claim, after, &why)).await
    }
    async fn cancel(&self, claim: &Claim, audit: &AuditEntry) -> Result<bool> {
        let (claim, audit) = (claim.clone(), audit.clone());
        self.write("cancel a cycle", move |tx, stamp| jobs::cancel(tx, stamp, &claim, &audit)).await
    }
    async fn next_due(&self, stage: Stage) -> Result<Option<DateTime<Utc>>> {
        self.read("look for the next job", move |db, _| jobs::next_due(db, stage)).await
    }
    async fn jobs(&self, unfinished_only: bool) -> Result<Vec<JobRow>> {
        self.read("list the jobs", move |db, _| jobs::list(db, unfinished_only)).await
    }
    async fn cycle_done(&self, cycle: &CycleId) -> Result<Option<bool>> {
        let cycle = cycle.clone();
        self.read("read a cycle", move |db, _| {
            let sql = "SELECT outcome = 'done' FROM cycles WHERE id = ?1 AND closed_at IS NOT NULL";
            db.query_row(sql, [cycle.as_str()], |r| r.get(0)).optional()
        })
        .await
    }
    async fn hurry(&self) -> Result<u64> {
        self.write("hurry the waiting jobs", |tx, _| jobs::hurry(tx)).await
    }
    async fn hurry_waiting(&self, key: &SessionKey) -> Result<u64> {
        let key = key.clone();
        self.write("hurry the jobs that wait for a turn", move |tx, _| jobs::hurry_waiting(tx, &key)).await
    }

    async fn series(&self, session: &SessionRef) -> Result<Series> {
        let session = session.clone();
        self.write("open a series", move |tx, _| archive::series(tx, &session)).await
    }
    async fn supersede(&self, series: &Series, why: &str) -> Result<Series> {
        let (series, why) = (series.clone(), why.to_owned());
        self.write("begin a new series", move |tx, stamp| archive::supersede(tx, stamp, &series, &why)).await
    }
    async fn all_series(&self, key: Option<&SessionKey>) -> Result<Vec<Series>> {
        let key = key.cloned();
        self.read("list the series", move |db, _| archive::all_series(db, key.as_ref())).await
    }
    async fn add_segment(&self, series: &Series, stored: &Stored, projection_bytes: i64, job: &Job) -> Result<Series> {
        let (series, stored, job) = (series.clone(), stored.clone(), job.clone());
        self.write("record an archived segment", move |tx, stamp| {
            archive::add_segment(tx, stamp, &series, &stored, projection_bytes, &job)
        })
        .await
    }
    async fn set_projected(&self, series_id: i64, bytes: i64) -> Result<()> {
        self.write("record a projection", move |tx, _| {
            tx.execute("UPDATE series SET projection_bytes = ?2 WHERE id = ?1", (series_id, bytes)).map(drop)
        })
        .await
    }
    async fn segments(&self, series_id: i64) -> Result<Vec<Segment>> {
        self.read("list the segments", move |db, _| archive::segments(db, series_id)).await
    }
    async fn tail(&self, series_id: i64) -> Result<Option<Segment>> {
        self.read("read the last segment", move |db, _| archive::tail(db, series_id)).await
    }
    async fn unindexed(&self, key: Option<&SessionKey>, after: i64, limit: usize) -> Result<Vec<Segment>> {
        let key = key.cloned();
        self.read("list what is not indexed", move |db, _| archive::unindexed(db, key.as_ref(), after, limit)).await
    }
    async fn find_segment(&self, sha256: &Sha256) -> Result<Option<(Segment, Series)>> {
        let sha256 = sha256.clone();
        self.read("find a segment", move |db, _| archive::find(db, &sha256)).await
    }
    async fn mark_indexed(&self, segments: &[i64]) -> Result<()> {
        let segments = segments.to_vec();
        self.write("mark segments as indexed", move |tx, stamp| archive::mark_indexed(tx, stamp, &segments)).await
    }
    async fn forget_indexed(&self) -> Result<()> {
        self.write("forget what is indexed", |tx, _| tx.execute("UPDATE segments SET indexed_at = NULL", []).map(drop))
            .await
    }
    async fn all_segments(&self) -> Result<Vec<Segment>> {
        self.read("list the segments", |db, _| archive::all_segments(db)).await
    }

    async fn distilled_to(&self, series_id: i64) -> Result<i64> {
        self.read("read how far a series is distilled", move |db, _| memory::distilled_to(db, series_id)).await
    }
    async fn distillations(&self, key: &SessionKey) -> Result<Vec<DistillationRow>> {
        let key = key.clone();
        self.read("list the distillations", move |db, _| memory::distillations(db, &key)).await
    }
    async fn continuity(&self, key: Option<&SessionKey>, limit: usize) -> Result<Vec<ContinuityRow>> {
        let key = key.cloned();
        self.read("list the rollovers", move |db, _| memory::continuity(db, key.as_ref(), limit)).await
    }
    async fn confirm_continuity(&self, key: &SessionKey, block: &Sha256) -> Result<bool> {
        let (key, block) = (key.clone(), block.clone());
        self.write("confirm a continuity block", move |tx, stamp| memory::confirm(tx, stamp, &key, &block)).await
    }
    async fn spool_position(&self) -> Result<u64> {
        self.read("read the spool position", |db, _| memory::spool_position(db)).await
    }
    async fn set_spool_position(&self, position: u64) -> Result<()> {
        self.write("record the spool position", move |tx, _| memory::set_spool_position(tx, position)).await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<()> {
        let entry = entry.clone();
        self.write("append to the audit", move |tx, stamp| audit::append(tx, stamp, &entry)).await
    }
    async fn audit_rows(&self, after_seq: i64, limit: usize) -> Result<Vec<AuditRow>> {
        self.read("read the audit", move |db, _| audit::rows(db, after_seq, limit)).await
    }
    async fn verify_audit(&self) -> Result<std::result::Result<i64, i64>> {
        self.read("verify the audit", |db, _| audit::verify(db)).await
    }
    async fn raise(
        &self,
        key: &AlertKey,
        severity: Severity,
        message: &str,
        hint: Option<&str>,
    ) -> Result<Option<Alert>> {
        let (key, message, hint) = (key.clone(), message.to_owned(), hint.map(str::to_owned));
        self.write("raise an alert", move |tx, stamp| {
            alerts::raise(tx, stamp, &key, severity, &message, hint.as_deref())
        })
        .await
    }
    async fn raise_after(
        &self,
        key: &AlertKey,
        severity: Severity,
        message: &str,
        hint: Option<&str>,
        pending_for: Duration,
    ) -> Result<Option<Alert>> {
        let (key, message, hint) = (key.clone(), message.to_owned(), hint.map(str::to_owned));
        self.write("note what may become an alert", move |tx, stamp| {
            let (message, hint) = (message.as_str(), hint.as_deref());
            alerts::raise_after(tx, stamp, &Pending { key: &key, severity, message, hint, patience: pending_for })
        })
        .await
    }
    async fn resolve(&self, key: &AlertKey) -> Result<Option<Alert>> {
        let key = key.clone();
        self.write("resolve an alert", move |tx, stamp| alerts::resolve(tx, stamp, &key)).await
    }
    async fn alerts(&self, firing_only: bool) -> Result<Vec<Alert>> {
        self.read("list the alerts", move |db, _| alerts::list(db, firing_only)).await
    }

    async fn chore(&self, task: Task) -> Result<Option<ChoreRow>> {
        self.read("read a task of the calendar", move |db, _| chores::one(db, task)).await
    }
    async fn chores(&self) -> Result<Vec<ChoreRow>> {
        self.read("list the tasks of the calendar", |db, _| chores::all(db)).await
    }
    async fn leave_out_chore(&self, task: Task, due: DateTime<Utc>) -> Result<()> {
        self.write("note a task of the calendar", move |tx, stamp| chores::leave_out(tx, stamp, task, due)).await
    }
    async fn begin_chore(&self, task: Task, due: DateTime<Utc>) -> Result<u32> {
        self.write("begin a task of the calendar", move |tx, stamp| chores::begin(tx, stamp, task, due)).await
    }
    async fn end_chore(&self, task: Task, outcome: std::result::Result<&String, &Error>) -> Result<()> {
        let outcome = outcome.cloned().map_err(Clone::clone);
        self.write("end a task of the calendar", move |tx, stamp| chores::end(tx, stamp, task, outcome.as_ref())).await
    }

    async fn checks(&self) -> Result<Vec<CheckRow>> {
        self.read("read what the checks found", |db, _| health::all(db)).await
    }
    async fn save_check(&self, row: &CheckRow) -> Result<()> {
        let row = row.clone();
        self.write("write down what a check found", move |tx, stamp| health::save(tx, stamp, &row)).await
    }
    async fn forget_checks(&self, known: &[String]) -> Result<()> {
        let known = known.to_vec();
        self.write("forget checks that are gone", move |tx, stamp| health::forget(tx, stamp, &known)).await
    }
    async fn crashes(&self, since: DateTime<Utc>) -> Result<Vec<(String, DateTime<Utc>)>> {
        self.read("read what crashed", move |db, _| health::crashes(db, since)).await
    }
    async fn last_life(&self) -> Result<Option<Life>> {
        self.read("read the last life", health::last_life).await
    }
    async fn last_audited(&self) -> Result<Option<DateTime<Utc>>> {
        self.read("read the end of the audit", |db, _| audit::newest(db)).await
    }
    async fn segments_by_hash(&self, after: &str, limit: usize) -> Result<Vec<Segment>> {
        let after = after.to_owned();
        self.read("list segments by their hash", move |db, _| archive::by_hash(db, &after, limit)).await
    }

    async fn record_backups(
        &self,
        target: Target,
        present: &[StoredBackup],
        news: Option<&BackupNews>,
        audit: &[AuditEntry],
    ) -> Result<()> {
        let (present, news, audit) = (present.to_vec(), news.cloned(), audit.to_vec());
        self.write("record what backups there are", move |tx, stamp| {
            backups::record(tx, stamp, target, &present, news.as_ref(), &audit)
        })
        .await
    }
    async fn backups(&self) -> Result<Vec<BackupRow>> {
        self.read("list the backups", |db, _| backups::all(db)).await
    }
    async fn newest_verified_backup(&self) -> Result<Option<BackupRow>> {
        self.read("find the newest verified backup", |db, _| backups::newest_verified(db)).await
    }
    async fn backups_looked_at(&self, target: Target) -> Result<Option<DateTime<Utc>>> {
        self.read("read when the backups were looked at", move |db, _| backups::looked_at(db, target)).await
    }
    async fn set_backups_looked_at(&self, target: Target, at: DateTime<Utc>) -> Result<()> {
        self.write("note that the backups were looked at", move |tx, _| backups::set_looked_at(tx, target, at)).await
    }
    async fn record_drill(&self, drill: &DrillRow) -> Result<()> {
        let drill = drill.clone();
        self.write("record a drill", move |tx, stamp| backups::record_drill(tx, stamp, &drill)).await
    }
    async fn last_drill(&self) -> Result<Option<DrillRow>> {
        self.read("read the last drill", |db, _| backups::last_drill(db)).await
    }

    async fn totals(&self) -> Result<Totals> {
        self.read("count what the ledger holds", |db, _| sessions::totals(db)).await
    }
    async fn usage_tracks(&self, limit: usize) -> Result<Vec<UsageTrack>> {
        self.read("read the history of usage", move |db, stamp| screens::tracks(db, stamp, limit)).await
    }
    async fn pipeline(&self) -> Result<Vec<StageLoad>> {
        self.read("count what lies before the stages", |db, _| screens::pipeline(db)).await
    }
    async fn alerts_since(&self, since: DateTime<Utc>, limit: usize) -> Result<Vec<PastAlert>> {
        self.read("list the last alerts", move |db, _| screens::alerts_since(db, since, limit)).await
    }
    async fn beat(&self, checks: u32, not_ok: u32) -> Result<()> {
        self.write("note that the daemon is alive", move |tx, stamp| screens::beat(tx, stamp, checks, not_ok)).await
    }
    async fn period(&self, since: DateTime<Utc>, until: DateTime<Utc>) -> Result<Period> {
        self.read("add up a span of time", move |db, _| screens::period(db, since, until)).await
    }
    async fn integrity(&self) -> Result<Vec<String>> {
        self.read("check the ledger", |db, _| sessions::integrity(db)).await
    }
}
