//! The filters that listeners are made of, and where their access log goes.

use catamaran_wire::access_log::{AccessLog, StdoutAccessLog};
use catamaran_wire::core::{
    AggregatedConfigSource, ApiVersion, ConfigSource, ConfigSourceSpecifier, Format,
    SubstitutionFormatString,
};
use catamaran_wire::hcm::{
    CodecType, ForwardClientCertDetails, HttpConnectionManager, HttpFilter, HttpFilterConfig, Rds,
    RouteSpecifier, Router, SetCurrentClientCertDetails, UpgradeConfig,
};
use catamaran_wire::listener::{
    Filter, FilterConfigType, ListenerFilter, ListenerFilterConfigType,
};
use catamaran_wire::listener_filter::{HttpInspector, OriginalDst, TlsInspector};
use catamaran_wire::route::RouteConfiguration;
use catamaran_wire::tcp::{ClusterSpecifier, TcpProxy};
use catamaran_wire::well_known::{Duration, Struct};
use catamaran_wire::{Any, Message, TypeUrl, extension};

/// Everything but secrets comes over the one stream.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    }
}

/// Requests one by one, by the route configuration of that name.
pub(crate) fn outbound_http(stat_prefix: String, routes: &str) -> Filter {
    let rds = Rds {
        config_source: Some(ads()),
        route_config_name: routes.to_owned(),
    };
    http(HttpConnectionManager {
        stat_prefix,
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        ..HttpConnectionManager::default()
    })
}

/// Requests one by one to the workload; what callers claim of themselves in `x-forwarded-client-cert` gives way to what
/// their certificate says.
pub(crate) fn inbound_http(stat_prefix: String, routes: RouteConfiguration) -> Filter {
    http(HttpConnectionManager {
        stat_prefix,
        route_specifier: Some(RouteSpecifier::RouteConfig(routes)),
        forward_client_cert_details: ForwardClientCertDetails::SanitizeSet.into(),
        set_current_client_cert_details: Some(SetCurrentClientCertDetails {
            uri: true,
            ..SetCurrentClientCertDetails::default()
        }),
        ..HttpConnectionManager::default()
    })
}

fn http(manager: HttpConnectionManager) -> Filter {
    let manager = HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        http_filters: vec![HttpFilter {
            name: extension::HTTP_ROUTER.to_owned(),
            config_type: Some(HttpFilterConfig::TypedConfig(Any::pack(&Router::default()))),
            ..HttpFilter::default()
        }],
        // Streams may be silent for long; Envoy would end them after five minutes.
        stream_idle_timeout: Some(Duration::default()),
        access_log: vec![access_log()],
        normalize_path: Some(true),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..UpgradeConfig::default()
        }],
        ..manager
    };
    filter(extension::HTTP_CONNECTION_MANAGER, &manager)
}

/// How often a connection is dialled before its caller hears that nobody answered: nothing of the caller's was sent yet, so
/// another endpoint may be tried.
const CONNECT_ATTEMPTS: u32 = 3;

/// Bytes, to one cluster.
pub(crate) fn tcp(cluster: &str) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        access_log: vec![access_log()],
        max_connect_attempts: Some(CONNECT_ATTEMPTS),
        ..TcpProxy::default()
    };
    filter(extension::TCP_PROXY, &proxy)
}

/// Where the caller wanted to go is the connection's destination.
pub(crate) fn original_destination() -> ListenerFilter {
    listener_filter(extension::ORIGINAL_DST, &OriginalDst {})
}

/// Looks at a ClientHello, without answering it.
pub(crate) fn tls_inspector() -> ListenerFilter {
    listener_filter(extension::TLS_INSPECTOR, &TlsInspector::default())
}

/// Looks whether the first bytes are HTTP.
pub(crate) fn http_inspector() -> ListenerFilter {
    listener_filter(extension::HTTP_INSPECTOR, &HttpInspector {})
}

fn filter<M: Message + TypeUrl>(name: &str, config: &M) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(FilterConfigType::TypedConfig(Any::pack(config))),
    }
}

fn listener_filter<M: Message + TypeUrl>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(ListenerFilterConfigType::TypedConfig(Any::pack(config))),
        ..ListenerFilter::default()
    }
}

/// One line of JSON for each request or connection; our own proxy writes these fields, and its reason beside them.
fn access_log() -> AccessLog {
    let fields = Struct::from_iter([
        ("authority", "%REQ(:AUTHORITY)%"),
        ("bytes_received", "%BYTES_RECEIVED%"),
        ("bytes_sent", "%BYTES_SENT%"),
        ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
        ("downstream_peer", "%DOWNSTREAM_PEER_URI_SAN%"),
        ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
        ("duration", "%DURATION%"),
        ("method", "%REQ(:METHOD)%"),
        ("path", "%REQ(:PATH)%"),
        ("protocol", "%PROTOCOL%"),
        ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
        ("response_code", "%RESPONSE_CODE%"),
        ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
        ("response_flags", "%RESPONSE_FLAGS%"),
        ("route_name", "%ROUTE_NAME%"),
        ("start_time", "%START_TIME%"),
        ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
        ("upstream_host", "%UPSTREAM_HOST%"),
        ("upstream_peer", "%UPSTREAM_PEER_URI_SAN%"),
    ]);
    let stdout = StdoutAccessLog {
        log_format: Some(SubstitutionFormatString {
            format: Some(Format::JsonFormat(fields)),
            ..SubstitutionFormatString::default()
        }),
    };
    AccessLog {
        name: extension::STDOUT_ACCESS_LOG.to_owned(),
        typed_config: Some(Any::pack(&stdout)),
        ..AccessLog::default()
    }
}
