//! Shards on disk: plain facts, so that a control plane starts from what was known when every peer is gone.
//!
//! A file is one line of head (`catamaran-shard 1 CHECKSUM`) and JSON. It is written beside, flushed to the disk and renamed; a
//! file that is torn or damaged is not believed. Deleting it loses nothing that a watch does not bring back.
//!
//! Single facts that changed since are lines of a journal beside it, so that a change costs as much as it says and not as
//! much as is known. Its head (`catamaran-journal 1 CHECKSUM`) names the file that it goes on from; each line has a checksum
//! too, and what follows a torn line is not believed. The journal goes when the file is written anew.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use catamaran_model as model;
use catamaran_model::ClusterId;
use catamaran_registry::{Fact, FactKey, Revision, SavedShard};
use catamaran_xds::Version;
use serde::{Deserialize, Serialize};

const HEAD: &str = "catamaran-shard 1 ";
const JOURNAL_HEAD: &str = "catamaran-journal 1 ";
/// A larger file is not read; it holds the most that a cluster may say.
const MAX_FILE: u64 = 512 << 20;

/// Why a saved shard is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SavedError {
    /// The system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is torn, or was changed by something else.
    #[error(
        "{path} is damaged ({reason}): it is not used; what it held comes back with the cluster's next list"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Where a cluster's shard is saved.
pub(crate) fn path(state: &Path, cluster: &ClusterId) -> PathBuf {
    state.join(format!("shard-{cluster}.json"))
}

/// Where what changed since is added.
fn journal_path(state: &Path, cluster: &ClusterId) -> PathBuf {
    state.join(format!("shard-{cluster}.journal"))
}

/// A file that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    checksum: Version,
    /// How long it is.
    pub(crate) bytes: u64,
}

/// The clusters with a saved shard, by name.
pub(crate) fn clusters(state: &Path) -> io::Result<Vec<ClusterId>> {
    let mut clusters = Vec::new();
    for entry in fs::read_dir(state)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let cluster = name
            .strip_prefix("shard-")
            .and_then(|name| name.strip_suffix(".json"));
        clusters.extend(cluster.and_then(|cluster| ClusterId::new(cluster).ok()));
    }
    clusters.sort();
    Ok(clusters)
}

/// Writes a shard so that a crash at any byte leaves the old file or the new one.
pub(crate) fn write(
    state: &Path,
    cluster: &ClusterId,
    shard: &SavedShard,
) -> Result<Base, SavedError> {
    let path = path(state, cluster);
    let failed = |source| SavedError::Io {
        path: path.clone(),
        source,
    };
    let said = Shard {
        revision: shard.revision.0,
        facts: shard.facts.iter().map(Said::of).collect(),
    };
    let body = serde_json::to_vec(&said).map_err(|error| failed(error.into()))?;
    let base = Base {
        checksum: Version::of(&body),
        bytes: body.len() as u64,
    };
    let beside = state.join(format!(".shard-{cluster}.new"));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        writeln!(file, "{HEAD}{}", base.checksum)?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(state)?.sync_all()
    })();
    if written.is_err() {
        // What could not be written whole must not fill a disk that is full already.
        let _ = fs::remove_file(&beside);
    }
    written.map_err(failed)?;
    // One that stays names another file, so it is not believed.
    let _ = catamaran_local::atomic::remove(&journal_path(state, cluster));
    Ok(base)
}

