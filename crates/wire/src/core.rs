//! What every other message is made of: addresses, nodes, sources of configuration, protocol options.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

use crate::TypeUrl;
use crate::matcher::StringMatcher;
use crate::well_known::{Any, Duration, Struct, Unread};

/// `envoy.config.core.v3.Node`
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub cluster: String,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
    #[prost(btree_map = "string, message", tag = "12")]
    pub dynamic_parameters: BTreeMap<String, ContextParams>,
    #[prost(message, optional, tag = "4")]
    pub locality: Option<Locality>,
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    #[prost(oneof = "UserAgentVersionType", tags = "7, 8")]
    pub user_agent_version_type: Option<UserAgentVersionType>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub extensions: Vec<Unread>,
    #[prost(string, repeated, tag = "10")]
    pub client_features: Vec<String>,
    #[prost(message, repeated, tag = "11")]
    pub listening_addresses: Vec<Address>,
}

/// `envoy.config.core.v3.Node.user_agent_version_type`
#[derive(Clone, PartialEq, Oneof)]
pub enum UserAgentVersionType {
    #[prost(string, tag = "7")]
    UserAgentVersion(String),
    #[prost(message, tag = "8")]
    UserAgentBuildVersion(BuildVersion),
}

/// `xds.core.v3.ContextParams`
#[derive(Clone, PartialEq, Message)]
pub struct ContextParams {
    #[prost(btree_map = "string, string", tag = "1")]
    pub params: BTreeMap<String, String>,
}

/// `envoy.config.core.v3.BuildVersion`
#[derive(Clone, PartialEq, Message)]
pub struct BuildVersion {
    #[prost(message, optional, tag = "1")]
    pub version: Option<SemanticVersion>,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<Struct>,
}

/// `envoy.config.core.v3.Locality`
#[derive(Clone, PartialEq, Message)]
pub struct Locality {
    #[prost(string, tag = "1")]
    pub region: String,
    #[prost(string, tag = "2")]
    pub zone: String,
    #[prost(string, tag = "3")]
    pub sub_zone: String,
}

/// `envoy.config.core.v3.Metadata`
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    pub filter_metadata: BTreeMap<String, Struct>,
    #[prost(btree_map = "string, message", tag = "2")]
    pub typed_filter_metadata: BTreeMap<String, Any>,
}

/// `envoy.config.core.v3.ControlPlane`
#[derive(Clone, PartialEq, Message)]
pub struct ControlPlane {
    #[prost(string, tag = "1")]
    pub identifier: String,
}

/// `envoy.config.core.v3.Address`
#[derive(Clone, PartialEq, Message)]
pub struct Address {
    #[prost(oneof = "AddressKind", tags = "1, 2, 3")]
    pub address: Option<AddressKind>,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let socket = SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..SocketAddress::default()
        };
        Self {
            address: Some(AddressKind::SocketAddress(socket)),
        }
    }
}

impl Address {
    /// `None` unless it is a TCP address of an IP and a number of a port, with nothing more said.
    pub fn tcp(&self) -> Option<SocketAddr> {
        let Some(AddressKind::SocketAddress(socket)) = &self.address else {
            return None;
        };
        let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
            return None;
        };
        let address = SocketAddr::new(socket.address.parse().ok()?, port.try_into().ok()?);
        let plain = SocketAddress {
            address: socket.address.clone(),
            port_specifier: socket.port_specifier.clone(),
            ..SocketAddress::default()
        };
        (plain == *socket).then_some(address)
    }
}

/// `envoy.config.core.v3.Address.address`
#[derive(Clone, PartialEq, Oneof)]
pub enum AddressKind {
    #[prost(message, tag = "1")]
    SocketAddress(SocketAddress),
    #[prost(message, tag = "2")]
    Pipe(Pipe),
    #[prost(message, tag = "3")]
    EnvoyInternalAddress(EnvoyInternalAddress),
}

/// `envoy.config.core.v3.SocketAddress`
#[derive(Clone, PartialEq, Message)]
pub struct SocketAddress {
    #[prost(enumeration = "SocketProtocol", tag = "1")]
    pub protocol: i32,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(oneof = "PortSpecifier", tags = "3, 4")]
    pub port_specifier: Option<PortSpecifier>,
    #[prost(string, tag = "5")]
    pub resolver_name: String,
    #[prost(bool, tag = "6")]
    pub ipv4_compat: bool,
    #[prost(string, tag = "7")]
    pub network_namespace_filepath: String,
}

