//! How far a backup is, on a terminal. Commentary: it goes to stderr, and nowhere else than on a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use moon_actors::contract::Request;
use moon_actors::port::{Progress, Step, Watch};
use std::sync::Arc;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(200);

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
        let known = "{msg} {wide_bar} {bytes}/{total_bytes} {eta}";
        let unknown = "{spinner} {msg} {bytes} {bytes_per_sec}";
        let style = |text: &str| ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_bar());
        let (known, unknown) = (style(known), style(unknown));
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

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
