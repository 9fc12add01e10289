use proptest::prelude::*;

use super::*;
use crate::fixtures::*;
use crate::issuer::SignError;
use crate::template::Extensions;

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn names(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let entries: Vec<Vec<u8>> = entries
        .iter()
        .map(|(tag, name)| der::tlv(*tag, name))
        .collect();
    der::tlv(der::SEQUENCE, &entries.concat())
}

/// A well-formed, signed request with this subjectAltName and subject.
fn asking(subject: &[u8], san: &[u8]) -> Vec<u8> {
    let extensions = Extensions::default().add(oid::SUBJECT_ALT_NAME, false, san);
    write_with(&key(), subject, &[extensions.list()]).unwrap()
}

fn asking_for(uri: &[u8]) -> Vec<u8> {
    asking(&template::name(&[]), &names(&[(0x86, uri)]))
}

/// A request around any SubjectPublicKeyInfo; its signature is by another key.
fn with_spki(spki: &[u8]) -> Vec<u8> {
    let info = der::nest(
        der::SEQUENCE,
        &[
            &der::positive_integer(&[0]),
            &template::name(&[]),
            spki,
            &der::tlv(0xa0, &[]),
        ],
    );
    key().seal(&info).unwrap()
}

fn rsa_spki(bits: usize) -> Vec<u8> {
    let modulus = vec![0xc3; bits / 8];
    let numbers = der::nest(
        der::SEQUENCE,
        &[
            &der::positive_integer(&modulus),
            &der::positive_integer(&[1, 0, 1]),
        ],
    );
    let algorithm = webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256.public_key_alg_id();
    der::nest(
        der::SEQUENCE,
        &[
            &der::tlv(der::SEQUENCE, algorithm.as_ref()),
            &der::bit_string(&numbers),
        ],
    )
}

fn ec_spki(curve: &[u8], point: &[u8]) -> Vec<u8> {
    let ec = der::tlv(der::OID, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]);
    let algorithm = der::nest(der::SEQUENCE, &[&ec, curve]);
    der::nest(der::SEQUENCE, &[&algorithm, &der::bit_string(point)])
}

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

#[test]
fn what_a_workload_asks_for_itself_is_signed() {
    let issuer = issuer(&root("mesh-1"), 1);
    let key = key();
    for request in [
        write(&key, &id("sleep")).unwrap(),
        write_with(&key, &template::name(&[]), &[]).unwrap(),
        write_with(&key, &template::name(&[(oid::ORGANIZATION, "")]), &[]).unwrap(),
    ] {
        let csr = Csr::from_der(&request).unwrap();
        let issued = issuer.sign(&csr, &id("sleep"), None, NOW).unwrap();
        assert_eq!(issued.facts.identity(), Some(id("sleep")));
    }
}

#[test]
fn requests_of_another_implementation_are_read_and_ours_by_it() {
    let theirs = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![foreign::uri(&id("sleep").to_string())];
    let request = params.serialize_request(&theirs).unwrap();
    assert_eq!(
        Csr::from_pem(&request.pem().unwrap())
            .unwrap()
            .other_identity(&id("sleep")),
        None
    );

    let ours = key().request(&id("sleep")).unwrap();
    let read = rcgen::CertificateSigningRequestParams::from_pem(&ours).unwrap();
    assert_eq!(
        read.params.subject_alt_names,
        [foreign::uri(&id("sleep").to_string())]
    );
}

#[test]
fn every_accepted_kind_of_key_is_accepted() {
    for (algorithm, kind) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyAlgorithm::EcdsaP256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, KeyAlgorithm::EcdsaP384),
        (&rcgen::PKCS_ED25519, KeyAlgorithm::Ed25519),
        (&rcgen::PKCS_RSA_SHA256, KeyAlgorithm::Rsa(2048)),
    ] {
        let theirs = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let request = rcgen::CertificateParams::default()
            .serialize_request(&theirs)
            .unwrap();
        assert_eq!(Csr::from_der(request.der()).unwrap().key_algorithm(), kind);
        let ours = KeyPair::from_pem(&theirs.serialize_pem()).unwrap();
        let csr = Csr::from_pem(&ours.request(&id("sleep")).unwrap()).unwrap();
        assert_eq!(csr.key_algorithm(), kind);
        let issued = issuer(&root("mesh-1"), 1)
            .sign(&csr, &id("sleep"), None, NOW)
            .unwrap();
        assert_eq!(issued.facts.key_algorithm, kind);
    }
}

