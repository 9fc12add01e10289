//! What proxies have in common: each class is one projection of audiences, and hears the same resources.

use std::net::IpAddr;
use std::sync::Arc;

use catamaran_model::{ClusterId, FailoverMode, ServiceKey, WorkloadKey};
use catamaran_registry::{MergedService, Problem, ProblemKind, Severity, Snapshot};
use catamaran_xds::{Resource, TypeUrlKind};

use crate::index::{Index, http_ports};
use crate::scope::is_exported;
use crate::virtual_address::CAPACITY;
use crate::{
    Audience, Capability, Capture, ClustersFor, ClustersReader, EndpointsFor, GatewayFor,
    InboundFor, ListenersFor, Nearness, Role, RoutesFor, clusters, endpoints, issuers, listeners,
    names, routes,
};

/// A projection of audiences, for some kinds of resources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    /// What every sidecar has.
    Sidecar(Capture),
    /// What every gateway has.
    Gateway,
    Issuers,
    Clusters(ClustersFor),
    Endpoints(EndpointsFor),
    Listeners(ListenersFor),
    Routes(RoutesFor),
    Names(ClusterId),
    /// The inbound side of one workload, which its ports decide: [`Class::narrow`] leads to `Inbound`.
    Workload(WorkloadFor),
    Inbound(InboundFor),
    GatewayListener(GatewayFor),
    GatewayClusters(GatewayFor),
    GatewayEndpoints(GatewayFor),
}

/// A workload and what else its inbound side depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkloadFor {
    pub(crate) cluster: ClusterId,
    pub(crate) workload: WorkloadKey,
    app: IpAddr,
    capture: Capture,
    capability: Capability,
}

/// What the resources of a class are made from, one group at a time. Where two groups claim one name, the smaller has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Whole,
    Cluster(ClusterId),
    Port(u16),
    Service(ServiceKey),
}

/// What a group leads to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) resources: Vec<Arc<Resource>>,
    pub(crate) problems: Vec<Problem>,
}

impl From<Vec<Resource>> for Told {
    fn from(resources: Vec<Resource>) -> Told {
        Told {
            resources: resources.into_iter().map(Arc::new).collect(),
            problems: Vec::new(),
        }
    }
}

impl Class {
    /// The classes that an audience belongs to.
    pub(crate) fn all_of(audience: &Audience) -> Vec<Class> {
        let Audience {
            role,
            cluster,
            network,
            locality,
            namespace,
            capability,
            capture,
        } = audience.clone();
        match role {
            Role::Gateway => {
                let gateway = GatewayFor { cluster, network };
                vec![
                    Class::Gateway,
                    Class::GatewayClusters(gateway.clone()),
                    Class::GatewayEndpoints(gateway.clone()),
                    Class::GatewayListener(gateway),
                ]
            }
            Role::Sidecar { workload, app } => {
                let reader = match capability {
                    Capability::Catamaran => ClustersReader::Catamaran,
                    Capability::Envoy => ClustersReader::Envoy {
                        network: network.clone(),
                    },
                };
                let mut classes = vec![
                    Class::Sidecar(capture),
                    Class::Clusters(ClustersFor {
                        cluster: cluster.clone(),
                        reader,
                    }),
                    Class::Endpoints(EndpointsFor {
                        cluster: cluster.clone(),
                        network,
                        nearness: Nearness::From(locality),
                    }),
                    Class::Listeners(ListenersFor {
                        cluster: cluster.clone(),
                        capture,
                    }),
                    Class::Routes(RoutesFor {
                        cluster: cluster.clone(),
                        namespace,
                        capture,
                        capability,
                    }),
                ];
                if capability == Capability::Catamaran {
                    classes.push(Class::Issuers);
                }
                // An Envoy does not ask for names; its agent does, in its place.
                classes.push(Class::Names(cluster.clone()));
                classes.push(Class::Workload(WorkloadFor {
                    cluster,
                    workload,
                    app,
                    capture,
                    capability,
                }));
                classes
            }
        }
    }

