//! A backup that is not what was written is never taken for a good one.

use super::support::process::Ran;
use super::{files, folder, issues, ready, support, with_agent};
use serde_json::Value;

/// Flips bits all over a backup, one at a time: those that `moon backup verify` lets pass.
fn flips_that_pass(times: u64) -> Vec<String> {
    let scratch = ready();
    Ran::of(&mut with_agent(&scratch, &["backup"])).expect(0);
    let file = files(&folder(&scratch)).pop().expect("a backup");
    let note =
        file.with_file_name(file.file_name().and_then(|n| n.to_str()).expect("a name").replace(".tar.zst", ".json"));
    let (whole, noted) = (std::fs::read(&file).expect("readable"), std::fs::read(&note).expect("readable"));
    let plain = unpacked(&whole).expect("it unpacks");
    let mut passed = Vec::new();
    for n in 0..times {
        let bit = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.rotate_left(n as u32 % 61)) % (whole.len() as u64 * 8);
        let mut flipped = whole.clone();
        flipped[(bit / 8) as usize] ^= 1 << (bit % 8);
        std::fs::write(&file, &flipped).expect("written");
        // Every other time without the note that holds the hash of the file: then the file must speak for itself.
        let _ = if n % 2 == 0 { std::fs::write(&note, &noted) } else { std::fs::remove_file(&note) };
        let ran = scratch.json(&["backup", "verify"]);
        let is_caught = ran.code == Some(2) && issues(&ran).iter().all(|code| code == "backup.damaged");
        // A frame has bits that say nothing, one in some thousands: only the note's hash minds them.
        let says_nothing = || n % 2 == 1 && ran.code == Some(0) && unpacked(&flipped).is_some_and(|same| same == plain);
        if !is_caught && !says_nothing() {
            passed.push(format!("bit {bit}: {ran:?}"));
        }
    }
    std::fs::write(&file, &whole).expect("written");
    std::fs::write(&note, &noted).expect("written");
    scratch.run(&["backup", "verify"]).expect(0);
    passed
}

fn unpacked(packed: &[u8]) -> Option<Vec<u8>> {
    zstd::stream::decode_all(packed).ok()
}

#[test]
fn every_flipped_bit_is_found() {
    assert_eq!(flips_that_pass(24), Vec::<String>::new());
}

#[test]
fn campaign_200_flipped_bits() {
    if std::env::var_os("MOON_TEST_CAMPAIGN").is_some() {
        let passed = flips_that_pass(200);
        support::skip("campaign", &format!("no skip: 200 flipped bits, {} passed", passed.len()));
        assert_eq!(passed, Vec::<String>::new());
    }
}

#[test]
fn a_backup_that_was_found_damaged_counts_as_verified_no_more() {
    let scratch = ready();
    scratch.run(&["backup"]).expect(0);
    let file = files(&folder(&scratch)).pop().expect("a backup");
    let mut bytes = std::fs::read(&file).expect("readable");
    bytes.truncate(bytes.len() - 1);
    std::fs::write(&file, bytes).expect("cut");
    scratch.run(&["backup", "verify", "all"]).expect(2);
    let status = scratch.json(&["status"]).report();
    assert_eq!(status["data"]["backups"]["newest_verified"], Value::Null);
    scratch.run(&["backup"]).expect(0);
    let status = scratch.json(&["status"]).report();
    assert_eq!(status["data"]["backups"]["newest_verified"]["id"], status["data"]["backups"]["newest"]["id"]);
    assert_eq!(status["data"]["backups"]["count"], 2);
}

#[test]
fn a_drill_that_somebody_asked_for_alerts_when_it_fails_with_a_daemon_or_without_and_ends_it_when_it_succeeds() {
    let scratch = ready();
    let mut daemon = None;
    for has_daemon in [false, true] {
        if has_daemon {
            daemon = Some(scratch.daemon(&[]));
        }
        scratch.run(&["backup"]).expect(0);
        let file = files(&folder(&scratch)).pop().expect("a backup");
        let mut bytes = std::fs::read(&file).expect("readable");
        bytes.truncate(bytes.len() - 1);
        std::fs::write(&file, bytes).expect("cut");
        let alerts = || scratch.json(&["alerts", "list"]).report()["data"].to_string();
        assert!(!alerts().contains("drill.failing"), "{}", alerts());
        scratch.run(&["backup", "drill"]).expect(1);
        assert!(alerts().contains("drill.failing"), "{has_daemon}: {}", alerts());
        scratch.run(&["backup"]).expect(0);
        scratch.run(&["backup", "drill"]).expect(0);
        assert!(!alerts().contains("drill.failing"), "{has_daemon}: {}", alerts());
    }
    daemon.expect("started").stop();
}
