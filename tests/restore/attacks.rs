//! Archives that are no backups: each is refused, the live data stays byte for byte, and the daemon goes on.

use super::build::{Entry, ID, Parts, extension, gzip, pax, publish, zstd};
use super::support::process::{Ran, Scratch, changes, tree};
use super::support::skip;
use super::{FAST, lived_in};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Attack = (&'static str, &'static str, fn(&mut Parts));

const DAMAGED: &str = "restore.damaged";
const UNSAFE: &str = "restore.unsafe";
const LEDGER: &str = "home/state/moon.db";

/// Name, code of the refusal, and how a good archive is turned into it.
const ATTACKS: [Attack; 68] = [
    ("a path with ..", UNSAFE, |p| p.add("home/../../evil", "file", b"x")),
    ("a path that begins with ..", UNSAFE, |p| p.entries.push(whole("../evil"))),
    ("an absolute path", UNSAFE, |p| p.entries.push(whole("/tmp/evil"))),
    ("a path with a dot", UNSAFE, |p| p.add("home/./x", "file", b"x")),
    ("a path with two slashes", UNSAFE, |p| p.add("home//x", "file", b"x")),
    ("a symbolic link", UNSAFE, |p| p.entries.push(Entry::of_kind("home/memory/l", b'2', "/etc/passwd"))),
    ("a symbolic link listed as a file", UNSAFE, |p| {
        p.list("home/memory/l", "file", Some(b""));
        p.entries.push(Entry::of_kind("home/memory/l", b'2', "/etc/passwd"));
    }),
    ("a link and a file below it", UNSAFE, |p| {
        p.entries.push(Entry::of_kind("home/memory/l", b'2', "/tmp"));
        p.add("home/memory/l/evil", "file", b"x");
    }),
    ("a hard link", UNSAFE, |p| p.entries.push(Entry::of_kind("home/memory/l", b'1', "home/moon.toml"))),
    ("a character device", UNSAFE, |p| p.entries.push(Entry::of_kind("home/memory/d", b'3', ""))),
    ("a block device", UNSAFE, |p| p.entries.push(Entry::of_kind("home/memory/d", b'4', ""))),
    ("a pipe", UNSAFE, |p| p.entries.push(Entry::of_kind("home/memory/p", b'6', ""))),
    ("a contiguous file", UNSAFE, |p| p.entries.push(Entry::of_kind("home/memory/c", b'7', ""))),
    ("a sparse file", UNSAFE, |p| p.entries.push(Entry::of_kind("home/memory/s", b'S', ""))),
    ("a kind nobody knows", UNSAFE, |p| p.entries.push(Entry::of_kind("home/memory/z", b'Z', ""))),
    ("a file of the oldest kind", UNSAFE, |p| p.entry("home/memory/2026-11-19.md").kind = 0),
    ("a file with the target of a link", UNSAFE, |p| p.entry("home/memory/2026-11-19.md").link = b"/etc".to_vec()),
    ("a member twice", UNSAFE, |p| p.entries.push(Entry::file("home/memory/2026-11-19.md", b"other"))),
    ("a member twice, the same", UNSAFE, |p| {
        let again = p.entry("home/memory/2026-11-19.md").clone();
        p.entries.push(again);
    }),
    ("a member listed twice", UNSAFE, |p| {
        let again = p.members()[0].clone();
        p.members().push(again);
    }),
    ("a member too many", UNSAFE, |p| p.entries.push(Entry::file("home/memory/evil.md", b"x"))),
    ("a member too few", UNSAFE, |p| p.entries.retain(|e| e.path != b"home/memory/2026-11-19.md")),
    ("a member of another size than listed", DAMAGED, |p| p.members().iter_mut().for_each(|m| m["bytes"] = json!(7))),
    ("a member of another hash than listed", DAMAGED, |p| {
        p.entry("home/memory/2026-11-19.md").body = b"somebody else's memory\n".to_vec();
    }),
    ("a file listed as a folder", UNSAFE, |p| {
        let m = p.members().iter_mut().find(|m| m["path"] == "home/memory/2026-11-19.md").expect("listed");
        (m["kind"], m["sha256"]) = (json!("folder"), Value::Null);
    }),
    ("a file that holds a file", UNSAFE, |p| {
        p.add("home/memory/x", "file", b"x");
        p.add("home/memory/x/y", "file", b"y");
    }),
    ("a list of hashes that lacks one", UNSAFE, |p| {
        let manifest = serde_json::to_vec_pretty(&p.manifest).expect("JSON");
        p.sums = Some(p.sums(&manifest).lines().skip(1).map(|l| format!("{l}\n")).collect());
    }),
    ("a list of hashes with one too many", UNSAFE, |p| {
        let manifest = serde_json::to_vec_pretty(&p.manifest).expect("JSON");
        p.sums = Some(format!("{}{}  home/zzz\n", p.sums(&manifest), "0".repeat(64)));
    }),
    ("a list of hashes with a wrong one", DAMAGED, |p| {
        let manifest = serde_json::to_vec_pretty(&p.manifest).expect("JSON");
        let sums = p.sums(&manifest);
        p.sums = Some(format!("{}{}", "0".repeat(64), &sums[64..]));
    }),
    ("a list of hashes that is none", DAMAGED, |p| p.sums = Some("nothing\n".into())),
    ("no manifest", UNSAFE, |p| p.has_manifest = false),
    ("no list of hashes", UNSAFE, |p| p.has_sums = false),
    ("a manifest of something else", UNSAFE, |p| p.manifest["format"] = json!("tarball")),
    ("a manifest without members", UNSAFE, |p| _ = p.manifest.as_object_mut().expect("an object").remove("members")),
    ("a manifest of another backup", UNSAFE, |p| p.manifest["id"] = json!("20200101_000000")),
    ("a newer format", "restore.newer", |p| p.manifest["version"] = json!(2)),
    ("a member behind the lists", UNSAFE, |p| p.behind.push(Entry::file("home/evil", b"x"))),
    ("a second list of hashes", UNSAFE, |p| p.behind.push(Entry::file("checksums.sha256", b"x"))),
    ("a member behind the end", UNSAFE, |p| {
        p.end.extend(zstd_free(&Entry::file("home/evil", b"x")));
        p.end.extend([0; 1024]);
    }),
    ("a member behind one empty block", UNSAFE, |p| {
        p.end = [vec![0; 512], zstd_free(&Entry::file("home/evil", b"x")), vec![0; 1024]].concat();
    }),
    ("no end", DAMAGED, |p| p.end.clear()),
    ("half an end", DAMAGED, |p| p.end.truncate(512)),
    ("a second archive behind the first", UNSAFE, |p| p.tail = zstd(&p.tar())),
    ("rubbish behind the archive", UNSAFE, |p| p.tail = b"PK\x03\x04".to_vec()),
    ("zeros behind the archive", UNSAFE, |p| p.tail = vec![0; 512]),
    ("two sizes in two headers", UNSAFE, |p| p.entry("home/memory/2026-11-19.md").before = pax(&[("size", b"0")])),
    ("a path in an extension that leads out", UNSAFE, |p| {
        p.entry("home/memory/2026-11-19.md").before = pax(&[("path", b"20261120_020000/home/../../x")]);
    }),
    ("a link in an extension", UNSAFE, |p| p.entry("home/memory/2026-11-19.md").before = pax(&[("linkpath", b"/etc")])),
    ("a sparse map in an extension", UNSAFE, |p| {
        p.entry("home/memory/2026-11-19.md").before = pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")]);
    }),
    ("two extensions of one member", UNSAFE, |p| {
        let twice = [pax(&[("mtime", b"1")]), pax(&[("mtime", b"2")])].concat();
        p.entry("home/memory/2026-11-19.md").before = twice;
    }),
    ("an extension that says a thing twice", UNSAFE, |p| {
        p.entry("home/memory/2026-11-19.md").before = pax(&[("mtime", b"1"), ("mtime", b"2")]);
    }),
    ("an extension that lies about its length", UNSAFE, |p| {
        p.entry("home/memory/2026-11-19.md").before = extension(b'x', b"99 path=x\n");
    }),
    ("an extension of all members", UNSAFE, |p| p.entries[0].before = extension(b'g', b"12 mtime=1\n")),
    ("an extension of no member", UNSAFE, |p| p.end = [pax(&[("mtime", b"1")]), vec![0; 1024]].concat()),
    ("a name that goes on behind its end", UNSAFE, |p| {
        p.entry("home/memory/2026-11-19.md").twist = Some(|h| h[90] = b'x');
    }),
    ("a name that moves the cursor", UNSAFE, |p| p.add("home/memory/\u{1b}[2J.md", "file", b"x")),
    ("a name that is no text", UNSAFE, |p| {
        let mut entry = Entry::file("", b"x");
        entry.path = b"home/memory/\xff\xfe".to_vec();
        p.entries.push(entry);
    }),
    ("a name without an end", UNSAFE, |p| p.add(&format!("home/memory/{}", "n".repeat(300)), "file", b"x")),
    ("folders without an end", UNSAFE, |p| p.add(&format!("home/{}x", "d/".repeat(170)), "file", b"x")),
    ("a folder with content", UNSAFE, |p| p.entries.push(Entry { kind: b'5', ..Entry::file("home/f", b"x") })),
    ("a size in an odd spelling", UNSAFE, |p| {
        p.entry("home/memory/2026-11-19.md").twist = Some(|h| h[124..136].copy_from_slice(b"+0000000021\0"));
    }),
    ("a size of many terabytes", DAMAGED, |p| {
        p.entry("home/memory/2026-11-19.md").twist =
            Some(|h| h[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0, 0, 0]));
    }),
    ("a negative size", UNSAFE, |p| {
        p.entry("home/memory/2026-11-19.md").twist = Some(|h| h[124..136].copy_from_slice(&[0xff; 12]));
    }),
    ("members of two users", UNSAFE, |p| p.entry("home/memory/2026-11-19.md").uid += 1),
    ("two top folders", UNSAFE, |p| p.entries.push(whole("20200101_000000/home/x"))),
    ("a top folder of any name", UNSAFE, |p| p.top = "evil".into()),
    ("a file of the machine", UNSAFE, |p| p.add("home/run/moon.lock", "file", b"")),
    ("a log beside the ledger", UNSAFE, |p| p.add("home/state/moon.db-wal", "file", b"log")),
];

