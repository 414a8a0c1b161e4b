//! Does what a [`Request`] asks, with the daemon's actors or without them.
//!
//! It replies after the work is committed, never "accepted". What differs between a daemon and a one-shot command is only who works
//! the jobs off: that is [`Hands`].

use super::status;
use crate::contract::{DistillationRecord, Issue, Report, Request, count};
use crate::domain::{CycleId, CycleKind, SessionKey, Stage, TraceId, Trigger};
use crate::error::{Error, Result};
use crate::port::{CheckRow, JobRow, NewCycle, Query, SessionRow, unknown_session};
use crate::recall;
use crate::report;
use crate::rotation::engine::Fate;
use crate::rotation::policy::Step;
use crate::schedule::actor::ChoreMsg;
use crate::schedule::engine::Cause;
use crate::schedule::{self, Ran, Task};
use crate::stage::once::run_until_quiet;
use crate::supervisor::{ChildStatus, Tree};
use crate::wiring::Wiring;
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Who works jobs off, and what else only a running daemon can do.
#[async_trait]
pub trait Hands: Send + Sync {
    /// Returns when these cycles have ended or failed once.
    async fn work(&self, cycles: &[CycleId]) -> Result<()>;
    /// Runs a task of the calendar now and says what was done.
    async fn run(&self, task: Task) -> Ran;
    async fn tree(&self) -> Result<Vec<ChildStatus>>;
    async fn restart(&self, actor: &str) -> Result<()>;
    /// Reads the settings anew, and begins anew with them if they are right.
    async fn reload(&self) -> Result<()>;
    async fn stop(&self) -> Result<()>;
    /// Returns when the root of the tree has answered.
    async fn ping(&self) -> Result<()>;
}

pub struct Commands {
    pub wiring: Wiring,
    pub hands: Arc<dyn Hands>,
}

impl Commands {
    pub async fn answer(&self, request: Request) -> Report {
        let name = name(&request);
        match self.run(request).await {
            Ok(report) => report,
            Err(error) => Report::failed(name, error),
        }
    }

    async fn run(&self, request: Request) -> Result<Report> {
        let ports = &self.wiring.ports;
        let settings = &self.wiring.settings;
        match request {
            Request::Status => self.status().await,
            Request::Sessions => {
                let rows = ports.ledger.sessions().await?;
                let sessions: Vec<_> = rows.iter().map(|row| status::session(row, settings, ports)).collect();
                Ok(Report::new("sessions").data(json!({ "sessions": sessions })))
            }
            Request::Tree => Ok(Report::new("tree").data(json!({ "tree": self.hands.tree().await? }))),
            Request::Snapshot { session } => self.snapshot(session).await,
            Request::Index { rebuild } => self.index(rebuild).await,
            Request::Distill { session } => self.distill(session).await,
            Request::Recall { query, session, since, limit, inject, pick } => {
                let query = Query { text: query, limit, session: session.map(SessionKey), since };
                self.recall(query, inject.map(SessionKey), pick).await
            }
            Request::Continuity { session, limit } => {
                let session = session.map(SessionKey);
                if let Some(session) = &session {
                    recall::engine::knows(ports.ledger.as_ref(), session).await?;
                }
                let rows = ports.ledger.continuity(session.as_ref(), limit).await?;
                Ok(Report::new("continuity").data(json!({ "continuity": rows })))
            }
            Request::Health { checks, now } => Ok(self.health(self.wiring.doctor.answer(&checks, now).await?)),
            Request::AcceptHealth { check } => Ok(self.health(self.wiring.doctor.accept(&check).await?)),
            Request::Ping => {
                self.hands.ping().await?;
                ports.ledger.last_audited().await?;
                Ok(Report::new("ping"))
            }
            Request::Backup => self.backup().await,
            Request::Backups => self.backups().await,
            Request::VerifyBackup { id } => self.verify_backup(id.as_deref()).await,
            Request::Drill => self.drill().await,
            Request::PruneBackups { dry_run } => self.prune_backups(dry_run).await,
            Request::Hurry => {
                let hurried = ports.ledger.hurry().await?;
                self.wiring.mail.nudge_stages();
                Ok(Report::new("hurry").detail(format!("{} tried now", count(hurried, "waiting job"))))
            }
            Request::Restart { actor } => {
                self.hands.restart(&actor).await?;
                Ok(Report::new("restart").detail(format!("{actor} was restarted")))
            }
            Request::RotateLogs { dry_run } => self.rotate_logs(dry_run).await,
            Request::Alerts { alerts } => self.wiring.desk().answer(alerts).await,
            Request::Reload => {
                self.hands.reload().await?;
                Ok(Report::new("reload").detail("the settings are right; moon begins anew with them"))
            }
            Request::Report { keep: true, .. } => {
                Ok(Report::new("report").detail(self.hands.run(Task::Report).await.said?))
            }
            Request::Report { days, keep: false } => self.report(days).await,
            Request::Stop => {
                self.hands.stop().await?;
                Ok(Report::new("stop").detail("moon is stopping"))
            }
        }
    }

