//! The screens, as a person and a program meet them: in text, in a terminal, in a browser, as metrics; with a daemon that lives, hangs,
//! is dead, was stopped or never was. Peers: tmux, Chromium, promtool and the node exporter.

mod support;

use moon::screens::view::View;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::browser::Browser;
use support::process::{Ran, Scratch, wait_for};

/// Names as an attacker would give them: for a terminal, for a page, for a reader.
const HOSTILE: [&str; 3] = [
    "<script>window.hacked=1<\u{2215}script><img src=x onerror=window.hacked=2>",
    "\u{1b}[2Jansi\u{1b}]0;owned\u{7}",
    "\u{202e}gnp.exe",
];

fn with_sessions(names: &[&str]) -> Scratch {
    let scratch = Scratch::new();
    for name in names {
        scratch.transcript(name).begin().exchange(1, 200).exchange(2, 200);
    }
    scratch
}

/// The dashboard's JSON without a report around it.
fn dashboard(scratch: &Scratch) -> Value {
    scratch.run(&["dashboard", "json"]).expect(0).report()
}

/// Screens that any home can be asked for, with what they print.
fn screens(scratch: &Scratch) -> Vec<(&'static str, String)> {
    let html = scratch.path().join("page.html");
    scratch.run(&["dashboard", "--html", &html.display().to_string()]).expect(0);
    let said = |words: &[&str]| {
        let ran = scratch.run(words);
        assert!(matches!(ran.code, Some(0 | 2)), "{words:?}: {ran:#?}");
        ran.stdout
    };
    vec![
        ("status", said(&["status"])),
        ("dashboard", said(&["dashboard"])),
        ("page", std::fs::read_to_string(html).expect("a page")),
        ("json", said(&["dashboard", "json"])),
    ]
}

#[test]
fn a_home_in_which_nothing_ever_ran_is_called_so_and_stays_as_it_is() {
    let scratch = Scratch::new();
    for (name, text) in screens(&scratch) {
        assert!(text.contains("never started") || text.contains("never_started"), "{name}: {text}");
    }
    let json = dashboard(&scratch);
    assert_eq!((&json["daemon"]["status"], &json["memory"]["size"]), (&json!("never_started"), &Value::Null));
    assert!(scratch.run(&["dashboard", "prometheus"]).expect(0).stdout.contains("moon_up 0\n"));
    let refused = scratch.json(&["dashboard", "web"]).expect(1).report();
    assert_eq!(refused["data"]["error"]["code"], "dashboard.not_served");
    assert!(!scratch.home().exists(), "looking made a home");
}

#[test]
fn a_daemon_is_live_or_stale_or_dead_or_stopped_and_every_screen_says_which() {
    let scratch = with_sessions(&["one"]);
    let all_say = |word: &str, status: &str| {
        for (name, text) in screens(&scratch) {
            assert!(text.contains(if name == "json" { status } else { word }), "{name} does not say {word}: {text}");
        }
        assert_eq!(dashboard(&scratch)["daemon"]["status"], status);
    };
    let daemon = scratch.daemon(&[]);
    wait_for("the session", || scratch.run(&["status"]).stdout.contains("transcripts:one").then_some(()));
    all_say("live", "running");
    let up = dashboard(&scratch);
    assert_eq!(up["daemon"]["pid"], json!(daemon.pid()));
    for (part, key) in
        [("daemon", "uptime"), ("memory", "databases"), ("system", "disk_available"), ("system", "log_size")]
    {
        assert!(up[part][key].is_u64(), "{part}.{key}: {up:#}");
    }
    let file: Value =
        serde_json::from_slice(&std::fs::read(scratch.in_home("logs/daemon_status.json")).expect("a status file"))
            .expect("JSON");
    assert_eq!((&file["status"], &file["pid"]), (&json!("running"), &json!(daemon.pid().to_string())));

    let pid = rustix::process::Pid::from_raw(daemon.pid().cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
    let begun = Instant::now();
    let hung = scratch.run(&["status"]).expect(2);
    assert!(begun.elapsed() < Duration::from_secs(15), "a screen hung with the daemon");
    assert!(hung.stdout.starts_with("issue: critical: daemon: the daemon does not answer"), "{}", hung.stdout);
    assert!(hung.stdout.contains("transcripts:one"), "what the ledger holds is shown: {}", hung.stdout);
    assert_eq!(dashboard(&scratch)["daemon"]["status"], "not_answering");

    daemon.kill();
    all_say("daemon is dead", "error");
    scratch.run(&["status"]).expect(2);
    let again = scratch.daemon(&[]);
    again.stop();
    all_say("stopped in order", "stopped");
    scratch.run(&["status"]).expect(0);
    let metrics = scratch.run(&["dashboard", "prometheus"]).expect(0).stdout;
    assert!(metrics.contains("moon_up 0\n") && metrics.contains("moon_archived_records_total 5\n"), "{metrics}");
    let report = scratch.json(&["dashboard", "report"]).expect(0).report();
    let period = &report["data"]["period"];
    assert_eq!(
        (&period["starts"], &period["unclean_ends"], &period["archived_segments"]),
        (&json!(2), &json!(1), &json!(1))
    );
}

#[test]
fn foreign_names_are_harmless_on_every_screen() {
    let scratch = with_sessions(&HOSTILE);
    scratch.run(&["watch", "--once"]).expect(0);
    for (name, text) in screens(&scratch) {
        let obeyed = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}');
        assert!(!text.contains(obeyed), "{name}: {text:?}");
        if name == "page" {
            assert!(!text.contains("<script") && !text.contains("<img") && text.contains("&lt;script&gt;"), "{text}");
            assert!(text.contains("default-src &#x27;none&#x27;; style-src &#x27;sha256-"), "{text}");
        }
    }
    let keys: Vec<Value> = dashboard(&scratch)["status"]["sessions"]
        .as_array()
        .expect("sessions")
        .iter()
        .map(|s| s["key"].clone())
        .collect();
    for name in HOSTILE {
        assert!(keys.contains(&json!(format!("transcripts:{name}"))), "a program gets the name as it is: {keys:?}");
    }
}

