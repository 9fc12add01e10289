//! What two primaries tell a sidecar of cluster-1 and the gateway of cluster-2 about one `helloworld`.

use catamaran_wire::cluster::{
    Cluster, ClusterDiscoveryType, DiscoveryType, LbPolicy, OutlierDetection, TransportSocketMatch,
};
use catamaran_wire::core::{
    Address, AddressKind, Metadata, PortSpecifier, SocketAddress, TrafficDirection, TransportSocket,
};
use catamaran_wire::endpoint::{
    ClusterLoadAssignment, Endpoint, HostIdentifier, LbEndpoint, LocalityLbEndpoints,
};
use catamaran_wire::hcm::{
    HttpConnectionManager, HttpFilter, HttpFilterConfig, Rds, RouteSpecifier, Router,
};
use catamaran_wire::health::HealthStatus;
use catamaran_wire::listener::{
    Filter, FilterChain, FilterChainMatch, FilterConfigType, Listener, ListenerFilter,
    ListenerFilterConfigType,
};
use catamaran_wire::listener_filter::{HttpInspector, TlsInspector};
use catamaran_wire::matcher::{MatchPattern, StringMatcher};
use catamaran_wire::own::Issuers;
use catamaran_wire::route::{
    Action, ClusterSpecifier, PathSpecifier, RetryPolicy, Route, RouteAction, RouteConfiguration,
    RouteMatch, VirtualHost,
};
use catamaran_wire::tcp::{ClusterSpecifier as TcpClusterSpecifier, TcpProxy};
use catamaran_wire::tls::{
    CertificateValidationContext, CombinedCertificateValidationContext, CommonTlsContext,
    DownstreamTlsContext, SanType, SdsSecretConfig, SubjectAltNameMatcher, UpstreamTlsContext,
    ValidationContextType,
};
use catamaran_wire::well_known::{Duration, Struct, Value};
use catamaran_wire::{Any, Message, TypeUrl, extension};

use crate::{Changes, Table};

pub(crate) const HELLO: &str = "outbound|5000||helloworld.default.svc.cluster.local";
pub(crate) const HELLO_SNI: &str = "outbound_.5000_._.helloworld.default.svc.cluster.local";
pub(crate) const DATABASE: &str = "outbound|3306||mysql.default.svc.cluster.local";
pub(crate) const HELLO_ID: &str = "spiffe://cluster.local/ns/default/sa/helloworld";
pub(crate) const SLEEP_ID: &str = "spiffe://cluster.local/ns/default/sa/sleep";
/// cluster-1's own helloworld v1.
pub(crate) const V1: &str = "10.1.1.3:5000";
/// The gateway of cluster-2, behind which v2 stands.
pub(crate) const GATEWAY: &str = "198.18.2.10:15443";

pub(crate) fn table(changes: Changes) -> Table {
    let (table, refusals) = Table::build(changes);
    assert_eq!(refusals, []);
    table
}

/// Everything that the sidecar of sleep in cluster-1 holds.
pub(crate) fn sidecar() -> Changes {
    let mut changes = Changes {
        listeners: vec![
            virtual_outbound(),
            http_port(5000),
            tcp_listener("10.96.0.9_3306", "10.96.0.9:3306", DATABASE),
            virtual_inbound(),
        ],
        routes: vec![routes("5000", vec![hello_host()])],
        clusters: vec![
            outbound(HELLO, HELLO_SNI),
            outbound(
                DATABASE,
                "outbound_.3306_._.mysql.default.svc.cluster.local",
            ),
            fixed("inbound|80||", &["127.0.0.1:80"]),
            fixed("BlackHoleCluster", &[]),
            passthrough(),
        ],
        assignments: vec![
            assignment(
                HELLO,
                vec![direct(V1, &["cluster-1"]), gateway(GATEWAY, &["cluster-2"])],
            ),
            assignment(DATABASE, vec![direct("10.1.1.9:3306", &["cluster-1"])]),
        ],
        issuers: vec![issuers("cluster-1", 1), issuers("cluster-2", 2)],
        ..Changes::default()
    };
    let catch_all = VirtualHost {
        name: "allow_any".into(),
        domains: vec!["*".into()],
        routes: vec![route("PassthroughCluster")],
        ..VirtualHost::default()
    };
    changes.routes[0].virtual_hosts.push(catch_all);
    changes
}