/// `envoy.config.core.v3.SocketAddress.port_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum PortSpecifier {
    #[prost(uint32, tag = "3")]
    PortValue(u32),
    #[prost(string, tag = "4")]
    NamedPort(String),
}

/// `envoy.config.core.v3.SocketAddress.Protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum SocketProtocol {
    Tcp = 0,
    Udp = 1,
}

/// `envoy.config.core.v3.Pipe`
#[derive(Clone, PartialEq, Message)]
pub struct Pipe {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(uint32, tag = "2")]
    pub mode: u32,
}

/// `envoy.config.core.v3.EnvoyInternalAddress`
#[derive(Clone, PartialEq, Message)]
pub struct EnvoyInternalAddress {
    #[prost(string, optional, tag = "1")]
    pub server_listener_name: Option<String>,
    #[prost(string, tag = "2")]
    pub endpoint_id: String,
}

/// `envoy.config.core.v3.CidrRange`
#[derive(Clone, PartialEq, Message)]
pub struct CidrRange {
    #[prost(string, tag = "1")]
    pub address_prefix: String,
    #[prost(message, optional, tag = "2")]
    pub prefix_len: Option<u32>,
}

/// `envoy.config.core.v3.BindConfig`
#[derive(Clone, PartialEq, Message)]
pub struct BindConfig {
    #[prost(message, optional, tag = "1")]
    pub source_address: Option<SocketAddress>,
    #[prost(message, optional, tag = "2")]
    pub freebind: Option<bool>,
    #[prost(message, repeated, tag = "3")]
    pub socket_options: Vec<SocketOption>,
    #[prost(message, repeated, tag = "5")]
    pub extra_source_addresses: Vec<ExtraSourceAddress>,
    #[prost(message, repeated, tag = "4")]
    pub additional_source_addresses: Vec<SocketAddress>,
    #[prost(message, optional, tag = "6")]
    pub local_address_selector: Option<TypedExtensionConfig>,
    #[prost(bool, tag = "7")]
    pub validate_network_namespaces: bool,
}

/// `envoy.config.core.v3.ExtraSourceAddress`
#[derive(Clone, PartialEq, Message)]
pub struct ExtraSourceAddress {
    #[prost(message, optional, tag = "1")]
    pub address: Option<SocketAddress>,
    #[prost(message, optional, tag = "2")]
    pub socket_options: Option<SocketOptionsOverride>,
}

/// `envoy.config.core.v3.SocketOption`
#[derive(Clone, PartialEq, Message)]
pub struct SocketOption {
    #[prost(string, tag = "1")]
    pub description: String,
    #[prost(int64, tag = "2")]
    pub level: i64,
    #[prost(int64, tag = "3")]
    pub name: i64,
    #[prost(oneof = "SocketOptionValue", tags = "4, 5")]
    pub value: Option<SocketOptionValue>,
    #[prost(enumeration = "SocketState", tag = "6")]
    pub state: i32,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub r#type: Option<Unread>,
    #[prost(enumeration = "SocketIpVersion", tag = "8")]
    pub ip_version: i32,
}

/// `envoy.config.core.v3.SocketOption.value`
#[derive(Clone, PartialEq, Oneof)]
pub enum SocketOptionValue {
    #[prost(int64, tag = "4")]
    IntValue(i64),
    #[prost(bytes = "bytes", tag = "5")]
    BufValue(Bytes),
}

/// `envoy.config.core.v3.SocketOption.SocketState`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum SocketState {
    StatePrebind = 0,
    StateBound = 1,
    StateListening = 2,
}

/// `envoy.config.core.v3.SocketOption.SocketIpVersion`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum SocketIpVersion {
    Unspecified = 0,
    Ipv4 = 1,
    Ipv6 = 2,
}

/// `envoy.config.core.v3.SocketOptionsOverride`
#[derive(Clone, PartialEq, Message)]
pub struct SocketOptionsOverride {
    #[prost(message, repeated, tag = "1")]
    pub socket_options: Vec<SocketOption>,
}

/// `envoy.config.core.v3.TcpKeepalive`
#[derive(Clone, PartialEq, Message)]
pub struct TcpKeepalive {
    #[prost(message, optional, tag = "1")]
    pub keepalive_probes: Option<u32>,
    #[prost(message, optional, tag = "2")]
    pub keepalive_time: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub keepalive_interval: Option<u32>,
}

