//! One pass of a stage: claim a job, run the engine, write down how it ended.
//!
//! Used by the actor and by one-shot commands alike. It returns an error only when the ledger itself cannot be written; the job
//! is then still claimed and given back at the worker's next start or tick.

use super::{Done, Engine, policy};
use crate::domain::{Claim, Job, Stage};
use crate::error::{Error, Kind, Result};
use crate::port::{AlertKey, AuditEntry, Ledger, Probe, Severity};
use crate::settings::Supervision;
use tracing::Instrument as _;

/// How a pass ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Passed {
    /// No job was due.
    Idle,
    /// A job was finished; there may be more.
    Did(Box<Job>, Done),
    /// The world was not ready; the job waits.
    Failed(Box<Job>, Error),
    /// A turn runs in the session; the job waits for its end, which is no failure.
    Waits(Box<Job>, Error),
    /// The claim was not ours any more: somebody else finished it.
    Lost,
}

/// Names of the points at a stage's borders, for tests that stop the world there.
fn borders(stage: Stage) -> (&'static str, &'static str, &'static str) {
    match stage {
        Stage::Archive => ("archive.claimed", "archive.worked", "archive.completed"),
        Stage::Index => ("index.claimed", "index.worked", "index.completed"),
        Stage::Prune => ("prune.claimed", "prune.worked", "prune.completed"),
        Stage::Distill => ("distill.claimed", "distill.worked", "distill.completed"),
        Stage::Continuity => ("continuity.claimed", "continuity.worked", "continuity.completed"),
    }
}

pub async fn pass(
    engine: &dyn Engine,
    ledger: &dyn Ledger,
    probe: &dyn Probe,
    settings: &Supervision,
) -> Result<Passed> {
    let stage = engine.stage();
    let Some(claim) = ledger.claim(stage, settings.job_attempts).await? else { return Ok(Passed::Idle) };
    let job = &claim.job;
    // Everything logged below carries the trace, so that `moon logs --trace` joins log and audit.
    let span = tracing::info_span!("job", trace = %job.trace, cycle = %job.cycle, stage = stage.as_str());
    carry_out(engine, ledger, probe, settings, &claim).instrument(span).await
}

async fn carry_out(
    engine: &dyn Engine,
    ledger: &dyn Ledger,
    probe: &dyn Probe,
    settings: &Supervision,
    claim: &Claim,
) -> Result<Passed> {
    let stage = engine.stage();
    let (claimed, worked, completed) = borders(stage);
    probe.reach(claimed).await;
    let ran = match tokio::time::timeout(settings.job_timeout, engine.run(claim)).await {
        Ok(ran) => ran,
        Err(_) => Err(Error::transient("stage.timeout", format!("{} took too long", stage.as_str()))
            .hint("raise supervision.job_timeout if the session is that large")),
    };
    probe.reach(worked).await;
    let passed = match ran {
        Ok(done) => finish(ledger, claim, done).await?,
        Err(error) if error.code == policy::BUSY => wait(ledger, claim, error, settings).await?,
        Err(error) => put_back(ledger, claim, error, settings).await?,
    };
    probe.reach(completed).await;
    Ok(passed)
}

async fn finish(ledger: &dyn Ledger, claim: &Claim, done: Done) -> Result<Passed> {
    let stage = claim.job.stage.as_str();
    let event = if done.outcome == "ok" { "succeeded" } else { "skipped" };
    let entry = AuditEntry::new(stage, event, done.outcome, done.message.clone()).detail(done.detail.clone());
    let ours = if done.ends_cycle {
        ledger.cancel(claim, &entry).await?
    } else {
        ledger.complete(claim, &done.effect, &entry).await?
    };
    if ours {
        tracing::info!(session = %claim.job.session, outcome = done.outcome, "{}", done.message);
    }
    Ok(if ours { Passed::Did(Box::new(claim.job.clone()), done) } else { Passed::Lost })
}

async fn wait(ledger: &dyn Ledger, claim: &Claim, error: Error, settings: &Supervision) -> Result<Passed> {
    let job = &claim.job;
    tracing::debug!(stage = job.stage.as_str(), session = %job.session, "{error}");
    if !ledger.wait(claim, policy::busy_pause(job.age, settings), &error).await? {
        return Ok(Passed::Lost);
    }
    if policy::waits_too_long(job.age) {
        let minutes = job.age.as_secs() / 60;
        let message = format!("{} of {} has waited for {minutes} minutes: {error}", job.stage.as_str(), job.session);
        let hint = "it needs a moment without a running turn; see `moon sessions` for a turn that never ends";
        ledger.raise(&AlertKey::failing(job.stage, &job.session), Severity::Warning, &message, Some(hint)).await?;
    }
    Ok(Passed::Waits(Box::new(job.clone()), error))
}

async fn put_back(ledger: &dyn Ledger, claim: &Claim, error: Error, settings: &Supervision) -> Result<Passed> {
    let job = &claim.job;
    let stage = job.stage.as_str();
    tracing::warn!(stage, session = %job.session, code = error.code, kind = ?error.kind, "{error}");
    let after = policy::pause(&error, job.failures, settings);
    let entry = AuditEntry::new(stage, "failed", "failed", error.to_string())
        .detail(serde_json::json!({ "kind": error.kind, "retry_in_ms": after.as_millis() as u64 }));
    if !ledger.retry(claim, after, &error, &entry).await? {
        return Ok(Passed::Lost);
    }
    if let Some(severity) = policy::alarming(job.stage, &error, job.failures) {
        let waits = if error.kind == Kind::Config { "until this is put right" } else { "and is tried again by itself" };
        let message = format!("{stage} of {} waits {waits}; nothing of it was reduced: {error}", job.session);
        ledger.raise(&AlertKey::failing(job.stage, &job.session), severity, &message, error.hint.as_deref()).await?;
    }
    Ok(Passed::Failed(Box::new(job.clone()), error))
}
