//! The authority of one instance, in the layout in which Istio keeps it.
//!
//! Source: Istio's `cacerts` Secret: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem`; or, as a Secret of
//! type TLS, `tls.crt`, `tls.key`, `ca.crt`, which win when both are there.

use std::fmt;

use catamaran_model::{Fingerprint, Timestamp, TrustDomain};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::bundle::{BundleError, TrustBundle};
use crate::certificate::{Certificate, CertificateError, CertificateFacts, date};
use crate::issuer;
use crate::key::{KeyError, KeyPair};
use crate::pem::{self, PemError};

/// The longest way from an issuing certificate to its root that is accepted.
pub const MAX_INTERMEDIATES: usize = 4;

/// The texts of the four files. The key is wiped on drop and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct CaCertsFiles {
    /// `ca-cert.pem`: the issuing certificate.
    pub ca_cert: String,
    /// `ca-key.pem`: its key.
    pub ca_key: Zeroizing<String>,
    /// `root-cert.pem`: the roots to trust, one or more.
    pub root_cert: String,
    /// `cert-chain.pem`: the issuing certificate and those above it.
    pub cert_chain: String,
}

impl fmt::Debug for CaCertsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaCertsFiles")
            .field("ca_cert", &self.ca_cert)
            .field("root_cert", &self.root_cert)
            .field("cert_chain", &self.cert_chain)
            .finish_non_exhaustive()
    }
}

impl CaCertsFiles {
    /// The names of the four files.
    pub const NAMES: [&'static str; 4] = [
        "ca-cert.pem",
        "ca-key.pem",
        "root-cert.pem",
        "cert-chain.pem",
    ];