    fn health(&self, rows: Vec<CheckRow>) -> Report {
        self.wiring.mail.alert.cast(crate::alert::AlertMsg::Ring);
        Report::new("health").data(crate::health::document(&rows))
    }

    async fn report(&self, days: u32) -> Result<Report> {
        let (text, figures) = report::make(&self.wiring.ports, &self.wiring.settings, days).await?;
        let mut report = Report::new("report").data(figures);
        report.details.extend(text.lines().map(str::to_owned));
        Ok(report)
    }

    async fn status(&self) -> Result<Report> {
        let mut document = status::document(&self.wiring.ports, &self.wiring.settings).await?;
        // Whoever has actors is the daemon.
        if let Ok(tree) = self.hands.tree().await {
            document["tree"] = json!(tree);
            status::say_alive(&mut document);
        }
        Ok(Report::new("status").data(document))
    }

    /// The sessions a command is about: the named one, or all. What the host shows now; if it does not answer, what is known of
    /// it, and the report says so: its transcripts can often be read all the same.
    async fn sessions(&self, session: Option<&str>, report: &mut Report) -> Result<Vec<SessionRow>> {
        let ledger = &self.wiring.ports.ledger;
        let refreshed = self.wiring.ports.host.refresh().await;
        if let Ok(readings) = &refreshed {
            ledger.observe(readings).await?;
        }
        let mut rows = ledger.sessions().await?;
        match refreshed {
            Err(error) if rows.is_empty() => return Err(error),
            Err(error) => report.issue(error),
            Ok(_) => {}
        }
        if let Some(wanted) = session {
            rows.retain(|row| row.reading.session.key.as_str() == wanted);
            if rows.is_empty() {
                return Err(unknown_session(wanted));
            }
        }
        Ok(rows)
    }

    /// Opens a cycle of `kind` for each session and waits for their end.
    async fn cycles(&self, rows: &[SessionRow], kind: CycleKind, reason: &str) -> Result<Vec<CycleId>> {
        let (ledger, ids) = (&self.wiring.ports.ledger, &self.wiring.ports.ids);
        let mut cycles = Vec::new();
        for row in rows {
            let cycle = NewCycle {
                id: CycleId(ids.next()),
                session: row.reading.session.clone(),
                trigger: Trigger { kind, reason: reason.to_owned(), ratio: row.reading.trusted_ratio() },
                trace: TraceId(ids.next()),
                used_tokens: row.reading.used_tokens,
                ack: None,
            };
            match ledger.open_cycle(&cycle, None).await? {
                Some(id) => cycles.push(id),
                // One that is waiting already will see all this one would: its end is waited for instead.
                None => cycles.extend(self.pending(row, kind).await?),
            }
        }
        ledger.hurry().await?;
        self.hands.work(&cycles).await?;
        Ok(cycles)
    }