/// More of them, which need the ledger or are large.
const OF_THE_LEDGER: [Attack; 11] = [
    ("planted backups", UNSAFE, |p| p.add("home/backups/latest", "file", b"x")),
    ("a planted index", UNSAFE, |p| p.add("home/index/history.db", "file", b"x")),
    ("an included folder nobody named", UNSAFE, |p| p.add("include/0/x", "file", b"x")),
    ("no ledger", "restore.choice", |p| {
        p.entries.retain(|e| e.path != LEDGER.as_bytes());
        p.members().retain(|m| m["path"] != LEDGER);
    }),
    ("a ledger listed as a plain file", "restore.choice", |p| {
        let m = p.members().iter_mut().find(|m| m["path"] == LEDGER).expect("listed");
        m["kind"] = json!("file");
    }),
    ("a ledger with a damaged page", DAMAGED, |p| {
        let mut db = p.entry(LEDGER).body.clone();
        let middle = db.len() / 2 / 4096 * 4096;
        db[middle..middle + 4096].fill(0x5a);
        p.replace(LEDGER, &db);
    }),
    ("a ledger that was cut", DAMAGED, |p| {
        let db = p.entry(LEDGER).body.clone();
        p.replace(LEDGER, &db[..db.len() / 2]);
    }),
    ("a ledger with a trigger of somebody's", UNSAFE, |p| {
        changed_ledger(p, "CREATE TRIGGER evil AFTER INSERT ON audit BEGIN DELETE FROM facts; END");
    }),
    ("a ledger of a newer moon", "restore.newer", |p| changed_ledger(p, "PRAGMA user_version = 99")),
    ("a ledger with a shorter audit", DAMAGED, |p| {
        changed_ledger(p, "DROP TRIGGER audit_no_delete; DELETE FROM audit WHERE seq = (SELECT MAX(seq) FROM audit)");
    }),
    ("a ledger of another moment", UNSAFE, |p| p.manifest["ledger"]["audit_seq"] = json!(1)),
];