    /// Takes the files of either layout from `read`, which gives a file's text by its name.
    pub fn collect(
        mut read: impl FnMut(&'static str) -> Option<String>,
    ) -> Result<CaCertsFiles, CaCertsError> {
        if let Some(certificate) = read("tls.crt") {
            let need = |text: Option<String>, name| text.ok_or(CaCertsError::Missing { name });
            let key = need(read("tls.key"), "tls.key")?;
            let root = need(read("ca.crt"), "ca.crt")?;
            return Ok(CaCertsFiles {
                ca_cert: certificate.clone(),
                ca_key: Zeroizing::new(key),
                cert_chain: format!("{certificate}\n{root}"),
                root_cert: root,
            });
        }
        let mut need = |name| read(name).ok_or(CaCertsError::Missing { name });
        let files = CaCertsFiles {
            ca_cert: need("ca-cert.pem")?,
            ca_key: Zeroizing::new(need("ca-key.pem")?),
            root_cert: need("root-cert.pem")?,
            cert_chain: String::new(),
        };
        let cert_chain = read("cert-chain.pem").unwrap_or_else(|| files.ca_cert.clone());
        Ok(CaCertsFiles {
            cert_chain,
            ..files
        })
    }

    /// Name and text of each of the four files. `ca-key.pem` belongs into a file of mode 0600.
    pub fn entries(&self) -> [(&'static str, &str); 4] {
        let [cert, key, root, chain] = CaCertsFiles::NAMES;
        [
            (cert, &self.ca_cert),
            (key, &self.ca_key),
            (root, &self.root_cert),
            (chain, &self.cert_chain),
        ]
    }
}

/// Why an instance's authority cannot be used. It is found before anything is replaced: what was in use stays in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaCertsError {
    /// A file is not there.
    #[error(
        "{name} is missing; an authority needs ca-cert.pem, ca-key.pem and root-cert.pem, or tls.crt, tls.key and ca.crt"
    )]
    Missing {
        /// The file.
        name: &'static str,
    },
    /// A file is not PEM with certificates.
    #[error("{name}: {error}")]
    Pem {
        /// The file.
        name: &'static str,
        /// What is wrong.
        error: PemError,
    },
    /// A certificate cannot be read.
    #[error("{name}: {error}")]
    Certificate {
        /// The file.
        name: &'static str,
        /// What is wrong.
        error: CertificateError,
    },
    /// The roots cannot be used.
    #[error("root-cert.pem: {0}")]
    Roots(BundleError),
    /// The key cannot be used.
    #[error("ca-key.pem: {0}")]
    Key(#[from] KeyError),
    /// The key belongs to another certificate.
    #[error(
        "ca-key.pem does not belong to ca-cert.pem ({subject}); put the key that was made with this certificate beside it"
    )]
    KeyMismatch {
        /// The certificate's subject.
        subject: String,
    },
    /// The certificate may not sign.
    #[error(
        "ca-cert.pem ({subject}) is not an authority: it may not sign certificates; \
         have the root issue one with basicConstraints CA and keyUsage keyCertSign"
    )]
    NotAnAuthority {
        /// The certificate's subject.
        subject: String,
    },
    /// No root of the bundle stands above it.
    #[error(
        "{subject} was issued by {issuer}, and no certificate of that name in cert-chain.pem or root-cert.pem signed it \
         (roots: {}); add the missing certificate, or use the root that issued it",
        .roots.iter().map(Fingerprint::short).collect::<Vec<_>>().join(", ")
    )]
    UnknownRoot {
        /// The certificate at which the way ends.
        subject: String,
        /// The issuer that it names.
        issuer: String,
        /// The roots of the bundle.
        roots: Vec<Fingerprint>,
    },
    /// The way to the root is longer than anyone needs.
    #[error("the way from ca-cert.pem to a root is longer than {MAX_INTERMEDIATES} certificates")]
    TooDeep,
    /// A certificate has ended.
    #[error(
        "{subject} ended at {end}, and it is {here} now; issue a new intermediate (catamaran trust renew MESH), or set the clock right", end = date(.not_after), here = date(.now))]
    Expired {
        /// The certificate's subject.
        subject: String,
        /// Its end.
        not_after: Timestamp,
        /// The time it was checked at.
        now: Timestamp,
    },
    /// A certificate is not valid yet.
    #[error("{subject} begins at {begin}, and it is {here} now; set the clock right, or wait", begin = date(.not_before), here = date(.now))]
    NotYetValid {
        /// The certificate's subject.
        subject: String,
        /// Its begin.
        not_before: Timestamp,
        /// The time it was checked at.
        now: Timestamp,
    },
    /// A certificate limits URIs.
    #[error(
        "{subject} has name constraints on URIs. rustls, and so every Catamaran proxy, refuses all workload certificates \
         below such an authority, even those the constraint permits; ask for an intermediate without URI name \
         constraints (DNS ones do no harm): the trust domain is enforced by the proxies' own check"
    )]
    UriNameConstraint {
        /// The certificate's subject.
        subject: String,
    },
    /// A certificate issued by it would be refused by proxies for another reason.
    #[error(
        "workload certificates issued by {subject} would be refused by proxies: {reason}; use another intermediate"
    )]
    Unusable {
        /// The certificate's subject.
        subject: String,
        /// The reason, as a proxy would see it.
        reason: String,
    },
}

/// The authority of one instance: checked as a whole, so that what it signs is accepted by its roots' meshes.
#[derive(Debug, Clone)]
pub struct CaCerts {
    signer: Certificate,
    /// From the signer up, without the root.
    chain: Vec<Certificate>,
    key: KeyPair,
    roots: Vec<CertificateDer<'static>>,
}

impl CaCerts {
    /// Reads and checks the files of an instance.
    pub fn read(files: &CaCertsFiles, now: Timestamp) -> Result<CaCerts, CaCertsError> {
        let certificates = |name, text: &str| {
            pem::certificates(text).map_err(|error| CaCertsError::Pem { name, error })
        };
        let mut pool = certificates("ca-cert.pem", &files.ca_cert)?;
        if !files.cert_chain.trim().is_empty() {
            pool.extend(certificates("cert-chain.pem", &files.cert_chain)?);
        }
        let roots = certificates("root-cert.pem", &files.root_cert)?;
        CaCerts::from_parts(pool, KeyPair::from_pem(&files.ca_key)?, roots, now)
    }

