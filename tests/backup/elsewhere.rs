//! Backups that leave the machine: encrypted with age, copied into a store.

use super::support::process::{Ran, Scratch, wait_for};
use super::{files, folder, issues, ready, support};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

#[test]
fn an_encrypted_backup_is_opened_by_the_age_tool_and_by_moon_and_by_nobody_else() {
    let Some(mut keygen) = support::debian_command("age-keygen") else {
        return support::skip("age", "age is not unpacked");
    };
    let scratch = ready();
    let identity = scratch.path().join("identity.txt");
    if keygen.arg("-o").arg(&identity).output().map_or(true, |out| !out.status.success()) {
        return support::skip("age", "age-keygen does not run");
    }
    let text = std::fs::read_to_string(&identity).expect("an identity");
    let recipient = text.lines().find_map(|l| l.strip_prefix("# public key: ")).expect("a recipient").to_owned();
    let sealed = format!("backup.recipients=[\"{recipient}\"]");
    let made = scratch.json(&["--set", &sealed, "backup"]).expect(0).report();
    assert_eq!(
        (&made["data"]["backup"]["proof"], &made["data"]["backup"]["encrypted"]),
        (&Value::from("stream"), &Value::from(true))
    );
    let file = files(&folder(&scratch)).pop().expect("a backup");
    assert!(file.to_string_lossy().ends_with(".tar.zst.age"));
    // Without the key the file is compared; with it the backup is restored; with another one it is refused.
    assert_eq!(scratch.json(&["backup", "verify"]).expect(0).report()["data"]["verified"][0]["proof"], "stream");
    let known = format!("backup.identity_file={}", identity.display());
    assert_eq!(
        scratch.json(&["--set", &known, "backup", "verify"]).expect(0).report()["data"]["verified"][0]["proof"],
        "restored"
    );
    let other = scratch.path().join("other.txt");
    let ran = support::debian_command("age-keygen").expect("known").arg("-o").arg(&other).output().expect("it runs");
    assert!(ran.status.success());
    let wrong = format!("backup.identity_file={}", other.display());
    assert_eq!(issues(&scratch.json(&["--set", &wrong, "backup", "verify"]).expect(2)), ["backup.identity"]);
    // By the tool, without Moon.
    let plain = scratch.path().join("plain.tar.zst");
    let ran = Ran::of(
        support::debian_command("age")
            .expect("known")
            .arg("-d")
            .arg("-i")
            .arg(&identity)
            .arg("-o")
            .arg(&plain)
            .arg(&file),
    );
    ran.expect(0);
    Ran::of(Command::new("tar").arg("-tf").arg(&plain).arg("--zstd")).expect(0);
    // And the other way: what the tool encrypted is a backup that Moon can prove.
    std::fs::remove_file(&file).expect("removed");
    let ran = Ran::of(
        support::debian_command("age").expect("known").arg("-r").arg(&recipient).arg("-o").arg(&file).arg(&plain),
    );
    ran.expect(0);
    std::fs::remove_file(
        folder(&scratch).join(format!("{}.json", made["data"]["backup"]["id"].as_str().expect("an id"))),
    )
    .expect("removed");
    assert_eq!(
        scratch.json(&["--set", &known, "backup", "verify"]).expect(0).report()["data"]["verified"][0]["proof"],
        "restored"
    );
    // What is no recipient is refused by name and never shown: it could be an identity by mistake.
    let secret = text.lines().find(|l| l.starts_with("AGE-SECRET-KEY-")).expect("a secret").to_owned();
    let ran = scratch.json(&["--set", &format!("backup.recipients=[\"{secret}\"]"), "backup"]).expect(64);
    assert!(!format!("{ran:?}").contains(&secret), "a secret was shown");
}

/// A store of the kind that everybody runs, from moto.
struct Moto(std::process::Child, String);