/// Everything that the gateway of cluster-2 holds.
pub(crate) fn east_west() -> Changes {
    let chain = FilterChain {
        name: HELLO_SNI.into(),
        filter_chain_match: Some(FilterChainMatch {
            server_names: vec![HELLO_SNI.into()],
            application_protocols: vec!["istio".into(), "istio-h2".into()],
            ..FilterChainMatch::default()
        }),
        filters: vec![tcp(HELLO_SNI)],
        ..FilterChain::default()
    };
    let listener = Listener {
        listener_filters: vec![inspector(&TlsInspector::default())],
        filter_chains: vec![chain],
        ..listener("0.0.0.0_15443", "0.0.0.0:15443")
    };
    Changes {
        listeners: vec![listener],
        clusters: vec![Cluster {
            lb_policy: LbPolicy::LeastRequest.into(),
            transport_socket_matches: Vec::new(),
            ..outbound(HELLO_SNI, "")
        }],
        assignments: vec![assignment(
            HELLO_SNI,
            vec![
                direct("10.2.0.7:5000", &["cluster-2"]),
                direct("10.2.0.8:5000", &["cluster-2"]),
            ],
        )],
        ..Changes::default()
    }
}

/// One cluster of these endpoints, and nothing else.
pub(crate) fn only(endpoints: Vec<LbEndpoint>) -> Changes {
    Changes {
        clusters: vec![outbound(HELLO, HELLO_SNI)],
        assignments: vec![assignment(HELLO, endpoints)],
        ..Changes::default()
    }
}

pub(crate) fn hello_host() -> VirtualHost {
    VirtualHost {
        name: "helloworld.default.svc.cluster.local:5000".into(),
        domains: [
            "helloworld.default.svc.cluster.local",
            "helloworld.default.svc.cluster.local:5000",
            "helloworld",
            "helloworld:5000",
        ]
        .map(String::from)
        .into(),
        routes: vec![Route {
            name: "default".into(),
            ..route(HELLO)
        }],
        retry_policy: Some(RetryPolicy {
            retry_on: "connect-failure,refused-stream,reset".into(),
            num_retries: Some(2),
            ..RetryPolicy::default()
        }),
        ..VirtualHost::default()
    }
}

pub(crate) fn routes(name: &str, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.into(),
        virtual_hosts,
        ..RouteConfiguration::default()
    }
}

pub(crate) fn route(cluster: &str) -> Route {
    Route {
        r#match: Some(prefix("/")),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
            ..RouteAction::default()
        })),
        ..Route::default()
    }
}

pub(crate) fn prefix(prefix: &str) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix(prefix.into())),
        ..RouteMatch::default()
    }
}

pub(crate) fn outbound(name: &str, sni: &str) -> Cluster {
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        connect_timeout: Some(Duration {
            seconds: 1,
            nanos: 0,
        }),
        outlier_detection: Some(OutlierDetection {
            consecutive_5xx: Some(5),
            base_ejection_time: Some(Duration {
                seconds: 5,
                nanos: 0,
            }),
            max_ejection_percent: Some(50),
            split_external_local_origin_errors: true,
            consecutive_local_origin_failure: Some(3),
            ..OutlierDetection::default()
        }),
        transport_socket_matches: vec![
            TransportSocketMatch {
                name: "istio".into(),
                r#match: Some(Struct::from_iter([("tlsMode", "istio")])),
                transport_socket: Some(upstream_tls(sni)),
            },
            TransportSocketMatch {
                name: "plain".into(),
                r#match: Some(Struct::default()),
                transport_socket: None,
            },
        ],
        ..Cluster::default()
    }
}

pub(crate) fn fixed(name: &str, addresses: &[&str]) -> Cluster {
    let endpoints = addresses.iter().map(|address| plain(address)).collect();
    Cluster {
        name: name.into(),
        load_assignment: Some(assignment(name, endpoints)),
        ..Cluster::default()
    }
}

