//! Facts of a cluster that is a folder: what its manifests and its node's status say, as `Change`s.
//!
//! A watch reads and never writes. It says a complete list first, and then what changes. A folder that cannot be reached is
//! lost, never empty.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use catamaran_model::{
    AppProtocol, ClusterId, Endpoint, EndpointAddress, EndpointSlice, GatewayAddress, Health,
    Locality, Namespace, NamespaceFacts, NetworkGateway, NetworkId, PodName, PortName, Region,
    Service, ServiceAccount, ServiceKey, ServiceName, ServicePort, SliceKey, SliceName, SlicePort,
    TlsMode, WorkloadKey, Zone,
};
use catamaran_registry::{Change, Fact, FactKey, Observed, Revision, Severity, WatchGeneration};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::manifest::{Folder, Holds, Problem};
use crate::object::{
    Kind, NETWORK_LABEL, Object, ObjectKey, PodObject, SERVICE_NAME_LABEL, ServiceObject,
    SliceObject, TLS_MODE_LABEL,
};

/// How often everything is looked at, whether or not the system reported a change.
pub const RESCAN: Duration = Duration::from_secs(5);
/// The same while the folder is lost, or while the system reports no changes at all.
pub const RESCAN_BLIND: Duration = Duration::from_secs(1);
/// Changes that come closer together than this are looked at together.
const QUIET: Duration = Duration::from_millis(20);
/// Changes wait no longer than this for the quiet.
const PATIENCE: Duration = Duration::from_millis(200);
/// When a file was changed while it was read, it is read again after this time.
const SETTLE: Duration = Duration::from_millis(60);
/// A first list waits this long for files that cannot be understood, for they may be half-written.
pub const LIST_PATIENCE: Duration = Duration::from_secs(3);

/// What is watched, and under which name.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The cluster's folder, with `cluster.json`, `objects/` and `status/` in it.
    pub folder: PathBuf,
    /// The name under which its facts are reported.
    pub cluster: ClusterId,
    /// Which life of the watch this is.
    pub generation: WatchGeneration,
    /// Whether its endpoints may be on loopback: only in a fleet with process isolation.
    pub loopback: bool,
}

/// Watches until the receiver of `out` is gone; dropping the future ends it too.
///
/// `problems` always has the present problems of this cluster's manifests, and is told only when they change.
pub async fn watch(
    what: Watched,
    out: mpsc::Sender<Change>,
    problems: tokio::sync::watch::Sender<Vec<Problem>>,
) {
    let (wake, mut woken) = mpsc::channel::<()>(1);
    let mut eyes = Eyes::open(&what.folder, wake.clone());
    let (cluster, generation) = (what.cluster.clone(), what.generation);
    let mut reader = Reader::new(what);
    let mut listing_since = Instant::now();
    loop {
        let patient = listing_since.elapsed() < LIST_PATIENCE;
        let looked = tokio::task::spawn_blocking(move || {
            let observed = reader.look(patient);
            (reader, observed)
        });
        let Ok((back, observed)) = looked.await else {
            return;
        };
        reader = back;
        for observed in observed {
            let change = Change {
                cluster: cluster.clone(),
                watch: generation,
                what: observed,
            };
            if out.send(change).await.is_err() {
                return;
            }
        }
        problems.send_if_modified(|known| {
            let differ = *known != reader.problems;
            if differ {
                known.clone_from(&reader.problems);
            }
            differ
        });
        if reader.lost || reader.listed {
            listing_since = Instant::now();
        }
        if eyes.is_none() || reader.lost {
            eyes = Eyes::open(&reader.what.folder, wake.clone());
        }
        let unlisted = !reader.lost && !reader.listed;
        let pause = match (
            reader.unsettled() || unlisted,
            reader.lost || eyes.is_none(),
        ) {
            (true, _) => SETTLE,
            (false, true) => RESCAN_BLIND,
            (false, false) => RESCAN,
        };
        tokio::select! {
            () = out.closed() => return,
            () = sleep_until(Instant::now() + pause) => {}
            _ = woken.recv() => quiet(&mut woken).await,
        }
    }
}

