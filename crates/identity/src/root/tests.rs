use super::*;
use crate::fixtures::*;

#[test]
fn a_root_lasts_ten_years_and_an_intermediate_one() {
    let root = root("mesh-1");
    assert_eq!(root.facts().not_after, NOW.after(ROOT_LIFE));
    assert_eq!(
        authority(&root, 1).facts().not_after,
        NOW.after(INTERMEDIATE_LIFE)
    );
}

#[test]
fn an_intermediate_never_outlives_its_root() {
    let root = root("mesh-1");
    let late = NOW.after(ROOT_LIFE - DAY * 30);
    let last = root
        .issue_intermediate(&domain(), &mesh("mesh-1"), &cluster("cluster-1"), late)
        .unwrap();
    assert_eq!(last.facts().not_after, root.facts().not_after);
    let after = NOW.after(ROOT_LIFE + DAY);
    let error = root
        .issue_intermediate(&domain(), &mesh("mesh-1"), &cluster("cluster-1"), after)
        .unwrap_err();
    assert!(matches!(error, RootError::NotValid { .. }), "{error}");
}

#[test]
fn a_root_is_read_back_from_its_files() {
    let made = root("mesh-1");
    let read = Root::from_pem(&made.cert_pem(), &made.key_pem()).unwrap();
    assert_eq!(read.facts(), made.facts());
    assert_eq!(read.mesh(), Some(mesh("mesh-1")));
    assert_eq!(read.trust_domain(), Some(domain()));
    authority(&read, 2);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (one, two) = (root("mesh-1"), root("mesh-2"));
    let error = Root::from_pem(&one.cert_pem(), &two.key_pem())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(
            "does not belong to its certificate (O=cluster.local, OU=Catamaran root, CN=mesh-1)"
        ),
        "{error}"
    );
    let both = one.cert_pem() + &two.cert_pem();
    assert!(matches!(
        Root::from_pem(&both, &one.key_pem()),
        Err(RootError::Several(2))
    ));
    let flat = foreign::root_with(foreign::ca_params("Flat", 0));
    let flat = Root::from_pem(&flat.pem(), &flat.key.serialize_pem()).unwrap();
    let error = flat
        .issue_intermediate(&domain(), &mesh("mesh-1"), &cluster("cluster-1"), NOW)
        .unwrap_err();
    assert!(matches!(error, RootError::PathLength { .. }), "{error}");
}

#[test]
fn names_longer_than_a_certificate_allows_are_cut() {
    let long = ClusterId::new(["a".repeat(63), "b".repeat(63)].join(".")).unwrap();
    let domain = TrustDomain::new(["t".repeat(63), "d".repeat(63)].join(".")).unwrap();
    let root = Root::create(&domain, &mesh("mesh-1"), NOW).unwrap();
    let ca = root
        .issue_intermediate(&domain, &mesh("mesh-1"), &long, NOW)
        .unwrap();
    assert_eq!(root.trust_domain(), Some(domain.clone()));
    assert_eq!(ca.facts().uris, [format!("spiffe://{domain}")]);
    assert_eq!(root.mesh(), Some(mesh("mesh-1")));
}

#[test]
fn a_root_of_somebody_else_signs_intermediates_that_work() {
    let theirs = foreign::root("Corporate Root");
    let root = Root::from_pem(&theirs.pem(), &theirs.key.serialize_pem()).unwrap();
    assert_eq!((root.mesh(), root.trust_domain()), (None, None));
    let held = holding(&issuer(&root, 1), "sleep", NOW);
    assert_eq!(held.issuers().last(), Some(&root.facts().fingerprint));
}

#[test]
fn no_form_of_it_prints_the_key() {
    let root = root("mesh-1");
    let text = format!(
        "{root:?}{:?}{:?}",
        authority(&root, 1),
        authority(&root, 1).files()
    );
    assert!(text.contains("secret"));
    let key = root.key_pem();
    let line = key.lines().nth(1).unwrap();
    assert!(!text.contains(line) && !text.contains("PRIVATE KEY"));
}
