//! What is asked about backups: made, listed, proved, pruned.

use super::engine::Commands;
use crate::backup::engine::is_trouble;
use crate::backup::policy::Plan;
use crate::contract::{Issue, Report};
use crate::error::{Error, Result};
use crate::port::Target;
use crate::schedule::Task;
use serde_json::{Value, json};

impl Commands {
    /// Made by the chore's own actor where there is one, so that it never runs twice at once and the calendar knows of it.
    pub(super) async fn backup(&self) -> Result<Report> {
        let said = self.hands.run(Task::Backup).await.said?;
        let rows = self.wiring.ports.ledger.backups().await?;
        let newest = rows.into_iter().find(|row| row.target == Target::Folder);
        let mut report = Report::new("backup").detail(said).data(json!({ "backup": newest }));
        for issue in newest.map(|row| row.issues).unwrap_or_default() {
            match is_trouble(&issue) {
                true => report.issue(issue),
                false => report.details.push(issue.message),
            }
        }
        Ok(report)
    }

    pub(super) async fn backups(&self) -> Result<Report> {
        let (mut report, mut all) = (Report::new("backup list"), Vec::new());
        let known = self.wiring.ports.ledger.backups().await?;
        for target in self.wiring.ports.vault.targets() {
            match self.wiring.ports.vault.list(target).await {
                Ok(backups) => all.extend(backups.into_iter().rev().map(|backup| {
                    let row = known.iter().find(|row| row.target == target && row.backup.id == backup.id);
                    let (took, proof) = (row.and_then(|r| r.made_ms), row.and_then(|r| r.proof));
                    let issues: Vec<Issue> = row.map(|r| r.issues.clone()).unwrap_or_default();
                    let mut shown = json!({ "target": target, "took_ms": took, "proof": proof, "issues": issues });
                    if let (Some(shown), Value::Object(backup)) = (shown.as_object_mut(), json!(backup)) {
                        shown.extend(backup);
                    }
                    shown
                })),
                Err(error) => report.issue(error),
            }
        }
        Ok(report.data(json!({ "backups": all })))
    }

    pub(super) async fn verify_backup(&self, id: Option<&str>) -> Result<Report> {
        let proofs = self.wiring.backups().verify(id).await?;
        let (mut report, mut verified) = (Report::new("backup verify"), Vec::new());
        for (backup, proven) in proofs {
            match proven {
                Ok(proven) => {
                    let members = proven.backup.members.unwrap_or(0);
                    let id = &backup.id;
                    report = report.detail(match proven.proof {
                        crate::port::Proof::Restored => {
                            format!("{id}: restored into an empty place, {members} members as they should be")
                        }
                        crate::port::Proof::Stream => {
                            format!(
                                "{id}: the file is as it was written; restored and compared before it was encrypted"
                            )
                        }
                    });
                    verified.push(json!({ "id": backup.id, "ok": true, "proof": proven.proof,
                        "verified_at": proven.backup.verified_at, "took_ms": proven.took_ms, "members": members }));
                }
                Err(error) => {
                    verified.push(json!({ "id": backup.id, "ok": false, "error": error }));
                    report.issue(Error { message: format!("{}: {}", backup.id, error.message), ..error });
                }
            }
        }
        Ok(report.data(json!({ "verified": verified })))
    }

    pub(super) async fn drill(&self) -> Result<Report> {
        let said = self.hands.run(Task::Drill).await.said?;
        let drill = self.wiring.ports.ledger.last_drill().await?;
        Ok(Report::new("backup drill").detail(said).data(json!({ "drill": drill })))
    }

    pub(super) async fn prune_backups(&self, dry_run: bool) -> Result<Report> {
        let backups = self.wiring.backups();
        let plans = if dry_run { backups.plan().await? } else { backups.prune().await? };
        let (mut report, mut all) = (Report::new("backup prune"), Vec::new());
        for (target, plan) in plans {
            report.details.extend(plan.doubt.iter().map(|doubt| format!("{}: {doubt}", target.as_str())));
            report.details.extend(lines(target, &plan, dry_run));
            all.push(json!({ "target": target, "doubt": plan.doubt.as_ref().map(ToString::to_string),
                "backups": plan.verdicts.iter().map(|v| json!({ "id": v.id, "keep": v.keep,
                    "reasons": v.reasons.iter().map(ToString::to_string).collect::<Vec<_>>() })).collect::<Vec<_>>() }));
        }
        if report.details.is_empty() {
            report = report.detail("there is no backup yet");
        }
        Ok(report.data(json!({ "dry_run": dry_run, "targets": all })))
    }
}

fn lines(target: Target, plan: &Plan, dry_run: bool) -> Vec<String> {
    let line = |v: &crate::backup::policy::Verdict| {
        let reasons = v.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = match (v.keep, dry_run) {
            (true, _) => "keep",
            (false, true) => "delete",
            (false, false) => "deleted",
        };
        format!("{}  {}  {what}: {reasons}", target.as_str(), v.id)
    };
    plan.verdicts.iter().map(line).collect()
}
