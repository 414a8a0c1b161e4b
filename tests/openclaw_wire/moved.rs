//! A gateway that was given another port or token while Moon was running.
//!
//! The configuration is OpenClaw's own file in a scratch folder. It must never need a restart of Moon to be followed.

use super::fake::{Fake, eventually};
use moon::adapters::openclaw::{OpenClaw, discover};
use moon_actors::port::SessionHost;
use moon_actors::settings;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// What OpenClaw's configuration says of this gateway.
fn configure(state: &Path, fake: &Fake, token: &str) {
    let port: u16 = fake.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let config = json!({ "gateway": { "port": port, "auth": { "mode": "token", "token": token } } });
    std::fs::write(state.join("openclaw.json"), config.to_string()).expect("written");
}

fn connect(state: &Path, url: &str) -> OpenClaw {
    let settings = settings::OpenClaw {
        state_dir: state.display().to_string(),
        url: url.into(),
        pair_device: false,
        connect_timeout: Duration::from_secs(5),
        ..settings::OpenClaw::default()
    };
    OpenClaw::connect(&settings, &discover(&settings).expect("found"), state)
}

#[tokio::test]
async fn another_port_and_token_in_openclaws_configuration_are_followed_when_the_connection_ends() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (before, after) = (Fake::start().await, Fake::start().await);
    configure(scratch.path(), &before, "one");
    let host = connect(scratch.path(), "");
    host.readings().await.expect("connected");
    assert_eq!(before.heard("connect")[0]["auth"]["token"], "one");
    // Somebody is writing it: no reason to go anywhere else.
    std::fs::write(scratch.path().join("openclaw.json"), "{ gateway: {").expect("written");
    before.unasked(super::Unasked::Close(1012));
    eventually("away", || host.describe().contains("not connected")).await;
    assert!(host.describe().contains(&before.url), "{}", host.describe());
    configure(scratch.path(), &after, "two");
    eventually("followed", || host.describe().contains(&format!("{}, connected", after.url))).await;
    assert_eq!(after.heard("connect")[0]["auth"]["token"], "two");
    assert_eq!(before.connections(), 1);
}

#[tokio::test]
async fn an_address_in_moons_own_settings_is_kept_whatever_openclaw_says() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (ours, theirs) = (Fake::start().await, Fake::start().await);
    configure(scratch.path(), &theirs, "one");
    let host = connect(scratch.path(), &ours.url);
    host.readings().await.expect("connected");
    ours.unasked(super::Unasked::Close(1012));
    eventually("again", || ours.connections() == 2).await;
    assert_eq!(theirs.connections(), 0);
}
