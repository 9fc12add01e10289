use super::*;

#[test]
fn good_names_keep_their_text() {
    assert_eq!(ClusterId::new("cluster-1").unwrap().as_str(), "cluster-1");
    assert_eq!(
        ServiceAccount::new("team.robot").unwrap().to_string(),
        "team.robot"
    );
    assert_eq!(
        NetworkId::new("VPC_1.east").unwrap().to_string(),
        "VPC_1.east"
    );
}

#[test]
fn a_bad_name_is_refused_with_its_kind_and_reason() {
    for (text, reason) in [
        ("", "it is empty"),
        (
            "Upper",
            "only lower-case letters, digits and '-' are allowed",
        ),
        ("-x", "it must start and end with a letter or digit"),
        (
            "../etc",
            "only lower-case letters, digits and '-' are allowed",
        ),
        ("a/b", "only lower-case letters, digits and '-' are allowed"),
    ] {
        let error = Namespace::new(text).unwrap_err();
        assert_eq!((error.kind, error.reason), ("namespace", reason), "{text}");
    }
    assert!(Namespace::new("a".repeat(64)).is_err());
}

#[test]
fn a_name_with_dots_is_refused_for_what_is_wrong_with_it() {
    for (text, reason) in [
        ("", "it is empty"),
        (
            "../evil",
            "only lower-case letters, digits, '-' and '.' are allowed",
        ),
        ("a..b", "a part between dots is empty"),
        ("a.", "a part between dots is empty"),
        (
            "a.-b",
            "each part between dots must start and end with a letter or digit",
        ),
    ] {
        assert_eq!(ClusterId::new(text).unwrap_err().reason, reason, "{text}");
    }
    let long = format!("a.{}", "b".repeat(64));
    assert_eq!(
        ClusterId::new(long).unwrap_err().reason,
        "a part between dots is longer than 63 characters"
    );
}

#[test]
fn a_refused_text_is_cut_in_the_error() {
    let error = Namespace::new("x".repeat(10_000)).unwrap_err();
    assert_eq!(error.text.len(), 80);
}
