//! A small fleet on loopback addresses: applications, sidecars and gateways in one process, told what primaries would tell them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use catamaran_decide::{Changes, Table};
use catamaran_identity::{Credentials, Issuer, Root};
use catamaran_model::{ClusterId, MeshName, SpiffeId, Timestamp, TrustDomain};
use catamaran_proxy::carry::{Capture, Carrier, Remote, Role, Settings};
use catamaran_proxy::report::{Party, Report};
use catamaran_wire::cluster::{
    AutoHttpConfig, CircuitBreakers, Cluster, ClusterDiscoveryType, DiscoveryType,
    ExplicitHttpConfig, LbPolicy, OutlierDetection, ProtocolConfig, RetryBudget, Thresholds,
    TransportSocketMatch, UpstreamHttpOptions, UpstreamProtocolOptions,
};
use catamaran_wire::core::{
    Address, AddressKind, Http1ProtocolOptions, Http2ProtocolOptions, Metadata, Percent,
    PortSpecifier, SocketAddress, TrafficDirection, TransportSocket,
};
use catamaran_wire::endpoint::{
    ClusterLoadAssignment, Endpoint, HostIdentifier, LbEndpoint, LocalityLbEndpoints,
};
use catamaran_wire::hcm::{
    ForwardClientCertDetails, HttpConnectionManager, HttpFilter, HttpFilterConfig, Rds,
    RouteSpecifier, Router, UpgradeConfig,
};
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
use catamaran_wire::well_known::{Duration as WireDuration, Struct, Value};
use catamaran_wire::{Any, Message, TypeUrl, extension};
use tokio::sync::watch;

pub(crate) const PORT: u16 = 5000;
pub(crate) const HELLO: &str = "outbound|5000||helloworld.default.svc.cluster.local";
pub(crate) const HELLO_SNI: &str = "outbound_.5000_._.helloworld.default.svc.cluster.local";

/// An address that nobody else in this process has, and hardly anybody in another.
pub(crate) fn address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id();
    let [a, b] = (process as u16).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(
        127,
        64 + a % 128,
        b,
        NEXT.fetch_add(1, Ordering::Relaxed),
    ))
}

pub(crate) fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}")).unwrap()
}

/// One root, and an issuer for each of two clusters.
pub(crate) struct Trust {
    issuers: [Issuer; 2],
}

impl Trust {
    pub(crate) fn new() -> Trust {
        let domain = TrustDomain::default();
        let mesh = MeshName::new("mesh-1").unwrap();
        let root = Root::create(&domain, &mesh, now()).unwrap();
        let issuer = |cluster: &str| {
            let cluster = ClusterId::new(cluster).unwrap();
            let authority = root
                .issue_intermediate(&domain, &mesh, &cluster, now())
                .unwrap();
            Issuer::new(authority, domain.clone()).unwrap()
        };
        Trust {
            issuers: [issuer("cluster-1"), issuer("cluster-2")],
        }
    }

    pub(crate) fn credentials(&self, cluster: usize, account: &str) -> Arc<Credentials> {
        let holding = self.issuers[cluster - 1]
            .holding_for(&id(account), None, now())
            .unwrap();
        Arc::new(Credentials::new(
            holding,
            Arc::new(rustls::time_provider::DefaultTimeProvider),
        ))
    }

    fn issuers(&self) -> Vec<Issuers> {
        let of = |number: usize| Issuers {
            cluster: format!("cluster-{number}"),
            fingerprints: vec![self.issuers[number - 1].fingerprint().0.to_vec().into()],
        };
        vec![of(1), of(2)]
    }
}

