//! `envoy.config.cluster.v3.Cluster`: a destination, how it is balanced, limited and reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use catamaran_model::{AppProtocol, ClusterId, ClusterName, SpiffeId, TlsMode};
use catamaran_registry::{MergedPort, MergedService};
use catamaran_wire::cluster::{
    AutoHttpConfig, CircuitBreakers, Cluster, ClusterDiscoveryType, CommonLbConfig, DiscoveryType,
    EdsClusterConfig, ExplicitHttpConfig, LbPolicy, OutlierDetection, ProtocolConfig, RetryBudget,
    Thresholds, TransportSocketMatch, UpstreamHttpOptions, UpstreamProtocolOptions,
    UseDownstreamHttpConfig,
};
use catamaran_wire::core::{
    Address, AddressKind, Http1ProtocolOptions, Http2ProtocolOptions, Percent, PortSpecifier,
    SocketAddress,
};
use catamaran_wire::endpoint::{
    ClusterLoadAssignment, Endpoint, HostIdentifier, LbEndpoint, LocalityLbEndpoints,
};
use catamaran_wire::well_known::Struct;
use catamaran_wire::{Any, extension};
use catamaran_xds::{Resource, TypeUrlKind};

use crate::scope::{Gateways, ways_into};
use crate::settings::Settings;
use crate::tls::Carries;
use crate::{Capability, ClustersFor, ClustersReader, GatewayFor, InboundFor, filters, tls};

/// The cluster that nothing comes out of.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// The cluster that leads to where the caller wanted to go.
pub const PASSTHROUGH: &str = "PassthroughCluster";

/// The key and value of endpoint metadata that mean mesh mTLS.
pub(crate) const TLS_MODE: (&str, &str) = ("tlsMode", "istio");

/// Limits of one proxy towards one destination. They are far above what a healthy destination needs, and bound what a dead
/// one can pile up.
const MAX_CONNECTIONS: u32 = 16_384;
const MAX_PENDING: u32 = 16_384;
const MAX_REQUESTS: u32 = 65_536;
/// So many retries may run even when the budget's share of few requests is less.
const MIN_RETRIES: u32 = 3;

/// `BlackHoleCluster`: no endpoint.
pub(crate) fn black_hole() -> Resource {
    resource(&Cluster {
        name: BLACK_HOLE.to_owned(),
        cluster_discovery_type: discovery(DiscoveryType::Static),
        ..Cluster::default()
    })
}

/// `PassthroughCluster`: the original destination, in plain text.
pub(crate) fn passthrough(settings: &Settings) -> Resource {
    resource(&Cluster {
        name: PASSTHROUGH.to_owned(),
        cluster_discovery_type: discovery(DiscoveryType::OriginalDst),
        lb_policy: LbPolicy::ClusterProvided.into(),
        connect_timeout: Some(settings.policy.connect.0.into()),
        circuit_breakers: Some(limits(settings)),
        typed_extension_protocol_options: options(as_downstream()),
        ..Cluster::default()
    })
}

/// `outbound|PORT||HOST`, one for each port of the service.
pub(crate) fn outbound(
    service: &MergedService,
    audience: &ClustersFor,
    gateways: &Gateways,
    settings: &Settings,
) -> Vec<Resource> {
    let allowed = identities(service, &audience.cluster, settings);
    let capability = match audience.reader {
        ClustersReader::Catamaran => Capability::Catamaran,
        ClustersReader::Envoy { .. } => Capability::Envoy,
    };
    let judged = match &audience.reader {
        ClustersReader::Envoy { .. } if uses_gateways(service, audience, gateways) => {
            Judged::OurSideOnly
        }
        _ => Judged::ByAnswersToo,
    };
    let host = service.key.host(&settings.domain);
    let ports = service.ports_seen_from(&audience.cluster).iter();
    let clusters = ports.map(|port| {
        let name = ClusterName::outbound(port.number, host.as_str());
        let tls = tls::upstream(name.sni(), &allowed, carries(port, capability), capability);
        resource(&Cluster {
            name: name.to_string(),
            cluster_discovery_type: discovery(DiscoveryType::Eds),
            eds_cluster_config: Some(eds()),
            connect_timeout: Some(settings.policy.connect.0.into()),
            lb_policy: LbPolicy::RoundRobin.into(),
            circuit_breakers: Some(limits(settings)),
            outlier_detection: Some(ejection(judged, settings)),
            common_lb_config: Some(no_panic()),
            typed_extension_protocol_options: outbound_http(port.protocol, capability),
            transport_socket_matches: vec![
                TransportSocketMatch {
                    name: "tlsMode-istio".to_owned(),
                    r#match: Some(Struct::from_iter([TLS_MODE])),
                    transport_socket: Some(tls),
                },
                TransportSocketMatch {
                    name: "tlsMode-disabled".to_owned(),
                    r#match: Some(Struct::default()),
                    transport_socket: Some(tls::plain()),
                },
            ],
            ..Cluster::default()
        })
    });
    clusters.collect()
}