/// `envoy.config.core.v3.ConfigSource`
#[derive(Clone, PartialEq, Message)]
pub struct ConfigSource {
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub authorities: Vec<Unread>,
    #[prost(oneof = "ConfigSourceSpecifier", tags = "1, 8, 2, 3, 5")]
    pub config_source_specifier: Option<ConfigSourceSpecifier>,
    #[prost(message, optional, tag = "4")]
    pub initial_fetch_timeout: Option<Duration>,
    #[prost(enumeration = "ApiVersion", tag = "6")]
    pub resource_api_version: i32,
}

impl ConfigSource {
    /// What names this source comes over the stream that this very message came on.
    pub fn ads() -> Self {
        Self {
            config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
            resource_api_version: ApiVersion::V3.into(),
            ..Self::default()
        }
    }
}

/// `envoy.config.core.v3.ConfigSource.config_source_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum ConfigSourceSpecifier {
    #[prost(string, tag = "1")]
    Path(String),
    #[prost(message, tag = "8")]
    PathConfigSource(PathConfigSource),
    #[prost(message, tag = "2")]
    ApiConfigSource(ApiConfigSource),
    #[prost(message, tag = "3")]
    Ads(AggregatedConfigSource),
    #[prost(message, tag = "5")]
    SelfSource(SelfConfigSource),
}

/// `envoy.config.core.v3.ApiVersion`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ApiVersion {
    Auto = 0,
    V2 = 1,
    V3 = 2,
}

/// `envoy.config.core.v3.AggregatedConfigSource`
#[derive(Clone, PartialEq, Message)]
pub struct AggregatedConfigSource {}

/// `envoy.config.core.v3.SelfConfigSource`
#[derive(Clone, PartialEq, Message)]
pub struct SelfConfigSource {
    #[prost(enumeration = "ApiVersion", tag = "1")]
    pub transport_api_version: i32,
}

/// `envoy.config.core.v3.PathConfigSource`
#[derive(Clone, PartialEq, Message)]
pub struct PathConfigSource {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(message, optional, tag = "2")]
    pub watched_directory: Option<WatchedDirectory>,
    #[prost(message, optional, tag = "3")]
    pub poll_interval: Option<Duration>,
}

/// `envoy.config.core.v3.ApiConfigSource`
#[derive(Clone, PartialEq, Message)]
pub struct ApiConfigSource {
    #[prost(enumeration = "ApiType", tag = "1")]
    pub api_type: i32,
    #[prost(enumeration = "ApiVersion", tag = "8")]
    pub transport_api_version: i32,
    #[prost(string, repeated, tag = "2")]
    pub cluster_names: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub grpc_services: Vec<GrpcService>,
    #[prost(message, optional, tag = "3")]
    pub refresh_delay: Option<Duration>,
    #[prost(message, optional, tag = "5")]
    pub request_timeout: Option<Duration>,
    #[prost(message, optional, tag = "6")]
    pub rate_limit_settings: Option<RateLimitSettings>,
    #[prost(bool, tag = "7")]
    pub set_node_on_first_message_only: bool,
    #[prost(message, repeated, tag = "9")]
    pub config_validators: Vec<TypedExtensionConfig>,
}

/// `envoy.config.core.v3.ApiConfigSource.ApiType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ApiType {
    DeprecatedAndUnavailableDoNotUse = 0,
    Rest = 1,
    Grpc = 2,
    DeltaGrpc = 3,
    AggregatedGrpc = 5,
    AggregatedDeltaGrpc = 6,
}

/// `envoy.config.core.v3.RateLimitSettings`
#[derive(Clone, PartialEq, Message)]
pub struct RateLimitSettings {
    #[prost(message, optional, tag = "1")]
    pub max_tokens: Option<u32>,
    #[prost(message, optional, tag = "2")]
    pub fill_rate: Option<f64>,
}

/// `envoy.config.core.v3.ExtensionConfigSource`
#[derive(Clone, PartialEq, Message)]
pub struct ExtensionConfigSource {
    #[prost(message, optional, tag = "1")]
    pub config_source: Option<ConfigSource>,
    #[prost(message, optional, tag = "2")]
    pub default_config: Option<Any>,
    #[prost(bool, tag = "3")]
    pub apply_default_config_without_warming: bool,
    #[prost(string, repeated, tag = "4")]
    pub type_urls: Vec<String>,
}