fn now() -> Timestamp {
    Timestamp(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis() as u64,
    )
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) address: IpAddr,
    pub(crate) carrier: Carrier,
    pub(crate) report: Arc<Report>,
    pub(crate) tables: watch::Sender<Arc<Table>>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    /// Where it takes requests as an HTTP proxy.
    pub(crate) fn outbound(&self) -> SocketAddr {
        SocketAddr::new(self.address, 15001)
    }

    /// Where it takes calls for its workload.
    pub(crate) fn inbound(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }

    /// Ends it, and gives its access log.
    pub(crate) async fn end(self) -> Vec<serde_json::Value> {
        self.carrier.drain().await;
        drop(self.report);
        let log = self.log.lock().unwrap();
        let text = std::str::from_utf8(&log).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn table(changes: Changes) -> Arc<Table> {
    let (table, refusals) = Table::build(changes);
    assert_eq!(refusals, []);
    Arc::new(table)
}

pub(crate) fn start(
    role: Role,
    address: IpAddr,
    name: &str,
    cluster: usize,
    credentials: Arc<Credentials>,
    table: Arc<Table>,
) -> Proxy {
    let text = |text: &str| Arc::<str>::from(text);
    let log = Arc::new(Mutex::new(Vec::new()));
    let report = Report::start(Some(Box::new(Log(log.clone())))).unwrap();
    let (tables, receiver) = watch::channel(table);
    let settings = Settings {
        role,
        capture: Capture::Explicit,
        listeners: false,
        address,
        own: Party {
            workload: text(name),
            namespace: text("default"),
            principal: text(&id(name).to_string()),
            app: text(name),
            version: text("v1"),
            cluster: text(&format!("cluster-{cluster}")),
        },
        workers: 1,
        drain: Duration::from_secs(5),
        remote: Remote {
            ping: Duration::from_millis(300),
            pong: Duration::from_millis(300),
            renew: Duration::from_secs(2),
        },
    };
    let carrier = Carrier::start(settings, receiver, credentials, &report).unwrap();
    Proxy {
        address,
        carrier,
        report,
        tables,
        log,
    }
}

/// The sidecar of `sleep` in cluster-1, which calls `helloworld` at these endpoints.
pub(crate) fn caller(trust: &Trust, endpoints: Vec<LbEndpoint>) -> Proxy {
    let credentials = trust.credentials(1, "sleep");
    start(
        Role::Sidecar,
        address(),
        "sleep",
        1,
        credentials,
        table(calls(trust, endpoints)),
    )
}

/// A sidecar of `helloworld` in a cluster, with strict mTLS, before a program.
pub(crate) fn callee(trust: &Trust, cluster: usize, account: &str, program: SocketAddr) -> Proxy {
    let credentials = trust.credentials(cluster, account);
    start(
        Role::Sidecar,
        address(),
        account,
        cluster,
        credentials,
        table(takes(program)),
    )
}

/// The same, and the program speaks HTTP/2.
pub(crate) fn callee_of_http2(trust: &Trust, program: SocketAddr) -> Proxy {
    let protocol = ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default());
    let credentials = trust.credentials(1, "helloworld");
    start(
        Role::Sidecar,
        address(),
        "helloworld",
        1,
        credentials,
        table(takes_in(protocol, program)),
    )
}

/// The gateway of cluster-2, before these sidecars.
pub(crate) fn gateway(trust: &Trust, behind: &[SocketAddr]) -> Proxy {
    let credentials = trust.credentials(2, "eastwest-gateway");
    let endpoints = behind.iter().map(|address| plain(*address)).collect();
    start(
        Role::Gateway,
        address(),
        "gateway",
        2,
        credentials,
        table(passes(endpoints)),
    )
}

/// What a caller of `helloworld` is told.
pub(crate) fn calls(trust: &Trust, endpoints: Vec<LbEndpoint>) -> Changes {
    let host = VirtualHost {
        name: "helloworld.default.svc.cluster.local:5000".into(),
        domains: ["helloworld", "helloworld:5000"].map(String::from).into(),
        routes: vec![route(HELLO)],
        retry_policy: Some(RetryPolicy {
            retry_on: "connect-failure,refused-stream,reset".into(),
            num_retries: Some(2),
            ..RetryPolicy::default()
        }),
        include_request_attempt_count: true,
        ..VirtualHost::default()
    };
    let matcher = FilterChainMatch {
        application_protocols: vec!["http/1.1".into(), "h2c".into()],
        ..FilterChainMatch::default()
    };
    let port = Listener {
        bind_to_port: Some(false),
        listener_filters: vec![inspector(&HttpInspector {})],
        filter_chains: vec![chain(
            Some(matcher),
            http(RouteSpecifier::Rds(Rds {
                config_source: None,
                route_config_name: "5000".into(),
            })),
        )],
        ..listener("0.0.0.0_5000", PORT, TrafficDirection::Outbound)
    };
    Changes {
        listeners: vec![port],
        routes: vec![RouteConfiguration {
            name: "5000".into(),
            virtual_hosts: vec![host],
            ..RouteConfiguration::default()
        }],
        clusters: vec![helloworld()],
        assignments: vec![assignment(HELLO, endpoints)],
        issuers: trust.issuers(),
        ..Changes::default()
    }
}

/// What the sidecar of a `helloworld` is told, whose program is at `program`.
pub(crate) fn takes(program: SocketAddr) -> Changes {
    takes_in(
        ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()),
        program,
    )
}

