//! What unproven callers show: requests for certificates, tokens, chains, roots.

use std::sync::OnceLock;

use catamaran_identity::{
    CertificateFacts, Csr, Issuer, JoinToken, Root, TrustBundle, check_client,
};
use catamaran_model::{ClusterId, MeshName, SpiffeId, Timestamp, TrustDomain};
use rustls::pki_types::CertificateDer;

use super::Target;
use crate::unbase64;

/// Requests, tokens and certificates.
pub(crate) const TARGET: Target = Target {
    name: "certificates",
    what: "no request and no chain is taken for more than it proves: what is signed names the proven identity and nobody else",
    run,
    seeds,
    words: &[
        b"-----BEGIN CERTIFICATE REQUEST-----\n",
        b"-----END CERTIFICATE REQUEST-----\n",
        b"spiffe://cluster.local/ns/default/sa/admin",
        b"\x30\x82",
        b"\x30\x80",
        b"\x86\x01/",
        b"\x06\x03\x55\x1d\x11",
        b"\x06\x03\x55\x1d\x13",
    ],
    cases: 5_000,
};

/// Within the life of everything in `seeds/`.
const NOW: Timestamp = Timestamp(1_900_000_000_000);

fn domain() -> TrustDomain {
    TrustDomain::default()
}

fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| {
        let mesh = MeshName::new("mesh-1").expect("a name");
        let cluster = ClusterId::new("cluster-1").expect("a name");
        let root = Root::create(&domain(), &mesh, NOW).expect("a root");
        let authority = root.issue_intermediate(&domain(), &mesh, &cluster, NOW);
        Issuer::new(authority.expect("an intermediate"), domain()).expect("an issuer")
    })
}

fn run(bytes: &[u8]) {
    if let Ok(csr) = Csr::from_der(bytes) {
        sign(&csr);
    }
    let chain = [bytes, bytes].map(CertificateDer::from);
    let met = check_client(issuer().bundle(), &chain[0], &chain[1..], NOW);
    assert!(met.is_err(), "nobody we trust signed this");
    let _ = CertificateFacts::of_chain(&chain);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(csr) = Csr::from_pem(text) {
        sign(&csr);
    }
    let _ = CertificateFacts::of_pem(text);
    let _ = TrustBundle::from_pem(&domain(), text);
    if let Ok(token) = JoinToken::parse(text) {
        assert_eq!(*token.text(), text.trim(), "a token has one text");
    }
}

fn sign(csr: &Csr) {
    let identity =
        SpiffeId::parse("spiffe://cluster.local/ns/default/sa/sleep").expect("an identity");
    let Ok(issued) = issuer().sign(csr, &identity, None, NOW) else {
        return;
    };
    let facts = CertificateFacts::of_pem(&issued.pems().concat()).expect("what we signed");
    assert_eq!(facts[0].identity().as_ref(), Some(&identity));
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        include_str!("../../seeds/sleep.csr.pem"),
        include_str!("../../seeds/root.pem"),
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ];
    let request = texts[0]
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect::<String>();
    let mut seeds: Vec<Vec<u8>> = texts.map(|text| text.as_bytes().to_vec()).into();
    seeds.push(unbase64(&request));
    seeds
}
