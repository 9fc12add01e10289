use proptest::prelude::*;

use super::*;
use crate::fixtures::*;
use crate::issuer::Issuer;

fn files() -> CaCertsFiles {
    authority(&root("mesh-1"), 1).files()
}

fn foreign_files(root: &foreign::Authority, chain: &[&foreign::Authority]) -> CaCertsFiles {
    CaCertsFiles {
        ca_cert: chain[0].pem(),
        ca_key: Zeroizing::new(chain[0].key.serialize_pem()),
        root_cert: root.pem(),
        cert_chain: chain.iter().map(|one| one.pem()).collect(),
    }
}

fn refusal(files: &CaCertsFiles) -> String {
    CaCerts::read(files, NOW).unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read_back() {
    let made = authority(&root("mesh-1"), 1);
    let read = CaCerts::read(&made.files(), NOW).unwrap();
    assert_eq!(read.files(), made.files());
    assert_eq!(read.fingerprint(), made.fingerprint());
    let names: Vec<_> = made
        .files()
        .entries()
        .map(|(name, _)| name.to_owned())
        .to_vec();
    assert_eq!(names, CaCertsFiles::NAMES);
}

#[test]
fn both_layouts_are_taken_and_tls_wins() {
    let (ours, other) = (files(), files());
    let plain = |name: &str| {
        ours.entries()
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, text)| (*text).to_owned())
    };
    assert_eq!(CaCertsFiles::collect(plain).unwrap(), ours);
    let both = |name: &str| match name {
        "tls.crt" => Some(other.ca_cert.clone()),
        "tls.key" => Some(other.ca_key.to_string()),
        "ca.crt" => Some(other.root_cert.clone()),
        name => plain(name),
    };
    let taken = CaCertsFiles::collect(both).unwrap();
    assert_eq!(taken.ca_cert, other.ca_cert);
    let read = CaCerts::read(&taken, NOW).unwrap();
    assert_eq!(read.files(), other);
}

#[test]
fn a_missing_file_is_named() {
    let ours = files();
    for missing in ["ca-cert.pem", "ca-key.pem", "root-cert.pem"] {
        let error = CaCertsFiles::collect(|name| {
            let (_, text) = ours.entries().into_iter().find(|(n, _)| *n == name)?;
            (name != missing).then(|| text.to_owned())
        })
        .unwrap_err();
        assert_eq!(error, CaCertsError::Missing { name: missing });
    }
    let error = CaCertsFiles::collect(|name| (name == "tls.crt").then(|| ours.ca_cert.clone()))
        .unwrap_err();
    assert_eq!(error, CaCertsError::Missing { name: "tls.key" });
}

#[test]
fn several_roots_are_kept() {
    let (old, new) = (root("mesh-1"), root("mesh-1-next"));
    let made = authority(&old, 1).files();
    let both = CaCertsFiles {
        root_cert: format!("{}{}", new.cert_pem(), old.cert_pem()),
        ..made
    };
    let read = CaCerts::read(&both, NOW).unwrap();
    assert_eq!(read.bundle(&domain()).unwrap().fingerprints().len(), 2);
    assert_eq!(read.files().root_cert, both.root_cert);
}

#[test]
fn what_is_wrong_is_said_by_name() {
    let (one, two) = (files(), files());
    let subject = "O=cluster.local, OU=Catamaran intermediate, OU=cluster-1, CN=mesh-1";
    for (files, reason) in [
        (
            CaCertsFiles {
                ca_key: two.ca_key.clone(),
                ..one.clone()
            },
            format!("ca-key.pem does not belong to ca-cert.pem ({subject})"),
        ),
        (
            CaCertsFiles {
                root_cert: two.root_cert.clone(),
                ..one.clone()
            },
            format!(
                "{subject} was issued by O=cluster.local, OU=Catamaran root, CN=mesh-1, and no certificate"
            ),
        ),
        (
            CaCertsFiles {
                root_cert: one.ca_cert.clone(),
                ..one.clone()
            },
            "root-cert.pem: certificate 1 of the root bundle".to_owned(),
        ),
        (
            CaCertsFiles {
                ca_cert: "nothing".to_owned(),
                ..one.clone()
            },
            "ca-cert.pem: no certificate is in it".to_owned(),
        ),
        (
            CaCertsFiles {
                ca_key: Zeroizing::new("nothing".to_owned()),
                ..one.clone()
            },
            "ca-key.pem: the private key cannot be read: no private key is in it".to_owned(),
        ),
        (
            CaCertsFiles {
                cert_chain: "-----BEGIN CERTIFICATE-----\n".to_owned(),
                ..one.clone()
            },
            "cert-chain.pem: a section".to_owned(),
        ),
    ] {
        let error = refusal(&files);
        assert!(error.contains(&reason), "{error}");
    }
}