fn passthrough() -> Cluster {
    let kind = DiscoveryType::OriginalDst;
    Cluster {
        name: "PassthroughCluster".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        lb_policy: LbPolicy::ClusterProvided.into(),
        ..Cluster::default()
    }
}

pub(crate) fn assignment(name: &str, lb_endpoints: Vec<LbEndpoint>) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints,
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

/// An assignment with one priority for each list.
pub(crate) fn priorities(name: &str, tiers: Vec<Vec<LbEndpoint>>) -> ClusterLoadAssignment {
    let endpoints = (0..)
        .zip(tiers)
        .map(|(priority, lb_endpoints)| LocalityLbEndpoints {
            lb_endpoints,
            priority,
            ..LocalityLbEndpoints::default()
        });
    ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: endpoints.collect(),
        ..ClusterLoadAssignment::default()
    }
}

pub(crate) fn plain(address: &str) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(socket(address)),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    }
}

pub(crate) fn direct(address: &str, clusters: &[&str]) -> LbEndpoint {
    meshed(address, clusters, false)
}

pub(crate) fn gateway(address: &str, clusters: &[&str]) -> LbEndpoint {
    meshed(address, clusters, true)
}

fn meshed(address: &str, clusters: &[&str], gateway: bool) -> LbEndpoint {
    let clusters: Value = clusters.iter().copied().collect();
    let mut own = Struct::from_iter([("clusters", clusters)]);
    if gateway {
        own.fields.insert("gateway".into(), true.into());
    }
    let tls = Struct::from_iter([("tlsMode", "istio")]);
    LbEndpoint {
        metadata: Some(Metadata {
            filter_metadata: [
                (extension::TRANSPORT_SOCKET_MATCH.to_owned(), tls),
                ("dev.catamaran".to_owned(), own),
            ]
            .into(),
            ..Metadata::default()
        }),
        ..plain(address)
    }
}

pub(crate) fn weighted(weight: u32, endpoint: LbEndpoint) -> LbEndpoint {
    LbEndpoint {
        load_balancing_weight: Some(weight),
        ..endpoint
    }
}

pub(crate) fn with_health(health: HealthStatus, endpoint: LbEndpoint) -> LbEndpoint {
    LbEndpoint {
        health_status: health.into(),
        ..endpoint
    }
}

pub(crate) fn issuers(cluster: &str, byte: u8) -> Issuers {
    Issuers {
        cluster: cluster.into(),
        fingerprints: vec![vec![byte; 32].into()],
    }
}

pub(crate) fn socket(address: &str) -> Address {
    let (ip, port) = address.rsplit_once(':').unwrap();
    Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: ip.into(),
            port_specifier: Some(PortSpecifier::PortValue(port.parse().unwrap())),
            ..SocketAddress::default()
        })),
    }
}

pub(crate) fn listener(name: &str, address: &str) -> Listener {
    Listener {
        name: name.into(),
        address: Some(socket(address)),
        ..Listener::default()
    }
}

pub(crate) fn tcp_listener(name: &str, address: &str, cluster: &str) -> Listener {
    Listener {
        bind_to_port: Some(false),
        filter_chains: vec![chain(None, tcp(cluster))],
        ..listener(name, address)
    }
}

pub(crate) fn virtual_outbound() -> Listener {
    Listener {
        use_original_dst: Some(true),
        traffic_direction: TrafficDirection::Outbound.into(),
        default_filter_chain: Some(chain(None, tcp("PassthroughCluster"))),
        ..listener("virtualOutbound", "0.0.0.0:15001")
    }
}

pub(crate) fn http_port(port: u16) -> Listener {
    let matcher = FilterChainMatch {
        application_protocols: vec!["http/1.1".into(), "h2c".into()],
        ..FilterChainMatch::default()
    };
    Listener {
        bind_to_port: Some(false),
        listener_filters: vec![inspector(&HttpInspector {})],
        filter_chains: vec![chain(Some(matcher), http(&port.to_string()))],
        default_filter_chain: Some(chain(None, tcp("PassthroughCluster"))),
        ..listener(&format!("0.0.0.0_{port}"), &format!("0.0.0.0:{port}"))
    }
}

