//! The engine alone, on a paused clock: looks that hang, looks that crash, and what is remembered.

use async_trait::async_trait;
use moon::adapters::clock::{SystemClock, UuidIds};
use moon::adapters::sqlite::SqliteLedger;
use moon_actors::domain::{Condition, Finding};
use moon_actors::health::engine::Doctor;
use moon_actors::port::{AlertRules, AuditEntry, Check, CheckGroup, Ledger, Look, NoHealer};
use moon_actors::settings::Health;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

enum Way {
    Fine,
    Hangs,
    Crashes,
    Counts,
}

struct Made(&'static str, Way);

#[async_trait]
impl Check for Made {
    fn name(&self) -> &str {
        self.0
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Disk
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("made.up"))
    }
    async fn look(&self, look: &Look) -> Finding {
        match self.1 {
            Way::Fine => Finding::ok("fine"),
            Way::Hangs => std::future::pending().await,
            Way::Crashes => panic!("a bug in a check"),
            Way::Counts => {
                let count = look.memory.as_u64().unwrap_or(0) + 1;
                Finding::critical(format!("look {count}")).memory(json!(count))
            }
        }
    }
}

fn doctor(checks: Vec<Made>, ledger: &SqliteLedger) -> Doctor {
    let checks = checks.into_iter().map(|check| Arc::new(check) as Arc<dyn Check>).collect();
    let (ledger, clock) = (Arc::new(ledger.clone()), Arc::new(SystemClock::start()));
    Doctor::keeper(checks, ledger, clock, Arc::new(NoHealer), &Health::default())
}

fn ledger() -> SqliteLedger {
    SqliteLedger::in_memory(Arc::new(SystemClock::start()), Arc::new(UuidIds)).expect("opens")
}

#[tokio::test(start_paused = true)]
async fn a_look_that_hangs_or_crashes_is_unknown_and_the_others_are_what_they_are() {
    let ledger = ledger();
    let doctor =
        doctor(vec![Made("hangs", Way::Hangs), Made("fine", Way::Fine), Made("crashes", Way::Crashes)], &ledger);
    let begun = tokio::time::Instant::now();
    let rows = doctor.answer(&[], true).await.expect("answers");
    assert_eq!(begun.elapsed(), Health::default().timeout, "all at once, and none longer than its deadline");
    let states: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.condition)).collect();
    assert_eq!(states, [("hangs", Condition::Unknown), ("fine", Condition::Ok), ("crashes", Condition::Unknown)]);
    assert!(rows[0].reason.contains("no answer within 10s") && rows[2].reason.contains("crashed"), "{rows:?}");
    assert_eq!(moon_actors::health::verdict(&rows), Condition::Unknown);
}

#[tokio::test(start_paused = true)]
async fn what_a_check_remembers_survives_the_process_and_a_check_that_is_gone_leaves_nothing() {
    let ledger = ledger();
    let first = doctor(vec![Made("counts", Way::Counts), Made("fine", Way::Fine)], &ledger);
    first.answer(&[], true).await.expect("answers");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = doctor(vec![Made("counts", Way::Counts)], &ledger);
    let rows = second.answer(&[], false).await.expect("answers");
    assert_eq!(rows[0].reason, "look 2", "what an earlier life saw is not taken for fresh");
    assert_eq!(second.answer(&[], false).await.expect("answers")[0].reason, "look 2", "what this one saw is");
    assert_eq!(ledger.checks().await.expect("read").len(), 1, "the other row is dropped");
    assert_eq!(ledger.alerts(true).await.expect("read").len(), 1);
    let none = doctor(vec![Made("fine", Way::Fine)], &ledger);
    none.answer(&[], true).await.expect("answers");
    assert_eq!(ledger.alerts(true).await.expect("read"), vec![], "its alert has ended with it");
    let stranger = none.answer(&["counts".into()], true).await.expect_err("unknown");
    assert_eq!(stranger.code, "health.no_such_check");
}

#[tokio::test]
async fn crashes_of_actors_are_read_from_the_audit_with_their_names_and_times() {
    let ledger = ledger();
    let crash =
        |who: &str| AuditEntry::new("supervisor", "crashed", "failed", format!("{who} crashed: index out of bounds"));
    for who in ["moon/pipeline/distill", "moon/pipeline/index", "moon/pipeline/distill"] {
        ledger.audit(&crash(who)).await.expect("written");
    }
    // What somebody else says is no crash, whatever words it holds.
    ledger
        .audit(&AuditEntry::new("cli", "noted", "info", "\"actor\":\"supervisor\",\"event\":\"crashed\""))
        .await
        .expect("written");
    let now = chrono::Utc::now();
    let found = ledger.crashes(now - chrono::TimeDelta::hours(1)).await.expect("read");
    let who: Vec<_> = found.iter().map(|(who, _)| who.as_str()).collect();
    assert_eq!(who, ["moon/pipeline/distill", "moon/pipeline/index", "moon/pipeline/distill"]);
    assert!(found.iter().all(|(_, at)| (now - *at).num_seconds().abs() < 60), "{found:?}");
    assert_eq!(ledger.crashes(now + chrono::TimeDelta::hours(1)).await.expect("read"), vec![]);
}

#[tokio::test]
async fn a_command_that_was_killed_is_no_crash_of_the_daemon() {
    let ledger = ledger();
    let hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    ledger.begin("a command").await.expect("begins");
    let daemon = ledger.next_life();
    daemon.begin("a daemon").await.expect("begins");
    assert_eq!(daemon.crashes(hour_ago).await.expect("read"), vec![]);
    daemon.beat(0, 0).await.expect("it lives");
    let after = daemon.next_life();
    after.begin("a command").await.expect("begins");
    let found = after.crashes(hour_ago).await.expect("read");
    assert_eq!(found.iter().map(|(who, _)| who.as_str()).collect::<Vec<_>>(), ["moon"]);
    let last = after.last_life().await.expect("read").expect("the daemon's");
    assert_eq!(last.ended_at, None);
}
