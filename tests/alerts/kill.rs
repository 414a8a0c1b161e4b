//! kill -9 between the row and its delivery, between the delivery and its record, and at any time: no alert is lost.
//!
//! `MOON_TEST_KILLS=500 cargo test --test alerts kills_lose` is the whole campaign; without the variable it is a small one.

use crate::support::process::{Ran, Scratch, ledger};
use std::time::{Duration, Instant};

const POINTS: [&str; 3] = ["alert.settled", "alert.handed", "alert.recorded"];

fn kills() -> usize {
    std::env::var("MOON_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(24)
}

/// Numbers that look random and are the same in every run.
fn scattered(n: usize) -> u64 {
    (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) >> 11
}

fn raise(scratch: &Scratch, n: usize) -> std::process::Command {
    let message = format!("kill number {n}.");
    scratch.moon(&["alerts", "raise", "kill.test", "--subject", &n.to_string(), "--message", &message])
}

#[test]
fn kills_lose_no_alert_and_double_none_that_was_recorded() {
    let (scratch, kills) = (Scratch::new(), kills());
    raise(&scratch, kills).output().expect("the ledger is made");
    let took = Instant::now();
    raise(&scratch, kills + 1).output().expect("measured");
    let took = took.elapsed();
    let mut before_the_record = 0;
    for n in 0..kills {
        let mut command = raise(&scratch, n);
        if n % 4 == 3 {
            // At any time of its life.
            let mut child = command
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("starts");
            std::thread::sleep(Duration::from_micros(scattered(n) % (2 * took.as_micros() as u64).max(1)));
            let _ = child.kill();
            child.wait().expect("ends");
            before_the_record += 1;
            continue;
        }
        let point = POINTS[n % 4];
        let ran = Ran::of(command.env("MOON_TEST_KILL_AT", point));
        assert_eq!(ran.signal, Some(9), "it reached {point}: {ran:?}");
        before_the_record += usize::from(point == "alert.handed");
    }
    scratch.run(&["alerts", "resolve", "kill.none"]).expect(0);
    let log = std::fs::read_to_string(scratch.in_home("logs/alerts.log")).expect("a log");
    let db = ledger(&scratch.home());
    let mut rows = db.prepare("SELECT message FROM alerts").expect("a query");
    let raised: Vec<String> = rows.query_map([], |r| r.get(0)).expect("rows").collect::<Result<_, _>>().expect("rows");
    // A process that was killed at any time may have died before its alert was a fact.
    assert!((kills - kills / 4..=kills + 2).contains(&raised.len()), "{} of {kills}", raised.len());
    let times = |message: &String| log.matches(message.as_str()).count();
    let lost: Vec<&String> = raised.iter().filter(|message| times(message) == 0).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), raised.len());
    let doubled: usize = raised.iter().map(|message| times(message) - 1).sum();
    assert!(doubled <= before_the_record, "{doubled} repeated, {before_the_record} were killed before the record");
    #[allow(clippy::print_stdout, reason = "the figure of the campaign")]
    {
        println!("{kills} kills: {} raised, 0 lost, {doubled} repeated; one raise takes {took:?}", raised.len());
    }
}

#[test]
fn a_daemon_that_is_killed_again_and_again_tells_everything_it_was_told() {
    let scratch = Scratch::new();
    let mut raised = Vec::new();
    for life in 0..3 {
        let daemon = scratch.daemon(&[]);
        for n in 0..4 {
            let message = format!("life {life}, alert {n}.");
            let subject = format!("{life}-{n}");
            scratch.run(&["alerts", "raise", "kill.test", "--subject", &subject, "--message", &message]).expect(0);
            raised.push(message);
        }
        std::thread::sleep(Duration::from_millis(scattered(life) % 20));
        daemon.kill();
    }
    let daemon = scratch.daemon(&[]);
    crate::support::process::wait_for("the rest", || {
        let log = std::fs::read_to_string(scratch.in_home("logs/alerts.log")).expect("a log");
        raised.iter().all(|message| log.contains(message.as_str())).then_some(())
    });
    daemon.stop();
}
