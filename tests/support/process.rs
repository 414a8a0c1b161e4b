//! Runs the real program: one-shot commands, daemons that end with their test, and looks at what they left on disk.
//!
//! Every child gets an environment of its own (`HOME`, `PATH` and a temporary folder in the scratch), so that a test never
//! meets the installation of the machine it runs on. Nothing here waits longer than [`PATIENCE`].

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything; far beyond what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `found` gives something, or fails the test saying what it waited for.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(LOOK);
    }
}

/// A scratch folder with a home for Moon, a folder of transcripts and an empty `$HOME`.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("moon-test-").tempdir().expect("a scratch folder");
        let scratch = Self { folder };
        for name in ["user", "tmp", "transcripts"] {
            std::fs::DirBuilder::new().mode(0o700).create(scratch.path().join(name)).expect("a folder");
        }
        scratch
    }
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
    /// Moon's home; not made yet.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }
    pub fn in_home(&self, path: &str) -> PathBuf {
        self.home().join(path)
    }
    pub fn transcripts(&self) -> PathBuf {
        self.path().join("transcripts")
    }
    pub fn transcript(&self, name: &str) -> Transcript {
        Transcript::at(self.transcripts().join(format!("{name}.jsonl")))
    }

    /// `moon` with a clean environment and nothing said about home or host.
    pub fn bare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moon"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path().join("user")).env("TMPDIR", self.path().join("tmp"));
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }
    /// `moon` over the scratch home and the transcripts folder.
    pub fn moon(&self, words: &[&str]) -> Command {
        let mut command = self.bare();
        let folder = self.transcripts();
        command.arg("--home").arg(self.home()).args(["--set", "watch.host=transcripts"]);
        command.arg("--set").arg(format!("watch.transcripts_dir={}", folder.display())).args(words);
        command
    }
    /// Runs `moon` over the scratch home to its end.
    pub fn run(&self, words: &[&str]) -> Ran {
        Ran::of(&mut self.moon(words))
    }
    /// The same with `--json`; the report stands in [`Ran::report`].
    pub fn json(&self, words: &[&str]) -> Ran {
        Ran::of(self.moon(words).arg("--json"))
    }
    /// Starts a daemon and waits until it answers.
    pub fn daemon(&self, words: &[&str]) -> Daemon {
        let daemon = self.daemon_unasked(words);
        wait_for("the daemon's first answer", || {
            let status = Ran::of(self.bare().arg("--home").arg(self.home()).args(["ctl", "status", "--json"]));
            assert!(daemon.is_running(), "the daemon ended at once: {}", daemon.said());
            (status.report()["data"]["daemon"]["pid"] == json!(daemon.pid())).then_some(())
        });
        daemon
    }
    /// Starts a daemon and does not wait.
    pub fn daemon_unasked(&self, words: &[&str]) -> Daemon {
        let mut command = self.moon(&["watch", "--daemon"]);
        command.args(words);
        Daemon::start(command, self.path().join(format!("daemon-{}.said", uuid::Uuid::new_v4())))
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Runs to the end; a command that hangs fails the test.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let out = read_all(child.stdout.take().expect("piped"));
        let err = read_all(child.stderr.take().expect("piped"));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("{command:?} did not end within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = |reader: std::thread::JoinHandle<String>| reader.join().expect("a reader ends");
        Self { code: status.code(), signal: status.signal(), stdout: text(out), stderr: text(err) }
    }
    /// Fails the test unless the program ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
    /// stdout as JSON; null when it is none.
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or(Value::Null)
    }
}

