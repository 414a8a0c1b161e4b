//! Other programs, run to their end: by argv and never a shell, with a deadline, with their pipes drained, with nothing left behind.
//!
//! A child sees only the environment it is given. What it prints is bounded. It must never outlive the call: the deadline, and a
//! dropped future, end its whole process group.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Most bytes kept of either stream; the rest is read and dropped.
const OUTPUT_LIMIT: usize = 1 << 20;

/// A child that came to its end.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// The beginning of what it printed, at most 1 MiB.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Ended {
    /// The first words of what it had to say for itself, on one line.
    pub fn excerpt(&self, characters: usize) -> String {
        let words = if self.stderr.is_empty() { &self.stdout } else { &self.stderr };
        let told = String::from_utf8_lossy(words).split_whitespace().collect::<Vec<_>>().join(" ");
        told.chars().take(characters).collect()
    }
}

/// Why there is no end to speak of.
#[derive(Debug)]
pub enum Failure {
    NotStarted(io::Error),
    /// It was still running at the deadline and was killed.
    TooLong,
    Lost(io::Error),
}

/// Whether this is a program that we may run.
pub fn runs(program: &Path) -> bool {
    program.is_file() && rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Runs `command` (program and arguments set) with exactly this environment and input.
pub async fn run(
    mut command: Command,
    environment: impl IntoIterator<Item = (String, std::ffi::OsString)>,
    input: &[u8],
    deadline: Duration,
) -> Result<Ended, Failure> {
    let mut child = command
        .env_clear()
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::NotStarted)?;
    let mut group = Group::of(child.id());
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let whole = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A command that does not read its input says why in its exit status.
                let _ = stdin.write_all(input).await;
            }
        };
        let (status, (), stdout, stderr) = tokio::join!(child.wait(), feed, drain(stdout), drain(stderr));
        (status, stdout, stderr)
    };
    let Ok((status, stdout, stderr)) = tokio::time::timeout(deadline, whole).await else {
        drop(group);
        return Err(Failure::TooLong);
    };
    group.spare();
    Ok(Ended { status: status.map_err(Failure::Lost)?, stdout, stderr })
}

/// Ends the whole process group when the command is given up (deadline, dropped future): it may have started others.
pub(crate) struct Group(Option<u32>);

impl Group {
    /// The group that a child started with `process_group(0)` leads, by the child's id.
    pub(crate) fn of(leader: Option<u32>) -> Self {
        Self(leader)
    }
    /// What it started besides may go on.
    pub(crate) fn spare(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Nobody left to signal is as good.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

async fn drain(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return kept };
    let mut piece = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let room = OUTPUT_LIMIT - kept.len();
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_child_gets_its_input_and_nothing_of_our_environment() {
        let given = [("GIVEN".to_owned(), "yes".into())];
        let ended = run(shell("cat; echo \" $GIVEN $HOME\"; exit 3"), given, b"in", Duration::from_secs(20)).await;
        let ended = ended.expect("it ends");
        assert_eq!((ended.status.code(), ended.excerpt(100).as_str()), (Some(3), "in yes"));
    }

    #[tokio::test]
    async fn a_child_that_never_ends_is_killed_with_all_it_started() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let mark = scratch.path().join("alive");
        let script = format!("(sleep 1; touch {}) & sleep 60", mark.display());
        let outcome = run(shell(&script), [], b"", Duration::from_millis(200)).await;
        assert!(matches!(outcome, Err(Failure::TooLong)), "{outcome:?}");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!mark.exists(), "a grandchild went on");
    }

    #[tokio::test]
    async fn what_a_child_prints_is_drained_and_bounded() {
        let ended = run(shell("head -c 3000000 /dev/zero"), [], b"", Duration::from_secs(20)).await.expect("it ends");
        assert!(ended.status.success());
        assert_eq!(ended.stdout.len(), OUTPUT_LIMIT);
    }
}
