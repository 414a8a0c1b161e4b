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

/// Secrets as people write them into a chat: the text, and the part that must not be left of it.
fn said() -> Vec<(String, &'static str)> {
    let long = "Zx81kQpLm3Vt7Rw9Yb2Nc5Hd";
    let hex = "c0ffee12ab34cd56ef7890a1b2c3d4e5f60718";
    let said = [
        (format!("We use the AWS secret access key aJbK4c/{long}/qWeRtY for the bucket."), "pLm3Vt"),
        (format!("The API secret {hex} is for production."), "cd56ef"),
        (format!("Use the gateway token gate_{long} from here on."), "pLm3Vt"),
        (format!("the token for the old staging gateway is {long}."), "pLm3Vt"),
        (format!("Der API-Schlüssel lautet {long}."), "pLm3Vt"),
        (format!("STRIPE_WEBHOOK=whsec_{long}"), "pLm3Vt"),
        (format!("DefaultEndpointsProtocol=https;AccountName=moon;AccountKey={long}{long}=="), "pLm3Vt"),
        (format!("密钥是{long}，别告诉别人。"), "pLm3Vt"),
        (format!("APIキーは「{long}」です。"), "pLm3Vt"),
    ];
    let plain = [
        ("the password is wintergardenkettle", "garden"),
        ("The password for the guest network is Kanal2026!", "Kanal2026"),
        ("The passphrase is \"orbit velvet hammer lagoon\" for the vault.", "velvet"),
        ("Passphrase: “orbit velvet hammer lagoon”", "velvet"),
        ("Ab heute lautet das Passwort Moorhuhn2026! für den Router.", "Moorhuhn"),
        ("Das neue Kennwort: moor!huhn7", "huhn7"),
        ("Le mot de passe est Loutre#1987", "Loutre"),
        ("La contraseña es Nutria%1987x", "Nutria"),
        ("Пароль: Vydra1987!", "Vydra"),
        ("密码是 Shuita1987!", "Shuita"),
        ("パスワードは Kawauso1987! です", "Kawauso"),
        ("the pin 8264013 opens the safe", "8264013"),
        ("My PIN is 4711.", "4711"),
        ("PIN: 4711", "4711"),
        ("Die PIN lautet 4711.", "4711"),
        ("curl -s -u admin:Otter77x https://router.example/status", "Otter77x"),
        ("curl --user 'admin:Otter77x' https://router.example/status", "Otter77x"),
        ("Pay with 4242 4242 4242 4242, please.", "4242"),
        ("The card 5555555555554444 is for hosting.", "5555"),
        ("Amex 3782-822463-10005", "822463"),
        ("Transfer it to GB29 NWBK 6016 1331 9268 19.", "6016"),
        ("IBAN: DE89370400440532013000", "3704"),
        ("FR1420041010050500013M02606", "2004"),
        ("password=Winter2027 and user=ann", "Winter2027"),
        ("MYSQL_PWD=otter77x", "otter77"),
        ("\"clientSecret\": \"a1B2c3D4e5F6\"", "c3D4"),
    ];
    said.into_iter().chain(plain.map(|(text, part)| (text.to_owned(), part))).collect()
}

#[test]
fn a_secret_beside_the_word_for_it_is_taken_out_in_many_ways_of_saying_it() {
    let left: Vec<String> = said()
        .iter()
        .map(|(text, part)| (redact(text).into_owned(), part))
        .filter(|(safe, part)| safe.contains(*part) || !safe.contains(REDACTED))
        .map(|(safe, _)| safe)
        .collect();
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn what_stands_around_a_secret_stays() {
    let pairs = [
        (
            "Ab heute lautet das Passwort Moorhuhn2026! für den Router.",
            "Ab heute lautet das Passwort [redacted] für den Router.",
        ),
        ("Pay with 4242 4242 4242 4242, please.", "Pay with [redacted], please."),
        ("The passphrase is \"orbit velvet hammer lagoon\".", "The passphrase is \"[redacted]\"."),
        ("curl -u admin:Otter77x https://x", "curl -u admin:[redacted] https://x"),
        ("My PIN is 4711.", "My PIN is [redacted]."),
    ];
    for (text, safe) in pairs {
        assert_eq!(redact(text), safe);
    }
}

#[test]
fn ordinary_text_is_left_alone() {
    let lines: Vec<&str> = include_str!("benign.txt").lines().collect();
    assert!(lines.len() > 250, "{} lines", lines.len());
    let hit: Vec<_> = lines.iter().map(|line| (line, redact(line))).filter(|(line, safe)| *line != safe).collect();
    assert!(hit.is_empty(), "{hit:#?}");
    // Taken as one text, no line makes a secret of its neighbour.
    assert_eq!(redact(include_str!("benign.txt")), include_str!("benign.txt"));
}

#[test]
fn what_one_text_names_is_found_where_another_repeats_it() {
    let texts = ["The password for the router is Otterbau77!", "the passphrase is \"orbit velvet hammer lagoon\""];
    let known = Known::of(texts.into_iter());
    assert_eq!(known.redact("Fine, Otterbau77 it is."), "Fine, [redacted] it is.");
    assert_eq!(known.redact("I typed orbit velvet hammer lagoon."), "I typed [redacted].");
    assert_eq!(known.redact("An Otterbau770 is something else."), "An Otterbau770 is something else.");
    assert_eq!(Known::default().redact("Otterbau77"), "Otterbau77");
}

#[test]
fn its_cost_grows_with_the_text_and_not_faster() {
    let pieces = [
        "password ",
        "password: ",
        "the password for the ",
        "pin ",
        "secret token api key ",
        "token is is is ",
        "4111 1111 1111 ",
        "DE89 3704 0044 ",
        "a://b",
        "curl -u ",
        "eyJhbGciOi.",
        "-----BEGIN PRIVATE KEY-----",
        "密码是",
        "\"'`",
        "sk-",
        "plain words of a long conversation ",
        "1234567890",
    ];
    for piece in pieces {
        let text = piece.repeat((1 << 18) / piece.len());
        let started = std::time::Instant::now();
        let safe = redact(&text);
        let took = started.elapsed();
        assert!(took.as_secs() < 5, "{piece:?}: {took:?} for {} bytes, {} left", text.len(), safe.len());
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

    #[test]
    fn words_signs_and_quotes_in_any_mixture_are_handled(
        text in "(password|pin|token|api key| is |: |=|\"|'|`|„|“|Ab1!xY9z|4711|for|the| |\\n|。|是|\\[redacted\\]){0,30}"
    ) {
        let once = redact(&text).into_owned();
        prop_assert_eq!(redact(&once), once.as_str());
    }
}
