//! Restores that are killed: what they leave, and who removes it when.

use super::build::{ID, Parts, publish};
use super::lived_in;
use super::support::process::{Ran, Scratch, tree};
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
