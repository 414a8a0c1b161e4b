//! The database as a file: how it is opened, by whom it is refused, what damage and a full disk do.

use super::*;

#[test]
fn the_file_is_opened_the_safe_way_and_by_a_sqlite_that_is_new_enough() {
    assert!(rusqlite::version_number() >= SQLITE_FLOOR, "{}", rusqlite::version());
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (ledger, _) = on_disk(folder.path());
    let raw = Connection::open(folder.path().join("moon.db")).expect("the file opens");
    let mode: String = raw.query_row("PRAGMA journal_mode", [], |r| r.get(0)).expect("a mode");
    assert_eq!(mode, "wal");
    // Pragmas of a connection cannot be read by another one; what they forbid can be tried.
    let orphan = wait(ledger.open_cycle(&cycle("c1", "nobody", CycleKind::Prune), None));
    assert!(orphan.is_err(), "foreign keys are off: a cycle of an unknown session was accepted");
    assert_eq!(wait(ledger.integrity()).expect("read"), Vec::<String>::new());
}

#[test]
fn a_ledger_of_a_newer_moon_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    audited(folder.path(), 3);
    let path = folder.path().join("moon.db");
    Connection::open(&path).expect("opens").pragma_update(None, "user_version", 99).expect("set");
    let before = dump(&path);
    let refused = reopened(folder.path(), &Arc::new(Hands::default())).err().expect("it must be refused");
    assert_eq!((refused.code.as_str(), refused.kind), ("ledger.schema", Kind::Config));
    assert!(refused.hint.is_some_and(|hint| hint.contains("newer moon")));
    assert_eq!(before, dump(&path));
}

#[test]
fn two_openers_of_one_file_wait_for_each_other_and_lose_nothing() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (first, hands) = on_disk(folder.path());
    let second = reopened(folder.path(), &hands).expect("opens");
    std::thread::scope(|scope| {
        for ledger in [&first, &second] {
            scope.spawn(move || {
                for n in 0..100 {
                    let entry = AuditEntry::new("test", "noted", "info", format!("row {n}"));
                    wait(ledger.audit(&entry)).expect("written");
                }
            });
        }
    });
    assert_eq!(wait(first.verify_audit()).expect("read"), Ok(200));
    wait(open(&first, "c1", "s", CycleKind::Prune));
    let claims = Mutex::new(0);
    std::thread::scope(|scope| {
        for ledger in [&first, &second] {
            let claims = &claims;
            scope.spawn(move || {
                *claims.lock().expect("no panic") += i32::from(wait(claim(ledger, Stage::Archive)).is_some());
            });
        }
    });
    assert_eq!(claims.into_inner().expect("no panic"), 1, "one job, one claim");
}

#[test]
fn a_stamp_from_the_future_does_not_keep_a_new_life_waiting() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (ledger, hands) = on_disk(folder.path());
    wait(async {
        hands.forward(50 * 365 * 86_400);
        open(&ledger, "c1", "s", CycleKind::Prune).await;
        let held = claim(&ledger, Stage::Archive).await.expect("due");
        ledger.retry(&held, Duration::from_secs(300), &Error::transient("x.y", "z"), &done()).await.expect("put back");
        hands.forward(-50 * 365 * 86_400);
        let next = reopened(folder.path(), &hands).expect("opens");
        next.begin("t").await.expect("begins");
        assert!(claim(&next, Stage::Archive).await.is_some());
        ledger.verify_audit().await.expect("read").expect("a chain does not mind the clock");
    });
}

#[test]
fn a_damaged_file_is_named_and_not_replaced_by_an_empty_one() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    std::fs::write(folder.path().join("moon.db"), vec![b'x'; 8192]).expect("written");
    let refused = reopened(folder.path(), &Arc::new(Hands::default())).err().expect("it must be refused");
    assert_eq!((refused.code.as_str(), refused.kind), ("ledger.corrupt", Kind::Data));
    assert_eq!(std::fs::read(folder.path().join("moon.db")).expect("read"), vec![b'x'; 8192]);
}

