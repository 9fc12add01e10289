//! What we read of Kubernetes' objects: the fields that the mesh needs, and what is kept of them.
//!
//! A pod is ten kilobytes of JSON and a hundred bytes here. Fields that are not named are skipped while parsing, and what all
//! pods of a workload have in common is kept once.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use catamaran_model::{
    AppProtocol, ClusterId, Credential, EndpointAddress, GatewayAddress, Health, Labels, Member,
    MemberMode, MeshExport, MeshSpec, Namespace, NamespaceFacts, NetworkGateway, NetworkId,
    PodName, PortName, Region, Service, ServiceAccount, ServiceKey, ServiceName, ServicePort,
    SliceKey, SliceName, SlicePort, SpiffeId, TlsMode, Zone,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::crd;
use crate::remote::RemoteSecret;

/// The pod label that tells its network, and the Service label that makes it a gateway into one (Istio's).
pub(crate) const NETWORK_LABEL: &str = "topology.istio.io/network";
/// The label that says how a pod is spoken to (Istio's); `istio` is mesh mTLS.
pub(crate) const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
/// The label that leads from a slice to its service.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The Service label that tells a gateway's port (Istio's).
pub(crate) const GATEWAY_PORT_LABEL: &str = "networking.istio.io/gatewayPort";
/// The annotation by which a person keeps a Service to its cluster.
pub const CLUSTER_LOCAL_ANNOTATION: &str = "catamaran.dev/cluster-local";
/// The labels that ask for sidecars: ours wins over Istio's when both are there.
pub const INJECTION_LABELS: [&str; 2] = ["catamaran.dev/injection", "istio-injection"];
/// Where a node or pod stands.
const REGION_LABEL: &str = "topology.kubernetes.io/region";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Namespace and name of an object; a cluster's own objects have no namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: Option<Namespace>,
    pub(crate) name: Box<str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An object that cannot be understood.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) key: Option<Key>,
    pub(crate) reason: String,
}

/// `metadata`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: Box<str>,
    pub(crate) namespace: Option<Box<str>>,
    pub(crate) uid: Box<str>,
    pub(crate) resource_version: String,
    pub(crate) labels: Labels,
    pub(crate) annotations: Annotations,
}

impl Meta {
    pub(crate) fn key(&self) -> Result<Key, String> {
        if self.name.is_empty() {
            return Err("metadata.name is missing".into());
        }
        Ok(Key {
            namespace: (self.namespace.as_deref())
                .map(Namespace::new)
                .transpose()
                .map_err(text)?,
            name: self.name.clone(),
        })
    }

    fn namespace(&self) -> Result<Namespace, String> {
        Namespace::new(self.namespace.as_deref().unwrap_or("default")).map_err(text)
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    fn in_system_namespace(&self) -> Result<(), String> {
        match self.namespace.as_deref() {
            Some(SpiffeId::SYSTEM_NAMESPACE) => Ok(()),
            _ => Err(format!(
                "it belongs into the namespace {}",
                SpiffeId::SYSTEM_NAMESPACE
            )),
        }
    }
}

/// The annotations we know; the others, which can be large, are not kept even for a moment.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    cluster_local: bool,
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Known {
            #[serde(rename = "catamaran.dev/cluster-local")]
            cluster_local: Option<String>,
        }
        let known = Option::<Known>::deserialize(from)?.unwrap_or_default();
        Ok(Annotations {
            cluster_local: known.cluster_local.as_deref() == Some("true"),
        })
    }
}

