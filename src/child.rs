//! Other programs, run to their end: by their words and never through a shell, within a limit, with bounded output.
//!
//! This is the one way in which Moon runs a program and hears how it went: checks, remedies, alert routes, the session host's own
//! command, log writers, `systemctl`, `crontab`. What a program sees of Moon's environment is chosen by each caller, in words.
//! Everything is awaited, so that no thread of a runtime is held up. A program must never outlive the call that runs it: its
//! limit, and a dropped future, end its whole process group.

use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Most bytes kept of either stream, unless a caller says otherwise; the rest is read and dropped.
const KEPT: usize = 1 << 20;
/// A program that has ended may have left others behind that keep its streams open: they are not waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Most characters of a complaint.
const COMPLAINT: usize = 300;

/// What a program needs to find itself, its user and the user's session. Nothing here carries a secret or a setting of Moon's.
const PLAIN: [&str; 15] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "SYSTEMD_IGNORE_CHROOT",
];

/// What a program finds in its environment.
#[derive(Clone, Debug)]
pub enum Variables {
    /// All of Moon's own, its settings and secrets too: for Moon itself alone.
    Inherited,
    /// These and nothing else.
    Only(Vec<(OsString, OsString)>),
}

impl Variables {
    /// The plain ones of this process.
    pub fn plain() -> Self {
        Self::plain_of(&std::env::vars_os().collect())
    }

    /// The plain ones of an environment.
    pub fn plain_of(environment: &BTreeMap<OsString, OsString>) -> Self {
        let found = PLAIN.iter().filter_map(|name| environment.get_key_value(OsStr::new(name)));
        Self::Only(found.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

/// A program with everything it is run with.
#[derive(Debug)]
pub struct Program {
    command: Command,
    input: Vec<u8>,
    limit: Option<Duration>,
    kept: usize,
    starts_others: bool,
}

impl Program {
    /// A bare name is looked up in the `PATH` that the program is given.
    pub fn new(
        program: impl AsRef<OsStr>,
        words: impl IntoIterator<Item = impl AsRef<OsStr>>,
        variables: Variables,
    ) -> Self {
        let mut command = Command::new(program);
        command.args(words);
        if let Variables::Only(variables) = variables {
            command.env_clear().envs(variables);
        }
        Self { command, input: Vec::new(), limit: None, kept: KEPT, starts_others: false }
    }

    /// A program and its words as the settings name them.
    pub fn of(argv: &[String], variables: Variables) -> Self {
        let program = argv.first().map(String::as_str).unwrap_or_default();
        Self::new(program, argv.iter().skip(1), variables)
    }

    /// What it reads; nothing without it.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// How long it may take. Without it the caller's own limit ends it, by dropping the future.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Most bytes kept of either stream.
    pub fn keep(mut self, bytes: usize) -> Self {
        self.kept = bytes;
        self
    }

    /// It is there to start others: what it leaves behind goes on, whatever that holds on to. Nobody would read their words, and
    /// a stream that nobody reads ends its writer: so nothing that is said is heard, its own words neither.
    pub fn starts_others(mut self) -> Self {
        self.starts_others = true;
        self
    }

    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs it to its end. What it started besides may go on if it has let go of the streams by then, as one does that is meant to
    /// stay; else it ends, too.
    pub async fn run(mut self) -> Result<Ended, Failure> {
        let stdin = if self.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let said = || if self.starts_others { Stdio::null() } else { Stdio::piped() };
        let streams = self.command.stdin(stdin).stdout(said()).stderr(said());
        let mut child = streams.process_group(0).kill_on_drop(true).spawn().map_err(Failure::NotStarted)?;
        // Declared behind the child: it ends the group before anybody collects its leader.
        let mut group = Group(child.id());
        let limit = self.limit.unwrap_or(Duration::MAX);
        let heard = tokio::time::timeout(limit, hear(&mut child, &self.input, self.kept)).await;
        let (status, is_silent, stdout, stderr) = heard.map_err(|_| Failure::TooLong(limit))?;
        if is_silent {
            group.spare();
        }
        Ok(Ended { status: status.map_err(Failure::Lost)?, stdout, stderr })
    }
}

/// How it ended, whether nobody holds its streams any more, and what it said.
async fn hear(child: &mut Child, input: &[u8], kept: usize) -> (io::Result<ExitStatus>, bool, Vec<u8>, Vec<u8>) {
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input says why in its exit status.
            let _ = stdin.write_all(input).await;
        }
    };
    let mut talk = Box::pin(async {
        tokio::join!(feed, beginning(out, kept, &mut stdout), end(err, kept, &mut stderr));
    });
    let (status, is_silent) = tokio::select! {
        status = child.wait() => (status, tokio::time::timeout(LAST_WORDS, &mut talk).await.is_ok()),
        () = &mut talk => (child.wait().await, true),
    };
    drop(talk);
    let over = stderr.len().saturating_sub(kept);
    (status, is_silent, stdout, stderr.split_off(over))
}

/// Reads to the end and keeps the beginning: an answer is read from there.
async fn beginning(stream: Option<impl AsyncRead + Unpin>, most: usize, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut piece = vec![0; 8 << 10];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let room = most - kept.len();
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
}

/// Reads to the end and keeps at least the last `most` bytes: that is where a program says why it ended.
async fn end(stream: Option<impl AsyncRead + Unpin>, most: usize, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut piece = vec![0; 8 << 10];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        if kept.len() + read > 2 * most {
            kept.drain(..kept.len().saturating_sub(most));
        }
        kept.extend_from_slice(&piece[..read]);
    }
}