impl Moto {
    fn start(scratch: &Scratch) -> Option<Self> {
        let python = support::python_peers()?;
        python.join("moto").is_dir().then_some(())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let said = std::fs::File::create(scratch.path().join("moto.said")).expect("a file");
        let child = Command::new("python3")
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .env("PYTHONPATH", python)
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .ok()?;
        let mut moto = Self(child, format!("http://127.0.0.1:{port}"));
        wait_for("moto", || {
            assert!(
                moto.0.try_wait().expect("a child").is_none(),
                "moto ended: {:?}",
                std::fs::read_to_string(scratch.path().join("moto.said"))
            );
            let made = Command::new("curl")
                .args(["-s", "-f", "-X", "PUT", &format!("{}/bucket", moto.1)])
                .output()
                .expect("curl runs");
            made.status.success().then_some(())
        });
        Some(moto)
    }
    fn curl(&self, words: &[&str], key: &str) -> String {
        let out = Command::new("curl")
            .arg("-s")
            .args(words)
            .arg(format!("{}/bucket{key}", self.1))
            .output()
            .expect("curl runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_backup_is_copied_into_a_store_and_proved_from_there() {
    let scratch = ready();
    let Some(moto) = Moto::start(&scratch) else { return support::skip("store", "moto is not in target/peers/python") };
    let credentials = scratch.path().join("credentials");
    std::fs::write(&credentials, "[default]\naws_access_key_id = testing\naws_secret_access_key = testing-secret\n")
        .expect("a file");
    let settings = [
        "backup.s3_url=s3://bucket/my/moon".to_owned(),
        format!("backup.s3_endpoint={}", moto.1),
        format!("backup.s3_credentials_file={}", credentials.display()),
        "backup.s3_allow_http=true".to_owned(),
    ];
    let run = |words: &[&str]| {
        let mut all: Vec<&str> = settings.iter().flat_map(|s| ["--set", s.as_str()]).collect();
        all.extend(words);
        scratch.json(&all)
    };
    // A file of credentials that others may read is refused, and the backup in the folder is made all the same.
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o640)).expect("widened");
    let ran = run(&["backup"]).expect(2);
    assert!(issues(&ran).iter().all(|code| code == "backup.credentials"), "{ran:?}");
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o600)).expect("narrowed");
    let ran = run(&["backup"]).expect(0);
    assert!(!format!("{ran:?}").contains("testing-secret"));
    // What was missing of the last days was sent, too.
    let listed = moto.curl(&[], "?list-type=2");
    assert_eq!(listed.matches(".tar.zst</Key>").count(), 2, "{listed}");
    let list = run(&["backup", "list"]).expect(0).report();
    let targets: Vec<&str> =
        list["data"]["backups"].as_array().expect("a list").iter().filter_map(|b| b["target"].as_str()).collect();
    assert_eq!(targets, ["folder", "folder", "s3", "s3"]);
    // The weekly drill takes it from there; one that was changed there is found.
    let id = list["data"]["backups"][0]["id"].as_str().expect("an id").to_owned();
    let daemon_words: Vec<String> = settings.iter().flat_map(|s| ["--set".to_owned(), s.clone()]).collect();
    let words: Vec<&str> = daemon_words.iter().map(String::as_str).collect();
    let drilled = |ok: bool| {
        let mut all = words.clone();
        all.extend(["backup", "drill"]);
        let ran = scratch.json(&all).expect(if ok { 0 } else { 1 });
        let status = scratch.json(&["status"]).report();
        assert_eq!(status["data"]["backups"]["last_drill"]["ok"], ok, "{ran:?}");
    };
    drilled(true);
    moto.curl(&["-X", "PUT", "--data-binary", "rubbish"], &format!("/my/moon/{id}.tar.zst"));
    drilled(false);
    moto.curl(&["-X", "PUT", "--data-binary", "foreign"], "/my/moon/other.txt");
    // Without the store everything here goes on, and says what it could not do.
    drop(moto);
    let ran = run(&["backup"]).expect(2);
    assert!(issues(&ran).iter().all(|code| code == "backup.store_failed"), "{ran:?}");
}
