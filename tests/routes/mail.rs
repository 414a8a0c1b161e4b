//! E-mail: a real server, and servers that fail at every step.

use super::*;
use moon_actors::error::Kind;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const PASSWORD: &str = "canary-päss-4711";

pub(crate) fn aiosmtpd(test: &str, scene: &Scene, mode: &str) -> Option<(Peer, u16)> {
    let (_, cert, key) = certificate(scene.folder.path());
    serve(test, mode, &cert, &key)
}

fn serve(test: &str, mode: &str, cert: &Path, key: &Path) -> Option<(Peer, u16)> {
    let Some(packages) = support::python_peers() else {
        support::skip(test, "aiosmtpd is not installed in target/peers (tests/run installs it)");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/routes/smtp_peer.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(mode).arg(cert).arg(key).arg(PASSWORD).env("PYTHONPATH", packages);
    let peer = Peer::start(&mut command);
    let port = peer.line().parse().expect("a port");
    Some((peer, port))
}

pub(crate) fn route(scene: &Scene, port: u16, tls: &str, password: &str) -> Arc<dyn Notifier> {
    let file = scene.secret("password", password);
    let ca = scene.path("ca.pem");
    scene.route(&format!(
        "kind = \"email\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"{tls}\"\nca_file = {:?}\nusername = \"moon\"\n\
         password_file = {file:?}\nfrom = \"Möön <moon@example.org>\"\nto = [\"me@example.org\", \"Du <you@example.org>\"]",
        ca.display()
    ))
}

pub(crate) fn header<'m>(mail: &'m str, name: &str) -> &'m str {
    let head = mail.split("\r\n\r\n").next().unwrap_or_default();
    let found: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect();
    assert_eq!(found.len(), 1, "{name} once in {head}");
    found[0]
}

#[tokio::test]
async fn mail_goes_to_a_real_server_by_tls_with_an_id_of_its_own() {
    for mode in ["starttls", "implicit"] {
        let scene = Scene::new();
        let Some((peer, port)) = aiosmtpd("mail_goes_to_a_real_server", &scene, mode) else { return };
        let route = route(&scene, port, mode, &format!("{PASSWORD}\n"));
        route.deliver(&firing(5)).await.expect("taken");
        route.deliver(&firing(5)).await.expect("taken again");
        route.deliver(&resolved(5)).await.expect("taken");
        route.deliver(&digest()).await.expect("taken");
        let mails: Vec<Value> = (0..4).map(|_| serde_json::from_str(&peer.line()).expect("JSON")).collect();
        assert_eq!(mails[0]["to"], serde_json::json!(["me@example.org", "you@example.org"]));
        assert!(mails.iter().all(|mail| mail["tls"] == true && mail["login"] == true), "{mails:?}");
        let text: Vec<&str> = mails.iter().map(|mail| mail["mail"].as_str().expect("text")).collect();
        assert_eq!(header(text[0], "Message-ID"), "<alert-5-firing.1790000000@box.example.org>");
        assert_eq!(header(text[1], "Message-ID"), header(text[0], "Message-ID"), "a repeat is recognised");
        assert_eq!(header(text[2], "Message-ID"), "<alert-5-resolved.1790000000@box.example.org>");
        assert_eq!(header(text[2], "In-Reply-To"), header(text[0], "Message-ID"));
        assert_eq!(header(text[0], "Subject"), "[Moon] CRITICAL: disk_critical (moon) on box.example.org");
        assert_eq!(header(text[2], "Subject"), "[Moon] RESOLVED: disk_critical (moon) on box.example.org");
        assert_eq!(header(text[3], "Subject"), "[Moon] WARNING: 17 notices on box.example.org");
        assert_eq!(header(text[0], "Auto-Submitted"), "auto-generated");
        assert!(text[0].contains("utf-8"), "{}", text[0]);
    }
}