/// A program that came to its end.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// The beginning of what it answered.
    pub stdout: Vec<u8>,
    /// The end of what it complained of.
    pub stderr: Vec<u8>,
}

impl Ended {
    pub fn is_ok(&self) -> bool {
        self.status.success()
    }

    /// What it answered.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it had to say for itself, on one line: a long text with its first and its last words.
    pub fn excerpt(&self, characters: usize) -> String {
        let complaint = String::from_utf8_lossy(&self.stderr);
        let said = if complaint.trim().is_empty() { String::from_utf8_lossy(&self.stdout) } else { complaint };
        let said: Vec<char> = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect();
        if said.len() <= characters {
            return said.into_iter().collect();
        }
        let half = characters.saturating_sub(3) / 2;
        let (first, last) = (&said[..half], &said[said.len() - half..]);
        first.iter().chain(&[' ', '…', ' ']).chain(last).collect()
    }

    /// The same; how it ended, where it said nothing.
    pub fn complaint(&self) -> String {
        let said = self.excerpt(COMPLAINT);
        if said.is_empty() { format!("it ended with {}", self.status) } else { said }
    }
}

/// Why there is no end to speak of.
#[derive(Debug)]
pub enum Failure {
    NotStarted(io::Error),
    /// It was still running after so long, and was killed.
    TooLong(Duration),
    Lost(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(e) => write!(f, "it could not be started: {e}"),
            Self::TooLong(limit) => write!(f, "no end within {}", humantime::format_duration(*limit)),
            Self::Lost(e) => write!(f, "it could not be waited for: {e}"),
        }
    }
}

/// Whether this is a program that we may run.
pub fn runs(program: &Path) -> bool {
    program.is_file() && rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok()
}

/// The same of a name in the folders of a `PATH`.
pub fn runs_from(path: &OsStr, name: impl AsRef<Path>) -> bool {
    std::env::split_paths(path).any(|folder| runs(&folder.join(&name)))
}

/// The process group of a child, by its leader: it may have started others. Ends with its owner, unless it is spared.
struct Group(Option<u32>);

