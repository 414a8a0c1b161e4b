//! Instances: pending, firing, worse, acknowledged, escalated, silenced, resolved.

use crate::receiver::{HOUR, MINUTE, Mood, World};
use moon_actors::port::Severity::{Critical, Info, Warning};
use moon_actors::port::{AlertBook, AlertKey, Clock, Fate, Ledger, NewSilence, Phase};
use std::time::Duration;

async fn after(world: &World, patience: Duration) -> bool {
    let key = AlertKey::new("daemon_degraded", "moon");
    world.ledger.raise_after(&key, Warning, "stale", None, patience).await.expect("noted").is_some()
}

#[tokio::test(start_paused = true)]
async fn a_pending_alert_fires_when_it_lasted_and_leaves_no_notice_when_it_did_not() {
    let world = World::new(&["mail"]).await;
    let key = AlertKey::new("daemon_degraded", "moon");
    assert!(!after(&world, 2 * MINUTE).await);
    assert_eq!(world.ledger.pending_alerts().await.expect("rows").len(), 1);
    world.live(MINUTE, MINUTE).await;
    world.resolve("daemon_degraded", "moon").await;
    world.live(HOUR, 5 * MINUTE).await;
    assert_eq!(world.routes[0].ids(), Vec::<String>::new(), "it passed by itself");
    assert_eq!(world.ledger.alerts(false).await.expect("rows"), []);
    // Nobody has to say it again for it to fire.
    assert!(!after(&world, 2 * MINUTE).await);
    world.live(3 * MINUTE, MINUTE).await;
    assert_eq!(world.routes[0].ids(), ["alert-1-firing"]);
    assert!(!after(&world, 2 * MINUTE).await, "it fires already");
    assert_eq!(world.ledger.pending_alerts().await.expect("rows"), []);
    assert!(world.ledger.resolve(&key).await.expect("resolved").is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_fires_on_the_word_of_a_dead_process_and_its_patience_is_kept() {
    let mut world = World::new(&["mail"]).await;
    assert!(!after(&world, 10 * MINUTE).await);
    world.time.forward(9 * MINUTE);
    world.restart().await;
    world.live(HOUR, 10 * MINUTE).await;
    assert_eq!(world.routes[0].ids(), Vec::<String>::new(), "nobody of this life has seen it");
    assert!(after(&world, 10 * MINUTE).await, "seen again: it lasted all the time");
}

#[tokio::test(start_paused = true)]
async fn one_that_becomes_worse_ends_and_a_new_one_takes_over_past_the_cooldown() {
    let world = World::new(&["mail"]).await;
    let milder = world.raise("disk_low", "home", Warning).await.expect("new");
    world.pass().await;
    assert_eq!(world.raise("disk_low", "home", Info).await, None, "milder is no news");
    assert_eq!(world.raise("disk_low", "home", Warning).await, None);
    let worse = world.raise("disk_low", "home", Critical).await.expect("worse");
    world.pass().await;
    let told = [format!("alert-{milder}-firing"), format!("alert-{milder}-resolved"), format!("alert-{worse}-firing")];
    assert_eq!(world.routes[0].ids(), told);
    let row = world.ledger.alert_row(milder).await.expect("row").expect("there");
    assert_eq!(row.superseded_by, Some(worse));
    let firing = world.ledger.alerts(true).await.expect("rows");
    assert_eq!(firing.iter().map(|alert| alert.severity).collect::<Vec<_>>(), [Critical]);
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_says_its_newest_reason_and_tells_nobody_again() {
    let world = World::new(&["mail"]).await;
    let key = AlertKey::new("backup.old", "backup");
    let say = async |severity, message: &str| {
        let raised = world.ledger.raise(&key, severity, message, Some(message)).await.expect("raised");
        world.live(HOUR, 10 * MINUTE).await;
        let firing = world.ledger.alerts(true).await.expect("rows").remove(0);
        (raised.is_some(), firing.id, firing.message, firing.hint.expect("a hint"))
    };
    let is = |new, id, message: &str| (new, id, message.to_owned(), message.to_owned());
    assert_eq!(say(Warning, "there is no backup yet").await, is(true, 1, "there is no backup yet"));
    assert_eq!(say(Warning, "the newest is 30 h old").await, is(false, 1, "the newest is 30 h old"));
    assert_eq!(world.routes[0].ids(), ["alert-1-firing"]);
    assert_eq!(say(Critical, "the newest is 51 h old").await, is(true, 2, "the newest is 51 h old"));
    assert_eq!(say(Warning, "what is milder").await, is(false, 2, "the newest is 51 h old"));
    let pending = world.ledger.raise_after(&key, Critical, "the newest is 52 h old", None, MINUTE).await;
    assert_eq!(pending.expect("noted"), None);
    assert_eq!(world.ledger.alerts(true).await.expect("rows")[0].message, "the newest is 52 h old");
    let told: Vec<String> = world.routes[0].ids().into_iter().filter(|id| id.ends_with("firing")).collect();
    assert_eq!(told, ["alert-1-firing", "alert-2-firing"], "only that it became worse");
}

#[tokio::test(start_paused = true)]
async fn a_notice_in_a_digest_is_held_until_that_goes_out_and_told_from_then_on() {
    let world = World::new(&["mail"]).await;
    let held = async |id| {
        let row = world.ledger.alert_deliveries(id).await.expect("rows").remove(0);
        (row.fate, row.is_held, row.held_until, row.at)
    };
    for n in 0..4 {
        world.raise("disk_low", &format!("disk {n}"), Warning).await.expect("new");
    }
    world.pass().await;
    let due = world.time.now() + chrono::TimeDelta::minutes(1);
    assert_eq!(held(4).await, (Some(Fate::Digested), true, Some(due), Some(world.time.now())));
    assert_eq!(held(1).await, (Some(Fate::Sent), false, None, Some(world.time.now())));
    assert_eq!(world.ledger.routes().await.expect("rows")[0].digest_at, Some(due));
    world.routes[0].is(Mood::Away);
    world.live(MINUTE, MINUTE).await;
    let (fate, is_held, until, _) = held(4).await;
    assert_eq!((fate, is_held), (Some(Fate::Digested), true));
    assert!(until.is_some_and(|until| until > world.time.now()), "not before the route is tried again: {until:?}");
    world.routes[0].is(Mood::Well);
    world.live(MINUTE, MINUTE).await;
    let sent = world.time.now();
    assert_eq!(held(4).await, (Some(Fate::Digested), false, None, Some(sent)));
    assert_eq!(world.ledger.routes().await.expect("rows")[0].digest_at, None);
    // The next one waits for its hour.
    world.raise("disk_low", "disk 5", Warning).await.expect("new");
    world.pass().await;
    assert_eq!(held(5).await.2, Some(sent + chrono::TimeDelta::hours(1)));
}

#[tokio::test(start_paused = true)]
async fn a_critical_alert_is_escalated_once_unless_somebody_knows() {
    let mut world = World::new(&["mail"]).await;
    let known = world.raise("daemon_critical", "a", Critical).await.expect("new");
    let ignored = world.raise("daemon_critical", "b", Critical).await.expect("new");
    world.raise("disk_low", "home", Warning).await.expect("new");
    world.pass().await;
    let row = world.ledger.acknowledge(known, "ann", Some("on it")).await.expect("written").expect("fires");
    assert_eq!(row.acknowledged.map(|known| (known.by, known.note)), Some(("ann".into(), Some("on it".into()))));
    world.live(HOUR - MINUTE, 10 * MINUTE).await;
    // A restart and a clock that is set forward within a life bring nothing forward.
    world.restart().await;
    world.time.jump(86_400_000);
    world.pass().await;
    assert!(!world.routes[0].ids().iter().any(|id| id.ends_with("escalated")));
    world.live(3 * HOUR, 10 * MINUTE).await;
    let escalated: Vec<String> = world.routes[0].ids().into_iter().filter(|id| id.ends_with("escalated")).collect();
    assert_eq!(escalated, [format!("alert-{ignored}-escalated")]);
    world.resolve("daemon_critical", "a").await;
    assert_eq!(world.ledger.acknowledge(known, "ann", None).await.expect("answers"), None, "it is over");
    let events: Vec<String> =
        world.ledger.audit_rows(0, 1000).await.expect("rows").into_iter().map(|row| row.entry.event).collect();
    assert!(["acknowledged", "escalated"].iter().all(|event| events.iter().any(|e| e == event)), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silence_holds_back_what_begins_until_it_ends_and_no_end_of_what_was_told() {
    let world = World::new(&["mail"]).await;
    world.raise("disk_low", "before", Warning).await.expect("new");
    world.pass().await;
    let silence = NewSilence {
        rule: "disk_*".into(),
        subject: "*".into(),
        until: world.time.now() + chrono::TimeDelta::hours(1),
        reason: "moving".into(),
        by: "ann".into(),
    };
    let silence = world.ledger.silence(&silence).await.expect("written");
    let id = world.raise("disk_critical", "home", Critical).await.expect("new");
    world.raise("daemon_critical", "moon", Critical).await.expect("not silenced");
    world.resolve("disk_low", "before").await;
    world.live(20 * MINUTE, 5 * MINUTE).await;
    assert_eq!(world.routes[0].ids(), ["alert-1-firing", "alert-3-firing", "alert-1-resolved"]);
    let row = world.ledger.alert_row(id).await.expect("row").expect("there");
    assert_eq!(row.silenced_by, Some(silence.id), "shown as held back");
    world.live(50 * MINUTE, 5 * MINUTE).await;
    let ids = world.routes[0].ids();
    assert!(ids.contains(&"alert-2-firing".to_owned()), "its time is over: {ids:?}");
    assert!(!ids.contains(&"alert-2-escalated".to_owned()), "nobody could have known of it: {ids:?}");
    let rows = world.ledger.audit_rows(0, 1000).await.expect("rows");
    assert_eq!(rows.iter().filter(|row| ["silenced", "unsilenced"].contains(&row.entry.event.as_str())).count(), 2);
    assert_eq!(world.ledger.unsilence(silence.id, "ann").await.expect("answers"), None, "it has ended");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_no_silence_longer() {
    let world = World::new(&["mail"]).await;
    let until = world.time.now() + chrono::TimeDelta::hours(1);
    let silence = NewSilence { rule: "*".into(), subject: "*".into(), until, reason: "r".into(), by: "b".into() };
    world.ledger.silence(&silence).await.expect("written");
    world.time.jump(-30 * 86_400_000);
    world.raise("disk_low", "home", Warning).await.expect("new");
    world.live(65 * MINUTE, 5 * MINUTE).await;
    assert_eq!(world.routes[0].ids(), ["alert-1-firing"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_route_is_told_what_fires_now_and_no_history() {
    let mut world = World::new(&["mail"]).await;
    world.raise("disk_low", "old", Warning).await.expect("new");
    world.resolve("disk_low", "old").await;
    world.raise("disk_low", "now", Warning).await.expect("new");
    world.raise("disk_low", "older", Warning).await.expect("new");
    world.resolve("disk_low", "older").await;
    world.pass().await;
    let more = World::new(&["chat"]).await;
    world.routes.extend(more.routes);
    world.restart().await;
    world.pass().await;
    assert_eq!(world.routes[1].ids(), ["alert-2-firing"]);
    let fates = world.ledger.alert_deliveries(3).await.expect("rows");
    let chat: Vec<_> = fates.iter().filter(|one| one.route == "chat").map(|one| (one.phase, one.fate)).collect();
    assert_eq!(chat, [(Phase::Firing, Some(Fate::Dropped)), (Phase::Resolved, Some(Fate::Dropped))]);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_very_many_are_forgotten_and_what_fires_stays() {
    let world = World::new(&["record"]).await;
    world.raise("disk_low", "first", Warning).await.expect("new");
    for n in 0..2200 {
        world.raise("disk_low", "flaps", Warning).await.expect("new");
        world.resolve("disk_low", "flaps").await;
        if n % 500 == 0 {
            world.pass().await;
        }
    }
    world.pass().await;
    let rows = world.ledger.alert_rows(false, None, 100_000).await.expect("rows");
    assert!((2000..2010).contains(&rows.len()), "{}", rows.len());
    assert_eq!(world.ledger.alerts(true).await.expect("rows").len(), 1);
}

#[test]
fn alerts_of_the_version_before_are_told_no_second_time_and_end_where_they_were_told() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("moon.db");
    let old = rusqlite::Connection::open(&path).expect("a database");
    for step in [
        include_str!("../../src/adapters/sqlite/0001_init.sql"),
        include_str!("../../src/adapters/sqlite/0002_chores.sql"),
    ] {
        old.execute_batch(step).expect("the old schema");
    }
    old.execute_batch(
        "INSERT INTO alerts (id, rule, subject, severity, message, fired_at, resolved_at) VALUES
           (1, 'index.failing', 'told', 'warning', 'm', 1000, NULL),
           (2, 'index.failing', 'over', 'warning', 'm', 2000, 3000),
           (3, 'index.failing', 'untold', 'warning', 'm', 4000, NULL);
         INSERT INTO deliveries (alert, route, phase, delivered_at) VALUES (1, 'mail', 'firing', 1001), (2, 'mail', 'resolved', 3001);
         PRAGMA user_version = 2;",
    )
    .expect("old rows");
    drop(old);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(&["mail"]).await;
        let time = std::sync::Arc::clone(&world.time);
        world.ledger = moon::adapters::sqlite::SqliteLedger::open(&path, std::sync::Arc::clone(&time) as _, time)
            .expect("it is brought up");
        world.post().open().await.expect("routes open");
        world.pass().await;
        assert_eq!(world.routes[0].ids(), ["alert-3-firing"]);
        world.resolve("index.failing", "told").await;
        world.pass().await;
        assert_eq!(world.routes[0].ids(), ["alert-3-firing", "alert-1-resolved"]);
    });
}
