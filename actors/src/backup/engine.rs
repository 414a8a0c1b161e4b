//! Makes a backup, proves it, copies it elsewhere, and removes what the policy names; writes down each of them.
//!
//! What lies in the vault is the truth about backups: after every change the ledger's table is brought up to what is there, so that a
//! ledger which was itself restored from a backup knows of the newer ones again.

use super::policy::{self, Candidate, Plan, Rules};
use crate::contract::{Issue, count};
use crate::error::{Error, Kind, Result};
use crate::port::{
    AlertKey, AuditEntry, BackupNews, Clock, DrillRow, Held, Ledger, Proof, Proven, Severity, StoredBackup, Target,
    Vault,
};
use crate::settings;
use chrono::TimeDelta;
use serde_json::json;
use std::sync::Arc;

/// The code of what is never taken (links, pipes, sockets): told with the backup, and no reason for an alert.
pub const SKIPPED: &str = "backup.skipped";

/// The code for an archive that was damaged before it was backed up: another backup would be no better.
pub const SOURCE_DAMAGED: &str = "backup.source_damaged";

/// Whether an issue of a backup is one that somebody should look at.
pub fn is_trouble(issue: &Issue) -> bool {
    issue.code.as_deref() != Some(SKIPPED)
}

/// Works on the backups of one home.
pub struct Backups {
    pub vault: Arc<dyn Vault>,
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub settings: settings::Backup,
}

/// What became of a backup run.
pub struct Outcome {
    pub backup: StoredBackup,
    /// One sentence.
    pub said: String,
    pub issues: Vec<Issue>,
}

/// What a proof found.
pub type Proofs = Vec<(StoredBackup, Result<Proven>)>;

impl Backups {
    /// Makes one, proves it, sends it, and removes what is over. Fails when there is no backup afterwards, or none that can be
    /// trusted; what else went wrong is told and alerted.
    pub async fn make(&self) -> Result<Outcome> {
        let held = self.vault.hold().await?;
        self.vault.sweep(&held).await?;
        let made = self.vault.make(&held).await?;
        let (mut issues, id) = (made.issues, made.backup.id.clone());
        let mut news = BackupNews {
            id: id.clone(),
            made_ms: Some(made.took_ms),
            verified_ms: made.proved_ms,
            proof: made.proof,
            issues: vec![],
        };
        let entry = AuditEntry::new("backup", "made", "ok", format!("made the backup {id}")).detail(json!(made.backup));
        self.record(Target::Folder, Some(&news), &[entry]).await?;
        let mut backup = made.backup;
        if let (Some(proof), Some(took_ms)) = (made.proof, made.proved_ms) {
            let proven = Proven { backup: backup.clone(), proof, took_ms };
            self.record(Target::Folder, None, &[proof_entry(Target::Folder, &id, &Ok(proven))]).await?;
        } else {
            match self.prove(&held, Target::Folder, &backup).await {
                Ok(proven) => {
                    (news.verified_ms, news.proof) = (Some(proven.took_ms), Some(proven.proof));
                    backup = proven.backup;
                }
                Err(error) if error.kind == Kind::Data && error.code != SOURCE_DAMAGED => return Err(error),
                Err(error) => issues.push(error.into()),
            }
        }
        issues.extend(self.send_missing(&held).await);
        let mut removed = 0;
        for target in self.vault.targets() {
            match self.prune_one(&held, target).await {
                Ok(plan) => {
                    removed += plan.deleted().count();
                    issues.extend(plan.doubt.map(|doubt| Issue::from(doubt.to_string())));
                }
                Err(error) => issues.push(error.into()),
            }
        }
        news.issues.clone_from(&issues);
        self.record(Target::Folder, Some(&news), &[]).await?;
        let trouble: Vec<Issue> = issues.iter().filter(|issue| is_trouble(issue)).cloned().collect();
        self.tell(&trouble).await?;
        let said = sentence(&backup, news.proof.zip(news.verified_ms), removed, trouble.len());
        Ok(Outcome { backup, said, issues })
    }

    /// What lies everywhere, oldest first.
    pub async fn list(&self) -> Result<Vec<(Target, Vec<StoredBackup>)>> {
        let mut all = Vec::new();
        for target in self.vault.targets() {
            all.push((target, self.vault.list(target).await?));
        }
        Ok(all)
    }

    /// Proves one, the newest (`None`), or every one (`all`) in the folder.
    pub async fn verify(&self, which: Option<&str>) -> Result<Proofs> {
        let held = self.vault.hold().await?;
        let mut backups = self.vault.list(Target::Folder).await?;
        match which {
            Some("all") => {}
            Some(id) => backups.retain(|backup| backup.id == id),
            None => drop(backups.drain(..backups.len().saturating_sub(1))),
        }
        if backups.is_empty() && which != Some("all") {
            return Err(unknown(which));
        }
        let mut proofs = Vec::new();
        for backup in backups {
            let proven = self.prove(&held, Target::Folder, &backup).await;
            proofs.push((backup, proven));
        }
        Ok(proofs)
    }