/// `inbound|PORT||`, one for each of the workload's ports: its own program.
pub(crate) fn inbound(audience: &InboundFor, settings: &Settings) -> Vec<Resource> {
    let clusters = audience.ports.iter().map(|(port, protocol)| {
        let name = ClusterName::inbound(*port).to_string();
        let program = LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(socket_address(audience.app, *port)),
                ..Endpoint::default()
            })),
            ..LbEndpoint::default()
        };
        let http = match protocol {
            AppProtocol::Http => options(explicit(http1())),
            AppProtocol::Http2 | AppProtocol::Grpc => options(explicit(http2())),
            AppProtocol::Detect => options(as_downstream()),
            AppProtocol::Tcp | AppProtocol::Tls => BTreeMap::new(),
        };
        resource(&Cluster {
            load_assignment: Some(ClusterLoadAssignment {
                cluster_name: name.clone(),
                endpoints: vec![LocalityLbEndpoints {
                    lb_endpoints: vec![program],
                    ..LocalityLbEndpoints::default()
                }],
                ..ClusterLoadAssignment::default()
            }),
            name,
            cluster_discovery_type: discovery(DiscoveryType::Static),
            connect_timeout: Some(settings.policy.connect.0.into()),
            circuit_breakers: Some(limits(settings)),
            typed_extension_protocol_options: http,
            ..Cluster::default()
        })
    });
    clusters.collect()
}

/// `outbound_.PORT_._.HOST`, one for each exported port of the service: bytes as they are, to the least connected.
pub(crate) fn gateway(
    service: &MergedService,
    audience: &GatewayFor,
    settings: &Settings,
) -> Vec<Resource> {
    let host = service.key.host(&settings.domain);
    let ports = service.ports_seen_from(&audience.cluster).iter();
    let clusters = ports.map(|port| {
        resource(&Cluster {
            name: ClusterName::outbound(port.number, host.as_str()).sni(),
            cluster_discovery_type: discovery(DiscoveryType::Eds),
            eds_cluster_config: Some(eds()),
            connect_timeout: Some(settings.policy.connect.0.into()),
            lb_policy: LbPolicy::LeastRequest.into(),
            circuit_breakers: Some(limits(settings)),
            outlier_detection: Some(ejection(Judged::OurSideOnly, settings)),
            common_lb_config: Some(no_panic()),
            ..Cluster::default()
        })
    });
    clusters.collect()
}

/// The identities that may answer for the service: those of its meshed endpoints, ready or not, in all clusters that
/// `cluster` sees; in order, each once.
fn identities(service: &MergedService, cluster: &ClusterId, settings: &Settings) -> Vec<SpiffeId> {
    let meshed = service
        .endpoints_seen_from(cluster)
        .filter(|endpoint| endpoint.endpoint.tls == TlsMode::Mutual);
    let ids: BTreeSet<SpiffeId> = meshed
        .map(|endpoint| {
            let workload = endpoint.endpoint.workload.as_ref();
            let namespace = workload.map_or(&service.key.namespace, |key| &key.namespace);
            SpiffeId::new(
                settings.trust_domain.clone(),
                namespace.clone(),
                endpoint.endpoint.service_account.clone(),
            )
        })
        .collect();
    ids.into_iter().collect()
}

fn uses_gateways(service: &MergedService, audience: &ClustersFor, gateways: &Gateways) -> bool {
    let ClustersReader::Envoy { network } = &audience.reader else {
        return false;
    };
    let mut seen = service.endpoints_seen_from(&audience.cluster);
    seen.any(|endpoint| {
        endpoint.network != *network
            && !ways_into(gateways, endpoint.network.as_ref(), &endpoint.cluster).is_empty()
    })
}

/// By what an endpoint is found bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    /// By failures on our side of the connection, and by 5xx answers; our own proxy spares gateways the latter.
    ByAnswersToo,
    /// By failures on our side only: what answers is not the endpoint.
    OurSideOnly,
}

