//! PEM texts (RFC 7468): certificates, requests and keys.

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::base64;

/// The longest text that is looked at. A bundle of a few dozen roots is a tenth of it.
pub const MAX_PEM: usize = 256 * 1024;
/// The most certificates that one text may hold.
pub const MAX_CERTIFICATES: usize = 64;

/// Why a text is not the PEM that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Nothing of the wanted kind is in it.
    #[error("no {0} is in it")]
    Nothing(&'static str),
    /// More than one is in it.
    #[error("more than one {0} is in it")]
    Several(&'static str),
    /// It is longer than any such text needs to be.
    #[error("it is larger than {MAX_PEM} bytes or {MAX_CERTIFICATES} certificates")]
    TooLarge,
    /// A section is not well formed.
    #[error("a section in it is not well formed: {0}")]
    Malformed(String),
}

fn sections(text: &str) -> Result<Vec<(SectionKind, Vec<u8>)>, PemError> {
    if text.len() > MAX_PEM {
        return Err(PemError::TooLarge);
    }
    let mut sections = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        sections.push(section.map_err(|error| PemError::Malformed(brief(&error.to_string())))?);
        if sections.len() > MAX_CERTIFICATES {
            return Err(PemError::TooLarge);
        }
    }
    Ok(sections)
}

/// The certificates of a text, in order; there is at least one.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Vec<_> = sections(text)?
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    if found.is_empty() {
        return Err(PemError::Nothing("certificate"));
    }
    Ok(found)
}

/// The one request of a text.
pub(crate) fn request(text: &str) -> Result<CertificateSigningRequestDer<'static>, PemError> {
    let mut found = sections(text)?
        .into_iter()
        .filter_map(|(kind, der)| CertificateSigningRequestDer::from_pem(kind, der));
    match (found.next(), found.next()) {
        (Some(request), None) => Ok(request),
        (None, _) => Err(PemError::Nothing("certificate request")),
        _ => Err(PemError::Several("certificate request")),
    }
}

/// The one private key of a text.
pub(crate) fn private_key(text: &str) -> Result<Zeroizing<PrivateKeyDer<'static>>, PemError> {
    let mut found = sections(text)?
        .into_iter()
        .filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der))
        .map(Zeroizing::new);
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(PemError::Nothing("private key")),
        _ => Err(PemError::Several("private key")),
    }
}

/// Writes one section.
pub(crate) fn write(label: &str, der: &[u8]) -> String {
    let digits = Zeroizing::new(base64::encode(der));
    let mut text = String::with_capacity(digits.len() + digits.len() / 64 + 64);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = digits.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Writes certificates one after the other.
pub(crate) fn write_certificates<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> String {
    certificates
        .into_iter()
        .map(|der| write("CERTIFICATE", der))
        .collect()
}

/// Text of outside origin, made fit for a log line.
pub(crate) fn brief(text: &str) -> String {
    const MOST: usize = 160;
    let mut out: String = text
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}
