//! A swap stopped after every single step, and its settling stopped after every step again: old or new, never a mixture.

use super::swap::{
    Disk, Journal, KEPT, Kept, Marker, Move, PREPARING, RealDisk, Settled, beside, journal_path, mark, marker, settle,
    swap,
};
use super::{only, singles, step, swap_all, undo};
use crate::daemon::lock::HomeLock;
use crate::home::Home;
use moon_actors::port::NoProbe;
use rustix::io::Errno;
use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const STAMP: &str = "20261121_120000";

/// Does what it is told until its steps are used up; every later step fails, as if the process had died.
struct Dying {
    real: RealDisk,
    left: Cell<usize>,
    done: Cell<usize>,
    /// A file system without an exchange of names.
    is_simple: bool,
    /// Only the one step fails, and those behind it work again: an error, not a death.
    is_error: bool,
    /// The step is carried out, and fails all the same.
    fails_after: bool,
}

impl Dying {
    fn after(steps: usize) -> Self {
        let real = RealDisk { probe: Arc::new(NoProbe) };
        let (left, done) = (Cell::new(steps), Cell::new(0));
        Self { real, left, done, is_simple: false, is_error: false, fails_after: false }
    }
    fn step(&self, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.done.set(self.done.get() + 1);
        if self.left.get() == 0 {
            if self.is_error {
                self.left.set(usize::MAX);
            }
            if self.fails_after {
                act()?;
            }
            return Err(io::Error::from_raw_os_error(Errno::IO.raw_os_error()));
        }
        self.left.set(self.left.get() - 1);
        act()
    }
}

impl Disk for Dying {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(|| self.real.write(path, bytes))
    }
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        if self.is_simple {
            return Err(io::Error::from_raw_os_error(Errno::INVAL.raw_os_error()));
        }
        self.step(|| self.real.exchange(a, b))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| self.real.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|| self.real.remove(path))
    }
    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        self.step(|| self.real.sync_parent(path))
    }
}

/// A home and an included folder that say "old", with folders beside them that say "new".
struct Stage {
    scratch: tempfile::TempDir,
    moves: Vec<Move>,
}

impl Stage {
    fn new(with_include: bool, has_home: bool) -> Self {
        // In memory where there is such a place: hundreds of states, each with a dozen fsyncs.
        let memory = Path::new("/dev/shm");
        let scratch = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let scratch = scratch.expect("a scratch folder");
        let mut moves = Vec::new();
        for name in ["home", "notes"].into_iter().take(1 + usize::from(with_include)) {
            let place = scratch.path().join(name);
            let (incoming, kept) =
                (beside(&place, &format!("{PREPARING}{STAMP}")), beside(&place, &format!("{KEPT}{STAMP}")));
            let is_home = name == "home";
            for (folder, says) in [(&place, "old"), (&incoming, "new")] {
                if is_home && says == "old" && !has_home {
                    continue;
                }
                std::fs::create_dir_all(folder.join("run")).expect("a folder");
                std::fs::write(folder.join("one"), says).expect("a file");
                std::fs::write(folder.join("two"), says).expect("a file");
            }
            moves.push(Move { place, incoming, kept, is_home });
        }
        if has_home {
            std::fs::create_dir_all(moves[0].place.join("backups")).expect("a folder");
            std::fs::write(moves[0].place.join("backups/a.tar.zst"), "archive").expect("an archive");
        }
        Self { scratch, moves }
    }
    fn home(&self) -> PathBuf {
        self.scratch.path().join("home")
    }
    /// What is in each place; an error when it is a mixture.
    fn says(&self) -> Vec<String> {
        let look = |m: &Move| {
            let read = |name| std::fs::read_to_string(m.place.join(name)).unwrap_or_else(|_| "nothing".into());
            let (one, two) = (read("one"), read("two"));
            assert_eq!(one, two, "a mixture in {}", m.place.display());
            one
        };
        self.moves.iter().map(look).collect()
    }
    fn has_old_somewhere(&self) -> bool {
        let entries = std::fs::read_dir(self.scratch.path()).expect("listable").flatten();
        entries.filter(|e| std::fs::read(e.path().join("one")).is_ok_and(|says| says == b"old")).count()
            == self.moves.len()
    }
}

