//! How far a backup or a restore is, on a terminal. Commentary: it goes to stderr, and nowhere else than on a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use moon_actors::contract::Request;
use moon_actors::port::{Progress, Step, Watch};
use std::sync::Arc;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(200);
const KNOWN: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {eta}";
const UNKNOWN: &str = "{spinner} {msg} {bytes} {bytes_per_sec}";

/// Gone when it is dropped.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar for requests that take long; nothing for others. indicatif hides it where stderr is no terminal.
    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::Backup | Request::Drill | Request::VerifyBackup { .. } => Self(ProgressBar::new_spinner()),
            _ => Self(ProgressBar::hidden()),
        }
    }

    /// A bar for work of so many bytes.
    pub(super) fn to(bytes: u64, what: &'static str) -> Self {
        Self(ProgressBar::new(bytes).with_message(what).with_style(style(KNOWN)))
    }

    pub(super) fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// A sign of life while a daemon does it.
    pub(super) fn waiting(request: &Request) -> Self {
        let bar = Self::of(request);
        if !bar.0.is_hidden() {
            bar.0.set_message("the daemon is at work");
            bar.0.enable_steady_tick(TICK);
        }
        bar
    }

    pub(super) fn watch(&self) -> Watch {
        let bar = self.0.clone();
        let (known, unknown) = (style(KNOWN), style(UNKNOWN));
        Arc::new(move |progress: Progress| {
            if bar.is_hidden() {
                return;
            }
            let what = match progress.step {
                Step::Write => "writing",
                Step::Verify => "restoring to compare",
                Step::Send => "sending",
            };
            if bar.length() != progress.of || bar.message() != what {
                bar.set_style(if progress.of.is_some() { known.clone() } else { unknown.clone() });
                bar.set_message(what);
                match progress.of {
                    Some(of) => bar.set_length(of),
                    None => bar.unset_length(),
                }
            }
            bar.set_position(progress.bytes);
        })
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
