//! Whether there is a backup to rely on: one that was restored and compared, and is young enough. Only such a one counts.
//!
//! It tells apart that there is none at all, that the newest one is damaged, that none was verified, and that the newest verified one is
//! too old. It looks at the folder only; what lies elsewhere is looked at by the drill.

use super::{Senses, shown};
use crate::adapters::backup::BackupVault;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use moon_actors::contract::count;
use moon_actors::domain::{Condition, Figure, Finding, Trouble};
use moon_actors::health::policy;
use moon_actors::port::{AlertRules, Check, CheckGroup, Clock, Look, StoredBackup};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "backup";

pub(super) struct BackupAge {
    vault: BackupVault,
    limits: Limits,
    clock: Arc<dyn Clock>,
    lane: super::lane::Lane,
}

/// What is expected of the backups.
#[derive(Clone, Copy)]
struct Limits {
    /// Nobody asked for any.
    is_off: bool,
    warning: Duration,
    critical: Duration,
}

impl BackupAge {
    pub(super) fn new(senses: &Senses) -> Self {
        let (health, backup) = (&senses.settings.health, &senses.settings.backup);
        Self {
            vault: BackupVault::new(&senses.home, backup),
            limits: Limits {
                is_off: backup.at.trim().is_empty(),
                warning: health.backup_warning,
                critical: health.backup_critical,
            },
            clock: Arc::clone(&senses.clock),
            lane: Default::default(),
        }
    }
}

/// What the backups that are there mean, oldest first.
fn judge(backups: &[StoredBackup], limits: Limits, now: DateTime<Utc>) -> Finding {
    let hint = "`moon backup` makes and verifies one; `moon logs` says why the last one failed";
    let Some(newest) = backups.last() else {
        return match limits.is_off {
            true => Finding::ok("no backups are made here (backup.at is empty)"),
            false => Finding::warning("there is no backup yet").hint(hint),
        };
    };
    // As old as what is in it: a proof of today makes last week's backup no younger.
    let verified = backups.iter().rev().find(|backup| backup.verified_at.is_some());
    let verified = verified.map(|backup| (&backup.id, (now - backup.created_at).to_std().unwrap_or_default()));
    let by_age = verified.map(|(_, age)| policy::aged(age, limits.warning, limits.critical));
    let there = count(backups.len(), "backup");
    let how_old = verified.map(|(id, age)| format!("the newest verified one, {id}, is {} old", shown(age)));
    let finding = match (&newest.damaged, by_age, how_old) {
        (Some(why), by_age, how_old) => damaged(newest, why, by_age, how_old),
        (None, Some(by_age), Some(how_old)) => Finding::new(by_age, how_old).hint(hint),
        (None, ..) => Finding::warning(format!("none of {there} was ever verified")).hint(hint),
    };
    let finding = finding.figure("backups", Figure::new(backups.len() as f64, ""));
    let limit = |span: Duration| Some(span.as_secs_f64());
    let (warning, critical) = (limit(limits.warning), limit(limits.critical));
    match verified {
        Some((_, age)) => finding.figure("verified_age", Figure::new(age.as_secs_f64(), "s").above(warning, critical)),
        None => finding,
    }
}

/// The newest one cannot be relied on: which, why, and what else there is. That there is nothing else is critical.
fn damaged(newest: &StoredBackup, why: &str, by_age: Option<Condition>, how_old: Option<String>) -> Finding {
    let other = how_old.unwrap_or_else(|| "no other one is verified".into());
    let reason = format!("the newest one, {}, is damaged ({why}); {other}", newest.path);
    let condition = if by_age.is_some() { Condition::Warning } else { Condition::Critical };
    let trouble = |condition, reason, rule| Trouble { subject: NAME.into(), condition, reason, rule };
    let mut finding = Finding::new(condition.max(by_age.unwrap_or_default()), reason.clone())
        .hint("do not rely on it: `moon backup` makes and verifies a new one, `moon backup list` shows the others");
    finding.troubles = vec![trouble(condition, reason, Some("backup.corrupt"))];
    finding.troubles.extend(by_age.map(|by_age| trouble(by_age, other, None)));
    finding
}

#[async_trait]
impl Check for BackupAge {
    fn name(&self) -> &str {
        NAME
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Backup
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("backup.old"))
    }
    async fn look(&self, _: &Look) -> Finding {
        let vault = self.vault.clone();
        match self.lane.run(move || vault.list_folder()).await {
            Ok(Ok(backups)) => judge(&backups, self.limits, self.clock.now()),
            Ok(Err(error)) => Finding::unknown(error.to_string()),
            Err(why) => Finding::unknown(format!("the backups could not be listed: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    const NOW: DateTime<Utc> = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");

    fn backup(id: &str, hours: i64) -> StoredBackup {
        StoredBackup {
            id: id.into(),
            path: format!("/backups/{id}.tar.zst"),
            created_at: NOW - TimeDelta::hours(hours),
            bytes: 3,
            sha256: None,
            encrypted: false,
            verified_at: Some(NOW),
            damaged: None,
            members: None,
            content_bytes: None,
        }
    }

    fn torn(id: &str, hours: i64) -> StoredBackup {
        StoredBackup { verified_at: None, damaged: Some("home/a differs".into()), ..backup(id, hours) }
    }

    fn found(backups: &[StoredBackup]) -> Finding {
        let limits = Limits { is_off: false, warning: Duration::from_hours(26), critical: Duration::from_hours(50) };
        judge(backups, limits, NOW)
    }

    fn rules(finding: &Finding) -> Vec<(Option<&str>, Condition)> {
        finding.troubles.iter().map(|trouble| (trouble.rule, trouble.condition)).collect()
    }

    #[test]
    fn none_at_all_a_damaged_one_one_not_verified_and_one_too_old_are_told_apart() {
        assert_eq!(found(&[]), Finding::warning("there is no backup yet").hint(found(&[]).hint.expect("a hint")));
        let unproved = StoredBackup { verified_at: None, ..backup("a", 1) };
        assert_eq!(found(&[unproved]).reason, "none of 1 backup was ever verified");
        let old = found(&[backup("a", 60), backup("b", 30)]);
        assert_eq!(old.condition, Condition::Warning);
        assert!(old.reason.starts_with("the newest verified one, b, is ") && old.troubles.is_empty(), "{old:?}");
        let other = found(&[backup("a", 25), torn("b", 1)]);
        assert_eq!(
            (other.condition, rules(&other)[0]),
            (Condition::Warning, (Some("backup.corrupt"), Condition::Warning))
        );
        let named = "the newest one, /backups/b.tar.zst, is damaged (home/a differs); the newest verified one, a, is ";
        assert!(other.reason.starts_with(named), "{other:?}");
    }

    #[test]
    fn a_damaged_one_is_critical_when_nothing_else_is_good_and_an_old_one_is_told_beside_it() {
        let only = found(&[torn("a", 30), torn("b", 1)]);
        assert_eq!(rules(&only), [(Some("backup.corrupt"), Condition::Critical)]);
        assert!(only.reason.ends_with("; no other one is verified"), "{only:?}");
        let both = found(&[backup("a", 60), torn("b", 1)]);
        assert_eq!(rules(&both), [(Some("backup.corrupt"), Condition::Warning), (None, Condition::Critical)]);
        assert_eq!(both.condition, Condition::Critical);
        let whole = found(&[torn("a", 30), backup("b", 1)]);
        assert_eq!(
            (whole.condition, whole.troubles),
            (Condition::Ok, vec![]),
            "an older one that is damaged is no news"
        );
    }
}
