//! Time, processor and memory of a backup and of a restore, beside `tar | zstd` and restic.

#![allow(clippy::print_stdout, reason = "a measurement is told on stdout")]

use super::support::process::{Scratch, tree};
use super::{files, folder, ready, support};
use rusqlite::Connection;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A working home as somebody's agent has it: 200 MB in 2,000 files, three databases with a write-ahead log among them (107 MB).
fn two_hundred_megabytes(at: &Path) {
    for n in 0..3 {
        std::fs::create_dir_all(at.join("db")).expect("a folder");
        let db = Connection::open(at.join(format!("db/{n}.sqlite"))).expect("a database");
        db.execute_batch("PRAGMA journal_mode=wal; PRAGMA synchronous=OFF; CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT); BEGIN;").expect("a schema");
        let mut put = db.prepare("INSERT INTO t (text) VALUES (?1)").expect("a statement");
        for row in 0..33_000 {
            put.execute([format!("{row} {}", support::process::filler(row * 3 + n, 130))]).expect("a row");
        }
        drop(put);
        db.execute_batch("COMMIT").expect("committed");
    }
    for n in 0..1997usize {
        let folder = at.join(format!("sessions/{}", n % 40));
        std::fs::create_dir_all(&folder).expect("a folder");
        // Half words, half what does not compress, as transcripts with pictures in them.
        let mut bytes = support::process::filler(n, 4_300).into_bytes();
        let mut state = n as u64 + 1;
        bytes.extend(
            std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .take(12_000),
        );
        std::fs::write(folder.join(format!("{n}.jsonl")), bytes).expect("a file");
    }
}

/// What a command cost, and what it printed.
struct Cost {
    wall: f64,
    cpu: f64,
    /// MiB.
    peak: f64,
    said: String,
}

