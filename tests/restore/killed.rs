//! Restores that are killed: what they leave, and who removes it when.

use super::build::{ID, Parts, publish};
use super::lived_in;
use super::support::process::{Ran, Scratch, changes, tree};
use super::verbs::{DAY, asked, beside, day, given, restore};
use serde_json::json;
use std::path::PathBuf;

/// A folder of the user's that the archive holds in another state.
fn included(scratch: &Scratch, good: &mut Parts) -> PathBuf {
    let notes = scratch.path().join("notes");
    std::fs::create_dir(&notes).expect("a folder");
    std::fs::write(notes.join("a.txt"), "now").expect("a note");
    good.manifest["include"] = json!([{ "n": 0, "path": notes }]);
    good.add("include/0/a.txt", "file", b"then");
    notes
}

#[test]
fn what_a_killed_restore_unpacked_goes_at_once_and_what_a_living_one_did_stays() {
    let (scratch, mut good) = lived_in();
    let notes = included(&scratch, &mut good);
    let file = given(&scratch, &good);
    let include = ["--include", notes.to_str().expect("plain")];
    // Of another's making, whatever its name.
    let foreign = scratch.path().join("notes.restoring-20200101_000000");
    std::fs::create_dir(&foreign).expect("a folder");
    let (mut child, _pty, _) = asked(&scratch, &file, &include);
    let unpacked = beside(&scratch, ".restoring-");
    let names = |part: &str| unpacked.iter().filter(|path| path.to_string_lossy().contains(part)).count();
    assert_eq!((names("/home.restoring-"), names("/notes.restoring-")), (2, 2), "{unpacked:?}");
    restore(&scratch, &file, &["--dry-run"]).expect(0);
    assert_eq!(beside(&scratch, ".restoring-"), unpacked, "it waits for an answer");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(beside(&scratch, ".restoring-"), unpacked, "nobody was left to remove it");
    restore(&scratch, &file, &["--dry-run"]).expect(0);
    assert_eq!(beside(&scratch, ".restoring-"), [foreign.as_path()], "also beside the folder that nobody named again");
    // Into a folder: the same.
    let to = scratch.path().join("there");
    let mut command = scratch.moon(&["restore"]);
    let ran = Ran::of(command.arg(&file).arg("--to").arg(&to).env("MOON_TEST_KILL_AT", "restore.unpacked:2"));
    assert_eq!((ran.signal, beside(&scratch, "there.restoring-").len()), (Some(9), 2));
    Ran::of(scratch.moon(&["restore"]).arg(&file).arg("--to").arg(&to)).expect(0);
    assert_eq!(beside(&scratch, ".restoring-"), [foreign.as_path()]);
}

