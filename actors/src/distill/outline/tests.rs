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

proptest! {
    #[test]
    fn it_is_never_longer_than_allowed(lines in prop::collection::vec("\\PC{0,30}", 0..12), max in 0_usize..200) {
        let mut outline = outline();
        outline.section("C", lines, 2, true);
        prop_assert!(chars(&outline.fit(max)) <= max);
    }
}
