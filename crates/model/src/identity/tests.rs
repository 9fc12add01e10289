use super::*;

#[test]
fn text_and_value_go_both_ways() {
    let uri = "spiffe://cluster.local/ns/default/sa/sleep";
    assert_eq!(SpiffeId::parse(uri).unwrap().to_string(), uri);
}

#[test]
fn nothing_that_only_looks_like_an_identity_is_one() {
    for uri in [
        "",
        "https://cluster.local/ns/default/sa/sleep",
        "SPIFFE://cluster.local/ns/default/sa/sleep",
        "spiffe://cluster.local/ns/default/sa/sleep/",
        "spiffe://cluster.local/ns/default/sa/sleep/extra",
        "spiffe://cluster.local/ns/default/sa/",
        "spiffe://cluster.local/ns/Default/sa/sleep",
        "spiffe://cluster.local/ns/default/sa/sleep?x=1",
        "spiffe://cluster.local/ns/default/sa/sl%65ep",
        "spiffe://cluster.local/ns/default/sa/sleep\0",
        "spiffe://cluster.local//ns/default/sa/sleep",
        "spiffe://a@cluster.local/ns/default/sa/sleep",
    ] {
        assert!(SpiffeId::parse(uri).is_err(), "{uri}");
    }
}
