//! The archive on a real disk: byte exactness, damage, full disks, and writers that are killed.
//!
//! What these tests must never do: read an object only through the code that wrote it; `zstd` itself must be able to, too.

use chrono::{DateTime, Utc};
use moon::adapters::archive_dir::ArchiveDir;
use moon_actors::domain::{Record, Segment, Series, SessionKey, Sha256, SourceIdentity};
use moon_actors::port::{ArchiveStore, SegmentDraft, Stored};
use moon_actors::{Error, Kind};
use proptest::prelude::*;
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn open(home: &Path) -> ArchiveDir {
    ArchiveDir::open(home, 3, "moon test".into()).expect("a scratch home can be opened")
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch folder")
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn records(lines: &[&[u8]]) -> Vec<Record> {
    (0..).zip(lines).map(|(seq, line)| Record { seq, bytes: line.to_vec() }).collect()
}

fn draft(ordinal: i64, records: Vec<Record>) -> SegmentDraft {
    SegmentDraft {
        session_key: SessionKey::from("agent:main:main"),
        session_id: "7f3c".into(),
        epoch: 0,
        ordinal,
        previous: None,
        records,
        source: SourceIdentity {
            kind: "jsonl".into(),
            location: "/somewhere".into(),
            device: Some(1),
            inode: Some(2),
            schema: None,
            generation: None,
        },
        archived_at: DateTime::<Utc>::UNIX_EPOCH,
    }
}

fn segment(stored: &Stored) -> Segment {
    Segment {
        id: 1,
        series_id: 1,
        manifest: stored.manifest.clone(),
        manifest_sha256: stored.manifest_sha256.clone(),
        path: stored.path.clone(),
        manifest_path: stored.manifest_path.clone(),
        indexed_at: None,
    }
}

fn series() -> Series {
    Series {
        id: 1,
        session: SessionKey::from("agent:main:main"),
        session_id: "7f3c".into(),
        epoch: 0,
        last_seq: -1,
        last_record: None,
        records: 0,
        bytes: 0,
        projection_bytes: 0,
    }
}

/// Every file below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("listable") {
        let entry = entry.expect("listable");
        if entry.file_type().expect("has a type").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn code(error: &Error) -> (Kind, &str) {
    (error.kind, error.code.as_str())
}

const CORRUPT: (Kind, &str) = (Kind::Data, "archive.corrupt");

/// Not everything can be tried everywhere; what is not tried is said aloud.
fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("standard output");
    if let Some(list) = std::env::var_os("MOON_TEST_SKIPS") {
        let list = std::fs::OpenOptions::new().append(true).create(true).open(list);
        list.and_then(|mut list| list.write_all(line.as_bytes())).expect("the list of skips can be written");
    }
}

fn any_record() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => any::<u8>(), 2 => Just(b'\n'), 1 => Just(0u8), 1 => Just(0xff), 1 => Just(b'\r')];
    prop::collection::vec(byte, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_bytes_come_back_as_they_were(
        bodies in prop::collection::vec((any_record(), 1i64..4), 1..20), first in -5i64..1000,
    ) {
        let home = scratch();
        let archive = open(home.path());
        let mut seq = first;
        let mut given = Vec::new();
        for (bytes, gap) in bodies {
            seq += gap;
            given.push(Record { seq, bytes });
        }
        let plain: Vec<u8> = given.iter().flat_map(|r| r.bytes.iter().copied().chain([b'\n'])).collect();
        let stored = wait(archive.put(draft(0, given.clone()))).expect("stored");
        prop_assert_eq!(&stored.manifest.sha256, &Sha256::of(&plain));
        prop_assert_eq!(stored.manifest.bytes, plain.len() as u64);
        prop_assert_eq!(wait(archive.read(&segment(&stored))).expect("readable"), given);
        wait(archive.verify(&segment(&stored))).expect("sound");
        let file = std::fs::File::open(home.path().join(&stored.path)).expect("there");
        prop_assert_eq!(zstd::decode_all(file).expect("plain zstd"), plain);
        let found = wait(archive.manifests()).expect("listable");
        prop_assert_eq!(found, vec![(stored.manifest_path, stored.manifest)]);
    }
}