/// Says loudly what was not checked, so that nobody takes it for passed.
#[expect(clippy::print_stderr, reason = "a skipped check must be seen")]
fn skipped(test: &str, why: &str) {
    assert!(std::env::var_os("MOON_TEST_NO_SKIP").is_none(), "{test} was skipped: {why}");
    eprintln!("SKIPPED {test}: {why}");
}

#[test]
fn a_full_disk_gives_up_the_reserve_so_that_the_failure_is_written_down() {
    let name = "a_full_disk_gives_up_the_reserve_so_that_the_failure_is_written_down";
    let folder = tempfile::tempdir().expect("a scratch folder");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"]).arg(folder.path()).output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        return skipped(name, "mounting a small tmpfs needs root");
    }
    let result = std::panic::catch_unwind(|| full_disk(folder.path()));
    let unmounted = Command::new("umount").arg("-l").arg(folder.path()).status();
    assert!(unmounted.is_ok_and(|s| s.success()), "the scratch disk stays mounted");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn full_disk(folder: &Path) {
    let (ledger, _) = on_disk(folder);
    let reserve = folder.join("reserve.bin");
    assert_eq!(std::fs::metadata(&reserve).expect("a reserve").len(), 8 << 20);
    wait(open(&ledger, "c1", "s", CycleKind::Prune));
    let held = wait(claim(&ledger, Stage::Archive)).expect("due");
    let filled = std::fs::write(folder.join("filler"), vec![1u8; 48 << 20]).expect_err("the disk is smaller");
    assert_eq!(filled.raw_os_error(), Some(28), "no space left");
    let error = Error::transient("archive.disk_full", "no room");
    let large = AuditEntry::new("archive", "failed", "failed", "no room").detail(json!({ "x": "y".repeat(200_000) }));
    assert!(wait(ledger.retry(&held, Duration::ZERO, &error, &large)).expect("the failure is recorded"));
    assert!(!reserve.exists(), "the reserve was given up for it");
    let alert = wait(ledger.raise(&AlertKey::new("archive.failing", "s"), Severity::Critical, "no room", None));
    assert!(alert.expect("the alert is recorded").is_some());
    // And when the reserve is used up as well, the answer is an error, not a half-written row.
    let _ = std::fs::write(folder.join("more"), vec![1u8; 48 << 20]);
    let huge = AuditEntry::new("test", "noted", "info", "x").detail(json!({ "x": "y".repeat(4 << 20) }));
    let refused = wait(ledger.audit(&huge)).expect_err("no room at all");
    assert_eq!(refused.code, "ledger.disk_full");
    std::fs::remove_file(folder.join("filler")).expect("removed");
    std::fs::remove_file(folder.join("more")).expect("removed");
    wait(ledger.audit(&huge)).expect("there is room again");
    ledger.keep_reserve();
    assert!(reserve.exists(), "and a new reserve");
    wait(ledger.verify_audit()).expect("read").expect("whole");
    assert_eq!(wait(ledger.integrity()).expect("read"), Vec::<String>::new());
}

#[test]
fn the_audit_is_verified_as_of_one_moment_while_another_process_appends_to_it() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (writer, hands) = on_disk(folder.path());
    let reader = reopened(folder.path(), &hands).expect("opens");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..1500 {
                let entry = AuditEntry::new("test", "noted", "info", format!("row {n}"));
                wait(writer.audit(&entry)).expect("written");
            }
            is_over.store(true, std::sync::atomic::Ordering::Release);
        });
        while !is_over.load(std::sync::atomic::Ordering::Acquire) {
            wait(reader.verify_audit()).expect("read").expect("a row that is added is no damage");
        }
    });
    assert_eq!(wait(reader.verify_audit()).expect("read"), Ok(1500));
}
