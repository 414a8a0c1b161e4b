//! What the tests that meet real programs share: a model that answers by order, and a real OpenClaw gateway.
//!
//! A program that is not installed makes a test skip itself by name, never pass silently: [`skip`] prints the line and
//! appends it to the file that `tests/run` counts.

#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(unreachable_pub, reason = "a module of tests has no crate around it")]
#![allow(clippy::print_stdout, reason = "a skip has to be seen")]

pub mod browser;
pub mod container;
pub mod gateway;
pub mod mock_model;
pub mod process;
pub mod worker;

use std::io::Write;
use std::path::{Path, PathBuf};

/// The installed OpenClaw and the node that runs it.
#[derive(Clone, Debug)]
pub struct Peers {
    pub node: PathBuf,
    /// `openclaw.mjs`
    pub openclaw: PathBuf,
}

/// What `tests/run` installed into `target/peers`, if it is all there.
pub fn peers() -> Option<Peers> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let openclaw = root.join("node_modules/openclaw/openclaw.mjs");
    let nodes = std::fs::read_dir(root.join("node/node_modules")).ok()?;
    let node = nodes.flatten().map(|entry| entry.path().join("bin/node")).find(|node| node.is_file())?;
    openclaw.is_file().then_some(Peers { node, openclaw })
}

/// Says that a check did not run, and why.
pub fn skip(name: &str, why: &str) {
    println!("SKIPPED {name}: {why}");
    if let Some(file) = std::env::var_os("MOON_TEST_SKIPS") {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(file).expect("the list of skips opens");
        // In one write: tests skip side by side, in several processes.
        file.write_all(format!("{name}: {why}\n").as_bytes()).expect("the list of skips takes a line");
    }
}

/// The peers, or a skip of the test `name`.
pub fn peers_or_skip(name: &str) -> Option<Peers> {
    let found = peers();
    if found.is_none() {
        skip(name, "OpenClaw is not installed in target/peers (tests/run installs it)");
    }
    found
}

/// What `tests/run` installed for Python programs: put it into `PYTHONPATH`.
pub fn python_peers() -> Option<PathBuf> {
    installed("python")
}

/// The root of the unpacked Debian packages: programs are in its `usr/bin` and need the libraries beside it: see [`debian_command`].
pub fn debian_peers() -> Option<PathBuf> {
    installed("debian")
}

fn installed(kind: &str) -> Option<PathBuf> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    peers.join(format!("{kind}.stamp")).is_file().then(|| peers.join(kind))
}

/// A command of an unpacked Debian package, with its libraries: the machine's own where it is not among them.
pub fn debian_command(program: &str) -> Option<std::process::Command> {
    let root = debian_peers()?;
    let places = ["usr/bin", "usr/sbin", "bin", "sbin"];
    let own = places.iter().map(|place| root.join(place).join(program)).find(|path| path.exists());
    let mut command = std::process::Command::new(own.unwrap_or_else(|| program.into()));
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let system = root.join("usr/lib").join(&triple);
    let libraries = [system.join("pulseaudio"), system, root.join("lib").join(&triple)];
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).expect("paths without colons"));
    Some(command)
}