#[test]
fn a_kill_at_any_step_leaves_the_old_state_or_the_new_one_and_the_next_command_goes_on() {
    let (scratch, mut good) = lived_in();
    let notes = included(&scratch, &mut good);
    let note = || std::fs::read_to_string(notes.join("a.txt")).expect("a note");
    let file = given(&scratch, &good);
    publish(&scratch.in_home("backups/moon"), b"an archive");
    let files = good.entries.iter().filter(|e| e.kind == b'0').count();
    let mut points: Vec<String> = [1, files / 2, files].iter().map(|n| format!("restore.unpacked:{n}")).collect();
    points.extend((1..30).map(|n| format!("restore.swapped:{n}")));
    let (mut killed, mut finished) = (0, 0);
    let stopped = scratch.in_home("state/stopped");
    std::fs::write(&stopped, "moon stop").expect("a wish");
    for point in points {
        std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
        std::fs::write(notes.join("a.txt"), "now").expect("a note");
        let mut command = scratch.moon(&["restore"]);
        let ran =
            Ran::of(command.arg(&file).arg("--include").arg(&notes).arg("--yes").env("MOON_TEST_KILL_AT", &point));
        assert!(stopped.exists(), "{point}: whoever revives what is dead would begin what was stopped");
        if ran.signal != Some(9) {
            assert_eq!(ran.code, Some(0), "{point}: {ran:?}");
            finished += 1;
            break;
        }
        killed += 1;
        // A preview touches nothing of either state; then any command that opens the home for writing.
        restore(&scratch, &file, &["--dry-run"]).expect(0);
        scratch.run(&["watch", "--once"]).expect(0);
        let now = day(&scratch);
        assert!(["overwritten\n", "what was said\n"].contains(&now.as_str()), "{point}: {now}");
        assert_eq!(note(), if now == "what was said\n" { "then" } else { "now" }, "{point}");
        if now == "what was said\n" {
            let kept = beside(&scratch, "home.pre-restore-").pop().expect("the old state is kept");
            assert_eq!(std::fs::read_to_string(kept.join(DAY)).expect("kept"), "overwritten\n", "{point}");
        }
        assert!(scratch.in_home(&format!("backups/moon/{ID}.tar.zst")).exists(), "{point}: the backups are there");
        assert_eq!(beside(&scratch, ".restor"), Vec::<PathBuf>::new(), "{point}: whoever opened the home swept");
        scratch.run(&["verify"]).expect(0);
        beside(&scratch, ".pre-restore-").iter().for_each(|old| std::fs::remove_dir_all(old).expect("removed"));
    }
    assert!(killed >= 8 && finished == 1, "{killed} kills, {finished} whole");
}

#[test]
fn a_kill_at_any_step_of_a_restore_of_single_files_leaves_all_old_or_all_new_and_nothing_half_named() {
    let (scratch, good) = lived_in();
    let file = given(&scratch, &good);
    let later = "memory/later.md";
    let state = || (day(&scratch), scratch.in_home(later).exists(), scratch.in_home("moon.toml").exists());
    let (old, new) = (("overwritten\n".to_owned(), true, false), ("what was said\n".to_owned(), false, true));
    let (mut killed, mut went_on) = (0, 0);
    for undoes in [false, true] {
        for number in 1..30 {
            let _ = std::fs::remove_file(scratch.in_home("moon.toml"));
            std::fs::create_dir_all(scratch.in_home("memory")).expect("a folder");
            std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
            std::fs::write(scratch.in_home(later), "later\n").expect("a memory");
            let only = ["--only", "memory", "--only", "moon.toml"];
            if undoes {
                restore(&scratch, &file, &only).expect(0);
            }
            let mut command = scratch.moon(&["restore", "--yes"]);
            let words = if undoes { command.arg("--undo") } else { command.arg(&file).args(only) };
            let ran = Ran::of(words.env("MOON_TEST_KILL_AT", format!("restore.swapped:{number}")));
            let (before, after) = if undoes { (&new, &old) } else { (&old, &new) };
            if ran.signal != Some(9) {
                assert_eq!((ran.code, &state()), (Some(0), after), "{ran:?}");
                break;
            }
            killed += 1;
            // A preview touches nothing; then any command that opens the home for writing goes on.
            restore(&scratch, &file, &["--dry-run"]).expect(0);
            scratch.run(&["watch", "--once"]).expect(0);
            assert!([before, after].contains(&&state()), "step {number}: {:?}", state());
            let half: Vec<PathBuf> =
                tree(scratch.path()).into_keys().filter(|path| path.to_string_lossy().contains(".restor")).collect();
            assert_eq!(half, Vec::<PathBuf>::new(), "step {number}");
            if &state() == after {
                went_on += 1;
                scratch.run(&["restore", "--undo", "--yes"]).expect(0);
                assert_eq!(&state(), before, "step {number}: the way back is open");
            }
        }
    }
    assert!(killed >= 12 && went_on >= 8, "{killed} kills, {went_on} gone on with");
}