/// Waits until nothing was reported for a moment.
async fn quiet(woken: &mut mpsc::Receiver<()>) {
    let patience = Instant::now() + PATIENCE;
    loop {
        let moment = (Instant::now() + QUIET).min(patience);
        tokio::select! {
            () = sleep_until(moment) => return,
            _ = woken.recv() => {}
        }
    }
}

/// The system's reports of changes in a cluster's folder.
pub(crate) struct Eyes {
    _watcher: notify::RecommendedWatcher,
}

impl Eyes {
    /// `None` when the system reports nothing, because the folder is not there or a limit is reached.
    pub(crate) fn open(folder: &Path, wake: mpsc::Sender<()>) -> Option<Eyes> {
        let told = move |event: notify::Result<notify::Event>| {
            // Reading is no change, and this room reads a lot.
            let change = match event.map(|event| event.kind) {
                Ok(EventKind::Access(AccessKind::Close(AccessMode::Write))) => true,
                Ok(EventKind::Access(_)) => false,
                _ => true,
            };
            if change {
                let _ = wake.try_send(());
            }
        };
        let mut watcher = notify::recommended_watcher(told).ok()?;
        for part in ["objects", "status"] {
            let watched = watcher.watch(&folder.join(part), RecursiveMode::Recursive);
            if let Err(error) = watched {
                tracing::debug!(%error, folder = %folder.display(), "no reports of changes");
                return None;
            }
        }
        Some(Eyes { _watcher: watcher })
    }
}

/// A watch without its waiting: each look says what is new.
#[derive(Debug)]
pub struct Reader {
    what: Watched,
    objects: Folder,
    status: Folder,
    /// Pods that slices speak of: one whose own file is gone already may still be in a slice.
    pods: BTreeMap<ObjectKey, Arc<Object>>,
    said: BTreeMap<FactKey, Fact>,
    scans: u64,
    lost: bool,
    listed: bool,
    problems: Vec<Problem>,
}

impl Reader {
    /// A watch that has not looked yet.
    pub fn new(what: Watched) -> Reader {
        Reader {
            objects: Folder::new(&what.folder.join("objects"), Holds::Manifests).settled(),
            status: Folder::new(&what.folder.join("status"), Holds::Status),
            what,
            pods: BTreeMap::new(),
            said: BTreeMap::new(),
            scans: 0,
            lost: false,
            listed: false,
            problems: Vec::new(),
        }
    }

