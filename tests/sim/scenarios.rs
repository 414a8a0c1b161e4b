//! Directed scenarios: one cause each, in an otherwise calm world.

use crate::driver::{LifeEnd, Plan};
use crate::storm::{quiet, silence_planned_panics};
use crate::world::World;
use moon_actors::Error;
use moon_actors::domain::SessionKey;
use moon_actors::port::{Alert, Ledger, Severity};
use moon_actors::settings::{Mode, Settings};

const MINUTE: u64 = 60_000;

struct Stage {
    world: World,
    settings: Settings,
    key: SessionKey,
}

impl Stage {
    /// One session in lead mode, turns that grow it by little, compactions that halve it.
    fn set() -> Self {
        silence_planned_panics();
        let mut settings = crate::world::sessions_only();
        settings.openclaw.mode = Mode::Lead;
        let world = World::new(1);
        let key = world.add_session("agent:main:main", false);
        {
            let mut state = world.state();
            (state.steady, state.share) = (true, Some(50));
        }
        Self { world, settings, key }
    }
    fn fill(&self, in_minutes: u64, tokens: u64) {
        self.world.plan(in_minutes * MINUTE, Plan::Fill { key: self.key.clone(), tokens });
    }
    fn live(&mut self, minutes: u64) {
        let until = self.world.time.real_ms() + (minutes * MINUTE) as i64;
        assert_eq!(self.world.live(&self.settings, until), LifeEnd::Time);
        assert_eq!(quiet(self.world.always(&self.settings.thresholds)), Vec::<String>::new());
    }
    fn firing(&self) -> Vec<Alert> {
        quiet(self.world.ledger.alerts(true)).expect("the ledger reads")
    }
    fn rules(&self) -> Vec<String> {
        self.firing().into_iter().map(|alert| alert.key.rule).collect()
    }
    fn reductions(&self) -> Vec<&'static str> {
        self.world.state().reductions.iter().map(|done| done.kind).collect()
    }
    fn triggers(&self) -> Vec<String> {
        let rows = quiet(self.world.audit());
        let fired = rows.iter().filter(|r| r.entry.event == "triggered" && r.entry.actor == "threshold");
        fired.map(|r| r.entry.detail["kind"].as_str().unwrap_or_default().to_owned()).collect()
    }
    fn settled(&self) {
        assert_eq!(quiet(self.world.settled()), Vec::<String>::new());
    }

    /// With this cause at 95 %, nothing is reduced and one alert fires; without it all goes on by itself.
    fn nothing_is_reduced_while(port: &'static str, error: &Error, rule: &str) {
        let mut s = Self::set();
        s.world.state().broken.insert(port, error.clone());
        s.fill(1, 95_000);
        s.live(40);
        assert_eq!(s.reductions(), Vec::<&str>::new(), "{port} is broken");
        assert_eq!(s.rules(), [rule], "{port} is broken");
        let raised = quiet(s.world.ledger.alerts(false)).expect("the ledger reads");
        assert_eq!(raised.len(), 1, "it fired once and did not flap: {raised:?}");
        s.world.state().broken.clear();
        s.live(40);
        assert!(!s.reductions().is_empty(), "{port} is whole again, and nobody went on");
        s.settled();
        let told = s.world.state().told.clone();
        assert!(told.contains_key(&(raised[0].id, false)) && told.contains_key(&(raised[0].id, true)), "{told:?}");
    }
}

#[test]
fn while_the_index_is_broken_nothing_is_reduced_and_one_alert_fires_until_it_is_whole() {
    for error in [Error::transient("index.disk_full", "no room"), Error::data("index.corrupt", "malformed")] {
        Stage::nothing_is_reduced_while("index", &error, "index.failing");
    }
}

#[test]
fn while_the_archive_is_full_nothing_is_reduced_and_one_alert_fires_until_there_is_room() {
    Stage::nothing_is_reduced_while(
        "archive.put",
        &Error::transient("archive.disk_full", "no room"),
        "archive.failing",
    );
}

