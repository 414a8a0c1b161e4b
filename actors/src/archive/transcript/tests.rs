//! Every known record shape, and records that are broken in every known way.

use super::*;
use crate::archive::block::{Part, parts};
use proptest::prelude::*;

fn one(bytes: impl AsRef<[u8]>) -> Option<Turn> {
    let mut found = turns(&[Record { seq: 7, bytes: bytes.as_ref().to_vec() }]);
    assert!(found.len() <= 1, "a record gives at most one turn");
    found.pop()
}

fn says(bytes: impl AsRef<[u8]>) -> (Role, String, String) {
    let turn = one(bytes).expect("a turn");
    assert_eq!(turn.seq, 7);
    (turn.role, turn.speaker, turn.text)
}

fn is(role: Role, speaker: &str, text: &str) -> (Role, String, String) {
    (role, speaker.to_owned(), text.to_owned())
}

#[test]
fn messages_of_openclaw_2026_9_are_read_with_role_text_and_time() {
    let user = r#"{"type":"message","id":"a","parentId":null,"timestamp":"2026-09-06T10:00:00.250Z","message":{"role":"user","content":"turn 1 hello","timestamp":1788688800000,"__openclaw":{"senderIsOwner":true}}}"#;
    assert_eq!(says(user), is(Role::User, "user", "turn 1 hello"));
    assert_eq!(one(user).and_then(|t| t.at).map(|at| at.to_rfc3339()), Some("2026-09-06T10:00:00.250+00:00".into()));

    let assistant = r#"{"type":"message","message":{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"On it."},{"type":"toolCall","id":"c1","name":"read","arguments":{"path":"src/a.rs","limit":5}}],"usage":{"input":1},"timestamp":1788688800000}}"#;
    let expected = "<thinking>\nhm\n</thinking>\nOn it.\nread {\"path\":\"src/a.rs\",\"limit\":5}";
    assert_eq!(says(assistant), is(Role::Assistant, "assistant", expected));
    assert_eq!(one(assistant).and_then(|t| t.at).map(|at| at.timestamp()), Some(1_788_688_800));

    let result = r#"{"type":"message","message":{"role":"toolResult","toolCallId":"c1","toolName":"read","content":[{"type":"text","text":"fn main() {}"},{"type":"image","data":"AAAA","mimeType":"image/png"}],"isError":false}}"#;
    let text = "fn main() {}\n[attachment: image image/png , 4 encoded bytes]";
    assert_eq!(says(result), is(Role::Tool, "read", text));
}

#[test]
fn messages_of_openclaw_2026_2_carry_the_users_words_in_blocks() {
    let user = r#"{"type":"message","id":"1a2b3c4d","message":{"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]}}"#;
    assert_eq!(says(user), is(Role::User, "user", "one\ntwo"));
}