/// Bytes that no compressor shrinks.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 8) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_segment_larger_than_its_window_survives_and_every_bit_of_its_frame_headers_counts() {
    let home = scratch();
    // The window of level 1 is half a mebibyte; beyond it the frame header has a byte of which
    // zstd notices few flips.
    let archive = ArchiveDir::open(home.path(), 1, "moon test".into()).expect("a scratch home can be opened");
    let given: Vec<Record> = (0..12).map(|seq| Record { seq, bytes: noise(seq as u64 * 2 + 1, 50_000) }).collect();
    let stored = wait(archive.put(draft(0, given.clone()))).expect("stored");
    assert!(wait(archive.read(&segment(&stored))).expect("readable") == given);
    let path = home.path().join(&stored.path);
    let sound = std::fs::read(&path).expect("there");
    let bits = (0..17 * 8).chain((sound.len() - 44) * 8..sound.len() * 8).step_by(3);
    for bit in bits.chain((0..sound.len() * 8).step_by(sound.len() / 3)) {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, flipped).expect("damaged on purpose");
        let error = wait(archive.verify(&segment(&stored))).expect_err("a flipped bit is found");
        assert_eq!(code(&error), CORRUPT, "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_of_an_object_and_every_damaged_byte_of_a_manifest_is_found() {
    let home = scratch();
    let archive = open(home.path());
    let stored = wait(archive.put(draft(0, records(&[b"{\"a\":1}", b"", b"two\nlines"])))).expect("stored");
    let segment = segment(&stored);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (path, step) in [(&stored.path, 1), (&stored.manifest_path, 7)] {
        let path = home.path().join(path);
        let sound = std::fs::read(&path).expect("there");
        for bit in (0..sound.len() * 8).step_by(step) {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).expect("damaged on purpose");
            let error = runtime.block_on(archive.verify(&segment)).expect_err("a flipped bit is found");
            assert_eq!(code(&error), CORRUPT, "bit {bit} of {}", path.display());
        }
        for length in (0..sound.len()).step_by(step) {
            std::fs::write(&path, &sound[..length]).expect("cut on purpose");
            assert!(runtime.block_on(archive.verify(&segment)).is_err(), "cut to {length}");
        }
        std::fs::write(&path, [&sound[..], b"\0"].concat()).expect("grown on purpose");
        assert!(runtime.block_on(archive.verify(&segment)).is_err());
        std::fs::remove_file(&path).expect("removed on purpose");
        let error = runtime.block_on(archive.verify(&segment)).expect_err("a missing file is found");
        assert_eq!(code(&error), CORRUPT);
        std::fs::write(&path, sound).expect("restored");
        runtime.block_on(archive.verify(&segment)).expect("sound again");
    }
}

#[test]
fn a_damaged_ledger_row_is_found_and_its_path_is_not_used() {
    let home = scratch();
    let archive = open(home.path());
    let stored = wait(archive.put(draft(0, records(&[b"x"])))).expect("stored");
    let damages: [fn(&mut Segment); 5] = [
        |row| row.path = "../../etc/passwd".into(),
        |row| row.manifest.records = u64::MAX,
        |row| row.manifest.bytes = u64::MAX,
        |row| row.manifest.seq_ranges = vec![[i64::MIN, i64::MAX]],
        |row| row.manifest.multiline = vec![[0, u64::MAX - 1]],
    ];
    for damage in damages {
        let mut row = segment(&stored);
        damage(&mut row);
        assert_eq!(code(&wait(archive.read(&row)).expect_err("refused")), CORRUPT);
        assert_eq!(code(&wait(archive.verify(&row)).expect_err("refused")), CORRUPT);
    }
    let mut row = segment(&stored);
    row.manifest.archived_at += chrono::TimeDelta::nanoseconds(5);
    wait(archive.verify(&row)).expect("a ledger may keep the time less precisely");
}

