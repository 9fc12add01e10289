use super::*;
use crate::fixtures::*;

/// A root, an intermediate and a leaf of another implementation.
struct Chain {
    root: foreign::Authority,
    middle: foreign::Authority,
    leaf: CertificateDer<'static>,
}

impl Chain {
    fn of(names: Vec<rcgen::SanType>) -> Chain {
        let root = foreign::root("Corporate Root");
        let middle = root.below("Issuing");
        let (leaf, _) = middle.leaf(names);
        Chain { root, middle, leaf }
    }

    fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(&domain(), &self.root.pem()).unwrap()
    }

    fn server(&self, rule: &PeerRule) -> Result<Peer, PeerError> {
        check_server(
            &self.bundle(),
            rule,
            &self.leaf,
            std::slice::from_ref(&self.middle.der),
            NOW,
        )
    }

    fn client(&self) -> Result<Peer, PeerError> {
        check_client(
            &self.bundle(),
            &self.leaf,
            std::slice::from_ref(&self.middle.der),
            NOW,
        )
    }
}

#[test]
fn the_right_identity_under_the_right_root_is_accepted() {
    let chain = Chain::of(vec![foreign::uri(&id("hello").to_string())]);
    let peer = chain.server(&PeerRule::exactly(id("hello"))).unwrap();
    assert_eq!(peer.id, id("hello"));
    assert_eq!(
        peer.issuers,
        [
            crate::fingerprint(&chain.middle.der),
            crate::fingerprint(&chain.root.der)
        ]
    );
    assert_eq!(peer.not_after, NOW.after(DAY));
    assert_eq!(chain.client().unwrap(), peer);
}

#[test]
fn another_identity_is_refused_by_both_names() {
    let chain = Chain::of(vec![foreign::uri(&id("hello").to_string())]);
    let error = chain
        .server(&PeerRule::any_of([id("sleep"), id("other")]))
        .unwrap_err();
    assert_eq!(error.code(), "wrong_identity");
    let text = error.to_string();
    for account in ["hello", "sleep", "other"] {
        assert!(text.contains(&id(account).to_string()), "{text}");
    }
    assert_eq!(
        chain.server(&PeerRule::any_of([])).unwrap_err().code(),
        "wrong_identity"
    );
}

#[test]
fn a_missing_intermediate_and_another_root_are_unknown_issuers() {
    let chain = Chain::of(vec![foreign::uri(&id("hello").to_string())]);
    let rule = PeerRule::exactly(id("hello"));
    let alone = check_server(&chain.bundle(), &rule, &chain.leaf, &[], NOW).unwrap_err();
    assert_eq!(alone.code(), "unknown_issuer");

    // The other root has the same name: only keys tell them apart.
    for name in ["Another Root", "Corporate Root"] {
        let stranger = foreign::root(name);
        let bundle = TrustBundle::from_pem(&domain(), &stranger.pem()).unwrap();
        let error = check_server(
            &bundle,
            &rule,
            &chain.leaf,
            std::slice::from_ref(&chain.middle.der),
            NOW,
        )
        .unwrap_err();
        let PeerError::UnknownIssuer { got, issuer, roots } = &error else {
            panic!("{error}");
        };
        assert_eq!((got, roots), (&id("hello"), &bundle.fingerprints()));
        assert_eq!(issuer, "O=Somebody Else Inc, CN=Issuing");
        assert!(error.to_string().contains("another root of trust"));
    }
}

