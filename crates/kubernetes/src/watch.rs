//! Facts of a cluster with an API server, as `Change`s: exactly those that a local cluster with the same objects says.
//!
//! A watch reads and never writes. It says a complete list first, and then what changes. An API server that cannot be reached,
//! or does not want us, makes its cluster lost, never empty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_model::{ClusterId, EndpointAddress, Namespace, SpiffeId};
use catamaran_registry::{Change, Problem, WatchGeneration};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::connect::Access;
use crate::follow::{Pace, Place, follow};
use crate::join::{Join, Say, Told};
use crate::kubeconfig::Allowed;
use crate::remote::Credentials;
use crate::rights::{self, Role};
use crate::seen::{
    Kind, RawCluster, RawExport, RawMesh, RawNamespace, RawNode, RawPod, RawSecret, RawService,
    RawSlice,
};

/// Messages between the watches of the kinds and what joins them.
const WAITING: usize = 256;

/// What is watched, and under which name.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The name under which its facts are reported.
    pub cluster: ClusterId,
    /// Which life of the watch this is.
    pub generation: WatchGeneration,
    /// The way to its API server.
    pub access: Access,
    /// What is read there.
    pub reads: Reads,
    /// How patient the watch is.
    pub pace: Pace,
}

/// What is read of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reads {
    /// Services, endpoints, and the one word between primaries.
    DiscoveryOnly,
    /// The same, of a cluster that the instance manages from another.
    FromAfar,
    /// The same, and our own configuration with the credentials of other clusters.
    Managed {
        /// The namespace where Istio keeps its remote secrets, when they count.
        istio: Option<Namespace>,
        /// What kubeconfigs in secrets may do.
        allowed: Allowed,
    },
}

/// What a watch knows beside the facts. It is told only when it changes.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// The UID of the cluster's namespace `kube-system`, once it is known.
    pub uid: Option<String>,
    /// What people should know of its objects.
    pub problems: Vec<Problem>,
    /// That its API server does not accept the credential, or does not let it read: what it said.
    pub refused: Option<String>,
    /// The credentials that a managed cluster's secrets hold for other clusters.
    pub credentials: Arc<Credentials>,
}

