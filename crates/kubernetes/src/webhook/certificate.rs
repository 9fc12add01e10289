//! How the API server knows our webhook: a certificate, the CA that made it, and both kept in a Secret that replicas share.
//!
//! A CA makes one certificate and its key is thrown away, so nobody who reads the Secret can make another. Replacing goes in two
//! steps: the next pair is kept beside the current one until the API server has believed its CA for a while, and the CA before
//! stays believed for replicas that have not seen the change. Each write names the version that it was made from: of replicas
//! that do the same at once one wins, and the others read what it wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use catamaran_model::{MeshName, SpiffeId, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use crate::connect::Access;
use crate::enrol::INSTANCE_LABEL;
use crate::failure::Failure;

/// How long a certificate counts.
pub const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long before its end its successor is made.
pub const EARLY: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long the API server must have had the next CA before we show what it made: each of its replicas hears of the change by
/// a watch of its own.
pub const SETTLED: Duration = Duration::from_secs(60);
/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(3600);
/// An answer may take this long.
const LIMIT: Duration = Duration::from_secs(10);
/// Keys of the Secret: CA, certificate and key, of the current pair and of the next; and the CA before.
const CURRENT: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];
const NEXT: [&str; 3] = ["next-ca.crt", "next-tls.crt", "next-tls.key"];
const PREVIOUS: &str = "previous-ca.crt";

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the webhook's certificate cannot be made: {0}")]
pub struct CertificateError(String);

/// A certificate with its key and the CA that made it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The CA, as PEM.
    pub ca: String,
    /// The certificate, as PEM.
    pub certificate: String,
    /// Its key, as PEM.
    key: Zeroizing<String>,
    names: Vec<String>,
    from: Timestamp,
    until: Timestamp,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = self.until;
        write!(f, "Pair {{ names: {:?}, until: {until:?} }}", self.names)
    }
}

impl Pair {
    /// A new one for servers of these names (DNS names or addresses).
    ///
    /// # Errors
    /// A name is none, or no key can be made.
    pub fn create(names: &[String], now: Timestamp) -> Result<Pair, CertificateError> {
        let failed = |error: rcgen::Error| CertificateError(error.to_string());
        let at = |moment: Timestamp| {
            let seconds = i64::try_from(moment.0 / 1000).unwrap_or(i64::MAX);
            time::OffsetDateTime::from_unix_timestamp(seconds)
                .map_err(|error| CertificateError(error.to_string()))
        };
        let not_before = at(Timestamp(
            now.0
                .saturating_sub(u64::try_from(SKEW.as_millis()).unwrap_or(0)),
        ))?;
        let not_after = at(now.after(LIFE))?;
        let authority_key = KeyPair::generate().map_err(failed)?;
        let mut authority = CertificateParams::new(Vec::new()).map_err(failed)?;
        let name = format!("catamaran sidecar injector {}", now.0 / 1000);
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (authority.not_before, authority.not_after) = (not_before, not_after);
        let ca = authority.self_signed(&authority_key).map_err(failed)?;
        let authority = Issuer::new(authority, authority_key);

        let key = KeyPair::generate().map_err(failed)?;
        let mut leaf = CertificateParams::new(names.to_vec()).map_err(failed)?;
        let first = names.first().cloned().unwrap_or_default();
        // a common name has at most 64 characters; who calls us looks at the others
        let common = first.chars().take(64).collect::<String>();
        leaf.distinguished_name.push(DnType::CommonName, common);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        (leaf.not_before, leaf.not_after) = (not_before, not_after);
        let certificate = leaf.signed_by(&key, &authority).map_err(failed)?;
        let key = Zeroizing::new(key.serialize_pem());
        Pair::read(ca.pem(), certificate.pem(), key)
            .ok_or_else(|| CertificateError("what was made cannot be read".into()))
    }

    /// One from its texts; nothing when they do not belong together.
    fn read(ca: String, certificate: String, key: Zeroizing<String>) -> Option<Pair> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
        let ca_der = CertificateDer::from_pem_slice(ca.as_bytes()).ok()?;
        let (_, leaf) = X509Certificate::from_der(&der).ok()?;
        let (_, authority) = X509Certificate::from_der(&ca_der).ok()?;
        leaf.verify_signature(Some(authority.public_key())).ok()?;
        let validity = leaf.validity();
        let millis = |seconds: i64| u64::try_from(seconds).ok().map(|s| Timestamp(s * 1000));
        let names = leaf.subject_alternative_name().ok()??;
        let names = names.value.general_names.iter();
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some((*dns).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        });
        let pair = Pair {
            names: names.collect(),
            from: millis(validity.not_before.timestamp())?,
            until: millis(validity.not_after.timestamp())?,
            ca,
            certificate,
            key,
        };
        pair.certified().is_some().then_some(pair)
    }

    /// For a TLS server.
    pub fn certified(&self) -> Option<CertifiedKey> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).ok()?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(vec![certificate], key, &provider).ok()
    }

    /// Until when it counts.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    fn is_for(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.names.contains(name))
    }

    fn counts(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => Some(std::net::IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
        16 => Some(std::net::IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        _ => None,
    }
}

/// What the Secret holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What is shown.
    pub current: Pair,
    /// What will be shown when the API server believes its CA.
    pub next: Option<Pair>,
    /// The CA of what was shown before.
    pub previous: Option<String>,
}

/// What is to be done about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// This is to be written.
    Write(Box<Kept>),
}

