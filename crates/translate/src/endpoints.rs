//! `envoy.config.endpoint.v3.ClusterLoadAssignment`: the addresses behind a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use catamaran_model::{
    ClusterId, ClusterName, GatewayAddress, Health, Locality, NetworkId, TlsMode,
};
use catamaran_registry::{MergedEndpoint, MergedService, Problem, ProblemKind, Severity};
use catamaran_wire::core::{Locality as WireLocality, Metadata};
use catamaran_wire::endpoint::{
    ClusterLoadAssignment, Endpoint, HostIdentifier, LbEndpoint, LocalityLbEndpoints,
};
use catamaran_wire::extension;
use catamaran_wire::health::HealthStatus;
use catamaran_wire::well_known::{Struct, Value};
use catamaran_xds::{Resource, TypeUrlKind};

use crate::clusters::{TLS_MODE, socket_address};
use crate::scope::{Gateways, MAX_GATEWAY_ADDRESSES, ways_into};
use crate::settings::Settings;
use crate::{EndpointsFor, GatewayFor, Nearness};

/// The key of our own facts in an endpoint's metadata.
pub const METADATA: &str = "dev.catamaran";

/// The endpoints of each port of the service, for clusters `outbound|PORT||HOST`.
///
/// - Ready endpoints of the audience's network are used directly, draining ones are named as such and get nothing new; those
///   that are not ready are left out.
/// - Ready endpoints of another network are counted, and their cluster's gateway addresses in that network stand for them,
///   each address once, whatever zones are behind it. Several addresses share the count evenly; all weights are scaled by
///   the least common multiple of the numbers of addresses, so that shares stay whole.
/// - Nothing is sent to another network in plain text, and nothing without a gateway: [`problems`] says so.
///
/// How fresh the knowledge of a cluster is plays no part: silence removes nothing and moves no load.
pub(crate) fn assignments(
    service: &MergedService,
    audience: &EndpointsFor,
    gateways: &Gateways,
    settings: &Settings,
) -> Vec<Resource> {
    let host = service.key.host(&settings.domain);
    let ports = service.ports_seen_from(&audience.cluster).iter();
    let assignments = ports.map(|port| {
        let ways = assign(service, port.number, audience, gateways);
        let name = ClusterName::outbound(port.number, host.as_str()).to_string();
        resource(name, ways)
    });
    assignments.collect()
}

/// The endpoints of each port of the service, for clusters `outbound_.PORT_._.HOST` of a gateway: the meshed ready ones of
/// its own cluster and network, never a gateway of yet another network.
pub(crate) fn behind_gateway(
    service: &MergedService,
    audience: &GatewayFor,
    settings: &Settings,
) -> Vec<Resource> {
    let host = service.key.host(&settings.domain);
    let ports = service.ports_seen_from(&audience.cluster).iter();
    let assignments = ports.map(|port| {
        let mut ways = Ways::default();
        let own = service.endpoints.iter().filter(|endpoint| {
            endpoint.cluster == audience.cluster
                && endpoint.network == audience.network
                && endpoint.endpoint.tls == TlsMode::Mutual
        });
        for endpoint in ready_first(own) {
            ways.direct(endpoint, port.number, Rank::default(), 1);
        }
        let name = ClusterName::outbound(port.number, host.as_str()).sni();
        resource(name, ways)
    });
    assignments.collect()
}

/// Why endpoints of the service are not used by the audience though they are ready.
pub(crate) fn problems(
    service: &MergedService,
    audience: &EndpointsFor,
    gateways: &Gateways,
) -> Vec<Problem> {
    let mut found = BTreeSet::new();
    for endpoint in service.endpoints_seen_from(&audience.cluster) {
        let elsewhere = endpoint.network != audience.network;
        if !elsewhere || endpoint.endpoint.health != Health::Ready {
            continue;
        }
        let ways = ways_into(gateways, endpoint.network.as_ref(), &endpoint.cluster).len();
        let (severity, kind) = match endpoint.endpoint.tls {
            TlsMode::Plain => (Severity::Warning, ProblemKind::PlainAcrossNetworks),
            TlsMode::Mutual if ways == 0 => (Severity::Error, ProblemKind::NoGateway),
            TlsMode::Mutual if ways > MAX_GATEWAY_ADDRESSES => {
                (Severity::Warning, ProblemKind::Limit)
            }
            TlsMode::Mutual => continue,
        };
        found.insert((severity, kind, &endpoint.cluster, &endpoint.network));
    }
    let problem = |(severity, kind, cluster, network): (_, _, &ClusterId, &Option<NetworkId>)| {
        let there = in_words(network.as_ref());
        let here = in_words(audience.network.as_ref());
        let message = match kind {
            ProblemKind::PlainAcrossNetworks => format!(
                "endpoints in {cluster} ({there}) have no sidecar and cannot be reached from {here}: switch on injection \
                 for their namespace and restart them"
            ),
            ProblemKind::NoGateway => format!(
                "endpoints in {cluster} ({there}) are not used from {here}, since no gateway into them is known: enable \
                 the gateway of {cluster}, or give its address with `catamaran network set`"
            ),
            _ => format!(
                "{cluster} has more than {MAX_GATEWAY_ADDRESSES} gateway addresses in {there}: the first \
                 {MAX_GATEWAY_ADDRESSES} are used; name fewer with `catamaran network set`"
            ),
        };
        Problem {
            severity,
            kind,
            cluster: Some(cluster.clone()),
            object: format!("Service {}", service.key),
            message,
        }
    };
    found.into_iter().map(problem).collect()
}