/// Adds facts that are other ones since `base` was written, `None` for those that are gone; `first`: none were added yet. Gives
/// the bytes that were added.
///
/// After an error it is not known what is on disk, and the shard has to be written anew.
pub(crate) fn add(
    state: &Path,
    cluster: &ClusterId,
    base: &Base,
    first: bool,
    news: &BTreeMap<FactKey, Option<Fact>>,
) -> Result<u64, SavedError> {
    let path = journal_path(state, cluster);
    let written = (|| {
        let mut text = Vec::new();
        if first {
            writeln!(text, "{JOURNAL_HEAD}{}", base.checksum)?;
        }
        for (key, fact) in news {
            let line = match fact {
                Some(fact) => Line::Put(Box::new(Said::of(fact))),
                None => Line::Gone(SaidKey::of(key)),
            };
            let line = serde_json::to_vec(&line)?;
            write!(text, "{} ", Version::of(&line))?;
            text.extend(&line);
            text.push(b'\n');
        }
        let mut file = OpenOptions::new()
            .write(true)
            .append(!first)
            .create(first)
            .truncate(first)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&text)?;
        file.sync_all()?;
        if first {
            File::open(state)?.sync_all()?;
        }
        Ok(text.len() as u64)
    })();
    written.map_err(|source| SavedError::Io {
        path: path.clone(),
        source,
    })
}

/// Reads a shard.
pub(crate) fn read(state: &Path, cluster: &ClusterId) -> Result<SavedShard, SavedError> {
    let path = path(state, cluster);
    let failed = |source| SavedError::Io {
        path: path.clone(),
        source,
    };
    let damaged = |reason: &str| SavedError::Damaged {
        path: path.clone(),
        reason: reason.into(),
    };
    if fs::metadata(&path).map_err(failed)?.len() > MAX_FILE {
        return Err(damaged("it is too large"));
    }
    let bytes = fs::read(&path).map_err(failed)?;
    let (checksum, mut shard) = shard(&bytes).map_err(|reason| damaged(&reason))?;
    let journal = journal_path(state, cluster);
    match fs::metadata(&journal).map(|metadata| metadata.len()) {
        Ok(length) if length <= MAX_FILE => {
            let journal = fs::read(&journal).unwrap_or_default();
            replay(&mut shard, &journal, checksum);
        }
        _ => {}
    }
    Ok(shard)
}

/// Follows a journal as far as it is whole.
fn replay(shard: &mut SavedShard, journal: &[u8], base: Version) {
    let mut lines = journal.split_inclusive(|byte| *byte == b'\n');
    let whole = |line: &'_ [u8]| String::from_utf8(line.strip_suffix(b"\n")?.into()).ok();
    let head = lines.next().and_then(whole);
    let of = head
        .as_deref()
        .and_then(|head| head.strip_prefix(JOURNAL_HEAD));
    if of.and_then(Version::parse) != Some(base) {
        return;
    }
    let mut facts: BTreeMap<FactKey, Fact> = (shard.facts.drain(..))
        .map(|fact| (fact.key(), fact))
        .collect();
    for line in lines {
        let Some((key, fact)) = whole(line).as_deref().and_then(said_in) else {
            break;
        };
        match fact {
            Some(fact) => facts.insert(key, fact),
            None => facts.remove(&key),
        };
    }
    shard.facts = facts.into_values().collect();
}

/// What a line of a journal says.
fn said_in(line: &str) -> Option<(FactKey, Option<Fact>)> {
    let (checksum, said) = line.split_once(' ')?;
    if Version::parse(checksum)? != Version::of(said.as_bytes()) {
        return None;
    }
    match serde_json::from_str(said).ok()? {
        Line::Put(said) => {
            let fact = said.fact().ok()?;
            Some((fact.key(), Some(fact)))
        }
        Line::Gone(key) => Some((key.key().ok()?, None)),
    }
}

/// What a file holds, if its head is true, and its checksum.
fn shard(bytes: &[u8]) -> Result<(Version, SavedShard), String> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (head, body) = bytes.split_at(end.ok_or("it has no head")?);
    let body = &body[1..];
    let checksum = std::str::from_utf8(head)
        .ok()
        .and_then(|head| head.strip_prefix(HEAD))
        .ok_or("it is of another kind or version")?;
    let version = Version::of(body);
    if Version::parse(checksum) != Some(version) {
        return Err("its checksum does not fit".into());
    }
    Ok((version, facts(body)?))
}

