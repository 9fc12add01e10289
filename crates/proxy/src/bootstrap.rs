//! Reads an Envoy bootstrap file whose resources are all in it (`static_resources`), so that one file drives Envoy and us.
//!
//! Of the file: `node` (its id is shown), `admin.address` (where the admin pages are), and of `static_resources` listeners, clusters
//! and the secrets `default` (our certificate and key) and `ROOTCA` (the roots that we trust), by file name or in line. Anything
//! else is refused by name, as Envoy refuses a whole bootstrap for one field that it does not know.
//!
//! Source: `envoy.config.bootstrap.v3.Bootstrap`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use catamaran_decide::{Changes, Refusal, Table};
use catamaran_identity::{
    BundleError, CertificateError, CertificateFacts, Holding, HoldingError, KeyError, KeyPair,
};
use catamaran_model::{SpiffeId, Timestamp};
use catamaran_wire::DecodeError;
use catamaran_xds::{Resource, TypeUrlKind};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use crate::read_json::{self, JsonError};

/// The largest file that is read.
const LIMIT: u64 = 256 << 20;

/// What a bootstrap file says.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    pub(crate) node: String,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) table: Table,
    pub(crate) resources: Vec<Resource>,
    pub(crate) holding: Option<Holding>,
}

/// Why a bootstrap file cannot be used. All of it is refused: half a configuration would mislead.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// It, or a file that it names, cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is longer than anything meant to be read.
    #[error("{}: is longer than {LIMIT} bytes", .0.display())]
    Long(PathBuf),
    /// It is no JSON.
    #[error("{}: {reason}; a bootstrap in YAML has to be made JSON first", path.display())]
    Json {
        /// The path.
        path: PathBuf,
        /// Where and why.
        reason: serde_json::Error,
    },
    /// A field is not as it must be, or nothing here is made of it.
    #[error("{field}: {reason}")]
    Field {
        /// Its path in the file.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Resources that cannot be used, each with its field and reason.
    #[error("{}", lines(.0))]
    Refused(Vec<Refusal>),
    /// Something points at what is not there.
    #[error("{0} is named and not in the file; add it or take the name out")]
    Missing(String),
    /// The key cannot be used.
    #[error("static_resources.secrets: the key of \"default\": {0}")]
    Key(#[from] KeyError),
    /// The roots cannot be used.
    #[error("static_resources.secrets: the roots of \"ROOTCA\": {0}")]
    Roots(#[from] BundleError),
    /// The certificate cannot be read.
    #[error("static_resources.secrets: the certificate of \"default\": {0}")]
    Certificate(#[from] CertificateError),
    /// Certificate, key and roots do not belong together, or peers would refuse them.
    #[error("static_resources.secrets: {0}")]
    Holding(#[from] HoldingError),
    /// TLS is wanted without a certificate.
    #[error(
        "{0} wants TLS, and static_resources.secrets has no \"default\" and \"ROOTCA\"; add both"
    )]
    NoSecrets(String),
}

fn lines(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    lines.join("\n")
}

impl BootstrapError {
    fn field(field: impl Into<String>, reason: impl Into<String>) -> BootstrapError {
        BootstrapError::Field {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl From<JsonError> for BootstrapError {
    fn from(error: JsonError) -> BootstrapError {
        BootstrapError::field(error.path, error.reason)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    name: String,
    #[serde(alias = "tlsCertificate")]
    tls_certificate: Option<TlsCertificate>,
    #[serde(alias = "validationContext")]
    validation_context: Option<ValidationContext>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsCertificate {
    #[serde(alias = "certificateChain")]
    certificate_chain: Source,
    #[serde(alias = "privateKey")]
    private_key: Source,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidationContext {
    #[serde(alias = "trustedCa")]
    trusted_ca: Source,
}

/// Where a text is.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Filename(PathBuf),
    #[serde(alias = "inlineString")]
    InlineString(String),
    #[serde(alias = "inlineBytes")]
    InlineBytes(String),
}

impl Source {
    fn text(&self) -> Result<String, BootstrapError> {
        match self {
            Source::Filename(path) => read(path),
            Source::InlineString(text) => Ok(text.clone()),
            Source::InlineBytes(text) => read_json::base64(text)
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| {
                    BootstrapError::field(
                        "static_resources.secrets",
                        "inline_bytes is no PEM in base64",
                    )
                }),
        }
    }
}

fn read(path: &Path) -> Result<String, BootstrapError> {
    let failed = |source| BootstrapError::File {
        path: path.into(),
        source,
    };
    if std::fs::metadata(path).map_err(failed)?.len() > LIMIT {
        return Err(BootstrapError::Long(path.into()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

impl Bootstrap {
    /// Reads a file, and the files that it names.
    pub(crate) fn read(path: &Path, now: Timestamp) -> Result<Bootstrap, BootstrapError> {
        let text = read(path)?;
        let mut reading = Reading::default();
        let mut json = serde_json::Deserializer::from_str(&text);
        let outcome = json
            .deserialize_any(Top(&mut reading))
            .and_then(|()| json.end());
        reading.done(
            now,
            |reason| BootstrapError::Json {
                path: path.into(),
                reason,
            },
            outcome,
        )
    }

    #[cfg(test)]
    fn of(json: Json, now: Timestamp) -> Result<Bootstrap, BootstrapError> {
        let mut reading = Reading::default();
        let outcome = json.deserialize_any(Top(&mut reading));
        let other =
            |reason: serde_json::Error| BootstrapError::field("(the file)", reason.to_string());
        reading.done(now, other, outcome)
    }
}

/// A bootstrap while it is read. One resource after the other becomes its bytes and a part of the table: of 5,000 clusters, the
/// whole file as a tree of JSON would be ten times what is kept in the end.
#[derive(Default)]
struct Reading {
    node: String,
    admin: Option<SocketAddr>,
    secrets: Vec<Secret>,
    resources: Vec<Resource>,
    /// Decoded, and not in the table yet.
    changes: Changes,
    table: Table,
    refusals: Vec<Refusal>,
    /// Whether `static_resources` was there.
    within: bool,
    /// Why reading stopped, when it was not for the JSON itself.
    fault: Option<BootstrapError>,
}

/// So many resources go into the table at once: few enough to be small, many enough that the table is rarely made anew.
const BATCH: usize = 512;

impl Reading {
    /// Keeps why reading cannot go on, for serde's errors cannot carry it.
    fn stop<E: serde::de::Error>(&mut self, fault: BootstrapError) -> E {
        self.fault = Some(fault);
        E::custom("stopped")
    }

    fn resource(
        &mut self,
        kind: TypeUrlKind,
        json: Json,
        field: &str,
    ) -> Result<(), BootstrapError> {
        let name = json["name"].as_str().unwrap_or_default().to_owned();
        let message = kind.url().rsplit('/').next().unwrap_or_default();
        let bytes = read_json::encode(message, &json)
            .map_err(|error| error.within(&format!("{field}[{}]", self.count(kind))))?;
        drop(json);
        let resource = Resource::from_bytes(kind, name, Bytes::from(bytes));
        let failed = |error: DecodeError| {
            let field = format!("{} {:?}", resource.kind.word(), resource.name);
            BootstrapError::field(field, error.to_string())
        };
        match kind {
            TypeUrlKind::Listener => self
                .changes
                .listeners
                .push(decode(&resource).map_err(failed)?),
            _ => self
                .changes
                .clusters
                .push(decode(&resource).map_err(failed)?),
        }
        self.resources.push(resource);
        if self.changes.clusters.len() + self.changes.listeners.len() >= BATCH {
            self.apply();
        }
        Ok(())
    }

    /// How many of a kind there are already.
    fn count(&self, kind: TypeUrlKind) -> usize {
        self.resources
            .iter()
            .filter(|resource| resource.kind == kind)
            .count()
    }

    fn apply(&mut self) {
        let (table, refusals) = self.table.update(std::mem::take(&mut self.changes));
        self.table = table;
        self.refusals.extend(refusals);
    }

    fn done(
        mut self,
        now: Timestamp,
        other: impl FnOnce(serde_json::Error) -> BootstrapError,
        outcome: Result<(), serde_json::Error>,
    ) -> Result<Bootstrap, BootstrapError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        outcome.map_err(other)?;
        if !self.within {
            return Err(BootstrapError::field(
                "static_resources",
                "is missing: there would be nothing to do",
            ));
        }
        self.apply();
        if !self.refusals.is_empty() {
            return Err(BootstrapError::Refused(self.refusals));
        }
        if let Some((kind, name)) = self.table.missing().into_iter().next() {
            let word = TypeUrlKind::of(kind.type_url()).map_or("resource", TypeUrlKind::word);
            return Err(BootstrapError::Missing(format!("{word} {name:?}")));
        }
        let holding = holding_of(self.secrets, now)?;
        if holding.is_none()
            && let Some(name) = wants_tls(&self.table)
        {
            return Err(BootstrapError::NoSecrets(name));
        }
        Ok(Bootstrap {
            node: self.node,
            admin: self.admin,
            table: self.table,
            resources: self.resources,
            holding,
        })
    }
}

/// The file.
struct Top<'a>(&'a mut Reading);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "node" => {
                    let node: Json = map.next_value()?;
                    self.0.node = node["id"].as_str().unwrap_or_default().to_owned();
                }
                "admin" => match admin_address(&map.next_value()?) {
                    Ok(address) => self.0.admin = address,
                    Err(fault) => return Err(self.0.stop(fault)),
                },
                "static_resources" | "staticResources" => {
                    self.0.within = true;
                    map.next_value_seed(Within(self.0))?;
                }
                _ => {
                    return Err(self.0.stop(BootstrapError::field(
                        key,
                        "is not implemented for a static file, which has node, admin and static_resources; take it out",
                    )));
                }
            }
        }
        Ok(())
    }
}

/// `static_resources`
struct Within<'a>(&'a mut Reading);

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object for static_resources")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let kind = match key.as_str() {
                "listeners" => TypeUrlKind::Listener,
                "clusters" => TypeUrlKind::Cluster,
                "secrets" => {
                    self.0.secrets =
                        serde_json::from_value(map.next_value()?).map_err(|error| {
                            let said = error.to_string();
                            self.0
                                .stop(BootstrapError::field("static_resources.secrets", said))
                        })?;
                    continue;
                }
                _ => {
                    return Err(self.0.stop(BootstrapError::field(
                        format!("static_resources.{key}"),
                        "is none of listeners, clusters and secrets",
                    )));
                }
            };
            map.next_value_seed(Every {
                kind,
                field: format!("static_resources.{key}"),
                reading: self.0,
            })?;
        }
        Ok(())
    }
}

