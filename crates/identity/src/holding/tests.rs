use super::*;
use crate::fixtures::*;

#[test]
fn what_a_proxy_keeps_on_disk_is_taken_again() {
    let root = root("mesh-1");
    let held = holding(&issuer(&root, 1), "sleep", NOW);
    let key = KeyPair::from_pem(&held.key_pem()).unwrap();
    let again =
        Holding::from_pem(&held.chain_pem(), key, &held.roots_pem(), &id("sleep"), NOW).unwrap();
    assert!(again == held);
    assert_eq!(again.chain_facts().len(), 2);
}

#[test]
fn a_signer_s_bad_answer_is_refused_by_reason() {
    let root = root("mesh-1");
    let held = holding(&issuer(&root, 1), "sleep", NOW);
    let other = holding(&issuer(&root, 1), "sleep", NOW);
    let take = |pems: &[String], key: &Holding, who: &str, now| {
        let key = KeyPair::from_pem(&key.key_pem()).unwrap();
        Holding::from_response(pems, key, &id(who), now)
            .unwrap_err()
            .to_string()
    };
    let pems = vec![held.chain_pem(), held.roots_pem()];
    let strange = vec![held.chain_pem(), crate::fixtures::root("mesh-1").cert_pem()];
    for (error, reason) in [
        (take(&[], &held, "sleep", NOW), "0 certificates"),
        (take(&pems[..1], &held, "sleep", NOW), "1 certificates"),
        (take(&pems, &other, "sleep", NOW), "made for another key"),
        (
            take(&pems, &held, "hello", NOW),
            "is for spiffe://cluster.local/ns/default/sa/sleep",
        ),
        (take(&pems, &held, "sleep", NOW.after(DAY * 2)), "ended at"),
        (take(&strange, &held, "sleep", NOW), "no trusted root"),
        (
            take(&["x".to_owned(), held.roots_pem()], &held, "sleep", NOW),
            "no certificate is in it",
        ),
    ] {
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn renewal_falls_at_half_life_or_somewhat_before() {
    let held = holding(&issuer(&root("mesh-1"), 1), "sleep", NOW);
    let half = held.facts().half_life();
    assert_eq!(held.renew_at(0), half);
    let earliest = held.renew_at(255);
    assert!(earliest < half && half.since(earliest) < DAY / 9);
    assert!(held.renew_at(100) > held.renew_at(200));
    assert_eq!(held.left(NOW), DAY);
    assert_eq!(held.left(NOW.after(DAY * 3)), Duration::ZERO);
}

#[test]
fn other_roots_are_taken_only_if_the_certificate_holds_under_them() {
    let (a, b) = (root("mesh-a"), root("mesh-b"));
    let held = holding(&issuer(&a, 1), "sleep", NOW);
    let both = a
        .bundle(&domain())
        .unwrap()
        .with(&b.bundle(&domain()).unwrap());
    let wider = held.with_bundle(both, NOW).unwrap();
    assert_eq!(wider.bundle().fingerprints().len(), 2);
    assert!(wider != held);
    assert!(held.with_bundle(b.bundle(&domain()).unwrap(), NOW).is_err());
}
