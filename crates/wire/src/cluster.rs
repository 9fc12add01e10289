//! CDS: a named destination, how it is balanced, limited, watched and reached.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};

use crate::core::{
    Address, BindConfig, ConfigSource, ExtensionConfigSource, Http1ProtocolOptions,
    Http2ProtocolOptions, HttpProtocolOptions, Metadata, Percent, RoutingPriority, RuntimeDouble,
    TcpKeepalive, TransportSocket, TypedExtensionConfig, UpstreamHttpProtocolOptions,
};
use crate::endpoint::ClusterLoadAssignment;
use crate::hcm::HttpFilter;
use crate::health::{HealthCheck, HealthStatusSet};
use crate::route::{HashPolicy, RequestMirrorPolicy, RetryPolicy};
use crate::well_known::{Any, Duration, Struct, Unread};

/// `envoy.config.cluster.v3.Cluster`
#[derive(Clone, PartialEq, Message)]
pub struct Cluster {
    #[prost(message, repeated, tag = "43")]
    pub transport_socket_matches: Vec<TransportSocketMatch>,
    #[prost(bytes = "bytes", optional, tag = "59")]
    pub transport_socket_matcher: Option<Unread>,
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "28")]
    pub alt_stat_name: String,
    #[prost(bytes = "bytes", optional, tag = "61")]
    pub stats_matcher: Option<Unread>,
    #[prost(oneof = "ClusterDiscoveryType", tags = "2, 38")]
    pub cluster_discovery_type: Option<ClusterDiscoveryType>,
    #[prost(message, optional, tag = "3")]
    pub eds_cluster_config: Option<EdsClusterConfig>,
    #[prost(message, optional, tag = "4")]
    pub connect_timeout: Option<Duration>,
    #[prost(message, optional, tag = "5")]
    pub per_connection_buffer_limit_bytes: Option<u32>,
    #[prost(message, optional, tag = "60")]
    pub per_connection_buffer_high_watermark_timeout: Option<Duration>,
    #[prost(enumeration = "LbPolicy", tag = "6")]
    pub lb_policy: i32,
    #[prost(message, optional, tag = "33")]
    pub load_assignment: Option<ClusterLoadAssignment>,
    #[prost(message, repeated, tag = "8")]
    pub health_checks: Vec<HealthCheck>,
    #[prost(message, optional, tag = "9")]
    pub max_requests_per_connection: Option<u32>,
    #[prost(message, optional, tag = "10")]
    pub circuit_breakers: Option<CircuitBreakers>,
    #[prost(message, optional, tag = "46")]
    pub upstream_http_protocol_options: Option<UpstreamHttpProtocolOptions>,
    #[prost(message, optional, tag = "29")]
    pub common_http_protocol_options: Option<HttpProtocolOptions>,
    #[prost(message, optional, tag = "13")]
    pub http_protocol_options: Option<Http1ProtocolOptions>,
    #[prost(message, optional, tag = "14")]
    pub http2_protocol_options: Option<Http2ProtocolOptions>,
    #[prost(btree_map = "string, message", tag = "36")]
    pub typed_extension_protocol_options: BTreeMap<String, Any>,
    #[prost(message, optional, tag = "16")]
    pub dns_refresh_rate: Option<Duration>,
    #[prost(message, optional, tag = "58")]
    pub dns_jitter: Option<Duration>,
    #[prost(message, optional, tag = "44")]
    pub dns_failure_refresh_rate: Option<RefreshRate>,
    #[prost(bool, tag = "39")]
    pub respect_dns_ttl: bool,
    #[prost(enumeration = "DnsLookupFamily", tag = "17")]
    pub dns_lookup_family: i32,
    #[prost(message, repeated, tag = "18")]
    pub dns_resolvers: Vec<Address>,
    #[prost(bool, tag = "45")]
    pub use_tcp_for_dns_lookups: bool,
    #[prost(bytes = "bytes", optional, tag = "53")]
    pub dns_resolution_config: Option<Unread>,
    #[prost(message, optional, tag = "55")]
    pub typed_dns_resolver_config: Option<TypedExtensionConfig>,
    #[prost(message, optional, tag = "54")]
    pub wait_for_warm_on_init: Option<bool>,
    #[prost(message, optional, tag = "19")]
    pub outlier_detection: Option<OutlierDetection>,
    #[prost(message, optional, tag = "20")]
    pub cleanup_interval: Option<Duration>,
    #[prost(message, optional, tag = "21")]
    pub upstream_bind_config: Option<BindConfig>,
    #[prost(message, optional, tag = "22")]
    pub lb_subset_config: Option<LbSubsetConfig>,
    #[prost(oneof = "LbConfig", tags = "23, 52, 34, 37, 56")]
    pub lb_config: Option<LbConfig>,
    #[prost(message, optional, tag = "27")]
    pub common_lb_config: Option<CommonLbConfig>,
    #[prost(message, optional, tag = "24")]
    pub transport_socket: Option<TransportSocket>,
    #[prost(message, optional, tag = "25")]
    pub metadata: Option<Metadata>,
    #[prost(enumeration = "ClusterProtocolSelection", tag = "26")]
    pub protocol_selection: i32,
    #[prost(message, optional, tag = "30")]
    pub upstream_connection_options: Option<UpstreamConnectionOptions>,
    #[prost(bool, tag = "31")]
    pub close_connections_on_host_health_failure: bool,
    #[prost(bool, tag = "32")]
    pub ignore_health_on_host_removal: bool,
    #[prost(message, repeated, tag = "40")]
    pub filters: Vec<UpstreamFilter>,
    #[prost(message, optional, tag = "41")]
    pub load_balancing_policy: Option<LoadBalancingPolicy>,
    #[prost(message, optional, tag = "42")]
    pub lrs_server: Option<ConfigSource>,
    #[prost(string, repeated, tag = "57")]
    pub lrs_report_endpoint_metrics: Vec<String>,
    #[prost(bool, tag = "47")]
    pub track_timeout_budgets: bool,
    #[prost(message, optional, tag = "48")]
    pub upstream_config: Option<TypedExtensionConfig>,
    #[prost(message, optional, tag = "49")]
    pub track_cluster_stats: Option<TrackClusterStats>,
    #[prost(message, optional, tag = "50")]
    pub preconnect_policy: Option<PreconnectPolicy>,
    #[prost(bool, tag = "51")]
    pub connection_pool_per_downstream_connection: bool,
    #[prost(bytes = "bytes", optional, tag = "62")]
    pub queuing_policies: Option<Unread>,
}

