//! The `moon` command: makes the process private, then hands over to [`moon::cli`].
//!
//! Nothing may come before the umask: whatever is created afterwards is readable by its owner only.

use std::process::ExitCode;

fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // A core dump would hold transcripts. Best effort: not every system can say no.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let no_core = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, no_core);
    moon::cli::main(std::env::args_os(), moon::config::process_environment()).into()
}