/// The kinds of objects we read. Their order is that in which reasons are told and facts are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Our own `Mesh`, of a managed cluster.
    Mesh,
    /// Our own `Cluster`, of a managed cluster.
    Cluster,
    /// Secrets with kubeconfigs of other clusters (Istio's layout) in our namespace of a managed cluster.
    RemoteSecret,
    /// The same in Istio's namespace.
    IstioSecret,
    /// `v1 Namespace`
    Namespace,
    /// Our own `MeshExport`.
    MeshExport,
    /// `v1 Node`, for regions and zones; a credential without the right to it is fine.
    Node,
    /// `v1 Service`
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`
    EndpointSlice,
    /// `v1 Pod`
    Pod,
}

impl Kind {
    /// As people write the kind when they speak of several.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Kind::Mesh => "meshes.catamaran.dev",
            Kind::Cluster => "clusters.catamaran.dev",
            Kind::RemoteSecret => "remote secrets",
            Kind::IstioSecret => "remote secrets of Istio",
            Kind::Namespace => "namespaces",
            Kind::MeshExport => "meshexports.catamaran.dev",
            Kind::Node => "nodes",
            Kind::Service => "services",
            Kind::EndpointSlice => "endpointslices",
            Kind::Pod => "pods",
        }
    }

    /// As manifests write it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Mesh => "Mesh",
            Kind::Cluster => "Cluster",
            Kind::RemoteSecret | Kind::IstioSecret => "Secret",
            Kind::Namespace => "Namespace",
            Kind::MeshExport => "MeshExport",
            Kind::Node => "Node",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Pod => "Pod",
        }
    }
}

/// A kind of object that can be listed and watched.
pub(crate) trait Read: DeserializeOwned + Send + 'static {
    /// Whether labels are all we want of it.
    const METADATA_ONLY: bool = false;
    /// What is kept of an object.
    type Kept: Send + 'static;

    fn meta(&self) -> &Meta;
    /// What is kept; `None` for an object that means nothing to the mesh; or why it cannot be used. `notes` takes up why a
    /// part of it is left out.
    fn keep(self, notes: &mut Vec<String>) -> Result<Option<Self::Kept>, String>;
}

/// An object as it is kept.
pub(crate) enum Kept {
    Mesh(MeshSpec),
    Cluster(Member),
    RemoteSecret(RemoteSecret),
    Namespace(SeenNamespace),
    MeshExport(MeshExport),
    Node(SeenNode),
    Service(SeenService),
    EndpointSlice(SeenSlice),
    Pod(PodFacts),
}

macro_rules! kept {
    ($($kept:ty => $variant:ident;)*) => {$(
        impl From<$kept> for Kept {
            fn from(kept: $kept) -> Kept {
                Kept::$variant(kept)
            }
        }
    )*};
}

kept! {
    MeshSpec => Mesh;
    Member => Cluster;
    RemoteSecret => RemoteSecret;
    SeenNamespace => Namespace;
    MeshExport => MeshExport;
    SeenNode => Node;
    SeenService => Service;
    SeenSlice => EndpointSlice;
    PodFacts => Pod;
}

/// A namespace, and which one it is over all clusters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeenNamespace {
    pub(crate) facts: NamespaceFacts,
    pub(crate) uid: Box<str>,
}

#[derive(Deserialize)]
pub(crate) struct RawNamespace {
    metadata: Meta,
}

impl Read for RawNamespace {
    const METADATA_ONLY: bool = true;
    type Kept = SeenNamespace;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self, _: &mut Vec<String>) -> Result<Option<SeenNamespace>, String> {
        let meta = self.metadata;
        let inject = INJECTION_LABELS.iter().find_map(|label| meta.label(label));
        Ok(Some(SeenNamespace {
            facts: NamespaceFacts {
                name: Namespace::new(&*meta.name).map_err(text)?,
                inject: inject == Some("enabled"),
            },
            uid: meta.uid,
        }))
    }
}

/// Where a node stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeenNode {
    pub(crate) region: Option<Region>,
    pub(crate) zone: Option<Zone>,
}

#[derive(Deserialize)]
pub(crate) struct RawNode {
    metadata: Meta,
}

impl Read for RawNode {
    const METADATA_ONLY: bool = true;
    type Kept = SeenNode;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self, _: &mut Vec<String>) -> Result<Option<SeenNode>, String> {
        // Labels of nodes are not all legal names of ours; one that is none says nothing.
        Ok(Some(SeenNode {
            region: (self.metadata.label(REGION_LABEL)).and_then(|said| Region::new(said).ok()),
            zone: (self.metadata.label(ZONE_LABEL)).and_then(|said| Zone::new(said).ok()),
        }))
    }
}

/// A Service, and the gateways that it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeenService {
    /// `None` for one without an address of its own to balance over (ExternalName).
    pub(crate) service: Option<Service>,
    pub(crate) gateway: Option<Box<SeenGateway>>,
}

/// An east-west gateway, whose addresses may be names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeenGateway {
    pub(crate) name: String,
    pub(crate) network: NetworkId,
    pub(crate) port: u16,
    pub(crate) hosts: Vec<GatewayHost>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GatewayHost {
    Address(EndpointAddress),
    Name(String),
}

impl SeenGateway {
    /// The gateways it stands for, when names lead to `addresses`.
    pub(crate) fn gateways(
        &self,
        addresses: impl Fn(&str) -> Vec<EndpointAddress>,
    ) -> Vec<NetworkGateway> {
        let mut all: Vec<EndpointAddress> = Vec::new();
        for host in &self.hosts {
            match host {
                GatewayHost::Address(address) => all.push(*address),
                GatewayHost::Name(name) => all.extend(addresses(name)),
            }
        }
        let named = |(n, address)| NetworkGateway {
            name: match n {
                0 => self.name.clone(),
                n => format!("{}/{n}", self.name),
            },
            network: Some(self.network.clone()),
            at: GatewayAddress {
                address,
                port: self.port,
            },
        };
        all.into_iter().enumerate().map(named).collect()
    }
}

#[derive(Deserialize)]
pub(crate) struct RawService {
    metadata: Meta,
    #[serde(default)]
    spec: RawServiceSpec,
    #[serde(default)]
    status: RawServiceStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    ports: Option<Vec<RawPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPort {
    name: Option<String>,
    port: u16,
    protocol: Option<String>,
    app_protocol: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawServiceStatus {
    load_balancer: Option<RawLoadBalancer>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawLoadBalancer {
    ingress: Option<Vec<RawIngress>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawIngress {
    ip: Option<String>,
    hostname: Option<String>,
}

impl Read for RawService {
    type Kept = SeenService;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self, notes: &mut Vec<String>) -> Result<Option<SeenService>, String> {
        let gateway = self.gateway(notes)?.map(Box::new);
        let service = self.service()?;
        Ok((service.is_some() || gateway.is_some()).then_some(SeenService { service, gateway }))
    }
}

/// UDP and SCTP ports are not carried by the mesh.
fn carried(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

impl RawService {
    fn service(&self) -> Result<Option<Service>, String> {
        let (meta, spec) = (&self.metadata, &self.spec);
        if spec.kind.as_deref() == Some("ExternalName") {
            return Ok(None);
        }
        let vip = match spec.cluster_ip.as_deref() {
            Some("None") => None,
            // The API server gives every Service its address before anybody sees it.
            None | Some("") => return Ok(None),
            Some(ip) => Some(EndpointAddress::parse(ip, false).map_err(text)?.ip()),
        };
        let mut ports = Vec::new();
        let carried = |port: &&RawPort| carried(port.protocol.as_deref());
        for port in spec.ports.iter().flatten().filter(carried) {
            ports.push(ServicePort {
                number: port.port,
                protocol: AppProtocol::of(port.name.as_deref(), port.app_protocol.as_deref()),
                name: (port.name.as_deref())
                    .filter(|name| !name.is_empty())
                    .map(PortName::new)
                    .transpose()
                    .map_err(text)?,
            });
        }
        let namespace = meta.namespace()?;
        let name = ServiceName::new(&*meta.name).map_err(text)?;
        Ok(Some(Service {
            cluster_local: cluster_local(&namespace, &name) || meta.annotations.cluster_local,
            key: ServiceKey::new(namespace, name),
            ports,
            vip,
        }))
    }

    /// A Service with the network label is an east-west gateway (Istio's rule).
    fn gateway(&self, notes: &mut Vec<String>) -> Result<Option<SeenGateway>, String> {
        let meta = &self.metadata;
        let Some(network) = meta.label(NETWORK_LABEL) else {
            return Ok(None);
        };
        let network = NetworkId::new(network).map_err(text)?;
        let named = meta.label(GATEWAY_PORT_LABEL).and_then(|n| n.parse().ok());
        let by_name = || {
            let mut ports = self.spec.ports.iter().flatten();
            let tls = ports.find(|port| port.name.as_deref() == Some("tls"));
            tls.map(|port| port.port)
        };
        let port = named.or_else(by_name).unwrap_or(GatewayAddress::PORT);
        let mut hosts = Vec::new();
        let mut add = |ip: &str| match EndpointAddress::parse(ip, false) {
            Ok(address) => hosts.push(GatewayHost::Address(address)),
            Err(error) => notes.push(error.to_string()),
        };
        for ip in self.spec.external_ips.iter().flatten() {
            add(ip);
        }
        let balancer = self.status.load_balancer.as_ref();
        let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
        let mut names = Vec::new();
        for ingress in ingress.into_iter().flatten() {
            match (&ingress.ip, &ingress.hostname) {
                (Some(ip), _) if !ip.is_empty() => add(ip),
                (_, Some(name)) if !name.is_empty() => names.push(GatewayHost::Name(name.clone())),
                _ => {}
            }
        }
        hosts.append(&mut names);
        // Our own gateways are in our namespace and go by their name; those of others must not collide with them.
        let name = match meta.namespace.as_deref() {
            Some(SpiffeId::SYSTEM_NAMESPACE) | None => meta.name.to_string(),
            Some(namespace) => format!("{}.{namespace}", meta.name),
        };
        Ok(Some(SeenGateway {
            name,
            network,
            port,
            hosts,
        }))
    }
}

/// Services of the system and of control planes stay in their cluster.
fn cluster_local(namespace: &Namespace, name: &ServiceName) -> bool {
    match namespace.as_str() {
        "kube-system" | SpiffeId::SYSTEM_NAMESPACE | "istio-system" => true,
        "default" => name.as_str() == "kubernetes",
        _ => false,
    }
}

/// An EndpointSlice whose endpoints still wait for their pods' facts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeenSlice {
    pub(crate) key: SliceKey,
    pub(crate) service: ServiceKey,
    pub(crate) ports: Box<[SlicePort]>,
    pub(crate) endpoints: Box<[SeenEndpoint]>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeenEndpoint {
    pub(crate) address: EndpointAddress,
    /// The pod, in the slice's own namespace.
    pub(crate) pod: Option<PodName>,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) zone: Option<Zone>,
    pub(crate) health: Health,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawSlice {
    metadata: Meta,
    #[serde(default)]
    address_type: Option<Box<str>>,
    #[serde(default)]
    ports: Option<Vec<RawSlicePort>>,
    #[serde(default)]
    endpoints: Option<Vec<RawEndpoint>>,
}

#[derive(Deserialize)]
struct RawSlicePort {
    name: Option<String>,
    port: Option<u16>,
    protocol: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Option<RawConditions>,
    target_ref: Option<RawTarget>,
    node_name: Option<Box<str>>,
    zone: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawConditions {
    ready: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct RawTarget {
    #[serde(default)]
    kind: Box<str>,
    #[serde(default)]
    name: Box<str>,
}

impl Read for RawSlice {
    type Kept = SeenSlice;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self, notes: &mut Vec<String>) -> Result<Option<SeenSlice>, String> {
        let meta = &self.metadata;
        // Slices of other purposes, and those that hold names, are no business of a mesh.
        let Some(service) = meta.label(SERVICE_NAME_LABEL) else {
            return Ok(None);
        };
        if self.address_type.as_deref() == Some("FQDN") {
            return Ok(None);
        }
        let namespace = meta.namespace()?;
        let service = ServiceName::new(service).map_err(text)?;
        let mut endpoints: Vec<SeenEndpoint> = Vec::new();
        for raw in self.endpoints.into_iter().flatten() {
            let conditions = raw.conditions.unwrap_or_default();
            let health = match (conditions.terminating, conditions.ready) {
                (Some(true), _) => Health::Draining,
                (_, Some(false)) => Health::NotReady,
                (_, Some(true) | None) => Health::Ready,
            };
            let pod = match &raw.target_ref {
                Some(target) if &*target.kind == "Pod" => {
                    Some(PodName::new(&*target.name).map_err(text)?)
                }
                _ => None,
            };
            // Neighbours share the text of their zone and node.
            let zone = match &raw.zone {
                Some(said) => {
                    let same = |e: &SeenEndpoint| e.zone.clone().filter(|z| z.as_str() == said);
                    match endpoints.iter().rev().find_map(same) {
                        Some(zone) => Some(zone),
                        None => Some(Zone::new(said).map_err(text)?),
                    }
                }
                None => None,
            };
            let node = raw.node_name.map(|said| {
                let same = |e: &SeenEndpoint| e.node.clone().filter(|node| **node == *said);
                let known = endpoints.iter().rev().find_map(same);
                known.unwrap_or_else(|| said.into())
            });
            for address in &raw.addresses {
                let address = match EndpointAddress::parse(address, false) {
                    Ok(address) => address,
                    Err(error) => {
                        notes.push(error.to_string());
                        continue;
                    }
                };
                endpoints.push(SeenEndpoint {
                    address,
                    pod: pod.clone(),
                    node: node.clone(),
                    zone: zone.clone(),
                    health,
                });
            }
        }
        let mut ports = Vec::new();
        for port in self.ports.into_iter().flatten() {
            let (Some(number), true) = (port.port, carried(port.protocol.as_deref())) else {
                continue;
            };
            let name = port.name.filter(|name| !name.is_empty());
            ports.push(SlicePort {
                name: name.map(PortName::new).transpose().map_err(text)?,
                number,
            });
        }
        Ok(Some(SeenSlice {
            key: SliceKey {
                namespace: namespace.clone(),
                name: SliceName::new(&*meta.name).map_err(text)?,
            },
            service: ServiceKey::new(namespace, service),
            ports: ports.into(),
            endpoints: endpoints.into(),
        }))
    }
}

/// What all pods of a workload have in common, as far as the mesh asks.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodFacts {
    pub(crate) service_account: ServiceAccount,
    pub(crate) network: Option<NetworkId>,
    pub(crate) region: Option<Region>,
    pub(crate) zone: Option<Zone>,
    pub(crate) labels: Labels,
}

impl PodFacts {
    pub(crate) fn tls(&self) -> TlsMode {
        match self.labels.get(TLS_MODE_LABEL).map(String::as_str) {
            Some("istio") => TlsMode::Mutual,
            _ => TlsMode::Plain,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct RawPod {
    metadata: Meta,
    #[serde(default)]
    spec: RawPodSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPodSpec {
    service_account_name: Option<Box<str>>,
}

impl Read for RawPod {
    type Kept = PodFacts;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self, _: &mut Vec<String>) -> Result<Option<PodFacts>, String> {
        let meta = self.metadata;
        let account = self.spec.service_account_name;
        let account = account.as_deref().filter(|name| !name.is_empty());
        Ok(Some(PodFacts {
            service_account: ServiceAccount::new(account.unwrap_or("default")).map_err(text)?,
            network: (meta.label(NETWORK_LABEL))
                .map(NetworkId::new)
                .transpose()
                .map_err(text)?,
            region: (meta.label(REGION_LABEL))
                .map(Region::new)
                .transpose()
                .map_err(text)?,
            zone: (meta.label(ZONE_LABEL))
                .map(Zone::new)
                .transpose()
                .map_err(text)?,
            labels: meta.labels,
        }))
    }
}

#[derive(Deserialize)]
pub(crate) struct RawMesh {
    metadata: Meta,
    #[serde(default)]
    spec: crd::MeshFields,
}

impl Read for RawMesh {
    type Kept = MeshSpec;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self, _: &mut Vec<String>) -> Result<Option<MeshSpec>, String> {
        self.metadata.in_system_namespace()?;
        self.spec.spec(&self.metadata.name).map(Some)
    }
}

#[derive(Deserialize)]
pub(crate) struct RawCluster {
    metadata: Meta,
    spec: crd::ClusterFields,
}

impl Read for RawCluster {
    type Kept = Member;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self, _: &mut Vec<String>) -> Result<Option<Member>, String> {
        self.metadata.in_system_namespace()?;
        self.spec.member(&self.metadata.name).map(Some)
    }
}

#[derive(Deserialize)]
pub(crate) struct RawExport {
    metadata: Meta,
    spec: crd::ExportFields,
}

impl Read for RawExport {
    type Kept = MeshExport;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self, _: &mut Vec<String>) -> Result<Option<MeshExport>, String> {
        self.metadata.in_system_namespace()?;
        self.spec.export(&self.metadata.name).map(Some)
    }
}

#[derive(Deserialize)]
pub(crate) struct RawSecret {
    metadata: Meta,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

impl Read for RawSecret {
    type Kept = RemoteSecret;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self, notes: &mut Vec<String>) -> Result<Option<RemoteSecret>, String> {
        let namespace = self.metadata.namespace()?;
        Ok(Some(RemoteSecret::of(
            namespace,
            &self.metadata.name,
            self.data.unwrap_or_default(),
            notes,
        )))
    }
}

/// The member that a kubeconfig in a remote secret stands for.
pub(crate) fn member_of(secret: &RemoteSecret, cluster: &ClusterId) -> Member {
    Member {
        cluster: cluster.clone(),
        mode: MemberMode::DiscoveryOnly,
        network: None,
        gateway: false,
        gateway_addresses: Vec::new(),
        credential: Credential::Secret(secret.place()),
    }
}

/// Orders revisions as numbers, which they are in every API server there is.
pub(crate) fn newer(one: &str, other: &str) -> Ordering {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    number(one).cmp(&number(other))
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
