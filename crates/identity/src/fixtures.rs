//! What the tests of this room stand on: one root, authorities below it, a clock that is set, handshakes in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catamaran_model::{ClusterId, MeshName, SpiffeId, Timestamp, TrustDomain};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{CaCerts, Csr, Holding, Issuer, KeyPair, Root};

/// 24 November 2026.
pub(crate) const NOW: Timestamp = Timestamp(1_795_478_400_000);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::default()
}

pub(crate) fn mesh(name: &str) -> MeshName {
    MeshName::new(name).unwrap()
}

pub(crate) fn cluster(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

pub(crate) fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}")).unwrap()
}

pub(crate) fn root(name: &str) -> Root {
    Root::create(&domain(), &mesh(name), NOW).unwrap()
}

pub(crate) fn authority(root: &Root, n: u8) -> CaCerts {
    root.issue_intermediate(
        &domain(),
        &mesh(&format!("mesh-{n}")),
        &cluster(&format!("cluster-{n}")),
        NOW,
    )
    .unwrap()
}

pub(crate) fn issuer(root: &Root, n: u8) -> Issuer {
    Issuer::new(authority(root, n), domain()).unwrap()
}

pub(crate) fn holding(issuer: &Issuer, account: &str, now: Timestamp) -> Holding {
    let key = KeyPair::generate().unwrap();
    let csr = Csr::from_pem(&key.request(&id(account)).unwrap()).unwrap();
    let pems = issuer.sign(&csr, &id(account), None, now).unwrap().pems();
    Holding::from_response(&pems, key, &id(account), now).unwrap()
}

/// A clock that says what it was told.
#[derive(Debug)]
pub(crate) struct SetClock(AtomicU64);

impl SetClock {
    pub(crate) fn at(now: Timestamp) -> Arc<SetClock> {
        Arc::new(SetClock(AtomicU64::new(now.0)))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl TimeProvider for SetClock {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = self.0.load(Ordering::SeqCst);
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

/// Which end of a handshake said no.
#[derive(Debug)]
pub(crate) enum Refusal {
    ByClient(rustls::Error),
    ByServer(rustls::Error),
}

/// A whole TLS handshake through memory, with Istio's form of SNI.
pub(crate) fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Refusal> {
    let name =
        ServerName::try_from("outbound_.5000_._.helloworld.default.svc.cluster.local").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    loop {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut idle = wire.is_empty();
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets().map_err(Refusal::ByServer)?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        idle &= wire.is_empty();
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets().map_err(Refusal::ByClient)?;
        }
        if idle {
            assert!(!client.is_handshaking() && !server.is_handshaking());
            return Ok((client, server));
        }
    }
}

/// Moves bytes one way over connections that stand.
pub(crate) fn say(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
    text: &str,
) -> String {
    use std::io::{Read, Write};
    client.writer().write_all(text.as_bytes()).unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    server.read_tls(&mut wire.as_slice()).unwrap();
    server.process_new_packets().unwrap();
    let mut heard = vec![0; text.len()];
    server.reader().read_exact(&mut heard).unwrap();
    String::from_utf8(heard).unwrap()
}

/// Chains made by another implementation than ours.
pub(crate) mod foreign {
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
        ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    };
    use time::OffsetDateTime;

    use super::*;

    pub(crate) struct Authority {
        pub(crate) params: CertificateParams,
        pub(crate) key: KeyPair,
        pub(crate) der: CertificateDer<'static>,
    }

    fn at(time: Timestamp) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(time.seconds() as i64).unwrap()
    }

    /// Parameters of an authority that is valid from a day before NOW for a year.
    pub(crate) fn ca_params(name: &str, path_len: u8) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Somebody Else Inc");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = at(Timestamp(NOW.0 - DAY.as_millis() as u64));
        params.not_after = at(NOW.after(DAY * 365));
        params
    }

    pub(crate) fn root_with(params: CertificateParams) -> Authority {
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority { params, key, der }
    }

    pub(crate) fn root(name: &str) -> Authority {
        root_with(ca_params(name, 2))
    }

    impl Authority {
        pub(crate) fn issue(
            &self,
            params: &CertificateParams,
            key: &KeyPair,
        ) -> CertificateDer<'static> {
            let issuer = Issuer::from_params(&self.params, &self.key);
            params.signed_by(key, &issuer).unwrap().der().clone()
        }

        pub(crate) fn below_with(&self, params: CertificateParams) -> Authority {
            let key = KeyPair::generate().unwrap();
            let der = self.issue(&params, &key);
            Authority { params, key, der }
        }

        pub(crate) fn below(&self, name: &str) -> Authority {
            self.below_with(ca_params(name, 0))
        }

        /// A leaf with these names, for server and client, valid around NOW for a day.
        pub(crate) fn leaf(&self, names: Vec<SanType>) -> (CertificateDer<'static>, KeyPair) {
            let key = KeyPair::generate().unwrap();
            (self.issue(&leaf_params(names), &key), key)
        }

        pub(crate) fn pem(&self) -> String {
            crate::pem::write_certificates([&self.der])
        }
    }

    pub(crate) fn leaf_params(names: Vec<SanType>) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.not_before = at(Timestamp(NOW.0 - HOUR.as_millis() as u64));
        params.not_after = at(NOW.after(DAY));
        params
    }

    pub(crate) fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    pub(crate) fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    /// A nameConstraints extension with one permitted subtree of this tag: 0x86 URI, 0x82 DNS.
    pub(crate) fn permitted(tag: u8, name: &str) -> CustomExtension {
        use crate::der;
        let subtree = der::tlv(der::SEQUENCE, &der::tlv(tag, name.as_bytes()));
        let value = der::tlv(der::SEQUENCE, &der::tlv(0xa0, &subtree));
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], value);
        extension.set_criticality(true);
        extension
    }
}
