use super::*;

#[test]
fn a_check_that_saw_nothing_is_skipped_and_never_green() {
    let skipped = verdict("trust", "same-root", Verdict::Fail, vec![], vec![], "do it");
    assert_eq!(skipped.verdict, Verdict::Skip);
    let failed = verdict(
        "trust",
        "same-root",
        Verdict::Fail,
        vec!["a".into()],
        vec!["b".into()],
        "do it",
    );
    assert_eq!(
        (failed.verdict, failed.fix.as_str()),
        (Verdict::Fail, "do it")
    );
}

#[test]
fn versions_are_neighbours_when_their_minors_are() {
    assert_eq!(minor("0.1.0"), Some(1));
    assert_eq!(minor("nightly"), None);
}
