//! Checking who a peer is: chain, one URI, identity, issuer.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use catamaran_model::{Fingerprint, SpiffeId, Timestamp, TrustDomain};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::bundle::TrustBundle;
use crate::certificate::{AltName, Certificate, CertificateError, CertificateFacts, date};
use crate::pem::brief;

/// The most certificates that a peer may send.
pub const MAX_CHAIN: usize = 8;

/// Who a client demands to find at the other end. Interned by content: equal rules share one TLS configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerRule {
    identities: Arc<BTreeSet<SpiffeId>>,
    issuers: Option<Arc<BTreeSet<Fingerprint>>>,
}

impl PeerRule {
    /// One of these identities, whoever issued it. An empty set accepts nobody.
    pub fn any_of(identities: impl IntoIterator<Item = SpiffeId>) -> PeerRule {
        PeerRule {
            identities: Arc::new(identities.into_iter().collect()),
            issuers: None,
        }
    }

    /// Exactly this identity.
    pub fn exactly(identity: SpiffeId) -> PeerRule {
        PeerRule::any_of([identity])
    }

    /// Demands also that the chain runs through one of these certificates: the intermediates of the clusters in
    /// which the endpoint's workloads may be.
    pub fn issued_by(self, issuers: impl IntoIterator<Item = Fingerprint>) -> PeerRule {
        PeerRule {
            issuers: Some(Arc::new(issuers.into_iter().collect())),
            ..self
        }
    }

    /// Whether a peer whose chain holds is one of those that are demanded.
    pub(crate) fn admit(&self, peer: &Peer) -> Result<(), PeerError> {
        if !self.identities.contains(&peer.id) {
            return Err(PeerError::WrongIdentity {
                wanted: self.identities.iter().cloned().collect(),
                got: peer.id.clone(),
            });
        }
        if let Some(allowed) = &self.issuers
            && !peer.issuers.iter().any(|print| allowed.contains(print))
        {
            return Err(PeerError::WrongIssuer {
                got: peer.id.clone(),
                through: peer.issuers.clone(),
                allowed: allowed.iter().copied().collect(),
            });
        }
        Ok(())
    }

    /// The identities that are accepted.
    pub fn identities(&self) -> &BTreeSet<SpiffeId> {
        &self.identities
    }

    /// The issuers that are accepted; `None` when they are not known and nothing is demanded.
    pub fn issuers(&self) -> Option<&BTreeSet<Fingerprint>> {
        self.issuers.as_deref()
    }
}

/// Who was found at the other end, after every check held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The identity.
    pub id: SpiffeId,
    /// SHA-256 of the peer's own certificate.
    pub fingerprint: Fingerprint,
    /// The certificates that the chain runs through, from the peer's issuer to the root.
    pub issuers: Vec<Fingerprint>,
    /// When the peer's certificate ends.
    pub not_after: Timestamp,
}

/// A chain that holds, and how long: no certificate on the way to the root begins later or ends earlier.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) peer: Arc<Peer>,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

impl Checked {
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.from <= now && now <= self.until
    }
}

/// Which side of a connection the certificate was shown by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRole {
    /// It was shown by a server.
    Server,
    /// It was shown by a client.
    Client,
}

