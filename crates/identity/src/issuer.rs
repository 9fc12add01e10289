//! Signing workload certificates.

use std::time::Duration;

use catamaran_model::{Fingerprint, SpiffeId, Timestamp, TrustDomain};
use rustls_pki_types::CertificateDer;

use crate::bundle::{BundleError, TrustBundle};
use crate::cacerts::{CaCerts, CaCertsError};
use crate::certificate::{CertificateError, CertificateFacts, date};
use crate::csr::{Csr, CsrError};
use crate::holding::{Holding, HoldingError};
use crate::key::{KeyAlgorithm, KeyError, KeyPair};
use crate::peer::{self, PeerRole};
use crate::pem;
use crate::template::{self, DIGITAL_SIGNATURE, Extensions, KEY_ENCIPHERMENT, Template};

/// How long a workload certificate lasts when nothing else is asked.
pub const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The longest life that is signed.
pub const MAX_LEAF_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The shortest life that is signed.
pub const MIN_LEAF_LIFE: Duration = Duration::from_secs(60);
/// How far before `now` a certificate begins, for peers whose clocks are late.
pub const BACKDATE: Duration = Duration::from_secs(120);

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request cannot be accepted; the requester's fault.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The request asks for somebody else; the requester's fault.
    #[error(
        "the request asks for {asked}, but its sender proved to be {proven}; a workload gets a certificate for itself only"
    )]
    OtherIdentity {
        /// The name in the request.
        asked: String,
        /// Who asked, by proof.
        proven: SpiffeId,
    },
    /// The identity belongs to another trust domain.
    #[error(
        "{identity} is not of the trust domain {trust_domain}, the only one that this authority signs for"
    )]
    OtherTrustDomain {
        /// Who asked, by proof.
        identity: SpiffeId,
        /// The issuer's own.
        trust_domain: TrustDomain,
    },
    /// The life asked for is out of bounds.
    #[error("a life of {0:?} was asked for; between one minute and 90 days is signed")]
    Life(Duration),
    /// The issuer's own certificate has no minute left, or has not begun.
    #[error(
        "the issuing certificate ({subject}) is valid from {begin} until {end}, and it is {here}: nothing can be \
         signed; renew the intermediate (catamaran trust renew MESH), or set the clock right", end = date(.not_after), begin = date(.not_before), here = date(.now))]
    IssuerNotValid {
        /// Its subject.
        subject: String,
        /// Valid from.
        not_before: Timestamp,
        /// Valid until.
        not_after: Timestamp,
        /// The time it was asked at.
        now: Timestamp,
    },
    /// The key failed to sign.
    #[error("the issuing key failed: {0}")]
    Key(#[from] KeyError),
    /// What was signed cannot be read back.
    #[error("the certificate that was signed cannot be read back: {0}")]
    Broken(#[from] CertificateError),
}

/// Why an issuer should not be asked for certificates now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It ends before a leaf of usual life would.
    #[error(
        "the issuing certificate ({subject}) ends at {end}, in less than the life of one workload certificate \
         (it is {here}); renew the intermediate now: catamaran trust renew MESH", end = date(.not_after), here = date(.now))]
    EndsTooSoon {
        /// Its subject.
        subject: String,
        /// Its end.
        not_after: Timestamp,
        /// The time it was asked at.
        now: Timestamp,
    },
    /// It has not begun.
    #[error(
        "the issuing certificate ({subject}) begins at {begin}, and it is {here}; set the clock right", begin = date(.not_before), here = date(.now))]
    NotYetValid {
        /// Its subject.
        subject: String,
        /// Its begin.
        not_before: Timestamp,
        /// The time it was asked at.
        now: Timestamp,
    },
}

/// A workload certificate and what stands above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedChain {
    /// The workload's certificate.
    pub leaf: CertificateDer<'static>,
    /// What the workload sends after its own certificate.
    pub intermediates: Vec<CertificateDer<'static>>,
    /// The roots to trust.
    pub roots: Vec<CertificateDer<'static>>,
    /// What the workload's certificate says.
    pub facts: CertificateFacts,
}

impl IssuedChain {
    /// The answer of `istio.v1.auth.IstioCertificateService`: one PEM an element, the workload's certificate first, the
    /// root bundle last.
    pub fn pems(&self) -> Vec<String> {
        let mut pems = vec![pem::write_certificates([&self.leaf])];
        pems.extend(
            self.intermediates
                .iter()
                .map(|one| pem::write_certificates([one])),
        );
        pems.push(pem::write_certificates(&self.roots));
        pems
    }
}

/// Signs for one trust domain with one instance's authority.
#[derive(Debug, Clone)]
pub struct Issuer {
    authority: CaCerts,
    trust_domain: TrustDomain,
    bundle: TrustBundle,
}

impl Issuer {
    /// An issuer for the workloads of `trust_domain`.
    pub fn new(authority: CaCerts, trust_domain: TrustDomain) -> Result<Issuer, BundleError> {
        Ok(Issuer {
            bundle: authority.bundle(&trust_domain)?,
            authority,
            trust_domain,
        })
    }

