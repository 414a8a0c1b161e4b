//! The asynchronous runtimes: a small one for commands, a larger one for the daemon.
//!
//! Memory is the reason for the sizes: each worker thread costs a stack, and a heap of its own if it may. A runtime must never
//! let the file-size limit kill the process, because a full log would then end the watching.

use moon_actors::{Error, Result};
use std::future::Future;
#[cfg(target_env = "gnu")]
use std::os::unix::ffi::OsStrExt as _;
#[cfg(target_env = "gnu")]
use std::path::PathBuf;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// Worker threads of the daemon: one may be busy hashing while the other answers.
const DAEMON_WORKERS: usize = 2;

/// Threads for blocking work (files, SQLite), made on demand. Few, because each holds what it works on: archiving 100 MB with a heap for
/// each thread peaked at 137 MiB with 16 of them and at 78 MiB with 4, at the same speed.
const BLOCKING_THREADS: usize = 4;

/// Begins this process again with one heap for all its threads, unless somebody has said how many it may have. Each of them would
/// get one of its own from glibc and keep what it no longer uses: with one heap archiving 100 MB peaks at 40 MiB instead of 79, at the
/// same speed. It can only be said by a variable, before the start; programs that Moon runs do not see it. Best effort: a daemon with more
/// heaps works as well.
#[cfg(target_env = "gnu")]
pub fn in_one_heap() {
    use std::os::unix::process::CommandExt as _;
    const HEAPS: &str = "MALLOC_ARENA_MAX";
    let mut words = std::env::args_os();
    let (None, Some(own_name), Some(program)) = (std::env::var_os(HEAPS), words.next(), program()) else {
        return;
    };
    let _ = std::process::Command::new(program).arg0(own_name).args(words).env(HEAPS, "1").exec();
}

/// The file that this process was started from, if it is this program: told to run a program (`ld.so moon watch`), the loader is what
/// the system has started, and cannot be started again with the program's words. What holds this function is the program.
#[cfg(target_env = "gnu")]
fn program() -> Option<PathBuf> {
    let started = std::env::current_exe().ok()?;
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let here = in_one_heap as fn() as usize;
    let mapped = maps.split(|byte| *byte == b'\n').find_map(|line| mapped_at(line, here))?;
    (mapped == started.as_os_str().as_bytes()).then_some(started)
}

/// The file of a line such as `55d0-55d8 r-xp 00000000 fe:00 1234   /usr/bin/moon`, if the address lies within.
#[cfg(target_env = "gnu")]
fn mapped_at(line: &[u8], address: usize) -> Option<&[u8]> {
    let range = line.split(|byte| *byte == b' ').next()?;
    let (from, to) = std::str::from_utf8(range).ok()?.split_once('-')?;
    let bound = |text: &str| usize::from_str_radix(text, 16).ok();
    let file = line.iter().position(|byte| *byte == b'/')?;
    (bound(from)?..bound(to)?).contains(&address).then(|| &line[file..])
}

/// Other allocators have their own ways.
#[cfg(not(target_env = "gnu"))]
pub fn in_one_heap() {}

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