#[test]
fn a_certificate_out_of_its_time_is_refused_with_both_clocks() {
    let chain = Chain::of(vec![foreign::uri(&id("hello").to_string())]);
    let rule = PeerRule::exactly(id("hello"));
    let at = |now| {
        check_server(
            &chain.bundle(),
            &rule,
            &chain.leaf,
            std::slice::from_ref(&chain.middle.der),
            now,
        )
    };
    let late = NOW.after(DAY * 2);
    assert_eq!(
        at(late).unwrap_err(),
        PeerError::Expired {
            got: id("hello"),
            not_after: NOW.after(DAY),
            now: late
        }
    );
    let text = at(late).unwrap_err().to_string();
    assert!(
        text.contains("ended at 2026-11-25T00:00:00Z, and it is 2026-11-26T00:00:00Z here"),
        "{text}"
    );
    let early = Timestamp(NOW.0 - 2 * HOUR.as_millis() as u64);
    assert_eq!(at(early).unwrap_err().code(), "not_yet_valid");
    assert!(at(Timestamp(NOW.0 - HOUR.as_millis() as u64 / 2)).is_ok());
}

#[test]
fn a_root_that_ended_is_trusted_no_more() {
    let mut params = foreign::ca_params("Short Root", 1);
    params.not_after = params.not_before + time::Duration::hours(30);
    let root = foreign::root_with(params);
    let middle = root.below("Issuing");
    let (leaf, _) = middle.leaf(vec![foreign::uri(&id("hello").to_string())]);
    let bundle = TrustBundle::from_pem(&domain(), &root.pem()).unwrap();
    let at = |now| check_client(&bundle, &leaf, std::slice::from_ref(&middle.der), now);
    assert!(at(NOW).is_ok());
    assert_eq!(
        at(NOW.after(HOUR * 7)).unwrap_err().code(),
        "unknown_issuer"
    );
}

#[test]
fn only_uri_name_constraints_break_a_chain() {
    for (constraint, code) in [
        (None, None),
        (Some(foreign::permitted(0x82, "mesh.example")), None),
        (
            Some(foreign::permitted(0x86, "cluster.local")),
            Some("name_constraint"),
        ),
        (
            Some(foreign::permitted(0x86, ".cluster.local")),
            Some("name_constraint"),
        ),
    ] {
        let root = foreign::root("Corporate Root");
        let mut params = foreign::ca_params("Issuing", 0);
        params.custom_extensions = constraint.into_iter().collect();
        let middle = root.below_with(params);
        let (leaf, _) = middle.leaf(vec![foreign::uri(&id("hello").to_string())]);
        let chain = Chain { root, middle, leaf };
        assert_eq!(chain.client().err().map(|e| e.code()), code);
        assert_eq!(
            chain
                .server(&PeerRule::exactly(id("hello")))
                .err()
                .map(|e| e.code()),
            code
        );
    }
}

#[test]
fn names_that_only_look_right_are_refused() {
    let own = id("hello").to_string();
    for (names, code) in [
        (vec![], "not_one_uri"),
        (
            vec![foreign::dns("hello.default.svc.cluster.local")],
            "not_one_uri",
        ),
        (
            vec![foreign::uri(&own), foreign::uri(&id("admin").to_string())],
            "not_one_uri",
        ),
        (vec![foreign::uri(&own), foreign::uri(&own)], "not_one_uri"),
        (
            vec![foreign::uri(&own), foreign::dns("hello")],
            "not_one_uri",
        ),
        (
            vec![
                rcgen::SanType::IpAddress("10.0.0.1".parse().unwrap()),
                foreign::uri(&own),
            ],
            "not_one_uri",
        ),
        (vec![foreign::uri(&format!("{own}/"))], "not_an_identity"),
        (vec![foreign::uri(&format!("{own}\0"))], "not_an_identity"),
        (
            vec![foreign::uri(&format!("{own}\0.evil"))],
            "not_an_identity",
        ),
        (
            vec![foreign::uri("SPIFFE://cluster.local/ns/default/sa/hello")],
            "not_an_identity",
        ),
        (
            vec![foreign::uri("spiffe://Cluster.Local/ns/default/sa/hello")],
            "not_an_identity",
        ),
        (
            vec![foreign::uri("spiffe://cluster.local/ns/default/sa/h%65llo")],
            "not_an_identity",
        ),
        (
            vec![foreign::uri("spiffe://cluster.local/ns/default/sa/hello?a")],
            "not_an_identity",
        ),
        (
            vec![foreign::uri(
                "spiffe://cluster.local:443/ns/default/sa/hello",
            )],
            "not_an_identity",
        ),
        (
            vec![foreign::uri("spiffe://cluster.local")],
            "not_an_identity",
        ),
        (
            vec![foreign::uri("https://cluster.local/ns/default/sa/hello")],
            "not_an_identity",
        ),
        (
            vec![foreign::uri("spiffe://other.domain/ns/default/sa/hello")],
            "untrusted_domain",
        ),
    ] {
        let chain = Chain::of(names.clone());
        for error in [
            chain.server(&PeerRule::exactly(id("hello"))).unwrap_err(),
            chain.client().unwrap_err(),
        ] {
            assert_eq!(error.code(), code, "{names:?}: {error}");
            assert!(!error.to_string().contains('\0'));
        }
    }
}

