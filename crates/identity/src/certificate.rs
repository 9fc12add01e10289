//! A certificate that was read, and what is shown of it.

use std::fmt;

use catamaran_model::{Fingerprint, SpiffeId, Timestamp};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::der::{self, DerError, Reader};
use crate::key::{self, KeyAlgorithm};
use crate::oid;
use crate::pem::{self, PemError, brief};

/// Larger than any certificate that a mesh has a use for, in bytes.
pub const MAX_CERTIFICATE: usize = 16 * 1024;

/// Why bytes are not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is not PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// It is longer than any certificate of a mesh.
    #[error("a certificate is {0} bytes long; at most {MAX_CERTIFICATE} are read")]
    TooLarge(usize),
    /// It is not an X.509 certificate.
    #[error("a certificate cannot be read: {0}")]
    Malformed(String),
}

impl From<DerError> for CertificateError {
    fn from(error: DerError) -> Self {
        CertificateError::Malformed(error.to_string())
    }
}

/// The SHA-256 of a certificate's DER bytes.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint(sha256(certificate))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// A time for people: `2026-11-24T00:00:00Z`.
pub(crate) fn date(at: &Timestamp) -> String {
    i64::try_from(at.seconds())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} s after 1970", at.seconds()))
}

/// A subject alternative name, byte for byte as the certificate has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AltName {
    Uri(Vec<u8>),
    Dns(Vec<u8>),
    /// Another kind, by its tag.
    Other(u8),
}

/// Reads the content of a subjectAltName extension.
pub(crate) fn alt_names(value: &[u8]) -> Result<Vec<AltName>, DerError> {
    let mut outer = Reader::new(value);
    let mut names = outer.expect(der::SEQUENCE)?.inside();
    outer.end()?;
    let mut found = Vec::new();
    while !names.is_empty() {
        let name = names.any()?;
        found.push(match name.tag {
            0x86 => AltName::Uri(name.content.to_vec()),
            0x82 => AltName::Dns(name.content.to_vec()),
            tag => AltName::Other(tag),
        });
    }
    Ok(found)
}

/// A certificate with the parts that the mesh looks at.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) fingerprint: Fingerprint,
    /// The subject, a Name in DER.
    pub(crate) subject: Vec<u8>,
    /// The issuer, a Name in DER.
    pub(crate) issuer: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) key_id: Option<Vec<u8>>,
    pub(crate) names: Vec<AltName>,
    /// The name constraints speak of URIs.
    pub(crate) constrains_uris: bool,
    /// May sign certificates, by basic constraints and key usage.
    pub(crate) is_ca: bool,
    pub(crate) facts: CertificateFacts,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        write!(f, "Certificate({}, {:?})", facts.subject, facts.fingerprint)
    }
}

impl Certificate {
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Certificate, CertificateError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLarge(der.len()));
        }
        let malformed = |what: String| CertificateError::Malformed(brief(&what));
        let (rest, x509) =
            X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(DerError::Trailing.into());
        }
        let twice = |_| malformed("an extension stands in it twice".to_owned());
        let basic = x509.basic_constraints().map_err(twice)?;
        let usage = x509.key_usage().map_err(twice)?;
        let is_ca = basic.as_ref().is_some_and(|b| b.value.ca)
            && usage.as_ref().is_none_or(|u| u.value.key_cert_sign());
        let mut names = Vec::new();
        let mut constrains_uris = false;
        let mut key_id = None;
        let mut seen = Vec::new();
        for extension in x509.extensions() {
            let id = extension.oid.as_bytes();
            if seen.contains(&id) {
                return Err(malformed("an extension stands in it twice".to_owned()));
            }
            seen.push(id);
            if id == oid::SUBJECT_ALT_NAME {
                names = alt_names(extension.value)?;
            } else if id == oid::NAME_CONSTRAINTS {
                constrains_uris = constrains_uris_in(extension.value)?;
            } else if id == oid::SUBJECT_KEY_ID {
                let mut value = Reader::new(extension.value);
                key_id = Some(value.expect(der::OCTET_STRING)?.content.to_vec());
            }
        }
        let text = |bytes: &[u8]| brief(&String::from_utf8_lossy(bytes));
        let (mut uris, mut dns_names, mut other_names) = (Vec::new(), Vec::new(), 0);
        for name in &names {
            match name {
                AltName::Uri(uri) => uris.push(text(uri)),
                AltName::Dns(dns) => dns_names.push(text(dns)),
                AltName::Other(_) => other_names += 1,
            }
        }
        let time = |at: x509_parser::time::ASN1Time| {
            Timestamp(
                u64::try_from(at.timestamp())
                    .unwrap_or(0)
                    .saturating_mul(1000),
            )
        };
        let spki = x509.public_key().raw.to_vec();
        let fingerprint = fingerprint(der);
        let facts = CertificateFacts {
            subject: brief(&x509.subject().to_string()),
            issuer: brief(&x509.issuer().to_string()),
            common_name: x509
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| name.as_str().ok())
                .map(brief),
            uris,
            dns_names,
            other_names,
            serial: x509
                .raw_serial()
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect(),
            not_before: time(x509.validity().not_before),
            not_after: time(x509.validity().not_after),
            fingerprint,
            issuer_fingerprint: None,
            key_algorithm: KeyAlgorithm::of_spki(&spki)?,
            is_ca,
            path_len: basic.and_then(|b| b.value.path_len_constraint),
            self_signed: x509.subject().as_raw() == x509.issuer().as_raw(),
        };
        Ok(Certificate {
            fingerprint,
            subject: x509.subject().as_raw().to_vec(),
            issuer: x509.issuer().as_raw().to_vec(),
            spki,
            key_id,
            names,
            constrains_uris,
            is_ca,
            facts,
            der: der.clone().into_owned(),
        })
    }

    /// Whether `signer` is named as the issuer and its key made the signature.
    pub(crate) fn is_signed_by(&self, signer: &Certificate) -> bool {
        let parts = || -> Result<_, DerError> {
            let mut outer = Reader::new(&self.der).expect(der::SEQUENCE)?.inside();
            let body = outer.expect(der::SEQUENCE)?;
            let algorithm = outer.expect(der::SEQUENCE)?;
            let signature = outer.expect(der::BIT_STRING)?.bits()?;
            Ok((body.whole, algorithm.content, signature))
        };
        self.issuer == signer.subject
            && parts().is_ok_and(|(body, algorithm, signature)| {
                key::verifies(&signer.spki, algorithm, body, signature)
            })
    }
}

