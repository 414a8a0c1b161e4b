//! Cycles and jobs: claims, transactions, pauses, what a crash or a death of the process leaves, alerts.

use super::*;

#[test]
fn a_session_has_one_open_cycle_and_captures_beside_it() {
    both(async |ledger, _| {
        assert!(open(&ledger, "c1", "s", CycleKind::Prune).await.is_some());
        assert!(open(&ledger, "c2", "s", CycleKind::Distill).await.is_none(), "a second cycle beside an open one");
        assert!(open(&ledger, "c3", "s", CycleKind::Capture).await.is_some());
        assert!(
            open(&ledger, "c4", "s", CycleKind::Capture).await.is_none(),
            "a capture that waits already sees it all"
        );
        assert!(open(&ledger, "c5", "other", CycleKind::Prune).await.is_some(), "sessions do not wait for each other");
        // A capture that has begun to read may miss what comes now.
        let (first, second) = (claim(&ledger, Stage::Archive).await, claim(&ledger, Stage::Archive).await);
        let claimed = [first.expect("a job").job.cycle, second.expect("a job").job.cycle];
        assert!(claimed.contains(&CycleId::from("c3")), "{claimed:?}");
        assert!(open(&ledger, "c6", "s", CycleKind::Capture).await.is_some());
    });
}

#[test]
fn a_capture_of_another_transcript_does_not_wait_for_the_old_ones() {
    both(async |ledger, _| {
        assert!(open(&ledger, "c1", "s", CycleKind::Capture).await.is_some());
        let mut replaced = cycle("c2", "s", CycleKind::Capture);
        replaced.session.session_id = "another".into();
        assert!(ledger.open_cycle(&replaced, None).await.expect("opened or not").is_some());
    });
}

#[test]
fn compactions_that_wait_for_one_archive_are_all_answered() {
    both(async |ledger, _| {
        for (id, ack) in [("c1", "a"), ("c2", "b"), ("c3", "c")] {
            ledger.observe(&[reading("s")]).await.expect("recorded");
            let capture = NewCycle { ack: Some(ack.into()), ..cycle(id, "s", CycleKind::Capture) };
            ledger.open_cycle(&capture, None).await.expect("opened or joined");
        }
        assert_eq!(claim(&ledger, Stage::Archive).await.expect("one job").job.ack.as_deref(), Some("a,b,c"));
    });
}

#[test]
fn what_a_compaction_waits_for_goes_before_all_others_and_out_of_its_pause() {
    both(async |ledger, _| {
        open(&ledger, "c1", "first", CycleKind::Capture).await;
        open(&ledger, "c2", "s", CycleKind::Capture).await;
        let held = claim(&ledger, Stage::Archive).await.expect("the older one");
        assert_eq!(held.job.cycle, CycleId::from("c1"));
        let failing = claim(&ledger, Stage::Archive).await.expect("the other");
        let error = Error::transient("archive.disk_full", "no room");
        assert!(ledger.retry(&failing, Duration::from_secs(300), &error, &done()).await.expect("answers"));
        open(&ledger, "c3", "third", CycleKind::Capture).await;
        let waiting = NewCycle { ack: Some("a".into()), ..cycle("c4", "s", CycleKind::Capture) };
        assert!(ledger.open_cycle(&waiting, None).await.expect("joined").is_none());
        let next = claim(&ledger, Stage::Archive).await.expect("due at once");
        assert_eq!((next.job.cycle, next.job.ack.as_deref()), (CycleId::from("c2"), Some("a")));
    });
}