#[test]
fn while_the_archive_reads_back_differently_nothing_is_reduced() {
    Stage::nothing_is_reduced_while("archive.put", &Error::data("archive.verify", "differs"), "archive.failing");
}

#[test]
fn while_an_archived_object_cannot_be_verified_nothing_is_reduced() {
    Stage::nothing_is_reduced_while("archive.verify", &Error::data("archive.corrupt", "rotten"), "prune.failing");
}

#[test]
fn a_job_that_kills_its_worker_three_times_is_set_aside_and_everybody_else_goes_on() {
    let mut s = Stage::set();
    let other = s.world.add_session("agent:other:main", false);
    s.world.state().mines.insert("prune.claimed", 3);
    s.fill(1, 87_000);
    s.world.plan(20 * MINUTE, Plan::Fill { key: other.clone(), tokens: 87_000 });
    s.live(35);
    assert_eq!(s.rules(), ["prune.quarantined"]);
    assert_eq!(s.world.state().happened.get("crashes"), Some(&3));
    assert_eq!(s.world.state().happened.get("parked"), None, "the worker is up");
    let reduced: Vec<_> = s.world.state().reductions.iter().map(|done| done.session.clone()).collect();
    assert_eq!(reduced, [other], "the other session's prune went through the same worker");
    s.settled();
}

#[test]
fn archiving_goes_on_while_distillation_is_parked() {
    let mut s = Stage::set();
    let other = s.world.add_session("agent:other:main", false);
    s.world.state().mines.insert("distill.claimed", 1_000);
    s.world.state().share = Some(95);
    s.fill(1, 95_000);
    s.world.plan(2 * MINUTE, Plan::Fill { key: other, tokens: 95_000 });
    for minute in 15..25 {
        s.world.plan(minute * MINUTE, Plan::TurnBegins(s.key.clone()));
    }
    s.live(28);
    assert_eq!(s.world.state().happened.get("parked"), Some(&1));
    assert!(s.rules().contains(&"supervision.parked".to_owned()), "{:?}", s.rules());
    let state = s.world.state();
    let session = &state.sessions[&s.key];
    let held = state.archive.holds(&s.key, &session.id);
    assert!(session.transcripts[&session.id].records.iter().all(|r| held.contains_key(&r.seq)), "records are missing");
}

#[test]
fn after_three_prunes_the_next_crossing_of_eighty_percent_distils() {
    let mut s = Stage::set();
    for minute in [1, 11, 21] {
        s.fill(minute, 87_000);
    }
    s.fill(31, 82_000);
    s.live(45);
    let fired: Vec<_> = s.triggers().into_iter().filter(|kind| kind != "archive").collect();
    assert_eq!(fired, ["prune", "prune", "prune", "distill"]);
    assert_eq!(s.reductions(), ["compact", "compact", "compact", "reset"]);
    assert_eq!(s.world.state().memory.maps.len(), 1);
}

#[test]
fn a_prune_that_frees_too_little_makes_distillation_due() {
    let mut s = Stage::set();
    s.world.state().share = Some(95);
    s.fill(1, 87_000);
    s.live(20);
    let fired: Vec<_> = s.triggers().into_iter().filter(|kind| kind != "archive").collect();
    assert_eq!(fired, ["prune", "distill"]);
    assert_eq!(s.reductions(), ["compact", "reset"]);
}

#[test]
fn a_quiet_session_is_distilled_without_a_rollover() {
    let mut s = Stage::set();
    s.fill(1, 30_000);
    s.live(50);
    assert_eq!(s.triggers(), ["idle_distill"]);
    assert_eq!(s.reductions(), Vec::<&str>::new());
    assert_eq!(s.world.state().memory.blocks.values().map(Vec::len).sum::<usize>(), 1);
    assert!(s.world.state().memory.maps.is_empty());
    s.settled();
}

#[test]
fn in_observe_mode_nothing_is_ever_reduced_by_moon() {
    let mut s = Stage::set();
    s.settings.openclaw.mode = Mode::Observe;
    // Even when the host would let it.
    for minute in [1, 20, 40, 60] {
        s.fill(minute, 96_000);
    }
    s.live(90);
    assert_eq!(s.reductions(), Vec::<&str>::new());
    assert!(s.triggers().contains(&"distill".to_owned()), "it distils all the same: {:?}", s.triggers());
    s.settled();
}

