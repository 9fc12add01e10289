//! The roots that are trusted, by trust domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_model::{Fingerprint, Timestamp, TrustDomain};
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::certificate::{Certificate, CertificateError, CertificateFacts};
use crate::pem::{self, PemError};

/// Why a text is not a bundle of roots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is not PEM with certificates.
    #[error("the root bundle cannot be read: {0}")]
    Pem(#[from] PemError),
    /// One of the certificates cannot be read.
    #[error("certificate {index} of the root bundle: {error}")]
    Certificate {
        /// Counted from 1.
        index: usize,
        /// What is wrong.
        error: CertificateError,
    },
    /// One of the certificates cannot be a root.
    #[error(
        "certificate {index} of the root bundle ({subject}) is not a root: it is not an authority; \
         put only self-signed authorities into root-cert.pem"
    )]
    NotAnAuthority {
        /// Counted from 1.
        index: usize,
        /// Its subject.
        subject: String,
    },
    /// One of the certificates is an intermediate.
    #[error(
        "certificate {index} of the root bundle ({subject}) is not a root: it is signed by {issuer}; \
         put it into cert-chain.pem and its root into root-cert.pem"
    )]
    NotSelfSigned {
        /// Counted from 1.
        index: usize,
        /// Its subject.
        subject: String,
        /// Its issuer.
        issuer: String,
    },
    /// One of the certificates limits URIs, which our TLS stack refuses in every chain.
    #[error(
        "certificate {index} of the root bundle ({subject}) has name constraints on URIs; proxies refuse every \
         workload certificate under it; use a root without URI name constraints"
    )]
    UriNameConstraint {
        /// Counted from 1.
        index: usize,
        /// Its subject.
        subject: String,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct TrustedRoot {
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) anchor: TrustAnchor<'static>,
}

/// Roots of trust, each under the trust domains that it may speak for.
///
/// Two bundles are equal when they trust the same roots for the same trust domains, in whatever order they were read.
#[derive(Debug, Clone, Default)]
pub struct TrustBundle {
    domains: BTreeMap<TrustDomain, BTreeMap<Fingerprint, TrustedRoot>>,
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.domains.len() == other.domains.len() && self.is_within(other) && other.is_within(self)
    }
}

impl Eq for TrustBundle {}

impl TrustBundle {
    /// Reads the roots of one trust domain from a PEM text (`root-cert.pem`).
    pub fn from_pem(trust_domain: &TrustDomain, text: &str) -> Result<TrustBundle, BundleError> {
        TrustBundle::from_certificates(trust_domain, &pem::certificates(text)?)
    }

    /// Takes the roots of one trust domain.
    pub fn from_certificates(
        trust_domain: &TrustDomain,
        certificates: &[CertificateDer<'_>],
    ) -> Result<TrustBundle, BundleError> {
        let mut roots = BTreeMap::new();
        for (place, der) in certificates.iter().enumerate() {
            let index = place + 1;
            let certificate = Certificate::read(der)
                .map_err(|error| BundleError::Certificate { index, error })?;
            let subject = || certificate.facts.subject.clone();
            if !certificate.is_ca {
                return Err(BundleError::NotAnAuthority {
                    index,
                    subject: subject(),
                });
            }
            if !certificate.is_signed_by(&certificate) {
                return Err(BundleError::NotSelfSigned {
                    index,
                    subject: subject(),
                    issuer: certificate.facts.issuer.clone(),
                });
            }
            if certificate.constrains_uris {
                return Err(BundleError::UriNameConstraint {
                    index,
                    subject: subject(),
                });
            }
            let anchor = webpki::anchor_from_trusted_cert(&certificate.der)
                .map_err(|error| BundleError::Certificate {
                    index,
                    error: CertificateError::Malformed(error.to_string()),
                })?
                .to_owned();
            roots.insert(
                certificate.fingerprint,
                TrustedRoot {
                    certificate: Arc::new(certificate),
                    anchor,
                },
            );
        }
        Ok(TrustBundle {
            domains: BTreeMap::from([(trust_domain.clone(), roots)]),
        })
    }

    /// Both bundles' roots, each for its own trust domains.
    pub fn with(&self, other: &TrustBundle) -> TrustBundle {
        let mut domains = self.domains.clone();
        for (domain, roots) in &other.domains {
            domains
                .entry(domain.clone())
                .or_default()
                .extend(roots.iter().map(|(print, root)| (*print, root.clone())));
        }
        TrustBundle { domains }
    }

    /// The trust domains with at least one root.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.domains.keys()
    }

    /// Whether this trust domain has a root here.
    pub fn trusts(&self, domain: &TrustDomain) -> bool {
        self.domains
            .get(domain)
            .is_some_and(|roots| !roots.is_empty())
    }

    /// All roots, sorted, each once.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        let mut prints: Vec<_> = self
            .all()
            .map(|root| root.certificate.fingerprint)
            .collect();
        prints.sort();
        prints.dedup();
        prints
    }

    /// What the roots say of themselves, in the order of [`TrustBundle::fingerprints`].
    pub fn facts(&self) -> Vec<CertificateFacts> {
        let mut facts: Vec<_> = self
            .all()
            .map(|root| root.certificate.facts.clone())
            .collect();
        facts.sort_by_key(|f| f.fingerprint);
        facts.dedup_by_key(|f| f.fingerprint);
        facts
    }

    /// The roots of one trust domain as one PEM text, in the order of their fingerprints.
    pub fn to_pem(&self, domain: &TrustDomain) -> String {
        pem::write_certificates(self.certificates(domain))
    }

    /// Whether every root here is trusted for the same trust domain there.
    pub fn is_within(&self, other: &TrustBundle) -> bool {
        self.domains.iter().all(|(domain, roots)| {
            other
                .domains
                .get(domain)
                .is_some_and(|theirs| roots.keys().all(|print| theirs.contains_key(print)))
        })
    }

    /// Whether at least one root is trusted for the same trust domain by both.
    pub fn trusts_same_root(&self, other: &TrustBundle) -> bool {
        self.domains.iter().any(|(domain, roots)| {
            other
                .domains
                .get(domain)
                .is_some_and(|theirs| roots.keys().any(|print| theirs.contains_key(print)))
        })
    }

    pub(crate) fn certificates(
        &self,
        domain: &TrustDomain,
    ) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.roots(domain).map(|root| &root.certificate.der)
    }

    pub(crate) fn roots(&self, domain: &TrustDomain) -> impl Iterator<Item = &TrustedRoot> {
        self.domains
            .get(domain)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// The anchors of a trust domain that are valid at `now`.
    pub(crate) fn anchors(
        &self,
        domain: &TrustDomain,
        now: Timestamp,
    ) -> Vec<TrustAnchor<'static>> {
        self.roots(domain)
            .filter(|root| root.certificate.facts.is_valid(now))
            .map(|root| root.anchor.clone())
            .collect()
    }

    fn all(&self) -> impl Iterator<Item = &TrustedRoot> {
        self.domains.values().flat_map(BTreeMap::values)
    }
}

#[cfg(test)]
mod tests;