fn whole(path: &str) -> Entry {
    Entry { is_whole_path: true, ..Entry::file(path, b"x") }
}

fn zstd_free(entry: &Entry) -> Vec<u8> {
    let mut parts = Parts::empty();
    (parts.has_manifest, parts.has_sums) = (false, false);
    parts.end.clear();
    parts.entries.push(entry.clone());
    parts.tar()
}

/// The ledger of an archive, changed behind Moon's back; triggers that stand in the way are put back as they were.
fn changed_ledger(parts: &mut Parts, sql: &str) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let file = scratch.path().join("moon.db");
    std::fs::write(&file, &parts.entry(LEDGER).body).expect("a copy");
    let db = rusqlite::Connection::open(&file).expect("a ledger");
    db.execute_batch("PRAGMA journal_mode=DELETE").expect("one file");
    let mut kept = Vec::new();
    if sql.contains("DROP TRIGGER") {
        let mut all = db.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").expect("a query");
        let rows = all.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?))).expect("rows");
        kept = rows.map(|row| row.expect("a trigger")).collect();
        kept.iter().for_each(|(name, _)| db.execute_batch(&format!("DROP TRIGGER {name}")).expect("dropped"));
    }
    db.execute_batch(sql.split_once("DROP TRIGGER audit_no_delete; ").map_or(sql, |(_, rest)| rest)).expect(sql);
    kept.iter().for_each(|(_, sql)| db.execute_batch(sql).expect("made again"));
    drop(db);
    parts.replace(LEDGER, &std::fs::read(&file).expect("readable"));
}

