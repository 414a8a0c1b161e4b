//! The routes of alerts against what really takes them: a mail server, a desktop on a bus of its own, Alertmanager, web servers with
//! every fault, commands. Nothing leaves this machine but one attempt to reach an address that nobody has.

mod support;

#[path = "routes/desk.rs"]
mod desk;
#[path = "routes/mail.rs"]
mod mail;
#[allow(dead_code, reason = "of the world of the alert path only its clock is of use here: the receiver is a real one")]
#[path = "alerts/receiver.rs"]
mod receiver;
#[path = "routes/storm.rs"]
mod storm;
#[path = "routes/web.rs"]
mod web;

use async_trait::async_trait;
use chrono::DateTime;
use moon::adapters::routes::{self, Around, Names};
use moon_actors::Error;
use moon_actors::port::{Alert, AlertKey, Digest, Notice, Notifier, Severity};
use moon_actors::settings::{Alerts, Settings};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Names with the answers they give one after another; the last one stays.
#[derive(Default)]
struct Book(Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>);

#[async_trait]
impl Names for Book {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let known = self.0.lock().expect("one user").get_mut(host).map(|answers| match answers.len() {
            1 => answers[0].clone(),
            _ => answers.remove(0),
        });
        match known {
            Some(answer) => Ok(answer),
            None => Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect()),
        }
    }
}

/// A folder with the files of one route.
struct Scene {
    folder: tempfile::TempDir,
    book: Arc<Book>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("moon-routes-").tempdir().expect("a folder");
        Self { folder, book: Arc::default() }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    /// A file for its owner only; its path as it stands in the settings.
    fn secret(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
        path.display().to_string()
    }
    fn knows(&self, name: &str, answers: &[&[&str]]) {
        let read = |list: &&[&str]| list.iter().map(|a| a.parse().expect("an address")).collect();
        self.book.0.lock().expect("one user").insert(name.into(), answers.iter().map(read).collect());
    }
    fn around(&self) -> Around {
        let mut environment = moon::config::Environment::from([("HOME".into(), self.folder.path().into())]);
        environment.extend(std::env::var_os("PATH").map(|path| ("PATH".into(), path)));
        Around { environment, host: "box.example.org".into(), names: Arc::clone(&self.book) as Arc<dyn Names> }
    }
    fn alerts(&self, fields: &str) -> Alerts {
        let text = format!("[[alerts.routes]]\nname = \"ops\"\nmin_severity = \"info\"\n{fields}\n");
        let settings: Settings = toml::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(settings.check(), vec![]);
        settings.alerts
    }
    fn route(&self, fields: &str) -> Arc<dyn Notifier> {
        routes::build(&self.alerts(fields), self.around()).remove(0)
    }
}

fn alert(id: i64) -> Alert {
    let at = |seconds: i64| DateTime::from_timestamp(1_790_000_000 + seconds, 0).expect("a time");
    Alert {
        id,
        key: AlertKey::new("disk_critical", "moon"),
        severity: Severity::Critical,
        message: "Nur noch 1,9 GB frei – „knapp“".into(),
        hint: Some("make room".into()),
        fired_at: at(0),
        resolved_at: None,
    }
}

fn firing(id: i64) -> Notice {
    Notice::Alert(alert(id))
}

fn resolved(id: i64) -> Notice {
    let firing = alert(id);
    Notice::Alert(Alert { resolved_at: Some(firing.fired_at + chrono::TimeDelta::minutes(5)), ..firing })
}

fn digest() -> Notice {
    let since = alert(1).fired_at;
    let until = since + chrono::TimeDelta::hours(1);
    Notice::Digest(Digest {
        id: "ops-3".into(),
        since,
        until,
        count: 17,
        worst: Severity::Warning,
        lines: vec!["one line".into()],
    })
}

