//! What stays when not everything fits.

use super::*;
use proptest::prelude::*;

fn outline() -> Outline {
    let mut outline = Outline::new("head\n".into(), "foot\n".into(), "short".into());
    outline.section("A", vec!["old a".into(), "new a".into()], 1, true);
    outline.section("B", vec!["first b".into(), "second b".into()], 1, false);
    outline
}

#[test]
fn everything_is_there_in_order_when_it_fits() {
    assert_eq!(outline().fit(1_000), "head\nA\nold a\nnew a\n\nB\nfirst b\nsecond b\n\nfoot\n");
}

#[test]
fn the_most_important_lines_of_each_section_stay_longest() {
    assert_eq!(outline().fit(32), "head\nA\nnew a\n\nB\nfirst b\n\nfoot\n");
    assert_eq!(outline().fit(12), "head\nfoot\n");
    assert_eq!(outline().fit(6), "short");
    assert_eq!(outline().fit(0), "");
}

#[test]
fn plain_statements_stay_before_new_ones_and_the_missing_are_counted() {
    let mut outline = Outline::new(String::new(), "foot\n".into(), String::new());
    let lines = (0..40).map(|n| (if n == 3 { 40 } else { 20 }, format!("- statement {n}"))).collect();
    outline.statements("S", lines, 1, "more in the file");
    let text = outline.fit(120);
    assert!(text.starts_with("S\n- statement 3\n"), "{text}");
    assert!(text.contains("- statement 39\n- 34 more in the file\n\nfoot\n"), "{text}");
    assert_eq!(text.matches("statement").count(), 6);
    assert!(!outline.fit(10_000).contains("more in the file"));
}

proptest! {
    #[test]
    fn it_is_never_longer_than_allowed(lines in prop::collection::vec("\\PC{0,30}", 0..12), max in 0_usize..200) {
        let mut outline = outline();
        outline.statements("D", lines.iter().map(|line| (line.len() as i32, line.clone())).collect(), 1, "more");
        outline.section("C", lines, 2, true);
        prop_assert!(chars(&outline.fit(max)) <= max);
    }
}