impl Kept {
    /// The first one; `shown` is what is shown already, should its Secret be gone.
    ///
    /// # Errors
    /// See [`Pair::create`].
    pub fn first(
        names: &[String],
        shown: Option<&Pair>,
        now: Timestamp,
    ) -> Result<Kept, CertificateError> {
        Ok(Kept {
            current: Pair::create(names, now)?,
            next: None,
            previous: shown.map(|pair| pair.ca.clone()),
        })
    }

    /// What the API server should believe.
    pub fn bundle(&self) -> String {
        let next = self.next.iter().map(|pair| &pair.ca);
        let all = [&self.current.ca].into_iter().chain(next);
        all.chain(self.previous.iter())
            .map(|pem| format!("{}\n", pem.trim_end()))
            .collect()
    }

    /// What is to be done now. `believed` says since when the API server has this very bundle, as far as we know.
    ///
    /// # Errors
    /// See [`Pair::create`].
    pub fn due(
        &self,
        names: &[String],
        believed: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Due, CertificateError> {
        let sound = |pair: &Pair| pair.is_for(names) && pair.counts(now);
        let lasting = |pair: &Pair| sound(pair) && now.after(EARLY) < pair.until;
        let kept = match &self.next {
            Some(next) if sound(next) => {
                let believed = believed.is_some_and(|since| now.since(since) >= SETTLED);
                if !believed {
                    return Ok(Due::Nothing);
                }
                Kept {
                    current: next.clone(),
                    next: None,
                    previous: Some(self.current.ca.clone()),
                }
            }
            // one for other names, or forgotten for months
            Some(_) | None if !lasting(&self.current) => Kept {
                next: Some(Pair::create(names, now)?),
                ..self.clone()
            },
            Some(_) => Kept {
                next: None,
                ..self.clone()
            },
            None => return Ok(Due::Nothing),
        };
        Ok(Due::Write(Box::new(kept)))
    }

    fn data(&self) -> BTreeMap<String, ByteString> {
        let pairs = [(CURRENT, Some(&self.current)), (NEXT, self.next.as_ref())];
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| {
            data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
        };
        for (keys, pair) in pairs {
            if let Some(pair) = pair {
                put(keys[0], &pair.ca);
                put(keys[1], &pair.certificate);
                put(keys[2], &pair.key);
            }
        }
        if let Some(previous) = &self.previous {
            put(PREVIOUS, previous);
        }
        data
    }

    fn of(data: &BTreeMap<String, ByteString>) -> Option<Kept> {
        let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        let pair =
            |keys: [&str; 3]| Pair::read(text(keys[0])?, text(keys[1])?, text(keys[2])?.into());
        let previous = text(PREVIOUS);
        Some(Kept {
            current: pair(CURRENT)?,
            next: pair(NEXT),
            // a word that is no certificate would make the API server refuse the whole bundle
            previous: previous.filter(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).is_ok()),
        })
    }
}

/// The Secret's name.
pub fn secret(mesh: &MeshName) -> String {
    format!("catamaran-{mesh}-webhook")
}

/// What stands in the Secret, and the version of it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Nothing when it makes no sense.
    pub kept: Option<Kept>,
    version: String,
}

/// Reads the Secret; nothing when there is none.
///
/// # Errors
/// Why it is not known.
pub async fn read(access: &Access, mesh: &MeshName) -> Result<Option<Stored>, Failure> {
    let api = secrets(access);
    let name = secret(mesh);
    let answer = tokio::time::timeout(LIMIT, api.get_opt(&name)).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    let found = answer.map_err(|error| crate::api::of_error(access, &error))?;
    Ok(found.map(|secret| Stored {
        kept: Kept::of(&secret.data.unwrap_or_default()),
        version: secret.metadata.resource_version.unwrap_or_default(),
    }))
}

/// Writes the Secret in place of `before`; false when somebody else was first.
///
/// # Errors
/// Why it is not there.
pub async fn write(
    access: &Access,
    mesh: &MeshName,
    kept: &Kept,
    before: Option<&Stored>,
) -> Result<bool, Failure> {
    let api = secrets(access);
    let name = secret(mesh);
    let object = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(SpiffeId::SYSTEM_NAMESPACE.into()),
            labels: Some(
                [
                    ("app.kubernetes.io/part-of", "catamaran"),
                    ("app.kubernetes.io/component", "sidecar-injector"),
                    (INSTANCE_LABEL, mesh.as_str()),
                ]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ),
            resource_version: before.map(|stored| stored.version.clone()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        data: Some(kept.data()),
        ..Secret::default()
    };
    let params = PostParams::default();
    let written = async {
        match before {
            None => api.create(&params, &object).await,
            Some(_) => api.replace(&name, &params, &object).await,
        }
    };
    let answer = tokio::time::timeout(LIMIT, written).await;
    let answer = answer.map_err(|_| Failure::Slow { limit: LIMIT })?;
    match answer.map_err(|error| crate::api::of_error(access, &error)) {
        Ok(_) => Ok(true),
        Err(Failure::Unexpected { code: 409, .. }) => Ok(false),
        // it was deleted meanwhile; the next look makes it
        Err(Failure::Absent) if before.is_some() => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn secrets(access: &Access) -> Api<Secret> {
    Api::namespaced(access.client().clone(), SpiffeId::SYSTEM_NAMESPACE)
}

#[cfg(test)]
mod tests;
