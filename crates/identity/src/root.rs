//! A root of trust, in its owner's hands.

use std::time::Duration;

use catamaran_model::{ClusterId, MeshName, Timestamp, TrustDomain};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::bundle::{BundleError, TrustBundle};
use crate::cacerts::{CaCerts, CaCertsError};
use crate::certificate::{Certificate, CertificateFacts, date};
use crate::issuer::BACKDATE;
use crate::key::{KeyError, KeyPair};
use crate::oid;
use crate::pem;
use crate::template::{self, CRL_SIGN, DIGITAL_SIGNATURE, Extensions, KEY_CERT_SIGN, Template};

/// How long a root lasts: ten years.
pub const ROOT_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How long an intermediate lasts: one year.
pub const INTERMEDIATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The certificate cannot be used.
    #[error("the root's certificate cannot be used: {0}")]
    Certificate(#[from] BundleError),
    /// There are several certificates.
    #[error(
        "root-cert.pem holds {0} certificates; to sign, give the one that root-key.pem belongs to"
    )]
    Several(usize),
    /// The key cannot be used.
    #[error("the root's key cannot be used: {0}")]
    Key(#[from] KeyError),
    /// Key and certificate are not a pair.
    #[error(
        "the root's key does not belong to its certificate ({subject}); restore the pair root-cert.pem and \
         root-key.pem from the same backup"
    )]
    KeyMismatch {
        /// The certificate's subject.
        subject: String,
    },
    /// It is not valid now.
    #[error(
        "the root ({subject}) is not valid at {here}: it is valid from {begin} until {end}", end = date(.not_after), begin = date(.not_before), here = date(.now))]
    NotValid {
        /// The certificate's subject.
        subject: String,
        /// Valid from.
        not_before: Timestamp,
        /// Valid until.
        not_after: Timestamp,
        /// The time it was checked at.
        now: Timestamp,
    },
    /// It may not have intermediates below it.
    #[error(
        "the root ({subject}) allows no intermediates below it (path length 0); use another root"
    )]
    PathLength {
        /// The certificate's subject.
        subject: String,
    },
    /// An intermediate that it signed does not work.
    #[error("the root signed an intermediate that proxies would refuse: {0}")]
    Intermediate(#[from] Box<CaCertsError>),
}

/// A root of trust with its key. It signs intermediates and nothing else.
#[derive(Debug, Clone)]
pub struct Root {
    certificate: Certificate,
    key: KeyPair,
}

fn names(
    trust_domain: &TrustDomain,
    what: &str,
    mesh: &MeshName,
    cluster: Option<&ClusterId>,
) -> Vec<u8> {
    let mut parts = vec![
        (oid::ORGANIZATION, trust_domain.as_str()),
        (oid::UNIT, what),
    ];
    if let Some(cluster) = cluster {
        parts.push((oid::UNIT, cluster.as_str()));
    }
    parts.push((oid::COMMON_NAME, mesh.as_str()));
    template::name(&parts)
}

impl Root {
    /// Makes a root: ECDSA P-256, self-signed, ten years, one level of intermediates. Its common name is `mesh`.
    pub fn create(
        trust_domain: &TrustDomain,
        mesh: &MeshName,
        now: Timestamp,
    ) -> Result<Root, RootError> {
        Root::create_with(KeyPair::generate()?, trust_domain, mesh, now)
    }

    /// The same with a key that was made elsewhere.
    pub fn create_with(
        key: KeyPair,
        trust_domain: &TrustDomain,
        mesh: &MeshName,
        now: Timestamp,
    ) -> Result<Root, RootError> {
        let subject = names(trust_domain, "Catamaran root", mesh, None);
        let id = template::key_id(key.spki());
        let der = Template {
            serial: template::random_serial()?,
            issuer: &subject,
            subject: &subject,
            not_before: now.seconds().saturating_sub(BACKDATE.as_secs()),
            not_after: now.after(ROOT_LIFE).seconds(),
            spki: key.spki(),
            extensions: Extensions::default()
                .basic_constraints(Some(1))
                .key_usage(KEY_CERT_SIGN | CRL_SIGN)
                .subject_key_id(&id)
                .uri(&format!("spiffe://{trust_domain}"), false),
        }
        .sign(&key)?;
        Root::from_parts(&der, key)
    }