/// Runs the swap with `disk`, dies, then settles: with a death after every step of the settling as well.
fn interrupted(make: impl Fn() -> Stage, disk: impl Fn() -> Dying, before: &[&str], after: &[&str]) -> usize {
    let mut settled_after = 0;
    while settled_after < 40 {
        let stage = make();
        let first = disk();
        let done = swap_all(&first, STAMP, "20261120_020000", &stage.moves);
        assert!(stage.has_old_somewhere() || before.contains(&"nothing"), "the old state is there, whatever happens");
        let dying = Dying { is_simple: first.is_simple, ..Dying::after(settled_after) };
        let settled = settle(&stage.home(), &dying);
        let has_died = settled.is_err() && dying.left.get() == 0;
        let settled = if has_died { settle(&stage.home(), &RealDisk { probe: Arc::new(NoProbe) }) } else { settled };
        settled.expect("a start settles it");
        let says = stage.says();
        assert!(says == before || says == after, "old or new: {says:?}");
        if done.is_ok() {
            assert_eq!(says, after, "what was reported is what is there");
        }
        assert!(!journal_path(&stage.home()).exists(), "the journal is gone");
        if !before.contains(&"nothing") {
            let archive = std::fs::read_to_string(stage.home().join("backups/a.tar.zst"));
            assert_eq!(archive.expect("the backups are where the home is"), "archive");
            assert!(stage.has_old_somewhere());
        }
        if !has_died {
            break;
        }
        settled_after += 1;
    }
    settled_after
}

/// Every prefix of a swap, on each kind of disk, until a swap runs to its end.
fn every_prefix(make: impl Fn() -> Stage + Copy, is_simple: bool, before: &[&str], after: &[&str]) -> usize {
    let whole = Dying { is_simple, ..Dying::after(usize::MAX) };
    swap_all(&whole, STAMP, "20261120_020000", &make().moves).expect("runs to its end");
    let steps = whole.done.get();
    assert!(steps >= 4, "{steps}");
    let mut states = 0;
    for left in 0..steps {
        for fails_after in [false, true] {
            states += 1 + interrupted(make, || Dying { is_simple, fails_after, ..Dying::after(left) }, before, after);
        }
    }
    states
}

#[test]
fn a_death_after_any_step_of_a_swap_and_of_its_settling_leaves_old_or_new() {
    let alone = || Stage::new(false, true);
    let both = || Stage::new(true, true);
    let nothing = || Stage::new(false, false);
    let mut states = 0;
    for is_simple in [false, true] {
        states += every_prefix(alone, is_simple, &["old"], &["new"]);
        states += every_prefix(both, is_simple, &["old", "old"], &["new", "new"]);
        states += every_prefix(nothing, is_simple, &["nothing"], &["new"]);
    }
    assert!(states > 150, "{states} crash states were looked at");
}

#[test]
fn an_error_at_any_step_ends_in_old_or_new_without_a_restart() {
    for is_simple in [false, true] {
        for left in 0..20 {
            let stage = Stage::new(true, true);
            let disk = Dying { is_simple, is_error: true, ..Dying::after(left) };
            let done = swap_all(&disk, STAMP, "20261120_020000", &stage.moves);
            let says = stage.says();
            assert_eq!(says, if done.is_ok() { ["new", "new"] } else { ["old", "old"] }, "step {left}: {done:?}");
            assert!(!journal_path(&stage.home()).exists(), "step {left}");
            assert_eq!(settle(&stage.home(), &disk).expect("nothing to settle"), None);
        }
    }
}