/// `envoy.config.core.v3.GrpcService`
#[derive(Clone, PartialEq, Message)]
pub struct GrpcService {
    #[prost(oneof = "TargetSpecifier", tags = "1, 2")]
    pub target_specifier: Option<TargetSpecifier>,
    #[prost(message, optional, tag = "3")]
    pub timeout: Option<Duration>,
    #[prost(message, repeated, tag = "5")]
    pub initial_metadata: Vec<HeaderValue>,
    #[prost(message, optional, tag = "6")]
    pub retry_policy: Option<SourceRetryPolicy>,
}

/// `envoy.config.core.v3.GrpcService.target_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum TargetSpecifier {
    #[prost(message, tag = "1")]
    EnvoyGrpc(EnvoyGrpc),
    #[prost(bytes = "bytes", tag = "2")]
    GoogleGrpc(Unread),
}

/// `envoy.config.core.v3.GrpcService.EnvoyGrpc`
#[derive(Clone, PartialEq, Message)]
pub struct EnvoyGrpc {
    #[prost(string, tag = "1")]
    pub cluster_name: String,
    #[prost(string, tag = "2")]
    pub authority: String,
    #[prost(message, optional, tag = "3")]
    pub retry_policy: Option<SourceRetryPolicy>,
    #[prost(message, optional, tag = "4")]
    pub max_receive_message_length: Option<u32>,
    #[prost(bool, tag = "5")]
    pub skip_envoy_headers: bool,
}

/// `envoy.config.core.v3.TypedExtensionConfig`
#[derive(Clone, PartialEq, Message)]
pub struct TypedExtensionConfig {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub typed_config: Option<Any>,
}

/// `envoy.config.core.v3.TransportSocket`
#[derive(Clone, PartialEq, Message)]
pub struct TransportSocket {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub typed_config: Option<Any>,
}

impl TransportSocket {
    pub fn new<M: Message + TypeUrl>(name: &str, settings: &M) -> Self {
        Self {
            name: name.to_owned(),
            typed_config: Some(Any::pack(settings)),
        }
    }
}

/// `envoy.config.core.v3.DataSource`
#[derive(Clone, PartialEq, Message)]
pub struct DataSource {
    #[prost(oneof = "DataSourceSpecifier", tags = "1, 2, 3, 4")]
    pub specifier: Option<DataSourceSpecifier>,
    #[prost(message, optional, tag = "5")]
    pub watched_directory: Option<WatchedDirectory>,
}

impl DataSource {
    pub fn inline(content: impl Into<Bytes>) -> Self {
        let specifier = DataSourceSpecifier::InlineBytes(content.into());
        Self {
            specifier: Some(specifier),
            watched_directory: None,
        }
    }
}

/// `envoy.config.core.v3.DataSource.specifier`
#[derive(Clone, PartialEq, Oneof)]
#[prost(skip_debug)]
pub enum DataSourceSpecifier {
    #[prost(string, tag = "1")]
    Filename(String),
    #[prost(bytes = "bytes", tag = "2")]
    InlineBytes(Bytes),
    #[prost(string, tag = "3")]
    InlineString(String),
    #[prost(string, tag = "4")]
    EnvironmentVariable(String),
}

/// Of inline content the size only: it may be a private key.
impl fmt::Debug for DataSourceSpecifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filename(path) => f.debug_tuple("Filename").field(path).finish(),
            Self::InlineBytes(content) => write!(f, "InlineBytes({} bytes)", content.len()),
            Self::InlineString(content) => write!(f, "InlineString({} bytes)", content.len()),
            Self::EnvironmentVariable(name) => {
                f.debug_tuple("EnvironmentVariable").field(name).finish()
            }
        }
    }
}

/// `envoy.config.core.v3.WatchedDirectory`
#[derive(Clone, PartialEq, Message)]
pub struct WatchedDirectory {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(bool, tag = "2")]
    pub watch_modify: bool,
}

/// `envoy.config.core.v3.HeaderValue`
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub raw_value: Bytes,
}

/// `envoy.config.core.v3.HeaderValueOption`
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    #[prost(message, optional, tag = "2")]
    pub append: Option<bool>,
    #[prost(enumeration = "HeaderAppendAction", tag = "3")]
    pub append_action: i32,
    #[prost(bool, tag = "4")]
    pub keep_empty_value: bool,
}

