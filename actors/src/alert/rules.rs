//! Every rule that Moon raises by itself: its severity, its title, and what to do. The one place that lists them.
//!
//! A caller names its own severity and hint where it knows better; this is what people and scripts find by the rule's name.

use crate::domain::Stage;
use crate::port::Severity::{self, Critical, Info, Warning};
use crate::schedule::Task;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The document's own types keep their names; all others are `noun.reason`.
    pub name: &'static str,
    pub severity: Severity,
    /// What stands in the log and in subjects.
    pub title: &'static str,
    /// What to do.
    pub hint: &'static str,
}

const fn rule(name: &'static str, severity: Severity, title: &'static str, hint: &'static str) -> Rule {
    Rule { name, severity, title, hint }
}

/// Sorted by name. Rules that are put together from a stage's or a task's name stand here, too.
pub const CATALOGUE: &[Rule] = &[
    rule("alert.test", Info, "Test Alert", "nothing: somebody tries whether the route works"),
    rule(
        "alert.undelivered",
        Warning,
        "Alert Route Failing",
        "`moon alerts test --route NAME` shows what the route answers",
    ),
    rule(
        "archive.failing",
        Critical,
        "Archive Failing",
        "look up the code in the message; most often the disk is full",
    ),
    rule("archive.quarantined", Critical, "Archive Job Set Aside", "report it with the crash from `moon logs`"),
    rule(
        "archive.unreadable",
        Critical,
        "Archived Object Unreadable",
        "put the file back from a backup; `moon verify` names it",
    ),
    rule("auto_recovery", Info, "Auto Recovery", "nothing: it runs again; `moon logs` shows why it had stopped"),
    rule("auto_recovery_failed", Critical, "Auto Recovery Failed", "start it by hand and look at `moon logs`"),
    rule("backup.corrupt", Critical, "Backup Corrupt", "do not rely on it: `moon backup` makes and verifies a new one"),
    rule("backup.failing", Critical, "Backup Failing", "look at the message: most often the target is full or away"),
    rule("backup.incomplete", Warning, "Backup Incomplete", "`moon backup list` names what is missing"),
    rule(
        "backup.old",
        Warning,
        "Backup Old",
        "`moon backup`, then see why the nightly one is not made or not verified",
    ),
    rule("clock.set_back", Warning, "Clock Set Back", "set the clock right; work goes on meanwhile"),
    rule("command.failed", Warning, "Own Check Failed", "see what the command says in `moon health`"),
    rule("continuity.failing", Warning, "Continuity Failing", "start the gateway, then `moon verify`"),
    rule("continuity.quarantined", Critical, "Continuity Job Set Aside", "report it with the crash from `moon logs`"),
    rule(
        "continuity.unconfirmed",
        Critical,
        "Continuity Map Not Seen",
        "nothing is lost; check the plugin with `moon verify`",
    ),
    rule("daemon_critical", Critical, "Daemon Critical Failure", "look at `moon logs`, then start the daemon again"),
    rule("daemon_degraded", Warning, "Daemon Degraded", "look at `moon status` and `moon logs`"),
    rule("dashboard.unavailable", Warning, "Web Page Not Served", "most often another program listens on that port"),
    rule("dashboard.unwritable", Warning, "Dashboard Files Not Written", "make the folder, and let Moon write to it"),
    rule("disk_critical", Critical, "Disk Space Critical", "free space now: nothing can be written soon"),
    rule("disk_low", Warning, "Disk Space Low", "free space, or move backups elsewhere"),
    rule("distill.failing", Warning, "Distillation Failing", "look at the message: most often a file below `memory/`"),
    rule("distill.quarantined", Critical, "Distillation Job Set Aside", "report it with the crash from `moon logs`"),
    rule(
        "drill.failing",
        Critical,
        "Restore Drill Failing",
        "the newest backup may be of no use: make and verify a new one",
    ),
    rule("email_errors", Warning, "Email Errors", "look at the log of the mail companion"),
    rule("endpoint.down", Critical, "Endpoint Down", "start what answers there"),
    rule("health.unknown", Warning, "Check Cannot Look", "see the reason in `moon health`"),
    rule("host.unreachable", Critical, "Session Host Unreachable", "start it; check `openclaw.url` and the token"),
    rule("index.behind", Warning, "Index Behind", "`moon index --rebuild` fills it anew; the archives are untouched"),
    rule("index.failing", Warning, "Index Failing", "room on the disk? else `moon index --rebuild`"),
    rule("index.quarantined", Critical, "Index Job Set Aside", "report it with the crash from `moon logs`"),
    rule("inodes.low", Warning, "Inodes Low", "remove small files: there is room, but no file can be made soon"),
    rule("logs.errors", Warning, "Errors In A Log", "read the log that the message names"),
    rule("logs.large", Warning, "Log File Large", "`moon rotate-logs`, or name it in [[rotation.files]]"),
    rule("memory_corrupt", Critical, "Memory Database Corrupt", "stop its writer, keep a copy, and restore a backup"),
    rule(
        "prune.failing",
        Warning,
        "Prune Failing",
        "look at the message; OpenClaw's overflow recovery is still the net",
    ),
    rule("prune.quarantined", Critical, "Prune Job Set Aside", "report it with the crash from `moon logs`"),
    rule("report.failing", Critical, "Weekly Report Failing", "look at the message"),
    rule("restart_loop", Warning, "Restart Loop", "look at `moon logs` for why it keeps ending"),
    rule("rotation.failing", Critical, "Log Rotation Failing", "look at the message: most often the disk is full"),
    rule(
        "supervision.gave_up",
        Critical,
        "Daemon Gave Up",
        "`moon logs`, and report the crash; the service manager starts it again",
    ),
    rule("supervision.parked", Critical, "Actor Parked", "`moon logs`, then `moon ctl restart NAME`"),
];

