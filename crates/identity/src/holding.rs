//! What a workload holds: its certificate, the chain above it, its key and the roots it trusts.

use std::sync::Arc;
use std::time::Duration;

use catamaran_model::{Fingerprint, SpiffeId, Timestamp};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::bundle::{BundleError, TrustBundle};
use crate::certificate::CertificateFacts;
use crate::issuer::SignError;
use crate::key::{KeyError, KeyPair};
use crate::peer::{self, PeerError, PeerRole};
use crate::pem::{self, PemError};

/// Why a certificate cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum HoldingError {
    /// The answer of the signer is too short.
    #[error(
        "the signer answered with {0} certificates; a chain has the workload's own first and the roots last"
    )]
    TooShort(usize),
    /// A text is not PEM.
    #[error("a certificate of the chain cannot be read: {0}")]
    Pem(#[from] PemError),
    /// The roots cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key belongs to another certificate.
    #[error("the certificate for {0} was made for another key; ask for a new one")]
    KeyMismatch(SpiffeId),
    /// The certificate is for somebody else.
    #[error("the certificate is for {got}, and {wanted} was asked for; the signer is at fault")]
    OtherIdentity {
        /// Who was asked for.
        wanted: SpiffeId,
        /// Who it is for.
        got: SpiffeId,
    },
    /// Peers would refuse it.
    #[error("peers would refuse the certificate: {0}")]
    Refused(#[from] PeerError),
    /// It could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Certificate, chain, key and roots that fit together, checked when they were put together.
#[derive(Debug, Clone)]
pub struct Holding {
    identity: SpiffeId,
    certified: Arc<CertifiedKey>,
    key: KeyPair,
    bundle: Arc<TrustBundle>,
    facts: CertificateFacts,
    issuers: Vec<Fingerprint>,
}

impl PartialEq for Holding {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert && self.bundle == other.bundle
    }
}

impl Holding {
    /// Takes a signer's answer: one PEM an element, the workload's certificate first, the root bundle last.
    pub fn from_response(
        pems: &[String],
        key: KeyPair,
        identity: &SpiffeId,
        now: Timestamp,
    ) -> Result<Holding, HoldingError> {
        let [chain @ .., roots] = pems else {
            return Err(HoldingError::TooShort(0));
        };
        if chain.is_empty() {
            return Err(HoldingError::TooShort(pems.len()));
        }
        Holding::from_pem(&chain.join("\n"), key, roots, identity, now)
    }

    /// Takes the texts that a workload kept: its chain, its key, its roots.
    pub fn from_pem(
        chain: &str,
        key: KeyPair,
        roots: &str,
        identity: &SpiffeId,
        now: Timestamp,
    ) -> Result<Holding, HoldingError> {
        let chain = pem::certificates(chain)?;
        let bundle = TrustBundle::from_pem(&identity.trust_domain, roots)?;
        Holding::new(chain, key, bundle, identity, now)
    }

    /// Puts a chain (the workload's certificate first), its key and the trusted roots together, if they fit and peers
    /// with the same roots would accept them at `now`.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: KeyPair,
        bundle: TrustBundle,
        identity: &SpiffeId,
        now: Timestamp,
    ) -> Result<Holding, HoldingError> {
        let (leaf, above) = chain.split_first().ok_or(HoldingError::TooShort(0))?;
        let peer = peer::check_chain(&bundle, PeerRole::Server, leaf, above, now)?;
        peer::check_chain(&bundle, PeerRole::Client, leaf, above, now)?;
        if peer.id != *identity {
            return Err(HoldingError::OtherIdentity {
                wanted: identity.clone(),
                got: peer.id,
            });
        }
        let facts = CertificateFacts {
            issuer_fingerprint: peer.issuers.first().copied(),
            ..CertificateFacts::read(leaf).map_err(PeerError::from)?
        };
        let certified = CertifiedKey::new(chain, key.signing_key());
        certified
            .keys_match()
            .map_err(|_| HoldingError::KeyMismatch(identity.clone()))?;
        Ok(Holding {
            identity: identity.clone(),
            certified: Arc::new(certified),
            key,
            bundle: Arc::new(bundle),
            facts,
            issuers: peer.issuers,
        })
    }

    /// The same certificate and key with other roots, if the certificate is good under them.
    pub fn with_bundle(
        &self,
        bundle: TrustBundle,
        now: Timestamp,
    ) -> Result<Holding, HoldingError> {
        let chain = self.certified.cert.clone();
        Holding::new(chain, self.key.clone(), bundle, &self.identity, now)
    }

    /// Who holds it.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The roots it trusts.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// What the workload's certificate says.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// What each certificate of the chain says, the workload's first.
    pub fn chain_facts(&self) -> Vec<CertificateFacts> {
        CertificateFacts::of_chain(&self.certified.cert).unwrap_or_default()
    }

    /// The certificates that its chain runs through, from its issuer to the root.
    pub fn issuers(&self) -> &[Fingerprint] {
        &self.issuers
    }

    /// When its certificate ends.
    pub fn not_after(&self) -> Timestamp {
        self.facts.not_after
    }

    /// When to renew: at half of its life, earlier by up to a tenth of it as `jitter` says (0 to 255, drawn by the
    /// caller), so that what started together does not renew together.
    pub fn renew_at(&self, jitter: u8) -> Timestamp {
        let life = self.facts.not_after.since(self.facts.not_before);
        let early = life / 10 * u32::from(jitter) / 255;
        let half = self.facts.half_life();
        Timestamp(half.0.saturating_sub(early.as_millis() as u64))
    }

    /// How long it is still valid.
    pub fn left(&self, now: Timestamp) -> Duration {
        self.facts.not_after.since(now)
    }

    /// The chain as PEM, the workload's certificate first.
    pub fn chain_pem(&self) -> String {
        pem::write_certificates(&self.certified.cert)
    }

    /// The key as PEM, for a file of mode 0600 on storage that does not outlive the machine.
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.to_pem()
    }

    /// The roots as PEM.
    pub fn roots_pem(&self) -> String {
        self.bundle.to_pem(&self.identity.trust_domain)
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

#[cfg(test)]
mod tests;