#[test]
fn the_status_of_a_quiet_system_fits_a_small_terminal() {
    let scratch = with_sessions(&["library-move", "garden", "tax"]);
    let _daemon = scratch.daemon(&[]);
    wait_for("the archive", || scratch.run(&["status"]).stdout.contains("in 3 segments").then_some(()));
    let text = scratch.run(&["status"]).expect(0).stdout;
    // The home's own path is as long as somebody made it.
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert!(
        lines.len() < 23 && lines.iter().all(|line| line.chars().count() <= 80 || line.starts_with("host")),
        "{text}"
    );
}

/// A daemon that serves the page on a free port.
fn serving(scratch: &Scratch) -> (support::process::Daemon, u16, String) {
    let daemon = scratch.daemon(&["--set", "dashboard.listen=127.0.0.1:0"]);
    let url = wait_for("the page", || {
        let ran = scratch.run(&["--set", "dashboard.listen=127.0.0.1:0", "dashboard", "web"]);
        (ran.code == Some(0)).then(|| ran.stdout.lines().next().unwrap_or_default().to_owned())
    });
    let (address, token) =
        url.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.split_once("/?token=")).expect("an address");
    (daemon, address.parse().expect("a port"), token.to_owned())
}

/// One request as it stands; the answer as far as it comes within the time.
fn request(port: u16, text: &str, time: Duration) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the page listens");
    stream.write_all(text.as_bytes()).expect("sent");
    let (begun, mut answer) = (Instant::now(), Vec::new());
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let mut block = [0; 8192];
    while begun.elapsed() < time {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&block[..n]),
            Err(_) => {}
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(port: u16, path: &str, headers: &str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}\r\n");
    request(port, &text, Duration::from_secs(10))
}

