//! The network filter that speaks HTTP, and the HTTP filters it ends with.

use prost::{Enumeration, Message, Oneof};

use crate::TypeUrl;
use crate::access_log::AccessLog;
use crate::core::{
    CidrRange, ConfigSource, ExtensionConfigSource, Http1ProtocolOptions, Http2ProtocolOptions,
    HttpProtocolOptions, Percent, SchemeHeaderTransformation, TypedExtensionConfig,
};
use crate::route::RouteConfiguration;
use crate::well_known::{Any, Duration, Unread};

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`
#[derive(Clone, PartialEq, Message)]
pub struct HttpConnectionManager {
    #[prost(enumeration = "CodecType", tag = "1")]
    pub codec_type: i32,
    #[prost(string, tag = "2")]
    pub stat_prefix: String,
    #[prost(oneof = "RouteSpecifier", tags = "3, 4, 31")]
    pub route_specifier: Option<RouteSpecifier>,
    #[prost(message, repeated, tag = "5")]
    pub http_filters: Vec<HttpFilter>,
    #[prost(message, optional, tag = "6")]
    pub add_user_agent: Option<bool>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub tracing: Option<Unread>,
    #[prost(message, optional, tag = "35")]
    pub common_http_protocol_options: Option<HttpProtocolOptions>,
    #[prost(bool, tag = "58")]
    pub http1_safe_max_connection_duration: bool,
    #[prost(message, optional, tag = "8")]
    pub http_protocol_options: Option<Http1ProtocolOptions>,
    #[prost(message, optional, tag = "9")]
    pub http2_protocol_options: Option<Http2ProtocolOptions>,
    #[prost(bytes = "bytes", optional, tag = "44")]
    pub http3_protocol_options: Option<Unread>,
    #[prost(string, tag = "10")]
    pub server_name: String,
    #[prost(enumeration = "ServerHeaderTransformation", tag = "34")]
    pub server_header_transformation: i32,
    #[prost(message, optional, tag = "48")]
    pub scheme_header_transformation: Option<SchemeHeaderTransformation>,
    #[prost(message, optional, tag = "29")]
    pub max_request_headers_kb: Option<u32>,
    #[prost(message, optional, tag = "24")]
    pub stream_idle_timeout: Option<Duration>,
    #[prost(message, optional, tag = "59")]
    pub stream_flush_timeout: Option<Duration>,
    #[prost(message, optional, tag = "28")]
    pub request_timeout: Option<Duration>,
    #[prost(message, optional, tag = "41")]
    pub request_headers_timeout: Option<Duration>,
    #[prost(message, optional, tag = "12")]
    pub drain_timeout: Option<Duration>,
    #[prost(message, optional, tag = "62")]
    pub drain_timeout_jitter: Option<Percent>,
    #[prost(message, optional, tag = "26")]
    pub delayed_close_timeout: Option<Duration>,
    #[prost(message, repeated, tag = "13")]
    pub access_log: Vec<AccessLog>,
    #[prost(message, optional, tag = "54")]
    pub access_log_flush_interval: Option<Duration>,
    #[prost(bool, tag = "55")]
    pub flush_access_log_on_new_request: bool,
    #[prost(message, optional, tag = "56")]
    pub access_log_options: Option<HcmAccessLogOptions>,
    #[prost(message, optional, tag = "14")]
    pub use_remote_address: Option<bool>,
    #[prost(uint32, tag = "19")]
    pub xff_num_trusted_hops: u32,
    #[prost(message, repeated, tag = "46")]
    pub original_ip_detection_extensions: Vec<TypedExtensionConfig>,
    #[prost(message, repeated, tag = "52")]
    pub early_header_mutation_extensions: Vec<TypedExtensionConfig>,
    #[prost(message, optional, tag = "25")]
    pub internal_address_config: Option<InternalAddressConfig>,
    #[prost(bool, tag = "21")]
    pub skip_xff_append: bool,
    #[prost(string, tag = "22")]
    pub via: String,
    #[prost(message, optional, tag = "15")]
    pub generate_request_id: Option<bool>,
    #[prost(bool, tag = "32")]
    pub preserve_external_request_id: bool,
    #[prost(bool, tag = "37")]
    pub always_set_request_id_in_response: bool,
    #[prost(enumeration = "ForwardClientCertDetails", tag = "16")]
    pub forward_client_cert_details: i32,
    #[prost(message, optional, tag = "17")]
    pub set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
    #[prost(bytes = "bytes", optional, tag = "60")]
    pub forward_client_cert_matcher: Option<Unread>,
    #[prost(bool, tag = "18")]
    pub proxy_100_continue: bool,
    #[prost(bool, tag = "20")]
    pub represent_ipv4_remote_address_as_ipv4_mapped_ipv6: bool,
    #[prost(message, repeated, tag = "23")]
    pub upgrade_configs: Vec<UpgradeConfig>,
    #[prost(message, optional, tag = "30")]
    pub normalize_path: Option<bool>,
    #[prost(bool, tag = "33")]
    pub merge_slashes: bool,
    #[prost(enumeration = "PathWithEscapedSlashesAction", tag = "45")]
    pub path_with_escaped_slashes_action: i32,
    #[prost(message, optional, tag = "36")]
    pub request_id_extension: Option<RequestIDExtension>,
    #[prost(bytes = "bytes", optional, tag = "38")]
    pub local_reply_config: Option<Unread>,
    #[prost(bool, tag = "39")]
    pub strip_matching_host_port: bool,
    #[prost(bool, optional, tag = "42")]
    pub strip_any_host_port: Option<bool>,
    #[prost(message, optional, tag = "40")]
    pub stream_error_on_invalid_http_message: Option<bool>,
    #[prost(message, optional, tag = "43")]
    pub path_normalization_options: Option<PathNormalizationOptions>,
    #[prost(bool, tag = "47")]
    pub strip_trailing_host_dot: bool,
    #[prost(message, optional, tag = "49")]
    pub proxy_status_config: Option<ProxyStatusConfig>,
    #[prost(message, optional, tag = "50")]
    pub typed_header_validation_config: Option<TypedExtensionConfig>,
    #[prost(bool, tag = "51")]
    pub append_x_forwarded_port: bool,
    #[prost(bool, tag = "57")]
    pub append_local_overload: bool,
    #[prost(message, optional, tag = "53")]
    pub add_proxy_protocol_connection_state: Option<bool>,
    #[prost(message, optional, tag = "61")]
    pub forward_proto_config: Option<ForwardProtoConfig>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.route_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum RouteSpecifier {
    #[prost(message, tag = "3")]
    Rds(Rds),
    #[prost(message, tag = "4")]
    RouteConfig(RouteConfiguration),
    #[prost(bytes = "bytes", tag = "31")]
    ScopedRoutes(Unread),
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.CodecType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum CodecType {
    Auto = 0,
    Http1 = 1,
    Http2 = 2,
    Http3 = 3,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ServerHeaderTransformation`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ServerHeaderTransformation {
    Overwrite = 0,
    AppendIfAbsent = 1,
    PassThrough = 2,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertDetails`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ForwardClientCertDetails {
    Sanitize = 0,
    ForwardOnly = 1,
    AppendForward = 2,
    SanitizeSet = 3,
    AlwaysForwardOnly = 4,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.PathWithEscapedSlashesAction`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum PathWithEscapedSlashesAction {
    ImplementationSpecificDefault = 0,
    KeepUnchanged = 1,
    RejectRequest = 2,
    UnescapeAndRedirect = 3,
    UnescapeAndForward = 4,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig`
#[derive(Clone, PartialEq, Message)]
pub struct InternalAddressConfig {
    #[prost(bool, tag = "1")]
    pub unix_sockets: bool,
    #[prost(message, repeated, tag = "2")]
    pub cidr_ranges: Vec<CidrRange>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails`
#[derive(Clone, PartialEq, Message)]
pub struct SetCurrentClientCertDetails {
    #[prost(message, optional, tag = "1")]
    pub subject: Option<bool>,
    #[prost(bool, tag = "3")]
    pub cert: bool,
    #[prost(bool, tag = "6")]
    pub chain: bool,
    #[prost(bool, tag = "4")]
    pub dns: bool,
    #[prost(bool, tag = "5")]
    pub uri: bool,
    #[prost(bool, tag = "8")]
    pub issuer: bool,
    #[prost(enumeration = "ForwardClientCertFormat", tag = "7")]
    pub format: i32,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertFormat`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ForwardClientCertFormat {
    Text = 0,
    Json = 1,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertConfig`
#[derive(Clone, PartialEq, Message)]
pub struct ForwardClientCertConfig {
    #[prost(enumeration = "ForwardClientCertDetails", tag = "1")]
    pub forward_client_cert_details: i32,
    #[prost(message, optional, tag = "2")]
    pub set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig`
#[derive(Clone, PartialEq, Message)]
pub struct UpgradeConfig {
    #[prost(string, tag = "1")]
    pub upgrade_type: String,
    #[prost(message, repeated, tag = "2")]
    pub filters: Vec<HttpFilter>,
    #[prost(message, optional, tag = "3")]
    pub enabled: Option<bool>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.PathNormalizationOptions`
#[derive(Clone, PartialEq, Message)]
pub struct PathNormalizationOptions {
    #[prost(message, optional, tag = "1")]
    pub forwarding_transformation: Option<PathTransformation>,
    #[prost(message, optional, tag = "2")]
    pub http_filter_transformation: Option<PathTransformation>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ProxyStatusConfig`
#[derive(Clone, PartialEq, Message)]
pub struct ProxyStatusConfig {
    #[prost(bool, tag = "1")]
    pub remove_details: bool,
    #[prost(bool, tag = "2")]
    pub remove_connection_termination_details: bool,
    #[prost(bool, tag = "3")]
    pub remove_response_flags: bool,
    #[prost(bool, tag = "4")]
    pub set_recommended_response_code: bool,
    #[prost(oneof = "ProxyName", tags = "5, 6")]
    pub proxy_name: Option<ProxyName>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ProxyStatusConfig.proxy_name`
#[derive(Clone, PartialEq, Oneof)]
pub enum ProxyName {
    #[prost(bool, tag = "5")]
    UseNodeId(bool),
    #[prost(string, tag = "6")]
    LiteralProxyName(String),
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.HcmAccessLogOptions`
#[derive(Clone, PartialEq, Message)]
pub struct HcmAccessLogOptions {
    #[prost(message, optional, tag = "1")]
    pub access_log_flush_interval: Option<Duration>,
    #[prost(bool, tag = "2")]
    pub flush_access_log_on_new_request: bool,
    #[prost(bool, tag = "3")]
    pub flush_log_on_tunnel_successfully_established: bool,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.ForwardProtoConfig`
#[derive(Clone, PartialEq, Message)]
pub struct ForwardProtoConfig {
    #[prost(uint32, repeated, tag = "1")]
    pub https_destination_ports: Vec<u32>,
    #[prost(uint32, repeated, tag = "2")]
    pub http_destination_ports: Vec<u32>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.Rds`
#[derive(Clone, PartialEq, Message)]
pub struct Rds {
    #[prost(message, optional, tag = "1")]
    pub config_source: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub route_config_name: String,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter`
#[derive(Clone, PartialEq, Message)]
pub struct HttpFilter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "HttpFilterConfig", tags = "4, 5")]
    pub config_type: Option<HttpFilterConfig>,
    #[prost(bool, tag = "6")]
    pub is_optional: bool,
    #[prost(bool, tag = "7")]
    pub disabled: bool,
}

impl HttpFilter {
    pub fn new<M: Message + TypeUrl>(name: &str, settings: &M) -> Self {
        Self {
            name: name.to_owned(),
            config_type: Some(HttpFilterConfig::TypedConfig(Any::pack(settings))),
            ..Self::default()
        }
    }
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.config_type`
#[derive(Clone, PartialEq, Oneof)]
pub enum HttpFilterConfig {
    #[prost(message, tag = "4")]
    TypedConfig(Any),
    #[prost(message, tag = "5")]
    ConfigDiscovery(ExtensionConfigSource),
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension`
#[derive(Clone, PartialEq, Message)]
pub struct RequestIDExtension {
    #[prost(message, optional, tag = "1")]
    pub typed_config: Option<Any>,
}

/// `envoy.extensions.filters.http.router.v3.Router`
#[derive(Clone, PartialEq, Message)]
pub struct Router {
    #[prost(message, optional, tag = "1")]
    pub dynamic_stats: Option<bool>,
    #[prost(bool, tag = "2")]
    pub start_child_span: bool,
    #[prost(message, repeated, tag = "3")]
    pub upstream_log: Vec<AccessLog>,
    #[prost(message, optional, tag = "9")]
    pub upstream_log_options: Option<UpstreamAccessLogOptions>,
    #[prost(bool, tag = "4")]
    pub suppress_envoy_headers: bool,
    #[prost(string, repeated, tag = "5")]
    pub strict_check_headers: Vec<String>,
    #[prost(bool, tag = "6")]
    pub respect_expected_rq_timeout: bool,
    #[prost(bool, tag = "7")]
    pub suppress_grpc_request_failure_code_stats: bool,
    #[prost(message, repeated, tag = "8")]
    pub upstream_http_filters: Vec<HttpFilter>,
    #[prost(message, optional, tag = "10")]
    pub reject_connect_request_early_data: Option<bool>,
}

/// `envoy.extensions.filters.http.router.v3.Router.UpstreamAccessLogOptions`
#[derive(Clone, PartialEq, Message)]
pub struct UpstreamAccessLogOptions {
    #[prost(bool, tag = "1")]
    pub flush_upstream_log_on_upstream_stream: bool,
    #[prost(message, optional, tag = "2")]
    pub upstream_log_flush_interval: Option<Duration>,
}

/// `envoy.type.http.v3.PathTransformation`
#[derive(Clone, PartialEq, Message)]
pub struct PathTransformation {
    #[prost(message, repeated, tag = "1")]
    pub operations: Vec<PathOperation>,
}

/// `envoy.type.http.v3.PathTransformation.Operation`
#[derive(Clone, PartialEq, Message)]
pub struct PathOperation {
    #[prost(oneof = "PathOperationSpecifier", tags = "2, 3")]
    pub operation_specifier: Option<PathOperationSpecifier>,
}

/// `envoy.type.http.v3.PathTransformation.Operation.operation_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum PathOperationSpecifier {
    #[prost(message, tag = "2")]
    NormalizePathRfc3986(NormalizePathRFC3986),
    #[prost(message, tag = "3")]
    MergeSlashes(MergeSlashes),
}

/// `envoy.type.http.v3.PathTransformation.Operation.NormalizePathRFC3986`
#[derive(Clone, PartialEq, Message)]
pub struct NormalizePathRFC3986 {}

/// `envoy.type.http.v3.PathTransformation.Operation.MergeSlashes`
#[derive(Clone, PartialEq, Message)]
pub struct MergeSlashes {}