#[test]
fn a_job_that_waits_for_a_turn_counts_nothing_and_is_hurried_by_that_sessions_end_of_turn_alone() {
    both(async |ledger, hands| {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let busy = Error::transient("host.busy", "a turn is running in s");
        for minutes in [0, 1] {
            let claim = claim(&ledger, Stage::Archive).await.expect("due");
            assert_eq!((claim.job.attempt, claim.job.failures), (1, 0));
            assert_eq!(claim.job.age, Duration::from_secs(60 * minutes), "since it was queued");
            assert!(ledger.wait(&claim, Duration::from_secs(60), &busy).await.expect("answers"));
            assert!(!ledger.wait(&claim, Duration::from_secs(60), &busy).await.expect("answers"), "no claim any more");
            hands.forward(60);
        }
        let claim = claim(&ledger, Stage::Archive).await.expect("due");
        assert!(ledger.wait(&claim, Duration::from_secs(60), &busy).await.expect("answers"));
        let told = ledger.audit_rows(0, 100).await.expect("rows");
        assert_eq!(
            told.iter().filter(|row| row.entry.event == "started").count(),
            1,
            "the first time is told, no other"
        );
        assert_eq!(ledger.hurry_waiting(&SessionKey::from("other")).await.expect("answers"), 0);
        assert!(self::claim(&ledger, Stage::Archive).await.is_none());
        assert_eq!(ledger.hurry_waiting(&SessionKey::from("s")).await.expect("answers"), 1);
        let claim = self::claim(&ledger, Stage::Archive).await.expect("due at once");
        let full = Error::transient("archive.disk_full", "no room");
        assert!(ledger.retry(&claim, Duration::from_secs(60), &full, &done()).await.expect("answers"));
        assert_eq!(
            ledger.hurry_waiting(&SessionKey::from("s")).await.expect("answers"),
            0,
            "a failure keeps its pause"
        );
    });
}

#[test]
fn an_alert_about_a_failing_stage_goes_on_while_another_job_of_the_session_fails_there() {
    both(async |ledger, _| {
        open(&ledger, "c1", "s", CycleKind::Capture).await;
        let old = claim(&ledger, Stage::Archive).await.expect("due");
        let error = Error::data("openclaw.record_damaged", "a row is damaged");
        assert!(ledger.retry(&old, Duration::ZERO, &error, &done()).await.expect("answers"));
        let key = AlertKey::failing(Stage::Archive, &SessionKey::from("s"));
        ledger.raise(&key, Severity::Critical, "m", None).await.expect("raised");
        let mut present = cycle("c2", "s", CycleKind::Capture);
        present.session.session_id = "another".into();
        ledger.open_cycle(&present, None).await.expect("opened");
        let firing = async || ledger.alerts(true).await.expect("alerts").len();
        let first = claim(&ledger, Stage::Archive).await.expect("due");
        let second = claim(&ledger, Stage::Archive).await.expect("due");
        let (old, new) = if first.job.failures > 0 { (first, second) } else { (second, first) };
        assert!(ledger.retry(&old, Duration::ZERO, &error, &done()).await.expect("answers"));
        assert!(finish(&ledger, &new, Effect::None).await);
        assert_eq!(firing().await, 1, "the older transcript still cannot be read");
        let old = claim(&ledger, Stage::Archive).await.expect("due");
        assert!(finish(&ledger, &old, Effect::None).await);
        assert_eq!(firing().await, 0);
    });
}

#[test]
fn what_a_prune_left_is_taken_from_the_first_count_that_can_be_trusted_after_it() {
    both(async |ledger, hands| {
        let claim = up_to(&ledger, "c1", CycleKind::Prune, Stage::Prune).await;
        let effect = Effect::Pruned { tokens_before: Some(90), tokens_after: None, permit: json!({}) };
        assert!(finish(&ledger, &claim, effect).await);
        let freed = async || {
            let row = ledger.session(&SessionKey::from("s")).await.expect("answers").expect("a session");
            row.last_freed.map(|share| (share * 90.0).round())
        };
        let seen = |used: u64, fresh: bool| UsageReading {
            used_tokens: Some(used),
            fresh,
            captured_at: hands.now(),
            ..reading("s")
        };
        ledger.observe(&[seen(90, true)]).await.expect("recorded");
        assert_eq!(freed().await, None, "seen in the same moment: it may be from before");
        hands.forward(1);
        ledger.observe(&[seen(90, false)]).await.expect("recorded");
        assert_eq!(freed().await, None, "nobody vouches for it");
        ledger.observe(&[seen(40, true)]).await.expect("recorded");
        hands.forward(60);
        ledger.observe(&[seen(70, true)]).await.expect("recorded");
        assert_eq!(freed().await, Some(50.0), "90 less 40; what came later is new talk");
    });
}

