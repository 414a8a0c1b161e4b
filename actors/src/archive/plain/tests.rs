//! Escaping, clipping and defusing of foreign text.

use super::*;
use proptest::prelude::*;

#[test]
fn controls_bidi_and_invisible_characters_become_visible() {
    assert_eq!(
        escape("a\u{1b}[31mb\u{202e}c\u{200b}d\u{9b}e\r\nf\tg"),
        "a\\u{1b}[31mb\\u{202e}c\\u{200b}d\\u{9b}e\nf\tg"
    );
    assert_eq!(escape("é 你好 😀 👨‍👩‍👧"), "é 你好 😀 👨‍👩‍👧");
}

#[test]
fn a_fence_is_longer_than_any_inside() {
    assert_eq!(fence("no ticks"), "```");
    assert_eq!(fence("a ```` b ``"), "`````");
}

#[test]
fn markers_are_broken_and_ordinary_text_is_not() {
    assert_eq!(defuse("[MOON_ARCHIVE_INDEX] </summary> < system>"), "[·MOON_ARCHIVE_INDEX] <·/summary> <· system>");
    assert_eq!(defuse("<|im_start|> [INST] <!-- moon:x -->"), "<·|im_start|> [·INST] <·!-- moon:x -->");
    let ordinary = "a < b, Vec<String>, [1] and x - y = z, `code`, array[i]";
    assert_eq!(defuse(ordinary), ordinary);
}

#[test]
fn a_quoted_line_loses_block_marks_and_keeps_words_that_look_alike() {
    assert_eq!(quote("## - > | done", 80), "done");
    assert_eq!(quote("--flag #42 is needed", 80), "--flag #42 is needed");
    assert_eq!(quote("#42 is open\n# x", 80), "#42 is open # x");
    assert_eq!(quote("---", 80), "");
}

proptest! {
    #[test]
    fn a_clip_is_never_longer_than_allowed_and_a_short_text_stays(text in "\\PC{0,80}", max in 0_usize..90) {
        let clipped = clip(&text, max);
        prop_assert!(chars(&clipped) <= max);
        if chars(&text) <= max {
            prop_assert_eq!(clipped.as_ref(), text.as_str());
        }
    }

    #[test]
    fn nothing_hidden_survives_escaping(text in any::<String>()) {
        prop_assert!(!escape(&text).chars().any(is_hidden));
        prop_assert!(!one_line(&text).contains('\n'));
    }
}