#[test]
fn an_undo_that_was_killed_is_finished_by_the_same_command_and_not_undone_by_it() {
    let (scratch, good) = lived_in();
    let file = given(&scratch, &good);
    let journal = scratch.path().join("home.restore.json");
    let undo = |words: &[&str]| scratch.json(&[&["restore", "--undo"], words].concat());
    let mut finished = 0;
    for only in [&[][..], &["--only", DAY]] {
        for number in 1..30 {
            std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
            restore(&scratch, &file, only).expect(0);
            let at = format!("restore.swapped:{number}");
            let ran = Ran::of(scratch.moon(&["restore", "--undo", "--yes"]).env("MOON_TEST_KILL_AT", &at));
            if ran.signal != Some(9) {
                break;
            }
            // A kill behind the last step leaves an undo that was not interrupted.
            if !journal.exists() {
                continue;
            }
            let before = tree(scratch.path());
            let said = undo(&["--dry-run"]).expect(0).report();
            let way = &said["data"]["interrupted"];
            assert_eq!(way["from"], "undo", "step {number}: {said}");
            assert_eq!(changes(&before, &tree(scratch.path())), Vec::<String>::new());
            for command in [&["status"][..], &["health", "--check", "disk"]] {
                let issues = scratch.json(command).report()["issues"].to_string();
                assert!(issues.contains("restore that was interrupted"), "step {number}: {command:?} {issues}");
            }
            let is_begun = way["will_be"] == "finished";
            let done = undo(&["--yes"]).expect(0).report();
            assert_eq!(day(&scratch), "overwritten\n", "step {number} of {only:?}: {done}");
            let is_told = done["details"].to_string().contains("the undo that was interrupted has been finished");
            assert_eq!((is_told, journal.exists()), (is_begun, false), "step {number}: {done}");
            finished += usize::from(is_told);
            // The next one is a wish of its own.
            undo(&["--yes"]).expect(0);
            assert_eq!(day(&scratch), "what was said\n", "step {number}");
        }
    }
    assert!(finished >= 4, "{finished} were finished");
}

#[test]
fn an_undo_takes_back_a_restore_that_was_killed_and_the_warning_names_it() {
    let (scratch, good) = lived_in();
    let file = given(&scratch, &good);
    for only in [&[][..], &["--only", DAY]] {
        std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
        let mut command = scratch.moon(&["restore", "--yes"]);
        let ran = Ran::of(command.arg(&file).args(only).env("MOON_TEST_KILL_AT", "restore.swapped:3"));
        assert_eq!(ran.signal, Some(9));
        let ran = scratch.run(&["restore", "--undo", "--yes"]).expect(0);
        assert_eq!(day(&scratch), "overwritten\n", "{ran:?}");
        let place = if only.is_empty() { scratch.home() } else { scratch.in_home(DAY) };
        for named in [ID, place.to_str().expect("plain"), "moon restore --undo"] {
            assert!(ran.stderr.contains(named), "{named}: {ran:?}");
        }
    }
}

#[test]
fn nobody_interrupts_a_swap_half_way_and_whoever_tries_is_told() {
    let (scratch, good) = lived_in();
    let file = given(&scratch, &good);
    let journal = scratch.path().join("home.restore.json");
    for (undoes, only) in [(false, &[][..]), (false, &["--only", DAY]), (true, &[])] {
        let mut told = 0;
        for number in 1..30 {
            std::fs::write(scratch.in_home(DAY), "overwritten\n").expect("a memory");
            let mut command = scratch.moon(&["restore", "--yes"]);
            let words = if undoes { command.arg("--undo") } else { command.arg(&file).args(only) };
            let ran = Ran::of(words.env("MOON_TEST_INTERRUPT_AT", format!("restore.swapped:{number}")));
            assert_eq!((ran.code, journal.exists()), (Some(0), false), "step {number}: {ran:?}");
            if !ran.stderr.contains("interrupted: ") {
                break;
            }
            told += 1;
        }
        assert!(told >= 3, "{told} steps of {only:?}");
    }
}
