//! Requests for certificates (PKCS#10, RFC 2986).
//!
//! This is read before its sender is believed, so the reader is strict: DER and nothing else, one signature check,
//! and a request that asks for anything but the proven identity is refused rather than corrected.

use catamaran_model::SpiffeId;

use crate::certificate::{AltName, alt_names};
use crate::der::{self, DerError, Reader};
use crate::key::{self, KeyAlgorithm, KeyError, KeyPair};
use crate::pem::{self, PemError, brief};
use crate::{oid, template};

/// Larger than any request with an accepted key, in bytes of DER.
pub const MAX_CSR: usize = 8 * 1024;

/// Why a request is refused. The fault is the requester's; sending the same again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// It is not PEM with one request.
    #[error("the request cannot be read: {0}; send one PEM section CERTIFICATE REQUEST")]
    Pem(#[from] PemError),
    /// It is larger than any honest request.
    #[error("the request is {0} bytes long; at most {MAX_CSR} are read")]
    TooLarge(usize),
    /// It is not a request in DER.
    #[error("the request is not PKCS#10 in DER: {0}")]
    Malformed(#[from] DerError),
    /// The key is of a kind or size that is not signed for.
    #[error(
        "the request's key is {0}; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits"
    )]
    KeyNotAccepted(KeyAlgorithm),
    /// It was not signed by the key that it asks for.
    #[error("the request's signature does not fit its key")]
    Signature,
    /// It asks to become an authority.
    #[error("the request asks for a certificate that may sign others; workloads never get one")]
    AsksForAuthority,
    /// It has the same extension twice.
    #[error("the request says the same extension twice")]
    Twice,
    /// It asks for several names.
    #[error("the request asks for {0} names; it may ask for one URI or none")]
    SeveralNames(usize),
    /// It asks for a name that is not a URI.
    #[error("the request asks for a name that is not a URI: {0}; it may ask for one URI or none")]
    NotUri(String),
}

/// A request whose signature holds. Only its key is ever used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    pub(crate) spki: Vec<u8>,
    pub(crate) algorithm: KeyAlgorithm,
    /// The one URI it asks for, byte for byte.
    wanted: Option<Vec<u8>>,
    /// Common names of its subject that look like identities.
    claimed: Vec<Vec<u8>>,
}

impl Csr {
    /// Reads a PEM text with exactly one request.
    pub fn from_pem(text: &str) -> Result<Csr, CsrError> {
        Csr::from_der(&pem::request(text)?)
    }

    /// Reads a request in DER.
    pub fn from_der(bytes: &[u8]) -> Result<Csr, CsrError> {
        if bytes.len() > MAX_CSR {
            return Err(CsrError::TooLarge(bytes.len()));
        }
        der::check(bytes)?;
        let mut outer = Reader::new(bytes).expect(der::SEQUENCE)?.inside();
        let info = outer.expect(der::SEQUENCE)?;
        let signature_algorithm = outer.expect(der::SEQUENCE)?.content;
        let signature = outer.expect(der::BIT_STRING)?.bits()?;
        outer.end()?;

        let mut parts = info.inside();
        if parts.expect(der::INTEGER)?.content != [0] {
            return Err(DerError::Unexpected.into());
        }
        let claimed = claimed_names(parts.expect(der::SEQUENCE)?.inside())?;
        let spki = parts.expect(der::SEQUENCE)?.whole;
        let attributes = parts.optional(0xa0)?;
        parts.end()?;

        let algorithm = KeyAlgorithm::of_spki(spki)?;
        if !algorithm.is_accepted() {
            return Err(CsrError::KeyNotAccepted(algorithm));
        }
        if !key::verifies(spki, signature_algorithm, info.whole, signature) {
            return Err(CsrError::Signature);
        }
        let wanted = match attributes {
            Some(attributes) => wanted_uri(attributes.inside())?,
            None => None,
        };
        Ok(Csr {
            spki: spki.to_vec(),
            algorithm,
            wanted,
            claimed,
        })
    }