    /// The unfinished cycles of a session that stand in the way of a new one of this kind.
    async fn pending(&self, row: &SessionRow, kind: CycleKind) -> Result<Vec<CycleId>> {
        let is_capture = |kind: CycleKind| kind == CycleKind::Capture;
        let jobs = self.wiring.ports.ledger.jobs(true).await?;
        let ours = jobs.into_iter().filter(|job| job.session == row.reading.session.key);
        Ok(ours.filter(|job| is_capture(job.kind) == is_capture(kind)).map(|job| job.cycle).collect())
    }

    /// Says of each cycle whether it ended well, and what else keeps these sessions from being archived and searchable.
    async fn judge(&self, mut report: Report, cycles: &[CycleId], rows: &[SessionRow]) -> Result<Report> {
        let unfinished = self.wiring.ports.ledger.jobs(true).await?;
        let fails = |job: &&JobRow| {
            let is_basic = matches!(job.stage, Stage::Archive | Stage::Index);
            is_basic && job.failures > 0 && rows.iter().any(|row| row.reading.session.key == job.session)
        };
        for job in unfinished.iter().filter(|job| cycles.contains(&job.cycle) || fails(job)) {
            let what = format!("{} of {}", job.stage.as_str(), job.session);
            report.issue(match &job.last_error {
                Some(error) => Issue::from(Error { message: format!("{what}: {}", error.message), ..error.clone() }),
                None => format!("{what}: not finished yet").into(),
            });
        }
        Ok(report)
    }

    async fn snapshot(&self, session: Option<String>) -> Result<Report> {
        let mut report = Report::new("snapshot");
        let rows = self.sessions(session.as_deref(), &mut report).await?;
        let before = self.wiring.ports.ledger.totals().await?;
        let cycles = self.cycles(&rows, CycleKind::Capture, "asked for").await?;
        let after = self.wiring.ports.ledger.totals().await?;
        let (records, segments) = (after.records - before.records, after.segments - before.segments);
        let mut report = report.data(json!({
            "sessions": rows.len(), "new_records": records, "new_segments": segments, "totals": after,
        }));
        report.details.push(match segments {
            0 => {
                let held = count(self.held(&rows).await?, "record");
                format!("{}, nothing new: {held} archived", count(rows.len(), "session"))
            }
            _ => {
                let new = count(records, "new record");
                format!("{}, {new} archived, verified and indexed", count(rows.len(), "session"))
            }
        });
        self.judge(report, &cycles, &rows).await
    }

    /// Records in the archive of these sessions' present transcripts.
    async fn held(&self, rows: &[SessionRow]) -> Result<i64> {
        let mut held = 0;
        for row in rows {
            held += self.wiring.ports.ledger.series(&row.reading.session).await?.records;
        }
        Ok(held)
    }

    async fn index(&self, rebuild: bool) -> Result<Report> {
        let indexer = self.wiring.indexer();
        let mut report = Report::new("index");
        let parts = match rebuild {
            true => vec![indexer.rebuild("asked for").await?],
            false => vec![indexer.reconcile().await?, indexer.catch_up(None).await?],
        };
        let indexed: u64 = parts.iter().map(|part| part.segments).sum();
        parts.into_iter().flat_map(|part| part.damaged).for_each(|(_, error)| report.issue(error));
        if let Err(error) = self.wiring.archiver().restore_projections().await {
            report.issue(error);
        }
        let status = self.wiring.ports.index.status().await?;
        Ok(report
            .detail(format!(
                "{} indexed; {} in all, in {}",
                count(indexed, "segment"),
                status.segments,
                count(status.chunks, "chunk")
            ))
            .data(json!({ "indexed": indexed, "index": status })))
    }

