//! What Moon costs beside monit, which does nothing else: the same seven checks, the same interval, the same minute.
//!
//! A measurement by hand; nothing is asserted about the figures. Moon runs with all that it has on besides: its own thirteen checks,
//! the web page, the files, a route, a folder of transcripts. Both are read by `moon bench idle`, and what their children used
//! stands beside it.

#![allow(clippy::print_stdout, reason = "a measurement is told on stdout")]

mod support;

use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::process::{Daemon, Scratch, wait_for};

const TEST: &str = "moon_beside_monit";
/// Two rounds of all checks fall into a measurement.
const EVERY: u64 = 30;
const SPAN: u64 = 60;
/// Until the first looks are over and the allocator has settled.
const SETTLE: Duration = Duration::from_secs(15);

/// A process that ends with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What both look at.
struct Watched {
    folder: PathBuf,
    port: u16,
    _listener: TcpListener,
    _agent: Peer,
}

impl Watched {
    fn make(folder: PathBuf) -> Self {
        std::fs::create_dir(&folder).expect("a folder");
        let agent = Peer(Command::new("sleep").arg("600").spawn().expect("sleep runs"));
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
        write("agent.pid", &agent.0.id().to_string());
        write("status.json", "{}\n");
        write("agent.log", "a line\n");
        let db = rusqlite::Connection::open(folder.join("facts.db")).expect("a database");
        db.execute_batch("CREATE TABLE facts (text); INSERT INTO facts VALUES ('one');").expect("written");
        // By a command for both, though Moon could do it itself.
        let integrity = format!(
            "#!/bin/sh\ntest \"$(sqlite3 '{}' 'pragma integrity_check')\" = ok\n",
            folder.join("facts.db").display()
        );
        write("integrity", &integrity);
        write("load", "#!/bin/sh\nread -r one rest < /proc/loadavg\ntest \"${one%%.*}\" -lt 1000\n");
        for program in ["integrity", "load"] {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(folder.join(program), mode).expect("a program");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        Self { folder, port, _listener: listener, _agent: agent }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

fn monit(watched: &Watched, scratch: &Path) -> Option<Peer> {
    let mut command = support::debian_command("monit")?;
    if !Path::new(command.get_program()).is_file() {
        return None;
    }
    let own = |name: &str| scratch.join(format!("monit.{name}")).display().to_string();
    let text = format!(
        "set daemon {EVERY}\nset log {log}\nset pidfile {pid}\nset idfile {id}\nset statefile {state}\n\
         check process agent with pidfile {agent}\n\
         check file heartbeat with path {beat}\n  if timestamp > 2 hours then alert\n\
         check filesystem disk with path {folder}\n  if space usage > 99% then alert\n\
         check file log with path {file}\n  if size > 100 MB then alert\n\
         check host bridge with address 127.0.0.1\n  if failed port {port} type tcp then alert\n\
         check program facts with path {integrity}\n  if status != 0 then alert\n\
         check program load with path {load}\n  if status != 0 then alert\n",
        log = own("log"),
        pid = own("pid"),
        id = own("id"),
        state = own("state"),
        agent = watched.path("agent.pid"),
        beat = watched.path("status.json"),
        folder = watched.folder.display(),
        file = watched.path("agent.log"),
        port = watched.port,
        integrity = watched.path("integrity"),
        load = watched.path("load"),
    );
    let settings = scratch.join("monitrc");
    std::fs::write(&settings, text).expect("written");
    std::fs::set_permissions(&settings, std::fs::Permissions::from_mode(0o600)).expect("set");
    command.arg("-I").arg("-c").arg(&settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let monit = Peer(command.spawn().expect("monit starts"));
    wait_for("monit's first word", || std::fs::read_to_string(own("log")).ok().filter(|log| log.contains("started")));
    Some(monit)
}

fn moon(binary: &Path, watched: &Watched, scratch: &Scratch) -> Daemon {
    std::fs::create_dir_all(scratch.home()).expect("a home");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let text = format!(
        "[watch]\nhost = \"transcripts\"\ntranscripts_dir = {transcripts:?}\n\
         [dashboard]\nlisten = \"127.0.0.1:{free}\"\nhtml_file = \"logs/dashboard.html\"\ntextfile = \"logs/moon.prom\"\n\
         [alerts]\nemail_to = [\"ada@localhost\"]\n\
         [rotation]\nfiles = [{{ path = {file:?} }}]\n\
         [health]\nevery = \"{EVERY}s\"\n\
         processes = [{{ name = \"agent\", pid_file = {agent:?} }}, {{ name = \"beat\", heartbeat_file = {beat:?}, interval = \"1h\" }}]\n\
         endpoints = [{{ name = \"bridge\", url = \"tcp://127.0.0.1:{port}\" }}]\n\
         commands = [{{ name = \"facts\", argv = [{integrity:?}] }}, {{ name = \"load\", argv = [{load:?}] }}]\n",
        transcripts = scratch.transcripts().display().to_string(),
        file = watched.path("agent.log"),
        agent = watched.path("agent.pid"),
        beat = watched.path("status.json"),
        port = watched.port,
        integrity = watched.path("integrity"),
        load = watched.path("load"),
    );
    std::fs::write(scratch.in_home("moon.toml"), text).expect("written");
    scratch.transcript("work").begin().exchange(0, 20);
    let mut command = Command::new(binary);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", scratch.path().join("user"));
    command.arg("--home").arg(scratch.home()).args(["watch", "--daemon"]).stdin(Stdio::null());
    let daemon = Daemon::start(command, scratch.path().join("daemon.said"));
    wait_for("all of moon's checks to be made and to be well", || {
        let health = Command::new(binary).arg("--home").arg(scratch.home()).args(["health", "--json"]).output().ok()?;
        let report: Value = serde_json::from_slice(&health.stdout).ok()?;
        let checks = report["data"]["checks"].as_array()?;
        let is_well = |name: &str| checks.iter().any(|check| check["name"] == name && check["state"] == "ok");
        let seven =
            ["process:agent", "process:beat", "disk", "logs", "endpoint:bridge", "command:facts", "command:load"];
        seven.into_iter().all(is_well).then_some(())
    });
    daemon
}

/// Milliseconds of CPU that the ended children of a process have used.
fn of_children(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    // cutime and cstime, the 16th and 17th of all fields.
    (ticks(13) + ticks(14)) * 1000 / rustix::param::clock_ticks_per_second()
}

/// `cargo build --release && MOON_BENCH_BINARY=target/release/moon cargo test --test monit -- --ignored --nocapture`
#[test]
#[ignore = "by hand: a measurement, it wants a release build and a quiet machine"]
fn moon_beside_monit() {
    let binary = std::env::var_os("MOON_BENCH_BINARY").map_or(PathBuf::from(env!("CARGO_BIN_EXE_moon")), PathBuf::from);
    let binary = binary.canonicalize().expect("the program is there");
    if !Command::new("sqlite3").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
        return support::skip(TEST, "sqlite3 is not installed");
    }
    let scratch = Scratch::new();
    let watched = Watched::make(scratch.path().join("agent"));
    let Some(monit) = monit(&watched, scratch.path()) else {
        return support::skip(TEST, "monit is not unpacked in target/peers (tests/run does that)");
    };
    let daemon = moon(&binary, &watched, &scratch);
    std::thread::sleep(SETTLE);
    let peers = [("monit", monit.0.id()), ("moon", daemon.pid())];
    let meters = peers.map(|(name, pid)| {
        let mut meter = Command::new(&binary);
        meter.args(["bench", "idle", &pid.to_string(), "--seconds", &SPAN.to_string(), "--json"]);
        (name, pid, of_children(pid), meter.stdout(Stdio::piped()).spawn().expect("the meter starts"))
    });
    println!("seven checks every {EVERY} s, {SPAN} s watched:");
    for (name, pid, before, meter) in meters {
        let said = meter.wait_with_output().expect("the meter ends").stdout;
        let children = of_children(pid) - before;
        let report: Value = serde_json::from_slice(&said).expect("a report");
        let figure = |key: &str| report["data"][key].as_f64().unwrap_or_else(|| panic!("no {key}: {report}"));
        let (rss, cpu) = (figure("rss_bytes") / f64::from(1 << 20), figure("cpu_ms"));
        println!("{name:<6} {rss:6.1} MiB resident {cpu:6.0} ms of CPU, {children} ms by its children");
    }
    daemon.stop();
}
