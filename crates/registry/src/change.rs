//! The only thing that enters: one observed fact, with its cluster and the watch that saw it.

use catamaran_model::{
    ClusterId, EndpointSlice, Member, MeshExport, MeshSpec, Namespace, NamespaceFacts,
    NetworkGateway, Service, ServiceKey, SliceKey,
};

/// One life of one watch. A replacement watch (rotated credential, restart) has a higher number; what an older one still
/// says is ignored once the newer one's list is complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchGeneration(pub u64);

/// How far a watch has come in its cluster's history: a Kubernetes resourceVersion, or a local folder's scan number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// One observed fact with its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it was observed.
    pub cluster: ClusterId,
    /// By which life of the watch.
    pub watch: WatchGeneration,
    /// What was observed.
    pub what: Observed,
}

/// What a watch can observe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// An object is there, in this form.
    Upsert(Fact),
    /// A live watch saw the object go.
    Delete(FactKey),
    /// The watch starts a new list: what follows up to `Listed` is that list.
    Relisting,
    /// The list that began with `Relisting` is complete: what is not in it does not exist at this revision.
    Listed(Revision),
    /// Discovery of this cluster is broken, for the reason given; nothing is known to be gone.
    Lost(String),
    /// The watch that was lost goes on from where it was, without a gap.
    Back,
    /// A person removed the cluster from this instance.
    Removed,
    /// A person confirmed that a held list is right.
    Confirmed,
}

/// An object of a cluster, as far as the mesh needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A namespace and what it asks for.
    Namespace(NamespaceFacts),
    /// A service.
    Service(Service),
    /// Some endpoints of a service.
    Slice(EndpointSlice),
    /// An east-west gateway seen in the cluster.
    Gateway(NetworkGateway),
    /// What another primary says of itself.
    Export(MeshExport),
    /// The instance's own settings; counts only from its managed cluster.
    Mesh(MeshSpec),
    /// A cluster of the instance; counts only from its managed cluster.
    Member(Member),
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKey {
    /// By name.
    Namespace(Namespace),
    /// By namespace and name.
    Service(ServiceKey),
    /// By namespace and name.
    Slice(SliceKey),
    /// By the gateway's name in its cluster.
    Gateway(String),
    /// By the mesh's name.
    Export(catamaran_model::MeshName),
    /// By the mesh's name.
    Mesh(catamaran_model::MeshName),
    /// By the member cluster's name.
    Member(ClusterId),
}

impl Fact {
    /// The key under which this object is replaced or deleted.
    pub fn key(&self) -> FactKey {
        match self {
            Fact::Namespace(facts) => FactKey::Namespace(facts.name.clone()),
            Fact::Service(service) => FactKey::Service(service.key.clone()),
            Fact::Slice(slice) => FactKey::Slice(slice.key.clone()),
            Fact::Gateway(gateway) => FactKey::Gateway(gateway.name.clone()),
            Fact::Export(export) => FactKey::Export(export.mesh.clone()),
            Fact::Mesh(mesh) => FactKey::Mesh(mesh.name.clone()),
            Fact::Member(member) => FactKey::Member(member.cluster.clone()),
        }
    }
}