#[test]
fn a_request_that_is_no_request_is_refused_with_its_reason() {
    let good = write(&key(), &id("sleep")).unwrap();
    let edited = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    let trailing = [good.as_slice(), &[0]].concat();
    let long_form = {
        // The outer length written with one digit more than needed.
        let body = Reader::new(&good).any().unwrap().content;
        [
            &[0x30, 0x83, 0, (body.len() >> 8) as u8, body.len() as u8],
            body,
        ]
        .concat()
    };
    let indefinite = [
        &[0x30, 0x80],
        Reader::new(&good).any().unwrap().content,
        &[0, 0],
    ]
    .concat();
    let other_key = {
        let (mine, hers) = (key(), key());
        let request = write(&mine, &id("sleep")).unwrap();
        let info = Reader::new(&request)
            .any()
            .unwrap()
            .inside()
            .any()
            .unwrap()
            .whole
            .to_vec();
        hers.seal(&info).unwrap()
    };
    let version_one = {
        let info = der::nest(
            der::SEQUENCE,
            &[
                &der::positive_integer(&[1]),
                &template::name(&[]),
                key().spki(),
                &der::tlv(0xa0, &[]),
            ],
        );
        key().seal(&info).unwrap()
    };
    let sha1 = {
        let request = write(&key(), &id("sleep")).unwrap();
        let info = Reader::new(&request)
            .any()
            .unwrap()
            .inside()
            .any()
            .unwrap()
            .whole
            .to_vec();
        let ecdsa_with_sha1 = der::tlv(der::OID, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]);
        der::nest(
            der::SEQUENCE,
            &[
                &info,
                &der::tlv(der::SEQUENCE, &ecdsa_with_sha1),
                &der::bit_string(&[1; 70]),
            ],
        )
    };
    let authority = {
        let ca = Extensions::default().basic_constraints(Some(0));
        write_with(&key(), &template::name(&[]), &[ca.list()]).unwrap()
    };
    let san = names(&[(0x86, id("sleep").to_string().as_bytes())]);
    let twice_in_one = {
        let twice = Extensions::default()
            .add(oid::SUBJECT_ALT_NAME, false, &san)
            .add(
                oid::SUBJECT_ALT_NAME,
                false,
                &names(&[(0x86, b"spiffe://cluster.local/ns/default/sa/admin")]),
            );
        write_with(&key(), &template::name(&[]), &[twice.list()]).unwrap()
    };
    let twice_in_two = {
        let one = Extensions::default()
            .add(oid::SUBJECT_ALT_NAME, false, &san)
            .list();
        write_with(&key(), &template::name(&[]), &[one.clone(), one]).unwrap()
    };
    let deep = (0..200).fold(der::tlv(der::NULL, &[]), |inner, _| {
        der::tlv(der::SEQUENCE, &inner)
    });
    let text = |name: &str| names(&[(0x82, name.as_bytes())]);
    let plain = template::name(&[]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "not PKCS#10 in DER: it ends inside"),
        ("noise", vec![0xa5; 300], "not PKCS#10 in DER"),
        (
            "a certificate",
            root("mesh-1").facts().fingerprint.0.to_vec(),
            "not PKCS#10",
        ),
        ("bytes after the end", trailing, "bytes follow its end"),
        (
            "a length with a needless digit",
            long_form,
            "a length is not written",
        ),
        (
            "an indefinite length",
            indefinite,
            "a length is not written",
        ),
        ("a high tag", edited(0, 0x1f), "not PKCS#10"),
        ("a nesting bomb", deep, "nested too deeply"),
        (
            "a changed signature",
            edited(good.len() - 3, good[good.len() - 3] ^ 1),
            "signature does not fit",
        ),
        (
            "another key's signature",
            other_key,
            "signature does not fit",
        ),
        ("a SHA-1 signature", sha1, "signature does not fit"),
        ("version 1", version_one, "an element is not the one"),
        (
            "an oversized request",
            vec![0x30; MAX_CSR + 1],
            "at most 8192 are read",
        ),
        (
            "RSA of 1024 bits",
            with_spki(&rsa_spki(1024)),
            "key is RSA 1024",
        ),
        (
            "RSA of 8192 bits",
            with_spki(&rsa_spki(8192)),
            "key is RSA 8192",
        ),
        (
            "RSA 2048 that did not sign",
            with_spki(&rsa_spki(2048)),
            "signature does not fit",
        ),
        (
            "P-521",
            with_spki(&ec_spki(P521, &[4; 133])),
            "another kind of key",
        ),
        (
            "a point off the curve",
            with_spki(&ec_spki(P256, &[4; 65])),
            "signature does not fit",
        ),
        (
            "a point at infinity",
            with_spki(&ec_spki(P256, &[0])),
            "signature does not fit",
        ),
        (
            "explicit curve parameters",
            with_spki(&ec_spki(&der::tlv(der::SEQUENCE, &[]), &[4; 65])),
            "another kind",
        ),
        (
            "a key without bits",
            with_spki(&ec_spki(P256, &[])),
            "signature does not fit",
        ),
        ("an authority", authority, "may sign others"),
        ("two SAN extensions", twice_in_one, "same extension twice"),
        (
            "two extension requests",
            twice_in_two,
            "same extension twice",
        ),
        (
            "two URIs",
            asking(
                &plain,
                &names(&[
                    (0x86, b"spiffe://a/ns/b/sa/c"),
                    (0x86, b"spiffe://a/ns/b/sa/d"),
                ]),
            ),
            "asks for 2 names",
        ),
        (
            "a URI and a DNS name",
            asking(
                &plain,
                &names(&[(0x86, id("sleep").to_string().as_bytes()), (0x82, b"sleep")]),
            ),
            "asks for 2 names",
        ),
        (
            "a DNS name",
            asking(&plain, &text("kubernetes.default.svc")),
            "not a URI: kubernetes.default.svc",
        ),
        (
            "an address",
            asking(&plain, &names(&[(0x87, &[10, 0, 0, 1])])),
            "a name of kind 7",
        ),
        (
            "another kind of name",
            asking(&plain, &names(&[(0xa0, &[])])),
            "a name of kind 0",
        ),
        (
            "a SAN that is no list",
            asking(&plain, &[0x04, 0]),
            "an element is not the one",
        ),
        (
            "a SAN cut short",
            asking(&plain, &[0x30, 9, 0x86, 3]),
            "it ends inside",
        ),
    ];
    for (what, request, reason) in cases {
        let error = Csr::from_der(&request).expect_err(what).to_string();
        assert!(error.contains(reason), "{what}: {error}");
    }
}