fn read_all(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        from.read_to_end(&mut text).expect("a pipe is readable");
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// A running daemon; killed with its test.
pub struct Daemon {
    child: std::sync::Mutex<Child>,
    said: PathBuf,
    pid: u32,
}

impl Daemon {
    pub fn start(mut command: Command, said: PathBuf) -> Self {
        let file = std::fs::File::create(&said).expect("a file for what it says");
        let err = file.try_clone().expect("a second handle");
        let child = command.stdout(file).stderr(err).spawn().expect("the program starts");
        Self { pid: child.id(), child: std::sync::Mutex::new(child), said }
    }
    pub fn pid(&self) -> u32 {
        self.pid
    }
    /// stdout and stderr so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }
    pub fn is_running(&self) -> bool {
        self.child.lock().expect("one user").try_wait().expect("a child can be waited for").is_none()
    }
    /// Waits for its end.
    pub fn end(&self) -> std::process::ExitStatus {
        wait_for("the daemon's end", || self.child.lock().expect("one user").try_wait().expect("waits"))
    }
    /// SIGKILL, and waits.
    pub fn kill(&self) {
        let status = self.kill_or_end();
        assert_eq!(status.signal(), Some(9), "it ended by itself: {}", self.said());
    }
    /// SIGKILL, unless it ended before the signal came; how it ended.
    pub fn kill_or_end(&self) -> std::process::ExitStatus {
        let _ = self.child.lock().expect("one user").kill();
        self.end()
    }
    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).expect("a pid is not zero");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal to a child");
    }
    /// SIGHUP, without waiting.
    pub fn hang_up(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).expect("a pid is not zero");
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("a signal to a child");
    }
    /// SIGTERM, waits, and expects an orderly end.
    pub fn stop(&self) {
        self.terminate();
        let status = self.end();
        assert_eq!(status.code(), Some(0), "{status:?}: {}", self.said());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(mut child) = self.child.lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A file system of its own, unmounted with the test.
pub struct Disk(PathBuf);

impl Disk {
    /// None where this user may not mount one.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|m| m.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A transcript as an agent writes it.
#[derive(Clone, Debug)]
pub struct Transcript {
    path: PathBuf,
}

impl Transcript {
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Begins it with the record every transcript begins with.
    pub fn begin(&self) -> &Self {
        self.line(
            &json!({"type": "session", "version": 4, "id": "s", "timestamp": "2026-11-02T09:00:00Z", "cwd": "/srv"}),
        )
    }
    pub fn line(&self, record: &Value) -> &Self {
        self.raw(format!("{record}\n").as_bytes())
    }
    pub fn raw(&self, bytes: &[u8]) -> &Self {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
            .expect("a transcript opens");
        file.write_all(bytes).expect("a transcript takes a line");
        self
    }
    /// A question and its answer, numbered, with `words` words each.
    pub fn exchange(&self, number: usize, words: usize) -> &Self {
        let said = filler(number, words);
        self.line(&message(number, "u", &json!({"role": "user", "content": format!("question {number}: {said}")})));
        let block = json!([{"type": "text", "text": format!("answer {number}: {said}")}]);
        self.line(&message(number, "a", &json!({"role": "assistant", "content": block, "stopReason": "stop"})))
    }
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("a transcript is readable")
    }
}

/// A message record with an id made of the exchange and the speaker.
pub fn message(number: usize, who: &str, message: &Value) -> Value {
    json!({"type": "message", "id": format!("{who}{number:07x}"), "parentId": null,
        "timestamp": format!("2026-11-02T10:{:02}:{:02}Z", number / 60 % 60, number % 60), "message": message})
}

/// Words that differ from exchange to exchange.
pub fn filler(number: usize, words: usize) -> String {
    const WORDS: [&str; 16] = [
        "harbour", "ledger", "window", "garden", "signal", "copper", "meadow", "letter", "engine", "island", "candle",
        "market", "thread", "winter", "bridge", "orchard",
    ];
    (0..words).map(|i| WORDS[(number * 7 + i * i + i) % WORDS.len()]).collect::<Vec<_>>().join(" ")
}

/// Every file, folder and link below `root` with kind, mode and content: equal before and after means nothing changed.
/// Times of change count too, times of reading do not.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    walk(root, &mut |path, meta| {
        let content = if meta.is_file() {
            moon_actors::domain::Sha256::of(&std::fs::read(path).expect("readable")).as_str().to_owned()
        } else {
            String::new()
        };
        let stamp = format!("{:o} {} {}.{} {content}", meta.mode(), meta.len(), meta.mtime(), meta.mtime_nsec());
        found.insert(path.strip_prefix(root).expect("below").to_owned(), stamp);
    });
    found
}

/// What differs between two looks at a tree.
pub fn changes(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let gone = before.keys().filter(|path| !after.contains_key(*path)).map(|path| format!("gone: {}", path.display()));
    let new = after.iter().filter(|(path, stamp)| before.get(*path) != Some(*stamp));
    gone.chain(new.map(|(path, _)| format!("changed: {}", path.display()))).collect()
}

/// Calls `see` for everything below `root` and for `root` itself. Links are not followed.
pub fn walk(root: &Path, see: &mut dyn FnMut(&Path, &std::fs::Metadata)) {
    let Ok(meta) = std::fs::symlink_metadata(root) else { return };
    see(root, &meta);
    if meta.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(root).expect("listable").flatten().map(|e| e.path()).collect();
        entries.sort();
        entries.iter().for_each(|path| walk(path, see));
    }
}

/// What group or others may do anything with, with its mode. Sockets and files alike.
pub fn open_to_others(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(root, &mut |path, meta| {
        let mode = meta.permissions().mode() & 0o7777;
        if !meta.is_symlink() && mode & 0o077 != 0 {
            found.push(format!("{} {mode:o}", path.display()));
        }
    });
    found
}

/// Files that a crash would have left behind half-made.
pub fn temporary_files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(root, &mut |path, _| {
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(moon::durable::TEMPORARY_PREFIX)) {
            found.push(path.to_owned());
        }
    });
    found
}

/// The archived records of a home, decoded from the objects in the ledger's order: for each series its key, epoch and
/// the bytes as the object holds them (each record followed by a newline).
pub fn archived(home: &Path) -> Vec<(String, i64, Vec<u8>)> {
    let db = ledger(home);
    let mut series = db.prepare("SELECT id, session, epoch FROM series ORDER BY session, id").expect("a query");
    let rows: Vec<(i64, String, i64)> = series
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .expect("rows")
        .collect::<Result<_, _>>()
        .expect("rows");
    let mut segments = db.prepare("SELECT path FROM segments WHERE series = ?1 ORDER BY ordinal").expect("a query");
    rows.into_iter()
        .map(|(id, session, epoch)| {
            let paths: Vec<String> =
                segments.query_map([id], |r| r.get(0)).expect("rows").collect::<Result<_, _>>().expect("rows");
            let read = |path: &String| {
                let file = std::fs::File::open(home.join(path)).expect("an object opens");
                zstd::stream::decode_all(file).expect("an object unpacks")
            };
            (session, epoch, paths.iter().flat_map(read).collect())
        })
        .collect()
}

/// The ledger of a home, for looking.
pub fn ledger(home: &Path) -> rusqlite::Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(home.join("state/moon.db"), flags).expect("a ledger");
    db.busy_timeout(Duration::from_secs(10)).expect("a timeout");
    db
}

/// One number from the ledger.
pub fn count(home: &Path, sql: &str) -> i64 {
    ledger(home).query_row(sql, [], |r| r.get(0)).expect("a number")
}

/// The daemon's log as JSON lines.
pub fn log(home: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(home.join("logs/moon.log")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The warnings and errors of the daemon's log whose text contains `part`.
pub fn warnings(home: &Path, part: &str) -> Vec<String> {
    let severe = |line: &&Value| ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap_or_default());
    log(home).iter().filter(severe).map(Value::to_string).filter(|line| line.contains(part)).collect()
}