impl Group {
    fn spare(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_os = "linux")]
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Program {
        Program::new("/bin/sh", ["-c", script], Variables::Only(Vec::new())).within(LONG)
    }

    /// Whether a process still runs; one that nobody has collected yet does not.
    #[cfg(target_os = "linux")]
    fn runs(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    #[cfg(target_os = "linux")]
    async fn gone(pid: &str) {
        let begun = Instant::now();
        while runs(pid) {
            assert!(begun.elapsed() < LONG, "process {pid} goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn what_a_starter_leaves_behind_goes_on_and_can_still_speak() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = "(sleep 0.2; echo alive; echo spoken > done; sleep 60) & echo $! > pid";
        let ended = shell(script).in_folder(folder.path()).starts_others().run().await.expect("it ends");
        assert!(ended.is_ok());
        let begun = Instant::now();
        while !folder.path().join("done").exists() {
            assert!(begun.elapsed() < LONG, "it was ended, or by its own words");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pid = std::fs::read_to_string(folder.path().join("pid")).expect("written").trim().to_owned();
        assert!(runs(&pid));
        let leader = rustix::process::Pid::from_raw(pid.parse().expect("a number")).expect("not null");
        rustix::process::kill_process(leader, Signal::KILL).expect("ours");
    }

    #[tokio::test]
    async fn a_program_gets_its_words_its_input_and_only_the_named_variables() {
        let given = Variables::Only(vec![("GIVEN".into(), "yes".into())]);
        let words = ["-c", "cat; echo \" $1 $GIVEN $HOME$CARGO_PKG_NAME\"; exit 3", "sh", "$(id) *"];
        let program = Program::new("/bin/sh", words, given).input("in").within(LONG);
        let ended = program.run().await.expect("it ends");
        assert_eq!((ended.status.code(), ended.text().as_str()), (Some(3), "in $(id) * yes \n"));
        let inherits = Program::new("/bin/sh", ["-c", "echo $CARGO_PKG_NAME"], Variables::Inherited).run().await;
        assert_eq!(inherits.expect("it ends").text(), "moon\n");
    }

    #[test]
    fn the_plain_variables_hold_nothing_of_moons() {
        let all = ["PATH", "MOON_HOME", "API_KEY", "HOME"].map(|name| (name.into(), "x".into())).into();
        let Variables::Only(plain) = Variables::plain_of(&all) else { panic!("not the plain ones") };
        assert_eq!(plain, [("HOME".into(), "x".into()), ("PATH".into(), "x".into())]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_program_that_never_ends_is_killed_with_all_it_started() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let started = scratch.path().join("pid");
        let script = format!("sleep 60 & echo $! > {0}.new; mv {0}.new {0}; wait", started.display());
        let begun = Instant::now();
        let outcome = shell(&script).within(Duration::from_millis(500)).run().await;
        assert!(matches!(outcome, Err(Failure::TooLong(_))), "{outcome:?}");
        assert!(begun.elapsed() < LONG, "its child held the streams: {:?}", begun.elapsed());
        gone(std::fs::read_to_string(&started).expect("it had begun").trim()).await;
        // The same when its owner loses interest.
        std::fs::remove_file(&started).expect("there");
        let task = tokio::spawn(shell(&script).run());
        while !started.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        task.abort();
        gone(std::fs::read_to_string(&started).expect("it had begun").trim()).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_it_leaves_behind_ends_unless_it_has_let_go_of_the_streams() {
        let begun = Instant::now();
        let holds = shell("sleep 60 & echo $!").run().await.expect("it ends");
        assert!(holds.is_ok() && begun.elapsed() < LONG);
        gone(holds.text().trim()).await;
        let lets_go = shell("sleep 60 > /dev/null 2>&1 & echo $!").run().await.expect("it ends");
        let pid = lets_go.text().trim().to_owned();
        assert!(runs(&pid), "a service that was started has to stay");
        let pid = Pid::from_raw(pid.parse().expect("a number")).expect("not zero");
        rustix::process::kill_process(pid, Signal::KILL).expect("it was there");
    }

    #[tokio::test]
    async fn output_is_bounded_and_the_last_complaint_is_kept() {
        let script = "head -c 300000 /dev/zero | tr '\\0' a; (echo first; head -c 300000 /dev/zero | tr '\\0' b; echo; echo the last words) >&2";
        let ended = shell(script).keep(1000).run().await.expect("it ends");
        assert_eq!((ended.stdout.len(), ended.stderr.len()), (1000, 1000));
        assert!(ended.stderr.ends_with(b"the last words\n"), "{}", ended.complaint());
        assert!(ended.excerpt(40).starts_with("bbb") && ended.excerpt(40).ends_with("the last words"));
        let silent = shell("exit 7").run().await.expect("it ends");
        assert_eq!((silent.excerpt(10).as_str(), silent.complaint().as_str()), ("", "it ended with exit status: 7"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_not_started() {
        for argv in [vec!["no-such-program-of-moons".to_owned()], vec![]] {
            let outcome = Program::of(&argv, Variables::plain()).within(LONG).run().await;
            assert!(matches!(&outcome, Err(Failure::NotStarted(_))), "{outcome:?}");
        }
    }
}
