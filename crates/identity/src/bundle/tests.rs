use super::*;
use crate::fixtures::*;

fn pem_of(roots: &[&crate::Root]) -> String {
    roots.iter().map(|root| root.cert_pem()).collect()
}

#[test]
fn the_same_roots_are_the_same_bundle_in_any_order() {
    let (a, b, c) = (root("mesh-a"), root("mesh-b"), root("mesh-c"));
    let read = |roots: &[&crate::Root]| TrustBundle::from_pem(&domain(), &pem_of(roots)).unwrap();
    let ab = read(&[&a, &b, &a]);
    assert_eq!(ab, read(&[&b, &a]));
    assert_eq!(ab.fingerprints().len(), 2);
    assert_eq!(ab.to_pem(&domain()), read(&[&b, &a]).to_pem(&domain()));
    assert_eq!(
        TrustBundle::from_pem(&domain(), &ab.to_pem(&domain())).unwrap(),
        ab
    );

    assert_ne!(ab, read(&[&a]));
    assert!(read(&[&a]).is_within(&ab) && !ab.is_within(&read(&[&a])));
    assert!(ab.trusts_same_root(&read(&[&b, &c])));
    assert!(!ab.trusts_same_root(&read(&[&c])));
}

#[test]
fn a_root_speaks_only_for_its_trust_domain() {
    let root = root("mesh-1");
    let other = TrustDomain::new("other.domain").unwrap();
    let ours = root.bundle(&domain()).unwrap();
    let theirs = root.bundle(&other).unwrap();
    assert_ne!(ours, theirs);
    assert!(!ours.trusts_same_root(&theirs));
    assert!(ours.with(&theirs).trusts(&other) && !ours.trusts(&other));
}

#[test]
fn what_is_no_root_is_refused_by_name() {
    let root = foreign::root("Corporate Root");
    let middle = root.below("Issuing 7");
    let (leaf, _) = middle.leaf(vec![foreign::uri(&id("sleep").to_string())]);
    let leaf = crate::pem::write_certificates([&leaf]);
    let mut params = foreign::ca_params("Limited Root", 1);
    params.custom_extensions = vec![foreign::permitted(0x86, "cluster.local")];
    let limited = foreign::root_with(params).pem();
    for (text, reason) in [
        (String::new(), "no certificate is in it"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n".to_owned(),
            "not well formed",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            "certificate 1 of the root bundle",
        ),
        (
            format!("{}{}", root.pem(), middle.pem()),
            "certificate 2 of the root bundle (O=Somebody Else Inc, CN=Issuing 7) is not a root: it is signed by O=Somebody Else Inc, CN=Corporate Root",
        ),
        (leaf, "it is not an authority"),
        (limited, "CN=Limited Root) has name constraints on URIs"),
    ] {
        let error = TrustBundle::from_pem(&domain(), &text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
}