#[test]
fn a_dot_in_an_account_is_a_dot() {
    let chain = Chain::of(vec![foreign::uri(&id("axb").to_string())]);
    let error = chain.server(&PeerRule::exactly(id("a.b"))).unwrap_err();
    assert_eq!(error.code(), "wrong_identity");
}

#[test]
fn a_root_s_own_path_length_holds() {
    let chain = |most| {
        let root = foreign::root_with(foreign::ca_params("Corporate Root", most));
        let middle = root.below("Issuing");
        let (leaf, _) = middle.leaf(vec![foreign::uri(&id("hello").to_string())]);
        Chain { root, middle, leaf }
    };
    assert!(chain(1).client().is_ok());
    let error = chain(0).client().unwrap_err().to_string();
    assert!(
        error.contains("CN=Corporate Root) allows fewer intermediates"),
        "{error}"
    );
}

#[test]
fn a_root_speaks_for_its_own_trust_domain_only() {
    let other = TrustDomain::new("other.domain").unwrap();
    let theirs = foreign::root("Their Root");
    let middle = theirs.below("Their Issuing");
    let bundle = TrustBundle::from_pem(&domain(), &foreign::root("Our Root").pem())
        .unwrap()
        .with(&TrustBundle::from_pem(&other, &theirs.pem()).unwrap());
    let check = |uri: &str| {
        let (leaf, _) = middle.leaf(vec![foreign::uri(uri)]);
        check_client(&bundle, &leaf, std::slice::from_ref(&middle.der), NOW)
    };
    assert!(check("spiffe://other.domain/ns/default/sa/hello").is_ok());
    assert_eq!(
        check(&id("hello").to_string()).unwrap_err().code(),
        "unknown_issuer"
    );
}

#[test]
fn another_cluster_s_authority_cannot_speak_for_the_endpoint() {
    let root = foreign::root("Shared Root");
    let (one, two) = (root.below("Issuing 1"), root.below("Issuing 2"));
    let bundle = TrustBundle::from_pem(&domain(), &root.pem()).unwrap();
    let (leaf, _) = one.leaf(vec![foreign::uri(&id("hello").to_string())]);
    let print = |authority: &foreign::Authority| crate::fingerprint(&authority.der);
    let check = |issuers: Vec<Fingerprint>, sent: &[CertificateDer<'_>]| {
        let rule = PeerRule::exactly(id("hello")).issued_by(issuers);
        check_server(&bundle, &rule, &leaf, sent, NOW)
    };
    let sent = [one.der.clone()];
    assert!(check(vec![print(&one)], &sent).is_ok());
    assert!(check(vec![print(&two), print(&one)], &sent).is_ok());
    let error = check(vec![print(&two)], &sent).unwrap_err();
    assert_eq!(
        error,
        PeerError::WrongIssuer {
            got: id("hello"),
            through: vec![print(&one), print(&root)],
            allowed: vec![print(&two)],
        }
    );
    // The stranger's certificate sent along proves nothing: it did not sign.
    for sent in [
        [two.der.clone(), one.der.clone()],
        [one.der.clone(), two.der.clone()],
    ] {
        assert_eq!(
            check(vec![print(&two)], &sent).unwrap_err().code(),
            "wrong_issuer"
        );
        assert!(check(vec![print(&one)], &sent).is_ok());
    }
    assert_eq!(check(vec![], &sent).unwrap_err().code(), "wrong_issuer");
}