    async fn distill(&self, session: Option<String>) -> Result<Report> {
        let mut report = Report::new("distill");
        let rows = self.sessions(session.as_deref(), &mut report).await?;
        let before = self.wiring.ports.ledger.totals().await?.distillations;
        let cycles = self.cycles(&rows, CycleKind::IdleDistill, "asked for").await?;
        let mut written = Vec::new();
        for row in &rows {
            let all = self.wiring.ports.ledger.distillations(&row.reading.session.key).await?;
            for one in all.into_iter().filter(|d| cycles.contains(&d.cycle)) {
                let tail = self.wiring.ports.ledger.tail(one.series_id).await?;
                written.push(DistillationRecord::new(&one, tail.map_or(String::new(), |t| t.path)));
            }
        }
        let after = self.wiring.ports.ledger.totals().await?.distillations;
        let mut report = report.data(json!({ "distillations": written }));
        report.details.push(count(after - before, "new distillation"));
        report.details.extend(written.iter().filter(|d| !d.summary_path.is_empty()).map(|d| {
            format!("{}: records {} to {} by {} in {}", d.session_key, d.from_seq, d.to_seq, d.provider, d.summary_path)
        }));
        self.judge(report, &cycles, &rows).await
    }

    async fn rotate_logs(&self, dry_run: bool) -> Result<Report> {
        let report = Report::new("rotate-logs");
        if !dry_run {
            // What failed with one log stands among the issues: the others were looked after all the same.
            let ran = self.hands.run(Task::Rotation).await;
            return ran.told.map_or_else(|| ran.said.map(|did| report.detail(did)), Ok);
        }
        let planned = self.wiring.rotation().plan().await;
        let mut report = report.data(json!({ "steps": planned.steps, "files": planned.files }));
        report.details.extend(planned.steps.iter().map(|(log, step)| match step {
            Step::PutAside { why, .. } => format!("would put aside {log}: {why}"),
            Step::Compress { name } => format!("would compress {name} of {log}"),
            Step::Remove { name, why } => format!("would remove {name} of {log}: {why}"),
        }));
        report.details.extend(planned.files.iter().map(Fate::line));
        if planned.steps.is_empty() {
            report.details.push(planned.sentence());
        }
        planned.failed.into_iter().for_each(|error| report.issue(error));
        Ok(report)
    }

    async fn recall(&self, query: Query, inject: Option<SessionKey>, pick: usize) -> Result<Report> {
        let recaller = self.wiring.recaller();
        let Some(target) = inject else {
            let found = recaller.recall(&query).await?;
            return Ok(Report::new("recall").data(json!(found)));
        };
        let (found, sha256) = recaller.inject(&query, pick, &target).await?;
        Ok(Report::new("recall")
            .detail(format!("match {pick} goes into the next model call of {target} as quoted data"))
            .data(json!({ "injected": found, "session": target, "block_sha256": sha256 })))
    }
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Status => "status",
        Request::Tree => "tree",
        Request::Sessions => "sessions",
        Request::Snapshot { .. } => "snapshot",
        Request::Index { .. } => "index",
        Request::Recall { .. } => "recall",
        Request::Distill { .. } => "distill",
        Request::Continuity { .. } => "continuity",
        Request::Health { .. } | Request::AcceptHealth { .. } => "health",
        Request::Ping => "ping",
        Request::Backup => "backup",
        Request::Backups => "backup list",
        Request::VerifyBackup { .. } => "backup verify",
        Request::Drill => "backup drill",
        Request::PruneBackups { .. } => "backup prune",
        Request::Hurry => "hurry",
        Request::Restart { .. } => "restart",
        Request::RotateLogs { .. } => "rotate-logs",
        Request::Alerts { alerts } => alerts.name(),
        Request::Reload => "reload",
        Request::Report { .. } => "report",
        Request::Stop => "stop",
    }
}

/// Hands of a one-shot command: runs the stages itself, knows no actors.
pub struct OwnHands {
    pub wiring: Wiring,
}