/// Watches until the receiver of `out` is gone; dropping the future ends it too.
pub async fn watch(what: Watched, out: mpsc::Sender<Change>, beside: watch::Sender<Beside>) {
    let (told, mut hearing) = mpsc::channel(WAITING);
    let mut tasks = JoinSet::new();
    let kinds = start(&what, &told, &mut tasks);
    let mut join = Join::new(what.cluster.clone(), kinds);
    let mut credentials = Credentials::default();
    let mut lookups = tokio::time::interval(what.pace.names);
    lookups.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looked_up = BTreeSet::new();
    let role = match what.reads {
        Reads::DiscoveryOnly => Some(Role::Reader),
        Reads::FromAfar => Some(Role::Manager),
        Reads::Managed { .. } => None,
    };
    let mut reviewed = role.is_none();
    loop {
        let said = tokio::select! {
            () = out.closed() => return,
            said = hearing.recv() => said,
            _ = lookups.tick() => {
                looked_up = lookup(&join, &told, &mut tasks);
                continue;
            }
        };
        // We hold a sender ourselves.
        let Some(said) = said else { return };
        let single = !matches!(said, Told::Put(..) | Told::Gone(..) | Told::Begins(_));
        let change = |observed| Change {
            cluster: what.cluster.clone(),
            watch: what.generation,
            what: observed,
        };
        for say in join.take(said) {
            match say {
                Say::One(observed) => {
                    if out.send(change(observed)).await.is_err() {
                        return;
                    }
                }
                Say::Whole => {
                    // Nothing waits for what the credential may do beside that.
                    if let (false, Some(role)) = (std::mem::replace(&mut reviewed, true), role) {
                        let access = what.access.clone();
                        tasks.spawn(review(access, role, what.pace, told.clone()));
                    }
                    for observed in join.whole() {
                        if out.send(change(observed)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
        if let (Reads::Managed { allowed, .. }, Some(secrets)) =
            (&what.reads, join.changed_secrets())
            && credentials.update(secrets, *allowed)
        {
            let shared = Arc::new(credentials.clone());
            beside.send_modify(|beside| beside.credentials = shared);
        }
        // While a list comes in there is nothing to tell of it object by object.
        if (single || hearing.is_empty()) && join.beside_changed() {
            tell(&join, &credentials, &beside);
            if join.names().iter().any(|name| !looked_up.contains(name)) {
                looked_up = lookup(&join, &told, &mut tasks);
            }
        }
        while tasks.try_join_next().is_some() {}
    }
}

fn tell(join: &Join, credentials: &Credentials, beside: &watch::Sender<Beside>) {
    let uid = join.uid().map(str::to_owned);
    let mut problems = join.problems();
    for (place, cluster, held) in credentials.iter() {
        if let Some(refused) = &held.refused {
            problems.push(join.about_secret(place, cluster, held, refused));
        }
    }
    problems.sort();
    let refused = join.refused();
    beside.send_if_modified(|known| {
        let differ = known.uid != uid || known.problems != problems || known.refused != refused;
        known.uid = uid;
        known.problems = problems;
        known.refused = refused;
        differ
    });
}

/// Asks now and then what the credential may do.
async fn review(access: Access, role: Role, pace: Pace, told: mpsc::Sender<Told>) {
    loop {
        let again = match rights::review_as(&access, role).await {
            Ok(rights) => {
                if told.send(Told::Rights(rights)).await.is_err() {
                    return;
                }
                pace.rights
            }
            Err(failure) => {
                tracing::debug!(server = %access.server(), ?failure, "the credential's rights are not known");
                pace.absent
            }
        };
        tokio::time::sleep(again).await;
    }
}

/// Looks up where the names of gateways lead. An answer that does not come changes nothing.
fn lookup(join: &Join, told: &mpsc::Sender<Told>, tasks: &mut JoinSet<()>) -> BTreeSet<String> {
    let names = join.names();
    if !names.is_empty() {
        let (asked, told) = (names.clone(), told.clone());
        tasks.spawn(async move {
            let mut found = BTreeMap::new();
            for name in asked {
                let Ok(addresses) = tokio::net::lookup_host((name.as_str(), 0)).await else {
                    continue;
                };
                let addresses: BTreeSet<EndpointAddress> = addresses
                    .filter_map(|at| EndpointAddress::new(at.ip()).ok())
                    .collect();
                if !addresses.is_empty() {
                    found.insert(name, addresses.into_iter().collect());
                }
            }
            if !found.is_empty() {
                // The watch may be over.
                let _ = told.send(Told::Resolved(found)).await;
            }
        });
    }
    names
}

fn start(what: &Watched, told: &mpsc::Sender<Told>, tasks: &mut JoinSet<()>) -> Vec<Kind> {
    let ours = |plural: &str| {
        let namespace = SpiffeId::SYSTEM_NAMESPACE;
        Place {
            may_be_absent: true,
            ..place(&format!(
                "/apis/catamaran.dev/v1alpha1/namespaces/{namespace}/{plural}"
            ))
        }
    };
    let secrets = |namespace: &str| Place {
        selector: "labelSelector=istio%2FmultiCluster%3Dtrue",
        ..place(&format!("/api/v1/namespaces/{namespace}/secrets"))
    };
    let mut kinds = Vec::new();
    // The first request makes the connection that all others share.
    let (answered, first) = watch::channel(false);
    macro_rules! go {
        ($kind:expr, $raw:ty, $place:expr) => {{
            kinds.push($kind);
            let mut place: Place = $place;
            if place.answered.is_none() {
                place.after.push(first.clone());
            }
            tasks.spawn(follow::<$raw>(
                what.access.clone(),
                $kind,
                place,
                what.pace,
                told.clone(),
            ));
        }};
    }
    if let Reads::Managed { istio, .. } = &what.reads {
        go!(Kind::Mesh, RawMesh, ours("meshes"));
        go!(Kind::Cluster, RawCluster, ours("clusters"));
        go!(
            Kind::RemoteSecret,
            RawSecret,
            secrets(SpiffeId::SYSTEM_NAMESPACE)
        );
        if let Some(istio) = istio
            .as_ref()
            .filter(|n| n.as_str() != SpiffeId::SYSTEM_NAMESPACE)
        {
            go!(Kind::IstioSecret, RawSecret, secrets(istio.as_str()));
        }
    }
    let namespaces = Place {
        answered: Some(answered),
        ..place("/api/v1/namespaces")
    };
    go!(Kind::Namespace, RawNamespace, namespaces);
    // The reader of an Istio may not read them: that cluster has made no statement, as one without the definition.
    let exports = Place {
        may_be_forbidden: what.reads == Reads::DiscoveryOnly,
        ..ours("meshexports")
    };
    go!(Kind::MeshExport, RawExport, exports);
    let nodes = Place {
        may_be_forbidden: true,
        ..place("/api/v1/nodes")
    };
    go!(Kind::Node, RawNode, nodes);
    go!(Kind::Service, RawService, place("/api/v1/services"));
    // Pods are listed after the slices, so that every pod that a slice speaks of is in the list or gone.
    let (listed, after) = watch::channel(false);
    let slices = Place {
        listed: Some(listed),
        ..place("/apis/discovery.k8s.io/v1/endpointslices")
    };
    go!(Kind::EndpointSlice, RawSlice, slices);
    let pods = Place {
        after: vec![after],
        ..place("/api/v1/pods")
    };
    go!(Kind::Pod, RawPod, pods);
    kinds
}

fn place(path: &str) -> Place {
    Place {
        path: path.to_owned(),
        selector: "",
        may_be_absent: false,
        may_be_forbidden: false,
        after: Vec::new(),
        listed: None,
        answered: None,
    }
}