/// `envoy.config.cluster.v3.Cluster.cluster_discovery_type`
#[derive(Clone, PartialEq, Oneof)]
pub enum ClusterDiscoveryType {
    #[prost(enumeration = "DiscoveryType", tag = "2")]
    Type(i32),
    #[prost(message, tag = "38")]
    ClusterType(CustomClusterType),
}

/// `envoy.config.cluster.v3.Cluster.lb_config`
#[derive(Clone, PartialEq, Oneof)]
pub enum LbConfig {
    #[prost(message, tag = "23")]
    RingHashLbConfig(RingHashLbConfig),
    #[prost(message, tag = "52")]
    MaglevLbConfig(MaglevLbConfig),
    #[prost(message, tag = "34")]
    OriginalDstLbConfig(OriginalDstLbConfig),
    #[prost(message, tag = "37")]
    LeastRequestLbConfig(LeastRequestLbConfig),
    #[prost(message, tag = "56")]
    RoundRobinLbConfig(RoundRobinLbConfig),
}

/// `envoy.config.cluster.v3.Cluster.DiscoveryType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum DiscoveryType {
    Static = 0,
    StrictDns = 1,
    LogicalDns = 2,
    Eds = 3,
    OriginalDst = 4,
}

/// `envoy.config.cluster.v3.Cluster.LbPolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum LbPolicy {
    RoundRobin = 0,
    LeastRequest = 1,
    RingHash = 2,
    Random = 3,
    Maglev = 5,
    ClusterProvided = 6,
    LoadBalancingPolicyConfig = 7,
}

/// `envoy.config.cluster.v3.Cluster.DnsLookupFamily`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum DnsLookupFamily {
    Auto = 0,
    V4Only = 1,
    V6Only = 2,
    V4Preferred = 3,
    All = 4,
}

/// `envoy.config.cluster.v3.Cluster.ClusterProtocolSelection`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ClusterProtocolSelection {
    UseConfiguredProtocol = 0,
    UseDownstreamProtocol = 1,
}

/// `envoy.config.cluster.v3.Cluster.EdsClusterConfig`
#[derive(Clone, PartialEq, Message)]
pub struct EdsClusterConfig {
    #[prost(message, optional, tag = "1")]
    pub eds_config: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub service_name: String,
}

/// `envoy.config.cluster.v3.Cluster.CustomClusterType`
#[derive(Clone, PartialEq, Message)]
pub struct CustomClusterType {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub typed_config: Option<Any>,
}