    /// What people should know of the manifests, as of the last look.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn unsettled(&self) -> bool {
        self.objects.unsettled() || self.status.unsettled()
    }

    /// Looks once: the changes since the last look, or a complete list when there is none to compare with. `patient`: a list
    /// with files that cannot be understood is not said yet, since it would say that what is in them does not exist.
    pub fn look(&mut self, patient: bool) -> Vec<Observed> {
        self.scans += 1;
        let changed = match self.scan() {
            Ok(changed) => changed,
            Err(reason) => {
                let first = !self.lost;
                self.lost = true;
                self.listed = false;
                return match first {
                    true => vec![Observed::Lost(reason)],
                    false => Vec::new(),
                };
            }
        };
        self.lost = false;
        if self.listed && !changed {
            return Vec::new();
        }
        let facts = self.join();
        let complete = self.objects.complete() && self.status.complete();
        if !self.listed && !complete && patient {
            return Vec::new();
        }
        let mut observed = Vec::new();
        if !self.listed {
            observed.push(Observed::Relisting);
            observed.extend(facts.values().cloned().map(Observed::Upsert));
            observed.push(Observed::Listed(Revision(self.scans)));
            self.listed = true;
        } else {
            for (key, fact) in &facts {
                if self.said.get(key) != Some(fact) {
                    observed.push(Observed::Upsert(fact.clone()));
                }
            }
            for key in self.said.keys() {
                if !facts.contains_key(key) {
                    observed.push(Observed::Delete(key.clone()));
                }
            }
        }
        self.said = facts;
        observed
    }

    /// Says whether any file says something else than at the last look.
    fn scan(&mut self) -> Result<bool, String> {
        let marker = self.what.folder.join("cluster.json");
        std::fs::metadata(&marker).map_err(|e| format!("{}: {e}", marker.display()))?;
        let objects = self.objects.scan().map_err(|e| e.to_string())?;
        let status = self.status.scan().map_err(|e| e.to_string())?;
        Ok(objects || status)
    }

    fn join(&mut self) -> BTreeMap<FactKey, Fact> {
        let objects = self.objects.objects();
        let status = self.status.objects();
        let mut pods: BTreeMap<ObjectKey, Arc<Object>> = (status.iter())
            .filter(|(key, _)| key.kind == Kind::Pod)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let mut joined = Joined {
            loopback: self.what.loopback,
            region: None,
            facts: BTreeMap::new(),
            refused: Vec::new(),
        };
        for object in objects.values() {
            if let Object::Mesh(mesh) = &**object
                && let Ok(spec) = mesh.spec()
            {
                joined.region = joined.region.or(spec.region.clone());
                joined.facts_from(Fact::Mesh(spec));
            }
        }
        for (key, object) in &objects {
            joined.manifest(key, object, &status);
        }
        for (key, object) in &status {
            match &**object {
                Object::EndpointSlice(slice) => {
                    for endpoint in &slice.endpoints {
                        let pod = pod_of(key, endpoint);
                        if let Some(old) = pod.as_ref().and_then(|pod| self.pods.get(pod)) {
                            pods.entry(pod.expect("it was looked up"))
                                .or_insert(old.clone());
                        }
                    }
                    joined.slice(key, slice, &pods);
                }
                Object::Service(service) => joined.gateway(key, service),
                _ => {}
            }
        }
        self.pods = pods;
        self.problems = self.objects.problems();
        self.problems.extend(self.status.problems());
        for (key, reason) in joined.refused {
            let place = self.status.place(&key).or_else(|| self.objects.place(&key));
            let (file, line) = match place {
                Some((path, line)) => {
                    let name = path.strip_prefix(&self.what.folder).unwrap_or(path);
                    (name.to_owned(), Some(line))
                }
                None => (PathBuf::new(), None),
            };
            self.problems.push(Problem {
                file,
                line,
                severity: Severity::Error,
                object: key.to_string(),
                reason,
            });
        }
        joined.facts
    }
}

fn pod_of(slice: &ObjectKey, endpoint: &crate::object::EndpointObject) -> Option<ObjectKey> {
    let target = endpoint
        .target_ref
        .as_ref()
        .filter(|target| target.kind == "Pod")?;
    Some(ObjectKey::new(Kind::Pod, &slice.namespace, &target.name))
}

struct Joined {
    loopback: bool,
    region: Option<Region>,
    facts: BTreeMap<FactKey, Fact>,
    refused: Vec<(ObjectKey, String)>,
}

impl Joined {
    fn facts_from(&mut self, fact: Fact) {
        self.facts.insert(fact.key(), fact);
    }

    fn manifest(
        &mut self,
        key: &ObjectKey,
        object: &Object,
        status: &BTreeMap<ObjectKey, Arc<Object>>,
    ) {
        match object {
            Object::Namespace(namespace) => self.facts_from(Fact::Namespace(NamespaceFacts {
                name: key.namespace.clone(),
                inject: namespace.inject(),
            })),
            Object::Service(service) => {
                let node_says = match status.get(key).map(|object| &**object) {
                    Some(Object::Service(service)) => service.spec.cluster_ip.as_deref(),
                    _ => None,
                };
                match read_service(key, service, node_says) {
                    Ok(Some(service)) => self.facts_from(Fact::Service(service)),
                    Ok(None) => {}
                    Err(reason) => self.refused.push((key.clone(), reason)),
                }
            }
            Object::Cluster(cluster) => match cluster.member() {
                Ok(member) => match self.gateways_allowed(&member.gateway_addresses) {
                    Ok(()) => self.facts_from(Fact::Member(member)),
                    Err(reason) => self.refused.push((key.clone(), reason)),
                },
                Err(reason) => self.refused.push((key.clone(), reason)),
            },
            Object::MeshExport(export) => match export.export() {
                Ok(export) => match self.gateways_allowed(&export.gateways) {
                    Ok(()) => self.facts_from(Fact::Export(export)),
                    Err(reason) => self.refused.push((key.clone(), reason)),
                },
                Err(reason) => self.refused.push((key.clone(), reason)),
            },
            _ => {}
        }
    }