/// What the body of a file says.
pub(crate) fn facts(body: &[u8]) -> Result<SavedShard, String> {
    let said: Shard = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let facts = said.facts.into_iter().map(Said::fact);
    Ok(SavedShard {
        revision: Revision(said.revision),
        facts: facts.collect::<Result<_, _>>()?,
    })
}

/// Forgets a shard; one that is not there is forgotten already.
pub(crate) fn remove(state: &Path, cluster: &ClusterId) {
    let _ = catamaran_local::atomic::remove(&path(state, cluster));
    let _ = catamaran_local::atomic::remove(&journal_path(state, cluster));
}

/// One line of a journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Put(Box<Said>),
    Gone(SaidKey),
}

/// The key of a fact as it lies on disk.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SaidKey {
    Mesh(String),
    Member(String),
    Export(String),
    Namespace(String),
    Gateway(String),
    Service(String, String),
    Slice(String, String),
}

impl SaidKey {
    fn of(fact: &FactKey) -> SaidKey {
        match fact {
            FactKey::Mesh(name) => SaidKey::Mesh(name.to_string()),
            FactKey::Member(name) => SaidKey::Member(name.to_string()),
            FactKey::Export(name) => SaidKey::Export(name.to_string()),
            FactKey::Namespace(name) => SaidKey::Namespace(name.to_string()),
            FactKey::Gateway(name) => SaidKey::Gateway(name.clone()),
            FactKey::Service(key) => {
                SaidKey::Service(key.namespace.to_string(), key.name.to_string())
            }
            FactKey::Slice(key) => SaidKey::Slice(key.namespace.to_string(), key.name.to_string()),
        }
    }