#[tokio::test]
async fn the_body_says_what_happened_and_what_to_do_and_nothing_foreign_makes_a_header() {
    let scene = Scene::new();
    let Some((peer, port)) = aiosmtpd("the_body_says_what_happened", &scene, "starttls") else { return };
    let route = route(&scene, port, "starttls", PASSWORD);
    let mut hostile = alert(6);
    hostile.key = AlertKey::new("custom", "a\r\nBcc: victim@example.org\r\n\r\nbody");
    hostile.message = "x\r\n.\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.org>\u{1b}[2J\u{202e}".into();
    route.deliver(&Notice::Alert(hostile)).await.expect("taken");
    let mail: Value = serde_json::from_str(&peer.line()).expect("JSON");
    assert_eq!(mail["to"], serde_json::json!(["me@example.org", "you@example.org"]));
    // Python's own mail parser, so that it is not Moon's understanding of mail that is tested with itself.
    let script = "import sys, json, email, email.policy\n\
        m = email.message_from_string(json.load(sys.stdin), policy=email.policy.default)\n\
        print(json.dumps({'headers': [k.lower() for k in m.keys()], 'subject': m['subject'], 'from': m['from'], 'body': m.get_content()}))";
    let mut python = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    std::io::Write::write_all(&mut python.stdin.take().expect("piped"), mail["mail"].to_string().as_bytes())
        .expect("written");
    let read: Value = serde_json::from_slice(&python.wait_with_output().expect("ends").stdout).expect("JSON");
    let headers = read["headers"].as_array().expect("a list");
    assert!(!headers.contains(&"bcc".into()), "{headers:?}");
    assert_eq!(
        read["subject"],
        "[Moon] CRITICAL: custom (a\\r\\nBcc: victim@example.org\\r\\n\\r\\nbody) on box.example.org"
    );
    assert_eq!(read["from"], "Möön <moon@example.org>");
    let body = read["body"].as_str().expect("text");
    assert!(body.starts_with("x\\r\\n.\\r\\nMAIL FROM:<evil@example.org>"), "{body}");
    assert!(
        body.contains("What to do: make room")
            && body.contains("Severity:  critical")
            && body.contains("Host:      box"),
        "{body}"
    );
    assert!(!body.contains('\u{1b}') && !body.contains('\u{202e}'), "{body:?}");
    assert!(peer.said().is_empty(), "one mail only");
}

#[tokio::test]
async fn a_wrong_password_or_authority_is_a_matter_of_the_route_and_no_error_shows_a_secret() {
    let scene = Scene::new();
    let Some((peer, port)) = aiosmtpd("a_wrong_password_or_authority", &scene, "starttls") else { return };
    let wrong = "wrong-canary-4712";
    let error = failed(route(&scene, port, "starttls", wrong).deliver(&firing(1)).await, "route.login");
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(!format!("{error:?}").contains(wrong), "{error:?}");
    let good = route(&scene, port, "starttls", PASSWORD);
    let other = Scene::new();
    let (ca, ..) = certificate(other.folder.path());
    std::fs::copy(ca, scene.path("ca.pem")).expect("copied");
    let error = good.deliver(&firing(1)).await.expect_err("another authority");
    assert!(error.to_string().contains("certificate"), "{error}");
    std::fs::remove_file(scene.path("password")).expect("removed");
    failed(good.deliver(&firing(1)).await, "route.secret");
    assert!(peer.said().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_server_whose_certificate_is_its_own_authority_is_refused_with_what_to_do() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let scene = Scene::new();
    let mut own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("names");
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = CertifiedIssuer::self_signed(own, KeyPair::generate().expect("a key")).expect("signed");
    // As Proton's Bridge does it: one certificate for both.
    let files = ["ca.pem", "cert.pem", "key.pem"].map(|name| scene.path(name));
    for (file, text) in files.iter().zip([own.pem(), own.pem(), own.key().serialize_pem()]) {
        std::fs::write(file, text).expect("written");
    }
    let Some((peer, port)) = serve("a_server_whose_certificate", "starttls", &files[1], &files[2]) else { return };
    let error = failed(route(&scene, port, "starttls", PASSWORD).deliver(&firing(1)).await, "route.unreachable");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("tls = \"none\"")), "{error:?}");
    assert!(peer.said().is_empty());
}

/// What a bad server does.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Answers this to RCPT.
    Recipient(&'static str),
    /// Answers this to AUTH, with the line it was given.
    Login(&'static str),
    /// Says nothing.
    Hang,
    /// Takes the mail and hangs up instead of saying so, the first time.
    LostAck,
    /// Offers no TLS.
    NoTls,
    /// Hangs up at once.
    Reset,
}

/// A mail server that fails; the mails it has taken.
async fn bad_server(fault: Fault) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let mails = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = converse(stream, fault, &mails).await;
        }
    });
    (port, taken)
}