    fn gateways_allowed(&self, gateways: &[GatewayAddress]) -> Result<(), String> {
        let loopback = self.loopback;
        gateways.iter().try_for_each(|gateway| {
            EndpointAddress::parse(&gateway.address.to_string(), loopback)
                .map(|_| ())
                .map_err(|e| e.to_string())
        })
    }

    fn slice(
        &mut self,
        key: &ObjectKey,
        slice: &SliceObject,
        pods: &BTreeMap<ObjectKey, Arc<Object>>,
    ) {
        let named = (slice.metadata.labels.get(SERVICE_NAME_LABEL))
            .ok_or_else(|| format!("it has no label {SERVICE_NAME_LABEL}"))
            .and_then(|name| ServiceName::new(name).map_err(|e| e.to_string()));
        let names = named.and_then(|service| {
            let name = SliceName::new(&key.name).map_err(|e| e.to_string())?;
            Ok((service, name))
        });
        let (service, name) = match names {
            Ok(names) => names,
            Err(reason) => return self.refused.push((key.clone(), reason)),
        };
        let mut endpoints = Vec::new();
        for endpoint in &slice.endpoints {
            let pod = pod_of(key, endpoint).and_then(|pod| pods.get(&pod));
            let Some(Object::Pod(pod)) = pod.map(|pod| &**pod) else {
                let reason = "an endpoint belongs to no pod that is known; it is left out".into();
                self.refused.push((key.clone(), reason));
                continue;
            };
            let read = endpoint.addresses.iter().map(|address| {
                let address =
                    EndpointAddress::parse(address, self.loopback).map_err(|e| e.to_string())?;
                read_endpoint(&key.namespace, address, endpoint, pod, self.region.as_ref())
            });
            for endpoint in read.collect::<Vec<_>>() {
                match endpoint {
                    Ok(endpoint) => endpoints.push(endpoint),
                    Err(reason) => self.refused.push((key.clone(), reason)),
                }
            }
        }
        let port = |port: &crate::object::SlicePortObject| {
            Some(SlicePort {
                name: match port.name.as_deref() {
                    None | Some("") => None,
                    Some(name) => Some(PortName::new(name).ok()?),
                },
                number: port.port,
            })
        };
        let tcp = |port: &&crate::object::SlicePortObject| carried(port.protocol.as_deref());
        self.facts_from(Fact::Slice(EndpointSlice {
            key: SliceKey {
                namespace: key.namespace.clone(),
                name,
            },
            service: ServiceKey::new(key.namespace.clone(), service),
            ports: slice.ports.iter().filter(tcp).filter_map(port).collect(),
            endpoints,
        }));
    }

    /// A Service with the network label and a port named `tls` is an east-west gateway (Istio's rule).
    fn gateway(&mut self, key: &ObjectKey, service: &ServiceObject) {
        let Some(network) = service.metadata.labels.get(NETWORK_LABEL) else {
            return;
        };
        let port = (service.spec.ports.iter())
            .find(|port| port.name.as_deref() == Some("tls"))
            .map_or(GatewayAddress::PORT, |port| port.port);
        let network = match NetworkId::new(network) {
            Ok(network) => network,
            Err(e) => return self.refused.push((key.clone(), e.to_string())),
        };
        let ingress = service.status.iter().flat_map(|s| &s.load_balancer.ingress);
        let ips = ingress.filter_map(|ingress| ingress.ip.clone());
        for (n, ip) in ips.collect::<Vec<_>>().iter().enumerate() {
            match EndpointAddress::parse(ip, self.loopback) {
                Ok(address) => self.facts_from(Fact::Gateway(NetworkGateway {
                    name: match n {
                        0 => key.name.clone(),
                        n => format!("{}/{n}", key.name),
                    },
                    network: Some(network.clone()),
                    at: GatewayAddress { address, port },
                })),
                Err(e) => self.refused.push((key.clone(), e.to_string())),
            }
        }
    }
}

