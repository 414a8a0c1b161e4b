//! Keys of known shapes go; ordinary text stays byte for byte.

use super::*;
use proptest::prelude::*;

/// Made up of pieces, so that no scanner takes this file for a leak.
fn secrets() -> Vec<(&'static str, String)> {
    let long = "Zx81kQpLm3Vt7Rw9Yb2Nc5Hd";
    vec![
        ("openai", format!("sk-{long}{long}")),
        ("openai project", format!("sk-proj-{long}_{long}")),
        ("anthropic", format!("sk-ant-api03-{long}-{long}")),
        ("github", format!("ghp_{long}{long}")),
        ("github fine", format!("github_pat_{long}_{long}")),
        ("gitlab", format!("glpat-{long}")),
        ("aws", format!("AKIA{}", "IOSFODNN7ABCDEFG")),
        ("google", format!("AIza{long}{long}")),
        ("slack", format!("xoxb-{}-{long}", "123456789012")),
        ("jwt", format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{long}")),
        ("bearer", format!("Authorization: Bearer {long}")),
        ("password", "password=hunter2x!".to_owned()),
        ("password in words", "the password is Tr0ub4dor&3 ok".to_owned()),
        ("german", "Passwort: geheim123!".to_owned()),
        ("json", format!("{{\"api_key\": \"{long}\"}}")),
        ("url", "postgres://app:s3cr3tpw@db.internal/app".to_owned()),
        ("pem", format!("-----BEGIN RSA PRIVATE KEY-----\n{long}\n{long}\n-----END RSA PRIVATE KEY-----")),
        ("torn pem", format!("-----BEGIN PRIVATE KEY-----\n{long}")),
    ]
}

#[test]
fn every_known_shape_is_taken_out_and_the_words_around_it_stay() {
    let bare = ["Zx81kQ", "hunter2x", "Tr0ub4dor", "geheim123", "s3cr3tpw", "FODNN7"];
    for (name, secret) in secrets() {
        let text = format!("Before it. {secret}");
        let safe = redact(&text);
        assert!(safe.contains(REDACTED) && safe.starts_with("Before it. "), "{name}: {safe}");
        assert!(!bare.iter().any(|part| safe.contains(part)), "{name}: {safe}");
    }
}

#[test]
fn ordinary_text_is_left_alone() {
    let ordinary = [
        "The token count is 128000 and tokens: 45000 remain.",
        "Password: required. Your password is wrong.",
        "Set the api key in the file, not in the code.",
        "secret: nobody knows",
        "commit 93bf5d1a0c4e2f7788990011223344556677889a",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "token = process.env.GITHUB_TOKEN",
        "export TOKEN=$GITHUB_TOKEN",
        "https://example.com/a?b=c and user@example.com",
        "sk-learn is a library; task-based-scheduling-is-hard",
        "/home/user/.ssh/id_ed25519",
        "Basic knowledge-of-the-topic helps",
        "550e8400-e29b-41d4-a716-446655440000",
    ];
    for text in ordinary {
        assert_eq!(redact(text), text);
    }
}

proptest! {
    #[test]
    fn redacting_twice_is_redacting_once(text in "\\PC{0,60}", at in 0_usize..18) {
        let all = secrets();
        let mixed = format!("{text} {} {text}", all[at].1);
        let once = redact(&mixed).into_owned();
        prop_assert_eq!(redact(&once), once.as_str());
    }
}