/// Port 80 with mesh mTLS, and nothing else.
fn virtual_inbound() -> Listener {
    let matcher = FilterChainMatch {
        destination_port: Some(80),
        transport_protocol: "tls".into(),
        application_protocols: vec!["istio".into(), "istio-h2".into()],
        ..FilterChainMatch::default()
    };
    let host = VirtualHost {
        name: "inbound|http|80".into(),
        domains: vec!["*".into()],
        routes: vec![route("inbound|80||")],
        ..VirtualHost::default()
    };
    let manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::RouteConfig(routes(
            "inbound|80||",
            vec![host],
        ))),
        ..manager("")
    };
    Listener {
        traffic_direction: TrafficDirection::Inbound.into(),
        listener_filters: vec![inspector(&TlsInspector::default())],
        filter_chains: vec![FilterChain {
            name: "80-mesh".into(),
            transport_socket: Some(downstream_tls()),
            ..chain(
                Some(matcher),
                filter(extension::HTTP_CONNECTION_MANAGER, &manager),
            )
        }],
        ..listener("virtualInbound", "0.0.0.0:15006")
    }
}

pub(crate) fn chain(filter_chain_match: Option<FilterChainMatch>, filter: Filter) -> FilterChain {
    FilterChain {
        filter_chain_match,
        filters: vec![filter],
        ..FilterChain::default()
    }
}

pub(crate) fn manager(routes: &str) -> HttpConnectionManager {
    HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: None,
            route_config_name: routes.into(),
        })),
        http_filters: vec![HttpFilter {
            name: extension::HTTP_ROUTER.into(),
            config_type: Some(HttpFilterConfig::TypedConfig(Any::pack(&Router::default()))),
            ..HttpFilter::default()
        }],
        ..HttpConnectionManager::default()
    }
}

pub(crate) fn http(routes: &str) -> Filter {
    filter(extension::HTTP_CONNECTION_MANAGER, &manager(routes))
}

pub(crate) fn tcp(cluster: &str) -> Filter {
    let proxy = TcpProxy {
        cluster_specifier: Some(TcpClusterSpecifier::Cluster(cluster.into())),
        max_connect_attempts: Some(3),
        ..TcpProxy::default()
    };
    filter(extension::TCP_PROXY, &proxy)
}

pub(crate) fn filter<M: Message + TypeUrl>(name: &str, config: &M) -> Filter {
    Filter {
        name: name.into(),
        config_type: Some(FilterConfigType::TypedConfig(Any::pack(config))),
    }
}

pub(crate) fn inspector<M: Message + TypeUrl>(config: &M) -> ListenerFilter {
    ListenerFilter {
        config_type: Some(ListenerFilterConfigType::TypedConfig(Any::pack(config))),
        ..ListenerFilter::default()
    }
}

fn upstream_tls(sni: &str) -> TransportSocket {
    let context = UpstreamTlsContext {
        common_tls_context: Some(common(MatchPattern::Exact(HELLO_ID.into()))),
        sni: sni.into(),
        ..UpstreamTlsContext::default()
    };
    TransportSocket {
        name: extension::TLS.into(),
        typed_config: Some(Any::pack(&context)),
    }
}

fn downstream_tls() -> TransportSocket {
    let trust_domain = MatchPattern::Prefix("spiffe://cluster.local/".into());
    let context = DownstreamTlsContext {
        common_tls_context: Some(common(trust_domain)),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    };
    TransportSocket {
        name: extension::TLS.into(),
        typed_config: Some(Any::pack(&context)),
    }
}

fn common(identity: MatchPattern) -> CommonTlsContext {
    let secret = |name: &str| SdsSecretConfig {
        name: name.into(),
        sds_config: None,
    };
    let names = vec![SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(identity),
            ignore_case: false,
        }),
        oid: String::new(),
    }];
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret("default")],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    match_typed_subject_alt_names: names,
                    ..CertificateValidationContext::default()
                }),
                validation_context_sds_secret_config: Some(secret("ROOTCA")),
                ..CombinedCertificateValidationContext::default()
            },
        )),
        alpn_protocols: vec!["istio-h2".into(), "istio".into()],
        ..CommonTlsContext::default()
    }
}