/// `envoy.config.cluster.v3.Cluster.TransportSocketMatch`
#[derive(Clone, PartialEq, Message)]
pub struct TransportSocketMatch {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#match: Option<Struct>,
    #[prost(message, optional, tag = "3")]
    pub transport_socket: Option<TransportSocket>,
}

/// `envoy.config.cluster.v3.Cluster.RefreshRate`
#[derive(Clone, PartialEq, Message)]
pub struct RefreshRate {
    #[prost(message, optional, tag = "1")]
    pub base_interval: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub max_interval: Option<Duration>,
}

/// `envoy.config.cluster.v3.Cluster.PreconnectPolicy`
#[derive(Clone, PartialEq, Message)]
pub struct PreconnectPolicy {
    #[prost(message, optional, tag = "1")]
    pub per_upstream_preconnect_ratio: Option<f64>,
    #[prost(message, optional, tag = "2")]
    pub predictive_preconnect_ratio: Option<f64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub preconnect_enabled_metadata: Option<Unread>,
}

/// `envoy.config.cluster.v3.Cluster.SlowStartConfig`
#[derive(Clone, PartialEq, Message)]
pub struct SlowStartConfig {
    #[prost(message, optional, tag = "1")]
    pub slow_start_window: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub aggression: Option<RuntimeDouble>,
    #[prost(message, optional, tag = "3")]
    pub min_weight_percent: Option<Percent>,
}

/// `envoy.config.cluster.v3.Cluster.RoundRobinLbConfig`
#[derive(Clone, PartialEq, Message)]
pub struct RoundRobinLbConfig {
    #[prost(message, optional, tag = "1")]
    pub slow_start_config: Option<SlowStartConfig>,
}

/// `envoy.config.cluster.v3.Cluster.LeastRequestLbConfig`
#[derive(Clone, PartialEq, Message)]
pub struct LeastRequestLbConfig {
    #[prost(message, optional, tag = "1")]
    pub choice_count: Option<u32>,
    #[prost(message, optional, tag = "2")]
    pub active_request_bias: Option<RuntimeDouble>,
    #[prost(message, optional, tag = "3")]
    pub slow_start_config: Option<SlowStartConfig>,
}

/// `envoy.config.cluster.v3.Cluster.RingHashLbConfig`
#[derive(Clone, PartialEq, Message)]
pub struct RingHashLbConfig {
    #[prost(message, optional, tag = "1")]
    pub minimum_ring_size: Option<u64>,
    #[prost(enumeration = "HashFunction", tag = "3")]
    pub hash_function: i32,
    #[prost(message, optional, tag = "4")]
    pub maximum_ring_size: Option<u64>,
}

/// `envoy.config.cluster.v3.Cluster.RingHashLbConfig.HashFunction`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum HashFunction {
    XxHash = 0,
    MurmurHash2 = 1,
}

/// `envoy.config.cluster.v3.Cluster.MaglevLbConfig`
#[derive(Clone, PartialEq, Message)]
pub struct MaglevLbConfig {
    #[prost(message, optional, tag = "1")]
    pub table_size: Option<u64>,
}

/// `envoy.config.cluster.v3.Cluster.OriginalDstLbConfig`
#[derive(Clone, PartialEq, Message)]
pub struct OriginalDstLbConfig {
    #[prost(bool, tag = "1")]
    pub use_http_header: bool,
    #[prost(string, tag = "2")]
    pub http_header_name: String,
    #[prost(message, optional, tag = "3")]
    pub upstream_port_override: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub metadata_key: Option<Unread>,
}

/// `envoy.config.cluster.v3.Cluster.LbSubsetConfig`
#[derive(Clone, PartialEq, Message)]
pub struct LbSubsetConfig {
    #[prost(enumeration = "LbSubsetFallbackPolicy", tag = "1")]
    pub fallback_policy: i32,
    #[prost(message, optional, tag = "2")]
    pub default_subset: Option<Struct>,
    #[prost(message, repeated, tag = "3")]
    pub subset_selectors: Vec<LbSubsetSelector>,
    #[prost(bool, tag = "4")]
    pub locality_weight_aware: bool,
    #[prost(bool, tag = "5")]
    pub scale_locality_weight: bool,
    #[prost(bool, tag = "6")]
    pub panic_mode_any: bool,
    #[prost(bool, tag = "7")]
    pub list_as_any: bool,
    #[prost(enumeration = "LbSubsetMetadataFallbackPolicy", tag = "8")]
    pub metadata_fallback_policy: i32,
}

