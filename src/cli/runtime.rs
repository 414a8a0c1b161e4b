//! The asynchronous runtimes: a small one for commands, a larger one for the daemon.
//!
//! Idle memory is the reason for the sizes: each worker thread costs a stack and an allocator's arena. A runtime must never
//! let the file-size limit kill the process, because a full log would then end the watching.

use moon_actors::{Error, Result};
use std::future::Future;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// Worker threads of the daemon: one may be busy hashing while the other answers.
const DAEMON_WORKERS: usize = 2;

/// Threads for blocking work (files, SQLite), made on demand. Few, because each has a heap of its own in the system's
/// allocator: archiving 100 MB peaked at 137 MiB with 16 of them and at 78 MiB with 4, at the same speed.
const BLOCKING_THREADS: usize = 4;

/// Runs one command's future on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(start(&mut Builder::new_current_thread())?.block_on(future))
}

/// The runtime the daemon lives in.
pub fn daemon() -> Result<Runtime> {
    start(Builder::new_multi_thread().worker_threads(DAEMON_WORKERS).thread_name("moon"))
}

fn start(builder: &mut Builder) -> Result<Runtime> {
    let failed = |e: std::io::Error| Error::transient("cli.runtime", "could not start the runtime").cause(e);
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build().map_err(failed)?;
    let guard = runtime.enter();
    // Once a handler is there it stays: a write over the limit then fails with an error that is handled like a full disk.
    let file_size = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    drop(signal(file_size).map_err(failed)?);
    drop(guard);
    Ok(runtime)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_write_over_the_file_size_limit_is_an_error_and_not_the_end() {
        block_on(async {}).expect("starts");
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("signals that are caught");
        let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
        assert_ne!(caught & (1 << (rustix::process::Signal::XFSZ.as_raw() - 1)), 0);
    }
}