#[test]
fn a_map_that_no_model_call_carried_raises_a_critical_alert_that_names_the_archive() {
    let mut s = Stage::set();
    s.world.state().share = Some(95);
    s.fill(1, 87_000);
    s.live(15);
    assert_eq!(s.reductions(), ["compact", "reset"]);
    s.world.plan(MINUTE, Plan::LoseMap(s.key.clone()));
    s.world.plan(2 * MINUTE, Plan::TurnBegins(s.key.clone()));
    s.live(5);
    let firing = s.firing();
    assert_eq!(s.rules(), ["continuity.unconfirmed"]);
    assert_eq!(firing[0].severity, Severity::Critical);
    assert!(firing[0].message.contains("objects/"), "{}", firing[0].message);
}

#[test]
fn a_distillation_cut_off_before_its_commit_is_not_written_again_on_another_day() {
    let mut s = Stage::set();
    s.world.state().fatal = Some("distill.remembered");
    s.fill(1, 30_000);
    let until = s.world.time.real_ms() + (60 * MINUTE) as i64;
    assert_eq!(s.world.live(&s.settings, until), LifeEnd::Died);
    s.world.time.jump(24 * 60 * MINUTE as i64);
    s.world.plan(1, Plan::TurnBegins(s.key.clone()));
    s.live(120);
    let blocks = s.world.state().memory.blocks.clone();
    let days: Vec<_> =
        blocks.iter().filter(|(_, keys)| !keys.is_empty()).map(|(day, keys)| (day, keys.len())).collect();
    // One block for each of two distillations: the one that was cut off, and what was said since.
    assert_eq!(days.iter().map(|d| d.1).collect::<Vec<_>>(), [1, 1], "{days:?}");
    let rows = quiet(s.world.ledger.distillations(&s.key)).expect("the ledger reads");
    assert_eq!(rows.len(), 2);
    assert!(rows[0].summary_path.contains(&days[0].0.to_string()), "the row names the file its block stands in");
    s.settled();
}

#[test]
fn without_a_bridge_nothing_is_reduced_and_one_alert_fires_until_it_is_back() {
    let mut s = Stage::set();
    s.world.plan(0, Plan::BridgeDies);
    s.fill(1, 87_000);
    s.live(40);
    assert_eq!(s.reductions(), Vec::<&str>::new(), "no text of Moon's would have stood for it");
    assert_eq!(s.rules(), ["prune.failing"]);
    s.world.plan(0, Plan::BridgeLives);
    s.live(40);
    assert_eq!(s.reductions(), ["compact"]);
    s.settled();
}

#[test]
fn a_turn_that_runs_for_an_hour_is_waited_for_without_a_failure_and_told_once() {
    let mut s = Stage::set();
    s.fill(1, 87_000);
    s.world.plan(MINUTE - 1, Plan::HeldBusy { key: s.key.clone(), busy: true });
    s.world.plan(MINUTE + 30_000, Plan::HeldBusy { key: s.key.clone(), busy: false });
    s.world.plan(MINUTE + 31_000, Plan::HeldBusy { key: s.key.clone(), busy: true });
    s.live(3);
    // Triggered between two turns, then in the way of one that does not end.
    let job = || {
        let jobs = quiet(s.world.ledger.jobs(true)).expect("the ledger reads");
        jobs.into_iter().find(|job| job.stage == moon_actors::domain::Stage::Prune)
    };
    let waiting = job();
    s.live(55);
    assert_eq!(s.rules(), Vec::<String>::new(), "waiting is no failure: {waiting:?}");
    s.live(20);
    assert_eq!(s.rules(), ["prune.failing"]);
    assert_eq!(s.firing()[0].severity, Severity::Warning);
    assert_eq!(s.reductions(), Vec::<&str>::new());
    let failed =
        quiet(s.world.audit()).iter().filter(|r| r.entry.actor == "prune" && r.entry.event == "failed").count();
    assert_eq!(failed, 0, "and leaves no rows in the audit");
    s.world.plan(0, Plan::HeldBusy { key: s.key.clone(), busy: false });
    s.live(1);
    assert_eq!(s.reductions(), ["compact"], "the end of the turn hurries the job that waits for it");
    s.settled();
}

