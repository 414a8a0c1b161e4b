//! A program of the machine's, run to its end: by words, with a deadline, with its pipes drained, with nothing left behind.
//!
//! Never through a shell. What it prints is bounded. It sees the environment it needs to find its service manager, and nothing
//! that could carry a secret.

use moon_actors::{Error, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Most bytes kept of either stream; the rest is read and dropped.
const OUTPUT_LIMIT: u64 = 4 << 20;
const LOOK: Duration = Duration::from_millis(10);

/// What a service manager's program needs to find the manager.
const PASSED: [&str; 12] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "SYSTEMD_IGNORE_CHROOT",
];

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn is_ok(&self) -> bool {
        self.code == Some(0)
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
    /// The first words of what it complained of.
    pub fn complaint(&self) -> String {
        let told = if self.stderr.trim().is_empty() { self.text() } else { self.stderr.clone() };
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        let told: String = told.chars().take(300).collect();
        if told.is_empty() { format!("it ended with {:?}", self.code) } else { told }
    }
}

/// Runs it. Errors: `service.program_missing`, `service.program_timeout`, `service.program_io`.
pub fn run(program: &OsStr, words: &[OsString], input: &[u8], deadline: Duration) -> Result<Ran> {
    let shown = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let shown = format!("{} {shown}", program.to_string_lossy());
    let failed = |e: io::Error| Error::transient("service.program_io", format!("could not run {shown}")).cause(e);
    let mut child = Command::new(program)
        .args(words)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(|name| PASSED.contains(&name))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                Error::unavailable("service.program_missing", format!("{} cannot be run", program.to_string_lossy()))
                    .cause(e)
                    .hint("install it, or see `moon service print` for what to give to the service manager by hand")
            }
            _ => failed(e),
        })?;
    let (out, err) = (read(child.stdout.take()), read(child.stderr.take()));
    let feed = feed(&mut child, input);
    let status = wait(&mut child, deadline).map_err(failed)?;
    let Some(status) = status else {
        return Err(Error::transient(
            "service.program_timeout",
            format!("{shown}: no end within {} s", deadline.as_secs()),
        )
        .hint("run it by hand to see what it waits for"));
    };
    // Whoever it left behind would hold the pipes open.
    end_group(&child);
    let _ = feed.join();
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    let (stdout, stderr) = (text(out), text(err));
    Ok(Ran { code: status.code(), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
}

/// The same with plain words and nothing to read.
pub fn call(program: &str, words: &[&str], deadline: Duration) -> Result<Ran> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    run(OsStr::new(program), &words, b"", deadline)
}

/// `None` when the deadline came first; then the whole group is gone.
fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() >= deadline {
            end_group(child);
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

fn end_group(child: &Child) {
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        // Nobody left to signal is as good.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn feed(child: &mut Child, input: &[u8]) -> std::thread::JoinHandle<()> {
    let (stdin, input) = (child.stdin.take(), input.to_vec());
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input says why in its exit code.
            let _ = stdin.write_all(&input);
        }
    })
}

fn read(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.by_ref().take(OUTPUT_LIMIT).read_to_end(&mut kept);
            let _ = io::copy(&mut stream, &mut io::sink());
        }
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended_with_all_its_children() {
        let begun = Instant::now();
        let error = call("sh", &["-c", "sleep 60 & sleep 60"], Duration::from_millis(200)).expect_err("hangs");
        assert_eq!(error.code, "service.program_timeout");
        assert!(begun.elapsed() < Duration::from_secs(5), "its child held the pipe: {:?}", begun.elapsed());
    }

    #[test]
    fn words_output_and_code_come_back_and_a_missing_program_is_named() {
        let words = ["-c", "cat; echo oops >&2; exit 3"].map(OsString::from);
        let ran = run(OsStr::new("sh"), &words, b"fed", Duration::from_secs(10)).expect("runs");
        assert_eq!((ran.code, ran.text().as_str(), ran.complaint().as_str()), (Some(3), "fed", "oops"));
        let error = call("no-such-program-of-moons", &[], Duration::from_secs(1)).expect_err("missing");
        assert_eq!(error.code, "service.program_missing");
    }
}