/// Those that checks raise, sorted: the only ones that `[[health.recover]]` can do something about.
pub const OF_CHECKS: &[&str] = &[
    "backup.corrupt",
    "backup.old",
    "clock.set_back",
    "command.failed",
    "daemon_critical",
    "daemon_degraded",
    "disk_critical",
    "disk_low",
    "email_errors",
    "endpoint.down",
    "health.unknown",
    "index.behind",
    "inodes.low",
    "logs.errors",
    "logs.large",
    "memory_corrupt",
    "restart_loop",
];

/// The rule of that name, if it is one of Moon's.
pub fn find(name: &str) -> Option<&'static Rule> {
    CATALOGUE.iter().find(|rule| rule.name == name)
}

/// The title of a rule; of one that somebody else made up, its name in words.
pub fn title(name: &str) -> String {
    find(name).map_or_else(|| in_words(name), |rule| rule.title.to_owned())
}

/// How bad an alert of this rule is, unless somebody says so.
pub fn severity(name: &str, said: Option<Severity>) -> Severity {
    said.or(find(name).map(|rule| rule.severity)).unwrap_or(Warning)
}

/// What to do about an alert of this rule, if it is one of Moon's.
pub fn hint(name: &str) -> Option<String> {
    find(name).map(|rule| rule.hint.to_owned())
}

fn in_words(name: &str) -> String {
    let words = name.split(['.', '_', '-', ' ']).filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    words.map(capital).collect::<Vec<String>>().join(" ")
}

/// Whether a rule may be called so: short, and of letters, digits, `.`, `_` and `-`.
pub fn is_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
    (1..=64).contains(&name.len()) && name.chars().all(is_fine)
}

/// Rules that no source names in one piece.
pub fn composed() -> Vec<String> {
    let stages = Stage::ALL.iter().flat_map(|stage| ["failing", "quarantined"].map(|what| (stage.as_str(), what)));
    let tasks = Task::ALL.iter().map(|task| (task.as_str(), "failing"));
    stages.chain(tasks).map(|(noun, reason)| format!("{noun}.{reason}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_sorted_and_holds_what_is_put_together() {
        assert!(CATALOGUE.is_sorted_by(|a, b| a.name < b.name));
        let missing: Vec<String> = composed().into_iter().filter(|name| find(name).is_none()).collect();
        assert_eq!(missing, Vec::<String>::new());
        assert!(OF_CHECKS.is_sorted() && OF_CHECKS.iter().all(|name| find(name).is_some()));
        assert!(CATALOGUE.iter().all(|rule| is_name(rule.name) && !rule.title.is_empty() && !rule.hint.is_empty()));
    }

    #[test]
    fn the_documents_types_keep_their_names_and_severities() {
        let found = |name| find(name).map(|rule| rule.severity);
        for name in ["daemon_critical", "disk_critical", "memory_corrupt", "auto_recovery_failed"] {
            assert_eq!(found(name), Some(Critical), "{name}");
        }
        for name in ["daemon_degraded", "disk_low", "email_errors", "restart_loop"] {
            assert_eq!(found(name), Some(Warning), "{name}");
        }
        assert_eq!(found("auto_recovery"), Some(Info));
        assert_eq!(title("daemon_critical"), "Daemon Critical Failure");
    }

    #[test]
    fn a_rule_of_somebody_else_has_its_name_for_a_title() {
        assert_eq!(title("nightly.sync_failed"), "Nightly Sync Failed");
        assert!(is_name("nightly.sync_failed") && !is_name("") && !is_name("a b") && !is_name(&"x".repeat(65)));
    }
}