    /// What would be removed now, everywhere.
    pub async fn plan(&self) -> Result<Vec<(Target, Plan)>> {
        let mut plans = Vec::new();
        for target in self.vault.targets() {
            plans.push((target, self.plan_one(target).await?));
        }
        Ok(plans)
    }

    /// Removes what is over, everywhere.
    pub async fn prune(&self) -> Result<Vec<(Target, Plan)>> {
        let held = self.vault.hold().await?;
        let mut plans = Vec::new();
        for target in self.vault.targets() {
            plans.push((target, self.prune_one(&held, target).await?));
        }
        Ok(plans)
    }

    /// Proves the newest backup of every target again, from there.
    pub async fn drill(&self) -> Result<String> {
        let held = self.vault.hold().await?;
        self.vault.sweep(&held).await?;
        let (mut said, mut failed) = (Vec::new(), None);
        for target in self.vault.targets() {
            let outcome = self.drill_one(&held, target).await;
            said.push(outcome.as_ref().map_or_else(|error| format!("{}: {error}", target.as_str()), Clone::clone));
            failed = failed.or(outcome.err());
        }
        let drill = DrillRow { at: self.clock.now(), ok: failed.is_none(), said: said.join("; ") };
        self.ledger.record_drill(&drill).await?;
        match failed {
            None => Ok(drill.said),
            Some(error) => Err(error),
        }
    }

    async fn drill_one(&self, held: &Held, target: Target) -> Result<String> {
        let newest = self.vault.list(target).await?.pop().ok_or_else(|| unknown(None))?;
        let proven = self.prove(held, target, &newest).await?;
        let members = count(proven.backup.members.unwrap_or(0), "member");
        let seconds = seconds(proven.took_ms);
        let whole = format!("{} of the {} was restored into an empty place", newest.id, target.as_str());
        Ok(format!("{whole}: {members} as they should be, in {seconds}"))
    }

    async fn prove(&self, held: &Held, target: Target, backup: &StoredBackup) -> Result<Proven> {
        let proven = self.vault.verify(held, target, &backup.id).await;
        let news = proven.as_ref().ok().map(|proven| BackupNews {
            id: backup.id.clone(),
            made_ms: None,
            verified_ms: Some(proven.took_ms),
            proof: Some(proven.proof),
            issues: vec![],
        });
        self.record(target, news.as_ref(), &[proof_entry(target, &backup.id, &proven)]).await?;
        proven
    }

    /// Copies what the other targets lack of the last days. What fails is told; the next run tries again.
    async fn send_missing(&self, held: &Held) -> Vec<Issue> {
        let mut issues = Vec::new();
        for target in self.vault.targets().into_iter().filter(|target| *target != Target::Folder) {
            if let Err(error) = self.send_to(held, target).await {
                issues.push(error.into());
            }
        }
        issues
    }

    async fn send_to(&self, held: &Held, target: Target) -> Result<()> {
        let there = self.vault.list(target).await?;
        let oldest = self.clock.now() - span(self.settings.keep_daily);
        for backup in self.vault.list(Target::Folder).await? {
            let is_missing = !there.iter().any(|other| other.id == backup.id && other.sha256 == backup.sha256);
            if is_missing && backup.created_at >= oldest && backup.verified_at.is_some() {
                let sent = self.vault.send(held, &backup.id, target).await?;
                let entry =
                    AuditEntry::new("backup", "sent", "ok", format!("sent the backup {} to {}", sent.id, sent.path));
                self.record(target, None, &[entry.detail(json!(sent))]).await?;
            }
        }
        Ok(())
    }

    async fn prune_one(&self, held: &Held, target: Target) -> Result<Plan> {
        let plan = self.plan_one(target).await?;
        let mut entries = Vec::new();
        for verdict in plan.deleted() {
            let why = verdict.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            self.vault.delete(held, target, &verdict.id).await?;
            let message = format!("removed the backup {} from the {}: {why}", verdict.id, target.as_str());
            entries.push(
                AuditEntry::new("backup", "removed", "ok", message)
                    .detail(json!({ "id": verdict.id, "target": target })),
            );
        }
        self.record(target, None, &entries).await?;
        self.ledger.set_backups_looked_at(target, self.clock.now()).await?;
        Ok(plan)
    }

    async fn plan_one(&self, target: Target) -> Result<Plan> {
        let candidate =
            |b: StoredBackup| Candidate { at: b.created_at, is_verified: b.verified_at.is_some(), id: b.id };
        let backups: Vec<_> = self.vault.list(target).await?.into_iter().map(candidate).collect();
        let last = self.ledger.backups_looked_at(target).await?;
        Ok(policy::retain(&backups, self.clock.now(), last, &self.rules()))
    }