fn takes_in(protocol: ProtocolConfig, program: SocketAddr) -> Changes {
    let name = format!("inbound|{PORT}||");
    let matcher = FilterChainMatch {
        destination_port: Some(PORT.into()),
        transport_protocol: "tls".into(),
        application_protocols: ["istio", "istio-http/1.1", "istio-h2"]
            .map(String::from)
            .into(),
        ..FilterChainMatch::default()
    };
    let host = VirtualHost {
        name: format!("inbound|http|{PORT}"),
        domains: vec!["*".into()],
        routes: vec![route(&name)],
        ..VirtualHost::default()
    };
    let routes = RouteConfiguration {
        name: name.clone(),
        virtual_hosts: vec![host],
        ..RouteConfiguration::default()
    };
    let context = DownstreamTlsContext {
        common_tls_context: Some(common(
            MatchPattern::Prefix("spiffe://cluster.local/".into()),
            &["istio-h2", "istio-http/1.1", "istio"],
        )),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    };
    let inbound = Listener {
        listener_filters: vec![inspector(&TlsInspector::default())],
        filter_chains: vec![FilterChain {
            name: format!("{PORT}-mesh"),
            transport_socket: Some(tls(&context)),
            ..chain(Some(matcher), http(RouteSpecifier::RouteConfig(routes)))
        }],
        ..listener("virtualInbound", 15006, TrafficDirection::Inbound)
    };
    Changes {
        listeners: vec![inbound],
        clusters: vec![Cluster {
            load_assignment: Some(assignment(&name, vec![plain(program)])),
            typed_extension_protocol_options: options(UpstreamProtocolOptions::ExplicitHttpConfig(
                ExplicitHttpConfig {
                    protocol_config: Some(protocol),
                },
            )),
            name,
            ..Cluster::default()
        }],
        ..Changes::default()
    }
}

/// What the gateway before these endpoints of `helloworld` is told.
pub(crate) fn passes(endpoints: Vec<LbEndpoint>) -> Changes {
    let matcher = FilterChainMatch {
        server_names: vec![HELLO_SNI.into()],
        application_protocols: ["istio", "istio-http/1.1", "istio-h2"]
            .map(String::from)
            .into(),
        ..FilterChainMatch::default()
    };
    let proxy = TcpProxy {
        cluster_specifier: Some(TcpClusterSpecifier::Cluster(HELLO_SNI.into())),
        max_connect_attempts: Some(3),
        ..TcpProxy::default()
    };
    Changes {
        listeners: vec![Listener {
            listener_filters: vec![inspector(&TlsInspector::default())],
            filter_chains: vec![chain(Some(matcher), filter(extension::TCP_PROXY, &proxy))],
            ..listener("0.0.0.0_15443", 15443, TrafficDirection::Inbound)
        }],
        clusters: vec![Cluster {
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
            lb_policy: LbPolicy::LeastRequest.into(),
            name: HELLO_SNI.into(),
            ..Cluster::default()
        }],
        assignments: vec![assignment(HELLO_SNI, endpoints)],
        ..Changes::default()
    }
}

fn helloworld() -> Cluster {
    let context = UpstreamTlsContext {
        common_tls_context: Some(common(
            MatchPattern::Exact(id("helloworld").to_string()),
            &["istio-h2", "istio-http/1.1", "istio"],
        )),
        sni: HELLO_SNI.into(),
        ..UpstreamTlsContext::default()
    };
    Cluster {
        name: HELLO.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        connect_timeout: Some(WireDuration::from(Duration::from_secs(1))),
        outlier_detection: Some(OutlierDetection {
            max_ejection_percent: Some(50),
            base_ejection_time: Some(WireDuration::from(Duration::from_secs(5))),
            split_external_local_origin_errors: true,
            consecutive_local_origin_failure: Some(3),
            ..OutlierDetection::default()
        }),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                retry_budget: Some(RetryBudget {
                    budget_percent: Some(Percent { value: 20.0 }),
                    min_retry_concurrency: Some(3),
                    ..RetryBudget::default()
                }),
                ..Thresholds::default()
            }],
            ..CircuitBreakers::default()
        }),
        transport_socket_matches: vec![TransportSocketMatch {
            name: "tlsMode-istio".into(),
            r#match: Some(Struct::from_iter([("tlsMode", "istio")])),
            transport_socket: Some(tls(&context)),
        }],
        typed_extension_protocol_options: options(UpstreamProtocolOptions::AutoConfig(
            AutoHttpConfig::default(),
        )),
        ..Cluster::default()
    }
}