#[test]
fn an_undo_swaps_back_and_can_be_undone() {
    let stage = Stage::new(true, true);
    let probe: Arc<dyn moon_actors::port::Probe> = Arc::new(NoProbe);
    let real = RealDisk { probe: Arc::clone(&probe) };
    swap_all(&real, STAMP, "20261120_020000", &stage.moves).expect("restored");
    assert_eq!(stage.says(), ["new", "new"]);
    let home = Home::at(stage.home());
    for expected in ["old", "new", "old"] {
        let lock = HomeLock::take(&home, "restore").expect("free");
        let done = undo(&home, &lock, &probe).expect("undone");
        assert_eq!(done.kept.len(), 2);
        assert_eq!(stage.says(), [expected, expected]);
        assert!(stage.home().join("backups/a.tar.zst").exists(), "the backups stay with the home");
    }
    let lock = HomeLock::take(&home, "restore").expect("free");
    let kept = marker(&stage.home()).expect("a marker").kept[1].kept.clone();
    std::fs::remove_dir_all(kept).expect("removed");
    assert_eq!(undo(&home, &lock, &probe).expect_err("half of it is gone").code, "restore.nothing_to_undo");
    assert_eq!(stage.says(), ["old", "old"]);
}

#[test]
fn an_interrupted_restore_is_finished_and_undone_where_its_folders_are_found() {
    let stage = Stage::new(false, true);
    let journal = Journal { version: 1, stamp: STAMP.into(), moves: stage.moves.clone() };
    let kept = vec![Kept { place: stage.home(), kept: stage.moves[0].kept.clone() }];
    let came = Marker { stamp: STAMP.into(), from: "x".into(), at: String::new(), kept };
    mark(&stage.moves[0].incoming, &came).expect("marked");
    swap(&Dying::after(2), &journal).expect_err("died behind the exchange");
    // The disk is mounted elsewhere, or the home is named by another way.
    let elsewhere = tempfile::tempdir_in(stage.scratch.path().parent().expect("a folder")).expect("a scratch folder");
    let moved = elsewhere.path().join("disk");
    std::fs::rename(stage.scratch.path(), &moved).expect("moved");
    let home = Home::at(moved.join("home"));
    let real = RealDisk { probe: Arc::new(NoProbe) };
    assert_eq!(settle(home.root(), &real).expect("settled"), Some(Settled::Completed));
    assert_eq!(std::fs::read_to_string(home.root().join("one")).expect("there"), "new");
    let lock = HomeLock::take(&home, "restore").expect("free");
    undo(&home, &lock, &(Arc::new(NoProbe) as Arc<dyn moon_actors::port::Probe>)).expect("undone");
    assert_eq!(std::fs::read_to_string(home.root().join("one")).expect("there"), "old");
}

#[test]
fn a_home_that_is_being_restored_is_not_settled_by_others() {
    let stage = Stage::new(false, true);
    let journal = Journal { version: 1, stamp: STAMP.into(), moves: stage.moves.clone() };
    let text = serde_json::to_vec(&journal).expect("JSON");
    crate::durable::replace(&journal_path(&stage.home()), &text).expect("a journal");
    let lock = HomeLock::take(&Home::at(&stage.moves[0].incoming), "restore").expect("free");
    std::fs::write(stage.home().join("run/moon.lock"), "").expect("a sign of Moon's");
    let refused = Home::open(stage.home()).expect_err("somebody works on it");
    assert_eq!(refused.code, "restore.under_way");
    drop(lock);
    Home::open(stage.home()).expect("nobody does");
    assert_eq!(stage.says(), ["old"], "nothing had been swapped");
    assert!(!stage.moves[0].incoming.exists(), "and what was prepared is gone");
}

#[test]
fn a_journal_that_others_wrote_or_that_leads_elsewhere_is_not_obeyed() {
    let stage = Stage::new(false, true);
    let path = journal_path(&stage.home());
    let right = Journal { version: 1, stamp: STAMP.into(), moves: stage.moves.clone() };
    let mut wrong = Vec::new();
    for spoil in [
        (|j| j.version = 2) as fn(&mut Journal),
        |j| j.moves.clear(),
        |j| j.moves[0].incoming = "/etc".into(),
        |j| j.moves[0].kept = j.moves[0].place.join("inside"),
        |j| j.moves[0].place = "/elsewhere".into(),
        |j| j.moves[0].is_home = false,
    ] {
        let mut journal = right.clone();
        spoil(&mut journal);
        wrong.push(serde_json::to_vec(&journal).expect("JSON"));
    }
    wrong.push(b"{".to_vec());
    let real = RealDisk { probe: Arc::new(NoProbe) };
    for text in wrong {
        crate::durable::replace(&path, &text).expect("a journal");
        assert_eq!(settle(&stage.home(), &real).expect_err("not obeyed").code, "restore.journal");
    }
    crate::durable::replace(&path, &serde_json::to_vec(&right).expect("JSON")).expect("a journal");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o622)).expect("rights");
    assert_eq!(settle(&stage.home(), &real).expect_err("others may write it").code, "restore.journal");
    assert_eq!(stage.says(), ["old"]);
}