#[test]
fn a_workload_cannot_issue_and_an_authority_cannot_serve() {
    let root = foreign::root("Corporate Root");
    let bundle = TrustBundle::from_pem(&domain(), &root.pem()).unwrap();
    let middle = root.below("Issuing");
    let workload = middle.below_with(foreign::leaf_params(vec![foreign::uri(
        &id("sleep").to_string(),
    )]));
    let (forged, _) = workload.leaf(vec![foreign::uri(&id("admin").to_string())]);
    let sent = [workload.der.clone(), middle.der.clone()];
    assert_eq!(
        check_client(&bundle, &forged, &sent, NOW)
            .unwrap_err()
            .code(),
        "bad_chain"
    );

    // Path length 0: an intermediate below an intermediate.
    let below = middle.below("Rogue");
    let (leaf, _) = below.leaf(vec![foreign::uri(&id("admin").to_string())]);
    let sent = [below.der.clone(), middle.der.clone()];
    assert_eq!(
        check_client(&bundle, &leaf, &sent, NOW).unwrap_err().code(),
        "bad_chain"
    );

    let mut params = foreign::ca_params("Both", 0);
    params.subject_alt_names = vec![foreign::uri(&id("hello").to_string())];
    let both = root.below_with(params);
    let error = check_server(
        &bundle,
        &PeerRule::exactly(id("hello")),
        &both.der,
        &[],
        NOW,
    )
    .unwrap_err();
    assert_eq!(error.code(), "bad_chain");
}

#[test]
fn a_certificate_for_one_use_is_not_taken_for_the_other() {
    let root = foreign::root("Corporate Root");
    let middle = root.below("Issuing");
    let bundle = TrustBundle::from_pem(&domain(), &root.pem()).unwrap();
    for (purpose, as_server, as_client) in [
        (rcgen::ExtendedKeyUsagePurpose::ServerAuth, true, false),
        (rcgen::ExtendedKeyUsagePurpose::ClientAuth, false, true),
        (rcgen::ExtendedKeyUsagePurpose::CodeSigning, false, false),
    ] {
        let mut params = foreign::leaf_params(vec![foreign::uri(&id("hello").to_string())]);
        params.extended_key_usages = vec![purpose];
        let leaf = middle.below_with(params).der;
        let sent = std::slice::from_ref(&middle.der);
        let rule = PeerRule::exactly(id("hello"));
        assert_eq!(
            check_server(&bundle, &rule, &leaf, sent, NOW).is_ok(),
            as_server
        );
        assert_eq!(check_client(&bundle, &leaf, sent, NOW).is_ok(), as_client);
    }
}

#[test]
fn a_heap_of_certificates_is_not_looked_through() {
    let root = foreign::root("Corporate Root");
    let bundle = TrustBundle::from_pem(&domain(), &root.pem()).unwrap();
    let middle = root.below("Issuing");
    let (leaf, _) = middle.leaf(vec![foreign::uri(&id("hello").to_string())]);
    let many = vec![middle.der.clone(); MAX_CHAIN];
    assert_eq!(
        check_client(&bundle, &leaf, &many, NOW).unwrap_err(),
        PeerError::TooMany(MAX_CHAIN + 1)
    );
    // As many same-named authorities as are read, none of which signed: the search is short.
    let decoys: Vec<_> = (0..MAX_CHAIN - 1)
        .map(|_| foreign::root("Corporate Root").below("Issuing").der)
        .collect();
    assert!(check_client(&bundle, &leaf, &decoys, NOW).is_err());
}