    fn key(self) -> Result<FactKey, String> {
        Ok(match self {
            SaidKey::Mesh(name) => FactKey::Mesh(named(model::MeshName::new(name))?),
            SaidKey::Member(name) => FactKey::Member(named(ClusterId::new(name))?),
            SaidKey::Export(name) => FactKey::Export(named(model::MeshName::new(name))?),
            SaidKey::Namespace(name) => FactKey::Namespace(named(model::Namespace::new(name))?),
            SaidKey::Gateway(name) => FactKey::Gateway(name),
            SaidKey::Service(namespace, name) => FactKey::Service(key(namespace, name)?),
            SaidKey::Slice(namespace, name) => FactKey::Slice(model::SliceKey {
                namespace: named(model::Namespace::new(namespace))?,
                name: named(model::SliceName::new(name))?,
            }),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Shard {
    revision: u64,
    facts: Vec<Said>,
}

/// A fact as it lies on disk.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Mesh(catamaran_local::object::MeshObject),
    Member(catamaran_local::object::ClusterObject),
    Export(catamaran_local::object::MeshExportObject),
    Namespace {
        name: String,
        inject: bool,
    },
    Gateway {
        name: String,
        network: Option<String>,
        address: IpAddr,
        port: u16,
    },
    Service(SaidService),
    Slice(SaidSlice),
}

#[derive(Serialize, Deserialize)]
struct SaidService {
    namespace: String,
    name: String,
    ports: Vec<SaidPort>,
    vip: Option<IpAddr>,
    cluster_local: bool,
}

#[derive(Serialize, Deserialize)]
struct SaidPort {
    number: u16,
    name: Option<String>,
    protocol: Protocol,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Protocol {
    Http,
    Http2,
    Grpc,
    Tcp,
    Tls,
    Detect,
}

#[derive(Serialize, Deserialize)]
struct SaidSlice {
    namespace: String,
    name: String,
    service: String,
    ports: Vec<(Option<String>, u16)>,
    endpoints: Vec<SaidEndpoint>,
}

#[derive(Serialize, Deserialize)]
struct SaidEndpoint {
    address: IpAddr,
    pod: Option<(String, String)>,
    service_account: String,
    labels: model::Labels,
    network: Option<String>,
    region: Option<String>,
    zone: Option<String>,
    health: Health,
    mutual: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    Ready,
    NotReady,
    Draining,
}

impl Said {
    fn of(fact: &Fact) -> Said {
        let text = |name: &dyn AsRef<str>| name.as_ref().to_owned();
        match fact {
            Fact::Mesh(mesh) => Said::Mesh(catamaran_local::object::MeshObject::of(mesh)),
            Fact::Member(member) => {
                Said::Member(catamaran_local::object::ClusterObject::of(member))
            }
            Fact::Export(export) => {
                Said::Export(catamaran_local::object::MeshExportObject::of(export))
            }
            Fact::Namespace(facts) => Said::Namespace {
                name: text(&facts.name),
                inject: facts.inject,
            },
            Fact::Gateway(gateway) => Said::Gateway {
                name: gateway.name.clone(),
                network: gateway.network.as_ref().map(|network| text(network)),
                address: gateway.at.address.ip(),
                port: gateway.at.port,
            },
            Fact::Service(service) => Said::Service(SaidService {
                namespace: text(&service.key.namespace),
                name: text(&service.key.name),
                ports: service.ports.iter().map(SaidPort::of).collect(),
                vip: service.vip,
                cluster_local: service.cluster_local,
            }),
            Fact::Slice(slice) => Said::Slice(SaidSlice {
                namespace: text(&slice.key.namespace),
                name: text(&slice.key.name),
                service: text(&slice.service.name),
                ports: (slice.ports.iter())
                    .map(|port| (port.name.as_ref().map(|name| text(name)), port.number))
                    .collect(),
                endpoints: slice.endpoints.iter().map(SaidEndpoint::of).collect(),
            }),
        }
    }

    fn fact(self) -> Result<Fact, String> {
        Ok(match self {
            Said::Mesh(mesh) => Fact::Mesh(mesh.spec()?),
            Said::Member(member) => Fact::Member(member.member()?),
            Said::Export(export) => Fact::Export(export.export()?),
            Said::Namespace { name, inject } => Fact::Namespace(model::NamespaceFacts {
                name: named(model::Namespace::new(name))?,
                inject,
            }),
            Said::Gateway {
                name,
                network,
                address,
                port,
            } => Fact::Gateway(model::NetworkGateway {
                name,
                network: network
                    .map(|name| named(model::NetworkId::new(name)))
                    .transpose()?,
                at: model::GatewayAddress {
                    address: usable(address)?,
                    port,
                },
            }),
            Said::Service(service) => Fact::Service(model::Service {
                key: key(service.namespace, service.name)?,
                ports: service
                    .ports
                    .into_iter()
                    .map(SaidPort::port)
                    .collect::<Result<_, _>>()?,
                vip: service.vip,
                cluster_local: service.cluster_local,
            }),
            Said::Slice(slice) => Fact::Slice(model::EndpointSlice {
                key: model::SliceKey {
                    namespace: named(model::Namespace::new(&slice.namespace))?,
                    name: named(model::SliceName::new(slice.name))?,
                },
                service: key(slice.namespace, slice.service)?,
                ports: (slice.ports.into_iter())
                    .map(|(name, number)| {
                        Ok(model::SlicePort {
                            name: port_name(name)?,
                            number,
                        })
                    })
                    .collect::<Result<_, String>>()?,
                endpoints: (slice.endpoints.into_iter())
                    .map(SaidEndpoint::endpoint)
                    .collect::<Result<_, _>>()?,
            }),
        })
    }
}

impl SaidPort {
    fn of(port: &model::ServicePort) -> SaidPort {
        SaidPort {
            number: port.number,
            name: port.name.as_ref().map(|name| name.as_str().to_owned()),
            protocol: match port.protocol {
                model::AppProtocol::Http => Protocol::Http,
                model::AppProtocol::Http2 => Protocol::Http2,
                model::AppProtocol::Grpc => Protocol::Grpc,
                model::AppProtocol::Tcp => Protocol::Tcp,
                model::AppProtocol::Tls => Protocol::Tls,
                model::AppProtocol::Detect => Protocol::Detect,
            },
        }
    }

    fn port(self) -> Result<model::ServicePort, String> {
        Ok(model::ServicePort {
            number: self.number,
            name: port_name(self.name)?,
            protocol: match self.protocol {
                Protocol::Http => model::AppProtocol::Http,
                Protocol::Http2 => model::AppProtocol::Http2,
                Protocol::Grpc => model::AppProtocol::Grpc,
                Protocol::Tcp => model::AppProtocol::Tcp,
                Protocol::Tls => model::AppProtocol::Tls,
                Protocol::Detect => model::AppProtocol::Detect,
            },
        })
    }
}

impl SaidEndpoint {
    fn of(endpoint: &model::Endpoint) -> SaidEndpoint {
        let pod = endpoint.workload.as_ref();
        SaidEndpoint {
            address: endpoint.address.ip(),
            pod: pod.map(|pod| {
                (
                    pod.namespace.as_str().to_owned(),
                    pod.pod.as_str().to_owned(),
                )
            }),
            service_account: endpoint.service_account.as_str().to_owned(),
            labels: endpoint.labels.clone(),
            network: endpoint
                .network
                .as_ref()
                .map(|name| name.as_str().to_owned()),
            region: endpoint
                .locality
                .region
                .as_ref()
                .map(|name| name.as_str().to_owned()),
            zone: endpoint
                .locality
                .zone
                .as_ref()
                .map(|name| name.as_str().to_owned()),
            health: match endpoint.health {
                model::Health::Ready => Health::Ready,
                model::Health::NotReady => Health::NotReady,
                model::Health::Draining => Health::Draining,
            },
            mutual: endpoint.tls == model::TlsMode::Mutual,
        }
    }

    fn endpoint(self) -> Result<model::Endpoint, String> {
        let pod = |(namespace, pod): (String, String)| {
            Ok::<_, String>(model::WorkloadKey {
                namespace: named(model::Namespace::new(namespace))?,
                pod: named(model::PodName::new(pod))?,
            })
        };
        Ok(model::Endpoint {
            address: usable(self.address)?,
            workload: self.pod.map(pod).transpose()?,
            service_account: named(model::ServiceAccount::new(self.service_account))?,
            labels: self.labels,
            network: self
                .network
                .map(|name| named(model::NetworkId::new(name)))
                .transpose()?,
            locality: model::Locality {
                region: self
                    .region
                    .map(|name| named(model::Region::new(name)))
                    .transpose()?,
                zone: self
                    .zone
                    .map(|name| named(model::Zone::new(name)))
                    .transpose()?,
            },
            health: match self.health {
                Health::Ready => model::Health::Ready,
                Health::NotReady => model::Health::NotReady,
                Health::Draining => model::Health::Draining,
            },
            tls: match self.mutual {
                true => model::TlsMode::Mutual,
                false => model::TlsMode::Plain,
            },
        })
    }
}

fn named<T>(name: Result<T, model::NameError>) -> Result<T, String> {
    name.map_err(|error| error.to_string())
}

fn port_name(name: Option<String>) -> Result<Option<model::PortName>, String> {
    name.map(|name| named(model::PortName::new(name)))
        .transpose()
}

fn key(namespace: String, name: String) -> Result<model::ServiceKey, String> {
    let namespace = named(model::Namespace::new(namespace))?;
    Ok(model::ServiceKey::new(
        namespace,
        named(model::ServiceName::new(name))?,
    ))
}

/// The watch checked it by its cluster's rules when it was saved, loopback among them.
fn usable(address: IpAddr) -> Result<model::EndpointAddress, String> {
    model::EndpointAddress::on_loopback(address).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