    fn rules(&self) -> Rules {
        let s = &self.settings;
        // The settings were checked: what cannot be read here is nothing.
        let times = crate::schedule::policy::parse(&s.at).unwrap_or_default();
        let usual = times.map(|times| self.clock.calendar(&times)).and_then(|(last, next)| Some(next? - last?));
        Rules {
            daily: span(s.keep_daily),
            weekly: span(s.keep_weekly),
            monthly: span(s.keep_monthly),
            usual: usual.unwrap_or_default(),
        }
    }

    async fn record(&self, target: Target, news: Option<&BackupNews>, entries: &[AuditEntry]) -> Result<()> {
        let present = self.vault.list(target).await?;
        self.ledger.record_backups(target, &present, news, entries).await
    }

    /// One alert for everything that was left out or left undone; it ends with the first run that has nothing to say.
    async fn tell(&self, issues: &[Issue]) -> Result<()> {
        let key = AlertKey::new("backup.incomplete", "moon");
        if issues.is_empty() {
            return self.ledger.resolve(&key).await.map(drop);
        }
        let first = &issues[0].message;
        let message = format!("the last backup has {}, first: {first}", count(issues.len(), "issue"));
        let hint = "`moon backup list` shows them with the backup";
        self.ledger.raise(&key, Severity::Warning, &message, Some(hint)).await.map(drop)
    }
}

fn span(span: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX)
}

fn seconds(millis: u64) -> String {
    if millis < 100 {
        return "less than 0.1 s".into();
    }
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

/// What the audit keeps of a proof.
fn proof_entry(target: Target, id: &str, proven: &Result<Proven>) -> AuditEntry {
    match proven {
        Ok(proven) => {
            let message = format!("the backup {id} was restored into an empty place and is whole");
            let detail = json!({ "id": id, "target": target, "proof": proven.proof, "took_ms": proven.took_ms });
            AuditEntry::new("backup", "verified", "ok", message).detail(detail)
        }
        Err(error) => {
            let message = format!("the backup {id} could not be proved: {error}");
            let mut entry = AuditEntry::new("backup", "verified", "failed", message);
            entry.error_code = Some(error.code.clone());
            entry.detail(json!({ "id": id, "target": target }))
        }
    }
}

fn sentence(backup: &StoredBackup, proof: Option<(Proof, u64)>, removed: usize, issues: usize) -> String {
    let members = count(backup.members.unwrap_or(0), "member");
    let proof = match (backup.verified_at, proof) {
        (Some(_), Some((Proof::Restored, ms))) => {
            format!("restored into an empty place and compared in {}", seconds(ms))
        }
        (Some(_), _) => "compared while it was written".into(),
        (None, _) => "not verified".into(),
    };
    let mut said = format!("{}: {members}, {} bytes, {proof}", backup.id, backup.bytes);
    if removed > 0 {
        said.push_str(&format!("; {} removed", count(removed, "older one")));
    }
    if issues > 0 {
        said.push_str(&format!("; {}", count(issues, "issue")));
    }
    said
}

fn unknown(which: Option<&str>) -> Error {
    match which {
        Some(id) => {
            Error::data("backup.unknown", format!("there is no backup {id}")).hint("`moon backup list` lists them")
        }
        None => Error::data("backup.unknown", "there is no backup yet").hint("`moon backup` makes one"),
    }
}

/// What screens show of the backups.
pub async fn document(ledger: &dyn Ledger) -> Result<serde_json::Value> {
    let rows = ledger.backups().await?;
    let shown = |row: &crate::port::BackupRow| {
        let b = &row.backup;
        json!({
            "id": b.id, "path": b.path, "at": b.created_at, "bytes": b.bytes, "members": b.members,
            "verified_at": b.verified_at, "took_ms": row.made_ms,
        })
    };
    let drill = ledger.last_drill().await?.map(|d| json!({ "at": d.at, "ok": d.ok, "said": d.said }));
    let in_folder = || rows.iter().filter(|row| row.target == Target::Folder);
    Ok(json!({
        "newest": rows.first().map(shown),
        "newest_verified": ledger.newest_verified_backup().await?.as_ref().map(shown),
        "count": in_folder().count(),
        "bytes": in_folder().map(|row| row.backup.bytes).sum::<u64>(),
        "last_drill": drill,
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn work_that_is_over_at_once_is_not_said_to_have_taken_no_time() {
        assert_eq!([0, 99, 100, 1999].map(super::seconds), ["less than 0.1 s", "less than 0.1 s", "0.1 s", "1.9 s"]);
    }
}