/// `envoy.config.core.v3.HeaderValueOption.HeaderAppendAction`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum HeaderAppendAction {
    AppendIfExistsOrAdd = 0,
    AddIfAbsent = 1,
    OverwriteIfExistsOrAdd = 2,
    OverwriteIfExists = 3,
}

/// `envoy.config.core.v3.QueryParameter`
#[derive(Clone, PartialEq, Message)]
pub struct QueryParameter {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `envoy.config.core.v3.KeyValue`
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `envoy.config.core.v3.RuntimeFractionalPercent`
#[derive(Clone, PartialEq, Message)]
pub struct RuntimeFractionalPercent {
    #[prost(message, optional, tag = "1")]
    pub default_value: Option<FractionalPercent>,
    #[prost(string, tag = "2")]
    pub runtime_key: String,
}

/// `envoy.config.core.v3.RuntimeUInt32`
#[derive(Clone, PartialEq, Message)]
pub struct RuntimeUInt32 {
    #[prost(uint32, tag = "2")]
    pub default_value: u32,
    #[prost(string, tag = "3")]
    pub runtime_key: String,
}

/// `envoy.config.core.v3.RuntimeDouble`
#[derive(Clone, PartialEq, Message)]
pub struct RuntimeDouble {
    #[prost(double, tag = "1")]
    pub default_value: f64,
    #[prost(string, tag = "2")]
    pub runtime_key: String,
}

/// `envoy.config.core.v3.RuntimePercent`
#[derive(Clone, PartialEq, Message)]
pub struct RuntimePercent {
    #[prost(message, optional, tag = "1")]
    pub default_value: Option<Percent>,
    #[prost(string, tag = "2")]
    pub runtime_key: String,
}

/// `envoy.config.core.v3.RuntimeFeatureFlag`
#[derive(Clone, PartialEq, Message)]
pub struct RuntimeFeatureFlag {
    #[prost(message, optional, tag = "1")]
    pub default_value: Option<bool>,
    #[prost(string, tag = "2")]
    pub runtime_key: String,
}

/// `envoy.config.core.v3.BackoffStrategy`
#[derive(Clone, PartialEq, Message)]
pub struct BackoffStrategy {
    #[prost(message, optional, tag = "1")]
    pub base_interval: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub max_interval: Option<Duration>,
}

/// `envoy.config.core.v3.RetryPolicy`
#[derive(Clone, PartialEq, Message)]
pub struct SourceRetryPolicy {
    #[prost(message, optional, tag = "1")]
    pub retry_back_off: Option<BackoffStrategy>,
    #[prost(message, optional, tag = "2")]
    pub num_retries: Option<u32>,
    #[prost(string, tag = "3")]
    pub retry_on: String,
    #[prost(message, optional, tag = "4")]
    pub retry_priority: Option<SourceRetryPriority>,
    #[prost(message, repeated, tag = "5")]
    pub retry_host_predicate: Vec<SourceRetryHostPredicate>,
    #[prost(int64, tag = "6")]
    pub host_selection_retry_max_attempts: i64,
}

/// `envoy.config.core.v3.RetryPolicy.RetryPriority`
#[derive(Clone, PartialEq, Message)]
pub struct SourceRetryPriority {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub typed_config: Option<Any>,
}

/// `envoy.config.core.v3.RetryPolicy.RetryHostPredicate`
#[derive(Clone, PartialEq, Message)]
pub struct SourceRetryHostPredicate {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub typed_config: Option<Any>,
}

/// `envoy.config.core.v3.HttpProtocolOptions`
#[derive(Clone, PartialEq, Message)]
pub struct HttpProtocolOptions {
    #[prost(message, optional, tag = "1")]
    pub idle_timeout: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    pub max_connection_duration: Option<Duration>,
    #[prost(message, optional, tag = "8")]
    pub max_connection_duration_jitter: Option<Percent>,
    #[prost(message, optional, tag = "2")]
    pub max_headers_count: Option<u32>,
    #[prost(message, optional, tag = "7")]
    pub max_response_headers_kb: Option<u32>,
    #[prost(message, optional, tag = "4")]
    pub max_stream_duration: Option<Duration>,
    #[prost(enumeration = "HeadersWithUnderscoresAction", tag = "5")]
    pub headers_with_underscores_action: i32,
    #[prost(message, optional, tag = "6")]
    pub max_requests_per_connection: Option<u32>,
}

/// `envoy.config.core.v3.HttpProtocolOptions.HeadersWithUnderscoresAction`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum HeadersWithUnderscoresAction {
    Allow = 0,
    RejectRequest = 1,
    DropHeader = 2,
}