    /// Checks an authority: the first of `certificates` signs, the others may stand between it and a root.
    pub(crate) fn from_parts(
        certificates: Vec<CertificateDer<'static>>,
        key: KeyPair,
        roots: Vec<CertificateDer<'static>>,
        now: Timestamp,
    ) -> Result<CaCerts, CaCertsError> {
        let name = "ca-cert.pem";
        let pool: Vec<Certificate> = certificates
            .iter()
            .map(|der| {
                Certificate::read(der).map_err(|error| CaCertsError::Certificate { name, error })
            })
            .collect::<Result<_, _>>()?;
        let signer = pool
            .first()
            .cloned()
            .ok_or(CaCertsError::Missing { name })?;
        let bundle = TrustBundle::from_certificates(&TrustDomain::default(), &roots)
            .map_err(CaCertsError::Roots)?;
        if signer.spki != key.spki() {
            return Err(CaCertsError::KeyMismatch {
                subject: signer.facts.subject,
            });
        }
        if !signer.is_ca {
            return Err(CaCertsError::NotAnAuthority {
                subject: signer.facts.subject,
            });
        }
        let (chain, root) = way_up(&signer, &pool, &bundle)?;
        for one in chain.iter().chain([&root]) {
            check_one(one, now)?;
        }
        let authority = CaCerts {
            signer,
            chain,
            key,
            roots,
        };
        issuer::probe(&authority, now)?;
        Ok(authority)
    }

    /// The texts of the four files.
    pub fn files(&self) -> CaCertsFiles {
        CaCertsFiles {
            ca_cert: pem::write_certificates([&self.signer.der]),
            ca_key: self.key.to_pem(),
            root_cert: pem::write_certificates(&self.roots),
            cert_chain: pem::write_certificates(if self.chain.is_empty() {
                vec![&self.signer.der]
            } else {
                self.chain.iter().map(|one| &one.der).collect()
            }),
        }
    }

    /// What the issuing certificate says.
    pub fn facts(&self) -> &CertificateFacts {
        &self.signer.facts
    }

    /// The issuing certificate's fingerprint: what `MeshExport` lists among its intermediates.
    pub fn fingerprint(&self) -> Fingerprint {
        self.signer.fingerprint
    }

    /// The roots as something to trust for `trust_domain`.
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Result<TrustBundle, BundleError> {
        TrustBundle::from_certificates(trust_domain, &self.roots)
    }

    pub(crate) fn signer(&self) -> &Certificate {
        &self.signer
    }

    pub(crate) fn key(&self) -> &KeyPair {
        &self.key
    }

    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// What a workload sends after its own certificate.
    pub(crate) fn intermediates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.chain.iter().map(|one| &one.der)
    }
}

/// The certificates from `signer` up to, and without, a root; and that root.
fn way_up(
    signer: &Certificate,
    pool: &[Certificate],
    bundle: &TrustBundle,
) -> Result<(Vec<Certificate>, Certificate), CaCertsError> {
    let domain = TrustDomain::default();
    let roots = || bundle.roots(&domain).map(|root| root.certificate.as_ref());
    let mut chain: Vec<Certificate> = Vec::new();
    let mut top = signer.clone();
    loop {
        if let Some(root) = roots().find(|root| root.fingerprint == top.fingerprint) {
            return Ok((chain, root.clone()));
        }
        if chain.len() == MAX_INTERMEDIATES {
            return Err(CaCertsError::TooDeep);
        }
        chain.push(top.clone());
        if let Some(root) = roots().find(|root| top.is_signed_by(root)) {
            return Ok((chain, root.clone()));
        }
        let above = pool.iter().find(|one| {
            top.is_signed_by(one)
                && chain
                    .iter()
                    .all(|below| below.fingerprint != one.fingerprint)
        });
        match above {
            Some(above) => top = above.clone(),
            None => {
                return Err(CaCertsError::UnknownRoot {
                    subject: top.facts.subject.clone(),
                    issuer: top.facts.issuer.clone(),
                    roots: bundle.fingerprints(),
                });
            }
        }
    }
}

fn check_one(one: &Certificate, now: Timestamp) -> Result<(), CaCertsError> {
    let subject = one.facts.subject.clone();
    let (not_before, not_after) = (one.facts.not_before, one.facts.not_after);
    if now > not_after {
        return Err(CaCertsError::Expired {
            subject,
            not_after,
            now,
        });
    }
    if now < not_before {
        return Err(CaCertsError::NotYetValid {
            subject,
            not_before,
            now,
        });
    }
    if one.constrains_uris {
        return Err(CaCertsError::UriNameConstraint { subject });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