fn in_words(network: Option<&NetworkId>) -> String {
    network.map_or_else(
        || "no network".to_owned(),
        |network| format!("network {network}"),
    )
}

/// How far an endpoint is; the smallest is used first. All are equal when places are used alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    behind_gateway: bool,
    other_cluster: bool,
    distance: Distance,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    #[default]
    SameZone,
    SameRegion,
    Elsewhere,
}

impl Rank {
    fn of(endpoint: &MergedEndpoint, audience: &EndpointsFor) -> Rank {
        let Nearness::From(here) = &audience.nearness else {
            return Rank::default();
        };
        let there = &endpoint.endpoint.locality;
        let same_region = here.region.is_some() && here.region == there.region;
        let same_zone = same_region && here.zone == there.zone;
        Rank {
            behind_gateway: endpoint.network != audience.network,
            other_cluster: endpoint.cluster != audience.cluster,
            distance: match (same_zone, same_region) {
                (true, _) => Distance::SameZone,
                (false, true) => Distance::SameRegion,
                (false, false) => Distance::Elsewhere,
            },
        }
    }
}

/// The ready endpoints of one cluster in another network.
struct Behind {
    ready: u64,
    rank: Rank,
    locality: Locality,
}

impl Behind {
    fn add(&mut self, rank: Rank, locality: &Locality) {
        self.ready += 1;
        self.rank = self.rank.min(rank);
        narrow(&mut self.locality, locality);
    }
}

/// Keeps of a locality what another one shares.
fn narrow(locality: &mut Locality, other: &Locality) {
    if locality.region != other.region {
        *locality = Locality::default();
    } else if locality.zone != other.zone {
        locality.zone = None;
    }
}

/// What one gateway address stands for.
struct Share {
    weight: u64,
    rank: Rank,
    locality: Locality,
    clusters: BTreeSet<ClusterId>,
}

fn assign(
    service: &MergedService,
    port: u16,
    audience: &EndpointsFor,
    gateways: &Gateways,
) -> Ways {
    let mut behind: BTreeMap<(&NetworkId, &ClusterId), Behind> = BTreeMap::new();
    let mut direct = Vec::new();
    for endpoint in service.endpoints_seen_from(&audience.cluster) {
        if endpoint.network == audience.network {
            direct.push(endpoint);
            continue;
        }
        let reachable = endpoint.endpoint.health == Health::Ready
            && endpoint.endpoint.tls == TlsMode::Mutual
            && endpoint.ports.contains_key(&port);
        if let (true, Some(network)) = (reachable, &endpoint.network) {
            let rank = Rank::of(endpoint, audience);
            let locality = &endpoint.endpoint.locality;
            behind
                .entry((network, &endpoint.cluster))
                .or_insert_with(|| Behind {
                    ready: 0,
                    rank,
                    locality: locality.clone(),
                })
                .add(rank, locality);
        }
    }

    let ways_in: Vec<(Behind, &ClusterId, Vec<GatewayAddress>)> = behind
        .into_iter()
        .map(|((network, cluster), group)| {
            let mut ways = ways_into(gateways, Some(network), cluster);
            ways.truncate(MAX_GATEWAY_ADDRESSES);
            (group, cluster, ways)
        })
        .filter(|(_, _, ways)| !ways.is_empty())
        .collect();
    let scale = ways_in
        .iter()
        .fold(1, |scale, (_, _, ways)| lcm(scale, ways.len() as u64));

    let mut ways = Ways::default();
    for endpoint in ready_first(direct) {
        ways.direct(endpoint, port, Rank::of(endpoint, audience), scale);
    }
    let mut shares: BTreeMap<GatewayAddress, Share> = BTreeMap::new();
    for (group, cluster, addresses) in ways_in {
        let weight = group.ready * scale / addresses.len() as u64;
        for address in addresses {
            let share = shares.entry(address).or_insert_with(|| Share {
                weight: 0,
                rank: group.rank,
                locality: group.locality.clone(),
                clusters: BTreeSet::new(),
            });
            share.weight += weight;
            share.rank = share.rank.min(group.rank);
            narrow(&mut share.locality, &group.locality);
            share.clusters.insert(cluster.clone());
        }
    }
    for (address, share) in shares {
        ways.gateway(address, share);
    }
    ways
}

