//! The network filter that copies bytes.

use prost::{Enumeration, Message, Oneof};

use crate::access_log::AccessLog;
use crate::core::{
    BackoffStrategy, ConfigSource, HeaderValueOption, Metadata, Percent, TypedExtensionConfig,
};
use crate::hcm::RequestIDExtension;
use crate::well_known::{Duration, Unread};

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`
#[derive(Clone, PartialEq, Message)]
pub struct TcpProxy {
    #[prost(string, tag = "1")]
    pub stat_prefix: String,
    #[prost(oneof = "ClusterSpecifier", tags = "2, 10")]
    pub cluster_specifier: Option<ClusterSpecifier>,
    #[prost(message, optional, tag = "14")]
    pub on_demand: Option<OnDemand>,
    #[prost(message, optional, tag = "9")]
    pub metadata_match: Option<Metadata>,
    #[prost(message, optional, tag = "8")]
    pub idle_timeout: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    pub downstream_idle_timeout: Option<Duration>,
    #[prost(message, optional, tag = "4")]
    pub upstream_idle_timeout: Option<Duration>,
    #[prost(message, repeated, tag = "5")]
    pub access_log: Vec<AccessLog>,
    #[prost(message, optional, tag = "7")]
    pub max_connect_attempts: Option<u32>,
    #[prost(message, optional, tag = "18")]
    pub backoff_options: Option<BackoffStrategy>,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub hash_policy: Vec<Unread>,
    #[prost(message, optional, tag = "12")]
    pub tunneling_config: Option<TunnelingConfig>,
    #[prost(message, optional, tag = "13")]
    pub max_downstream_connection_duration: Option<Duration>,
    #[prost(message, optional, tag = "20")]
    pub max_downstream_connection_duration_jitter_percentage: Option<Percent>,
    #[prost(message, optional, tag = "15")]
    pub access_log_flush_interval: Option<Duration>,
    #[prost(bool, tag = "16")]
    pub flush_access_log_on_connected: bool,
    #[prost(message, optional, tag = "17")]
    pub access_log_options: Option<TcpAccessLogOptions>,
    #[prost(bytes = "bytes", repeated, tag = "19")]
    pub proxy_protocol_tlvs: Vec<Unread>,
    #[prost(enumeration = "ProxyProtocolTlvMergePolicy", tag = "23")]
    pub proxy_protocol_tlv_merge_policy: i32,
    #[prost(enumeration = "UpstreamConnectMode", tag = "21")]
    pub upstream_connect_mode: i32,
    #[prost(message, optional, tag = "22")]
    pub max_early_data_bytes: Option<u32>,
    #[prost(message, optional, tag = "24")]
    pub check_drain_close: Option<bool>,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.cluster_specifier`
#[derive(Clone, PartialEq, Oneof)]
pub enum ClusterSpecifier {
    #[prost(string, tag = "2")]
    Cluster(String),
    #[prost(message, tag = "10")]
    WeightedClusters(TcpWeightedCluster),
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.ProxyProtocolTlvMergePolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ProxyProtocolTlvMergePolicy {
    AddIfAbsent = 0,
    OverwriteByTypeIfExistsOrAdd = 1,
    AppendIfExistsOrAdd = 2,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.UpstreamConnectMode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum UpstreamConnectMode {
    Immediate = 0,
    OnDownstreamData = 1,
    OnDownstreamTlsHandshake = 2,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster`
#[derive(Clone, PartialEq, Message)]
pub struct TcpWeightedCluster {
    #[prost(message, repeated, tag = "1")]
    pub clusters: Vec<TcpClusterWeight>,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight`
#[derive(Clone, PartialEq, Message)]
pub struct TcpClusterWeight {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub weight: u32,
    #[prost(message, optional, tag = "3")]
    pub metadata_match: Option<Metadata>,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig`
#[derive(Clone, PartialEq, Message)]
pub struct TunnelingConfig {
    #[prost(string, tag = "1")]
    pub hostname: String,
    #[prost(bool, tag = "2")]
    pub use_post: bool,
    #[prost(message, repeated, tag = "3")]
    pub headers_to_add: Vec<HeaderValueOption>,
    #[prost(bool, tag = "4")]
    pub propagate_response_headers: bool,
    #[prost(string, tag = "5")]
    pub post_path: String,
    #[prost(bool, tag = "6")]
    pub propagate_response_trailers: bool,
    #[prost(message, optional, tag = "7")]
    pub request_id_extension: Option<RequestIDExtension>,
    #[prost(string, tag = "8")]
    pub request_id_header: String,
    #[prost(string, tag = "9")]
    pub request_id_metadata_key: String,
    #[prost(message, repeated, tag = "10")]
    pub formatters: Vec<TypedExtensionConfig>,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.OnDemand`
#[derive(Clone, PartialEq, Message)]
pub struct OnDemand {
    #[prost(message, optional, tag = "1")]
    pub odcds_config: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub resources_locator: String,
    #[prost(message, optional, tag = "3")]
    pub timeout: Option<Duration>,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TcpAccessLogOptions`
#[derive(Clone, PartialEq, Message)]
pub struct TcpAccessLogOptions {
    #[prost(message, optional, tag = "1")]
    pub access_log_flush_interval: Option<Duration>,
    #[prost(bool, tag = "2")]
    pub flush_access_log_on_connected: bool,
    #[prost(bool, tag = "3")]
    pub flush_access_log_on_start: bool,
}