/// Which check a peer failed. The fault is the peer's, or the trust set up between the two sides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It showed no certificate.
    #[error("the peer showed no certificate; only workloads of the mesh may call here")]
    NoCertificate,
    /// It showed more than anyone needs.
    #[error("the peer showed {0} certificates; at most {MAX_CHAIN} are read")]
    TooMany(usize),
    /// Its certificate cannot be read.
    #[error("the peer's certificate cannot be read: {0}")]
    Malformed(#[from] CertificateError),
    /// Its certificate does not have exactly one name that is a URI.
    #[error("the peer's certificate must name exactly one URI and nothing else; it names {0}")]
    NotOneUri(String),
    /// Its one URI is not an identity of a mesh.
    #[error(
        "the peer's certificate names {0}, which is not spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT"
    )]
    NotAnIdentity(String),
    /// Its trust domain has no root here.
    #[error(
        "the peer is {got}; no root is trusted for its trust domain, only for {}",
        list(trusted)
    )]
    UntrustedDomain {
        /// Who it says it is.
        got: SpiffeId,
        /// The trust domains with a root.
        trusted: Vec<TrustDomain>,
    },
    /// None of our roots signed it.
    #[error(
        "the peer says it is {got}, issued by {issuer}; no trusted root ({}) signed that: \
         its mesh has another root of trust; compare `catamaran trust show` of both meshes",
        list(&short(roots))
    )]
    UnknownIssuer {
        /// Who it says it is.
        got: SpiffeId,
        /// The issuer that its certificate names.
        issuer: String,
        /// The roots that are trusted for its trust domain.
        roots: Vec<Fingerprint>,
    },
    /// A certificate of its chain has ended.
    #[error(
        "the certificate of {got} ended at {end}, and it is {here} here; \
         the peer must renew, or one of the two clocks is wrong", end = date(.not_after), here = date(.now))]
    Expired {
        /// Who it says it is.
        got: SpiffeId,
        /// The end of the certificate.
        not_after: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// A certificate of its chain is not valid yet.
    #[error(
        "the certificate of {got} begins at {begin}, and it is {here} here; one of the two clocks is wrong", begin = date(.not_before), here = date(.now))]
    NotYetValid {
        /// Who it says it is.
        got: SpiffeId,
        /// The begin of the certificate.
        not_before: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// Its chain limits the names it may carry.
    #[error(
        "the chain of {got} has name constraints that its certificate breaks, or constraints on URIs, which are \
         never accepted; issue from an intermediate without URI name constraints"
    )]
    NameConstraint {
        /// Who it says it is.
        got: SpiffeId,
    },
    /// Its chain breaks another rule of RFC 5280.
    #[error("the chain of {got} is not acceptable: {reason}")]
    Chain {
        /// Who it says it is.
        got: SpiffeId,
        /// The rule.
        reason: String,
    },
    /// It is somebody else.
    #[error("the peer is {got}; wanted {}", list(wanted))]
    WrongIdentity {
        /// Who was wanted: one of these.
        wanted: Vec<SpiffeId>,
        /// Who it is.
        got: SpiffeId,
    },
    /// It was issued by an authority that may not speak for the endpoint's clusters.
    #[error(
        "the peer is {got}, but its certificate was issued through {}, and the endpoint's clusters issue through {}: \
         another cluster's authority speaks for it, or that cluster's intermediate was renewed a moment ago",
        list(&short(through)), list(&short(allowed))
    )]
    WrongIssuer {
        /// Who it is.
        got: SpiffeId,
        /// What its chain runs through, from its issuer to the root.
        through: Vec<Fingerprint>,
        /// What it must run through: one of these.
        allowed: Vec<Fingerprint>,
    },
}

fn short(prints: &[Fingerprint]) -> Vec<String> {
    prints.iter().map(Fingerprint::short).collect()
}

/// At most a few, joined by commas.
fn list<T: fmt::Display>(items: &[T]) -> String {
    const MOST: usize = 5;
    if items.is_empty() {
        return "none".to_owned();
    }
    let mut text = items
        .iter()
        .take(MOST)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if items.len() > MOST {
        text.push_str(&format!(" and {} more", items.len() - MOST));
    }
    text
}

impl PeerError {
    /// A stable word for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            PeerError::NoCertificate => "no_certificate",
            PeerError::TooMany(_) => "too_many_certificates",
            PeerError::Malformed(_) => "malformed_certificate",
            PeerError::NotOneUri(_) => "not_one_uri",
            PeerError::NotAnIdentity(_) => "not_an_identity",
            PeerError::UntrustedDomain { .. } => "untrusted_domain",
            PeerError::UnknownIssuer { .. } => "unknown_issuer",
            PeerError::Expired { .. } => "expired",
            PeerError::NotYetValid { .. } => "not_yet_valid",
            PeerError::NameConstraint { .. } => "name_constraint",
            PeerError::Chain { .. } => "bad_chain",
            PeerError::WrongIdentity { .. } => "wrong_identity",
            PeerError::WrongIssuer { .. } => "wrong_issuer",
        }
    }

    /// Finds the reason in a TLS error of a handshake that our verifier refused.
    pub fn of_tls(error: &rustls::Error) -> Option<&PeerError> {
        match error {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
                other.0.downcast_ref()
            }
            rustls::Error::NoCertificatesPresented => Some(&PeerError::NoCertificate),
            _ => None,
        }
    }

    /// Finds the reason in an IO error of a TLS stream.
    pub fn of_io(error: &std::io::Error) -> Option<&PeerError> {
        PeerError::of_tls(error.get_ref()?.downcast_ref()?)
    }
}

impl From<PeerError> for rustls::Error {
    fn from(error: PeerError) -> Self {
        let other = rustls::OtherError(Arc::new(error));
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))
    }
}

/// The one identity that a certificate names.
pub(crate) fn one_identity(certificate: &Certificate) -> Result<SpiffeId, PeerError> {
    let [AltName::Uri(uri)] = &certificate.names[..] else {
        let facts = &certificate.facts;
        let mut names = facts.uris.clone();
        names.extend(facts.dns_names.iter().map(|dns| format!("DNS {dns}")));
        if facts.other_names > 0 {
            names.push(format!("{} of other kinds", facts.other_names));
        }
        return Err(PeerError::NotOneUri(list(&names)));
    };
    std::str::from_utf8(uri)
        .ok()
        .and_then(|uri| SpiffeId::parse(uri).ok())
        .filter(|id| id.to_string().as_bytes() == uri.as_slice())
        .ok_or_else(|| PeerError::NotAnIdentity(brief(&String::from_utf8_lossy(uri))))
}

