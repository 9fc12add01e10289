use super::*;

#[test]
fn ordinary_addresses_pass() {
    for text in ["10.1.0.7", "192.168.4.4", "203.0.113.9", "2001:db8::7"] {
        assert_eq!(
            EndpointAddress::parse(text, false).unwrap().to_string(),
            text
        );
    }
}

#[test]
fn hostile_addresses_are_refused_by_kind() {
    for (text, kind) in [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("240.240.0.1", "reserved"),
    ] {
        match EndpointAddress::parse(text, false) {
            Err(AddressError::Forbidden { what, .. }) => assert_eq!(what, kind, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(matches!(
        EndpointAddress::parse("evil.example", false),
        Err(AddressError::NotAnAddress(_))
    ));
}

#[test]
fn loopback_is_for_clusters_that_live_there() {
    assert!(EndpointAddress::parse("127.1.0.3", true).is_ok());
    assert!(EndpointAddress::parse("169.254.169.254", true).is_err());
}
