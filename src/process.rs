//! Whether a process is there.
//!
//! A number alone is no proof of who it is: numbers come again. It says that something with this number lives, no more.

use rustix::process::{Pid, test_kill_process};

/// True if the process exists, whoever it belongs to: somebody else's may not be signalled, but it is there.
pub(crate) fn lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_are_told_from_the_numbers_of_nobody() {
        assert!(lives(std::process::id()) && lives(1));
        assert!(!lives(0) && !lives(4_194_305) && !lives(u32::MAX));
    }
}
