//! A typed projection of a proxy: everything that may change the answer, and nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use catamaran_model::{AppProtocol, ClusterId, Locality, Namespace, NetworkId, WorkloadKey};

/// What a proxy is, as far as its configuration depends on it. It is the cache key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Audience {
    /// Sidecar or gateway.
    pub role: Role,
    /// The cluster it runs in.
    pub cluster: ClusterId,
    /// The network it is in; decided by the control plane from its cluster and workload, not by the proxy.
    pub network: Option<NetworkId>,
    /// Where it runs.
    pub locality: Locality,
    /// The namespace whose short names it understands.
    pub namespace: Namespace,
    /// What it can do.
    pub capability: Capability,
    /// How connections reach it.
    pub capture: Capture,
}

/// What the proxy is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It carries one workload's calls, in and out.
    Sidecar {
        /// The workload.
        workload: WorkloadKey,
        /// Where the workload's own program listens: 127.0.0.1 when connections are captured.
        app: IpAddr,
    },
    /// It lets other networks in to its own cluster's services, by SNI, without opening anything.
    Gateway,
}

/// What the proxy can do with what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Our own proxy.
    Catamaran,
    /// A stock Envoy.
    Envoy,
}

/// How connections reach the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capture {
    /// Redirected by the kernel: the original destination says what was meant.
    Redirect,
    /// The workload's program speaks to the proxy's HTTP port, and others to the workload's own port.
    Explicit,
}

/// What the endpoints of services depend on, beside the service: the same for all sidecars of one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointsFor {
    /// Whose cluster-local endpoints are seen.
    pub cluster: ClusterId,
    /// Whose addresses are used directly.
    pub network: Option<NetworkId>,
    /// From where nearness is measured; [`Nearness::None`] when all places are used alike.
    pub nearness: Nearness,
}

/// Whether endpoints are ordered by how near they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nearness {
    /// All in one set.
    None,
    /// The nearest first, seen from here.
    From(Locality),
}

/// What outbound clusters depend on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClustersFor {
    /// Which services are seen.
    pub cluster: ClusterId,
    /// Who reads them.
    pub reader: ClustersReader,
}

/// Who reads an outbound cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClustersReader {
    /// Our proxy, which tells gateways from workloads by their metadata.
    Catamaran,
    /// An Envoy, which judges all endpoints of a cluster alike: so it matters whether gateways are among them.
    Envoy {
        /// The network it is in.
        network: Option<NetworkId>,
    },
}

/// What outbound listeners depend on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenersFor {
    /// Which services are seen, and which of their virtual addresses is meant.
    pub cluster: ClusterId,
    /// What becomes of unknown destinations.
    pub capture: Capture,
}

/// What outbound routes depend on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutesFor {
    /// Which services are seen, and which of their virtual addresses is meant.
    pub cluster: ClusterId,
    /// Whose short names are understood.
    pub namespace: Namespace,
    /// What becomes of unknown hosts.
    pub capture: Capture,
    /// Retries of idempotent requests only are something our proxy can do.
    pub capability: Capability,
}

/// What the inbound side of a sidecar depends on: all copies of one workload hear the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundFor {
    /// The workload's own ports, with what services say is spoken there.
    pub ports: BTreeMap<u16, AppProtocol>,
    /// Where its program listens.
    pub app: IpAddr,
    /// How connections arrive.
    pub capture: Capture,
    /// Which application protocols are negotiated.
    pub capability: Capability,
}

/// What a gateway's configuration depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayFor {
    /// The cluster that it lets others in to.
    pub cluster: ClusterId,
    /// Its network; it leads to no other.
    pub network: Option<NetworkId>,
}