/// Whether a nameConstraints extension has a subtree of URIs.
fn constrains_uris_in(value: &[u8]) -> Result<bool, DerError> {
    let mut lists = Reader::new(value).expect(der::SEQUENCE)?.inside();
    let mut found = false;
    while !lists.is_empty() {
        let mut subtrees = lists.any()?.inside();
        while !subtrees.is_empty() {
            let base = subtrees.expect(der::SEQUENCE)?.inside().any()?;
            found |= base.tag == 0x86;
        }
    }
    Ok(found)
}

/// What a certificate says, for people and for `/certs`. Texts of outside origin are escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The subject; empty for workloads.
    pub subject: String,
    /// The issuer's subject.
    pub issuer: String,
    /// The subject's common name; the mesh's name in our roots and intermediates.
    pub common_name: Option<String>,
    /// URI names; exactly one for workloads.
    pub uris: Vec<String>,
    /// DNS names; none in ours.
    pub dns_names: Vec<String>,
    /// How many names of other kinds there are; none in ours.
    pub other_names: usize,
    /// The serial number in hex.
    pub serial: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// The issuer's certificate, where it was at hand and its key made the signature.
    pub issuer_fingerprint: Option<Fingerprint>,
    /// The kind of its key.
    pub key_algorithm: KeyAlgorithm,
    /// Whether it may sign certificates.
    pub is_ca: bool,
    /// How many intermediates may follow it, if that is limited.
    pub path_len: Option<u32>,
    /// Subject and issuer are the same name.
    pub self_signed: bool,
}

impl CertificateFacts {
    /// Reads one certificate.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<CertificateFacts, CertificateError> {
        Certificate::read(certificate).map(|c| c.facts)
    }

    /// Reads every certificate of a PEM text, and finds each one's issuer among them.
    pub fn of_pem(text: &str) -> Result<Vec<CertificateFacts>, CertificateError> {
        CertificateFacts::of_chain(&pem::certificates(text)?)
    }

    /// Reads certificates, and finds each one's issuer among them.
    pub fn of_chain(
        certificates: &[CertificateDer<'_>],
    ) -> Result<Vec<CertificateFacts>, CertificateError> {
        let read: Vec<Certificate> = certificates
            .iter()
            .map(Certificate::read)
            .collect::<Result<_, _>>()?;
        Ok(read
            .iter()
            .map(|one| CertificateFacts {
                issuer_fingerprint: read
                    .iter()
                    .find(|signer| one.is_signed_by(signer))
                    .map(|signer| signer.fingerprint),
                ..one.facts.clone()
            })
            .collect())
    }

    /// The identity, if there is exactly one name and it is one.
    pub fn identity(&self) -> Option<SpiffeId> {
        match &self.uris[..] {
            [uri] if self.dns_names.is_empty() && self.other_names == 0 => {
                SpiffeId::parse(uri).ok()
            }
            _ => None,
        }
    }

    /// Whether it is valid at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// The time at which half of its life is over.
    pub fn half_life(&self) -> Timestamp {
        Timestamp(self.not_before.0 + self.not_after.0.saturating_sub(self.not_before.0) / 2)
    }
}

#[cfg(test)]
mod tests;