#[test]
fn an_authority_is_refused_before_and_after_its_time() {
    let files = files();
    for (now, reason) in [
        (NOW.after(DAY * 366), "ended at"),
        (Timestamp(NOW.0 - 200_000), "begins at"),
        (
            NOW.after(DAY * 365 - std::time::Duration::from_secs(30)),
            "ended at",
        ),
    ] {
        let error = CaCerts::read(&files, now).unwrap_err().to_string();
        assert!(
            error.contains(reason) && error.contains("CN=mesh-1"),
            "{error}"
        );
    }
}

#[test]
fn a_workload_certificate_is_no_authority() {
    let root = foreign::root("Corporate Root");
    let (leaf, key) = root.leaf(vec![foreign::uri(&id("sleep").to_string())]);
    let pem = pem::write_certificates([&leaf]);
    let files = CaCertsFiles {
        ca_cert: pem.clone(),
        ca_key: Zeroizing::new(key.serialize_pem()),
        root_cert: root.pem(),
        cert_chain: pem,
    };
    assert!(matches!(
        CaCerts::read(&files, NOW),
        Err(CaCertsError::NotAnAuthority { .. })
    ));
}

#[test]
fn longer_ways_to_the_root_hold_when_every_step_is_there() {
    let root = foreign::root_with(foreign::ca_params("Corporate Root", 3));
    let policy = root.below_with(foreign::ca_params("Policy", 2));
    let region = policy.below_with(foreign::ca_params("Region", 1));
    let issuing = region.below("Issuing");
    let whole = foreign_files(&root, &[&issuing, &region, &policy, &root]);
    let read = CaCerts::read(&whole, NOW).unwrap();
    assert_eq!(read.intermediates().count(), 3);
    let held = holding(&Issuer::new(read, domain()).unwrap(), "sleep", NOW);
    assert_eq!(held.issuers().len(), 4);

    let gap = foreign_files(&root, &[&issuing, &policy]);
    let error = refusal(&gap);
    assert!(
        error.contains("CN=Issuing was issued by O=Somebody Else Inc, CN=Region"),
        "{error}"
    );
}

#[test]
fn a_root_may_itself_be_the_authority() {
    let root = foreign::root("Istio Style Root");
    let read = CaCerts::read(&foreign_files(&root, &[&root]), NOW).unwrap();
    let held = holding(&Issuer::new(read, domain()).unwrap(), "sleep", NOW);
    assert_eq!(held.issuers(), [crate::fingerprint(&root.der)]);
}

#[test]
fn path_length_that_forbids_the_intermediate_is_found_at_import() {
    let root = foreign::root_with(foreign::ca_params("Flat Root", 0));
    let below = root.below("Forbidden");
    let error = refusal(&foreign_files(&root, &[&below]));
    assert!(
        error.contains("would be refused by proxies") && error.contains("CN=Forbidden"),
        "{error}"
    );
}

#[test]
fn only_uri_name_constraints_are_refused_and_the_reason_is_given() {
    let root = foreign::root("Corporate Root");
    let limited = |tag: u8, name: &str| {
        let mut params = foreign::ca_params("Limited", 0);
        params.custom_extensions = vec![foreign::permitted(tag, name)];
        foreign_files(&root, &[&root.below_with(params)])
    };
    assert!(CaCerts::read(&foreign_files(&root, &[&root.below("Free")]), NOW).is_ok());
    assert!(CaCerts::read(&limited(0x82, "cluster.local"), NOW).is_ok());
    for name in ["cluster.local", ".cluster.local"] {
        let error = CaCerts::read(&limited(0x86, name), NOW).unwrap_err();
        assert!(
            matches!(error, CaCertsError::UriNameConstraint { .. }),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("ask for an intermediate without URI name constraints")
        );
    }
}

#[test]
fn rsa_and_p384_authorities_and_older_key_forms_work() {
    let root = foreign::root("Corporate Root");
    for algorithm in [
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = foreign::ca_params("Issuing", 0);
        let der = root.issue(&params, &key);
        let files = foreign_files(&root, &[&foreign::Authority { params, key, der }]);
        let read = CaCerts::read(&files, NOW).unwrap();
        assert_eq!(
            read.files().ca_key.as_str().replace("\r\n", "\n"),
            files.ca_key.as_str().replace("\r\n", "\n")
        );
        holding(&Issuer::new(read, domain()).unwrap(), "sleep", NOW);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_files_never_panic(
        which in 0usize..4,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut files = files();
        let target: &mut String = match which {
            0 => &mut files.ca_cert,
            1 => &mut files.ca_key,
            2 => &mut files.root_cert,
            _ => &mut files.cert_chain,
        };
        let mut bytes = target.clone().into_bytes();
        for (at, to) in edits {
            let place = at.index(bytes.len());
            bytes[place] = to;
        }
        *target = String::from_utf8_lossy(&bytes).into_owned();
        let _ = CaCerts::read(&files, NOW);
    }

    #[test]
    fn damaged_certificates_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut files = files();
        let mut der = pem::certificates(&files.ca_cert).unwrap()[0].to_vec();
        for (at, to) in edits {
            let place = at.index(der.len());
            der[place] = to;
        }
        files.ca_cert = pem::write("CERTIFICATE", &der);
        let _ = CaCerts::read(&files, NOW);
    }
}
