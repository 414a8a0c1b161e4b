//! The outermost layer as a user meets it: the built `moon` with an environment of its own, and the loader behind it.
//!
//! Every test gets its own folder as `HOME`; nothing of the machine's user is read or written.

mod check;
mod layers;
mod mistakes;
mod program;

use assert_cmd::Command;
use moon::config::{Environment, Loaded, Problem, Sources, load};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a scratch folder") }
    }
    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }
    fn write(&self, below: &str, text: &str) -> PathBuf {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("folders");
        std::fs::write(&path, text).expect("written");
        path
    }
    fn moon(&self) -> Command {
        self.command(assert_cmd::cargo::cargo_bin!("moon"))
    }
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("HOME", self.folder.path()).current_dir(self.folder.path());
        command
    }
    fn sources(&self) -> Sources {
        let environment = Environment::from([("HOME".into(), self.folder.path().into())]);
        Sources { environment, installation: true, ..Sources::default() }
    }
    fn with_file(&self, text: &str) -> Sources {
        Sources { file: Some(self.write("given.toml", text)), ..self.sources() }
    }
}

fn set(mut sources: Sources, name: &str, value: &str) -> Sources {
    sources.environment.insert(name.into(), value.into());
    sources
}

fn loaded(sources: &Sources) -> Loaded {
    load(sources).unwrap_or_else(|problems| panic!("should load: {}", lines(&problems).join("\n")))
}

fn problems(sources: &Sources) -> Vec<String> {
    lines(&load(sources).expect_err("should be refused"))
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn json(command: &mut Command) -> (Value, i32) {
    let output = command.output().expect("runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}"));
    (value, output.status.code().expect("ended by itself"))
}
