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
    let others: Vec<TcpStream> = (0..7).map(|_| join()).collect();
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
    assert_eq!(browser.eval("[document.images.length, document.scripts.length, getComputedStyle(document.querySelector('.card')).borderRadius]").await, json!([0, 0, "14px"]));
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
    let said = WeeklyReport::new(&wiring).run().await.expect("written");
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