/// All resources of a kind.
struct Every<'a> {
    kind: TypeUrlKind,
    field: String,
    reading: &'a mut Reading,
}

impl<'de> DeserializeSeed<'de> for Every<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Every<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a list for {}", self.field)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while let Some(json) = all.next_element::<Json>()? {
            let done = self.reading.resource(self.kind, json, &self.field);
            done.map_err(|fault| self.reading.stop(fault))?;
        }
        Ok(())
    }
}

fn admin_address(admin: &Json) -> Result<Option<SocketAddr>, BootstrapError> {
    let socket = ["socket_address", "socketAddress"]
        .iter()
        .find_map(|name| admin["address"].get(name));
    let Some(socket) = socket else {
        return Ok(None);
    };
    let port = socket.get("port_value").or_else(|| socket.get("portValue"));
    let (ip, port) = (socket["address"].as_str(), port.and_then(Json::as_u64));
    let ip = ip.and_then(|ip| ip.parse().ok());
    let port = port.and_then(|port| u16::try_from(port).ok());
    match (ip, port) {
        (Some(ip), Some(port)) => Ok(Some(SocketAddr::new(ip, port))),
        _ => Err(BootstrapError::field(
            "admin.address",
            "an IP address and a port_value are wanted",
        )),
    }
}

fn decode<M: catamaran_wire::Message + Default>(resource: &Resource) -> Result<M, DecodeError> {
    M::decode(&resource.bytes[..])
}

