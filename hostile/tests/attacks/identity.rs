//! Who may not come in: certificates that prove nothing, or too much.

use std::io;
use std::sync::Arc;

use catamaran_hostile::stand;
use catamaran_identity::provider;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::soon;
use crate::stand::{Budget, Healthy, Stand};

/// An attacker does not care who answers.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, &schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What a caller shows: certificates, its own first, and the key.
type Shown = (Vec<CertificateDer<'static>>, Vec<u8>);

/// The configuration of a caller that shows this, or nothing.
pub(crate) fn caller(
    shown: Option<Shown>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match shown {
        Some((chain, key)) => {
            let key = PrivateKeyDer::try_from(key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"istio-http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// A handshake with the proxy behind `stream`.
pub(crate) async fn shake<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    stream: S,
) -> io::Result<TlsStream<S>> {
    let name = ServerName::try_from(stand::SNI).unwrap();
    soon(
        "a handshake",
        TlsConnector::from(config).connect(name, stream),
    )
    .await
}

/// An authority that signs whatever it is asked for, which no signer of ours would.
pub(crate) struct Forge {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    root: Certificate,
}

/// What is usual for `default/sleep`.
fn usual() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri("spiffe://cluster.local/ns/default/sa/sleep")];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    (params.not_before, params.not_after) = (from_now(-3600), from_now(3600));
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A moment so many seconds from now.
fn from_now(seconds: i64) -> time::OffsetDateTime {
    let now = stand::now().0 as i64 / 1000;
    time::OffsetDateTime::from_unix_timestamp(now + seconds).unwrap()
}

fn authority(name: &str, path: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (from_now(-7200), from_now(30 * 86_400));
    params
}

impl Forge {
    /// A root, and an authority below it.
    pub(crate) fn new() -> Forge {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root_params = authority("root", 1);
        let root = root_params.self_signed(&root_key).unwrap();
        let params = authority("cluster-1", 0);
        let above = Issuer::new(root_params, root_key);
        let certificate = params.signed_by(&key, &above).unwrap();
        Forge {
            issuer: Issuer::new(params, key),
            certificate,
            root,
        }
    }

    /// The files by which a proxy knows it.
    pub(crate) fn files(&self) -> [(&'static str, String); 4] {
        [
            ("ca-cert.pem", self.certificate.pem()),
            ("ca-key.pem", self.issuer.key().serialize_pem()),
            ("root-cert.pem", self.root.pem()),
            ("cert-chain.pem", self.certificate.pem()),
        ]
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Shown {
        let leaf = params.signed_by(key, &self.issuer).unwrap();
        (
            vec![leaf.der().clone(), self.certificate.der().clone()],
            key.serialize_der(),
        )
    }

    fn signed(&self, params: &CertificateParams) -> Shown {
        self.sign(params, &KeyPair::generate().unwrap())
    }

    /// What a healthy caller shows.
    pub(crate) fn good(&self) -> Shown {
        self.signed(&usual())
    }
}

/// A healthy caller with mTLS.
pub(crate) async fn healthy(stand: &Stand) -> Healthy {
    let config = caller(Some(stand.forge.good()), &rustls::version::TLS13);
    let stream = TcpStream::connect(stand.address).await.unwrap();
    Healthy::on(shake(config, stream).await.unwrap()).await
}

/// Whether somebody who shows this gets an answer.
async fn gets_in(stand: &Stand, config: Arc<ClientConfig>) -> bool {
    let stream = TcpStream::connect(stand.address).await.unwrap();
    let Ok(mut stream) = shake(config, stream).await else {
        return false;
    };
    let request = b"GET /intruder HTTP/1.1\r\nhost: helloworld:5000\r\n\r\n";
    if stream.write_all(request).await.is_err() {
        return false;
    }
    let mut answer = [0; 1];
    matches!(
        soon("an answer or an end", stream.read(&mut answer)).await,
        Ok(1..)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_does_not_prove_one_identity_of_the_mesh_opens_nothing() {
    let mut stand = Stand::inbound().await;
    let healthy = healthy(&stand).await;
    let forge = stand.forge.clone();
    let named = |name: &str| {
        let mut params = usual();
        params.subject_alt_names = vec![uri(name)];
        forge.signed(&params)
    };
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = usual();
        change(&mut params);
        forge.signed(&params)
    };
    let mut cases: Vec<(&str, Shown)> = [
        "spiffe://other.domain/ns/default/sa/sleep",
        "spiffe://cluster.local/ns/default/sa/sleep/",
        "spiffe://cluster.local/ns/default/sa/sl%65ep",
        "spiffe://CLUSTER.LOCAL/ns/default/sa/sleep",
        "SPIFFE://cluster.local/ns/default/sa/sleep",
        "spiffe://cluster.local/ns/default/sa/sleep\0.evil",
        "spiffe://cluster.local/ns/default/sa/",
        "spiffe://cluster.local/ns/default/sa/sleep?admin",
        "spiffe://cluster.local/ns/default/sa/sleep#admin",
        "spiffe://cluster.local/ns/../sa/sleep",
        "spiffe://user@cluster.local/ns/default/sa/sleep",
        "https://cluster.local/ns/default/sa/sleep",
        "",
    ]
    .map(|name| (name, named(name)))
    .into();
    cases.extend([
        ("no name", with(&|params| params.subject_alt_names.clear())),
        (
            "a DNS name",
            with(&|params| {
                params.subject_alt_names = vec![SanType::DnsName("sleep".try_into().unwrap())];
            }),
        ),
        (
            "two names",
            with(&|params| {
                params
                    .subject_alt_names
                    .push(uri("spiffe://cluster.local/ns/default/sa/admin"));
            }),
        ),
        (
            "it has ended",
            with(&|params| params.not_after = from_now(-60)),
        ),
        (
            "it has not begun",
            with(&|params| params.not_before = from_now(1800)),
        ),
        (
            "it is for servers",
            with(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "it is for signing code",
            with(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            }),
        ),
        (
            "it is an authority",
            with(&|params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
        ),
    ]);
    let own = KeyPair::generate().unwrap();
    let alone = usual().self_signed(&own).unwrap();
    cases.push((
        "signed by itself",
        (vec![alone.der().clone()], own.serialize_der()),
    ));
    let (mut chain, key) = forge.good();
    chain.truncate(1);
    cases.push(("its signer is missing", (chain, key)));
    let (mut chain, _) = forge.good();
    chain.reverse();
    let key = forge.issuer.key().serialize_der();
    cases.push(("the authority's own certificate", (chain, key)));
    // thirty authorities of one name and many keys: whoever tries every way up is busy
    let (chain, key) = forge.good();
    let mut bomb = vec![chain[0].clone()];
    for _ in 0..30 {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let other = KeyPair::generate().unwrap();
        bomb.push(params.self_signed(&other).unwrap().der().clone());
    }
    cases.push(("a bomb of authorities", (bomb, key)));

    let budget = Budget::of(&stand, 10_000);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        assert!(
            !gets_in(&stand, caller(None, version)).await,
            "without a certificate"
        );
    }
    for (name, shown) in &cases {
        let config = caller(
            Some((shown.0.clone(), shown.1.clone())),
            &rustls::version::TLS13,
        );
        assert!(!gets_in(&stand, config).await, "{name:?} gets in");
    }
    for (name, shown) in &cases {
        let config = caller(
            Some((shown.0.clone(), shown.1.clone())),
            &rustls::version::TLS12,
        );
        assert!(
            !gets_in(&stand, config).await,
            "{name:?} gets in by TLS 1.2"
        );
    }
    let good = || Some(stand.forge.good());
    assert!(
        gets_in(&stand, caller(good(), &rustls::version::TLS13)).await,
        "who proves one gets in"
    );
    // and the two without a certificate
    let turned = 2 * cases.len() as u64 + 2;
    let reasons = ["certificate", "handshake"];
    stand.until_turned(&reasons, turned).await;
    healthy.was_not_hurt().await;
    budget.hold(&stand);
    let reached = stand.witness.requests();
    let intruders = reached
        .iter()
        .filter(|request| request.target == "/intruder")
        .count();
    assert_eq!(intruders, 1, "the good one");
}

/// Handshakes that are begun and never finished.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_stop_in_the_middle_keep_nobody_out() {
    let mut stand = Stand::inbound().await;
    let healthy = healthy(&stand).await;
    let config = caller(Some(stand.forge.good()), &rustls::version::TLS13);
    // a thousand strangers at 16 KiB and some
    let budget = Budget::of(&stand, 30_000).memory(24.0);
    let mut hello = Vec::new();
    let name = ServerName::try_from(stand::SNI).unwrap();
    rustls::ClientConnection::new(config.clone(), name)
        .unwrap()
        .write_tls(&mut hello)
        .unwrap();
    let mut halves = Vec::new();
    for n in 0..1500 {
        let mut stream = TcpStream::connect(stand.address).await.unwrap();
        // half of them say nothing after their first byte
        let some = if n % 2 == 0 { &hello[..] } else { &hello[..2] };
        stream.write_all(some).await.unwrap();
        halves.push(stream);
        if n % 100 == 99 {
            assert!(
                gets_in(&stand, config.clone()).await,
                "a caller that finishes, after {n} that do not"
            );
        }
    }
    // the oldest are shown out, long before their time is over
    stand.until_turned(&["crowd"], 1).await;
    healthy.was_not_hurt().await;
    budget.hold(&stand);
    drop(halves);
}