#[test]
fn the_page_lets_in_who_has_its_token_and_answers_to_this_machines_address_only() {
    let scratch = with_sessions(&HOSTILE);
    let (daemon, port, token) = serving(&scratch);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let page = get(port, "/", &bearer);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<h2>Sessions</h2>"), "{page}");
    for sealed in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "referrer-policy: no-referrer",
    ] {
        assert!(page.contains(sealed), "{sealed}: {page}");
    }
    assert!(!page.contains("access-control-allow") && !page.contains("<img"), "{page}");

    for path in ["/", "/events", "/status.json", "/metrics", "/page.js", "/?token=", "/?token=wrong", "/elsewhere"] {
        let refused = get(port, path, "");
        assert!(refused.starts_with("HTTP/1.1 401") && !refused.contains("transcripts:"), "{path}: {refused}");
    }
    let named = |host: &str| {
        request(
            port,
            &format!("GET /?token={token} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
            Duration::from_secs(5),
        )
    };
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        "127.0.0.1",
        &format!("127.0.0.1:{port}\r\nHost: evil.example"),
    ] {
        let refused = named(host);
        assert!(refused.starts_with("HTTP/1.1 421") || refused.starts_with("HTTP/1.1 400"), "{host}: {refused}");
    }
    let posted = request(
        port,
        &format!("POST / HTTP/1.1\r\nHost: localhost:{port}\r\n{bearer}Connection: close\r\nContent-Length: 0\r\n\r\n"),
        Duration::from_secs(5),
    );
    assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");

    let welcome = named(&format!("localhost:{port}"));
    let cookie = welcome.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !welcome.contains(&token),
        "{welcome}"
    );
    let pair = cookie.split(';').next().expect("a pair");
    assert!(get(port, "/status.json", &format!("Cookie: {pair}\r\n")).starts_with("HTTP/1.1 200"));
    assert!(get(port, "/metrics", &bearer).contains("moon_up 1\n"));
    daemon.stop();
    assert_eq!(scratch.json(&["dashboard", "web"]).expect(1).report()["data"]["error"]["code"], "dashboard.not_served");
}

#[test]
fn news_is_pushed_to_browsers_and_their_number_is_bounded() {
    let scratch = with_sessions(&["one"]);
    let (daemon, port, token) = serving(&scratch);
    let ask = format!("GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n");
    let join = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the page listens");
        stream.write_all(ask.as_bytes()).expect("sent");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    };
    let mut first = join();
    let mut until = |what: &str| {
        let (mut text, mut block) = (String::new(), [0; 8192]);
        while !text.contains(what) {
            let n = first.read(&mut block).expect("news");
            assert!(n > 0, "the stream ended before {what}: {text}");
            text.push_str(&String::from_utf8_lossy(&block[..n]));
        }
    };
    until("event: middle");
    scratch.transcript("two").begin().exchange(1, 50);
    until("transcripts:two");
    // One reads; six more do not. The eighth is let in, the ninth is not.
    let let_in = |_| {
        let (mut stream, mut block) = (join(), [0; 64]);
        let n = stream.read(&mut block).expect("an answer");
        assert!(block[..n].starts_with(b"HTTP/1.1 200"));
        stream
    };
    let others: Vec<TcpStream> = (0..7).map(let_in).collect();
    wait_for("a ninth browser to be refused", || {
        request(port, &ask, Duration::from_millis(400)).starts_with("HTTP/1.1 503").then_some(())
    });
    drop(others);
    wait_for("room again", || {
        request(port, &ask, Duration::from_millis(400)).starts_with("HTTP/1.1 200").then_some(())
    });
    daemon.stop();
}

#[tokio::test]
async fn a_browser_shows_the_page_runs_nothing_foreign_and_says_when_the_daemon_is_gone() {
    let mut names = HOSTILE.to_vec();
    names.push("library-move");
    let scratch = with_sessions(&names);
    let Some(mut browser) = Browser::start(scratch.path()).await else {
        return support::skip("a_browser_shows_the_page", "Chromium is not in target/peers/debian");
    };
    let (daemon, port, token) = serving(&scratch);
    browser.look((1200, 1400), true).await;
    browser.open(&format!("http://127.0.0.1:{port}/?token={token}")).await;
    browser.until("document.body && document.body.dataset.link === 'live'").await;
    assert_eq!(
        browser.eval("location.href").await,
        json!(format!("http://127.0.0.1:{port}/")),
        "the token has left the address"
    );
    assert_eq!(browser.eval("document.cookie").await, json!(""), "no script can read the cookie");
    browser.until("document.body.innerText.includes('transcripts:library-move')").await;
    assert_eq!(
        browser.eval("[document.images.length, typeof window.hacked, document.scripts.length]").await,
        json!([0, "undefined", 1])
    );
    let dark = browser.eval("getComputedStyle(document.body).backgroundColor").await;
    let picture = browser.picture().await;
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{} bytes", picture.len());
    assert_eq!(browser.console, Vec::<String>::new(), "the page obeys its own content policy");

    // A script that got in would be stopped by the policy.
    browser
        .eval(
            "const s = document.createElement('script'); s.textContent = 'window.hacked = 3'; document.body.append(s)",
        )
        .await;
    assert_eq!(browser.eval("typeof window.hacked").await, "undefined");
    let refused = browser.eval("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')").await;
    assert_eq!(
        (refused, browser.console.iter().any(|said| said.contains("Content Security Policy"))),
        (json!("refused"), true),
        "{:?}",
        browser.console
    );

    browser.look((390, 1000), false).await;
    assert_ne!(browser.eval("getComputedStyle(document.body).backgroundColor").await, dark, "light is another page");
    assert_eq!(
        browser.eval("document.documentElement.scrollWidth <= innerWidth").await,
        true,
        "nothing sticks out on a phone"
    );
    scratch.transcript("newcomer").begin().exchange(1, 50);
    browser.until("document.body.innerText.includes('transcripts:newcomer')").await;
    daemon.kill();
    browser.until("document.body.dataset.link === 'lost'").await;

    let file = scratch.path().join("page.html");
    scratch.run(&["dashboard", "--html", &file.display().to_string()]).expect(0);
    browser.console.clear();
    browser.open(&format!("file://{}", file.display())).await;
    browser.until("document.body.innerText.includes('daemon is dead')").await;
    assert_eq!(browser.eval("[document.images.length, document.scripts.length, getComputedStyle(document.querySelector('.card')).borderRadius]").await, json!([0, 0, "12px"]));
    assert_eq!(browser.console, Vec::<String>::new(), "the file obeys its own content policy");
}