fn options(protocol: UpstreamProtocolOptions) -> std::collections::BTreeMap<String, Any> {
    let options = UpstreamHttpOptions {
        upstream_protocol_options: Some(protocol),
        ..UpstreamHttpOptions::default()
    };
    [(
        extension::UPSTREAM_HTTP_OPTIONS.to_owned(),
        Any::pack(&options),
    )]
    .into()
}

fn route(cluster: &str) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".into())),
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
            timeout: Some(WireDuration::default()),
            ..RouteAction::default()
        })),
        ..Route::default()
    }
}

fn assignment(name: &str, lb_endpoints: Vec<LbEndpoint>) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints,
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

pub(crate) fn plain(address: SocketAddr) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(socket(address)),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    }
}

/// An endpoint of a cluster that is spoken to by mTLS.
pub(crate) fn direct(address: SocketAddr, cluster: usize) -> LbEndpoint {
    meshed(address, cluster, None)
}

/// A gateway's address with so many endpoints of cluster-2 behind it.
pub(crate) fn through(address: SocketAddr, weight: u32) -> LbEndpoint {
    meshed(address, 2, Some(weight))
}

fn meshed(address: SocketAddr, cluster: usize, gateway: Option<u32>) -> LbEndpoint {
    let cluster = format!("cluster-{cluster}");
    let clusters: Value = [cluster.as_str()].into_iter().collect();
    let mut own = Struct::from_iter([("clusters", clusters)]);
    if gateway.is_some() {
        own.fields.insert("gateway".into(), true.into());
    }
    LbEndpoint {
        metadata: Some(Metadata {
            filter_metadata: [
                (
                    extension::TRANSPORT_SOCKET_MATCH.to_owned(),
                    Struct::from_iter([("tlsMode", "istio")]),
                ),
                ("dev.catamaran".to_owned(), own),
            ]
            .into(),
            ..Metadata::default()
        }),
        load_balancing_weight: gateway,
        ..plain(address)
    }
}

fn socket(address: SocketAddr) -> Address {
    Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..SocketAddress::default()
        })),
    }
}

fn listener(name: &str, port: u16, direction: TrafficDirection) -> Listener {
    Listener {
        name: name.into(),
        address: Some(socket(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port,
        ))),
        traffic_direction: direction.into(),
        ..Listener::default()
    }
}

fn chain(filter_chain_match: Option<FilterChainMatch>, filter: Filter) -> FilterChain {
    FilterChain {
        filter_chain_match,
        filters: vec![filter],
        ..FilterChain::default()
    }
}

fn http(routes: RouteSpecifier) -> Filter {
    let manager = HttpConnectionManager {
        route_specifier: Some(routes),
        http_filters: vec![HttpFilter {
            name: extension::HTTP_ROUTER.into(),
            config_type: Some(HttpFilterConfig::TypedConfig(Any::pack(&Router::default()))),
            ..HttpFilter::default()
        }],
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".into(),
            ..UpgradeConfig::default()
        }],
        forward_client_cert_details: ForwardClientCertDetails::SanitizeSet.into(),
        ..HttpConnectionManager::default()
    };
    filter(extension::HTTP_CONNECTION_MANAGER, &manager)
}

fn filter<M: Message + TypeUrl>(name: &str, config: &M) -> Filter {
    Filter {
        name: name.into(),
        config_type: Some(FilterConfigType::TypedConfig(Any::pack(config))),
    }
}

fn inspector<M: Message + TypeUrl>(config: &M) -> ListenerFilter {
    ListenerFilter {
        config_type: Some(ListenerFilterConfigType::TypedConfig(Any::pack(config))),
        ..ListenerFilter::default()
    }
}

fn tls<M: Message + TypeUrl>(context: &M) -> TransportSocket {
    TransportSocket {
        name: extension::TLS.into(),
        typed_config: Some(Any::pack(context)),
    }
}

fn common(identity: MatchPattern, alpn: &[&str]) -> CommonTlsContext {
    let secret = |name: &str| SdsSecretConfig {
        name: name.into(),
        sds_config: None,
    };
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret("default")],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
                        san_type: SanType::Uri.into(),
                        matcher: Some(StringMatcher {
                            match_pattern: Some(identity),
                            ignore_case: false,
                        }),
                        oid: String::new(),
                    }],
                    ..CertificateValidationContext::default()
                }),
                validation_context_sds_secret_config: Some(secret("ROOTCA")),
                ..CombinedCertificateValidationContext::default()
            },
        )),
        alpn_protocols: alpn.iter().map(|name| (*name).into()).collect(),
        ..CommonTlsContext::default()
    }
}
