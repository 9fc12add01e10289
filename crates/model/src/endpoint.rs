//! Endpoints as one cluster says them.

use std::collections::BTreeMap;
use std::fmt;

use crate::{
    EndpointAddress, Namespace, NetworkId, PodName, PortName, Region, ServiceAccount, ServiceKey,
    SliceName, Zone,
};

/// Labels of a workload.
pub type Labels = BTreeMap<String, String>;

/// Where a workload runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// `topology.kubernetes.io/region`
    pub region: Option<Region>,
    /// `topology.kubernetes.io/zone`
    pub zone: Option<Zone>,
}

/// Whether an endpoint may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Its cluster says that it is ready.
    Ready,
    /// Its cluster says that it is not ready.
    NotReady,
    /// It is terminating: no new work, old work may end.
    Draining,
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsMode {
    /// It has a sidecar: mesh mTLS (`security.istio.io/tlsMode: istio`).
    Mutual,
    /// It has none: plain text, and only within its network.
    Plain,
}

/// Namespace and name of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey {
    /// The namespace.
    pub namespace: Namespace,
    /// The pod's name.
    pub pod: PodName,
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.pod)
    }
}

/// One workload behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// The pod it is, when it is one.
    pub workload: Option<WorkloadKey>,
    /// Who it is.
    pub service_account: ServiceAccount,
    /// Its labels, `version` among them.
    pub labels: Labels,
    /// Its own network label (`topology.istio.io/network`), which wins over its cluster's.
    pub network: Option<NetworkId>,
    /// Where it runs.
    pub locality: Locality,
    /// Whether it may be chosen.
    pub health: Health,
    /// How it is spoken to.
    pub tls: TlsMode,
}

/// A port of an endpoint slice: the number at which its endpoints listen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlicePort {
    /// Equal to the Service port's name.
    pub name: Option<PortName>,
    /// The endpoints' own port number.
    pub number: u16,
}

/// Namespace and name of an endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey {
    /// The namespace.
    pub namespace: Namespace,
    /// The slice's name.
    pub name: SliceName,
}

/// Some of the endpoints of a service; a service may have several slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Which slice this is.
    pub key: SliceKey,
    /// The service whose endpoints it holds.
    pub service: ServiceKey,
    /// The ports all its endpoints listen on.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}