/// UDP and SCTP ports are not carried by the mesh.
fn carried(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

/// `None` while the node has not given the Service its virtual address yet.
fn read_service(
    key: &ObjectKey,
    service: &ServiceObject,
    node_says: Option<&str>,
) -> Result<Option<Service>, String> {
    let vip = match (service.spec.headless(), node_says) {
        (true, _) => None,
        (false, None) => return Ok(None),
        (false, Some(ip)) => Some(
            EndpointAddress::parse(ip, false)
                .map_err(|e| e.to_string())?
                .ip(),
        ),
    };
    let mut ports = Vec::new();
    for port in &service.spec.ports {
        if !carried(port.protocol.as_deref()) {
            continue;
        }
        let name = (port.name.as_ref())
            .map(PortName::new)
            .transpose()
            .map_err(|e| e.to_string())?;
        ports.push(ServicePort {
            number: port.port,
            protocol: AppProtocol::of(port.name.as_deref(), port.app_protocol.as_deref()),
            name,
        });
    }
    let name = ServiceName::new(&key.name).map_err(|e| e.to_string())?;
    Ok(Some(Service {
        key: ServiceKey::new(key.namespace.clone(), name),
        ports,
        vip,
        cluster_local: cluster_local(key, service),
    }))
}

/// Services of the system stay in their cluster (DESIGN 3), and those that a person keeps.
fn cluster_local(key: &ObjectKey, service: &ServiceObject) -> bool {
    let system = matches!(key.namespace.as_str(), "kube-system" | "catamaran-system");
    let api = key.namespace.as_str() == "default" && key.name == "kubernetes";
    let kept = service.metadata.annotations.get(CLUSTER_LOCAL_ANNOTATION);
    system || api || kept.is_some_and(|value| value == "true")
}

/// The annotation by which a person keeps a Service to its cluster.
pub const CLUSTER_LOCAL_ANNOTATION: &str = "catamaran.dev/cluster-local";

fn read_endpoint(
    namespace: &Namespace,
    address: EndpointAddress,
    endpoint: &crate::object::EndpointObject,
    pod: &PodObject,
    region: Option<&Region>,
) -> Result<Endpoint, String> {
    let labels = &pod.metadata.labels;
    let label = |name: &str| labels.get(name).map(String::as_str);
    let zone = endpoint
        .zone
        .as_deref()
        .or(label("topology.kubernetes.io/zone"));
    let text = |e: catamaran_model::NameError| e.to_string();
    let conditions = &endpoint.conditions;
    Ok(Endpoint {
        address,
        workload: Some(WorkloadKey {
            namespace: namespace.clone(),
            pod: PodName::new(&pod.metadata.name).map_err(text)?,
        }),
        service_account: ServiceAccount::new(pod.spec.service_account()).map_err(text)?,
        network: label(NETWORK_LABEL)
            .map(NetworkId::new)
            .transpose()
            .map_err(text)?,
        locality: Locality {
            region: match label("topology.kubernetes.io/region") {
                Some(said) => Some(Region::new(said).map_err(text)?),
                None => region.cloned(),
            },
            zone: zone.map(Zone::new).transpose().map_err(text)?,
        },
        health: match (conditions.terminating, conditions.ready) {
            (Some(true), _) => Health::Draining,
            (_, Some(false)) => Health::NotReady,
            (_, Some(true) | None) => Health::Ready,
        },
        tls: match label(TLS_MODE_LABEL) {
            Some("istio") => TlsMode::Mutual,
            _ => TlsMode::Plain,
        },
        labels: labels.clone(),
    })
}

#[cfg(test)]
mod tests;
