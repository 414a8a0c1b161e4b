//! What the routes say and whom they may say it to, without any peer: `tests/routes.rs` meets those.

use super::http::is_public;
use super::shape::render;
use super::told::{Told, short};
use super::*;
use chrono::{DateTime, Utc};
use moon_actors::port::{Alert, AlertKey, Digest};
use moon_actors::settings::route::Template;
use secrecy::ExposeSecret;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + seconds, 0).expect("a time")
}

fn alert(message: &str) -> Alert {
    Alert {
        id: 7,
        key: AlertKey::new("disk_critical", "moon"),
        severity: Severity::Critical,
        message: message.into(),
        hint: Some("free some space".into()),
        fired_at: at(0),
        resolved_at: None,
    }
}

fn around(folder: &std::path::Path) -> Around {
    let environment = Environment::from([("HOME".into(), folder.into())]);
    Around { environment, host: "box".into(), names: Arc::new(SystemNames) }
}

fn shaped(template: &Template, notice: &Notice) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let (kind, body) = render(template, &Told::new(notice, "box"), &around(folder.path())).expect("rendered");
    assert_eq!(kind, "application/json");
    serde_json::from_slice(&body).expect("JSON")
}

#[test]
fn only_addresses_of_the_public_internet_are_public() {
    for address in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450::5", "::ffff:8.8.8.8", "64:ff9b::808:808"]
    {
        assert!(is_public(address.parse().expect("an address")), "{address}");
    }
    for address in [
        "127.0.0.1",
        "127.255.0.9",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "198.18.0.1",
        "198.19.255.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001::1",
        "2001:db8::1",
        "100::1",
        "3fff::1",
    ] {
        assert!(!is_public(address.parse().expect("an address")), "{address}");
    }
}

#[test]
fn text_is_cut_after_it_was_made_harmless() {
    assert_eq!(short("a\r\nBcc: x", 50), "a\\r\\nBcc: x");
    assert_eq!(short("äöü", 3), "äöü");
    assert_eq!(short("äöüß", 3), "äö…");
    assert_eq!(short(&"\u{1b}".repeat(50), 10).chars().count(), 10);
}