/// `envoy.config.core.v3.UpstreamHttpProtocolOptions`
#[derive(Clone, PartialEq, Message)]
pub struct UpstreamHttpProtocolOptions {
    #[prost(bool, tag = "1")]
    pub auto_sni: bool,
    #[prost(bool, tag = "2")]
    pub auto_san_validation: bool,
    #[prost(string, tag = "3")]
    pub override_auto_sni_header: String,
}

/// `envoy.config.core.v3.Http1ProtocolOptions`
#[derive(Clone, PartialEq, Message)]
pub struct Http1ProtocolOptions {
    #[prost(message, optional, tag = "1")]
    pub allow_absolute_url: Option<bool>,
    #[prost(bool, tag = "2")]
    pub accept_http_10: bool,
    #[prost(string, tag = "3")]
    pub default_host_for_http_10: String,
    #[prost(message, optional, tag = "4")]
    pub header_key_format: Option<HeaderKeyFormat>,
    #[prost(bool, tag = "5")]
    pub enable_trailers: bool,
    #[prost(bool, tag = "6")]
    pub allow_chunked_length: bool,
    #[prost(message, optional, tag = "7")]
    pub override_stream_error_on_invalid_http_message: Option<bool>,
    #[prost(bool, tag = "8")]
    pub send_fully_qualified_url: bool,
    #[prost(message, optional, tag = "9")]
    pub use_balsa_parser: Option<bool>,
    #[prost(bool, tag = "10")]
    pub allow_custom_methods: bool,
    #[prost(message, repeated, tag = "11")]
    pub ignore_http_11_upgrade: Vec<StringMatcher>,
}

/// `envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat`
#[derive(Clone, PartialEq, Message)]
pub struct HeaderKeyFormat {
    #[prost(oneof = "HeaderFormat", tags = "1, 8")]
    pub header_format: Option<HeaderFormat>,
}

/// `envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat.header_format`
#[derive(Clone, PartialEq, Oneof)]
pub enum HeaderFormat {
    #[prost(message, tag = "1")]
    ProperCaseWords(ProperCaseWords),
    #[prost(message, tag = "8")]
    StatefulFormatter(TypedExtensionConfig),
}

/// `envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat.ProperCaseWords`
#[derive(Clone, PartialEq, Message)]
pub struct ProperCaseWords {}

/// `envoy.config.core.v3.Http2ProtocolOptions`
#[derive(Clone, PartialEq, Message)]
pub struct Http2ProtocolOptions {
    #[prost(message, optional, tag = "1")]
    pub hpack_table_size: Option<u32>,
    #[prost(message, optional, tag = "2")]
    pub max_concurrent_streams: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub initial_stream_window_size: Option<u32>,
    #[prost(message, optional, tag = "4")]
    pub initial_connection_window_size: Option<u32>,
    #[prost(bool, tag = "5")]
    pub allow_connect: bool,
    #[prost(bool, tag = "6")]
    pub allow_metadata: bool,
    #[prost(message, optional, tag = "7")]
    pub max_outbound_frames: Option<u32>,
    #[prost(message, optional, tag = "8")]
    pub max_outbound_control_frames: Option<u32>,
    #[prost(message, optional, tag = "9")]
    pub max_consecutive_inbound_frames_with_empty_payload: Option<u32>,
    #[prost(message, optional, tag = "10")]
    pub max_inbound_priority_frames_per_stream: Option<u32>,
    #[prost(message, optional, tag = "11")]
    pub max_inbound_window_update_frames_per_data_frame_sent: Option<u32>,
    #[prost(bool, tag = "12")]
    pub stream_error_on_invalid_http_messaging: bool,
    #[prost(message, optional, tag = "14")]
    pub override_stream_error_on_invalid_http_message: Option<bool>,
    #[prost(message, repeated, tag = "13")]
    pub custom_settings_parameters: Vec<SettingsParameter>,
    #[prost(message, optional, tag = "15")]
    pub connection_keepalive: Option<KeepaliveSettings>,
    #[prost(message, optional, tag = "16")]
    pub use_oghttp2_codec: Option<bool>,
    #[prost(message, optional, tag = "17")]
    pub max_metadata_size: Option<u64>,
    #[prost(message, optional, tag = "18")]
    pub enable_huffman_encoding: Option<bool>,
    #[prost(message, optional, tag = "19")]
    pub max_header_field_size_kb: Option<u32>,
    #[prost(message, optional, tag = "20")]
    pub disallow_obs_text: Option<bool>,
    #[prost(message, optional, tag = "21")]
    pub stream_reset_burst: Option<u64>,
    #[prost(message, optional, tag = "22")]
    pub stream_reset_rate: Option<u64>,
}