    /// Of which kinds its resources may be.
    pub(crate) fn kinds(&self) -> &'static [TypeUrlKind] {
        match self {
            Class::Sidecar(_) | Class::Workload(_) | Class::Inbound(_) => {
                &[TypeUrlKind::Cluster, TypeUrlKind::Listener]
            }
            Class::Gateway | Class::Clusters(_) | Class::GatewayClusters(_) => {
                &[TypeUrlKind::Cluster]
            }
            Class::Endpoints(_) | Class::GatewayEndpoints(_) => &[TypeUrlKind::Endpoints],
            Class::Listeners(_) | Class::GatewayListener(_) => &[TypeUrlKind::Listener],
            Class::Routes(_) => &[TypeUrlKind::Route],
            Class::Issuers => &[TypeUrlKind::Issuers],
            Class::Names(_) => &[TypeUrlKind::Names],
        }
    }

    /// The workload of a class that is of one workload only.
    pub(crate) fn workload(&self) -> Option<(ClusterId, WorkloadKey)> {
        match self {
            Class::Workload(audience) => {
                Some((audience.cluster.clone(), audience.workload.clone()))
            }
            _ => None,
        }
    }

    /// The cluster whose [`Local`](crate::index::Local) lookups are needed.
    pub(crate) fn local(&self) -> Option<&ClusterId> {
        match self {
            Class::Listeners(audience) => Some(&audience.cluster),
            Class::Routes(audience) => Some(&audience.cluster),
            Class::Names(cluster) => Some(cluster),
            Class::Workload(audience) => Some(&audience.cluster),
            _ => None,
        }
    }

    /// The class without what plays no part just now; classes that are equal then hear the same.
    pub(crate) fn narrow(&self, index: &Index) -> Class {
        match self {
            Class::Endpoints(audience) => {
                let mut audience = audience.clone();
                if index.settings.failover == FailoverMode::Spread {
                    audience.nearness = Nearness::None;
                }
                Class::Endpoints(audience)
            }
            Class::Workload(audience) => Class::Inbound(InboundFor {
                ports: index
                    .workload_ports(&audience.cluster, &audience.workload)
                    .0,
                app: audience.app,
                capture: audience.capture,
                capability: audience.capability,
            }),
            other => other.clone(),
        }
    }

    /// Problems of the class itself, which classes that narrow to the same do not share.
    pub(crate) fn own_problems(&self, index: &Index) -> Vec<Problem> {
        match self {
            Class::Workload(audience) => {
                index
                    .workload_ports(&audience.cluster, &audience.workload)
                    .1
            }
            _ => Vec::new(),
        }
    }

    /// All groups of the class.
    pub(crate) fn groups(&self, snapshot: &Snapshot, index: &Index) -> Vec<Group> {
        let services = || snapshot.services.keys().cloned().map(Group::Service);
        let ports = || index.http_ports.keys().copied().map(Group::Port);
        match self {
            Class::Clusters(_)
            | Class::Endpoints(_)
            | Class::GatewayClusters(_)
            | Class::GatewayEndpoints(_) => services().collect(),
            Class::Listeners(_) => ports().chain(services()).collect(),
            Class::Routes(_) => ports().collect(),
            Class::Issuers => snapshot
                .issuers
                .keys()
                .cloned()
                .map(Group::Cluster)
                .collect(),
            _ => vec![Group::Whole],
        }
    }

    /// What a group leads to now; nothing, when it is gone.
    pub(crate) fn tell(&self, group: &Group, snapshot: &Snapshot, index: &Index) -> Told {
        let settings = &index.settings;
        let service = || match group {
            Group::Service(key) => snapshot.services.get(key),
            _ => None,
        };
        let seen = |cluster| service().filter(|service| service.is_known_in(cluster));
        let exported = |cluster| service().filter(|service| is_exported(service, cluster));
        match self {
            Class::Sidecar(capture) => {
                let mut resources = vec![clusters::black_hole(), listeners::outbound(*capture)];
                if *capture == Capture::Redirect {
                    resources.push(clusters::passthrough(settings));
                }
                resources.into()
            }
            Class::Gateway => vec![clusters::black_hole()].into(),
            Class::Issuers => {
                let Group::Cluster(cluster) = group else {
                    return Told::default();
                };
                let known = snapshot.issuers.get(cluster);
                let known = known.map(|prints| issuers::of(cluster, prints));
                known.into_iter().collect::<Vec<_>>().into()
            }
            Class::Clusters(audience) => seen(&audience.cluster)
                .map(|service| clusters::outbound(service, audience, &snapshot.gateways, settings))
                .unwrap_or_default()
                .into(),
            Class::Endpoints(audience) => seen(&audience.cluster)
                .map(|service| {
                    let gateways = &snapshot.gateways;
                    let told = endpoints::assignments(service, audience, gateways, settings);
                    Told {
                        problems: endpoints::problems(service, audience, gateways),
                        ..told.into()
                    }
                })
                .unwrap_or_default(),
            Class::Listeners(audience) => match group {
                Group::Port(port) => {
                    let used = services_on(*port, &audience.cluster, snapshot, index).next();
                    used.map(|_| vec![listeners::http_port(audience, *port)])
                        .unwrap_or_default()
                        .into()
                }
                _ => seen(&audience.cluster)
                    .map(|service| {
                        let addresses = index.addresses(&audience.cluster);
                        let address = addresses.of(service, &audience.cluster);
                        listeners::addressed(service, address, audience, settings)
                    })
                    .unwrap_or_default()
                    .into(),
            },
            Class::Routes(audience) => {
                let Group::Port(port) = group else {
                    return Told::default();
                };
                let services = || services_on(*port, &audience.cluster, snapshot, index);
                if services().next().is_none() {
                    return Told::default();
                }
                let addresses = index.addresses(&audience.cluster);
                vec![routes::port(
                    *port,
                    services(),
                    audience,
                    addresses,
                    settings,
                )]
                .into()
            }
            Class::Names(cluster) => {
                let addresses = index.addresses(cluster);
                let services = snapshot.services.values().map(|service| &**service);
                let seen = services.filter(|service| service.is_known_in(cluster));
                let table = names::table(seen, cluster, addresses, &settings.domain);
                Told {
                    problems: addresses
                        .left_out
                        .iter()
                        .map(|key| no_address(key, cluster))
                        .collect(),
                    ..vec![table].into()
                }
            }
            Class::Workload(_) => self.narrow(index).tell(group, snapshot, index),
            Class::Inbound(audience) => {
                let mut resources = clusters::inbound(audience, settings);
                if !audience.ports.is_empty() {
                    resources.push(listeners::inbound(audience, settings));
                }
                resources.into()
            }
            Class::GatewayListener(audience) => {
                let services = snapshot.services.values().map(|service| &**service);
                let exported = services.filter(|service| is_exported(service, &audience.cluster));
                let listener = listeners::gateway(exported, audience, settings);
                listener.into_iter().collect::<Vec<_>>().into()
            }
            Class::GatewayClusters(audience) => exported(&audience.cluster)
                .map(|service| clusters::gateway(service, audience, settings))
                .unwrap_or_default()
                .into(),
            Class::GatewayEndpoints(audience) => exported(&audience.cluster)
                .map(|service| endpoints::behind_gateway(service, audience, settings))
                .unwrap_or_default()
                .into(),
        }
    }
}

/// The services that proxies of `cluster` see with HTTP on a port, in the order of their keys.
fn services_on<'a>(
    port: u16,
    cluster: &'a ClusterId,
    snapshot: &'a Snapshot,
    index: &'a Index,
) -> impl Iterator<Item = &'a MergedService> {
    let keys = index.http_ports.get(&port).into_iter().flatten();
    keys.filter_map(|key| snapshot.services.get(key))
        .map(|service| &**service)
        .filter(move |service| service.is_known_in(cluster))
        .filter(move |service| http_ports(service.ports_seen_from(cluster)).any(|p| p == port))
}

fn no_address(key: &ServiceKey, cluster: &ClusterId) -> Problem {
    Problem {
        severity: Severity::Warning,
        kind: ProblemKind::Limit,
        cluster: Some(cluster.clone()),
        object: format!("Service {key}"),
        message: format!(
            "no virtual address is left for it in {cluster}: more than {CAPACITY} services there have none of their own; \
             give it a ClusterIP in {cluster}"
        ),
    }
}