/// `envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetFallbackPolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum LbSubsetFallbackPolicy {
    NoFallback = 0,
    AnyEndpoint = 1,
    DefaultSubset = 2,
}

/// `envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetMetadataFallbackPolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum LbSubsetMetadataFallbackPolicy {
    MetadataNoFallback = 0,
    FallbackList = 1,
}

/// `envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector`
#[derive(Clone, PartialEq, Message)]
pub struct LbSubsetSelector {
    #[prost(string, repeated, tag = "1")]
    pub keys: Vec<String>,
    #[prost(bool, tag = "4")]
    pub single_host_per_subset: bool,
    #[prost(enumeration = "LbSubsetSelectorFallbackPolicy", tag = "2")]
    pub fallback_policy: i32,
    #[prost(string, repeated, tag = "3")]
    pub fallback_keys_subset: Vec<String>,
}

/// `envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector.LbSubsetSelectorFallbackPolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum LbSubsetSelectorFallbackPolicy {
    NotDefined = 0,
    NoFallback = 1,
    AnyEndpoint = 2,
    DefaultSubset = 3,
    KeysSubset = 4,
}

/// `envoy.config.cluster.v3.Cluster.CommonLbConfig`
#[derive(Clone, PartialEq, Message)]
pub struct CommonLbConfig {
    #[prost(message, optional, tag = "1")]
    pub healthy_panic_threshold: Option<Percent>,
    #[prost(oneof = "LocalityConfigSpecifier", tags = "2, 3")]
    pub locality_config_specifier: Option<LocalityConfigSpecifier>,
    #[prost(message, optional, tag = "4")]
    pub update_merge_window: Option<Duration>,
    #[prost(bool, tag = "5")]
    pub ignore_new_hosts_until_first_hc: bool,
    #[prost(bool, tag = "6")]
    pub close_connections_on_host_set_change: bool,
    #[prost(message, optional, tag = "7")]
    pub consistent_hashing_lb_config: Option<ConsistentHashingLbConfig>,
    #[prost(message, optional, tag = "8")]
    pub override_host_status: Option<HealthStatusSet>,
}

/// `envoy.config.cluster.v3.Cluster.CommonLbConfig.locality_config_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum LocalityConfigSpecifier {
    #[prost(message, tag = "2")]
    ZoneAwareLbConfig(ZoneAwareLbConfig),
    #[prost(message, tag = "3")]
    LocalityWeightedLbConfig(LocalityWeightedLbConfig),
}

/// `envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig`
#[derive(Clone, PartialEq, Message)]
pub struct ZoneAwareLbConfig {
    #[prost(message, optional, tag = "1")]
    pub routing_enabled: Option<Percent>,
    #[prost(message, optional, tag = "2")]
    pub min_cluster_size: Option<u64>,
    #[prost(bool, tag = "3")]
    pub fail_traffic_on_panic: bool,
}

/// `envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig`
#[derive(Clone, PartialEq, Message)]
pub struct LocalityWeightedLbConfig {}

/// `envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig`
#[derive(Clone, PartialEq, Message)]
pub struct ConsistentHashingLbConfig {
    #[prost(bool, tag = "1")]
    pub use_hostname_for_hashing: bool,
    #[prost(message, optional, tag = "2")]
    pub hash_balance_factor: Option<u32>,
}

/// `envoy.config.cluster.v3.LoadBalancingPolicy`
#[derive(Clone, PartialEq, Message)]
pub struct LoadBalancingPolicy {
    #[prost(message, repeated, tag = "1")]
    pub policies: Vec<LoadBalancingPolicyEntry>,
}

/// `envoy.config.cluster.v3.LoadBalancingPolicy.Policy`
#[derive(Clone, PartialEq, Message)]
pub struct LoadBalancingPolicyEntry {
    #[prost(message, optional, tag = "4")]
    pub typed_extension_config: Option<TypedExtensionConfig>,
}

/// `envoy.config.cluster.v3.UpstreamConnectionOptions`
#[derive(Clone, PartialEq, Message)]
pub struct UpstreamConnectionOptions {
    #[prost(message, optional, tag = "1")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    #[prost(bool, tag = "2")]
    pub set_local_interface_name_on_upstream_connections: bool,
    #[prost(message, optional, tag = "3")]
    pub happy_eyeballs_config: Option<HappyEyeballsConfig>,
}