    /// Reads `root-cert.pem` and `root-key.pem`.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Root, RootError> {
        let certificates = pem::certificates(certificate).map_err(BundleError::Pem)?;
        let key = KeyPair::from_pem(key)?;
        match &certificates[..] {
            [one] => Root::from_parts(one, key),
            several => Err(RootError::Several(several.len())),
        }
    }

    fn from_parts(der: &CertificateDer<'_>, key: KeyPair) -> Result<Root, RootError> {
        // The bundle's own checks: an authority, self-signed, without URI constraints.
        TrustBundle::from_certificates(&TrustDomain::default(), std::slice::from_ref(der))?;
        let certificate =
            Certificate::read(der).map_err(|error| BundleError::Certificate { index: 1, error })?;
        if certificate.spki != key.spki() {
            return Err(RootError::KeyMismatch {
                subject: certificate.facts.subject,
            });
        }
        Ok(Root { certificate, key })
    }

    /// The certificate as PEM, `root-cert.pem`.
    pub fn cert_pem(&self) -> String {
        pem::write_certificates([&self.certificate.der])
    }

    /// The key as PEM, `root-key.pem`, for a file of mode 0600.
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.to_pem()
    }

    /// What the certificate says.
    pub fn facts(&self) -> &CertificateFacts {
        &self.certificate.facts
    }

    /// The mesh that made it, if it was made by [`Root::create`].
    pub fn mesh(&self) -> Option<MeshName> {
        let ours = self.certificate.facts.subject.contains("OU=Catamaran root");
        let name = self.certificate.facts.common_name.as_deref()?;
        ours.then(|| MeshName::new(name).ok()).flatten()
    }

    /// The trust domain it was made for, if it says so (a URI name `spiffe://TRUST-DOMAIN`).
    pub fn trust_domain(&self) -> Option<TrustDomain> {
        let [uri] = &self.certificate.facts.uris[..] else {
            return None;
        };
        TrustDomain::new(uri.strip_prefix("spiffe://")?).ok()
    }

    /// The root as something to trust for `trust_domain`.
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Result<TrustBundle, BundleError> {
        TrustBundle::from_certificates(trust_domain, std::slice::from_ref(&self.certificate.der))
    }

    /// Signs an intermediate with a new key for one instance: one year, not longer than the root, no intermediates
    /// below it. Its common name is `mesh` and its last unit is `cluster`.
    pub fn issue_intermediate(
        &self,
        trust_domain: &TrustDomain,
        mesh: &MeshName,
        cluster: &ClusterId,
        now: Timestamp,
    ) -> Result<CaCerts, RootError> {
        self.issue_intermediate_with(KeyPair::generate()?, trust_domain, mesh, cluster, now)
    }

    /// The same with a key that was made elsewhere.
    pub fn issue_intermediate_with(
        &self,
        key: KeyPair,
        trust_domain: &TrustDomain,
        mesh: &MeshName,
        cluster: &ClusterId,
        now: Timestamp,
    ) -> Result<CaCerts, RootError> {
        let root = &self.certificate.facts;
        if !root.is_valid(now) {
            return Err(RootError::NotValid {
                subject: root.subject.clone(),
                not_before: root.not_before,
                not_after: root.not_after,
                now,
            });
        }
        if root.path_len == Some(0) {
            return Err(RootError::PathLength {
                subject: root.subject.clone(),
            });
        }
        let not_before = now.seconds().saturating_sub(BACKDATE.as_secs());
        let mut extensions = Extensions::default()
            .basic_constraints(Some(0))
            .key_usage(DIGITAL_SIGNATURE | KEY_CERT_SIGN | CRL_SIGN)
            .subject_key_id(&template::key_id(key.spki()))
            .uri(&format!("spiffe://{trust_domain}"), false);
        if let Some(id) = &self.certificate.key_id {
            extensions = extensions.authority_key_id(id);
        }
        let der = Template {
            serial: template::random_serial()?,
            issuer: &self.certificate.subject,
            subject: &names(trust_domain, "Catamaran intermediate", mesh, Some(cluster)),
            not_before: not_before.max(root.not_before.seconds()),
            not_after: now
                .after(INTERMEDIATE_LIFE)
                .seconds()
                .min(root.not_after.seconds()),
            spki: key.spki(),
            extensions,
        }
        .sign(&self.key)?;
        CaCerts::from_parts(vec![der], key, vec![self.certificate.der.clone()], now)
            .map_err(|error| RootError::Intermediate(Box::new(error)))
    }
}

#[cfg(test)]
mod tests;