fn ejection(judged: Judged, settings: &Settings) -> OutlierDetection {
    let ejection = &settings.policy.ejection;
    OutlierDetection {
        consecutive_5xx: Some(ejection.consecutive_5xx),
        enforcing_consecutive_5xx: Some(match judged {
            Judged::ByAnswersToo => 100,
            Judged::OurSideOnly => 0,
        }),
        base_ejection_time: Some(ejection.base.into()),
        max_ejection_percent: Some(ejection.max_percent),
        enforcing_success_rate: Some(0),
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: Some(ejection.consecutive_local),
        enforcing_consecutive_local_origin_failure: Some(100),
        enforcing_local_origin_success_rate: Some(0),
        always_eject_one_host: Some(false),
        ..OutlierDetection::default()
    }
}

fn limits(settings: &Settings) -> CircuitBreakers {
    CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: Some(MAX_CONNECTIONS),
            max_pending_requests: Some(MAX_PENDING),
            max_requests: Some(MAX_REQUESTS),
            retry_budget: Some(RetryBudget {
                budget_percent: Some(Percent {
                    value: settings.policy.retries.budget_percent.into(),
                }),
                min_retry_concurrency: Some(MIN_RETRIES),
                ..RetryBudget::default()
            }),
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    }
}

/// Endpoints that are known to be bad are not used because others are bad too.
fn no_panic() -> CommonLbConfig {
    CommonLbConfig {
        healthy_panic_threshold: Some(Percent { value: 0.0 }),
        ..CommonLbConfig::default()
    }
}

fn carries(port: &MergedPort, capability: Capability) -> Carries {
    match (port.protocol, capability) {
        (AppProtocol::Http | AppProtocol::Detect, Capability::Catamaran) => Carries::Http,
        (AppProtocol::Http | AppProtocol::Detect, Capability::Envoy) => Carries::AsCaller,
        (AppProtocol::Http2 | AppProtocol::Grpc, _) => Carries::Http2,
        (AppProtocol::Tcp | AppProtocol::Tls, _) => Carries::Bytes,
    }
}

/// Between our proxies HTTP/1 requests travel over HTTP/2 where the port is known to be HTTP; the application gets what its
/// port says. An Envoy speaks what its caller speaks: it demands TLS everywhere for that choice, and what a caller upgrades it
/// would ask for over HTTP/2, which our proxy does not carry.
fn outbound_http(protocol: AppProtocol, capability: Capability) -> BTreeMap<String, Any> {
    match (protocol, capability) {
        (AppProtocol::Tcp | AppProtocol::Tls, _) => BTreeMap::new(),
        (AppProtocol::Http2 | AppProtocol::Grpc, _) => options(explicit(http2())),
        (AppProtocol::Http, Capability::Catamaran) => {
            options(UpstreamProtocolOptions::AutoConfig(AutoHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(Http2ProtocolOptions::default()),
                ..AutoHttpConfig::default()
            }))
        }
        (AppProtocol::Http, Capability::Envoy) | (AppProtocol::Detect, _) => {
            options(as_downstream())
        }
    }
}

fn as_downstream() -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
        ..UseDownstreamHttpConfig::default()
    })
}

fn explicit(protocol: ProtocolConfig) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(protocol),
    })
}

fn http1() -> ProtocolConfig {
    ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())
}

fn http2() -> ProtocolConfig {
    ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())
}

fn options(protocol: UpstreamProtocolOptions) -> BTreeMap<String, Any> {
    let options = UpstreamHttpOptions {
        upstream_protocol_options: Some(protocol),
        ..UpstreamHttpOptions::default()
    };
    BTreeMap::from([(
        extension::UPSTREAM_HTTP_OPTIONS.to_owned(),
        Any::pack(&options),
    )])
}

fn eds() -> EdsClusterConfig {
    EdsClusterConfig {
        eds_config: Some(filters::ads()),
        service_name: String::new(),
    }
}

fn discovery(kind: DiscoveryType) -> Option<ClusterDiscoveryType> {
    Some(ClusterDiscoveryType::Type(kind.into()))
}

pub(crate) fn socket_address(address: IpAddr, port: u16) -> Address {
    Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: address.to_string(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}

fn resource(cluster: &Cluster) -> Resource {
    Resource::new(TypeUrlKind::Cluster, cluster.name.as_str(), cluster)
}

#[cfg(test)]
mod tests;