/// `envoy.config.cluster.v3.UpstreamConnectionOptions.HappyEyeballsConfig`
#[derive(Clone, PartialEq, Message)]
pub struct HappyEyeballsConfig {
    #[prost(enumeration = "FirstAddressFamilyVersion", tag = "1")]
    pub first_address_family_version: i32,
    #[prost(message, optional, tag = "2")]
    pub first_address_family_count: Option<u32>,
}

/// `envoy.config.cluster.v3.UpstreamConnectionOptions.FirstAddressFamilyVersion`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum FirstAddressFamilyVersion {
    Default = 0,
    V4 = 1,
    V6 = 2,
    Pipe = 3,
    Internal = 4,
}

/// `envoy.config.cluster.v3.TrackClusterStats`
#[derive(Clone, PartialEq, Message)]
pub struct TrackClusterStats {
    #[prost(bool, tag = "1")]
    pub timeout_budgets: bool,
    #[prost(bool, tag = "2")]
    pub request_response_sizes: bool,
    #[prost(bool, tag = "3")]
    pub per_endpoint_stats: bool,
}

/// `envoy.config.cluster.v3.CircuitBreakers`
#[derive(Clone, PartialEq, Message)]
pub struct CircuitBreakers {
    #[prost(message, repeated, tag = "1")]
    pub thresholds: Vec<Thresholds>,
    #[prost(message, repeated, tag = "2")]
    pub per_host_thresholds: Vec<Thresholds>,
}

/// `envoy.config.cluster.v3.CircuitBreakers.Thresholds`
#[derive(Clone, PartialEq, Message)]
pub struct Thresholds {
    #[prost(enumeration = "RoutingPriority", tag = "1")]
    pub priority: i32,
    #[prost(message, optional, tag = "2")]
    pub max_connections: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub max_pending_requests: Option<u32>,
    #[prost(message, optional, tag = "4")]
    pub max_requests: Option<u32>,
    #[prost(message, optional, tag = "5")]
    pub max_retries: Option<u32>,
    #[prost(message, optional, tag = "8")]
    pub retry_budget: Option<RetryBudget>,
    #[prost(bool, tag = "6")]
    pub track_remaining: bool,
    #[prost(message, optional, tag = "7")]
    pub max_connection_pools: Option<u32>,
}

/// `envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget`
#[derive(Clone, PartialEq, Message)]
pub struct RetryBudget {
    #[prost(message, optional, tag = "1")]
    pub budget_percent: Option<Percent>,
    #[prost(message, optional, tag = "3")]
    pub budget_interval: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub min_retry_concurrency: Option<u32>,
}

/// `envoy.config.cluster.v3.OutlierDetection`
#[derive(Clone, PartialEq, Message)]
pub struct OutlierDetection {
    #[prost(message, optional, tag = "1")]
    pub consecutive_5xx: Option<u32>,
    #[prost(message, optional, tag = "2")]
    pub interval: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    pub base_ejection_time: Option<Duration>,
    #[prost(message, optional, tag = "4")]
    pub max_ejection_percent: Option<u32>,
    #[prost(message, optional, tag = "5")]
    pub enforcing_consecutive_5xx: Option<u32>,
    #[prost(message, optional, tag = "6")]
    pub enforcing_success_rate: Option<u32>,
    #[prost(message, optional, tag = "7")]
    pub success_rate_minimum_hosts: Option<u32>,
    #[prost(message, optional, tag = "8")]
    pub success_rate_request_volume: Option<u32>,
    #[prost(message, optional, tag = "9")]
    pub success_rate_stdev_factor: Option<u32>,
    #[prost(message, optional, tag = "10")]
    pub consecutive_gateway_failure: Option<u32>,
    #[prost(message, optional, tag = "11")]
    pub enforcing_consecutive_gateway_failure: Option<u32>,
    #[prost(bool, tag = "12")]
    pub split_external_local_origin_errors: bool,
    #[prost(message, optional, tag = "13")]
    pub consecutive_local_origin_failure: Option<u32>,
    #[prost(message, optional, tag = "14")]
    pub enforcing_consecutive_local_origin_failure: Option<u32>,
    #[prost(message, optional, tag = "15")]
    pub enforcing_local_origin_success_rate: Option<u32>,
    #[prost(message, optional, tag = "16")]
    pub failure_percentage_threshold: Option<u32>,
    #[prost(message, optional, tag = "17")]
    pub enforcing_failure_percentage: Option<u32>,
    #[prost(message, optional, tag = "18")]
    pub enforcing_failure_percentage_local_origin: Option<u32>,
    #[prost(message, optional, tag = "19")]
    pub failure_percentage_minimum_hosts: Option<u32>,
    #[prost(message, optional, tag = "20")]
    pub failure_percentage_request_volume: Option<u32>,
    #[prost(message, optional, tag = "21")]
    pub max_ejection_time: Option<Duration>,
    #[prost(message, optional, tag = "22")]
    pub max_ejection_time_jitter: Option<Duration>,
    #[prost(message, optional, tag = "23")]
    pub successful_active_health_check_uneject_host: Option<bool>,
    #[prost(message, repeated, tag = "24")]
    pub monitors: Vec<TypedExtensionConfig>,
    #[prost(message, optional, tag = "25")]
    pub always_eject_one_host: Option<bool>,
    #[prost(message, optional, tag = "26")]
    pub detect_degraded_hosts: Option<bool>,
}