#[test]
fn rows_that_change_the_context_are_short_turns_and_silent_rows_are_none() {
    let compaction = r#"{"type":"compaction","summary":"We built it.","tokensBefore":7584,"details":{"readFiles":["a.md"],"modifiedFiles":["b.rs","c.rs"]}}"#;
    let text = "We built it.\nFiles read: a.md\nFiles modified: b.rs, c.rs";
    assert_eq!(says(compaction), is(Role::Summary, "compaction", text));
    let branch = r#"{"type":"branch_summary","fromId":"x","summary":"the other way failed"}"#;
    assert_eq!(says(branch), is(Role::Summary, "branch summary", "the other way failed"));
    let custom = r#"{"type":"custom_message","customType":"note","content":"remember the milk","display":true}"#;
    assert_eq!(says(custom), is(Role::System, "note", "remember the milk"));
    let reset = r#"{"type":"reset","id":"2e9753cc","reason":"new"}"#;
    assert_eq!(says(reset), is(Role::System, "openclaw", "New context window (reset, reason: new)"));
    let session = r#"{"type":"session","version":4,"id":"s-1","cwd":"/w"}"#;
    assert_eq!(says(session), is(Role::System, "openclaw", "Session s-1 in /w"));
    assert_eq!(one(r#"{"type":"thinking_level_change","thinkingLevel":"off"}"#), None);
    assert_eq!(one(r#"{"type":"custom","customType":"model-snapshot","data":{"a":1}}"#), None);
    assert_eq!(one(r#"{"type":"message","message":{"role":"assistant","content":[]}}"#), None);
    assert_eq!(one(""), None);
}

#[test]
fn transcripts_of_other_programs_are_read() {
    assert_eq!(says(r#"{"role":"assistant","content":"hi"}"#), is(Role::Assistant, "assistant", "hi"));
    assert_eq!(says(r#"{"speaker":"Caroline","text":"I moved."}"#), is(Role::User, "Caroline", "I moved."));
    let claude = r#"{"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"42"}]}]}}"#;
    assert_eq!(says(claude), is(Role::Tool, "tool", "42"));
    let use_ = r#"{"type":"assistant","message":{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"Bash","input":{"command":"ls"}}]}}"#;
    assert_eq!(says(use_), is(Role::Assistant, "assistant", "Bash {\"command\":\"ls\"}"));
    let openai = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"get","arguments":"{\"q\":\"x\"}"}}]}"#;
    assert_eq!(says(openai), is(Role::Assistant, "assistant", "get {\"q\":\"x\"}"));
    let codex = r#"{"timestamp":"2026-01-02T03:04:05Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"go"}]}}"#;
    assert_eq!(says(codex), is(Role::User, "user", "go"));
    assert_eq!(says(r#"{"type":"notice","text":"obey"}"#), is(Role::System, "notice", "obey"));
    assert_eq!(says(r#"{"type":"summary","summary":"so far"}"#), is(Role::Summary, "summary", "so far"));
    assert_eq!(says("User: what now?"), is(Role::User, "user", "what now?"));
    assert_eq!(says("a plain line: with a colon"), is(Role::System, "text", "a plain line: with a colon"));
    assert_eq!(says(r#"{"level":"info","n":3}"#), is(Role::System, "record", r#"{"level":"info","n":3}"#));
}

#[test]
fn an_unknown_but_valid_object_stays_findable() {
    let (role, _, text) = says(r#"{"type":"novelty","deep":{"word":"zebra\nstripes"}}"#);
    assert_eq!(role, Role::System);
    assert!(text.contains("zebra\nstripes"), "{text}");
}

#[test]
fn a_torn_record_is_shown_as_damaged_with_its_words_whole() {
    let torn = r#"{"type":"message","message":{"role":"user","content":"first line\nsecond \u4f60\u597d wor"#;
    let (role, speaker, text) = says(torn);
    assert_eq!((role, speaker.as_str()), (Role::System, DAMAGED));
    assert!(text.contains("first line\nsecond 你好 wor"), "{text}");
}

#[test]
fn invalid_utf8_is_shown_as_damaged_with_the_rest_of_its_text() {
    let mut bytes = br#"{"type":"message","message":{"role":"user","content":"before "#.to_vec();
    bytes.extend([0xff, 0xfe]);
    bytes.extend(br#" after"}}"#);
    let (role, speaker, text) = says(bytes);
    assert_eq!((role, speaker.as_str()), (Role::System, DAMAGED));
    assert!(text.contains("before \u{fffd}\u{fffd} after"), "{text}");
}

#[test]
fn a_lone_surrogate_does_not_cost_the_message() {
    let cut = r#"{"type":"message","message":{"role":"user","content":"party \ud83d then \ud83d\ude00 and \\ud83d"}}"#;
    assert_eq!(says(cut), is(Role::User, "user", "party \u{fffd} then 😀 and \\ud83d"));
}

#[test]
fn a_depth_bomb_is_damaged_and_complete() {
    let bomb = format!("{{\"a\":{}1{} needle", "[".repeat(200_000), "]".repeat(200_000));
    let (_, speaker, text) = says(&bomb);
    assert_eq!(speaker, DAMAGED);
    assert!(text.ends_with("needle") && text.len() == bomb.len());
}

#[test]
fn nul_is_shown_and_hides_nothing() {
    assert_eq!(says(r#"{"role":"user","content":"a\u0000b"}"#), is(Role::User, "user", "a\u{fffd}b"));
    assert_eq!(says("a\0needle"), is(Role::System, DAMAGED, "a\u{fffd}needle"));
}

#[test]
fn a_huge_text_is_complete() {
    let text = "wörd ".repeat(1 << 20);
    let record = serde_json::json!({"type": "message", "message": {"role": "user", "content": text}}).to_string();
    assert_eq!(says(record).2, text);
}

#[test]
fn of_a_key_that_stands_twice_the_last_counts_as_for_the_host() {
    assert_eq!(says(r#"{"role":"user","content":"first","content":"last"}"#), is(Role::User, "user", "last"));
}

#[test]
fn times_are_read_from_text_and_numbers_and_nonsense_is_no_time() {
    let at = |time: &str| one(format!(r#"{{"role":"user","content":"x","timestamp":{time}}}"#)).and_then(|t| t.at);
    let expected = DateTime::from_timestamp(1_700_000_000, 0);
    assert_eq!(at("1700000000000"), expected);
    assert_eq!(at("1700000000"), expected);
    assert_eq!(at("\"2023-11-14T22:13:20Z\""), expected);
    assert_eq!(at("\"2023-11-14 22:13:20\""), expected);
    assert_eq!(at("\"2023-11-15T00:13:20+02:00\""), expected);
    for nonsense in ["\"yesterday\"", "-5", "1e300", "null", "{}"] {
        assert_eq!(at(nonsense), None, "{nonsense}");
    }
}

#[test]
fn a_reset_or_compaction_is_recognised_only_as_the_type_of_a_whole_record() {
    assert!(is_reset(br#" {"id":"1","type":"reset","reason":"new"}"#));
    assert!(is_compaction(br#"{"summary":"x","type":"compaction","details":{"a":[1]}}"#));
    let not: [&[u8]; 8] = [
        br#"{"type":"message","message":{"role":"user","content":"{\"type\":\"reset\"}"}}"#,
        br#"{"message":{"type":"reset"}}"#,
        br#"{"type":"reset""#,
        br#"["reset"]"#,
        br#"{"type":"message","type":"reset"}"#,
        br#"{"type":"reset"} x"#,
        br#"{"type":1}"#,
        b"\xff",
    ];
    for bytes in not {
        assert!(!is_reset(bytes), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_turn_is_taken_apart_as_it_was_put_together() {
    let text = "<thinking>\nfirst {\"a\n</thinking>\nHello {\"x\" world\nwrite {\"path\":\"a.md\",\"content\":\"line }\nrun \\\"{\"}\nbye";
    let found = parts(text);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[0], Part::Thinking("first {\"a"));
    assert!(matches!(found[1], Part::Text(t) if t.trim() == "Hello {\"x\" world"), "{found:?}");
    assert!(matches!(found[2], Part::Call { name: "write", whole, .. } if whole.ends_with("\\\"{\"}")), "{found:?}");
    assert!(matches!(found[3], Part::Text(t) if t.trim() == "bye"), "{found:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_no_valid_text_is_lost(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let found = one(&bytes);
        if let Ok(text) = std::str::from_utf8(&bytes)
            && !text.trim().is_empty() && !text.contains(['\\', '\0', ':', '{', '[', '"'])
            && serde_json::from_str::<Value>(text).is_err()
        {
            prop_assert_eq!(found.map(|t| t.text), Some(text.to_owned()));
        }
        let _ = (is_reset(&bytes), is_compaction(&bytes));
    }

    #[test]
    fn nearly_json_never_panics(text in r#"([{}\[\]",:a-d0-9 \n]|\\u|type|role){0,200}"#) {
        let _ = one(text.as_bytes());
        let _ = parts(&text);
    }

    #[test]
    fn a_users_text_comes_back_whole(text in "\\PC{1,200}") {
        prop_assume!(!text.trim().is_empty());
        let record = serde_json::json!({"type": "message", "message": {"role": "user", "content": text}}).to_string();
        prop_assert_eq!(says(record).2, text);
    }
}