#[test]
fn storing_the_same_again_changes_no_file() {
    let home = scratch();
    let archive = open(home.path());
    let look = || -> Vec<_> {
        let seen = |p: PathBuf| (std::fs::metadata(&p).and_then(|m| m.modified()).expect("there"), p);
        files(home.path()).into_iter().map(seen).collect()
    };
    let first = wait(archive.put(draft(0, records(&[b"a", b"b"])))).expect("stored");
    let before = look();
    assert_eq!(wait(archive.put(draft(0, records(&[b"a", b"b"])))).expect("stored"), first);
    // An attempt after a crash comes later and is still the same segment.
    let later = SegmentDraft { archived_at: Utc::now(), ..draft(0, records(&[b"a", b"b"])) };
    assert_eq!(wait(archive.put(later)).expect("stored"), first);
    assert_eq!(look(), before);
}

#[test]
fn an_unacknowledged_attempt_with_other_records_is_moved_aside_not_destroyed() {
    let home = scratch();
    let archive = open(home.path());
    let first = wait(archive.put(draft(0, records(&[b"a"])))).expect("stored");
    let old = std::fs::read(home.path().join(&first.manifest_path)).expect("there");
    let second = wait(archive.put(draft(0, records(&[b"a", b"b"])))).expect("stored");
    wait(archive.verify(&segment(&second))).expect("sound");
    let aside = files(&home.path().join("archives/damaged"));
    assert_eq!(aside.iter().map(|p| std::fs::read(p).expect("there")).collect::<Vec<_>>(), [old]);
    assert_eq!(wait(archive.manifests()).expect("listable").len(), 1);
    assert!(home.path().join(&first.path).exists());
}

#[test]
fn a_damaged_object_is_moved_aside_and_written_again() {
    let home = scratch();
    let archive = open(home.path());
    let stored = wait(archive.put(draft(0, records(&[b"precious"])))).expect("stored");
    let path = home.path().join(&stored.path);
    for round in 1..=2 {
        std::fs::write(&path, b"rubbish").expect("damaged on purpose");
        assert_eq!(wait(archive.put(draft(0, records(&[b"precious"])))).expect("stored again"), stored);
        wait(archive.verify(&segment(&stored))).expect("sound again");
        assert_eq!(files(&home.path().join("archives/damaged")).len(), round);
    }
    std::fs::remove_file(&path).expect("removed on purpose");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a trap");
    let error = wait(archive.read(&segment(&stored))).expect_err("a symlink is not followed");
    assert_eq!(code(&error), CORRUPT);
    wait(archive.put(draft(0, records(&[b"precious"])))).expect("stored again");
    wait(archive.verify(&segment(&stored))).expect("sound again");
}

#[test]
fn a_bomb_in_place_of_an_object_unfolds_no_further_than_the_manifest_says() {
    let home = scratch();
    let archive = open(home.path());
    let stored = wait(archive.put(draft(0, records(&[b"small"])))).expect("stored");
    let mut bomb = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    let block = vec![0u8; 1 << 20];
    (0..512).for_each(|_| bomb.write_all(&block).expect("in memory"));
    std::fs::write(home.path().join(&stored.path), bomb.finish().expect("in memory")).expect("planted");
    let started = std::time::Instant::now();
    assert_eq!(code(&wait(archive.read(&segment(&stored))).expect_err("refused")), CORRUPT);
    assert!(wait(archive.verify(&segment(&stored))).is_err());
    assert!(started.elapsed() < Duration::from_secs(3), "it was unfolded");
}

