//! Private keys.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use catamaran_model::SpiffeId;
use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, SignatureVerificationAlgorithm};
use zeroize::Zeroizing;

use crate::pem::{self, PemError};
use crate::{csr, der};

/// The kinds of key that the mesh uses and signs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256: ours.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
    /// RSA with a modulus of this many bits.
    Rsa(u32),
    /// Another kind; never signed for.
    Other,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyAlgorithm::EcdsaP256 => f.write_str("ECDSA P-256"),
            KeyAlgorithm::EcdsaP384 => f.write_str("ECDSA P-384"),
            KeyAlgorithm::Ed25519 => f.write_str("Ed25519"),
            KeyAlgorithm::Rsa(bits) => write!(f, "RSA {bits}"),
            KeyAlgorithm::Other => f.write_str("another kind of key"),
        }
    }
}

impl KeyAlgorithm {
    /// The smallest RSA modulus that is accepted, in bits.
    pub const MIN_RSA: u32 = 2048;
    /// The largest RSA modulus that is signed for, in bits: a larger one only costs its peers.
    pub const MAX_RSA: u32 = 4096;

    /// Whether the mesh signs for such a key.
    pub fn is_accepted(self) -> bool {
        match self {
            KeyAlgorithm::Rsa(bits) => (Self::MIN_RSA..=Self::MAX_RSA).contains(&bits),
            KeyAlgorithm::Other => false,
            _ => true,
        }
    }

    /// Reads it from a SubjectPublicKeyInfo.
    pub(crate) fn of_spki(spki: &[u8]) -> Result<KeyAlgorithm, der::DerError> {
        let (algorithm, key) = split_spki(spki)?;
        let is = |alg: &dyn SignatureVerificationAlgorithm| {
            alg.public_key_alg_id().as_ref() == algorithm
        };
        Ok(if is(webpki::aws_lc_rs::ECDSA_P256_SHA256) {
            KeyAlgorithm::EcdsaP256
        } else if is(webpki::aws_lc_rs::ECDSA_P384_SHA384) {
            KeyAlgorithm::EcdsaP384
        } else if is(webpki::aws_lc_rs::ED25519) {
            KeyAlgorithm::Ed25519
        } else if is(webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256) {
            let mut numbers = der::Reader::new(key).expect(der::SEQUENCE)?.inside();
            let modulus = numbers.expect(der::INTEGER)?.content;
            let first = modulus.iter().position(|b| *b != 0).unwrap_or(0);
            let top = modulus.get(first).map_or(8, |b| b.leading_zeros());
            KeyAlgorithm::Rsa(((modulus.len() - first) as u32 * 8).saturating_sub(top))
        } else {
            KeyAlgorithm::Other
        })
    }
}

/// The content of the algorithm identifier, and the key's bytes.
pub(crate) fn split_spki(spki: &[u8]) -> Result<(&[u8], &[u8]), der::DerError> {
    let mut outer = der::Reader::new(spki);
    let mut inner = outer.expect(der::SEQUENCE)?.inside();
    outer.end()?;
    let algorithm = inner.expect(der::SEQUENCE)?;
    let key = inner.expect(der::BIT_STRING)?.bits()?;
    inner.end()?;
    Ok((algorithm.content, key))
}

/// The signatures that requests, intermediates and roots may carry.
static SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P256_SHA384,
    webpki::aws_lc_rs::ECDSA_P384_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
    webpki::aws_lc_rs::ED25519,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
];

/// Whether `signature` over `message` was made by the key in `spki` with the algorithm named by the content of an
/// algorithm identifier.
pub(crate) fn verifies(spki: &[u8], algorithm: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok((key_algorithm, key)) = split_spki(spki) else {
        return false;
    };
    SIGNATURES.iter().any(|alg| {
        alg.public_key_alg_id().as_ref() == key_algorithm
            && alg.signature_alg_id().as_ref() == algorithm
            && alg.verify_signature(key, message, signature).is_ok()
    })
}