#[test]
fn a_swap_that_never_began_is_taken_back_and_one_that_did_is_finished() {
    let real = RealDisk { probe: Arc::new(NoProbe) };
    let stage = Stage::new(false, true);
    let journal = Journal { version: 1, stamp: STAMP.into(), moves: stage.moves.clone() };
    let text = serde_json::to_vec(&journal).expect("JSON");
    let kept = vec![Kept { place: stage.home(), kept: stage.moves[0].kept.clone() }];
    let came = Marker { stamp: STAMP.into(), from: "x".into(), at: String::new(), kept };
    mark(&stage.moves[0].incoming, &came).expect("marked");
    crate::durable::replace(&journal_path(&stage.home()), &text).expect("a journal");
    assert_eq!(settle(&stage.home(), &real).expect("settled"), Some(Settled::TakenBack));
    let stage = Stage::new(false, true);
    mark(&stage.moves[0].incoming, &came).expect("marked");
    let journal = Journal { version: 1, stamp: STAMP.into(), moves: stage.moves.clone() };
    swap(&Dying::after(2), &journal).expect_err("died behind the exchange");
    assert_eq!(settle(&stage.home(), &real).expect("settled"), Some(Settled::Completed));
    assert_eq!(stage.says(), ["new"]);
    step(&NoProbe, super::Step::Swapped);
}

/// A home with a folder and a file that say "old" and a path with nothing, and what is unpacked for all three.
struct Singles {
    scratch: tempfile::TempDir,
}

const SINGLES: [&str; 3] = ["memory", "moon.toml", "skills/new"];

impl Singles {
    /// With `undoes` the way back from such a restore, else the restore.
    fn new(undoes: bool) -> Self {
        let stage = Self { scratch: Stage::new(false, false).scratch };
        let (home, unpacked) = (stage.home(), stage.unpacked());
        for (folder, says) in [(&home, "old"), (&unpacked, "new")] {
            std::fs::create_dir_all(folder.join("memory")).expect("a folder");
            std::fs::create_dir_all(folder.join("run")).expect("a folder");
            for path in ["memory/one", "memory/two", "moon.toml"] {
                std::fs::write(folder.join(path), says).expect("a file");
            }
        }
        std::fs::create_dir(unpacked.join("skills")).expect("a folder");
        std::fs::write(unpacked.join("skills/new"), "new").expect("a file");
        if undoes {
            stage.carry_out(&RealDisk { probe: Arc::new(NoProbe) }, false).expect("restored");
        }
        stage
    }
    fn home(&self) -> PathBuf {
        self.scratch.path().join("home")
    }
    fn unpacked(&self) -> PathBuf {
        beside(&self.home(), &format!("{PREPARING}{STAMP}"))
    }
    fn carry_out(&self, disk: &dyn Disk, undoes: bool) -> moon_actors::Result<super::Done> {
        let home = self.home();
        if undoes {
            return only::undo(disk, &home, &only::Note::read(&home).expect("a note"), STAMP);
        }
        only::put_in_place(disk, (&self.unpacked(), STAMP), &home, &SINGLES.map(str::to_owned), "20261120_020000")
    }
    /// What is in the three places; an error when it is a mixture.
    fn says(&self) -> String {
        let read = |path: &str| std::fs::read_to_string(self.home().join(path)).unwrap_or_else(|_| "nothing".into());
        let [one, two, file, added] = ["memory/one", "memory/two", "moon.toml", "skills/new"].map(read);
        assert!(one == two && two == file, "a mixture: {one} {two} {file} {added}");
        assert_eq!(added, if one == "old" { "nothing" } else { "new" }, "a mixture");
        one
    }
    /// How often a state lies anywhere in the home or beside it.
    fn copies(&self, says: &str) -> usize {
        let is_it = |path: &Path| std::fs::read(path.join("one")).is_ok_and(|one| one == says.as_bytes());
        let folders = [self.home(), self.unpacked()];
        let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        entries.filter(|entry| is_it(&entry.path())).count()
    }
    fn settle(&self, disk: &dyn Disk) -> moon_actors::Result<Option<Settled>> {
        singles::settle(&self.home(), disk)
    }
}