fn holding_of(secrets: Vec<Secret>, now: Timestamp) -> Result<Option<Holding>, BootstrapError> {
    let (mut own, mut roots) = (None, None);
    for secret in secrets {
        match (
            secret.name.as_str(),
            secret.tls_certificate,
            secret.validation_context,
        ) {
            ("default", Some(certificate), None) => own = Some(certificate),
            ("ROOTCA", None, Some(context)) => roots = Some(context),
            (name, _, _) => {
                return Err(BootstrapError::field(
                    format!("static_resources.secrets {name:?}"),
                    "a proxy has the secrets \"default\" with a tls_certificate and \"ROOTCA\" with a validation_context, and no others",
                ));
            }
        }
    }
    let (Some(own), Some(roots)) = (own, roots) else {
        return Ok(None);
    };
    let chain = own.certificate_chain.text()?;
    let key = KeyPair::from_pem(&own.private_key.text()?)?;
    let identity = identity_of(&chain)?;
    let holding = Holding::from_pem(&chain, key, &roots.trusted_ca.text()?, &identity, now)?;
    Ok(Some(holding))
}

fn identity_of(chain: &str) -> Result<SpiffeId, BootstrapError> {
    let facts = CertificateFacts::of_pem(chain)?;
    let identity = facts.first().and_then(CertificateFacts::identity);
    identity.ok_or_else(|| {
        BootstrapError::field(
            "static_resources.secrets \"default\"",
            "the certificate has no SPIFFE id as its one URI name, by which the mesh knows workloads",
        )
    })
}

fn wants_tls(table: &Table) -> Option<String> {
    let listeners = table.listeners().into_iter();
    let listener = listeners
        .filter(|listener| listener.chains().any(|chain| chain.tls().is_some()))
        .map(|listener| format!("listener {:?}", listener.name()))
        .next();
    let clusters = table.clusters().into_iter();
    let mut clusters = clusters.filter(|cluster| cluster.wants_tls());
    listener.or_else(|| {
        clusters
            .next()
            .map(|cluster| format!("cluster {:?}", cluster.name()))
    })
}

#[cfg(test)]
mod tests;