/// In a stable order, and so that a pod that goes does not keep its address from the one that got it next.
fn ready_first<'a>(
    endpoints: impl IntoIterator<Item = &'a Arc<MergedEndpoint>>,
) -> Vec<&'a Arc<MergedEndpoint>> {
    let mut endpoints: Vec<_> = endpoints.into_iter().collect();
    endpoints.sort_by(|a, b| {
        let key = |e: &MergedEndpoint| (e.endpoint.health, e.endpoint.address);
        key(a).cmp(&key(b)).then_with(|| a.cluster.cmp(&b.cluster))
    });
    endpoints
}

/// Endpoints on their way into one assignment.
#[derive(Default)]
struct Ways {
    groups: BTreeMap<(Rank, Locality), Vec<LbEndpoint>>,
    addresses: BTreeSet<SocketAddr>,
}

impl Ways {
    fn direct(&mut self, endpoint: &MergedEndpoint, port: u16, rank: Rank, weight: u64) {
        let health = match endpoint.endpoint.health {
            Health::Ready => HealthStatus::Healthy,
            Health::Draining => HealthStatus::Draining,
            Health::NotReady => return,
        };
        let Some(own_port) = endpoint.ports.get(&port) else {
            return;
        };
        let mut facts = vec![("clusters", Value::from_iter([endpoint.cluster.as_str()]))];
        if let Some(workload) = &endpoint.endpoint.workload {
            facts.push(("pod", workload.pod.as_str().into()));
            facts.push(("namespace", workload.namespace.as_str().into()));
        }
        if let Some(version) = endpoint.endpoint.labels.get("version") {
            facts.push(("version", version.as_str().into()));
        }
        let at = SocketAddr::new(endpoint.endpoint.address.ip(), *own_port);
        self.add(
            (rank, endpoint.endpoint.locality.clone()),
            at,
            health,
            weight,
            metadata(endpoint.endpoint.tls, facts),
        );
    }

    fn gateway(&mut self, address: GatewayAddress, share: Share) {
        let clusters = share.clusters.iter().map(ClusterId::as_str);
        let facts = vec![
            ("clusters", Value::from_iter(clusters)),
            ("gateway", true.into()),
        ];
        self.add(
            (share.rank, share.locality),
            address.socket(),
            HealthStatus::Healthy,
            share.weight,
            metadata(TlsMode::Mutual, facts),
        );
    }

    /// An address is used once; the first one to claim it has it.
    fn add(
        &mut self,
        place: (Rank, Locality),
        at: SocketAddr,
        health: HealthStatus,
        weight: u64,
        metadata: Metadata,
    ) {
        if !self.addresses.insert(at) {
            return;
        }
        let endpoint = LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(socket_address(at.ip(), at.port())),
                ..Endpoint::default()
            })),
            health_status: health.into(),
            metadata: Some(metadata),
            load_balancing_weight: Some(u32::try_from(weight).unwrap_or(u32::MAX)),
        };
        self.groups.entry(place).or_default().push(endpoint);
    }
}

fn resource(name: String, ways: Ways) -> Resource {
    let ranks: BTreeSet<Rank> = ways.groups.keys().map(|(rank, _)| *rank).collect();
    let priority = |rank: Rank| ranks.range(..rank).count() as u32;
    let groups = ways
        .groups
        .into_iter()
        .map(|((rank, locality), lb_endpoints)| LocalityLbEndpoints {
            locality: Some(WireLocality {
                region: text(locality.region.as_ref()),
                zone: text(locality.zone.as_ref()),
                sub_zone: String::new(),
            }),
            lb_endpoints,
            priority: priority(rank),
            ..LocalityLbEndpoints::default()
        });
    let assignment = ClusterLoadAssignment {
        cluster_name: name,
        endpoints: groups.collect(),
        ..ClusterLoadAssignment::default()
    };
    Resource::new(
        TypeUrlKind::Endpoints,
        assignment.cluster_name.as_str(),
        &assignment,
    )
}

fn metadata(tls: TlsMode, facts: Vec<(&str, Value)>) -> Metadata {
    let mut filter_metadata = BTreeMap::from([(METADATA.to_owned(), Struct::from_iter(facts))]);
    if tls == TlsMode::Mutual {
        let mode = Struct::from_iter([TLS_MODE]);
        filter_metadata.insert(extension::TRANSPORT_SOCKET_MATCH.to_owned(), mode);
    }
    Metadata {
        filter_metadata,
        ..Metadata::default()
    }
}

fn text(name: Option<&impl ToString>) -> String {
    name.map_or_else(String::new, ToString::to_string)
}

fn lcm(a: u64, b: u64) -> u64 {
    fn gcd(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    a / gcd(a, b) * b
}

#[cfg(test)]
mod tests;