/// A terminal of tmux with a server of its own.
struct Tmux {
    program: std::ffi::OsString,
    socket: std::path::PathBuf,
}

impl Tmux {
    fn start(scratch: &Scratch, words: &[&str], size: (&str, &str), environment: &str) -> Option<Self> {
        let system = Command::new("tmux").arg("-V").output().is_ok_and(|ran| ran.status.success());
        let program = if system {
            "tmux".into()
        } else {
            support::debian_command("tmux").filter(|c| c.get_program() != "tmux")?.get_program().to_owned()
        };
        let tmux = Self { program, socket: scratch.path().join("tmux.sock") };
        let moon = scratch.moon(words);
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_string_lossy());
        let words: Vec<String> = std::iter::once(moon.get_program()).chain(moon.get_args()).map(quoted).collect();
        let line = format!("env {environment} {}; echo ended with $?; exec sleep 60", words.join(" "));
        tmux.tell(&["new-session", "-d", "-x", size.0, "-y", size.1, &line]);
        Some(tmux)
    }
    fn tell(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .arg("-u")
            .arg("-S")
            .arg(&self.socket)
            .arg("-f/dev/null")
            .args(words);
        Ran::of(command.stdin(Stdio::null())).expect(0).stdout
    }
    fn seen(&self) -> String {
        self.tell(&["capture-pane", "-p"])
    }
    fn until(&self, what: &str) -> String {
        wait_for(what, || Some(self.seen()).filter(|seen| seen.contains(what)))
    }
    fn pid(&self) -> i32 {
        let shell = self.tell(&["display-message", "-p", "#{pane_pid}"]);
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.trim())).expect("Linux has it");
        children.split_whitespace().next().expect("a child").parse().expect("a pid")
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new(&self.program).arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