/// A program that ends with its test, and the lines it prints.
struct Peer {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Peer {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the peer starts");
        let (told, lines) = std::sync::mpsc::channel();
        let out = std::io::BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(out).map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        Self { child, lines }
    }
    fn line(&self) -> String {
        self.lines.recv_timeout(support::process::PATIENCE).expect("the peer says something")
    }
    fn said(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate for this machine and the authority that signed it, as files: (authority, certificate, key).
fn certificate(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut authority = CertificateParams::new(vec![]).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "hook.test".to_owned()];
    let signed = CertificateParams::new(names).expect("names").signed_by(&key, &authority).expect("signed");
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    (write("ca.pem", authority.pem()), write("cert.pem", signed.pem()), write("key.pem", key.serialize_pem()))
}

#[track_caller]
fn failed(result: moon_actors::Result<()>, code: &str) -> Error {
    let error = result.expect_err("must fail");
    assert_eq!(error.code, code, "{error:?}");
    error
}

#[tokio::test]
async fn a_route_is_not_given_what_it_is_not_meant_for() {
    let scene = Scene::new();
    let text = "[[alerts.routes]]\nname = \"a\"\nkind = \"command\"\nargv = [\"false\"]\nmin_severity = \"critical\"\nresolved = false\n";
    let settings: Settings = toml::from_str(text).expect("settings");
    let route = routes::build(&settings.alerts, scene.around()).remove(0);
    let warning = Notice::Alert(Alert { severity: Severity::Warning, ..alert(1) });
    for (notice, wanted) in [(firing(1), true), (resolved(1), false), (warning, false), (digest(), false)] {
        assert_eq!(route.wants(&notice), wanted, "{notice:?}");
        assert_eq!(route.deliver(&notice).await.is_err(), wanted, "{notice:?}");
    }
}

#[test]
fn what_is_missing_is_said_before_anything_is_sent() {
    let scene = Scene::new();
    let text = "[alerts]\nemail_to = [\"me@example.org\"]\n\
        [[alerts.routes]]\nname = \"m\"\nkind = \"email\"\nhost = \"h\"\nto = [\"a@b.c\"]\nusername = \"u\"\npassword_file = \"~/none\"\n\
        [[alerts.routes]]\nname = \"w\"\nkind = \"webhook\"\nurl_file = \"~/none\"\n\
        [[alerts.routes]]\nname = \"t\"\nkind = \"webhook\"\nurl = \"https://example.org\"\ntemplate = \"~/none\"\n\
        [[alerts.routes]]\nname = \"x\"\nkind = \"webhook\"\nurl = \"https://example.org\"\nca_file = \"/dev/null\"\n\
        [[alerts.routes]]\nname = \"y\"\nkind = \"email\"\nhost = \"h\"\nto = [\"a b@c\"]\n\
        [[alerts.routes]]\nname = \"p\"\nkind = \"webhook\"\nurl = \"https://10.0.0.1\"\n\
        [[alerts.routes]]\nname = \"c\"\nkind = \"command\"\nargv = [\"no-such-program-here\"]\n\
        [[alerts.routes]]\nname = \"good\"\nkind = \"command\"\nargv = [\"true\"]\n\
        [[alerts.routes]]\nname = \"d\"\nkind = \"desktop\"\n";
    let settings: Settings = toml::from_str(text).expect("settings");
    assert_eq!(settings.check(), vec![]);
    let said = routes::unready(&settings.alerts, scene.around());
    let begins = [
        "\"m\" cannot",
        "\"w\" cannot",
        "\"t\" cannot",
        "\"x\" cannot",
        "\"y\" cannot",
        "\"p\" cannot",
        "\"c\" cannot",
    ];
    assert_eq!(said.len(), begins.len(), "{said:#?}");
    for ((_, sentence), begin) in said.iter().zip(begins) {
        assert!(sentence.starts_with(&format!("the alert route {begin}")), "{sentence}");
    }
    let names: Vec<String> =
        routes::build(&settings.alerts, scene.around()).iter().map(|r| r.name().to_owned()).collect();
    assert_eq!(names, ["m", "w", "t", "x", "y", "p", "c", "good", "d", "email"]);
}