#[test]
fn a_prune_that_somebody_else_made_needless_is_left() {
    let mut s = Stage::set();
    s.world.state().broken.insert("index", Error::transient("index.disk_full", "no room"));
    s.fill(1, 87_000);
    s.live(10);
    s.world.state().sessions.get_mut(&s.key).expect("a session").used = Some(30_000);
    s.world.push(&s.key);
    s.world.state().broken.clear();
    s.live(30);
    assert_eq!(s.reductions(), Vec::<&str>::new());
    let rows = quiet(s.world.audit());
    let skipped = rows.iter().find(|r| r.entry.actor == "prune" && r.entry.event == "skipped").expect("it says so");
    assert!(skipped.entry.message.contains("nothing to prune any more"), "{}", skipped.entry.message);
    s.settled();
}

#[test]
fn a_compaction_of_a_session_that_no_list_showed_is_archived_before_it_goes_on() {
    use moon_actors::domain::SessionRef;
    use moon_actors::port::{BridgeEvent, BridgeEventKind, Clock};
    let mut s = Stage::set();
    let hidden = s.world.add_session("agent:hidden:main", false);
    s.world.state().unlisted.insert(hidden.clone());
    s.live(1);
    let at = s.world.time.now();
    let session_id = s.world.state().sessions[&hidden].id.clone();
    s.world.state().inbox.events.push(BridgeEvent {
        at,
        session: Some(hidden.clone()),
        session_id: Some(session_id.clone()),
        kind: BridgeEventKind::BeforeCompaction { id: "unseen".into() },
    });
    // Nobody knows which transcript this one is about: it must not be told that it is safe.
    s.world.state().inbox.events.push(BridgeEvent {
        at,
        session: Some(SessionKey::from("agent:nobody:main")),
        session_id: None,
        kind: BridgeEventKind::BeforeCompaction { id: "unnamed".into() },
    });
    s.live(2);
    assert_eq!(s.world.state().inbox.acks.iter().collect::<Vec<_>>(), ["unseen"]);
    let session = SessionRef { key: hidden, session_id };
    assert!(quiet(s.world.ledger.series(&session)).expect("the ledger reads").records > 0, "it is in the archive");
}

#[test]
fn a_session_with_a_damaged_archive_does_not_keep_another_from_being_pruned() {
    let mut s = Stage::set();
    let other = s.world.add_session("agent:other:main", false);
    s.fill(1, 60_000);
    s.live(5);
    {
        // Every object of the first session rots.
        let mut state = s.world.state();
        let rotten: Vec<String> = state.archive.objects.keys().cloned().collect();
        let theirs: Vec<String> = state
            .archive
            .manifests
            .values()
            .filter(|m| m.session_key == s.key)
            .map(|m| format!("objects/{}", m.sha256))
            .collect();
        state.archive.damaged = rotten.into_iter().filter(|path| theirs.contains(path)).collect();
        assert!(!state.archive.damaged.is_empty());
    }
    s.fill(1, 87_000);
    s.world.plan(MINUTE, Plan::Fill { key: other.clone(), tokens: 87_000 });
    s.live(30);
    let reduced: Vec<_> = s.world.state().reductions.iter().map(|done| done.session.clone()).collect();
    assert_eq!(reduced, [other], "only the healthy session was reduced");
    assert_eq!(s.rules(), ["prune.failing"]);
    s.world.state().archive.damaged.clear();
    s.live(30);
    assert_eq!(s.reductions().len(), 2, "restored from a backup, it goes on by itself");
    s.settled();
}