#[test]
fn a_draft_that_is_no_segment_is_refused_before_anything_is_written() {
    let home = scratch();
    let archive = open(home.path());
    let twice = vec![Record { seq: 1, bytes: vec![] }, Record { seq: 1, bytes: vec![] }];
    for bad in [draft(0, vec![]), draft(-1, records(&[b"x"])), draft(0, twice)] {
        let error = wait(archive.put(bad)).expect_err("refused");
        assert_eq!(code(&error), (Kind::Data, "archive.bad_draft"));
    }
    assert!(files(home.path()).is_empty());
}

#[test]
fn damaged_manifests_are_listed_apart_from_good_ones() {
    let home = scratch();
    let archive = open(home.path());
    let store = |n: i64| wait(archive.put(draft(n, records(&[&n.to_le_bytes()])))).expect("stored");
    let stored: Vec<_> = (0..12).map(store).collect();
    let folder = home.path().join(&stored[0].manifest_path).parent().expect("a folder").to_owned();
    std::fs::write(home.path().join(&stored[3].manifest_path), b"{").expect("damaged on purpose");
    let copied = std::fs::copy(home.path().join(&stored[4].manifest_path), folder.join("x-0-000099.manifest.json"));
    copied.expect("misplaced on purpose");
    std::os::unix::fs::symlink("/dev/zero", folder.join("y-0-000001.manifest.json")).expect("a trap");
    std::fs::write(folder.join("note.txt"), b"not a manifest").expect("somebody's file");
    let good = wait(archive.manifests()).expect("listable");
    let ordinals: Vec<_> = good.iter().map(|(_, m)| m.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]);
    let damaged: Vec<_> = wait(archive.damaged_manifests()).expect("listable").into_iter().map(|(p, _)| p).collect();
    assert_eq!(damaged.len(), 3);
    assert!(damaged.contains(&stored[3].manifest_path));
}

#[test]
fn a_projection_grows_drops_a_torn_tail_and_says_when_it_was_lost() {
    let home = scratch();
    let archive = open(home.path());
    let path = home.path().join(archive.projection_path(&series()));
    assert_eq!(wait(archive.project(&series(), 0, "one\n")).expect("begun"), 4);
    assert_eq!(wait(archive.project(&series(), 4, "zwölf\n")).expect("grown"), 11);
    std::fs::write(&path, "one\nzwölf\ntor").expect("torn on purpose");
    assert_eq!(wait(archive.project(&series(), 11, "3\n")).expect("grown"), 13);
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "one\nzwölf\n3\n");
    let losses: [fn(&Path) -> std::io::Result<()>; 2] =
        [|path| std::fs::write(path, "on"), |path| std::fs::remove_file(path)];
    for lose in losses {
        lose(&path).expect("lost on purpose");
        let error = wait(archive.project(&series(), 13, "4\n")).expect_err("lost");
        assert_eq!(code(&error), (Kind::Conflict, "archive.projection_lost"));
    }
    assert!(!path.exists(), "a lost projection is not made up");
    assert_eq!(wait(archive.project(&series(), 0, "anew\n")).expect("rebuilt"), 5);
}

