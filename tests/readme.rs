//! The recording on the first screen is what the program says: `moon demo` is run and compared with README.md.
//!
//! Only what may differ between two runs is masked: seconds, the day, scores, and how the records fell into segments. The number
//! of records is not: one more is a record that was archived twice.

use std::process::Command;

/// Masks figures that depend on machine, day and timing.
fn stable(text: &str) -> Vec<String> {
    let mask = |line: &str| -> String {
        let day = |word: &str| word.starts_with("memory/") && word.ends_with(".md");
        let words: Vec<&str> = line.split(' ').collect();
        let is_masked = |at: usize| {
            day(words[at])
                || words[at].starts_with("archives/objects/")
                || words.get(at + 1) == Some(&"s,")
                || words.get(at + 1).is_some_and(|next| next.starts_with("segments"))
                || at > 0 && words[at - 1] == "score"
        };
        let shown = (0..words.len()).map(|at| if is_masked(at) { "…" } else { words[at] });
        shown.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    text.trim().lines().map(mask).collect()
}

#[test]
fn the_recording_in_the_readme_is_what_moon_demo_says() {
    let readme = include_str!("../README.md");
    let recorded = readme.split("$ moon demo\n").nth(1).and_then(|rest| rest.split("\n```").next());
    let recorded = stable(recorded.expect("README.md opens with a recording"));
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let output = Command::new(assert_cmd::cargo::cargo_bin!("moon"))
        .arg("demo")
        .env_clear()
        .env("HOME", scratch.path())
        .env("TMPDIR", scratch.path())
        .output()
        .expect("starts");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stable(&said), recorded, "record `moon demo` anew in README.md");
    assert!(recorded.len() > 15 && recorded.iter().any(|line| line.contains("rolled over")), "{recorded:?}");
}
