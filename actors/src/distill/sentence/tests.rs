//! Where sentences begin and end.

use super::*;
use proptest::prelude::*;

fn texts(text: &str) -> Vec<String> {
    sentences(text).into_iter().map(|s| s.text.into_owned()).collect()
}

#[test]
fn sentences_end_at_marks_and_not_at_abbreviations_numbers_or_code() {
    assert_eq!(
        texts("We use e.g. Postgres 16.2 here. Dr. Who agreed! Is `a. b` ok? Yes."),
        ["We use e.g. Postgres 16.2 here.", "Dr. Who agreed!", "Is `a. b` ok?", "Yes."]
    );
    assert_eq!(texts("See src/main.rs. Then stop."), ["See src/main.rs.", "Then stop."]);
    assert_eq!(texts("Wir nehmen z.B. SQLite. Gut."), ["Wir nehmen z.B. SQLite.", "Gut."]);
}

#[test]
fn a_german_ordinal_ends_no_sentence() {
    let whole = [
        "Wir müssen noch bis 31. Juli kündigen.",
        "Der Vertrag läuft zum 1. aus, das wissen alle.",
        "Treffen ist am 3. September um neun.",
        "Bitte alles vor dem 15. abgeben.",
        "Das Büro im 2. Stock bleibt frei.",
        "Das war der 3. Anlauf in dieser Woche.",
        "Die Feier ist am 7. 8. im Garten.",
        "Die Zahlen für das 4. Quartal fehlen noch.",
    ];
    for text in whole {
        assert_eq!(texts(text), [text]);
    }
    assert_eq!(
        texts("Wir treffen uns am 3. Dann sehen wir weiter."),
        ["Wir treffen uns am 3.", "Dann sehen wir weiter."]
    );
    assert_eq!(texts("The answer is 42. Fine."), ["The answer is 42.", "Fine."]);
    assert_eq!(texts("We ship version 3. Nobody waits."), ["We ship version 3.", "Nobody waits."]);
}

#[test]
fn chinese_and_japanese_sentences_need_no_blanks() {
    assert_eq!(texts("我们决定用SQLite。下一步呢？好！"), ["我们决定用SQLite。", "下一步呢？", "好！"]);
    assert_eq!(texts("「終わりました。」次は何？"), ["「終わりました。」", "次は何？"]);
}

#[test]
fn code_quotes_tables_and_keys_are_no_sentences() {
    let text = "Look:\n```rust\n// we decided to use x.\n```\n> we decided y.\n| we decided | z |\n-----BEGIN PRIVATE \
                KEY-----\nabc. def.\n-----END PRIVATE KEY-----\nDone.";
    assert_eq!(texts(text), ["Done."]);
}

#[test]
fn list_items_know_their_mark_and_what_they_stand_under() {
    let found = sentences("## Next steps\n- write docs\n- [ ] add tests\n- [x] fix bug\n\nOther:\n1. item\nplain");
    let seen: Vec<_> = found.iter().map(|s| (s.text.as_ref(), s.mark, s.under)).collect();
    assert_eq!(
        seen,
        [
            ("write docs", Mark::Item, "Next steps"),
            ("add tests", Mark::Open, "Next steps"),
            ("fix bug", Mark::Done, "Next steps"),
            ("item", Mark::Item, "Other:"),
            ("plain", Mark::Plain, "")
        ]
    );
}

#[test]
fn a_sentence_cut_by_a_hard_line_break_is_one() {
    let text = "We decided to keep the nightly export because the customer\nstill reads it every morning. Fine.";
    assert_eq!(
        texts(text),
        ["We decided to keep the nightly export because the customer still reads it every morning.", "Fine."]
    );
}

proptest! {
    #[test]
    fn any_text_has_sentences_that_stand_in_it(text in any::<String>()) {
        for sentence in sentences(&text) {
            let first = sentence.text.split_whitespace().next().unwrap_or_default();
            prop_assert!(text.contains(first));
        }
    }
}