/// `envoy.config.core.v3.Http2ProtocolOptions.SettingsParameter`
#[derive(Clone, PartialEq, Message)]
pub struct SettingsParameter {
    #[prost(message, optional, tag = "1")]
    pub identifier: Option<u32>,
    #[prost(message, optional, tag = "2")]
    pub value: Option<u32>,
}

/// `envoy.config.core.v3.KeepaliveSettings`
#[derive(Clone, PartialEq, Message)]
pub struct KeepaliveSettings {
    #[prost(message, optional, tag = "1")]
    pub interval: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub timeout: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    pub interval_jitter: Option<Percent>,
    #[prost(message, optional, tag = "4")]
    pub connection_idle_interval: Option<Duration>,
}

/// `envoy.config.core.v3.SchemeHeaderTransformation`
#[derive(Clone, PartialEq, Message)]
pub struct SchemeHeaderTransformation {
    #[prost(string, optional, tag = "1")]
    pub scheme_to_overwrite: Option<String>,
    #[prost(bool, tag = "2")]
    pub match_upstream: bool,
}

/// `envoy.config.core.v3.SubstitutionFormatString`
#[derive(Clone, PartialEq, Message)]
pub struct SubstitutionFormatString {
    #[prost(oneof = "Format", tags = "1, 2, 5")]
    pub format: Option<Format>,
    #[prost(bool, tag = "3")]
    pub omit_empty_values: bool,
    #[prost(string, tag = "4")]
    pub content_type: String,
    #[prost(message, repeated, tag = "6")]
    pub formatters: Vec<TypedExtensionConfig>,
    #[prost(message, optional, tag = "7")]
    pub json_format_options: Option<JsonFormatOptions>,
}

/// `envoy.config.core.v3.SubstitutionFormatString.format`
#[derive(Clone, PartialEq, Oneof)]
pub enum Format {
    #[prost(string, tag = "1")]
    TextFormat(String),
    #[prost(message, tag = "2")]
    JsonFormat(Struct),
    #[prost(message, tag = "5")]
    TextFormatSource(DataSource),
}

/// `envoy.config.core.v3.JsonFormatOptions`
#[derive(Clone, PartialEq, Message)]
pub struct JsonFormatOptions {
    #[prost(bool, tag = "1")]
    pub sort_properties: bool,
}

/// `envoy.type.v3.SemanticVersion`
#[derive(Clone, PartialEq, Message)]
pub struct SemanticVersion {
    #[prost(uint32, tag = "1")]
    pub major_number: u32,
    #[prost(uint32, tag = "2")]
    pub minor_number: u32,
    #[prost(uint32, tag = "3")]
    pub patch: u32,
}

/// `envoy.type.v3.Percent`
#[derive(Clone, PartialEq, Message)]
pub struct Percent {
    #[prost(double, tag = "1")]
    pub value: f64,
}

/// `envoy.type.v3.FractionalPercent`
#[derive(Clone, PartialEq, Message)]
pub struct FractionalPercent {
    #[prost(uint32, tag = "1")]
    pub numerator: u32,
    #[prost(enumeration = "DenominatorType", tag = "2")]
    pub denominator: i32,
}

/// `envoy.type.v3.FractionalPercent.DenominatorType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum DenominatorType {
    Hundred = 0,
    TenThousand = 1,
    Million = 2,
}

/// `envoy.config.core.v3.RoutingPriority`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum RoutingPriority {
    Default = 0,
    High = 1,
}

/// `envoy.config.core.v3.TrafficDirection`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum TrafficDirection {
    Unspecified = 0,
    Inbound = 1,
    Outbound = 2,
}

#[cfg(test)]
mod tests;
