//! A numbered, immutable picture of all clusters. Equal inputs give equal content, on every replica.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use catamaran_model::{
    AppProtocol, ClusterId, Endpoint, Fingerprint, GatewayAddress, MemberMode, MeshExport,
    MeshSpec, Namespace, NamespaceFacts, NetworkId, PortName, ServiceKey, Timestamp,
};

use crate::{Revision, ServiceChange, Services};

/// A picture of the mesh as one instance knows it.
///
/// Freshness, times and the number are for people; they never reach the bytes of a resource.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Counts up with each change of content.
    pub number: u64,
    /// The instance's settings; `None` until its managed cluster said them.
    pub mesh: Option<Arc<MeshSpec>>,
    /// What is known of each cluster, and how sure we are.
    pub clusters: BTreeMap<ClusterId, ClusterView>,
    /// The services, merged over all clusters by namespace sameness.
    pub services: Services,
    /// The gateways that lead into each network, in a stable order, with the cluster each stands in.
    pub gateways: BTreeMap<NetworkId, Vec<(ClusterId, GatewayAddress)>>,
    /// The intermediates that may speak for each cluster's workloads, from its `MeshExport`. A cluster that is missing here
    /// made no statement (an Istio peer): its issuers are unknown, not none.
    pub issuers: BTreeMap<ClusterId, Vec<Fingerprint>>,
    /// Compiled policy.
    pub policy: Arc<catamaran_policy::Policy>,
    /// What people should know: conflicts, held lists, missing gateways.
    pub problems: Arc<Vec<Problem>>,
}

impl Snapshot {
    /// A picture of nothing, number 0.
    pub fn empty() -> Snapshot {
        Snapshot {
            number: 0,
            mesh: None,
            clusters: BTreeMap::new(),
            services: Services::default(),
            gateways: BTreeMap::new(),
            issuers: BTreeMap::new(),
            policy: Arc::default(),
            problems: Arc::default(),
        }
    }

    /// The services that differ from those of an earlier picture of the same registry, gone ones among them. What did not
    /// change is shared, so this compares addresses, not content.
    pub fn services_changed_since<'a>(&'a self, earlier: &'a Snapshot) -> Vec<&'a ServiceKey> {
        let changes = self.services.changes_since(&earlier.services);
        changes.iter().map(ServiceChange::key).collect()
    }
}

/// One cluster in a snapshot.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// What this instance may do with it.
    pub mode: MemberMode,
    /// The network it is assigned to.
    pub network: Option<NetworkId>,
    /// How sure we are of its facts.
    pub freshness: Freshness,
    /// The revision of the last complete list, or event.
    pub revision: Revision,
    /// Its namespaces.
    pub namespaces: Arc<BTreeMap<Namespace, NamespaceFacts>>,
    /// What its primary says of itself.
    pub export: Option<MeshExport>,
    /// How many services and endpoints it has.
    pub services: usize,
    /// See `services`.
    pub endpoints: usize,
    /// A list is held back by the shrink guard since then.
    pub held_since: Option<Timestamp>,
}

/// How sure we are of a cluster's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing complete was ever known of it.
    Unknown,
    /// A complete list, and the watch is alive.
    Fresh,
    /// Discovery is broken, or the facts come from disk: they keep full weight.
    Stale {
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
}

/// A service over all clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedService {
    /// Namespace and name.
    pub key: ServiceKey,
    /// The union of all clusters' ports, by number. Where clusters disagree, those that share the service decide.
    pub ports: Vec<MergedPort>,
    /// Each cluster's own virtual address; a cluster without the service is missing here.
    pub vips: BTreeMap<ClusterId, Option<IpAddr>>,
    /// The clusters that keep the service to themselves.
    pub cluster_local: Vec<ClusterId>,
    /// The ports as the clusters of `cluster_local` have them.
    pub local_ports: BTreeMap<ClusterId, Vec<MergedPort>>,
    /// All endpoints, by cluster, then by address.
    pub endpoints: Vec<Arc<MergedEndpoint>>,
}

impl MergedService {
    /// The ports as callers in `cluster` know them.
    pub fn ports_seen_from(&self, cluster: &ClusterId) -> &[MergedPort] {
        self.local_ports.get(cluster).unwrap_or(&self.ports)
    }

    /// The endpoints that callers in `cluster` may use: its own only when it keeps the service to itself, else those of every
    /// cluster that does not.
    pub fn endpoints_seen_from(
        &self,
        cluster: &ClusterId,
    ) -> impl Iterator<Item = &Arc<MergedEndpoint>> {
        let alone = self.keeps(cluster);
        self.endpoints.iter().filter(move |endpoint| {
            if alone {
                endpoint.cluster == *cluster
            } else {
                !self.keeps(&endpoint.cluster)
            }
        })
    }

    /// Whether callers in `cluster` know the service at all.
    pub fn is_known_in(&self, cluster: &ClusterId) -> bool {
        self.keeps(cluster) || self.vips.keys().any(|other| !self.keeps(other))
    }

    /// Whether `cluster` keeps the service to itself.
    pub fn keeps(&self, cluster: &ClusterId) -> bool {
        self.cluster_local.contains(cluster)
    }
}

/// A port of a merged service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MergedPort {
    /// The Service port's number.
    pub number: u16,
    /// Its name.
    pub name: Option<PortName>,
    /// What is spoken on it.
    pub protocol: AppProtocol,
}

/// An endpoint with what the merge knows beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedEndpoint {
    /// The cluster it is in.
    pub cluster: ClusterId,
    /// Its network: its own label, else its cluster's.
    pub network: Option<NetworkId>,
    /// The endpoint's own port for each Service port number.
    pub ports: BTreeMap<u16, u16>,
    /// The endpoint as its cluster says it.
    pub endpoint: Endpoint,
}

impl MergedEndpoint {
    /// What endpoints of one cluster are ordered by.
    pub(crate) fn order(&self) -> impl Ord + '_ {
        (
            self.endpoint.address,
            self.endpoint.workload.as_ref(),
            &self.ports,
        )
    }
}

/// Something a person should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Of what kind.
    pub kind: ProblemKind,
    /// The cluster concerned.
    pub cluster: Option<ClusterId>,
    /// The object concerned, `Service default/helloworld`.
    pub object: String,
    /// What is wrong, and the next step.
    pub message: String,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something may not be as wanted.
    Warning,
}

/// The kinds of problems; each has a page under `docs/operate/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// Clusters disagree on a port.
    PortConflict,
    /// A complete list removes so much that it is held for confirmation.
    ShrinkHeld,
    /// Endpoints are in a network without a known gateway.
    NoGateway,
    /// An endpoint cannot be reached across networks, since it has no sidecar.
    PlainAcrossNetworks,
    /// Discovery of a cluster is broken.
    DiscoveryLost,
    /// Two clusters use one id, or one cluster has two names.
    DuplicateCluster,
    /// An object cannot be used.
    BadObject,
    /// Another primary has another root.
    RootMismatch,
    /// A resource was refused by a proxy and is withheld.
    Refused,
    /// A limit was reached.
    Limit,
}
