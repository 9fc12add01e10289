use proptest::prelude::*;

use super::*;

#[test]
fn both_forms_are_istios() {
    let name = ClusterName::outbound(5000, "helloworld.default.svc.cluster.local");
    assert_eq!(
        name.to_string(),
        "outbound|5000||helloworld.default.svc.cluster.local"
    );
    assert_eq!(
        name.sni(),
        "outbound_.5000_._.helloworld.default.svc.cluster.local"
    );
    assert_eq!(ClusterName::inbound(5000).to_string(), "inbound|5000||");
}

#[test]
fn other_texts_are_refused() {
    for text in [
        "",
        "outbound",
        "outbound|x||h",
        "sideways|1||h",
        "outbound|70000||h",
        "outbound|+1||h",
    ] {
        assert!(ClusterName::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn reading_undoes_writing(port: u16, subset in "[a-z0-9-]{0,8}", host in "[a-z0-9.-]{0,40}") {
        let name = ClusterName { direction: Direction::Outbound, port, subset, host };
        prop_assert_eq!(&ClusterName::parse(&name.to_string()).unwrap(), &name);
        prop_assert_eq!(&ClusterName::parse_sni(&name.sni()).unwrap(), &name);
    }
}
