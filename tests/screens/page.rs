//! The web page: who is let in, what is pushed, what a real browser makes of it.

use super::*;
use crate::support::browser::Browser;
use std::io::{Read, Write};
use std::net::TcpStream;

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

pub(crate) fn get(port: u16, path: &str, headers: &str) -> String {
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
