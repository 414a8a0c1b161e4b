//! Restoring backups with the real program: hostile archives, interruptions, the daemon, the way back.
//!
//! Archives are written here by hand (`build.rs`), after the format in `docs/contracts.md`, not by `moon backup`: what one side
//! of a format writes wrongly the other must not forgive.

mod attacks;
mod build;
mod killed;
mod single;
#[path = "../support/mod.rs"]
mod support;
mod verbs;

use build::Parts;
use support::process::Scratch;

const FAST: [&str; 4] = ["--set", "watch.poll=1m", "--set", "supervision.retry_min=100ms"];

/// A home with an archive, a ledger and a day of memory, and a good archive of it.
fn lived_in() -> (Scratch, Parts) {
    let scratch = Scratch::new();
    let transcript = scratch.transcript("work");
    transcript.begin();
    (0..4).for_each(|n| _ = transcript.exchange(n, 20));
    scratch.run(&["watch", "--once"]).expect(0);
    std::fs::write(scratch.in_home("memory/2026-11-19.md"), "what was said\n").expect("a memory");
    std::fs::write(scratch.in_home("moon.toml"), "").expect("settings");
    let parts = Parts::of_home(&scratch.home());
    (scratch, parts)
}