#[test]
fn a_finished_stage_queues_the_next_and_the_last_one_closes_the_cycle() {
    both(async |ledger, _| {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        for stage in CycleKind::Prune.stages() {
            assert_eq!(ledger.cycle_done(&CycleId::from("c1")).await.expect("answers"), None);
            let claim = claim(&ledger, *stage).await.unwrap_or_else(|| panic!("{stage:?} is due"));
            assert_eq!(claim.job.attempt, 1);
            assert!(finish(&ledger, &claim, Effect::None).await);
        }
        assert_eq!(ledger.cycle_done(&CycleId::from("c1")).await.expect("answers"), Some(true));
        assert!(open(&ledger, "c2", "s", CycleKind::Prune).await.is_some(), "the next cycle may begin");
    });
}

#[test]
fn a_ghost_with_an_old_token_changes_no_row() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (ledger, _) = on_disk(folder.path());
    wait(async {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let ghost = claim(&ledger, Stage::Archive).await.expect("a job");
        assert_eq!(ledger.release(Stage::Archive, Release::Crashed).await.expect("released"), 1);
        let mut answers = Vec::new();
        // Once while nobody holds the job, once while somebody else does, once after it is done.
        for round in 0..3 {
            let holder = if round == 1 { claim(&ledger, Stage::Archive).await } else { None };
            let before = dump(&folder.path().join("moon.db"));
            let entry = done();
            answers.push(ledger.complete(&ghost, &Effect::None, &entry).await.expect("answers"));
            answers.push(ledger.intend(&ghost, &json!({})).await.expect("answers"));
            answers.push(ledger.cancel(&ghost, &entry).await.expect("answers"));
            let error = Error::transient("x.y", "z");
            answers.push(ledger.retry(&ghost, Duration::ZERO, &error, &entry).await.expect("answers"));
            assert_eq!(before, dump(&folder.path().join("moon.db")), "round {round}");
            if let Some(holder) = holder {
                assert!(finish(&ledger, &holder, Effect::None).await);
            }
        }
        assert_eq!(answers, vec![false; 12]);
    });
}

fn distillation(key: &str, cycle: &str, series: i64, at: DateTime<Utc>) -> DistillationRow {
    DistillationRow {
        key: Sha256::of(key.as_bytes()),
        series_id: series,
        session: SessionKey::from("s"),
        session_id: "s-id".into(),
        cycle: CycleId::from(cycle),
        from_seq: 0,
        to_seq: 9,
        provider: "local".into(),
        summary_path: "memory/x.md".into(),
        at,
        body: Value::Null,
    }
}

fn continued(cycle: &str, at: DateTime<Utc>) -> Effect {
    Effect::Continued(Box::new(ContinuityRow {
        cycle: CycleId::from(cycle),
        session: SessionKey::from("s"),
        source_session_id: "s-id".into(),
        target_session_id: "s-id".into(),
        map_path: "continuity/x.json".into(),
        map_sha256: Sha256::of(b"map"),
        block_sha256: Sha256::of(b"block"),
        rollover: "reset".into(),
        at,
        confirmed_at: None,
    }))
}

/// Works a distill cycle off up to `stage`, which is claimed and returned.
async fn up_to(ledger: &SqliteLedger, id: &str, kind: CycleKind, stage: Stage) -> Claim {
    open(ledger, id, "s", kind).await.expect("no cycle is open");
    loop {
        for next in kind.stages() {
            if let Some(claim) = claim(ledger, *next).await {
                if *next == stage {
                    return claim;
                }
                assert!(finish(ledger, &claim, Effect::None).await);
            }
        }
    }
}

#[test]
fn a_completion_that_fails_in_the_middle_changes_nothing_and_can_be_repeated() {
    // Each trigger breaks the transaction at another of its steps.
    let breaks = [
        ("the effect", "CREATE TRIGGER broken BEFORE INSERT ON distillations BEGIN SELECT RAISE(ABORT, 'broken'); END"),
        ("the next job", "CREATE TRIGGER broken BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'broken'); END"),
        ("the alert", "CREATE TRIGGER broken BEFORE UPDATE ON alerts BEGIN SELECT RAISE(ABORT, 'broken'); END"),
        ("the audit", "CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'broken'); END"),
    ];
    for (what, trigger) in breaks {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("moon.db");
        let (ledger, _) = on_disk(folder.path());
        wait(async {
            let claim = up_to(&ledger, "c1", CycleKind::Distill, Stage::Distill).await;
            let series = ledger.series(&session("s")).await.expect("a series");
            ledger.raise(&AlertKey::new("distill.failing", "s"), Severity::Warning, "m", None).await.expect("raised");
            let raw = Connection::open(&path).expect("the file opens");
            raw.execute_batch(trigger).expect("a trigger");
            let effect = Effect::Distilled(vec![distillation("k", "c1", series.id, instant(0))]);
            let before = dump(&path);
            let failed = ledger.complete(&claim, &effect, &done()).await.expect_err("it must fail");
            assert_eq!(failed.kind, Kind::Transient, "{what}: {failed}");
            assert_eq!(before, dump(&path), "{what} broke, and something was written all the same");
            raw.execute_batch("DROP TRIGGER broken").expect("dropped");
            assert!(finish(&ledger, &claim, effect).await, "{what}: the claim is still ours");
            assert_eq!(ledger.distillations(&SessionKey::from("s")).await.expect("rows").len(), 1);
            assert!(self::claim(&ledger, Stage::Continuity).await.is_some(), "{what}: the next job waits");
            assert_eq!(ledger.alerts(true).await.expect("alerts"), []);
            ledger.verify_audit().await.expect("read").expect("whole");
        });
    }
}

