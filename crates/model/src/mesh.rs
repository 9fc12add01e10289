//! What people want of an instance: the objects `Mesh` and `Cluster`, and what a namespace asks for.

use crate::{
    ClusterDomain, ClusterId, GatewayAddress, MeshName, Namespace, NetworkId, Region, TrustDomain,
    Version,
};

/// Whether a workload accepts plain text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MtlsMode {
    /// Only mesh mTLS.
    #[default]
    Strict,
    /// Mesh mTLS and plain text.
    Permissive,
}

/// How endpoints of several places are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailoverMode {
    /// All clusters in one set, by weight.
    #[default]
    Spread,
    /// The nearest locality first, others when it is gone.
    LocalFirst,
}

/// A mesh instance, as its `Mesh` object says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshSpec {
    /// Its name.
    pub name: MeshName,
    /// The region it stands in.
    pub region: Option<Region>,
    /// The version it runs.
    pub version: Option<Version>,
    /// The trust domain of its workloads.
    pub trust_domain: TrustDomain,
    /// The DNS suffix of services.
    pub domain: ClusterDomain,
    /// What workloads accept.
    pub mtls: MtlsMode,
    /// How endpoints of several places are used.
    pub failover: FailoverMode,
}

/// What an instance may do with a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberMode {
    /// It manages the cluster's data plane.
    Managed,
    /// It reads the cluster's services and endpoints, and nothing else.
    DiscoveryOnly,
}

/// How an instance reaches a cluster's API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Credential {
    /// A local cluster: its folder in the same fleet.
    Folder(String),
    /// A Kubernetes cluster: the name of a Secret with a kubeconfig.
    Secret(String),
}

/// A cluster of an instance, as its `Cluster` object says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which cluster.
    pub cluster: ClusterId,
    /// What the instance may do with it.
    pub mode: MemberMode,
    /// The network its endpoints are in, when they do not say otherwise.
    pub network: Option<NetworkId>,
    /// Whether the instance deploys an east-west gateway there (managed clusters only).
    pub gateway: bool,
    /// Gateway addresses given by hand; they take the place of discovered ones.
    pub gateway_addresses: Vec<GatewayAddress>,
    /// How it is reached.
    pub credential: Credential,
}

/// What a namespace says that matters to the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its name.
    pub name: Namespace,
    /// Whether its pods get a sidecar.
    pub inject: bool,
}