#[test]
fn everything_is_private_and_leftovers_are_swept() {
    let home = scratch();
    let archive = open(home.path());
    let stored = wait(archive.put(draft(0, records(&[b"x"])))).expect("stored");
    wait(archive.project(&series(), 0, "x")).expect("projected");
    let mode = |p: &Path| std::fs::metadata(p).expect("there").permissions().mode() & 0o777;
    for file in files(home.path()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        for folder in file.ancestors().skip(1).take_while(|f| *f != home.path()) {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
    }
    // The highest process number there can be belongs to nobody.
    let leftover = home.path().join(&stored.path).with_file_name(".moon-tmp-4194305-1");
    std::fs::write(&leftover, b"half").expect("a leftover");
    assert_eq!(wait(archive.sweep()).expect("swept"), 1);
    wait(archive.verify(&segment(&stored))).expect("sound");
}

#[test]
fn a_symlink_in_place_of_the_archive_is_refused() {
    let (home, elsewhere) = (scratch(), scratch());
    std::os::unix::fs::symlink(elsewhere.path(), home.path().join("archives")).expect("a trap");
    assert!(ArchiveDir::open(home.path(), 3, "moon test".into()).is_err());
    assert!(files(elsewhere.path()).is_empty());
    assert!(ArchiveDir::open(elsewhere.path(), 20, "moon test".into()).is_err());
}

#[test]
fn an_object_whose_manifest_cannot_be_written_is_removed_unless_it_was_there_before() {
    let (first, home) = (scratch(), scratch());
    let stored = wait(open(first.path()).put(draft(0, records(&[b"x"])))).expect("stored");
    let archive = open(home.path());
    let folder = home.path().join(&stored.manifest_path).parent().expect("a folder").to_owned();
    std::fs::write(&folder, b"in the way").expect("an obstacle");
    let error = wait(archive.put(draft(0, records(&[b"x"])))).expect_err("no manifest");
    assert_eq!(code(&error), (Kind::Transient, "archive.io"));
    assert_eq!(files(home.path()), [folder]);
    let other = SegmentDraft { session_key: SessionKey::from("other"), ..draft(0, records(&[b"x"])) };
    let shared = wait(archive.put(other)).expect("stored");
    wait(archive.put(draft(0, records(&[b"x"])))).expect_err("no manifest");
    wait(archive.verify(&segment(&shared))).expect("somebody else's acknowledged object stays");
}

/// Stores until there is no room; then everything acknowledged is sound, the failure says so and left nothing behind.
fn fill_until_full(home: &Path) {
    let archive = open(home);
    let mut acknowledged = Vec::new();
    let error = loop {
        let n = acknowledged.len();
        assert!(n < 1000, "the disk never filled");
        let body = vec![Record { seq: 0, bytes: noise(n as u64 * 2 + 1, 30_000 + n * 7919 % 9000) }];
        match wait(archive.put(draft(n as i64, body))) {
            Ok(stored) => acknowledged.push(stored),
            Err(error) => break error,
        }
    };
    assert_eq!(code(&error), (Kind::Transient, "archive.disk_full"), "{error}");
    assert!(acknowledged.len() > 10);
    assert_eq!(files(home).len(), 2 * acknowledged.len(), "an object and a manifest each, and nothing else");
    for stored in &acknowledged {
        wait(archive.verify(&segment(stored))).expect("acknowledged, therefore sound");
    }
}

#[test]
fn a_full_disk_loses_nothing_and_leaves_nothing_behind() {
    let home = scratch();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(home.path()).output();
    if !mount.is_ok_and(|done| done.status.success()) {
        return skipped("a_full_disk_loses_nothing_and_leaves_nothing_behind", "mounting a small tmpfs needs root");
    }
    let path = home.path().to_owned();
    let result = std::panic::catch_unwind(move || fill_until_full(&path));
    let unmounted = Command::new("umount").arg(home.path()).status().expect("umount runs");
    assert!(unmounted.success());
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

const HOME_OF_CHILD: &str = "MOON_TEST_ARCHIVE_HOME";

/// This very test in a process of its own, started by `sh` after `setup`.
fn myself(test: &str, setup: &str, home: &Path) -> Command {
    let mut command = Command::new("sh");
    let me = std::env::current_exe().expect("a test has a file");
    command.args(["-c", &format!("{setup}exec \"$0\" --exact {test} --nocapture")]).arg(me);
    command.env(HOME_OF_CHILD, home);
    command
}

/// Needs no root: a limit on the size of files gives the same refusal in the middle of a write.
#[test]
fn a_write_that_is_cut_off_leaves_nothing_behind() {
    const NAME: &str = "a_write_that_is_cut_off_leaves_nothing_behind";
    if let Some(home) = std::env::var_os(HOME_OF_CHILD) {
        let home = PathBuf::from(home);
        let archive = open(&home);
        wait(archive.put(draft(0, vec![Record { seq: 0, bytes: noise(1, 1000) }]))).expect("small enough");
        let before = files(&home);
        let large = vec![Record { seq: 1, bytes: noise(3, 900_000) }];
        let error = wait(archive.put(draft(1, large))).expect_err("cut off");
        assert_eq!(code(&error), (Kind::Transient, "archive.disk_full"), "{error}");
        assert_eq!(files(&home), before);
        std::fs::write(home.join("done"), b"").expect("the parent looks for it");
        return;
    }
    let home = scratch();
    // 25 is SIGXFSZ: ignored, so that the write fails instead of ending the process.
    let done = myself(NAME, "trap '' 25; ulimit -f 512; ", home.path()).output().expect("sh runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    assert!(home.path().join("done").exists(), "the child really ran");
}

#[test]
fn every_acknowledged_segment_survives_a_kill_of_its_writer() {
    const NAME: &str = "every_acknowledged_segment_survives_a_kill_of_its_writer";
    if let Some(home) = std::env::var_os(HOME_OF_CHILD) {
        write_for_ever(Path::new(&home));
    }
    let home = scratch();
    let mut acknowledged = Vec::<(i64, String, String)>::new();
    for kill in 0..20u64 {
        let mut writer =
            myself(NAME, "", home.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sh runs");
        let mut lines = BufReader::new(writer.stdout.take().expect("piped")).lines().map_while(Result::ok);
        for _ in 0..2 + kill % 3 {
            acknowledged.push(lines.by_ref().find_map(|line| parse_ack(&line)).expect("it writes until it is killed"));
        }
        std::thread::sleep(Duration::from_millis(kill * 7 % 23));
        writer.kill().expect("SIGKILL");
        writer.wait().expect("reaped");
        acknowledged.extend(lines.filter_map(|line| parse_ack(&line)));
    }
    let archive = open(home.path());
    wait(archive.sweep()).expect("swept");
    assert!(wait(archive.damaged_manifests()).expect("listable").is_empty());
    let found = wait(archive.manifests()).expect("listable");
    for (ordinal, object, manifest_sha256) in acknowledged {
        let found = found.iter().find(|(_, m)| m.ordinal == ordinal && m.sha256.as_str() == object);
        let (manifest_path, manifest) = found.expect("an acknowledged manifest is there").clone();
        let path = format!("archives/objects/{}/{object}.jsonl.zst", &object[..2]);
        let manifest_sha256 = Sha256::parse(&manifest_sha256).expect("a hash");
        let stored = Stored { manifest, manifest_sha256, path, manifest_path };
        wait(archive.verify(&segment(&stored))).expect("acknowledged, therefore sound");
    }
}

/// Stores segment after segment and acknowledges each on standard output, until killed.
fn write_for_ever(home: &Path) -> ! {
    let archive = open(home);
    let mut ordinal = wait(archive.manifests()).expect("listable").len() as i64;
    loop {
        let line = |n: i64| Record { seq: n, bytes: noise((ordinal * 20 + n) as u64 * 2 + 1, 2000) };
        let stored = wait(archive.put(draft(ordinal, (0..20).map(line).collect()))).expect("stored");
        let ack = format!("ACK {ordinal} {} {} END\n", stored.manifest.sha256, stored.manifest_sha256);
        std::io::stdout().write_all(ack.as_bytes()).expect("the parent reads");
        ordinal += 1;
    }
}

/// Ordinal, object and manifest hash. `None` for the test runner's own lines and for one that was cut off.
fn parse_ack(line: &str) -> Option<(i64, String, String)> {
    let words: Vec<_> = line.split("ACK ").nth(1)?.split(' ').collect();
    let [ordinal, object, manifest, "END"] = words[..] else { return None };
    Some((ordinal.parse().expect("a number"), object.to_owned(), manifest.to_owned()))
}