#[test]
fn a_request_for_somebody_else_is_refused_by_name() {
    let issuer = issuer(&root("mesh-1"), 1);
    let own = id("sleep").to_string();
    let cn = |name: &str| template::name(&[(oid::COMMON_NAME, name)]);
    let san = names(&[(0x86, own.as_bytes())]);
    for request in [
        asking_for(b"spiffe://cluster.local/ns/default/sa/admin"),
        asking_for(b"spiffe://cluster.local/ns/kube-system/sa/sleep"),
        asking_for(b"spiffe://other.domain/ns/default/sa/sleep"),
        asking_for(b"spiffe://cluster.local/ns/default/sa/sleep/"),
        asking_for(b"spiffe://cluster.local/ns/default/sa/sleep\0"),
        asking_for(b"spiffe://cluster.local/ns/default/sa/sleep\0.evil"),
        asking_for(b"spiffe://cluster.local/ns/default/sa/Sleep"),
        asking_for(b"SPIFFE://cluster.local/ns/default/sa/sleep"),
        asking_for(b"spiffe://cluster.local/ns/default/sa/sl%65ep"),
        asking_for(b"spiffe://cluster.local/ns/default/sa/slee"),
        asking_for(b"spiffe://cluster.local/ns/default/sa/sleep?x"),
        asking_for(b"spiffe://cluster.local/ns/default/sa/sl\xc3\xa9ep"),
        asking_for(b"\xff\xfe"),
        asking_for(b""),
        asking(&cn("spiffe://cluster.local/ns/default/sa/admin"), &san),
        asking(&cn("SPIFFE://cluster.local/ns/default/sa/sleep"), &san),
    ] {
        let csr = Csr::from_der(&request).unwrap();
        match issuer.sign(&csr, &id("sleep"), None, NOW) {
            Err(error @ SignError::OtherIdentity { .. }) => {
                let text = error.to_string();
                assert!(text.contains(&format!("proved to be {own};")), "{text}");
                assert!(!text.contains('\0'), "{text:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nothing_of_the_subject_reaches_the_certificate() {
    let subject = template::name(&[
        (oid::ORGANIZATION, "system:masters"),
        (oid::COMMON_NAME, "kubernetes-admin"),
    ]);
    let csr = Csr::from_der(&write_with(&key(), &subject, &[]).unwrap()).unwrap();
    let issued = issuer(&root("mesh-1"), 1)
        .sign(&csr, &id("sleep"), None, NOW)
        .unwrap();
    assert_eq!(issued.facts.subject, "");
    assert_eq!(issued.facts.common_name, None);
    assert!(!issued.leaf.windows(7).any(|w| w == b"masters"));
}

#[test]
fn one_section_of_the_right_kind_is_a_request() {
    let one = key().request(&id("sleep")).unwrap();
    assert!(Csr::from_pem(&format!("some words before\n{one}")).is_ok());
    for (text, reason) in [
        (String::new(), "no certificate request is in it"),
        (format!("{one}{one}"), "more than one"),
        (
            one.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
            "no certificate request",
        ),
        (one.replace("-----END", "----END"), "not well formed"),
        (one.replace('M', "!"), "not well formed"),
        ("x".repeat(pem::MAX_PEM + 1), "larger than"),
    ] {
        let error = Csr::from_pem(&text).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Csr::from_der(&bytes);
        let _ = Csr::from_pem(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_changed_request_is_not_believed(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let good = write(&key(), &id("sleep")).unwrap();
        let mut changed = good.clone();
        let place = at.index(changed.len());
        changed[place] = to;
        if changed != good {
            prop_assert!(Csr::from_der(&changed).is_err());
        }
        prop_assert!(Csr::from_der(&good[..cut.index(good.len())]).is_err());
    }
}
