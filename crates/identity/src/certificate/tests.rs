use proptest::prelude::*;

use super::*;
use crate::fixtures::*;

#[test]
fn a_workload_certificate_says_what_istio_s_do() {
    let root = root("mesh-1");
    let issuer = issuer(&root, 1);
    let held = holding(&issuer, "sleep", NOW);
    let facts = held.facts();
    assert_eq!(facts.subject, "");
    assert_eq!(facts.uris, [id("sleep").to_string()]);
    assert_eq!((facts.dns_names.len(), facts.other_names), (0, 0));
    assert_eq!(facts.not_before, Timestamp(NOW.0 - 120_000));
    assert_eq!(facts.not_after, NOW.after(DAY));
    assert_eq!(facts.key_algorithm, KeyAlgorithm::EcdsaP256);
    assert!(!facts.is_ca && !facts.self_signed);
    assert_eq!(facts.issuer_fingerprint, Some(issuer.fingerprint()));

    let chain = crate::pem::certificates(&held.chain_pem()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_cert_sign());
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.any);
    assert_eq!(leaf.version(), x509_parser::x509::X509Version::V3);
    assert_eq!(leaf.raw_serial().len(), 16);
}

#[test]
fn root_and_intermediate_say_whose_they_are() {
    let root = root("mesh-1");
    assert_eq!(
        root.facts().subject,
        "O=cluster.local, OU=Catamaran root, CN=mesh-1"
    );
    assert_eq!((root.facts().is_ca, root.facts().path_len), (true, Some(1)));
    assert!(root.facts().self_signed);
    let two = authority(&root, 2);
    assert_eq!(
        two.facts().subject,
        "O=cluster.local, OU=Catamaran intermediate, OU=cluster-2, CN=mesh-2"
    );
    assert_eq!((two.facts().is_ca, two.facts().path_len), (true, Some(0)));
    assert_eq!(two.facts().uris, ["spiffe://cluster.local"]);
    assert_eq!(two.facts().identity(), None);
}

#[test]
fn a_chain_shows_who_signed_whom() {
    let root = root("mesh-1");
    let held = holding(&issuer(&root, 1), "sleep", NOW);
    let all =
        CertificateFacts::of_pem(&format!("{}{}", held.chain_pem(), root.cert_pem())).unwrap();
    let [leaf, middle, top] = &all[..] else {
        panic!("{}", all.len());
    };
    assert_eq!(leaf.issuer_fingerprint, Some(middle.fingerprint));
    assert_eq!(middle.issuer_fingerprint, Some(top.fingerprint));
    assert_eq!(top.issuer_fingerprint, Some(top.fingerprint));
    assert_eq!(top.fingerprint, root.facts().fingerprint);
}

#[test]
fn hostile_texts_are_escaped_and_cut() {
    let mut params = foreign::ca_params("mesh\n\u{1b}[31m", 1);
    params
        .distinguished_name
        .push(rcgen::DnType::LocalityName, "x".repeat(5000));
    let facts = CertificateFacts::read(&foreign::root_with(params).der).unwrap();
    assert!(
        !facts.subject.contains(['\n', '\u{1b}']),
        "{}",
        facts.subject
    );
    assert!(facts.subject.chars().count() < 400);
}

#[test]
fn what_is_too_large_is_not_read() {
    let mut params = foreign::ca_params("large", 1);
    params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(
        &[1, 2, 3],
        vec![0; MAX_CERTIFICATE],
    )];
    let error = CertificateFacts::read(&foreign::root_with(params).der).unwrap_err();
    assert!(matches!(error, CertificateError::TooLarge(_)));
}

#[test]
fn the_fingerprint_is_the_sha_256_of_the_bytes() {
    let der = CertificateDer::from(b"abc".to_vec());
    assert_eq!(
        fingerprint(&der).to_string(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = CertificateFacts::read(&CertificateDer::from(bytes.clone()));
        let _ = CertificateFacts::of_pem(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn changed_certificates_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let root = root("mesh-1");
        let held = holding(&issuer(&root, 1), "sleep", NOW);
        let mut der = crate::pem::certificates(&held.chain_pem()).unwrap()[0].to_vec();
        for (at, to) in edits {
            let place = at.index(der.len());
            der[place] = to;
        }
        if let Some(cut) = cut {
            der.truncate(cut.index(der.len()));
        }
        let changed = CertificateDer::from(der);
        let _ = CertificateFacts::of_chain(std::slice::from_ref(&changed));
        let above = crate::pem::certificates(&held.chain_pem()).unwrap()[1].clone();
        let bundle = root.bundle(&domain()).unwrap();
        if let Ok(peer) = crate::check_client(&bundle, &changed, &[above], NOW) {
            prop_assert_eq!(peer.id, id("sleep"));
        }
    }
}