/// Runs it with `disk`, dies, then settles: with a death after every step of the settling as well. How many deaths there were.
fn interrupted_singles(undoes: bool, disk: impl Fn() -> Dying) -> usize {
    let (before, after) = if undoes { ("new", "old") } else { ("old", "new") };
    for settled_after in 0.. {
        let stage = Singles::new(undoes);
        let first = disk();
        let done = stage.carry_out(&first, undoes);
        assert_eq!(stage.copies("old"), 1, "the old state is there, whatever happens");
        let dying = Dying { is_simple: first.is_simple, ..Dying::after(settled_after) };
        let mut settled = stage.settle(&dying);
        let has_died = settled.is_err() && dying.left.get() == 0;
        if has_died {
            assert_eq!(stage.copies("old"), 1, "the old state is there, whatever happens");
            settled = stage.settle(&RealDisk { probe: Arc::new(NoProbe) });
        }
        settled.expect("a start settles it");
        let says = stage.says();
        assert!(says == before || says == after, "old or new: {says}");
        assert!(done.is_err() || says == after, "what was reported is what is there");
        assert_eq!(stage.copies("old"), 1);
        assert!(!journal_path(&stage.home()).exists(), "the journal is gone");
        let note = only::Note::read(&stage.home()).map(|note| (note.way_back(&stage.home()).len(), note.from));
        let from = if says == "old" && undoes { "undo" } else { "20261120_020000" };
        let expected = (says == after || undoes).then(|| (SINGLES.len(), from.to_owned()));
        assert_eq!(note, expected, "the way back is the one from what is there");
        if !has_died {
            return settled_after;
        }
    }
    unreachable!("a settling has an end")
}

#[test]
fn a_death_after_any_step_of_a_restore_of_single_files_and_of_its_settling_leaves_all_old_or_all_new() {
    let mut states = 0;
    for (undoes, is_simple) in [(false, false), (false, true), (true, false), (true, true)] {
        let whole = Dying { is_simple, ..Dying::after(usize::MAX) };
        Singles::new(undoes).carry_out(&whole, undoes).expect("runs to its end");
        for left in 0..whole.done.get() {
            for fails_after in [false, true] {
                states += 1 + interrupted_singles(undoes, || Dying { is_simple, fails_after, ..Dying::after(left) });
            }
        }
    }
    assert!(states > 300, "{states} crash states were looked at");
}

#[test]
fn an_error_at_any_step_of_a_restore_of_single_files_ends_in_old_or_new_without_a_restart() {
    for (undoes, is_simple) in [(false, false), (false, true), (true, false), (true, true)] {
        for left in 0..20 {
            let stage = Singles::new(undoes);
            let disk = Dying { is_simple, is_error: true, ..Dying::after(left) };
            let done = stage.carry_out(&disk, undoes);
            assert_eq!(stage.says() == "new", done.is_ok() != undoes, "step {left}: {done:?}");
            assert_eq!(stage.copies("old"), 1, "step {left}");
            assert_eq!(stage.settle(&disk).expect("nothing to settle"), None, "step {left}");
        }
    }
}

/// Works, but for what comes to one place.
struct Refusing(RealDisk, PathBuf);

impl Disk for Refusing {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.0.write(path, bytes)
    }
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.0.exchange(a, b)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to == self.1 { Err(io::ErrorKind::CrossesDevices.into()) } else { self.0.rename(from, to) }
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        self.0.sync_parent(path)
    }
}