fn measured(command: &mut Command) -> Cost {
    const TIMER: &str = "import os,resource,subprocess,sys,time
b=time.time()
r=subprocess.run(sys.argv[1:],stdout=subprocess.PIPE)
w=time.time()-b
u=resource.getrusage(resource.RUSAGE_CHILDREN)
print(w,u.ru_utime+u.ru_stime,u.ru_maxrss/1024)
sys.stdout.flush()
os.write(1,r.stdout)
sys.exit(r.returncode)";
    let mut timed = Command::new("python3");
    timed.args(["-c", TIMER]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        timed.env(key, value.unwrap_or_default());
    }
    let out = timed.output().expect("python3 runs");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let (figures, said) = text.split_once('\n').expect("a line of figures");
    let mut numbers = figures.split_whitespace().map(|n| n.parse().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    Cost { wall: next(), cpu: next(), peak: next(), said: said.to_owned() }
}

fn shell(line: &str) -> Cost {
    measured(Command::new("sh").args(["-ec", line]))
}

/// Lines of a table, in the order in which they were first measured.
#[derive(Default)]
struct Table(Vec<(&'static str, Vec<Cost>)>);

impl Table {
    fn add(&mut self, what: &'static str, cost: Cost) {
        match self.0.iter_mut().find(|(name, _)| *name == what) {
            Some((_, costs)) => costs.push(cost),
            None => self.0.push((what, vec![cost])),
        }
    }

    fn show(&self, title: &str) {
        let median = |costs: &[Cost], of: fn(&Cost) -> f64| {
            let mut all: Vec<f64> = costs.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            (all[all.len() / 2], all[0], all[all.len() - 1])
        };
        println!("| {title} | Wall, s | min..max | CPU, s | Peak, MiB |");
        for (what, costs) in &self.0 {
            let ((wall, least, most), cpu, peak) =
                (median(costs, |c| c.wall), median(costs, |c| c.cpu).0, median(costs, |c| c.peak).0);
            let line = format!("| {what} | {wall:.2} | {least:.2}..{most:.2} | {cpu:.2} | {peak:.0} |");
            println!("{line}");
        }
    }
}

/// One of everything, a round: what else the machine does meets all of them alike.
const ROUNDS: usize = 5;

/// `cargo build --release && MOON_BENCH_BINARY=target/release/moon cargo test --test backup -- --ignored --nocapture bench`
#[test]
#[ignore = "by hand: a measurement, it wants a release build and a quiet machine"]
fn bench_beside_restic_and_tar() {
    let binary = std::env::var_os("MOON_BENCH_BINARY").map_or(PathBuf::from(env!("CARGO_BIN_EXE_moon")), PathBuf::from);
    let place = Place::make(binary.canonicalize().expect("the program is there"));
    let (mut backups, mut restores) = (Table::default(), Table::default());
    for round in 0..ROUNDS {
        place.moon_round(round, &mut backups, &mut restores);
        place.tar_round(&mut backups, &mut restores);
        place.restic_round(round, &mut backups, &mut restores);
    }
    backups.show("Backup");
    restores.show("Restore");
}

/// Where everything of the measurement lies.
struct Place {
    scratch: Scratch,
    agent: PathBuf,
    binary: PathBuf,
}

impl Place {
    fn make(binary: PathBuf) -> Self {
        let scratch = ready();
        let agent = scratch.path().join("agent");
        two_hundred_megabytes(&agent);
        let bytes: u64 = tree(&agent).keys().map(|p| agent.join(p).metadata().expect("there").len()).sum();
        println!("{bytes} bytes, median of {ROUNDS}");
        Self { scratch, agent, binary }
    }

    fn moon(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        let include = format!("backup.include=[\"{}\"]", self.agent.display());
        command.arg("--home").arg(self.scratch.home()).args(["--set", &include]).args(words);
        command.env("HOME", self.scratch.path().join("user"));
        command
    }

    /// An empty place to restore to, emptied again by whoever asks for the next.
    fn empty(&self) -> PathBuf {
        let place = self.scratch.path().join("place");
        let _ = std::fs::remove_dir_all(&place);
        place
    }

    fn moon_round(&self, round: usize, backups: &mut Table, restores: &mut Table) {
        let cost = measured(&mut self.moon(&["--json", "backup"]));
        let report: Value = serde_json::from_str(&cost.said).expect("a report");
        assert_eq!(report["data"]["backup"]["proof"], "restored");
        let made = report["data"]["backup"]["made_ms"].as_f64().expect("a time") / 1000.0;
        // Its proof goes on meanwhile: processor and memory are those of both together.
        backups
            .add("`moon backup` until the file is synced and noted", Cost { wall: made, said: String::new(), ..cost });
        backups.add("`moon backup`, proved by a restore", cost);
        backups.add("`moon backup verify`", measured(&mut self.moon(&["backup", "verify"])));
        let to = self.empty().display().to_string();
        restores.add("`moon restore --to`", measured(&mut self.moon(&["restore", "--to", &to])));
        let include = self.agent.display().to_string();
        let cost = measured(&mut self.moon(&["restore", "--yes", "--include", &include]));
        restores.add("`moon restore`, in place", cost);
        for entry in std::fs::read_dir(self.scratch.path()).expect("listable").flatten() {
            if entry.file_name().to_string_lossy().contains(".pre-restore-") {
                std::fs::remove_dir_all(entry.path()).expect("removed");
            }
        }
        if round == 0 {
            let one = files(&folder(&self.scratch)).pop().expect("a backup");
            let size = one.metadata().expect("there").len();
            println!("a backup has {size} bytes");
        }
    }

    fn tar_round(&self, backups: &mut Table, restores: &mut Table) {
        let (root, tar) = (self.scratch.path().display(), self.scratch.path().join("all.tar.zst"));
        let (tar, to) = (tar.display(), self.empty());
        let to = to.display();
        let pack = format!(
            "cd {root} && tar -cf - agent home/state home/archives home/memory | zstd -3 -q -f -o {tar} && sync {tar}"
        );
        backups.add("`tar \\| zstd -3`, synced", shell(&pack));
        backups.add("the same and `tar --diff`", shell(&format!("{pack} && zstd -dcq {tar} | tar -df -")));
        let unpack = format!("mkdir {to} && tar --zstd -xf {tar} -C {to}");
        restores.add("`tar --zstd -xf`", shell(&unpack));
        self.empty();
        restores.add("the same, synced", shell(&format!("{unpack} && sync -f {to}")));
        self.empty();
        let hash = format!("cd {to} && find . -type f -print0 | xargs -0 sha256sum > /dev/null");
        backups.add("`tar \\| zstd -3`, unpacked and hashed", shell(&format!("{pack} && {unpack} && {hash}")));
        self.empty();
    }

    fn restic_round(&self, round: usize, backups: &mut Table, restores: &mut Table) {
        let known = support::debian_command("restic").filter(|c| Path::new(c.get_program()).is_file());
        let Some(known) = known else { return support::skip("restic", "it is not unpacked") };
        let repository = self.scratch.path().join(format!("restic-{round}"));
        let restic = |words: &[&str]| {
            let mut command = Command::new(known.get_program());
            command.args(["-q", "-r"]).arg(&repository).args(words);
            command.env("RESTIC_PASSWORD", "x").env("HOME", self.scratch.path().join("user"));
            measured(&mut command)
        };
        restic(&["init"]);
        let (agent, home) = (self.agent.display().to_string(), self.scratch.home().display().to_string());
        let backed = restic(&["backup", &agent, &home, "--exclude", &format!("{home}/backups")]);
        let checked = restic(&["check", "--read-data"]);
        let (wall, cpu, peak) = (backed.wall + checked.wall, backed.cpu + checked.cpu, backed.peak.max(checked.peak));
        backups.add("`restic backup`, first", backed);
        backups.add("the same and `restic check --read-data`", Cost { wall, cpu, peak, said: String::new() });
        let to = self.empty().display().to_string();
        restores.add("`restic restore`", restic(&["restore", "latest", "--target", &to]));
        self.empty();
        restores.add("`restic restore --verify`", restic(&["restore", "latest", "--target", &to, "--verify"]));
        self.empty();
        std::fs::remove_dir_all(&repository).expect("removed");
    }
}
