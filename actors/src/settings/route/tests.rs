//! Routes as people write them: what is taken, and what is refused with which words.

use super::*;
use serde_json::{Value, json};

fn read(mut fields: Value) -> Result<Route, String> {
    fields["name"] = json!("ops");
    serde_json::from_value(fields).map_err(|e| e.to_string())
}

fn refused(fields: Value, because: &str) {
    let said = read(fields.clone()).expect_err(&fields.to_string());
    assert!(said.contains(because), "{because:?} is not in {said:?}");
}

#[test]
fn a_route_of_each_kind_needs_little_and_comes_back_as_it_was_written() {
    for fields in [
        json!({"kind": "email", "host": "mail.example.org", "to": ["me@example.org"]}),
        json!({"kind": "desktop"}),
        json!({"kind": "webhook", "url": "https://example.org/hook"}),
        json!({"kind": "webhook", "url_file": "/etc/moon/slack", "template": "slack"}),
        json!({"kind": "alertmanager", "url": "http://127.0.0.1:9093", "allow_http": true, "allow_private": true}),
        json!({"kind": "command", "argv": ["logger", "-t", "moon"]}),
    ] {
        let route = read(fields).expect("read");
        let again: Route = serde_json::from_value(serde_json::to_value(&route).expect("written")).expect("read again");
        assert_eq!(again, route);
    }
}

#[test]
fn mail_is_for_what_is_critical_and_everything_else_for_all() {
    let mail = read(json!({"kind": "email", "host": "h", "to": ["me@example.org"]})).expect("read");
    let screen = read(json!({"kind": "desktop"})).expect("read");
    assert_eq!((mail.min_severity, screen.min_severity), (Severity::Critical, Severity::Info));
    assert!(mail.resolved && screen.resolved);
    let Target::Email(email) = mail.target else { panic!("a mail route") };
    assert_eq!((email.port, email.tls, email.subject_prefix.as_str()), (587, Tls::Starttls, "[Moon]"));
}

#[test]
fn a_key_of_another_kind_is_refused_with_those_there_are() {
    refused(json!({"kind": "desktop", "host": "x"}), "host: does not belong to kind = \"desktop\"");
    let webhook = json!({"kind": "webhook", "url": "https://example.org", "to": ["a@b.c"], "argv": []});
    refused(webhook.clone(), "to: does not belong to kind = \"webhook\", which has url, url_file");
    refused(webhook, "argv: does not belong");
    refused(json!({"kind": "desktop", "colour": "red"}), "unknown field `colour`");
    refused(json!({"kind": "pigeon"}), "unknown variant `pigeon`");
}

#[test]
fn what_would_show_a_secret_or_trust_the_wrong_one_is_refused() {
    let mail = |more: Value| {
        let mut fields = json!({"kind": "email", "host": "mail.example.org", "to": ["me@example.org"]});
        fields.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        fields
    };
    refused(mail(json!({"tls": "none"})), "is for this machine itself");
    refused(mail(json!({"tls": "none", "host": "127.0.0.1.example.org"})), "is for this machine itself");
    assert!(read(mail(json!({"tls": "none", "host": "127.0.0.1"}))).is_ok());
    refused(mail(json!({"username": "me"})), "belong together");
    refused(mail(json!({"to": []})), "to: must name");
    refused(mail(json!({"to": ["me"]})), "is not an e-mail address");
    refused(mail(json!({"to": ["me@example.org\r\nBcc: all@example.org"]})), "is not an e-mail address");
    refused(mail(json!({"subject_prefix": "a\nb"})), "one line");
    let hook = |url: &str| json!({"kind": "webhook", "url": url});
    refused(hook("http://example.org"), "not https");
    refused(hook("ftp://example.org"), "must begin with https://");
    refused(hook("https://"), "must begin with https://");
    refused(hook("https://me:hush@example.org"), "plain address");
    refused(hook("https://example.org/?token=hush"), "plain address");
    refused(json!({"kind": "webhook"}), "one of url and url_file");
    refused(json!({"kind": "webhook", "url": "https://hooks.slack.com/x", "template": "slack"}), "url_file");
    refused(json!({"kind": "webhook", "url": "https://example.org", "template": "teams"}), "absolute path");
    refused(json!({"kind": "command", "argv": ["./run"]}), "absolute path");
    refused(json!({"kind": "command", "argv": []}), "must name a program");
    refused(
        json!({"kind": "alertmanager", "url": "https://am", "labels": {"severity": "x"}}),
        "the label severity is Moon's own",
    );
}

#[test]
fn names_are_words_and_none_is_the_log() {
    for name in ["", "Log", "a b", "9a", "log", "x\n", &"a".repeat(33)] {
        let fields = json!({"name": name, "kind": "desktop"});
        assert!(serde_json::from_value::<Route>(fields).is_err(), "{name:?}");
    }
}