#[test]
fn what_can_never_be_put_in_place_takes_back_what_was_put_there_before_it() {
    let stage = Singles::new(false);
    let real = || RealDisk { probe: Arc::new(NoProbe) };
    let last = Refusing(real(), stage.home().join("skills/new"));
    let refused = stage.carry_out(&last, false).expect_err("refused");
    let said = "could not put skills/new in its place, and everything is as it was";
    assert_eq!((refused.code.as_ref(), refused.message.as_str()), ("restore.io", said));
    assert_eq!((stage.says().as_str(), stage.copies("new")), ("old", 1), "and what comes in is where it was");
    assert!(!journal_path(&stage.home()).exists() && only::Note::read(&stage.home()).is_none());
    // Likewise when it died before and goes on.
    stage.carry_out(&Dying::after(3), false).expect_err("died");
    assert_eq!(stage.settle(&last).expect("settled"), Some(Settled::TakenBack));
    assert_eq!(stage.says(), "old");
    // A name for which no disk has room once a stamp is behind it is known before anything is begun.
    let stage = Singles::new(false);
    let long = "n".repeat(250);
    for folder in [stage.home(), stage.unpacked()] {
        std::fs::write(folder.join(&long), "x").expect("a file");
    }
    let (wanted, unpacked) = (["memory".to_owned(), long], stage.unpacked());
    let failed = only::put_in_place(&real(), (&unpacked, STAMP), &stage.home(), &wanted, "20261120_020000");
    assert_eq!(failed.expect_err("no such name").code, "restore.io");
    assert!(stage.says() == "old" && !journal_path(&stage.home()).exists());
}

#[test]
fn a_journal_of_single_files_that_leads_elsewhere_is_not_obeyed_and_one_at_work_is_left_alone() {
    let stage = Singles::new(false);
    stage.carry_out(&Dying::after(3), false).expect_err("died");
    let (path, real) = (journal_path(&stage.home()), RealDisk { probe: Arc::new(NoProbe) });
    let right = std::fs::read_to_string(&path).expect("a journal");
    for (good, bad) in [("\"moon.toml\"", "\"../moon.toml\""), (STAMP, "../x"), ("\"version\": 2", "\"version\": 3")] {
        assert!(right.contains(good), "{right}");
        crate::durable::replace(&path, right.replace(good, bad).as_bytes()).expect("a journal");
        assert_eq!(Home::open(stage.home()).expect_err("not obeyed").code, "restore.journal", "{bad}");
    }
    crate::durable::replace(&path, right.as_bytes()).expect("a journal");
    let lock = HomeLock::take(&Home::at(stage.home()), "restore").expect("free");
    assert_eq!(stage.settle(&real).expect_err("somebody works on it").code, "restore.under_way");
    drop(lock);
    assert_eq!(stage.settle(&real).expect("settled"), Some(Settled::Completed));
    assert_eq!(stage.says(), "new");
    assert!(!stage.unpacked().exists(), "what was prepared is gone");
}

#[test]
fn a_restore_of_very_many_files_is_finished_and_undone_like_one_of_few() {
    const MANY: usize = 8_000;
    let stage = Singles::new(false);
    let objects = stage.unpacked().join("archives/objects");
    std::fs::create_dir_all(&objects).expect("folders");
    (0..MANY).for_each(|n| std::fs::write(objects.join(format!("{n:0>64}.jsonl.zst")), "x").expect("a file"));
    let (wanted, unpacked) = (["archives".to_owned()], stage.unpacked());
    let put = |disk: &dyn Disk| only::put_in_place(disk, (&unpacked, STAMP), &stage.home(), &wanted, "20261120_020000");
    put(&Dying::after(9)).expect_err("died");
    let journal = journal_path(&stage.home()).metadata().expect("a journal").len();
    assert!(journal > 1 << 20, "{journal} bytes are more than anything else that lies beside a home");
    let real = RealDisk { probe: Arc::new(NoProbe) };
    assert_eq!(stage.settle(&real).expect("settled"), Some(Settled::Completed));
    let there = || std::fs::read_dir(stage.home().join("archives/objects")).expect("listable").flatten();
    assert_eq!(there().count(), MANY);
    assert_eq!(only::Note::read(&stage.home()).expect("a note").way_back(&stage.home()).len(), MANY);
}