/// The parts of a home that a daemon with nothing to do leaves alone, and everything beside the home.
fn still(scratch: &Scratch) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    for folder in ["moon.toml", "memory", "archives", "continuity", "backups"] {
        all.extend(
            tree(&scratch.in_home(folder)).into_iter().map(|(path, stamp)| (Path::new(folder).join(path), stamp)),
        );
    }
    for entry in std::fs::read_dir(scratch.path()).expect("listable").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("home") {
            all.insert(Path::new("beside").join(name), String::new());
        }
    }
    all
}

fn refused(scratch: &Scratch, file: &Path) -> Value {
    let ran = Ran::of(scratch.moon(&["restore", "--yes", "--json"]).arg(file));
    assert_ne!(ran.code, Some(0), "{}: {ran:?}", file.display());
    ran.report()["data"]["error"].clone()
}

#[test]
fn every_hostile_archive_is_refused_with_the_live_data_byte_equal_and_the_daemon_up() {
    let (scratch, good) = lived_in();
    let daemon = scratch.daemon(&FAST);
    let before = still(&scratch);
    let file = scratch.path().join("given.tar.zst");
    let mut wrong = Vec::new();
    for (name, code, spoil) in ATTACKS.into_iter().chain(OF_THE_LEDGER) {
        let mut parts = good.clone();
        spoil(&mut parts);
        std::fs::write(&file, parts.packed()).expect("an archive");
        let error = refused(&scratch, &file);
        if error["code"] != code {
            wrong.push(format!("{name}: {error}"));
        }
        let changed = changes(&before, &still(&scratch));
        assert_eq!(changed, Vec::<String>::new(), "{name}");
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(daemon.is_running(), "{}", daemon.said());
    // Its health is its own affair: on a slow machine it has found by now that there is no backup.
    let status = scratch.json(&["ctl", "status"]).report();
    assert_eq!(status["data"]["daemon"]["pid"], json!(daemon.pid()), "it is the same one");
    daemon.stop();
}

#[test]
fn a_file_that_is_cut_anywhere_or_packed_otherwise_is_refused() {
    let (scratch, good) = lived_in();
    let before = tree(&scratch.home());
    let file = scratch.path().join("given.tar.zst");
    let packed = good.packed();
    for length in [0, 1, 4, packed.len() / 3, packed.len() / 2, packed.len() - 1] {
        std::fs::write(&file, &packed[..length]).expect("an archive");
        assert_eq!(refused(&scratch, &file)["code"], "restore.damaged", "{length} bytes");
    }
    std::fs::write(&file, gzip(&good.tar())).expect("an archive");
    assert_eq!(refused(&scratch, &file)["code"], "restore.damaged", "gzip under the name of zstd");
    std::fs::write(&file, good.tar()).expect("an archive");
    assert_eq!(refused(&scratch, &file)["code"], "restore.damaged", "no compression");
    assert_eq!(changes(&before, &tree(&scratch.home())), Vec::<String>::new());
}

#[test]
fn a_bomb_ends_early() {
    let (scratch, mut good) = lived_in();
    good.add("home/memory/zeros", "file", &vec![0; 24 << 20]);
    let file = scratch.path().join("given.tar.zst");
    let packed = good.packed();
    assert!(packed.len() < 64 << 10, "it is small: {}", packed.len());
    std::fs::write(&file, packed).expect("an archive");
    assert_eq!(refused(&scratch, &file)["code"], "restore.too_large");
}

#[test]
fn an_archive_that_is_a_link_or_somebody_elses_is_refused() {
    let (scratch, good) = lived_in();
    let (file, link) = (scratch.path().join("given.tar.zst"), scratch.path().join("link.tar.zst"));
    std::fs::write(&file, good.packed()).expect("an archive");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    assert_eq!(refused(&scratch, &link)["code"], "restore.no_backup");
    if std::os::unix::fs::chown(&file, Some(12_345), None).is_err() {
        return skip("an_archive_that_is_a_link_or_somebody_elses_is_refused", "only root can give a file away");
    }
    assert_eq!(refused(&scratch, &file)["code"], "restore.foreign_owner");
}

#[test]
fn a_sidecar_that_does_not_fit_refuses_the_archive() {
    let (scratch, good) = lived_in();
    let backups = scratch.in_home("backups/moon");
    publish(&backups, &good.packed());
    let sidecar = backups.join(format!("{ID}.json"));
    let right: Value = serde_json::from_slice(&std::fs::read(&sidecar).expect("there")).expect("JSON");
    let refused = || scratch.json(&["restore", "--yes"]).expect(1).report()["data"]["error"]["code"].clone();
    for (key, value) in [("sha256", json!("0".repeat(64))), ("bytes", json!(1)), ("id", json!("20200101_000000"))] {
        let mut wrong = right.clone();
        wrong[key] = value;
        std::fs::write(&sidecar, wrong.to_string()).expect("a sidecar");
        assert_eq!(refused(), "restore.damaged", "{key}");
    }
    std::fs::write(&sidecar, "no sidecar").expect("a sidecar");
    assert_eq!(refused(), "restore.damaged");
    // Renamed: the sidecar is right, and the archive is another one.
    std::fs::write(&sidecar, right.to_string()).expect("a sidecar");
    for end in ["tar.zst", "json"] {
        std::fs::rename(backups.join(format!("{ID}.{end}")), backups.join(format!("20261121_020000.{end}")))
            .expect("moved");
    }
    let mut renamed = right;
    renamed["id"] = json!("20261121_020000");
    std::fs::write(backups.join("20261121_020000.json"), renamed.to_string()).expect("a sidecar");
    assert_eq!(
        scratch.json(&["restore", "20261121_020000", "--yes"]).expect(1).report()["data"]["error"]["code"],
        "restore.unsafe"
    );
}

#[test]
fn two_hundred_flipped_bits_are_caught_two_hundred_times() {
    let (scratch, good) = lived_in();
    let packed = good.packed();
    let bits = packed.len() * 8;
    let seed = std::env::var("MOON_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let mut dice: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let first = dice;
    let home = moon::home::Home::at(scratch.home());
    let (with, without) = (scratch.path().join("with"), scratch.path().join("without"));
    publish(&with, &packed);
    std::fs::create_dir(&without).expect("a folder");
    let file = |folder: &Path| folder.join(format!("{ID}.tar.zst"));
    let before = tree(&scratch.home());
    let mut harmless = 0;
    for _ in 0..200 {
        // Knuth's multiplier: which bits are flipped depends on the seed alone.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (dice >> 20) as usize % bits;
        let mut flipped = packed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(file(&with), &flipped).expect("an archive");
        let error = prepared(&home, &file(&with), scratch.path()).expect_err("its hash is known");
        assert_eq!(error.code, "restore.damaged", "bit {bit}, MOON_TEST_SEED={first}");
        // Without a sidecar an archive is judged by what it holds: refused, or the flip says nothing.
        std::fs::write(file(&without), &flipped).expect("an archive");
        if prepared(&home, &file(&without), scratch.path()).is_ok() {
            // Every byte of content is the same. Headers may differ in what is not taken from them (names, kinds, sizes, rights and
            // times are the manifest's), and so may what fills a member's last block up, which nobody reads.
            let (unpacked, right) = (zstd::stream::decode_all(flipped.as_slice()).expect("unpacks"), good.tar());
            let mut members = tar::Archive::new(right.as_slice());
            for member in members.entries().expect("a tar") {
                let member = member.expect("a member");
                let from = usize::try_from(member.raw_file_position()).expect("small");
                let content = from..from + usize::try_from(member.size()).expect("small");
                assert_eq!(
                    unpacked.get(content.clone()),
                    right.get(content),
                    "bit {bit} was accepted with another {:?}, MOON_TEST_SEED={first}",
                    member.path()
                );
            }
            harmless += 1;
        }
    }
    assert!(harmless <= 20, "{harmless} of 200 flips changed nothing");
    assert_eq!(changes(&before, &tree(&scratch.home())), Vec::<String>::new());
}

/// The pass over an archive that `moon restore` makes first, in this process.
fn prepared(home: &moon::home::Home, file: &Path, scratch: &Path) -> moon_actors::Result<()> {
    use moon::adapters::restore::{Choice, prepare, source::Source};
    let source = Source::open(file)?;
    let choice = Choice::To(scratch.join("unpacked"));
    prepare(home, &source, None, choice, &|_| {}, &moon_actors::port::NoProbe).map(drop)
}