/// The chain check for one side: to a root of the identity's own trust domain, for this use, at this time.
pub(crate) fn check_chain(
    bundle: &TrustBundle,
    role: PeerRole,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<Peer, PeerError> {
    check_path(bundle, role, end_entity, intermediates, now)
        .map(|checked| Arc::unwrap_or_clone(checked.peer))
}

/// The same, and for how long it holds.
pub(crate) fn check_path(
    bundle: &TrustBundle,
    role: PeerRole,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<Checked, PeerError> {
    if intermediates.len() + 1 > MAX_CHAIN {
        return Err(PeerError::TooMany(intermediates.len() + 1));
    }
    let certificate = Certificate::read(end_entity)?;
    let id = one_identity(&certificate)?;
    if !bundle.trusts(&id.trust_domain) {
        return Err(PeerError::UntrustedDomain {
            got: id,
            trusted: bundle.trust_domains().cloned().collect(),
        });
    }
    let anchors = bundle.anchors(&id.trust_domain, now);
    let usage = match role {
        PeerRole::Server => webpki::KeyUsage::server_auth(),
        PeerRole::Client => webpki::KeyUsage::client_auth(),
    };
    let refuse = |error| chain_error(error, bundle, &certificate, &id);
    let parsed = webpki::EndEntityCert::try_from(end_entity).map_err(refuse)?;
    let path = parsed
        .verify_for_usage(
            crate::tls::provider().signature_verification_algorithms.all,
            &anchors,
            intermediates,
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.seconds())),
            usage,
            None,
            None,
        )
        .map_err(refuse)?;
    let mut from = certificate.facts.not_before;
    let mut until = certificate.facts.not_after;
    let mut narrow = |begin: Timestamp, end: Timestamp| {
        from = from.max(begin);
        until = until.min(end);
    };
    let mut issuers: Vec<Fingerprint> = Vec::new();
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        match CertificateFacts::read(&der) {
            Ok(facts) => narrow(facts.not_before, facts.not_after),
            // good now, but for how long cannot be told
            Err(_) => narrow(now, now),
        }
        issuers.push(crate::certificate::fingerprint(&der));
    }
    let root = bundle
        .roots(&id.trust_domain)
        .find(|root| &root.anchor == path.anchor());
    if let Some(root) = root {
        let facts = &root.certificate.facts;
        // webpki keeps no path length of a root; Envoy does, and both must agree.
        if facts
            .path_len
            .is_some_and(|most| issuers.len() > most as usize)
        {
            return Err(PeerError::Chain {
                got: id,
                reason: format!("the root ({}) allows fewer intermediates", facts.subject),
            });
        }
        narrow(facts.not_before, facts.not_after);
        issuers.push(root.certificate.fingerprint);
    }
    let peer = Arc::new(Peer {
        id,
        fingerprint: certificate.fingerprint,
        issuers,
        not_after: certificate.facts.not_after,
    });
    Ok(Checked { peer, from, until })
}

fn chain_error(
    error: webpki::Error,
    bundle: &TrustBundle,
    certificate: &Certificate,
    id: &SpiffeId,
) -> PeerError {
    let at = |time: UnixTime| Timestamp(time.as_secs().saturating_mul(1000));
    let got = id.clone();
    match error {
        // A signature that does not fit means the same to people: the named issuer of ours did not sign it.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            PeerError::UnknownIssuer {
                issuer: certificate.facts.issuer.clone(),
                roots: bundle
                    .roots(&id.trust_domain)
                    .map(|root| root.certificate.fingerprint)
                    .collect(),
                got,
            }
        }
        webpki::Error::CertExpired { time, not_after } => PeerError::Expired {
            got,
            not_after: at(not_after),
            now: at(time),
        },
        webpki::Error::CertNotValidYet { time, not_before } => PeerError::NotYetValid {
            got,
            not_before: at(not_before),
            now: at(time),
        },
        webpki::Error::NameConstraintViolation => PeerError::NameConstraint { got },
        other => PeerError::Chain {
            got,
            reason: other.to_string(),
        },
    }
}

/// What a client demands of the server it reached.
pub fn check_server(
    bundle: &TrustBundle,
    rule: &PeerRule,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<Peer, PeerError> {
    let peer = check_chain(bundle, PeerRole::Server, end_entity, intermediates, now)?;
    rule.admit(&peer)?;
    Ok(peer)
}

/// What a server demands of a client: any identity of a trust domain that has a root here.
pub fn check_client(
    bundle: &TrustBundle,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<Peer, PeerError> {
    check_chain(bundle, PeerRole::Client, end_entity, intermediates, now)
}

#[cfg(test)]
mod tests;
