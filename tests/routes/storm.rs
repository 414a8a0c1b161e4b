//! A storm of alerts, and what of it arrives at a real mail server.
//!
//! The path by itself runs for hours of a clock that is moved by hand; the daemon for the moment that a storm takes. What counts is
//! what the server has taken, not what the ledger says of it.

use super::*;
use crate::mail::{PASSWORD, aiosmtpd, header, route};
use crate::receiver::{HOUR, MINUTE, Time};
use moon::adapters::sqlite::SqliteLedger;
use moon_actors::alert::Post;
use moon_actors::contract::{AlertsRequest, Request};
use moon_actors::port::{AlertBook, Ledger, NoProbe};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use support::process::{Scratch, wait_for};

/// Alerts a minute, and for how long: `MOON_TEST_STORM=60` is a whole hour of it.
const A_MINUTE: usize = 1000;

fn minutes() -> usize {
    std::env::var("MOON_TEST_STORM").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(3)
}

/// What the server has taken.
#[derive(Debug, Default)]
struct Taken {
    /// Of notices by themselves: `1-firing`.
    singles: Vec<String>,
    /// How many notices each digest stands for.
    digests: Vec<u64>,
}

impl Taken {
    fn read(lines: impl IntoIterator<Item = String>) -> Self {
        let mut taken = Self::default();
        for line in lines {
            let mail: Value = serde_json::from_str(&line).expect("JSON");
            let mail = mail["mail"].as_str().expect("text");
            let id = header(mail, "Message-ID").trim_start_matches('<');
            let id = id.split('.').next().unwrap_or_default();
            match id.strip_prefix("alert-") {
                Some(id) => taken.singles.push(id.to_owned()),
                None => {
                    let words = header(mail, "Subject").split(' ').filter_map(|word| word.parse::<u64>().ok());
                    taken.digests.extend(words.take(1));
                }
            }
        }
        taken
    }
    fn of(&self, phase: &str) -> BTreeSet<&str> {
        self.singles.iter().filter_map(|id| id.strip_suffix(phase)).collect()
    }
}

/// The path with one real route, on a clock of the test's own.
struct Sky {
    time: Arc<Time>,
    ledger: SqliteLedger,
    mail: Arc<dyn Notifier>,
    peer: Peer,
    marks: i64,
}

impl Sky {
    async fn new(test: &str, scene: &Scene) -> Option<Self> {
        let (peer, port) = aiosmtpd(test, scene, "starttls")?;
        let mail = route(scene, port, "starttls", PASSWORD);
        let time = Arc::new(Time::default());
        let ledger = SqliteLedger::in_memory(Arc::clone(&time) as _, Arc::clone(&time) as _).expect("a ledger");
        let sky = Self { time, ledger, mail, peer, marks: 1_000_000 };
        sky.post().open().await.expect("the route opens");
        Some(sky)
    }
    fn post(&self) -> Post {
        Post {
            ledger: Arc::new(self.ledger.clone()),
            notifiers: vec![Arc::clone(&self.mail)],
            probe: Arc::new(NoProbe),
            settings: Arc::default(),
        }
    }
    /// Time goes on, and the path is looked at as the actor does.
    async fn live(&self, span: Duration, step: Duration) {
        let mut left = span;
        while !left.is_zero() {
            let part = left.min(step);
            self.time.forward(part);
            left -= part;
            let post = self.post();
            post.tend().await.expect("tended");
            for courier in post.couriers() {
                courier.pass().await.expect("passed");
            }
        }
    }
    /// Everything that arrived since the last time.
    async fn taken(&mut self) -> Taken {
        self.marks += 1;
        self.mail.deliver(&firing(self.marks)).await.expect("taken");
        let mark = format!("<alert-{}-firing.", self.marks);
        let lines: Vec<String> =
            std::iter::repeat_with(|| self.peer.line()).take_while(|line| !line.contains(&mark)).collect();
        Taken::read(lines)
    }
    async fn raise(&self, n: usize, severity: Severity) -> i64 {
        let key = AlertKey::new("storm.test", format!("box {n}"));
        self.ledger.raise(&key, severity, "it is so", None).await.expect("raised").expect("new").id
    }
}

