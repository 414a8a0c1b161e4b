//! How far a backup or a restore is, on a terminal. Commentary: it goes to stderr, and nowhere else than on a terminal.

use super::output::to_stderr;
use indicatif::{ProgressBar, ProgressStyle};
use moon_actors::contract::Request;
use moon_actors::port::{Progress, Step, Watch};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

const TICK: Duration = Duration::from_millis(200);
const KNOWN: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {eta}";
const UNKNOWN: &str = "{spinner} {msg} {bytes} {bytes_per_sec}";

/// What a person is told who cuts it off.
const CUT_OFF: &str = "interrupted";
const CUT_OFF_FROM_DAEMON: &str = "interrupted: the daemon goes on with it";
const CUT_OFF_RESTORE: &str = "interrupted: nothing was restored, and everything is as it was";

const CUT_OFF_AWAY: &str = "interrupted: nothing was restored; the daemon was told to make way: see `moon status`";
const CUT_OFF_DONE: &str = "interrupted: what was to be restored is in its place";
const NOT_CUT_OFF: &str = "interrupted: what is restored is put in its place first, and the command goes on to its end";

/// What a signal meets.
struct Listening {
    /// The one on the terminal.
    bar: Option<ProgressBar>,
    /// What is said when a signal ends the process: it stands when its bar is gone, until another takes its place.
    word: Option<&'static str>,
    /// What is under way is not to be cut off.
    waits: bool,
}

static LISTENING: Mutex<Listening> = Mutex::new(Listening { bar: None, word: None, waits: false });

fn listening() -> MutexGuard<'static, Listening> {
    LISTENING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives no SIGINT and no SIGTERM ends the process: whoever sends one is told so, and the command goes on to its end. For
/// what takes a moment and would be left half-done.
pub(super) struct Uninterrupted(());

impl Uninterrupted {
    pub(super) fn begin() -> Self {
        listen();
        listening().waits = true;
        Self(())
    }

    /// Who interrupts what comes behind it is told that it is done.
    pub(super) fn done(&self) {
        listening().word = Some(CUT_OFF_DONE);
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        listening().waits = false;
    }
}

/// A question waits, and nothing was touched before its answer.
pub(super) fn asks() {
    listen();
    listening().word = Some(CUT_OFF_RESTORE);
}

/// From now on a daemon is not where it was, whoever interrupts.
pub(super) fn makes_way() {
    listen();
    listening().word = Some(CUT_OFF_AWAY);
}

/// Gone when it is dropped, and when a signal ends the process.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar for requests that take long; nothing for others. indicatif hides it where stderr is no terminal.
    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::Backup | Request::Drill | Request::VerifyBackup { .. } => {
                Self::shown(ProgressBar::new_spinner(), CUT_OFF)
            }
            _ => Self(ProgressBar::hidden()),
        }
    }

    /// A bar for the bytes that a restore reads before it touches anything.
    pub(super) fn of_restore(bytes: u64) -> Self {
        let bar = ProgressBar::new(bytes).with_message("verifying and unpacking").with_style(style(KNOWN));
        Self::shown(bar, CUT_OFF_RESTORE)
    }

    fn shown(bar: ProgressBar, cut_off: &'static str) -> Self {
        if !bar.is_hidden() {
            {
                let mut listening = listening();
                (listening.bar, listening.word) = (Some(bar.clone()), Some(cut_off));
            }
            listen();
        }
        Self(bar)
    }

    pub(super) fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// A sign of life while a daemon does it.
    pub(super) fn waiting(request: &Request) -> Self {
        let bar = Self::of(request);
        if !bar.0.is_hidden() {
            listening().word = Some(CUT_OFF_FROM_DAEMON);
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
        if !self.0.is_hidden() {
            listening().bar = None;
        }
        self.0.finish_and_clear();
    }
}

/// Takes the bar away before a signal ends the process, which would leave the next prompt behind half a line. Listens until the end: a
/// signal that was listened to once does nothing by itself any more.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (begun, begins) = std::sync::mpsc::channel();
        let wait = move || {
            let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
            let _ = begun.send(());
            signals.forever().for_each(heard);
        };
        // Without a thread the signal ends the process as ever, and nothing is waited for.
        if std::thread::Builder::new().name("moon-signals".into()).spawn(wait).is_ok() {
            let _ = begins.recv();
        }
    });
}

fn heard(signal: i32) {
    // Held: nothing is drawn or said behind it.
    let listening = listening();
    let word = if listening.waits { Some(NOT_CUT_OFF) } else { listening.word };
    let break_line = match &listening.bar {
        Some(bar) => {
            bar.finish_and_clear();
            ""
        }
        // Behind the `^C` that a terminal shows, and behind a question.
        None if std::io::stderr().is_terminal() => "\n",
        None => "",
    };
    word.inspect(|word| to_stderr(&format!("{break_line}{word}\n")));
    if !listening.waits {
        // As it would have ended, so that a shell sees what ended it.
        let _ = emulate_default_handler(signal);
    }
}
