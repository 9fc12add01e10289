//! Certificates as we write them (RFC 5280 section 4.1).

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;

use crate::certificate::sha256;
use crate::key::{self, KeyError, KeyPair};
use crate::{der, oid};

/// The extensions of one certificate, each a whole element.
#[derive(Debug, Default)]
pub(crate) struct Extensions(Vec<u8>);

impl Extensions {
    pub(crate) fn add(mut self, id: &[u8], critical: bool, value: &[u8]) -> Self {
        let critical = if critical {
            der::tlv(der::BOOLEAN, &[0xff])
        } else {
            Vec::new()
        };
        self.0.extend(der::nest(
            der::SEQUENCE,
            &[
                &der::tlv(der::OID, id),
                &critical,
                &der::tlv(der::OCTET_STRING, value),
            ],
        ));
        self
    }

    /// `basicConstraints`: not an authority, or one with at most `path_len` intermediates below it.
    pub(crate) fn basic_constraints(self, path_len: Option<u8>) -> Self {
        let value = match path_len {
            None => Vec::new(),
            Some(n) => [der::tlv(der::BOOLEAN, &[0xff]), der::positive_integer(&[n])].concat(),
        };
        self.add(
            oid::BASIC_CONSTRAINTS,
            true,
            &der::tlv(der::SEQUENCE, &value),
        )
    }

    /// `keyUsage` with these bits, the first named bit being the highest.
    pub(crate) fn key_usage(self, bits: u8) -> Self {
        let value = der::tlv(der::BIT_STRING, &[bits.trailing_zeros() as u8, bits]);
        self.add(oid::KEY_USAGE, true, &value)
    }

    /// `extKeyUsage`: server and client.
    pub(crate) fn server_and_client(self) -> Self {
        let value = der::nest(
            der::SEQUENCE,
            &[
                &der::tlv(der::OID, oid::SERVER_AUTH),
                &der::tlv(der::OID, oid::CLIENT_AUTH),
            ],
        );
        self.add(oid::EXTENDED_KEY_USAGE, false, &value)
    }

    /// `subjectAltName` with one URI; critical where the subject is empty (RFC 5280 section 4.2.1.6).
    pub(crate) fn uri(self, uri: &str, critical: bool) -> Self {
        let value = der::nest(der::SEQUENCE, &[&der::tlv(0x86, uri.as_bytes())]);
        self.add(oid::SUBJECT_ALT_NAME, critical, &value)
    }

    pub(crate) fn subject_key_id(self, id: &[u8]) -> Self {
        self.add(oid::SUBJECT_KEY_ID, false, &der::tlv(der::OCTET_STRING, id))
    }

    /// All of them in one SEQUENCE.
    pub(crate) fn list(&self) -> Vec<u8> {
        der::tlv(der::SEQUENCE, &self.0)
    }

    pub(crate) fn authority_key_id(self, id: &[u8]) -> Self {
        let value = der::nest(der::SEQUENCE, &[&der::tlv(0x80, id)]);
        self.add(oid::AUTHORITY_KEY_ID, false, &value)
    }
}

/// The bit of `keyUsage` for digital signatures.
pub(crate) const DIGITAL_SIGNATURE: u8 = 0x80;
/// The bit of `keyUsage` for key encipherment (RSA).
pub(crate) const KEY_ENCIPHERMENT: u8 = 0x20;
/// The bit of `keyUsage` for signing certificates.
pub(crate) const KEY_CERT_SIGN: u8 = 0x04;
/// The bit of `keyUsage` for signing revocation lists.
pub(crate) const CRL_SIGN: u8 = 0x02;

/// The key identifier of a public key: the first 160 bits of its SHA-256 (RFC 7093 section 2, method 1).
pub(crate) fn key_id(spki: &[u8]) -> Vec<u8> {
    let bits = key::split_spki(spki).map_or(spki, |(_, bits)| bits);
    sha256(bits)[..20].to_vec()
}

/// 127 random bits, never zero.
pub(crate) fn random_serial() -> Result<[u8; 16], KeyError> {
    let mut serial = [0; 16];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| KeyError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

/// A Name of organization, units and common name; each part at most 64 characters (RFC 5280 appendix A.1).
pub(crate) fn name(parts: &[(&[u8], &str)]) -> Vec<u8> {
    const MOST: usize = 64;
    let sets: Vec<Vec<u8>> = parts
        .iter()
        .map(|(id, text)| {
            let text: String = text.chars().take(MOST).collect();
            let pair = der::nest(
                der::SEQUENCE,
                &[
                    &der::tlv(der::OID, id),
                    &der::tlv(der::UTF8_STRING, text.as_bytes()),
                ],
            );
            der::tlv(der::SET, &pair)
        })
        .collect();
    der::tlv(der::SEQUENCE, &sets.concat())
}

/// A certificate before it is signed. Times are seconds since the Unix epoch; names and key are DER.
pub(crate) struct Template<'a> {
    pub(crate) serial: [u8; 16],
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    pub(crate) spki: &'a [u8],
    pub(crate) extensions: Extensions,
}

impl Template<'_> {
    pub(crate) fn sign(&self, key: &KeyPair) -> Result<CertificateDer<'static>, KeyError> {
        let version = der::tlv(0xa0, &der::positive_integer(&[2]));
        let validity = der::nest(
            der::SEQUENCE,
            &[&der::time(self.not_before), &der::time(self.not_after)],
        );
        let extensions = der::tlv(0xa3, &self.extensions.list());
        let to_be_signed = der::nest(
            der::SEQUENCE,
            &[
                &version,
                &der::positive_integer(&self.serial),
                &key.signature_algorithm(),
                self.issuer,
                &validity,
                self.subject,
                self.spki,
                &extensions,
            ],
        );
        key.seal(&to_be_signed).map(CertificateDer::from)
    }
}
