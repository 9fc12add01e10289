//! A typed projection of a proxy: everything that may change the answer, and nothing else.

use std::net::IpAddr;

use catamaran_model::{ClusterId, Locality, Namespace, NetworkId, WorkloadKey};

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
