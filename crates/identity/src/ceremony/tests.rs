use super::*;
use crate::fixtures::*;
use crate::issuer::Issuer;

#[test]
fn a_second_mesh_reuses_the_root_of_the_first() {
    let made = create_root(&domain(), &mesh("mesh-1"), NOW).unwrap();
    let one = issue_intermediate(
        &made,
        &domain(),
        &mesh("mesh-1"),
        &cluster("cluster-1"),
        NOW,
    )
    .unwrap();
    let opened = open_root(
        &domain(),
        &mesh("mesh-1"),
        &made.cert_pem(),
        &made.key_pem(),
    )
    .unwrap();
    let two = issue_intermediate(
        &opened,
        &domain(),
        &mesh("mesh-2"),
        &cluster("cluster-2"),
        NOW,
    )
    .unwrap();
    assert_ne!(one.fingerprint(), two.fingerprint());
    assert_eq!(
        one.bundle(&domain()).unwrap(),
        two.bundle(&domain()).unwrap()
    );
}

#[test]
fn a_root_in_the_wrong_folder_or_for_another_domain_is_refused_by_name() {
    let root = create_root(&domain(), &mesh("mesh-1"), NOW).unwrap();
    let error = open_root(
        &domain(),
        &mesh("mesh-9"),
        &root.cert_pem(),
        &root.key_pem(),
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("trust folder of mesh-9 says that it is the root of mesh-1"),
        "{error}"
    );
    let other = TrustDomain::new("other.domain").unwrap();
    let error = open_root(&other, &mesh("mesh-1"), &root.cert_pem(), &root.key_pem())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is for the trust domain cluster.local, and other.domain was asked for"),
        "{error}"
    );
    let error =
        issue_intermediate(&root, &other, &mesh("mesh-2"), &cluster("cluster-2"), NOW).unwrap_err();
    assert!(
        matches!(error, CeremonyError::OtherTrustDomain { .. }),
        "{error}"
    );
    let stray = create_root(&domain(), &mesh("mesh-1"), NOW).unwrap();
    let error = open_root(
        &domain(),
        &mesh("mesh-1"),
        &root.cert_pem(),
        &stray.key_pem(),
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("the root of mesh-1: the root's key does not belong"),
        "{error}"
    );
}

#[test]
fn an_intermediate_is_renewed_even_after_its_end_and_without_its_key() {
    let root = create_root(&domain(), &mesh("mesh-1"), NOW).unwrap();
    let old = issue_intermediate(
        &root,
        &domain(),
        &mesh("mesh-1"),
        &cluster("cluster-1"),
        NOW,
    )
    .unwrap();
    let also = create_root(&domain(), &mesh("mesh-8"), NOW).unwrap();
    let trusted = old.files().root_cert + &also.cert_pem();
    let late = NOW.after(DAY * 500);
    let new = renew_intermediate(
        &root,
        &trusted,
        &domain(),
        &mesh("mesh-1"),
        &cluster("cluster-1"),
        late,
    )
    .unwrap();
    assert_ne!(new.fingerprint(), old.fingerprint());
    assert_eq!(new.bundle(&domain()).unwrap().fingerprints().len(), 2);
    assert_eq!(Issuer::new(new, domain()).unwrap().ready(late), Ok(()));
}

#[test]
fn a_strange_root_does_not_renew() {
    let root = create_root(&domain(), &mesh("mesh-1"), NOW).unwrap();
    let strange = create_root(&domain(), &mesh("mesh-1"), NOW).unwrap();
    let old = issue_intermediate(
        &root,
        &domain(),
        &mesh("mesh-1"),
        &cluster("cluster-1"),
        NOW,
    )
    .unwrap();
    let error = renew_intermediate(
        &strange,
        &old.files().root_cert,
        &domain(),
        &mesh("mesh-1"),
        &cluster("cluster-1"),
        NOW,
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains(&strange.facts().fingerprint.short()),
        "{error}"
    );
    assert!(error.contains(&root.facts().fingerprint.short()), "{error}");
}

#[test]
fn an_authority_is_brought_along_and_its_faults_name_the_mesh() {
    let root = foreign::root("Corporate Root");
    let issuing = root.below("Issuing");
    let read = |name: &str| match name {
        "ca-cert.pem" => Some(issuing.pem()),
        "ca-key.pem" => Some(issuing.key.serialize_pem()),
        "root-cert.pem" => Some(root.pem()),
        _ => None,
    };
    let brought = import(&mesh("mesh-1"), read, NOW).unwrap();
    assert_eq!(brought.facts().common_name.as_deref(), Some("Issuing"));
    let error = import(&mesh("mesh-1"), |_| None, NOW)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the authority of mesh-1: ca-cert.pem is missing"),
        "{error}"
    );
}