#[async_trait]
impl Hands for OwnHands {
    async fn work(&self, _: &[CycleId]) -> Result<()> {
        let ports = &self.wiring.ports;
        let engines = self.wiring.engines();
        let supervision = &self.wiring.settings.supervision;
        run_until_quiet(&engines, ports.ledger.as_ref(), ports.probe.as_ref(), supervision).await.map(drop)
    }
    async fn run(&self, task: Task) -> Ran {
        let w = &self.wiring;
        let chore = w.chore(task);
        schedule::engine::run(w, chore.as_ref(), Cause::Asked).await
    }
    async fn tree(&self) -> Result<Vec<ChildStatus>> {
        Err(no_daemon())
    }
    async fn restart(&self, _: &str) -> Result<()> {
        Err(no_daemon())
    }
    async fn reload(&self) -> Result<()> {
        Err(no_daemon())
    }
    async fn stop(&self) -> Result<()> {
        Err(no_daemon())
    }
    async fn ping(&self) -> Result<()> {
        Err(no_daemon())
    }
}

fn no_daemon() -> Error {
    Error::unavailable("daemon.not_running", "no moon daemon is running in this home")
        .hint("start one with `moon start`")
}

/// Hands of a daemon: its actors.
pub struct DaemonHands {
    pub wiring: Wiring,
    pub tree: Arc<std::sync::OnceLock<Tree>>,
    /// Asks the composition root to begin the stop.
    pub stop: Arc<dyn Fn() + Send + Sync>,
    /// Checks the settings as they stand now, and asks the composition root to begin anew with them.
    pub reload: Arc<dyn Fn() -> Result<()> + Send + Sync>,
}

const POLL: Duration = Duration::from_millis(25);
/// A tree that is well answers at once; a busy supervisor may be ending a child.
const PING_WAIT: Duration = Duration::from_secs(5);
const WORK_WAIT: Duration = Duration::from_secs(570);

#[async_trait]
impl Hands for DaemonHands {
    async fn work(&self, cycles: &[CycleId]) -> Result<()> {
        let ledger = &self.wiring.ports.ledger;
        self.wiring.mail.nudge_stages();
        let deadline = tokio::time::Instant::now() + WORK_WAIT;
        for cycle in cycles {
            while ledger.cycle_done(cycle).await?.is_none() && tokio::time::Instant::now() < deadline {
                let jobs = ledger.jobs(true).await?;
                // A job that failed waits out its pause: the answer is why, not silence.
                if jobs.iter().any(|job| job.cycle == *cycle && job.failures > 0 && job.state == "waiting") {
                    break;
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }
    async fn tree(&self) -> Result<Vec<ChildStatus>> {
        Ok(self.running()?.status().await)
    }
    async fn restart(&self, actor: &str) -> Result<()> {
        self.running()?.restart(actor).await.map_err(|e| {
            Error::data("actor.not_restarted", format!("could not restart {actor}"))
                .cause(e)
                .hint("`moon ctl tree` lists the actors")
        })
    }
    async fn reload(&self) -> Result<()> {
        (self.reload)()
    }
    async fn stop(&self) -> Result<()> {
        (self.stop)();
        Ok(())
    }
    async fn ping(&self) -> Result<()> {
        let silent =
            || Error::transient("daemon.silent", "the root of the tree does not answer").hint("see `moon logs`");
        if self.running()?.answers(PING_WAIT).await { Ok(()) } else { Err(silent()) }
    }
    async fn run(&self, task: Task) -> Ran {
        let (reply, answer) = oneshot::channel();
        let gone = || {
            Error::transient("chore.restarting", format!("the actor of the {} is restarting", task.as_str()))
                .hint("try again")
        };
        if !self.wiring.mail.chore(task).cast(ChoreMsg::Now(reply)) {
            return Err(gone()).into();
        }
        match tokio::time::timeout(WORK_WAIT, answer).await {
            Ok(Ok(ran)) => ran,
            Ok(Err(_)) => Err(gone()).into(),
            Err(_) => Err(Error::transient("chore.running", format!("the {} is still running", task.as_str()))
                .hint("it goes on in the daemon; `moon status` shows how it ends"))
            .into(),
        }
    }
}

impl DaemonHands {
    fn running(&self) -> Result<&Tree> {
        self.tree
            .get()
            .ok_or_else(|| Error::transient("daemon.starting", "the daemon is still starting").hint("try again"))
    }
}