async fn converse(stream: TcpStream, fault: Fault, mails: &Mutex<Vec<String>>) -> std::io::Result<()> {
    if fault == Fault::Reset {
        return Ok(());
    }
    if fault == Fault::Hang {
        std::future::pending::<()>().await;
    }
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 bad\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let answer = match (line.split(' ').next().unwrap_or_default(), fault) {
            ("EHLO", _) => "250-bad\r\n250 AUTH PLAIN".to_owned(),
            ("AUTH", Fault::Login(answer)) => format!("{answer} {line} {PASSWORD}"),
            ("AUTH", _) => "235 in".to_owned(),
            ("RCPT", Fault::Recipient(answer)) => answer.to_owned(),
            ("DATA", _) => {
                write.write_all(b"354 go on\r\n").await?;
                let mut mail = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    mail.push_str(&line);
                    mail.push_str("\r\n");
                }
                let count = {
                    let mut mails = mails.lock().expect("one user");
                    mails.push(mail);
                    mails.len()
                };
                if fault == Fault::LostAck && count == 1 {
                    return Ok(());
                }
                "250 taken".to_owned()
            }
            ("QUIT", _) => return write.write_all(b"221 bye\r\n").await,
            _ => "250 ok".to_owned(),
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

fn plain(scene: &Scene, port: u16, tls: &str) -> Arc<dyn Notifier> {
    let file = scene.secret("password", PASSWORD);
    scene.route(&format!(
        "kind = \"email\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"{tls}\"\nusername = \"moon\"\npassword_file = {file:?}\n\
         to = [\"me@example.org\"]\ntimeout = \"2s\""
    ))
}

#[tokio::test]
async fn what_a_server_says_later_is_tried_again_and_what_it_refuses_is_not() {
    let scene = Scene::new();
    for (fault, code, kind) in [
        (Fault::Recipient("451 later"), "route.busy", Kind::Transient),
        (Fault::Recipient("550 nobody here"), "route.rejected", Kind::Data),
        (Fault::Recipient("554 no spam"), "route.rejected", Kind::Data),
        (Fault::Login("535 no"), "route.login", Kind::Unavailable),
        (Fault::Login("454 later"), "route.busy", Kind::Transient),
        (Fault::Reset, "route.unreachable", Kind::Transient),
        (Fault::Hang, "route.timeout", Kind::Transient),
    ] {
        let (port, taken) = bad_server(fault).await;
        let begun = Instant::now();
        let error = failed(plain(&scene, port, "none").deliver(&firing(1)).await, code);
        assert_eq!(error.kind, kind, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{error} took {:?}", begun.elapsed());
        let plain = data_encoding::BASE64.encode(format!("\0moon\0{PASSWORD}").as_bytes());
        let shown = format!("{error:?}");
        assert!(!shown.contains(PASSWORD) && !shown.contains(&plain), "{shown}");
        assert!(taken.lock().expect("one user").is_empty());
    }
}

#[tokio::test]
async fn a_server_that_offers_no_tls_gets_neither_mail_nor_password() {
    let scene = Scene::new();
    let (port, taken) = bad_server(Fault::NoTls).await;
    let error = plain(&scene, port, "starttls").deliver(&firing(1)).await.expect_err("no TLS");
    assert!(error.to_string().to_lowercase().contains("starttls"), "{error}");
    assert!(taken.lock().expect("one user").is_empty());
}

#[tokio::test]
async fn a_mail_whose_acknowledgement_is_lost_comes_once_more_with_the_same_id() {
    let scene = Scene::new();
    let (port, taken) = bad_server(Fault::LostAck).await;
    let route = plain(&scene, port, "none");
    assert_eq!(failed(route.deliver(&firing(9)).await, "route.unreachable").kind, Kind::Transient);
    route.deliver(&firing(9)).await.expect("taken");
    let taken = taken.lock().expect("one user");
    let ids: Vec<&str> = taken.iter().map(|mail| header(mail, "Message-ID")).collect();
    assert_eq!(ids, ["<alert-9-firing.1790000000@box.example.org>"; 2]);
}