#[test]
fn a_digest_tells_how_many_and_which() {
    let digest = Digest {
        id: "mail 5\r\nX: y".into(),
        since: at(0),
        until: at(3600),
        count: 17,
        worst: Severity::Warning,
        lines: vec!["one".into(), "two\u{202e}".into()],
    };
    let told = Told::new(&Notice::Digest(digest), "box");
    assert_eq!(told.title, "WARNING: 17 notices on box");
    assert!(told.text().contains("- one\n- two\\u{202e}\n"), "{}", told.text());
    assert!(told.key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'), "{}", told.key);
}

#[test]
fn slack_gets_blocks_within_its_limits_and_nobody_is_called() {
    let hostile = format!("<!channel> <https://evil|click> & {}", "<".repeat(9000));
    let posted = shaped(&Template::Slack, &Notice::Alert(alert(&hostile)));
    let section = posted["blocks"][1]["text"]["text"].as_str().expect("text");
    assert!(section.starts_with("&lt;!channel&gt; &lt;https://evil|click&gt; &amp; "), "{section}");
    assert!(section.contains("…\nWhat to do: free some space"), "{section}");
    for (pointer, most) in [
        ("/text", 3000),
        ("/blocks/0/text/text", 150),
        ("/blocks/1/text/text", 3000),
        ("/blocks/2/elements/0/text", 2000),
    ] {
        let text = posted.pointer(pointer).and_then(Value::as_str).expect(pointer);
        assert!(!text.is_empty() && text.chars().count() <= most, "{pointer}: {}", text.chars().count());
    }
    let all = posted.to_string();
    assert!(!all.contains("<!") && !all.contains("<https"), "{all}");
    assert_eq!(posted["blocks"][1]["text"]["verbatim"], true);
}

#[test]
fn discord_gets_an_embed_within_its_limits_and_nobody_is_called() {
    let hostile = format!("@everyone <@&5> **bold** [x](https://evil) {}", "_".repeat(9000));
    let mut long = alert(&hostile);
    long.key = AlertKey::new(&"r".repeat(900), "s".repeat(900));
    long.hint = Some("h".repeat(5000));
    let posted = shaped(&Template::Discord, &Notice::Alert(long));
    assert_eq!(posted["allowed_mentions"], serde_json::json!({ "parse": [] }));
    let embed = &posted["embeds"][0];
    let length = |value: &Value| value.as_str().expect("text").chars().count();
    let fields = embed["fields"].as_array().expect("a list");
    assert!(length(&embed["title"]) <= 256 && length(&embed["description"]) <= 4096 && fields.len() <= 25);
    let in_fields: usize = fields.iter().map(|f| length(&f["name"]) + length(&f["value"])).sum();
    assert!(fields.iter().all(|f| length(&f["name"]) <= 256 && (1..=1024).contains(&length(&f["value"]))));
    let all = length(&embed["title"]) + length(&embed["description"]) + length(&embed["footer"]["text"]) + in_fields;
    assert!(all <= 6000, "{all}");
    let description = embed["description"].as_str().expect("text");
    assert!(description.starts_with("@\u{200b}everyone \\<@\u{200b}&5\\> \\*\\*bold\\*\\* \\[x\\]"), "{description}");
}

#[test]
fn a_template_of_the_users_makes_json_of_hostile_text_or_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("written");
        let told = Told::new(&Notice::Alert(alert("say \"hi\" \\ <b>")), "box");
        render(&Template::File(file.display().to_string()), &told, &around(folder.path()))
            .map(|(kind, body)| (kind, String::from_utf8(body).expect("text")))
    };
    let ntfy = "{\"topic\": \"moon\", \"title\": {{ title }}, \"message\": {{ message }}, \"priority\": {{ 5 if severity == \"critical\" else 3 }}}";
    let (kind, body) = made("ntfy.json", ntfy).expect("made");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (kind, &body["message"], &body["priority"]),
        ("application/json", &"say \"hi\" \\ <b>".into(), &5.into())
    );
    let (kind, body) = made("plain.txt", "{{ severity }}: {{ message }}").expect("made");
    assert_eq!((kind, body.as_str()), ("text/plain; charset=utf-8", "critical: say \"hi\" \\ <b>"));
    for (text, because) in [
        ("{\"a\": {{ nothing }}}", "undefined"),
        ("{\"a\": \"{{ message }}\"}", "does not make JSON"),
        ("{{ oops", "syntax error"),
        ("{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}", "fuel"),
        ("\"{% for i in range(9000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}\"", "bytes"),
    ] {
        let error = made("bad.json", text).expect_err(text);
        assert_eq!(error.code, "route.template");
        assert!(error.to_string().contains(because), "{because:?} is not in {error}");
    }
}

#[test]
fn a_secret_is_read_only_from_a_file_of_ones_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut around = around(folder.path());
    let file = folder.path().join("password");
    std::fs::write(&file, "hush hush\r\n").expect("written");
    let set = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("mode");
    let read = |around: &Around, text: &str| secret::read_line(around, "password_file", text);
    for mode in [0o640, 0o604, 0o620, 0o660, 0o777] {
        set(mode);
        let error = read(&around, "~/password").expect_err("shared");
        assert_eq!(error.code, "route.secret");
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    }
    set(0o600);
    assert_eq!(read(&around, "~/password").expect("read").expose_secret(), "hush hush");
    // systemd's own folder shows a right of the service's as one of the group.
    set(0o440);
    assert!(read(&around, "$CREDENTIALS_DIRECTORY/password").is_err(), "no such folder is set");
    around.environment.insert("CREDENTIALS_DIRECTORY".into(), folder.path().into());
    assert!(read(&around, "$CREDENTIALS_DIRECTORY/password").is_ok());
    assert!(read(&around, "$CREDENTIALS_DIRECTORY/../password").is_err());
    for (text, because) in [("two\nlines", "more than one line"), (" \n", "empty"), (&*"x".repeat(20_000), "larger")] {
        set(0o600);
        std::fs::write(&file, text).expect("written");
        let error = read(&around, "~/password").expect_err(because);
        assert!(error.to_string().contains(because), "{error}");
    }
    assert!(read(&around, "~/nothing").expect_err("absent").to_string().contains("No such file"));
    assert!(read(&around, "~").expect_err("a folder").to_string().contains("not a file"));
}
