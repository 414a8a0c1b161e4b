//! Runs a program of the settings to its end: by its arguments, never through a shell, with a deadline and nothing left behind.
//!
//! It sees only the environment that programs need to find themselves and none of Moon's own variables. Its output is bounded: what
//! is beyond is read and dropped.

use crate::child::Group;
use std::fmt;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// Most bytes kept of either stream.
const OUTPUT_LIMIT: usize = 64 << 10;
/// A program that has ended may have left others behind that keep its streams open: they are not waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);

const PASSED: [&str; 14] = [
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
];

/// How it ended and what it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Why there is no end.
#[derive(Debug)]
pub enum Failed {
    Start(io::Error),
    Deadline(Duration),
    Wait(io::Error),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(e) => write!(f, "it could not be started: {e}"),
            Self::Deadline(limit) => write!(f, "no end within {}", humantime::format_duration(*limit)),
            Self::Wait(e) => write!(f, "it could not be waited for: {e}"),
        }
    }
}

/// Runs it. Dropped or beyond its deadline, the whole process group is killed.
pub async fn run(argv: &[String], deadline: Duration) -> Result<Ended, Failed> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Failed::Start(io::ErrorKind::InvalidInput.into()));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(PASSED.iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(Failed::Start)?;
    let _group = Group::of(child.id());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let whole = async {
        let drained = async { tokio::join!(drain(stdout, &mut out), drain(stderr, &mut err)) };
        tokio::pin!(drained);
        let status = tokio::select! {
            status = child.wait() => status,
            _ = &mut drained => return child.wait().await,
        };
        let _ = tokio::time::timeout(LAST_WORDS, drained).await;
        status
    };
    let status = tokio::time::timeout(deadline, whole).await.map_err(|_| Failed::Deadline(deadline))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { status: status.map_err(Failed::Wait)?, stdout: text(&out), stderr: text(&err) })
}

async fn drain(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut piece = vec![0; 8 << 10];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let room = OUTPUT_LIMIT - kept.len();
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
}