#[tokio::test]
async fn of_a_thousand_alerts_a_minute_a_mailbox_gets_five_mails_and_one_digest_an_hour() {
    let (scene, storm) = (Scene::new(), minutes());
    let Some(mut sky) = Sky::new("of_a_thousand_alerts_a_minute", &scene).await else { return };
    let mut critical = Vec::new();
    for minute in 0..storm {
        for n in 0..A_MINUTE {
            sky.raise(minute * A_MINUTE + n, Severity::Warning).await;
        }
        sky.live(MINUTE, Duration::from_secs(15)).await;
        if minute == storm / 2 {
            for n in 0..3 {
                critical.push(sky.raise(1_000_000 + n, Severity::Critical).await);
                sky.ledger.acknowledge(critical[n], "ann", None).await.expect("written");
            }
        }
    }
    sky.live(HOUR.saturating_sub(MINUTE * storm as u32), MINUTE).await;
    let hour = sky.taken().await;
    let told: Vec<String> =
        ["1", "2", "3"].map(String::from).into_iter().chain(critical[..2].iter().map(i64::to_string)).collect();
    assert_eq!(
        hour.of("-firing"),
        told.iter().map(String::as_str).collect(),
        "three warnings, and two that are critical"
    );
    assert_eq!((hour.singles.len(), hour.digests.len()), (5, 1), "{hour:?}");

    // Behind the hour of the last of them: an hour's share is one for beginnings and ends.
    sky.live(HOUR, 5 * MINUTE).await;
    let mut all = sky.taken().await;
    assert!(all.singles.is_empty() && all.digests.len() <= 1, "what is over its share stays in digests: {all:?}");
    all.singles.extend(hour.singles);
    all.digests.extend(hour.digests);
    for n in (0..storm * A_MINUTE).chain(1_000_000..1_000_003) {
        sky.ledger.resolve(&AlertKey::new("storm.test", format!("box {n}"))).await.expect("over");
    }
    for _ in 0..4 {
        sky.live(HOUR, 5 * MINUTE).await;
        let next = sky.taken().await;
        assert!(next.singles.len() <= 5 && next.digests.len() <= 1, "{next:?}");
        all.singles.extend(next.singles);
        all.digests.extend(next.digests);
    }
    assert_eq!(all.of("-firing").len(), 5, "nothing of a storm that is over");
    assert_eq!(all.of("-resolved"), all.of("-firing"), "what was told by itself ends by itself, and nothing else does");
    let raised = (storm * A_MINUTE + 3) as u64;
    assert_eq!(all.singles.len() as u64 + all.digests.iter().sum::<u64>(), 2 * raised, "each was told or counted");
}

#[tokio::test]
async fn the_daemon_sends_five_mails_of_a_storm_and_holds_the_rest() {
    let scene = Scene::new();
    let Some((peer, port)) = aiosmtpd("the_daemon_sends_five_mails", &scene, "none") else { return };
    let scratch = Scratch::new();
    let settings = scratch.path().join("moon-test.toml");
    let text = format!(
        "[health]\nstart_after = \"1h\"\n[[alerts.routes]]\nname = \"ops\"\nkind = \"email\"\nmin_severity = \"info\"\n\
         host = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nto = [\"me@example.org\"]\n"
    );
    std::fs::write(&settings, text).expect("written");
    std::fs::set_permissions(&settings, std::fs::Permissions::from_mode(0o600)).expect("mode");
    let daemon = scratch.daemon(&["--config", &settings.display().to_string()]);
    let home = moon::home::Home::at(scratch.home());
    let raise = async |n: usize, severity| {
        let (rule, subject, message) = ("storm.test".to_owned(), format!("box {n}"), "it is so".to_owned());
        let alerts = AlertsRequest::Raise { rule, subject, severity: Some(severity), message, hint: None };
        let report = moon::daemon::socket::ask(&home, &Request::Alerts { alerts }).await.expect("answers");
        assert!(report.is_some_and(|report| report.error.is_none()), "raised");
    };
    for n in 0..A_MINUTE {
        raise(n, Severity::Warning).await;
    }
    for n in 0..3 {
        raise(A_MINUTE + n, Severity::Critical).await;
    }
    let held = wait_for("every notice to be told or held", || {
        let routes = scratch.json(&["alerts", "list"]).report()["data"]["routes"].clone();
        let ops = routes.as_array().into_iter().flatten().find(|route| route["name"] == "ops")?.clone();
        (ops["owed"] == 0).then(|| ops["held"].as_u64())?
    });
    assert_eq!(held, (A_MINUTE + 3 - 5) as u64);
    daemon.stop();
    let five: Vec<String> = (0..5).map(|_| peer.line()).collect();
    let taken = Taken::read(five.into_iter().chain(peer.said()));
    let critical = [A_MINUTE + 1, A_MINUTE + 2].map(|id| id.to_string());
    let told: BTreeSet<&str> = ["1", "2", "3"].into_iter().chain(critical.iter().map(String::as_str)).collect();
    assert_eq!((taken.of("-firing"), taken.singles.len()), (told, 5), "{taken:?}");
}