    /// Signs a certificate for `identity`, which was proved by other means than the request, with the request's key.
    ///
    /// `life` is [`LEAF_LIFE`] unless something else is asked for; the certificate never outlives the issuer's.
    pub fn sign(
        &self,
        csr: &Csr,
        identity: &SpiffeId,
        life: Option<Duration>,
        now: Timestamp,
    ) -> Result<IssuedChain, SignError> {
        if let Some(asked) = csr.other_identity(identity) {
            return Err(SignError::OtherIdentity {
                asked,
                proven: identity.clone(),
            });
        }
        if identity.trust_domain != self.trust_domain {
            return Err(SignError::OtherTrustDomain {
                identity: identity.clone(),
                trust_domain: self.trust_domain.clone(),
            });
        }
        let life = life.unwrap_or(LEAF_LIFE);
        if !(MIN_LEAF_LIFE..=MAX_LEAF_LIFE).contains(&life) {
            return Err(SignError::Life(life));
        }
        sign_leaf(
            &self.authority,
            &csr.spki,
            csr.algorithm,
            identity,
            life,
            now,
        )
    }

    /// A certificate for this program itself (the control plane's own server identity), with a new key.
    pub fn holding_for(
        &self,
        identity: &SpiffeId,
        life: Option<Duration>,
        now: Timestamp,
    ) -> Result<Holding, HoldingError> {
        let key = KeyPair::generate()?;
        let csr = Csr::from_pem(&key.request(identity)?).map_err(SignError::from)?;
        let issued = self.sign(&csr, identity, life, now)?;
        Holding::from_response(&issued.pems(), key, identity, now)
    }

    /// Whether it has at least one leaf's life left: what readiness asks. Signing goes on, with shorter lives, until
    /// the last minute, so that workloads outlast a renewal that comes late.
    pub fn ready(&self, now: Timestamp) -> Result<(), NotReady> {
        let facts = self.authority.facts();
        let subject = facts.subject.clone();
        if now < facts.not_before {
            return Err(NotReady::NotYetValid {
                subject,
                not_before: facts.not_before,
                now,
            });
        }
        if self.not_after() < now.after(LEAF_LIFE) {
            return Err(NotReady::EndsTooSoon {
                subject,
                not_after: self.not_after(),
                now,
            });
        }
        Ok(())
    }

    /// When half of the issuing certificate's life is over, its end; people are warned from then on.
    pub fn renewal_due(&self, now: Timestamp) -> Option<Timestamp> {
        (now >= self.authority.facts().half_life()).then(|| self.not_after())
    }

    /// The end of the issuing certificate.
    pub fn not_after(&self) -> Timestamp {
        self.authority.facts().not_after
    }

    /// The trust domain it signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots of its mesh.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// The issuing certificate's fingerprint: what `MeshExport` lists among its intermediates.
    pub fn fingerprint(&self) -> Fingerprint {
        self.authority.fingerprint()
    }

    /// What the issuing certificate says.
    pub fn facts(&self) -> &CertificateFacts {
        self.authority.facts()
    }
}

fn sign_leaf(
    authority: &CaCerts,
    spki: &[u8],
    algorithm: KeyAlgorithm,
    identity: &SpiffeId,
    life: Duration,
    now: Timestamp,
) -> Result<IssuedChain, SignError> {
    let signer = authority.signer();
    let (begin, end) = (signer.facts.not_before, signer.facts.not_after);
    let not_after = now.after(life).min(end);
    if now < begin || not_after < now.after(MIN_LEAF_LIFE) {
        return Err(SignError::IssuerNotValid {
            subject: signer.facts.subject.clone(),
            not_before: begin,
            not_after: end,
            now,
        });
    }
    let usage = match algorithm {
        KeyAlgorithm::Rsa(_) => DIGITAL_SIGNATURE | KEY_ENCIPHERMENT,
        _ => DIGITAL_SIGNATURE,
    };
    let mut extensions = Extensions::default()
        .key_usage(usage)
        .server_and_client()
        .basic_constraints(None)
        .uri(&identity.to_string(), true);
    if let Some(id) = &signer.key_id {
        extensions = extensions.authority_key_id(id);
    }
    let leaf = Template {
        serial: template::random_serial()?,
        issuer: &signer.subject,
        subject: &template::name(&[]),
        not_before: now
            .seconds()
            .saturating_sub(BACKDATE.as_secs())
            .max(begin.seconds()),
        not_after: not_after.seconds(),
        spki,
        extensions,
    }
    .sign(authority.key())?;
    Ok(IssuedChain {
        facts: CertificateFacts {
            issuer_fingerprint: Some(signer.fingerprint),
            ..CertificateFacts::read(&leaf)?
        },
        leaf,
        intermediates: authority.intermediates().cloned().collect(),
        roots: authority.roots().to_vec(),
    })
}

/// Signs a certificate that nobody gets, and checks it as a proxy would: whatever makes peers refuse what this
/// authority signs is found here, before it is in use.
pub(crate) fn probe(authority: &CaCerts, now: Timestamp) -> Result<(), CaCertsError> {
    let subject = || authority.facts().subject.clone();
    let unusable = |reason: String| CaCertsError::Unusable {
        subject: subject(),
        reason,
    };
    let domain = TrustDomain::default();
    let identity = SpiffeId::control_plane(domain.clone());
    let (key, spki) = (authority.key(), authority.key().spki());
    let life = MIN_LEAF_LIFE;
    let issued = match sign_leaf(authority, spki, key.algorithm(), &identity, life, now) {
        Err(SignError::IssuerNotValid { not_after, now, .. }) => {
            return Err(CaCertsError::Expired {
                subject: subject(),
                not_after,
                now,
            });
        }
        other => other.map_err(|error| unusable(error.to_string()))?,
    };
    let bundle = authority.bundle(&domain).map_err(CaCertsError::Roots)?;
    for role in [PeerRole::Server, PeerRole::Client] {
        peer::check_chain(&bundle, role, &issued.leaf, &issued.intermediates, now)
            .map_err(|error| unusable(error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
