//! Backups by the real program: under writers, through kills and full disks, encrypted, in a store, and every flipped bit found.
//!
//! `MOON_TEST_CAMPAIGN=1 cargo test --test backup -- campaign --nocapture` runs the long forms: 100 backups, 200 flipped bits; with
//! `MOON_BENCH_BINARY=target/release/moon` by that program.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod content;
mod elsewhere;
mod keeping;
mod proof;
mod writers;

use moon::adapters::backup::format::{self, Manifest};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::process::{Ran, Scratch};

/// A home with something archived, and a folder of the user's.
fn ready() -> Scratch {
    let scratch = Scratch::new();
    scratch.transcript("work").exchange(1, 50).exchange(2, 50);
    scratch.run(&["watch", "--once"]).expect(0);
    std::fs::create_dir_all(scratch.path().join("agent/deep/er")).expect("folders");
    std::fs::write(scratch.path().join("agent/deep/er/unknown.xyz"), b"kept").expect("a file");
    scratch
}

/// `moon` with the user's folder included.
fn with_agent(scratch: &Scratch, words: &[&str]) -> Command {
    let include = format!("backup.include=[\"{}\"]", scratch.path().join("agent").display());
    let mut all = vec!["--set", &include];
    all.extend(words);
    scratch.moon(&all)
}

/// The same command with the program that `MOON_BENCH_BINARY` names, if it names one: campaigns are long.
fn released(command: Command) -> Command {
    let Some(binary) = std::env::var_os("MOON_BENCH_BINARY") else { return command };
    let mut other = Command::new(Path::new(&binary).canonicalize().expect("the program is there"));
    other.env_clear().args(command.get_args()).stdin(Stdio::null());
    for (key, value) in command.get_envs() {
        other.env(key, value.unwrap_or_default());
    }
    other
}

fn folder(scratch: &Scratch) -> PathBuf {
    scratch.in_home("backups/moon")
}

/// Names of the files of backups.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut found: Vec<_> = entries
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| format::parse_name(n).is_some()))
        .collect();
    // Several within one second are told apart by a number, which is no order of names.
    found.sort_by_key(|path| path.metadata().and_then(|m| m.modified()).expect("a time"));
    found
}

fn unpacked(file: &Path, to: &Path) -> PathBuf {
    let packed = std::fs::File::open(file).expect("a backup opens");
    tar::Archive::new(zstd::Decoder::new(packed).expect("zstd")).unpack(to).expect("it unpacks");
    let id = format::parse_name(file.file_name().and_then(|n| n.to_str()).expect("a name"))
        .expect("of a backup")
        .0
        .to_owned();
    to.join(id)
}

fn manifest(top: &Path) -> Manifest {
    serde_json::from_slice(&std::fs::read(top.join("manifest.json")).expect("a manifest")).expect("JSON")
}

fn issues(ran: &Ran) -> Vec<String> {
    let report = ran.report();
    let all = report["issues"].as_array().cloned().unwrap_or_default();
    all.iter().map(|i| i["code"].as_str().unwrap_or_default().to_owned()).collect()
}