/// Why a private key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text holds no single key.
    #[error("the private key cannot be read: {0}")]
    Pem(#[from] PemError),
    /// The bytes are no key of a kind that is known.
    #[error(
        "the private key cannot be used: it is not an unencrypted ECDSA P-256, ECDSA P-384, Ed25519 or RSA key"
    )]
    Unusable,
    /// The kind or size is not accepted.
    #[error(
        "the private key is {0}; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits"
    )]
    NotAccepted(KeyAlgorithm),
    /// The random source of the machine failed.
    #[error("the machine's random source failed; no key was made; trying again may help")]
    Random,
}

/// A private key and its public half. Its bytes are wiped when it is dropped, and no form of it prints them.
#[derive(Clone)]
pub struct KeyPair {
    signing: Arc<dyn SigningKey>,
    secret: Arc<Zeroizing<Vec<u8>>>,
    label: &'static str,
    spki: Arc<[u8]>,
    algorithm: KeyAlgorithm,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, secret)", self.algorithm)
    }
}

impl KeyPair {
    /// Makes an ECDSA P-256 key with the operating system's random source.
    pub fn generate() -> Result<KeyPair, KeyError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| KeyError::Random)?;
        let key = Zeroizing::new(PrivateKeyDer::from(PrivatePkcs8KeyDer::from(
            document.as_ref().to_vec(),
        )));
        KeyPair::from_der(&key)
    }

    /// Reads the one key of a PEM text: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub fn from_pem(text: &str) -> Result<KeyPair, KeyError> {
        KeyPair::from_der(&*pem::private_key(text)?)
    }

    /// Takes a key that was made elsewhere.
    pub fn from_der(key: &PrivateKeyDer<'_>) -> Result<KeyPair, KeyError> {
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
            .map_err(|_| KeyError::Unusable)?;
        let spki = signing.public_key().ok_or(KeyError::Unusable)?.to_vec();
        let algorithm = KeyAlgorithm::of_spki(&spki).map_err(|_| KeyError::Unusable)?;
        if !algorithm.is_accepted() {
            return Err(KeyError::NotAccepted(algorithm));
        }
        let label = match key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        Ok(KeyPair {
            signing,
            secret: Arc::new(Zeroizing::new(key.secret_der().to_vec())),
            label,
            spki: spki.into(),
            algorithm,
        })
    }

    /// The key as PEM, for a file of mode 0600.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem::write(self.label, &self.secret))
    }

    /// Its kind.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The public half: a SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(crate) fn signing_key(&self) -> Arc<dyn SigningKey> {
        self.signing.clone()
    }

    /// A request (PKCS#10, PEM) for a certificate of this key that names `identity`.
    pub fn request(&self, identity: &SpiffeId) -> Result<String, KeyError> {
        csr::write(self, identity).map(|der| pem::write("CERTIFICATE REQUEST", &der))
    }

    fn scheme(&self) -> (SignatureScheme, &'static dyn SignatureVerificationAlgorithm) {
        match self.algorithm {
            KeyAlgorithm::EcdsaP384 => (
                SignatureScheme::ECDSA_NISTP384_SHA384,
                webpki::aws_lc_rs::ECDSA_P384_SHA384,
            ),
            KeyAlgorithm::Ed25519 => (SignatureScheme::ED25519, webpki::aws_lc_rs::ED25519),
            KeyAlgorithm::Rsa(_) => (
                SignatureScheme::RSA_PKCS1_SHA256,
                webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
            ),
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::Other => (
                SignatureScheme::ECDSA_NISTP256_SHA256,
                webpki::aws_lc_rs::ECDSA_P256_SHA256,
            ),
        }
    }

    /// The AlgorithmIdentifier of the signatures that this key makes.
    pub(crate) fn signature_algorithm(&self) -> Vec<u8> {
        der::tlv(der::SEQUENCE, self.scheme().1.signature_alg_id().as_ref())
    }

    /// Signs `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.signing
            .choose_scheme(&[self.scheme().0])
            .ok_or(KeyError::Unusable)?
            .sign(message)
            .map_err(|_| KeyError::Random)
    }

    /// Signs a `to be signed` structure: it, the algorithm and the signature, in one SEQUENCE.
    pub(crate) fn seal(&self, to_be_signed: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.sign(to_be_signed)?;
        Ok(der::nest(
            der::SEQUENCE,
            &[
                to_be_signed,
                &self.signature_algorithm(),
                &der::bit_string(&signature),
            ],
        ))
    }
}