#[test]
fn the_terminal_dashboard_is_live_follows_the_keys_and_the_size_and_gives_the_terminal_back() {
    let mut names = HOSTILE.to_vec();
    names.push("library-move");
    let scratch = with_sessions(&names);
    let daemon = scratch.daemon(&[]);
    let Some(tmux) = Tmux::start(&scratch, &["dashboard"], ("120", "44"), "NO_COLOR=1") else {
        return support::skip("the_terminal_dashboard_is_live", "tmux is not installed");
    };
    let seen = tmux.until("library-move");
    for pane in
        ["live", "Sessions", "Pipeline", "Actors", "Health", "Alerts", "Backups", "Resources", "✓   archive", "q quit"]
    {
        assert!(seen.contains(pane), "{pane}: {seen}");
    }
    assert!(seen.contains("<script>") || seen.contains("<scr"), "{seen}");
    assert!(!seen.contains('\u{202e}'), "{seen}");
    // Small: one pane at a time.
    tmux.tell(&["resize-window", "-x", "60", "-y", "16"]);
    let small = wait_for("the small screen", || {
        Some(tmux.seen()).filter(|seen| !seen.contains("Resources") && seen.contains(" Sessions "))
    });
    assert!(small.lines().count() <= 16, "{small}");
    tmux.tell(&["send-keys", "Tab"]);
    tmux.until("set aside");
    tmux.tell(&["send-keys", "BTab", "3"]);
    tmux.until("✓ alert");
    daemon.kill();
    tmux.until("daemon dead");
    tmux.tell(&["send-keys", "q"]);
    tmux.until("ended with 0");
    assert_eq!(tmux.tell(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
}

#[test]
fn a_terminal_dashboard_that_is_told_to_end_gives_the_terminal_back() {
    let scratch = Scratch::new();
    let Some(tmux) = Tmux::start(&scratch, &["dashboard", "watch"], ("80", "24"), "TERM=tmux-256color") else {
        return support::skip("a_terminal_dashboard_that_is_told_to_end", "tmux is not installed");
    };
    tmux.until("never started");
    assert_eq!(tmux.tell(&["display-message", "-p", "#{alternate_on}"]).trim(), "1");
    let pid = rustix::process::Pid::from_raw(tmux.pid()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    tmux.until("ended with 0");
    assert_eq!(tmux.tell(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
}

#[test]
fn the_metrics_pass_promtool_and_the_node_exporter_picks_them_up() {
    let scratch = with_sessions(&HOSTILE);
    // The first metrics are written when the daemon starts: the sessions are known by then.
    scratch.run(&["watch", "--once"]).expect(0);
    let folder = scratch.path().join("textfile");
    std::fs::create_dir(&folder).expect("a folder");
    let file = folder.join("moon.prom");
    let daemon = scratch.daemon(&[
        "--set",
        &format!("dashboard.textfile={}", file.display()),
        "--set",
        "dashboard.textfile_mode=0640",
    ]);
    let text = wait_for("the metrics", || {
        std::fs::read_to_string(&file).ok().filter(|text| text.contains("moon_session_usage_ratio{"))
    });
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("there").permissions()) & 0o777,
        0o640
    );
    assert!(text.contains("moon_up 1\n") && text.contains("moon_jobs{stage=\"archive\",state=\"waiting\"} "), "{text}");
    let (Some(mut promtool), Some(mut exporter)) =
        (support::debian_command("promtool"), support::debian_command("prometheus-node-exporter"))
    else {
        return support::skip("the_metrics_pass_promtool", "prometheus is not in target/peers/debian");
    };
    let mut check = promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    check.stdin.take().expect("piped").write_all(text.as_bytes()).expect("read");
    let checked = check.wait_with_output().expect("promtool ends");
    assert!(checked.status.success() && checked.stderr.is_empty() && checked.stdout.is_empty(), "{checked:?}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let child = exporter
        .args([
            "--collector.disable-defaults",
            "--collector.textfile",
            &format!("--web.listen-address=127.0.0.1:{port}"),
        ])
        .arg(format!("--collector.textfile.directory={}", folder.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the exporter starts");
    let _end = Ends(child);
    let scraped = wait_for("the exporter", || {
        TcpStream::connect(("127.0.0.1", port)).ok()?;
        Some(get(port, "/metrics", "")).filter(|text| text.contains("moon_up 1"))
    });
    assert!(
        scraped.contains("node_textfile_scrape_error 0")
            && scraped.contains("moon_session_usage_ratio{session=\"transcripts:<script>"),
        "{scraped}"
    );
    daemon.stop();
    let last = std::fs::read_to_string(&file).expect("there");
    assert!(last.contains("moon_up 0\n"), "the last word is that nobody writes any more: {last}");
}

struct Ends(std::process::Child);
impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_report_is_kept_as_a_file_of_the_day_with_its_figures() {
    use moon_actors::report::WeeklyReport;
    use moon_actors::schedule::Chore;
    let scratch = Scratch::new();
    let (home, _) = moon::home::Home::open(scratch.home()).expect("a home");
    let settings = moon_actors::settings::Settings::default();
    let host = std::sync::Arc::new(moon::adapters::no_host::NoHost::not_needed());
    let (ports, ledger) = moon::daemon::ports::open(&home, &settings, host).expect("ports");
    moon::daemon::ports::begin(&ports, &ledger).await.expect("a life");
    let wiring = moon::daemon::ports::alone(ports, settings);
    let said = WeeklyReport::new(&wiring).run().await.said.expect("written");
    let files: Vec<String> = std::fs::read_dir(home.logs_dir())
        .expect("logs")
        .flatten()
        .map(|f| f.file_name().to_string_lossy().into_owned())
        .collect();
    let log = files.iter().find(|name| name.starts_with("weekly_health_") && name.ends_with(".log")).expect("a report");
    let text = std::fs::read_to_string(home.logs_dir().join(log)).expect("readable");
    assert!(
        said.contains(log.as_str()) && text.starts_with("Health report, ") && text.contains("disk used"),
        "{said}\n{text}"
    );
    let figures: Value =
        serde_json::from_slice(&std::fs::read(home.logs_dir().join(log.replace(".log", ".json"))).expect("figures"))
            .expect("JSON");
    assert_eq!((&figures["days"], figures["measures"].as_array().map(Vec::len)), (&json!(7), Some(6)));
}

#[test]
fn a_document_of_another_version_or_with_holes_is_shown_as_far_as_it_goes() {
    for document in [
        json!({}),
        json!(null),
        json!({"sessions": [{}], "alerts": [{}], "tree": 3, "health": {"checks": [{}]}, "backups": {}, "chores": [{}], "pipeline": [{}]}),
    ] {
        let view = View::of(&document);
        moon::screens::page::Pages::new().expect("templates").file(&document).expect("a page");
        assert!(!moon::screens::tui::printed(&view, 60).is_empty() && !moon::screens::plain::lines(&view).is_empty());
        moon::screens::metrics::text(&document);
        moon::screens::source::dashboard(document);
    }
}

/// A document with everything in it, as a made-up system would have it.
fn sample() -> Value {
    let now = chrono::Utc::now();
    let ago = |minutes: i64| json!(now - chrono::TimeDelta::minutes(minutes));
    let session = |key: &str, used: u64, running: bool, age: u64| {
        json!({ "key": key, "usage": { "usage_ratio": used as f64 / 200_000.0, "used_tokens": used, "max_tokens": 200_000 },
            "stale": age > 300, "age_seconds": age, "running": running, "phase": "Normal", "prunes_since_rollover": used / 70_000,
            "undistilled": used / 900 })
    };
    let wave = |cells: usize, from: f64, slope: f64, top: f64| -> Vec<Option<f64>> {
        let mut level = from;
        let mut next = |n: usize| {
            level += slope * (0.6 + 0.4 * ((n * 7 % 11) as f64 / 5.0));
            if level > top {
                level = if n.is_multiple_of(2) { 0.44 } else { 0.12 };
            }
            (n >= cells / 9).then_some((level * 1000.0).round() / 1000.0)
        };
        (0..cells).map(&mut next).collect()
    };
    let track = |key: &str, from: f64, slope: f64, top: f64| json!({ "session": key, "day": wave(96, from, slope, top), "quarter": wave(90, from, slope * 2.3, top) });
    let stage = |name: &str, (waiting, claimed, failing): (u64, u64, u64), done: i64| json!({ "stage": name, "waiting": waiting, "claimed": claimed, "failing": failing, "failed": 0, "last_done": ago(done) });
    let actor = |name: &str, restarts: u64, children: Value| {
        json!({ "name": name, "path": format!("moon/{name}"), "kind": "vital", "phase": "up", "restarts": restarts,
            "crashes_in_window": restarts, "last_error": if restarts > 0 { json!("panicked: index out of room") } else { Value::Null },
            "since": { "secs": 273_900, "nanos": 0 }, "children": children })
    };
    let check = |name: &str, state: &str, reason: &str| {
        json!({ "name": name, "state": state, "reason": reason, "hint": "prune old backups, or move them to a larger disk",
            "since": ago(200), "checked_at": ago(2), "took_ms": 3, "figures": {} })
    };
    json!({
        "generated_at": now, "moon": env!("CARGO_PKG_VERSION"), "home": "~/.lilac_metaflora", "mode": "lead",
        "liveness": { "state": "live", "said": "the daemon is running", "pid": 4711, "since": ago(4_565), "heartbeat_at": now },
        "thresholds": { "archive": 0.8, "prune": 0.85, "distill": 0.9 },
        "host": { "description": "OpenClaw gateway at ws://127.0.0.1:18789, connected" },
        "bridge": { "alive": true, "detail": "loaded by the gateway, 3 s ago" },
        "sessions": [
            session("agent:main:main", 173_400, true, 4), session("agent:main:telegram:family", 122_900, false, 61),
            session("agent:research:main", 84_100, false, 890), session("agent:main:cron:morning", 21_700, false, 7_200),
        ],
        "usage_history": [
            track("agent:main:main", 0.2, 0.021, 0.9), track("agent:main:telegram:family", 0.35, 0.006, 0.86),
            track("agent:research:main", 0.1, 0.013, 0.88), track("agent:main:cron:morning", 0.05, 0.001, 0.8),
        ],
        "totals": { "segments": 1_204, "records": 48_211, "bytes": 96_870_000, "unindexed": 0, "distillations": 61, "rollovers": 14,
            "audit_rows": 9_377, "open_cycles": 1, "waiting_jobs": 1, "quarantined_jobs": 0 },
        "alerts": [{ "id": 9, "key": { "rule": "disk_low", "subject": "moon" }, "severity": "warning", "fired_at": ago(192),
            "message": "4.2 GB are free on the disk of the home, less than 5 GB", "hint": "prune old backups, or move them to a larger disk", "resolved_at": null }],
        "recent_alerts": [
            { "rule": "disk_low", "subject": "moon", "severity": "warning", "message": "4.2 GB are free on the disk of the home, less than 5 GB", "fired_at": ago(192), "resolved_at": null },
            { "rule": "index.failing", "subject": "agent:research:main", "severity": "critical", "message": "index of agent:research:main: the index is locked", "fired_at": ago(611), "resolved_at": ago(604) },
        ],
        "pipeline": [stage("archive", (0, 1, 0), 1), stage("index", (1, 0, 0), 3), stage("prune", (0, 0, 0), 47), stage("distill", (0, 0, 0), 380), stage("continuity", (0, 0, 0), 380)],
        "chores": [
            { "task": "backup", "done_at": ago(430), "is_done": true, "attempts": 1, "ended_at": ago(430), "said": "ok" },
            { "task": "drill", "done_at": ago(6_900), "is_done": true, "attempts": 1, "ended_at": ago(6_900), "said": "ok" },
            { "task": "report", "done_at": ago(6_600), "is_done": true, "attempts": 1, "ended_at": ago(6_600), "said": "ok" },
            { "task": "rotation", "done_at": ago(550), "is_done": true, "attempts": 1, "ended_at": ago(550), "said": "ok" },
        ],
        "health": { "verdict": "warning", "checks": [
            check("process", "ok", "pid 4711 is up"), check("heartbeat", "ok", "12 s old"), check("ledger", "ok", "integrity and foreign keys are ok"),
            check("disk", "warning", "4.2 GB free, less than 5 GB"), check("backup", "ok", "verified 7 h ago"), check("mail_bridge", "ok", "port 1143 answers"),
        ] },
        "backups": { "newest": { "id": "20261121_020000", "at": ago(430), "bytes": 31_400_000 }, "newest_verified": { "id": "20261121_020000", "at": ago(430), "bytes": 31_400_000, "verified_at": ago(429) },
            "count": 16, "bytes": 488_000_000, "last_drill": { "at": ago(6_900), "ok": true, "said": "restored and compared" } },
        "resources": { "pid": 4711, "rss_bytes": 18_400_000, "cpu_ms": 41_700, "uptime_secs": 273_900, "open_files": 31, "home_bytes": 612_000_000, "home_files": 4_318,
            "databases": 2, "database_bytes": 71_000_000, "log_files": 9, "log_bytes": 14_200_000, "disk_free_bytes": 4_200_000_000u64, "disk_total_bytes": 128_000_000_000u64 },
        "tree": [actor("alert", 0, json!([])), actor("projection", 0, json!([])), actor("pipeline", 0, json!([
            actor("archive", 0, json!([])), actor("index", 1, json!([])), actor("prune", 0, json!([])), actor("distill", 0, json!([])),
            actor("continuity", 0, json!([])), actor("threshold", 0, json!([])), actor("usage", 0, json!([])), actor("bridge", 0, json!([])) ])),
            actor("screens", 0, json!([actor("report", 0, json!([])), actor("pages", 0, json!([])), actor("web", 0, json!([]))])),
            actor("control", 0, json!([actor("router", 0, json!([])), actor("socket", 0, json!([]))]))],
    })
}

#[test]
fn health_backups_and_the_calendar_are_on_every_screen() {
    let document = sample();
    let view = View::of(&document);
    let page = moon::screens::page::Pages::new().expect("templates").file(&document).expect("a page");
    let printed = moon::screens::tui::printed(&view, 140).join("\n");
    for text in [&page, &printed] {
        for part in [
            "20261121_020000",
            "4.2 GB are free",
            "mail_bridge",
            "index.failing",
            "restore drill",
            "rotation",
            "86.7 %",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let status = moon::screens::plain::lines(&view).join("\n");
    assert!(
        status.contains("health    warning: 5 of 6 checks ok") && status.contains("newest verified: 20261121_020000"),
        "{status}"
    );
    let troubles = moon::screens::plain::troubles(&view);
    assert_eq!(troubles[0].0, "warning: 4.2 GB are free on the disk of the home, less than 5 GB (for 3h 12m)");
    let metrics = moon::screens::metrics::text(&document);
    for line in [
        "moon_health_check_state{check=\"disk\"} 1",
        "moon_restore_drill_success 1",
        "moon_actor_restarts_total{actor=\"index\"} 1",
        "moon_session_usage_ratio{session=\"agent:main:main\"} 0.867",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}: {metrics}");
    }
    let mut a_thousand = document.clone();
    a_thousand["sessions"] =
        (0..1000).map(|n| json!({ "key": format!("s{n}"), "usage": { "usage_ratio": 0.5 } })).collect();
    let metrics = moon::screens::metrics::text(&a_thousand);
    assert_eq!(metrics.matches("moon_session_usage_ratio{").count(), 20, "labels are bounded");
    let json = moon::screens::source::dashboard(document);
    assert_eq!((&json["backup"]["latest"], &json["email"]["status"]), (&json!("20261121_020000"), &json!("ok")));
}

/// A drawn terminal as a page, for a picture of it.
fn as_page(buffer: &ratatui::buffer::Buffer) -> String {
    use ratatui::style::{Color, Modifier};
    let mut page = String::from(
        "<meta charset=utf-8><body style='background:#11151f;margin:16px'><pre style='font:14px/17px monospace;color:#d7dce8;margin:0'>",
    );
    for y in 0..buffer.area.height {
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            let colour = match cell.fg {
                Color::Green => "#5fd3a5",
                Color::Yellow => "#f2bd5c",
                Color::Red => "#ff8791",
                Color::Cyan => "#6fc3df",
                Color::Blue => "#86b8ee",
                Color::DarkGray => "#69748d",
                _ => "#d7dce8",
            };
            let weight = if cell.modifier.contains(Modifier::BOLD) { "bold" } else { "normal" };
            let ground = if cell.modifier.contains(Modifier::REVERSED) {
                format!("background:{colour};color:#11151f")
            } else {
                format!("color:{colour}")
            };
            page.push_str(&format!(
                "<span style='font-weight:{weight};{ground}'>{}</span>",
                cell.symbol().replace('<', "&lt;")
            ));
        }
        page.push('\n');
    }
    page + "</pre>"
}

/// Makes the pictures of the documents: `MOON_PICTURES=docs/images cargo test --test screens -- --ignored pictures`.
#[tokio::test]
#[ignore = "by hand: it draws the pictures of the documents; see its comment"]
async fn pictures_for_the_documents() {
    let folder = std::path::PathBuf::from(std::env::var_os("MOON_PICTURES").expect("MOON_PICTURES names a folder"));
    let scratch = Scratch::new();
    let mut browser = Browser::start(scratch.path()).await.expect("Chromium");
    let file = scratch.path().join("page.html");
    std::fs::write(&file, moon::screens::page::Pages::new().expect("templates").file(&sample()).expect("a page"))
        .expect("written");
    for (name, size, is_dark) in [
        ("dashboard-dark", (1200, 1330), true),
        ("dashboard-light", (1200, 1330), false),
        ("dashboard-phone", (390, 1400), true),
    ] {
        browser.look(size, is_dark).await;
        browser.open(&format!("file://{}", file.display())).await;
        browser.until("document.querySelectorAll('.card').length > 7").await;
        std::fs::write(folder.join(format!("{name}.png")), browser.picture().await).expect("written");
    }
    let screen = moon::screens::tui::Screen { view: Some(View::of(&sample())), has_colour: true, ..Default::default() };
    let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(132, 42)).expect("a terminal");
    terminal.draw(|frame| moon::screens::tui::draw(frame, &screen)).expect("drawn");
    std::fs::write(&file, as_page(terminal.backend().buffer())).expect("written");
    browser.look((1152, 750), true).await;
    browser.open(&format!("file://{}", file.display())).await;
    browser.until("document.querySelector('pre') !== null").await;
    std::fs::write(folder.join("dashboard-terminal.png"), browser.picture().await).expect("written");
}