#[test]
fn the_worlds_failures_never_use_up_the_attempts_but_crashes_do() {
    both(async |ledger, hands| {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let error = Error::transient("archive.disk_full", "no room");
        for n in 0..20 {
            let claim = claim(&ledger, Stage::Archive).await.expect("due again");
            assert_eq!((claim.job.attempt, claim.job.failures), (1, n));
            assert!(ledger.retry(&claim, Duration::from_secs(60), &error, &done()).await.expect("answers"));
            assert!(self::claim(&ledger, Stage::Archive).await.is_none(), "it waits its minute");
            let due = ledger.next_due(Stage::Archive).await.expect("answers").expect("a job waits");
            assert_eq!(due, hands.steady() + TimeDelta::seconds(60));
            hands.forward(60);
        }
        for _ in 0..10 {
            assert_eq!(claim(&ledger, Stage::Archive).await.expect("due").job.attempt, 1);
            ledger.release(Stage::Archive, Release::LedgerFailed).await.expect("its end could not be written down");
        }
        for attempt in 1..=3 {
            assert_eq!(claim(&ledger, Stage::Archive).await.expect("due").job.attempt, attempt);
            ledger.release(Stage::Archive, Release::Crashed).await.expect("the worker crashed and came back");
        }
        open(&ledger, "c2", "other", CycleKind::Prune).await;
        let next = claim(&ledger, Stage::Archive).await.expect("the other session's job");
        assert_eq!(next.job.cycle, CycleId::from("c2"), "the poisoned job blocks nobody");
        assert!(
            claim(&ledger, Stage::Archive).await.is_none(),
            "the poisoned job is set aside, not tried a fourth time"
        );
        let quarantined = ledger.jobs(true).await.expect("jobs");
        assert!(
            quarantined.iter().any(|j| j.cycle == CycleId::from("c1") && j.state == "quarantined"),
            "{quarantined:?}"
        );
        let firing = ledger.alerts(true).await.expect("alerts");
        assert_eq!(firing.iter().map(|a| a.key.rule.as_str()).collect::<Vec<_>>(), ["archive.quarantined"]);
        assert_eq!(ledger.cycle_done(&CycleId::from("c1")).await.expect("answers"), Some(false));
    });
}

#[test]
fn a_job_that_is_set_aside_is_not_failing_any_more() {
    both(async |ledger, _| {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        ledger.raise(&AlertKey::new("archive.failing", "s"), Severity::Warning, "m", None).await.expect("raised");
        for _ in 0..3 {
            claim(&ledger, Stage::Archive).await.expect("due");
            ledger.release(Stage::Archive, Release::Crashed).await.expect("released");
        }
        assert!(claim(&ledger, Stage::Archive).await.is_none());
        let rules: Vec<String> = ledger.alerts(true).await.expect("alerts").into_iter().map(|a| a.key.rule).collect();
        assert_eq!(rules, ["archive.quarantined"]);
    });
}