#[test]
fn an_index_is_filled_again_although_an_archived_object_is_damaged_and_an_alert_names_that_one() {
    let mut s = Stage::set();
    for minute in [1, 3, 5] {
        s.fill(minute, 20_000);
    }
    s.live(10);
    let damaged = {
        let mut state = s.world.state();
        let path = state.archive.objects.keys().next().cloned().expect("an object");
        state.archive.damaged.insert(path.clone());
        path
    };
    s.world.plan(0, Plan::IndexLost);
    // A life begins with a comparison.
    s.live(5);
    let whole = s.world.state().archive.objects.len() - 1;
    assert!(whole > 1 && s.world.state().index.docs.len() == whole, "everything but the damaged one can be found");
    assert_eq!(s.rules(), ["archive.unreadable"]);
    assert_eq!(s.firing()[0].key.subject, damaged);
    s.world.state().archive.damaged.clear();
    s.live(5);
    assert_eq!(s.rules(), Vec::<String>::new(), "restored from a backup, it is in the index again");
    s.settled();
}

/// The process dies at `point`, right behind an act of the host's; the next life must look before it repeats.
fn dies_behind_the_act(point: &'static str, share: u64, acts: &[&str]) {
    let mut s = Stage::set();
    {
        let mut state = s.world.state();
        (state.fatal, state.share) = (Some(point), Some(share));
    }
    s.fill(1, 87_000);
    let until = s.world.time.real_ms() + (20 * MINUTE) as i64;
    assert_eq!(s.world.live(&s.settings, until), LifeEnd::Died);
    s.live(20);
    assert_eq!(s.reductions(), acts, "died at {point}");
    s.settled();
}

#[test]
fn a_prune_that_was_done_before_a_crash_is_seen_and_not_repeated() {
    dies_behind_the_act("prune.acted", 50, &["compact"]);
    dies_behind_the_act("prune.worked", 50, &["compact"]);
}

#[test]
fn a_rollover_that_was_done_before_a_crash_is_seen_and_not_repeated() {
    dies_behind_the_act("continuity.rolled", 95, &["compact", "reset"]);
    dies_behind_the_act("continuity.worked", 95, &["compact", "reset"]);
}

#[test]
fn a_crash_between_intent_and_act_loses_neither() {
    dies_behind_the_act("prune.intended", 50, &["compact"]);
    dies_behind_the_act("continuity.intended", 95, &["compact", "reset"]);
}

#[test]
fn two_captures_at_once_leave_a_series_that_can_be_verified() {
    use moon_actors::domain::{CycleId, CycleKind, Job, SessionRef, TraceId};
    use moon_actors::port::ArchiveStore;
    let s = Stage::set();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let session = SessionRef { key: s.key.clone(), session_id: s.world.state().sessions[&s.key].id.clone() };
    let job = Job {
        cycle: CycleId::from("c"),
        kind: CycleKind::Capture,
        stage: moon_actors::domain::Stage::Archive,
        session: session.key.clone(),
        session_id: session.session_id.clone(),
        trace: TraceId::from("t"),
        age: std::time::Duration::ZERO,
        attempt: 1,
        failures: 0,
        ratio: None,
        used_tokens: None,
        ack: None,
        intent: None,
    };
    runtime.block_on(async {
        // As a stage and a prune have it: two engines of one wiring.
        let wiring = s.world.wiring(&s.settings);
        let (first, second) = (wiring.archiver(), wiring.reducer().archiver);
        for n in 0..20 {
            let more = async {
                let at = moon_actors::port::Clock::now(s.world.time.as_ref());
                s.world.state().sessions.get_mut(&s.key).expect("a session").say("user", at, &format!("record {n}"));
                second.capture(&job).await
            };
            let (a, b) = tokio::join!(first.capture(&job), more);
            a.and(b).expect("both archive");
        }
        let series = s.world.ledger.series(&session).await.expect("a series");
        for segment in s.world.ledger.segments(series.id).await.expect("segments") {
            s.world.verify(&segment).await.expect("the ledger's row is what lies on the disk");
        }
        let records = s.world.state().sessions[&s.key].transcripts[&session.session_id].records.len();
        assert_eq!(series.records, records as i64);
    });
}