    /// The kind of the key.
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The name it asks for that is not `identity`, if there is one. The bytes are compared as they are.
    pub(crate) fn other_identity(&self, identity: &SpiffeId) -> Option<String> {
        let own = identity.to_string();
        self.wanted
            .iter()
            .chain(&self.claimed)
            .find(|name| name.as_slice() != own.as_bytes())
            .map(|name| brief(&String::from_utf8_lossy(name)))
    }
}

/// The common names of a subject that begin like an identity. Others are ignored: nothing of a subject is signed.
fn claimed_names(mut sets: Reader<'_>) -> Result<Vec<Vec<u8>>, DerError> {
    let mut names = Vec::new();
    while !sets.is_empty() {
        let mut pairs = sets.expect(der::SET)?.inside();
        while !pairs.is_empty() {
            let mut pair = pairs.expect(der::SEQUENCE)?.inside();
            let id = pair.expect(der::OID)?;
            let value = pair.any()?;
            pair.end()?;
            let looks_like_one = value
                .content
                .get(..7)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"spiffe:"));
            if id.content == oid::COMMON_NAME && looks_like_one {
                names.push(value.content.to_vec());
            }
        }
    }
    Ok(names)
}

fn wanted_uri(mut attributes: Reader<'_>) -> Result<Option<Vec<u8>>, CsrError> {
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut wanted = None;
    while !attributes.is_empty() {
        let mut attribute = attributes.expect(der::SEQUENCE)?.inside();
        let id = attribute.expect(der::OID)?;
        let values = attribute.expect(der::SET)?;
        attribute.end()?;
        if id.content != oid::EXTENSION_REQUEST {
            continue;
        }
        let mut values = values.inside();
        let mut extensions = values.expect(der::SEQUENCE)?.inside();
        values.end()?;
        while !extensions.is_empty() {
            let mut extension = extensions.expect(der::SEQUENCE)?.inside();
            let id = extension.expect(der::OID)?.content;
            extension.optional(der::BOOLEAN)?;
            let value = extension.expect(der::OCTET_STRING)?.content;
            extension.end()?;
            if seen.contains(&id) {
                return Err(CsrError::Twice);
            }
            seen.push(id);
            if id == oid::BASIC_CONSTRAINTS {
                let mut outer = Reader::new(value);
                let mut constraints = outer.expect(der::SEQUENCE)?.inside();
                outer.end()?;
                if constraints
                    .optional(der::BOOLEAN)?
                    .is_some_and(|ca| ca.content != [0])
                {
                    return Err(CsrError::AsksForAuthority);
                }
            } else if id == oid::SUBJECT_ALT_NAME {
                der::check(value)?;
                let names = alt_names(value)?;
                wanted = match &names[..] {
                    [] => None,
                    [AltName::Uri(uri)] => Some(uri.clone()),
                    [AltName::Dns(dns)] => {
                        return Err(CsrError::NotUri(brief(&String::from_utf8_lossy(dns))));
                    }
                    [AltName::Other(tag)] => {
                        return Err(CsrError::NotUri(format!("a name of kind {}", tag & 0x1f)));
                    }
                    several => return Err(CsrError::SeveralNames(several.len())),
                };
            }
        }
    }
    Ok(wanted)
}

/// Writes a request with an empty subject and one URI.
pub(crate) fn write(key: &KeyPair, identity: &SpiffeId) -> Result<Vec<u8>, KeyError> {
    let extensions = template::Extensions::default().uri(&identity.to_string(), true);
    write_with(key, &template::name(&[]), &[extensions.list()])
}

/// Writes a request with this subject and one extensionRequest attribute for each of `requests`.
pub(crate) fn write_with(
    key: &KeyPair,
    subject: &[u8],
    requests: &[Vec<u8>],
) -> Result<Vec<u8>, KeyError> {
    let attributes: Vec<Vec<u8>> = requests
        .iter()
        .map(|extensions| {
            der::nest(
                der::SEQUENCE,
                &[
                    &der::tlv(der::OID, oid::EXTENSION_REQUEST),
                    &der::tlv(der::SET, extensions),
                ],
            )
        })
        .collect();
    let info = der::nest(
        der::SEQUENCE,
        &[
            &der::positive_integer(&[0]),
            subject,
            key.spki(),
            &der::tlv(0xa0, &attributes.concat()),
        ],
    );
    key.seal(&info)
}

#[cfg(test)]
mod tests;