#[test]
fn a_new_life_takes_the_claims_of_a_dead_one_back_and_says_so() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (ledger, hands) = on_disk(folder.path());
    wait(async {
        assert!(ledger.begin("t").await.expect("begins").clean_stop, "there was no life before");
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let error = Error::transient("x.y", "z");
        let held = claim(&ledger, Stage::Archive).await.expect("due");
        ledger.retry(&held, Duration::from_secs(3600), &error, &done()).await.expect("put back");
        open(&ledger, "c2", "other", CycleKind::Prune).await;
        let ghost = claim(&ledger, Stage::Archive).await.expect("due");
        ledger
            .raise(&AlertKey::new("supervision.parked", "moon/x"), Severity::Critical, "m", None)
            .await
            .expect("raised");
        // The clock falls back to 1970 while the process is dead.
        hands.wall.store(-START, Ordering::Relaxed);
        hands.steady.store(-START, Ordering::Relaxed);
        let second = reopened(folder.path(), &hands).expect("opens");
        let recovery = second.begin("t").await.expect("begins");
        assert_eq!((recovery.clean_stop, recovery.released_claims), (false, 1));
        assert!(!finish(&ledger, &ghost, Effect::None).await, "the dead life's claim is worth nothing");
        let due: Vec<_> = [claim(&second, Stage::Archive).await, claim(&second, Stage::Archive).await]
            .into_iter()
            .flatten()
            .map(|c| c.job.attempt)
            .collect();
        assert_eq!(due, [1, 1], "both are due at once, waiting times and attempts of the dead life forgotten");
        assert_eq!(second.alerts(true).await.expect("alerts"), [], "nobody is parked in a new life");
        second.end("stopped").await.expect("ends");
        let third = reopened(folder.path(), &hands).expect("opens");
        assert!(
            third.begin("t").await.expect("begins").clean_stop,
            "the last life in order, not the one latest by the clock"
        );
    });
}

#[test]
fn a_job_that_is_under_way_at_every_death_of_the_process_is_set_aside_with_an_alert() {
    both(async |ledger, _| {
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let mut lives = 0;
        let mut life = ledger.next_life();
        while claim(&life, Stage::Archive).await.is_some() {
            lives += 1;
            assert!(lives <= 8, "it kills the process for ever");
            life = life.next_life();
            life.begin("t").await.expect("begins");
        }
        assert_eq!(lives, 8);
        let rules: Vec<String> = life.alerts(true).await.expect("alerts").into_iter().map(|a| a.key.rule).collect();
        assert_eq!(rules, ["archive.quarantined"]);
        let rows = life.audit_rows(0, 1000).await.expect("rows");
        assert_eq!(rows.iter().filter(|r| r.entry.event == "quarantined").count(), 1);
        assert!(open(&life, "c2", "s", CycleKind::Prune).await.is_some(), "the session is not blocked");
    });
}

#[test]
fn what_came_since_the_last_rollover_is_told_by_order_not_by_the_clock() {
    both(async |ledger, hands| {
        let series = ledger.series(&session("s")).await.expect("a series");
        // A rollover while the clock was a day ahead.
        hands.wall.fetch_add(86_400_000, Ordering::Relaxed);
        let held = up_to(&ledger, "c1", CycleKind::Distill, Stage::Distill).await;
        finish(&ledger, &held, Effect::Distilled(vec![distillation("one", "c1", series.id, hands.now())])).await;
        let held = claim(&ledger, Stage::Continuity).await.expect("due");
        finish(&ledger, &held, continued("c1", hands.now())).await;
        assert_eq!(ledger.distillations(&SessionKey::from("s")).await.expect("rows"), []);
        hands.wall.fetch_sub(86_400_000, Ordering::Relaxed);
        for id in ["c2", "c3"] {
            let held = up_to(&ledger, id, CycleKind::Prune, Stage::Prune).await;
            let effect = Effect::Pruned { tokens_before: Some(100), tokens_after: Some(40), permit: Value::Null };
            assert!(finish(&ledger, &held, effect).await);
        }
        let row = ledger.session(&SessionKey::from("s")).await.expect("answers").expect("known");
        assert_eq!((row.prunes, row.last_freed), (2, Some(0.6)));
        assert_eq!(row.settled_at, Some(hands.now()), "the last cycle's end, not the one latest by the clock");
        let held = up_to(&ledger, "c4", CycleKind::IdleDistill, Stage::Distill).await;
        finish(&ledger, &held, Effect::Distilled(vec![distillation("two", "c4", series.id, hands.now())])).await;
        let since = ledger.distillations(&SessionKey::from("s")).await.expect("rows");
        assert_eq!(since.iter().map(|d| d.cycle.as_str()).collect::<Vec<_>>(), ["c4"], "the next map must hold it");
    });
}