/// `envoy.config.cluster.v3.Filter`
#[derive(Clone, PartialEq, Message)]
pub struct UpstreamFilter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub typed_config: Option<Any>,
    #[prost(message, optional, tag = "3")]
    pub config_discovery: Option<ExtensionConfigSource>,
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`
#[derive(Clone, PartialEq, Message)]
pub struct UpstreamHttpOptions {
    #[prost(message, optional, tag = "1")]
    pub common_http_protocol_options: Option<HttpProtocolOptions>,
    #[prost(message, optional, tag = "2")]
    pub upstream_http_protocol_options: Option<UpstreamHttpProtocolOptions>,
    #[prost(oneof = "UpstreamProtocolOptions", tags = "3, 4, 5")]
    pub upstream_protocol_options: Option<UpstreamProtocolOptions>,
    #[prost(message, repeated, tag = "6")]
    pub http_filters: Vec<HttpFilter>,
    #[prost(message, optional, tag = "7")]
    pub header_validation_config: Option<TypedExtensionConfig>,
    #[prost(message, optional, tag = "8")]
    pub outlier_detection: Option<HttpOutlierDetection>,
    #[prost(message, repeated, tag = "9")]
    pub request_mirror_policies: Vec<RequestMirrorPolicy>,
    #[prost(message, repeated, tag = "10")]
    pub hash_policy: Vec<HashPolicy>,
    #[prost(message, optional, tag = "11")]
    pub retry_policy: Option<RetryPolicy>,
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions.upstream_protocol_options`
#[derive(Clone, PartialEq, Oneof)]
pub enum UpstreamProtocolOptions {
    #[prost(message, tag = "3")]
    ExplicitHttpConfig(ExplicitHttpConfig),
    #[prost(message, tag = "4")]
    UseDownstreamProtocolConfig(UseDownstreamHttpConfig),
    #[prost(message, tag = "5")]
    AutoConfig(AutoHttpConfig),
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig`
#[derive(Clone, PartialEq, Message)]
pub struct ExplicitHttpConfig {
    #[prost(oneof = "ProtocolConfig", tags = "1, 2, 3")]
    pub protocol_config: Option<ProtocolConfig>,
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig.protocol_config`
#[derive(Clone, PartialEq, Oneof)]
pub enum ProtocolConfig {
    #[prost(message, tag = "1")]
    HttpProtocolOptions(Http1ProtocolOptions),
    #[prost(message, tag = "2")]
    Http2ProtocolOptions(Http2ProtocolOptions),
    #[prost(bytes = "bytes", tag = "3")]
    Http3ProtocolOptions(Unread),
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig`
#[derive(Clone, PartialEq, Message)]
pub struct UseDownstreamHttpConfig {
    #[prost(message, optional, tag = "1")]
    pub http_protocol_options: Option<Http1ProtocolOptions>,
    #[prost(message, optional, tag = "2")]
    pub http2_protocol_options: Option<Http2ProtocolOptions>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub http3_protocol_options: Option<Unread>,
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig`
#[derive(Clone, PartialEq, Message)]
pub struct AutoHttpConfig {
    #[prost(message, optional, tag = "1")]
    pub http_protocol_options: Option<Http1ProtocolOptions>,
    #[prost(message, optional, tag = "2")]
    pub http2_protocol_options: Option<Http2ProtocolOptions>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub http3_protocol_options: Option<Unread>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub alternate_protocols_cache_options: Option<Unread>,
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions.OutlierDetection`
#[derive(Clone, PartialEq, Message)]
pub struct HttpOutlierDetection {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub error_matcher: Option<Unread>,
}
